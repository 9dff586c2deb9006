//! After a loss nothing goes on by itself, and `recover` brings back all that the journal knows.

use std::path::Path;
use std::time::Duration;

use pled_engine::execution::Status;
use pled_harness::wait_until;
use pled_operations::recover::{self, RecoverError};
use pled_operations::verify::{Acknowledged, Invariant};
use pled_streams::locks::Lease;
use pled_streams::{journal, locks, partition_of};
use pled_workers::engine::EngineError;

use crate::{Installation, Running, SOON, check, connect, execution};

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// How often an execution took an event of this id.
async fn taken(pled: &Installation, to: &str, id: &str) -> usize {
    let entries = journal::history(&pled.nats, &execution(to)).await.unwrap();
    let causes = entries.iter().flat_map(|loaded| &loaded.entry.causes);
    causes.filter(|cause| cause.id.as_deref() == Some(id)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_store_is_refused_and_recovered() {
    let mut pled = Installation::start().await;
    let back_up = tempfile::tempdir().unwrap();
    let engine = pled.drive("e1");
    let charging = pled.charge();
    let mut survives: Vec<Acknowledged> = Vec::new();
    for (id, friend) in [("o1", "o2"), ("o2", "o1"), ("o3", "o2"), ("o4", "o3")] {
        survives.push(pled.order(id, friend).await);
    }
    for id in ["o1", "o2", "o3", "o4"] {
        pled.wait_for_state(id, "shipping").await;
    }
    survives.push(pled.send("o4", "WRAP", "w4").await); // Nobody wraps yet.
    pled.wait_for_state("o4", "wrapping").await;
    pled.wait_for_rest().await;
    pled.server.kill();
    copy(&pled.server.disk(), &back_up.path().join("disk"));
    pled.server.restart().await;

    let lost = [
        pled.send("o1", "PACKED", "p1").await,
        pled.send("o1", "SHIPPED", "s1").await,
        pled.send("o2", "WRAP", "w2").await,
    ];
    pled.wait_for_end("o1").await;
    pled.wait_for_state("o2", "wrapping").await;
    pled.server.kill();
    std::fs::remove_dir_all(pled.server.disk()).unwrap();
    copy(&back_up.path().join("disk"), &pled.server.disk());
    pled.server.restart().await;

    // Who knew what is lost stops; who comes after it does not begin.
    let said = engine.task.await.unwrap().unwrap_err().to_string();
    assert!(said.contains("lost; run `pled recover`"), "{said}");
    let said = pled.drive("e2").task.await.unwrap().unwrap_err().to_string();
    assert!(said.starts_with("halted since e1 found this: "), "{said}");

    let plan = recover::plan(&pled.nats).await.unwrap();
    assert!(plan.halted.as_deref().unwrap().contains("pled recover"), "{plan:?}");
    assert_eq!((plan.executions, plan.tasks, plan.timers), (4, 1, 3), "{plan:?}");
    assert!(locks::halted(&pled.nats).await.unwrap().is_some(), "a plan changes nothing");
    recover::perform(&pled.nats, drop).await.unwrap();

    let report = pled.verify(&survives).await;
    assert!(report.clean, "{:?}", report.violations);
    // The client is told of every event that is lost, and of no other.
    let report = pled.verify(&[&survives[..], &lost].concat()).await;
    assert!(report.violations.iter().all(|it| it.invariant == Invariant::E1));
    assert_eq!(report.violations.len(), lost.len(), "{:?}", report.violations);

    // Sequences that a lost life had are used again; nothing is swallowed or taken twice.
    let engine = pled.drive("e3");
    for line in &lost {
        let id = line.id.as_deref().unwrap();
        let to = line.execution.as_ref().unwrap().as_str();
        survives.push(pled.send(to, line.event_type.as_deref().unwrap(), id).await);
    }
    pled.wait_for_end("o1").await;
    pled.wait_for_state("o2", "wrapping").await;
    let wrapping = pled.wrap();
    for id in ["o2", "o4"] {
        pled.wait_for_end(id).await;
    }
    pled.wait_for_rest().await;
    for (to, id) in [("o1", "p1"), ("o1", "s1"), ("o2", "w2"), ("o4", "w4")] {
        assert_eq!(taken(&pled, to, id).await, 1, "{to} {id}");
    }
    let report = pled.verify(&survives).await;
    assert!(report.clean, "{:?}", report.violations);
    wrapping.stop().await;
    charging.stop().await;
    engine.stop().await.unwrap();
}

/// A crate whose box is in another partition than itself, by a name that begins with `name`.
fn apart(name: &str) -> (String, String) {
    let mut names = (0..).map(|number| format!("{name}{number}"));
    let with_box = |id: String| (id.clone(), format!("{id}_1_0"));
    let is_apart = |(id, of): &(String, String)| {
        partition_of(&execution(id), 4) != partition_of(&execution(of), 4)
    };
    names.by_ref().map(with_box).find(is_apart).unwrap()
}

/// An engine that gets the partition of this execution alone, and the leases of the others.
async fn drive_only(
    pled: &Installation,
    id: &str,
) -> (Running<Result<(), EngineError>>, Vec<Lease>) {
    let mut others = Vec::new();
    for partition in (0..4).filter(|it| *it != partition_of(&execution(id), 4)) {
        let ttl = Duration::from_secs(600);
        let lease = locks::acquire(&pled.nats, "engine", partition, "elsewhere", ttl).await;
        others.push(lease.unwrap().unwrap());
    }
    (pled.drive("e1"), others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_parents_and_children_had_told_each_other_is_told_again() {
    let pled = Installation::start().await;
    let [starting, ending, recalled] = ["s", "e", "r"].map(apart);
    // What each of them said is in a stream that is lost before the other one reads it.
    for (parent, child) in [&ending, &recalled] {
        let engine = pled.drive("e1");
        pled.begin(parent, "crate", "{}").await;
        pled.wait_for_state(child, "open").await;
        pled.wait_for_rest().await;
        engine.stop().await.unwrap();
    }
    let (engine, others) = drive_only(&pled, &starting.0).await;
    pled.begin(&starting.0, "crate", "{}").await;
    pled.wait_for_state(&starting.0, "packing").await;
    engine.stop().await.unwrap();
    futures::future::join_all(others.into_iter().map(Lease::release)).await;
    let (engine, others) = drive_only(&pled, &ending.1).await;
    pled.send(&ending.1, "CLOSE", "close").await;
    pled.wait_for_end(&ending.1).await;
    engine.stop().await.unwrap();
    futures::future::join_all(others.into_iter().map(Lease::release)).await;
    let (engine, others) = drive_only(&pled, &recalled.0).await;
    pled.send(&recalled.0, "RECALL", "recall").await;
    pled.wait_for_state(&recalled.0, "recalled").await;
    engine.stop().await.unwrap();
    futures::future::join_all(others.into_iter().map(Lease::release)).await;
    let context = pled_harness::async_nats::jetstream::new(pled.nats.client().clone());
    context.delete_stream("PLED_SIGNALS").await.unwrap();

    let plan = recover::perform(&pled.nats, drop).await.unwrap();
    assert_eq!(plan.sends, 3, "{plan:?}");

    let engine = pled.drive("e2");
    pled.wait_for_end(&ending.0).await;
    wait_until(SOON, "the box of the crate that was recalled has ended", || async {
        let newest = pled.newest(&recalled.1).await.unwrap().entry;
        newest.status == Status::Cancelled
    })
    .await;
    pled.wait_for_state(&starting.1, "open").await;
    pled.send(&starting.1, "CLOSE", "close").await;
    pled.wait_for_end(&starting.0).await;
    pled.wait_for_rest().await;
    engine.stop().await.unwrap();
    let report = pled.verify(&[]).await;
    assert!(report.clean, "{:?}", report.violations);
    assert_eq!(report.executions, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_gone_but_for_the_journal_are_made_anew() {
    let pled = Installation::start().await;
    let engine = pled.drive("e1");
    let charging = pled.charge();
    for (id, friend) in [("o1", "o2"), ("o2", "o1")] {
        pled.order(id, friend).await;
    }
    for id in ["o1", "o2"] {
        pled.wait_for_state(id, "shipping").await;
    }
    pled.send("o2", "WRAP", "w2").await;
    pled.wait_for_state("o2", "wrapping").await;

    let running = recover::plan(&pled.nats).await.unwrap_err();
    assert!(matches!(running, RecoverError::Running(_)), "{running}");
    pled.wait_for_rest().await;
    engine.stop().await.unwrap();
    charging.stop().await;
    let context = pled_harness::async_nats::jetstream::new(pled.nats.client().clone());
    for stream in ["PLED_EVENTS", "PLED_SIGNALS", "PLED_TIMERS", "PLED_TASKS", "KV_PLED_LOCKS"] {
        context.delete_stream(stream).await.unwrap();
    }
    assert_eq!(recover::plan(&pled.nats).await.unwrap().made_anew.len(), 5);

    recover::perform(&pled.nats, drop).await.unwrap();
    recover::perform(&pled.nats, drop).await.unwrap(); // It may be repeated.

    let report = pled.verify(&[]).await;
    assert!(report.clean, "{:?}", report.violations);
    let engine = pled.drive("e2");
    let wrapping = pled.wrap();
    pled.wait_for_end("o2").await;
    pled.send("o1", "SHIPPED", "s1").await;
    pled.wait_for_end("o1").await;
    wait_until(SOON, "all is done", || async {
        let newest = pled.newest("o1").await.unwrap().entry;
        newest.status == Status::Done
    })
    .await;
    pled.wait_for_rest().await;
    wrapping.stop().await;
    engine.stop().await.unwrap();
    let settled = pled_operations::verify::Options { settled: true, ..Default::default() };
    let report = check(&pled.records().await, settled, &[]);
    assert!(report.clean, "{:?}", report.violations);

    context.delete_stream("PLED_JOURNAL").await.unwrap();
    let nats = connect(&pled.server).await;
    let refused = recover::plan(&nats).await.unwrap_err();
    assert!(matches!(refused, RecoverError::NoJournal), "{refused}");
}
