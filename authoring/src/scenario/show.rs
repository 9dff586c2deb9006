//! What happened, for a person at a terminal.

use std::sync::Arc;

use pled_engine::entry::Outcome;
use pled_engine::execution::Status;
use pled_engine::message::Millis;
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};

use super::moment::{Happening, Moment, element};
use super::world::World;

/// A moment as lines: what was taken, the way of the configuration, the context's changes, and
/// what is to be done. The first one of a command says nothing of its cause, which was typed; what
/// came by itself is told with its time.
pub(super) fn moment(moment: &Moment, template: &Template, is_first: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let ignored = moment.outcome == Outcome::Ignored;
    if !is_first || ignored || moment.error.is_some() {
        let mut line = format!("at {}  {}", duration(moment.at), moment.cause);
        if is_first {
            line.clone_from(&moment.cause);
        }
        match (&moment.error, ignored) {
            (Some(error), _) => line.push_str(&format!(" was rejected: {error}")),
            (None, true) => line.push_str(" was ignored: nothing here handles it"),
            (None, false) => {}
        }
        lines.push(format!("  {line}"));
    }
    if moment.from != moment.to {
        let from = leaves(template, &moment.from);
        let arrow = if from.is_empty() { String::new() } else { format!("{from} -> ") };
        lines.push(labelled("state", &format!("{arrow}{}", leaves(template, &moment.to))));
    }
    for line in context_diff(&moment.before, &moment.context) {
        lines.push(labelled("context", &line));
    }
    lines.extend(moment.log.iter().map(|line| labelled("log", &line.to_string())));
    lines.extend(moment.effects.iter().filter_map(|effect| happening(effect, moment.at, template)));
    for incident in &moment.incidents {
        lines.push(labelled("incident", &format!("{incident}: nothing handled it")));
    }
    lines
}

fn happening(effect: &Happening, now: Millis, template: &Template) -> Option<String> {
    Some(match effect {
        Happening::Task { invocation, index, action, input, attempt } => {
            let attempt = if *attempt == 1 { String::new() } else { format!(" #{attempt}") };
            match invocation {
                Some(id) => {
                    let id = element(id, *index);
                    labelled("invoke", &format!("{id}{attempt} ({action}) {input}"))
                }
                None => labelled("action", &format!("{action}{attempt} {input}")),
            }
        }
        Happening::Cancel { name } => labelled("cancel", name),
        Happening::Timer { name, due } => {
            let name = timer(name, template);
            labelled("timer", &format!("{name} in {}", duration(due - now)))
        }
        // The end of a state's timers goes without saying.
        Happening::TimerCancel { .. } => return None,
        Happening::Send { to, event, data } => {
            let to = to.as_deref().unwrap_or("itself");
            labelled("send", &format!("{event} to {to} {data}"))
        }
    })
}

/// Where the execution stands: state, context, what it waits for.
pub(super) fn standing(world: &World) -> Vec<String> {
    let execution = world.execution();
    let template = world.template();
    let mut lines = vec![
        labelled("status", execution.status.as_str()),
        labelled("state", &leaves(template, &execution.state.configuration)),
    ];
    for (key, value) in &execution.state.context {
        lines.push(labelled("context", &format!("{key} {value}")));
    }
    for task in execution.state.tasks.values() {
        let name = super::moment::name_of(task);
        let of = task.retry.as_ref().map_or(1, |retry| retry.max_attempts);
        let waits = task.not_before.map_or_else(String::new, |due| {
            format!(", waits {} for it", duration(due - world.now()))
        });
        let attempt = format!("attempt {} of {of}{waits}", task.attempt);
        lines.push(labelled("waits for", &format!("{name} ({}), {attempt}", task.action)));
    }
    for (due, name) in world.timers() {
        let name = timer(&name, template);
        lines.push(labelled("timer", &format!("{name} in {}", duration(due - world.now()))));
    }
    for incident in execution.state.incidents.values() {
        let what = format!("{}: {}", incident.event, incident.failure.code);
        lines.push(labelled("incident", &what));
    }
    lines.extend(end(world));
    lines
}

/// How an execution ended, if it did.
pub(super) fn end(world: &World) -> Vec<String> {
    let state = &world.execution().state;
    let mut lines = Vec::new();
    if let Some(error) = &state.error {
        lines.push(labelled("error", &format!("{}: {}", error.code, error.message)));
    }
    if world.execution().status == Status::Done && !state.output.is_null() {
        lines.push(labelled("output", &state.output.to_string()));
    }
    lines
}

pub(super) fn labelled(label: &str, text: &str) -> String {
    format!("  {label:<9} {text}").trim_end().to_owned()
}

/// Ids of leaves without the template's name before them.
pub(super) fn leaves(template: &Template, ids: &[Arc<str>]) -> String {
    ids.iter().map(|id| short(template, id)).collect::<Vec<_>>().join(", ")
}

pub(super) fn short<'i>(template: &Template, id: &'i str) -> &'i str {
    let rest = id.strip_prefix(template.name.as_str()).and_then(|rest| rest.strip_prefix('.'));
    rest.unwrap_or(id)
}

/// `after.90000.order.waiting` without the template's name.
fn timer(name: &str, template: &Template) -> String {
    match name.strip_prefix("after.").and_then(|rest| rest.split_once('.')) {
        Some((delay, state)) => format!("after {delay} of {}", short(template, state)),
        None => name.to_owned(),
    }
}

/// `key before -> after` for each top-level key that changed.
fn context_diff(before: &Object, after: &Object) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in after {
        match before.get(key) {
            Some(old) if old == value => {}
            Some(old) => lines.push(format!("{key} {old} -> {value}")),
            None => lines.push(format!("{key} {value}")),
        }
    }
    let gone = before.iter().filter(|(key, _)| after.get(key).is_none());
    lines.extend(gone.map(|(key, old)| format!("{key} {old} -> {}", Value::Null)));
    lines
}

/// `1h 30m`, `5s`, `1.5s`, `0s`.
#[must_use]
pub fn duration(ms: Millis) -> String {
    if ms < 0 {
        return format!("-{}", duration(ms.saturating_neg()));
    }
    let mut rest = ms;
    let mut parts = Vec::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)] {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    let (seconds, millis) = (rest / 1_000, rest % 1_000);
    if millis > 0 {
        let fraction = format!("{millis:03}");
        parts.push(format!("{seconds}.{}s", fraction.trim_end_matches('0')));
    } else if seconds > 0 || parts.is_empty() {
        parts.push(format!("{seconds}s"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::duration;
    use crate::scenario::duration_ms;

    #[test]
    fn durations_are_told_in_their_largest_units() {
        let times = [0, 5_000, 1_500, 90_000, 3_600_000, 694_861_010];
        let told = times.map(duration);
        assert_eq!(told, ["0s", "5s", "1.5s", "1m 30s", "1h", "8d 1h 1m 1.01s"]);
        assert_eq!(told.map(|text| duration_ms(&text)), times.map(Some));
    }

    #[test]
    fn what_is_no_time_is_none() {
        let wrong = ["", "5", "s", "1.5h", "1.2345s", "-1s", "5 s", "9999999999d", "1x"];
        assert_eq!(wrong.map(duration_ms), [None; 9]);
    }
}
