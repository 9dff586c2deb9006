//! The action worker: pulls tasks, does the work, says what came of it.
//!
//! It is a library for workers in Rust, too: put handlers in a [`Registry`] and [`run`] it.
//!
//! ```no_run
//! use pled_streams::{ConnectOptions, Nats};
//! use pled_workers::CancellationToken;
//! use pled_workers::action::{self, ActionConfig, Registry, Task};
//!
//! # async fn worker() -> Result<(), Box<dyn std::error::Error>> {
//! let nats = Nats::connect(ConnectOptions::from_env("payments", None, None)?).await?;
//! pled_streams::topology::open(&nats).await?;
//!
//! let registry = Registry::new().handle("payments.charge", |task: Task| async move {
//!     Ok(serde_json::json!({ "charged": task.input.get("amount") }))
//! });
//! let shutdown = CancellationToken::new();
//! action::run(nats, registry, ActionConfig::default(), shutdown).await;
//! # Ok(())
//! # }
//! ```

mod attempt;
pub mod binding;
mod bound;
pub mod builtin;
mod handler;
mod registry;
mod secret;
mod worker;

pub use bound::Binder;
pub use handler::{Handler, Task, TaskError};
pub use registry::Registry;
pub use secret::{SecretName, SecretText, Secrets};
pub use worker::{ActionConfig, run};
