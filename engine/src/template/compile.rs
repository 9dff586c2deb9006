//! The second pass: what all parts of a template share while they are compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diagnostic::Findings;
use super::document::Node;
use super::outline::Outline;
use super::reader::{integer, wrong_kind};
use super::{DELAY_MS_MAX, Delay, Queue, StateIndex, code};
use crate::execution::Retry;
use crate::expression::{Expression, Mapping, Roots};
use crate::id::TemplateRef;

/// What expressions of rules may read: the event alone.
pub(super) const EVENT_ONLY: Roots<'static> = Roots { context: false, item: false, states: None };
/// What expressions of a statechart may read.
pub(super) const CONTEXT: Roots<'static> = Roots { context: true, item: false, states: None };

/// What is known while states are compiled, and what is collected on the way.
pub(super) struct Compiler<'o, 'n> {
    pub(super) outline: &'o Outline<'n>,
    pub(super) delays: BTreeMap<Arc<str>, Delay>,
    /// The root's default.
    pub(super) retry: Option<Retry>,
    /// How many transitions are numbered.
    pub(super) transitions: u32,
    /// The state and the place in its `invoke` of each invocation.
    pub(super) invocations: BTreeMap<Arc<str>, (StateIndex, usize)>,
    /// Pointers to the first `spawn` of each id.
    pub(super) spawned: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) queues: BTreeMap<Arc<str>, Queue>,
    /// The versions that are started as children.
    pub(super) children: BTreeSet<TemplateRef>,
}

/// Compiles an expression. Where `None` comes back, an error was recorded.
pub(super) fn expression(
    node: &Node,
    roots: Roots<'_>,
    findings: &mut Findings,
) -> Option<Expression> {
    let before = findings.count();
    let compiled = Expression::compile(node, roots, findings);
    or_error(compiled, before, node, findings)
}

/// Compiles a mapping whose root may be an operation. Where `None` comes back, an error was
/// recorded.
pub(super) fn mapping(node: &Node, roots: Roots<'_>, findings: &mut Findings) -> Option<Mapping> {
    let before = findings.count();
    let compiled = Mapping::compile(node, roots, findings);
    or_error(compiled, before, node, findings)
}

/// Compiles the `params` of an action. Where `None` comes back, an error was recorded.
pub(super) fn params(node: &Node, findings: &mut Findings) -> Option<Mapping> {
    if node.members().is_none() {
        wrong_kind(node, "`params` must be an object", findings);
        return None;
    }
    let before = findings.count();
    let compiled = Mapping::compile_params(node, CONTEXT, findings);
    or_error(compiled, before, node, findings)
}

fn or_error<T>(
    compiled: Option<T>,
    errors_before: usize,
    node: &Node,
    findings: &mut Findings,
) -> Option<T> {
    if compiled.is_none() && findings.count() == errors_before {
        findings.error(code::EXPRESSION, &node.span, "this expression could not be compiled");
    }
    compiled
}

/// Milliseconds, or an expression that gives them.
pub(super) fn delay(node: &Node, findings: &mut Findings) -> Option<Delay> {
    if node.members().is_some() {
        let logic = expression(node, CONTEXT, findings)?;
        return Some(Delay::Logic(Arc::new(logic)));
    }
    integer(node, 0..=DELAY_MS_MAX, findings).map(Delay::Millis)
}
