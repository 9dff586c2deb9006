use std::time::Duration;

use pled_engine::message::Source;
use pled_engine::partition::Published;
use pled_harness::wait_until;
use pled_streams::clock::server_time;
use pled_streams::inputs::{facts, get};
use pled_streams::locks::{read_position, write_position};
use pled_streams::maintain::{Memory, Retention, sweep};
use pled_streams::{Class, Nats, signals, tasks, timers};

use crate::{Installation, SOON, id_in, sent, soon, token};

async fn move_position(nats: &Nats, partition: u16, input: &str, next: u64, open: Vec<u64>) {
    let (mut position, revision) = read_position(nats, "engine", partition).await.unwrap().unwrap();
    let moved = position.inputs.get_mut(input).unwrap();
    (moved.next, moved.open) = (next, open);
    let written = write_position(nats, "engine", partition, &position, revision).await;
    assert!(matches!(written, Published::Stored { .. }));
}

fn at_once() -> Retention {
    Retention {
        events: Duration::ZERO,
        signals: Duration::ZERO,
        ingest: Duration::ZERO,
        tasks: Duration::ZERO,
    }
}

#[tokio::test]
async fn an_event_that_is_not_applied_by_its_partition_is_never_taken_away() {
    let Installation { nats, server: _server } = Installation::start().await;
    for n in 0..100_u16 {
        sent(&nats, id_in(n % 4, 4).as_str(), "PAY", "null").await.unwrap();
    }
    let mut memory = Memory::default();
    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().events, 0);

    for partition in 0..3 {
        move_position(&nats, partition, "events", 101, vec![]).await;
    }
    move_position(&nats, 3, "events", 90, vec![40, 60]).await;

    let swept = sweep(&nats, &mut memory, &at_once()).await.unwrap();
    assert_eq!(swept.events, 39);
    assert_eq!(facts(&nats).await.unwrap().events.first, 40);
    assert!(get(&nats, Source::Events, 40).await.unwrap().is_some());

    let patient = Retention { events: Duration::from_secs(60), ..at_once() };
    move_position(&nats, 3, "events", 101, vec![]).await;
    assert_eq!(sweep(&nats, &mut Memory::default(), &patient).await.unwrap().events, 0);
    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().events, 61);
    assert_eq!(sent(&nats, "x", "PAY", "null").await.unwrap(), 101, "sequences go on");
}

#[tokio::test]
async fn signals_stay_while_any_partition_has_an_older_message_to_do() {
    let Installation { nats, server: _server } = Installation::start().await;
    let (sender, target) = (id_in(1, 4), id_in(0, 4));
    let publish = async |index: &str| {
        let event = crate::event_type("HELLO");
        let null = pled_engine::value::Value::Null;
        let sent = signals::publish_send(&nats, &sender, token(index), &target, &event, &null);
        let Published::Stored { stream_seq } = sent.await else { panic!("not stored") };
        // Times are whole milliseconds: what comes next is to be later.
        let stored = get(&nats, Source::Signals, stream_seq).await.unwrap().unwrap().unwrap();
        wait_until(SOON, "the clock goes on", async || {
            server_time(&nats).await.is_ok_and(|now| now > stored.time + 1)
        })
        .await;
    };
    publish("1-0").await;
    sent(&nats, id_in(3, 4).as_str(), "PAY", "null").await.unwrap();
    publish("1-1").await;
    publish("1-2").await;
    for partition in 0..4 {
        move_position(&nats, partition, "signals", 4, vec![]).await;
        if partition != 3 {
            move_position(&nats, partition, "events", 2, vec![]).await;
        }
    }
    let mut memory = Memory::default();

    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().signals, 0);
    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().signals, 1);
    assert_eq!(facts(&nats).await.unwrap().signals.first, 2);

    // What is done only now may have publishes under way.
    move_position(&nats, 3, "events", 2, vec![]).await;
    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().signals, 0);
    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().signals, 2);
}

#[tokio::test]
async fn timers_that_are_pending_outlive_the_sweep_of_those_that_fired() {
    let Installation { nats, server: _server } = Installation::start().await;
    let id = id_in(1, 4);
    let now = server_time(&nats).await.unwrap();
    timers::set(&nats, 1, &id, token("1-0"), now + 2_000).await;
    timers::fire(&nats, 1, &id, token("1-1"), now).await;
    timers::set(&nats, 1, &id, token("1-2"), now + 60_000).await;
    timers::cancel(&nats, 1, &id, token("1-2")).await;
    let end = facts(&nats).await.unwrap().timers.last + 1;
    for partition in 0..4 {
        move_position(&nats, partition, "timers", end, vec![]).await;
    }

    let swept = sweep(&nats, &mut Memory::default(), &at_once()).await.unwrap();
    assert_eq!(swept.timers, 2, "what fired, and what took back");

    let mut subscription = pled_streams::inputs::subscribe(&nats, 1, Source::Timers, 1);
    let fired = soon("the pending timer", async {
        loop {
            if let pled_streams::inputs::Arriving::Arrival(arrival) = subscription.next().await {
                break arrival.message.unwrap().body;
            }
        }
    })
    .await;
    assert_eq!(fired, pled_engine::message::Body::Fired { timer: token("1-0") });
}

#[tokio::test]
async fn tasks_are_taken_away_when_all_queues_are_done_with_them() {
    let Installation { nats, server: _server } = Installation::start().await;
    for queue in ["a", "b", "idle"] {
        tasks::ensure_consumers(&nats, queue, Duration::from_secs(30)).await.unwrap();
    }
    let publish = async |queue: &str, id: &str| {
        let effect = pled_engine::effect::TaskEffect {
            task: token("1-0"),
            action: queue.into(),
            queue: queue.into(),
            invocation: None,
            index: None,
            attempt: 1,
            input: pled_engine::value::Value::Null,
            timeout: pled_engine::effect::Timeouts::default(),
            deadline: None,
            meta: pled_engine::value::Value::Null,
        };
        let execution = crate::execution(id);
        let template = "order@1".parse().unwrap();
        let message = pled_engine::partition::TaskMessage { execution, template, effect, at: 1 };
        tasks::publish(&nats, 1, &message).await;
    };
    for n in 0..10 {
        publish("a", &format!("a{n}")).await;
        publish("b", &format!("b{n}")).await;
    }
    let mut memory = Memory::default();
    let mut a = tasks::pull(&nats, "a", Class::Normal, 20);
    for _ in 0..10 {
        soon("a task", a.next()).await.ack().await.unwrap();
    }
    assert_eq!(sweep(&nats, &mut memory, &at_once()).await.unwrap().tasks, 0);

    let mut b = tasks::pull(&nats, "b", Class::Normal, 20);
    for _ in 0..5 {
        soon("a task", b.next()).await.ack().await.unwrap();
    }
    let swept = sweep(&nats, &mut memory, &at_once()).await.unwrap().tasks;
    assert!((10..=11).contains(&swept), "{swept}, of ten and one of the other queue");

    for _ in 0..5 {
        soon("a task", b.next()).await.ack().await.unwrap();
    }
    let rest = sweep(&nats, &mut memory, &at_once()).await.unwrap().tasks;
    assert_eq!(swept + rest, 20);
}
