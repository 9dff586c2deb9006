use std::time::{Duration, Instant};

use pled_engine::partition::Published;
use pled_harness::wait_until;
use pled_streams::locks::{
    acquire, announce, leases, read_position, retire, workers, write_position,
};

use crate::{Installation, SOON};

const TTL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn one_of_two_holds_a_lease_until_it_is_given_up() {
    let Installation { nats, server: _server } = Installation::start().await;

    let mut lease = acquire(&nats, "engine", 1, "a", TTL).await.unwrap().unwrap();
    assert!(acquire(&nats, "engine", 1, "b", TTL).await.unwrap().is_none());
    assert!(lease.renew().await.unwrap());
    assert_eq!(leases(&nats, "engine").await.unwrap(), [(1, "a".to_owned())]);

    lease.release().await;
    assert!(leases(&nats, "engine").await.unwrap().is_empty());
    assert!(acquire(&nats, "engine", 1, "b", TTL).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_and_its_holder_learns_it() {
    let Installation { nats, server: _server } = Installation::start().await;
    let mut lost = acquire(&nats, "engine", 1, "a", TTL).await.unwrap().unwrap();
    let began = Instant::now();

    wait_until(SOON, "another takes it", || async {
        acquire(&nats, "engine", 1, "b", TTL).await.unwrap().is_some()
    })
    .await;

    assert!(began.elapsed() > Duration::from_millis(900), "taken while it was held");
    assert!(!lost.renew().await.unwrap());
}

#[tokio::test]
async fn a_lease_that_is_renewed_outlives_its_time_to_live() {
    let Installation { nats, server: _server } = Installation::start().await;
    let mut lease = acquire(&nats, "engine", 1, "a", TTL).await.unwrap().unwrap();

    for _ in 0..8 {
        tokio::time::sleep(TTL / 3).await;
        assert!(lease.renew().await.unwrap());
        assert!(acquire(&nats, "engine", 1, "b", TTL).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn workers_see_each_other_while_they_are_there() {
    let Installation { nats, server: _server } = Installation::start().await;

    announce(&nats, "a", "4 cores", TTL).await;
    announce(&nats, "b", "", 10 * TTL).await;
    let mut there = workers(&nats).await.unwrap();
    there.sort();
    assert_eq!(there, [("a".into(), "4 cores".into()), ("b".into(), String::new())]);

    wait_until(SOON, "the silent one is gone", || async {
        workers(&nats).await.unwrap().len() == 1
    })
    .await;
    retire(&nats, "b").await;
    assert!(workers(&nats).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_position_is_written_only_over_the_one_that_was_read() {
    let Installation { nats, server: _server } = Installation::start().await;
    let (mut position, revision) = read_position(&nats, "engine", 3).await.unwrap().unwrap();
    assert_eq!(position.epoch, 0);
    assert_eq!(position.inputs["signals"].next, 1);
    assert!(read_position(&nats, "rules", 3).await.unwrap().unwrap().0.inputs["ingest"].next == 1);
    assert!(read_position(&nats, "engine", 4).await.unwrap().is_none());

    position.epoch = 1;
    let written = write_position(&nats, "engine", 3, &position, revision).await;
    let Published::Stored { stream_seq } = written else { panic!("{written:?}") };
    let fenced = write_position(&nats, "engine", 3, &position, revision).await;
    assert_eq!(fenced, Published::Conflict { last: Some(stream_seq) });

    let read = read_position(&nats, "engine", 3).await.unwrap().unwrap();
    assert_eq!(read, (position, stream_seq));
}
