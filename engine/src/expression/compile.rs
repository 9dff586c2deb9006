//! Reads and checks expressions and mappings.

use std::ops::Range;
use std::sync::Arc;

use super::Roots;
use super::operator::{self, Entry, Operator};
use super::path::{InvalidPath, Path, Root, View};
use super::site::{Place, Site};
use super::tree::{Op, Paths, Test, Var};
use crate::json::Number;
use crate::template::diagnostic::Findings;
use crate::template::document::{Kind, Member, Node};
use crate::template::suggest::closest;
use crate::value::Value;

/// An operator is not known, or refused.
const OPERATOR: &str = "E100";
/// An operator has too few or too many operands, or one of a form that it does not take.
const OPERANDS: &str = "E101";
/// A path is computed, begins with something that is not there, or has an empty part.
const PATH: &str = "E102";
/// The expression is too deep or too large.
const SIZE: &str = "E103";
/// An object is no operation.
const OBJECT: &str = "E104";
/// `inState` stands where it may not, or names no state.
const IN_STATE: &str = "E105";
/// `$literal` does not stand alone.
const LITERAL: &str = "E106";

/// How deep operations, arrays and objects may be nested in an expression.
const DEPTH_MAX: usize = 64;
/// How many nodes an expression may have.
const NODES_MAX: usize = 1_000;

/// Takes an object as it is, whatever is in it.
const ESCAPE: &str = "$literal";

/// Reads the expressions of one place of a template.
pub(super) struct Compiler<'r> {
    roots: Roots<'r>,
    /// `var` begins at the whole of the data, as jsonlogic.com has it.
    any_root: bool,
    /// How many nodes the present expression has so far.
    nodes: usize,
}

impl<'r> Compiler<'r> {
    pub(super) fn new(roots: Roots<'r>) -> Self {
        Self { roots, any_root: false, nodes: 0 }
    }

    pub(super) fn any_root() -> Self {
        let roots = Roots { context: false, item: false, states: None };
        Self { roots, any_root: true, nodes: 0 }
    }

    /// A whole expression.
    pub(super) fn expression(mut self, node: &Node, findings: &mut Findings) -> Option<Op> {
        let view = if self.any_root { View::Element } else { View::Top };
        self.op(node, Site::guard(view), findings)
    }

    /// A mapping whose root may be an operation.
    pub(super) fn mapping(mut self, node: &Node, findings: &mut Findings) -> Option<Op> {
        self.op(node, Site::TEMPLATE, findings)
    }

    /// A mapping whose root is an object of named members.
    pub(super) fn params(mut self, node: &Node, findings: &mut Findings) -> Option<Op> {
        match node.members() {
            Some([member]) if &*member.key == ESCAPE => self.mapping(node, findings),
            Some(members) => self.members(members, Site::TEMPLATE, findings),
            None => {
                let what = format!("an object of named members stands here, not {}", a_kind(node));
                findings.error(OBJECT, &node.span, what);
                None
            }
        }
    }

    fn op(&mut self, node: &Node, site: Site, findings: &mut Findings) -> Option<Op> {
        if site.place == Place::Template {
            self.nodes = 0;
        }
        self.nodes += 1;
        if self.is_too_large(node, site, findings) {
            return None;
        }
        match &node.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => {
                Some(Op::Literal(node.to_value()))
            }
            Kind::Array(elements) => self.ops(elements, site.within(), findings).map(Op::array),
            Kind::Object(members) => self.object(node, members, site, findings),
        }
    }

    fn is_too_large(&self, node: &Node, site: Site, findings: &mut Findings) -> bool {
        let what = if site.depth > DEPTH_MAX {
            format!("an expression is nested {DEPTH_MAX} deep at most")
        } else if self.nodes > NODES_MAX {
            format!("an expression has {NODES_MAX} nodes at most")
        } else {
            return false;
        };
        // Of all nodes that are too many, the first one says so.
        if self.nodes <= NODES_MAX + 1 {
            let help = format!(
                "assign a part to the context first, or put what is constant into \
                 {{\"{ESCAPE}\": …}}"
            );
            findings.error_with_help(SIZE, &node.span, what, help);
        }
        true
    }

    /// All elements, also behind one that is wrong, so that every error is found.
    fn ops(&mut self, nodes: &[Node], site: Site, findings: &mut Findings) -> Option<Vec<Op>> {
        let mut ops = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            ops.push(findings.at(index, |findings| self.op(node, site, findings)));
        }
        ops.into_iter().collect()
    }

    fn object(
        &mut self,
        node: &Node,
        members: &[Member],
        site: Site,
        findings: &mut Findings,
    ) -> Option<Op> {
        if let [member] = members {
            if &*member.key == ESCAPE {
                return Some(Op::Literal(member.value.to_value()));
            }
            if let Some(entry) = operator::find(&member.key) {
                return self.operation(entry, member, site, findings);
            }
        }
        if site.is_template() {
            return self.members(members, site.within(), findings);
        }
        match members {
            [member] => {
                let (what, help) = operator::unknown(&member.key);
                findings.error_with_help(OPERATOR, &member.key_span, what, help);
            }
            _ => findings.error_with_help(
                OBJECT,
                &node.span,
                format!("an operation is an object with one key, this one has {}", members.len()),
                format!("an object that is meant as a value is written {{\"{ESCAPE}\": {{…}}}}"),
            ),
        }
        None
    }

    /// An object that is a template: each member is read by itself.
    fn members(&mut self, members: &[Member], site: Site, findings: &mut Findings) -> Option<Op> {
        if let Some(member) =
            members.iter().find(|member| &*member.key == ESCAPE && members.len() > 1)
        {
            let what = format!("`{ESCAPE}` must be the only key of its object");
            let help = "put the other members into it, or take it away";
            findings.error_with_help(LITERAL, &member.key_span, what, help);
            return None;
        }
        let mut read = Vec::with_capacity(members.len());
        for member in members {
            let op = findings.at(&member.key, |findings| self.op(&member.value, site, findings));
            read.push(op.map(|op| (member.key.clone(), op)));
        }
        read.into_iter().collect::<Option<Vec<_>>>().map(Op::object)
    }

    fn operation(
        &mut self,
        entry: &Entry,
        member: &Member,
        site: Site,
        findings: &mut Findings,
    ) -> Option<Op> {
        let argument = &member.value;
        let count = argument.elements().map_or(1, <[Node]>::len);
        if !(self.is_whole_data(entry, count) || is_count(entry, argument, count, findings)) {
            return None;
        }
        findings.at(&member.key, |findings| {
            if entry.operator == Operator::Var {
                return self.var(argument, site, findings);
            }
            if entry.operator == Operator::InState {
                return self.in_state(entry, argument, site, findings);
            }
            let mut operands = self.operands(entry.operator, argument, site, findings)?;
            if entry.operator == Operator::Missing {
                return self.paths(operands, argument, site, findings).map(Op::Missing);
            }
            if entry.operator == Operator::MissingSome {
                let paths = self.paths(operands.split_off(1), argument, site, findings)?;
                return Some(Op::MissingSome(one(operands)?, paths));
            }
            build(entry.operator, operands)
        })
    }

    /// `{"var": []}` is the whole of the data for jsonlogic.com.
    fn is_whole_data(&self, entry: &Entry, count: usize) -> bool {
        self.any_root && entry.operator == Operator::Var && count == 0
    }

    /// The operands: an array of them, or a single one without brackets.
    fn operands(
        &mut self,
        operator: Operator,
        argument: &Node,
        site: Site,
        findings: &mut Findings,
    ) -> Option<Vec<Op>> {
        let Some(nodes) = argument.elements() else {
            let site = site.operand(operator, 0, 1);
            return self.op(argument, site, findings).map(|op| vec![op]);
        };
        let mut operands = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let site = site.operand(operator, index, nodes.len());
            operands.push(findings.at(index, |findings| self.op(node, site, findings)));
        }
        operands.into_iter().collect()
    }

    fn var(&mut self, argument: &Node, site: Site, findings: &mut Findings) -> Option<Op> {
        let (node, default) = match argument.elements() {
            None => (Some(argument), None),
            Some(elements) => (elements.first(), elements.get(1)),
        };
        let text = match node {
            None => Some("".into()),
            Some(node) => self.path_text(node, findings),
        };
        let path = text.as_ref().and_then(|text| {
            self.path(text, node.map_or(&argument.span, |node| &node.span), site.view, findings)
        });
        let default = match default {
            None => None,
            Some(default) => {
                let site = site.operand(Operator::Var, 1, 2);
                Some(findings.at(1, |findings| self.op(default, site, findings))?)
            }
        };
        Some(Op::Var(Box::new(Var { path: path?, default, text: text? })))
    }

    fn path_text(&self, node: &Node, findings: &mut Findings) -> Option<Arc<str>> {
        match &node.kind {
            Kind::String(text) => Some(text.clone()),
            Kind::Number(Number::Int(index)) if *index >= 0 => Some(index.to_string().into()),
            Kind::Null if self.any_root => Some("".into()),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Array(_) | Kind::Object(_) => {
                let what =
                    format!("the path of `var` is a string or an index, not {}", a_kind(node));
                let help = "paths are not computed: choose between two with `if`, or take an \
                            element with `filter`";
                findings.error_with_help(PATH, &node.span, what, help);
                None
            }
        }
    }

    fn path(
        &self,
        text: &str,
        span: &Range<usize>,
        view: View,
        findings: &mut Findings,
    ) -> Option<Path> {
        let (what, help) = match Path::parse(text, view) {
            Ok(path) if self.is_visible(path.root) => return Some(path),
            Ok(_) | Err(InvalidPath::Root) => (
                format!("there is nothing at {text:?} to look at here"),
                self.roots_help(text, view),
            ),
            Err(InvalidPath::EventField) => (
                format!("an event has no field {:?}", text.split('.').nth(1).unwrap_or_default()),
                "it has type, data, id, source and time; its payload is `event.data`".to_owned(),
            ),
            Err(InvalidPath::EmptyKey) => (
                format!("the path {text:?} has an empty part"),
                "one dot stands between two keys, none at an end".to_owned(),
            ),
        };
        findings.error_with_help(PATH, span, what, help);
        None
    }

    fn is_visible(&self, root: Root) -> bool {
        match root {
            Root::Context => self.roots.context,
            Root::Item | Root::Index => self.roots.item,
            Root::Event
            | Root::EventType
            | Root::EventData
            | Root::EventId
            | Root::EventSource
            | Root::EventTime
            | Root::Element
            | Root::Current
            | Root::Accumulator => true,
        }
    }

    fn roots_help(&self, text: &str, view: View) -> String {
        let names: &[&str] = match (view, self.roots.context, self.roots.item) {
            (View::Reduce, ..) => &["current", "accumulator"],
            (View::Element, ..) => &["a field of the element"],
            (View::Top, true, true) => &["context", "event", "item", "index"],
            (View::Top, true, false) => &["context", "event"],
            (View::Top, false, true) => &["event", "item", "index"],
            (View::Top, false, false) => &["event"],
        };
        let first = text.split('.').next().unwrap_or_default();
        let near = closest(first, names.iter().copied());
        let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
        let outer = if view == View::Top { "" } else { "; iterators see nothing else" };
        format!("{near}paths begin with {}{outer}", names.join(", "))
    }

    /// The keys of `missing` and `missing_some`; those that are written out must be paths.
    fn paths(
        &self,
        keys: Vec<Op>,
        argument: &Node,
        site: Site,
        findings: &mut Findings,
    ) -> Option<Paths> {
        let before = findings.count();
        let mut written = Vec::new();
        for key in keys.iter().filter_map(Op::as_literal) {
            for key in key.as_array().unwrap_or(std::slice::from_ref(key)) {
                let Some(text) = key.as_str() else { continue };
                let path = self.path(text, &argument.span, site.view, findings);
                written.push((key.clone(), path));
            }
        }
        if findings.count() > before {
            return None;
        }
        // One array stands for all keys, so only then, or where there is none, is each of them one.
        let count = match &keys[..] {
            [Op::Literal(Value::Array(elements))] => elements.len(),
            keys if keys.iter().all(|key| matches!(key, Op::Literal(Value::String(_)))) => {
                keys.len()
            }
            _ => return Some(Paths::Computed(keys.into())),
        };
        let written: Option<Box<[_]>> =
            written.into_iter().map(|(key, path)| Some((key, path?))).collect();
        match written.filter(|written| written.len() == count) {
            Some(written) => Some(Paths::Written(written)),
            None => Some(Paths::Computed(keys.into())),
        }
    }

    fn in_state(
        &self,
        entry: &Entry,
        argument: &Node,
        site: Site,
        findings: &mut Findings,
    ) -> Option<Op> {
        let states = self.roots.states.filter(|_| site.place == Place::Guard);
        let Some(states) = states else {
            findings.error_with_help(
                IN_STATE,
                &argument.span,
                "`inState` cannot stand here",
                "it stands in guards only, as the whole of one or under `and`, `or` and `!`",
            );
            return None;
        };
        let node = argument.elements().and_then(<[Node]>::first).unwrap_or(argument);
        let Some(id) = node.as_str() else {
            let what = format!("`inState` takes the id of a state, not {}", a_kind(node));
            findings.error_with_help(IN_STATE, &node.span, what, entry.usage);
            return None;
        };
        let state = states(id);
        if state.is_none() {
            let what = format!("there is no state with the id {id:?}");
            findings.error(IN_STATE, &node.span, what);
        }
        state.map(|state| Op::Test(Test::InState(state)))
    }
}

/// Whether an operator has as many operands as it takes; else that is recorded.
fn is_count(entry: &Entry, argument: &Node, count: usize, findings: &mut Findings) -> bool {
    let (least, most) = entry.operands;
    if (least..=most).contains(&count) {
        return true;
    }
    let takes = match (least, most) {
        (1, usize::MAX) => "one or more operands".to_owned(),
        (1, 1) => "one operand".to_owned(),
        (least, most) if least == most => format!("{least} operands"),
        (least, most) => format!("{least} or {most} operands"),
    };
    let what = format!("`{}` takes {takes}, not {count}", entry.name);
    findings.error_with_help(OPERANDS, &argument.span, what, format!("write {}", entry.usage));
    false
}

/// An operation of operands whose number was checked.
fn build(operator: Operator, operands: Vec<Op>) -> Option<Op> {
    Some(match operator {
        Operator::If => Op::If(operands.into()),
        Operator::And => Op::And(operands.into()),
        Operator::Or => Op::Or(operands.into()),
        Operator::Not => Op::Test(Test::Not(one(operands)?)),
        Operator::Truthy => Op::Test(Test::Truthy(one(operands)?)),
        Operator::Equal { strict, negated } => {
            Op::Test(Test::Equal { operands: exactly(operands)?, strict, negated })
        }
        Operator::Order(order) => Op::Test(Test::Order(order, operands.into())),
        Operator::Arithmetic(arithmetic) => Op::Arithmetic(arithmetic, operands.into()),
        Operator::Cat => Op::Cat(operands.into()),
        Operator::Substr => Op::Substr(operands.into()),
        Operator::In => Op::In(exactly(operands)?),
        Operator::Merge => Op::Merge(operands.into()),
        Operator::Map => Op::Map(exactly(operands)?),
        Operator::Filter => Op::Filter(exactly(operands)?),
        Operator::Quantifier(quantifier) => Op::Quantifier(quantifier, exactly(operands)?),
        Operator::Reduce => Op::Reduce(exactly(operands)?),
        Operator::Var | Operator::Missing | Operator::MissingSome | Operator::InState => {
            return None;
        }
    })
}

fn one(operands: Vec<Op>) -> Option<Box<Op>> {
    operands.into_iter().next().map(Box::new)
}

fn exactly<const N: usize>(operands: Vec<Op>) -> Option<Box<[Op; N]>> {
    operands.into_boxed_slice().try_into().ok()
}

fn a_kind(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "null".to_owned(),
        Kind::Array(_) => "an array".to_owned(),
        Kind::Object(_) => "an object".to_owned(),
        Kind::String(_) => "a string".to_owned(),
        Kind::Bool(_) | Kind::Number(_) => node.to_value().to_string(),
    }
}
