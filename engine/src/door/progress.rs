//! How far an ingest partition is done.

use std::collections::BTreeMap;

/// Events that are open, by sequence, and how far all others are done.
#[derive(Debug)]
pub(super) struct Progress {
    /// For each open event, how much of it is not stored yet.
    open: BTreeMap<u64, usize>,
    /// The first sequence that was not seen.
    seen: u64,
}

impl Progress {
    pub(super) fn new(next: u64) -> Self {
        Self { open: BTreeMap::new(), seen: next }
    }

    /// Whether the event at a sequence was begun before.
    pub(super) fn was_seen(&self, seq: u64) -> bool {
        seq < self.seen
    }

    /// Takes an event that has so many parts to be stored.
    pub(super) fn begin(&mut self, seq: u64, parts: usize) {
        self.seen = self.seen.max(seq + 1);
        if parts > 0 {
            self.open.insert(seq, parts);
        }
    }

    /// An open event has one part more.
    pub(super) fn add_part(&mut self, seq: u64) {
        *self.open.entry(seq).or_default() += 1;
    }

    /// One part of an event is stored.
    pub(super) fn part_done(&mut self, seq: u64) {
        if let Some(parts) = self.open.get_mut(&seq) {
            *parts -= 1;
            if *parts == 0 {
                self.open.remove(&seq);
            }
        }
    }

    /// The stream holds nothing more of this partition up to `last`.
    pub(super) fn caught_up(&mut self, last: u64) {
        self.seen = self.seen.max(last + 1);
    }

    /// Everything below is done.
    pub(super) fn next(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.seen)
    }

    /// The first sequence that was not seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_waits_for_every_part_of_the_oldest_event() {
        let mut progress = Progress::new(5);

        progress.begin(7, 2);
        progress.begin(9, 1);
        assert!(progress.was_seen(7) && !progress.was_seen(10));
        progress.part_done(9);
        progress.part_done(7);
        assert_eq!((progress.next(), progress.open()), (7, 1));

        progress.part_done(7);
        assert_eq!(progress.next(), 10);
        progress.caught_up(20);
        assert_eq!(progress.next(), 21);
    }
}
