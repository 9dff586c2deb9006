//! The conformance of workers: a right one passes, and each mistake is named.

use std::time::Duration;

use pled_engine::message::TaskOutcome;
use pled_streams::tasks::{self, Delivery};
use pled_streams::{Class, Nats, signals};
use pled_workers::CancellationToken;
use pled_workers::action::{self, ActionConfig, Registry, Task, TaskError};
use pled_workers::conformance::{Check, Trial, Verdict, run};

use crate::{Installation, json};

const ACTION: &str = "demo.charge";

fn trial() -> Trial {
    Trial {
        action: ACTION.to_owned(),
        input: json(r#"{"amount":5}"#),
        fail: Some(json(r#"{"amount":0}"#)),
        slow: Some(json(r#"{"amount":5,"wait_ms":3200}"#)),
        huge: Some(json(r#"{"amount":5,"huge":true}"#)),
        patience: Duration::from_secs(10),
    }
}

/// What it finds at a worker that has this one habit.
async fn found(habit: Habit) -> Vec<Check> {
    let installation = Installation::start().await;
    let worker = tokio::spawn(work(installation.nats.clone(), habit));
    let trial = Trial { patience: Duration::from_secs(2), slow: None, huge: None, ..trial() };
    let checks = run(&installation.nats, &trial).await.unwrap();
    worker.abort();
    checks
}

/// Something that a worker does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    AcksFirst,
    NeverAcks,
    NaksFailures,
    GivesUpOnConflict,
    ForgetsTheHeader,
    SaysNoJson,
    DiesOfRubbish,
}

async fn work(nats: Nats, habit: Habit) {
    let mut puller = tasks::pull(&nats, ACTION, Class::Normal, 4);
    loop {
        let delivery = puller.next().await;
        match &delivery.request {
            Ok(_) => serve(&nats, &delivery, habit).await,
            Err(_) if habit == Habit::DiesOfRubbish => return,
            Err(_) => delivery.term().await,
        }
    }
}

async fn serve(nats: &Nats, delivery: &Delivery, habit: Habit) {
    let request = delivery.request.as_ref().unwrap();
    if habit == Habit::AcksFirst {
        delivery.ack().await.unwrap();
    }
    let amount = request.input.get("amount").and_then(|amount| amount.as_int());
    let outcome = match amount {
        Some(1..) => TaskOutcome::Ok(json("1")),
        _ if habit == Habit::NaksFailures => return delivery.term().await,
        _ => TaskOutcome::Failed(TaskError::fatal("bad_amount", "nothing to charge").into()),
    };
    match habit {
        Habit::ForgetsTheHeader => {
            let payload = r#"{"ok":true,"data":1}"#.into();
            nats.client().request(request.result_subject.clone(), payload).await.unwrap();
        }
        Habit::SaysNoJson => {
            let mut headers = pled_streams::HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
            let (subject, payload) = (request.result_subject.clone(), "done".into());
            nats.client().request_with_headers(subject, headers, payload).await.unwrap();
        }
        Habit::AcksFirst
        | Habit::NeverAcks
        | Habit::NaksFailures
        | Habit::GivesUpOnConflict
        | Habit::DiesOfRubbish => {
            let published = signals::publish_result(nats, &request.result_subject, &outcome).await;
            let is_stored = matches!(published, pled_engine::partition::Published::Stored { .. });
            if habit == Habit::GivesUpOnConflict && !is_stored {
                return delivery.nak().await;
            }
        }
    }
    if habit != Habit::NeverAcks && habit != Habit::AcksFirst {
        delivery.ack().await.unwrap();
    }
}

#[track_caller]
fn is_wrong(checks: &[Check], name: &str, said: &str) {
    let check = checks.iter().find(|check| check.name == name).unwrap();
    assert_eq!(check.verdict, Verdict::Wrong, "{checks:#?}");
    assert!(check.detail.contains(said), "{said:?} is not in {check:?}");
}

#[tokio::test]
async fn the_worker_of_this_library_does_nothing_wrong() {
    let installation = Installation::start().await;
    let registry = Registry::new().handle(ACTION, |task: Task| async move {
        if task.input.get("huge").is_some() {
            return Ok(pled_engine::value::Value::from("x".repeat(2 << 20)));
        }
        let wait = task.input.get("wait_ms").and_then(|ms| ms.as_int()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap())).await;
        match task.input.get("amount").and_then(|amount| amount.as_int()) {
            Some(1..) => Ok(task.input),
            _ => Err(TaskError::fatal("bad_amount", "nothing to charge")),
        }
    });
    let shutdown = CancellationToken::new();
    let config = ActionConfig::default();
    let worker =
        tokio::spawn(action::run(installation.nats.clone(), registry, config, shutdown.clone()));

    let checks = run(&installation.nats, &trial()).await.unwrap();
    shutdown.cancel();
    worker.await.unwrap();

    assert_eq!(checks.len(), 12);
    for check in &checks {
        assert_eq!(check.verdict, Verdict::Right, "{checks:#?}");
    }
    // The queue is as it was, and nothing of the trial waits in it.
    let wait = tasks::ack_wait(&installation.nats, ACTION, Class::Normal).await.unwrap();
    assert_eq!(wait, Some(tasks::ACK_WAIT));
    assert_eq!(tasks::outstanding(&installation.nats, ACTION).await.unwrap(), 0);
}

#[tokio::test]
async fn that_nobody_pulls_is_said_and_nothing_more() {
    let installation = Installation::start().await;
    let trial = Trial { patience: Duration::from_millis(200), ..trial() };

    let checks = run(&installation.nats, &trial).await.unwrap();

    assert_eq!(checks.len(), 1);
    is_wrong(&checks, "pull", "nobody pulls worker-demo-charge");
}

#[tokio::test]
async fn an_acknowledgement_before_the_result_is_wrong() {
    is_wrong(&found(Habit::AcksFirst).await, "result", "acknowledges before the result");
}

#[tokio::test]
async fn a_task_that_is_not_acknowledged_is_wrong() {
    is_wrong(&found(Habit::NeverAcks).await, "result", "no +ACK");
}

#[tokio::test]
async fn a_failure_that_is_no_result_is_wrong() {
    is_wrong(&found(Habit::NaksFailures).await, "failure", "+TERM came before a result");
}

#[tokio::test]
async fn a_result_that_is_there_already_is_no_failure() {
    let checks = found(Habit::GivesUpOnConflict).await;

    is_wrong(&checks, "result is there", "-NAK, not +ACK");
    is_wrong(&checks, "second delivery", "-NAK, not +ACK");
}

#[tokio::test]
async fn a_result_that_might_stand_twice_or_cannot_be_read_is_wrong() {
    is_wrong(&found(Habit::ForgetsTheHeader).await, "result", "Expected-Last-Subject-Sequence");
    is_wrong(&found(Habit::SaysNoJson).await, "result", "bad_result");
}

#[tokio::test]
async fn a_worker_that_dies_of_what_it_cannot_read_is_wrong() {
    is_wrong(&found(Habit::DiesOfRubbish).await, "unreadable task", "no task is done any more");
}
