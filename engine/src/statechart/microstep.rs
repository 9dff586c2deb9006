//! One microstep: what is left, what the transitions do, what is entered (R6).

use super::conflict::{Domain, Selected};
use super::macrostep::{Corners, Run};
use crate::expression::EventView;
use crate::template::StateIndex;

impl<'t> Run<'t, '_> {
    /// Takes the selected transitions. Says whether configuration, context or history changed.
    pub(super) fn microstep(&mut self, selected: &[Selected<'t>], event: &EventView) -> bool {
        if selected.is_empty() {
            return false;
        }
        self.begin();
        self.taken.extend(selected.iter().map(|selected| selected.transition.number));
        if selected.iter().all(|selected| selected.transition.target.is_empty()) {
            self.transition_actions(selected, event);
            return self.changed;
        }
        let mut domains = self.domains(selected);
        let mut active = self.leave(selected, event);
        self.transition_actions(selected, event);
        if self.corners == Corners::XState {
            let before = std::mem::replace(&mut domains, self.domains(selected));
            self.cornered |= before != domains;
        }
        let entry = self.entry_set(selected, &domains);
        self.enter(&entry, &mut active, event);
        self.end(active)
    }

    fn domains(&self, selected: &[Selected<'t>]) -> Vec<Domain> {
        selected.iter().map(|selected| selected.domain(self.template, self.chart)).collect()
    }

    /// Enters the initial configuration.
    pub(super) fn initial_microstep(&mut self, event: &EventView) {
        self.begin();
        let entry = self.initial_entry_set();
        let mut active = Vec::with_capacity(entry.states.len());
        self.enter(&entry, &mut active, event);
        self.end(active);
    }

    /// Leaves all that is active.
    pub(super) fn leave_all(&mut self, event: &EventView) {
        self.begin();
        let active = self.chart.active.clone();
        for state in active.iter().rev() {
            self.leave_state(*state, event);
        }
    }

    fn begin(&mut self) {
        self.microsteps += 1;
        self.changed = false;
        if self.before.is_none() {
            self.before = Some(self.chart.clone());
        }
    }

    fn end(&mut self, active: Vec<StateIndex>) -> bool {
        let moved = self.chart.active != active;
        self.chart.active = active;
        self.changed || moved
    }

    fn transition_actions(&mut self, selected: &[Selected<'t>], event: &EventView) {
        for Selected { source, transition } in selected {
            self.run(*source, &transition.actions, event);
        }
    }
}
