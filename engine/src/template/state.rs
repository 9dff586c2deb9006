//! States: their kinds, and the fields that each kind has.

use super::compile::{CONTEXT, Compiler, mapping};
use super::diagnostic::Findings;
use super::document::{Member, Node};
use super::outline::{Place, Shape};
use super::reader::{Fields, array, cut, one_of, string, unknown_field, wrong_kind};
use super::{Delay, Descriptors, State, StateIndex, StateKind, code, fields};

impl Compiler<'_, '_> {
    /// Compiles the state at `index` and its descendants, in document order, into `states`.
    pub(super) fn state(
        &mut self,
        index: StateIndex,
        states: &mut Vec<State>,
        findings: &mut Findings,
    ) {
        let outline = self.outline;
        let place = outline.place(index);
        let fields = Fields::unchecked(place.node, "a state", findings);
        let members = fields.as_ref().map_or(&[][..], Fields::members);
        for member in members {
            check_field(member, place, findings);
        }
        let mut state = State {
            key: place.key.clone(),
            id: place.id.clone(),
            parent: place.parent,
            kind: StateKind::Atomic,
            children: place.children.clone(),
            histories: self.histories(place),
            last: place.last,
            depth: place.depth,
            on: Descriptors::default(),
            always: Vec::new(),
            after: Vec::new(),
            entry: Vec::new(),
            exit: Vec::new(),
            invoke: Vec::new(),
            output: None,
            done_event: format!("done.state.{}", place.id).into(),
        };
        if let Some(fields) = fields {
            state.kind = self.kind(index, &fields, findings);
        }
        for Member { key, value, .. } in members {
            findings.at(key, |findings| self.field(index, key, value, &mut state, findings));
        }
        state.on.sort();
        states.push(state);
        findings.at("states", |findings| {
            for child in &place.children {
                findings.at(&outline.place(*child).key, |findings| {
                    self.state(*child, states, findings);
                });
            }
        });
    }

    fn histories(&self, place: &Place<'_>) -> Vec<StateIndex> {
        let is_history = |child: &StateIndex| self.outline.place(*child).shape == Shape::History;
        place.children.iter().copied().filter(is_history).collect()
    }

    /// Reads a field of a state. They are read in the order of the text, so transitions that are
    /// written in several places for the same event stand in that order.
    fn field(
        &mut self,
        index: StateIndex,
        key: &str,
        node: &Node,
        state: &mut State,
        findings: &mut Findings,
    ) {
        match key {
            "on" => self.on(index, node, &mut state.on, findings),
            "onDone" => {
                let done = self.transitions(index, node, findings);
                state.on.add(state.done_event.clone(), done);
            }
            "after" => {
                state.after = self.after(index, node, &mut state.on, findings);
                state.after.sort_by_key(|after| match after.delay {
                    Delay::Millis(millis) => millis,
                    Delay::Logic(_) => i64::MAX,
                });
            }
            "invoke" => state.invoke = self.invokes(index, node, &mut state.on, findings),
            "always" => state.always = self.transitions(index, node, findings),
            "entry" => state.entry = self.actions(node, findings),
            "exit" => state.exit = self.actions(node, findings),
            "output" if state.parent.is_some() => {
                state.output = mapping(node, CONTEXT, findings);
            }
            _ => labels(key, node, findings),
        }
    }

    fn kind(
        &mut self,
        index: StateIndex,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) -> StateKind {
        match self.outline.place(index).shape {
            Shape::Atomic => StateKind::Atomic,
            Shape::Compound => self.compound(index, fields, findings),
            Shape::Parallel => StateKind::Parallel,
            Shape::Final => StateKind::Final,
            Shape::History => self.history(index, fields, findings),
        }
    }

    fn compound(
        &mut self,
        index: StateIndex,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) -> StateKind {
        let Some(node) = fields.get("initial") else {
            let first = self.outline.child_keys(index).next().unwrap_or_default();
            findings.error_with_help(
                code::INITIAL,
                fields.span(),
                "`initial` is missing: a state with `states` says which one is entered by default",
                format!("add `\"initial\": \"{}\"`, or `\"type\": \"parallel\"`", cut(first)),
            );
            return StateKind::Atomic;
        };
        let (initial, actions) = findings.at("initial", |findings| {
            if node.as_str().is_some() {
                return (self.initial(index, node, findings), Vec::new());
            }
            if node.members().is_none() {
                wrong_kind(node, "`initial` must be a state's key or an object", findings);
                return (None, Vec::new());
            }
            let known = &fields::INITIAL;
            let Some(fields) = Fields::of(node, "`initial`", known, findings) else {
                return (None, Vec::new());
            };
            let target = fields
                .require("target", findings, |node, findings| self.initial(index, node, findings));
            let actions = fields
                .read("actions", findings, |node, findings| Some(self.actions(node, findings)));
            (target, actions.unwrap_or_default())
        });
        initial.map_or(StateKind::Atomic, |initial| StateKind::Compound { initial, actions })
    }

    fn initial(
        &mut self,
        index: StateIndex,
        node: &Node,
        findings: &mut Findings,
    ) -> Option<StateIndex> {
        let key = string(node, findings)?;
        let Some(child) = self.outline.child(index, &key) else {
            let message = format!("{:?} is not the key of a direct child", cut(&key));
            let by_id = self.outline.by_id(key.trim_start_matches('#'));
            let help = match by_id.map(|state| self.outline.place(state)) {
                Some(place) if place.parent == Some(index) => {
                    Some(format!("write its key, {:?}", cut(&place.key)))
                }
                Some(_) => Some(
                    "it is the id of a state elsewhere: name the direct child that holds it, and \
                     give that an `initial`"
                        .to_owned(),
                ),
                None if findings.is_full() => None,
                None => super::suggest::closest(&key, self.outline.child_keys(index))
                    .map(|key| format!("did you mean {key:?}?")),
            };
            findings.report(code::INITIAL, &node.span, message, help);
            return None;
        };
        if self.outline.place(child).shape == Shape::History {
            findings.error_with_help(
                code::INITIAL,
                &node.span,
                "`initial` cannot be a history state, which stands for what was active before",
                "name the state to begin with, and let transitions lead to the history state",
            );
            return None;
        }
        Some(child)
    }

    fn history(
        &mut self,
        index: StateIndex,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) -> StateKind {
        let deep = fields.read("history", findings, |node, findings| {
            one_of(node, &[("shallow", false), ("deep", true)], findings)
        });
        let default = fields.read("target", findings, |node, findings| {
            let targets = self.targets(index, node, findings)?;
            self.check_history_default(index, &targets, node, findings);
            Some(targets)
        });
        StateKind::History { deep: deep.unwrap_or(false), default: default.unwrap_or_default() }
    }

    fn check_history_default(
        &self,
        index: StateIndex,
        targets: &[StateIndex],
        node: &Node,
        findings: &mut Findings,
    ) {
        let Some(parent) = self.outline.place(index).parent else { return };
        for target in targets {
            if !self.outline.is_descendant(*target, parent) {
                findings.error(
                    code::HISTORY,
                    &node.span,
                    "the default of a history state lies within the state that it is the history \
                     of",
                );
            } else if self.outline.place(*target).shape == Shape::History {
                findings.error(
                    code::HISTORY,
                    &node.span,
                    "the default of a history state cannot be a history state",
                );
            }
        }
    }
}

/// Records a field that is unknown, or has no meaning for a state of that shape.
fn check_field(member: &Member, place: &Place<'_>, findings: &mut Findings) {
    let key = &*member.key;
    let is_root = place.parent.is_none();
    if fields::ROOT.contains(&key) {
        if !is_root {
            let message = format!("`{key}` stands only at the root");
            findings.at(key, |findings| {
                findings.error(code::MISPLACED_FIELD, &member.key_span, message);
            });
        }
    } else if !fields::STATE.contains(&key) {
        if is_root {
            let known: Vec<_> = fields::ROOT.into_iter().chain(fields::STATE).collect();
            unknown_field(member, "a template", &known, findings);
        } else {
            unknown_field(member, "a state", &fields::STATE, findings);
        }
    } else if let Some(help) = misplaced(key, place.shape, is_root) {
        let message = format!("{} has no `{key}`", place.shape.name());
        findings.at(key, |findings| {
            findings.error_with_help(code::MISPLACED_FIELD, &member.key_span, message, help);
        });
    }
}

/// Why a state of that shape has no field `key`, if it has none.
fn misplaced(key: &str, shape: Shape, is_root: bool) -> Option<&'static str> {
    let (fits, help) = match key {
        "initial" => (
            shape == Shape::Compound,
            "only a state with `states` that is not parallel enters one of them by default",
        ),
        "states" => (
            !matches!(shape, Shape::Final | Shape::History),
            "final and history states hold no others",
        ),
        "on" | "always" | "after" | "invoke" => (
            !matches!(shape, Shape::Final | Shape::History),
            "nothing happens in final and history states: put it on the state that holds them",
        ),
        "onDone" => (
            matches!(shape, Shape::Compound | Shape::Parallel),
            "only a state with `states` can be done; for work, see `onDone` of `invoke`",
        ),
        "entry" | "exit" => {
            (shape != Shape::History, "a history state is never active: what it stands for is")
        }
        "history" => (shape == Shape::History, "add `\"type\": \"history\"`"),
        "target" => (
            shape == Shape::History,
            "transitions stand in `on`, `always` or `after`; a history state has a default target",
        ),
        "output" => {
            (shape == Shape::Final || is_root, "only final states and the root have an output")
        }
        _ => (true, ""),
    };
    (!fits).then_some(help)
}

/// Checks the fields that are stored and never interpreted.
pub(super) fn labels(key: &str, node: &Node, findings: &mut Findings) {
    match key {
        "description" => {
            string(node, findings);
        }
        "tags" if node.as_str().is_none() => {
            for (index, tag) in
                array(node, "`tags`", findings).unwrap_or_default().iter().enumerate()
            {
                findings.at(index, |findings| string(tag, findings));
            }
        }
        _ => {}
    }
}
