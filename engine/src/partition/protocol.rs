//! Inputs and outputs of a partition, as values.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::TaskEffect;
use crate::entry::JournalEntry;
use crate::execution::{State, Status};
use crate::id::{EventType, ExecutionId, Hash, TemplateRef, TemplateSelector, Token};
use crate::message::{ChildCancel, ChildStart, Message, Millis, Source, TaskResult};
use crate::template::Template;
use crate::value::Value;

/// Names one output that is answered; unique within one life of a partition. For the answer to 0
/// nothing waits.
pub type Op = u64;

/// The time, as the shell passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The worker's own monotonic clock, in milliseconds: for leases and pauses.
    pub monotonic: u64,
    /// The server's wall clock as well as the worker knows it: for firing timers in-process.
    pub wall: Millis,
}

/// What happens to a partition.
#[derive(Debug)]
pub enum Input {
    /// The lease is held until this moment of the own monotonic clock (taken or renewed).
    LeaseHeld {
        /// In milliseconds.
        until: u64,
    },
    /// The lease is gone, or another's.
    LeaseLost,
    /// Hand the partition over: finish what is in flight, write the position, release.
    Drain,
    /// The connection was made again, to a server of this id (it may be the same).
    Connected {
        /// The server's id.
        server: Arc<str>,
    },
    /// The connection is down: what is in flight is unknown.
    Disconnected,
    /// A message of a subscribed input stream.
    Arrived {
        /// The stream.
        source: Source,
        /// Its sequence there.
        stream_seq: u64,
        /// What it is.
        message: Result<Message, Malformed>,
    },
    /// Nothing is pending for a subscription: the stream's end is known to be at least here.
    CaughtUp {
        /// The stream.
        source: Source,
        /// The last sequence of the whole stream, as told with the news.
        stream_last: u64,
    },
    /// The answer to an output.
    Answer {
        /// Which.
        op: Op,
        /// What came of it.
        answer: Answer,
    },
    /// Time passed; about every 10 ms, and at [`crate::partition`]'s next due time.
    Tick,
}

/// A stored message is no message: where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// The execution, if the subject names one.
    pub execution: Option<ExecutionId>,
    /// The folder in PLED_DEAD.
    pub reason: DeadReason,
    /// What is wrong, for people.
    pub detail: String,
    /// Where the outcome is wanted.
    pub reply: Option<Arc<str>>,
}

/// Why a message was set aside: the second word of its subject in PLED_DEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// Not JSON, a bad header, a bad subject.
    Malformed,
    /// No such execution, and no template named to start it.
    UnknownExecution,
    /// The template to start is not registered.
    UnknownTemplate,
    /// A type that the public door refuses.
    ReservedType,
    /// A rule's key is no execution id.
    BadKey,
    /// No rule matched.
    Unmatched,
    /// After the end of the execution.
    Closed,
    /// It cannot be decoded or evaluated within its bounds.
    Poison,
    /// Its entry would be too large.
    TooLarge,
    /// Too many events wait for a resume.
    DeferredFull,
}

impl DeadReason {
    /// The word in subjects and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownExecution => "unknown-execution",
            Self::UnknownTemplate => "unknown-template",
            Self::ReservedType => "reserved-type",
            Self::BadKey => "bad-key",
            Self::Unmatched => "unmatched",
            Self::Closed => "closed",
            Self::Poison => "poison",
            Self::TooLarge => "too-large",
            Self::DeferredFull => "deferred-full",
        }
    }
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
    /// Write the position, expecting this revision. Answer: [`Answer::Published`], the sequence
    /// being the new revision.
    WritePosition {
        /// Which.
        op: Op,
        /// What to write.
        position: Position,
        /// The revision that is there.
        revision: u64,
    },
    /// Read where the streams are. Answer: [`Answer::Streams`].
    ReadStreams {
        /// Which.
        op: Op,
    },
    /// Deliver the messages of this partition from `from` on, in order; instead of any earlier
    /// subscription to the stream.
    Subscribe {
        /// The stream.
        source: Source,
        /// The first sequence.
        from: u64,
    },
    /// Read one message of an input stream. Answer: [`Answer::Message`].
    ReadMessage {
        /// Which.
        op: Op,
        /// The stream.
        source: Source,
        /// The sequence.
        stream_seq: u64,
    },
    /// Read the newest entry of an execution. Answer: [`Answer::Entry`].
    ReadEntry {
        /// Which.
        op: Op,
        /// The execution.
        execution: ExecutionId,
        /// Whether the stream's leader must say it; else any replica may.
        leader: bool,
    },
    /// Read the entries of an execution from its base to the one before the newest that was read.
    /// Answer: [`Answer::Entries`].
    ReadEntries {
        /// Which.
        op: Op,
        /// The execution.
        execution: ExecutionId,
        /// The stream sequence of the base.
        base: u64,
    },
    /// Find a template version. Answer: [`Answer::Template`].
    ReadTemplate {
        /// Which.
        op: Op,
        /// Which one.
        selector: TemplateSelector,
    },
    /// Look, at the stream's leader, whether something is there. Answer: [`Answer::Found`].
    Find {
        /// Which.
        op: Op,
        /// What.
        find: Find,
    },
    /// Publish, and answer with [`Answer::Published`].
    Publish {
        /// Which.
        op: Op,
        /// What.
        publish: Publish,
    },
    /// Publish an outcome on a reply subject (core NATS). No answer.
    Reply(Reply),
    /// Write an execution's snapshot behind, the newest winning. No answer.
    Snapshot(Box<Snapshot>),
    /// An execution, or a message of none, cannot go on and is tried again with pauses: for the log
    /// and an alarm. Said once until it goes on. No answer.
    Stuck {
        /// Which, where it is known.
        execution: Option<ExecutionId>,
        /// What stands in the way.
        reason: String,
    },
    /// All is finished and written: release the lease. Nothing follows.
    Release,
    /// The partition is given up whole; a new one must be made to take it again.
    Dropped {
        /// Why, for the log.
        reason: String,
    },
    /// The streams contradict the position: publish nothing, stop the worker, say this.
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
    /// Where the streams are.
    Streams(Streams),
    /// The newest entry, if there is one.
    Entry(Option<Box<Loaded>>),
    /// Entries in order, from the base on.
    Entries(Vec<Loaded>),
    /// The message; `None` if it is not there any more.
    Message(Option<Box<Result<Message, Malformed>>>),
    /// The template; `None` if there is none. An error: it is there but cannot be used.
    Template(Result<Option<Arc<Template>>, String>),
    /// Whether it is there.
    Found(bool),
    /// How a publish ended.
    Published(Published),
    /// A read failed or timed out: nothing is known, ask again.
    Failed,
}

/// How a publish ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is stored, at this stream sequence.
    Stored {
        /// The sequence.
        stream_seq: u64,
    },
    /// The expected sequence was wrong (10071, 10164): with expected 0, it is there already.
    Conflict {
        /// The last sequence of the subject, where the server said it.
        last: Option<u64>,
    },
    /// The stream is full (10077).
    Full,
    /// It is larger than the server takes.
    TooLarge,
    /// The server refuses it for another reason.
    Refused(String),
    /// No answer: it may be stored. Read back.
    Unknown,
}

/// A journal entry as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its stream sequence.
    pub stream_seq: u64,
    /// The entry.
    pub entry: JournalEntry,
}

/// Something whose presence is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// An attempt of a task in PLED_TASKS.
    Task {
        /// Its execution.
        execution: ExecutionId,
        /// Its queue.
        queue: Arc<str>,
        /// The task.
        task: Token,
        /// The attempt.
        attempt: u32,
    },
    /// The result of an attempt in PLED_SIGNALS.
    Result {
        /// Its execution.
        execution: ExecutionId,
        /// The task.
        task: Token,
        /// The attempt.
        attempt: u32,
    },
}

/// Something to be published.
#[derive(Clone, Debug)]
pub enum Publish {
    /// A journal entry.
    Entry {
        /// Its execution.
        execution: ExecutionId,
        /// The stream sequence of the entry before; 0 for the first.
        expected: u64,
        /// Its RFC 8785 bytes.
        bytes: Arc<[u8]>,
    },
    /// An attempt of a task, expecting that its subject is empty.
    Task(Box<TaskMessage>),
    /// A timer's native schedule; setting it again is harmless.
    TimerSet {
        /// Its execution.
        execution: ExecutionId,
        /// The timer.
        timer: Token,
        /// When it is due.
        due: Millis,
    },
    /// Take back a timer's schedule; it may be gone already.
    TimerCancel {
        /// Its execution.
        execution: ExecutionId,
        /// The timer.
        timer: Token,
    },
    /// Fire a timer now and take back its schedule, in one message.
    TimerFire {
        /// Its execution.
        execution: ExecutionId,
        /// The timer.
        timer: Token,
        /// When it was due.
        due: Millis,
    },
    /// An event for another execution, expecting that its subject is empty.
    Send {
        /// Who sends.
        sender: ExecutionId,
        /// The effect.
        token: Token,
        /// For whom.
        to: ExecutionId,
        /// What happened.
        event: EventType,
        /// Its payload.
        data: Value,
    },
    /// The start of a child, expecting that its subject is empty.
    ChildStart {
        /// The child.
        child: ExecutionId,
        /// What it is told.
        start: Box<ChildStart>,
    },
    /// The wish that a child ends, expecting that its subject is empty.
    ChildCancel {
        /// The child.
        child: ExecutionId,
        /// What it is told.
        cancel: ChildCancel,
    },
    /// How a child ended, expecting that its subject is empty.
    ChildDone {
        /// The parent.
        parent: ExecutionId,
        /// What it is told.
        result: TaskResult,
    },
    /// A message that is set aside, expecting that its subject is empty. The shell copies the
    /// stored message with its headers.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What is wrong, for people.
        detail: String,
        /// For whom it was.
        execution: Option<ExecutionId>,
        /// The stream it came by.
        source: Source,
        /// That stream's generation.
        generation: u64,
        /// Its sequence there.
        stream_seq: u64,
    },
}

/// What a worker gets.
#[derive(Clone, Debug)]
pub struct TaskMessage {
    /// Its execution.
    pub execution: ExecutionId,
    /// The template version.
    pub template: TemplateRef,
    /// The attempt.
    pub effect: TaskEffect,
    /// The time of the entry that hands it out.
    pub at: Millis,
}

/// The outcome of an event, for its reply subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    /// The reply subject.
    #[serde(skip)]
    pub subject: Arc<str>,
    /// The execution, where it is known.
    pub execution: Option<ExecutionId>,
    /// The entry that took the event, where there is one.
    pub seq: Option<u64>,
    /// `applied`, `ignored`, `deferred`, `rejected`, `exists`, `closed`, `unknown-execution`, or
    /// another reason of PLED_DEAD.
    pub outcome: Arc<str>,
    /// The execution's status.
    pub status: Option<Status>,
    /// Its active leaf states.
    pub configuration: Vec<Arc<str>>,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether the event had been taken before.
    pub repeat: bool,
}

/// What PLED_SNAPSHOTS holds of an execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The execution (the key, not in the value).
    #[serde(skip)]
    pub execution: Option<ExecutionId>,
    /// The entry it is of.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Hash,
    /// Its time.
    pub at: Millis,
    /// The status.
    pub status: Status,
    /// The template version.
    pub template: TemplateRef,
    /// The state.
    pub state: State,
}

/// The key `position.<kind>.<p>` in PLED_LOCKS: how far each input is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The fence: raised at every taking over.
    pub epoch: u64,
    /// Who owns the partition.
    pub owner: String,
    /// How far the inputs are done, by stream name; the engine's are `events`, `signals`,
    /// `timers`, the rule worker's is `ingest`.
    pub inputs: std::collections::BTreeMap<String, InputPosition>,
    /// The last acknowledged stream sequence in PLED_JOURNAL.
    pub journal: u64,
    /// The id of the server that was last compared with.
    pub server: String,
}

/// How far one input is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPosition {
    /// The stream's generation.
    pub generation: u64,
    /// All below is done, but for `open`. The first sequence is 1.
    pub next: u64,
    /// Sequences below `next` that are not done, ascending, at most 1,000.
    pub open: Vec<u64>,
    /// What of `open` is to be set aside, ascending: the verdict stands before it is acted upon, for
    /// whoever owns the partition then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<AsideVerdict>,
}

/// A message that is to be set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideVerdict {
    /// Its sequence.
    pub seq: u64,
    /// Why.
    pub reason: DeadReason,
    /// What is wrong, for people.
    pub detail: String,
}

/// Where the streams are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// PLED_EVENTS.
    pub events: StreamFacts,
    /// PLED_SIGNALS.
    pub signals: StreamFacts,
    /// PLED_TIMERS.
    pub timers: StreamFacts,
    /// PLED_JOURNAL.
    pub journal: StreamFacts,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// Its generation.
    pub generation: u64,
    /// Its first sequence.
    pub first: u64,
    /// Its last sequence.
    pub last: u64,
}
