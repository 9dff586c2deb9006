//! Evaluation: over borrowed values, within a budget, nested no deeper than what was checked.
//!
//! Every operation costs a step, and so does each further piece of work that grows with the data.
//! A value that is put together costs its bytes, those included that it only refers to: they count
//! when it is stored.

use std::borrow::Cow;

use super::path::View;
use super::trace::{Observe, Unobserved};
use super::tree::{Op, Test};
use super::{Budget, EvalError, Scope, lookup};
use crate::value::Value;

pub(super) type Result<T> = std::result::Result<T, EvalError>;
pub(super) type Evaluated<'a> = Result<Cow<'a, Value>>;

/// How deep a value may be nested while it is put together. What comes out in the end is held to
/// [`crate::json::VALUE_DEPTH_MAX`].
const PARTIAL_DEPTH_MAX: usize = 100;
/// Bytes of text that are looked at in one step.
const TEXT_PER_STEP: usize = 64;

/// What look-ups see.
#[derive(Clone, Copy)]
pub(super) enum Frame<'a> {
    Top(&'a Scope<'a>),
    Element(&'a Value),
    Reduce { current: &'a Value, accumulator: &'a Value },
}

impl Frame<'_> {
    pub(super) fn view(self) -> View {
        match self {
            Self::Top(_) => View::Top,
            Self::Element(_) => View::Element,
            Self::Reduce { .. } => View::Reduce,
        }
    }
}

pub(super) struct Evaluator<'b, O = Unobserved> {
    budget: &'b mut Budget,
    pub(super) observer: O,
}

impl<'b> Evaluator<'b> {
    pub(super) fn new(budget: &'b mut Budget) -> Self {
        Self { budget, observer: Unobserved }
    }
}

impl<'b, O: Observe> Evaluator<'b, O> {
    /// One that tells `observer` of every operation.
    pub(super) fn observed(budget: &'b mut Budget, observer: O) -> Self {
        Self { budget, observer }
    }

    /// The value of `op`, which will stand `depth` levels deep in what is being put together.
    pub(super) fn eval<'a>(&mut self, op: &'a Op, frame: Frame<'a>, depth: usize) -> Evaluated<'a> {
        self.steps(1)?;
        self.observer.begin(op);
        let value = self.value(op, frame, depth);
        self.observer.end(&value);
        value
    }

    #[inline]
    fn value<'a>(&mut self, op: &'a Op, frame: Frame<'a>, depth: usize) -> Evaluated<'a> {
        match op {
            Op::Literal(value) => Ok(Cow::Borrowed(value)),
            Op::Array(ops) => self.array(ops, frame, depth),
            Op::Object(members) => self.object(members, frame, depth),
            Op::Var(var) => self.var(var, frame, depth),
            Op::Missing(paths) => self.missing(paths, frame),
            Op::MissingSome(least, paths) => self.missing_some(least, paths, frame),
            Op::If(ops) => self.branch(ops, frame, depth),
            Op::And(ops) => self.first(false, ops, frame, depth),
            Op::Or(ops) => self.first(true, ops, frame, depth),
            Op::Test(test) => self.test(test, frame).map(flag),
            Op::Arithmetic(operator, ops) => self.arithmetic(*operator, ops, frame),
            Op::Cat(ops) => self.cat(ops, frame),
            Op::Substr(ops) => self.substr(ops, frame),
            Op::In(operands) => self.contains(operands, frame),
            Op::Merge(ops) => self.merge(ops, frame, depth),
            Op::Map(operands) => self.map(operands, frame, depth),
            Op::Filter(operands) => self.filter(operands, frame, depth),
            Op::Quantifier(quantifier, operands) => self.quantifier(*quantifier, operands, frame),
            Op::Reduce(operands) => self.reduce(operands, frame, depth),
        }
    }

    /// As [`Self::eval`] of an operand, for which most often nothing has to be made.
    #[inline]
    pub(super) fn operand_of<'a>(&mut self, op: &'a Op, frame: Frame<'a>) -> Evaluated<'a> {
        let lent = if let Op::Var(var) = op {
            lookup::lent(&var.path, frame)
        } else if let Op::Literal(value) = op {
            Some(value)
        } else {
            None
        };
        let Some(lent) = lent else { return self.eval(op, frame, 0) };
        self.steps(1)?;
        self.observer.begin(op);
        let value = Ok(Cow::Borrowed(lent));
        self.observer.end(&value);
        value
    }

    fn test(&mut self, test: &Test, frame: Frame<'_>) -> Result<bool> {
        match test {
            Test::Not(op) => Ok(!self.holds(op, frame)?),
            Test::Truthy(op) => self.holds(op, frame),
            Test::Equal { operands, strict, negated } => {
                let a = self.operand_of(&operands[0], frame)?;
                let b = self.operand_of(&operands[1], frame)?;
                Ok(self.equal(&a, &b, *strict)? != *negated)
            }
            Test::Order(order, ops) => self.order(*order, ops, frame),
            Test::InState(state) => Ok(match frame {
                Frame::Top(scope) => scope.active.binary_search(state).is_ok(),
                Frame::Element(_) | Frame::Reduce { .. } => false,
            }),
        }
    }

    /// Whether the value of `op` is truthy: as [`Self::eval`], without the value where nobody
    /// looks at it.
    pub(super) fn holds(&mut self, op: &Op, frame: Frame<'_>) -> Result<bool> {
        if !O::LOOKS {
            if let Op::Test(test) = op {
                self.steps(1)?;
                return self.test(test, frame);
            }
            if let Op::And(ops) = op {
                self.steps(1)?;
                return Ok(!self.any(false, ops, frame)? && !ops.is_empty());
            }
            if let Op::Or(ops) = op {
                self.steps(1)?;
                return self.any(true, ops, frame);
            }
        }
        self.eval(op, frame, 0).map(|value| truthy(&value))
    }

    /// Whether there is an operand whose truth is `wanted`; those behind it are not asked.
    fn any(&mut self, wanted: bool, ops: &[Op], frame: Frame<'_>) -> Result<bool> {
        for op in ops {
            if self.holds(op, frame)? == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `if`: the value behind the first condition that holds, else the last one.
    fn branch<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>, depth: usize) -> Evaluated<'a> {
        let mut rest = ops;
        loop {
            match rest {
                [] => return Ok(Cow::Owned(Value::Null)),
                [otherwise] => return self.eval(otherwise, frame, depth),
                [condition, value, others @ ..] => {
                    if self.holds(condition, frame)? {
                        return self.eval(value, frame, depth);
                    }
                    rest = others;
                }
            }
        }
    }

    /// `and` and `or`: the first operand whose truth is `wanted`, else the last.
    fn first<'a>(
        &mut self,
        wanted: bool,
        ops: &'a [Op],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let mut last = Cow::Owned(Value::Null);
        for op in ops {
            last = self.eval(op, frame, depth)?;
            if truthy(&last) == wanted {
                break;
            }
        }
        Ok(last)
    }

    pub(super) fn steps(&mut self, steps: usize) -> Result<()> {
        let left = self.budget.steps.checked_sub(u64::try_from(steps).unwrap_or(u64::MAX));
        self.budget.steps = left.ok_or(EvalError::Budget("evaluation steps"))?;
        Ok(())
    }

    /// The steps of looking at a text: none for a short one.
    pub(super) fn text_steps(&mut self, bytes: usize) -> Result<()> {
        if bytes < TEXT_PER_STEP { Ok(()) } else { self.steps(bytes / TEXT_PER_STEP) }
    }

    pub(super) fn produced(&mut self, bytes: usize) -> Result<()> {
        let left = self.budget.bytes.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.budget.bytes = left.ok_or(EvalError::Budget("produced bytes"))?;
        Ok(())
    }

    /// Counts a value that becomes a part of a new one without having been put together for it,
    /// about as long as it is written.
    pub(super) fn weigh(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > PARTIAL_DEPTH_MAX {
            let what =
                format!("a value that logic makes is nested {PARTIAL_DEPTH_MAX} deep at most");
            return Err(EvalError::Type(what));
        }
        match value {
            Value::Null | Value::Bool(_) => self.produced(4),
            Value::Int(_) | Value::Float(_) => self.produced(8),
            Value::String(text) => self.produced(text.len() + 2),
            Value::Array(elements) => {
                self.produced(elements.len() + 2)?;
                elements.iter().try_for_each(|element| self.weigh(element, depth + 1))
            }
            Value::Object(object) => {
                self.produced(2)?;
                object.iter().try_for_each(|(key, member)| {
                    self.produced(key.len() + 4)?;
                    self.weigh(member, depth + 1)
                })
            }
        }
    }
}

pub(super) fn flag<'a>(flag: bool) -> Cow<'a, Value> {
    Cow::Owned(Value::Bool(flag))
}

/// JSONLogic's truth: `false`, `null`, `0`, `""` and `[]` are not, all else is.
pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Int(int) => *int != 0,
        Value::Float(_) | Value::Object(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
    }
}
