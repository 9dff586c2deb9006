//! Arrays and objects: literals, `merge`, and the iterators.

use std::borrow::Cow;
use std::sync::Arc;

use super::evaluate::{Evaluated, Evaluator, Frame, Result, flag};
use super::lookup::wrong;
use super::trace::Observe;
use super::tree::{Op, Quantifier};
use crate::value::{Object, Value};

impl<O: Observe> Evaluator<'_, O> {
    pub(super) fn array<'a>(
        &mut self,
        ops: &'a [Op],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let mut elements = Vec::with_capacity(ops.len());
        for op in ops {
            let element = self.eval(op, frame, depth + 1)?;
            elements.push(self.include(element, depth + 1)?);
        }
        Ok(Cow::Owned(elements.into()))
    }

    pub(super) fn object<'a>(
        &mut self,
        members: &'a [(Arc<str>, Op)],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let mut object = Vec::with_capacity(members.len());
        for (key, op) in members {
            self.produced(key.len() + 4)?;
            let member = self.eval(op, frame, depth + 1)?;
            object.push((key.clone(), self.include(member, depth + 1)?));
        }
        // The members are in order and their keys unique since they were compiled.
        Ok(Cow::Owned(Object::from_members(object).unwrap_or_default().into()))
    }

    pub(super) fn merge<'a>(
        &mut self,
        ops: &'a [Op],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let mut merged = Vec::new();
        for op in ops {
            let value = self.eval(op, frame, depth + 1)?;
            if let Value::Array(elements) = &*value {
                let is_new = matches!(value, Cow::Owned(_));
                for element in elements.iter() {
                    if is_new {
                        self.produced(1)?
                    } else {
                        self.weigh(element, depth + 1)?
                    }
                    merged.push(element.clone());
                }
            } else {
                merged.push(self.include(value, depth + 1)?);
            }
        }
        Ok(Cow::Owned(merged.into()))
    }

    pub(super) fn map<'a>(
        &mut self,
        [source, body]: &'a [Op; 2],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let array = self.eval(source, frame, 0)?;
        let mut mapped = Vec::new();
        for element in elements("map", source, &array)? {
            let value = self.eval(body, Frame::Element(element), depth + 1)?;
            mapped.push(self.include(value, depth + 1)?);
        }
        Ok(Cow::Owned(mapped.into()))
    }

    pub(super) fn filter<'a>(
        &mut self,
        [source, condition]: &'a [Op; 2],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let array = self.eval(source, frame, 0)?;
        let mut kept = Vec::new();
        for element in elements("filter", source, &array)? {
            if self.holds(condition, Frame::Element(element))? {
                kept.push(self.include(Cow::Borrowed(element), depth + 1)?);
            }
        }
        Ok(Cow::Owned(kept.into()))
    }

    pub(super) fn quantifier<'a>(
        &mut self,
        quantifier: Quantifier,
        [source, condition]: &'a [Op; 2],
        frame: Frame<'a>,
    ) -> Evaluated<'a> {
        let array = self.eval(source, frame, 0)?;
        let elements = elements(quantifier.name(), source, &array)?;
        // What decides, and what it decides; `all` of nothing is false, as in the reference.
        let (decisive, decided, otherwise) = match quantifier {
            Quantifier::All => (false, false, !elements.is_empty()),
            Quantifier::Some => (true, true, false),
            Quantifier::None => (true, false, true),
        };
        for element in elements {
            if self.holds(condition, Frame::Element(element))? == decisive {
                return Ok(flag(decided));
            }
        }
        Ok(flag(otherwise))
    }

    pub(super) fn reduce<'a>(
        &mut self,
        [source, body, first]: &'a [Op; 3],
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        let array = self.eval(source, frame, 0)?;
        let first = self.eval(first, frame, depth)?;
        let mut is_new = matches!(first, Cow::Owned(_));
        let mut accumulator = first.into_owned();
        for current in elements("reduce", source, &array)? {
            let frame = Frame::Reduce { current, accumulator: &accumulator };
            let value = self.eval(body, frame, depth)?;
            is_new = matches!(value, Cow::Owned(_));
            accumulator = value.into_owned();
        }
        if !is_new {
            self.weigh(&accumulator, depth)?;
        }
        Ok(Cow::Owned(accumulator))
    }

    /// A value as a part of a new one. What was put together for it is counted already.
    fn include(&mut self, value: Cow<'_, Value>, depth: usize) -> Result<Value> {
        match &value {
            Cow::Borrowed(value) => self.weigh(value, depth)?,
            Cow::Owned(_) => self.produced(8)?,
        }
        Ok(value.into_owned())
    }
}

/// The elements of an iterator's source; null has none.
fn elements<'v>(name: &str, source: &Op, value: &'v Value) -> Result<&'v [Value]> {
    match value {
        Value::Array(elements) => Ok(elements),
        Value::Null => Ok(&[]),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Object(_) => {
            Err(wrong(name, "an array", source, value))
        }
    }
}

impl Quantifier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::None => "none",
        }
    }
}
