use std::time::Duration;

use pled_engine::message::{Body, Message, Source};
use pled_engine::partition::Published;
use pled_streams::clock::server_time;
use pled_streams::inputs::{Arriving, Subscription, subscribe};
use pled_streams::timers::{cancel, fire, set};

use crate::{Installation, id_in, soon, token};

async fn fired(subscription: &mut Subscription) -> Message {
    loop {
        if let Arriving::Arrival(arrival) = soon("a timer", subscription.next()).await {
            return arrival.message.unwrap();
        }
    }
}

fn stored(published: &Published) -> bool {
    matches!(published, Published::Stored { .. })
}

#[tokio::test]
async fn a_timer_fires_at_its_time_and_one_that_was_taken_back_does_not() {
    let Installation { nats, server: _server } = Installation::start().await;
    let id = id_in(1, 4);
    let mut subscription = subscribe(&nats, 1, Source::Timers, 1);
    let now = server_time(&nats).await.unwrap();
    let due = now + 1_200;

    assert!(stored(&set(&nats, 1, &id, token("3-0"), due - 400).await));
    assert!(stored(&set(&nats, 1, &id, token("3-1"), due).await));
    assert!(stored(&cancel(&nats, 1, &id, token("3-0")).await));
    assert!(stored(&cancel(&nats, 1, &id, token("9-9")).await), "one that is not there");

    let message = fired(&mut subscription).await;
    assert_eq!(message.body, Body::Fired { timer: token("3-1") });
    assert_eq!((message.time, &message.execution), (due, &id));
    assert!(server_time(&nats).await.unwrap() >= due, "fired early");
}

#[tokio::test]
async fn a_timer_that_is_fired_in_process_does_not_fire_again() {
    let Installation { nats, server: _server } = Installation::start().await;
    let id = id_in(1, 4);
    let mut subscription = subscribe(&nats, 1, Source::Timers, 1);
    let now = server_time(&nats).await.unwrap();

    assert!(stored(&set(&nats, 1, &id, token("3-0"), now + 1_000).await));
    assert!(stored(&fire(&nats, 1, &id, token("3-0"), now + 1_000).await));
    assert!(stored(&set(&nats, 1, &id, token("3-1"), now + 1_500).await));

    let first = fired(&mut subscription).await;
    assert_eq!(first.body, Body::Fired { timer: token("3-0") });
    assert!(first.time < now + 1_000, "it waited for the schedule");
    let second = fired(&mut subscription).await;
    assert_eq!(second.body, Body::Fired { timer: token("3-1") });
}

#[tokio::test]
async fn timers_survive_the_servers_kill_and_one_that_is_past_due_fires_at_once() {
    let Installation { nats, mut server } = Installation::start().await;
    let id = id_in(1, 4);
    let mut subscription = subscribe(&nats, 1, Source::Timers, 1);
    let now = server_time(&nats).await.unwrap();
    for index in 0..5 {
        let timer = pled_engine::id::Token { entry: 7, index };
        assert!(stored(&set(&nats, 1, &id, timer, now + 300 + i64::from(index)).await));
    }
    assert!(stored(&set(&nats, 1, &id, token("1-0"), now - 60_000).await));
    let past = fired(&mut subscription).await;
    assert_eq!((past.body, past.time), (Body::Fired { timer: token("1-0") }, now - 60_000));

    server.kill();
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.restart().await;

    let mut timers = Vec::new();
    for _ in 0..5 {
        let Body::Fired { timer } = fired(&mut subscription).await.body else { panic!() };
        timers.push(timer.index);
    }
    timers.sort_unstable();
    assert_eq!(timers, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn timers_are_set_taken_back_and_fired_in_batches() {
    let durable =
        pled_harness::NatsOptions { durable: true, ..pled_harness::NatsOptions::default() };
    let settings = pled_streams::topology::Settings { partitions: 4, ..Default::default() };
    let Installation { nats, server: _server } = Installation::with(durable, &settings).await;
    let id = id_in(1, 4);
    let mut subscription = subscribe(&nats, 1, Source::Timers, 1);
    let due = server_time(&nats).await.unwrap() + 3_000;
    let timer = |index| pled_engine::id::Token { entry: 1, index };

    let sets = (0..100).map(|index| set(&nats, 1, &id, timer(index), due));
    assert!(futures::future::join_all(sets).await.iter().all(stored));
    let cancels = (0..40).map(|index| cancel(&nats, 1, &id, timer(index)));
    let fires = (40..80).map(|index| fire(&nats, 1, &id, timer(index), due));
    let (cancels, fires) =
        futures::future::join(futures::future::join_all(cancels), futures::future::join_all(fires))
            .await;
    assert!(cancels.iter().all(stored) && fires.iter().all(stored));
    let early = server_time(&nats).await.unwrap() < due;
    assert!(early, "the machine is too slow for this test");

    let mut indexes = Vec::new();
    for _ in 0..60 {
        let Body::Fired { timer } = fired(&mut subscription).await.body else { panic!() };
        indexes.push(timer.index);
    }
    indexes.sort_unstable();
    assert_eq!(indexes, (40..100).collect::<Vec<u32>>());
    let more = tokio::time::timeout(Duration::from_millis(600), fired(&mut subscription)).await;
    assert!(more.is_err(), "{more:?} fired twice or was taken back in vain");
}
