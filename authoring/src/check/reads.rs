//! What an expression looks at, and what it can only give.

use std::ops::Range;

use pled_engine::template::document::{Kind, Node};

/// A `var` or a key of `missing`.
#[derive(Clone, Debug)]
pub(crate) struct Read<'n> {
    /// Its path as it is written.
    pub(crate) path: &'n str,
    /// The text of the path in the source.
    pub(crate) span: &'n Range<usize>,
    /// JSON pointer to the path, below that of the expression.
    pub(crate) pointer: String,
    /// Whether only its absence is asked for (`missing`).
    pub(crate) asks: bool,
}

impl<'n> Read<'n> {
    /// The top-level key of the context that is read; `None` if it is not the context, `Some("")`
    /// if it is the whole of it.
    pub(crate) fn context_key(&self) -> Option<&'n str> {
        let rest = self.path.strip_prefix("context")?;
        if rest.is_empty() {
            return Some("");
        }
        Some(rest.strip_prefix('.')?.split('.').next().unwrap_or_default())
    }

    /// The keys below `event.data`; `None` if the path leads elsewhere.
    pub(crate) fn data_path(&self) -> Option<impl Iterator<Item = &'n str>> {
        let rest = self.path.strip_prefix("event.data")?;
        (rest.is_empty() || rest.starts_with('.')).then(|| rest.split('.').skip(1))
    }
}

/// All that an expression or mapping reads of context, event and item. The template is valid, so an
/// object of one key is an operation where the key is an operator.
pub(crate) fn reads(node: &Node) -> Vec<Read<'_>> {
    let mut found = Vec::new();
    collect(node, "", &mut found);
    found
}

/// As [`reads`], for the `params` of an action, whose root is never an operation.
pub(crate) fn reads_of_params(node: &Node) -> Vec<Read<'_>> {
    let mut found = Vec::new();
    for member in node.members().unwrap_or_default() {
        if &*member.key != "$literal" {
            collect(&member.value, &step("", &member.key), &mut found);
        }
    }
    found
}

fn collect<'n>(node: &'n Node, at: &str, found: &mut Vec<Read<'n>>) {
    match &node.kind {
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => {}
        Kind::Array(elements) => collect_all(elements, at, found),
        Kind::Object(members) => match members.as_slice() {
            [only] => operation(&only.key, &only.value, &step(at, &only.key), found),
            members => {
                for member in members {
                    collect(&member.value, &step(at, &member.key), found);
                }
            }
        },
    }
}

fn collect_all<'n>(nodes: &'n [Node], at: &str, found: &mut Vec<Read<'n>>) {
    for (index, node) in nodes.iter().enumerate() {
        collect(node, &format!("{at}/{index}"), found);
    }
}

fn operation<'n>(operator: &str, argument: &'n Node, at: &str, found: &mut Vec<Read<'n>>) {
    match operator {
        "$literal" => {}
        "var" => match argument.elements() {
            None => paths(argument, at, false, found),
            Some([path, rest @ ..]) => {
                paths(path, &format!("{at}/0"), false, found);
                for (index, default) in rest.iter().enumerate() {
                    collect(default, &format!("{at}/{}", index + 1), found);
                }
            }
            Some([]) => {}
        },
        "missing" => paths(argument, at, true, found),
        "missing_some" => {
            if let Some([_, keys]) = argument.elements() {
                paths(keys, &format!("{at}/1"), true, found);
            }
        }
        // What stands behind the array is asked of its elements, and sees nothing else.
        "map" | "filter" | "reduce" | "all" | "some" | "none" => match argument.elements() {
            Some([over, ..]) => collect(over, &format!("{at}/0"), found),
            Some([]) | None => collect(argument, at, found),
        },
        "inState" => {}
        _ => collect(argument, at, found),
    }
}

/// Texts that are paths, alone or in an array; what is computed is read as an expression.
fn paths<'n>(node: &'n Node, at: &str, asks: bool, found: &mut Vec<Read<'n>>) {
    match &node.kind {
        Kind::String(path) => {
            found.push(Read { path, span: &node.span, pointer: at.to_owned(), asks });
        }
        Kind::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                paths(element, &format!("{at}/{index}"), asks, found);
            }
        }
        Kind::Object(_) => collect(node, at, found),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => {}
    }
}

/// Whether an expression asks in which state the execution is.
pub(crate) fn asks_for_state(node: &Node) -> bool {
    match &node.kind {
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => false,
        Kind::Array(elements) => elements.iter().any(asks_for_state),
        Kind::Object(members) => {
            members.iter().any(|member| &*member.key == "inState" || asks_for_state(&member.value))
        }
    }
}

/// Whether a guard is the same at every time, by its form alone: one of `or` is always true, one of
/// `and` always false, or something is compared with itself. `None`: not so.
pub(crate) fn fixed_by_form(node: &Node) -> Option<bool> {
    let [only] = node.members()? else { return None };
    let operands = only.value.elements();
    match &*only.key {
        "and" | "or" => {
            let stops = &*only.key == "or";
            let mut all = true;
            for operand in operands.unwrap_or(std::slice::from_ref(&only.value)) {
                match truth(operand) {
                    Some(truth) if truth == stops => return Some(stops),
                    Some(_) => {}
                    None => all = false,
                }
            }
            all.then_some(!stops)
        }
        "!" => truth(one(&only.value)).map(|truth| !truth),
        "!!" => truth(one(&only.value)),
        "==" | "===" | "!=" | "!==" => match operands {
            Some([left, right]) if same(left, right) => Some(only.key.starts_with('=')),
            Some(_) | None => None,
        },
        _ => None,
    }
}

fn truth(node: &Node) -> Option<bool> {
    match &node.kind {
        Kind::Bool(flag) => Some(*flag),
        Kind::Null => Some(false),
        Kind::Object(_) => fixed_by_form(node),
        Kind::Number(_) | Kind::String(_) | Kind::Array(_) => None,
    }
}

/// The operand of an operator that takes one, with or without brackets.
pub(crate) fn one(node: &Node) -> &Node {
    match node.elements() {
        Some([only]) => only,
        Some(_) | None => node,
    }
}

/// Whether two expressions are the same, however they are spaced.
pub(crate) fn same(left: &Node, right: &Node) -> bool {
    match (&left.kind, &right.kind) {
        (Kind::Array(a), Kind::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Kind::Object(a), Kind::Object(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.key == b.key && same(&a.value, &b.value))
        }
        _ => left.kind_name() == right.kind_name() && left.to_value() == right.to_value(),
    }
}

/// The pointer one step deeper.
pub(crate) fn step(at: &str, key: &str) -> String {
    if key.contains(['~', '/']) {
        return format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    }
    format!("{at}/{key}")
}
