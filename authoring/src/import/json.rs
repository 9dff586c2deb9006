//! JSON that keeps its order, and how it is printed.

use pled_engine::template::document::{Kind, Node};
use pled_engine::value::Value;

/// How wide a line may be.
const WIDTH: usize = 100;

/// A JSON value whose members stay in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// A number or text, as it is written.
    Plain(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    pub(super) fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Null => Self::Null,
            Kind::Bool(flag) => Self::Bool(*flag),
            Kind::Number(_) => Self::Plain(node.to_value().to_string()),
            Kind::String(text) => Self::text(text),
            Kind::Array(elements) => Self::Array(elements.iter().map(Self::of).collect()),
            Kind::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|member| (member.key.to_string(), Self::of(&member.value)))
                    .collect(),
            ),
        }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Plain(Value::String(text.into()).to_string())
    }

    pub(super) fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The value on as many lines as it needs.
    pub(super) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(0, 0, &mut out);
        out.push('\n');
        out
    }

    fn write(&self, depth: usize, before: usize, out: &mut String) {
        let line = self.line();
        let is_leaf = !matches!(self, Self::Array(_) | Self::Object(_));
        if is_leaf || (depth > 0 && depth * 2 + before + line.chars().count() <= WIDTH) {
            out.push_str(&line);
            return;
        }
        let inner = "  ".repeat(depth + 1);
        let (open, close) = if matches!(self, Self::Array(_)) { ('[', ']') } else { ('{', '}') };
        out.push(open);
        match self {
            Self::Array(elements) => {
                for (at, element) in elements.iter().enumerate() {
                    out.push_str(if at == 0 { "\n" } else { ",\n" });
                    out.push_str(&inner);
                    element.write(depth + 1, 1, out);
                }
            }
            Self::Object(members) => {
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "\n" } else { ",\n" });
                    let key = Value::String(key.as_str().into()).to_string();
                    out.push_str(&inner);
                    out.push_str(&key);
                    out.push_str(": ");
                    value.write(depth + 1, key.chars().count() + 3, out);
                }
            }
            Self::Null | Self::Bool(_) | Self::Plain(_) => {}
        }
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
        out.push(close);
    }

    /// The value on one line.
    fn line(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(flag) => flag.to_string(),
            Self::Plain(text) => text.clone(),
            Self::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(Self::line).collect();
                format!("[{}]", elements.join(", "))
            }
            Self::Object(members) if members.is_empty() => "{}".to_owned(),
            Self::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(key, value)| {
                        format!("{}: {}", Value::String(key.as_str().into()), value.line())
                    })
                    .collect();
                format!("{{ {} }}", members.join(", "))
            }
        }
    }
}
