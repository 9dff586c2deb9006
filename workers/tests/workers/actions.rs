//! The action worker: results, acknowledgements, and what happens when workers die.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use pled_engine::effect::{TaskEffect, Timeouts};
use pled_engine::message::{Body, Failure, Source, TaskOutcome, TaskResult};
use pled_engine::partition::{Published, TaskMessage};
use pled_engine::value::Value;
use pled_harness::wait_until;
use pled_streams::{Class, signals, tasks};
use pled_workers::CancellationToken;
use pled_workers::action::builtin::{self, HttpConfig};
use pled_workers::action::{self, ActionConfig, Registry, Task, TaskError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::{Installation, SOON, execution, json, kill};

const QUEUE: &str = "payments.charge";

fn message(id: &str, action: &str, input: &str, timeout: Timeouts) -> TaskMessage {
    TaskMessage {
        execution: execution(id),
        template: "order@1".parse().unwrap(),
        effect: TaskEffect {
            task: "1-0".parse().unwrap(),
            action: action.into(),
            queue: QUEUE.into(),
            invocation: None,
            index: None,
            attempt: 1,
            input: json(input),
            timeout,
            deadline: None,
            meta: Value::Null,
        },
        at: 0,
    }
}

impl Installation {
    /// Makes the queue, whose workers may be silent for this long.
    async fn queue(&self, ack_wait: Duration) {
        tasks::ensure_consumers(&self.nats, QUEUE, ack_wait).await.unwrap();
    }

    async fn hand_out(&self, message: &TaskMessage) {
        let partition = self.nats.partition_of(&message.execution);
        let published = tasks::publish(&self.nats, partition, message).await;
        assert!(matches!(published, Published::Stored { .. }), "{published:?}");
    }

    async fn hand_out_simple(&self, id: &str) {
        self.hand_out(&message(id, QUEUE, r#"{"amount":5}"#, Timeouts::default())).await;
    }

    fn work(&self, registry: Registry) -> (JoinHandle<()>, CancellationToken) {
        let shutdown = CancellationToken::new();
        let config = ActionConfig {
            queues: Some(vec![QUEUE.to_owned()]),
            drain_timeout: Duration::from_millis(50),
            ..ActionConfig::default()
        };
        let run = action::run(self.nats.clone(), registry, config, shutdown.clone());
        (tokio::spawn(run), shutdown)
    }

    async fn results(&self, count: usize) -> Vec<TaskResult> {
        let result = |body: Body| match body {
            Body::Result(result) => result,
            other @ (Body::Event(_)
            | Body::Send(_)
            | Body::ChildStart(_)
            | Body::ChildCancel(_)
            | Body::ChildDone(_)
            | Body::Fired { .. }) => panic!("{other:?}"),
        };
        let messages = self.messages(Source::Signals, count).await;
        messages.into_iter().map(|message| result(message.body)).collect()
    }

    async fn failure(&self) -> Failure {
        match self.results(1).await.remove(0).outcome {
            TaskOutcome::Failed(failure) => failure,
            other @ (TaskOutcome::Started | TaskOutcome::Ok(_)) => panic!("{other:?}"),
        }
    }

    async fn wait_until_all_is_acknowledged(&self) {
        wait_until(SOON, "no task is outstanding", || async {
            tasks::outstanding(&self.nats, QUEUE).await.unwrap() == 0
        })
        .await;
    }
}

/// A registry whose one handler counts its calls and charges.
fn charging() -> (Registry, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let registry = Registry::new().handle(QUEUE, move |task: Task| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok(serde_json::json!({ "charged": task.input.get("amount"), "by": task.key })) }
    });
    (registry, calls)
}

/// A registry whose one handler tells that it was called, and never ends.
fn hanging() -> (Registry, Arc<Notify>) {
    let called = Arc::new(Notify::new());
    let tell = called.clone();
    let registry = Registry::new().handle(QUEUE, move |_task: Task| {
        tell.notify_one();
        std::future::pending::<Result<(), TaskError>>()
    });
    (registry, called)
}

#[tokio::test]
async fn a_task_is_done_its_result_published_and_then_acknowledged() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(5)).await;
    installation.hand_out_simple("a").await;
    installation.hand_out_simple("b").await;

    let (registry, calls) = charging();
    let (worker, shutdown) = installation.work(registry);
    let results = installation.results(2).await;
    installation.wait_until_all_is_acknowledged().await;
    shutdown.cancel();
    worker.await.unwrap();

    let TaskOutcome::Ok(value) = &results[0].outcome else { panic!("{results:?}") };
    assert_eq!(value.get("charged"), Some(&Value::Int(5)));
    assert_eq!(value.get("by").and_then(Value::as_str), Some("a/1/0"));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_worker_that_dies_between_result_and_acknowledgement_has_nothing_repeated() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(1)).await;
    installation.hand_out_simple("a").await;

    let mut puller = tasks::pull(&installation.nats, QUEUE, Class::Normal, 1);
    let delivery = puller.next().await;
    let subject = delivery.request.as_ref().unwrap().result_subject.clone();
    let outcome = TaskOutcome::Ok(json("1"));
    signals::publish_result(&installation.nats, &subject, &outcome).await;
    drop(delivery);
    drop(puller);
    let (registry, calls) = charging();
    let (worker, shutdown) = installation.work(registry);
    installation.wait_until_all_is_acknowledged().await;
    shutdown.cancel();
    worker.await.unwrap();

    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert_eq!(installation.results(1).await.len(), 1);
}

#[tokio::test]
async fn the_task_of_a_worker_that_dies_is_done_by_another() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(1)).await;
    installation.hand_out_simple("a").await;

    let (registry, called) = hanging();
    let (dying, _) = installation.work(registry);
    called.notified().await;
    kill(dying).await;
    let (registry, calls) = charging();
    let (_worker, _) = installation.work(registry);

    assert!(matches!(installation.results(1).await[0].outcome, TaskOutcome::Ok(_)));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_task_that_no_worker_survives_fails_at_its_sixth_delivery() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(5)).await;
    installation.hand_out_simple("a").await;

    let mut puller = tasks::pull(&installation.nats, QUEUE, Class::Normal, 1);
    for _ in 0..5 {
        puller.next().await.nak().await;
    }
    drop(puller);
    let (registry, calls) = charging();
    let (_worker, _) = installation.work(registry);
    let failure = installation.failure().await;

    assert_eq!((&*failure.code, failure.retryable), ("worker_lost", true));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    installation.wait_until_all_is_acknowledged().await;
}

#[tokio::test]
async fn signs_of_life_keep_a_long_task_where_it_is() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_millis(400)).await;
    installation.hand_out_simple("a").await;

    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let registry = Registry::new().handle(QUEUE, move |_task: Task| {
        counted.fetch_add(1, Ordering::SeqCst);
        // As long as three times the silence that the queue bears.
        async {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            Ok(())
        }
    });
    let (_worker, _) = installation.work(registry);
    installation.wait_until_all_is_acknowledged().await;

    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_ends_the_attempt_and_not_the_worker() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(5)).await;
    installation.hand_out_simple("a").await;

    let registry = Registry::new().handle(QUEUE, |task: Task| async move {
        assert!(task.execution.as_str() != "a", "no such card");
        Ok(())
    });
    let (_worker, _) = installation.work(registry);
    let failure = installation.failure().await;
    installation.hand_out_simple("b").await;
    let results = installation.results(2).await;

    assert_eq!((&*failure.code, failure.retryable), ("panic", true));
    assert_eq!(failure.message, "no such card");
    assert_eq!(results[1].outcome, TaskOutcome::Ok(Value::Null));
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_fails_and_says_before_that_it_began() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(5)).await;
    let timeout = Timeouts {
        start_to_close_ms: Some(50),
        schedule_to_start_ms: Some(60_000),
        ..Timeouts::default()
    };
    installation.hand_out(&message("a", QUEUE, "null", timeout)).await;

    let (_worker, _) = installation.work(hanging().0);
    let results = installation.results(2).await;

    assert_eq!(results[0].outcome, TaskOutcome::Started);
    let TaskOutcome::Failed(failure) = &results[1].outcome else { panic!("{results:?}") };
    assert_eq!((&*failure.code, failure.retryable), ("timeout", true));
}

#[tokio::test]
async fn an_action_without_a_handler_and_a_huge_result_are_failures() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(5)).await;
    installation.hand_out(&message("a", "payments.refund", "null", Timeouts::default())).await;

    let registry = Registry::new().handle(QUEUE, |_task: Task| async { Ok("x".repeat(2 << 20)) });
    let (_worker, _) = installation.work(registry);
    let unknown = installation.failure().await;
    installation.hand_out_simple("b").await;
    let results = installation.results(2).await;

    assert_eq!((&*unknown.code, unknown.retryable), ("unknown_action", true));
    let TaskOutcome::Failed(huge) = &results[1].outcome else { panic!("{results:?}") };
    assert_eq!((&*huge.code, huge.retryable), ("result_too_large", false));
}

#[tokio::test]
async fn a_worker_that_shuts_down_gives_back_what_it_cannot_finish() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(3_600)).await;
    installation.hand_out_simple("a").await;

    let (registry, called) = hanging();
    let (leaving, shutdown) = installation.work(registry);
    called.notified().await;
    shutdown.cancel();
    leaving.await.unwrap();
    let (registry, calls) = charging();
    let (_worker, _) = installation.work(registry);
    installation.wait_until_all_is_acknowledged().await;

    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_on_nats_is_asked_and_the_own_subjects_are_refused() {
    let installation = Installation::start().await;
    installation.queue(Duration::from_secs(5)).await;
    let client = installation.nats.client().clone();
    let mut asked = client.subscribe("stock.reserve").await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            let reply = request.reply.unwrap();
            client.publish(reply, request.payload).await.unwrap();
        }
    });

    let registry = builtin::registry(&installation.nats, HttpConfig::default()).unwrap();
    let (_worker, _) = installation.work(registry);
    let ask = |id: &str, subject: &str| {
        let input = format!(r#"{{"subject":"{subject}","data":{{"sku":"s1"}}}}"#);
        message(id, "nats.request", &input, Timeouts::default())
    };
    installation.hand_out(&ask("a", "stock.reserve")).await;
    let answered = installation.results(1).await;
    installation.hand_out(&ask("b", "$JS.API.STREAM.DELETE.PLED_JOURNAL")).await;
    let refused = installation.results(2).await;
    installation.hand_out(&ask("c", "nobody.listens")).await;
    let unanswered = installation.results(3).await;

    assert_eq!(answered[0].outcome, TaskOutcome::Ok(json(r#"{"sku":"s1"}"#)));
    let code = |result: &TaskResult| match &result.outcome {
        TaskOutcome::Failed(failure) => (failure.code.to_string(), failure.retryable),
        other @ (TaskOutcome::Started | TaskOutcome::Ok(_)) => panic!("{other:?}"),
    };
    assert_eq!(code(&refused[1]), ("subject_refused".to_owned(), false));
    assert_eq!(code(&unanswered[2]), ("no_responders".to_owned(), true));
}
