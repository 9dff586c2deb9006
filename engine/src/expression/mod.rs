//! `pled-logic-1`: the logic of guards, assignments and rules (TEMPLATE section 7.2).
//!
//! Parsed and checked once, evaluated over borrowed values with a budget. Data is never logic.

use std::sync::Arc;

use crate::message::Millis;
use crate::template::StateIndex;
use crate::template::diagnostic::Findings;
use crate::template::document::Node;
use crate::value::{Object, Value};

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    // private
}

/// A compiled mapping position: an object whose members are expressions or nested mappings
/// (TEMPLATE section 2, "Mapping positions").
#[derive(Debug)]
pub struct Mapping {
    // private
}

/// Resolves a state's id.
pub type ResolveState<'a> = &'a dyn Fn(&str) -> Option<StateIndex>;

/// What an expression may look at when it is compiled.
#[derive(Clone, Copy)]
pub struct Roots<'a> {
    /// Whether `context` may be read (rules may not).
    pub context: bool,
    /// Whether `item` and `index` may be read (the input of an `each`).
    pub item: bool,
    /// Resolves the ids of `inState`; `None` where `inState` is not allowed.
    pub states: Option<ResolveState<'a>>,
}

/// The event as logic sees it: `{type, data, id, source, time}`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventView {
    /// What happened.
    pub event_type: Arc<str>,
    /// Its payload, `null` if it had none.
    pub data: Value,
    /// Its id.
    pub id: Option<Arc<str>>,
    /// Who says so.
    pub source: Option<Arc<str>>,
    /// When, in milliseconds.
    pub time: Millis,
}

/// What an expression looks at when it is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The context; `None` where it may not be read.
    pub context: Option<&'a Object>,
    /// The event.
    pub event: &'a EventView,
    /// The element and its index in an `each`.
    pub item: Option<(&'a Value, usize)>,
    /// All active states (ancestors included), ascending: what `inState` sees.
    pub active: &'a [StateIndex],
}

/// What is left of the bounds of one macrostep.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Evaluation steps.
    pub steps: u64,
    /// Bytes of values that expressions produced.
    pub bytes: u64,
}

impl Expression {
    /// Reads and checks an expression. What is wrong goes to `findings`; then `None` comes back.
    pub fn compile(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Self> {
        let _ = (node, roots, findings);
        None
    }

    /// Its value.
    ///
    /// # Errors
    /// If an operand does not fit or the budget is used up.
    pub fn evaluate(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        let _ = (scope, budget);
        Ok(Value::Null)
    }

    /// Whether its value is truthy, as JSONLogic says.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn holds(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
        let _ = (scope, budget);
        Ok(false)
    }
}

impl Mapping {
    /// Reads and checks a mapping position whose root may be an operation (`input`, `data`,
    /// `output`, a single right side).
    pub fn compile(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Self> {
        let _ = (node, roots, findings);
        None
    }

    /// Reads and checks a mapping position whose root is an object of named members and never an
    /// operation (`params`).
    pub fn compile_params(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Self> {
        let _ = (node, roots, findings);
        None
    }

    /// A mapping that always gives `value`.
    #[must_use]
    pub fn constant(value: Value) -> Self {
        let _ = value;
        Self {}
    }

    /// Its value.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        let _ = (scope, budget);
        Ok(Value::Null)
    }
}

/// An expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An operand is not what the operator takes.
    #[error("{0}")]
    Type(String),
    /// The bounds of the macrostep are used up.
    #[error("the logic of this step needs more than its budget of {0}")]
    Budget(&'static str),
}
