//! Timers that are fired in process at their due time, and snapshots, which are late on purpose.
//!
//! The native schedules fire up to a quarter of a second late, and are there whatever happens to
//! a worker. So firing here is a matter of promptness: one message fires a timer and takes back
//! its schedule; nothing waits for its answer, and a timer that is not held here loses nothing.

use std::collections::BTreeSet;

use crate::effect::EffectKind;
use crate::entry::JournalEntry;
use crate::execution::Execution;
use crate::id::{ExecutionId, Token};
use crate::message::{Body, Message, Millis};

use super::protocol::{Answer, Output, Publish, Published, Snapshot};
use super::slots::{Job, SlotId};
use super::{Mutation, Op, Partition, Pending};

/// The earliest timers of the executions that were seen.
#[derive(Debug)]
pub(super) struct NearTimers {
    max: usize,
    timers: BTreeSet<(Millis, ExecutionId, Token)>,
}

impl NearTimers {
    pub(super) fn new(max: usize) -> Self {
        Self { max, timers: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn next_due(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _, _)| *due)
    }

    pub(super) fn insert(&mut self, due: Millis, execution: &ExecutionId, timer: Token) {
        self.timers.insert((due, execution.clone(), timer));
        if self.timers.len() > self.max {
            self.timers.pop_last();
        }
    }

    /// Takes in the timers of an execution that was loaded. What is past due is left to its
    /// schedule, which most likely fired it.
    pub(super) fn load(&mut self, execution: &Execution, wall: Millis) {
        for (token, timer) in &execution.state.timers {
            if timer.due > wall {
                self.insert(timer.due, &execution.id, *token);
            }
        }
    }

    /// Forgets the timers that an entry took back or took.
    pub(super) fn replace(&mut self, before: &Execution, after: &Execution, entry: &JournalEntry) {
        let fired = entry.causes.iter().filter_map(|cause| cause.token);
        let cancelled = entry.effects.iter().filter_map(|effect| match &effect.kind {
            EffectKind::TimerCancel { timer } => Some(*timer),
            EffectKind::Task(_)
            | EffectKind::TaskCancel { .. }
            | EffectKind::TimerSet { .. }
            | EffectKind::Send { .. }
            | EffectKind::ChildStart(_)
            | EffectKind::ChildCancel { .. }
            | EffectKind::ChildDone { .. } => None,
        });
        for token in fired.chain(cancelled) {
            if let Some(timer) = before.state.timers.get(&token)
                && !after.state.timers.contains_key(&token)
            {
                self.timers.remove(&(timer.due, before.id.clone(), token));
            }
        }
    }

    fn pop_due(&mut self, wall: Millis) -> Option<(Millis, ExecutionId, Token)> {
        if self.next_due()? > wall {
            return None;
        }
        self.timers.pop_first()
    }
}

/// How many timers are fired at one input.
const FIRE_MAX: usize = 256;

/// Names publishes for whose answer nothing waits.
const NOBODY: Op = 0;

impl Partition {
    pub(super) fn fire_due(&mut self, out: &mut Vec<Output>) {
        if self.recompare.is_some() {
            return;
        }
        for _ in 0..FIRE_MAX {
            let Some((due, execution, timer)) = self.near.pop_due(self.now.wall) else { return };
            // It may have fired by its schedule, or been taken back over another's entry.
            if let Some(slot) = self.slots.find(&execution)
                && let Some(held) = &slot.held
                && !held.execution.state.timers.contains_key(&timer)
            {
                continue;
            }
            self.stats.fired += 1;
            let publish = Publish::TimerFire { execution, timer, due };
            out.push(Output::Publish { op: NOBODY, publish });
        }
    }

    /// The timer of a firing that was stored before it was due by the server's clock, and when it is
    /// due: that clock was put back after it was asked.
    pub(super) fn early(&self, at: SlotId, message: &Message) -> Option<(Token, Millis)> {
        let Body::Fired { timer } = message.body else { return None };
        let timers = &self.slots[at].held.as_ref()?.execution.state.timers;
        let due = timers.get(&timer)?.due;
        (message.time < due && !self.config.leaves_out(Mutation::EarlyTaken))
            .then_some((timer, due))
    }

    /// Sets the timer in front again. It is left to its schedule, for what is known here of the
    /// server's clock was wrong.
    pub(super) fn set_again(
        &mut self,
        at: SlotId,
        timer: Token,
        due: Millis,
        out: &mut Vec<Output>,
    ) {
        self.slots[at].job = Job::SetAgain { timer, due };
        self.publish_set_again(at, out);
    }

    pub(super) fn publish_set_again(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let Job::SetAgain { timer, due } = self.slots[at].job else { return };
        let publish = Publish::TimerSet { execution: self.slots[at].id.clone(), timer, due };
        let op = self.expect(Pending::SetAgain(at));
        self.publish(Output::Publish { op, publish }, out);
    }

    pub(super) fn set_again_answered(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        if !matches!(answer, Answer::Published(Published::Stored { .. })) {
            return self.back_off(at, "a timer that fired early cannot be set again", out);
        }
        self.went_on(at);
        self.slots[at].job = Job::Idle;
        self.stats.early += 1;
        self.done(at, 1);
        self.advance(at, out);
    }

    /// Lets the snapshot of an execution be written a little later, so that one of several entries
    /// is enough.
    pub(super) fn snapshot_later(&mut self, at: SlotId) {
        let after = self.config.snapshot_after_ms;
        let slot = &mut self.slots[at];
        if after > 0 && !slot.snapshot_due {
            slot.snapshot_due = true;
            self.snapshots.push_back((self.now.monotonic + after, at));
        }
    }

    pub(super) fn snapshots_due(&mut self, out: &mut Vec<Output>) {
        while let Some(&(due, at)) = self.snapshots.front() {
            if due > self.now.monotonic {
                break;
            }
            self.snapshots.pop_front();
            self.write_snapshot(at, out);
        }
    }

    pub(super) fn all_snapshots(&mut self, out: &mut Vec<Output>) {
        for (_, at) in std::mem::take(&mut self.snapshots) {
            self.write_snapshot(at, out);
        }
    }

    pub(super) fn write_snapshot(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let slot = &mut self.slots[at];
        if !std::mem::take(&mut slot.snapshot_due) {
            return;
        }
        let Some(held) = &slot.held else { return };
        let execution = &held.execution;
        let Some(template) = &execution.template else { return };
        let snapshot = Snapshot {
            execution: Some(slot.id.clone()),
            seq: execution.seq,
            hash: execution.hash,
            at: execution.at,
            status: execution.status,
            template: template.clone(),
            state: execution.state.clone(),
        };
        self.publish(Output::Snapshot(Box::new(snapshot)), out);
    }
}
