//! Reading fields of known kinds. What does not fit is recorded, and `None` comes back.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::code;
use super::diagnostic::Findings;
use super::document::{Kind, Member, Node};
use super::suggest::closest;
use crate::json::Number;

/// Words of XState 4 and other dialects, and what stands for them here.
const OTHER_WORDS: [(&str, &str); 7] = [
    ("cond", "guard"),
    ("internal", "reenter"),
    ("onEntry", "entry"),
    ("onExit", "exit"),
    ("activities", "invoke"),
    ("payload", "data"),
    ("delay", "delay_ms"),
];

/// An object of which all fields are known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    span: &'n Range<usize>,
    members: &'n [Member],
}

impl<'n> Fields<'n> {
    /// The fields of `node`, those that are not among `known` recorded as errors. `what` says with
    /// its article what the object is.
    pub(super) fn of(
        node: &'n Node,
        what: &str,
        known: &[&'static str],
        findings: &mut Findings,
    ) -> Option<Self> {
        let fields = Self::unchecked(node, what, findings)?;
        for member in fields.members {
            if !known.contains(&&*member.key) {
                unknown_field(member, what, known, findings);
            }
        }
        Some(fields)
    }

    /// The fields of `node`, whatever they are.
    pub(super) fn unchecked(node: &'n Node, what: &str, findings: &mut Findings) -> Option<Self> {
        let Some(members) = node.members() else {
            wrong_kind(node, &format!("{what} must be an object"), findings);
            return None;
        };
        Some(Self { span: &node.span, members })
    }

    pub(super) fn members(&self) -> &'n [Member] {
        self.members
    }

    pub(super) fn span(&self) -> &'n Range<usize> {
        self.span
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.members.iter().find(|member| &*member.key == key).map(|member| &member.value)
    }

    /// Reads the field `key` with `reader`, if it is there.
    pub(super) fn read<T>(
        &self,
        key: &str,
        findings: &mut Findings,
        reader: impl FnOnce(&'n Node, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        findings.at(key, |findings| reader(node, findings))
    }

    /// Reads the field `key` with `reader`; it is an error if it is not there.
    pub(super) fn require<T>(
        &self,
        key: &str,
        findings: &mut Findings,
        reader: impl FnOnce(&'n Node, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            findings.error(code::MISSING_FIELD, self.span, format!("`{key}` is missing"));
            return None;
        }
        self.read(key, findings, reader)
    }
}

/// Records that `member` is none of the fields of `what`.
pub(super) fn unknown_field(
    member: &Member,
    what: &str,
    known: &[&'static str],
    findings: &mut Findings,
) {
    let key = &*member.key;
    let message = format!("{what} has no field `{}`", cut(key));
    let other_word = OTHER_WORDS.iter().find(|(word, here)| *word == key && known.contains(here));
    let meant = match other_word {
        Some((_, here)) => Some(*here),
        None if findings.is_full() => None,
        None => closest(key, known.iter().copied()),
    };
    findings.at(key, |findings| match meant {
        Some(meant) => findings.error_with_help(
            code::UNKNOWN_FIELD,
            &member.key_span,
            message,
            format!("did you mean `{meant}`?"),
        ),
        None => findings.error_with_help(
            code::UNKNOWN_FIELD,
            &member.key_span,
            message,
            match known {
                [only] => format!("its only field is `{only}`"),
                _ => format!("its fields are {}", list(known)),
            },
        ),
    });
}

/// Records that `node` is of another kind than `rule`, a sentence, says.
pub(super) fn wrong_kind(node: &Node, rule: &str, findings: &mut Findings) {
    let message = format!("{rule}, not {}", with_article(node.kind_name()));
    findings.error(code::KIND, &node.span, message);
}

pub(super) fn string(node: &Node, findings: &mut Findings) -> Option<Arc<str>> {
    let text = node.as_str();
    if text.is_none() {
        wrong_kind(node, "this must be a string", findings);
    }
    text.cloned()
}

pub(super) fn boolean(node: &Node, findings: &mut Findings) -> Option<bool> {
    if let Kind::Bool(flag) = node.kind {
        return Some(flag);
    }
    wrong_kind(node, "this must be true or false", findings);
    None
}

/// An integer within `bounds`.
pub(super) fn integer(
    node: &Node,
    bounds: RangeInclusive<i64>,
    findings: &mut Findings,
) -> Option<i64> {
    let rule = format!("this must be an integer from {} to {}", bounds.start(), bounds.end());
    match node.kind {
        Kind::Number(Number::Int(int)) if bounds.contains(&int) => return Some(int),
        Kind::Number(_) => findings.error(code::VALUE, &node.span, rule),
        Kind::Null | Kind::Bool(_) | Kind::String(_) | Kind::Array(_) | Kind::Object(_) => {
            wrong_kind(node, &rule, findings);
        }
    }
    None
}

/// One of `words`, by its place in them.
pub(super) fn one_of<T: Copy>(
    node: &Node,
    words: &[(&'static str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let text = string(node, findings)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == &*text) {
        return Some(*meaning);
    }
    let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    let message = format!("this must be {}, not {:?}", choice(&names), cut(&text));
    findings.error(code::VALUE, &node.span, message);
    None
}

/// The elements of an array.
pub(super) fn array<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<&'n [Node]> {
    let elements = node.elements();
    if elements.is_none() {
        wrong_kind(node, &format!("{what} must be an array"), findings);
    }
    elements
}

/// A text that a person put in, short enough for a message.
pub(super) fn cut(text: &str) -> String {
    const LENGTH_MAX: usize = 60;
    if text.chars().count() <= LENGTH_MAX {
        return text.to_owned();
    }
    text.chars().take(LENGTH_MAX).chain(['…']).collect()
}

/// "`a`, `b` and `c`"
pub(super) fn list(names: &[&'static str]) -> String {
    joined(names, " and ")
}

fn choice(names: &[&'static str]) -> String {
    joined(names, " or ")
}

fn joined(names: &[&'static str], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{}{last}{end}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "null" => kind.to_owned(),
        "array" | "object" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}
