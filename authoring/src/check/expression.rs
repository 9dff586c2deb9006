//! Expressions: guards that are always the same, and paths that lead to nothing.

use pled_engine::expression::{Budget, EventView, Expression, Roots, Scope};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::template::suggest::closest;
use pled_engine::value::Value;

use super::facts::{Site, SiteKind};
use super::reads::{Read, asks_for_state, fixed_by_form};
use super::{Found, code};

/// Constant guards, keys of the context that are never there, fields that an event does not have.
pub(super) fn findings(found: &mut Found<'_, '_>) {
    let facts = found.facts;
    for site in &facts.sites {
        if site.kind != SiteKind::Value {
            constant(found, site);
        }
        for read in &site.reads {
            unassigned(found, site, read);
            undeclared(found, site, read);
        }
    }
}

fn constant(found: &mut Found<'_, '_>, site: &Site<'_>) {
    let Some((holds, why)) = always(found, site) else { return };
    // A rule for all that a source says is written `true`.
    if holds && site.kind == SiteKind::When {
        return;
    }
    let (holds, help) = match (holds, site.kind) {
        (true, _) => ("true", "leave the guard out, or let it read what can change"),
        (false, SiteKind::When) => ("false", "remove the rule, or let it read the event"),
        (false, SiteKind::Guard | SiteKind::Branch | SiteKind::Value) => {
            ("false", "remove what it guards, or let it read what can change")
        }
    };
    found.add(
        &code::CONSTANT_GUARD,
        &site.pointer,
        format!("this is {holds} at all times{why}"),
        help,
    );
}

/// What a guard always gives, and why, if it reads nothing that can change.
fn always(found: &Found<'_, '_>, site: &Site<'_>) -> Option<(bool, String)> {
    if let Some(fixed) = fixed_by_form(site.node) {
        return Some((fixed, String::new()));
    }
    if asks_for_state(site.node) {
        return None;
    }
    let template = found.template();
    let mut keys: Vec<&str> = Vec::new();
    for read in &site.reads {
        let key = read.context_key().filter(|key| !key.is_empty())?;
        // One that is not there at all is a finding of its own.
        if found.facts.assigns.contains_key(key) || template.context.get(key).is_none() {
            return None;
        }
        keys.push(key);
    }
    let holds = evaluate(site.node, &template.context)?;
    let why = match keys.first() {
        Some(key) => format!(": nothing assigns `context.{key}`, so it keeps its first value"),
        None => String::new(),
    };
    Some((holds, why))
}

fn evaluate(guard: &Node, context: &pled_engine::value::Object) -> Option<bool> {
    let roots = Roots { context: true, item: false, states: None };
    let expression = Expression::compile(guard, roots, &mut Findings::default())?;
    let event =
        EventView { event_type: "none".into(), data: Value::Null, id: None, source: None, time: 0 };
    let scope = Scope { context: Some(context), event: &event, item: None, active: &[] };
    // A guard without a value does not hold.
    Some(expression.holds(&scope, &mut Budget { steps: 100_000, bytes: 1 << 20 }).unwrap_or(false))
}

fn unassigned(found: &mut Found<'_, '_>, site: &Site<'_>, read: &Read<'_>) {
    let facts = found.facts;
    let Some(key) = read.context_key().filter(|key| !key.is_empty()) else { return };
    let known = facts.template.context.get(key).is_some() || facts.assigns.contains_key(key);
    if known || read.asks {
        return;
    }
    let initial = facts.template.context.iter().map(|(key, _)| &**key);
    let near = closest(key, initial.chain(facts.assigns.keys().copied()));
    let help = match near {
        Some(near) => format!("did you mean `context.{near}`?"),
        None => format!("add {key:?} to the initial `context`, or assign it before"),
    };
    found.add_at(
        &code::UNASSIGNED,
        &format!("{}{}", site.pointer, read.pointer),
        read.span,
        format!("nothing assigns `context.{key}`, and the initial context does not have it"),
        help,
    );
}

fn undeclared(found: &mut Found<'_, '_>, site: &Site<'_>, read: &Read<'_>) {
    let facts = found.facts;
    let Some(event) = &site.event else { return };
    let Some(path) = read.data_path() else { return };
    let Some(schema) = facts.template.events.get(&**event).and_then(|it| it.schema.as_ref()) else {
        return;
    };
    let mut schema = schema;
    for key in path {
        // An index, or a schema that says more than this can read.
        let composed =
            ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"];
        if composed.iter().any(|word| schema.get(word).is_some()) {
            return;
        }
        let closed = ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .any(|word| schema.get(word).and_then(Value::as_bool) == Some(false));
        let properties = schema.get("properties").and_then(Value::as_object);
        match properties.and_then(|properties| properties.get(key)) {
            Some(inner) => schema = inner,
            None if closed => {
                let names = properties.into_iter().flat_map(|it| it.iter()).map(|(key, _)| &**key);
                let help = match closest(key, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add {key:?} to the schema at /events, or read another field"),
                };
                found.add_at(
                    &code::UNDECLARED_FIELD,
                    &format!("{}{}", site.pointer, read.pointer),
                    read.span,
                    format!(
                        "the schema of `{event}` has no field {key:?} here, and allows no other"
                    ),
                    help,
                );
                return;
            }
            None => return,
        }
    }
}
