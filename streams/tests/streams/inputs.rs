use std::time::Duration;

use pled_engine::message::{Body, Source};
use pled_harness::wait_until;
use pled_streams::inputs::{Arriving, Subscription, facts, get, subscribe};
use pled_streams::{Nats, StreamKind};

use crate::{Installation, SOON, id_in, sent, soon};

async fn arrival(subscription: &mut Subscription) -> (u64, Body) {
    loop {
        if let Arriving::Arrival(arrival) = soon("an arrival", subscription.next()).await {
            return (arrival.stream_seq, arrival.message.unwrap().body);
        }
    }
}

/// Waits until the subscription knows that the stream reaches `seq`, and nothing arrives before.
async fn caught_up(subscription: &mut Subscription, seq: u64) {
    loop {
        match soon("the end", subscription.next()).await {
            Arriving::CaughtUp { stream_last } if stream_last >= seq => return,
            Arriving::CaughtUp { .. } => {}
            Arriving::Arrival(arrival) => panic!("{arrival:?}"),
        }
    }
}

#[tokio::test]
async fn a_partition_gets_its_own_events_in_order_and_knows_when_there_are_no_more() {
    let Installation { nats, server: _server } = Installation::start().await;
    let (here, there) = (id_in(1, 4), id_in(2, 4));
    for n in 0..10 {
        sent(&nats, here.as_str(), "PAY", &n.to_string()).await.unwrap();
        sent(&nats, there.as_str(), "PAY", "null").await.unwrap();
    }

    let mut subscription = subscribe(&nats, 1, Source::Events, 1);
    for n in 0..10 {
        let (seq, body) = arrival(&mut subscription).await;
        assert_eq!(seq, 2 * n + 1);
        let Body::Event(event) = body else { panic!("{body:?}") };
        assert_eq!(event.data.as_int(), i64::try_from(n).ok());
    }
    caught_up(&mut subscription, 20).await;

    let last = sent(&nats, there.as_str(), "PAY", "null").await.unwrap();
    caught_up(&mut subscription, last).await;

    let mut idle = subscribe(&nats, 3, Source::Events, 5);
    caught_up(&mut idle, last).await;
}

#[tokio::test]
async fn reading_begins_at_the_sequence_that_is_asked_for() {
    let Installation { nats, server: _server } = Installation::start().await;
    let id = id_in(0, 4);
    for n in 1..=5 {
        assert_eq!(sent(&nats, id.as_str(), "PAY", "null").await.unwrap(), n);
    }

    let mut subscription = subscribe(&nats, 0, Source::Events, 4);
    assert_eq!(arrival(&mut subscription).await.0, 4);
    assert_eq!(arrival(&mut subscription).await.0, 5);

    let found = facts(&nats).await.unwrap();
    assert_eq!((found.events.generation, found.events.first, found.events.last), (1, 1, 5));
    let message = get(&nats, Source::Events, 3).await.unwrap().unwrap().unwrap();
    assert_eq!((message.stream_seq, message.generation, &message.execution), (3, 1, &id));
    assert!(get(&nats, Source::Events, 6).await.unwrap().is_none());
}

#[tokio::test]
async fn a_subscription_survives_the_servers_kill_without_loss_or_disorder() {
    let Installation { nats, mut server } = Installation::start().await;
    let mut subscription = subscribe(&nats, 1, Source::Events, 1);
    let publisher = tokio::spawn(publish_numbers(nats.clone(), 3_000));

    let mut got: Vec<(u64, i64)> = Vec::new();
    while got.len() < 1_000 {
        got.push(numbered(&mut subscription).await);
    }
    server.kill();
    server.restart().await;
    let stored = publisher.await.unwrap();
    while got.last().is_some_and(|(seq, _)| seq < stored.last().unwrap()) {
        got.push(numbered(&mut subscription).await);
    }

    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "out of order or twice");
    for seq in &stored {
        assert!(got.binary_search_by_key(seq, |(seq, _)| *seq).is_ok(), "{seq} is missing");
    }
    let numbers: Vec<i64> = got.iter().map(|(_, number)| *number).collect();
    assert!(numbers.is_sorted(), "the publisher's order was not kept");
}

async fn numbered(subscription: &mut Subscription) -> (u64, i64) {
    let (seq, body) = arrival(subscription).await;
    let Body::Event(event) = body else { panic!("{body:?}") };
    (seq, event.data.as_int().unwrap())
}

/// Sends each number until it is acknowledged, and gives the sequences.
async fn publish_numbers(nats: Nats, count: i64) -> Vec<u64> {
    let id = id_in(1, 4);
    let mut stored = Vec::new();
    for number in 0..count {
        loop {
            match sent(&nats, id.as_str(), "N", &number.to_string()).await {
                Ok(seq) => break stored.push(seq),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
    stored
}

#[tokio::test]
async fn a_subscription_survives_the_loss_of_its_consumer_and_a_frozen_server() {
    let Installation { nats, mut server } = Installation::start().await;
    let id = id_in(1, 4);
    let mut subscription = subscribe(&nats, 1, Source::Events, 1);
    sent(&nats, id.as_str(), "PAY", "1").await.unwrap();
    assert_eq!(arrival(&mut subscription).await.0, 1);

    let context = async_nats::jetstream::new(nats.client().clone());
    let stream = context.get_stream(nats.names().stream(StreamKind::Events)).await.unwrap();
    let names: Vec<_> = futures::TryStreamExt::try_collect(stream.consumer_names()).await.unwrap();
    for name in names {
        stream.delete_consumer(&name).await.unwrap();
    }
    sent(&nats, id.as_str(), "PAY", "2").await.unwrap();
    assert_eq!(arrival(&mut subscription).await.0, 2);

    server.freeze();
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.thaw();
    wait_until(SOON, "the third is stored", || async {
        sent(&nats, id.as_str(), "PAY", "3").await.is_ok()
    })
    .await;
    assert_eq!(arrival(&mut subscription).await.0, 3);
}

#[tokio::test]
async fn a_reader_that_is_slow_gets_everything() {
    let Installation { nats, server: _server } = Installation::start().await;
    let id = id_in(1, 4);
    let sends = (0..10_000).map(|_| sent(&nats, id.as_str(), "PAY", "null"));
    for stored in futures::future::join_all(sends).await {
        stored.unwrap();
    }

    let mut subscription = subscribe(&nats, 1, Source::Events, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;

    for seq in 1..=10_000 {
        assert_eq!(arrival(&mut subscription).await.0, seq);
    }
}
