//! What an operator is promised, against a real server for each test.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod dead;
mod doctor;
mod recover;
mod verify;

use std::time::Duration;

use pled_engine::execution::Status;
use pled_engine::id::{ExecutionId, TemplateSelector};
use pled_engine::partition::Loaded;
use pled_harness::{NatsOptions, NatsServer, wait_until};
use pled_operations::export::walk;
use pled_operations::record::Record;
use pled_operations::verify::{Acknowledged, Checker, Options, Report};
use pled_streams::events::{EventToSend, SendError, send};
use pled_streams::topology::{Settings, init, open};
use pled_streams::{ConnectOptions, Nats, ReadError, inputs, journal, locks, templates};
use pled_workers::action::{self, ActionConfig, Registry, Task};
use pled_workers::engine::{self, EngineConfig};
use pled_workers::{CancellationToken, Partitions};
use tokio::task::JoinHandle;

/// Long enough for anything that is to happen at once, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Charges, greets a friend, waits for a shipment at most an hour, and is done.
const ORDER: &str = r#"{
  "pled": "1.0", "id": "order", "version": 1, "logic": "pled-logic-1",
  "context": { "friend": null, "action": null, "greetings": 0 },
  "entry": [ { "type": "assign", "params": { "friend": { "var": "event.data.friend" } } } ],
  "initial": "charging",
  "states": {
    "charging": {
      "invoke": {
        "id": "charge", "src": "payments.charge", "input": { "friend": { "var": "context.friend" } },
        "retry": { "max_attempts": 5, "initial_interval_ms": 20, "backoff": 1 },
        "onDone": { "target": "shipping", "actions": [ { "type": "send", "params": {
          "to": { "var": "context.friend" }, "event": "HELLO" } } ] },
        "onError": "refused"
      },
      "on": { "HELLO": { "actions": [ { "type": "assign", "params": { "greetings": { "+": [ { "var": "context.greetings" }, 1 ] } } } ] } }
    },
    "shipping": {
      "on": {
        "HELLO": { "actions": [ { "type": "assign", "params": { "greetings": { "+": [ { "var": "context.greetings" }, 1 ] } } } ] },
        "PACKED": { "actions": [] },
        "WRAP": "wrapping",
        "SHIPPED": "done"
      },
      "after": { "3600000": "expired" }
    },
    "wrapping": { "invoke": { "id": "wrap", "src": "packing.wrap", "input": {}, "onDone": "done" } },
    "expired": { "type": "final" },
    "done": { "type": "final" },
    "refused": { "type": "final" }
  }
}"#;

/// Waits for a box, which is an execution of its own.
const CRATE: &str = r#"{
  "pled": "1.0", "id": "crate", "version": 1, "logic": "pled-logic-1",
  "initial": "packing",
  "states": {
    "packing": {
      "invoke": { "id": "box", "src": "template:box@1", "input": {}, "onDone": "done" },
      "on": { "RECALL": "recalled" }
    },
    "recalled": {},
    "done": { "type": "final" }
  }
}"#;

const BOX: &str = r#"{
  "pled": "1.0", "id": "box", "version": 1, "logic": "pled-logic-1",
  "initial": "open",
  "states": { "open": { "on": { "CLOSE": "closed" } }, "closed": { "type": "final" } }
}"#;

/// A server with a topology of few partitions.
struct Installation {
    server: NatsServer,
    nats: Nats,
}

/// A worker that runs here.
struct Running<T> {
    task: JoinHandle<T>,
    shutdown: CancellationToken,
}

impl<T> Running<T> {
    async fn stop(self) -> T {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

impl Installation {
    async fn start() -> Self {
        let server = NatsServer::start(NatsOptions::default()).await;
        let nats = connect(&server).await;
        init(&nats, &Settings { partitions: 4, ..Settings::default() }).await.unwrap();
        for template in [ORDER, CRATE, BOX] {
            templates::register(&nats, template).await.unwrap();
        }
        Self { server, nats }
    }

    fn drive(&self, worker: &str) -> Running<Result<(), engine::EngineError>> {
        let config = EngineConfig {
            partitions: Partitions::All,
            lease_ttl: Duration::from_secs(2),
            ..EngineConfig::new(worker)
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(engine::run(self.nats.clone(), config, shutdown.clone()));
        Running { task, shutdown }
    }

    fn charge(&self) -> Running<()> {
        self.work("payments.charge")
    }

    fn wrap(&self) -> Running<()> {
        self.work("packing.wrap")
    }

    fn work(&self, action: &str) -> Running<()> {
        let registry = Registry::new().handle(action, |task: Task| async move {
            Ok(serde_json::json!({ "reference": task.key }))
        });
        let shutdown = CancellationToken::new();
        let run =
            action::run(self.nats.clone(), registry, ActionConfig::default(), shutdown.clone());
        Running { task: tokio::spawn(run), shutdown }
    }

    /// Starts an order, and gives what its client knows.
    async fn order(&self, id: &str, friend: &str) -> Acknowledged {
        self.begin(id, "order", &format!(r#"{{"friend":"{friend}"}}"#)).await
    }

    async fn begin(&self, id: &str, template: &str, input: &str) -> Acknowledged {
        let template: TemplateSelector = template.parse().unwrap();
        let event = EventToSend { template: Some(template), ..event(id, "pled.init", input, None) };
        self.publish(event).await
    }

    async fn send(&self, to: &str, kind: &str, id: &str) -> Acknowledged {
        self.publish(event(to, kind, "{}", Some(id))).await
    }

    async fn publish(&self, event: EventToSend) -> Acknowledged {
        let (execution, event_type) = (event.execution.clone(), event.event_type.to_string());
        let id = event.event_id.clone();
        // Just after a restart an answer may be missing; with its id a repeat has no effect.
        let stream_seq = loop {
            match send(&self.nats, event.clone()).await {
                Ok(stream_seq) => break stream_seq,
                Err(SendError::Unknown) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        Acknowledged {
            door: None,
            execution: Some(execution),
            event_type: Some(event_type),
            id,
            acked_at: None,
            stream_seq,
        }
    }

    async fn newest(&self, id: &str) -> Option<Loaded> {
        journal::newest(&self.nats, &execution(id), true).await.unwrap()
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

    async fn wait_for_end(&self, id: &str) {
        wait_until(SOON, &format!("{id} is done"), || async {
            let newest = self.newest(id).await;
            newest.is_some_and(|newest| newest.entry.status == Status::Done)
        })
        .await;
    }

    /// Waits until everything that is stored is done by the positions.
    async fn wait_for_rest(&self) {
        wait_until(SOON, "all inputs are done", || async {
            let Ok(ends) = inputs::facts(&self.nats).await else { return false };
            for partition in 0..self.nats.partitions() {
                let read = locks::read_position(&self.nats, "engine", partition).await;
                let Ok(Some((position, _))) = read else { return false };
                for (name, end) in [
                    ("events", ends.events.last),
                    ("signals", ends.signals.last),
                    ("timers", ends.timers.last),
                ] {
                    let input = &position.inputs[name];
                    if input.next <= end || !input.open.is_empty() {
                        return false;
                    }
                }
            }
            true
        })
        .await;
    }

    async fn records(&self) -> Vec<Record> {
        let facts = open(&self.nats).await.unwrap();
        let mut records = Vec::new();
        walk(&self.nats, &facts, |record| {
            records.push(record);
            Ok::<_, ReadError>(())
        })
        .await
        .unwrap();
        records
    }

    async fn verify(&self, client_log: &[Acknowledged]) -> Report {
        check(&self.records().await, Options::default(), client_log)
    }
}

fn check(records: &[Record], options: Options, client_log: &[Acknowledged]) -> Report {
    let mut checker = Checker::new(options, client_log.to_vec());
    for record in records {
        checker.take(record).unwrap();
    }
    checker.finish()
}

async fn connect(server: &NatsServer) -> Nats {
    let options = ConnectOptions {
        monitoring: Some(server.monitor_url()),
        ..ConnectOptions::to(server.url(), "test")
    };
    Nats::connect(options).await.unwrap()
}

fn execution(id: &str) -> ExecutionId {
    id.parse().unwrap()
}

fn event(to: &str, kind: &str, data: &str, id: Option<&str>) -> EventToSend {
    EventToSend {
        execution: execution(to),
        event_type: kind.parse().unwrap(),
        data: data.to_owned().into(),
        event_id: id.map(str::to_owned),
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    }
}
