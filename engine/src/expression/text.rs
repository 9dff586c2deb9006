//! `cat` and `substr`.

use std::borrow::Cow;

use super::evaluate::{Evaluated, Evaluator, Frame, Result};
use super::lookup::wrong;
use super::tree::Op;
use crate::value::Value;

impl Evaluator<'_> {
    pub(super) fn cat<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Evaluated<'a> {
        let mut text = String::new();
        for op in ops {
            let value = self.eval(op, frame, 0)?;
            let part: Cow<'_, str> = match &*value {
                Value::Null => continue,
                Value::String(part) => Cow::Borrowed(part),
                Value::Bool(_) | Value::Int(_) | Value::Float(_) => Cow::Owned(value.to_string()),
                Value::Array(_) | Value::Object(_) => {
                    return Err(wrong("cat", "strings, numbers and booleans", op, &value));
                }
            };
            self.produced(part.len())?;
            text.push_str(&part);
        }
        Ok(Cow::Owned(text.into()))
    }

    /// Counts characters (Unicode scalar values): a negative start from the end, a negative length
    /// up to so many before the end.
    pub(super) fn substr<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Evaluated<'a> {
        let value = self.eval(&ops[0], frame, 0)?;
        let Value::String(text) = &*value else {
            return Err(wrong("substr", "a string", &ops[0], &value));
        };
        let start = self.integer(&ops[1], frame)?;
        let length = ops.get(2).map(|op| self.integer(op, frame)).transpose()?;

        self.text_steps(text.len())?;
        let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let from = if start < 0 { (count + start).max(0) } else { start.min(count) };
        let to = match length {
            None => count,
            Some(length) if length < 0 => (count + length).max(from),
            Some(length) => from.saturating_add(length).min(count),
        };
        let part = &text[byte_of(text, from)..byte_of(text, to)];
        self.produced(part.len())?;
        Ok(Cow::Owned(part.into()))
    }

    fn integer(&mut self, op: &Op, frame: Frame<'_>) -> Result<i64> {
        let value = self.eval(op, frame, 0)?;
        value.as_int().ok_or_else(|| wrong("substr", "integers behind the string", op, &value))
    }
}

/// The byte at which a character begins.
fn byte_of(text: &str, character: i64) -> usize {
    let character = usize::try_from(character).unwrap_or(0);
    text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte)
}
