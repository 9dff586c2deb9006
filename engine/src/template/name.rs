//! The forms of names in a template.

use std::ops::Range;
use std::sync::Arc;

use super::code;
use super::diagnostic::Findings;
use super::document::Node;
use super::reader::{cut, string};
use crate::id::{EventType, TemplateRef};

/// The longest key of a state or name of a delay, in bytes.
const KEY_BYTES_MAX: usize = 64;
/// The longest id, in bytes.
const ID_BYTES_MAX: usize = 200;
/// The longest name of an action or queue, in bytes: it becomes a part of subjects and of the
/// names of consumers.
const ACTION_BYTES_MAX: usize = 100;

/// Events from outside that mean something to the engine.
const CONTROL_EVENTS: [&str; 5] =
    ["pled.cancel", "pled.pause", "pled.resume", "pled.terminate", "pled.migrate"];

/// `[A-Za-z_][A-Za-z0-9_-]*`
pub(super) fn is_key(text: &str) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.len() <= KEY_BYTES_MAX
        && text.bytes().all(is_word_byte)
}

/// Checks a state's key; a bad one is recorded.
pub(super) fn state_key(key: &str, span: &Range<usize>, findings: &mut Findings) {
    if is_key(key) {
        return;
    }
    if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) {
        findings.error_with_help(
            code::STATE_KEY,
            span,
            format!("the state key {:?} looks like an integer", cut(key)),
            "JavaScript moves such keys to the front, so the order of states would depend on the \
             reader: begin it with a letter",
        );
        return;
    }
    let message = format!(
        "the state key {:?} must match [A-Za-z_][A-Za-z0-9_-]* and have at most {KEY_BYTES_MAX} \
         bytes",
        cut(key)
    );
    findings.error(code::STATE_KEY, span, message);
}

/// An id of a state, an invocation, a spawned child or a rule: words joined by dots.
pub(super) fn id(node: &Node, findings: &mut Findings) -> Option<Arc<str>> {
    let text = string(node, findings)?;
    let words = || text.split('.').all(|word| !word.is_empty() && word.bytes().all(is_word_byte));
    let first = text.bytes().next();
    let begins_well = first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if begins_well && text.len() <= ID_BYTES_MAX && words() {
        return Some(text);
    }
    let message = format!(
        "the id {:?} must match [A-Za-z_][A-Za-z0-9_-]*(\\.[A-Za-z0-9_-]+)* and have at most \
         {ID_BYTES_MAX} bytes",
        cut(&text)
    );
    findings.error(code::NAME, &node.span, message);
    None
}

/// Whether `text` may name an action or a queue.
pub(super) fn is_action(text: &str) -> bool {
    let is_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= ACTION_BYTES_MAX
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.split('.').all(|word| !word.is_empty() && word.bytes().all(is_byte))
}

/// The name of an action or, as `what` says, of something else that workers pull.
pub(super) fn action(node: &Node, what: &str, findings: &mut Findings) -> Option<Arc<str>> {
    let text = string(node, findings)?;
    if is_action(&text) {
        return Some(text);
    }
    let message = format!(
        "the {what} {:?} must match [a-z][a-z0-9_]*(\\.[a-z0-9_]+)* and have at most \
         {ACTION_BYTES_MAX} bytes",
        cut(&text)
    );
    findings.error(code::NAME, &node.span, message);
    None
}

/// A template version, `name@3`.
pub(super) fn template_ref(
    text: &str,
    span: &Range<usize>,
    findings: &mut Findings,
) -> Option<TemplateRef> {
    match text.parse() {
        Ok(reference) => Some(reference),
        Err(_) => {
            findings.error_with_help(
                code::NAME,
                span,
                format!("{:?} names no template version", cut(text)),
                "write the template's name and a version, as in `shipping@2`",
            );
            None
        }
    }
}

/// The type of an event.
pub(super) fn event_type(
    text: &str,
    span: &Range<usize>,
    findings: &mut Findings,
) -> Option<EventType> {
    match text.parse() {
        Ok(event) => Some(event),
        Err(error) => {
            let message =
                format!("{:?} is no {}: it must match {}", cut(text), error.what, error.pattern);
            findings.error(code::NAME, span, message);
            None
        }
    }
}

/// Whether the name is one that only the engine gives to events.
pub(super) fn is_reserved(event: &str) -> bool {
    ["pled", "done", "error", "after"].contains(&event.split('.').next().unwrap_or_default())
        && event.contains('.')
}

/// Whether an event of that name means something to the engine at any execution.
pub(super) fn is_control(event: &str) -> bool {
    CONTROL_EVENTS.contains(&event)
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}
