//! Work: what happens when it fails, takes long, or has to be undone.

use std::collections::BTreeSet;

use pled_engine::template::document::Node;
use pled_engine::template::{InvokeSource, OnError, StateIndex, Template};

use super::graph::{all_transitions, handles};
use super::{Found, code};

/// Failures without a handler, retries that cannot be made, steps that nothing undoes.
pub(super) fn findings(found: &mut Found<'_, '_>) {
    if found.template().on_error == OnError::Incident {
        without_on_error(found);
    }
    endless_retry(found);
    without_compensation(found);
    nothing_to_compensate(found);
}

fn without_on_error(found: &mut Found<'_, '_>) {
    let template = found.template();
    for (index, state) in (0..).zip(&template.states) {
        for invoke in &state.invoke {
            let mut around = std::iter::once(index).chain(template.ancestors(index));
            if around.any(|holder| handles(&template.state(holder).on, &invoke.error_event)) {
                continue;
            }
            found.add_at_key(
                &code::NO_ON_ERROR,
                &invoke.pointer,
                format!(
                    "if {:?} fails for good, nothing handles it, and the execution waits for a \
                     person",
                    &*invoke.id
                ),
                "add `onError`, or `\"on_error\": \"fail\"` at the root if a failure ends the \
                 execution",
            );
        }
    }
}

/// The pauses alone of a retry outlast the time that all attempts have together.
fn endless_retry(found: &mut Found<'_, '_>) {
    let facts = found.facts;
    for retried in &facts.retries {
        let Some(limit) = number(retried.timeout, "schedule_to_close_ms") else { continue };
        let retry = retried.retry;
        let Some(attempts) = number(retry, "max_attempts") else { continue };
        let initial = number(retry, "initial_interval_ms").unwrap_or(1_000.0);
        let backoff = number(retry, "backoff").unwrap_or(2.0);
        let longest = number(retry, "max_interval_ms").unwrap_or(initial.max(60_000.0));
        let (mut pause, mut waited, mut made) = (initial.min(longest), 0.0, 1.0);
        while made < attempts && waited + pause < limit {
            waited += pause;
            made += 1.0;
            pause = (pause * backoff).min(longest);
        }
        if made >= attempts {
            continue;
        }
        found.add(
            &code::RETRY_TOO_LONG,
            &format!("{}/schedule_to_close_ms", retried.pointer),
            format!(
                "of {attempts} attempts {made} at most are made: the pauses between them alone \
                 take longer than {limit} ms"
            ),
            "allow more time, fewer attempts, or shorter pauses",
        );
    }
}

fn number(node: &Node, key: &str) -> Option<f64> {
    // Of numbers of this size the text is the shortest way to a float without a cast.
    node.get(key)?.to_value().to_string().parse().ok()
}

/// Where some steps can be undone, one that cannot and that comes before a `compensate`.
fn without_compensation(found: &mut Found<'_, '_>) {
    let template = found.template();
    let invokes = || {
        (0..)
            .zip(&template.states)
            .flat_map(|(index, state)| state.invoke.iter().map(move |invoke| (index, invoke)))
    };
    if !invokes().any(|(_, invoke)| invoke.compensate.is_some()) {
        return;
    }
    let compensating: BTreeSet<StateIndex> = found
        .facts
        .actions
        .iter()
        .filter(|acted| acted.action == "compensate")
        .map(|acted| acted.state)
        .collect();
    for (index, invoke) in invokes() {
        if invoke.compensate.is_some() || matches!(invoke.source, InvokeSource::Template(_)) {
            continue;
        }
        let around = std::iter::once(index).chain(template.ancestors(index));
        let after: Vec<StateIndex> = around
            .flat_map(|holder| template.state(holder).on.matching(&invoke.done_event))
            .flat_map(|transition| transition.target.iter().copied())
            .collect();
        if comes_after(template, &after, &compensating) {
            found.add_at_key(
                &code::NO_COMPENSATION,
                &invoke.pointer,
                format!(
                    "{:?} is not undone: others have a `compensate`, it has none, and a \
                     `compensate` can follow",
                    &*invoke.id
                ),
                "add what undoes it, or say in its `meta` that there is nothing to undo: \
                 {\"check\": {\"allow\": [\"W015\"]}}",
            );
        }
    }
}

/// Whether a state that compensates is entered from `targets` on, without passing through one that
/// does so already.
fn comes_after(
    template: &Template,
    targets: &[StateIndex],
    compensating: &BTreeSet<StateIndex>,
) -> bool {
    let mut seen: BTreeSet<StateIndex> = BTreeSet::new();
    let mut open: Vec<StateIndex> = targets.to_vec();
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        if compensating.contains(&state) {
            return true;
        }
        let inner = template.state(state).children.iter().copied();
        open.extend(inner);
        let around = std::iter::once(state).chain(template.ancestors(state));
        for holder in around {
            if compensating.contains(&holder) && holder != 0 {
                return true;
            }
            for transition in all_transitions(template, holder) {
                open.extend(&transition.target);
            }
        }
    }
    false
}

fn nothing_to_compensate(found: &mut Found<'_, '_>) {
    let template = found.template();
    let any = template.states.iter().flat_map(|it| &it.invoke).any(|it| it.compensate.is_some());
    if any {
        return;
    }
    let facts = found.facts;
    for acted in facts.actions.iter().filter(|acted| acted.action == "compensate") {
        found.add(
            &code::NOTHING_TO_COMPENSATE,
            &acted.pointer,
            "there is nothing to compensate: no invocation has a `compensate`",
            "give the invocations that have to be undone a `compensate`, or remove the action",
        );
    }
}
