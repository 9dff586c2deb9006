//! PLED_DEAD: what was set aside, each with its cause, as it was stored.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use futures::StreamExt;
use pled_engine::id::ExecutionId;
use pled_engine::message::{Millis, Source};
use pled_engine::partition::{DeadReason, Published};

use crate::codec::Stored;
use crate::connection::Nats;
use crate::events::{SendError, stored};
use crate::publish::{Publication, set_header};
use crate::read::{ReadError, at_from_leader, next_direct};
use crate::subject::{
    CE_ID, CE_SOURCE, DEAD_CUT, DEAD_DETAIL, DEAD_SUBJECT, DEAD_TIME, EMIT, EVENT, EVENT_ID, Names,
    REPLY, SENDER, StreamKind, number, parse_send_token,
};

/// Room for the subject, the reason and what the server needs, beside what is set aside.
const HEADROOM: usize = 10 << 10;

/// A message that is to be set aside.
#[derive(Clone, Debug)]
pub struct DeadRecord {
    /// Why.
    pub reason: DeadReason,
    /// What is wrong, for people.
    pub detail: String,
    /// For whom it was.
    pub execution: Option<ExecutionId>,
    /// The stream it came by: `events`, `signals`, `timers`, `ingest`.
    pub stream: String,
    /// That stream's generation.
    pub generation: u64,
    /// Its sequence there.
    pub stream_seq: u64,
    /// The subject under which it was stored.
    pub subject: String,
    /// When it was stored.
    pub time: Millis,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

/// Sets a message aside, expecting that its subject is empty: a conflict means that it is there.
pub fn set_aside(
    nats: &Nats,
    record: DeadRecord,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let (mut headers, payload) =
        fitting(&record.headers, record.payload, nats.max_payload().saturating_sub(HEADROOM));
    set_header(&mut headers, DEAD_DETAIL, &shortened(&record.detail));
    set_header(&mut headers, DEAD_SUBJECT, &record.subject);
    set_header(&mut headers, DEAD_TIME, &record.time.to_string());
    let subject = nats.names().dead(
        record.reason,
        record.execution.as_ref(),
        &record.stream,
        record.generation,
        record.stream_seq,
    );
    nats.publisher(StreamKind::Dead).publish(Publication {
        subject,
        headers,
        payload,
        expected: Some(0),
    })
}

/// What of a message's headers and payload is set aside within `limit` bytes: all, where it fits.
/// The message alone may have been as large as the server takes, and then there is no room for the
/// reason beside it.
fn fitting(headers: &HeaderMap, mut payload: Bytes, limit: usize) -> (HeaderMap, Bytes) {
    let size = |(name, values): (&HeaderName, &Vec<HeaderValue>)| -> usize {
        let name: &str = name.as_ref();
        values.iter().map(|value| name.len() + value.as_str().len() + 4).sum()
    };
    let of_headers: usize = headers.iter().map(size).sum();
    let whole = of_headers + payload.len();
    let keeps_headers = of_headers <= limit / 2;
    let mut kept = HeaderMap::new();
    // What the server reads of a message must not take effect once more.
    let of_others = headers.iter().filter(|(name, _)| {
        let name: &str = name.as_ref();
        keeps_headers && !name.starts_with("Nats-")
    });
    for (name, values) in of_others {
        for value in values {
            kept.append(name.clone(), value.clone());
        }
    }
    if whole > limit {
        set_header(&mut kept, DEAD_CUT, &whole.to_string());
        payload.truncate(limit - if keeps_headers { of_headers } else { 0 });
    }
    (kept, payload)
}

/// What [`pled_engine::partition::Publish::Dead`] says.
#[derive(Clone, Debug)]
pub struct DeadStored {
    /// Why.
    pub reason: DeadReason,
    /// What is wrong, for people.
    pub detail: String,
    /// For whom it was.
    pub execution: Option<ExecutionId>,
    /// The stream it came by.
    pub source: Source,
    /// That stream's generation.
    pub generation: u64,
    /// Its sequence there.
    pub stream_seq: u64,
}

/// Sets aside a message that an input stream holds, with its headers and payload. One that is not
/// there any more is recorded empty. Without an answer from the stream: [`Published::Unknown`].
pub async fn set_aside_stored(nats: &Nats, dead: DeadStored) -> Published {
    let Some(kind) = StreamKind::of(dead.source) else {
        return Published::Refused("no stream holds sends to oneself".into());
    };
    let DeadStored { reason, detail, execution, generation, stream_seq, .. } = dead;
    let dead = DeadRaw { reason, detail, execution, generation, stream_seq };
    set_aside_of(nats, kind, dead).await
}

/// Why a raw event is set aside.
#[derive(Clone, Debug)]
pub struct DeadRaw {
    /// Why.
    pub reason: DeadReason,
    /// What is wrong, for people.
    pub detail: String,
    /// For whom it was, where that is known.
    pub execution: Option<ExecutionId>,
    /// The generation of PLED_INGEST.
    pub generation: u64,
    /// Its sequence there.
    pub stream_seq: u64,
}

/// Sets aside a raw event that PLED_INGEST holds, as [`set_aside_stored`] does a message.
pub async fn set_aside_raw(nats: &Nats, dead: DeadRaw) -> Published {
    set_aside_of(nats, StreamKind::Ingest, dead).await
}

async fn set_aside_of(nats: &Nats, kind: StreamKind, dead: DeadRaw) -> Published {
    let stored = match at_from_leader(nats, kind, dead.stream_seq).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::debug!(%error, "a message that is set aside could not be read");
            return Published::Unknown;
        }
    };
    let stored = stored.unwrap_or_else(|| Stored {
        subject: String::new(),
        headers: None,
        payload: Bytes::new(),
        stream_seq: dead.stream_seq,
        time: 0,
        pending: 0,
    });
    let record = DeadRecord {
        reason: dead.reason,
        detail: dead.detail,
        execution: dead.execution,
        stream: kind.word().to_ascii_lowercase(),
        generation: dead.generation,
        stream_seq: dead.stream_seq,
        subject: stored.subject,
        time: stored.time,
        headers: stored.headers.unwrap_or_default(),
        payload: stored.payload,
    };
    set_aside(nats, record).await
}

/// A record of PLED_DEAD.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Its sequence in PLED_DEAD.
    pub seq: u64,
    /// When it was set aside.
    pub time: Millis,
    /// The folder: a [`DeadReason`] in words.
    pub reason: String,
    /// For whom it was.
    pub execution: Option<ExecutionId>,
    /// The stream it came by, its generation and sequence: `events-1-123`.
    pub origin: String,
    /// What is wrong, for people.
    pub detail: String,
    /// The subject under which it was stored.
    pub subject: String,
    /// When it was stored.
    pub stored_at: Millis,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

/// The first records, oldest first, at most `limit`.
///
/// # Errors
/// If there is no answer.
pub async fn list(nats: &Nats, limit: usize) -> Result<Vec<Dead>, ReadError> {
    list_after(nats, 0, limit).await
}

/// The records after the sequence `after` of PLED_DEAD, oldest first, at most `limit`.
///
/// # Errors
/// If there is no answer.
pub async fn list_after(nats: &Nats, after: u64, limit: usize) -> Result<Vec<Dead>, ReadError> {
    let filter = format!("{}.dead.>", nats.names().prefix());
    let mut records = Vec::new();
    let mut next = after + 1;
    while records.len() < limit {
        let stored = next_direct(nats, StreamKind::Dead, &filter, next).await?;
        let Some(stored) = stored else { break };
        next = stored.stream_seq + 1;
        records.extend(record_of(nats.names(), stored));
    }
    Ok(records)
}

/// The record at a sequence of PLED_DEAD.
///
/// # Errors
/// If there is no answer.
pub async fn get(nats: &Nats, seq: u64) -> Result<Option<Dead>, ReadError> {
    let stored = at_from_leader(nats, StreamKind::Dead, seq).await?;
    Ok(stored.and_then(|stored| record_of(nats.names(), stored)))
}

/// Drops a record. `false`: it was not there.
///
/// # Errors
/// If there is no answer.
pub async fn drop_record(nats: &Nats, seq: u64) -> Result<bool, ReadError> {
    match nats.stream(StreamKind::Dead).delete_message(seq).await {
        Ok(dropped) => Ok(dropped),
        Err(_) if get(nats, seq).await?.is_none() => Ok(false),
        Err(error) => Err(ReadError::unavailable(format!("the record {seq}"), error)),
    }
}

/// Where a message that is set aside came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The stream: `events`, `signals`, `timers`, `ingest`.
    pub stream: &'a str,
    /// Its generation.
    pub generation: u64,
    /// The sequence there.
    pub stream_seq: u64,
}

impl Dead {
    /// Where it came from; `None` for what is no record of PLED's.
    #[must_use]
    pub fn origin(&self) -> Option<Origin<'_>> {
        let mut words = self.origin.splitn(3, '-');
        Some(Origin {
            stream: words.next()?,
            generation: number(words.next()?)?,
            stream_seq: number(words.next()?)?,
        })
    }

    /// The rule worker, ingest sequence and index of what a rule emitted.
    #[must_use]
    pub fn emitted_by(&self) -> Option<(&str, u64, u64)> {
        let text = self.headers.get(HeaderName::from_static(SENDER))?.as_str();
        let (rest, index) = text.rsplit_once('/')?;
        let (sender, seq) = rest.rsplit_once('/')?;
        Some((sender, number(seq)?, number(index)?))
    }

    /// Whether it only says what was done with a record by hand.
    #[must_use]
    pub fn is_note(&self) -> bool {
        NOTES.contains(&self.reason.as_str())
    }
}

/// The reasons of notes: a record was sent once more, or dropped.
const NOTES: [&str; 2] = ["retried", "dropped"];

/// What was done with a record by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its message was sent once more.
    Retried,
    /// It was dropped.
    Dropped,
}

/// Takes a record away and leaves a note in its place, which says what became of the message: else
/// nobody could tell it from one that is lost. `false`: the record was not there any more.
///
/// # Errors
/// If there is no answer: settle it again.
pub async fn settle(nats: &Nats, dead: &Dead, fate: Fate, detail: &str) -> Result<bool, ReadError> {
    let word = match fate {
        Fate::Retried => NOTES[0],
        Fate::Dropped => NOTES[1],
    };
    let execution = dead.execution.as_ref().map_or("_", ExecutionId::as_str);
    let mut headers = HeaderMap::new();
    let was = if dead.detail.is_empty() { &dead.reason } else { &dead.detail };
    set_header(
        &mut headers,
        DEAD_DETAIL,
        &shortened(&format!("{detail} (was {}: {was})", dead.reason)),
    );
    set_header(&mut headers, DEAD_SUBJECT, &dead.subject);
    set_header(&mut headers, DEAD_TIME, &dead.stored_at.to_string());
    let name = HeaderName::from_static(SENDER);
    if let Some(sender) = dead.headers.get(name.clone()) {
        headers.insert(name, sender.clone());
    }
    let note = Publication {
        subject: format!("{}.dead.{word}.{execution}.{}", nats.names().prefix(), dead.origin),
        headers,
        payload: Bytes::new(),
        expected: Some(0),
    };
    match nats.publisher(StreamKind::Dead).publish(note).await {
        Published::Stored { .. } | Published::Conflict { .. } => drop_record(nats, dead.seq).await,
        other @ (Published::Full
        | Published::TooLarge
        | Published::Refused(_)
        | Published::Unknown) => {
            let what = format!("the note on record {}", dead.seq);
            Err(ReadError::unavailable(what, format!("{other:?}")))
        }
    }
}

/// How many records there are, by reason; notes are not counted.
///
/// # Errors
/// If there is no answer.
pub async fn counts(nats: &Nats) -> Result<BTreeMap<String, u64>, ReadError> {
    let filter = format!("{}.dead.>", nats.names().prefix());
    let found = nats.stream(StreamKind::Dead).info_with_subjects(&filter).await;
    let mut subjects = found.map_err(|error| ReadError::unavailable(&filter, error))?;
    let mut counts = BTreeMap::new();
    while let Some(found) = subjects.next().await {
        let (subject, _) = found.map_err(|error| ReadError::unavailable(&filter, error))?;
        let words = nats.names().words(&subject).unwrap_or_default();
        if let Some(reason) = words.get(1).filter(|reason| !NOTES.contains(reason)) {
            *counts.entry((*reason).to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// A record was not sent once more.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// Its message is none that can be sent again.
    #[error("{0}")]
    Impossible(String),
    /// The door is full, or does not answer.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Sends the message of a record once more, under an identity of its own: that of the record, so
/// that doing it twice has one effect. What was sent by an execution or emitted by a rule becomes an
/// event, for its own place in the order of its sender has passed.
///
/// # Errors
/// See [`RetryError`].
pub async fn send_again(nats: &Nats, dead: &Dead) -> Result<u64, RetryError> {
    let impossible = |why: &str| RetryError::Impossible(why.to_owned());
    if dead.is_note() {
        return Err(impossible("it is a note, not a record"));
    }
    if dead.headers.get(HeaderName::from_static(DEAD_CUT)).is_some() {
        return Err(impossible("it was too large to be kept whole"));
    }
    let published = nats.names().published(&dead.subject);
    let published = published.ok_or_else(|| impossible("a firing of a timer is not sent again"))?;
    let words = nats.names().words(&published).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, values) in dead.headers.iter() {
        let text: &str = name.as_ref();
        // What the server reads was meant for the record.
        let is_its_own = text.starts_with("Pled-Dead-") || text.starts_with("Nats-");
        if is_its_own || [SENDER, EVENT, REPLY].contains(&text) {
            continue;
        }
        for value in values {
            headers.append(name.clone(), value.clone());
        }
    }
    let own_id = |headers: &mut HeaderMap| {
        set_header(headers, EVENT_ID, &format!("dead-{}", dead.origin));
    };
    let (kind, subject, expected) = match words[..] {
        ["events", execution, ..] => {
            let execution: ExecutionId =
                execution.parse().map_err(|error| RetryError::Impossible(format!("{error}")))?;
            let door = nats.names().event(&execution, "");
            let event_type = published.strip_prefix(&door).unwrap_or_default();
            let plain = event_type.strip_prefix(EMIT);
            let has_id = [EVENT_ID, CE_ID]
                .iter()
                .any(|name| headers.get(HeaderName::from_static(name)).is_some());
            if !has_id {
                own_id(&mut headers);
            }
            let subject = nats.names().event(&execution, plain.unwrap_or(event_type));
            (StreamKind::Events, subject, None)
        }
        ["signals", execution, "send", token] => {
            let event_type = dead
                .headers
                .get(HeaderName::from_static(EVENT))
                .ok_or_else(|| impossible("it does not say which event it is"))?;
            let execution: ExecutionId =
                execution.parse().map_err(|error| RetryError::Impossible(format!("{error}")))?;
            if let Some((sender, _)) = parse_send_token(token) {
                set_header(&mut headers, CE_SOURCE, sender.as_str());
            }
            own_id(&mut headers);
            (StreamKind::Events, nats.names().event(&execution, event_type.as_str()), None)
        }
        ["signals", ..] => (StreamKind::Signals, published.clone(), Some(0)),
        ["ingest", ..] => {
            if headers.get(HeaderName::from_static(EVENT_ID)).is_none() {
                own_id(&mut headers);
            }
            (StreamKind::Ingest, published.clone(), None)
        }
        _ => return Err(impossible("nothing is known of such a message")),
    };
    let payload = dead.payload.clone();
    let publication = Publication { subject, headers, payload, expected };
    Ok(stored(nats.publisher(kind).publish(publication).await)?)
}

/// The record that is stored; `None` for what is none.
#[must_use]
pub fn record_of(names: &Names, stored: Stored) -> Option<Dead> {
    let words = names.words(&stored.subject)?;
    let [_, reason, execution, origin] = words[..] else {
        return None;
    };
    let header = |name: &'static str| stored.header(name).unwrap_or_default().to_owned();
    Some(Dead {
        seq: stored.stream_seq,
        time: stored.time,
        reason: reason.to_owned(),
        execution: execution.parse().ok().filter(|_| execution != "_"),
        origin: origin.to_owned(),
        detail: header(DEAD_DETAIL),
        subject: header(DEAD_SUBJECT),
        stored_at: header(DEAD_TIME).parse().unwrap_or_default(),
        payload: stored.payload.clone(),
        headers: stored.headers.unwrap_or_default(),
    })
}

fn shortened(detail: &str) -> String {
    const CHARACTERS: usize = 1_000;
    detail.chars().take(CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value_bytes: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("Pled-Event-Id", "x".repeat(value_bytes));
        headers.insert("Nats-Msg-Id", "1");
        headers
    }

    #[test]
    fn what_fits_is_set_aside_whole_but_for_the_servers_headers() {
        let (kept, payload) = fitting(&headers(3), Bytes::from_static(b"12345"), 1_000);

        assert_eq!(payload, "12345");
        assert_eq!(kept.len(), 1);
        assert!(kept.get("Pled-Event-Id").is_some_and(|id| id.as_str() == "xxx"));
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_how_large_it_was() {
        for (header_bytes, keeps_header) in [(100, true), (900, false)] {
            let original = Bytes::from(vec![b'1'; 990]);
            let (kept, payload) = fitting(&headers(header_bytes), original, 1_000);

            let room = if keeps_header { 1_000 - header_bytes } else { 1_000 };
            assert!(payload.len() <= room && payload.len() + 50 > room.min(990));
            assert_eq!(kept.get("Pled-Event-Id").is_some(), keeps_header);
            let whole: usize = kept.get(DEAD_CUT).unwrap().as_str().parse().unwrap();
            assert!(whole >= 990 + header_bytes, "{whole}");
        }
    }
}
