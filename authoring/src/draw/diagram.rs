//! What a picture of a template shows: its states with their lines, and arrows with their labels.
//! Both formats are written from it.

use pled_engine::template::document::{Kind, Member, Node};
use pled_engine::template::{Delay, StateIndex, StateKind, Template, Transition};

use super::infix::infix;

/// How long an action's right side may be before only its key is shown.
const SIDE_CHARS_MAX: usize = 28;

/// A template as it is drawn.
pub(super) struct Diagram<'t> {
    pub(super) template: &'t Template,
    /// Of each state, by index.
    pub(super) states: Vec<StateView>,
    /// Initial transitions, defaults of history states, then transitions in document order.
    pub(super) arrows: Vec<Arrow>,
}

/// What stands in the box of a state.
pub(super) struct StateView {
    /// What it is called: its key.
    pub(super) title: String,
    /// What it does while it is active, a text a line.
    pub(super) lines: Vec<Line>,
    /// For a tooltip: its id and description.
    pub(super) about: String,
}

/// A line in a state's box.
pub(super) struct Line {
    /// What is shown.
    pub(super) text: String,
    /// The transition that it is, for one that stays in the state.
    pub(super) transition: Option<u32>,
}

/// An arrow between states.
pub(super) struct Arrow {
    pub(super) from: Start,
    pub(super) to: Vec<StateIndex>,
    pub(super) label: Label,
    /// The number of the transition that it is.
    pub(super) transition: Option<u32>,
}

/// Where an arrow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At a state.
    State(StateIndex),
    /// At the dot from which the state's default child is entered.
    Initial(StateIndex),
}

/// What stands at an arrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    /// The event; empty for one that needs none.
    pub(super) event: String,
    /// The guard in infix form.
    pub(super) guard: Option<String>,
    /// The actions.
    pub(super) actions: Vec<String>,
}

impl Label {
    /// `EVENT [guard] / action; action`
    pub(super) fn text(&self) -> String {
        let guard = self.guard.as_ref().map(|guard| format!("[{guard}]"));
        let actions = (!self.actions.is_empty()).then(|| format!("/ {}", self.actions.join("; ")));
        let event = (!self.event.is_empty()).then(|| self.event.clone());
        [event, guard, actions].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl<'t> Diagram<'t> {
    pub(super) fn of(template: &'t Template) -> Self {
        // It was read once, so it can be read again.
        let root = Node::parse(&template.source).ok();
        let mut nodes = Vec::with_capacity(template.states.len());
        if let Some(root) = &root {
            collect(root, &mut nodes);
        }
        let mut diagram = Self {
            template,
            states: nodes.iter().map(|(key, node)| view(key, node)).collect(),
            arrows: Vec::new(),
        };
        if let Some(view) = diagram.states.first_mut() {
            view.title = template.name.to_string();
        }
        for (index, view) in (0..).zip(&mut diagram.states) {
            let id = &template.state(index).id;
            view.about = if view.about.is_empty() {
                id.to_string()
            } else {
                format!("{id}: {}", view.about)
            };
        }
        diagram.add_defaults(&nodes);
        diagram.add_transitions(&nodes);
        diagram
    }

    /// Initial transitions, and where history states lead when nothing was recorded.
    fn add_defaults(&mut self, nodes: &[(&str, &Node)]) {
        for (index, state) in (0..).zip(&self.template.states) {
            match &state.kind {
                StateKind::Compound { initial, .. } => {
                    let node = nodes.get(position(index)).map(|(_, node)| *node);
                    let actions = node
                        .and_then(|node| node.get("initial")?.get("actions"))
                        .map(actions)
                        .unwrap_or_default();
                    self.arrows.push(Arrow {
                        from: Start::Initial(index),
                        to: vec![*initial],
                        label: Label { actions, ..Label::default() },
                        transition: None,
                    });
                }
                StateKind::History { default, .. } if !default.is_empty() => {
                    self.arrows.push(Arrow {
                        from: Start::State(index),
                        to: default.clone(),
                        label: Label::default(),
                        transition: None,
                    });
                }
                StateKind::Atomic
                | StateKind::Parallel
                | StateKind::Final
                | StateKind::History { .. } => {}
            }
        }
    }

    fn add_transitions(&mut self, nodes: &[(&str, &Node)]) {
        let template = self.template;
        let mut transitions: Vec<(StateIndex, &Transition)> = template.transitions().collect();
        transitions.sort_by_key(|(_, transition)| transition.number);
        for (source, transition) in transitions {
            let Some((_, node)) = nodes.get(position(source)) else { continue };
            let pointer = template.pointer(source);
            let steps = transition.pointer.strip_prefix(&*pointer).unwrap_or_default();
            let steps: Vec<String> = steps.split('/').skip(1).map(unescape).collect();
            let written = steps.iter().try_fold(*node, |node, step| descend(node, step));
            let label = Label {
                event: self.event(source, node, &steps),
                guard: written.and_then(|node| node.get("guard")).map(infix),
                actions: written
                    .and_then(|node| node.get("actions"))
                    .map(actions)
                    .unwrap_or_default(),
            };
            let number = Some(transition.number);
            let stays = match &*transition.target {
                [] => Some(""),
                [target] if *target == source => {
                    Some(if transition.reenter { " (enter again)" } else { " (stay)" })
                }
                _ => None,
            };
            match stays {
                Some(how) => {
                    let text = format!("{}{how}", label.text());
                    let line = Line { text, transition: number };
                    if let Some(view) = self.states.get_mut(position(source)) {
                        view.lines.push(line);
                    }
                }
                None => self.arrows.push(Arrow {
                    from: Start::State(source),
                    to: transition.target.clone(),
                    label,
                    transition: number,
                }),
            }
        }
    }

    /// What a transition waits for, from where it is written in its state.
    fn event(&self, source: StateIndex, node: &Node, steps: &[String]) -> String {
        let mut steps = steps.iter().map(String::as_str);
        match (steps.next(), steps.next(), steps.next()) {
            (Some("on"), Some(event), _) => event.to_owned(),
            (Some("after"), Some(delay), _) => self.delay(source, delay),
            (Some("onDone"), ..) => "done".to_owned(),
            (Some("invoke"), Some(field @ ("onDone" | "onError")), _) => {
                let id = node.get("invoke").map_or_else(String::new, invoked);
                format!("{id} {}", if field == "onDone" { "done" } else { "failed" })
            }
            (Some("invoke"), Some(at), Some(field)) => {
                let invoke = node.get("invoke").and_then(|node| descend(node, at));
                let id = invoke.map_or_else(String::new, invoked);
                format!("{id} {}", if field == "onDone" { "done" } else { "failed" })
            }
            _ => String::new(),
        }
    }

    fn delay(&self, source: StateIndex, name: &str) -> String {
        let after = self.template.state(source).after.iter().find(|after| &*after.name == name);
        match after.map(|after| &after.delay) {
            Some(Delay::Millis(millis)) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("after {}", duration(*millis))
            }
            Some(Delay::Millis(millis)) => format!("after {name} ({})", duration(*millis)),
            Some(Delay::Logic(_)) | None => format!("after {name}"),
        }
    }
}

/// All states' keys and nodes in document order.
fn collect<'n>(root: &'n Node, nodes: &mut Vec<(&'n str, &'n Node)>) {
    nodes.push(("", root));
    collect_children(root, nodes);
}

fn collect_children<'n>(node: &'n Node, nodes: &mut Vec<(&'n str, &'n Node)>) {
    let states = node.get("states").and_then(Node::members).unwrap_or_default();
    for Member { key, value, .. } in states {
        nodes.push((key, value));
        collect_children(value, nodes);
    }
}

fn view(key: &str, node: &Node) -> StateView {
    let mut lines = Vec::new();
    let mut add = |text: String| lines.push(Line { text, transition: None });
    for (field, word) in [("entry", "entry"), ("exit", "exit")] {
        let actions = node.get(field).map(actions).unwrap_or_default();
        if !actions.is_empty() {
            add(format!("{word} / {}", actions.join("; ")));
        }
    }
    let invokes = match node.get("invoke") {
        None => &[][..],
        Some(invoke) => invoke.elements().unwrap_or(std::slice::from_ref(invoke)),
    };
    for invoke in invokes {
        add(format!("do / {}", work(invoke)));
    }
    let about = node.get("description").and_then(Node::as_str);
    let about = about.map(|text| text.to_string()).unwrap_or_default();
    StateView { title: key.to_owned(), lines, about }
}

/// An invocation: what runs, for each of what, and how often it is tried.
fn work(invoke: &Node) -> String {
    let source = text_of(invoke, "src");
    let id = invoked(invoke);
    let mut text = if id == source || id.is_empty() { source } else { format!("{id}: {source}") };
    if let Some(each) = invoke.get("each").and_then(|each| each.get("in")) {
        text.push_str(&format!(" for each of {}", infix(each)));
    }
    let retry = invoke.get("retry").and_then(|retry| retry.get("max_attempts"));
    if let Some(attempts) = retry {
        text.push_str(&format!(", {} attempts", attempts.to_value()));
    }
    if let Some(undo) = invoke.get("compensate") {
        text.push_str(&format!(", undone by {}", text_of(undo, "src")));
    }
    text
}

fn invoked(invoke: &Node) -> String {
    match invoke.get("id") {
        Some(_) => text_of(invoke, "id"),
        None => text_of(invoke, "src"),
    }
}

/// The actions of a list, in words.
fn actions(list: &Node) -> Vec<String> {
    list.elements().unwrap_or_default().iter().flat_map(action).collect()
}

fn action(node: &Node) -> Vec<String> {
    let name = text_of(node, "type");
    let params = node.get("params");
    let member = |key: &str| params.and_then(|params| params.get(key));
    let value = |key: &str| member(key).map(value_text).unwrap_or_default();
    vec![match &*name {
        "assign" => {
            let sides = params.and_then(Node::members).unwrap_or_default();
            return sides.iter().map(|Member { key, value, .. }| assignment(key, value)).collect();
        }
        "raise" => format!("raise {}", value("event")),
        "send" => match member("to") {
            Some(to) => format!("send {} to {}", value("event"), value_text(to)),
            None => format!("send {}", value("event")),
        },
        "cancel" | "stop" => format!("{name} {}", value("id")),
        "spawn" => format!("spawn {}", value("template")),
        "choose" => {
            let branches = member("branches").and_then(Node::elements).unwrap_or_default();
            let branches = branches.iter().map(|branch| {
                let actions = branch.get("actions").map(actions).unwrap_or_default().join("; ");
                match branch.get("guard") {
                    Some(guard) => format!("if {} then {actions}", infix(guard)),
                    None => format!("else {actions}"),
                }
            });
            branches.collect::<Vec<_>>().join(" ")
        }
        _ => name,
    }]
}

fn assignment(key: &str, side: &Node) -> String {
    let side = infix(side);
    if side.chars().count() > SIDE_CHARS_MAX {
        format!("set {key}")
    } else {
        format!("{key} := {side}")
    }
}

/// A text as it stands, or an expression.
fn value_text(node: &Node) -> String {
    node.as_str().map_or_else(|| infix(node), |text| text.to_string())
}

fn text_of(node: &Node, key: &str) -> String {
    node.get(key).and_then(Node::as_str).map(|text| text.to_string()).unwrap_or_default()
}

fn descend<'n>(node: &'n Node, step: &str) -> Option<&'n Node> {
    match &node.kind {
        Kind::Object(_) => node.get(step),
        Kind::Array(elements) => elements.get(step.parse::<usize>().ok()?),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => None,
    }
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// `1500` as `1.5 s`, `604800000` as `7 days`.
fn duration(millis: i64) -> String {
    const UNITS: [(i64, &str); 4] =
        [(86_400_000, "day"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    for (unit, name) in UNITS {
        if millis >= unit && millis % unit == 0 {
            let count = millis / unit;
            let plural = if name == "day" && count != 1 { "s" } else { "" };
            return format!("{count} {name}{plural}");
        }
    }
    if millis >= 1_000 && millis % 100 == 0 {
        return format!("{}.{} s", millis / 1_000, millis % 1_000 / 100);
    }
    format!("{millis} ms")
}

pub(super) fn position(index: StateIndex) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
