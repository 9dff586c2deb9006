//! What a raw event becomes by the rules of all templates.

use std::sync::Arc;

use crate::id::{EventType, ExecutionId, Hash, TemplateSelector};
use crate::partition::DeadReason;
use crate::rule::{Emission, RawEvent, emissions};
use crate::template::Template;

/// A message that a rule emitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// For whom.
    pub execution: ExecutionId,
    /// What happened.
    pub event_type: EventType,
    /// Its payload in RFC 8785 form.
    pub data: Arc<[u8]>,
    /// The template to start, if need be.
    pub start: Option<TemplateSelector>,
    /// Derived from the event's id in its source, so that an event that the source repeats under
    /// another sequence is told from a new one.
    pub event_id: Option<String>,
    /// The source of the event.
    pub origin: Arc<str>,
    /// The ingest sequence and the index among all that the event becomes.
    pub place: (u64, u64),
}

/// What an event becomes: messages in order, and why it is to be set aside.
#[derive(Debug, Default)]
pub struct Becomes {
    /// The messages.
    pub messages: Vec<Emitted>,
    /// The reasons.
    pub set_aside: Vec<(DeadReason, String)>,
}

/// Evaluates the rules of all templates, in the order of their names, on the event at `seq`.
#[must_use]
pub fn evaluate(templates: &[Arc<Template>], seq: u64, event: &RawEvent) -> Becomes {
    let mut becomes = Becomes::default();
    let (mut bad_keys, mut errors) = (Vec::new(), Vec::new());
    let mut index = 0;
    for template in templates {
        let found = emissions(template, event);
        errors.extend(found.errors.iter().map(|error| format!("{}: {error}", template.name)));
        for emission in found.messages {
            let place = (seq, index);
            index += 1;
            match emission.key {
                Ok(ref execution) => {
                    let execution = execution.clone();
                    becomes.messages.push(emitted(template, event, emission, execution, place));
                }
                Err(bad) => bad_keys.push(format!("{} {}: {bad}", template.name, emission.rule)),
            }
        }
    }
    if index == 0 && errors.is_empty() {
        let detail = format!("no rule wants {} of {}", event.event_type, event.source);
        becomes.set_aside.push((DeadReason::Unmatched, detail));
    }
    if !bad_keys.is_empty() {
        becomes.set_aside.push((DeadReason::BadKey, bad_keys.join("; ")));
    }
    if !errors.is_empty() {
        becomes.set_aside.push((DeadReason::Poison, errors.join("; ")));
    }
    becomes
}

fn emitted(
    template: &Template,
    event: &RawEvent,
    emission: Emission,
    execution: ExecutionId,
    place: (u64, u64),
) -> Emitted {
    let Emission { rule, emit_index, event: event_type, data, start, .. } = emission;
    let event_id = event.id.as_ref().map(|id| {
        let (source, name) = (&event.source, &template.name);
        Hash::of(format!("{source}\n{name}\n{rule}\n{emit_index}\n{id}").as_bytes()).to_string()
    });
    Emitted {
        execution,
        event_type,
        data: data.to_canonical().into(),
        start: start.as_ref().map(Into::into),
        event_id,
        origin: event.source.clone(),
        place,
    }
}
