//! The actions that every worker can do.

mod guard;
mod http;
mod log;

pub use guard::{InvalidNetwork, Network, Reach, Refused};
pub use http::{Http, HttpConfig};

use super::Registry;

/// A registry with the built-in actions.
///
/// # Errors
/// If TLS cannot be set up for the action `http`.
pub fn registry(http: HttpConfig) -> Result<Registry, reqwest::Error> {
    Ok(Registry::new().handle("http", Http::new(http)?).handle("log", log::log))
}
