//! The compiled form of an expression.

use std::sync::Arc;

use crate::template::StateIndex;
use crate::value::Value;

/// The compiled form of a mapping.
#[derive(Debug)]
pub(super) enum Form {
    Literal(Value),
    Expression(Op),
    Array(Box<[Self]>),
    Object(Box<[(Arc<str>, Self)]>),
}

/// One node of a compiled expression.
#[derive(Debug)]
pub(super) enum Op {
    Literal(Value),
    /// An array literal with members that have to be evaluated.
    Array(Box<[Self]>),
    Var(Box<Var>),
    Missing(Box<[Self]>),
    MissingSome(Box<(Self, Self)>),
    If(Box<[Self]>),
    And(Box<[Self]>),
    Or(Box<[Self]>),
    Not(Box<Self>),
    Truthy(Box<Self>),
    Equal {
        operands: Box<(Self, Self)>,
        strict: bool,
        negated: bool,
    },
    Order(Order, Box<[Self]>),
    Arithmetic(Arithmetic, Box<[Self]>),
    Cat(Box<[Self]>),
    Substr(Box<[Self]>),
    In(Box<(Self, Self)>),
    Merge(Box<[Self]>),
    Map(Box<(Self, Self)>),
    Filter(Box<(Self, Self)>),
    Quantifier(Quantifier, Box<(Self, Self)>),
    Reduce(Box<(Self, Self, Self)>),
    InState(StateIndex),
}

/// A look-up.
#[derive(Debug)]
pub(super) struct Var {
    pub(super) root: Root,
    pub(super) path: Box<[Segment]>,
    pub(super) default: Option<Op>,
}

/// Where a look-up begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Context,
    Event,
    EventType,
    EventData,
    EventId,
    EventSource,
    EventTime,
    Item,
    Index,
    /// The element of the innermost iterator.
    Element,
    /// The element of a `reduce`.
    Current,
    /// What a `reduce` has gathered.
    Accumulator,
}

/// One step of a path: a key, and the index that it is in an array.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) key: Arc<str>,
    pub(super) index: Option<usize>,
}

impl Segment {
    pub(super) fn new(key: &str) -> Self {
        let canonical = key == "0" || (!key.starts_with('0') && !key.is_empty());
        let digits = canonical && key.bytes().all(|byte| byte.is_ascii_digit());
        Self { key: key.into(), index: if digits { key.parse().ok() } else { None } }
    }
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

impl Arithmetic {
    pub(super) fn symbol(self) -> &'static str {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    All,
    Some,
    None,
}
