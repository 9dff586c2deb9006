//! The compiled form of expressions and mappings.

use std::sync::Arc;

use super::path::Path;
use crate::template::StateIndex;
use crate::value::{Object, Value};

/// One node of a compiled expression.
#[derive(Debug)]
pub(super) enum Op {
    Literal(Value),
    /// An array, some of whose elements have to be evaluated.
    Array(Box<[Self]>),
    /// An object, some of whose members have to be evaluated; in the order of [`Object`].
    Object(Box<[(Arc<str>, Self)]>),
    Var(Box<Var>),
    Missing(Paths),
    MissingSome(Box<Self>, Paths),
    If(Box<[Self]>),
    And(Box<[Self]>),
    Or(Box<[Self]>),
    Test(Test),
    Arithmetic(Arithmetic, Box<[Self]>),
    Cat(Box<[Self]>),
    Substr(Box<[Self]>),
    In(Box<[Self; 2]>),
    Merge(Box<[Self]>),
    Map(Box<[Self; 2]>),
    Filter(Box<[Self; 2]>),
    Quantifier(Quantifier, Box<[Self; 2]>),
    Reduce(Box<[Self; 3]>),
}

/// What finds a truth, not a value.
#[derive(Debug)]
pub(super) enum Test {
    Not(Box<Op>),
    Truthy(Box<Op>),
    Equal { operands: Box<[Op; 2]>, strict: bool, negated: bool },
    Order(Order, Box<[Op]>),
    InState(StateIndex),
}

/// A look-up.
#[derive(Debug)]
pub(super) struct Var {
    pub(super) path: Path,
    pub(super) default: Option<Op>,
    /// The path as it is written, for messages.
    pub(super) text: Arc<str>,
}

/// What `missing` looks for.
#[derive(Debug)]
pub(super) enum Paths {
    /// All are written out: each as it is written, and where it leads.
    Written(Box<[(Value, Path)]>),
    /// Some are computed.
    Computed(Box<[Op]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Min,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    All,
    Some,
    None,
}

impl Op {
    /// An array; a literal if all its elements are.
    pub(super) fn array(elements: Vec<Self>) -> Self {
        let literals: Option<Vec<Value>> =
            elements.iter().map(|element| element.as_literal().cloned()).collect();
        literals.map_or_else(|| Self::Array(elements.into()), |values| Self::Literal(values.into()))
    }

    /// An object; a literal if all its members are.
    pub(super) fn object(mut members: Vec<(Arc<str>, Self)>) -> Self {
        let literals: Option<Object> = members
            .iter()
            .map(|(key, member)| Some((key.clone(), member.as_literal()?.clone())))
            .collect();
        literals.map(Value::Object).map_or_else(
            || {
                members.sort_by(|(a, _), (b, _)| crate::value::key_order(a, b));
                Self::Object(members.into())
            },
            Self::Literal,
        )
    }

    pub(super) fn as_literal(&self) -> Option<&Value> {
        if let Self::Literal(value) = self { Some(value) } else { None }
    }
}
