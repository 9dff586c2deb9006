//! Silence, on purpose: `"meta": {"check": {"allow": ["W012"]}}` at the root or at anything that
//! has a `meta` (a state, a transition, an invocation) silences those findings there and below.

use pled_engine::template::document::{Kind, Node};

use super::code;
use super::facts::{Facts, elements};
use super::reads::step;
use super::{Finding, Severity};

/// Takes out what is allowed, and records what cannot be.
pub(super) fn apply(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let mut scopes = Vec::new();
    collect(facts.root, "", &mut scopes);
    for Scope { pointer, allowed } in &scopes {
        findings.retain(|finding| {
            let inside = finding
                .pointer
                .strip_prefix(pointer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let named =
                || elements(Some(allowed)).iter().any(|code| is_code(code, finding.code.code));
            !(inside && finding.code.severity != Severity::Error && named())
        });
    }
    for Scope { pointer, allowed } in &scopes {
        for (index, written) in elements(Some(allowed)).iter().enumerate() {
            if let Some(message) = refused(written) {
                findings.push(Finding {
                    code: &code::UNKNOWN_ALLOW,
                    pointer: format!("{pointer}/meta/check/allow/{index}"),
                    span: written.span.clone(),
                    message,
                    help: Some("name a code that begins with W, M or N".to_owned()),
                    path: None,
                });
            }
        }
    }
}

struct Scope<'n> {
    /// What it is about.
    pointer: String,
    allowed: &'n Node,
}

/// What is under `meta` is data, and not searched.
fn collect<'n>(node: &'n Node, at: &str, scopes: &mut Vec<Scope<'n>>) {
    match &node.kind {
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => {}
        Kind::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect(element, &format!("{at}/{index}"), scopes);
            }
        }
        Kind::Object(members) => {
            let allowed = node
                .get("meta")
                .and_then(|meta| meta.get("check"))
                .and_then(|check| check.get("allow"));
            scopes.extend(allowed.map(|allowed| Scope { pointer: at.to_owned(), allowed }));
            for member in members {
                if !matches!(&*member.key, "meta" | "context" | "events" | "params" | "$literal") {
                    collect(&member.value, &step(at, &member.key), scopes);
                }
            }
        }
    }
}

fn is_code(written: &Node, code: &str) -> bool {
    written.as_str().is_some_and(|text| **text == *code)
}

fn refused(written: &Node) -> Option<String> {
    let Some(text) = written.as_str() else {
        return Some("what is allowed is named by its code, a string".to_owned());
    };
    match code::find(text) {
        None => Some(format!("there is no finding with the code {text:?}")),
        Some(code) if code.severity == Severity::Error => {
            Some(format!("{text} is an error, and errors cannot be allowed"))
        }
        Some(_) => None,
    }
}
