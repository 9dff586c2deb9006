//! Writes the snapshots of executions behind the hot path, the newest winning.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use pled_engine::id::ExecutionId;
use pled_engine::partition::{Published, Snapshot};
use pled_streams::Nats;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Snapshots that wait at most; beyond, those of further executions are let go.
const WAITING_MAX: usize = 10_000;
/// Snapshots under way at once.
const UNDER_WAY: usize = 64;
/// The pause after each round, in which newer ones replace older ones.
const PAUSE: Duration = Duration::from_millis(50);

/// What waits to be written. Losing it loses nothing: a snapshot is a cache for readers.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    waiting: Mutex<HashMap<ExecutionId, Box<Snapshot>>>,
    arrived: Notify,
}

impl Snapshots {
    /// Takes a snapshot to be written some time, in place of an older one of its execution.
    pub(super) fn put(&self, snapshot: Box<Snapshot>) {
        let Some(execution) = snapshot.execution.clone() else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&execution) {
            metrics::counter!("pled_snapshots_skipped_total").increment(1);
            return;
        }
        waiting.insert(execution, snapshot);
        drop(waiting);
        self.arrived.notify_one();
    }

    fn take(&self) -> HashMap<ExecutionId, Box<Snapshot>> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes until shutdown, in rounds, so that never two of one execution are under way.
    pub(super) async fn write(&self, nats: &Nats, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = self.arrived.notified() => {}
                () = shutdown.cancelled() => {}
            }
            futures::stream::iter(self.take())
                .for_each_concurrent(UNDER_WAY, |(execution, snapshot)| {
                    let put = pled_streams::snapshots::put(nats, &execution, &snapshot);
                    async move {
                        let published = put.await;
                        if !matches!(published, Published::Stored { .. }) {
                            tracing::debug!(%execution, ?published, "a snapshot was not written");
                        }
                    }
                })
                .await;
            if shutdown.is_cancelled() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
