//! The closed set of operators, and what to say about the others.

use super::tree::{Arithmetic, Order, Quantifier};
use crate::template::suggest::closest;

/// An operator of `pled-logic-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Var,
    Missing,
    MissingSome,
    If,
    And,
    Or,
    Not,
    Truthy,
    Equal { strict: bool, negated: bool },
    Order(Order),
    Arithmetic(Arithmetic),
    Cat,
    Substr,
    In,
    Merge,
    Map,
    Filter,
    Quantifier(Quantifier),
    Reduce,
    InState,
}

/// What is known about an operator before its operands are read.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) operator: Operator,
    /// How many operands it takes at least and at most.
    pub(super) operands: (usize, usize),
    /// How it is written.
    pub(super) usage: &'static str,
}

/// More operands than an expression has nodes.
const ANY: usize = usize::MAX;

const fn entry(
    name: &'static str,
    operator: Operator,
    operands: (usize, usize),
    usage: &'static str,
) -> Entry {
    Entry { name, operator, operands, usage }
}

static OPERATORS: [Entry; 34] = [
    entry("var", Operator::Var, (1, 2), r#"{"var": "path"} or {"var": ["path", default]}"#),
    entry("missing", Operator::Missing, (0, ANY), r#"{"missing": ["path", …]}"#),
    entry("missing_some", Operator::MissingSome, (2, 2), r#"{"missing_some": [n, ["path", …]]}"#),
    entry("if", Operator::If, (0, ANY), r#"{"if": [condition, then, else]}"#),
    entry("and", Operator::And, (1, ANY), r#"{"and": [a, b, …]}"#),
    entry("or", Operator::Or, (1, ANY), r#"{"or": [a, b, …]}"#),
    entry("!", Operator::Not, (1, 1), r#"{"!": a}, and {"!": [[…]]} of an array"#),
    entry("!!", Operator::Truthy, (1, 1), r#"{"!!": a}, and {"!!": [[…]]} of an array"#),
    entry("==", Operator::Equal { strict: false, negated: false }, (2, 2), r#"{"==": [a, b]}"#),
    entry("!=", Operator::Equal { strict: false, negated: true }, (2, 2), r#"{"!=": [a, b]}"#),
    entry("===", Operator::Equal { strict: true, negated: false }, (2, 2), r#"{"===": [a, b]}"#),
    entry("!==", Operator::Equal { strict: true, negated: true }, (2, 2), r#"{"!==": [a, b]}"#),
    entry("<", Operator::Order(Order::Less), (2, 3), r#"{"<": [a, b]} or {"<": [a, b, c]}"#),
    entry("<=", Operator::Order(Order::LessOrEqual), (2, 3), r#"{"<=": [a, b]}"#),
    entry(">", Operator::Order(Order::Greater), (2, 3), r#"{">": [a, b]}"#),
    entry(">=", Operator::Order(Order::GreaterOrEqual), (2, 3), r#"{">=": [a, b]}"#),
    entry("+", Operator::Arithmetic(Arithmetic::Add), (1, ANY), r#"{"+": [a, b, …]}"#),
    entry("-", Operator::Arithmetic(Arithmetic::Subtract), (1, 2), r#"{"-": [a, b]}"#),
    entry("*", Operator::Arithmetic(Arithmetic::Multiply), (1, ANY), r#"{"*": [a, b, …]}"#),
    entry("/", Operator::Arithmetic(Arithmetic::Divide), (2, 2), r#"{"/": [a, b]}"#),
    entry("%", Operator::Arithmetic(Arithmetic::Remainder), (2, 2), r#"{"%": [a, b]}"#),
    entry("min", Operator::Arithmetic(Arithmetic::Min), (1, ANY), r#"{"min": [a, b, …]}"#),
    entry("max", Operator::Arithmetic(Arithmetic::Max), (1, ANY), r#"{"max": [a, b, …]}"#),
    entry("cat", Operator::Cat, (0, ANY), r#"{"cat": [a, b, …]}"#),
    entry("substr", Operator::Substr, (2, 3), r#"{"substr": [text, start, length]}"#),
    entry("in", Operator::In, (2, 2), r#"{"in": [what, array or text]}"#),
    entry("merge", Operator::Merge, (0, ANY), r#"{"merge": [array, array, …]}"#),
    entry("map", Operator::Map, (2, 2), r#"{"map": [array, expression over the element]}"#),
    entry("filter", Operator::Filter, (2, 2), r#"{"filter": [array, condition on the element]}"#),
    entry(
        "reduce",
        Operator::Reduce,
        (3, 3),
        r#"{"reduce": [array, expression over `current` and `accumulator`, first accumulator]}"#,
    ),
    entry(
        "all",
        Operator::Quantifier(Quantifier::All),
        (2, 2),
        r#"{"all": [array, condition on the element]}"#,
    ),
    entry(
        "some",
        Operator::Quantifier(Quantifier::Some),
        (2, 2),
        r#"{"some": [array, condition on the element]}"#,
    ),
    entry(
        "none",
        Operator::Quantifier(Quantifier::None),
        (2, 2),
        r#"{"none": [array, condition on the element]}"#,
    ),
    entry("inState", Operator::InState, (1, 1), r#"{"inState": "id of a state"}"#),
];

/// All operators.
pub(super) fn operators() -> impl Iterator<Item = &'static Entry> {
    OPERATORS.iter()
}

/// The operator of this name.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    OPERATORS.iter().find(|entry| entry.name == name)
}

/// What is wrong with an operator that is none, and what to do instead.
pub(super) fn unknown(name: &str) -> (String, String) {
    if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return (format!("`{name}` is not part of pled-logic-1"), (*instead).to_owned());
    }
    let other = FOREIGN.iter().find(|(foreign, _)| *foreign == name).map(|(_, ours)| *ours);
    let near = other.or_else(|| closest(name, OPERATORS.iter().map(|entry| entry.name)));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let names: Vec<_> = OPERATORS.iter().map(|entry| entry.name).collect();
            format!("there are: {}", names.join(" "))
        }
    };
    (format!("there is no operator `{name}`"), help)
}

/// Operators of other dialects that were left out on purpose, and what to do instead.
const REFUSED: [(&str, &str); 9] = [
    ("?:", "use `if`, which does the same"),
    ("??", "give `var` a default: {\"var\": [\"path\", default]}"),
    ("exists", "use {\"!\": {\"missing\": \"path\"}}"),
    ("log", "logic has no effects; the action `log` writes a line"),
    ("method", "logic calls no code; do it in an action"),
    ("now", "logic has no clock; `event.time` is the time of the event in milliseconds"),
    ("throw", "leave the error to the engine: it becomes the event error.execution"),
    ("try", "errors are not caught; test with `missing` or a default before they happen"),
    ("val", "use `var` with one path, its parts joined by dots"),
];

/// What other languages call our operators.
const FOREIGN: [(&str, &str); 12] = [
    ("=", "=="),
    ("eq", "=="),
    ("<>", "!="),
    ("ne", "!="),
    ("&&", "and"),
    ("||", "or"),
    ("not", "!"),
    ("concat", "cat"),
    ("substring", "substr"),
    ("any", "some"),
    ("contains", "in"),
    ("stateIn", "inState"),
];
