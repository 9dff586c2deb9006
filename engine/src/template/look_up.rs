//! Questions to a compiled template.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::outline::position;
use super::{Descriptors, Invoke, LOGIC, Metadata, Queue, State, StateIndex, Template, Transition};
use crate::id::TemplateRef;

impl Template {
    /// `name@version`
    #[must_use]
    pub fn reference(&self) -> TemplateRef {
        TemplateRef { name: self.name.clone(), version: self.version }
    }

    /// What it is, at a glance.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata {
            template: self.reference(),
            hash: self.hash,
            logic: LOGIC,
            semantics: crate::SEMANTICS,
            states: self.states.len(),
            transitions: self.transitions,
            invocations: self.invocations.len(),
            rules: self.rules.len(),
        }
    }

    /// The state at `index`.
    ///
    /// # Panics
    /// If the index is not of this template.
    #[must_use]
    pub fn state(&self, index: StateIndex) -> &State {
        &self.states[position(index)]
    }

    /// The index of the state with that id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<StateIndex> {
        self.ids.get(id).copied()
    }

    /// Whether `state` is a proper descendant of `ancestor`.
    #[must_use]
    pub fn is_descendant(&self, state: StateIndex, ancestor: StateIndex) -> bool {
        ancestor < state && state <= self.state(ancestor).last
    }

    /// The states that hold `state`, from its parent to the root.
    pub fn ancestors(&self, state: StateIndex) -> impl Iterator<Item = StateIndex> + '_ {
        std::iter::successors(self.state(state).parent, |ancestor| self.state(*ancestor).parent)
    }

    /// JSON pointer to `state` in the source.
    #[must_use]
    pub fn pointer(&self, state: StateIndex) -> String {
        let mut path: Vec<StateIndex> = self.ancestors(state).collect();
        path.reverse();
        path.push(state);
        // Keys have no character that a pointer would escape.
        path.iter().skip(1).map(|state| format!("/states/{}", self.state(*state).key)).collect()
    }

    /// The innermost state that is or holds both.
    #[must_use]
    pub fn common_ancestor(&self, a: StateIndex, b: StateIndex) -> StateIndex {
        let holds = |ancestor: &StateIndex| *ancestor == b || self.is_descendant(b, *ancestor);
        if holds(&a) { a } else { self.ancestors(a).find(holds).unwrap_or(0) }
    }

    /// The children of a state that can be active: all but history states.
    pub fn regions(&self, state: StateIndex) -> impl Iterator<Item = StateIndex> + '_ {
        let state = self.state(state);
        let can_be_active = |child: &StateIndex| state.histories.binary_search(child).is_err();
        state.children.iter().copied().filter(can_be_active)
    }

    /// Those of the `active` states, which ascend, that hold no other active one.
    pub fn leaves<'a>(&'a self, active: &'a [StateIndex]) -> impl Iterator<Item = StateIndex> + 'a {
        active.iter().enumerate().filter_map(|(at, state)| {
            let inner = active.get(at + 1).is_some_and(|next| self.is_descendant(*next, *state));
            (!inner).then_some(*state)
        })
    }

    /// How many transitions there are; their numbers are below it.
    #[must_use]
    pub fn transition_count(&self) -> u32 {
        self.transitions
    }

    /// All transitions with their sources.
    pub fn transitions(&self) -> impl Iterator<Item = (StateIndex, &Transition)> {
        (0..).zip(&self.states).flat_map(|(index, state)| {
            let own = state.on.iter().chain(&state.always);
            own.map(move |transition| (index, transition))
        })
    }

    /// The invocation with that id, and the state that it lives with.
    #[must_use]
    pub fn invocation(&self, id: &str) -> Option<(StateIndex, &Invoke)> {
        let (state, at) = *self.invocations.get(id)?;
        Some((state, self.state(state).invoke.get(at)?))
    }

    /// The queues that the template hands tasks to, by name.
    #[must_use]
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// The template versions that are started as children, by name.
    #[must_use]
    pub fn children(&self) -> &[TemplateRef] {
        &self.children
    }
}

impl Descriptors {
    /// The transitions that `event` may take, in the order in which their guards are asked: those
    /// of the exact name, of prefixes, the longest first, and of `*`, which is not for `pled.*`.
    pub fn matching(&self, event: &str) -> impl Iterator<Item = &Transition> {
        let exact = self.exact.get(event).into_iter().flatten();
        let prefixes = prefixes(event).filter_map(|prefix| self.of_prefix(prefix)).flatten();
        let any = if event.starts_with("pled.") { &[][..] } else { &self.any };
        exact.chain(prefixes).chain(any)
    }

    /// All transitions: of exact names, of prefixes, of `*`.
    pub fn iter(&self) -> impl Iterator<Item = &Transition> {
        let prefixes = self.prefixes.iter().flat_map(|(_, transitions)| transitions);
        self.exact.values().flatten().chain(prefixes).chain(&self.any)
    }

    /// Whether there is no transition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn of_prefix(&self, prefix: &str) -> Option<&[Transition]> {
        if self.prefixes.is_empty() {
            return None;
        }
        let place = self
            .prefixes
            .binary_search_by_key(&prefix_order(prefix), |(other, _)| prefix_order(other));
        place.ok().and_then(|at| self.prefixes.get(at)).map(|(_, transitions)| &**transitions)
    }

    /// Adds transitions on the event `name`, behind those that are there.
    pub(super) fn add(&mut self, name: Arc<str>, transitions: Vec<Transition>) {
        if transitions.is_empty() {
            return;
        }
        match self.exact.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(transitions);
            }
            Entry::Occupied(mut before) => before.get_mut().extend(transitions),
        }
    }

    /// Brings the prefixes into their order.
    pub(super) fn sort(&mut self) {
        self.prefixes.sort_by(|(a, _), (b, _)| prefix_order(a).cmp(&prefix_order(b)));
    }
}

fn prefix_order(prefix: &str) -> (Reverse<usize>, &str) {
    (Reverse(prefix.len()), prefix)
}

/// `a.b.c`, `a.b` and `a` for the event `a.b.c`.
fn prefixes(event: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(event), |longer| Some(longer.rsplit_once('.')?.0))
}
