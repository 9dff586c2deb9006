//! What a step of the engine is to someone who watches.

use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::execution::{Execution, Status, Task, Timer, TimerPurpose};
use pled_engine::id::Token;
use pled_engine::message::{Body, Message, Millis, TaskOutcome};
use pled_engine::value::{Object, Value};

/// One step, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// The virtual time.
    pub at: Millis,
    /// What was taken: an event's type, `charge #2 failed: timeout`, `after.90.waiting`.
    pub cause: String,
    /// What became of it, and why where it was rejected.
    pub outcome: Outcome,
    /// Why it was rejected.
    pub error: Option<String>,
    /// The active leaf states before.
    pub from: Vec<Arc<str>>,
    /// The active leaf states after.
    pub to: Vec<Arc<str>>,
    /// The context before.
    pub before: Object,
    /// The context after.
    pub context: Object,
    /// What was asked of the world, in order.
    pub effects: Vec<Happening>,
    /// Lines of the action `log`.
    pub log: Vec<Value>,
    /// Errors that nothing handled: a person is asked.
    pub incidents: Vec<Arc<str>>,
    /// The status after.
    pub status: Status,
}

/// One thing that the execution asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// An attempt of a task is handed to a worker.
    Task {
        /// The id of the invocation; `None` for fire-and-forget.
        invocation: Option<Arc<str>>,
        /// Which element of the invocation's `each` it is, from 0.
        index: Option<u32>,
        /// The named work.
        action: Arc<str>,
        /// The arguments.
        input: Value,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The worker is told that the result is not wanted any more.
    Cancel {
        /// The id of the invocation or the name of the action.
        name: Arc<str>,
    },
    /// A timer is set.
    Timer {
        /// What it is for.
        name: Arc<str>,
        /// When it is due.
        due: Millis,
    },
    /// A timer is taken back.
    TimerCancel {
        /// What it was for.
        name: Arc<str>,
    },
    /// An event is sent.
    Send {
        /// For whom; `None` is the execution itself.
        to: Option<Arc<str>>,
        /// What happened.
        event: Arc<str>,
        /// Its payload.
        data: Value,
    },
}

impl Moment {
    /// What `entry` did to `before`, by its one message.
    pub(super) fn of(
        message: &Message,
        before: &Execution,
        entry: &JournalEntry,
        after: &Execution,
    ) -> Self {
        let cause = entry.causes.first();
        let new = after.state.incidents.iter();
        let new = new.filter(|(place, _)| !before.state.incidents.contains_key(place));
        Self {
            at: entry.at,
            cause: cause_text(message, before),
            outcome: cause.map_or(Outcome::Ignored, |cause| cause.outcome),
            error: cause.and_then(|cause| cause.error.clone()),
            from: before.state.configuration.clone(),
            to: after.state.configuration.clone(),
            before: before.state.context.clone(),
            context: after.state.context.clone(),
            effects: happenings(before, entry, after),
            log: entry.log.clone(),
            incidents: new.map(|(_, incident)| incident.event.clone()).collect(),
            status: after.status,
        }
    }
}

fn cause_text(message: &Message, before: &Execution) -> String {
    match &message.body {
        Body::Event(event) => event.event_type.to_string(),
        Body::Send(send) => send.event_type.to_string(),
        Body::Fired { timer } => timer_name(*timer, before, before).to_string(),
        Body::ChildStart(_) => "pled.init".to_owned(),
        Body::ChildCancel(_) => "pled.cancel".to_owned(),
        Body::Result(result) | Body::ChildDone(result) => {
            let name = task_name(result.task, before, before);
            let attempt = result.attempt;
            match &result.outcome {
                TaskOutcome::Started => format!("{name} #{attempt} picked up"),
                TaskOutcome::Ok(_) => format!("{name} #{attempt} done"),
                TaskOutcome::Failed(failure) => {
                    format!("{name} #{attempt} failed: {}", failure.code)
                }
            }
        }
    }
}

fn happenings(before: &Execution, entry: &JournalEntry, after: &Execution) -> Vec<Happening> {
    let happening = |kind: &EffectKind| match kind {
        EffectKind::Task(task) => Happening::Task {
            invocation: task.invocation.clone(),
            index: task.index,
            action: task.action.clone(),
            input: task.input.clone(),
            attempt: task.attempt,
        },
        EffectKind::ChildStart(child) => Happening::Task {
            invocation: Some(child.invocation.clone()),
            index: child.index,
            action: format!("template:{}", child.template).into(),
            input: child.input.clone(),
            attempt: child.attempt,
        },
        // One that is simulated alone has no parent; where a journal shows one, it is told.
        EffectKind::ChildDone { parent, output, error, .. } => Happening::Send {
            to: Some(parent.as_str().into()),
            event: if error.is_some() { "error.invoke".into() } else { "done.invoke".into() },
            data: output.clone(),
        },
        EffectKind::TaskCancel { task, attempt: _ }
        | EffectKind::ChildCancel { task, attempt: _, child: _ } => {
            Happening::Cancel { name: task_name(*task, before, after) }
        }
        EffectKind::TimerSet { timer, due } => {
            Happening::Timer { name: timer_name(*timer, before, after), due: *due }
        }
        EffectKind::TimerCancel { timer } => {
            Happening::TimerCancel { name: timer_name(*timer, before, after) }
        }
        EffectKind::Send { to, event, data } => Happening::Send {
            to: (*to != entry.execution).then(|| to.as_str().into()),
            event: event.shared(),
            data: data.clone(),
        },
    };
    entry.effects.iter().map(|effect| happening(&effect.kind)).collect()
}

/// What a person calls a task.
pub(super) fn name_of(task: &Task) -> Arc<str> {
    match &task.invocation {
        Some(invocation) => element(invocation, task.index),
        None => task.action.clone(),
    }
}

/// `notify`, or `notify[2]` for an element of its `each`.
pub(super) fn element(invocation: &Arc<str>, index: Option<u32>) -> Arc<str> {
    match index {
        Some(index) => format!("{invocation}[{index}]").into(),
        None => invocation.clone(),
    }
}

fn task_name(token: Token, before: &Execution, after: &Execution) -> Arc<str> {
    let task = after.state.tasks.get(&token).or_else(|| before.state.tasks.get(&token));
    task.map_or_else(|| "a task".into(), name_of)
}

fn timer_name(token: Token, before: &Execution, after: &Execution) -> Arc<str> {
    let timer = after.state.timers.get(&token).or_else(|| before.state.timers.get(&token));
    timer.map_or_else(|| "a timer".into(), |timer| name_of_timer(timer, before, after))
}

/// What a person calls a timer.
pub(super) fn name_of_timer(timer: &Timer, before: &Execution, after: &Execution) -> Arc<str> {
    match &timer.purpose {
        TimerPurpose::After { state, delay } => format!("after.{delay}.{state}").into(),
        TimerPurpose::Send { event, .. } => event.shared(),
        TimerPurpose::Retry { task } => {
            format!("retry of {}", task_name(*task, before, after)).into()
        }
        TimerPurpose::Close { task } => {
            format!("time limit of {}", task_name(*task, before, after)).into()
        }
        TimerPurpose::Start { task, .. } => {
            format!("pick-up limit of {}", task_name(*task, before, after)).into()
        }
    }
}
