//! PLED_JOURNAL: one entry a message, an execution a subject.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pled_engine::entry::JournalEntry;
use pled_engine::id::ExecutionId;
use pled_engine::message::Millis;
use pled_engine::partition::{Loaded, Published};

use crate::codec::Stored;
use crate::connection::Nats;
use crate::publish::Publication;
use crate::read::{ReadError, last_direct, last_from_leader, next_direct};
use crate::reader::{Read, Reader};
use crate::subject::StreamKind;

/// The newest entry of an execution. Without `leader` any replica may answer: then `None` proves
/// nothing, and the entry may not be the newest.
///
/// # Errors
/// If there is no answer, or what is stored is no entry.
pub async fn newest(
    nats: &Nats,
    execution: &ExecutionId,
    leader: bool,
) -> Result<Option<Loaded>, ReadError> {
    let subject = nats.names().journal(nats.known_partition_of(execution)?, execution);
    let stored = if leader {
        last_from_leader(nats, StreamKind::Journal, &subject).await?
    } else {
        last_direct(nats, StreamKind::Journal, &subject).await?
    };
    stored.as_ref().map(load).transpose()
}

/// The entries of an execution in order, from the stream sequence `from` on and below `before`,
/// each read by itself: for the few between a base and the newest.
///
/// # Errors
/// If there is no answer, or what is stored is no entry.
pub async fn range(
    nats: &Nats,
    execution: &ExecutionId,
    from: u64,
    before: Option<u64>,
) -> Result<Vec<Loaded>, ReadError> {
    let subject = nats.names().journal(nats.known_partition_of(execution)?, execution);
    let mut entries = Vec::new();
    let mut next = from;
    while before.is_none_or(|before| next < before) {
        let stored = next_direct(nats, StreamKind::Journal, &subject, next).await?;
        let Some(stored) = stored else { break };
        if before.is_some_and(|before| stored.stream_seq >= before) {
            break;
        }
        next = stored.stream_seq + 1;
        entries.push(load(&stored)?);
    }
    Ok(entries)
}

/// All entries of an execution in order.
///
/// # Errors
/// If there is no answer, or what is stored is no entry.
pub async fn history(nats: &Nats, execution: &ExecutionId) -> Result<Vec<Loaded>, ReadError> {
    let subject = nats.names().journal(nats.known_partition_of(execution)?, execution);
    let Some(newest) = last_from_leader(nats, StreamKind::Journal, &subject).await? else {
        return Ok(Vec::new());
    };
    let mut reader = Reader::start(nats, StreamKind::Journal, subject.clone(), 1);
    let mut entries = Vec::new();
    loop {
        let read = tokio::time::timeout(HISTORY_SILENCE, reader.next()).await;
        match read {
            Ok(Read::Message(stored)) => {
                entries.push(load(&stored)?);
                if stored.stream_seq >= newest.stream_seq {
                    return Ok(entries);
                }
            }
            Ok(Read::CaughtUp(_)) => {}
            Err(_) => return Err(ReadError::unavailable(subject, "the stream is silent")),
        }
    }
}

/// How long a history may bring nothing.
const HISTORY_SILENCE: Duration = Duration::from_secs(10);

/// Reads the journal of all executions in stream order, from the sequence `from` on, and goes on
/// by itself after a loss.
#[must_use]
pub fn follow(nats: &Nats, from: u64) -> JournalReader {
    let filter = format!("{}.journal.>", nats.names().prefix());
    JournalReader { reader: Reader::start(nats, StreamKind::Journal, filter, from), ahead: None }
}

/// See [`follow`].
#[derive(Debug)]
pub struct JournalReader {
    reader: Reader,
    /// An entry that was read and waits for the next batch, since it is damaged.
    ahead: Option<Stored>,
}

/// An entry as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// Its stream sequence.
    pub stream_seq: u64,
    /// Its stream timestamp.
    pub time: Millis,
    /// Its bytes.
    pub payload: Bytes,
}

impl JournalReader {
    /// The next entries, at most `max`: those that are there, or the first that comes within
    /// `wait`. Empty if none came.
    ///
    /// # Errors
    /// If an entry is damaged: after all before it were given, and again at each call.
    pub async fn next_batch(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Loaded>, ReadError> {
        let mut entries = Vec::new();
        if let Some(damaged) = &self.ahead {
            return load(damaged).map(|entry| vec![entry]);
        }
        for stored in self.take(max, wait).await {
            match load(&stored) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    self.ahead = Some(stored);
                    return if entries.is_empty() { Err(error) } else { Ok(entries) };
                }
            }
        }
        Ok(entries)
    }

    /// [`Self::next_batch`] without reading what is in them.
    pub async fn next_stored(&mut self, max: usize, wait: Duration) -> Vec<StoredEntry> {
        let entry = |stored: Stored| StoredEntry {
            stream_seq: stored.stream_seq,
            time: stored.time,
            payload: stored.payload,
        };
        self.take(max, wait).await.into_iter().map(entry).collect()
    }

    async fn take(&mut self, max: usize, wait: Duration) -> Vec<Stored> {
        let mut taken = Vec::new();
        let deadline = tokio::time::Instant::now() + wait;
        while taken.is_empty() {
            match tokio::time::timeout_at(deadline, self.reader.next()).await {
                Ok(Read::Message(stored)) => taken.push(stored),
                Ok(Read::CaughtUp(_)) => {}
                Err(_) => return taken,
            }
        }
        while taken.len() < max {
            match self.reader.try_next() {
                Some(Read::Message(stored)) => taken.push(stored),
                Some(Read::CaughtUp(_)) => {}
                None => break,
            }
        }
        taken
    }
}

/// Publishes an entry, expecting `expected` as the last sequence of its execution's journal.
pub fn publish_entry(
    nats: &Nats,
    partition: u16,
    execution: &ExecutionId,
    expected: u64,
    bytes: Arc<[u8]>,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    nats.publisher(StreamKind::Journal).publish(Publication {
        subject: nats.names().journal(partition, execution),
        payload: Bytes::from_owner(bytes),
        expected: Some(expected),
        ..Publication::default()
    })
}

fn load(stored: &Stored) -> Result<Loaded, ReadError> {
    let entry = JournalEntry::decode(&stored.payload).map_err(|error| {
        ReadError::corrupt(format!("the journal entry at {}", stored.stream_seq), error)
    })?;
    Ok(Loaded { stream_seq: stored.stream_seq, entry })
}

/// A page of an execution's entries in order: those at the stream sequence `from` or later, at
/// most `max`.
///
/// # Errors
/// If there is no answer, or what is stored is no entry.
pub async fn page(
    nats: &Nats,
    execution: &ExecutionId,
    from: u64,
    max: usize,
) -> Result<Vec<Loaded>, ReadError> {
    let subject = nats.names().journal(nats.known_partition_of(execution)?, execution);
    let Some(newest) = last_from_leader(nats, StreamKind::Journal, &subject).await? else {
        return Ok(Vec::new());
    };
    if newest.stream_seq < from {
        return Ok(Vec::new());
    }
    let mut reader = Reader::start(nats, StreamKind::Journal, subject.clone(), from.max(1));
    let mut entries = Vec::new();
    while entries.len() < max {
        match tokio::time::timeout(HISTORY_SILENCE, reader.next()).await {
            Ok(Read::Message(stored)) => {
                let last = stored.stream_seq >= newest.stream_seq;
                entries.push(load(&stored)?);
                if last {
                    break;
                }
            }
            Ok(Read::CaughtUp(_)) => {}
            Err(_) => return Err(ReadError::unavailable(subject, "the stream is silent")),
        }
    }
    Ok(entries)
}
