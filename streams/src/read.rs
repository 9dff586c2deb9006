//! Single reads, from any replica or from the leader.

use std::collections::HashMap;

use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind};
use futures::StreamExt;
use pled_engine::message::Millis;
use serde::Deserialize;

use crate::codec::Stored;
use crate::connection::Nats;
use crate::subject::StreamKind;

/// A read did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No answer, or the server could not give one now: nothing is known, ask again.
    #[error("reading {what}: {reason}")]
    Unavailable {
        /// What was read.
        what: String,
        /// Why there is no answer.
        reason: String,
    },
    /// What is stored is not what PLED writes: asking again does not help.
    #[error("{what} is damaged: {reason}")]
    Corrupt {
        /// What was read, with its sequence.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ReadError {
    pub(crate) fn unavailable(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Unavailable { what: what.into(), reason: reason.to_string() }
    }

    pub(crate) fn corrupt(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), reason: reason.to_string() }
    }
}

/// The newest message of a subject, from any replica: a miss proves nothing.
pub(crate) async fn last_direct(
    nats: &Nats,
    kind: StreamKind,
    subject: &str,
) -> Result<Option<Stored>, ReadError> {
    match nats.stream(kind).direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(Stored::from(message))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::unavailable(subject, error)),
    }
}

/// The newest message of a subject, from the stream's leader.
pub(crate) async fn last_from_leader(
    nats: &Nats,
    kind: StreamKind,
    subject: &str,
) -> Result<Option<Stored>, ReadError> {
    match nats.stream(kind).get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(Stored::from(message))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(ReadError::unavailable(subject, error)),
    }
}

/// The message at a sequence, from the stream's leader.
pub(crate) async fn at_from_leader(
    nats: &Nats,
    kind: StreamKind,
    stream_seq: u64,
) -> Result<Option<Stored>, ReadError> {
    match nats.stream(kind).get_raw_message(stream_seq).await {
        Ok(message) => Ok(Some(Stored::from(message))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(ReadError::unavailable(
            format!("{} {stream_seq}", nats.names().stream(kind)),
            error,
        )),
    }
}

/// The first message of a subject (wildcards allowed) at `from` or later, from any replica.
pub(crate) async fn next_direct(
    nats: &Nats,
    kind: StreamKind,
    subject: &str,
    from: u64,
) -> Result<Option<Stored>, ReadError> {
    match nats.stream(kind).direct_get_next_for_subject(subject, Some(from.max(1))).await {
        Ok(message) => Ok(Some(Stored::from(message))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::unavailable(subject, error)),
    }
}

/// A server timestamp in nanoseconds as milliseconds since the epoch, rounded down.
pub(crate) fn millis_of_nanos(nanos: i128) -> Millis {
    Millis::try_from(nanos.div_euclid(1_000_000)).unwrap_or_default()
}

/// Where a stream is and what it says about itself, from its leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamState {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) max_bytes: i64,
    pub(crate) metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
struct InfoAnswer {
    state: InfoState,
    config: InfoConfig,
}

#[derive(Deserialize)]
struct InfoState {
    first_seq: u64,
    last_seq: u64,
    messages: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct InfoConfig {
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

pub(crate) async fn stream_state(nats: &Nats, kind: StreamKind) -> Result<StreamState, ReadError> {
    let name = nats.names().stream(kind);
    let answer: Response<InfoAnswer> = nats
        .jetstream()
        .request(format!("STREAM.INFO.{name}"), &())
        .await
        .map_err(|error| ReadError::unavailable(name, error))?;
    match answer {
        Response::Ok(InfoAnswer { state, config }) => Ok(StreamState {
            first_seq: state.first_seq,
            last_seq: state.last_seq,
            messages: state.messages,
            bytes: state.bytes,
            max_bytes: config.max_bytes,
            metadata: config.metadata,
        }),
        Response::Err { error } => Err(ReadError::unavailable(name, error)),
    }
}

/// The keys under `filter` of a bucket that have a value, with their values. A key that is being
/// written or expires meanwhile may be missing.
pub(crate) async fn values(
    nats: &Nats,
    kind: StreamKind,
    filter: &str,
) -> Result<Vec<(String, Stored)>, ReadError> {
    let mut reads = futures::stream::iter(keys(nats, kind, filter).await?)
        .map(|key| {
            // Owned by the future: a borrow here makes callers' futures not `Send`.
            let nats = nats.clone();
            async move {
                let subject = nats.names().key(kind, &key);
                (last_from_leader(&nats, kind, &subject).await, key)
            }
        })
        .buffered(64);
    let mut values = Vec::new();
    while let Some((read, key)) = reads.next().await {
        if let Some(stored) = read?.filter(|stored| !is_marker(stored)) {
            values.push((key, stored));
        }
    }
    Ok(values)
}

/// The keys under `filter` of a bucket, those with a marker that they are gone included.
pub(crate) async fn keys(
    nats: &Nats,
    kind: StreamKind,
    filter: &str,
) -> Result<Vec<String>, ReadError> {
    let subject = nats.names().key(kind, filter);
    let prefix = nats.names().key(kind, "");
    let found = nats.stream(kind).info_with_subjects(&subject).await;
    let mut subjects = found.map_err(|error| ReadError::unavailable(&subject, error))?;
    let mut keys = Vec::new();
    while let Some(found) = subjects.next().await {
        let (subject, _count) = found.map_err(|error| ReadError::unavailable(filter, error))?;
        keys.extend(subject.strip_prefix(&prefix).map(str::to_owned));
    }
    Ok(keys)
}

/// Whether a message of a bucket says that its key is gone.
pub(crate) fn is_marker(stored: &Stored) -> bool {
    stored.header("Nats-Marker-Reason").is_some() || stored.header("KV-Operation").is_some()
}
