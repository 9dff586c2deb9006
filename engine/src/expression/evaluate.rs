//! Evaluation: over borrowed values, within a budget, without any recursion deeper than the
//! expression that was checked.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::op::{Arithmetic, Form, Op, Order, Quantifier, Root, Segment, Var};
use super::{Budget, EvalError, EventView, Scope, number};
use crate::value::{Object, Value};

type Result<T> = std::result::Result<T, EvalError>;

/// What look-ups see.
#[derive(Clone, Copy)]
pub(super) enum Frame<'a> {
    Top(&'a Scope<'a>),
    Element(&'a Value),
    Reduce { current: &'a Value, accumulator: &'a Value },
}

pub(super) struct Evaluator<'b> {
    pub(super) budget: &'b mut Budget,
    pub(super) active: &'b [u32],
}

const NULL: Value = Value::Null;

impl Form {
    pub(super) fn value(&self, evaluator: &mut Evaluator<'_>, frame: Frame<'_>) -> Result<Value> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Expression(op) => evaluator.eval(op, frame).map(Cow::into_owned),
            Self::Array(elements) => {
                evaluator.produced(elements.len() * 16)?;
                let values = elements.iter().map(|element| element.value(evaluator, frame));
                Ok(values.collect::<Result<Vec<_>>>()?.into())
            }
            Self::Object(members) => {
                evaluator.produced(members.len() * 32)?;
                let values = members
                    .iter()
                    .map(|(key, member)| Ok((key.clone(), member.value(evaluator, frame)?)));
                Ok(Value::Object(
                    values.collect::<Result<Vec<_>>>()?.into_iter().collect::<Object>(),
                ))
            }
        }
    }
}

impl Evaluator<'_> {
    fn step(&mut self) -> Result<()> {
        match self.budget.steps.checked_sub(1) {
            Some(left) => {
                self.budget.steps = left;
                Ok(())
            }
            None => Err(EvalError::Budget("evaluation steps")),
        }
    }

    fn produced(&mut self, bytes: usize) -> Result<()> {
        match self.budget.bytes.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.budget.bytes = left;
                Ok(())
            }
            None => Err(EvalError::Budget("produced bytes")),
        }
    }

    pub(super) fn eval<'a>(&mut self, op: &'a Op, frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        self.step()?;
        match op {
            Op::Literal(value) => Ok(Cow::Borrowed(value)),
            Op::Array(ops) => {
                self.produced(ops.len() * 16)?;
                let mut elements = Vec::with_capacity(ops.len());
                for op in ops {
                    elements.push(self.eval(op, frame)?.into_owned());
                }
                own(elements.into())
            }
            Op::Var(var) => self.var(var, frame),
            Op::Missing(ops) => self.missing(ops, frame),
            Op::MissingSome(pair) => self.missing_some(pair, frame),
            Op::If(ops) => self.branches(ops, frame),
            Op::And(ops) => self.first(ops, frame, false),
            Op::Or(ops) => self.first(ops, frame, true),
            Op::Not(op) => own(Value::Bool(!truthy(&*self.eval(op, frame)?))),
            Op::Truthy(op) => own(Value::Bool(truthy(&*self.eval(op, frame)?))),
            Op::Equal { operands, strict, negated } => {
                let a = self.eval(&operands.0, frame)?;
                let b = self.eval(&operands.1, frame)?;
                own(Value::Bool(self.equal(&a, &b, *strict)? != *negated))
            }
            Op::Order(order, ops) => self.order(*order, ops, frame),
            Op::Arithmetic(operator, ops) => self.arithmetic(*operator, ops, frame),
            Op::Cat(ops) => self.cat(ops, frame),
            Op::Substr(ops) => self.substr(ops, frame),
            Op::In(pair) => self.contains(pair, frame),
            Op::Merge(ops) => self.merge(ops, frame),
            Op::Map(pair) => self.map(pair, frame),
            Op::Filter(pair) => self.filter(pair, frame),
            Op::Quantifier(quantifier, pair) => self.quantifier(*quantifier, pair, frame),
            Op::Reduce(parts) => self.reduce(parts, frame),
            Op::InState(state) => own(Value::Bool(self.active.binary_search(state).is_ok())),
        }
    }

    fn var<'a>(&mut self, var: &'a Var, frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let root: Option<Cow<'a, Value>> = match (var.root, frame) {
            (Root::Context, Frame::Top(scope)) => match (scope.context, &var.path[..]) {
                (Some(context), [first, rest @ ..]) => {
                    return match context.get(&first.key).and_then(|value| walk(value, rest)) {
                        Some(value) => Ok(Cow::Borrowed(value)),
                        None => self.default(var, frame),
                    };
                }
                (Some(context), []) => Some(Cow::Owned(Value::Object(context.clone()))),
                (None, _) => None,
            },
            (Root::Event, Frame::Top(scope)) => Some(Cow::Owned(event_value(scope.event))),
            (Root::EventType, Frame::Top(scope)) => {
                Some(Cow::Owned(Value::String(scope.event.event_type.clone())))
            }
            (Root::EventData, Frame::Top(scope)) => Some(Cow::Borrowed(&scope.event.data)),
            (Root::EventId, Frame::Top(scope)) => Some(Cow::Owned(text_or_null(&scope.event.id))),
            (Root::EventSource, Frame::Top(scope)) => {
                Some(Cow::Owned(text_or_null(&scope.event.source)))
            }
            (Root::EventTime, Frame::Top(scope)) => Some(Cow::Owned(Value::Int(scope.event.time))),
            (Root::Item, Frame::Top(scope)) => scope.item.map(|(item, _)| Cow::Borrowed(item)),
            (Root::Index, Frame::Top(scope)) => scope
                .item
                .map(|(_, index)| Cow::Owned(Value::Int(i64::try_from(index).unwrap_or(i64::MAX)))),
            (Root::Element, Frame::Element(element)) => Some(Cow::Borrowed(element)),
            (Root::Current, Frame::Reduce { current, .. }) => Some(Cow::Borrowed(current)),
            (Root::Accumulator, Frame::Reduce { accumulator, .. }) => {
                Some(Cow::Borrowed(accumulator))
            }
            // The compiler lets no other pair through.
            _ => None,
        };
        let found = match root {
            Some(Cow::Borrowed(value)) => walk(value, &var.path).map(Cow::Borrowed),
            Some(Cow::Owned(value)) if var.path.is_empty() => Some(Cow::Owned(value)),
            Some(Cow::Owned(value)) => walk(&value, &var.path).cloned().map(Cow::Owned),
            None => None,
        };
        match found {
            Some(value) => Ok(value),
            None => self.default(var, frame),
        }
    }

    fn default<'a>(&mut self, var: &'a Var, frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        match &var.default {
            Some(default) => self.eval(default, frame),
            None => Ok(Cow::Owned(Value::Null)),
        }
    }

    fn missing<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let mut given = Vec::with_capacity(ops.len());
        for op in ops {
            given.push(self.eval(op, frame)?);
        }
        // As in the reference: a first operand that is an array stands for all of them.
        let keys: Vec<&Value> = match given.first().map(|first| &**first) {
            Some(Value::Array(keys)) => keys.iter().collect(),
            _ => given.iter().map(|value| &**value).collect(),
        };
        own(self.absent(&keys, frame)?.into())
    }

    fn missing_some<'a>(&mut self, pair: &'a (Op, Op), frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let least = self.eval(&pair.0, frame)?;
        let keys = self.eval(&pair.1, frame)?;
        let least = number::operand(&least, "missing_some").map_err(EvalError::Type)?;
        let Value::Array(keys) = &*keys else {
            return Err(EvalError::Type("`missing_some` takes an array of paths".to_owned()));
        };
        let keys: Vec<&Value> = keys.iter().collect();
        let absent = self.absent(&keys, frame)?;
        let present = keys.len() - absent.len();
        let enough = number::float_of(i64::try_from(present).unwrap_or(i64::MAX)) >= least;
        own(if enough { Vec::new().into() } else { absent.into() })
    }

    /// Those of these paths that lead to nothing, null or the empty string.
    fn absent(&mut self, keys: &[&Value], frame: Frame<'_>) -> Result<Vec<Value>> {
        let mut absent = Vec::new();
        for key in keys {
            self.step()?;
            let path = match key {
                Value::String(text) => text.clone(),
                Value::Int(_) => key.to_string().into(),
                Value::Null
                | Value::Bool(_)
                | Value::Float(_)
                | Value::Array(_)
                | Value::Object(_) => {
                    let text = number::short(key);
                    return Err(EvalError::Type(format!("`missing` of {text}, which is no path")));
                }
            };
            let there = present(&path, frame);
            if !there {
                self.produced(path.len() + 16)?;
                absent.push((*key).clone());
            }
        }
        Ok(absent)
    }

    fn branches<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let mut rest = ops;
        loop {
            match rest {
                [] => return Ok(Cow::Owned(NULL)),
                [otherwise] => return self.eval(otherwise, frame),
                [condition, value, others @ ..] => {
                    if truthy(&*self.eval(condition, frame)?) {
                        return self.eval(value, frame);
                    }
                    rest = others;
                }
            }
        }
    }

    /// The first operand whose truth is `wanted`, else the last.
    fn first<'a>(
        &mut self,
        ops: &'a [Op],
        frame: Frame<'a>,
        wanted: bool,
    ) -> Result<Cow<'a, Value>> {
        let mut last = Cow::Owned(NULL);
        for op in ops {
            last = self.eval(op, frame)?;
            if truthy(&last) == wanted {
                break;
            }
        }
        Ok(last)
    }

    fn order<'a>(
        &mut self,
        order: Order,
        ops: &'a [Op],
        frame: Frame<'a>,
    ) -> Result<Cow<'a, Value>> {
        let mut before = self.eval(&ops[0], frame)?;
        for op in &ops[1..] {
            let after = self.eval(op, frame)?;
            let ordering = number::order(&before, &after).map_err(EvalError::Type)?;
            let holds = match (order, ordering) {
                (_, None) => false,
                (Order::Less, Some(ordering)) => ordering == Ordering::Less,
                (Order::LessOrEqual, Some(ordering)) => ordering != Ordering::Greater,
                (Order::Greater, Some(ordering)) => ordering == Ordering::Greater,
                (Order::GreaterOrEqual, Some(ordering)) => ordering != Ordering::Less,
            };
            if !holds {
                return own(Value::Bool(false));
            }
            before = after;
        }
        own(Value::Bool(true))
    }

    fn arithmetic<'a>(
        &mut self,
        operator: Arithmetic,
        ops: &'a [Op],
        frame: Frame<'a>,
    ) -> Result<Cow<'a, Value>> {
        let symbol = operator.symbol();
        let mut result: Option<f64> = None;
        for op in ops {
            let value = self.eval(op, frame)?;
            let operand = number::operand(&value, symbol).map_err(EvalError::Type)?;
            let next = match result {
                None if ops.len() == 1 && operator == Arithmetic::Subtract => -operand,
                None => operand,
                Some(before) => match operator {
                    Arithmetic::Add => before + operand,
                    Arithmetic::Subtract => before - operand,
                    Arithmetic::Multiply => before * operand,
                    Arithmetic::Divide => before / operand,
                    Arithmetic::Remainder => before % operand,
                    Arithmetic::Min => before.min(operand),
                    Arithmetic::Max => before.max(operand),
                },
            };
            if !next.is_finite() {
                return Err(EvalError::Type(format!("`{symbol}` gives no finite number")));
            }
            result = Some(next);
        }
        number::result(result.unwrap_or(0.0), symbol).map(Cow::Owned).map_err(EvalError::Type)
    }

    fn cat<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let mut text = String::new();
        for op in ops {
            let part = self.eval(op, frame)?;
            let part = text_of(&part, "cat")?;
            self.produced(part.len())?;
            text.push_str(&part);
        }
        own(Value::from(text))
    }

    fn substr<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let value = self.eval(&ops[0], frame)?;
        let text = text_of(&value, "substr")?;
        let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let start = self.integer(&ops[1], frame)?;
        let from = if start < 0 { (count + start).max(0) } else { start.min(count) };
        let to = match ops.get(2) {
            None => count,
            Some(length) => {
                let length = self.integer(length, frame)?;
                let to = if length < 0 { count + length } else { from.saturating_add(length) };
                to.clamp(from, count)
            }
        };
        let skip = usize::try_from(from).unwrap_or(0);
        let take = usize::try_from(to - from).unwrap_or(0);
        let part: String = text.chars().skip(skip).take(take).collect();
        self.produced(part.len())?;
        own(Value::from(part))
    }

    /// An operand that counts characters: cut to an integer.
    fn integer<'a>(&mut self, op: &'a Op, frame: Frame<'a>) -> Result<i64> {
        let value = self.eval(op, frame)?;
        let float = number::operand(&value, "substr").map_err(EvalError::Type)?;
        let bound = 9e15;
        let whole = Value::from_f64(float.trunc().clamp(-bound, bound));
        Ok(whole.and_then(|whole| whole.as_int()).unwrap_or(0))
    }

    fn contains<'a>(&mut self, pair: &'a (Op, Op), frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let needle = self.eval(&pair.0, frame)?;
        let haystack = self.eval(&pair.1, frame)?;
        let found = match &*haystack {
            Value::String(text) => match &*needle {
                Value::Array(_) | Value::Object(_) => false,
                Value::Null
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::String(_) => text.contains(&*text_of(&needle, "in")?),
            },
            Value::Array(elements) => {
                let mut found = false;
                for element in elements.iter() {
                    if self.equal(&needle, element, true)? {
                        found = true;
                        break;
                    }
                }
                found
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Object(_) => {
                false
            }
        };
        own(Value::Bool(found))
    }

    fn merge<'a>(&mut self, ops: &'a [Op], frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let mut merged = Vec::new();
        for op in ops {
            let value = self.eval(op, frame)?;
            if let Value::Array(elements) = &*value {
                self.produced(elements.len() * 16)?;
                merged.extend(elements.iter().cloned());
            } else {
                self.produced(16)?;
                merged.push(value.into_owned());
            }
        }
        own(merged.into())
    }

    fn map<'a>(&mut self, pair: &'a (Op, Op), frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let source = self.eval(&pair.0, frame)?;
        let elements = source.as_array().unwrap_or_default();
        self.produced(elements.len() * 16)?;
        let mut mapped = Vec::with_capacity(elements.len());
        for element in elements {
            mapped.push(self.eval(&pair.1, Frame::Element(element))?.into_owned());
        }
        own(mapped.into())
    }

    fn filter<'a>(&mut self, pair: &'a (Op, Op), frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let source = self.eval(&pair.0, frame)?;
        let mut kept = Vec::new();
        for element in source.as_array().unwrap_or_default() {
            if truthy(&*self.eval(&pair.1, Frame::Element(element))?) {
                self.produced(16)?;
                kept.push(element.clone());
            }
        }
        own(kept.into())
    }

    fn quantifier<'a>(
        &mut self,
        quantifier: Quantifier,
        pair: &'a (Op, Op),
        frame: Frame<'a>,
    ) -> Result<Cow<'a, Value>> {
        let source = self.eval(&pair.0, frame)?;
        let elements = source.as_array().unwrap_or_default();
        let (stop_at, when_stopped) = match quantifier {
            Quantifier::All => (false, false),
            Quantifier::Some => (true, true),
            Quantifier::None => (true, false),
        };
        for element in elements {
            if truthy(&*self.eval(&pair.1, Frame::Element(element))?) == stop_at {
                return own(Value::Bool(when_stopped));
            }
        }
        own(Value::Bool(match quantifier {
            Quantifier::All => !elements.is_empty(),
            Quantifier::Some => false,
            Quantifier::None => true,
        }))
    }

    fn reduce<'a>(&mut self, parts: &'a (Op, Op, Op), frame: Frame<'a>) -> Result<Cow<'a, Value>> {
        let source = self.eval(&parts.0, frame)?;
        let mut accumulator = self.eval(&parts.2, frame)?.into_owned();
        for current in source.as_array().unwrap_or_default() {
            let inner = Frame::Reduce { current, accumulator: &accumulator };
            accumulator = self.eval(&parts.1, inner)?.into_owned();
        }
        own(accumulator)
    }

    /// `===` (deep), or `==` with ECMAScript's coercions between kinds.
    fn equal(&mut self, a: &Value, b: &Value, strict: bool) -> Result<bool> {
        self.step()?;
        match (a, b) {
            (Value::Array(a), Value::Array(b)) => {
                if Arc::ptr_eq(a, b) {
                    return Ok(true);
                }
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    if !self.equal(a, b, true)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for ((key, a), (other, b)) in a.iter().zip(b.iter()) {
                    if key != other || !self.equal(a, b, true)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
                Ok(false)
            }
            (a, b) if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
            (a, b) => Ok(!strict && number::loosely_equal(a, b)),
        }
    }
}

fn own<'a>(value: Value) -> Result<Cow<'a, Value>> {
    Ok(Cow::Owned(value))
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

fn walk<'a>(value: &'a Value, path: &[Segment]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| child(value, &segment.key, segment.index))
}

fn child<'a>(value: &'a Value, key: &str, index: Option<usize>) -> Option<&'a Value> {
    match value {
        Value::Object(object) => object.get(key),
        Value::Array(elements) => elements.get(index?),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => None,
    }
}

/// Whether a path that is only known now leads to something that is neither null nor empty.
fn present(path: &str, frame: Frame<'_>) -> bool {
    let there = |value: Option<&Value>| match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    let mut words = path.split('.').filter(|_| !path.is_empty());
    let mut down = |value: &Value| {
        let mut value = Some(value);
        for word in words.by_ref() {
            let segment = Segment::new(word);
            value = value.and_then(|value| child(value, &segment.key, segment.index));
            if value.is_none() {
                break;
            }
        }
        there(value)
    };
    let root = match frame {
        Frame::Element(element) => return down(element),
        Frame::Reduce { current, accumulator } => match path.split('.').next() {
            Some("current") => current.clone(),
            Some("accumulator") => accumulator.clone(),
            _ => return false,
        },
        Frame::Top(scope) => match path.split('.').next() {
            Some("context") => scope.context.map(|c| Value::Object(c.clone())).unwrap_or_default(),
            Some("event") => event_value(scope.event),
            Some("item") => scope.item.map(|(item, _)| item.clone()).unwrap_or_default(),
            _ => return false,
        },
    };
    let rest = path.split_once('.').map(|(_, rest)| rest);
    match rest {
        None => there(Some(&root)),
        Some(rest) => present(rest, Frame::Element(&root)),
    }
}

fn text_of<'a>(value: &'a Value, operator: &str) -> Result<Cow<'a, str>> {
    match value {
        Value::Null => Ok(Cow::Borrowed("")),
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Bool(true) => Ok(Cow::Borrowed("true")),
        Value::Bool(false) => Ok(Cow::Borrowed("false")),
        Value::Int(_) | Value::Float(_) => Ok(Cow::Owned(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(EvalError::Type(format!("`{operator}` of an {}: it takes texts", value.kind())))
        }
    }
}

fn text_or_null(text: &Option<Arc<str>>) -> Value {
    text.clone().map_or(Value::Null, Value::String)
}

fn event_value(event: &EventView) -> Value {
    let members = [
        ("data", event.data.clone()),
        ("id", text_or_null(&event.id)),
        ("source", text_or_null(&event.source)),
        ("time", Value::Int(event.time)),
        ("type", Value::String(event.event_type.clone())),
    ];
    Value::Object(members.into_iter().collect::<Object>())
}
