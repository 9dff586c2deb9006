//! The commit: one entry, published with the expected sequence of the entry before.

use crate::entry::{JournalEntry, Outcome};

use super::judge::word;
use super::protocol::{Answer, Loaded, Output, Publish, Published};
use super::slots::{Job, SlotId, Written, weigh_state};
use super::{Mutation, Partition, Pending};

impl Partition {
    /// Publishes the entry that was decided; again after a pause the same bytes.
    pub(super) fn publish_entry(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let Job::Commit(written) = &self.slots[at].job else { return };
        let publish = Publish::Entry {
            execution: self.slots[at].id.clone(),
            expected: written.expected,
            bytes: written.sealed.bytes.clone(),
        };
        let op = self.expect(Pending::Commit(at));
        self.publish(Output::Publish { op, publish }, out);
    }

    pub(super) fn commit_answered(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Published(published) = answer else {
            return self.read_back(at, out);
        };
        match published {
            Published::Stored { stream_seq } => {
                let job = std::mem::replace(&mut self.slots[at].job, Job::Idle);
                if let Job::Commit(written) = job {
                    self.committed(at, *written, stream_seq, out);
                }
            }
            Published::Conflict { last: Some(last) }
                if self.config.leaves_out(Mutation::AppendedAnyway) =>
            {
                if let Job::Commit(written) = &mut self.slots[at].job {
                    written.expected = last;
                    self.publish_entry(at, out);
                }
            }
            Published::Conflict { .. } => {
                self.stats.conflicts += 1;
                self.slots[at].conflicted = true;
                self.read_back(at, out);
            }
            Published::Unknown if self.config.leaves_out(Mutation::UnknownIsCommitted) => {
                let job = std::mem::replace(&mut self.slots[at].job, Job::Idle);
                if let Job::Commit(written) = job {
                    let stream_seq = self.slots[at].seen + 1;
                    self.committed(at, *written, stream_seq, out);
                }
            }
            Published::Unknown => self.read_back(at, out),
            Published::TooLarge => {
                let Job::Commit(written) = &self.slots[at].job else { return };
                let judged = written.verdicts.len();
                self.judge_too_large_written(at, judged, out);
            }
            Published::Full => self.back_off(at, "PLED_JOURNAL is full", out),
            Published::Refused(reason) => {
                self.back_off(at, &format!("its entry is refused: {reason}"), out);
            }
        }
    }

    /// It is not known what is stored: the leader tells.
    fn read_back(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let job = std::mem::replace(&mut self.slots[at].job, Job::Idle);
        let Job::Commit(written) = job else { return };
        self.load(at, true, Some(written), out);
    }

    /// Compares what was written with the newest entry; false if another's is there.
    pub(super) fn found_written(
        &mut self,
        at: SlotId,
        written: Box<Written>,
        newest: Option<&Loaded>,
        out: &mut Vec<Output>,
    ) -> bool {
        match newest {
            Some(newest) if newest.entry.hash == written.sealed.entry.hash => {
                self.slots[at].job = Job::Idle;
                self.committed(at, *written, newest.stream_seq, out);
                true
            }
            _ if newest.map_or(0, |newest| newest.stream_seq) == written.expected => {
                // Nothing came of it, or not yet: the same bytes again, of which one will win.
                self.slots[at].conflicted = false;
                let again_at_once = self.slots[at].attempts == 0;
                self.slots[at].job = Job::Commit(written);
                if again_at_once {
                    self.slots[at].attempts = 1;
                    self.publish_entry(at, out);
                } else {
                    self.back_off(at, "its entry is neither stored nor refused", out);
                }
                true
            }
            _ => false,
        }
    }

    /// The entry is stored: what it says is dispatched, and those who asked are answered.
    fn committed(&mut self, at: SlotId, written: Written, stream_seq: u64, out: &mut Vec<Output>) {
        self.went_on(at);
        let Written { sealed, verdicts, .. } = written;
        let entry = sealed.entry;
        self.journal = self.journal.max(stream_seq);
        self.count(&entry);
        let slot = &mut self.slots[at];
        slot.seen = stream_seq;
        slot.conflicted = false;
        let template = slot.held.take().and_then(|held| {
            self.near.replace(&held.execution, &sealed.after, &entry);
            held.template
        });
        let base = entry.base.unwrap_or(stream_seq);
        let weight = weigh_state(&sealed.after.state);
        let slot = &mut self.slots[at];
        slot.held = Some(super::slots::Held {
            execution: sealed.after,
            stream_seq,
            base: Some(base),
            template,
            weight,
        });
        self.snapshot_later(at);
        self.answer_causes(at, &entry, out);
        self.answer_verdicts(at, &verdicts, out);
        if self.config.leaves_out(Mutation::DoneAtCommit) {
            self.done(at, verdicts.len());
            return self.dispatch(at, entry, 0, false, out);
        }
        self.dispatch(at, entry, verdicts.len(), false, out);
    }

    fn count(&mut self, entry: &JournalEntry) {
        self.stats.entries += 1;
        for cause in &entry.causes {
            self.stats.taken += 1;
            match cause.outcome {
                Outcome::Ignored => self.stats.ignored += 1,
                Outcome::Rejected => self.stats.rejected += 1,
                Outcome::Applied | Outcome::Deferred => {}
            }
        }
    }

    /// Answers those who wait for the outcome of what an entry took, the newest of the execution.
    pub(super) fn answer_causes(
        &mut self,
        at: SlotId,
        entry: &JournalEntry,
        out: &mut Vec<Output>,
    ) {
        for cause in &entry.causes {
            if let Some(subject) = &cause.reply {
                let outcome = word(cause.outcome);
                let reply =
                    self.reply(at, subject.clone(), outcome, Some(entry.seq), cause.error.clone());
                self.publish(Output::Reply(reply), out);
            }
        }
    }
}
