//! Why a step went as it did: the transitions that could have been taken, which guard decided, and
//! the value of each of its operands.
//!
//! The step is taken again by the same code, which this time says what it looks at.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use serde::Serialize;

use crate::effect::EffectKind;
use crate::entry::{Cause, JournalEntry, Outcome};
use crate::execution::{Execution, Status};
use crate::expression::{Trace, shown};
use crate::id::{EventType, ExecutionId, Token};
use crate::replay::{Divergence, fold, retake};
use crate::step::Notes;
use crate::template::Template;
use crate::value::Object;

pub use crate::statechart::{Candidate, Choice, Fate, Round, Stimulus};

/// Why an entry says what it says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The execution.
    pub execution: ExecutionId,
    /// The entry's sequence.
    pub entry: u64,
    /// Ids of the active leaf states before.
    pub from: Vec<Arc<str>>,
    /// Ids of the active leaf states after.
    pub to: Vec<Arc<str>>,
    /// The status after.
    pub status: Status,
    /// What was taken, in order, with what each one set going.
    pub causes: Vec<Taken>,
    /// The members of the context that changed.
    pub context: Vec<Change>,
    /// What is to be done, a line each.
    pub effects: Vec<String>,
}

/// A cause of an entry, and what it set going.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Taken {
    /// Its type.
    #[serde(rename = "type")]
    pub cause_type: EventType,
    /// The task of a result, or the timer that fired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The selections of transitions, in order.
    pub rounds: Vec<Round>,
}

/// A member of the context that changed, its values shortened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its key.
    pub key: Arc<str>,
    /// Its value before; `None`: it was not there.
    pub before: Option<String>,
    /// Its value after; `None`: it is gone.
    pub after: Option<String>,
}

/// Why entry `seq` of an execution, whose `entries` begin with the first, says what it says. `None`
/// if there is no such entry.
///
/// # Errors
/// If the entries are not what their template makes of their causes.
pub fn of_entry(
    template: &Template,
    entries: &[JournalEntry],
    seq: u64,
) -> Result<Option<Why>, Divergence> {
    let Some(at) = entries.iter().position(|entry| entry.seq == seq) else { return Ok(None) };
    let entry = &entries[at];
    let before = fold(Execution::unborn(entry.execution.clone()), template, &entries[..at])?;
    let mut notes = Notes::default();
    let draft = retake(template, &before, entry, Some(&mut notes))?;
    let (retaken, after) = (draft.entry(), draft.after());
    let rounds = notes.of_causes.into_iter().chain(std::iter::repeat_with(Vec::new));
    // The first entry changes what the template says.
    let context = if at == 0 { &template.context } else { &before.state.context };
    Ok(Some(Why {
        execution: entry.execution.clone(),
        entry: seq,
        from: before.state.configuration.clone(),
        to: after.state.configuration.clone(),
        status: after.status,
        causes: retaken.causes.iter().zip(rounds).map(Taken::of).collect(),
        context: changes(context, &after.state.context),
        effects: retaken.effects.iter().map(|effect| described(&effect.kind)).collect(),
    }))
}

/// The members that differ, in the order of their keys.
#[must_use]
pub fn changes(before: &Object, after: &Object) -> Vec<Change> {
    let gone = before.iter().filter(|(key, _)| after.get(key).is_none());
    let gone = gone.map(|(key, value)| (key, Some(value), None));
    let now = after.iter().map(|(key, value)| (key, before.get(key), Some(value)));
    let mut changes: Vec<Change> = gone
        .chain(now)
        .filter(|(_, before, after)| before != after)
        .map(|(key, before, after)| Change {
            key: key.clone(),
            before: before.map(shown),
            after: after.map(shown),
        })
        .collect();
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn described(effect: &EffectKind) -> String {
    // The members of an effect are as many words as it needs.
    let value = serde_json::to_value(effect).unwrap_or_default();
    let word = |key: &str| {
        let word = value.get(key)?;
        Some(word.as_str().map_or_else(|| word.to_string(), str::to_owned))
    };
    let mut words = vec![word("kind").unwrap_or_default().replace('_', " ")];
    for key in ["action", "task", "attempt", "timer", "due", "to", "event"] {
        words.extend(word(key).map(|word| format!("{key} {word}")));
    }
    words.join(", ")
}

impl Taken {
    fn of((cause, rounds): (&Cause, Vec<Round>)) -> Self {
        Self {
            cause_type: cause.cause_type.clone(),
            token: cause.token,
            outcome: cause.outcome,
            error: cause.error.clone(),
            rounds,
        }
    }
}

impl Display for Why {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { execution, entry, from, to, status, .. } = self;
        let from = if from.is_empty() { "(not started)".to_owned() } else { joined(from) };
        writeln!(
            formatter,
            "{execution}, entry {entry}: {from} → {}, {}",
            joined(to),
            status.as_str()
        )?;
        for cause in &self.causes {
            writeln!(formatter)?;
            cause.fmt(formatter)?;
        }
        if !self.context.is_empty() {
            writeln!(formatter, "\ncontext")?;
        }
        for change in &self.context {
            writeln!(formatter, "  {change}")?;
        }
        if !self.effects.is_empty() {
            writeln!(formatter, "\neffects")?;
        }
        self.effects.iter().try_for_each(|effect| writeln!(formatter, "  {effect}"))
    }
}

impl Display for Taken {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.cause_type)?;
        if let Some(token) = &self.token {
            write!(formatter, " {token}")?;
        }
        match (&self.outcome, &self.error) {
            (Outcome::Applied, None) => writeln!(formatter, " was applied")?,
            (Outcome::Ignored, None) => writeln!(formatter, " was ignored")?,
            (Outcome::Deferred, None) => writeln!(formatter, " waits until it is resumed")?,
            (_, Some(error)) => writeln!(formatter, " was rejected: {error}")?,
            (Outcome::Rejected, None) => writeln!(formatter, " was rejected")?,
        }
        self.rounds.iter().try_for_each(|round| round.fmt(formatter))
    }
}

impl Display for Change {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(absent)".to_owned());
        write!(formatter, "{}: {} → {}", self.key, text(&self.before), text(&self.after))
    }
}

impl Display for Round {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let place = joined(&self.configuration);
        match &self.stimulus {
            Stimulus::Start => writeln!(formatter, "  start: the initial states are entered")?,
            Stimulus::Event(event) => writeln!(formatter, "  event {event} in {place}")?,
            Stimulus::Eventless => writeln!(formatter, "  without an event, in {place}")?,
        }
        for candidate in &self.candidates {
            candidate.fmt(formatter)?;
        }
        if self.candidates.is_empty() && matches!(self.stimulus, Stimulus::Event(_)) {
            let listening = match &*self.listening {
                [] => "nothing".to_owned(),
                descriptors => descriptors.join(", "),
            };
            writeln!(
                formatter,
                "    no transition matches it; these states listen to {listening}"
            )?;
        }
        self.choices.iter().try_for_each(|choice| {
            writeln!(formatter, "    choose {}", choice.pointer)?;
            write_trace(&choice.guard, 6, formatter)
        })
    }
}

impl Display for Candidate {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { state, descriptor, pointer, target, fate, guard } = self;
        let sign = if *fate == Fate::Taken { "✓" } else { "✗" };
        let target = if target.is_empty() { "(stays)".to_owned() } else { joined(target) };
        writeln!(formatter, "    {sign} {state}: {descriptor} → {target}   {pointer}")?;
        match fate {
            Fate::Taken if guard.is_none() => writeln!(formatter, "      taken: it has no guard")?,
            Fate::Taken => writeln!(formatter, "      taken: its guard holds")?,
            Fate::GuardFalse => writeln!(formatter, "      its guard does not hold")?,
            Fate::GuardFailed => writeln!(formatter, "      its guard has no value")?,
            Fate::After(other) => writeln!(formatter, "      not asked: {other} comes before it")?,
            Fate::Within(state) => {
                writeln!(formatter, "      not asked: {state}, within it, goes first")?;
            }
            Fate::Conflict(other) => writeln!(formatter, "      dropped: {other} goes first")?,
        }
        guard.as_ref().map_or(Ok(()), |guard| write_trace(guard, 8, formatter))
    }
}

fn write_trace(trace: &Trace, indent: usize, formatter: &mut Formatter<'_>) -> fmt::Result {
    let Trace { what, value, error, operands, unasked, omitted } = trace;
    write!(formatter, "{:indent$}", "")?;
    match (what.is_empty(), value, error) {
        (true, Some(value), _) => writeln!(formatter, "{value}")?,
        (false, Some(value), _) => writeln!(formatter, "{what} = {value}")?,
        // It is told where it arose.
        (_, None, Some(_)) if operands.iter().any(|operand| operand.error.is_some()) => {
            writeln!(formatter, "{what} has no value")?;
        }
        (_, None, Some(error)) => writeln!(formatter, "{what} has no value: {error}")?,
        (_, None, None) => writeln!(formatter, "{what}")?,
    }
    let deeper = indent + 2;
    operands.iter().try_for_each(|operand| write_trace(operand, deeper, formatter))?;
    if *unasked > 0 {
        writeln!(formatter, "{:deeper$}({unasked} more not asked)", "")?;
    }
    if *omitted > 0 {
        writeln!(formatter, "{:deeper$}({omitted} more not shown)", "")?;
    }
    Ok(())
}

fn joined(ids: &[Arc<str>]) -> String {
    ids.iter().map(|id| &**id).collect::<Vec<_>>().join(" + ")
}
