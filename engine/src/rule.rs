//! Rules: what a raw event of the ingest door becomes, for which executions (TEMPLATE section 4).
//!
//! A pure function of the event and of one template; nothing is loaded.

use std::sync::Arc;

use crate::expression::{Budget, EvalError, EventView, Scope};
use crate::id::{EventType, ExecutionId, TemplateRef};
use crate::message::Millis;
use crate::template::{Emit, Rule, Template};
use crate::value::Value;

/// Bytes of values that the logic of one rule may produce.
const PRODUCED_BYTES_MAX: u64 = 1 << 20;

/// An event that is not addressed to an execution.
#[derive(Clone, Debug, PartialEq)]
pub struct RawEvent {
    /// What happened, in the words of its source.
    pub event_type: Arc<str>,
    /// Its payload; `null` if it had none.
    pub data: Value,
    /// Who says so.
    pub source: Arc<str>,
    /// The source's id of it.
    pub id: Option<Arc<str>>,
    /// When it was accepted.
    pub time: Millis,
}

/// What the rules of one template make of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Emissions {
    /// The messages, in the order of rules and of their `emit`.
    pub messages: Vec<Emission>,
    /// What could not be evaluated; the rest goes its way all the same.
    pub errors: Vec<RuleError>,
}

/// A message that a rule emits.
#[derive(Clone, Debug, PartialEq)]
pub struct Emission {
    /// The rule.
    pub rule: Arc<str>,
    /// The place in the rule's `emit`, from 0.
    pub emit_index: u32,
    /// The execution it is for.
    pub key: Result<ExecutionId, BadKey>,
    /// What happened; `pled.init` for a start.
    pub event: EventType,
    /// Its payload.
    pub data: Value,
    /// The version to start, if the execution is to be started.
    pub start: Option<TemplateRef>,
}

/// A rule's `key` names no execution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadKey {
    /// Its value is not an integer or a string that is an execution id.
    #[error("the key {0} is no execution id: an integer or [A-Za-z0-9_-]{{1,128}} is needed")]
    NotAnId(Value),
    /// It has no value.
    #[error("the key has no value: {0}")]
    Logic(#[from] EvalError),
}

/// A part of a rule has no value for an event.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{part}` of rule {rule} has no value: {error}")]
pub struct RuleError {
    /// The rule.
    pub rule: Arc<str>,
    /// The place in the rule's `emit`; `None`: the rule's `when`, so that it did not fire.
    pub emit_index: Option<u32>,
    /// `when` or `data`.
    pub part: &'static str,
    /// What is wrong.
    pub error: EvalError,
}

/// Evaluates the rules of `template` on `event`: all that match fire, in the template's order.
///
/// Each rule has the template's budget of logic to itself, so none starves the others. A rule
/// whose `when` has no value does not fire.
#[must_use]
pub fn emissions(template: &Template, event: &RawEvent) -> Emissions {
    let mut emissions = Emissions::default();
    let mut rules = template.rules.iter().filter(|rule| rule.is_for(&event.source)).peekable();
    if rules.peek().is_none() {
        return emissions;
    }
    let view = event.view();
    let scope = Scope { context: None, event: &view, item: None, active: &[] };
    for rule in rules {
        fire(template, rule, &scope, &mut emissions);
    }
    emissions
}

impl RawEvent {
    fn view(&self) -> EventView {
        EventView {
            event_type: self.event_type.clone(),
            data: self.data.clone(),
            id: self.id.clone(),
            source: Some(self.source.clone()),
            time: self.time,
        }
    }
}

impl Rule {
    fn is_for(&self, source: &str) -> bool {
        self.source.as_ref().is_none_or(|own| **own == *source)
    }
}

impl Emissions {
    /// Whether no rule wanted the event, as far as that could be told.
    #[must_use]
    pub fn is_unmatched(&self) -> bool {
        self.messages.is_empty() && self.errors.is_empty()
    }
}

fn fire(template: &Template, rule: &Rule, scope: &Scope<'_>, emissions: &mut Emissions) {
    let mut budget = Budget { steps: template.limits.logic_steps, bytes: PRODUCED_BYTES_MAX };
    let failed =
        |emit_index, part, error| RuleError { rule: rule.id.clone(), emit_index, part, error };
    match rule.when.holds(scope, &mut budget) {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => {
            emissions.errors.push(failed(None, "when", error));
            return;
        }
    }
    for (emit_index, emit) in (0..).zip(&rule.emit) {
        match payload(emit, scope, &mut budget) {
            Ok(data) => emissions.messages.push(Emission {
                rule: rule.id.clone(),
                emit_index,
                key: key(emit, scope, &mut budget),
                event: emit.event.clone(),
                data,
                start: emit.start.then(|| template.reference()),
            }),
            Err(error) => emissions.errors.push(failed(Some(emit_index), "data", error)),
        }
    }
}

fn payload(emit: &Emit, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
    match &emit.data {
        Some(data) => data.evaluate(scope, budget),
        None => Ok(scope.event.data.clone()),
    }
}

fn key(emit: &Emit, scope: &Scope<'_>, budget: &mut Budget) -> Result<ExecutionId, BadKey> {
    let value = emit.key.evaluate(scope, budget)?;
    let id = match &value {
        Value::Int(int) => int.to_string().parse().ok(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Array(_) | Value::Object(_) => None,
    };
    id.ok_or(BadKey::NotAnId(value))
}
