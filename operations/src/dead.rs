//! What was set aside, and what is done with it by hand.

use std::time::Duration;

use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::Source;
use pled_streams::dead::{self, Dead, Fate, RetryError, settle};
use pled_streams::subject::parse_send_token;
use pled_streams::{Nats, ReadError, journal, locks, partition_of};
use tokio::time::Instant;

/// How long the position may take to cover a message.
const COVERED_WITHIN: Duration = Duration::from_secs(10);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(100);

/// Which records are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this cause.
    pub cause: Option<String>,
    /// Only those for this execution.
    pub execution: Option<ExecutionId>,
    /// Also the notes on what was done with records.
    pub notes: bool,
}

impl Filter {
    fn fits(&self, dead: &Dead) -> bool {
        (self.notes || !dead.is_note())
            && self.cause.as_ref().is_none_or(|cause| *cause == dead.reason)
            && (self.execution.is_none() || self.execution == dead.execution)
    }
}

/// The records that fit, oldest first, at most `limit`.
///
/// # Errors
/// If there is no answer.
pub async fn list(nats: &Nats, filter: &Filter, limit: usize) -> Result<Vec<Dead>, ReadError> {
    const PAGE: usize = 100;
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = dead::list_after(nats, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = last.seq;
        found.extend(page.into_iter().filter(|dead| filter.fits(dead)));
        if found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

/// What a retry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The message was sent once more, and is stored there.
    Sent {
        /// Its new sequence.
        stream_seq: u64,
    },
    /// An entry had taken it after all; the record is dropped.
    Taken {
        /// Which.
        entry: u64,
    },
}

/// A record was not retried.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    /// Its partition has not settled it.
    #[error("its partition has not done it yet (is an engine running?): retry it later")]
    NotDone,
    /// It cannot be sent again.
    #[error(transparent)]
    Retry(#[from] RetryError),
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Sends the message of a record once more, once its partition is done with it, and takes the
/// record away. One that an entry took after all is not sent.
///
/// # Errors
/// See [`DeadError`]; the record stays, and may be retried again without harm.
pub async fn retry(nats: &Nats, record: &Dead) -> Result<Retried, DeadError> {
    covered(nats, record).await?;
    if let Some(entry) = taken(nats, record).await? {
        settle(nats, record, Fate::Dropped, &format!("entry {entry} had taken it")).await?;
        return Ok(Retried::Taken { entry });
    }
    let stream_seq = dead::send_again(nats, record).await?;
    settle(nats, record, Fate::Retried, &format!("sent again as {stream_seq}")).await?;
    Ok(Retried::Sent { stream_seq })
}

/// Drops a record, and leaves a note. `false`: it was not there any more.
///
/// # Errors
/// If there is no answer.
pub async fn drop_record(nats: &Nats, record: &Dead) -> Result<bool, ReadError> {
    if record.is_note() {
        return dead::drop_record(nats, record.seq).await;
    }
    settle(nats, record, Fate::Dropped, "dropped by hand").await
}

fn source_of(record: &Dead) -> Option<(Source, u64, u64)> {
    let origin = record.origin()?;
    let source = match origin.stream {
        "events" => Source::Events,
        "signals" => Source::Signals,
        "timers" => Source::Timers,
        _ => return None,
    };
    Some((source, origin.generation, origin.stream_seq))
}

/// Waits until the position says that the message is done: before that a crash could judge it once
/// more, and take it.
async fn covered(nats: &Nats, record: &Dead) -> Result<(), DeadError> {
    let (Some((source, generation, seq)), Some(execution)) = (source_of(record), &record.execution)
    else {
        return Ok(());
    };
    let partition = partition_of(execution, nats.partitions());
    let deadline = Instant::now() + COVERED_WITHIN;
    loop {
        let read = locks::read_position(nats, "engine", partition).await?;
        let name = crate::verify::name_of(source);
        let input = read.as_ref().and_then(|(position, _)| position.inputs.get(name));
        let is_done = input.is_some_and(|input| {
            generation < input.generation || seq < input.next && !input.open.contains(&seq)
        });
        if is_done {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(DeadError::NotDone);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The entry that has the message as a cause, or a copy of the same send.
async fn taken(nats: &Nats, record: &Dead) -> Result<Option<u64>, ReadError> {
    let Some(execution) = &record.execution else { return Ok(None) };
    let origin = source_of(record);
    let words = nats.names().words(&record.subject).unwrap_or_default();
    let send = match words[..] {
        ["signal", _, _, "send", token] => parse_send_token(token),
        _ => None,
    };
    let history = journal::history(nats, execution).await?;
    let entry = history.iter().map(|loaded| &loaded.entry).find(|entry| {
        entry.causes.iter().any(|cause| {
            let is_it = origin == Some((cause.stream, cause.generation, cause.stream_seq));
            let sent = cause.sender.as_ref().and_then(|(sender, entry, index)| {
                let index = u32::try_from(*index).ok()?;
                Some((sender.parse::<ExecutionId>().ok()?, Token { entry: *entry, index }))
            });
            is_it || cause.stream == Source::Signals && send.is_some() && sent == send
        })
    });
    Ok(entry.map(|entry| entry.seq))
}
