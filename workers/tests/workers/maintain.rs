//! Maintenance: one process does it, and what is applied goes.

use std::time::Duration;

use pled_engine::execution::Status;
use pled_harness::wait_until;
use pled_streams::maintain::Retention;
use pled_streams::{inputs, locks};
use pled_workers::{CancellationToken, maintain};

use crate::engine::NAP;
use crate::{Installation, SOON};

#[tokio::test]
async fn applied_events_go_and_another_process_takes_over_who_does_it() {
    let installation = Installation::start().await;
    installation.register(NAP).await;
    let (_engine, _) = installation.drive("e1");
    installation.start_execution("n1", "nap", "null").await;
    installation.wait_for("n1", Status::Done).await;
    let retention = Retention { events: Duration::ZERO, ..Retention::default() };
    let maintain = |worker: &str| {
        let shutdown = CancellationToken::new();
        let (nats, retention) = (installation.nats.clone(), retention.clone());
        let run = maintain::run(nats, worker.into(), retention, shutdown.clone());
        (tokio::spawn(run), shutdown)
    };
    let holder = async || {
        let leases = locks::leases(&installation.nats, "maintain").await.unwrap();
        leases.first().map(|(_, owner)| owner.clone())
    };

    let (first, leave) = maintain("m1");
    wait_until(SOON, "the first does it", async || holder().await.as_deref() == Some("m1")).await;
    let (_second, _) = maintain("m2");
    wait_until(2 * SOON, "the applied event is gone", || async {
        let events = inputs::facts(&installation.nats).await.unwrap().events;
        events.first > events.last
    })
    .await;
    assert_eq!(holder().await.as_deref(), Some("m1"));
    leave.cancel();
    first.await.unwrap();
    wait_until(SOON, "the second does it", async || holder().await.as_deref() == Some("m2")).await;
}
