use std::sync::Arc;
use std::time::Duration;

use pled_engine::effect::{TaskEffect, Timeouts};
use pled_engine::message::TaskOutcome;
use pled_engine::partition::{Published, TaskMessage};
use pled_engine::value::Value;
use pled_harness::wait_until;
use pled_streams::Class;
use pled_streams::signals::{publish_result, result_exists};
use pled_streams::tasks::{ensure_consumers, exists, outstanding, publish, pull};

use crate::{Installation, SOON, execution, soon, token};

const QUEUE: &str = "payments.charge";

fn message(id: &str, task: &str, attempt: u32) -> TaskMessage {
    TaskMessage {
        execution: execution(id),
        template: "order@3".parse().unwrap(),
        effect: TaskEffect {
            task: token(task),
            action: QUEUE.into(),
            queue: QUEUE.into(),
            invocation: Some("charge".into()),
            index: None,
            attempt,
            input: Value::parse(b"{\"amount\":9007199254740991,\"ratio\":1.0}").unwrap(),
            timeout: Timeouts { start_to_close_ms: Some(5), ..Timeouts::default() },
            deadline: Some(1_764_000_000_000),
            meta: Value::Null,
        },
        at: 1,
    }
}

#[tokio::test]
async fn a_task_is_published_once_and_reaches_a_worker_as_it_was_asked_for() {
    let Installation { nats, server: _server } = Installation::start().await;
    ensure_consumers(&nats, QUEUE, Duration::from_secs(30)).await.unwrap();
    let task = message("order-42", "7-0", 1);

    let there = async || exists(&nats, 1, &task.execution, QUEUE, token("7-0"), 1).await.unwrap();
    assert!(!there().await);
    assert!(matches!(publish(&nats, 1, &task).await, Published::Stored { .. }));
    let again = publish(&nats, 1, &task).await;
    assert!(matches!(again, Published::Conflict { last: Some(1) }), "{again:?}");
    assert!(there().await);
    assert_eq!(outstanding(&nats, QUEUE).await.unwrap(), 1);

    let mut puller = pull(&nats, QUEUE, Class::Normal, 8);
    let delivery = soon("the task", puller.next()).await;
    let request = delivery.request.clone().unwrap();
    assert_eq!(request.task, "order-42/7/0");
    assert_eq!(request.token(), Some(token("7-0")));
    assert_eq!(request.result_subject, "pled.signals.order-42.result.7-0-1");
    assert_eq!(request.input, task.effect.input);
    assert_eq!((request.timeout, request.deadline), (task.effect.timeout, task.effect.deadline));
    assert_eq!(delivery.deliveries, 1);

    let ok = TaskOutcome::Ok(Value::from("paid"));
    let result = publish_result(&nats, &request.result_subject, &ok).await;
    assert!(matches!(result, Published::Stored { .. }));
    let repeat = publish_result(&nats, &request.result_subject, &ok).await;
    assert!(matches!(repeat, Published::Conflict { .. }));
    assert!(result_exists(&nats, &task.execution, token("7-0"), 1).await.unwrap());
    assert!(!result_exists(&nats, &task.execution, token("7-0"), 2).await.unwrap());

    delivery.ack().await.unwrap();
    assert_eq!(outstanding(&nats, QUEUE).await.unwrap(), 0);
    let elsewhere = publish_result(&nats, "pled.journal.1.order-42", &ok).await;
    assert!(matches!(elsewhere, Published::Refused(_)), "{elsewhere:?}");
}

#[tokio::test]
async fn a_worker_has_no_more_tasks_in_hand_than_it_wants() {
    let Installation { nats, server: _server } = Installation::start().await;
    ensure_consumers(&nats, QUEUE, Duration::from_secs(30)).await.unwrap();
    for n in 0..50 {
        publish(&nats, 1, &message(&format!("x{n}"), "1-0", 1)).await;
    }

    let mut puller = pull(&nats, QUEUE, Class::Normal, 5);
    let mut hands = Vec::new();
    for _ in 0..5 {
        hands.push(soon("a task", puller.next()).await);
    }
    let sixth = tokio::time::timeout(Duration::from_millis(500), puller.next()).await;
    assert!(sixth.is_err(), "a sixth task in five hands");

    let mut done = 0;
    while done < 50 {
        let delivery = match hands.pop() {
            Some(delivery) => delivery,
            None => soon("a task", puller.next()).await,
        };
        delivery.ack().await.unwrap();
        done += 1;
    }
    assert_eq!(outstanding(&nats, QUEUE).await.unwrap(), 0);
}

#[tokio::test]
async fn a_task_that_is_given_back_or_forgotten_comes_again_and_counts_it() {
    let Installation { nats, server: _server } = Installation::start().await;
    ensure_consumers(&nats, QUEUE, Duration::from_secs(1)).await.unwrap();
    publish(&nats, 1, &message("x", "1-0", 1)).await;
    let mut puller = pull(&nats, QUEUE, Class::Normal, 2);

    let first = soon("the task", puller.next()).await;
    first.nak().await;
    drop(first);
    let second = soon("the task again", puller.next()).await;
    assert_eq!(second.deliveries, 2);

    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        second.progress().await;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), puller.next()).await;
    assert!(early.is_err(), "handed out though its worker was heard");
    drop(second);
    let third = soon("the forgotten task", puller.next()).await;
    assert_eq!(third.deliveries, 3);
    third.ack().await.unwrap();
}

#[tokio::test]
async fn a_puller_waits_for_its_queue_and_survives_the_servers_kill() {
    let Installation { nats, mut server } = Installation::start().await;
    let mut puller = pull(&nats, QUEUE, Class::Normal, 4);
    publish(&nats, 1, &message("x", "1-0", 1)).await;
    ensure_consumers(&nats, QUEUE, Duration::from_secs(30)).await.unwrap();
    soon("the task", puller.next()).await.ack().await.unwrap();

    server.kill();
    server.restart().await;
    wait_until(SOON, "the second task is stored", || async {
        let published = publish(&nats, 1, &message("y", "1-0", 1)).await;
        matches!(published, Published::Stored { .. } | Published::Conflict { .. })
    })
    .await;
    let delivery = soon("the second task", async {
        loop {
            let delivery = puller.next().await;
            if delivery.request.as_ref().unwrap().execution == execution("y") {
                break delivery;
            }
        }
    })
    .await;
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn what_waits_with_a_puller_that_stops_goes_to_another() {
    let Installation { nats, server: _server } = Installation::start().await;
    ensure_consumers(&nats, QUEUE, Duration::from_secs(300)).await.unwrap();
    for n in 0..10 {
        publish(&nats, 1, &message(&format!("x{n}"), "1-0", 1)).await;
    }
    let mut stopping = pull(&nats, QUEUE, Class::Normal, 10);
    let held = soon("a task", stopping.next()).await;
    held.ack().await.unwrap();
    stopping.stop().await;

    let mut other = pull(&nats, QUEUE, Class::Normal, 10);
    for _ in 0..9 {
        soon("a task that was given back", other.next()).await.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_queue_that_is_none_is_refused() {
    let Installation { nats, server: _server } = Installation::start().await;
    let mut task = message("x", "1-0", 1);
    task.effect.queue = Arc::from("a.>");

    assert!(matches!(publish(&nats, 1, &task).await, Published::Refused(_)));
    assert!(ensure_consumers(&nats, "a *", Duration::from_secs(1)).await.is_err());
}
