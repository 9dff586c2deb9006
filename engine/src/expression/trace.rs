//! What each operation of an evaluation gave, for people who ask why.

use std::sync::Arc;

use serde::Serialize;

use super::EvalError;
use super::evaluate::Evaluated;
use super::tree::{Op, Test};
use crate::template::StateIndex;
use crate::value::Value;

/// How many operations of one evaluation are kept.
const KEPT_MAX: usize = 256;
/// The longest value that is shown as it is, in bytes of its JSON.
const SHOWN_BYTES_MAX: usize = 60;

/// One operation of an evaluation: what it was, what it gave, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The operator, or the path of a look-up; empty for a value that is written out.
    pub what: String,
    /// Its value as JSON, a long one shortened; `None` where it has none.
    pub value: Option<String>,
    /// Why it has no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its operands, as far as they were evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operands: Vec<Self>,
    /// How many operands were not evaluated, because the value was known before.
    #[serde(skip_serializing_if = "is_zero")]
    pub unasked: usize,
    /// How many operations below it are not shown, because there were so many.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Who is told of the operations of an evaluation.
pub(super) trait Observe {
    /// Whether the values are looked at, and not only what follows from them.
    const LOOKS: bool;

    /// `op` is about to be evaluated.
    fn begin(&mut self, op: &Op);
    /// What began last and has not ended has this value.
    fn end(&mut self, value: &Evaluated<'_>);
}

/// Nobody: costs nothing.
pub(super) struct Unobserved;

impl Observe for Unobserved {
    const LOOKS: bool = false;

    #[inline]
    fn begin(&mut self, _: &Op) {}

    #[inline]
    fn end(&mut self, _: &Evaluated<'_>) {}
}

/// Collects a [`Trace`].
pub(super) struct Tracer<'s> {
    state_id: &'s dyn Fn(StateIndex) -> Arc<str>,
    /// What began and has not ended, the innermost last, each with the number of its operands.
    open: Vec<(Trace, usize)>,
    /// How many operations began below one that is not kept.
    beyond: usize,
    kept: usize,
    root: Option<Trace>,
}

impl<'s> Tracer<'s> {
    pub(super) fn new(state_id: &'s dyn Fn(StateIndex) -> Arc<str>) -> Self {
        Self { state_id, open: Vec::new(), beyond: 0, kept: 0, root: None }
    }

    /// The trace of the whole, whose truth is known.
    pub(super) fn finish(self, holds: &Result<bool, EvalError>) -> Trace {
        self.root.unwrap_or_else(|| Trace {
            value: holds.as_ref().ok().map(ToString::to_string),
            error: holds.as_ref().err().map(ToString::to_string),
            ..Trace::of(String::new())
        })
    }

    fn name(&self, op: &Op) -> String {
        if let Op::Test(Test::InState(state)) = op {
            return format!("inState {}", (self.state_id)(*state));
        }
        op.name()
    }
}

impl Observe for Tracer<'_> {
    const LOOKS: bool = true;

    fn begin(&mut self, op: &Op) {
        if self.beyond > 0 || self.kept == KEPT_MAX {
            self.beyond += 1;
            if let Some((innermost, _)) = self.open.last_mut() {
                innermost.omitted += 1;
            }
            return;
        }
        self.kept += 1;
        self.open.push((Trace::of(self.name(op)), op.operands()));
    }

    fn end(&mut self, value: &Evaluated<'_>) {
        if self.beyond > 0 {
            self.beyond -= 1;
            return;
        }
        let Some((mut ended, operands)) = self.open.pop() else { return };
        match value {
            Ok(value) => ended.value = Some(shown(value)),
            Err(error) => ended.error = Some(error.to_string()),
        }
        if ended.omitted == 0 && value.is_ok() {
            ended.unasked = operands.saturating_sub(ended.operands.len());
        }
        match self.open.last_mut() {
            Some((around, _)) => around.operands.push(ended),
            None => self.root = Some(ended),
        }
    }
}

impl Trace {
    fn of(what: String) -> Self {
        Self { what, value: None, error: None, operands: Vec::new(), unasked: 0, omitted: 0 }
    }
}

/// A value as JSON if that is short, else what kind of value it is.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > SHOWN_BYTES_MAX => {
            let beginning: String = text.chars().take(SHOWN_BYTES_MAX).collect();
            format!("{}… ({} bytes)", Value::from(beginning), text.len())
        }
        Value::Array(elements) if value.canonical_len() > SHOWN_BYTES_MAX => {
            format!("an array of {}", elements.len())
        }
        Value::Object(object) if value.canonical_len() > SHOWN_BYTES_MAX => {
            format!("an object of {}", object.len())
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => value.to_string(),
    }
}

impl Op {
    /// The operator; of a look-up its path.
    fn name(&self) -> String {
        let name = match self {
            Self::Literal(_) => "",
            Self::Var(var) => &var.text,
            Self::Array(_) => "[…]",
            Self::Object(_) => "{…}",
            Self::Missing(_) => "missing",
            Self::MissingSome(..) => "missing_some",
            Self::If(_) => "if",
            Self::And(_) => "and",
            Self::Or(_) => "or",
            Self::Test(test) => test.name(),
            Self::Arithmetic(operator, _) => operator.name(),
            Self::Cat(_) => "cat",
            Self::Substr(_) => "substr",
            Self::In(_) => "in",
            Self::Merge(_) => "merge",
            Self::Map(_) => "map",
            Self::Filter(_) => "filter",
            Self::Quantifier(quantifier, _) => quantifier.name(),
            Self::Reduce(_) => "reduce",
        };
        name.to_owned()
    }

    /// How many operands it has, where not all need be evaluated; else 0.
    fn operands(&self) -> usize {
        match self {
            Self::If(ops) | Self::And(ops) | Self::Or(ops) => ops.len(),
            Self::Literal(_)
            | Self::Array(_)
            | Self::Object(_)
            | Self::Var(_)
            | Self::Missing(_)
            | Self::MissingSome(..)
            | Self::Test(_)
            | Self::Arithmetic(..)
            | Self::Cat(_)
            | Self::Substr(_)
            | Self::In(_)
            | Self::Merge(_)
            | Self::Map(_)
            | Self::Filter(_)
            | Self::Quantifier(..)
            | Self::Reduce(_) => 0,
        }
    }
}

impl Test {
    fn name(&self) -> &'static str {
        match self {
            Self::Not(_) => "!",
            Self::Truthy(_) => "!!",
            Self::Equal { strict: false, negated: false, .. } => "==",
            Self::Equal { strict: true, negated: false, .. } => "===",
            Self::Equal { strict: false, negated: true, .. } => "!=",
            Self::Equal { strict: true, negated: true, .. } => "!==",
            Self::Order(order, _) => order.name(),
            Self::InState(_) => "inState",
        }
    }
}
