//! Names of events, children and sends that nothing answers to.

use std::collections::BTreeSet;

use pled_engine::template::document::Node;
use pled_engine::template::suggest::closest;
use pled_engine::template::{InvokeSource, StateKind, Template};

use super::facts::{Acted, elements, members};
use super::graph::{can_be_complete, handles};
use super::reads::step;
use super::transitions::is_made_by_engine;
use super::{Found, code};

/// Events that no state handles, events that never come, and ids that nothing has.
pub(super) fn findings(found: &mut Found<'_, '_>) {
    unhandled(found);
    never_come(found);
    never_done(found);
    unknown_ids(found);
}

fn is_handled(template: &Template, event: &str) -> bool {
    template.states.iter().any(|state| handles(&state.on, event))
}

fn unhandled(found: &mut Found<'_, '_>) {
    let facts = found.facts;
    let template = facts.template;
    // An event that the template sends to others may be declared for their sake.
    let sent_away: BTreeSet<&str> =
        facts.sends.iter().filter(|sent| sent.to.is_some()).filter_map(|sent| sent.event).collect();
    let help = "add it to the `on` of the state that waits for it, or remove it";
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for member in members(facts.root.get("events")) {
        let event = &*member.key;
        if event == "pled.init" || is_handled(template, event) || sent_away.contains(event) {
            continue;
        }
        told.insert(event);
        found.add_at_key(
            &code::UNHANDLED_EVENT,
            &step("/events", event),
            format!("`{event}` is declared, but no state handles it"),
            advice(template, event, help),
        );
    }
    for (index, rule) in elements(facts.root.get("rules")).iter().enumerate() {
        for (at, emit) in elements(rule.get("emit")).iter().enumerate() {
            let starts = emit.get("start").is_some_and(|it| it.to_value().as_bool() == Some(true));
            let Some(event) = emit.get("event").and_then(Node::as_str) else { continue };
            let own = event.starts_with("pled.");
            if starts || own || is_handled(template, event) || told.contains(&**event) {
                continue;
            }
            found.add(
                &code::UNHANDLED_EVENT,
                &format!("/rules/{index}/emit/{at}/event"),
                format!("this rule emits `{event}`, but no state handles it"),
                advice(template, event, help),
            );
        }
    }
    for sent in facts.sends.iter().filter(|sent| sent.to.is_none()) {
        let Some(event) = sent.event else { continue };
        if is_handled(template, event) || told.contains(event) {
            continue;
        }
        found.add(
            &code::UNHANDLED_EVENT,
            &format!("{}/event", sent.pointer),
            format!("the execution sends itself `{event}`, but no state handles it"),
            advice(template, event, help),
        );
    }
}

fn advice(template: &Template, event: &str, otherwise: &str) -> String {
    let exact = template.states.iter().flat_map(|state| state.on.exact.keys());
    let named = exact.map(|key| &**key).filter(|key| !is_made_by_engine(key));
    match closest(event, named) {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise.to_owned(),
    }
}

/// Handlers of events that only the engine makes, and would never make.
fn never_come(found: &mut Found<'_, '_>) {
    let facts = found.facts;
    let template = facts.template;
    let custom: BTreeSet<&str> = facts.actions.iter().map(|acted| acted.action).collect();
    let spawned: BTreeSet<&str> = spawned(&facts.actions).collect();
    let invoked: Vec<&str> =
        template.states.iter().flat_map(|state| &state.invoke).map(|invoke| &*invoke.id).collect();
    for (index, _) in (0..).zip(&template.states) {
        let pointer = template.pointer(index);
        let on = facts.node(&format!("{pointer}/on"));
        for member in members(on) {
            let event = &*member.key;
            if event.contains('*') || !is_made_by_engine(event) {
                continue;
            }
            let refused = match Made::of(event) {
                Made::Result(id) if invoked.contains(&id) || spawned.contains(id) => None,
                Made::Result(id) => {
                    let all = invoked.iter().copied().chain(spawned.iter().copied());
                    let prefix = event.strip_suffix(id).unwrap_or_default();
                    let near = closest(id, all).map(|near| format!("{prefix}{near}"));
                    Some((format!("nothing invoked or spawned has the id {id:?}"), near))
                }
                Made::Done(id) => match template.index_of(id) {
                    // Of one that can never be complete, `never_done` tells.
                    Some(state) if !template.state(state).children.is_empty() => None,
                    Some(_) => Some((format!("the state {id:?} holds none that is final"), None)),
                    None => {
                        let near = closest(id, template.ids.keys().map(|id| &**id));
                        let near = near.map(|near| format!("done.state.{near}"));
                        Some((format!("no state has the id {id:?}"), near))
                    }
                },
                Made::Action(action) if custom.contains(action) => None,
                Made::Action(action) => {
                    let near = closest(action, custom.iter().copied());
                    let near = near.map(|near| format!("error.action.{near}"));
                    Some((format!("no action of the template is called {action:?}"), near))
                }
                Made::Timer => {
                    let all = || template.states.iter().flat_map(|state| &state.after);
                    if all().any(|after| *after.event == *event) {
                        None
                    } else {
                        let near = closest(event, all().map(|after| &*after.event));
                        Some(("no state has that timer".to_owned(), near.map(str::to_owned)))
                    }
                }
                Made::Known => None,
                Made::Unknown if event.starts_with("pled.") => {
                    Some(("the engine acts on it, before any transition could".to_owned(), None))
                }
                Made::Unknown => Some(("the engine makes none of that name".to_owned(), None)),
            };
            let Some((why, near)) = refused else { continue };
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "remove it, or name what is meant".to_owned(),
            };
            let at = step(&format!("{pointer}/on"), event);
            let message = format!("the event `{event}` never comes: {why}");
            found.add_at_key(&code::NEVER_COMES, &at, message, help);
        }
    }
}

/// What makes an event whose name is kept for the engine.
enum Made<'e> {
    Result(&'e str),
    Done(&'e str),
    Action(&'e str),
    Timer,
    Known,
    Unknown,
}

impl<'e> Made<'e> {
    fn of(event: &'e str) -> Self {
        let known = ["error.execution", "done.compensate", "error.compensate", "pled.cancel"];
        if known.contains(&event) {
            return Self::Known;
        }
        let result = ["done.invoke.", "error.invoke."];
        if let Some(id) = result.iter().find_map(|prefix| event.strip_prefix(prefix)) {
            return Self::Result(id);
        }
        if let Some(id) = event.strip_prefix("done.state.") {
            return Self::Done(id);
        }
        if let Some(action) = event.strip_prefix("error.action.") {
            return Self::Action(action);
        }
        if event.starts_with("after.") { Self::Timer } else { Self::Unknown }
    }
}

/// `onDone` of states that can never be done.
fn never_done(found: &mut Found<'_, '_>) {
    let template = found.template();
    for state in &template.states {
        for (event, transitions) in &state.on.exact {
            let done = event.strip_prefix("done.state.").and_then(|id| template.index_of(id));
            let (Some(done), Some(first)) = (done, transitions.first()) else { continue };
            if done == 0 {
                let message = "the execution ends when its root is done, so nothing follows here";
                let help = "give the root `output`, or do this on entry to its final states";
                found.add(&code::NEVER_DONE, place(&first.pointer), message, help);
                continue;
            }
            if template.state(done).children.is_empty() || can_be_complete(template, done) {
                continue;
            }
            let id = &template.state(done).id;
            let (why, help) = match template.state(done).kind {
                StateKind::Parallel => {
                    let region = template
                        .regions(done)
                        .find(|region| !can_be_complete(template, *region))
                        .map_or("", |region| &template.state(region).id);
                    (
                        format!("its region {region:?} holds no final state"),
                        "give each region a state with `\"type\": \"final\"`",
                    )
                }
                StateKind::Atomic
                | StateKind::Compound { .. }
                | StateKind::Final
                | StateKind::History { .. } => (
                    "none of its direct children is final".to_owned(),
                    "make the state in which it is done `\"type\": \"final\"`",
                ),
            };
            let message = format!("the state {:?} is never done: {why}", &**id);
            found.add(&code::NEVER_DONE, place(&first.pointer), message, help);
        }
    }
}

/// Of an `onDone` with several transitions the whole.
fn place(pointer: &str) -> &str {
    pointer.strip_suffix("/0").filter(|it| it.ends_with("/onDone")).unwrap_or(pointer)
}

fn spawned<'a>(actions: &'a [Acted<'_>]) -> impl Iterator<Item = &'a str> {
    let spawns = actions.iter().filter(|acted| acted.action == "spawn");
    spawns.filter_map(|acted| acted.params?.get("id")?.as_str()).map(|id| &**id)
}

/// `cancel` of sends that nothing sends, `stop` of and sends to children that nothing starts.
fn unknown_ids(found: &mut Found<'_, '_>) {
    let facts = found.facts;
    let template = facts.template;
    let spawned: BTreeSet<&str> = spawned(&facts.actions).collect();
    let invoked = template.states.iter().flat_map(|state| &state.invoke);
    let children: BTreeSet<&str> = invoked
        .filter(|invoke| matches!(invoke.source, InvokeSource::Template(_)))
        .map(|invoke| &*invoke.id)
        .chain(spawned.iter().copied())
        .collect();
    let sent: Vec<Option<&str>> = facts.sends.iter().filter_map(|sent| sent.id).collect();
    for acted in &facts.actions {
        let id = acted.params.and_then(|params| params.get("id")).and_then(Node::as_str);
        let Some(id) = id else { continue };
        let refused = match acted.action {
            // One whose id is computed may be any.
            "cancel" if !sent.contains(&None) && !sent.contains(&Some(id)) => {
                let near = closest(id, sent.iter().filter_map(|id| *id));
                Some((
                    format!("no `raise` or `send` has the id {id:?}, so this cancels nothing"),
                    near,
                ))
            }
            "stop" if !spawned.contains(&**id) => {
                let near = closest(id, spawned.iter().copied());
                Some((format!("nothing spawns a child {id:?}, so this stops nothing"), near))
            }
            _ => None,
        };
        if let Some((message, near)) = refused {
            let help = near.map_or_else(
                || "name the id that is meant, or remove the action".to_owned(),
                |near| format!("did you mean {near:?}?"),
            );
            found.add(&code::UNKNOWN_ID, &format!("{}/params/id", acted.pointer), message, help);
        }
    }
    for sent in &facts.sends {
        let to = sent.to.and_then(Node::as_str).and_then(|to| to.strip_prefix("child:"));
        let Some(child) = to.filter(|child| !children.contains(child)) else { continue };
        let help = match closest(child, children.iter().copied()) {
            Some(near) => format!("did you mean \"child:{near}\"?"),
            None => "start it by `spawn` or by an `invoke` of a template".to_owned(),
        };
        let message = format!("nothing starts a child {child:?}, so this reaches nobody");
        found.add(&code::UNKNOWN_ID, &format!("{}/to", sent.pointer), message, help);
    }
}
