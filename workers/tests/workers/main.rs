//! What this crate promises, against a real server for each test.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod actions;
mod bindings;
mod conformance;
mod engine;
mod http;
mod maintain;
mod rules;

use std::time::Duration;

use futures::StreamExt;
use pled_engine::execution::Status;
use pled_engine::id::{ExecutionId, TemplateSelector};
use pled_engine::message::{Message, Source};
use pled_engine::partition::Loaded;
use pled_engine::value::Value;
use pled_harness::{NatsOptions, NatsServer, wait_until};
use pled_streams::events::{EventToSend, send};
use pled_streams::inputs::{self, Arriving};
use pled_streams::topology::{Settings, init};
use pled_streams::{ConnectOptions, Nats, dead, journal, templates};
use tokio::task::JoinHandle;

/// Long enough for anything that is to happen at once, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A server with a topology of few partitions.
struct Installation {
    server: NatsServer,
    nats: Nats,
}

impl Installation {
    async fn start() -> Self {
        Self::with(NatsOptions::default(), Settings { partitions: 2, ..Settings::default() }).await
    }

    async fn with(options: NatsOptions, settings: Settings) -> Self {
        let server = NatsServer::start(options).await;
        let nats = Nats::connect(ConnectOptions::to(server.url(), "test")).await.unwrap();
        init(&nats, &settings).await.unwrap();
        Self { server, nats }
    }

    async fn register(&self, source: &str) {
        templates::register(&self.nats, source).await.unwrap();
    }

    /// Starts an execution of the newest version of a template.
    async fn start_execution(&self, id: &str, template: &str, input: &str) {
        let template: TemplateSelector = template.parse().unwrap();
        let event = EventToSend { template: Some(template), ..event(id, "pled.init", input) };
        send(&self.nats, event).await.unwrap();
    }

    async fn send(&self, to: &str, kind: &str, data: &str) -> u64 {
        send(&self.nats, event(to, kind, data)).await.unwrap()
    }

    async fn newest(&self, id: &str) -> Option<Loaded> {
        journal::newest(&self.nats, &execution(id), true).await.unwrap()
    }

    async fn wait_for(&self, id: &str, status: Status) -> Loaded {
        wait_until(SOON, &format!("{id} is {}", status.as_str()), || async {
            self.newest(id).await.is_some_and(|newest| newest.entry.status == status)
        })
        .await;
        self.newest(id).await.unwrap()
    }

    /// The folders of PLED_DEAD and for whom, in the order of arrival.
    async fn dead(&self) -> Vec<(String, Option<String>)> {
        let records = dead::list(&self.nats, 1_000).await.unwrap();
        let shown = |record: dead::Dead| {
            (record.reason, record.execution.map(|execution| execution.to_string()))
        };
        records.into_iter().map(shown).collect()
    }

    /// The first `count` messages of an input stream, over all partitions, in stream order.
    async fn messages(&self, source: Source, count: usize) -> Vec<Message> {
        let read = |partition| {
            let subscription = inputs::subscribe(&self.nats, partition, source, 1);
            futures::stream::unfold(subscription, async |mut subscription| {
                Some((subscription.next().await, subscription))
            })
            .boxed()
        };
        let all = futures::stream::select_all((0..self.nats.partitions()).map(read));
        let messages = all.filter_map(async |arriving| match arriving {
            Arriving::Arrival(arrival) => Some(arrival.message.unwrap()),
            Arriving::CaughtUp { .. } => None,
        });
        let found = tokio::time::timeout(SOON, messages.take(count).collect::<Vec<_>>()).await;
        let mut found = found.expect("as many messages as were expected");
        found.sort_by_key(|message| message.stream_seq);
        found
    }
}

fn event(to: &str, kind: &str, data: &str) -> EventToSend {
    EventToSend {
        execution: execution(to),
        event_type: kind.parse().unwrap(),
        data: data.to_owned().into(),
        event_id: None,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    }
}

fn execution(id: &str) -> ExecutionId {
    id.parse().unwrap()
}

fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}

/// Ends a worker as a crash would: nothing of it runs on.
async fn kill<T>(worker: JoinHandle<T>) {
    worker.abort();
    assert!(worker.await.is_err_and(|error| error.is_cancelled()));
}
