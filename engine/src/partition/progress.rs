//! How far one input stream is done.

use std::collections::{BTreeMap, BTreeSet};

use super::protocol::{AsideVerdict, InputPosition, StreamFacts};
use super::slots::Aside;

/// What arrived, what of it is not done yet, and how far the stream is known to reach.
#[derive(Debug, Default)]
pub(super) struct Progress {
    generation: u64,
    /// All below arrived, or is not for this partition.
    next: u64,
    /// What arrived and is not done.
    open: BTreeSet<u64>,
    /// What of that is to be set aside.
    aside: BTreeMap<u64, Aside>,
    /// How far the stream is known to reach.
    last: u64,
}

impl Progress {
    /// Where a position left off; a stream that it does not know begins at its first message.
    pub(super) fn resume(position: Option<&InputPosition>, facts: StreamFacts) -> Self {
        match position {
            Some(position) => Self {
                generation: position.generation,
                next: position.next.max(1),
                open: position.open.iter().copied().collect(),
                aside: position.aside.iter().map(verdict).collect(),
                last: facts.last,
            },
            None => {
                Self { generation: facts.generation, next: 1, last: facts.last, ..Self::default() }
            }
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = u64> {
        self.open.iter().copied()
    }

    /// How far the stream is known to reach.
    pub(super) fn last(&self) -> u64 {
        self.last.max(self.next.saturating_sub(1))
    }

    pub(super) fn reaches(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// Takes note of a message; false if it arrived before.
    pub(super) fn arrive(&mut self, seq: u64) -> bool {
        if seq < self.next {
            return false;
        }
        self.next = seq + 1;
        self.open.insert(seq)
    }

    /// Takes note that nothing is pending up to `last`; false if that is no news.
    pub(super) fn catch_up(&mut self, last: u64) -> bool {
        if last < self.next {
            return false;
        }
        self.next = last + 1;
        true
    }

    pub(super) fn done(&mut self, seq: u64) {
        self.open.remove(&seq);
        self.aside.remove(&seq);
    }

    /// Takes note that an open message is to be set aside.
    pub(super) fn set_aside(&mut self, seq: u64, aside: Aside) {
        self.aside.insert(seq, aside);
    }

    /// Why an open message is to be set aside, if it is.
    pub(super) fn aside(&self, seq: u64) -> Option<&Aside> {
        self.aside.get(&seq)
    }

    /// Whether a message was done, which means that the entry that took it was dispatched. One of
    /// a life that was lost was: recovery has dispatched again what had to be.
    pub(super) fn is_done(&self, generation: u64, seq: u64) -> bool {
        generation < self.generation
            || generation == self.generation && seq < self.next && !self.open.contains(&seq)
    }

    pub(super) fn position(&self) -> InputPosition {
        InputPosition {
            generation: self.generation,
            next: self.next,
            open: self.open.iter().copied().collect(),
            aside: self.aside.iter().map(written).collect(),
        }
    }
}

fn verdict(AsideVerdict { seq, reason, detail }: &AsideVerdict) -> (u64, Aside) {
    (*seq, Aside { reason: *reason, detail: detail.clone() })
}

fn written((seq, Aside { reason, detail }): (&u64, &Aside)) -> AsideVerdict {
    AsideVerdict { seq: *seq, reason: *reason, detail: detail.clone() }
}
