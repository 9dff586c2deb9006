//! `+ - * / %`, `min` and `max`: of numbers and of strings that are numbers, with finite results.

use std::borrow::Cow;

use super::EvalError;
use super::evaluate::{Evaluated, Evaluator, Frame, Result};
use super::lookup::wrong;
use super::number;
use super::trace::Observe;
use super::tree::{Arithmetic, Op};
use crate::value::Value;

impl<O: Observe> Evaluator<'_, O> {
    /// Floats are exact for integers within ±(2^53 - 1), so they serve for both.
    pub(super) fn arithmetic<'a>(
        &mut self,
        operator: Arithmetic,
        ops: &'a [Op],
        frame: Frame<'a>,
    ) -> Evaluated<'a> {
        let name = operator.name();
        let mut result = None;
        for op in ops {
            let operand = self.operand(name, op, frame)?;
            result = Some(match result {
                None if ops.len() == 1 && operator == Arithmetic::Subtract => -operand,
                None => operand,
                Some(before) => operator.apply(before, operand)?,
            });
        }
        let value = Value::from_f64(result.unwrap_or(0.0));
        value.map(Cow::Owned).ok_or_else(|| operator.overflow())
    }

    /// The number that `op` gives.
    pub(super) fn operand(&mut self, name: &str, op: &Op, frame: Frame<'_>) -> Result<f64> {
        let value = self.eval(op, frame, 0)?;
        let number = match &*value {
            Value::Int(int) => Some(number::float_of(*int)),
            Value::Float(float) => Some(*float),
            Value::String(text) => {
                self.text_steps(text.len())?;
                let number = number::of_text(text).filter(|number| number.is_finite());
                number.filter(|_| !number::trim(text).is_empty())
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.ok_or_else(|| wrong(name, "numbers and numeric strings", op, &value))
    }
}

impl Arithmetic {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    fn apply(self, a: f64, b: f64) -> Result<f64> {
        let result = match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide | Self::Remainder if b == 0.0 => {
                return Err(EvalError::Type(format!("`{}` divides by zero", self.name())));
            }
            Self::Divide => a / b,
            Self::Remainder => a % b,
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        };
        if result.is_finite() { Ok(result) } else { Err(self.overflow()) }
    }

    fn overflow(self) -> EvalError {
        EvalError::Type(format!("the result of `{}` is beyond the largest number", self.name()))
    }
}
