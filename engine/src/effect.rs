//! What a step wants done: data in the journal entry, dispatched after its commit, never a call.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{EventType, ExecutionId, TemplateRef, Token};
use crate::message::{Failure, Millis};
use crate::value::Value;

/// One effect of a step. Its id is `<execution>/<entry>/<index>` by its place in the entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// `<execution>/<entry>/<index>`: derived, unique, the same at every dispatch.
    pub id: Arc<str>,
    /// What to do.
    #[serde(flatten)]
    pub kind: EffectKind,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EffectKind {
    /// Hand one attempt of a task to the workers.
    Task(TaskEffect),
    /// Tell the worker that a task's result is not wanted any more; advisory.
    TaskCancel {
        /// The task.
        task: Token,
        /// The attempt that is outstanding.
        attempt: u32,
    },
    /// Set a timer that comes back as [`crate::message::Body::Fired`].
    TimerSet {
        /// The timer.
        timer: Token,
        /// When it is due.
        due: Millis,
    },
    /// Take back a timer.
    TimerCancel {
        /// The timer.
        timer: Token,
    },
    /// Send an event to an execution. One to itself is taken in the same entry and not dispatched.
    Send {
        /// For whom.
        to: ExecutionId,
        /// What happened.
        event: EventType,
        /// Its payload.
        data: Value,
    },
    /// Start an execution as a child, which answers with [`EffectKind::ChildDone`].
    ChildStart(ChildEffect),
    /// Ask a child to end: it takes it as a `pled.cancel` of its parent.
    ChildCancel {
        /// The child.
        child: ExecutionId,
        /// The task that it is of its parent.
        task: Token,
        /// The attempt.
        attempt: u32,
    },
    /// Tell the parent how its child ended, or that it could not be started.
    ChildDone {
        /// The parent.
        parent: ExecutionId,
        /// The task that the child is of it.
        task: Token,
        /// The attempt.
        attempt: u32,
        /// Its output, if it is done.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
        /// Why it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
    },
}

/// The start of a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildEffect {
    /// The child.
    pub child: ExecutionId,
    /// The task that it is of its parent: the place of the first attempt.
    pub task: Token,
    /// Which attempt, from 1; each is an execution of its own.
    pub attempt: u32,
    /// The version to start.
    pub template: TemplateRef,
    /// The id of the invocation or `spawn` that waits for it.
    pub invocation: Arc<str>,
    /// Which element of the invocation's `each` it is, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// How many ancestors it has.
    pub depth: u32,
    /// Its input.
    pub input: Value,
    /// Time-outs, all held by the parent.
    #[serde(default, skip_serializing_if = "Timeouts::is_none")]
    pub timeout: Timeouts,
    /// When schedule-to-close ends, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
}

/// One attempt of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEffect {
    /// The task: the place of its first attempt.
    pub task: Token,
    /// The named work.
    pub action: Arc<str>,
    /// The queue that workers pull: the action's name unless the template names another.
    pub queue: Arc<str>,
    /// The id of the invocation whose result is wanted; `None` for fire-and-forget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<Arc<str>>,
    /// Which element of the invocation's `each` it is, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The arguments.
    pub input: Value,
    /// Time-outs.
    #[serde(default, skip_serializing_if = "Timeouts::is_none")]
    pub timeout: Timeouts,
    /// When schedule-to-close ends, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// Data for people (assignee, due, form).
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub meta: Value,
}

/// Time-outs of a task, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Until a worker picks it up; per attempt, held by an engine timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_start_ms: Option<i64>,
    /// From pick-up to result; per attempt, held by the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_to_close_ms: Option<i64>,
    /// Over all attempts, final; held by an engine timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_close_ms: Option<i64>,
    /// Between two signs of life; held by the queue's consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<i64>,
}

impl Timeouts {
    /// Whether none is set.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
