//! Templates: read in document order, checked, and compiled to what a step looks up.

mod action;
pub mod code;
mod compile;
pub mod diagnostic;
pub mod document;
pub mod fields;
mod invoke;
mod look_up;
mod name;
mod outline;
mod parse;
mod reader;
mod root;
mod rules;
mod schema;
mod state;
pub mod suggest;
mod transition;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::effect::Timeouts;
use crate::execution::Retry;
use crate::expression::{Expression, Mapping};
use crate::id::{EventType, Hash, TemplateName, TemplateRef};
use crate::value::{Object, Value};

pub use diagnostic::{Diagnostic, InvalidTemplate};
pub use schema::SchemaViolation;

/// The place of a state in document order (pre-order over `states` in source text order); 0 is the
/// root.
pub type StateIndex = u32;

/// The profile of the logic in templates, their field `logic`.
pub const LOGIC: &str = "pled-logic-1";

/// The longest delay, time-out or pause in milliseconds: a hundred years.
pub const DELAY_MS_MAX: i64 = 3_155_760_000_000;

/// A compiled template version. Made by [`Template::parse`] only, so it is always valid.
#[derive(Debug)]
pub struct Template {
    /// Its name, the root's id.
    pub name: TemplateName,
    /// Its version.
    pub version: u32,
    /// SHA-256 of the source bytes.
    pub hash: Hash,
    /// The source text as it was registered.
    pub source: Arc<str>,
    /// The initial context.
    pub context: Object,
    /// All states in document order.
    pub states: Vec<State>,
    /// Each state's index by its id.
    pub ids: BTreeMap<Arc<str>, StateIndex>,
    /// Named delays.
    pub delays: BTreeMap<Arc<str>, Delay>,
    /// The rules of the ingest door, in document order.
    pub rules: Vec<Rule>,
    /// The execution's result.
    pub output: Option<Mapping>,
    /// What an unhandled `error.*` does.
    pub on_error: OnError,
    /// Bounds.
    pub limits: Limits,
    /// Events that the template declares.
    pub events: BTreeMap<Arc<str>, EventDeclaration>,
    schemas: schema::Schemas,
    transitions: u32,
    invocations: BTreeMap<Arc<str>, (StateIndex, usize)>,
    queues: Vec<Queue>,
    children: Vec<TemplateRef>,
}

/// What a template is, at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Its name and version.
    pub template: TemplateRef,
    /// SHA-256 of the source bytes.
    pub hash: Hash,
    /// The profile of its logic, [`LOGIC`].
    pub logic: &'static str,
    /// The version of the semantics of the engine that compiled it, [`crate::SEMANTICS`].
    pub semantics: &'static str,
    /// How many states it has, the root and history states included.
    pub states: usize,
    /// How many transitions.
    pub transitions: u32,
    /// How many invocations.
    pub invocations: usize,
    /// How many rules.
    pub rules: usize,
}

/// What a template says about an event (field `events`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventDeclaration {
    /// JSON Schema 2020-12 of the event's data, as it was written.
    pub schema: Option<Value>,
    /// For people.
    pub description: Option<Arc<str>>,
}

/// A queue that a template hands tasks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: Arc<str>,
    /// The actions whose tasks go to it.
    pub actions: BTreeSet<Arc<str>>,
    /// The time between two signs of life that the template asks of its workers.
    pub heartbeat_ms: Option<i64>,
}

/// What an unhandled `error.*` does (R14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The execution stays where it is and a person is asked.
    Incident,
    /// The execution fails.
    Fail,
}

/// Bounds of a template (field `limits`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Microsteps in one macrostep, and self-sends in a row without a cause from outside.
    pub microsteps: u32,
    /// Evaluation steps of expressions in one macrostep.
    pub logic_steps: u64,
    /// Bytes of the context in canonical form.
    pub context_bytes: usize,
    /// Event ids that are remembered.
    pub event_ids: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { microsteps: 1_000, logic_steps: 100_000, context_bytes: 262_144, event_ids: 64 }
    }
}

/// A state.
#[derive(Debug)]
pub struct State {
    /// Its key among its siblings; the root's is its id.
    pub key: Arc<str>,
    /// Its id, unique in the template.
    pub id: Arc<str>,
    /// Its parent; `None` for the root.
    pub parent: Option<StateIndex>,
    /// What it is.
    pub kind: StateKind,
    /// Its children in document order, history states included.
    pub children: Vec<StateIndex>,
    /// Those of its children that are history states, ascending.
    pub histories: Vec<StateIndex>,
    /// The index of its last descendant, its own if it has none: `d` is a proper descendant of `s`
    /// iff `s < d && d <= states[s].last`.
    pub last: StateIndex,
    /// How deep it is; the root is 0.
    pub depth: u32,
    /// Transitions on events, `onDone` of the state and of its invocations, `onError` and `after`
    /// included, under their event names (TEMPLATE section 5).
    pub on: Descriptors,
    /// Eventless transitions in array order.
    pub always: Vec<Transition>,
    /// Timers to set on entry, in ascending delay where that is known at compile time, then source
    /// order; the interpreter sorts by the evaluated delay (R12).
    pub after: Vec<After>,
    /// Actions on entry.
    pub entry: Vec<Action>,
    /// Actions on exit.
    pub exit: Vec<Action>,
    /// Work that lives as long as the state.
    pub invoke: Vec<Invoke>,
    /// For a final state: `event.data` of the parent's `done.state`.
    pub output: Option<Mapping>,
    /// `done.state.<id>`, the event of this state being complete.
    pub done_event: Arc<str>,
}

/// What a state is.
#[derive(Debug)]
pub enum StateKind {
    /// Without children.
    Atomic,
    /// One child is active.
    Compound {
        /// The direct child that is entered by default.
        initial: StateIndex,
        /// Actions of the initial transition.
        actions: Vec<Action>,
    },
    /// All children are active.
    Parallel,
    /// The end of its parent.
    Final,
    /// A pseudo-state that stands for what was active.
    History {
        /// Whether leaves are restored, not children.
        deep: bool,
        /// Where to go if nothing was recorded; empty: the parent's default entry.
        default: Vec<StateIndex>,
    },
}

/// Transitions of one state by event descriptor, each list in array order.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// By the exact event name.
    pub exact: BTreeMap<Arc<str>, Vec<Transition>>,
    /// `prefix.*`, by the prefix without `.*`, the longest first.
    pub prefixes: Vec<(Arc<str>, Vec<Transition>)>,
    /// `*`
    pub any: Vec<Transition>,
}

/// A transition.
#[derive(Debug)]
pub struct Transition {
    /// Its number in the template, unique, in document order: what coverage counts.
    pub number: u32,
    /// JSON pointer to it in the source.
    pub pointer: Arc<str>,
    /// Where it goes; empty: it stays.
    pub target: Vec<StateIndex>,
    /// Whether the source is left and entered again (external).
    pub reenter: bool,
    /// When it may be taken.
    pub guard: Option<Expression>,
    /// What it does.
    pub actions: Vec<Action>,
}

/// A timer of a state.
#[derive(Debug)]
pub struct After {
    /// The delay as it is written: digits or a name.
    pub name: Arc<str>,
    /// How long.
    pub delay: Delay,
    /// `after.<name>.<state id>`, the event that it becomes; its transitions stand in `on`.
    pub event: Arc<str>,
}

/// A delay in milliseconds.
#[derive(Clone, Debug)]
pub enum Delay {
    /// Known at compile time.
    Millis(i64),
    /// Evaluated on use; must give a non-negative integer.
    Logic(Arc<Expression>),
}

/// One action of a list.
#[derive(Debug)]
pub struct Action {
    /// JSON pointer to it in the source.
    pub pointer: Arc<str>,
    /// What it does.
    pub kind: ActionKind,
}

/// What an action does (TEMPLATE section 3).
#[derive(Debug)]
pub enum ActionKind {
    /// Sets top-level keys of the context, all right sides seeing the context before.
    Assign(Vec<(Arc<str>, Mapping)>),
    /// Queues an internal event; with a delay a timer, then an external one.
    Raise(SendSpec),
    /// Sends an event; without `to` to the execution itself, by the external queue.
    Send(SendSpec),
    /// Takes back a delayed `raise` or `send`.
    Cancel {
        /// Its id.
        id: Mapping,
    },
    /// The first branch that holds.
    Choose(Vec<Branch>),
    /// Starts a child execution that is not bound to the state.
    Spawn {
        /// Its id within the execution.
        id: Arc<str>,
        /// The version to start.
        template: TemplateRef,
        /// Its input.
        input: Mapping,
        /// Whether the parent's end leaves it alone.
        abandon: bool,
    },
    /// Ends a spawned child.
    Stop {
        /// Its id within the execution.
        id: Arc<str>,
    },
    /// A line for people.
    Log(Mapping),
    /// Runs the compensations that were pushed.
    Compensate,
    /// Fire-and-forget work of a worker.
    Custom {
        /// The action's name.
        action: Arc<str>,
        /// Its arguments.
        params: Mapping,
        /// How it is handed out.
        options: TaskOptions,
    },
}

/// A `raise` or `send`.
#[derive(Debug)]
pub struct SendSpec {
    /// For whom; `None` is the execution itself.
    pub to: Option<Mapping>,
    /// What happened.
    pub event: Mapping,
    /// Its payload.
    pub data: Option<Mapping>,
    /// How long to wait.
    pub delay: Option<Delay>,
    /// The id by which a delayed one is cancelled or replaced.
    pub id: Option<Mapping>,
}

/// A branch of `choose`.
#[derive(Debug)]
pub struct Branch {
    /// When it is taken.
    pub guard: Option<Expression>,
    /// What it does.
    pub actions: Vec<Action>,
}

/// Work that lives as long as its state.
#[derive(Debug)]
pub struct Invoke {
    /// JSON pointer to it in the source.
    pub pointer: Arc<str>,
    /// Its id, unique in the template.
    pub id: Arc<str>,
    /// What is run.
    pub source: InvokeSource,
    /// Its input; `null` without.
    pub input: Option<Mapping>,
    /// How it is handed out.
    pub options: TaskOptions,
    /// One task for each element.
    pub each: Option<Each>,
    /// What undoes it.
    pub compensate: Option<Compensation>,
    /// `done.invoke.<id>`
    pub done_event: Arc<str>,
    /// `error.invoke.<id>`
    pub error_event: Arc<str>,
}

/// What an invocation runs.
#[derive(Clone, Debug)]
pub enum InvokeSource {
    /// A named action.
    Action(Arc<str>),
    /// A child execution.
    Template(TemplateRef),
}

/// A fan-out of an invocation.
#[derive(Debug)]
pub struct Each {
    /// The array.
    pub over: Expression,
    /// How many run at once.
    pub concurrency: Option<u32>,
    /// Whether failures stand in the results instead of ending all.
    pub collect: bool,
}

/// What undoes an invocation that succeeded.
#[derive(Debug)]
pub struct Compensation {
    /// The action's name.
    pub action: Arc<str>,
    /// Its input, over context and result.
    pub input: Option<Mapping>,
    /// How it is handed out.
    pub options: TaskOptions,
}

/// How a task is handed out.
#[derive(Clone, Debug, Default)]
pub struct TaskOptions {
    /// The queue, where it is not the action's name.
    pub queue: Option<Arc<str>>,
    /// How it is retried, the root's default applied.
    pub retry: Option<Retry>,
    /// Time-outs.
    pub timeout: Timeouts,
    /// Data for people.
    pub meta: Value,
    /// The name that an action in a list was given.
    pub id: Option<Arc<str>>,
}

/// A rule of the ingest door (TEMPLATE section 4).
#[derive(Debug)]
pub struct Rule {
    /// Its id, unique in the template.
    pub id: Arc<str>,
    /// The source that it is for; `None`: all.
    pub source: Option<Arc<str>>,
    /// When it fires.
    pub when: Expression,
    /// What it emits, in order.
    pub emit: Vec<Emit>,
}

/// A message that a rule emits.
#[derive(Debug)]
pub struct Emit {
    /// The execution it is for.
    pub key: Expression,
    /// The event's type; `pled.init` for a start.
    pub event: EventType,
    /// Its payload; without: the raw event's.
    pub data: Option<Mapping>,
    /// Whether it starts the execution.
    pub start: bool,
}
