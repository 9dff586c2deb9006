//! PLED_INGEST: raw events, not addressed to an execution, partitioned by their source.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use pled_engine::id::EventType;
use pled_engine::message::Millis;
use pled_engine::partition::{DeadReason, Malformed, StreamFacts};
use pled_engine::value::Value;

use crate::codec::{Stored, content};
use crate::connection::Nats;
use crate::events::{SendError, stored};
use crate::publish::{Publication, set_header};
use crate::read::{ReadError, at_from_leader, stream_state};
use crate::reader::{Read, Reader};
use crate::subject::{EVENT_ID, Names, StreamKind, is_source};
use crate::topology::{Generations, generation_of};

/// A raw event, as rules see it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawEvent {
    /// The source: the token of its subject.
    pub source: Arc<str>,
    /// Its type.
    pub event_type: EventType,
    /// The source's id of it.
    pub id: Option<Arc<str>>,
    /// Its stream timestamp.
    pub time: Millis,
    /// Its payload.
    pub data: Value,
}

/// Publishes a raw event, and gives its sequence in PLED_INGEST once it is stored.
///
/// # Errors
/// See [`SendError`].
pub async fn publish_raw(
    nats: &Nats,
    source: &str,
    event_type: &EventType,
    data: Bytes,
    id: Option<&str>,
) -> Result<u64, SendError> {
    if !is_source(source) {
        return Err(SendError::Refused(format!(
            "the source {source:?} must match [A-Za-z0-9_-]{{1,128}}"
        )));
    }
    let mut headers = HeaderMap::new();
    if let Some(id) = id {
        set_header(&mut headers, EVENT_ID, id);
    }
    let subject = nats.names().ingest(source, event_type);
    let publication = Publication { subject, headers, payload: data, expected: None };
    stored(nats.publisher(StreamKind::Ingest).publish(publication).await)
}

/// A raw event of an ingest partition.
#[derive(Debug)]
pub struct RawArrival {
    /// Its sequence in PLED_INGEST.
    pub stream_seq: u64,
    /// How many more were pending when it was delivered.
    pub pending: u64,
    /// What it is.
    pub event: Result<RawEvent, Malformed>,
}

/// What a subscription to raw events gives.
#[derive(Debug)]
pub enum RawArriving {
    /// The next event.
    Arrival(RawArrival),
    /// Nothing is pending: everything of the partition up to this sequence was given before.
    CaughtUp {
        /// A sequence that the stream has reached.
        stream_last: u64,
    },
}

/// Reads an ingest partition in order until it is dropped.
#[derive(Debug)]
pub struct RawSubscription {
    nats: Nats,
    reader: Reader,
}

/// Reads the raw events of a partition from the sequence `from` on, as
/// [`crate::inputs::subscribe`] reads messages.
#[must_use]
pub fn subscribe_raw(nats: &Nats, partition: u16, from: u64) -> RawSubscription {
    let filter = nats.names().raw(partition);
    RawSubscription {
        nats: nats.clone(),
        reader: Reader::start(nats, StreamKind::Ingest, filter, from),
    }
}

impl RawSubscription {
    /// The next event or news. Waits for as long as it takes; safe to drop before.
    pub async fn next(&mut self) -> RawArriving {
        let read = self.reader.next().await;
        self.arriving(read)
    }

    /// What is there already.
    pub fn try_next(&mut self) -> Option<RawArriving> {
        let read = self.reader.try_next()?;
        Some(self.arriving(read))
    }

    fn arriving(&self, read: Read) -> RawArriving {
        match read {
            Read::CaughtUp(stream_last) => RawArriving::CaughtUp { stream_last },
            Read::Message(stored) => RawArriving::Arrival(RawArrival {
                stream_seq: stored.stream_seq,
                pending: stored.pending,
                event: decode_raw(self.nats.names(), &stored),
            }),
        }
    }
}

/// The raw event at a sequence, from the leader; `None` if it is not there.
///
/// # Errors
/// If the leader does not answer.
pub async fn get_raw(
    nats: &Nats,
    stream_seq: u64,
) -> Result<Option<Result<RawEvent, Malformed>>, ReadError> {
    let stored = at_from_leader(nats, StreamKind::Ingest, stream_seq).await?;
    Ok(stored.map(|stored| decode_raw(nats.names(), &stored)))
}

/// Where PLED_INGEST is, from its leader.
///
/// # Errors
/// If it does not answer.
pub async fn ingest_facts(nats: &Nats) -> Result<StreamFacts, ReadError> {
    let state = stream_state(nats, StreamKind::Ingest).await?;
    Ok(StreamFacts {
        generation: generation_of(&state.metadata),
        first: state.first_seq,
        last: state.last_seq,
    })
}

/// In which generation each raw event was stored, from the stream's leader.
///
/// # Errors
/// If it does not answer.
pub async fn ingest_generations(nats: &Nats) -> Result<Generations, ReadError> {
    let state = stream_state(nats, StreamKind::Ingest).await?;
    Ok(Generations::of(&state.metadata))
}

/// The raw event of a stored message. The type of the subject stands above that of a CloudEvent.
///
/// # Errors
/// If it is none.
pub fn decode_raw(names: &Names, stored: &Stored) -> Result<RawEvent, Malformed> {
    let malformed = |detail: String| Malformed {
        execution: None,
        reason: DeadReason::Malformed,
        detail,
        reply: None,
    };
    let mut words = stored
        .subject
        .strip_prefix(names.prefix())
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or_default()
        .splitn(4, '.');
    let (word, _partition, source, event_type) =
        (words.next(), words.next(), words.next(), words.next());
    let (Some("raw"), Some(source), Some(event_type)) = (word, source, event_type) else {
        let detail = format!("the subject {} is none of this stream", stored.subject);
        return Err(malformed(detail));
    };
    if !is_source(source) {
        return Err(malformed(format!("{source:?} is no source")));
    }
    let event_type = event_type.parse().map_err(|error| malformed(format!("{error}")))?;
    let content = content(stored).map_err(malformed)?;
    Ok(RawEvent {
        source: source.into(),
        event_type,
        id: content.id,
        time: stored.time,
        data: content.data,
    })
}
