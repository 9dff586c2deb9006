//! The second pass: the root's fields, and all states with what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diagnostic::Findings;
use super::document::{Member, Node};
use super::outline::{Outline, Place, Shape};
use super::reader::{
    Fields, array, boolean, cut, integer, one_of, string, unknown_field, wrong_kind,
};
use super::{
    DELAY_MS_MAX, Delay, EventDeclaration, Limits, OnError, Queue, State, StateIndex, StateKind,
    Template, code, name,
};
use crate::execution::Retry;
use crate::expression::{Expression, Mapping, Roots};
use crate::id::{Hash, TemplateName, TemplateRef};
use crate::value::{Object, Value};

/// Fields of every state, the root included.
const STATE_FIELDS: [&str; 17] = [
    "id",
    "type",
    "initial",
    "states",
    "entry",
    "exit",
    "on",
    "always",
    "after",
    "onDone",
    "invoke",
    "history",
    "target",
    "output",
    "description",
    "tags",
    "meta",
];

/// Fields that only the root has.
const ROOT_FIELDS: [&str; 10] = [
    "pled", "version", "logic", "context", "delays", "events", "retry", "rules", "on_error",
    "limits",
];

/// What expressions of rules may read: the event alone.
pub(super) const EVENT_ONLY: Roots<'static> = Roots { context: false, item: false, states: None };
/// What expressions of a statechart may read.
pub(super) const CONTEXT: Roots<'static> = Roots { context: true, item: false, states: None };

/// What is known while states are compiled, and what is collected on the way.
pub(super) struct Compiler<'o, 'n> {
    pub(super) outline: &'o Outline<'n>,
    pub(super) delays: BTreeMap<Arc<str>, Delay>,
    /// The root's default.
    pub(super) retry: Option<Retry>,
    /// How many transitions are numbered.
    pub(super) transitions: u32,
    /// The state and the place in its `invoke` of each invocation.
    pub(super) invocations: BTreeMap<Arc<str>, (StateIndex, usize)>,
    pub(super) queues: BTreeMap<Arc<str>, Queue>,
    /// The versions that are started as children.
    pub(super) children: BTreeSet<TemplateRef>,
}

/// Compiles the template that `root` is. `None` comes back only after an error was recorded; there
/// may be errors all the same where a template comes back.
pub(super) fn template(source: &str, root: &Node, findings: &mut Findings) -> Option<Template> {
    let fields = Fields::unchecked(root, "a template", findings)?;
    format(&fields, findings);
    let version = fields.require("version", findings, |node, findings| {
        integer(node, 1..=i64::from(u32::MAX), findings).and_then(|int| u32::try_from(int).ok())
    });
    let name = fields.require("id", findings, template_name);
    let root_id: Arc<str> = name.as_ref().map_or("template", TemplateName::as_str).into();
    let outline = Outline::of(root, &root_id, findings);
    let mut compiler = Compiler {
        outline: &outline,
        delays: fields.read("delays", findings, delays).unwrap_or_default(),
        retry: fields.read("retry", findings, super::invoke::retry),
        transitions: 0,
        invocations: BTreeMap::new(),
        queues: BTreeMap::new(),
        children: BTreeSet::new(),
    };
    let mut states = Vec::with_capacity(outline.len());
    compiler.state(0, &mut states, findings);
    let limits = fields.read("limits", findings, limits).unwrap_or_default();
    let context = fields
        .read("context", findings, |node, findings| context(node, limits.context_bytes, findings));
    let Compiler { delays, transitions, invocations, queues, children, .. } = compiler;
    Some(Template {
        name: name?,
        version: version?,
        hash: Hash::of(source.as_bytes()),
        source: source.into(),
        context: context.unwrap_or_default(),
        states,
        delays,
        rules: fields.read("rules", findings, super::rules::rules).unwrap_or_default(),
        output: fields.read("output", findings, |node, findings| mapping(node, CONTEXT, findings)),
        on_error: fields.read("on_error", findings, on_error).unwrap_or(OnError::Incident),
        limits,
        events: fields.read("events", findings, events).unwrap_or_default(),
        transitions,
        invocations,
        queues: queues.into_values().collect(),
        children: children.into_iter().collect(),
        ids: outline.into_ids(),
    })
}

impl Compiler<'_, '_> {
    /// Compiles the state at `index` and its descendants, in document order, into `states`.
    fn state(&mut self, index: StateIndex, states: &mut Vec<State>, findings: &mut Findings) {
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
            last: place.last,
            depth: place.depth,
            on: super::Descriptors::default(),
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
            let what = "`initial` is a state's key or an object; the object";
            let known = ["target", "actions", "description", "meta"];
            let Some(fields) = Fields::of(node, what, &known, findings) else {
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
    if ROOT_FIELDS.contains(&key) {
        if !is_root {
            let message = format!("`{key}` stands only at the root");
            findings.at(key, |findings| {
                findings.error(code::MISPLACED_FIELD, &member.key_span, message);
            });
        }
    } else if !STATE_FIELDS.contains(&key) {
        if is_root {
            let known: Vec<_> = ROOT_FIELDS.into_iter().chain(STATE_FIELDS).collect();
            unknown_field(member, "a template", &known, findings);
        } else {
            unknown_field(member, "a state", &STATE_FIELDS, findings);
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
            for (index, tag) in array(node, "`tags` is a string or an array; the latter", findings)
                .unwrap_or_default()
                .iter()
                .enumerate()
            {
                findings.at(index, |findings| string(tag, findings));
            }
        }
        _ => {}
    }
}

/// Compiles an expression. Where `None` comes back, an error was recorded.
pub(super) fn expression(
    node: &Node,
    roots: Roots<'_>,
    findings: &mut Findings,
) -> Option<Expression> {
    let before = findings.count();
    let compiled = Expression::compile(node, roots, findings);
    or_error(compiled, before, node, findings)
}

/// Compiles a mapping whose root may be an operation. Where `None` comes back, an error was
/// recorded.
pub(super) fn mapping(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Mapping> {
    let before = findings.count();
    let compiled = Mapping::compile(node, roots, findings);
    or_error(compiled, before, node, findings)
}

/// Compiles the `params` of an action. Where `None` comes back, an error was recorded.
pub(super) fn params(node: &Node, findings: &mut Findings) -> Option<Mapping> {
    if node.members().is_none() {
        wrong_kind(node, "`params` is an object", findings);
        return None;
    }
    let before = findings.count();
    let compiled = Mapping::compile_params(node, CONTEXT, findings);
    or_error(compiled, before, node, findings)
}

fn or_error<T>(
    compiled: Option<T>,
    errors_before: usize,
    node: &Node,
    findings: &mut Findings,
) -> Option<T> {
    if compiled.is_none() && findings.count() == errors_before {
        findings.error(code::EXPRESSION, &node.span, "this expression could not be compiled");
    }
    compiled
}

fn format(fields: &Fields<'_>, findings: &mut Findings) {
    for (key, value, what) in
        [("pled", "1.0", "template format"), ("logic", "pled-logic-1", "logic profile")]
    {
        fields.require(key, findings, |node, findings| {
            let text = string(node, findings)?;
            if *text != *value {
                let message = format!("the {what} {:?} is not known here", cut(&text));
                let help = format!("this engine reads {value:?}");
                findings.error_with_help(code::UNSUPPORTED, &node.span, message, help);
            }
            Some(())
        });
    }
}

fn template_name(node: &Node, findings: &mut Findings) -> Option<TemplateName> {
    let text = string(node, findings)?;
    text.parse()
        .map_err(|_| {
            let message = format!(
                "the root's id {:?} is the template's name and must match \
                 [A-Za-z_][A-Za-z0-9_-]{{0,63}}",
                cut(&text)
            );
            findings.error(code::NAME, &node.span, message);
        })
        .ok()
}

fn context(node: &Node, bytes_max: usize, findings: &mut Findings) -> Option<Object> {
    if node.members().is_none() {
        wrong_kind(node, "`context` is an object", findings);
        return None;
    }
    let value = node.to_value();
    let bytes = value.to_canonical().len();
    if bytes > bytes_max {
        let message =
            format!("the context has {bytes} bytes, and `limits.context_bytes` allows {bytes_max}");
        findings.error(code::CONTEXT_SIZE, &node.span, message);
    }
    value.as_object().cloned()
}

fn delays(node: &Node, findings: &mut Findings) -> Option<BTreeMap<Arc<str>, Delay>> {
    let fields = Fields::unchecked(node, "`delays`", findings)?;
    let mut delays = BTreeMap::new();
    for Member { key, key_span, value } in fields.members() {
        let delay = findings.at(key, |findings| {
            if !name::is_key(key) {
                let message = format!(
                    "a delay's name must match [A-Za-z_][A-Za-z0-9_-]*, unlike {:?}",
                    cut(key)
                );
                findings.error(code::NAME, key_span, message);
            }
            delay(value, findings)
        });
        // A broken delay is a name all the same: what uses it is not wrong too.
        delays.insert(key.clone(), delay.unwrap_or(Delay::Millis(0)));
    }
    Some(delays)
}

/// Milliseconds, or an expression that gives them.
pub(super) fn delay(node: &Node, findings: &mut Findings) -> Option<Delay> {
    if node.members().is_some() {
        let logic = expression(node, CONTEXT, findings)?;
        return Some(Delay::Logic(Arc::new(logic)));
    }
    integer(node, 0..=DELAY_MS_MAX, findings).map(Delay::Millis)
}

fn limits(node: &Node, findings: &mut Findings) -> Option<Limits> {
    let known = ["microsteps", "logic_steps", "context_bytes", "event_ids"];
    let fields = Fields::of(node, "`limits`", &known, findings)?;
    let defaults = Limits::default();
    let mut limit =
        |key, bounds| fields.read(key, findings, |node, findings| integer(node, bounds, findings));
    let microsteps = limit("microsteps", 1..=10_000).and_then(|int| int.try_into().ok());
    let logic_steps = limit("logic_steps", 1..=10_000_000).and_then(|int| int.try_into().ok());
    let context_bytes = limit("context_bytes", 2..=8_388_608).and_then(|int| int.try_into().ok());
    let event_ids = limit("event_ids", 0..=1_024).and_then(|int| int.try_into().ok());
    Some(Limits {
        microsteps: microsteps.unwrap_or(defaults.microsteps),
        logic_steps: logic_steps.unwrap_or(defaults.logic_steps),
        context_bytes: context_bytes.unwrap_or(defaults.context_bytes),
        event_ids: event_ids.unwrap_or(defaults.event_ids),
    })
}

fn on_error(node: &Node, findings: &mut Findings) -> Option<OnError> {
    one_of(node, &[("incident", OnError::Incident), ("fail", OnError::Fail)], findings)
}

fn events(node: &Node, findings: &mut Findings) -> Option<BTreeMap<Arc<str>, EventDeclaration>> {
    let fields = Fields::unchecked(node, "`events`", findings)?;
    let mut events = BTreeMap::new();
    for Member { key, key_span, value } in fields.members() {
        let declaration = findings.at(key, |findings| {
            name::event_type(key, key_span, findings);
            let fields = Fields::of(
                value,
                "the declaration of an event",
                &["schema", "description"],
                findings,
            )?;
            Some(EventDeclaration {
                schema: fields.read("schema", findings, schema),
                description: fields.read("description", findings, string),
            })
        });
        events.extend(declaration.map(|declaration| (key.clone(), declaration)));
    }
    Some(events)
}

fn schema(node: &Node, findings: &mut Findings) -> Option<Value> {
    if node.members().is_none() {
        boolean(node, findings)?;
    }
    Some(node.to_value())
}
