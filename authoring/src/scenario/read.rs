//! Scenario files: YAML to scenarios, every fault with its place and the field's name.

use std::sync::Arc;

use pled_engine::execution::Status;
use pled_engine::id::EventType;
use pled_engine::message::{Failure, Millis, TaskOutcome};
use pled_engine::template::{ActionKind, DELAY_MS_MAX, StateIndex, StateKind, Template};
use pled_engine::value::Value;

use super::expect::{EXACT, Effects, Expectation, States, Wanted};
use super::mock::{Answer, Mocks};
use super::yaml::{Key, Kind, Node, Place};

/// Something in a scenario file is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {message}", place.line, place.column)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, with the name of the field.
    pub message: String,
}

/// A scenario file before its template is known.
#[derive(Clone, Debug)]
pub struct Document {
    root: Node,
}

/// What should happen, from a start to the last step.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The start's input.
    pub input: Value,
    /// What workers answer.
    pub mocks: Mocks,
    /// What happens, in order; the start comes before.
    pub steps: Vec<Step>,
    /// What is expected in the end, of the effects of all steps.
    pub expect: Option<Expectation>,
}

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// What happens.
    pub act: Act,
    /// What is expected then, of the effects of this step.
    pub expect: Option<Expectation>,
}

/// What happens in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Nothing: the step only expects.
    Look,
    /// An event comes.
    Send {
        /// Its type.
        event: EventType,
        /// Its payload.
        data: Value,
    },
    /// Time passes.
    Wait(Millis),
    /// The outstanding attempt of a task ends.
    End {
        /// The invocation's id or the action's name.
        task: Arc<str>,
        /// How.
        outcome: TaskOutcome,
    },
}

const FILE: &[&str] = &["template", "input", "mocks", "scenarios"];
const SCENARIO: &[&str] = &["name", "input", "mocks", "steps", "expect"];
const STEP: &[&str] =
    &["send", "data", "wait", "done", "fail", "code", "message", "details", "retryable", "expect"];
const ANSWER: &[&str] = &["done", "fail", "pending", "after", "times"];
const FAILURE: &[&str] = &["code", "message", "details", "retryable"];
const EXPECT: &[&str] =
    &["state", "context", "effects", "status", "output", "outcome", "incidents", "error"];
const EFFECT: &[&str] =
    &["action", "params", "invoke", "input", "attempt", "cancel", "send", "to", "data"];
const OUTCOMES: &[&str] = &["applied", "ignored", "rejected", "closed"];

impl Document {
    /// Reads the YAML of a scenario file.
    ///
    /// # Errors
    /// If it is no YAML, or no map of the known fields.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let root = Node::read(text).map_err(|(place, message)| Fault { place, message })?;
        let document = Self { root };
        document.template()?;
        Ok(document)
    }

    /// The path of the template, relative to the scenario file.
    ///
    /// # Errors
    /// If it is not said.
    pub fn template(&self) -> Result<&str, Fault> {
        let mut reader = Reader { template: None, faults: Vec::new() };
        reader.fields(&self.root, FILE, "a scenario file");
        if let Some(fault) = reader.faults.pop() {
            return Err(fault);
        }
        match self.root.get("template") {
            Some(node) => node.as_str().ok_or_else(|| fault(node, "`template` is a path")),
            None => {
                let message = "the field `template` is missing: the path of the template's JSON, \
                               relative to this file";
                Err(fault(&self.root, message))
            }
        }
    }

    /// Where the template is named.
    #[must_use]
    pub fn template_place(&self) -> Place {
        self.root.get("template").map_or(Place::default(), |node| node.place)
    }

    /// The scenarios, for this template.
    ///
    /// # Errors
    /// With all faults that were found.
    pub fn scenarios(&self, template: &Template) -> Result<Vec<Scenario>, Vec<Fault>> {
        let mut reader = Reader { template: Some(template), faults: Vec::new() };
        let scenarios = reader.file(&self.root);
        if reader.faults.is_empty() { Ok(scenarios) } else { Err(reader.faults) }
    }
}

struct Reader<'t> {
    template: Option<&'t Template>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn file(&mut self, root: &Node) -> Vec<Scenario> {
        let input = root.get("input").map(Node::to_value).unwrap_or_default();
        let mocks = self.mocks(root.get("mocks"));
        let Some(node) = root.get("scenarios") else {
            self.fault(root.place, "the field `scenarios` is missing: a list of scenarios");
            return Vec::new();
        };
        let Kind::List(scenarios) = &node.kind else {
            let message = format!("`scenarios` is a list, not {}", node.kind_name());
            self.fault(node.place, message);
            return Vec::new();
        };
        scenarios.iter().map(|node| self.scenario(node, &input, &mocks)).collect()
    }

    fn scenario(&mut self, node: &Node, input: &Value, mocks: &Mocks) -> Scenario {
        self.fields(node, SCENARIO, "a scenario");
        let name = match node.get("name").map(|name| (name, name.as_str())) {
            Some((_, Some(name))) => name.to_owned(),
            Some((name, None)) => {
                let message = format!("`name` is a text, not {}", name.kind_name());
                self.fault(name.place, message);
                String::new()
            }
            None => {
                self.fault(node.place, "the field `name` of the scenario is missing");
                String::new()
            }
        };
        let mut own = mocks.clone();
        own.extend(self.mocks(node.get("mocks")));
        let steps = match node.get("steps").map(|steps| &steps.kind) {
            Some(Kind::List(steps)) => steps.iter().map(|step| self.step(step)).collect(),
            Some(Kind::Scalar(_) | Kind::Map(_)) => {
                self.fault(
                    node.get("steps").map_or(node.place, |steps| steps.place),
                    "`steps` is a list of steps",
                );
                Vec::new()
            }
            None => Vec::new(),
        };
        Scenario {
            name,
            place: node.place,
            input: node.get("input").map_or_else(|| input.clone(), Node::to_value),
            mocks: own,
            steps,
            expect: self.expectation(node),
        }
    }

    fn step(&mut self, node: &Node) -> Step {
        self.fields(node, STEP, "a step");
        let acts = ["send", "wait", "done", "fail"];
        let mut named = acts.iter().filter_map(|act| Some((*act, node.get(act)?)));
        let act = match (named.next(), named.next()) {
            (None, _) => {
                if node.get("expect").is_none() {
                    let message = "a step has `send`, `wait`, `done`, `fail` or `expect`";
                    self.fault(node.place, message);
                }
                Act::Look
            }
            (Some((first, _)), Some((second, second_node))) => {
                let message = format!("a step has `{first}` or `{second}`, not both");
                self.fault(second_node.place, message);
                Act::Look
            }
            (Some((act, value)), None) => self.act(act, value, node),
        };
        Step { place: node.place, act, expect: self.expectation(node) }
    }

    fn act(&mut self, act: &str, value: &Node, node: &Node) -> Act {
        let allowed: &[&str] = match act {
            "send" | "done" => &["data"],
            "fail" => FAILURE,
            _ => &[],
        };
        for (key, _) in node.members().unwrap_or_default() {
            let known = [act, "expect"].contains(&&*key.text) || allowed.contains(&&*key.text);
            if STEP.contains(&&*key.text) && !known {
                self.fault(key.place, format!("`{}` does not belong to `{act}`", key.text));
            }
        }
        match act {
            "wait" => Act::Wait(self.duration("wait", value)),
            "send" => match value.as_str().map(str::parse) {
                Some(Ok(event)) => Act::Send {
                    event,
                    data: node.get("data").map(Node::to_value).unwrap_or_default(),
                },
                Some(Err(error)) => {
                    let error: pled_engine::id::InvalidName = error;
                    self.fault(value.place, format!("`send`: {error}"));
                    Act::Look
                }
                None => {
                    let message = format!("`send` is an event's type, not {}", value.kind_name());
                    self.fault(value.place, message);
                    Act::Look
                }
            },
            _ => {
                let task = self.task(act, value);
                let outcome = if act == "done" {
                    TaskOutcome::Ok(node.get("data").map(Node::to_value).unwrap_or_default())
                } else {
                    TaskOutcome::Failed(self.failure(node))
                };
                Act::End { task, outcome }
            }
        }
    }

    fn mocks(&mut self, node: Option<&Node>) -> Mocks {
        let mut mocks = Mocks::new();
        let Some(node) = node else { return mocks };
        let Some(members) = node.members() else {
            let message = format!(
                "`mocks` is a map from invocations or actions to answers, not {}",
                node.kind_name()
            );
            self.fault(node.place, message);
            return mocks;
        };
        for (key, value) in members {
            let name = self.task_name("mocks", &key.text, key.place);
            let answers = value.elements().iter().map(|answer| self.answer(&key.text, answer));
            let answers: Vec<Answer> = answers.collect();
            if answers.is_empty() {
                self.fault(value.place, format!("the mock `{}` has no answers", key.text));
            }
            mocks.insert(name, answers);
        }
        mocks
    }

    fn answer(&mut self, mock: &str, node: &Node) -> Answer {
        self.fields(node, ANSWER, &format!("an answer of the mock `{mock}`"));
        let after_ms = node.get("after").map_or(0, |after| self.duration("after", after));
        let times = match node.get("times") {
            None => 1,
            Some(times) => match &times.kind {
                Kind::Scalar(Value::Int(times @ 1..)) => u32::try_from(*times).unwrap_or(u32::MAX),
                Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => {
                    self.fault(times.place, "`times` is how many attempts get it, 1 or more");
                    1
                }
            },
        };
        let outcome = match (node.get("done"), node.get("fail"), node.get("pending")) {
            (Some(done), None, None) => Some(TaskOutcome::Ok(done.to_value())),
            (None, Some(fail), None) => Some(TaskOutcome::Failed(match fail.as_str() {
                Some(code) => failure(code),
                None => {
                    self.fields(fail, FAILURE, "a failure");
                    self.failure(fail)
                }
            })),
            (None, None, Some(_)) => None,
            _ => {
                if node.members().is_some() {
                    let message = format!(
                        "an answer of the mock `{mock}` has one of `done`, `fail`, `pending`"
                    );
                    self.fault(node.place, message);
                }
                None
            }
        };
        Answer { outcome, after_ms, times }
    }

    fn failure(&mut self, node: &Node) -> Failure {
        let mut text = |field: &str| match node.get(field) {
            None => None,
            Some(value) => {
                let text = value.as_str().map(str::to_owned);
                if text.is_none() {
                    let message = format!("`{field}` is a text, not {}", value.kind_name());
                    self.faults.push(Fault { place: value.place, message });
                }
                text
            }
        };
        let code = text("code");
        let message = text("message");
        let retryable = match node.get("retryable").map(|value| (value, value.to_value())) {
            None => true,
            Some((_, Value::Bool(retryable))) => retryable,
            Some((value, _)) => {
                self.fault(value.place, "`retryable` is true or false");
                true
            }
        };
        Failure {
            message: message.unwrap_or_default(),
            details: node.get("details").map(Node::to_value).unwrap_or_default(),
            retryable,
            ..failure(code.as_deref().unwrap_or("error"))
        }
    }

    fn expectation(&mut self, node: &Node) -> Option<Expectation> {
        let node = node.get("expect")?;
        self.fields(node, EXPECT, "`expect`");
        let value = |field: &str| node.get(field).map(Node::to_value);
        let text = |field: &str| {
            node.get(field).map(|value| (value, value.as_str().map(Arc::<str>::from)))
        };
        let mut outcome = None;
        if let Some((place, word)) = text("outcome") {
            outcome = word.filter(|word| OUTCOMES.contains(&&**word));
            if outcome.is_none() {
                self.fault(place.place, format!("`outcome` is one of {}", OUTCOMES.join(", ")));
            }
        }
        let mut status = None;
        if let Some((place, word)) = text("status") {
            status =
                Status::ALL.into_iter().find(|status| word.as_deref() == Some(status.as_str()));
            if status.is_none() {
                let words = Status::ALL.map(Status::as_str).join(", ");
                self.fault(place.place, format!("`status` is one of {words}"));
            }
        }
        let mut error = None;
        if let Some((place, word)) = text("error") {
            if word.is_none() {
                self.fault(place.place, "`error` is the code of the execution's failure");
            }
            error = word;
        }
        Some(Expectation {
            place: node.place,
            state: node.get("state").map(|states| self.states(states)),
            context: value("context"),
            effects: node.get("effects").map(|effects| self.effects(effects)),
            status,
            output: value("output"),
            outcome,
            incidents: node.get("incidents").map(|incidents| self.texts("incidents", incidents)),
            error,
        })
    }

    fn states(&mut self, node: &Node) -> States {
        let (node, exact) = exact(node);
        let names = node.elements().iter();
        let mut states: Vec<StateIndex> = names.filter_map(|name| self.state(name)).collect();
        states.sort_unstable();
        States { states, exact }
    }

    /// The state with that id, or else the only one with that key.
    fn state(&mut self, node: &Node) -> Option<StateIndex> {
        let template = self.template?;
        let Some(name) = node.as_str() else {
            let message = format!("`state` is a state's id or key, not {}", node.kind_name());
            self.fault(node.place, message);
            return None;
        };
        let short = format!("{}.{name}", template.name);
        if let Some(index) = template.index_of(name).or_else(|| template.index_of(&short)) {
            return Some(index);
        }
        let states = || (0..).zip(&template.states);
        let can_be = |kind: &StateKind| !matches!(kind, StateKind::History { .. });
        let keyed: Vec<StateIndex> = states()
            .filter(|(_, state)| *state.key == *name && can_be(&state.kind))
            .map(|(index, _)| index)
            .collect();
        match keyed.as_slice() {
            [one] => Some(*one),
            [] => {
                let names = states().flat_map(|(_, state)| [&*state.id, &*state.key]);
                let message = format!("no state {name:?}{}", meant(name, names));
                self.fault(node.place, message);
                None
            }
            several => {
                let ids = several.iter().map(|index| &*template.state(*index).id);
                let ids = ids.collect::<Vec<_>>().join(", ");
                self.fault(
                    node.place,
                    format!("the key {name:?} is that of several states: {ids}"),
                );
                None
            }
        }
    }

    fn effects(&mut self, node: &Node) -> Effects {
        let (node, exact) = exact(node);
        let wanted = node.elements().iter().filter_map(|effect| self.effect(effect)).collect();
        Effects { wanted, exact }
    }

    fn effect(&mut self, node: &Node) -> Option<Wanted> {
        if let Some(name) = node.as_str() {
            return Some(Wanted::Named(self.task_name("effects", name, node.place)));
        }
        self.fields(node, EFFECT, "an effect");
        let value = |field: &str| node.get(field).map(Node::to_value);
        let kinds = ["action", "invoke", "cancel", "send"];
        let (kind, what) =
            kinds.iter().find_map(|kind| Some((*kind, node.get(kind)?))).or_else(|| {
                if node.members().is_some() {
                    let message = "an effect has `action`, `invoke`, `cancel` or `send`";
                    self.fault(node.place, message);
                }
                None
            })?;
        Some(match kind {
            "action" => Wanted::Action { action: self.task(kind, what), params: value("params") },
            "invoke" => Wanted::Invoke {
                invocation: self.task(kind, what),
                input: value("input"),
                attempt: value("attempt").and_then(|number| u32::try_from(number.as_int()?).ok()),
            },
            "cancel" => Wanted::Cancel { name: self.task(kind, what) },
            _ => Wanted::Send {
                event: what.as_str().unwrap_or_default().into(),
                to: node.get("to").and_then(Node::as_str).map(Into::into),
                data: value("data"),
            },
        })
    }

    /// The name of an invocation or action.
    fn task(&mut self, field: &str, node: &Node) -> Arc<str> {
        match node.as_str() {
            Some(name) => self.task_name(field, name, node.place),
            None => {
                let message =
                    format!("`{field}` is an invocation or an action, not {}", node.kind_name());
                self.fault(node.place, message);
                Arc::default()
            }
        }
    }

    fn task_name(&mut self, field: &str, name: &str, place: Place) -> Arc<str> {
        if let Some(template) = self.template {
            let names = task_names(template);
            // `notify[2]` is an element of the invocation `notify`.
            let base = name.split_once('[').map_or(name, |(base, _)| base);
            if !names.iter().any(|known| **known == *base) {
                let candidates = names.iter().map(|name| &**name);
                let message = format!(
                    "`{field}`: the template has no invocation or action {base:?}{}",
                    meant(base, candidates)
                );
                self.fault(place, message);
            }
        }
        name.into()
    }

    fn texts(&mut self, field: &str, node: &Node) -> Vec<Arc<str>> {
        let mut texts = Vec::new();
        for element in node.elements() {
            match element.as_str() {
                Some(text) => texts.push(text.into()),
                None => {
                    let message = format!("`{field}` is a list of texts");
                    self.fault(element.place, message);
                }
            }
        }
        texts
    }

    fn duration(&mut self, field: &str, node: &Node) -> Millis {
        let ms = match &node.kind {
            Kind::Scalar(Value::Int(ms)) => Some(*ms),
            Kind::Scalar(Value::String(text)) => duration_ms(text),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => None,
        };
        ms.filter(|ms| (0..=DELAY_MS_MAX).contains(ms)).unwrap_or_else(|| {
            let message =
                format!("`{field}` is a time like 1500ms, 5s, 15m, 1h or 7d, or milliseconds");
            self.fault(node.place, message);
            0
        })
    }

    /// Reports what is no field of `what`, and what is no map.
    fn fields(&mut self, node: &Node, known: &[&str], what: &str) {
        let Some(members) = node.members() else {
            let message = format!("{what} is a map, not {}", node.kind_name());
            self.fault(node.place, message);
            return;
        };
        for (at, (Key { text, place }, _)) in members.iter().enumerate() {
            if !known.contains(&&**text) {
                let help = match meant(text, known.iter().copied()) {
                    help if help.is_empty() => format!("; the fields are {}", known.join(", ")),
                    help => help,
                };
                self.fault(*place, format!("{what} has no field `{text}`{help}"));
            }
            if members.iter().take(at).any(|(key, _)| key.text == *text) {
                self.fault(*place, format!("the field `{text}` stands twice"));
            }
        }
    }

    fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.faults.push(Fault { place, message: message.into() });
    }
}

/// The value in `{$exact: …}`, and whether there is one.
fn exact(node: &Node) -> (&Node, bool) {
    match node.members() {
        Some([(key, value)]) if key.text == EXACT => (value, true),
        _ => (node, false),
    }
}

/// All ids of invocations and names of actions.
pub(super) fn task_names(template: &Template) -> Vec<Arc<str>> {
    fn add(actions: &[pled_engine::template::Action], names: &mut Vec<Arc<str>>) {
        for action in actions {
            match &action.kind {
                ActionKind::Custom { action, .. } => names.push(action.clone()),
                ActionKind::Choose(branches) => {
                    for branch in branches {
                        add(&branch.actions, names);
                    }
                }
                ActionKind::Spawn { id, .. } => names.push(id.clone()),
                ActionKind::Assign(_)
                | ActionKind::Raise(_)
                | ActionKind::Send(_)
                | ActionKind::Cancel { .. }
                | ActionKind::Stop { .. }
                | ActionKind::Log(_)
                | ActionKind::Compensate => {}
            }
        }
    }
    let mut names = Vec::new();
    for state in &template.states {
        add(&state.entry, &mut names);
        add(&state.exit, &mut names);
        if let StateKind::Compound { actions, .. } = &state.kind {
            add(actions, &mut names);
        }
        for invoke in &state.invoke {
            names.push(invoke.id.clone());
            if let pled_engine::template::InvokeSource::Action(action) = &invoke.source {
                names.push(action.clone());
            }
            names.extend(invoke.compensate.iter().map(|undo| undo.action.clone()));
        }
    }
    for (_, transition) in template.transitions() {
        add(&transition.actions, &mut names);
    }
    names.sort();
    names.dedup();
    names
}

/// `5s`, `1500ms`, `15m`, `1h`, `7d`, `1m 30.5s` in milliseconds.
#[must_use]
pub fn duration_ms(text: &str) -> Option<Millis> {
    let mut parts = text.split_whitespace().map(part_ms).peekable();
    parts.peek()?;
    let sum = parts.try_fold(0_i64, |sum, part| sum.checked_add(part?));
    sum.filter(|ms| *ms <= DELAY_MS_MAX)
}

fn part_ms(text: &str) -> Option<Millis> {
    let is_unit = |letter: char| !letter.is_ascii_digit() && letter != '.';
    let (number, unit) = text.split_at(text.find(is_unit)?);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if unit != 1_000 && !fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let millis: Millis = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<Millis>().ok()?.checked_mul(unit)?.checked_add(millis)
}

fn failure(code: &str) -> Failure {
    Failure {
        code: code.into(),
        message: String::new(),
        details: Value::Null,
        retryable: true,
        retry_after_ms: None,
    }
}

fn meant<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match pled_engine::template::suggest::closest(name, candidates) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    }
}

fn fault(node: &Node, message: &str) -> Fault {
    Fault { place: node.place, message: message.to_owned() }
}
