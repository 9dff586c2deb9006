//! The root: what it says besides being a state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compile::{CONTEXT, Compiler, delay, mapping};
use super::diagnostic::Findings;
use super::document::{Member, Node};
use super::outline::Outline;
use super::reader::{Fields, cut, integer, one_of, string, wrong_kind};
use super::schema::{Schemas, schema};
use super::{Delay, EventDeclaration, LOGIC, Limits, OnError, Template, code, fields, name};
use crate::id::{Hash, TemplateName};
use crate::json::VALUE_DEPTH_MAX;
use crate::value::Object;

/// Compiles the template that `root` is. `None` comes back only after an error was recorded; there
/// may be errors all the same where a template comes back.
pub(super) fn template(source: &str, root: &Node, findings: &mut Findings) -> Option<Template> {
    let fields = Fields::unchecked(root, "a template", findings)?;
    // For editors, which complete by it.
    fields.read("$schema", findings, string);
    format(&fields, findings);
    let version = fields.require("version", findings, |node, findings| {
        integer(node, 1..=i64::from(u32::MAX), findings).and_then(|int| u32::try_from(int).ok())
    });
    let name = fields.require("id", findings, template_name);
    let root_id: Arc<str> = name.as_ref().map_or("template", TemplateName::as_str).into();
    let outline = Outline::of(root, &root_id, findings);
    let mut compiler = Compiler {
        outline: &outline,
        delays: fields.read("delays", findings, delays).unwrap_or_default(),
        retry: fields.read("retry", findings, super::invoke::retry),
        transitions: 0,
        invocations: BTreeMap::new(),
        spawned: BTreeMap::new(),
        queues: BTreeMap::new(),
        children: BTreeSet::new(),
    };
    let mut states = Vec::with_capacity(outline.len());
    compiler.state(0, &mut states, findings);
    let limits = fields.read("limits", findings, limits).unwrap_or_default();
    let context = fields
        .read("context", findings, |node, findings| context(node, limits.context_bytes, findings));
    let (events, schemas) = fields.read("events", findings, events).unwrap_or_default();
    let Compiler { delays, transitions, invocations, queues, children, .. } = compiler;
    Some(Template {
        name: name?,
        version: version?,
        hash: Hash::of(source.as_bytes()),
        source: source.into(),
        context: context.unwrap_or_default(),
        states,
        delays,
        rules: fields.read("rules", findings, super::rules::rules).unwrap_or_default(),
        output: fields.read("output", findings, |node, findings| mapping(node, CONTEXT, findings)),
        on_error: fields.read("on_error", findings, on_error).unwrap_or(OnError::Incident),
        limits,
        events,
        schemas,
        transitions,
        invocations,
        queues: queues.into_values().collect(),
        children: children.into_iter().collect(),
        ids: outline.into_ids(),
    })
}

fn format(fields: &Fields<'_>, findings: &mut Findings) {
    for (key, value, what) in
        [("pled", "1.0", "template format"), ("logic", LOGIC, "logic profile")]
    {
        fields.require(key, findings, |node, findings| {
            let text = string(node, findings)?;
            if *text != *value {
                let message = format!("the {what} {:?} is not known here", cut(&text));
                let help = format!("this engine reads {value:?}");
                findings.error_with_help(code::UNSUPPORTED, &node.span, message, help);
            }
            Some(())
        });
    }
}

fn template_name(node: &Node, findings: &mut Findings) -> Option<TemplateName> {
    let text = string(node, findings)?;
    text.parse()
        .map_err(|_| {
            let message = format!(
                "the root's id {:?} is the template's name and must match \
                 [A-Za-z_][A-Za-z0-9_-]{{0,63}}",
                cut(&text)
            );
            findings.error(code::NAME, &node.span, message);
        })
        .ok()
}

fn context(node: &Node, bytes_max: usize, findings: &mut Findings) -> Option<Object> {
    if node.members().is_none() {
        wrong_kind(node, "`context` must be an object", findings);
        return None;
    }
    let value = node.to_value();
    if value.is_deeper_than(VALUE_DEPTH_MAX) {
        let message = format!("the context is nested deeper than {VALUE_DEPTH_MAX}");
        findings.error(code::VALUE_DEPTH, &node.span, message);
    }
    let bytes = value.to_canonical().len();
    if bytes > bytes_max {
        let message =
            format!("the context has {bytes} bytes, and `limits.context_bytes` allows {bytes_max}");
        findings.error(code::CONTEXT_SIZE, &node.span, message);
    }
    value.as_object().cloned()
}

fn delays(node: &Node, findings: &mut Findings) -> Option<BTreeMap<Arc<str>, Delay>> {
    let fields = Fields::unchecked(node, "`delays`", findings)?;
    let mut delays = BTreeMap::new();
    for Member { key, key_span, value } in fields.members() {
        let delay = findings.at(key, |findings| {
            if !name::is_key(key) {
                let message = format!(
                    "a delay's name must match [A-Za-z_][A-Za-z0-9_-]*, unlike {:?}",
                    cut(key)
                );
                findings.error(code::NAME, key_span, message);
            }
            delay(value, findings)
        });
        // A broken delay is a name all the same: what uses it is not wrong too.
        delays.insert(key.clone(), delay.unwrap_or(Delay::Millis(0)));
    }
    Some(delays)
}

fn limits(node: &Node, findings: &mut Findings) -> Option<Limits> {
    let fields = Fields::of(node, "`limits`", &fields::LIMITS, findings)?;
    let defaults = Limits::default();
    let mut limit =
        |key, bounds| fields.read(key, findings, |node, findings| integer(node, bounds, findings));
    let microsteps = limit("microsteps", 1..=10_000).and_then(|int| int.try_into().ok());
    let logic_steps = limit("logic_steps", 1..=10_000_000).and_then(|int| int.try_into().ok());
    let context_bytes = limit("context_bytes", 2..=8_388_608).and_then(|int| int.try_into().ok());
    let event_ids = limit("event_ids", 0..=1_024).and_then(|int| int.try_into().ok());
    Some(Limits {
        microsteps: microsteps.unwrap_or(defaults.microsteps),
        logic_steps: logic_steps.unwrap_or(defaults.logic_steps),
        context_bytes: context_bytes.unwrap_or(defaults.context_bytes),
        event_ids: event_ids.unwrap_or(defaults.event_ids),
    })
}

fn on_error(node: &Node, findings: &mut Findings) -> Option<OnError> {
    one_of(node, &[("incident", OnError::Incident), ("fail", OnError::Fail)], findings)
}

fn events(
    node: &Node,
    findings: &mut Findings,
) -> Option<(BTreeMap<Arc<str>, EventDeclaration>, Schemas)> {
    let fields = Fields::unchecked(node, "`events`", findings)?;
    let (mut events, mut schemas) = (BTreeMap::new(), BTreeMap::new());
    for Member { key, key_span, value } in fields.members() {
        let declaration = findings.at(key, |findings| {
            name::event_type(key, key_span, findings);
            let fields =
                Fields::of(value, "the declaration of an event", &fields::EVENT, findings)?;
            refuse_needless_schema(key, &fields, findings);
            let schema = fields.read("schema", findings, schema).map(|(schema, compiled)| {
                schemas.insert(key.clone(), compiled);
                schema
            });
            Some(EventDeclaration {
                schema,
                description: fields.read("description", findings, string),
            })
        });
        events.extend(declaration.map(|declaration| (key.clone(), declaration)));
    }
    Some((events, schemas))
}

/// What the engine itself makes is not checked, so a schema for it would be a promise not kept.
fn refuse_needless_schema(event: &str, fields: &Fields<'_>, findings: &mut Findings) {
    let Some(schema) = fields.get("schema") else { return };
    if name::is_reserved(event) && event != "pled.init" {
        let message = format!("the data of {event} is the engine's, so a schema has no effect");
        let help = "schemas are for events from outside, sends and the input, `pled.init`";
        findings.at("schema", |findings| {
            findings.error_with_help(code::RESERVED_EVENT, &schema.span, message, help);
        });
    }
}
