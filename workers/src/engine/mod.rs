//! The engine worker: owns partitions and drives the commit protocol of each.
//!
//! [`run`] owns partitions (`ownership`) and gives each a `shell`, which performs what
//! the pure [`pled_engine::partition::Partition`] puts out (`perform`) and tells it what came of
//! it.

mod meter;
mod perform;
mod shell;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use pled_streams::Nats;
use pled_streams::templates::TemplateCache;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::shell::Shell;
use self::snapshots::Snapshots;
use crate::clock::Clock;
use crate::ownership::{Ownership, Partitions, own};

/// The kind of the leases and positions of engine workers.
const LEASE: &str = "engine";

/// What an engine worker is like.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The worker's id: one subject token, unique among living processes.
    pub worker_id: Arc<str>,
    /// Which partitions it aims for.
    pub partitions: Partitions,
    /// How long a lease lasts without being renewed: so long a partition waits after a crash.
    pub lease_ttl: Duration,
    /// How many bytes of executions are kept in memory, over all partitions, approximately.
    pub cache_bytes: usize,
    /// How long to wait at shutdown for what is in flight.
    pub drain_timeout: Duration,
}

impl EngineConfig {
    /// The defaults: an equal share, leases of 5 s, 256 MiB of cache.
    #[must_use]
    pub fn new(worker_id: impl Into<Arc<str>>) -> Self {
        Self {
            worker_id: worker_id.into(),
            partitions: Partitions::Share,
            lease_ttl: Duration::from_secs(5),
            cache_bytes: 32 << 20,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// An engine worker has to stop.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// What the streams hold contradicts what was done: nothing may be written until a person has
    /// looked at it.
    #[error("{0}")]
    Halted(String),
}

/// What all partitions of a worker share.
struct Shared {
    nats: Nats,
    config: EngineConfig,
    clock: Arc<Clock>,
    templates: TemplateCache,
    snapshots: Snapshots,
}

/// Runs an engine worker until `shutdown`: then it finishes what is in flight, writes its
/// positions and gives its leases up. [`pled_streams::topology::open`] comes before.
///
/// # Errors
/// If the streams contradict the positions; the other partitions are handed over first.
pub async fn run(
    nats: Nats,
    config: EngineConfig,
    shutdown: CancellationToken,
) -> Result<(), EngineError> {
    let ownership = Ownership {
        kind: LEASE,
        worker: config.worker_id.clone(),
        partitions: config.partitions,
        lease_ttl: config.lease_ttl,
        drain_timeout: config.drain_timeout,
    };
    let shared = Arc::new(Shared {
        nats: nats.clone(),
        config,
        clock: Arc::new(Clock::start()),
        templates: TemplateCache::default(),
        snapshots: Snapshots::default(),
    });
    let stop = CancellationToken::new();
    let mut background = JoinSet::new();
    background.spawn(follow_clock(shared.clone(), stop.clone()));
    background.spawn(write_snapshots(shared.clone(), stop.clone()));

    let drive = |number, held, drain| Shell::run(shared.clone(), number, held, drain);
    let result = own(&nats, &shared.clock, ownership, drive, &shutdown).await;

    stop.cancel();
    let _ = tokio::time::timeout(shared.config.drain_timeout, background.join_all()).await;
    result.map_err(EngineError::Halted)
}

async fn follow_clock(shared: Arc<Shared>, stop: CancellationToken) {
    shared.clock.follow(&shared.nats, &stop).await;
}

async fn write_snapshots(shared: Arc<Shared>, stop: CancellationToken) {
    shared.snapshots.write(&shared.nats, &stop).await;
}
