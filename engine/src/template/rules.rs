//! Rules of the ingest door.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compile::{EVENT_ONLY, expression, mapping};
use super::diagnostic::Findings;
use super::document::Node;
use super::reader::{Fields, array, boolean, cut, string};
use super::{Emit, Rule, code, fields, name};
use crate::id::EventType;

/// The event that starts an execution.
const START: &str = "pled.init";

/// Reads the field `rules`.
pub(super) fn rules(node: &Node, findings: &mut Findings) -> Option<Vec<Rule>> {
    let elements = array(node, "`rules`", findings)?;
    let mut ids = BTreeSet::new();
    let mut rules = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        rules.extend(findings.at(index, |findings| rule(element, &mut ids, findings)));
    }
    Some(rules)
}

fn rule(node: &Node, ids: &mut BTreeSet<Arc<str>>, findings: &mut Findings) -> Option<Rule> {
    let fields = Fields::of(node, "a rule", &fields::RULE, findings)?;
    let id = fields.require("id", findings, |node, findings| {
        let id = name::id(node, findings)?;
        if !ids.insert(id.clone()) {
            let message = format!("the rule id {:?} stands twice", cut(&id));
            findings.error(code::REPEATED_ID, &node.span, message);
        }
        Some(id)
    });
    let source = fields.read("source", findings, |node, findings| {
        let source = string(node, findings)?;
        if source.is_empty() {
            findings.error_with_help(
                code::VALUE,
                &node.span,
                "no source has an empty name",
                "leave `source` out for a rule that is for all",
            );
        }
        Some(source)
    });
    let when =
        fields.require("when", findings, |node, findings| expression(node, EVENT_ONLY, findings));
    let emit = fields.require("emit", findings, emits);
    Some(Rule { id: id?, source, when: when?, emit: emit? })
}

fn emits(node: &Node, findings: &mut Findings) -> Option<Vec<Emit>> {
    let elements = array(node, "`emit`", findings)?;
    if elements.is_empty() {
        findings.error(code::VALUE, &node.span, "a rule that emits nothing has no effect");
    }
    let elements = elements.iter().enumerate();
    Some(
        elements
            .filter_map(|(index, element)| findings.at(index, |findings| emit(element, findings)))
            .collect(),
    )
}

fn emit(node: &Node, findings: &mut Findings) -> Option<Emit> {
    let fields = Fields::of(node, "what a rule emits", &fields::EMIT, findings)?;
    let start = fields.read("start", findings, boolean).unwrap_or(false);
    let key =
        fields.require("key", findings, |node, findings| expression(node, EVENT_ONLY, findings));
    let event = fields.require("event", findings, |node, findings| event(node, start, findings));
    let data = fields.read("data", findings, |node, findings| mapping(node, EVENT_ONLY, findings));
    Some(Emit { key: key?, event: event?, data, start })
}

/// The event that is emitted; one that starts an execution becomes `pled.init`.
fn event(node: &Node, start: bool, findings: &mut Findings) -> Option<EventType> {
    let text = string(node, findings)?;
    let event = name::event_type(&text, &node.span, findings)?;
    if &*text == START {
        if !start {
            findings.error_with_help(
                code::RESERVED_EVENT,
                &node.span,
                format!("`{START}` starts an execution"),
                "add `\"start\": true`",
            );
        }
    } else if name::is_reserved(&text) && !name::is_control(&text) {
        findings.error_with_help(
            code::RESERVED_EVENT,
            &node.span,
            format!("the event {:?} is the engine's to make", cut(&text)),
            "names that begin with `pled.`, `done.`, `error.` or `after.` are kept for it",
        );
    }
    if start { name::event_type(START, &node.span, findings) } else { Some(event) }
}
