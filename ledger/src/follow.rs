//! The loop that keeps the ledger up to the journal.

use std::time::Duration;

use pled_engine::id::TemplateRef;
use pled_engine::template::Template;
use pled_streams::{Nats, ReadError, templates};
use tokio::sync::watch;

use crate::{Ledger, LedgerError};

/// How many entries one transaction takes at most.
const BATCH: usize = 500;

/// The longest pause between two tries while Postgres or NATS is away.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The ledger cannot be filled and waiting will not help.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The ledger is another journal's.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The streams are not what they should be.
    #[error(transparent)]
    Streams(#[from] pled_streams::topology::TopologyError),
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Projects the journal until `shutdown` becomes true. While Postgres is away it waits and tries
/// again; what is projected is never projected twice.
///
/// # Errors
/// If the ledger holds another journal, or the streams are not there.
pub async fn follow(
    nats: &Nats,
    ledger: &Ledger,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), FollowError> {
    let incarnation = pled_streams::topology::open(nats).await?.incarnation;
    let mut pause = Pause::default();
    while !*shutdown.borrow() {
        match catch_up(nats, ledger, &incarnation, &mut shutdown, &mut pause).await {
            Ok(()) => {}
            Err(error @ FollowError::Ledger(LedgerError::ForeignJournal { .. })) => {
                return Err(error);
            }
            Err(error) => {
                let wait = pause.longer();
                tracing::warn!(%error, ?wait, "the ledger waits");
                tokio::select! {
                    _ = shutdown.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
    Ok(())
}

async fn catch_up(
    nats: &Nats,
    ledger: &Ledger,
    incarnation: &str,
    shutdown: &mut watch::Receiver<bool>,
    pause: &mut Pause,
) -> Result<(), FollowError> {
    ledger.migrate().await?;
    project_templates(nats, ledger).await?;
    let mut position = ledger.position(incarnation).await?;
    let mut reader = pled_streams::journal::follow(nats, position + 1);
    loop {
        let batch = tokio::select! {
            _ = shutdown.changed() => return Ok(()),
            batch = reader.next_batch(BATCH, Duration::from_secs(60)) => batch?,
        };
        let Some(last) = batch.last() else {
            // Quiet for a minute: a good moment for what is seldom needed.
            ledger.migrate().await?;
            project_templates(nats, ledger).await?;
            continue;
        };
        let (seq, at) = (last.stream_seq, last.entry.at);
        if !ledger.project(position, &batch).await? {
            tracing::info!("another projector moved the position; reading it again");
            return Ok(());
        }
        pause.reset();
        position = seq;
        metrics::counter!("pled_ledger_entries_total")
            .increment(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        metrics::gauge!("pled_ledger_newest_entry_timestamp_seconds").set(seconds(at));
    }
}

/// Templates are few; all are offered each time, and what is there stays.
async fn project_templates(nats: &Nats, ledger: &Ledger) -> Result<(), FollowError> {
    for info in templates::list(nats).await? {
        for version in info.versions {
            let reference = TemplateRef { name: info.name.clone(), version };
            let Some(source) = templates::get(nats, &(&reference).into()).await? else { continue };
            match Template::parse(&source) {
                Ok(template) => {
                    ledger.put_template(&template, info.latest == Some(version)).await?;
                }
                Err(error) => tracing::warn!(template = %reference, %error, "no template"),
            }
        }
    }
    Ok(())
}

fn seconds(millis: i64) -> f64 {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).as_secs_f64()
}

/// Doubles from 100 ms to [`PAUSE_MAX`].
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(50))
    }
}

impl Pause {
    fn longer(&mut self) -> Duration {
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        self.0
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}
