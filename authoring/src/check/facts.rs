//! What stands in a template, gathered in one walk over its text beside its compiled form.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pled_engine::template::document::{Kind, Member, Node};
use pled_engine::template::{StateIndex, Template};

use super::reads::{Read, reads, reads_of_params, step};

/// A template, valid, and what stands in it.
pub(crate) struct Facts<'n> {
    pub(crate) template: &'n Template,
    pub(crate) root: &'n Node,
    /// All expressions, in the order of the text.
    pub(crate) sites: Vec<Site<'n>>,
    /// All keys that are assigned to the context, and the right sides.
    pub(crate) assigns: BTreeMap<&'n str, Vec<&'n Node>>,
    /// All `raise` and `send`.
    pub(crate) sends: Vec<Sent<'n>>,
    /// All other actions, by type.
    pub(crate) actions: Vec<Acted<'n>>,
    /// The names of delays that are used.
    pub(crate) delays: BTreeSet<&'n str>,
    /// All `retry` with the `timeout` beside them.
    pub(crate) retries: Vec<Retried<'n>>,
    /// What stands at each pointer: guards of transitions and branches.
    pub(crate) guards: BTreeMap<String, &'n Node>,
}

/// An expression or mapping.
pub(crate) struct Site<'n> {
    pub(crate) node: &'n Node,
    pub(crate) pointer: String,
    pub(crate) kind: SiteKind,
    /// The one event at which it is evaluated, where there is just one.
    pub(crate) event: Option<String>,
    pub(crate) reads: Vec<Read<'n>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SiteKind {
    /// Of a transition.
    Guard,
    /// Of a branch of `choose`, which sees the context at its place.
    Branch,
    /// `when` of a rule.
    When,
    /// Any other.
    Value,
}

/// A `raise` or `send`.
pub(crate) struct Sent<'n> {
    /// Its event, unless it is computed.
    pub(crate) event: Option<&'n str>,
    /// For whom: `None` is the execution itself.
    pub(crate) to: Option<&'n Node>,
    /// The id of a delayed one; `Some(None)` if it is computed.
    pub(crate) id: Option<Option<&'n str>>,
    pub(crate) pointer: String,
}

/// An action that is no `raise`, `send`, `assign` or `choose`.
pub(crate) struct Acted<'n> {
    pub(crate) action: &'n str,
    pub(crate) params: Option<&'n Node>,
    pub(crate) pointer: String,
    /// Where it stands; the source, for one of a transition.
    pub(crate) state: StateIndex,
}

/// A `timeout`, and the `retry` that holds for the same work.
pub(crate) struct Retried<'n> {
    pub(crate) retry: &'n Node,
    pub(crate) timeout: &'n Node,
    pub(crate) pointer: String,
}

impl<'n> Facts<'n> {
    pub(crate) fn of(template: &'n Template, root: &'n Node) -> Self {
        let mut facts = Self {
            template,
            root,
            sites: Vec::new(),
            assigns: BTreeMap::new(),
            sends: Vec::new(),
            actions: Vec::new(),
            delays: BTreeSet::new(),
            retries: Vec::new(),
            guards: BTreeMap::new(),
        };
        facts.root();
        facts.state(0, root, "");
        facts
    }

    /// The text at a pointer: for a member its key too.
    pub(crate) fn at(&self, pointer: &str) -> Option<At<'n>> {
        let mut at = At { key: None, node: self.root };
        for word in pointer.split('/').skip(1) {
            at = match &at.node.kind {
                Kind::Array(elements) => {
                    At { key: None, node: elements.get(word.parse::<usize>().ok()?)? }
                }
                Kind::Object(members) => {
                    let key = word.replace("~1", "/").replace("~0", "~");
                    let member = members.iter().find(|member| *member.key == *key)?;
                    At { key: Some(&member.key_span), node: &member.value }
                }
                Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => return None,
            };
        }
        Some(at)
    }

    /// The value at a pointer.
    pub(crate) fn node(&self, pointer: &str) -> Option<&'n Node> {
        self.at(pointer).map(|at| at.node)
    }

    fn root(&mut self) {
        let root = self.root;
        for Member { key, value, .. } in members(root.get("delays")) {
            self.site(value, step("/delays", key), SiteKind::Value, None);
        }
        if let Some(output) = root.get("output") {
            self.site(output, "/output".to_owned(), SiteKind::Value, None);
        }
        for (index, rule) in elements(root.get("rules")).iter().enumerate() {
            let at = format!("/rules/{index}");
            if let Some(when) = rule.get("when") {
                self.site(when, format!("{at}/when"), SiteKind::When, None);
            }
            for (index, emit) in elements(rule.get("emit")).iter().enumerate() {
                for key in ["key", "data"] {
                    if let Some(node) = emit.get(key) {
                        let pointer = format!("{at}/emit/{index}/{key}");
                        self.site(node, pointer, SiteKind::Value, None);
                    }
                }
            }
        }
    }

    fn state(&mut self, index: StateIndex, node: &'n Node, at: &str) {
        let state = self.template.state(index);
        let entered_by = (index == 0).then_some("pled.init");
        for Member { key, value, .. } in members(Some(node)) {
            let at = step(at, key);
            match &**key {
                "entry" => self.actions(index, value, &at, entered_by),
                "exit" => self.actions(index, value, &at, None),
                "on" => {
                    for Member { key, value, .. } in members(Some(value)) {
                        let event = (!key.contains('*')).then_some(&**key);
                        self.transitions(index, value, &step(&at, key), event);
                    }
                }
                "onDone" => self.transitions(index, value, &at, Some(&state.done_event)),
                "after" => {
                    for Member { key, value, .. } in members(Some(value)) {
                        self.delays.insert(key);
                        let event = format!("after.{key}.{}", state.id);
                        self.transitions(index, value, &step(&at, key), Some(&event));
                    }
                }
                "always" => self.transitions(index, value, &at, None),
                "invoke" => self.invokes(index, value, &at),
                "initial" => {
                    if let Some(actions) = value.get("actions") {
                        self.actions(index, actions, &format!("{at}/actions"), entered_by);
                    }
                }
                "output" if index != 0 => self.site(value, at, SiteKind::Value, None),
                _ => {}
            }
        }
        let children = state.children.iter().zip(members(node.get("states")));
        for (child, Member { key, value, .. }) in children {
            self.state(*child, value, &step(&format!("{at}/states"), key));
        }
    }

    fn invokes(&mut self, state: StateIndex, node: &'n Node, at: &str) {
        let template = self.template;
        let written: Vec<(&'n Node, String)> = match node.elements() {
            None => vec![(node, at.to_owned())],
            Some(all) => all.iter().enumerate().map(|(i, it)| (it, format!("{at}/{i}"))).collect(),
        };
        for ((node, at), invoke) in written.iter().zip(&template.state(state).invoke) {
            for Member { key, value, .. } in members(Some(node)) {
                let at = step(at, key);
                match &**key {
                    "onDone" => self.transitions(state, value, &at, Some(&invoke.done_event)),
                    "onError" => self.transitions(state, value, &at, Some(&invoke.error_event)),
                    "input" => self.site(value, at, SiteKind::Value, None),
                    "each" => {
                        if let Some(over) = value.get("in") {
                            self.site(over, format!("{at}/in"), SiteKind::Value, None);
                        }
                    }
                    "compensate" => {
                        if let Some(input) = value.get("input") {
                            let event = Some(invoke.done_event.to_string());
                            self.site(input, format!("{at}/input"), SiteKind::Value, event);
                        }
                        self.retried(value, &at);
                    }
                    _ => {}
                }
            }
            self.retried(node, at);
        }
    }

    fn retried(&mut self, work: &'n Node, at: &str) {
        let Some(timeout) = work.get("timeout") else { return };
        if let Some(retry) = work.get("retry").or_else(|| self.root.get("retry")) {
            self.retries.push(Retried { retry, timeout, pointer: format!("{at}/timeout") });
        }
    }

    fn transitions(&mut self, state: StateIndex, node: &'n Node, at: &str, event: Option<&str>) {
        match node.elements() {
            None => self.transition(state, node, at, event),
            Some(all) => {
                for (index, node) in all.iter().enumerate() {
                    self.transition(state, node, &format!("{at}/{index}"), event);
                }
            }
        }
    }

    fn transition(&mut self, state: StateIndex, node: &'n Node, at: &str, event: Option<&str>) {
        if let Some(guard) = node.get("guard") {
            let pointer = format!("{at}/guard");
            self.guards.insert(pointer.clone(), guard);
            self.site(guard, pointer, SiteKind::Guard, event.map(str::to_owned));
        }
        if let Some(actions) = node.get("actions") {
            self.actions(state, actions, &format!("{at}/actions"), event);
        }
    }

    fn actions(&mut self, state: StateIndex, node: &'n Node, at: &str, event: Option<&str>) {
        for (index, action) in elements(Some(node)).iter().enumerate() {
            self.action(state, action, &format!("{at}/{index}"), event);
        }
    }

    fn action(&mut self, state: StateIndex, node: &'n Node, at: &str, event: Option<&str>) {
        let Some(name) = node.get("type").and_then(Node::as_str) else { return };
        let params = node.get("params");
        let owned = event.map(str::to_owned);
        match &**name {
            "assign" => {
                for Member { key, value, .. } in members(params) {
                    self.assigns.entry(key).or_default().push(value);
                    let pointer = step(&format!("{at}/params"), key);
                    self.site(value, pointer, SiteKind::Value, owned.clone());
                }
            }
            "raise" | "send" => {
                let Some(params) = params else { return };
                for key in ["event", "to", "id", "data", "delay_ms"] {
                    if let Some(value) = params.get(key) {
                        let pointer = format!("{at}/params/{key}");
                        self.site(value, pointer, SiteKind::Value, owned.clone());
                    }
                }
                let text = |key| params.get(key).and_then(Node::as_str).map(|text| &**text);
                self.delays.extend(text("delay"));
                self.sends.push(Sent {
                    event: text("event"),
                    to: params.get("to"),
                    id: params.get("id").map(|_| text("id")),
                    pointer: format!("{at}/params"),
                });
            }
            "choose" => {
                let branches = params.and_then(|params| params.get("branches"));
                for (index, branch) in elements(branches).iter().enumerate() {
                    let at = format!("{at}/params/branches/{index}");
                    if let Some(guard) = branch.get("guard") {
                        let pointer = format!("{at}/guard");
                        self.guards.insert(pointer.clone(), guard);
                        self.site(guard, pointer, SiteKind::Branch, owned.clone());
                    }
                    if let Some(actions) = branch.get("actions") {
                        self.actions(state, actions, &format!("{at}/actions"), event);
                    }
                }
            }
            _ => {
                if let Some(params) = params {
                    let (pointer, reads) = (format!("{at}/params"), reads_of_params(params));
                    let kind = SiteKind::Value;
                    self.sites.push(Site { node: params, pointer, kind, event: owned, reads });
                }
                self.retried(node, at);
                self.actions.push(Acted { action: name, params, pointer: at.to_owned(), state });
            }
        }
    }

    fn site(&mut self, node: &'n Node, pointer: String, kind: SiteKind, event: Option<String>) {
        self.sites.push(Site { node, pointer, kind, event, reads: reads(node) });
    }
}

/// A value, and its key if it is a member.
#[derive(Clone, Copy)]
pub(crate) struct At<'n> {
    pub(crate) key: Option<&'n Range<usize>>,
    pub(crate) node: &'n Node,
}

pub(crate) fn members(node: Option<&Node>) -> &[Member] {
    node.and_then(Node::members).unwrap_or_default()
}

pub(crate) fn elements(node: Option<&Node>) -> &[Node] {
    node.and_then(Node::elements).unwrap_or_default()
}
