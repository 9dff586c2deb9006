//! The actions that every worker can do.

mod guard;
mod http;
mod log;
mod nats;

use pled_streams::Nats;

pub use guard::{InvalidNetwork, Network, Reach, Refused};
pub use http::{Http, HttpConfig};
pub use nats::{NatsPublish, NatsRequest};

use super::Registry;

/// A registry with the built-in actions: `http`, `log`, `nats.publish`, `nats.request`.
///
/// # Errors
/// If TLS cannot be set up for the action `http`.
pub fn registry(nats: &Nats, http: HttpConfig) -> Result<Registry, reqwest::Error> {
    Ok(Registry::new()
        .handle("http", Http::new(http)?)
        .handle("log", log::log)
        .handle("nats.publish", NatsPublish { nats: nats.clone() })
        .handle("nats.request", NatsRequest { nats: nats.clone() }))
}
