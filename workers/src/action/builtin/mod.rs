//! The actions that every worker can do.

mod execution;
mod guard;
mod http;
mod log;
mod nats;
mod webhook;

use pled_streams::Nats;

pub use guard::{InvalidNetwork, Network, Reach, Refused};
pub use http::{Http, HttpConfig, RetryOn};
pub use nats::{NatsPublish, NatsRequest};
pub use webhook::Webhook;

pub(crate) use http::{Exchange, own_headers};
pub(crate) use nats::{nats_publish, nats_request};

use super::Registry;
use super::bound::Binder;
use super::secret::Secrets;
use execution::{Door, SendEvent, StartExecution};

/// A registry with the built-in actions, without secrets; see [`registry_of`].
///
/// # Errors
/// If TLS cannot be set up for the action `http`.
pub fn registry(nats: &Nats, http: HttpConfig) -> Result<Registry, reqwest::Error> {
    let (http, secrets) = (Http::new(http)?, Secrets::default());
    Ok(registry_of(&Binder { nats: nats.clone(), http, secrets }))
}

/// The built-in actions: `http`, `log`, `nats.publish`, `nats.request`, `send_event`,
/// `start_execution`, `webhook`.
#[must_use]
pub fn registry_of(binder: &Binder) -> Registry {
    let Binder { nats, http, secrets } = binder.clone();
    let door = Door::new(&nats);
    Registry::new()
        .handle("http", http.clone())
        .handle("log", log::log)
        .handle("nats.publish", NatsPublish { nats: nats.clone() })
        .handle("nats.request", NatsRequest { nats })
        .handle("send_event", SendEvent(door.clone()))
        .handle("start_execution", StartExecution(door))
        .handle("webhook", Webhook { http, secrets })
}

/// The certificates of a PEM file, for [`HttpConfig::authorities`].
///
/// # Errors
/// If it has none, or one that cannot be read.
pub fn authorities(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
    reqwest::Certificate::from_pem_bundle(pem)
}

/// The names of [`registry_of`].
pub const NAMES: [&str; 7] =
    ["http", "log", "nats.publish", "nats.request", "send_event", "start_execution", "webhook"];
