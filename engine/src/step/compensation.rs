//! The stack of compensations: what undoes the invocations that succeeded, run from its end.
//!
//! One runs at a time. Those that are to be run are marked as due: all of them by the action
//! `compensate` and by a cancel, one alone when its invocation succeeds after it was given up.

use super::cause::object;
use super::run::{Run, Taken};
use super::task::Purpose;
use crate::entry::Outcome;
use crate::execution::{Compensating, Compensation, GivenUp, Status};
use crate::expression::{EvalError, EventView};
use crate::id::Token;
use crate::statechart;
use crate::template::Invoke;
use crate::value::Value;

impl Run<'_> {
    pub(super) fn push_compensation(&mut self, invoke: &Invoke, input: Value, due: bool) {
        let Some(compensation) = &invoke.compensate else { return };
        self.state.compensations.push(Compensation {
            invocation: invoke.id.clone(),
            action: compensation.action.clone(),
            input,
            due,
        });
    }

    /// Runs all that is on the stack, then tells the template; at once if there is nothing.
    pub(super) fn compensate(&mut self) {
        self.mark_all_due(true);
        match &mut self.state.compensating {
            Some(running) => running.announce = true,
            None if self.state.compensations.is_empty() => {
                self.tell_oneself("done.compensate", Value::Null, None);
            }
            None => self.run_next_compensation(true),
        }
    }

    fn mark_all_due(&mut self, due: bool) {
        for compensation in &mut self.state.compensations {
            compensation.due = due;
        }
    }

    /// Hands out the last compensation that is due, unless one runs.
    fn run_next_compensation(&mut self, announce: bool) {
        let template = self.template;
        if self.state.compensating.is_some() {
            return;
        }
        let mut compensations = self.state.compensations.iter().enumerate();
        let Some((at, next)) = compensations.rfind(|(_, compensation)| compensation.due) else {
            return;
        };
        let Some((state, invoke)) = template.invocation(&next.invocation) else { return };
        let Some(compensation) = &invoke.compensate else { return };
        let (purpose, input) = (Purpose::Compensation(&invoke.id), next.input.clone());
        let task =
            self.start_task(state, purpose, &compensation.action, input, &compensation.options);
        self.state.compensating = Some(Compensating { task, at, announce });
    }

    /// The compensation that ran has undone its invocation.
    pub(super) fn compensated(&mut self) -> Taken {
        let Some(ran) = self.state.compensating.take() else { return (Outcome::Applied, None) };
        if ran.at < self.state.compensations.len() {
            self.state.compensations.remove(ran.at);
        }
        self.run_next_compensation(ran.announce);
        if self.state.compensating.is_none() && ran.announce && !self.is_closed() {
            let view = self.view("done.compensate".into(), Value::Null);
            return self.tell(&view, None);
        }
        self.end_if_compensated();
        (Outcome::Applied, None)
    }

    /// The compensation that ran has failed for good. It stays on the stack, and so does what was
    /// to run after it; but where nobody is left to decide, the others are run all the same.
    pub(super) fn compensation_failed(&mut self, error: Value, place: Token) -> Taken {
        let Some(ran) = self.state.compensating.take() else { return (Outcome::Applied, None) };
        if ran.announce && !self.is_closed() {
            self.mark_all_due(false);
        } else if let Some(failed) = self.state.compensations.get_mut(ran.at) {
            failed.due = false;
        }
        let view = self.view("error.compensate".into(), error);
        let taken = self.tell(&view, Some(place));
        self.run_next_compensation(false);
        self.end_if_compensated();
        taken
    }

    /// A cancel that the template does not handle: the execution has left its states, and ends when
    /// all that it did is undone.
    pub(super) fn compensate_and_end(&mut self, status: Status) {
        self.mark_all_due(true);
        if self.state.compensations.is_empty() {
            return self.end(status);
        }
        self.state.ending = Some(status);
        self.take_back_pending();
        self.run_next_compensation(false);
        self.end_if_compensated();
    }

    fn end_if_compensated(&mut self) {
        if self.state.compensating.is_none()
            && let Some(status) = self.state.ending
        {
            self.end(status);
        }
    }

    /// What an end leaves of the stack: the success of an execution needs no undoing, but what is
    /// due is run all the same; one that was ended from outside undoes nothing more.
    pub(super) fn settle_compensations(&mut self, status: Status) {
        self.state.ending = None;
        match status {
            Status::Done => {
                let mut kept = 0;
                let running = self.state.compensating.as_ref().map(|running| running.at);
                let mut place = None;
                for (at, compensation) in self.state.compensations.iter().enumerate() {
                    if Some(at) == running {
                        place = Some(kept);
                    }
                    kept += usize::from(compensation.due);
                }
                self.state.compensations.retain(|compensation| compensation.due);
                if let (Some(running), Some(place)) = (&mut self.state.compensating, place) {
                    running.at = place;
                }
            }
            Status::Terminated => {
                self.state.compensating = None;
                self.state.given_up.clear();
                self.mark_all_due(false);
                self.cancel_tasks(|task| task.compensates.is_some());
            }
            Status::Running | Status::Paused | Status::Failed | Status::Cancelled => {}
        }
    }

    /// Remembers a task that a worker has and whose result is not wanted any more, if its success
    /// would have to be undone.
    pub(super) fn give_up(&mut self, token: Token) {
        let Some(task) = self.state.tasks.get(&token) else { return };
        let (Some(id), None, None) = (&task.invocation, task.index, task.not_before) else {
            return;
        };
        let invocation = self.template.invocation(id);
        if invocation.is_some_and(|(_, invoke)| invoke.compensate.is_some()) {
            let given_up = GivenUp { invocation: id.clone(), attempt: task.attempt };
            self.state.given_up.insert(token, given_up);
        }
    }

    /// A task that was given up has succeeded all the same: that is undone at once (R13).
    pub(super) fn succeeded_late(&mut self, token: Token, data: &Value) -> Taken {
        let template = self.template;
        let given_up = self.state.given_up.remove(&token);
        let invocation = given_up.and_then(|given_up| template.invocation(&given_up.invocation));
        let Some((_, invoke)) = invocation else { return (Outcome::Applied, None) };
        let view = self.view(invoke.done_event.clone(), data.clone());
        match statechart::compensation(template, invoke, &self.chart.context, &view) {
            Ok(Some(input)) => {
                self.push_compensation(invoke, input, true);
                self.run_next_compensation(false);
                (Outcome::Applied, None)
            }
            Ok(None) => (Outcome::Applied, None),
            Err(error) => self.compensation_has_no_input(invoke, &error, token),
        }
    }

    /// A task that was given up has failed: there is nothing to undo.
    pub(super) fn failed_late(&mut self, token: Token) -> Taken {
        self.state.given_up.remove(&token);
        (Outcome::Applied, None)
    }

    /// The macrostep of an invocation's success was given up, and with it what it pushed.
    pub(super) fn keep_compensation(&mut self, view: &EventView) {
        let Some(id) = view.event_type.strip_prefix("done.invoke.") else { return };
        let Some((_, invoke)) = self.template.invocation(id) else { return };
        let context = &self.chart.context;
        if let Ok(Some(input)) = statechart::compensation(self.template, invoke, context, view) {
            self.push_compensation(invoke, input, false);
        }
    }

    fn compensation_has_no_input(
        &mut self,
        invoke: &Invoke,
        error: &EvalError,
        place: Token,
    ) -> Taken {
        let data = object([
            ("message", error.to_string().into()),
            ("where", format!("{}/compensate/input", invoke.pointer).into()),
        ]);
        let view = self.view("error.execution".into(), data);
        self.tell(&view, Some(place))
    }
}
