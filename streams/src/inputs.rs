//! What a partition's owner reads: the input streams, in order.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use pled_engine::message::{Message, Source};
use pled_engine::partition::{Malformed, StreamFacts, Streams};

use crate::codec::{Stored, decode};
use crate::connection::Nats;
use crate::read::{ReadError, StreamState, at_from_leader, next_direct, stream_state};
use crate::reader::{Read, Reader};
use crate::subject::StreamKind;
use crate::topology::generation_of;

/// A message of an input stream.
#[derive(Debug)]
pub struct Arrival {
    /// The stream.
    pub source: Source,
    /// Its sequence there.
    pub stream_seq: u64,
    /// How many more were pending when it was delivered; 0 says that the stream's end is known to
    /// be at least here.
    pub pending: u64,
    /// What it is.
    pub message: Result<Message, Malformed>,
}

/// What a subscription gives.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "an arrival is the rule, and a box each is dear")]
pub enum Arriving {
    /// The next message.
    Arrival(Arrival),
    /// Nothing is pending: everything of the partition up to this sequence was given before.
    CaughtUp {
        /// A sequence that the stream has reached.
        stream_last: u64,
    },
}

/// Reads one input of one partition in order until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    nats: Nats,
    source: Source,
    reader: Reader,
}

/// Reads the messages of a partition from the sequence `from` on. After a loss of the connection
/// or of the consumer it goes on by itself, with the next sequence. While nothing arrives, news
/// that it is caught up comes about four times a second.
#[must_use]
pub fn subscribe(nats: &Nats, partition: u16, source: Source, from: u64) -> Subscription {
    let kind = StreamKind::of(source).unwrap_or(StreamKind::Events);
    let filter = nats.names().input(source, partition);
    Subscription { nats: nats.clone(), source, reader: Reader::start(nats, kind, filter, from) }
}

impl Subscription {
    /// The next message or news. Waits for as long as it takes; safe to drop before.
    pub async fn next(&mut self) -> Arriving {
        let read = self.reader.next().await;
        self.arriving(read)
    }

    /// What is there already.
    pub fn try_next(&mut self) -> Option<Arriving> {
        let read = self.reader.try_next()?;
        Some(self.arriving(read))
    }

    fn arriving(&self, read: Read) -> Arriving {
        match read {
            Read::CaughtUp(stream_last) => Arriving::CaughtUp { stream_last },
            Read::Message(stored) => Arriving::Arrival(Arrival {
                source: self.source,
                stream_seq: stored.stream_seq,
                pending: stored.pending,
                message: decode(
                    self.nats.names(),
                    self.source,
                    self.nats.generation(self.source),
                    &stored,
                ),
            }),
        }
    }
}

/// The message of an input stream at a sequence, from the leader; `None` if it is not there.
///
/// # Errors
/// If the leader does not answer.
pub async fn get(
    nats: &Nats,
    source: Source,
    stream_seq: u64,
) -> Result<Option<Result<Message, Malformed>>, ReadError> {
    let Some(kind) = StreamKind::of(source) else {
        return Ok(None);
    };
    let stored = at_from_leader(nats, kind, stream_seq).await?;
    Ok(stored.map(|stored| decode(nats.names(), source, nats.generation(source), &stored)))
}

/// The first message of a partition at a sequence or later, from any replica; `None`: there is
/// none, or not yet.
///
/// # Errors
/// If there is no answer.
pub async fn first_from(
    nats: &Nats,
    source: Source,
    partition: u16,
    from: u64,
) -> Result<Option<Stored>, ReadError> {
    let Some(kind) = StreamKind::of(source) else { return Ok(None) };
    next_direct(nats, kind, &nats.names().input(source, partition), from).await
}

/// How many messages of a partition there are at a sequence or later.
///
/// # Errors
/// If there is no answer.
pub async fn count_from(
    nats: &Nats,
    source: Source,
    partition: u16,
    from: u64,
) -> Result<u64, ReadError> {
    let Some(kind) = StreamKind::of(source) else { return Ok(0) };
    let filter = nats.names().input(source, partition);
    let config = Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
        ack_policy: AckPolicy::None,
        filter_subject: filter.clone(),
        inactive_threshold: Duration::from_secs(5),
        num_replicas: 1,
        memory_storage: true,
        ..Config::default()
    };
    let consumer = nats.stream(kind).create_consumer(config).await;
    let consumer = consumer.map_err(|error| ReadError::unavailable(filter, error))?;
    let info = consumer.cached_info();
    // Where the server does not hear of it, it drops it by itself.
    let _ = nats.stream(kind).delete_consumer(&info.name).await;
    Ok(info.num_pending)
}

/// Where the input streams and the journal are, from their leaders.
///
/// # Errors
/// If one of them does not answer.
pub async fn facts(nats: &Nats) -> Result<Streams, ReadError> {
    let (events, signals, timers, journal) = futures::try_join!(
        stream_state(nats, StreamKind::Events),
        stream_state(nats, StreamKind::Signals),
        stream_state(nats, StreamKind::Timers),
        stream_state(nats, StreamKind::Journal),
    )?;
    let facts = |state: &StreamState| StreamFacts {
        generation: generation_of(&state.metadata),
        first: state.first_seq,
        last: state.last_seq,
    };
    let streams = Streams {
        events: facts(&events),
        signals: facts(&signals),
        timers: facts(&timers),
        journal: facts(&journal),
    };
    nats.learn_generation(Source::Events, streams.events.generation);
    nats.learn_generation(Source::Signals, streams.signals.generation);
    nats.learn_generation(Source::Timers, streams.timers.generation);
    Ok(streams)
}
