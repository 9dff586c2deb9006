//! Taking the steps of a journal again from their causes alone: the proof that each entry says
//! what its template makes of its messages, and the way from a base to the entries behind it.

use std::fmt;

use serde::Serialize;

use crate::canonical;
use crate::entry::JournalEntry;
use crate::execution::{Execution, State};
use crate::id::{ExecutionId, Hash};
use crate::message::{Message, Source};
use crate::step::{Draft, Notes, Sealed, Verdict, step_with};
use crate::template::Template;

/// What the entries of one execution give.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The execution after the last entry.
    pub execution: Execution,
    /// How many entries there are.
    pub entries: u64,
    /// How many messages they took, sends of the execution to itself included.
    pub causes: u64,
}

/// An entry does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry} of {execution} differs in {field}: expected {expected}, found {found}")]
pub struct Divergence {
    /// The execution.
    pub execution: ExecutionId,
    /// The sequence of the entry, where it stands in order.
    pub entry: u64,
    /// The field, as in the entry's JSON.
    pub field: &'static str,
    /// What it should say, cut at 500 characters.
    pub expected: String,
    /// What it says, cut at 500 characters.
    pub found: String,
}

/// The execution as an entry left it; `None` where the entry does not carry the state.
#[must_use]
pub fn execution_of(entry: &JournalEntry) -> Option<Execution> {
    entry.state.clone().map(|state| after(entry, state))
}

/// The execution after `entries`, which follow on `base` without a gap: takes their steps again.
///
/// # Errors
/// If an entry is not the next one or its state is another than the one that its step gives.
pub fn fold<'e>(
    base: Execution,
    template: &Template,
    entries: impl IntoIterator<Item = &'e JournalEntry>,
) -> Result<Execution, Divergence> {
    entries.into_iter().try_fold(base, |before, entry| {
        follows(&before, entry)?;
        if let Some(execution) = execution_of(entry) {
            return Ok(execution);
        }
        let retaken = retake(template, &before, entry, None)?;
        differ(entry, "state_hash", &retaken.state_hash(), &entry.state_hash)?;
        Ok(Execution { hash: entry.hash, ..retaken.into_after() })
    })
}

/// Takes all steps of an execution again, from its first entry on, and compares everything that
/// was decided, with the chain.
///
/// # Errors
/// With the first difference.
pub fn replay(template: &Template, entries: &[JournalEntry]) -> Result<Replayed, Divergence> {
    let Some(first) = entries.first() else {
        return Err(nothing());
    };
    let mut replayer = Replayer::begin(first.execution.clone());
    for entry in entries {
        replayer.take(template, entry)?;
    }
    let Replayer { before, causes, .. } = replayer;
    Ok(Replayed { entries: before.seq, execution: before, causes })
}

/// Takes the steps of one execution again as its entries come, one after the other, in the memory
/// of one state.
#[derive(Clone, Debug)]
pub struct Replayer {
    before: Execution,
    epoch: u64,
    causes: u64,
}

impl Replayer {
    /// Before the first entry of an execution.
    #[must_use]
    pub fn begin(execution: ExecutionId) -> Self {
        Self { before: Execution::unborn(execution), epoch: 0, causes: 0 }
    }

    /// After an entry that is not to be questioned; `None` where it does not carry the state.
    #[must_use]
    pub fn after(entry: &JournalEntry) -> Option<Self> {
        let before = execution_of(entry)?;
        Some(Self { before, epoch: entry.epoch, causes: 0 })
    }

    /// The execution after the last entry that was taken.
    #[must_use]
    pub fn execution(&self) -> &Execution {
        &self.before
    }

    /// Takes the step of the next entry again.
    ///
    /// # Errors
    /// With the first difference; then the entry counts as not taken.
    pub fn take(&mut self, template: &Template, entry: &JournalEntry) -> Result<(), Divergence> {
        if self.before.seq == 0 {
            differ(entry, "template_hash", &Some(template.hash), &entry.template_hash)?;
        }
        verify_link(&self.before, self.epoch, entry)?;
        differ(entry, "engine", crate::SEMANTICS, &*entry.engine)?;
        let retaken = retake(template, &self.before, entry, None)?.seal_like(entry);
        if !is_same(&retaken, entry) {
            compare(&retaken.whole_entry(), entry)?;
            verify_content(entry)?;
            return Err(divergence(entry, "hash", &retaken.entry.hash, &entry.hash));
        }
        self.before = retaken.after;
        self.epoch = entry.epoch;
        self.causes += u64::try_from(entry.causes.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Checks the chain of an execution from its first entry on: sequences, hashes, times, epochs, and
/// the hashes of the states that stand in it. It needs no template.
///
/// # Errors
/// With the first difference.
pub fn verify_chain(entries: &[JournalEntry]) -> Result<(), Divergence> {
    let Some(first) = entries.first() else {
        return Err(nothing());
    };
    let mut before = Execution::unborn(first.execution.clone());
    let mut epoch = 0;
    for entry in entries {
        verify_link(&before, epoch, entry)?;
        verify_content(entry)?;
        before = after(entry, State::default());
        epoch = entry.epoch;
    }
    Ok(())
}

/// Checks an entry as the one that follows on `before`.
fn verify_link(before: &Execution, epoch: u64, entry: &JournalEntry) -> Result<(), Divergence> {
    follows(before, entry)?;
    if entry.at < before.at {
        return Err(divergence(entry, "at", &format!("{} or later", before.at), &entry.at));
    }
    if entry.epoch < epoch {
        return Err(divergence(entry, "epoch", &format!("{epoch} or higher"), &entry.epoch));
    }
    if let Some(pinned) = &before.template {
        differ(entry, "template", pinned, &entry.template)?;
    }
    if entry.template_hash.is_some() != (entry.seq == 1) {
        let expected = "it in the first entry only";
        return Err(divergence(entry, "template_hash", expected, presence(entry.template_hash)));
    }
    if entry.state.is_some() == entry.base.is_some() {
        let expected = "the sequence of a base where there is no state, and only there";
        return Err(divergence(entry, "base", expected, presence(entry.base)));
    }
    Ok(())
}

/// Checks that an entry says what its writer hashed.
fn verify_content(entry: &JournalEntry) -> Result<(), Divergence> {
    if !entry.verify_hash() {
        let expected = hash_by_content(entry);
        return Err(divergence(entry, "hash", &expected, &entry.hash));
    }
    match &entry.state {
        Some(state) => differ(entry, "state_hash", &hash_of(state), &entry.state_hash),
        None => Ok(()),
    }
}

/// Checks that an entry is the one after `before`.
fn follows(before: &Execution, entry: &JournalEntry) -> Result<(), Divergence> {
    differ(entry, "execution", &before.id, &entry.execution)?;
    differ(entry, "seq", &(before.seq + 1), &entry.seq)?;
    differ(entry, "prev", &before.hash, &entry.prev)
}

/// Takes the step of an entry again; what is looked at on the way goes to `notes`.
pub(crate) fn retake(
    template: &Template,
    before: &Execution,
    entry: &JournalEntry,
    notes: Option<&mut Notes>,
) -> Result<Draft, Divergence> {
    let given = entry.causes.iter().filter(|cause| cause.stream != Source::Own);
    let messages: Result<Vec<Message>, _> =
        given.map(|cause| cause.message(&entry.execution)).collect();
    let messages =
        messages.map_err(|error| divergence(entry, "causes", "messages", &error.to_string()))?;
    let taken = step_with(template, before, &messages, notes);
    let is_taken = |verdict: &Verdict| match verdict {
        Verdict::Taken(_) => true,
        Verdict::Repeat { .. }
        | Verdict::Exists
        | Verdict::Stale
        | Verdict::Closed
        | Verdict::DeferredFull
        | Verdict::Unknown
        | Verdict::Newer
        | Verdict::Poison(_) => false,
    };
    if let Some(verdict) = taken.verdicts.iter().find(|verdict| !is_taken(verdict)) {
        let found = format!("one that is judged {verdict:?}");
        return Err(divergence(entry, "causes", "messages that are taken", &found));
    }
    taken.draft.ok_or_else(|| divergence(entry, "causes", "at least one", "none"))
}

/// Whether the entry is the one that was made anew, in every field.
fn is_same(retaken: &Sealed, entry: &JournalEntry) -> bool {
    let JournalEntry {
        v,
        execution,
        seq,
        template,
        template_hash,
        at,
        prev,
        hash,
        causes,
        transitions,
        effects,
        log,
        status,
        base,
        state_hash,
        state,
        engine,
        worker,
        epoch,
    } = &retaken.entry;
    debug_assert!(state.is_none(), "the state stands beside the entry");
    let same_state = match &entry.state {
        Some(state) => base.is_none() && *state == retaken.after.state,
        None => base.is_some(),
    };
    same_state
        && (v, seq, at, epoch) == (&entry.v, &entry.seq, &entry.at, &entry.epoch)
        && (hash, prev) == (&entry.hash, &entry.prev)
        && (state_hash, template_hash) == (&entry.state_hash, &entry.template_hash)
        && (execution, template) == (&entry.execution, &entry.template)
        && (engine, worker) == (&entry.engine, &entry.worker)
        && (status, base) == (&entry.status, &entry.base)
        && *causes == entry.causes
        && *transitions == entry.transitions
        && *effects == entry.effects
        && *log == entry.log
}

/// Compares what was decided, in the order in which one thing follows from another.
fn compare(retaken: &JournalEntry, entry: &JournalEntry) -> Result<(), Divergence> {
    differ(entry, "template", &retaken.template, &entry.template)?;
    differ(entry, "at", &retaken.at, &entry.at)?;
    differ(entry, "causes", &retaken.causes, &entry.causes)?;
    differ(entry, "transitions", &retaken.transitions, &entry.transitions)?;
    differ(entry, "effects", &retaken.effects, &entry.effects)?;
    differ(entry, "log", &retaken.log, &entry.log)?;
    differ(entry, "status", &retaken.status, &entry.status)?;
    if entry.state.is_some() {
        differ(entry, "state", &retaken.state, &entry.state)?;
    }
    differ(entry, "state_hash", &retaken.state_hash, &entry.state_hash)?;
    differ(entry, "v", &retaken.v, &entry.v)
}

fn after(entry: &JournalEntry, state: State) -> Execution {
    Execution {
        id: entry.execution.clone(),
        seq: entry.seq,
        hash: entry.hash,
        at: entry.at,
        template: Some(entry.template.clone()),
        status: entry.status,
        state,
    }
}

fn hash_of(state: &State) -> Hash {
    canonical::to_vec(state).map_or(Hash::ZERO, |bytes| Hash::of(&bytes))
}

/// There is no execution without an entry.
fn nothing() -> Divergence {
    Divergence {
        execution: "_".parse().expect("a well-formed id"),
        entry: 0,
        field: "seq",
        expected: "an entry".to_owned(),
        found: "none".to_owned(),
    }
}

/// The hash that the entry would have if it were sealed as it is.
fn hash_by_content(entry: &JournalEntry) -> String {
    let mut entry = entry.clone();
    let state = entry.state.as_ref().map(canonical::to_vec).transpose();
    match state.map(|state| entry.seal(state.as_deref())) {
        Ok(_) => entry.hash.to_string(),
        Err(error) => error.to_string(),
    }
}

fn presence<T>(value: Option<T>) -> &'static str {
    if value.is_some() { "one" } else { "none" }
}

fn differ<T: PartialEq + Serialize + ?Sized>(
    entry: &JournalEntry,
    field: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), Divergence> {
    if expected == found {
        return Ok(());
    }
    let text = |value: &T| {
        let bytes = canonical::to_vec(value).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Err(divergence(entry, field, &text(expected), &text(found)))
}

fn divergence<E: fmt::Display + ?Sized, F: fmt::Display + ?Sized>(
    entry: &JournalEntry,
    field: &'static str,
    expected: &E,
    found: &F,
) -> Divergence {
    let cut = |text: String| text.chars().take(500).collect();
    Divergence {
        execution: entry.execution.clone(),
        entry: entry.seq,
        field,
        expected: cut(expected.to_string()),
        found: cut(found.to_string()),
    }
}
