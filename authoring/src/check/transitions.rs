//! Transitions that cannot do what they seem to.

use std::collections::BTreeMap;

use pled_engine::template::document::Node;
use pled_engine::template::{ActionKind, StateIndex, StateKind, Template, Transition};

use super::reads::same;
use super::{Code, Found, code};

/// Shadowed transitions, `*` that takes what is not meant for it, `always` without effect, and
/// states that are left at once.
pub(super) fn findings(found: &mut Found<'_, '_>) {
    let template = found.template();
    for (index, state) in (0..).zip(&template.states) {
        let on = &state.on;
        let prefixes = on.prefixes.iter().map(|(_, transitions)| transitions);
        for list in on.exact.values().chain(prefixes).chain([&on.any, &state.always]) {
            shadowed(found, list);
        }
        shadowed_by_children(found, index);
        stealing(found, index);
        idle_always(found, index);
        if leaves_at_once(template, index) {
            never_rests(found, index);
        }
    }
}

/// Whether a state is left by an `always` without guard as soon as it is entered.
pub(super) fn leaves_at_once(template: &Template, index: StateIndex) -> bool {
    let state = template.state(index);
    state
        .always
        .iter()
        .any(|transition| transition.guard.is_none() && leaves(template, index, transition))
}

/// Whether a transition leaves its source.
pub(super) fn leaves(template: &Template, source: StateIndex, transition: &Transition) -> bool {
    let outside = |target: &StateIndex| {
        *target != source
            && !template.is_descendant(*target, source)
            && template.state(*target).parent != Some(source)
    };
    !transition.target.is_empty() && (transition.reenter || transition.target.iter().any(outside))
}

/// In one list the first without guard wins, and of two with the same guard the first.
fn shadowed(found: &mut Found<'_, '_>, list: &[Transition]) {
    for (at, transition) in list.iter().enumerate() {
        let guard = guard_of(found, transition);
        let earlier = list[..at].iter().find(|earlier| match guard_of(found, earlier) {
            None => true,
            Some(earlier) => guard.is_some_and(|guard| same(earlier, guard)),
        });
        let Some(earlier) = earlier else { continue };
        let (why, help) = match earlier.guard {
            None => ("has no guard", "give that one a guard, or move this one before it"),
            Some(_) => ("has the same guard", "remove one of the two, or change its guard"),
        };
        found.add(
            &code::SHADOWED,
            &transition.pointer,
            format!(
                "this transition is never taken: the one at {} stands before it and {why}",
                earlier.pointer
            ),
            help,
        );
        return;
    }
}

fn guard_of<'n>(found: &Found<'_, 'n>, transition: &Transition) -> Option<&'n Node> {
    transition.guard.as_ref()?;
    found.facts.guards.get(&format!("{}/guard", transition.pointer)).copied()
}

/// A transition of a state is taken only if what it holds selects none.
fn shadowed_by_children(found: &mut Found<'_, '_>, index: StateIndex) {
    let template = found.template();
    let state = template.state(index);
    if state.children.is_empty() {
        return;
    }
    for (event, transitions) in &state.on.exact {
        let Some(first) = transitions.first() else { continue };
        if is_made_by_engine(event) || !children_always_take(template, index, event) {
            continue;
        }
        found.add(
            &code::SHADOWED,
            &first.pointer,
            format!(
                "this transition is never taken: whatever is active inside {:?} takes {event} \
                 first",
                &*state.id
            ),
            "guard the inner ones, or remove it",
        );
    }
}

fn children_always_take(template: &Template, index: StateIndex, event: &str) -> bool {
    let mut regions = template.regions(index);
    match template.state(index).kind {
        StateKind::Compound { .. } => regions.all(|child| always_takes(template, child, event)),
        StateKind::Parallel => regions.any(|child| always_takes(template, child, event)),
        StateKind::Atomic | StateKind::Final | StateKind::History { .. } => false,
    }
}

fn always_takes(template: &Template, index: StateIndex, event: &str) -> bool {
    let own = template.state(index).on.matching(event).any(|it| it.guard.is_none());
    own || children_always_take(template, index, event)
}

pub(super) fn is_made_by_engine(event: &str) -> bool {
    ["pled.", "done.", "error.", "after."].iter().any(|prefix| event.starts_with(prefix))
}

/// `*` matches what the engine makes, too, and wins over all that stands further out.
fn stealing(found: &mut Found<'_, '_>, index: StateIndex) {
    let template = found.template();
    let state = template.state(index);
    let Some(any) = state.on.any.first() else { return };
    let mut stolen: Vec<String> = Vec::new();
    for around in template.ancestors(index) {
        let outer = template.state(around);
        for event in outer.on.exact.keys() {
            let comes_here = match event.strip_prefix("done.state.") {
                None => ["done.", "error.", "after."].iter().any(|it| event.starts_with(it)),
                // A state is done while its final state is active, so only what holds that one
                // sees the event.
                Some(id) => template.index_of(id).is_some_and(|done| {
                    !state.children.is_empty()
                        && (index == done
                            || (matches!(template.state(done).kind, StateKind::Parallel)
                                && template.is_descendant(index, done)))
                }),
            };
            let has_own = state
                .on
                .matching(event)
                .next()
                .is_some_and(|own| own.guard.is_none() && own.pointer != any.pointer);
            if comes_here && !has_own {
                stolen.push(format!("`{event}` of {:?}", &*outer.id));
            }
        }
    }
    if stolen.is_empty() {
        return;
    }
    let more = stolen.len().saturating_sub(3);
    stolen.truncate(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    found.add(
        &code::STEALING,
        &any.pointer,
        format!("this `*` takes also {}{more}, which then never act", stolen.join(", ")),
        "name the events that are meant, or handle those before it",
    );
}

/// An `always` with neither target nor `assign` changes nothing that a guard could see.
fn idle_always(found: &mut Found<'_, '_>, index: StateIndex) {
    for transition in &found.template().state(index).always {
        let assigns = transition
            .actions
            .iter()
            .any(|action| matches!(action.kind, ActionKind::Assign(_) | ActionKind::Choose(_)));
        if transition.target.is_empty() && !assigns {
            found.add(
                &code::IDLE_ALWAYS,
                &transition.pointer,
                "this `always` has neither a target nor an `assign`: it runs again at every step \
                 of the execution, and changes nothing",
                "give it a target, or put its actions into `entry`",
            );
        }
    }
}

/// What a state is left before it can come to.
fn never_rests(found: &mut Found<'_, '_>, index: StateIndex) {
    let template = found.template();
    let state = template.state(index);
    let help = "guard the `always`, or remove what never happens";
    let id = &state.id;
    let mut report = |code: &'static Code, pointer: &str, what: &str| {
        let message = format!("{what}: an `always` leaves {:?} as soon as it is entered", &**id);
        found.add(code, pointer, message, help);
    };
    for invoke in &state.invoke {
        report(&code::NEVER_STARTED, &invoke.pointer, "this invocation is never started");
    }
    let pointer = template.pointer(index);
    for after in &state.after {
        report(
            &code::TIMER_NEVER_FIRES,
            &format!("{pointer}/after/{}", after.name),
            "this timer never fires",
        );
    }
    let events: BTreeMap<_, _> = state.on.exact.iter().collect();
    let own = events.iter().filter(|(event, _)| !is_made_by_engine(event));
    let prefixes = state.on.prefixes.iter().map(|(_, transitions)| transitions);
    let lists = own.map(|(_, transitions)| *transitions).chain(prefixes).chain([&state.on.any]);
    if !state.children.is_empty() {
        return;
    }
    for first in lists.filter_map(|list| list.first()) {
        report(&code::SHADOWED, &first.pointer, "this transition is never taken");
    }
}
