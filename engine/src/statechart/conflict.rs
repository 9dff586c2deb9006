//! What a transition leaves, and which of several transitions are taken together (R5).

use std::ops::Range;

use super::Chart;
use crate::template::{StateIndex, StateKind, Template, Transition};

/// A transition that was selected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selected<'t> {
    /// The state that it stands at.
    pub(super) source: StateIndex,
    /// The transition.
    pub(super) transition: &'t Transition,
}

/// The state within which a transition happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// Proper descendants of this state are left and entered.
    Within(StateIndex),
    /// All is, the root included.
    All,
}

impl Selected<'_> {
    /// Its domain; transitions without target have one that means nothing.
    pub(super) fn domain(&self, template: &Template, chart: &Chart) -> Domain {
        let source = self.source;
        let all = |holds: &dyn Fn(StateIndex) -> bool| {
            let targets = self.transition.target.iter();
            targets.into_iter().all(|target| all_effective(template, chart, *target, holds))
        };
        let inside = |target| target == source || template.is_descendant(target, source);
        if !self.transition.reenter && all(&inside) {
            return Domain::Within(source);
        }
        let common = template
            .ancestors(source)
            .find(|ancestor| all(&|target| template.is_descendant(target, *ancestor)));
        match common {
            Some(ancestor) => Domain::Within(ancestor),
            None if self.transition.reenter => Domain::All,
            None => Domain::Within(0),
        }
    }

    /// Which places of the configuration it leaves: always a whole subtree, so they lie together.
    pub(super) fn exit_set(&self, template: &Template, chart: &Chart) -> Range<usize> {
        if self.transition.target.is_empty() {
            return 0..0;
        }
        let Domain::Within(domain) = self.domain(template, chart) else {
            return 0..chart.active.len();
        };
        let leaves_source = self.transition.reenter && self.source == domain;
        let last = template.state(domain).last;
        let start = chart.active.partition_point(|state| {
            if leaves_source { *state < domain } else { *state <= domain }
        });
        let end = chart.active.partition_point(|state| *state <= last);
        start..end
    }
}

/// Goes through the transitions in order: of two that leave the same state, the one whose source
/// lies within the other's stays, else the earlier one.
pub(super) fn remove_conflicts<'t>(
    template: &Template,
    chart: &Chart,
    selected: Vec<Selected<'t>>,
) -> Vec<Selected<'t>> {
    if selected.len() < 2 {
        return selected;
    }
    let mut kept: Vec<(Selected<'t>, Range<usize>)> = Vec::with_capacity(selected.len());
    for newer in selected {
        let exits = newer.exit_set(template, chart);
        let mut dropped = Vec::new();
        let preempted = kept.iter().enumerate().any(|(at, (older, older_exits))| {
            let conflict = exits.start.max(older_exits.start) < exits.end.min(older_exits.end);
            let inner = template.is_descendant(newer.source, older.source);
            if conflict && inner {
                dropped.push(at);
            }
            conflict && !inner
        });
        if preempted {
            continue;
        }
        for at in dropped.into_iter().rev() {
            kept.remove(at);
        }
        kept.push((newer, exits));
    }
    kept.into_iter().map(|(selected, _)| selected).collect()
}

/// Whether `holds` for all states that `target` stands for.
fn all_effective(
    template: &Template,
    chart: &Chart,
    target: StateIndex,
    holds: &dyn Fn(StateIndex) -> bool,
) -> bool {
    match restored(template, chart, target) {
        None => holds(target),
        Some(Restored::Recorded(states) | Restored::Default(states)) => {
            states.iter().all(|state| holds(*state))
        }
        Some(Restored::Parent(parent)) => match template.state(parent).kind {
            StateKind::Compound { initial, .. } => holds(initial),
            StateKind::Atomic
            | StateKind::Parallel
            | StateKind::Final
            | StateKind::History { .. } => holds(parent),
        },
    }
}

/// What a history state stands for.
#[derive(Debug)]
pub(super) enum Restored<'a> {
    /// What was active when its parent was last left.
    Recorded(&'a [StateIndex]),
    /// Its default targets.
    Default(&'a [StateIndex]),
    /// The default entry of its parent.
    Parent(StateIndex),
}

/// What `state` stands for if it is a history state.
pub(super) fn restored<'a>(
    template: &'a Template,
    chart: &'a Chart,
    state: StateIndex,
) -> Option<Restored<'a>> {
    let compiled = template.state(state);
    let StateKind::History { default, .. } = &compiled.kind else { return None };
    Some(match (chart.history.get(&state), compiled.parent) {
        (Some(states), _) => Restored::Recorded(states),
        (None, Some(parent)) if default.is_empty() => Restored::Parent(parent),
        (None, _) => Restored::Default(default),
    })
}
