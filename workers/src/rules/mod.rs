//! The rule worker: turns raw events of the ingest door into messages for executions.
//!
//! Each ingest partition has a door of its own, under a lease and a position like a partition of
//! executions: [`pled_engine::door`] decides, `door` performs. An event is evaluated on the newest
//! version of every template (`newest`).

mod door;
mod newest;

use std::sync::Arc;
use std::time::Duration;

use pled_streams::Nats;
use tokio_util::sync::CancellationToken;

use self::door::Shell;
use self::newest::follow_newest;
use crate::clock::Clock;
use crate::ownership::{Ownership, Partitions, own};

/// The kind of the leases and positions of rule workers.
const LEASE: &str = "rules";

/// What a rule worker is like.
#[derive(Clone, Debug)]
pub struct RulesConfig {
    /// The worker's id: one subject token, unique among living processes.
    pub worker_id: Arc<str>,
    /// Which ingest partitions it aims for.
    pub partitions: Partitions,
    /// How long a lease lasts without being renewed: so long a partition waits after a crash.
    pub lease_ttl: Duration,
    /// How long to wait at shutdown for what is in flight.
    pub drain_timeout: Duration,
}

impl RulesConfig {
    /// The defaults: an equal share, leases of 5 s.
    #[must_use]
    pub fn new(worker_id: impl Into<Arc<str>>) -> Self {
        Self {
            worker_id: worker_id.into(),
            partitions: Partitions::Share,
            lease_ttl: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// A rule worker has to stop.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// PLED_INGEST contradicts a position: nothing may be emitted until a person has looked at it.
    #[error("{0}")]
    Halted(String),
}

/// Runs a rule worker until `shutdown`: then it finishes what is in flight, writes its positions
/// and gives its leases up. [`pled_streams::topology::open`] comes before.
///
/// # Errors
/// If PLED_INGEST contradicts a position.
pub async fn run(
    nats: Nats,
    config: RulesConfig,
    shutdown: CancellationToken,
) -> Result<(), RulesError> {
    let ownership = Ownership {
        kind: LEASE,
        worker: config.worker_id.clone(),
        partitions: config.partitions,
        lease_ttl: config.lease_ttl,
        drain_timeout: config.drain_timeout,
    };
    let clock = Arc::new(Clock::start());
    let (active, following) = follow_newest(&nats);
    let drive = |number, held, drain| {
        Shell::run(nats.clone(), config.clone(), clock.clone(), active.clone(), number, held, drain)
    };
    let result = own(&nats, &clock, ownership, drive, &shutdown).await;
    following.abort();
    result.map_err(RulesError::Halted)
}
