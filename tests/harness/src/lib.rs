//! Real servers for PLED's tests: there are no mocks of NATS or Postgres.
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//!
//! use pled_harness::{Database, NatsOptions, NatsServer, wait_until};
//!
//! // A nats-server of this test's own, with JetStream on disk.
//! let mut nats = NatsServer::start(NatsOptions::default()).await;
//! // As an outside client sees it; `async_nats` is re-exported for this alone.
//! let client = pled_harness::async_nats::connect(nats.url()).await.unwrap();
//!
//! nats.kill(); // SIGKILL; the disk stays
//! nats.restart().await; // same port, same disk
//! wait_until(Duration::from_secs(10), "the client is back", || async { true }).await;
//!
//! // An empty database of this test's own.
//! let database = Database::create().await;
//! // let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
//! # drop((client, database));
//! # }
//! ```
//!
//! Add `pled-harness.workspace = true` to a crate's `[dev-dependencies]`. The programs are found, or
//! fetched once, by the scripts in `deploy/local`. A server that cannot be had panics and so fails
//! the test with the reason: no test is skipped. All of it ends with the value that stands for it,
//! and also when the test panics or its process is killed.

mod nats;
mod port;
mod postgres;
mod wait;

pub use async_nats;
pub use nats::{NatsOptions, NatsServer};
pub use port::{Port, free_port};
pub use postgres::Database;
pub use wait::wait_until;

use std::path::{Path, PathBuf};

/// The path of one of the scripts in `deploy/local`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local").join(name)
}
