//! The first pass: all states in document order with their keys, ids and kinds, so that the second
//! can resolve every name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagnostic::Findings;
use super::document::{Member, Node};
use super::reader::{cut, wrong_kind};
use super::{StateIndex, code, name};

/// All states in document order.
pub(super) struct Outline<'n> {
    places: Vec<Place<'n>>,
    ids: BTreeMap<Arc<str>, StateIndex>,
    by_key: BTreeMap<(StateIndex, &'n str), StateIndex>,
}

/// A state before its fields are read.
pub(super) struct Place<'n> {
    pub(super) key: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) parent: Option<StateIndex>,
    pub(super) shape: Shape,
    pub(super) children: Vec<StateIndex>,
    pub(super) last: StateIndex,
    pub(super) depth: u32,
    pub(super) node: &'n Node,
}

/// What a state is, without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Atomic,
    Compound,
    Parallel,
    Final,
    History,
}

impl Shape {
    /// The shape with its article.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Atomic => "an atomic state",
            Self::Compound => "a compound state",
            Self::Parallel => "a parallel state",
            Self::Final => "a final state",
            Self::History => "a history state",
        }
    }
}

impl<'n> Outline<'n> {
    /// Numbers the states of the template `root`, whose name is `name`.
    pub(super) fn of(root: &'n Node, name: &Arc<str>, findings: &mut Findings) -> Self {
        let mut outline =
            Self { places: Vec::new(), ids: BTreeMap::new(), by_key: BTreeMap::new() };
        outline.add(root, name, name.clone(), None, findings);
        outline
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn place(&self, index: StateIndex) -> &Place<'n> {
        &self.places[position(index)]
    }

    pub(super) fn by_id(&self, id: &str) -> Option<StateIndex> {
        self.ids.get(id).copied()
    }

    pub(super) fn child(&self, parent: StateIndex, key: &str) -> Option<StateIndex> {
        self.by_key.get(&(parent, key)).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(|id| &**id)
    }

    pub(super) fn into_ids(self) -> BTreeMap<Arc<str>, StateIndex> {
        self.ids
    }

    /// The keys of a state's children.
    pub(super) fn child_keys(&self, parent: StateIndex) -> impl Iterator<Item = &str> {
        self.place(parent).children.iter().map(|child| &*self.place(*child).key)
    }

    pub(super) fn is_descendant(&self, state: StateIndex, ancestor: StateIndex) -> bool {
        ancestor < state && state <= self.place(ancestor).last
    }

    /// The innermost state that is or holds both.
    pub(super) fn common_ancestor(&self, a: StateIndex, b: StateIndex) -> StateIndex {
        let mut ancestor = a;
        while ancestor != b && !self.is_descendant(b, ancestor) {
            match self.place(ancestor).parent {
                Some(parent) => ancestor = parent,
                None => break,
            }
        }
        ancestor
    }

    fn add(
        &mut self,
        node: &'n Node,
        key: &Arc<str>,
        default_id: Arc<str>,
        parent: Option<StateIndex>,
        findings: &mut Findings,
    ) -> StateIndex {
        let index = StateIndex::try_from(self.places.len()).unwrap_or(StateIndex::MAX);
        let id = match parent {
            Some(_) => self.own_id(node, findings).unwrap_or(default_id),
            None => default_id,
        };
        let depth = parent.map_or(0, |parent| self.place(parent).depth + 1);
        let shape = shape(node, parent.is_none(), findings);
        self.places.push(Place {
            key: key.clone(),
            id,
            parent,
            shape,
            children: Vec::new(),
            last: index,
            depth,
            node,
        });
        self.enter_id(index, findings);
        if let Some(states) = node.get("states") {
            findings.at("states", |findings| self.add_children(states, index, findings));
        }
        self.places[position(index)].last =
            StateIndex::try_from(self.places.len() - 1).unwrap_or(StateIndex::MAX);
        index
    }

    fn add_children(&mut self, states: &'n Node, parent: StateIndex, findings: &mut Findings) {
        let Some(members) = states.members() else {
            wrong_kind(states, "`states` must be an object of states", findings);
            return;
        };
        let path = self.path(parent);
        for Member { key, key_span, value } in members {
            let default_id = Arc::from(format!("{path}.{key}"));
            let child = findings.at(key, |findings| {
                name::state_key(key, key_span, findings);
                self.add(value, key, default_id, Some(parent), findings)
            });
            self.by_key.insert((parent, key), child);
            self.places[position(parent)].children.push(child);
        }
    }

    fn own_id(&self, node: &Node, findings: &mut Findings) -> Option<Arc<str>> {
        let id = node.get("id")?;
        findings.at("id", |findings| name::id(id, findings))
    }

    fn enter_id(&mut self, index: StateIndex, findings: &mut Findings) {
        let id = self.place(index).id.clone();
        let Some(first) = self.by_id(&id) else {
            self.ids.insert(id, index);
            return;
        };
        let node = self.place(index).node;
        let span = &node.get("id").unwrap_or(node).span;
        let message = format!("the id {:?} stands twice", cut(&id));
        let help = format!("it is the id of {} already, and ids are unique", self.pointer(first));
        let report =
            |findings: &mut Findings| findings.report(code::REPEATED_ID, span, message, Some(help));
        match node.get("id") {
            Some(_) => findings.at("id", report),
            None => report(findings),
        }
    }

    /// The root's id and the keys down to the state, joined by dots.
    fn path(&self, index: StateIndex) -> String {
        let mut keys = self.keys(index);
        keys.insert(0, &self.place(0).id);
        keys.join(".")
    }

    /// JSON pointer to the state.
    pub(super) fn pointer(&self, index: StateIndex) -> String {
        match index {
            0 => "the root".to_owned(),
            _ => self.keys(index).iter().map(|key| format!("/states/{key}")).collect(),
        }
    }

    fn keys(&self, mut index: StateIndex) -> Vec<&str> {
        let mut keys = Vec::new();
        while let Some(parent) = self.place(index).parent {
            keys.push(&*self.place(index).key);
            index = parent;
        }
        keys.reverse();
        keys
    }
}

fn shape(node: &Node, is_root: bool, findings: &mut Findings) -> Shape {
    let has_children =
        node.get("states").and_then(Node::members).is_some_and(|states| !states.is_empty());
    let implied = if has_children { Shape::Compound } else { Shape::Atomic };
    let Some(written) = node.get("type") else { return implied };
    findings.at("type", |findings| {
        let shape = match written.as_str().map(|text| &**text) {
            Some("parallel") => Shape::Parallel,
            Some("final") => Shape::Final,
            Some("history") => Shape::History,
            _ => {
                findings.error_with_help(
                    code::VALUE,
                    &written.span,
                    "the type of a state is `parallel`, `final` or `history`",
                    "leave it out for atomic and compound states: that follows from `states`",
                );
                return implied;
            }
        };
        if is_root && shape != Shape::Parallel {
            let message = format!("the root cannot be {}", shape.name());
            findings.error(code::STRUCTURE, &written.span, message);
            return implied;
        }
        if shape == Shape::Parallel && !has_children {
            findings.error(code::STRUCTURE, &written.span, "a parallel state needs `states`");
        }
        shape
    })
}

pub(super) fn position(index: StateIndex) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
