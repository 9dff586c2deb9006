//! `pled-logic-1`: the logic of guards, assignments and rules (TEMPLATE section 7.2).
//!
//! Parsed and checked once, evaluated over borrowed values with a budget. Data is never logic.

use std::borrow::Cow;
use std::sync::Arc;

use crate::json::VALUE_DEPTH_MAX;
use crate::message::Millis;
use crate::template::StateIndex;
use crate::template::diagnostic::Findings;
use crate::template::document::Node;
use crate::value::{Object, Value};

use compile::Compiler;
use evaluate::{Evaluator, Frame};
use trace::Tracer;
use tree::Op;

pub use trace::Trace;
pub(crate) use trace::shown;

mod arithmetic;
mod collect;
mod compare;
mod compile;
mod evaluate;
mod lookup;
mod number;
mod operator;
mod path;
mod site;
mod text;
mod trace;
mod tree;

/// A compiled expression.
#[derive(Debug)]
pub struct Expression(Op);

/// A compiled mapping position: an object whose members are expressions or nested mappings
/// (TEMPLATE section 2, "Mapping positions").
#[derive(Debug)]
pub struct Mapping(Op);

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

/// The operators of `pled-logic-1`: each with how many operands it takes at least and, where that
/// is bounded, at most.
pub fn operators() -> impl Iterator<Item = (&'static str, usize, Option<usize>)> {
    operator::operators().map(|entry| {
        let (least, most) = entry.operands;
        (entry.name, least, (most != usize::MAX).then_some(most))
    })
}

impl Expression {
    /// Reads and checks an expression. What is wrong goes to `findings`; then `None` comes back.
    pub fn compile(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Self> {
        Compiler::new(roots).expression(node, findings).map(Self)
    }

    /// An expression as jsonlogic.com has it, where `var` begins at the whole of the data: for
    /// tests against other implementations. Templates cannot reach it.
    #[doc(hidden)]
    pub fn compile_any_root(node: &Node, findings: &mut Findings) -> Option<Self> {
        Compiler::any_root().expression(node, findings).map(Self)
    }

    /// See [`Self::compile_any_root`].
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    #[doc(hidden)]
    pub fn evaluate_any_root(&self, data: &Value, budget: &mut Budget) -> Result<Value, EvalError> {
        Evaluator::new(budget).eval(&self.0, Frame::Element(data), 0).map(Cow::into_owned)
    }

    /// The value that it always gives, if it has no operation in it.
    #[must_use]
    pub fn as_constant(&self) -> Option<&Value> {
        self.0.as_literal()
    }

    /// Its value.
    ///
    /// # Errors
    /// If an operand does not fit or the budget is used up.
    pub fn evaluate(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        Evaluator::new(budget).eval(&self.0, Frame::Top(scope), 0).map(Cow::into_owned)
    }

    /// Whether its value is truthy, as JSONLogic says.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn holds(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
        Evaluator::new(budget).holds(&self.0, Frame::Top(scope))
    }

    /// As [`Self::holds`], with what each operation gave on the way. `state_id` names the states of
    /// `inState`.
    pub fn holds_traced(
        &self,
        scope: &Scope<'_>,
        budget: &mut Budget,
        state_id: &dyn Fn(StateIndex) -> Arc<str>,
    ) -> (Result<bool, EvalError>, Trace) {
        let mut evaluator = Evaluator::observed(budget, Tracer::new(state_id));
        let holds = evaluator.holds(&self.0, Frame::Top(scope));
        let trace = evaluator.observer.finish(&holds);
        (holds, trace)
    }
}

impl Mapping {
    /// Reads and checks a mapping position whose root may be an operation (`input`, `data`,
    /// `output`, a single right side).
    pub fn compile(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Self> {
        Compiler::new(roots).mapping(node, findings).map(Self)
    }

    /// Reads and checks a mapping position whose root is an object of named members and never an
    /// operation (`params`).
    pub fn compile_params(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Self> {
        Compiler::new(roots).params(node, findings).map(Self)
    }

    /// A mapping that always gives `value`.
    #[must_use]
    pub fn constant(value: Value) -> Self {
        Self(Op::Literal(value))
    }

    /// The value that it always gives, if it has no expression in it.
    #[must_use]
    pub fn as_constant(&self) -> Option<&Value> {
        self.0.as_literal()
    }

    /// Its value, which is nested no deeper than it could be taken from outside.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], and if it is nested deeper.
    pub fn evaluate(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        let value = Evaluator::new(budget).eval(&self.0, Frame::Top(scope), 0)?.into_owned();
        if value.is_deeper_than(VALUE_DEPTH_MAX) {
            let what = format!("a value that logic makes is nested {VALUE_DEPTH_MAX} deep at most");
            return Err(EvalError::Type(what));
        }
        Ok(value)
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
