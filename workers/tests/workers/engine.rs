//! The engine worker, from an event to what follows from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pled_engine::execution::Status;
use pled_engine::value::Value;
use pled_harness::wait_until;
use pled_streams::{journal, locks, snapshots};
use pled_workers::action::{self, ActionConfig, Registry, Task, TaskError};
use pled_workers::engine::{self, EngineConfig};
use pled_workers::{CancellationToken, Partitions};
use tokio::task::JoinHandle;

use crate::{Installation, SOON, execution, json, kill};

/// Charges, waits for a shipment, and is done.
const ORDER: &str = r#"{
  "pled": "1.0", "id": "order", "version": 1, "logic": "pled-logic-1",
  "context": { "amount": 0, "reference": null, "shipments": 0 },
  "entry": [ { "type": "assign", "params": { "amount": { "var": "event.data.amount" } } } ],
  "initial": "charging",
  "output": { "reference": { "var": "context.reference" }, "shipments": { "var": "context.shipments" } },
  "states": {
    "charging": {
      "invoke": {
        "id": "charge", "src": "payments.charge", "input": { "amount": { "var": "context.amount" } },
        "retry": { "max_attempts": 5, "initial_interval_ms": 20, "backoff": 1 },
        "onDone": { "target": "shipping", "actions": [ { "type": "assign", "params": { "reference": { "var": "event.data.reference" } } } ] },
        "onError": "refused"
      }
    },
    "shipping": {
      "on": {
        "PACKED": { "actions": [ { "type": "assign", "params": { "shipments": { "+": [ { "var": "context.shipments" }, 1 ] } } } ] },
        "SHIPPED": "done"
      }
    },
    "done": { "type": "final" },
    "refused": { "type": "final" }
  }
}"#;

/// Waits a moment and is done.
pub(crate) const NAP: &str = r#"{
  "pled": "1.0", "id": "nap", "version": 1, "logic": "pled-logic-1",
  "initial": "asleep",
  "states": { "asleep": { "after": { "50": "awake" } }, "awake": { "type": "final" } }
}"#;

impl Installation {
    pub(crate) fn drive(&self, worker: &str) -> (JoinHandle<()>, CancellationToken) {
        self.drive_with(EngineConfig {
            partitions: Partitions::All,
            lease_ttl: Duration::from_secs(2),
            ..EngineConfig::new(worker)
        })
    }

    fn drive_with(&self, config: EngineConfig) -> (JoinHandle<()>, CancellationToken) {
        let shutdown = CancellationToken::new();
        let run = engine::run(self.nats.clone(), config, shutdown.clone());
        (tokio::spawn(async move { run.await.unwrap() }), shutdown)
    }

    fn charge(&self, registry: Registry) -> JoinHandle<()> {
        let run = action::run(
            self.nats.clone(),
            registry,
            ActionConfig::default(),
            CancellationToken::new(),
        );
        tokio::spawn(run)
    }

    async fn wait_for_state(&self, id: &str, state: &str) {
        wait_until(SOON, &format!("{id} is in {state}"), || async {
            let newest = self.newest(id).await;
            let state_of = newest.and_then(|newest| newest.entry.state);
            state_of
                .is_some_and(|found| found.configuration.iter().any(|leaf| leaf.ends_with(state)))
        })
        .await;
    }
}

fn charging() -> Registry {
    Registry::new().handle("payments.charge", |task: Task| async move {
        Ok(serde_json::json!({ "reference": task.key }))
    })
}

#[tokio::test]
async fn an_order_is_charged_shipped_and_done() {
    let installation = Installation::start().await;
    installation.register(ORDER).await;
    let (worker, shutdown) = installation.drive("e1");
    let _charging = installation.charge(charging());

    installation.start_execution("o1", "order", r#"{"amount":5}"#).await;
    installation.wait_for_state("o1", "shipping").await;
    installation.send("o1", "PACKED", "{}").await;
    installation.send("o1", "SHIPPED", "{}").await;
    let done = installation.wait_for("o1", Status::Done).await;
    shutdown.cancel();
    worker.await.unwrap();

    let output = done.entry.state.unwrap().output;
    assert_eq!(output, json(r#"{"reference":"o1/1/0","shipments":1}"#));
    let entries = journal::history(&installation.nats, &execution("o1")).await.unwrap();
    let seqs: Vec<u64> = entries.iter().map(|loaded| loaded.entry.seq).collect();
    assert_eq!(seqs, (1..=done.entry.seq).collect::<Vec<_>>());
    wait_until(SOON, "its snapshot is written", || async {
        let snapshot = snapshots::get(&installation.nats, &execution("o1")).await.unwrap();
        snapshot.is_some_and(|snapshot| snapshot.hash == done.entry.hash)
    })
    .await;
    assert!(locks::leases(&installation.nats, "engine").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_killed_engine_worker_is_followed_by_another_without_loss() {
    let installation = Installation::start().await;
    installation.register(ORDER).await;
    let _charging = installation.charge(charging());
    const ORDERS: u32 = 40;
    const PACKS: i64 = 5;

    let (dying, _) = installation.drive("e1");
    for order in 0..ORDERS {
        installation.start_execution(&format!("o{order}"), "order", r#"{"amount":1}"#).await;
    }
    installation.wait_for_state("o3", "shipping").await;
    kill(dying).await;
    let (dying, _) = installation.drive("e2");
    for order in 0..ORDERS {
        installation.wait_for_state(&format!("o{order}"), "shipping").await;
    }
    for _ in 0..PACKS {
        for order in 0..ORDERS {
            installation.send(&format!("o{order}"), "PACKED", "{}").await;
        }
    }
    kill(dying).await;
    for order in 0..ORDERS {
        installation.send(&format!("o{order}"), "SHIPPED", "{}").await;
    }
    let (_worker, _shutdown) = installation.drive("e3");

    for order in 0..ORDERS {
        let done = installation.wait_for(&format!("o{order}"), Status::Done).await;
        let output = done.entry.state.unwrap().output;
        assert_eq!(output.get("shipments"), Some(&Value::Int(PACKS)), "o{order}: {output}");
        assert_eq!(output.get("reference"), Some(&Value::from(format!("o{order}/1/0"))));
    }
}

#[tokio::test]
async fn a_failing_action_is_tried_again_until_it_succeeds() {
    let installation = Installation::start().await;
    installation.register(ORDER).await;
    let (_worker, _shutdown) = installation.drive("e1");
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let _charging =
        installation.charge(Registry::new().handle("payments.charge", move |task: Task| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match task.attempt {
                    1 | 2 => Err(TaskError::retryable("busy", "come again")),
                    _ => Ok(serde_json::json!({ "reference": task.key })),
                }
            }
        }));

    installation.start_execution("o1", "order", r#"{"amount":5}"#).await;
    installation.wait_for_state("o1", "shipping").await;

    assert_eq!(attempts.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn timers_fire_in_time_without_waiting_for_the_servers_schedule() {
    let installation = Installation::start().await;
    installation.register(NAP).await;
    let (_worker, _shutdown) = installation.drive("e1");

    installation.start_execution("n1", "nap", "null").await;
    let done = installation.wait_for("n1", Status::Done).await;

    let began = journal::history(&installation.nats, &execution("n1")).await.unwrap()[0].entry.at;
    assert_eq!(done.entry.at - began, 50);
}

#[tokio::test]
async fn what_cannot_be_taken_is_set_aside_and_the_others_go_on() {
    let installation = Installation::start().await;
    installation.register(NAP).await;
    let (_worker, _shutdown) = installation.drive("e1");

    installation.send("n1", "HELLO", "no JSON").await;
    installation.send("n2", "HELLO", "{}").await;
    installation.start_execution("n3", "nowhere", "{}").await;
    installation.start_execution("n1", "nap", "null").await;
    installation.wait_for("n1", Status::Done).await;

    wait_until(SOON, "three messages are set aside", || async {
        installation.dead().await.len() == 3
    })
    .await;
    let mut dead = installation.dead().await;
    dead.sort();
    let of = |reason: &str, id: &str| (reason.to_owned(), Some(id.to_owned()));
    assert_eq!(
        dead,
        [of("malformed", "n1"), of("unknown-execution", "n2"), of("unknown-template", "n3")]
    );
}

#[tokio::test]
async fn a_killed_server_is_waited_for_and_work_goes_on() {
    let mut installation = Installation::start().await;
    installation.register(ORDER).await;
    let (_worker, _shutdown) = installation.drive("e1");
    let _charging = installation.charge(charging());
    installation.start_execution("o1", "order", r#"{"amount":5}"#).await;
    installation.wait_for_state("o1", "shipping").await;

    installation.server.kill();
    installation.server.restart().await;
    wait_until(SOON, "an event is taken again", || async {
        pled_streams::events::send(&installation.nats, crate::event("o1", "SHIPPED", "{}"))
            .await
            .is_ok()
    })
    .await;

    installation.wait_for("o1", Status::Done).await;
}

#[tokio::test]
async fn workers_share_the_partitions_and_hand_them_over_when_they_leave() {
    let installation = Installation::start().await;
    installation.register(NAP).await;
    let config = |worker: &str| EngineConfig {
        lease_ttl: Duration::from_secs(2),
        ..EngineConfig::new(worker)
    };
    let owners = async || {
        let mut owners: Vec<String> = locks::leases(&installation.nats, "engine")
            .await
            .unwrap()
            .into_iter()
            .map(|(_, owner)| owner)
            .collect();
        owners.sort();
        owners
    };

    let (_first, _) = installation.drive_with(config("e1"));
    wait_until(SOON, "the first has both", async || owners().await == ["e1", "e1"]).await;
    let (second, leave) = installation.drive_with(config("e2"));
    wait_until(SOON, "each has one", async || owners().await == ["e1", "e2"]).await;
    leave.cancel();
    second.await.unwrap();
    wait_until(SOON, "the first has both again", async || owners().await == ["e1", "e1"]).await;

    for n in 0..8 {
        installation.start_execution(&format!("n{n}"), "nap", "null").await;
    }
    for n in 0..8 {
        installation.wait_for(&format!("n{n}"), Status::Done).await;
    }
}
