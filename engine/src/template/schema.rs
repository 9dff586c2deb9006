//! JSON Schemas (2020-12) of event data: compiled with the template, asked at the step.
//!
//! Nothing is ever fetched: a `$ref` that leads out of the schema is an error of the template.
//! Patterns are those that are matched in linear time, so look-around and back references are
//! errors, too.

use std::collections::BTreeMap;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};

use super::diagnostic::Findings;
use super::document::Node;
use super::reader::{boolean, cut};
use super::{Template, code};
use crate::value::Value;

/// The one dialect, as `$schema` names it.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Compiled schemas by event type.
pub(super) type Schemas = BTreeMap<Arc<str>, Schema>;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Schema(Validator);

// What a validator remembers between questions are states of its regex engines, which a panic
// leaves behind unused.
impl UnwindSafe for Schema {}
impl RefUnwindSafe for Schema {}

/// An event's data does not fit the schema that the template has for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data of {event}{} {reason}", place(pointer))]
pub struct SchemaViolation {
    /// The event's type.
    pub event: Arc<str>,
    /// JSON pointer into the data; empty: the whole of it.
    pub pointer: String,
    /// What is wrong there, as a clause. It is made of the template's words and the names of
    /// members alone, so it is the same whenever the event is taken again.
    pub reason: String,
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!(" at {}", cut(pointer)) }
}

impl Template {
    /// Whether `data` may be that of an event of this type, `pled.init` for the input of a start.
    /// An event without a schema may have any.
    ///
    /// # Errors
    /// With the first place that does not fit.
    pub fn check_data(&self, event_type: &str, data: &Value) -> Result<(), SchemaViolation> {
        let Some((event, Schema(schema))) = self.schemas.get_key_value(event_type) else {
            return Ok(());
        };
        // A value is JSON, so it can be converted.
        let data = serde_json::to_value(data).unwrap_or_default();
        if schema.is_valid(&data) {
            return Ok(());
        }
        let first = schema.iter_errors(&data).min_by(|a, b| order(a).cmp(&order(b)));
        let (pointer, reason) = match &first {
            Some(error) => (error.instance_path().to_string(), reason(error)),
            None => (String::new(), "does not fit its schema".to_owned()),
        };
        Err(SchemaViolation { event: event.clone(), pointer, reason })
    }
}

/// Which of several errors is told must not depend on the order in which they are found.
fn order<'e>(error: &'e ValidationError<'_>) -> (&'e str, &'e str) {
    (error.instance_path().as_str(), error.schema_path().as_str())
}

fn reason(error: &ValidationError<'_>) -> String {
    let at = error.schema_path();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the keyword's place says the rest")]
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            format!("lacks the member {} (schema: {at})", cut(&property.to_string()))
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let member = unexpected.first().map_or("", String::as_str);
            format!("may not have the member {:?} (schema: {at})", cut(member))
        }
        ValidationErrorKind::Type { .. } => format!("is of another type (schema: {at})"),
        kind => format!("does not fit `{}` (schema: {at})", kind.keyword()),
    }
}

/// Reads and compiles a schema.
pub(super) fn schema(node: &Node, findings: &mut Findings) -> Option<(Value, Schema)> {
    if node.members().is_none() {
        boolean(node, findings)?;
    }
    if let Some(dialect) = node.get("$schema") {
        let named = dialect.as_str().map(|text| text.trim_end_matches('#'));
        if named != Some(DIALECT) {
            let message = format!("the dialect of a schema is {DIALECT:?}");
            findings.at("$schema", |findings| {
                findings.error(code::SCHEMA, &dialect.span, message);
            });
            return None;
        }
    }
    let value = node.to_value();
    let json = serde_json::to_value(&value).unwrap_or_default();
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex())
        .offline();
    match options.build(&json) {
        Ok(validator) => Some((value, Schema(validator))),
        Err(error) => {
            report(node, &error, findings);
            None
        }
    }
}

/// Records an error at the place in the schema where it is.
fn report(node: &Node, error: &ValidationError<'_>, findings: &mut Findings) {
    if let ValidationErrorKind::Referencing(reason) = error.kind() {
        let message = format!("this leads nowhere: {reason}");
        let help = "a schema refers to its own parts only, as \"#/$defs/…\"; nothing is fetched";
        let mut path = Vec::new();
        let place = find_outward(node, &mut path).unwrap_or(node);
        return at(&path, findings, &mut |findings| {
            let message = message.clone();
            findings.error_with_help(code::SCHEMA_REFERENCE, &place.span, message, help);
        });
    }
    let pointer = error.instance_path().to_string();
    let path: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
    let mut place = node;
    for step in &path {
        let element = || place.elements()?.get(step.parse::<usize>().ok()?);
        match place.get(step).or_else(element) {
            Some(inner) => place = inner,
            None => break,
        }
    }
    at(&path, findings, &mut |findings| {
        let message = format!("this is no JSON Schema: {}", error.masked_with("it"));
        findings.error(code::SCHEMA, &place.span, message);
    });
}

/// The first reference that does not begin with `#`, with the path to it.
fn find_outward<'n>(node: &'n Node, path: &mut Vec<String>) -> Option<&'n Node> {
    let members = node.members().unwrap_or_default().iter();
    let members = members.map(|member| (member.key.to_string(), &member.value));
    let elements = node.elements().unwrap_or_default().iter().enumerate();
    let elements = elements.map(|(index, element)| (index.to_string(), element));
    for (key, inner) in members.chain(elements) {
        let is_reference = matches!(&*key, "$ref" | "$dynamicRef");
        path.push(key);
        if is_reference && inner.as_str().is_some_and(|text| !text.starts_with('#')) {
            return Some(inner);
        }
        let found = find_outward(inner, path);
        if found.is_some() {
            return found;
        }
        path.pop();
    }
    None
}

fn at(path: &[String], findings: &mut Findings, report: &mut dyn FnMut(&mut Findings)) {
    match path {
        [] => report(findings),
        [key, rest @ ..] => findings.at(key, |findings| at(rest, findings, report)),
    }
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}
