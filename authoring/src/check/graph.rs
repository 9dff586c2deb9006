//! Where an execution can get, by the shape of the chart alone: guards may hold or not.

use std::collections::BTreeSet;

use pled_engine::template::{
    Action, ActionKind, Descriptors, StateIndex, StateKind, Template, Transition,
};

use super::reads::{asks_for_state, reads};
use super::{Found, code};

/// What was learnt of the chart's shape.
pub(crate) struct Shape {
    /// Whether each state can be entered.
    pub(crate) reachable: Vec<bool>,
    /// States that were reported for having no way out or on, and those that lead only there.
    pub(crate) stuck: BTreeSet<StateIndex>,
    /// Whether the root has a final state.
    pub(crate) ends: bool,
}

/// Unreachable states, dead ends, states without a way to the end, cycles of `always`.
pub(super) fn findings(found: &mut Found<'_, '_>) -> Shape {
    let template = found.template();
    let reachable = reachable(template, &[0]);
    let ends = template
        .regions(0)
        .any(|child| matches!(template.state(child).kind, StateKind::Final))
        || matches!(template.state(0).kind, StateKind::Parallel) && all_regions_end(template, 0);
    unreachable(found, &reachable);
    let circles = always_cycles(found, &reachable);
    let mut shape = Shape { reachable, stuck: BTreeSet::new(), ends };
    stuck(found, &circles, &mut shape);
    if !ends {
        found.add_at_state(
            &code::NO_FINAL,
            0,
            "the template has no final state, so its executions run until they are cancelled",
            "that is right for a twin of a device; else add a state with `\"type\": \"final\"`",
        );
    }
    shape
}

fn at(index: StateIndex) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// What can be entered once `from` was.
fn reachable(template: &Template, from: &[StateIndex]) -> Vec<bool> {
    let mut walk = Walk { template, active: vec![false; template.states.len()], open: Vec::new() };
    for state in from {
        walk.enter(*state);
    }
    while let Some(state) = walk.open.pop() {
        for transition in all_transitions(template, state) {
            for target in &transition.target {
                walk.enter(*target);
            }
        }
    }
    walk.active
}

pub(super) fn all_transitions(
    template: &Template,
    state: StateIndex,
) -> impl Iterator<Item = &Transition> {
    let state = template.state(state);
    state.on.iter().chain(&state.always)
}

struct Walk<'t> {
    template: &'t Template,
    active: Vec<bool>,
    open: Vec<StateIndex>,
}

impl Walk<'_> {
    /// Enters a state, those around it, and what is entered with them by default.
    fn enter(&mut self, state: StateIndex) {
        if self.active[at(state)] && self.is_entered_below(state) {
            return;
        }
        let mut around = self.template.state(state).parent;
        self.mark(state);
        match &self.template.state(state).kind {
            StateKind::Compound { initial, .. } => self.enter(*initial),
            StateKind::Parallel => self.enter_regions(state),
            StateKind::History { default, .. } => {
                for target in default {
                    self.enter(*target);
                }
                if let (true, Some(parent)) = (default.is_empty(), around) {
                    self.enter(parent);
                }
            }
            StateKind::Atomic | StateKind::Final => {}
        }
        while let Some(parent) = around {
            let is_new = !self.active[at(parent)];
            self.mark(parent);
            if is_new && matches!(self.template.state(parent).kind, StateKind::Parallel) {
                self.enter_regions(parent);
            }
            around = self.template.state(parent).parent;
        }
    }

    fn enter_regions(&mut self, parallel: StateIndex) {
        for region in self.template.regions(parallel) {
            self.enter(region);
        }
    }

    fn is_entered_below(&self, state: StateIndex) -> bool {
        match self.template.state(state).kind {
            StateKind::Compound { initial, .. } => self.active[at(initial)],
            StateKind::Parallel => {
                self.template.regions(state).all(|region| self.active[at(region)])
            }
            StateKind::Atomic | StateKind::Final | StateKind::History { .. } => true,
        }
    }

    fn mark(&mut self, state: StateIndex) {
        if !std::mem::replace(&mut self.active[at(state)], true) {
            self.open.push(state);
        }
    }
}

/// Of the states that cannot be entered, those are named that are not behind others.
fn unreachable(found: &mut Found<'_, '_>, reachable: &[bool]) {
    let template = found.template();
    let mut covered = reachable.to_vec();
    let entered_from_dead: BTreeSet<StateIndex> = (0..)
        .zip(&template.states)
        .filter(|(index, _)| !reachable[at(*index)])
        .flat_map(|(index, _)| {
            let targets = all_transitions(template, index).flat_map(|it| &it.target);
            targets.copied().filter(move |target| *target != index)
        })
        .collect();
    for behind_others in [false, true] {
        for (index, state) in (0..).zip(&template.states) {
            let held = state.parent.is_some_and(|parent| !reachable[at(parent)]);
            if covered[at(index)] || held || (entered_from_dead.contains(&index) && !behind_others)
            {
                continue;
            }
            for (index, is_behind) in self::reachable(template, &[index]).iter().enumerate() {
                covered[index] |= is_behind;
            }
            let (what, help) = match state.kind {
                StateKind::History { .. } => (
                    "no transition leads to the history state",
                    "let a transition have it as its target, or remove it",
                ),
                StateKind::Atomic
                | StateKind::Compound { .. }
                | StateKind::Parallel
                | StateKind::Final => (
                    "nothing leads to the state",
                    "let a transition or `initial` lead to it, or remove it",
                ),
            };
            found.add_at_state(
                &code::UNREACHABLE,
                index,
                format!("{what} {:?}, so it is never entered", &*state.id),
                help,
            );
        }
    }
}

/// Whether all regions of a parallel state can be complete.
fn all_regions_end(template: &Template, parallel: StateIndex) -> bool {
    template.regions(parallel).all(|region| can_be_complete(template, region))
}

/// Whether a state can be complete, by its shape: a compound one with a final child, a parallel one
/// of such regions.
pub(crate) fn can_be_complete(template: &Template, index: StateIndex) -> bool {
    match template.state(index).kind {
        StateKind::Compound { .. } => template
            .regions(index)
            .any(|child| matches!(template.state(child).kind, StateKind::Final)),
        StateKind::Parallel => all_regions_end(template, index),
        StateKind::Final => true,
        StateKind::Atomic | StateKind::History { .. } => false,
    }
}

/// The states without a way out, and those without a way to the end.
fn stuck(found: &mut Found<'_, '_>, circles: &BTreeSet<StateIndex>, shape: &mut Shape) {
    let template = found.template();
    let ways = Ways::of(template);
    let leaves: Vec<StateIndex> = (0..)
        .zip(&template.states)
        .filter(|(index, state)| {
            shape.reachable[at(*index)]
                && state.children.is_empty()
                && matches!(state.kind, StateKind::Atomic | StateKind::Final)
                && !is_end(template, *index)
        })
        .map(|(index, _)| index)
        .collect();
    for leaf in &leaves {
        if ways.has_none(*leaf) {
            shape.stuck.insert(*leaf);
            dead_end(found, *leaf, shape.ends);
        }
    }
    if shape.ends {
        no_end(found, &ways, &leaves, circles, shape);
    }
}

fn dead_end(found: &mut Found<'_, '_>, leaf: StateIndex, ends: bool) {
    let template = found.template();
    let state = template.state(leaf);
    if matches!(state.kind, StateKind::Final) {
        let parent = state.parent.map_or("", |parent| &template.state(parent).key);
        found.add_at_state(
            &code::DEAD_END,
            leaf,
            format!(
                "{parent:?} is done in the final state {:?}, but nothing follows from that",
                &*state.id
            ),
            format!("give {parent:?} an `onDone` that says where to go next"),
        );
        return;
    }
    let help = if ends {
        "give it a transition, or, if the execution ends here, `\"type\": \"final\"`"
    } else {
        "give it a transition, or, if it is an end, `\"type\": \"final\"`"
    };
    found.add_at_state(
        &code::DEAD_END,
        leaf,
        format!("nothing leads out of the state {:?}, and it is not final", &*state.id),
        help,
    );
}

/// Of the states from which no final state of the root can be reached, those are named that are
/// not before others; a compound one for all that it holds.
fn no_end(
    found: &mut Found<'_, '_>,
    ways: &Ways,
    leaves: &[StateIndex],
    circles: &BTreeSet<StateIndex>,
    shape: &mut Shape,
) {
    let template = found.template();
    let good = ways.leading_to(template, |index| is_end(template, index));
    let to_dead_end = {
        let dead = shape.stuck.clone();
        ways.leading_to(template, |index| dead.contains(&index) || circles.contains(&index))
    };
    let bad: BTreeSet<StateIndex> =
        leaves.iter().copied().filter(|leaf| !good[at(*leaf)] && !to_dead_end[at(*leaf)]).collect();
    let mut covered: BTreeSet<StateIndex> = BTreeSet::new();
    for leaf in &bad {
        if covered.contains(leaf) {
            continue;
        }
        // What leads here and what this leads to are one finding.
        let behind = reachable(template, &[*leaf]);
        covered.extend(bad.iter().filter(|other| behind[at(**other)]));
        let whole = template
            .ancestors(*leaf)
            .take_while(|ancestor| *ancestor != 0)
            .filter(|ancestor| {
                let inside = |other: &&StateIndex| template.is_descendant(**other, *ancestor);
                leaves.iter().filter(inside).all(|inner| bad.contains(inner))
            })
            .last()
            .unwrap_or(*leaf);
        found.add_at_state(
            &code::NO_END,
            whole,
            format!(
                "from the state {:?} no final state can be reached",
                &*template.state(whole).id
            ),
            "lead a transition from it towards the end, or, if it is an end, make it final",
        );
    }
    shape.stuck.extend(bad);
    let stuck = shape.stuck.clone();
    for leaf in leaves {
        if !good[at(*leaf)] && !stuck.contains(leaf) {
            shape.stuck.insert(*leaf);
        }
    }
}

/// A final state of the root ends the execution; so does the last of the regions of a root that is
/// parallel.
fn is_end(template: &Template, index: StateIndex) -> bool {
    let state = template.state(index);
    if !matches!(state.kind, StateKind::Final) {
        return false;
    }
    let mut around = state.parent;
    if around == Some(0) {
        return true;
    }
    around = around.and_then(|parent| template.state(parent).parent);
    while let Some(parent) = around {
        if !matches!(template.state(parent).kind, StateKind::Parallel) {
            return false;
        }
        if parent == 0 {
            return true;
        }
        around = template.state(parent).parent;
    }
    false
}

/// Which transitions can move an execution on that is in a state: its own, those of what holds it,
/// and those of the other regions of parallel states around it that leave these.
struct Ways {
    /// For each state the targets of its own transitions.
    own: Vec<Vec<StateIndex>>,
    /// Whether it has own transitions, those without target included.
    any: Vec<bool>,
    /// For each parallel state, the targets outside of it of what it holds.
    leaving: Vec<Vec<StateIndex>>,
    parents: Vec<Option<StateIndex>>,
}

impl Ways {
    fn of(template: &Template) -> Self {
        let count = template.states.len();
        let mut ways = Self {
            own: vec![Vec::new(); count],
            any: vec![false; count],
            leaving: vec![Vec::new(); count],
            parents: template.states.iter().map(|state| state.parent).collect(),
        };
        for (source, transition) in template.transitions() {
            ways.any[at(source)] = true;
            for target in &transition.target {
                ways.own[at(source)].push(*target);
                for around in template.ancestors(source) {
                    let outside = *target != around && !template.is_descendant(*target, around);
                    if outside && matches!(template.state(around).kind, StateKind::Parallel) {
                        ways.leaving[at(around)].push(*target);
                    }
                }
            }
        }
        ways
    }

    fn around(&self, state: StateIndex) -> impl Iterator<Item = StateIndex> + '_ {
        std::iter::successors(Some(state), |inner| self.parents[at(*inner)])
    }

    fn has_none(&self, state: StateIndex) -> bool {
        self.around(state)
            .all(|around| !self.any[at(around)] && self.leaving[at(around)].is_empty())
    }

    /// From which states one is reached that is `wanted`.
    fn leading_to(&self, template: &Template, wanted: impl Fn(StateIndex) -> bool) -> Vec<bool> {
        let count = self.own.len();
        // `before[t]`: the states whose transitions lead to t; what holds a state moves with it.
        let mut before: Vec<Vec<StateIndex>> = vec![Vec::new(); count];
        for (index, _) in (0..).zip(&self.own) {
            for target in self.own[at(index)].iter().chain(&self.leaving[at(index)]) {
                before[at(*target)].push(index);
            }
        }
        // `good`: once it is entered, or while it is active.
        let mut good = vec![false; count];
        let mut open: Vec<StateIndex> = Vec::new();
        let add = |state: StateIndex, good: &mut Vec<bool>, open: &mut Vec<StateIndex>| {
            if !std::mem::replace(&mut good[at(state)], true) {
                open.push(state);
            }
        };
        for (index, _) in (0..).zip(&self.own) {
            if wanted(index) {
                add(index, &mut good, &mut open);
            }
        }
        while let Some(state) = open.pop() {
            // A transition of a state moves all that it holds.
            for source in before[at(state)].clone() {
                for inner in source..=template.state(source).last {
                    add(inner, &mut good, &mut open);
                }
            }
            // What enters this state by default gets on, too.
            if let Some(parent) = template.state(state).parent {
                let by_default = match &template.state(parent).kind {
                    StateKind::Compound { initial, .. } => *initial == state,
                    StateKind::Parallel => true,
                    StateKind::Atomic | StateKind::Final | StateKind::History { .. } => false,
                };
                if by_default {
                    add(parent, &mut good, &mut open);
                }
                // A history restores what can get on.
                for history in &template.state(parent).histories {
                    add(*history, &mut good, &mut open);
                }
            }
        }
        good
    }
}

/// Cycles of `always` that nothing in them ends: no guard in them reads what they assign.
/// Gives the states in them.
fn always_cycles(found: &mut Found<'_, '_>, reachable: &[bool]) -> BTreeSet<StateIndex> {
    let mut circles = BTreeSet::new();
    let template = found.template();
    let edges: Vec<Vec<StateIndex>> = (0..)
        .zip(&template.states)
        .map(|(index, state)| {
            if !reachable[at(index)] {
                return Vec::new();
            }
            let targets = state.always.iter().flat_map(|transition| &transition.target);
            let mut entered = BTreeSet::new();
            for target in targets.filter(|target| **target != index) {
                by_default(template, *target, &mut entered);
            }
            entered
                .into_iter()
                .filter(|state| !template.state(*state).always.is_empty() && *state != index)
                .collect()
        })
        .collect();
    for cycle in crate::model::scc::cycles(&edges) {
        if ends_itself(found, &cycle) {
            continue;
        }
        let Some(first) = cycle.first().copied() else { continue };
        let names: Vec<String> =
            cycle.iter().map(|state| format!("{:?}", &*template.state(*state).id)).collect();
        let pointer = format!("{}/always", template.pointer(first));
        found.add_at_key(
            &code::ALWAYS_CYCLE,
            &pointer,
            format!("`always` leads in a circle through {} without an end", names.join(", ")),
            "guard one of them by something that changes on the way, or let it wait for an event",
        );
        circles.extend(cycle);
    }
    circles
}

fn by_default(template: &Template, state: StateIndex, entered: &mut BTreeSet<StateIndex>) {
    if !entered.insert(state) {
        return;
    }
    match &template.state(state).kind {
        StateKind::Compound { initial, .. } => by_default(template, *initial, entered),
        StateKind::Parallel => {
            for region in template.regions(state) {
                by_default(template, region, entered);
            }
        }
        StateKind::Atomic | StateKind::Final | StateKind::History { .. } => {}
    }
}

/// Whether a guard of an `always` in the cycle reads what an action in it assigns, or in which
/// state the execution is.
fn ends_itself(found: &Found<'_, '_>, cycle: &[StateIndex]) -> bool {
    let template = found.template();
    let mut assigned: BTreeSet<&str> = BTreeSet::new();
    for index in cycle {
        let state = template.state(*index);
        let lists = [&state.entry, &state.exit].into_iter();
        for list in lists.chain(state.always.iter().map(|transition| &transition.actions)) {
            assigned_keys(list, &mut assigned);
        }
    }
    let guards = cycle.iter().flat_map(|index| &template.state(*index).always).filter_map(|it| {
        it.guard.as_ref()?;
        found.facts.guards.get(&format!("{}/guard", it.pointer))
    });
    guards.into_iter().any(|guard| {
        asks_for_state(guard)
            || reads(guard).iter().any(|read| {
                read.context_key().is_some_and(|key| key.is_empty() || assigned.contains(key))
            })
    })
}

fn assigned_keys<'t>(actions: &'t [Action], keys: &mut BTreeSet<&'t str>) {
    for action in actions {
        match &action.kind {
            ActionKind::Assign(sides) => keys.extend(sides.iter().map(|(key, _)| &**key)),
            ActionKind::Choose(branches) => {
                for branch in branches {
                    assigned_keys(&branch.actions, keys);
                }
            }
            ActionKind::Raise(_)
            | ActionKind::Send(_)
            | ActionKind::Cancel { .. }
            | ActionKind::Spawn { .. }
            | ActionKind::Stop { .. }
            | ActionKind::Log(_)
            | ActionKind::Compensate
            | ActionKind::Custom { .. } => {}
        }
    }
}

/// Whether one of the transitions is for that event, guarded or not.
pub(super) fn handles(on: &Descriptors, event: &str) -> bool {
    on.matching(event).next().is_some()
}
