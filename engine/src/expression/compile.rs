//! Reads and checks expressions.

use std::sync::Arc;

use super::Roots;
use super::op::{Arithmetic, Form, Op, Order, Quantifier, Root, Segment, Var};
use crate::template::diagnostic::Findings;
use crate::template::document::{Kind, Member, Node};
use crate::template::suggest::closest;
use crate::value::{Object, Value};

/// How deep expressions may be nested.
const DEPTH_MAX: usize = 64;
/// How many nodes an expression may have.
const NODES_MAX: usize = 1_000;

/// An operator is not known, or refused.
const OPERATOR: &str = "E100";
/// An operator has too few or too many operands, or one of a form that it does not take.
const OPERANDS: &str = "E101";
/// A path is computed, or begins with something that is not there.
const PATH: &str = "E102";
/// The expression is too deep or too large.
const SIZE: &str = "E103";
/// An object is no operation.
const OBJECT: &str = "E104";
/// `inState` stands where it may not, or names no state.
const IN_STATE: &str = "E105";
/// `$literal` does not stand alone.
const LITERAL: &str = "E106";

const OPERATORS: [&str; 32] = [
    "var",
    "missing",
    "missing_some",
    "if",
    "and",
    "or",
    "!",
    "!!",
    "==",
    "!=",
    "===",
    "!==",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "min",
    "max",
    "cat",
    "substr",
    "in",
    "merge",
    "map",
    "filter",
    "reduce",
    "all",
    "some",
];

/// Operators of other dialects, and what stands for them here.
const REFUSED: [(&str, &str); 9] = [
    ("log", "the action `log` writes lines"),
    ("method", "there is nothing that stands for it"),
    ("?:", "use `if`"),
    ("val", "use `var`"),
    ("exists", "use `missing`"),
    ("??", "give `var` a default"),
    ("try", "an error makes a guard false and queues error.execution"),
    ("throw", "an error makes a guard false and queues error.execution"),
    ("now", "use `event.time`"),
];

pub(super) fn is_operator(key: &str) -> bool {
    key == "none" || key == "inState" || OPERATORS.contains(&key)
}

/// What a place in an expression sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    Top,
    /// Inside `map`, `filter`, `all`, `some`, `none`: the element is the root.
    Element,
    /// Inside `reduce`.
    Reduce,
}

struct Compiler<'a, 'f> {
    roots: Roots<'a>,
    findings: &'f mut Findings,
    nodes: usize,
}

/// An expression; in `any_root` look-ups begin at the whole of the data, as jsonlogic.com has it.
pub(super) fn expression(
    node: &Node,
    roots: Roots<'_>,
    findings: &mut Findings,
    any_root: bool,
) -> Option<Op> {
    let mut compiler = Compiler { roots, findings, nodes: 0 };
    let frame = if any_root { Frame::Element } else { Frame::Top };
    compiler.op(node, frame, 0, true)
}

/// A mapping whose root may be an operation.
pub(super) fn mapping(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Form> {
    match &node.kind {
        Kind::Object(members) => match &members[..] {
            [member] if &*member.key == "$literal" => Some(Form::Literal(member.value.to_value())),
            [member] if is_operator(&member.key) => {
                expression(node, roots, findings, false).map(|op| {
                    if let Op::Literal(value) = op {
                        return Form::Literal(value);
                    }
                    Form::Expression(op)
                })
            }
            _ => {
                if let Some(member) = members.iter().find(|member| &*member.key == "$literal") {
                    findings.error_with_help(
                        LITERAL,
                        &member.key_span,
                        "`$literal` must be the only key of its object",
                        "put the other members inside it, or take it out",
                    );
                    return None;
                }
                members_of(members, roots, findings)
            }
        },
        Kind::Array(elements) => {
            let read: Vec<_> = elements
                .iter()
                .enumerate()
                .map(|(index, element)| {
                    findings.at(index, |findings| mapping(element, roots, findings))
                })
                .collect();
            let elements = read.into_iter().collect::<Option<Vec<_>>>()?;
            Some(Form::array(elements))
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => {
            Some(Form::Literal(node.to_value()))
        }
    }
}

/// A mapping whose root is an object of named members.
pub(super) fn params(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Form> {
    match &node.kind {
        Kind::Object(members) => match &members[..] {
            [member] if &*member.key == "$literal" => Some(Form::Literal(member.value.to_value())),
            members => members_of(members, roots, findings),
        },
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) | Kind::Array(_) => {
            findings.error(
                OBJECT,
                &node.span,
                format!("an object of named members was expected, not {}", node.kind_name()),
            );
            None
        }
    }
}

fn members_of(members: &[Member], roots: Roots<'_>, findings: &mut Findings) -> Option<Form> {
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            let value =
                findings.at(&member.key, |findings| mapping(&member.value, roots, findings));
            value.map(|value| (member.key.clone(), value))
        })
        .collect();
    Some(Form::object(read.into_iter().collect::<Option<Vec<_>>>()?))
}

impl Compiler<'_, '_> {
    fn op(&mut self, node: &Node, frame: Frame, depth: usize, boolean: bool) -> Option<Op> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            if depth > DEPTH_MAX || self.nodes == NODES_MAX + 1 {
                let what = if depth > DEPTH_MAX {
                    format!("an expression may be nested {DEPTH_MAX} deep")
                } else {
                    format!("an expression may have {NODES_MAX} nodes")
                };
                let help = "split it: compute a part into the context with `assign` first";
                self.findings.error_with_help(SIZE, &node.span, what, help);
            }
            return None;
        }
        match &node.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => {
                Some(Op::Literal(node.to_value()))
            }
            Kind::Array(elements) => {
                let ops = self.ops(elements, frame, depth + 1, false)?;
                Some(literal_array(ops))
            }
            Kind::Object(members) => {
                let [member] = &members[..] else {
                    self.findings.error_with_help(
                        OBJECT,
                        &node.span,
                        format!(
                            "an operation is an object with one key, this one has {}",
                            members.len()
                        ),
                        "an object as a value is written in a mapping position or as a context key",
                    );
                    return None;
                };
                let key = member.key.clone();
                self.operation(&key, member, frame, depth, boolean)
            }
        }
    }

    fn operation(
        &mut self,
        key: &str,
        member: &Member,
        frame: Frame,
        depth: usize,
        boolean: bool,
    ) -> Option<Op> {
        let argument = &member.value;
        match key {
            "var" => self.enter(key, |c| c.var(argument, frame, depth)),
            "inState" => self.enter(key, |c| c.in_state(argument, boolean && frame == Frame::Top)),
            "missing" => self.list(key, argument, frame, depth, (0, 256)).map(Op::Missing),
            "missing_some" => self.pair(key, argument, frame, depth).map(Op::MissingSome),
            "if" => self.list(key, argument, frame, depth, (0, 256)).map(Op::If),
            "and" => self.booleans(key, argument, frame, depth, boolean).map(Op::And),
            "or" => self.booleans(key, argument, frame, depth, boolean).map(Op::Or),
            "!" => {
                self.negation(key, argument, frame, depth, boolean).map(|op| Op::Not(Box::new(op)))
            }
            "!!" => self
                .negation(key, argument, frame, depth, boolean)
                .map(|op| Op::Truthy(Box::new(op))),
            "==" | "!=" | "===" | "!==" => {
                let operands = self.pair(key, argument, frame, depth)?;
                let (strict, negated) = (key.len() == 3, key.starts_with('!'));
                Some(Op::Equal { operands, strict, negated })
            }
            "<" | "<=" | ">" | ">=" => {
                let order = match key {
                    "<" => Order::Less,
                    "<=" => Order::LessOrEqual,
                    ">" => Order::Greater,
                    _ => Order::GreaterOrEqual,
                };
                self.list(key, argument, frame, depth, (2, 3)).map(|ops| Op::Order(order, ops))
            }
            "+" => self.arithmetic(Arithmetic::Add, argument, frame, depth, (1, 256)),
            "*" => self.arithmetic(Arithmetic::Multiply, argument, frame, depth, (1, 256)),
            "-" => self.arithmetic(Arithmetic::Subtract, argument, frame, depth, (1, 2)),
            "/" => self.arithmetic(Arithmetic::Divide, argument, frame, depth, (2, 2)),
            "%" => self.arithmetic(Arithmetic::Remainder, argument, frame, depth, (2, 2)),
            "min" => self.arithmetic(Arithmetic::Min, argument, frame, depth, (1, 256)),
            "max" => self.arithmetic(Arithmetic::Max, argument, frame, depth, (1, 256)),
            "cat" => self.list(key, argument, frame, depth, (0, 256)).map(Op::Cat),
            "substr" => self.list(key, argument, frame, depth, (2, 3)).map(Op::Substr),
            "in" => self.pair(key, argument, frame, depth).map(Op::In),
            "merge" => self.list(key, argument, frame, depth, (0, 256)).map(Op::Merge),
            "map" => self.iterator(key, argument, frame, depth).map(Op::Map),
            "filter" => self.iterator(key, argument, frame, depth).map(Op::Filter),
            "all" => self.quantifier(Quantifier::All, key, argument, frame, depth),
            "some" => self.quantifier(Quantifier::Some, key, argument, frame, depth),
            "none" => self.quantifier(Quantifier::None, key, argument, frame, depth),
            "reduce" => self.reduce(key, argument, frame, depth),
            other => {
                self.unknown(other, member);
                None
            }
        }
    }

    fn unknown(&mut self, key: &str, member: &Member) {
        let refused = REFUSED.iter().find(|(name, _)| *name == key);
        let help = match refused {
            Some((_, instead)) => (*instead).to_owned(),
            None => {
                let near = closest(key, OPERATORS.iter().copied().chain(["none", "inState"]));
                near.map_or_else(
                    || "see the logic profile pled-logic-1 for the operators".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                )
            }
        };
        let what = if refused.is_some() {
            format!("the operator `{key}` is not part of pled-logic-1")
        } else {
            format!("there is no operator `{key}`")
        };
        self.findings.error_with_help(OPERATOR, &member.key_span, what, help);
    }

    fn enter<T>(
        &mut self,
        key: impl std::fmt::Display,
        inner: impl FnOnce(&mut Compiler<'_, '_>) -> T,
    ) -> T {
        let roots = self.roots;
        let mut nodes = self.nodes;
        let result = self.findings.at(key, |findings| {
            let mut compiler = Compiler { roots, findings, nodes };
            let result = inner(&mut compiler);
            nodes = compiler.nodes;
            result
        });
        self.nodes = nodes;
        result
    }

    fn ops(
        &mut self,
        nodes: &[Node],
        frame: Frame,
        depth: usize,
        boolean: bool,
    ) -> Option<Vec<Op>> {
        // All are read, so that every error is found, before one that failed ends it.
        let read: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| self.enter(index, |c| c.op(node, frame, depth, boolean)))
            .collect();
        read.into_iter().collect()
    }

    /// The operands: an array, or a single one without brackets.
    fn operands(
        &mut self,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
        boolean: bool,
        bounds: (usize, usize),
    ) -> Option<Vec<Op>> {
        let given = argument.elements().map_or(1, <[Node]>::len);
        if given < bounds.0 || given > bounds.1 {
            let wanted = match bounds {
                (least, most) if least == most => format!("{least}"),
                (least, most) => format!("{least} to {most}"),
            };
            self.findings.error(
                OPERANDS,
                &argument.span,
                format!("`{key}` takes {wanted} operands, and has {given}"),
            );
            return None;
        }
        self.enter(key, |c| match argument.elements() {
            Some(elements) => c.ops(elements, frame, depth + 1, boolean),
            None => c.op(argument, frame, depth + 1, boolean).map(|op| vec![op]),
        })
    }

    fn list(
        &mut self,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
        bounds: (usize, usize),
    ) -> Option<Box<[Op]>> {
        self.operands(key, argument, frame, depth, false, bounds).map(Vec::into_boxed_slice)
    }

    fn booleans(
        &mut self,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
        boolean: bool,
    ) -> Option<Box<[Op]>> {
        self.operands(key, argument, frame, depth, boolean, (1, 256)).map(Vec::into_boxed_slice)
    }

    fn negation(
        &mut self,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
        boolean: bool,
    ) -> Option<Op> {
        let mut ops = self.operands(key, argument, frame, depth, boolean, (0, 1))?;
        Some(ops.pop().unwrap_or(Op::Literal(Value::Null)))
    }

    fn pair(
        &mut self,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
    ) -> Option<Box<(Op, Op)>> {
        let mut ops = self.operands(key, argument, frame, depth, false, (2, 2))?.into_iter();
        Some(Box::new((ops.next()?, ops.next()?)))
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        argument: &Node,
        frame: Frame,
        depth: usize,
        bounds: (usize, usize),
    ) -> Option<Op> {
        let ops = self.list(operator.symbol(), argument, frame, depth, bounds)?;
        Some(Op::Arithmetic(operator, ops))
    }

    /// Source and body: the body sees the element alone.
    fn iterator(
        &mut self,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
    ) -> Option<Box<(Op, Op)>> {
        let Some([source, body]) = argument.elements() else {
            self.findings.error(
                OPERANDS,
                &argument.span,
                format!("`{key}` takes an array and an expression over its elements"),
            );
            return None;
        };
        self.enter(key, |c| {
            let source = c.enter(0, |c| c.op(source, frame, depth + 1, false));
            let body = c.enter(1, |c| c.op(body, Frame::Element, depth + 1, false));
            Some(Box::new((source?, body?)))
        })
    }

    fn quantifier(
        &mut self,
        quantifier: Quantifier,
        key: &str,
        argument: &Node,
        frame: Frame,
        depth: usize,
    ) -> Option<Op> {
        self.iterator(key, argument, frame, depth).map(|pair| Op::Quantifier(quantifier, pair))
    }

    fn reduce(&mut self, key: &str, argument: &Node, frame: Frame, depth: usize) -> Option<Op> {
        let elements = argument.elements().unwrap_or_default();
        let ([source, body] | [source, body, _]) = elements else {
            self.findings.error(
                OPERANDS,
                &argument.span,
                "`reduce` takes an array, an expression over `current` and `accumulator`, and a \
                 first value",
            );
            return None;
        };
        self.enter(key, |c| {
            let source = c.enter(0, |c| c.op(source, frame, depth + 1, false));
            let body = c.enter(1, |c| c.op(body, Frame::Reduce, depth + 1, false));
            let first = match elements.get(2) {
                Some(first) => c.enter(2, |c| c.op(first, frame, depth + 1, false)),
                None => Some(Op::Literal(Value::Null)),
            };
            Some(Op::Reduce(Box::new((source?, body?, first?))))
        })
    }

    fn in_state(&mut self, argument: &Node, allowed: bool) -> Option<Op> {
        let Some(states) = self.roots.states.filter(|_| allowed) else {
            self.findings.error_with_help(
                IN_STATE,
                &argument.span,
                "`inState` cannot stand here",
                "it stands in guards of transitions alone, whole or under `and`, `or` and `!`",
            );
            return None;
        };
        let single = match argument.elements() {
            Some([single]) => single,
            _ => argument,
        };
        let Some(id) = single.as_str() else {
            self.findings.error(IN_STATE, &argument.span, "`inState` takes the id of a state");
            return None;
        };
        let found = states(id);
        if found.is_none() {
            self.findings.error(
                IN_STATE,
                &single.span,
                format!("there is no state with the id {id:?}"),
            );
        }
        found.map(Op::InState)
    }

    fn var(&mut self, argument: &Node, frame: Frame, depth: usize) -> Option<Op> {
        let (path, default) = match argument.elements() {
            Some([]) => (None, None),
            Some([path]) => (Some(path), None),
            Some([path, default]) => (Some(path), Some(default)),
            Some(_) => {
                self.findings.error(OPERANDS, &argument.span, "`var` takes a path and a default");
                return None;
            }
            None => (Some(argument), None),
        };
        let text: Arc<str> = match path.map(|path| &path.kind) {
            None | Some(Kind::Null) => "".into(),
            Some(Kind::String(text)) => text.clone(),
            Some(Kind::Number(number)) => Value::from(*number).to_string().into(),
            Some(Kind::Array(_) | Kind::Object(_) | Kind::Bool(_)) => {
                self.findings.error_with_help(
                    PATH,
                    &argument.span,
                    "the path of `var` must be written out, it cannot be computed",
                    "use `if`, or `filter` over an array",
                );
                return None;
            }
        };
        let default = match default {
            Some(default) => Some(self.enter(1, |c| c.op(default, frame, depth + 1, false))?),
            None => None,
        };
        let (root, path) = self.root(&text, &argument.span, frame)?;
        Some(Op::Var(Box::new(Var { root, path, default })))
    }

    fn root(
        &mut self,
        text: &str,
        span: &std::ops::Range<usize>,
        frame: Frame,
    ) -> Option<(Root, Box<[Segment]>)> {
        let mut words: Vec<&str> =
            if text.is_empty() { Vec::new() } else { text.split('.').collect() };
        let segments = |words: &[&str]| words.iter().map(|word| Segment::new(word)).collect();
        if frame == Frame::Element {
            return Some((Root::Element, segments(&words)));
        }
        let first = if words.is_empty() { "" } else { words.remove(0) };
        let root = match (frame, first) {
            (Frame::Reduce, "current") => Some(Root::Current),
            (Frame::Reduce, "accumulator") => Some(Root::Accumulator),
            (Frame::Top, "context") if self.roots.context => Some(Root::Context),
            (Frame::Top, "event") => {
                let field = words.first().copied();
                let root = match field {
                    None => Some(Root::Event),
                    Some("type") => Some(Root::EventType),
                    Some("data") => Some(Root::EventData),
                    Some("id") => Some(Root::EventId),
                    Some("source") => Some(Root::EventSource),
                    Some("time") => Some(Root::EventTime),
                    Some(_) => None,
                };
                if root.is_none() {
                    self.findings.error_with_help(
                        PATH,
                        span,
                        format!("an event has no field {:?}", field.unwrap_or_default()),
                        "it has type, data, id, source and time; the payload is in `event.data`",
                    );
                    return None;
                }
                if !words.is_empty() {
                    words.remove(0);
                }
                root
            }
            (Frame::Top, "item") if self.roots.item => Some(Root::Item),
            (Frame::Top, "index") if self.roots.item => Some(Root::Index),
            _ => None,
        };
        if root.is_none() {
            let known = match frame {
                Frame::Reduce => "`current` and `accumulator`",
                Frame::Top | Frame::Element => match (self.roots.context, self.roots.item) {
                    (true, true) => "`context`, `event`, `item` and `index`",
                    (true, false) => "`context` and `event`",
                    (false, _) => "`event`",
                },
            };
            self.findings.error(
                PATH,
                span,
                format!("the path {text:?} must begin with one of {known} here"),
            );
        }
        Some((root?, segments(&words)))
    }
}

/// An array whose members are all literal is one.
fn literal_array(ops: Vec<Op>) -> Op {
    if ops.iter().any(|op| !matches!(op, Op::Literal(_))) {
        return Op::Array(ops.into());
    }
    let literal = |op: Op| if let Op::Literal(value) = op { value } else { Value::Null };
    Op::Literal(ops.into_iter().map(literal).collect::<Vec<_>>().into())
}

impl Form {
    fn array(elements: Vec<Self>) -> Self {
        if elements.iter().any(|element| !matches!(element, Self::Literal(_))) {
            return Self::Array(elements.into());
        }
        Self::Literal(elements.into_iter().map(Self::literal).collect::<Vec<_>>().into())
    }

    fn object(members: Vec<(Arc<str>, Self)>) -> Self {
        if members.iter().any(|(_, member)| !matches!(member, Self::Literal(_))) {
            return Self::Object(members.into());
        }
        let members = members.into_iter().map(|(key, member)| (key, member.literal()));
        Self::Literal(Value::Object(members.collect::<Object>()))
    }

    fn literal(self) -> Value {
        match self {
            Self::Literal(value) => value,
            Self::Expression(_) | Self::Array(_) | Self::Object(_) => Value::Null,
        }
    }
}
