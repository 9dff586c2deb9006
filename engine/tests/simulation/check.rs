//! What must hold after a run, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use pled_engine::effect::EffectKind;
use pled_engine::entry::{Cause, JournalEntry, Outcome};
use pled_engine::execution::State;
use pled_engine::id::ExecutionId;
use pled_engine::message::{Body, Source};
use pled_engine::partition::DeadReason;
use pled_engine::replay;

use crate::log::EARLY_MAX;
use crate::world::Run;

/// What is wrong with a run; empty: nothing.
pub(crate) fn check(run: &Run) -> Vec<String> {
    if !run.faults.is_empty() {
        return run.faults.clone();
    }
    let mut wrong = Vec::new();
    if !run.is_calm && !run.was_cut {
        wrong.push(unrest(run));
    }
    let journals: BTreeMap<&ExecutionId, Vec<JournalEntry>> = run
        .log
        .journal
        .iter()
        .filter(|(_, entries)| !entries.is_empty())
        .map(|(execution, entries)| {
            let entries = entries.iter().map(|entry| JournalEntry::decode(&entry.bytes).unwrap());
            (execution, entries.collect())
        })
        .collect();
    let mut checks = Checks { run, journals, wrong, taken: BTreeMap::new() };
    checks.journals_replay();
    checks.time_and_epoch_do_not_go_back();
    if run.was_cut {
        // Sequences name other messages now: that nothing was built upon the loss is all there is.
        return checks.wrong;
    }
    checks.causes_are_taken_once_and_in_order();
    checks.acknowledged_events_have_one_end();
    checks.sends_arrive_once_and_in_order();
    checks.sends_find_what_was_started_before();
    checks.children_are_started_once_and_end_when_they_should();
    checks.nothing_is_outstanding();
    checks.timers_are_not_early();
    checks.work_is_repeated_only_after_faults();
    checks.answers_agree();
    checks.snapshots_are_of_the_journal();
    checks.wrong
}

fn unrest(run: &Run) -> String {
    let positions: Vec<_> = run.log.positions.values().map(|(position, _)| position).collect();
    let lasts: Vec<u64> = run.log.inputs.iter().map(|stream| stream.last).collect();
    format!(
        "no rest: streams end at {lasts:?}, positions {positions:?}, schedules {:?}, tasks {:?}",
        run.log.schedules,
        run.log.tasks.values().collect::<Vec<_>>()
    )
}

struct Checks<'r> {
    run: &'r Run,
    journals: BTreeMap<&'r ExecutionId, Vec<JournalEntry>>,
    wrong: Vec<String>,
    /// Which entry of which execution took a message.
    taken: BTreeMap<(Source, u64), (ExecutionId, u64)>,
}

impl Checks<'_> {
    fn journals_replay(&mut self) {
        for (execution, entries) in &self.journals {
            let Some(template) = self.run.templates.get(&entries[0].template.to_string()) else {
                self.wrong.push(format!("{execution}: its template is unknown"));
                continue;
            };
            if let Err(divergence) = replay::replay(template, entries) {
                self.wrong.push(format!("{divergence}"));
            }
        }
    }

    fn time_and_epoch_do_not_go_back(&mut self) {
        for (execution, entries) in &self.journals {
            for pair in entries.windows(2) {
                let (before, after) = (&pair[0], &pair[1]);
                if after.at < before.at {
                    self.wrong.push(format!("{execution}: time goes back at {}", after.seq));
                }
                if after.epoch < before.epoch {
                    self.wrong.push(format!("{execution}: the epoch goes back at {}", after.seq));
                }
            }
        }
    }

    fn causes_are_taken_once_and_in_order(&mut self) {
        for (execution, entries) in &self.journals {
            let mut last = BTreeMap::new();
            for entry in entries {
                for cause in entry.causes.iter().filter(|cause| cause.stream != Source::Own) {
                    let key = (cause.stream, cause.stream_seq);
                    let place = ((*execution).clone(), entry.seq);
                    if let Some(before) = self.taken.insert(key, place) {
                        self.wrong.push(format!(
                            "{key:?} is a cause of entry {} of {execution} and of {before:?}",
                            entry.seq
                        ));
                    }
                    let before = last.insert(cause.stream, cause.stream_seq).unwrap_or(0);
                    if cause.stream_seq <= before {
                        self.wrong.push(format!("{execution}: {key:?} taken after {before}"));
                    }
                    self.cause_is_the_message(execution, cause);
                }
            }
        }
    }

    fn cause_is_the_message(&self, execution: &ExecutionId, cause: &Cause) {
        let stored = &self.run.log.history[&(cause.stream, cause.stream_seq)];
        assert_eq!(&stored.execution, execution);
        let is_early = cause.stream == Source::Timers && stored.wall + EARLY_MAX < stored.time;
        assert!(stored.time == cause.time || is_early, "{stored:?}");
    }

    fn acknowledged_events_have_one_end(&mut self) {
        let mut ids: BTreeMap<(&ExecutionId, &str), u32> = BTreeMap::new();
        for acked in &self.run.acked {
            if let Some(id) = &acked.id
                && self.taken.contains_key(&(Source::Events, acked.seq))
            {
                *ids.entry((&acked.execution, id)).or_default() += 1;
            }
        }
        for acked in &self.run.acked {
            let key = (Source::Events, acked.seq);
            let taken = self.taken.get(&key);
            let dead = self.run.log.dead.get(&key);
            let id = acked.id.as_deref();
            let taken_by_id =
                id.map_or(0, |id| ids.get(&(&acked.execution, id)).copied().unwrap_or(0));
            let name = format!("event {} of {} (id {id:?})", acked.seq, acked.execution);
            match (taken, dead) {
                // What one owner has set aside, the position alone tells another.
                (Some(_), Some(_)) if self.run.without_fences => {}
                (Some(at), Some(reason)) => {
                    self.wrong
                        .push(format!("{name} is taken by {at:?} and set aside as {reason:?}"));
                }
                (None, None) => {
                    let repeat = taken_by_id == 1;
                    let exists = acked.is_start && self.journals.contains_key(&acked.execution);
                    if !repeat && !exists && !self.came_after_the_end(&acked.execution, acked.seq) {
                        self.wrong.push(format!("{name} is lost"));
                    }
                }
                (Some(_), None) if !acked.is_message => {
                    self.wrong.push(format!("{name} is no message and was taken"));
                }
                (Some(_), None) | (None, Some(_)) => {}
            }
            if taken_by_id > 1 {
                self.wrong.push(format!("{name} was taken {taken_by_id} times"));
            }
        }
        for (&(source, seq), reason) in &self.run.log.dead {
            if let Some(at) = self.taken.get(&(source, seq))
                && source != Source::Events
                && !self.run.without_fences
            {
                self.wrong
                    .push(format!("{source:?} {seq}: taken by {at:?}, set aside as {reason:?}"));
            }
        }
    }

    /// Whether an event was only counted, since PLED_DEAD was full and its execution had ended.
    fn came_after_the_end(&self, execution: &ExecutionId, seq: u64) -> bool {
        let Some(entries) = self.journals.get(execution) else { return false };
        let causes = || entries.iter().flat_map(|entry| &entry.causes);
        entries.last().is_some_and(|entry| entry.status.is_terminal())
            && causes()
                .filter(|cause| cause.stream == Source::Events)
                .all(|cause| cause.stream_seq < seq)
    }

    fn sends_arrive_once_and_in_order(&mut self) {
        let mut sent: BTreeMap<(&ExecutionId, &ExecutionId), Vec<&str>> = BTreeMap::new();
        for (execution, entries) in &self.journals {
            for effect in entries.iter().flat_map(|entry| &entry.effects) {
                if let EffectKind::Send { to, .. } = &effect.kind
                    && to != *execution
                {
                    sent.entry((execution, to)).or_default().push(&effect.id);
                }
            }
        }
        let aside: BTreeSet<String> = self
            .run
            .log
            .dead
            .keys()
            .filter_map(|key| match &self.run.log.history[key].body {
                Some(Body::Send(send)) => {
                    Some(format!("{}/{}/{}", send.sender, send.token.entry, send.token.index))
                }
                _ => None,
            })
            .collect();
        for ((sender, to), ids) in sent {
            let entries = self.journals.get(to).map(Vec::as_slice).unwrap_or_default();
            let arrived: Vec<&str> = entries
                .iter()
                .flat_map(|entry| &entry.causes)
                .filter(|cause| {
                    cause.stream == Source::Signals
                        && cause.token.is_none()
                        && cause
                            .sender
                            .as_ref()
                            .is_some_and(|(who, _, _)| **who == *sender.as_str())
                })
                .filter_map(|cause| cause.id.as_deref())
                .collect();
            let ended = entries.last().is_some_and(|entry| entry.status.is_terminal());
            let expected: Vec<&str> = ids
                .iter()
                .copied()
                .filter(|id| arrived.contains(id) || !(aside.contains(*id) || ended))
                .collect();
            if arrived != expected {
                self.wrong.push(format!(
                    "sends of {sender} to {to}: {arrived:?} arrived, expected {expected:?}"
                ));
            }
            // Where signals are removed although what sent them is not done everywhere, or a publish
            // of them is still under way, a second copy may find a target that the first did not.
            if self.run.log.purges_carefully && !self.run.without_fences {
                for id in arrived.iter().filter(|id| aside.contains(**id)) {
                    self.wrong.push(format!("send {id} was taken and set aside"));
                }
            }
        }
    }

    /// A start that was acknowledged before a send was stored is in time for it.
    fn sends_find_what_was_started_before(&mut self) {
        let history = &self.run.log.history;
        for (key, reason) in &self.run.log.dead {
            let send = &history[key];
            if *reason != DeadReason::UnknownExecution || key.0 == Source::Events {
                continue;
            }
            let start = self
                .run
                .acked
                .iter()
                .find(|acked| acked.is_start && acked.execution == send.execution);
            let Some(start) = start else { continue };
            let seq = start.seq;
            let start = &history[&(Source::Events, seq)];
            if start.at < send.at && start.time <= send.time {
                self.wrong.push(format!(
                    "signal {} of {} was set aside as unknown, though event {seq} had started it",
                    key.1, send.execution
                ));
            }
        }
    }

    /// A child that was started is there, or its parent was told why not; one that was cancelled has
    /// ended. That parents hear of every end is in what is outstanding.
    fn children_are_started_once_and_end_when_they_should(&mut self) {
        let of = |id: &ExecutionId| self.journals.get(id).map(Vec::as_slice).unwrap_or_default();
        let mut wrong = Vec::new();
        for (parent, entries) in &self.journals {
            for effect in entries.iter().flat_map(|entry| &entry.effects) {
                let (child, task, attempt, cancelled) = match &effect.kind {
                    EffectKind::ChildStart(start) => {
                        (&start.child, start.task, start.attempt, false)
                    }
                    EffectKind::ChildCancel { child, task, attempt } => {
                        (child, *task, *attempt, true)
                    }
                    _ => continue,
                };
                let is_start = |cause: &&Cause| {
                    cause.depth.is_some()
                        && cause.outcome == Outcome::Applied
                        && cause.sender.as_ref().is_some_and(|(id, ..)| **id == *parent.as_str())
                };
                let causes = of(child).iter().flat_map(|entry| &entry.causes);
                let starts = causes.filter(is_start).count();
                let is_over = of(child).last().is_some_and(|entry| entry.status.is_terminal());
                let was_told = entries.iter().flat_map(|entry| &entry.causes).any(|cause| {
                    cause.cause_type.as_str() == "pled.child"
                        && (cause.token, cause.attempt) == (Some(task), Some(attempt))
                });
                let ended = entries.last().is_some_and(|entry| entry.status.is_terminal());
                match starts {
                    // Where the parent does not wait any more, it is not told.
                    0 if !was_told && !cancelled && !ended && !self.gave_up(entries, child) => {
                        wrong
                            .push(format!("{child} of {parent} is not there, and it was not told"));
                    }
                    1 if cancelled && !is_over => {
                        wrong.push(format!("{child} was cancelled by {parent} and goes on"));
                    }
                    0 | 1 => {}
                    _ => wrong.push(format!("{child} was started {starts} times")),
                }
            }
        }
        self.wrong.append(&mut wrong);
    }

    fn gave_up(&self, entries: &[JournalEntry], given: &ExecutionId) -> bool {
        entries.iter().flat_map(|entry| &entry.effects).any(
            |effect| matches!(&effect.kind, EffectKind::ChildCancel { child, .. } if child == given),
        )
    }

    fn nothing_is_outstanding(&mut self) {
        for (execution, entries) in &self.journals {
            let template = &self.run.templates[&entries[0].template.to_string()];
            let Ok(replayed) = replay::replay(template, entries) else { continue };
            let State { tasks, timers, .. } = &replayed.execution.state;
            for (token, task) in tasks {
                let attempt = task.attempt;
                self.wrong.push(format!("{execution}: attempt {attempt} of {token} never ended"));
            }
            for (token, timer) in timers {
                self.wrong.push(format!("{execution}: timer {token} {timer:?} never fired"));
            }
        }
        for (position, _) in self.run.log.positions.values() {
            if position.journal > self.run.log.journal_last {
                self.wrong.push(format!("position {position:?} is ahead of the journal"));
            }
        }
    }

    /// Whatever the clocks do: what was stored before it was due is not taken.
    fn timers_are_not_early(&mut self) {
        for (execution, entries) in &self.journals {
            for cause in entries.iter().flat_map(|entry| &entry.causes) {
                if cause.stream != Source::Timers {
                    continue;
                }
                let stored = &self.run.log.history[&(Source::Timers, cause.stream_seq)];
                let early = stored.time - stored.wall;
                if early > EARLY_MAX {
                    self.wrong.push(format!(
                        "{execution}: timer message {} was taken, stored {early} ms before it was \
                         due",
                        cause.stream_seq
                    ));
                }
            }
        }
    }

    fn work_is_repeated_only_after_faults(&mut self) {
        if self.run.disturbed {
            return;
        }
        for (subject, times) in &self.run.worked {
            if *times > 1 {
                self.wrong.push(format!("{subject} was worked on {times} times without a fault"));
            }
        }
    }

    fn answers_agree(&mut self) {
        let outcomes: BTreeMap<(Source, u64), Outcome> = self
            .journals
            .values()
            .flatten()
            .flat_map(|entry| &entry.causes)
            .map(|cause| ((cause.stream, cause.stream_seq), cause.outcome))
            .collect();
        for ((source, seq), stored) in &self.run.log.history {
            let Some(subject) = &stored.reply else { continue };
            let Some(replies) = self.run.replies.get(subject) else {
                self.wrong.push(format!("{source:?} {seq} of {} had no answer", stored.execution));
                continue;
            };
            let dead = self.run.log.dead.get(&(*source, *seq));
            if self.run.without_fences && dead.is_some() {
                continue;
            }
            let expected = match (outcomes.get(&(*source, *seq)), dead) {
                (Some(outcome), _) => Some(format!("{outcome:?}").to_lowercase()),
                (None, Some(reason)) => Some(reason.as_str().to_owned()),
                (None, None) => None,
            };
            for reply in replies {
                let fits = expected.as_deref().is_none_or(|expected| {
                    *reply.outcome == *expected || reply.repeat && &*reply.outcome == "repeat"
                });
                if !fits {
                    self.wrong
                        .push(format!("{source:?} {seq}: {expected:?} was answered {reply:?}"));
                }
            }
        }
    }

    fn snapshots_are_of_the_journal(&mut self) {
        for (execution, seq, hash) in &self.run.snapshots {
            let entries = self.journals.get(execution).map(Vec::as_slice).unwrap_or_default();
            let entry = entries.iter().find(|entry| entry.seq == *seq);
            if entry.is_none_or(|entry| entry.hash.to_string() != *hash) {
                self.wrong.push(format!("the snapshot of entry {seq} of {execution} is of none"));
            }
        }
    }
}
