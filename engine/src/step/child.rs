//! Children: executions that are tasks of this one, and what this one is to its parent.
//!
//! A child is a [`Task`] without a worker: attempts, retries and time-outs are those of any task. It
//! is started and cancelled by signals of the parent, and its end is a signal of its own.

use std::sync::Arc;

use super::run::{Run, Taken};
use crate::effect::{ChildEffect, EffectKind, Timeouts};
use crate::entry::Outcome;
use crate::execution::{Child, Parent, Status, Task};
use crate::id::{ExecutionId, TemplateRef, Token};
use crate::message::{ChildStart, Failure};
use crate::template::{Invoke, StateIndex};
use crate::value::Value;

/// How many ancestors an execution may have.
const DEPTH_MAX: u32 = 16;

/// How many tasks and children may be outstanding for another child to be started.
const OUTSTANDING_MAX: usize = 10_000;

/// How the action of a child begins, as the `src` of its invocation does.
const ACTION: &str = "template:";

impl Run<'_> {
    /// Starts the child of an invocation; `index`: as one of the elements of its `each`.
    pub(super) fn start_child(
        &mut self,
        state: StateIndex,
        invoke: &Invoke,
        index: Option<u32>,
        template: &TemplateRef,
        input: Value,
    ) {
        let options = &invoke.options;
        let deadline = options.timeout.schedule_to_close_ms.map(|ms| self.after(ms));
        let child = self.child_task(&invoke.id, template, input, false);
        self.begin_child(
            Task {
                index,
                state: Some(self.template.state(state).id.clone()),
                deadline,
                retry: options.retry.clone(),
                timeout: options.timeout,
                meta: options.meta.clone(),
                ..child
            },
            Some(state),
        );
    }

    /// Starts a child that lives beside the states; `abandon`: and beyond the end.
    pub(super) fn spawn(
        &mut self,
        id: &Arc<str>,
        template: &TemplateRef,
        input: Value,
        abandon: bool,
    ) {
        let child = self.child_task(id, template, input, abandon);
        self.begin_child(child, None);
    }

    fn child_task(
        &self,
        id: &Arc<str>,
        template: &TemplateRef,
        input: Value,
        abandon: bool,
    ) -> Task {
        Task {
            action: format!("{ACTION}{template}").into(),
            queue: None,
            invocation: Some(id.clone()),
            index: None,
            compensates: None,
            state: None,
            attempt: 1,
            not_before: None,
            deadline: None,
            input,
            retry: None,
            timeout: Timeouts::default(),
            meta: Value::Null,
            child: Some(Child { place: self.next_token(), abandon }),
        }
    }

    /// Starts a child, or says to the template why it cannot be.
    fn begin_child(&mut self, task: Task, state: Option<StateIndex>) {
        let depth = self.child_depth();
        let refused = if depth > DEPTH_MAX {
            Some(("depth", format!("a child of this execution would have {depth} ancestors")))
        } else if self.state.tasks.len() >= OUTSTANDING_MAX {
            let message = format!("{OUTSTANDING_MAX} tasks and children are outstanding already");
            Some(("too_many_children", message))
        } else {
            None
        };
        let Some((code, message)) = refused else {
            self.begin_task(task);
            return;
        };
        let id = task.invocation.unwrap_or_default();
        if task.index.is_some() {
            self.cancel_invocation(&id);
        }
        self.error_invoke(&id, code, &message, state);
    }

    fn child_depth(&self) -> u32 {
        self.state.parent.as_ref().map_or(0, |parent| parent.depth).saturating_add(1)
    }

    /// What starts the attempt at `place` of the child that a task is; `None` if it is none.
    pub(super) fn child_effect(&self, token: Token, task: &Task) -> Option<EffectKind> {
        let place = task.child.as_ref()?.place;
        Some(EffectKind::ChildStart(ChildEffect {
            child: self.id().child(place),
            task: token,
            attempt: task.attempt,
            template: task.action.strip_prefix(ACTION)?.parse().ok()?,
            invocation: task.invocation.clone()?,
            index: task.index,
            depth: self.child_depth(),
            input: task.input.clone(),
            timeout: task.timeout,
            deadline: task.deadline,
        }))
    }

    /// The newest child of this id that is outstanding.
    fn find_child(&self, id: &str) -> Option<(Token, &Task)> {
        let mut newest = self.state.tasks.iter().rev();
        newest
            .find(|(_, task)| task.child.is_some() && task.invocation.as_deref() == Some(id))
            .map(|(token, task)| (*token, task))
    }

    /// The execution that is the child of this id now; none while it waits to be tried again.
    pub(super) fn child_execution(&self, id: &str) -> Option<ExecutionId> {
        let (_, task) = self.find_child(id).filter(|(_, task)| task.not_before.is_none())?;
        task.child.as_ref().map(|child| self.id().child(child.place))
    }

    /// Ends the newest spawned child of this id; its end is not told any more. Nothing, if there is
    /// none.
    pub(super) fn stop_child(&mut self, id: &str) {
        let newest = self.find_child(id).and_then(|(_, task)| task.child.as_ref());
        if let Some(place) = newest.map(|child| child.place) {
            let is_it = |task: &Task| task.child.as_ref().is_some_and(|child| child.place == place);
            self.cancel_tasks(is_it);
        }
    }

    /// Starts this execution as the child of another.
    pub(super) fn start_as_child(&mut self, start: &ChildStart) -> Taken {
        self.state.parent = Some(Parent {
            execution: start.parent.clone(),
            task: start.task,
            attempt: start.attempt,
            depth: start.depth,
        });
        let view =
            self.view_of_parent("pled.init", &start.parent, start.token, start.input.clone());
        self.start_with(&view)
    }

    /// Tells one that would be a parent that this execution is another's.
    pub(super) fn refuse_child(&mut self, start: &ChildStart) -> Taken {
        let message = format!("{} is there already and no child of this execution", self.id());
        self.effect(EffectKind::ChildDone {
            parent: start.parent.clone(),
            task: start.task,
            attempt: start.attempt,
            output: Value::Null,
            error: Some(Failure {
                code: "exists".into(),
                message: message.clone(),
                details: Value::Null,
                retryable: true,
                retry_after_ms: None,
            }),
        });
        (Outcome::Rejected, Some(message))
    }

    /// Tells the parent, if there is one, how this execution ended.
    pub(super) fn tell_parent(&mut self) {
        let Some(Parent { execution, task, attempt, depth: _ }) = self.state.parent.clone() else {
            return;
        };
        let (output, error) = match self.status {
            Status::Done => (self.state.output.clone(), None),
            Status::Failed | Status::Cancelled | Status::Terminated => {
                (Value::Null, Some(self.failure_for_parent()))
            }
            Status::Running | Status::Paused => return,
        };
        self.effect(EffectKind::ChildDone { parent: execution, task, attempt, output, error });
    }

    /// Whoever cancelled or terminated it wanted that: it is not tried again.
    fn failure_for_parent(&self) -> Failure {
        let id = self.id();
        let details =
            Value::Object([("execution", Value::from(id.as_str()))].into_iter().collect());
        match self.state.error.as_ref().filter(|_| self.status == Status::Failed) {
            Some(error) => Failure {
                code: error.code.clone(),
                message: error.message.clone(),
                details,
                retryable: true,
                retry_after_ms: None,
            },
            None => Failure {
                code: self.status.as_str().into(),
                message: format!("{id} was {}", self.status.as_str()),
                details,
                retryable: false,
                retry_after_ms: None,
            },
        }
    }
}
