//! One step of an execution: the messages that wait for it, taken in order, and what follows.

mod cause;
mod child;
mod command;
mod compensation;
mod each;
mod incident;
mod judge;
mod macrostep;
mod pause;
mod run;
mod task;

use std::sync::Arc;

use crate::canonical::straight::Straight as _;
use crate::entry::{JournalEntry, Outcome};
use crate::execution::Execution;
use crate::id::Hash;
use crate::json::INTEGER_MAX;
use crate::message::Message;
use crate::template::Template;
use run::Run;

pub use cause::InvalidCause;
pub(crate) use run::Notes;

/// Judges `messages` in order, each against what the ones before it left, and takes those that are
/// to be taken: each in a macrostep of its own, all in one entry.
///
/// What an execution without an entry is given, must be the template that the first message asks
/// for. The same arguments always give the same step; nothing else is read.
#[must_use]
pub fn step(template: &Template, before: &Execution, messages: &[Message]) -> Step {
    step_with(template, before, messages, None)
}

/// As [`step()`]; what is looked at on the way goes to `notes`.
pub(crate) fn step_with(
    template: &Template,
    before: &Execution,
    messages: &[Message],
    notes: Option<&mut Notes>,
) -> Step {
    let mut run = match Run::begin(template, before) {
        Ok(run) => run,
        Err(reason) => {
            let verdicts = messages.iter().map(|_| Verdict::Poison(reason.clone())).collect();
            return Step { verdicts, draft: None };
        }
    };
    run.notes = notes;
    let mut verdicts = Vec::with_capacity(messages.len());
    for message in messages {
        verdicts.push(run.take(message));
        if verdicts.last() == Some(&Verdict::Newer) {
            break;
        }
    }
    run.take_own_sends();
    Step { verdicts, draft: run.finish() }
}

/// What became of one message that was given to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a cause of the step's entry.
    Taken(Outcome),
    /// It was taken before: by this entry, with this outcome, where that is still known.
    Repeat {
        /// The entry that took it.
        seq: Option<u64>,
        /// What became of it then.
        outcome: Option<Outcome>,
    },
    /// A start of an execution that is there already.
    Exists,
    /// A timer or a result that nothing waits for any more.
    Stale,
    /// The execution has ended.
    Closed,
    /// It is paused, and as much waits for it as may.
    DeferredFull,
    /// There is no such execution, and the message does not start one.
    Unknown,
    /// It names an entry or an attempt that is newer than what was loaded: load again from the
    /// leader and judge again. It is always the last verdict.
    Newer,
    /// It cannot be taken and never will: for PLED_DEAD, with this reason.
    Poison(String),
}

/// What came of a step.
#[derive(Debug)]
pub struct Step {
    /// One for each message, in order; fewer where one is [`Verdict::Newer`].
    pub verdicts: Vec<Verdict>,
    /// The entry to be written, if any message was taken.
    pub draft: Option<Draft>,
}

/// An entry that is not sealed yet: all but `prev`, `hash`, `base`, `worker` and `epoch`.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Without state; `state_hash`, `base`, `hash`, `worker` and `epoch` are set by the sealing.
    entry: JournalEntry,
    after: Execution,
    transitions: Vec<u32>,
}

/// Who writes an entry.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The worker's id.
    pub worker: Arc<str>,
    /// The epoch of the partition.
    pub epoch: u64,
}

/// An entry that is ready to be written.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The entry, without the state that its bytes may carry: that is in `after`.
    pub entry: JournalEntry,
    /// Its RFC 8785 bytes, with `hash`.
    pub bytes: Arc<[u8]>,
    /// The execution after it.
    pub after: Execution,
}

/// The largest state, in bytes of its RFC 8785 form, that stands in every entry.
pub const INLINE_BYTES_MAX: usize = 4096;

/// Every how many entries one carries the state however large it is.
pub const BASE_EVERY: u64 = 64;

impl Draft {
    /// The execution as the step leaves it, its `hash` still that of the entry before.
    #[must_use]
    pub fn after(&self) -> &Execution {
        &self.after
    }

    /// The numbers of the template's transitions that the step took, in order: for coverage.
    #[must_use]
    pub fn transitions(&self) -> &[u32] {
        &self.transitions
    }

    /// The entry, not sealed.
    pub(crate) fn entry(&self) -> &JournalEntry {
        &self.entry
    }

    /// As [`Self::after`].
    pub(crate) fn into_after(self) -> Execution {
        self.after
    }

    /// Makes the entry that `writer` is to write.
    ///
    /// `base` is the stream sequence of the newest entry that carries the state; it is named
    /// instead of the state where that is large, but not in every [`BASE_EVERY`]th entry.
    #[must_use]
    pub fn seal(self, writer: &Writer, base: Option<u64>) -> Sealed {
        self.seal_within(writer, base, usize::MAX)
    }

    /// As [`Self::seal`]; a large state is left out of an entry that it would make longer than
    /// `largest` bytes, though that entry's turn to carry it has come.
    #[must_use]
    pub fn seal_within(self, writer: &Writer, base: Option<u64>, largest: usize) -> Sealed {
        let state = self.canonical_state();
        let is_small = state.len() <= INLINE_BYTES_MAX;
        let is_turn = self.entry.seq.is_multiple_of(BASE_EVERY);
        let base = base.filter(|base| exact(*base));
        let mut sealed = self.seal_with(&state, writer, base.filter(|_| !is_small && !is_turn));
        if base.is_some() && is_turn && !is_small && sealed.bytes.len() > largest {
            sealed.entry.base = base;
            sealed.bytes = sealed.entry.seal(None).into();
            sealed.after.hash = sealed.entry.hash;
        }
        sealed
    }

    /// Makes the entry anew that `stored` says it is: with the state where that has it.
    pub(crate) fn seal_like(self, stored: &JournalEntry) -> Sealed {
        let writer = Writer { worker: stored.worker.clone(), epoch: stored.epoch };
        let state = self.canonical_state();
        self.seal_with(&state, &writer, stored.base.filter(|base| exact(*base)))
    }

    /// The hash of the state.
    pub(crate) fn state_hash(&self) -> Hash {
        Hash::of(&self.canonical_state())
    }

    fn canonical_state(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(1024);
        self.after.state.write(&mut state);
        state
    }

    fn seal_with(self, state: &[u8], writer: &Writer, base: Option<u64>) -> Sealed {
        let Self { mut entry, mut after, transitions: _ } = self;
        entry.state_hash = Hash::of(state);
        entry.base = base;
        entry.worker = writer.worker.clone();
        entry.epoch = if exact(writer.epoch) { writer.epoch } else { 0 };
        let bytes = entry.seal(base.is_none().then_some(state));
        after.hash = entry.hash;
        let sealed = Sealed { entry, bytes: bytes.into(), after };
        debug_assert_eq!(
            sealed.whole_entry().encode().as_deref(),
            Ok(&*sealed.bytes),
            "the derived form of an entry and the one written straight"
        );
        sealed
    }
}

impl Sealed {
    /// The entry as its bytes say it, with the state where they carry it.
    #[must_use]
    pub fn whole_entry(&self) -> JournalEntry {
        let state = self.entry.base.is_none().then(|| self.after.state.clone());
        JournalEntry { state, ..self.entry.clone() }
    }
}

/// Whether JSON carries the number exactly.
fn exact(number: u64) -> bool {
    i64::try_from(number).is_ok_and(|number| number <= INTEGER_MAX)
}
