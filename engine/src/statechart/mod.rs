//! The statechart algorithm (TEMPLATE section 7.1): one macrostep over configuration, context and
//! history. What it wants done comes back as commands, in the order in which they were collected.
//!
//! [`macrostep()`] is the loop of R8. It selects transitions (`select`, `conflict`), takes them in
//! microsteps (`microstep`, `leave`, `enter`) and runs their `action`s. The configuration in [`Chart`]
//! is the one before the microstep until that microstep ends, as R7 wants guards to see it.

mod action;
mod compensation;
mod configuration;
mod conflict;
mod enter;
mod invocation;
mod leave;
mod macrostep;
mod microstep;
mod select;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::expression::EventView;
use crate::id::{EventType, TemplateRef};
use crate::template::{After, Compensation, Invoke, StateIndex, TaskOptions};
use crate::value::{Object, Value};

pub use compensation::compensation;
pub use configuration::{IllegalState, chart_from, leaves, store};
pub use macrostep::{Corners, Decide, exit, macrostep, macrostep_deciding, start, start_deciding};
pub(crate) use macrostep::{Manner, exit_with, macrostep_with, start_with};
pub(crate) use witness::Witness;
pub use witness::{Candidate, Choice, Fate, Round, Stimulus};

/// What the algorithm reads and changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// All active states, ancestors included, ascending (document order). Empty before the start;
    /// after the end those in which it ended.
    pub active: Vec<StateIndex>,
    /// The data.
    pub context: Object,
    /// For each history state that was recorded, what it restores.
    pub history: BTreeMap<StateIndex, Vec<StateIndex>>,
}

/// What a macrostep did.
#[derive(Debug)]
pub struct Macrostep<'t> {
    /// What it wants done, in order. A timer or invocation of a state that was entered and left
    /// again in this macrostep is not among them (R13).
    pub commands: Vec<Command<'t>>,
    /// How many microsteps took transitions; the initial entry is one.
    pub microsteps: u32,
    /// Whether the event that began it selected a transition; true for a start.
    pub handled: bool,
    /// The numbers of the transitions that were taken, in order.
    pub transitions: Vec<u32>,
    /// `error.execution` events that selected nothing, as they were queued; at the end of the
    /// execution also those that were not reached any more.
    pub unhandled_errors: Vec<EventView>,
    /// Set when a final child of the root was entered: the execution is done, with this output.
    pub completed: Option<Value>,
    /// Whether it met one of the [`Corners`], where that was not the engine's way.
    pub(crate) cornered: bool,
}

/// One thing that a macrostep wants done.
#[derive(Debug)]
pub enum Command<'t> {
    /// Fire-and-forget work of a worker.
    Task {
        /// The state whose list it stood in (the source, for a transition's actions).
        state: StateIndex,
        /// The action's name.
        action: &'t Arc<str>,
        /// Its resolved arguments.
        params: Value,
        /// How it is handed out.
        options: &'t TaskOptions,
    },
    /// Start an invocation.
    InvokeStart {
        /// The state that it lives with.
        state: StateIndex,
        /// What to run.
        invoke: &'t Invoke,
        /// Its resolved input; with `each` the array of the inputs.
        input: Value,
    },
    /// The state of an invocation was left.
    InvokeCancel {
        /// The state that was left.
        state: StateIndex,
        /// What to cancel, if it is still outstanding.
        invoke: &'t Invoke,
    },
    /// Set a timer of a state.
    AfterSet {
        /// The state.
        state: StateIndex,
        /// The timer.
        after: &'t After,
        /// Its resolved delay, in milliseconds.
        delay_ms: i64,
    },
    /// Take back all timers of a state.
    AfterCancel {
        /// The state that was left.
        state: StateIndex,
    },
    /// An event for an execution, or for this one by its external queue.
    Send {
        /// For whom; `None` is the execution itself, else an execution id, `parent` or
        /// `child:<id>` as the template said.
        to: Option<Arc<str>>,
        /// What happened.
        event: EventType,
        /// Its payload.
        data: Value,
        /// How long to wait first; `None`: not at all.
        delay_ms: Option<i64>,
        /// The id by which a delayed one is cancelled or replaced.
        id: Option<Arc<str>>,
    },
    /// Take back a delayed send.
    SendCancel {
        /// Its id.
        id: Arc<str>,
    },
    /// A line for people.
    Log(Value),
    /// Start a child execution.
    Spawn {
        /// Its id within the execution.
        id: &'t Arc<str>,
        /// The version to start.
        template: &'t TemplateRef,
        /// Its input.
        input: Value,
        /// Whether the parent's end leaves it alone.
        abandon: bool,
    },
    /// End a spawned child.
    Stop {
        /// Its id within the execution.
        id: &'t Arc<str>,
    },
    /// Push a compensation: the invocation succeeded.
    CompensationPush {
        /// Whose.
        invoke: &'t Invoke,
        /// What undoes it.
        compensation: &'t Compensation,
        /// Its resolved input.
        input: Value,
    },
    /// Run the compensations that were pushed.
    Compensate,
}

/// A macrostep was given up as a whole (R9).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {bound} microsteps in one macrostep")]
pub struct Loop {
    /// The template's bound.
    pub bound: u32,
}
