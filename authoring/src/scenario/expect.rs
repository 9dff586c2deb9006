//! What a scenario expects, held against what is.

use std::sync::Arc;

use pled_engine::execution::Status;
use pled_engine::template::StateIndex;
use pled_engine::value::Value;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::moment::{Happening, element};
use super::world::{Delivered, World};
use super::yaml::Place;

/// The key of the object that says that a value is to be equal, not to contain.
pub(super) const EXACT: &str = "$exact";

/// What is expected at one point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectation {
    pub(super) place: Place,
    pub(super) state: Option<States>,
    pub(super) context: Option<Value>,
    pub(super) effects: Option<Effects>,
    pub(super) status: Option<Status>,
    pub(super) output: Option<Value>,
    pub(super) outcome: Option<Arc<str>>,
    pub(super) incidents: Option<Vec<Arc<str>>>,
    pub(super) error: Option<Arc<str>>,
}

/// States that are to be active.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct States {
    pub(super) states: Vec<StateIndex>,
    /// Whether they are all the leaves that may be.
    pub(super) exact: bool,
}

/// Effects that are to be seen, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Effects {
    pub(super) wanted: Vec<Wanted>,
    /// Whether there may be no other tasks and sends between.
    pub(super) exact: bool,
}

/// An effect that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// A task of that invocation or action.
    Named(Arc<str>),
    Action {
        action: Arc<str>,
        params: Option<Value>,
    },
    Invoke {
        invocation: Arc<str>,
        input: Option<Value>,
        attempt: Option<u32>,
    },
    Cancel {
        name: Arc<str>,
    },
    Send {
        event: Arc<str>,
        to: Option<Arc<str>>,
        data: Option<Value>,
    },
}

/// What is other than expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The line of the expectation in the scenario's file.
    pub line: u64,
    /// After which step.
    pub after: String,
    /// `state`, `context.chargeId`, `effects`, …
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// What happened up to an expectation.
pub(super) struct Seen<'a> {
    pub(super) world: &'a World,
    pub(super) effects: &'a [Happening],
    pub(super) delivered: Option<Delivered>,
    /// The words for the step.
    pub(super) after: &'a str,
}

impl Expectation {
    /// What differs from `seen`.
    pub(super) fn differences(&self, seen: &Seen<'_>) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut differ = |what: String, expected: String, is: String| {
            let after = seen.after.to_owned();
            found.push(Difference { line: self.place.line, after, what, expected, found: is });
        };
        let execution = seen.world.execution();
        if let Some(states) = &self.state
            && !states.hold(seen.world)
        {
            let template = seen.world.template();
            let expected = states.states.iter().map(|state| &*template.state(*state).id);
            let is = execution.state.configuration.iter().map(|id| &**id);
            let exactly = if states.exact { "exactly " } else { "" };
            differ("state".to_owned(), format!("{exactly}{}", list(expected)), list(is));
        }
        if let Some(status) = self.status.filter(|status| *status != execution.status) {
            let mut is = execution.status.as_str().to_owned();
            if let Some(error) = &execution.state.error {
                is = format!("{is} ({}: {})", error.code, error.message);
            }
            differ("status".to_owned(), status.as_str().to_owned(), is);
        }
        let mut values = Vec::new();
        if let Some(context) = &self.context {
            compare("context", context, &execution.state.context.clone().into(), &mut values);
        }
        if let Some(output) = &self.output {
            compare("output", output, &execution.state.output, &mut values);
        }
        for (what, expected, is) in values {
            differ(what, expected, is);
        }
        if let Some(outcome) = &self.outcome {
            let is = seen.delivered.map_or("nothing was sent", Delivered::as_str);
            if **outcome != *is {
                differ("outcome".to_owned(), outcome.to_string(), is.to_owned());
            }
        }
        if let Some(error) = &self.error {
            let is = execution.state.error.as_ref().map_or("none", |error| &*error.code);
            if **error != *is {
                differ("error".to_owned(), error.to_string(), is.to_owned());
            }
        }
        if let Some(incidents) = &self.incidents {
            let is: Vec<_> = execution.state.incidents.values().map(|one| &*one.event).collect();
            if !incidents.iter().map(|event| &**event).eq(is.iter().copied()) {
                differ(
                    "incidents".to_owned(),
                    list(incidents.iter().map(|event| &**event)),
                    list(is),
                );
            }
        }
        if let Some(effects) = &self.effects
            && !effects.hold(seen.effects)
        {
            let lines = |lines: Vec<String>| lines.join("\n");
            let wanted = effects.wanted.iter().map(Wanted::text).collect();
            let is = seen.effects.iter().filter(|one| is_asked(one)).map(text).collect();
            differ("effects".to_owned(), lines(wanted), lines(is));
        }
        found
    }
}

impl Difference {
    /// For people: the lines that differ, or both values.
    #[must_use]
    pub fn text(&self) -> String {
        let is_long = self.expected.contains('\n') || self.found.contains('\n');
        if !is_long && self.what != "effects" {
            return format!("{}: expected {}, found {}", self.what, self.expected, self.found);
        }
        let diff = TextDiff::from_lines(&self.expected, &self.found);
        let mut text = format!("{}: - expected, + found", self.what);
        for change in diff.iter_all_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = change.value().trim_end_matches('\n');
            if !line.is_empty() {
                text.push_str(&format!("\n  {sign} {line}"));
            }
        }
        text
    }
}

impl States {
    fn hold(&self, world: &World) -> bool {
        let active = world.active();
        if !self.states.iter().all(|state| active.contains(state)) {
            return false;
        }
        let leaves = world.execution().state.configuration.iter();
        let mut leaves = leaves.filter_map(|id| world.template().index_of(id));
        !self.exact || leaves.all(|leaf| self.states.contains(&leaf))
    }
}

impl Effects {
    fn hold(&self, seen: &[Happening]) -> bool {
        let mut seen = seen.iter().filter(|happening| is_asked(happening));
        if self.exact {
            let mut wanted = self.wanted.iter();
            return seen.all(|seen| wanted.next().is_some_and(|wanted| wanted.fits(seen)))
                && wanted.next().is_none();
        }
        self.wanted.iter().all(|wanted| seen.any(|seen| wanted.fits(seen)))
    }
}

/// Timers are the engine's own business: what comes of them is expected, not that they are set.
fn is_asked(happening: &Happening) -> bool {
    match happening {
        Happening::Task { .. } | Happening::Cancel { .. } | Happening::Send { .. } => true,
        Happening::Timer { .. } | Happening::TimerCancel { .. } => false,
    }
}

impl Wanted {
    fn fits(&self, seen: &Happening) -> bool {
        let value = |wanted: &Option<Value>, seen: &Value| {
            wanted.as_ref().is_none_or(|wanted| fits(wanted, seen))
        };
        match (self, seen) {
            (Self::Named(name), Happening::Task { invocation, index, action, .. }) => {
                is_called(invocation.as_ref(), *index, name) || action == name
            }
            (
                Self::Action { action: wanted, params },
                Happening::Task { invocation: None, action, input, .. },
            ) => wanted == action && value(params, input),
            (
                Self::Invoke { invocation: wanted, input: pattern, attempt: number },
                Happening::Task { invocation, index, input, attempt, .. },
            ) => {
                is_called(invocation.as_ref(), *index, wanted)
                    && value(pattern, input)
                    && number.is_none_or(|number| number == *attempt)
            }
            (Self::Cancel { name: wanted }, Happening::Cancel { name }) => wanted == name,
            (
                Self::Send { event: wanted, to: receiver, data: pattern },
                Happening::Send { to, event, data },
            ) => {
                wanted == event
                    && receiver.as_ref().is_none_or(|receiver| to.as_ref() == Some(receiver))
                    && value(pattern, data)
            }
            _ => false,
        }
    }

    fn text(&self) -> String {
        let with = |value: &Option<Value>| {
            value.as_ref().map_or_else(String::new, |value| format!(" {value}"))
        };
        match self {
            Self::Named(name) => name.to_string(),
            Self::Action { action, params } => format!("{action}{}", with(params)),
            Self::Invoke { invocation, input, attempt } => {
                let attempt = attempt.map_or_else(String::new, |number| format!(" #{number}"));
                format!("invoke {invocation}{attempt}{}", with(input))
            }
            Self::Cancel { name } => format!("cancel {name}"),
            Self::Send { event, to, data } => {
                let to = to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
                format!("send {event}{to}{}", with(data))
            }
        }
    }
}

/// Whether a task is meant by the name of its invocation, or of its element in that.
fn is_called(invocation: Option<&Arc<str>>, index: Option<u32>, name: &Arc<str>) -> bool {
    invocation.is_some_and(|own| own == name || element(own, index) == *name)
}

/// An effect in a line, in the words of [`Wanted`].
fn text(seen: &Happening) -> String {
    match seen {
        Happening::Task { invocation: Some(invocation), index, input, attempt, .. } => {
            format!("invoke {} #{attempt} {input}", element(invocation, *index))
        }
        Happening::Task { invocation: None, action, input, .. } => format!("{action} {input}"),
        Happening::Cancel { name } => format!("cancel {name}"),
        Happening::Send { to, event, data } => {
            let to = to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
            format!("send {event}{to} {data}")
        }
        Happening::Timer { name, .. } => format!("timer {name}"),
        Happening::TimerCancel { name } => format!("cancel timer {name}"),
    }
}

/// Whether `value` has what `pattern` says: of objects the members that it names, an absent one
/// being null; all else equal. `{"$exact": x}` stands for x and nothing besides.
fn fits(pattern: &Value, value: &Value) -> bool {
    let mut differences = Vec::new();
    compare("", pattern, value, &mut differences);
    differences.is_empty()
}

fn compare(path: &str, pattern: &Value, value: &Value, out: &mut Vec<(String, String, String)>) {
    if let Some(exact) = exact(pattern) {
        if exact != value {
            out.push((path.to_owned(), pretty(exact), pretty(value)));
        }
        return;
    }
    match (pattern, value) {
        (Value::Object(pattern), Value::Object(object)) => {
            for (key, pattern) in pattern {
                let value = object.get(key).unwrap_or(&Value::Null);
                compare(&format!("{path}.{key}"), pattern, value, out);
            }
        }
        (Value::Array(patterns), Value::Array(values)) if patterns.len() == values.len() => {
            for (at, (pattern, value)) in patterns.iter().zip(values.iter()).enumerate() {
                compare(&format!("{path}[{at}]"), pattern, value, out);
            }
        }
        _ if pattern == value => {}
        _ => out.push((path.to_owned(), pattern.to_string(), value.to_string())),
    }
}

/// What stands in `{"$exact": …}`.
fn exact(pattern: &Value) -> Option<&Value> {
    let object = pattern.as_object()?;
    object.get(EXACT).filter(|_| object.len() == 1)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
