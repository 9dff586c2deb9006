//! `==`, `===`, `<` and their like, and `in`: ECMAScript's rules for scalars, deep equality for
//! arrays and objects.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::evaluate::{Evaluated, Evaluator, Frame, Result, flag};
use super::lookup::wrong;
use super::number;
use super::trace::Observe;
use super::tree::{Op, Order};
use crate::value::{Value, key_order};

impl<O: Observe> Evaluator<'_, O> {
    /// `==` with its coercions, or `===`. A number has one form, so equal ones are one value.
    pub(super) fn equal(&mut self, a: &Value, b: &Value, strict: bool) -> Result<bool> {
        match (a, b) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
            (Value::Int(a), Value::Int(b)) => Ok(a == b),
            (Value::Float(a), Value::Float(b)) => Ok(a == b),
            (Value::String(a), Value::String(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                self.text_steps(a.len())?;
                Ok(a == b)
            }
            (Value::Array(a), Value::Array(b)) => self.equal_elements(a, b),
            (Value::Object(a), Value::Object(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for ((key, a), (other, b)) in a.iter().zip(b) {
                    self.steps(1 + key.len() / 64)?;
                    if key != other || !self.equal(a, b, true)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ if strict => Ok(false),
            // null is equal to itself alone, and what is deep never to a scalar.
            (Value::Null | Value::Array(_) | Value::Object(_), _)
            | (_, Value::Null | Value::Array(_) | Value::Object(_)) => Ok(false),
            _ => Ok(match (self.number(a)?, self.number(b)?) {
                (Some(a), Some(b)) => a.partial_cmp(&b) == Some(Ordering::Equal),
                _ => false,
            }),
        }
    }

    fn equal_elements(&mut self, a: &Arc<[Value]>, b: &Arc<[Value]>) -> Result<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        if Arc::ptr_eq(a, b) {
            return Ok(true);
        }
        for (a, b) in a.iter().zip(b.iter()) {
            self.steps(1)?;
            if !self.equal(a, b, true)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `<` and its like, over two operands or a chain of three.
    pub(super) fn order(&mut self, order: Order, ops: &[Op], frame: Frame<'_>) -> Result<bool> {
        let mut holds = true;
        let mut before: Option<Cow<'_, Value>> = None;
        for op in ops {
            let value = self.operand_of(op, frame)?;
            if matches!(&*value, Value::Array(_) | Value::Object(_)) {
                return Err(wrong(order.name(), "numbers and strings", op, &value));
            }
            if let Some(before) = before {
                holds &= order.is_met_by(self.ordering(&before, &value)?);
            }
            before = Some(value);
        }
        Ok(holds)
    }

    /// ECMA-262, IsLessThan: two strings by their UTF-16 code units, all else as numbers. `None`
    /// if one is not a number.
    fn ordering(&mut self, a: &Value, b: &Value) -> Result<Option<Ordering>> {
        match (a, b) {
            (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
            (Value::String(a), Value::String(b)) => {
                self.text_steps(a.len().min(b.len()))?;
                Ok(Some(key_order(a, b)))
            }
            _ => Ok(match (self.number(a)?, self.number(b)?) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => None,
            }),
        }
    }

    /// ECMA-262, ToNumber of a scalar; `None` is NaN.
    fn number(&mut self, value: &Value) -> Result<Option<f64>> {
        Ok(match value {
            Value::Null => Some(0.0),
            Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Value::Int(int) => Some(number::float_of(*int)),
            Value::Float(float) => Some(*float),
            Value::String(text) => {
                self.text_steps(text.len())?;
                number::of_text(text)
            }
            Value::Array(_) | Value::Object(_) => None,
        })
    }

    pub(super) fn contains<'a>(
        &mut self,
        [needle, haystack]: &'a [Op; 2],
        frame: Frame<'a>,
    ) -> Evaluated<'a> {
        let what = self.eval(needle, frame, 0)?;
        let place = self.eval(haystack, frame, 0)?;
        match (&*place, &*what) {
            (Value::Null, _) => Ok(flag(false)),
            (Value::Array(elements), _) => {
                for element in elements.iter() {
                    self.steps(1)?;
                    if self.equal(&what, element, true)? {
                        return Ok(flag(true));
                    }
                }
                Ok(flag(false))
            }
            (Value::String(text), Value::String(part)) => {
                self.text_steps(text.len())?;
                Ok(flag(text.contains(&**part)))
            }
            (Value::String(_), _) => {
                Err(wrong("in", "a string to look for in a string", needle, &what))
            }
            _ => Err(wrong("in", "an array or a string to look in", haystack, &place)),
        }
    }
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn is_met_by(self, ordering: Option<Ordering>) -> bool {
        ordering.is_some_and(|ordering| match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        })
    }
}
