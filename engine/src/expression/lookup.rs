//! `var`, `missing` and `missing_some`.

use std::borrow::Cow;
use std::sync::Arc;

use super::evaluate::{Evaluated, Evaluator, Frame, Result};
use super::path::{Path, Root};
use super::trace::Observe;
use super::tree::{Op, Paths, Var};
use super::{EvalError, EventView, Scope};
use crate::value::{Object, Value};

impl<O: Observe> Evaluator<'_, O> {
    pub(super) fn var<'a>(
        &mut self,
        var: &'a Var,
        frame: Frame<'a>,
        depth: usize,
    ) -> Evaluated<'a> {
        match (find(&var.path, frame), &var.default) {
            (Some(value), _) => {
                if matches!(&*value, Value::Object(_)) && matches!(value, Cow::Owned(_)) {
                    // The whole context or event, which was made here.
                    self.weigh(&value, depth)?;
                }
                Ok(value)
            }
            (None, Some(default)) => self.eval(default, frame, depth),
            (None, None) => Ok(Cow::Owned(Value::Null)),
        }
    }

    pub(super) fn missing<'a>(&mut self, paths: &'a Paths, frame: Frame<'a>) -> Evaluated<'a> {
        let (absent, _) = self.absent(paths, frame)?;
        Ok(Cow::Owned(absent.into()))
    }

    pub(super) fn missing_some<'a>(
        &mut self,
        least: &'a Op,
        paths: &'a Paths,
        frame: Frame<'a>,
    ) -> Evaluated<'a> {
        let least = self.operand("missing_some", least, frame)?;
        let (absent, count) = self.absent(paths, frame)?;
        let present = u32::try_from(count - absent.len()).unwrap_or(u32::MAX);
        let enough = f64::from(present) >= least;
        Ok(Cow::Owned(if enough { Vec::new().into() } else { absent.into() }))
    }

    /// Those of these paths that lead to nothing, to null or to the empty string, and how many
    /// there are in all.
    fn absent(&mut self, paths: &Paths, frame: Frame<'_>) -> Result<(Vec<Value>, usize)> {
        let mut absent = Vec::new();
        let count = match paths {
            Paths::Written(paths) => {
                for (key, path) in paths {
                    self.steps(1)?;
                    self.note_absent(key, Some(path), frame, &mut absent)?;
                }
                paths.len()
            }
            Paths::Computed(ops) => {
                let mut given = Vec::with_capacity(ops.len());
                for op in ops {
                    given.push(self.eval(op, frame, 0)?);
                }
                // As in the reference, a first operand that is an array stands for all of them.
                let keys: Vec<&Value> = match given.first().map(|first| &**first) {
                    Some(Value::Array(keys)) => keys.iter().collect(),
                    _ => given.iter().map(|key| &**key).collect(),
                };
                for key in &keys {
                    let path = self.computed_path(key, frame)?;
                    self.note_absent(key, path.as_ref(), frame, &mut absent)?;
                }
                keys.len()
            }
        };
        Ok((absent, count))
    }

    /// `None` is a path that leads nowhere from here.
    fn computed_path(&mut self, key: &Value, frame: Frame<'_>) -> Result<Option<Path>> {
        let text: Cow<'_, str> = match key {
            Value::String(text) => Cow::Borrowed(text),
            Value::Int(index) => Cow::Owned(index.to_string()),
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Array(_) | Value::Object(_) => {
                let what = format!("a path is a string or an index, not {}", describe(key));
                return Err(EvalError::Type(what));
            }
        };
        self.steps(2 + text.len() / 8)?;
        Ok(Path::parse(&text, frame.view()).ok())
    }

    fn note_absent(
        &mut self,
        key: &Value,
        path: Option<&Path>,
        frame: Frame<'_>,
        absent: &mut Vec<Value>,
    ) -> Result<()> {
        let is_there = match path.and_then(|path| find(path, frame)).as_deref() {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if !is_there {
            self.weigh(key, 0)?;
            absent.push(key.clone());
        }
        Ok(())
    }
}

/// What is at `path`; `None` if there is nothing, or the path runs through null.
fn find<'a>(path: &Path, frame: Frame<'a>) -> Option<Cow<'a, Value>> {
    match (lent(path, frame), frame) {
        (Some(value), _) => Some(Cow::Borrowed(value)),
        (None, Frame::Top(scope)) => made(path, scope).map(Cow::Owned),
        (None, Frame::Element(_) | Frame::Reduce { .. }) => None,
    }
}

/// What is at `path` and stands there as a value.
#[inline]
pub(super) fn lent<'a>(path: &Path, frame: Frame<'a>) -> Option<&'a Value> {
    let (root, keys) = match (frame, path.root) {
        (Frame::Top(scope), Root::Context) => {
            let (first, rest) = path.keys.split_first()?;
            (scope.context?.get(&first.text)?, rest)
        }
        (Frame::Top(scope), Root::EventData) => (&scope.event.data, &*path.keys),
        (Frame::Top(scope), Root::Item) => (scope.item?.0, &*path.keys),
        (Frame::Top(_), _) => return None,
        (Frame::Element(element), _) => (element, &*path.keys),
        (Frame::Reduce { current, .. }, Root::Current) => (current, &*path.keys),
        (Frame::Reduce { accumulator, .. }, _) => (accumulator, &*path.keys),
    };
    keys.iter().try_fold(root, |value, key| match value {
        Value::Object(object) => object.get(&key.text),
        Value::Array(elements) => elements.get(key.index?),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => None,
    })
}

/// What is at `path` and has to be made: the whole context or event, and the event's own members,
/// into which no path leads.
fn made(path: &Path, scope: &Scope<'_>) -> Option<Value> {
    if !path.keys.is_empty() {
        return None;
    }
    let event = scope.event;
    match path.root {
        Root::Context => Some(Value::Object(scope.context?.clone())),
        Root::Event => Some(whole(event)),
        Root::EventType => Some(Value::String(event.event_type.clone())),
        Root::EventId => Some(text_or_null(event.id.as_ref())),
        Root::EventSource => Some(text_or_null(event.source.as_ref())),
        Root::EventTime => Some(Value::Int(event.time)),
        Root::Index => Some(Value::Int(i64::try_from(scope.item?.1).ok()?)),
        Root::EventData | Root::Item | Root::Element | Root::Current | Root::Accumulator => None,
    }
}

fn whole(event: &EventView) -> Value {
    let members = [
        ("data", event.data.clone()),
        ("id", text_or_null(event.id.as_ref())),
        ("source", text_or_null(event.source.as_ref())),
        ("time", Value::Int(event.time)),
        ("type", Value::String(event.event_type.clone())),
    ];
    Value::Object(members.into_iter().collect::<Object>())
}

fn text_or_null(text: Option<&Arc<str>>) -> Value {
    text.map_or(Value::Null, |text| Value::String(text.clone()))
}

/// The error of an operator that takes something else than the value of `op`.
pub(super) fn wrong(operator: &str, takes: &str, op: &Op, value: &Value) -> EvalError {
    let value = describe(value);
    EvalError::Type(if let Op::Var(var) = op {
        format!("`{operator}` takes {takes}, and `{}` is {value}", var.text)
    } else {
        format!("`{operator}` takes {takes}, not {value}")
    })
}

/// A value in a message: scalars as they are, long ones cut.
fn describe(value: &Value) -> String {
    const LENGTH_MAX: usize = 60;
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => value.to_string(),
        Value::String(text) => match text.char_indices().nth(LENGTH_MAX) {
            None => format!("{text:?}"),
            Some((end, _)) => format!("{:?}…", &text[..end]),
        },
    }
}
