//! What arrives at an execution.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{EventType, ExecutionId, TemplateSelector, Token};
use crate::value::Value;

/// Milliseconds since the epoch, from a stream's timestamps.
pub type Millis = i64;

/// Where a cause of a step came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// PLED_EVENTS, the public door.
    Events,
    /// PLED_SIGNALS, the internal door.
    Signals,
    /// PLED_TIMERS, fired.
    Timers,
    /// A send of the execution to itself, taken in the step that sent it.
    #[serde(rename = "self")]
    Own,
}

impl Source {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Signals => "signals",
            Self::Timers => "timers",
            Self::Own => "self",
        }
    }
}

/// The input streams of a partition, in the order in which arrays here keep them.
pub const INPUTS: [Source; 3] = [Source::Events, Source::Signals, Source::Timers];

/// A typed input addressed to one execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The execution it is for.
    pub execution: ExecutionId,
    /// The stream it came by.
    pub source: Source,
    /// The stream's generation: raised when a stream was recovered after a loss.
    pub generation: u64,
    /// Its sequence in the stream; 0 for [`Source::Own`].
    pub stream_seq: u64,
    /// Its stream timestamp; for a timer its due time, or the stream timestamp where that is earlier.
    pub time: Millis,
    /// Where the outcome is wanted (`Pled-Reply`).
    pub reply: Option<Arc<str>>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A fact from outside (stream events), or one that a rule emitted.
    Event(Event),
    /// A task's attempt ended (stream signals, kind `result`).
    Result(TaskResult),
    /// Another execution sent an event, or this one did to itself without delay.
    Send(Send),
    /// A parent starts this execution (stream signals, kind `child`).
    ChildStart(ChildStart),
    /// The parent asks this execution to end.
    ChildCancel(ChildCancel),
    /// A child of the execution ended, or could not be started.
    ChildDone(TaskResult),
    /// A timer of the execution came due.
    Fired {
        /// The timer, which carries the entry that set it.
        timer: Token,
    },
}

/// A fact from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened. A start is `pled.init`.
    pub event_type: EventType,
    /// The client's id of it within the execution (`Pled-Event-Id`, or `ce-source` and `ce-id`).
    pub id: Option<Arc<str>>,
    /// Who says so (`ce-source`), visible to guards.
    pub origin: Option<Arc<str>>,
    /// The template to start, if the execution is to be started (`Pled-Template`).
    pub start: Option<TemplateSelector>,
    /// The rule worker that emitted it, with ingest sequence and emit index: at or below what was
    /// taken from that sender it is a repeat.
    pub emitted: Option<(Arc<str>, u64, u64)>,
    /// Its payload; `null` if it had none.
    pub data: Value,
}

/// The end of one attempt of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResult {
    /// The task, by the place where it was first asked for.
    pub task: Token,
    /// Which attempt ended, from 1.
    pub attempt: u32,
    /// What came out.
    pub outcome: TaskOutcome,
}

/// What came out of one attempt of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskOutcome {
    /// The worker picked it up (asked for with `schedule_to_start_ms`).
    Started,
    /// It succeeded with this data.
    Ok(Value),
    /// It failed.
    Failed(Failure),
}

/// Why an attempt of a task failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The application's code, or `timeout`, `worker_lost`, `unknown_action`.
    pub code: Arc<str>,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Whatever else is known.
    #[serde(default)]
    pub details: Value,
    /// Whether another attempt may help.
    #[serde(default = "yes")]
    pub retryable: bool,
    /// The next attempt is not to be made before so many milliseconds: the pause is the longer of
    /// this and the one that `retry` gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<Millis>,
}

fn yes() -> bool {
    true
}

/// The start of an execution by its parent.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildStart {
    /// The parent.
    pub parent: ExecutionId,
    /// The entry and the index of the effect that starts it; the child's id is made of both.
    pub token: Token,
    /// The task that the child is of its parent.
    pub task: Token,
    /// The attempt.
    pub attempt: u32,
    /// How many ancestors the child has.
    pub depth: u32,
    /// The version to start.
    pub template: TemplateSelector,
    /// Its input.
    pub input: Value,
}

/// The wish of a parent that its child ends.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildCancel {
    /// The parent.
    pub parent: ExecutionId,
    /// The entry and the index of the effect that says so.
    pub token: Token,
    /// The task that the child is of its parent.
    pub task: Token,
    /// The attempt.
    pub attempt: u32,
}

/// An event that one execution sends to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// Who sends.
    pub sender: ExecutionId,
    /// The entry and the index of the effect that sends.
    pub token: Token,
    /// What happened.
    pub event_type: EventType,
    /// Its payload.
    pub data: Value,
}
