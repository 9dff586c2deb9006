//! What goes into a door and what comes out of it.

use std::sync::Arc;

use crate::id::ExecutionId;
use crate::partition::{DeadReason, Malformed, Position, Published, StreamFacts};
use crate::rule::RawEvent;
use crate::template::Template;

use super::emit::Emitted;

/// Names one output that is answered; unique within one life of a door.
pub type Op = u64;

/// What a door is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which ingest partition.
    pub partition: u16,
    /// Who owns it: the worker's id, unique among living processes.
    pub worker: Arc<str>,
    /// How many events may be open before no more are read.
    pub open_max: usize,
    /// How many bytes of payloads may wait before no more events are read.
    pub waiting_bytes: usize,
    /// How often the position is written at most, in milliseconds.
    pub position_every_ms: u64,
    /// How long before the end of the lease the partition is given up, in milliseconds.
    pub lease_margin_ms: u64,
    /// A rule that is left out, to show that the simulation finds what comes of it.
    #[cfg(feature = "mutations")]
    #[doc(hidden)]
    pub mutation: Option<Mutation>,
}

/// One rule of the door left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Messages for one execution go out together.
    AllAtOnce,
    /// A message without an answer counts as stored.
    UnknownIsStored,
    /// The position passes what is not stored yet.
    PositionEarly,
}

impl Config {
    /// The defaults for `partition`, owned by `worker`.
    #[must_use]
    pub fn new(partition: u16, worker: Arc<str>) -> Self {
        Self {
            partition,
            worker,
            open_max: 1_000,
            waiting_bytes: 32 << 20,
            position_every_ms: 100,
            lease_margin_ms: 1_000,
            #[cfg(feature = "mutations")]
            mutation: None,
        }
    }

    /// Whether a rule is left out.
    #[cfg(feature = "mutations")]
    pub(super) fn leaves_out(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// Whether a rule is left out: none is.
    #[cfg(not(feature = "mutations"))]
    #[expect(clippy::unused_self, reason = "as where one can be")]
    pub(super) const fn leaves_out(&self, _: Mutation) -> bool {
        false
    }
}

/// What happens to a door.
#[derive(Debug)]
pub enum Input {
    /// The lease is held until this moment of the own monotonic clock (taken or renewed).
    LeaseHeld {
        /// In milliseconds.
        until: u64,
    },
    /// The lease is gone, or another's.
    LeaseLost,
    /// Hand the partition over.
    Drain,
    /// The connection was made again, to a server of this id (it may be the same).
    Connected {
        /// The server's id.
        server: Arc<str>,
    },
    /// The newest version of every template that has rules, by name.
    Templates(Arc<[Arc<Template>]>),
    /// A raw event.
    Arrived {
        /// Its sequence.
        stream_seq: u64,
        /// What it is.
        event: Result<RawEvent, Malformed>,
    },
    /// Nothing of the partition is pending up to here.
    CaughtUp {
        /// A sequence that the stream has reached.
        stream_last: u64,
    },
    /// The answer to an output.
    Answer {
        /// Which.
        op: Op,
        /// What came of it.
        answer: Answer,
    },
    /// Time passed.
    Tick,
}

/// What is to be done. Outputs of one call are to be started in order; those with an `op` are
/// answered once.
#[derive(Debug)]
pub enum Output {
    /// Read the position from the stream's leader. Answer: [`Answer::Position`].
    ReadPosition {
        /// Which.
        op: Op,
    },
    /// Write the position, expecting this revision. Answer: [`Answer::Published`].
    WritePosition {
        /// Which.
        op: Op,
        /// What to write.
        position: Position,
        /// The revision that is there.
        revision: u64,
    },
    /// Read where PLED_INGEST is. Answer: [`Answer::Stream`].
    ReadStream {
        /// Which.
        op: Op,
    },
    /// Deliver the events of this partition from `from` on, in order.
    Subscribe {
        /// The first sequence.
        from: u64,
    },
    /// Publish a message to PLED_EVENTS. Answer: [`Answer::Published`].
    Emit {
        /// Which.
        op: Op,
        /// What the receiver knows this partition by.
        sender: Arc<str>,
        /// What.
        emitted: Arc<Emitted>,
    },
    /// Set an event aside. Answer: [`Answer::Published`].
    SetAside {
        /// Which.
        op: Op,
        /// What and why.
        aside: Aside,
        /// Whether that was tried before.
        again: bool,
    },
    /// Something cannot go on and is tried again with pauses: for the log.
    Stuck {
        /// What stands in the way.
        reason: String,
    },
    /// All is finished and written: release the lease. Nothing follows.
    Release,
    /// The partition is given up whole; a new door must be made to take it again.
    Dropped {
        /// Why, for the log.
        reason: String,
    },
    /// The stream contradicts the position: publish nothing, stop the worker, say this.
    Halt {
        /// What was found and what to do.
        reason: String,
    },
}

/// What came of an output.
#[derive(Debug)]
pub enum Answer {
    /// The position and its revision; `None` if the key is not there.
    Position(Option<(Position, u64)>),
    /// Where PLED_INGEST is.
    Stream {
        /// Its generation and ends.
        facts: StreamFacts,
        /// Where each generation after the first begins.
        begins: Vec<u64>,
    },
    /// How a publish ended.
    Published(Published),
    /// A read failed or timed out: nothing is known.
    Failed,
}

/// An event that is to be set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Aside {
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

/// In which generation the message at a sequence was stored; `begins`: where each after the first
/// begins. One that begins at or below it has written it anew, for what stood there was lost.
#[must_use]
pub fn generation_at(begins: &[u64], stream_seq: u64) -> u64 {
    let begun = begins.iter().rposition(|begins| *begins <= stream_seq);
    begun.and_then(|place| u64::try_from(place).ok()).map_or(1, |place| place + 2)
}
