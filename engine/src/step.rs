//! One step of an execution: the messages that wait for it, taken in order, and what follows.

use std::sync::Arc;

use crate::entry::{JournalEntry, Outcome};
use crate::execution::Execution;

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
#[derive(Debug)]
pub struct Draft {
    // private
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
