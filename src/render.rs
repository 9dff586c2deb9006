//! What a person sees of an execution.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::entry::{Cause, JournalEntry, Outcome};
use pled_engine::id::Token;
use pled_engine::message::Source;
use pled_engine::value::Value;

/// One line of an execution's story: a cause, or what follows from the causes of an entry.
pub(crate) struct Line {
    /// Milliseconds since the execution's first entry.
    pub(crate) after_ms: i64,
    /// The entry.
    pub(crate) seq: u64,
    /// What came.
    pub(crate) event: String,
    /// `from -> to`, where the configuration changed.
    pub(crate) transition: String,
    /// What is to be done, or what came of it.
    pub(crate) actions: String,
}

/// The story of an execution, from its entries in order.
pub(crate) fn story(entries: &[JournalEntry]) -> Vec<Line> {
    let begin = entries.first().map_or(0, |entry| entry.at);
    let mut names: BTreeMap<Token, Arc<str>> = BTreeMap::new();
    let mut lines = Vec::new();
    for entry in entries {
        let mut moves = entry.transitions.iter();
        for cause in &entry.causes {
            let took = cause.outcome == Outcome::Applied && moves_configuration(cause);
            let transition = if took { moves.next() } else { None };
            lines.push(Line {
                after_ms: cause.time.max(begin) - begin,
                seq: entry.seq,
                event: match transition {
                    Some(step) if cause.cause_type.as_str() == "pled.timer" => {
                        step.event.to_string()
                    }
                    _ => cause_text(cause, &names),
                },
                transition: transition
                    .map(|step| format!("{} -> {}", leaves(&step.from), leaves(&step.to)))
                    .unwrap_or_default(),
                actions: String::new(),
            });
        }
        for step in moves {
            if let Some(line) = lines.last_mut().filter(|line| line.transition.is_empty()) {
                line.transition = format!("{} -> {}", leaves(&step.from), leaves(&step.to));
            }
        }
        for effect in &entry.effects {
            match &effect.kind {
                EffectKind::Task(task) => drop(names.insert(task.task, task.action.clone())),
                EffectKind::ChildStart(start) => {
                    names.insert(start.task, format!("child {}", start.invocation).into());
                }
                EffectKind::TaskCancel { .. }
                | EffectKind::TimerSet { .. }
                | EffectKind::TimerCancel { .. }
                | EffectKind::Send { .. }
                | EffectKind::ChildCancel { .. }
                | EffectKind::ChildDone { .. } => {}
            }
        }
        if let Some(line) = lines.last_mut() {
            line.actions = effects_text(entry, &names);
        }
    }
    lines
}

/// A result or a timer may end or retry a task without any transition.
fn moves_configuration(cause: &Cause) -> bool {
    match cause.stream {
        Source::Events | Source::Own => true,
        Source::Signals | Source::Timers => cause.outcome == Outcome::Applied,
    }
}

fn cause_text(cause: &Cause, names: &BTreeMap<Token, Arc<str>>) -> String {
    let action = cause.token.and_then(|token| names.get(&token)).map_or("task", |name| &**name);
    let attempt = cause.attempt.unwrap_or(1);
    let sender = cause.sender.as_ref().map_or("", |(sender, _, _)| sender);
    let mut text = match cause.cause_type.as_str() {
        "pled.child" if cause.data.get("ok").and_then(Value::as_bool) == Some(true) => {
            format!("{action} done")
        }
        "pled.child" => format!("{action} failed: {}", error_code(cause)),
        "pled.init" if cause.depth.is_some() => format!("pled.init of {sender}"),
        "pled.cancel" if cause.token.is_some() => format!("pled.cancel of {sender}"),
        "pled.result" if cause.data.get("ok").and_then(Value::as_bool) == Some(true) => {
            format!("{action} #{attempt} ok")
        }
        "pled.result" => format!("{action} #{attempt} failed: {}", error_code(cause)),
        "pled.started" => format!("{action} #{attempt} picked up"),
        "pled.timer" => "timer of a task".to_owned(),
        other => other.to_owned(),
    };
    match cause.outcome {
        Outcome::Applied => {}
        Outcome::Ignored => text.push_str(" (ignored)"),
        Outcome::Deferred => text.push_str(" (deferred)"),
        Outcome::Rejected => {
            let _ = write!(text, " (rejected: {})", cause.error.as_deref().unwrap_or("no reason"));
        }
    }
    text
}

fn error_code(cause: &Cause) -> &str {
    let code = cause.data.get("error").and_then(|error| error.get("code"));
    code.and_then(Value::as_str).unwrap_or("error")
}

fn effects_text(entry: &JournalEntry, names: &BTreeMap<Token, Arc<str>>) -> String {
    let mut parts = Vec::new();
    for effect in &entry.effects {
        match &effect.kind {
            EffectKind::Task(task) => parts.push(format!("do {} #{}", task.action, task.attempt)),
            EffectKind::TaskCancel { task, attempt } => {
                let action = names.get(task).map_or("task", |name| &**name);
                parts.push(format!("cancel {action} #{attempt}"));
            }
            EffectKind::TimerSet { due, .. } => {
                parts.push(format!("timer in {} ms", due - entry.at));
            }
            EffectKind::TimerCancel { .. } => {}
            EffectKind::Send { to, event, .. } => parts.push(format!("send {event} to {to}")),
            EffectKind::ChildStart(start) => {
                parts.push(format!("start {} as {}", start.template, start.child));
            }
            EffectKind::ChildCancel { child, .. } => parts.push(format!("cancel {child}")),
            EffectKind::ChildDone { parent, error: None, .. } => {
                parts.push(format!("done for {parent}"));
            }
            EffectKind::ChildDone { parent, error: Some(error), .. } => {
                parts.push(format!("{} for {parent}", error.code));
            }
        }
    }
    if entry.status.is_terminal() {
        parts.push(entry.status.as_str().to_owned());
    }
    parts.join(", ")
}

/// Leaf ids in one word; nothing before the start.
pub(crate) fn leaves(ids: &[Arc<str>]) -> String {
    match ids {
        [] => "·".to_owned(),
        [one] => one.to_string(),
        many => format!("{{{}}}", many.iter().map(|id| &**id).collect::<Vec<_>>().join(", ")),
    }
}

/// The lines as a table, columns as wide as they need.
pub(crate) fn table(lines: &[Line]) -> String {
    let width = |column: fn(&Line) -> &String, most: usize| {
        lines.iter().map(|line| column(line).chars().count()).max().unwrap_or(0).min(most)
    };
    let event = width(|line| &line.event, 44);
    let transition = width(|line| &line.transition, 60);
    let mut text = String::new();
    for line in lines {
        let seconds = line.after_ms / 1_000;
        let millis = line.after_ms % 1_000;
        let row = format!(
            "{seconds:>4}.{millis:03} s  {:>3}  {:<event$}  {:<transition$}  {}",
            line.seq, line.event, line.transition, line.actions
        );
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}
