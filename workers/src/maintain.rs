//! Removes what is done from the streams, as the one process that holds the lease for it.

use std::sync::Arc;
use std::time::Duration;

use pled_streams::maintain::{Memory, Retention, Swept, sweep};
use pled_streams::{Nats, locks};
use tokio_util::sync::CancellationToken;

/// The kind of the lease; its number is 0.
const LEASE: &str = "maintain";
/// How often the lease is tried for, or renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How long the lease lasts without being renewed. Two that sweep at once do no harm.
const TTL: Duration = Duration::from_secs(30);
/// How often the streams are swept.
const SWEEP: Duration = Duration::from_secs(15);

/// Sweeps the streams until `shutdown`, whenever no other process does.
pub async fn run(
    nats: Nats,
    worker_id: Arc<str>,
    retention: Retention,
    shutdown: CancellationToken,
) {
    loop {
        let lease = match locks::acquire(&nats, LEASE, 0, &worker_id, TTL).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::debug!(%error, "the lease for maintenance is tried for again");
                None
            }
        };
        if let Some(mut lease) = lease {
            hold(&nats, &mut lease, &retention, &shutdown).await;
            if shutdown.is_cancelled() {
                let _ = tokio::time::timeout(RENEW, lease.release()).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RENEW) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Sweeps while the lease is held. What was seen of the streams is forgotten with the lease, so
/// everything counts as young to the next holder.
async fn hold(
    nats: &Nats,
    lease: &mut locks::Lease,
    retention: &Retention,
    shutdown: &CancellationToken,
) {
    let mut memory = Memory::default();
    let mut sweeping = tokio::time::interval(SWEEP);
    let mut renewing = tokio::time::interval(RENEW);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = renewing.tick() => match lease.renew().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "the lease for maintenance is renewed again"),
            },
            _ = sweeping.tick() => match sweep(nats, &mut memory, retention).await {
                Ok(swept) => count(&swept),
                Err(error) => tracing::debug!(%error, "the streams are swept again later"),
            },
        }
    }
}

fn count(swept: &Swept) {
    let Swept { events, signals, ingest, timers, tasks } = *swept;
    for (stream, messages) in [
        ("events", events),
        ("signals", signals),
        ("ingest", ingest),
        ("timers", timers),
        ("tasks", tasks),
    ] {
        metrics::counter!("pled_swept_messages_total", "stream" => stream).increment(messages);
    }
    tracing::debug!(events, signals, ingest, timers, tasks, "swept");
}
