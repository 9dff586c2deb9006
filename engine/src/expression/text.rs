//! `cat` and `substr`.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::evaluate::{Evaluated, Evaluator, Frame, Result};
use super::lookup::wrong;
use super::trace::Observe;
use super::tree::Op;
use crate::value::Value;

impl<O: Observe> Evaluator<'_, O> {
    pub(super) fn cat<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Evaluated<'a> {
        let mut text = String::new();
        for op in ops {
            let value = self.eval(op, frame, 0)?;
            let before = text.len();
            match &*value {
                Value::Null => {}
                Value::String(part) => {
                    self.produced(part.len())?;
                    text.push_str(part);
                    continue;
                }
                Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
                Value::Int(int) => {
                    let _ = write!(text, "{int}");
                }
                Value::Float(float) => {
                    text.push_str(ryu_js::Buffer::new().format_finite(*float));
                }
                Value::Array(_) | Value::Object(_) => {
                    return Err(wrong("cat", "strings, numbers and booleans", op, &value));
                }
            }
            self.produced(text.len() - before)?;
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

        // Characters of several bytes have to be counted one by one.
        let is_ascii = text.is_ascii();
        self.text_steps(if is_ascii { text.len() } else { text.len().saturating_mul(4) })?;
        let count = if is_ascii { text.len() } else { text.chars().count() };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let from = if start < 0 { (count + start).max(0) } else { start.min(count) };
        let to = match length {
            None => count,
            Some(length) if length < 0 => (count + length).max(from),
            Some(length) => from.saturating_add(length).min(count),
        };
        let byte = |character: i64| {
            let character = usize::try_from(character).unwrap_or(0);
            if is_ascii { character } else { byte_of(text, character) }
        };
        let part = &text[byte(from)..byte(to)];
        self.produced(part.len())?;
        Ok(Cow::Owned(part.into()))
    }

    fn integer(&mut self, op: &Op, frame: Frame<'_>) -> Result<i64> {
        let value = self.eval(op, frame, 0)?;
        value.as_int().ok_or_else(|| wrong("substr", "integers behind the string", op, &value))
    }
}

/// The byte at which a character begins, or the end.
fn byte_of(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte)
}
