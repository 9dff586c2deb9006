//! One step of an execution: the messages that wait for it, taken in order, and what follows.

use std::sync::Arc;

use crate::canonical;
use crate::entry::{JournalEntry, Outcome};
use crate::execution::Execution;
use crate::id::Hash;
use crate::json::INTEGER_MAX;

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
    /// The entry.
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

    /// Makes the entry that `writer` is to write.
    ///
    /// `base` is the stream sequence of the newest entry that carries the state; it is named
    /// instead of the state where that is large, but not in every [`BASE_EVERY`]th entry.
    ///
    /// # Panics
    /// Never: a step takes no number that has no canonical form.
    #[must_use]
    pub fn seal(self, writer: &Writer, base: Option<u64>) -> Sealed {
        let Self { mut entry, mut after } = self;
        let state = canonical::to_vec(&after.state).expect("a state of exact numbers");
        entry.state_hash = Hash::of(&state);
        let small = state.len() <= INLINE_BYTES_MAX || entry.seq.is_multiple_of(BASE_EVERY);
        entry.base = base.filter(|base| !small && exact(*base));
        entry.worker = writer.worker.clone();
        entry.epoch = if exact(writer.epoch) { writer.epoch } else { 0 };
        let inline = entry.base.is_none();
        let bytes = entry.seal(inline.then_some(&*state)).expect("an entry of exact numbers");
        entry.state = inline.then(|| after.state.clone());
        after.hash = entry.hash;
        Sealed { entry, bytes: bytes.into(), after }
    }
}

/// Whether JSON carries the number exactly.
fn exact(number: u64) -> bool {
    i64::try_from(number).is_ok_and(|number| number <= INTEGER_MAX)
}
