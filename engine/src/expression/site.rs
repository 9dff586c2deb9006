//! Where a node of an expression stands: what it sees, and what may stand there.

use super::operator::Operator;
use super::path::View;

/// Where a node stands.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub(super) view: View,
    pub(super) place: Place,
    pub(super) depth: usize,
}

/// What a node's value is for, which says what may stand there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is a guard, or a part of one that `and`, `or` and `!` join: `inState` may stand here.
    Guard,
    /// It is an operand that does not become a part of the result.
    Operand,
    /// It becomes a part of a mapping's result, so objects are templates.
    Result,
    /// As `Result`, and outside of any operation, so an expression that stands here is a whole one.
    Template,
}

impl Site {
    pub(super) const TEMPLATE: Self = Self { view: View::Top, place: Place::Template, depth: 0 };

    pub(super) fn guard(view: View) -> Self {
        Self { view, place: Place::Guard, depth: 0 }
    }

    pub(super) fn is_template(self) -> bool {
        matches!(self.place, Place::Result | Place::Template)
    }

    /// An element of an array or a member of an object that stands here.
    pub(super) fn within(self) -> Self {
        match self.place {
            Place::Template => self,
            Place::Result => Self { depth: self.depth + 1, ..self },
            Place::Guard | Place::Operand => {
                Self { depth: self.depth + 1, place: Place::Operand, ..self }
            }
        }
    }

    /// Operand number `index` of `count` of an operation that stands here.
    pub(super) fn operand(self, operator: Operator, index: usize, count: usize) -> Self {
        let depth = self.depth + 1;
        let result = if self.is_template() { Place::Result } else { Place::Operand };
        let last = index + 1 == count;
        let (view, place) = match operator {
            Operator::And | Operator::Or | Operator::Not if self.place == Place::Guard => {
                (self.view, Place::Guard)
            }
            Operator::If if last || index % 2 == 1 => (self.view, result),
            Operator::And | Operator::Or if last => (self.view, result),
            Operator::Var | Operator::Merge => (self.view, result),
            Operator::Map if index == 1 => (View::Element, result),
            Operator::Filter | Operator::Quantifier(_) if index == 1 => {
                (View::Element, Place::Operand)
            }
            Operator::Reduce if index == 1 => (View::Reduce, result),
            Operator::Reduce if index == 2 => (self.view, result),
            Operator::If
            | Operator::And
            | Operator::Or
            | Operator::Not
            | Operator::Truthy
            | Operator::Missing
            | Operator::MissingSome
            | Operator::Equal { .. }
            | Operator::Order(_)
            | Operator::Arithmetic(_)
            | Operator::Cat
            | Operator::Substr
            | Operator::In
            | Operator::Map
            | Operator::Filter
            | Operator::Quantifier(_)
            | Operator::Reduce
            | Operator::InState => (self.view, Place::Operand),
        };
        Self { view, place, depth }
    }
}
