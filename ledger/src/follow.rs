//! The loop that keeps the ledger up to the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use pled_engine::id::{ExecutionId, TemplateRef};
use pled_engine::partition::Loaded;
use pled_engine::template::Template;
use pled_engine::value::Value;
use pled_streams::templates::TemplateCache;
use pled_streams::topology::{self, TopologyError};
use pled_streams::{Nats, ReadError, journal, state, templates};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Last, Ledger, LedgerError, Position};

/// How many entries one transaction takes at most.
const BATCH: usize = 500;

/// The longest pause between two tries while Postgres or NATS is away.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often it is looked again whether all is as it should be: schema, months, streams, templates.
const REFRESH: Duration = Duration::from_secs(60);

/// How many states are read at once.
const READS: usize = 32;

/// The ledger cannot be filled and waiting will not help.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The ledger is another journal's, or Postgres is away.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The streams are not what they should be.
    #[error(transparent)]
    Streams(#[from] TopologyError),
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal lost entries that the ledger has.
    #[error(
        "the journal does not hold the entry {stream_seq} that the ledger projected last: it was \
         restored from an older copy; give the ledger an empty database, and it is filled again"
    )]
    Diverged {
        /// The sequence in PLED_JOURNAL.
        stream_seq: u64,
    },
}

impl FollowError {
    /// Whether it may pass: something is away.
    fn may_pass(&self) -> bool {
        match self {
            Self::Ledger(LedgerError::ForeignJournal { .. }) | Self::Diverged { .. } => false,
            Self::Ledger(
                LedgerError::Postgres(_)
                | LedgerError::Silent
                | LedgerError::Migrate(_)
                | LedgerError::Damaged(_),
            )
            | Self::Read(_)
            | Self::Streams(TopologyError::Failed { .. } | TopologyError::NoJetStream { .. }) => {
                true
            }
            Self::Streams(
                TopologyError::ServerVersion { .. }
                | TopologyError::ApiLevel { .. }
                | TopologyError::NotDurable(_)
                | TopologyError::Missing { .. }
                | TopologyError::Foreign { .. }
                | TopologyError::Differs { .. }
                | TopologyError::StoreTooSmall { .. }
                | TopologyError::Settings(_),
            ) => false,
        }
    }
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
    let mut follower = Follower {
        nats,
        ledger,
        cache: TemplateCache::default(),
        known: BTreeMap::new(),
        pause: PAUSE_MIN,
    };
    // A transaction that is broken off is rolled back: nothing has to be waited for.
    tokio::select! {
        followed = follower.follow() => followed,
        _ = shutdown.wait_for(|stop| *stop) => Ok(()),
    }
}

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);

struct Follower<'a> {
    nats: &'a Nats,
    ledger: &'a Ledger,
    cache: TemplateCache,
    /// The template versions that the ledger has, and whether as the newest.
    known: BTreeMap<TemplateRef, bool>,
    /// How long to wait after the next failure.
    pause: Duration,
}

impl Follower<'_> {
    async fn follow(&mut self) -> Result<(), FollowError> {
        loop {
            match self.catch_up().await {
                Ok(()) => {}
                Err(error) if error.may_pass() => {
                    tracing::warn!(%error, wait = ?self.pause, "the ledger waits");
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    self.known.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Projects for a while.
    async fn catch_up(&mut self) -> Result<(), FollowError> {
        let incarnation = topology::open(self.nats).await?.incarnation;
        self.ledger.migrate().await?;
        let mut position = self.ledger.position(&incarnation).await?;
        check(self.nats, &position).await?;
        self.project_templates().await?;
        let mut reader = journal::follow(self.nats, position.stream_seq + 1);
        let end = Instant::now() + REFRESH;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let batch = reader.next_batch(BATCH, left).await?;
            let Some(last) = batch.last() else { return Ok(()) };
            if batch.iter().any(|loaded| !self.known.contains_key(&loaded.entry.template)) {
                self.project_templates().await?;
            }
            let outputs = self.outputs(&batch).await?;
            if !self.ledger.project(position.stream_seq, &batch, &outputs).await? {
                tracing::info!("another projector moved the position; reading it again");
                return Ok(());
            }
            position.stream_seq = last.stream_seq;
            self.pause = PAUSE_MIN;
            metrics::counter!("pled_ledger_entries_total")
                .increment(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            metrics::gauge!("pled_ledger_newest_entry_timestamp_seconds")
                .set(seconds(last.entry.at));
        }
    }

    /// Records the versions that the ledger does not know as they are.
    async fn project_templates(&mut self) -> Result<(), FollowError> {
        for info in templates::list_versions(self.nats).await? {
            if self.known.get(&info.reference) == Some(&info.newest) {
                continue;
            }
            let source = templates::get(self.nats, &(&info.reference).into()).await?;
            match source.map(|source| Template::parse(&source)) {
                Some(Ok(template)) => self.ledger.put_template(&template, info.newest).await?,
                Some(Err(error)) => {
                    tracing::warn!(template = %info.reference, %error, "not for the ledger");
                }
                None => continue,
            }
            self.known.insert(info.reference, info.newest);
        }
        Ok(())
    }

    /// The outputs of executions that end in this batch with a state too large for their entry.
    async fn outputs(&self, batch: &[Loaded]) -> Result<BTreeMap<ExecutionId, Value>, FollowError> {
        let ended = batch.iter().map(|loaded| &loaded.entry);
        let ended = ended.filter(|entry| entry.status.is_terminal() && entry.state.is_none());
        let ids: BTreeSet<_> = ended.map(|entry| entry.execution.clone()).collect();
        let reads: Vec<_> =
            ids.into_iter().map(|id| output(self.nats.clone(), self.cache.clone(), id)).collect();
        let reads = futures::stream::iter(reads).buffer_unordered(READS);
        let read: Vec<_> = reads.try_collect().await?;
        Ok(read.into_iter().flatten().filter(|(_, output)| !output.is_null()).collect())
    }
}

/// Takes what it needs by value: a borrow in a stream of futures is not `Send` for any lifetime.
async fn output(
    nats: Nats,
    cache: TemplateCache,
    id: ExecutionId,
) -> Result<Option<(ExecutionId, Value)>, ReadError> {
    match state::read(&nats, &cache, &id).await {
        Ok(found) => Ok(found.map(|execution| (id, execution.state.output))),
        Err(error @ ReadError::Corrupt { .. }) => {
            tracing::warn!(execution = %id, %error, "its output is not in the ledger");
            Ok(None)
        }
        Err(error @ ReadError::Unavailable { .. }) => Err(error),
    }
}

/// Whether the journal still holds the entry that was projected last.
async fn check(nats: &Nats, position: &Position) -> Result<(), FollowError> {
    let Position { stream_seq, last: Some(Last { execution, hash }) } = position else {
        return Ok(());
    };
    let stream_seq = *stream_seq;
    let newest = journal::newest(nats, execution, true).await?;
    let entry = match newest.filter(|newest| newest.stream_seq >= stream_seq) {
        None => return Err(FollowError::Diverged { stream_seq }),
        Some(newest) if newest.stream_seq == stream_seq => newest.entry,
        Some(_) => {
            let found = journal::range(nats, execution, stream_seq, Some(stream_seq + 1)).await?;
            match found.into_iter().next() {
                Some(found) => found.entry,
                // A replica may be behind: no proof, and the next look finds it.
                None => {
                    let what = format!("the journal entry at {stream_seq}");
                    return Err(ReadError::Unavailable { what, reason: "not found".into() }.into());
                }
            }
        }
    };
    if entry.hash == *hash { Ok(()) } else { Err(FollowError::Diverged { stream_seq }) }
}

fn seconds(millis: i64) -> f64 {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).as_secs_f64()
}
