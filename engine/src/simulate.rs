//! The core without a server (TEMPLATE section 8): one execution on a virtual clock.
//!
//! Built on [`statechart`] alone. What an action worker, a child or another execution would do is
//! the caller's to say, as events; what they were asked for is in the [`Observation`].

mod case;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::execution::Status;
use crate::expression::EventView;
use crate::id::EventType;
use crate::message::Millis;
use crate::statechart::{self, Chart, Command, Corners, Loop, Macrostep, Manner, Round, Witness};
use crate::template::{After, Compensation, Invoke, InvokeSource, OnError, StateIndex, Template};
use crate::value::{Object, Value};

pub use case::{Simulated, simulate_case, simulate_line};

/// How many timers may fire in one advance of the clock.
const FIRINGS_MAX: u32 = 10_000;

/// An execution on a virtual clock, which starts at 0.
#[derive(Debug)]
pub struct Simulation<'t> {
    template: &'t Template,
    chart: Chart,
    status: Status,
    now: Millis,
    corners: Corners,
    cornered: bool,
    /// Timers by due time, then by the order in which they were set.
    timers: BTreeMap<Due, Timer<'t>>,
    /// The timers that can be taken back.
    handles: BTreeMap<Handle, Due>,
    timers_set: u64,
    /// Sends to itself that are yet to be taken.
    own: VecDeque<EventView>,
    /// Ids of the invocations and children that are outstanding.
    outstanding: BTreeSet<Arc<str>>,
    /// What undoes the invocations that succeeded, in the order in which they did.
    compensations: Vec<(&'t Invoke, &'t Compensation, Value)>,
    /// How many of them, the first ones, run: their outcome may be injected.
    compensating: Option<usize>,
    /// Whether it is cancelled and only undoes what it did.
    ending: bool,
    actions: Vec<(Arc<str>, Value)>,
    coverage: Coverage,
    witness: Option<Witness>,
}

/// What is seen of an execution after a step of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observation {
    /// Ids of the active leaf states, in document order; after the end those in which it ended.
    pub configuration: Vec<Arc<str>>,
    /// The data.
    pub context: Object,
    /// What was asked of the world since the last observation, in order: custom actions with their
    /// arguments, and `invoke.start`, `invoke.cancel`, `send`, `spawn`, `stop` and `compensate`.
    pub actions: Vec<(Arc<str>, Value)>,
    /// Where it is in its life.
    pub status: Status,
}

/// What of a template was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The states that were active.
    pub states: BTreeSet<StateIndex>,
    /// The numbers of the transitions that were taken.
    pub transitions: BTreeSet<u32>,
}

/// A simulated event cannot be: only the engine makes one of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event {0} is the engine's to make")]
pub struct Reserved(EventType);

/// The clock cannot be advanced that far: timers that set each other would fire without end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {FIRINGS_MAX} timers came due in one step")]
pub struct TooManyTimers;

/// When a timer is due, and the number that puts those of one time in order.
type Due = (Millis, u64);

#[derive(Debug)]
enum Timer<'t> {
    After { state: StateIndex, after: &'t After },
    Send { to: Option<Arc<str>>, event: EventType, data: Value, id: Option<Arc<str>> },
}

/// By what a timer is taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Handle {
    After(StateIndex, Arc<str>),
    Send(Arc<str>),
}

impl Timer<'_> {
    fn handle(&self) -> Option<Handle> {
        match self {
            Self::After { state, after } => Some(Handle::After(*state, after.name.clone())),
            Self::Send { id, .. } => id.clone().map(Handle::Send),
        }
    }
}

impl<'t> Simulation<'t> {
    /// Starts an execution with this input.
    #[must_use]
    pub fn start(template: &'t Template, input: Value) -> Self {
        Self::start_with(template, input, Corners::Pled, None)
    }

    /// As [`Self::start`], noting what transitions are looked at: see [`Self::seen`].
    #[must_use]
    pub fn start_watched(template: &'t Template, input: Value) -> Self {
        Self::start_with(template, input, Corners::Pled, Some(Witness::default()))
    }

    /// What transitions were looked at since this was called last, and what became of each.
    pub fn seen(&mut self) -> Vec<Round> {
        self.witness.as_mut().map(Witness::take).unwrap_or_default()
    }

    fn start_with(
        template: &'t Template,
        input: Value,
        corners: Corners,
        witness: Option<Witness>,
    ) -> Self {
        let chart = Chart { context: template.context.clone(), ..Chart::default() };
        let mut simulation = Self {
            template,
            chart,
            status: Status::Running,
            now: 0,
            corners,
            cornered: false,
            timers: BTreeMap::new(),
            handles: BTreeMap::new(),
            timers_set: 0,
            own: VecDeque::new(),
            outstanding: BTreeSet::new(),
            compensations: Vec::new(),
            compensating: None,
            ending: false,
            actions: Vec::new(),
            coverage: Coverage::default(),
            witness,
        };
        let init = simulation.event("pled.init".into(), input);
        let manner = Manner { corners, witness: simulation.witness.as_mut() };
        let started = statechart::start_with(template, &init, manner).map(|(chart, macrostep)| {
            simulation.chart = chart;
            macrostep
        });
        simulation.follow(started, &init);
        simulation.drain();
        simulation
    }

    /// Advances the clock, firing what comes due one at a time, in the order of due time and then
    /// of scheduling; what each sends to the execution itself is taken before the next.
    ///
    /// # Errors
    /// If more timers come due than anyone can have meant.
    pub fn advance(&mut self, by_ms: Millis) -> Result<(), TooManyTimers> {
        let end = self.now.saturating_add(by_ms.max(0));
        let mut fired = 0;
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= end
        {
            if fired == FIRINGS_MAX {
                return Err(TooManyTimers);
            }
            fired += 1;
            let ((due, _), timer) = entry.remove_entry();
            self.now = due;
            self.fire(timer);
            self.drain();
        }
        self.now = end;
        Ok(())
    }

    /// Delivers an event, and what follows from it without waiting. A result of an invocation that
    /// is not outstanding is ignored, as are events after the end and, while a cancelled execution
    /// undoes what it did, all but the outcome of that. The data of an `error.compensate` may name
    /// the `invocation` whose compensation failed; else it is the first that was run.
    ///
    /// # Errors
    /// If only the engine makes such events and it is not one that stands for what the world does.
    pub fn deliver(&mut self, event: &EventType, data: Value) -> Result<(), Reserved> {
        let name = event.as_str();
        let expected = match outcome_of(name) {
            Some(id) => self.outstanding.contains(id),
            None if is_outcome_of_compensations(name) => self.compensating.is_some(),
            _ if self.ending => false,
            None if name == "pled.cancel" || name.starts_with("error.action.") => true,
            None if event.is_reserved() => return Err(Reserved(event.clone())),
            None => true,
        };
        if !expected || self.status != Status::Running {
            return Ok(());
        }
        let outcome = outcome_of(name);
        if let Some(id) = outcome {
            self.outstanding.remove(id);
        }
        if is_outcome_of_compensations(name) {
            self.compensated(name, &data);
            if self.ending {
                self.end(Status::Cancelled);
                return Ok(());
            }
        }
        let view = self.event(event.shared(), data);
        let handled = self.take(&view) || self.status != Status::Running;
        match outcome {
            // A person may still complete what failed and was not handled.
            Some(id) if !handled && name.starts_with("error.") => {
                self.outstanding.insert(id.into());
            }
            Some(_) => {}
            None if name == "pled.cancel" && !handled => self.cancel(&view),
            None => {}
        }
        self.drain();
        Ok(())
    }

    /// What is seen now, with the actions since the last observation.
    pub fn observe(&mut self) -> Observation {
        Observation {
            configuration: statechart::leaves(self.template, &self.chart),
            context: self.chart.context.clone(),
            actions: std::mem::take(&mut self.actions),
            status: self.status,
        }
    }

    /// What was used so far.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let mut coverage = self.coverage.clone();
        // A state that was entered and left in one macrostep is known by its transition.
        for (source, transition) in self.template.transitions() {
            if coverage.transitions.contains(&transition.number) {
                coverage.states.insert(source);
            }
        }
        coverage
    }

    /// Takes an event. Says whether the template handled it.
    fn take(&mut self, event: &EventView) -> bool {
        let manner = Manner { corners: self.corners, witness: self.witness.as_mut() };
        let macrostep = statechart::macrostep_with(self.template, &mut self.chart, event, manner);
        self.follow(macrostep, event)
    }

    fn fire(&mut self, timer: Timer<'t>) {
        if let Some(handle) = timer.handle() {
            self.handles.remove(&handle);
        }
        match timer {
            Timer::After { after, .. } => {
                let event = self.event(after.event.clone(), Value::Null);
                self.take(&event);
            }
            Timer::Send { to: None, event, data, .. } => {
                let event = self.event(event.shared(), data);
                self.take(&event);
            }
            Timer::Send { to: Some(to), event, data, .. } => self.show_send(to, &event, data),
        }
    }

    /// Takes what the execution sent to itself, up to the bound of R9.
    fn drain(&mut self) {
        let mut taken = 0;
        while let Some(event) = self.own.pop_front() {
            if taken == self.template.limits.microsteps {
                self.end(Status::Failed);
                return;
            }
            taken += 1;
            self.take(&event);
        }
    }

    fn follow(&mut self, macrostep: Result<Macrostep<'t>, Loop>, event: &EventView) -> bool {
        let Ok(macrostep) = macrostep else {
            self.end(Status::Failed);
            return false;
        };
        self.cornered |= macrostep.cornered;
        self.coverage.states.extend(&self.chart.active);
        self.coverage.transitions.extend(&macrostep.transitions);
        for command in macrostep.commands {
            self.carry_out(command);
        }
        let unhandled = !macrostep.unhandled_errors.is_empty()
            || (event.event_type.starts_with("error.") && !macrostep.handled);
        if unhandled && self.template.on_error == OnError::Fail {
            self.end(Status::Failed);
        } else if macrostep.completed.is_some() {
            self.end(Status::Done);
        }
        macrostep.handled
    }

    fn carry_out(&mut self, command: Command<'t>) {
        match command {
            Command::Task { action, params, .. } => self.actions.push((action.clone(), params)),
            Command::InvokeStart { invoke, input, .. } => {
                self.outstanding.insert(invoke.id.clone());
                let source = match &invoke.source {
                    InvokeSource::Action(action) => action.clone(),
                    InvokeSource::Template(template) => format!("template:{template}").into(),
                };
                let id = invoke.id.clone().into();
                self.show("invoke.start", [("id", id), ("input", input), ("src", source.into())]);
            }
            Command::InvokeCancel { invoke, .. } => {
                if self.outstanding.remove(&invoke.id) {
                    self.show("invoke.cancel", [("id", invoke.id.clone().into())]);
                }
            }
            Command::AfterSet { state, after, delay_ms } => {
                self.set_timer(delay_ms, Timer::After { state, after });
            }
            Command::AfterCancel { state } => {
                for after in &self.template.state(state).after {
                    self.cancel_timer(&Handle::After(state, after.name.clone()));
                }
            }
            Command::Send { to, event, data, delay_ms: Some(delay_ms), id } => {
                self.set_timer(delay_ms, Timer::Send { to, event, data, id });
            }
            Command::Send { to: Some(to), event, data, delay_ms: None, .. } => {
                self.show_send(to, &event, data);
            }
            Command::Send { to: None, event, data, delay_ms: None, .. } => {
                let event = self.event(event.shared(), data);
                self.own.push_back(event);
            }
            Command::SendCancel { id } => self.cancel_timer(&Handle::Send(id)),
            Command::Log(_) => {}
            Command::Spawn { id, template, input, .. } => {
                self.outstanding.insert(id.clone());
                let template = template.to_string().into();
                let id = id.clone().into();
                self.show("spawn", [("id", id), ("input", input), ("template", template)]);
            }
            Command::Stop { id } => {
                if self.outstanding.remove(id) {
                    self.show("stop", [("id", id.clone().into())]);
                }
            }
            Command::CompensationPush { invoke, compensation, input } => {
                self.compensations.push((invoke, compensation, input));
            }
            Command::Compensate => self.compensate(),
        }
    }

    /// Runs the compensations that do not run yet, the last first. Their outcome is injected; that
    /// of none is good.
    fn compensate(&mut self) {
        if self.compensations.is_empty() {
            let event = self.event("done.compensate".into(), Value::Null);
            self.own.push_back(event);
            return;
        }
        let running = self.compensating.replace(self.compensations.len()).unwrap_or(0);
        for (invoke, compensation, input) in self.compensations[running..].iter().rev().cloned() {
            let source = compensation.action.clone().into();
            let id = invoke.id.clone().into();
            self.actions.push((
                "compensate".into(),
                Object::from_iter([("id", id), ("input", input), ("src", source)]).into(),
            ));
        }
    }

    /// Takes those that have undone what they should off the stack: all, or those before the one
    /// that failed, which stays with the rest.
    fn compensated(&mut self, outcome: &str, data: &Value) {
        let running = self.compensating.take().unwrap_or(0).min(self.compensations.len());
        let mut kept = 0;
        if outcome == "error.compensate" {
            let failed = data.get("invocation").and_then(Value::as_str);
            let mut those = self.compensations[..running].iter();
            let named = those.rposition(|(invoke, ..)| Some(&*invoke.id) == failed);
            kept = named.map_or(running, |at| at + 1);
        }
        self.compensations.drain(kept..running);
    }

    /// A cancel that the template does not handle: all states are left, then what was done is
    /// undone.
    fn cancel(&mut self, event: &EventView) {
        let manner = Manner { corners: self.corners, witness: self.witness.as_mut() };
        let macrostep = statechart::exit_with(self.template, &mut self.chart, event, manner);
        for command in macrostep.commands {
            self.carry_out(command);
        }
        if self.compensations.is_empty() {
            return self.end(Status::Cancelled);
        }
        self.compensate();
        self.ending = true;
        self.take_back_pending();
    }

    fn end(&mut self, status: Status) {
        self.status = status;
        self.ending = false;
        self.take_back_pending();
    }

    fn take_back_pending(&mut self) {
        self.timers.clear();
        self.handles.clear();
        self.own.clear();
        for id in std::mem::take(&mut self.outstanding) {
            if self.template.invocation(&id).is_some() {
                self.show("invoke.cancel", [("id", id.into())]);
            }
        }
    }

    /// Sets a timer in the place of the one with its handle. XState keeps the timer of a state that
    /// is set twice, and cannot take it back any more.
    fn set_timer(&mut self, delay_ms: Millis, timer: Timer<'t>) {
        self.timers_set += 1;
        let due = (self.now.saturating_add(delay_ms), self.timers_set);
        if let Some(handle) = timer.handle() {
            let kept = self.corners == Corners::XState && matches!(timer, Timer::After { .. });
            let before = self.handles.insert(handle, due);
            if let Some(before) = before.filter(|_| !kept) {
                self.timers.remove(&before);
            }
        }
        self.timers.insert(due, timer);
    }

    fn cancel_timer(&mut self, handle: &Handle) {
        if let Some(due) = self.handles.remove(handle) {
            self.timers.remove(&due);
        }
    }

    fn show_send(&mut self, to: Arc<str>, event: &EventType, data: Value) {
        let event = event.shared().into();
        self.show("send", [("data", data), ("event", event), ("to", to.into())]);
    }

    fn show<const N: usize>(&mut self, what: &str, members: [(&str, Value); N]) {
        self.actions.push((what.into(), Object::from_iter(members).into()));
    }

    fn event(&self, event_type: Arc<str>, data: Value) -> EventView {
        EventView { event_type, data, id: None, source: None, time: self.now }
    }
}

fn is_outcome_of_compensations(event: &str) -> bool {
    matches!(event, "done.compensate" | "error.compensate")
}

/// The id of the invocation or child whose outcome an event of that name is.
fn outcome_of(event: &str) -> Option<&str> {
    event.strip_prefix("done.invoke.").or_else(|| event.strip_prefix("error.invoke."))
}
