//! The macrostep: an event, then eventless transitions and internal events until none is left
//! (R8), within its bounds (R9).

use std::collections::VecDeque;
use std::sync::Arc;

use super::conflict::Selected;
use super::{Chart, Command, Loop, Macrostep, Witness};
use crate::expression::{Budget, EvalError, EventView, Expression, Scope};
use crate::template::{StateIndex, Template};
use crate::value::{Object, Value};

/// Bytes of values that expressions may produce in one macrostep (TEMPLATE section 7.2).
pub(super) const PRODUCED_BYTES_MAX: u64 = 1 << 20;

/// The event of an error in logic (R14).
const ERROR_EXECUTION: &str = "error.execution";

/// Enters the initial states of `template` and runs to quiescence. `input` is the `pled.init` that
/// root `entry` and the entry actions below it see.
///
/// # Errors
/// If it does not come to rest within the template's bound of microsteps.
pub fn start<'t>(
    template: &'t Template,
    input: &EventView,
) -> Result<(Chart, Macrostep<'t>), Loop> {
    start_with(template, input, Manner::default())
}

pub(crate) fn start_with<'t>(
    template: &'t Template,
    input: &EventView,
    manner: Manner<'_>,
) -> Result<(Chart, Macrostep<'t>), Loop> {
    let mut chart = Chart { context: template.context.clone(), ..Chart::default() };
    let macrostep = Run::new(template, &mut chart, manner).start(input)?;
    Ok((chart, macrostep))
}

/// Lets `event` act on `chart`: the transitions that it selects, then all that follows.
///
/// An event that selects nothing, where no eventless transition waits, costs look-ups along the
/// active states and no allocation.
///
/// # Errors
/// If it does not come to rest within the template's bound of microsteps. `chart` is then as it was.
pub fn macrostep<'t>(
    template: &'t Template,
    chart: &mut Chart,
    event: &EventView,
) -> Result<Macrostep<'t>, Loop> {
    macrostep_with(template, chart, event, Manner::default())
}

pub(crate) fn macrostep_with<'t>(
    template: &'t Template,
    chart: &mut Chart,
    event: &EventView,
    manner: Manner<'_>,
) -> Result<Macrostep<'t>, Loop> {
    Run::new(template, chart, manner).take(event)
}

/// Says whether a guard holds, in the place of its evaluation.
pub type Decide<'d> = &'d mut dyn FnMut(&Expression, &Scope<'_>) -> bool;

/// As [`start()`], where `decide` says whether guards hold, those of `choose` included: for
/// exploring what may happen rather than what does.
///
/// # Errors
/// As [`start()`].
pub fn start_deciding<'t>(
    template: &'t Template,
    input: &EventView,
    decide: Decide<'_>,
) -> Result<(Chart, Macrostep<'t>), Loop> {
    let mut chart = Chart { context: template.context.clone(), ..Chart::default() };
    let manner = Manner::default();
    let run = Run { decide: Some(decide), ..Run::new(template, &mut chart, manner) };
    let macrostep = run.start(input)?;
    Ok((chart, macrostep))
}

/// As [`macrostep()`], where `decide` says whether guards hold, those of `choose` included.
///
/// # Errors
/// As [`macrostep()`].
pub fn macrostep_deciding<'t>(
    template: &'t Template,
    chart: &mut Chart,
    event: &EventView,
    decide: Decide<'_>,
) -> Result<Macrostep<'t>, Loop> {
    Run { decide: Some(decide), ..Run::new(template, chart, Manner::default()) }.take(event)
}

/// Leaves all states for an end from outside: exit actions, then timers and invocations, innermost
/// and last first. What the actions raise is not heard any more.
pub fn exit<'t>(template: &'t Template, chart: &mut Chart, event: &EventView) -> Macrostep<'t> {
    exit_with(template, chart, event, Manner::default())
}

pub(crate) fn exit_with<'t>(
    template: &'t Template,
    chart: &mut Chart,
    event: &EventView,
    manner: Manner<'_>,
) -> Macrostep<'t> {
    let mut run = Run::new(template, chart, manner);
    run.leave_all(event);
    run.finish()
}

/// What is done where XState 5.33.3 contradicts the rules of TEMPLATE section 7.1.
///
/// Both corners are reached by a transition to a history state whose parent holds the source. Where
/// the parent is parallel, was never left and has no default target, XState leaves it, records the
/// history, and then takes the parts for the targets, so that it enters them without the parent:
/// its configuration is illegal from then on. Where the history restores the source itself, it sets
/// the timers of that state a second time and loses hold of the first ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Corners {
    /// The parent is entered again; timers and invocations begin afresh.
    #[default]
    Pled,
    /// The same as XState, for comparing the two: see [`crate::simulate::simulate_line`].
    XState,
}

/// How the algorithm is run. It makes no difference to an engine.
#[derive(Debug, Default)]
pub(crate) struct Manner<'w> {
    pub(crate) corners: Corners,
    /// Who is told of what was looked at.
    pub(crate) witness: Option<&'w mut Witness>,
}

impl<'w> Manner<'w> {
    /// The engine's, told to this witness.
    pub(crate) fn seen_by(witness: Option<&'w mut Witness>) -> Self {
        Self { witness, ..Self::default() }
    }
}

/// A macrostep on its way.
pub(super) struct Run<'t, 'c> {
    pub(super) template: &'t Template,
    /// The configuration before the microstep; context and history as they are.
    pub(super) chart: &'c mut Chart,
    pub(super) corners: Corners,
    /// Whether XState's way was gone where it is another.
    pub(super) cornered: bool,
    /// Asked for guards instead of evaluating them.
    pub(super) decide: Option<Decide<'c>>,
    pub(super) witness: Option<&'c mut Witness>,
    pub(super) budget: Budget,
    pub(super) internal: VecDeque<EventView>,
    pub(super) commands: Vec<Command<'t>>,
    /// Where in `commands` the timers and invocations stand that were started in this macrostep,
    /// with their states, which are still active.
    pub(super) started: Vec<(StateIndex, usize)>,
    /// Places in `commands` that came to nothing.
    pub(super) withdrawn: Vec<usize>,
    /// The chart as it was, once something is about to change it.
    pub(super) before: Option<Chart>,
    /// Whether the microstep changed context or history.
    pub(super) changed: bool,
    /// Bytes of the context in canonical form, once they were counted.
    pub(super) context_bytes: Option<usize>,
    pub(super) failed_guards: Vec<u32>,
    pub(super) taken: Vec<u32>,
    pub(super) completed: Option<Value>,
    pub(super) microsteps: u32,
    handled: bool,
    /// Microsteps, those that selected nothing included.
    counted: u32,
    /// Whether the end of the budget was reported.
    exhausted: bool,
    unhandled_errors: Vec<EventView>,
}

impl<'t, 'c> Run<'t, 'c> {
    fn new(template: &'t Template, chart: &'c mut Chart, manner: Manner<'c>) -> Self {
        let Manner { corners, witness } = manner;
        Self {
            template,
            chart,
            corners,
            witness,
            cornered: false,
            decide: None,
            budget: Budget { steps: template.limits.logic_steps, bytes: PRODUCED_BYTES_MAX },
            internal: VecDeque::new(),
            commands: Vec::new(),
            started: Vec::new(),
            withdrawn: Vec::new(),
            before: None,
            changed: false,
            context_bytes: None,
            failed_guards: Vec::new(),
            taken: Vec::new(),
            completed: None,
            microsteps: 0,
            handled: false,
            counted: 0,
            exhausted: false,
            unhandled_errors: Vec::new(),
        }
    }

    fn start(mut self, input: &EventView) -> Result<Macrostep<'t>, Loop> {
        self.handled = true;
        if let Some(witness) = &mut self.witness {
            witness.started();
        }
        self.count()?;
        self.initial_microstep(input);
        self.settle(input)?;
        Ok(self.finish())
    }

    fn take(mut self, event: &EventView) -> Result<Macrostep<'t>, Loop> {
        self.push_compensation(event);
        let selected = self.select(event);
        self.handled = !selected.is_empty();
        let settled = self.count().and_then(|()| {
            self.microstep(&selected, event);
            self.settle(event)
        });
        match settled {
            Ok(()) => Ok(self.finish()),
            Err(bound) => {
                self.roll_back();
                Err(bound)
            }
        }
    }

    /// Whether a guard holds. If it has no value, the error comes back.
    pub(super) fn holds(
        &mut self,
        guard: &Expression,
        event: &EventView,
    ) -> Result<bool, EvalError> {
        let scope = scope(self.chart, event);
        match (&mut self.decide, &mut self.witness) {
            (Some(decide), _) => Ok(decide(guard, &scope)),
            (None, None) => guard.holds(&scope, &mut self.budget),
            (None, Some(witness)) => {
                let state_id = |state| self.template.state(state).id.clone();
                let (holds, trace) = guard.holds_traced(&scope, &mut self.budget, &state_id);
                witness.evaluated(trace, holds.is_err());
                holds
            }
        }
    }

    /// Eventless transitions first, then one internal event, until both are exhausted or the
    /// execution is done. `event` is seen until an internal one is taken.
    fn settle(&mut self, event: &EventView) -> Result<(), Loop> {
        let mut taken: Option<EventView> = None;
        let mut eventless = true;
        while self.completed.is_none() {
            let current = taken.as_ref().unwrap_or(event);
            let selected = if eventless { self.select_eventless(current) } else { Vec::new() };
            if !selected.is_empty() {
                self.count()?;
                eventless = self.microstep(&selected, current);
                continue;
            }
            let Some(next) = self.internal.pop_front() else { break };
            self.count()?;
            self.take_internal(&next);
            eventless = true;
            taken = Some(next);
        }
        Ok(())
    }

    fn take_internal(&mut self, event: &EventView) {
        let selected: Vec<Selected<'t>> = self.select(event);
        if selected.is_empty() && &*event.event_type == ERROR_EXECUTION {
            self.unhandled_errors.push(event.clone());
        }
        self.microstep(&selected, event);
    }

    fn count(&mut self) -> Result<(), Loop> {
        let bound = self.template.limits.microsteps;
        if self.counted == bound {
            return Err(Loop { bound });
        }
        self.counted += 1;
        Ok(())
    }

    fn roll_back(self) {
        if let Some(before) = self.before {
            *self.chart = before;
        }
    }

    fn finish(mut self) -> Macrostep<'t> {
        let rest = self.internal.drain(..);
        self.unhandled_errors.extend(rest.filter(|event| &*event.event_type == ERROR_EXECUTION));
        if !self.withdrawn.is_empty() {
            self.withdrawn.sort_unstable();
            let mut withdrawn = self.withdrawn.iter().peekable();
            let mut place = 0;
            self.commands.retain(|_| {
                let drop = withdrawn.next_if(|next| **next == place).is_some();
                place += 1;
                !drop
            });
        }
        Macrostep {
            commands: self.commands,
            microsteps: self.microsteps,
            handled: self.handled,
            transitions: self.taken,
            unhandled_errors: self.unhandled_errors,
            completed: self.completed,
            cornered: self.cornered,
        }
    }

    /// Queues `error.execution`. That the budget is used up is said once: all that follows fails
    /// for the same reason.
    pub(super) fn report(&mut self, event: &EventView, place: String, error: &EvalError) {
        if matches!(error, EvalError::Budget(_)) && std::mem::replace(&mut self.exhausted, true) {
            return;
        }
        let data = Object::from_iter([
            ("message", Value::from(error.to_string())),
            ("where", Value::from(place)),
        ]);
        self.raise(event, ERROR_EXECUTION.into(), data.into());
    }

    /// Queues an internal event, at the time of the one that is being taken.
    pub(super) fn raise(&mut self, event: &EventView, event_type: Arc<str>, data: Value) {
        let (id, source, time) = (None, None, event.time);
        self.internal.push_back(EventView { event_type, data, id, source, time });
    }
}

/// What logic of a statechart sees.
pub(super) fn scope<'a>(chart: &'a Chart, event: &'a EventView) -> Scope<'a> {
    Scope { context: Some(&chart.context), event, item: None, active: &chart.active }
}
