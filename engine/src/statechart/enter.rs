//! Entering states, and what is done when they are final (R6).

use super::Command;
use super::conflict::{Domain, Restored, Selected, restored};
use super::macrostep::{Corners, Run, scope};
use crate::expression::EventView;
use crate::template::{After, StateIndex, StateKind, Template};
use crate::value::Value;

/// What a microstep enters. Both ascend, so both are sets.
#[derive(Debug, Default)]
pub(super) struct EntrySet {
    /// The states.
    pub(super) states: Vec<StateIndex>,
    /// Those of them that were entered as such or by default, whose `initial` actions run.
    by_default: Vec<StateIndex>,
}

impl EntrySet {
    fn add(&mut self, state: StateIndex) {
        insert(&mut self.states, state);
    }

    fn add_default(&mut self, state: StateIndex) {
        self.add(state);
        insert(&mut self.by_default, state);
    }

    /// Whether a proper descendant of `state`, whose last one is `last`, is in the set.
    fn has_within(&self, state: StateIndex, last: StateIndex) -> bool {
        let next = self.states.partition_point(|other| *other <= state);
        self.states.get(next).is_some_and(|other| *other <= last)
    }
}

impl<'t> Run<'t, '_> {
    /// What the transitions enter within their domains, with the history as it is after the exits.
    pub(super) fn entry_set(&self, selected: &[Selected<'t>], domains: &[Domain]) -> EntrySet {
        let mut entry = EntrySet::default();
        for (transition, domain) in selected.iter().zip(domains) {
            if !transition.transition.target.is_empty() {
                self.add_targets(transition, *domain, &mut entry);
            }
        }
        entry
    }

    /// What the start enters: the root and all below it by default.
    pub(super) fn initial_entry_set(&self) -> EntrySet {
        let mut entry = EntrySet::default();
        entry.add_default(0);
        self.add_descendants(0, &mut entry);
        entry
    }

    fn add_targets(&self, selected: &Selected<'t>, domain: Domain, entry: &mut EntrySet) {
        let Selected { source, transition } = *selected;
        for target in &transition.target {
            let is_history = restored(self.template, self.chart, *target).is_some();
            let stays =
                *target == source && domain == Domain::Within(source) && !transition.reenter;
            if !is_history && !stays {
                entry.add_default(*target);
            }
            self.add_descendants(*target, entry);
        }
        for target in &transition.target {
            match restored(self.template, self.chart, *target) {
                None => self.add_ancestors(*target, domain, entry),
                Some(Restored::Recorded(states) | Restored::Default(states)) => {
                    for state in states {
                        self.add_ancestors(*state, domain, entry);
                    }
                }
                Some(Restored::Parent(parent)) => match self.template.state(parent).kind {
                    StateKind::Compound { initial, .. } => {
                        self.add_ancestors(initial, domain, entry);
                    }
                    StateKind::Atomic
                    | StateKind::Parallel
                    | StateKind::Final
                    | StateKind::History { .. } => self.add_ancestors(parent, domain, entry),
                },
            }
        }
    }

    /// Adds the ancestors of `state` up to the domain, and the other regions of the parallel ones
    /// among them, the domain included.
    fn add_ancestors(&self, state: StateIndex, domain: Domain, entry: &mut EntrySet) {
        let top = match domain {
            Domain::Within(domain) => Some(domain),
            Domain::All => None,
        };
        if top != Some(state) {
            self.add_ancestors_below(state, top, entry);
        }
        if let Some(top) = top {
            self.add_regions(top, entry);
        }
    }

    /// Adds the regions of a parallel state of which nothing is entered yet. They are entered
    /// because another one was, so their own `initial` actions do not run.
    fn add_regions(&self, parallel: StateIndex, entry: &mut EntrySet) {
        if !matches!(self.template.state(parallel).kind, StateKind::Parallel) {
            return;
        }
        for region in self.template.regions(parallel) {
            if !entry.has_within(region, self.template.state(region).last) {
                entry.add(region);
                self.add_descendants(region, entry);
            }
        }
    }

    /// Adds what is entered with `state`: children by default, or what a history restores.
    fn add_descendants(&self, state: StateIndex, entry: &mut EntrySet) {
        match restored(self.template, self.chart, state) {
            Some(restored) => self.add_restored(state, &restored, entry),
            None => match self.template.state(state).kind {
                StateKind::Compound { initial, .. } => {
                    entry.add_default(initial);
                    self.add_descendants(initial, entry);
                }
                StateKind::Parallel => {
                    for region in self.template.regions(state) {
                        if !entry.has_within(region, self.template.state(region).last) {
                            entry.add_default(region);
                            self.add_descendants(region, entry);
                        }
                    }
                }
                StateKind::Atomic | StateKind::Final | StateKind::History { .. } => {}
            },
        }
    }

    fn add_restored(&self, history: StateIndex, restored: &Restored<'_>, entry: &mut EntrySet) {
        let Some(parent) = self.template.state(history).parent else { return };
        match restored {
            Restored::Recorded(states) | Restored::Default(states) => {
                for state in *states {
                    entry.add(*state);
                    self.add_descendants(*state, entry);
                }
                for state in *states {
                    self.add_ancestors_below(*state, Some(parent), entry);
                }
            }
            Restored::Parent(_) => match self.template.state(parent).kind {
                StateKind::Compound { initial, .. } => {
                    entry.add(initial);
                    insert(&mut entry.by_default, parent);
                    self.add_descendants(initial, entry);
                }
                StateKind::Atomic
                | StateKind::Parallel
                | StateKind::Final
                | StateKind::History { .. } => {
                    entry.add(parent);
                    self.add_descendants(parent, entry);
                }
            },
        }
    }

    /// Adds the ancestors of `state` below `top`, to the root included without one.
    fn add_ancestors_below(
        &self,
        state: StateIndex,
        top: Option<StateIndex>,
        entry: &mut EntrySet,
    ) {
        let below = |ancestor: &StateIndex| Some(*ancestor) != top;
        for ancestor in self.template.ancestors(state).take_while(below) {
            entry.add(ancestor);
            self.add_regions(ancestor, entry);
        }
    }

    /// Enters what `entry` says in document order, adding it to `active`. If that ends the
    /// execution, all of it is left.
    pub(super) fn enter(
        &mut self,
        entry: &EntrySet,
        active: &mut Vec<StateIndex>,
        event: &EventView,
    ) {
        let mut done: Vec<StateIndex> = Vec::new();
        let mut end: Option<EventView> = None;
        for index in &entry.states {
            let state = self.template.state(*index);
            if !insert(active, *index) {
                // A history restores the source, which was not left: its work begins afresh (R11).
                match self.corners {
                    Corners::Pled => self.take_back(*index),
                    Corners::XState => {
                        self.cornered |= !state.after.is_empty() || !state.invoke.is_empty();
                    }
                }
            }
            self.run(*index, &state.entry, event);
            self.set_timers(*index, event);
            for invoke in &state.invoke {
                self.start_invocation(*index, invoke, event);
            }
            if let StateKind::Compound { actions, .. } = &state.kind
                && entry.by_default.binary_search(index).is_ok()
            {
                self.run(*index, actions, event);
            }
            if matches!(state.kind, StateKind::Final) {
                end = self.enter_final(*index, active, &mut done, event).or(end);
            }
        }
        if let Some(end) = end {
            self.complete(active, event, &end);
        }
    }

    /// Queues `done.state` of the parent of a final state, and of the parallel states around it
    /// that are complete by it and not yet among those that are `done`. Gives that event of the
    /// root, if it is complete.
    fn enter_final(
        &mut self,
        index: StateIndex,
        active: &[StateIndex],
        done: &mut Vec<StateIndex>,
        event: &EventView,
    ) -> Option<EventView> {
        let template = self.template;
        let parent = template.state(index).parent?;
        let mut data = Value::Null;
        let mut around = Some(parent);
        if matches!(template.state(parent).kind, StateKind::Compound { .. }) {
            data = self.final_output(index, event);
            self.raise(event, template.state(parent).done_event.clone(), data.clone());
            around = template.state(parent).parent;
        }
        while let Some(parallel) = around
            && matches!(template.state(parallel).kind, StateKind::Parallel)
            && !done.contains(&parallel)
            && is_complete(template, active, parallel)
        {
            done.push(parallel);
            data = Value::Null;
            self.raise(event, template.state(parallel).done_event.clone(), Value::Null);
            around = template.state(parallel).parent;
        }
        let event_type = template.state(0).done_event.clone();
        let (id, source, time) = (None, None, event.time);
        around.is_none().then_some(EventView { event_type, data, id, source, time })
    }

    fn final_output(&mut self, index: StateIndex, event: &EventView) -> Value {
        let Some(output) = &self.template.state(index).output else { return Value::Null };
        output.evaluate(&scope(self.chart, event), &mut self.budget).unwrap_or_else(|error| {
            self.report(event, format!("{}/output", self.template.pointer(index)), &error);
            Value::Null
        })
    }

    /// The execution is done: what is active is left, innermost and last first, then the output is
    /// evaluated with the root's `done.state`.
    fn complete(&mut self, active: &[StateIndex], event: &EventView, done: &EventView) {
        for state in active.iter().rev() {
            self.leave_state(*state, event);
        }
        let output = self.template.output.as_ref().map_or(Ok(Value::Null), |output| {
            output.evaluate(&scope(self.chart, done), &mut self.budget)
        });
        self.completed = Some(output.unwrap_or_else(|error| {
            self.report(done, "/output".to_owned(), &error);
            Value::Null
        }));
    }

    /// Sets the timers of a state that was entered, by ascending delay (R12).
    fn set_timers(&mut self, state: StateIndex, event: &EventView) {
        let timers = &self.template.state(state).after;
        let mut due: Vec<(i64, &'t After)> = Vec::with_capacity(timers.len());
        for after in timers {
            match self.delay_ms(&after.delay, event) {
                Ok(delay_ms) => due.push((delay_ms, after)),
                Err(error) => {
                    let place = format!("{}/after/{}", self.template.pointer(state), after.name);
                    self.report(event, place, &error);
                }
            }
        }
        due.sort_by_key(|(delay_ms, _)| *delay_ms);
        for (delay_ms, after) in due {
            self.started.push((state, self.commands.len()));
            self.commands.push(Command::AfterSet { state, after, delay_ms });
        }
    }
}

/// Whether a compound state has a final child active, or all regions of a parallel one have.
fn is_complete(template: &Template, active: &[StateIndex], index: StateIndex) -> bool {
    let state = template.state(index);
    match state.kind {
        StateKind::Compound { .. } => {
            let next = active.partition_point(|other| *other <= index);
            let child = active.get(next).filter(|child| **child <= state.last);
            child.is_some_and(|child| matches!(template.state(*child).kind, StateKind::Final))
        }
        StateKind::Parallel => {
            template.regions(index).all(|region| is_complete(template, active, region))
        }
        StateKind::Final => true,
        StateKind::Atomic | StateKind::History { .. } => false,
    }
}

/// Adds `state` to an ascending list; false if it is there already.
fn insert(states: &mut Vec<StateIndex>, state: StateIndex) -> bool {
    if states.last().is_none_or(|last| *last < state) {
        states.push(state);
        return true;
    }
    let place = states.binary_search(&state);
    if let Err(place) = place {
        states.insert(place, state);
    }
    place.is_err()
}
