//! Which transitions an event takes (R3), and which are taken without one (R4).

use std::sync::Arc;

use super::conflict::{Selected, remove_conflicts};
use super::macrostep::{Corners, Run};
use crate::expression::EventView;
use crate::template::{StateIndex, StateKind, Transition};

impl<'t> Run<'t, '_> {
    /// The transitions that `event` takes, in document order of their sources, without conflicts.
    pub(super) fn select(&mut self, event: &EventView) -> Vec<Selected<'t>> {
        let mut selected = Vec::new();
        match self.corners {
            Corners::Pled if self.chart.active.is_empty() => {}
            Corners::Pled => {
                self.select_within(0, event, &mut selected);
            }
            Corners::XState => self.select_as_xstate(0, event, &mut selected),
        }
        self.without_conflicts(selected, Some(&event.event_type))
    }

    /// Selects in the subtree of the active state at place `at`: inner states first, its own
    /// transitions only if they selected nothing. Gives the place behind the subtree.
    fn select_within(
        &mut self,
        at: usize,
        event: &EventView,
        selected: &mut Vec<Selected<'t>>,
    ) -> usize {
        let template = self.template;
        let source = self.chart.active[at];
        let state = template.state(source);
        let before = selected.len();
        let mut next = at + 1;
        while self.chart.active.get(next).is_some_and(|inner| *inner <= state.last) {
            next = self.select_within(next, event, selected);
        }
        if selected.len() == before {
            self.select_own(source, event, selected);
        }
        next
    }

    /// Selects the first transition at `source` that matches and whose guard holds.
    fn select_own(
        &mut self,
        source: StateIndex,
        event: &EventView,
        selected: &mut Vec<Selected<'t>>,
    ) {
        let mut matching = self.template.state(source).on.matching(&event.event_type);
        let taken = matching.find(|candidate| self.guard_holds(candidate, event));
        selected.extend(taken.map(|transition| Selected { source, transition }));
    }

    /// As [`Self::select_within`], but where a compound state has no child active, which is no
    /// legal configuration, its initial one is asked.
    fn select_as_xstate(
        &mut self,
        source: StateIndex,
        event: &EventView,
        selected: &mut Vec<Selected<'t>>,
    ) {
        let template = self.template;
        let before = selected.len();
        match template.state(source).kind {
            StateKind::Compound { initial, .. } => {
                let is_active = |child: &StateIndex| self.chart.active.binary_search(child).is_ok();
                let child = template.regions(source).find(is_active).unwrap_or(initial);
                self.select_as_xstate(child, event, selected);
            }
            StateKind::Parallel => {
                for region in template.regions(source) {
                    self.select_as_xstate(region, event, selected);
                }
            }
            StateKind::Atomic | StateKind::Final | StateKind::History { .. } => {}
        }
        if selected.len() == before {
            self.select_own(source, event, selected);
        }
    }

    /// The eventless transitions that are enabled, without conflicts. Each active leaf, in document
    /// order, gives the first that holds on its way to the root.
    pub(super) fn select_eventless(&mut self, event: &EventView) -> Vec<Selected<'t>> {
        let template = self.template;
        let mut selected: Vec<Selected<'t>> = Vec::new();
        // Ancestors of several leaves need to be asked once only.
        let mut without: Vec<StateIndex> = Vec::new();
        for at in 0..self.chart.active.len() {
            let leaf = self.chart.active[at];
            let next = self.chart.active.get(at + 1);
            if next.is_some_and(|next| *next <= template.state(leaf).last) {
                continue;
            }
            let mut source = Some(leaf);
            while let Some(index) = source {
                let state = template.state(index);
                source = state.parent;
                if state.always.is_empty() || without.contains(&index) {
                    continue;
                }
                if selected.iter().any(|other| other.source == index) {
                    break;
                }
                let taken = state.always.iter().find(|always| self.guard_holds(always, event));
                if let Some(transition) = taken {
                    selected.push(Selected { source: index, transition });
                    break;
                }
                if index != leaf {
                    without.push(index);
                }
            }
        }
        self.without_conflicts(selected, None)
    }

    fn without_conflicts(
        &mut self,
        selected: Vec<Selected<'t>>,
        event: Option<&Arc<str>>,
    ) -> Vec<Selected<'t>> {
        let Some(witness) = &mut self.witness else {
            return remove_conflicts(self.template, self.chart, selected);
        };
        let kept = remove_conflicts(self.template, self.chart, selected.clone());
        witness.selected(self.template, self.chart, event, &selected, &kept);
        kept
    }

    /// A guard that has no value does not hold. Each is reported once in a macrostep: were it
    /// reported each time, an `always` or a `*` would fail on the report of its own failure for
    /// ever.
    fn guard_holds(&mut self, transition: &Transition, event: &EventView) -> bool {
        let Some(guard) = &transition.guard else { return true };
        let holds = self.holds(guard, event);
        if let Some(witness) = &mut self.witness {
            witness.asked(transition.number);
        }
        match holds {
            Ok(holds) => holds,
            Err(error) => {
                if !self.failed_guards.contains(&transition.number) {
                    self.failed_guards.push(transition.number);
                    self.report(event, format!("{}/guard", transition.pointer), &error);
                }
                false
            }
        }
    }
}
