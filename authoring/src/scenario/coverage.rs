//! Which states and transitions of a template were used.

use std::collections::BTreeSet;

use pled_engine::json::line_and_column;
use pled_engine::template::document::{Kind, Node};
use pled_engine::template::{StateIndex, StateKind, Template};
use serde::Serialize;

/// What of a template was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    states: BTreeSet<StateIndex>,
    transitions: BTreeSet<u32>,
}

/// How much of a template was used, and what was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// `order@3`
    pub template: String,
    /// How many states there are, without the root and without history states.
    pub states: usize,
    /// How many of them were active.
    pub states_covered: usize,
    /// How many transitions there are.
    pub transitions: usize,
    /// How many of them were taken.
    pub transitions_covered: usize,
    /// The states and transitions that were not, in the order of the source.
    pub missing: Vec<Missing>,
}

/// A state or transition that was not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The line in the template's file.
    pub line: usize,
    /// JSON pointer to it.
    pub pointer: String,
    /// `state stuck`, `transition stuck on RETRY_REFUND -> refunding`
    pub what: String,
}

impl Coverage {
    /// Adds a step that left these states active and took these transitions.
    pub(super) fn add(
        &mut self,
        template: &Template,
        active: BTreeSet<StateIndex>,
        transitions: &[u32],
    ) {
        self.states.extend(active);
        if transitions.iter().all(|number| self.transitions.contains(number)) {
            return;
        }
        self.transitions.extend(transitions);
        // A state that was entered and left within a step is known by its transitions.
        for (source, transition) in template.transitions() {
            if transitions.contains(&transition.number) {
                for state in std::iter::once(source).chain(transition.target.iter().copied()) {
                    self.states.insert(state);
                    self.states.extend(template.ancestors(state));
                }
            }
        }
    }

    /// Adds what another execution of the same template used.
    pub fn merge(&mut self, other: &Self) {
        self.states.extend(&other.states);
        self.transitions.extend(&other.transitions);
    }

    /// How much of `template` that is.
    #[must_use]
    pub fn of(&self, template: &Template) -> Covered {
        let root = Node::parse(&template.source).ok();
        let missing = |pointer: String, what: String| Missing {
            line: root.as_ref().map_or(0, |root| line_of(root, &template.source, &pointer)),
            pointer,
            what,
        };
        let states = (1..).zip(template.states.iter().skip(1));
        let states: Vec<StateIndex> = states
            .filter(|(_, state)| !matches!(state.kind, StateKind::History { .. }))
            .map(|(index, _)| index)
            .collect();
        let transitions: Vec<_> = template.transitions().collect();
        let unused = states.iter().filter(|index| !self.states.contains(index));
        let mut all: Vec<Missing> = unused
            .map(|index| {
                let what = format!("state {}", template.state(*index).id);
                missing(template.pointer(*index), what)
            })
            .collect();
        let states_covered = states.len() - all.len();
        let unused =
            transitions.iter().filter(|(_, taken)| !self.transitions.contains(&taken.number));
        all.extend(unused.map(|(source, transition)| {
            let pointer = transition.pointer.to_string();
            let own = template.pointer(*source);
            let way = pointer.strip_prefix(&own).unwrap_or(&pointer).trim_start_matches('/');
            let targets = transition.target.iter().map(|target| &*template.state(*target).id);
            let targets = targets.collect::<Vec<_>>().join(", ");
            let arrow = if targets.is_empty() { String::new() } else { format!(" -> {targets}") };
            let what = format!("transition {} {way}{arrow}", template.state(*source).id);
            missing(pointer.clone(), what)
        }));
        let uncovered = all.len() - (states.len() - states_covered);
        all.sort_by(|a, b| (a.line, &a.pointer).cmp(&(b.line, &b.pointer)));
        Covered {
            template: template.reference().to_string(),
            states: states.len(),
            states_covered,
            transitions: transitions.len(),
            transitions_covered: transitions.len() - uncovered,
            missing: all,
        }
    }
}

impl Covered {
    /// The part of states and transitions that was used, in whole percent, rounded down; 100 of
    /// nothing.
    #[must_use]
    pub fn percent(&self) -> usize {
        let all = self.states + self.transitions;
        let covered = self.states_covered + self.transitions_covered;
        (covered * 100).checked_div(all).unwrap_or(100)
    }
}

/// The line of the value that `pointer` leads to, or of the nearest one around it.
fn line_of(root: &Node, source: &str, pointer: &str) -> usize {
    let mut node = root;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let next = match &node.kind {
            Kind::Array(elements) => token.parse().ok().and_then(|at: usize| elements.get(at)),
            Kind::Object(_) => node.get(&token),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    line_and_column(source, node.span.start).0
}
