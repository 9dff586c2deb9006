//! The state of one execution: the fold of its journal.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::effect::Timeouts;
use crate::entry::Outcome;
use crate::id::{EventType, ExecutionId, Hash, TemplateRef, Token};
use crate::message::{Failure, Millis};
use crate::value::{Object, Value};

/// Where an execution is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It takes events.
    Running,
    /// It records events and takes them when it is resumed.
    Paused,
    /// It reached a final state.
    Done,
    /// It cannot go on.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was ended from outside without any of its own exit.
    Terminated,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Paused, Self::Done, Self::Failed, Self::Cancelled, Self::Terminated];

    /// Whether nothing but results of committed work can change it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Running | Self::Paused => false,
            Self::Done | Self::Failed | Self::Cancelled | Self::Terminated => true,
        }
    }

    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }
}

/// An execution as its newest journal entry left it.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The sequence of its newest entry; 0 before the first.
    pub seq: u64,
    /// The hash of that entry; [`Hash::ZERO`] before the first.
    pub hash: Hash,
    /// The time of that entry.
    pub at: Millis,
    /// The version it is pinned to; `None` before the first entry.
    pub template: Option<TemplateRef>,
    /// Where it is in its life.
    pub status: Status,
    /// The rest.
    pub state: State,
}

impl Execution {
    /// One that has no entry yet.
    #[must_use]
    pub fn unborn(id: ExecutionId) -> Self {
        Self {
            id,
            seq: 0,
            hash: Hash::ZERO,
            at: 0,
            template: None,
            status: Status::Running,
            state: State::default(),
        }
    }
}

/// What a journal entry carries as `state`. Serialises to the contract of DESIGN section 10.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Ids of the active leaf states, in document order.
    pub configuration: Vec<Arc<str>>,
    /// The data.
    pub context: Object,
    /// For each history state that was recorded: what it restores.
    #[serde(default)]
    pub history: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Timers that are set.
    #[serde(default)]
    pub timers: BTreeMap<Token, Timer>,
    /// What came while paused, in order, as the causes that they are of their entries.
    #[serde(default)]
    pub deferred: Vec<Value>,
    /// The pause, if it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The last event ids that were taken, oldest first.
    #[serde(default)]
    pub ids: Vec<TakenId>,
    /// Tasks that are outstanding, those that wait for a retry included.
    #[serde(default)]
    pub tasks: BTreeMap<Token, Task>,
    /// Invocations with `each` that are outstanding, by their ids: what is not in `tasks` of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fan_outs: BTreeMap<Arc<str>, FanOut>,
    /// What undoes the invocations that succeeded, in the order in which they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensations: Vec<Compensation>,
    /// The compensation that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensating: Option<Compensating>,
    /// Tasks that were given up while a worker had them, and whose success is to be undone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given_up: BTreeMap<Token, GivenUp>,
    /// The status that it will have when its compensations have run: it takes no events any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Status>,
    /// The last message taken of each input stream.
    #[serde(default)]
    pub taken: Taken,
    /// For each sender, the last (entry, index) taken.
    #[serde(default)]
    pub senders: BTreeMap<Arc<str>, (u64, u64)>,
    /// Whose child it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The message that started it: what came before it never reached this execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<Born>,
    /// What needs a person: unhandled errors, by the place where they arose.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incidents: BTreeMap<Token, Incident>,
    /// The result, once done.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExecutionError>,
}

/// Generation and sequence of the last message taken, by input stream; `[0, 0]` before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Of PLED_EVENTS.
    pub events: (u64, u64),
    /// Of PLED_SIGNALS.
    pub signals: (u64, u64),
    /// Of PLED_TIMERS.
    pub timers: (u64, u64),
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Millis,
    /// Whether the timers rest too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_timers: bool,
}

/// Whose child an execution is, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent.
    pub execution: ExecutionId,
    /// The task that this execution is of it.
    pub task: Token,
    /// The attempt.
    pub attempt: u32,
    /// How many ancestors this execution has.
    pub depth: u32,
}

/// The event that started an execution, written `[generation, sequence, time, outcome]`; of a child
/// the signal of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born(
    /// The generation of its stream.
    pub u64,
    /// Its sequence there.
    pub u64,
    /// Its time.
    pub Millis,
    /// What became of it, the answer to its repeats.
    pub Outcome,
);

/// An event id that was taken, with the answer that it got: `<16 hex>:<entry>:<outcome letter>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenId {
    /// The first 8 bytes of the id's SHA-256.
    pub hash: u64,
    /// The entry that took it.
    pub seq: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl TakenId {
    /// What is remembered of an event id.
    #[must_use]
    pub fn hash_of(id: &str) -> u64 {
        let hash = Hash::of(id.as_bytes());
        hash.as_bytes()[..8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

impl fmt::Display for TakenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.outcome {
            Outcome::Applied => 'a',
            Outcome::Ignored => 'i',
            Outcome::Deferred => 'd',
            Outcome::Rejected => 'r',
        };
        write!(formatter, "{:016x}:{}:{letter}", self.hash, self.seq)
    }
}

impl Serialize for TakenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TakenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = (|| {
            let (hash, rest) = text.split_once(':')?;
            let (seq, letter) = rest.split_once(':')?;
            let outcome = match letter {
                "a" => Outcome::Applied,
                "i" => Outcome::Ignored,
                "d" => Outcome::Deferred,
                "r" => Outcome::Rejected,
                _ => return None,
            };
            Some(Self {
                hash: u64::from_str_radix(hash, 16).ok()?,
                seq: seq.parse().ok()?,
                outcome,
            })
        })();
        parsed.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no taken event id")))
    }
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    /// When it is due.
    pub due: Millis,
    /// How many timers without delay, each set by the one before, led to this one, itself included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub chain: u32,
    /// What it is for.
    #[serde(flatten)]
    pub purpose: TimerPurpose,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TimerPurpose {
    /// An `after` of an active state.
    After {
        /// The state's id.
        state: Arc<str>,
        /// The delay as the template names it; the event is `after.<delay>.<state>`.
        delay: Arc<str>,
    },
    /// A delayed `send` or `raise`.
    Send {
        /// The id by which it can be cancelled or replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Arc<str>>,
        /// For whom; `None` is the execution itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<ExecutionId>,
        /// What happened.
        event: EventType,
        /// Its payload.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        data: Value,
    },
    /// The next attempt of a task.
    Retry {
        /// The task.
        task: Token,
    },
    /// A task's schedule-to-close.
    Close {
        /// The task.
        task: Token,
    },
    /// A task's schedule-to-start.
    Start {
        /// The task.
        task: Token,
        /// The attempt that has to be picked up.
        attempt: u32,
    },
}

/// A task that is outstanding: work of a worker, or a child execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The named work; of a child `template:<name>@<version>`.
    pub action: Arc<str>,
    /// The queue, where it is not the action's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Arc<str>>,
    /// The invocation that waits for it; `None` for fire-and-forget.
    pub invocation: Option<Arc<str>>,
    /// Which element of the invocation's `each` it is, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The invocation that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensates: Option<Arc<str>>,
    /// The id of the state whose `invoke` or action started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Arc<str>>,
    /// The attempt that is outstanding or waits, from 1.
    pub attempt: u32,
    /// When the attempt that waits will be handed out; `None` when it was.
    pub not_before: Option<Millis>,
    /// When schedule-to-close ends.
    pub deadline: Option<Millis>,
    /// The arguments.
    pub input: Value,
    /// How it is retried; absent: one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Time-outs.
    #[serde(default, skip_serializing_if = "Timeouts::is_none")]
    pub timeout: Timeouts,
    /// Data for people.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub meta: Value,
    /// Set where it is a child execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Child>,
}

/// What a task has that is a child execution. Its `input` is kept only where it may be retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The entry and index of the effect that starts the current attempt: [`ExecutionId::child`].
    pub place: Token,
    /// Whether the parent's end leaves it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandon: bool,
}

/// An invocation with `each`: the elements that are not handed out yet, and the results so far.
/// What is between stands in the tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FanOut {
    /// How many elements there are.
    pub count: u32,
    /// The inputs of the last elements, which wait.
    pub waiting: VecDeque<Value>,
    /// Index and result of those that ended, in the order in which they did.
    pub results: Vec<(u32, Value)>,
}

/// What undoes an invocation that succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compensation {
    /// The invocation.
    pub invocation: Arc<str>,
    /// The action's name.
    pub action: Arc<str>,
    /// The arguments.
    pub input: Value,
    /// Whether it is to be run, if it does not run already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub due: bool,
}

/// The compensation that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compensating {
    /// Its task.
    pub task: Token,
    /// Its place in [`State::compensations`].
    pub at: usize,
    /// Whether the template is told when all that are due have run.
    pub announce: bool,
}

/// A task that was given up while a worker had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The invocation that it was for.
    pub invocation: Arc<str>,
    /// The attempt that was outstanding.
    pub attempt: u32,
}

/// How a task is retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// All attempts, the first included.
    pub max_attempts: u32,
    /// The pause before the second attempt, in milliseconds.
    #[serde(default = "initial_interval")]
    pub initial_interval_ms: i64,
    /// By what the pause grows from one attempt to the next.
    #[serde(default = "backoff")]
    pub backoff: f64,
    /// The longest pause.
    #[serde(default = "max_interval")]
    pub max_interval_ms: i64,
    /// Codes after which no further attempt is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_retryable: Vec<Arc<str>>,
}

fn initial_interval() -> i64 {
    1_000
}

fn backoff() -> f64 {
    2.0
}

fn max_interval() -> i64 {
    60_000
}

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The event that nothing handled, `error.invoke.charge`.
    pub event: Arc<str>,
    /// When.
    pub at: Millis,
    /// What went wrong.
    pub failure: Failure,
    /// The task that failed, for a person who has it tried once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// Why an execution failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// `loop`, or the event that nothing handled.
    pub code: Arc<str>,
    /// For people.
    pub message: String,
}
