//! Macrosteps of the chart, what follows from each, and the ends of an execution.

use std::sync::Arc;

use super::run::{Run, Taken};
use crate::entry::{Outcome, Transition};
use crate::execution::{ExecutionError, Incident, Status};
use crate::expression::EventView;
use crate::id::Token;
use crate::message::{Event, Failure, Message};
use crate::statechart::{self, Loop, Macrostep};
use crate::template::OnError;
use crate::value::Value;

/// How many incidents an execution keeps; of those beyond, the oldest that block nothing go.
const INCIDENTS_MAX: usize = 64;

impl<'t> Run<'t> {
    /// Starts the execution; an event of another type than `pled.init` comes after it.
    pub(super) fn start(&mut self, event: &Event, message: &Message) -> Taken {
        let view = self.view_of_event(event, message);
        let is_init = &*view.event_type == "pled.init";
        let init = if is_init {
            view.clone()
        } else {
            EventView { event_type: "pled.init".into(), data: Value::Null, ..view.clone() }
        };
        let started = self.start_with(&init);
        match started {
            (Outcome::Rejected, _) => started,
            _ if is_init => (Outcome::Applied, None),
            _ if self.has_ended() => {
                (Outcome::Rejected, Some("the execution ended when it was started".to_owned()))
            }
            _ => self.macrostep(&view, None),
        }
    }

    /// The first macrostep.
    pub(super) fn start_with(&mut self, init: &EventView) -> Taken {
        match statechart::start_with(self.template, init, Self::manner(&mut self.notes)) {
            Ok((chart, macrostep)) => {
                self.chart = chart;
                match self.follow(macrostep, init, None) {
                    (Outcome::Ignored, _) => (Outcome::Applied, None),
                    taken => taken,
                }
            }
            Err(error) => self.fail_in_loop(&error),
        }
    }

    /// One macrostep; if its event is an error that nothing handles, that is an incident at
    /// `place`.
    pub(super) fn macrostep(&mut self, view: &EventView, place: Option<Token>) -> Taken {
        let manner = Self::manner(&mut self.notes);
        match statechart::macrostep_with(self.template, &mut self.chart, view, manner) {
            Ok(macrostep) => self.follow(macrostep, view, place),
            Err(error) => {
                self.keep_compensation(view);
                self.fail_in_loop(&error)
            }
        }
    }

    /// Gives the template an event of the engine's own. That is never ignored, even if no
    /// transition waits for it; where none can, an error is for a person.
    pub(super) fn tell(&mut self, view: &EventView, place: Option<Token>) -> Taken {
        if self.is_closed() {
            if view.event_type.starts_with("error.") {
                self.unhandled(view, place);
            }
            return (Outcome::Applied, None);
        }
        match self.macrostep(view, place) {
            (Outcome::Ignored, _) => (Outcome::Applied, None),
            taken => taken,
        }
    }

    fn follow(
        &mut self,
        macrostep: Macrostep<'t>,
        view: &EventView,
        place: Option<Token>,
    ) -> Taken {
        let Macrostep {
            commands,
            microsteps,
            handled,
            transitions,
            unhandled_errors,
            completed,
            ..
        } = macrostep;
        self.taken.extend(transitions);
        if microsteps > 0 {
            self.record(view, microsteps);
        }
        self.carry_out(commands, completed.is_some());
        for error in &unhandled_errors {
            self.unhandled(error, None);
        }
        if !handled && view.event_type.starts_with("error.") {
            self.unhandled(view, place);
        }
        if let Some(output) = completed.filter(|_| !self.has_ended()) {
            self.state.output = output;
            self.end(Status::Done);
        }
        (if handled || microsteps > 0 { Outcome::Applied } else { Outcome::Ignored }, None)
    }

    /// Puts what the chart did since the last record among the transitions.
    fn record(&mut self, view: &EventView, microsteps: u32) {
        let to = statechart::leaves(self.template, &self.chart);
        let from = std::mem::replace(&mut self.leaves, to.clone());
        self.transitions.push(Transition { event: view.event_type.clone(), from, to, microsteps });
    }

    /// Nothing selected an `error.*`: a person is asked, or the execution fails (R14).
    pub(super) fn unhandled(&mut self, view: &EventView, place: Option<Token>) {
        let failure = failure_of(view);
        if self.template.on_error == OnError::Fail && !self.is_closed() {
            self.fail(&view.event_type, failure.message.clone());
            return;
        }
        let incident =
            Incident { event: view.event_type.clone(), at: self.at, failure, task: None };
        match place {
            Some(place) => {
                self.state.incidents.insert(place, incident);
            }
            None => self.incidents.push(incident),
        }
    }

    pub(super) fn forget_old_incidents(&mut self) {
        let blocking = |incident: &Incident| incident.event.starts_with("error.invoke.");
        while self.state.incidents.len() > INCIDENTS_MAX {
            let mut incidents = self.state.incidents.iter();
            let oldest = incidents.find(|(_, incident)| !blocking(incident));
            let Some(oldest) = oldest.map(|(token, _)| *token) else { return };
            self.state.incidents.remove(&oldest);
        }
    }

    /// Ends the execution in its own way: the template's, or else the exit actions of all states.
    pub(super) fn cancel(&mut self, view: &EventView) -> Taken {
        let taken = self.macrostep(view, None);
        if taken.0 != Outcome::Ignored {
            return taken;
        }
        let manner = Self::manner(&mut self.notes);
        let macrostep = statechart::exit_with(self.template, &mut self.chart, view, manner);
        self.record(view, macrostep.microsteps);
        self.carry_out(macrostep.commands, true);
        self.compensate_and_end(Status::Cancelled);
        (Outcome::Applied, None)
    }

    /// Ends the execution at once.
    pub(super) fn terminate(&mut self) -> Taken {
        self.forget_pause();
        self.end(Status::Terminated);
        (Outcome::Applied, None)
    }

    fn fail_in_loop(&mut self, error: &Loop) -> Taken {
        self.fail("loop", error.to_string())
    }

    /// The execution cannot go on.
    pub(super) fn fail(&mut self, code: &str, message: String) -> Taken {
        self.state.error = Some(ExecutionError { code: code.into(), message: message.clone() });
        self.end(Status::Failed);
        (Outcome::Rejected, Some(message))
    }

    /// Takes back all that is pending, but for committed fire-and-forget work and compensations.
    pub(super) fn end(&mut self, status: Status) {
        self.status = status;
        self.take_back_pending();
        self.settle_compensations(status);
    }

    pub(super) fn take_back_pending(&mut self) {
        self.drop_own_sends();
        self.cancel_invocations();
        self.cancel_timers_but_of_tasks();
        self.state.incidents.retain(|_, incident| !incident.event.starts_with("error.invoke."));
    }

    /// Nobody is left to hear oneself; but what could not be carried out is kept for a person.
    fn drop_own_sends(&mut self) {
        for own in std::mem::take(&mut self.own) {
            if own.event_type.as_str().starts_with("error.") {
                let view = self.view(own.event_type.shared(), own.data);
                self.unhandled(&view, Some(own.token));
            }
        }
    }
}

/// What an `error.*` says.
fn failure_of(view: &EventView) -> Failure {
    let text = |key: &str| view.data.get(key).and_then(Value::as_str);
    let kind: Arc<str> = view.event_type.split('.').nth(1).unwrap_or_default().into();
    Failure {
        code: text("code").map_or(kind, Into::into),
        message: text("message").unwrap_or_default().to_owned(),
        details: match view.data.get("details") {
            Some(details) => details.clone(),
            None => view.data.get("where").cloned().unwrap_or_default(),
        },
        retryable: false,
        retry_after_ms: None,
    }
}
