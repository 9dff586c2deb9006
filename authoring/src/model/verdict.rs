//! What is wrong with the configurations that were found.

use std::collections::BTreeSet;

use pled_engine::template::{StateIndex, StateKind, Template};

use super::explore::{Exploration, Move, Status, at};
use super::path;
use super::skeleton::Skeleton;
use crate::check::{Found, Shape, can_be_complete, code};

/// How many findings of one kind are told: the first are the nearest to the start.
const FINDINGS_MAX: usize = 5;

/// Records what is wrong.
pub(super) fn findings(
    found: &mut Found<'_, '_>,
    shape: &Shape,
    skeleton: &Skeleton,
    exploration: &Exploration,
    configurations_max: usize,
) {
    let mut verdict = Verdict {
        template: found.template(),
        found,
        skeleton,
        exploration,
        explained: shape.stuck.clone(),
        stopped: vec![false; exploration.nodes.len()],
    };
    verdict.bound(configurations_max);
    verdict.endless();
    verdict.joins();
    verdict.deadlocks();
    if shape.ends {
        verdict.livelocks();
    }
}

struct Verdict<'v, 'f, 'n> {
    template: &'n Template,
    found: &'v mut Found<'f, 'n>,
    skeleton: &'v Skeleton,
    exploration: &'v Exploration,
    /// States that a finding is about already: what follows from that is not told again.
    explained: BTreeSet<StateIndex>,
    /// Configurations in which the execution ends or is stuck.
    stopped: Vec<bool>,
}

impl Verdict<'_, '_, '_> {
    fn bound(&mut self, configurations_max: usize) {
        if self.exploration.complete {
            return;
        }
        self.found.add_at_state(
            &code::BOUND,
            0,
            format!(
                "the model check stopped after {} configurations and {} steps",
                self.exploration.nodes.len(),
                self.exploration.steps
            ),
            format!("what it did not find may be there: raise --max-configurations, now {configurations_max}"),
        );
    }

    /// Steps that do not come to rest, and sends to itself that lead to each other.
    fn endless(&mut self) {
        let explained = self.found.has(&code::ALWAYS_CYCLE);
        let mut told: BTreeSet<StateIndex> = BTreeSet::new();
        for endless in &self.exploration.endless {
            let from = endless.arrival.from;
            let active = from.map(|from| &self.exploration.nodes[from].chart.active);
            let state = active.map_or(0, |active| self.common(active));
            if explained || told.len() == FINDINGS_MAX || !told.insert(state) {
                continue;
            }
            let by = match &endless.arrival.by {
                Move::Start => "the start".to_owned(),
                Move::Event(name) | Move::Own(name) | Move::Delayed(name, _) => format!("`{name}`"),
                Move::Timer(state, timer) => {
                    format!("`{}`", self.template.state(*state).after[*timer].event)
                }
                Move::Fault => "`error.execution`".to_owned(),
            };
            let path =
                path::through(self.template, self.skeleton, self.exploration, &endless.arrival);
            self.found.add_with_path(
                &code::ENDLESS_STEP,
                state,
                format!("after {by} the execution does not come to rest"),
                "what it raises leads to the same again: guard it by something that changes on \
                 the way",
                path,
            );
        }
        for index in self.own_circles() {
            self.stopped[index] = true;
            let state = self.common(&self.exploration.nodes[index].chart.active);
            if told.len() == FINDINGS_MAX || !told.insert(state) {
                continue;
            }
            let path = path::to_a_loop(self.template, self.skeleton, self.exploration, index);
            self.found.add_with_path(
                &code::ENDLESS_STEP,
                state,
                "the execution sends itself events without an end",
                "guard the `send` by something that changes on the way, or give it a delay",
                path,
            );
        }
    }

    /// Configurations from which only sends to itself follow, for ever.
    fn own_circles(&self) -> Vec<usize> {
        let nodes = &self.exploration.nodes;
        let busy = |index: usize| !nodes[index].own.is_empty();
        let mut endless: Vec<bool> = (0..nodes.len()).map(busy).collect();
        // A busy configuration is endless unless one that rests may follow.
        let before = self.before();
        let mut open: Vec<usize> = (0..nodes.len()).filter(|index| !busy(*index)).collect();
        while let Some(index) = open.pop() {
            for from in &before[index] {
                if std::mem::replace(&mut endless[*from], false) {
                    open.push(*from);
                }
            }
        }
        (0..nodes.len()).filter(|index| endless[*index] && self.exploration.moves[*index]).collect()
    }

    /// For each configuration those that lead to it.
    fn before(&self) -> Vec<Vec<usize>> {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.exploration.nodes.len()];
        for (from, to) in &self.exploration.edges {
            before[*to].push(*from);
        }
        before
    }

    /// Regions that are waited for in vain.
    fn joins(&mut self) {
        if !self.exploration.complete {
            return;
        }
        let template = self.template;
        for (parallel, state) in (0..).zip(&template.states) {
            let is_parallel = matches!(state.kind, StateKind::Parallel);
            if !is_parallel
                || !self.exploration.entered[at(parallel)]
                || !self.is_awaited(parallel)
                || !can_be_complete(template, parallel)
            {
                continue;
            }
            for region in template.regions(parallel) {
                let explained = |state: &&StateIndex| {
                    **state == region || template.is_descendant(**state, region)
                };
                if self.was_complete(region) || self.explained.iter().any(|it| explained(&it)) {
                    continue;
                }
                self.never_joins(parallel, region);
            }
        }
    }

    fn never_joins(&mut self, parallel: StateIndex, region: StateIndex) {
        let template = self.template;
        let others = |active: &[StateIndex]| {
            let regions = template.regions(parallel).filter(|other| *other != region);
            regions.filter(|other| is_complete(template, active, *other)).count()
        };
        let running = self.exploration.nodes.iter().enumerate().filter(|(_, node)| {
            node.status == Status::Running && node.chart.active.binary_search(&parallel).is_ok()
        });
        // The first in which most of the others wait.
        let mut waiting: Option<(usize, usize)> = None;
        for (index, node) in running {
            let count = others(&node.chart.active);
            if waiting.is_none_or(|(_, most)| count > most) {
                waiting = Some((index, count));
            }
        }
        let Some((index, _)) = waiting else { return };
        let path = path::to(template, self.skeleton, self.exploration, index);
        let (id, of) = (&template.state(region).id, &template.state(parallel).id);
        self.found.add_with_path(
            &code::NEVER_JOINS,
            region,
            format!("the region {:?} is never complete, so {:?} is never done", &**id, &**of),
            "look at the way to its final state: it cannot be taken while the others are active",
            path,
        );
        self.explained.extend(region..=template.state(region).last);
    }

    /// Whether something follows from a parallel state being done.
    fn is_awaited(&self, parallel: StateIndex) -> bool {
        let template = self.template;
        let state = template.state(parallel);
        let Some(parent) = state.parent else { return true };
        let is_handled =
            template.states.iter().any(|it| it.on.exact.contains_key(&state.done_event));
        let inside = matches!(template.state(parent).kind, StateKind::Parallel);
        is_handled || (inside && self.is_awaited(parent))
    }

    fn was_complete(&self, region: StateIndex) -> bool {
        let template = self.template;
        match template.state(region).kind {
            StateKind::Compound { .. } => template.regions(region).any(|child| {
                matches!(template.state(child).kind, StateKind::Final)
                    && self.exploration.entered[at(child)]
            }),
            StateKind::Parallel => template.regions(region).all(|inner| self.was_complete(inner)),
            StateKind::Final => true,
            StateKind::Atomic | StateKind::History { .. } => false,
        }
    }

    fn deadlocks(&mut self) {
        let exploration = self.exploration;
        let mut told = 0;
        for (index, node) in exploration.nodes.iter().enumerate() {
            let is_expanded = exploration.complete || index < self.expanded();
            if node.status != Status::Running || exploration.moves[index] || !is_expanded {
                continue;
            }
            self.stopped[index] = true;
            let leaves: Vec<StateIndex> = self.template.leaves(&node.chart.active).collect();
            let state = self.common(&node.chart.active);
            if told == FINDINGS_MAX
                || self.explained.contains(&state)
                || leaves.iter().any(|leaf| self.explained.contains(leaf))
            {
                continue;
            }
            told += 1;
            self.explained.insert(state);
            let path = path::to(self.template, self.skeleton, exploration, index);
            let here = self.names(&leaves);
            let waits = leaves.iter().any(|leaf| !self.template.state(*leaf).always.is_empty());
            let (message, help) = if waits {
                (
                    format!("no `always` may hold in {here}, and nothing else leads out of there"),
                    "add an `always` without a guard as the last, or handle an event there",
                )
            } else {
                (
                    format!("no event, timer or result can change anything in {here}"),
                    "handle an event there, or guard the way that leads there",
                )
            };
            self.found.add_with_path(&code::DEADLOCK, state, message, help, path);
        }
    }

    /// Up to which configuration all steps were taken, where a bound ended the exploration.
    fn expanded(&self) -> usize {
        self.exploration.edges.iter().map(|(from, _)| *from).max().unwrap_or(0)
    }

    fn livelocks(&mut self) {
        let exploration = self.exploration;
        if !exploration.complete {
            return;
        }
        let nodes = &exploration.nodes;
        let ends = |index: usize| nodes[index].status != Status::Running;
        let any_done = nodes.iter().any(|node| node.status == Status::Done);
        if !any_done {
            // What is known to be wrong explains it.
            let reasons = [
                &code::STEALING,
                &code::ALWAYS_CYCLE,
                &code::CONSTANT_GUARD,
                &code::NEVER_DONE,
                &code::NEVER_COMES,
                &code::ENDLESS_STEP,
                &code::DEADLOCK,
            ];
            let told = !self.explained.is_empty()
                || reasons.into_iter().any(|reason| self.found.has(reason));
            if !told {
                self.no_final();
            }
            return;
        }
        let before = self.before();
        let mut good: Vec<bool> =
            (0..nodes.len()).map(|index| ends(index) || self.stopped[index]).collect();
        for endless in &exploration.endless {
            if let Some(from) = endless.arrival.from {
                good[from] = true;
            }
        }
        let mut open: Vec<usize> = (0..nodes.len()).filter(|index| good[*index]).collect();
        while let Some(index) = open.pop() {
            for from in &before[index] {
                if !std::mem::replace(&mut good[*from], true) {
                    open.push(*from);
                }
            }
        }
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (from, to) in &exploration.edges {
            after[*from].push(*to);
        }
        let mut told = 0;
        for index in 0..nodes.len() {
            let leaves: Vec<StateIndex> =
                self.template.leaves(&nodes[index].chart.active).collect();
            let explained = leaves.iter().any(|leaf| self.explained.contains(leaf));
            if good[index] || explained || told == FINDINGS_MAX {
                continue;
            }
            told += 1;
            let mut open = vec![index];
            good[index] = true;
            while let Some(index) = open.pop() {
                for to in &after[index] {
                    if !std::mem::replace(&mut good[*to], true) {
                        open.push(*to);
                    }
                }
            }
            let path = path::to(self.template, self.skeleton, exploration, index);
            let state = self.common(&nodes[index].chart.active);
            let message = format!(
                "once the execution is in {}, it can go on, but never come to an end",
                self.names(&leaves)
            );
            let help = "add a way out that stays open, or guard the way that leads there";
            self.found.add_with_path(&code::LIVELOCK, state, message, help, path);
        }
    }

    fn no_final(&mut self) {
        let count = self.exploration.nodes.len();
        self.found.add_at_state(
            &code::NO_FINAL_REACHED,
            0,
            format!("none of the {count} configurations that can be reached is an end"),
            "the guards on the way to the final state exclude each other, or nothing leads there \
             in time",
        );
    }

    /// The leaf, or the innermost state that holds all of them.
    fn common(&self, active: &[StateIndex]) -> StateIndex {
        let leaves: Vec<StateIndex> = self.template.leaves(active).collect();
        let common = leaves.into_iter().reduce(|a, b| self.template.common_ancestor(a, b));
        common.unwrap_or(0)
    }

    fn names(&self, leaves: &[StateIndex]) -> String {
        let names: Vec<String> =
            leaves.iter().map(|leaf| format!("{:?}", &*self.template.state(*leaf).id)).collect();
        names.join(" and ")
    }
}

fn is_complete(template: &Template, active: &[StateIndex], index: StateIndex) -> bool {
    let is_active = |state: &StateIndex| active.binary_search(state).is_ok();
    match template.state(index).kind {
        StateKind::Compound { .. } => template.regions(index).any(|child| {
            is_active(&child) && matches!(template.state(child).kind, StateKind::Final)
        }),
        StateKind::Parallel => {
            template.regions(index).all(|region| is_complete(template, active, region))
        }
        StateKind::Final => true,
        StateKind::Atomic | StateKind::History { .. } => false,
    }
}
