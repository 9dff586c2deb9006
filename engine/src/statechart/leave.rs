//! Leaving states, and what their histories keep (R6, R11).

use std::sync::Arc;

use super::Command;
use super::conflict::Selected;
use super::macrostep::Run;
use crate::expression::EventView;
use crate::template::{StateIndex, StateKind};

impl<'t> Run<'t, '_> {
    /// Leaves what the transitions leave, innermost and last first. Gives what stays active.
    pub(super) fn leave(
        &mut self,
        selected: &[Selected<'t>],
        event: &EventView,
    ) -> Vec<StateIndex> {
        let active = &self.chart.active;
        let mut left: Vec<StateIndex> = Vec::with_capacity(active.len());
        for transition in selected {
            left.extend_from_slice(&active[transition.exit_set(self.template, self.chart)]);
        }
        left.sort_unstable();
        let mut rest = Vec::with_capacity(active.len() + 2);
        rest.extend(active.iter().filter(|state| left.binary_search(state).is_err()));
        for state in &left {
            self.record_history(*state);
        }
        for state in left.iter().rev() {
            self.leave_state(*state, event);
        }
        rest
    }

    /// Runs a state's exit actions, then takes back its timers and invocations.
    pub(super) fn leave_state(&mut self, index: StateIndex, event: &EventView) {
        self.run(index, &self.template.state(index).exit, event);
        self.take_back(index);
    }

    /// Takes back a state's timers and invocations. Those that were set in this macrostep are
    /// withdrawn without a trace (R13).
    pub(super) fn take_back(&mut self, index: StateIndex) {
        let state = self.template.state(index);
        if state.after.is_empty() && state.invoke.is_empty() {
            return;
        }
        let first = self.withdrawn.len();
        self.started.retain(|(of, place)| {
            if *of == index {
                self.withdrawn.push(*place);
            }
            *of != index
        });
        let withdrawn = &self.withdrawn[first..];
        let commands = withdrawn.iter().map(|place| &self.commands[*place]);
        let timers = commands.clone().any(|command| matches!(command, Command::AfterSet { .. }));
        let invocations: Vec<&Arc<str>> = commands
            .filter_map(|command| {
                let Command::InvokeStart { invoke, .. } = command else { return None };
                Some(&invoke.id)
            })
            .collect();
        if !state.after.is_empty() && !timers {
            self.commands.push(Command::AfterCancel { state: index });
        }
        for invoke in &state.invoke {
            if !invocations.contains(&&invoke.id) {
                self.commands.push(Command::InvokeCancel { state: index, invoke });
            }
        }
    }

    /// Records what the history states of `parent` restore, from the configuration before.
    fn record_history(&mut self, parent: StateIndex) {
        let template = self.template;
        for history in &template.state(parent).histories {
            let StateKind::History { deep, .. } = template.state(*history).kind else { continue };
            let active = &self.chart.active;
            let states: Vec<StateIndex> = if deep {
                let leaves = template.leaves(active);
                leaves.filter(|leaf| template.is_descendant(*leaf, parent)).collect()
            } else {
                let children = active.iter().copied();
                children.filter(|child| template.state(*child).parent == Some(parent)).collect()
            };
            if self.chart.history.get(history) != Some(&states) {
                self.chart.history.insert(*history, states);
                self.changed = true;
            }
        }
    }
}
