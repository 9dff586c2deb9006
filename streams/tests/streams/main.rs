//! What this crate promises, against a real server for each test.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod doors;
mod inputs;
mod journal;
mod locks;
mod maintain;
mod publishing;
mod tasks;
mod templates;
mod timers;
mod topology;

use std::time::Duration;

use pled_engine::id::{EventType, ExecutionId, Token};
use pled_harness::{NatsOptions, NatsServer};
use pled_streams::events::{EventToSend, SendError, send};
use pled_streams::topology::{Settings, init, open};
use pled_streams::{ConnectOptions, Nats};

/// Long enough for anything that is to happen at once, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A server with a topology of few partitions.
struct Installation {
    server: NatsServer,
    nats: Nats,
}

impl Installation {
    async fn start() -> Self {
        Self::with(NatsOptions::default(), &Settings { partitions: 4, ..Settings::default() }).await
    }

    async fn with(options: NatsOptions, settings: &Settings) -> Self {
        let server = NatsServer::start(options).await;
        let nats = connect(&server).await;
        init(&nats, settings).await.unwrap();
        open(&nats).await.unwrap();
        Self { server, nats }
    }
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

fn event_type(text: &str) -> EventType {
    text.parse().unwrap()
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn event(to: &str, kind: &str, data: &str) -> EventToSend {
    EventToSend {
        execution: execution(to),
        event_type: event_type(kind),
        data: data.to_owned().into(),
        event_id: None,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    }
}

async fn sent(nats: &Nats, to: &str, kind: &str, data: &str) -> Result<u64, SendError> {
    send(nats, event(to, kind, data)).await
}

/// An id of the partition.
fn id_in(partition: u16, partitions: u16) -> ExecutionId {
    (0..)
        .map(|n| execution(&format!("x{n}")))
        .find(|id| pled_streams::partition_of(id, partitions) == partition)
        .unwrap()
}

/// Waits for `future`, not for ever.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
