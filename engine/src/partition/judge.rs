//! What comes next for an execution: its waiting messages are judged by one step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::entry::Outcome;
use crate::id::{TemplateRef, TemplateSelector};
use crate::message::{Body, Failure, Message, Source, TaskOutcome};
use crate::step::{Draft, Verdict, Writer, step};
use crate::value::Value;

use super::protocol::{DeadReason, Output, Reply};
use super::slots::{Aside, Held, Job, MessageKey, SlotId, Written, weigh_message};
use super::{Mutation, Partition, Pending, index_of};

/// Whether there is more to decide at once.
enum Next {
    Again,
    Wait,
}

impl Partition {
    /// Decides what comes next for an execution without a job, until it has one or nothing waits.
    pub(super) fn advance(&mut self, at: SlotId, out: &mut Vec<Output>) {
        loop {
            if !self.life.is_running() {
                return;
            }
            if self.slots[at].queue.is_empty() {
                return self.rest(at, out);
            }
            match self.decide(at, out) {
                Next::Again => {}
                Next::Wait => return,
            }
        }
    }

    fn decide(&mut self, at: SlotId, out: &mut Vec<Output>) -> Next {
        let Some(front) = self.slots[at].queue.front() else { return Next::Wait };
        if let Some(Aside { reason, detail }) = self.verdict_on(front).cloned() {
            self.set_aside(at, reason, detail, out);
            return Next::Wait;
        }
        if let Some((timer, due)) = self.early(at, front) {
            self.set_again(at, timer, due, out);
            return Next::Wait;
        }
        let slot = &mut self.slots[at];
        let Some(front) = slot.queue.front() else { return Next::Wait };
        match &slot.held {
            // A start is most often the first: the commit tells where it is not.
            None if is_start(front) && slot.seen == 0 => {
                slot.held = Some(Held::unborn(slot.id.clone()));
                Next::Again
            }
            None => {
                self.load(at, false, None, out);
                Next::Wait
            }
            Some(held) if held.execution.seq == 0 && !starts(front) => self.judge_unknown(at, out),
            Some(held) if held.template.is_none() => self.take_template(at, out),
            Some(_) => self.judge(at, out),
        }
    }

    /// The verdict that an owner of the partition has written on a message.
    fn verdict_on(&self, message: &Message) -> Option<&Aside> {
        self.inputs[index_of(message.source)?].aside(message.stream_seq)
    }

    /// The message in front is for an execution that has no entry, and starts none. Its start may
    /// be in the other stream, and the journal may have it where a replica is behind.
    fn judge_unknown(&mut self, at: SlotId, out: &mut Vec<Output>) -> Next {
        let slot = &mut self.slots[at];
        let Some(front) = slot.queue.front() else { return Next::Wait };
        let key = key_of(front);
        if let Some(other) = other_door(front) {
            if slot.read_to_end != Some(key) && !self.config.leaves_out(Mutation::EndUnread) {
                slot.job = Job::AskEnd;
                self.read_end(at, out);
                return Next::Wait;
            }
            let may_start = |message: &Message| message.source == other && starts(message);
            if !slot.reordered && slot.queue.iter().any(may_start) {
                slot.reordered = true;
                slot.queue.make_contiguous().sort_by_key(|message| message.source != other);
                return Next::Again;
            }
        }
        if slot.asked_leader != Some(key) {
            self.load(at, true, None, out);
            return Next::Wait;
        }
        if let Body::ChildCancel(_) = &slot.queue[0].body {
            // What it would end was refused when it was to be started.
            self.stats.stale += 1;
            self.done(at, 1);
            return Next::Again;
        }
        self.set_aside(at, DeadReason::UnknownExecution, "no such execution".into(), out);
        Next::Wait
    }

    pub(super) fn read_end(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let op = self.expect(Pending::End(at));
        out.push(Output::ReadStreams { op });
    }

    pub(super) fn end_answered(
        &mut self,
        at: SlotId,
        answer: super::Answer,
        out: &mut Vec<Output>,
    ) {
        let super::Answer::Streams(streams) = answer else {
            return self.back_off(at, "the streams cannot be read", out);
        };
        self.went_on(at);
        self.slots[at].job = Job::AwaitEnd;
        let Some(other) = self.slots[at].queue.front().and_then(other_door) else { return };
        let (index, end) = match other {
            Source::Signals => (1, streams.signals.last),
            Source::Events | Source::Timers | Source::Own => (0, streams.events.last),
        };
        self.ends[index].insert((end, at));
        self.release_ends(index, out);
    }

    /// Goes on with executions for which this input is now read far enough.
    pub(super) fn release_ends(&mut self, index: usize, out: &mut Vec<Output>) {
        let Some(waiting) = self.ends.get(index) else { return };
        if waiting.is_empty() {
            return;
        }
        let next = self.inputs[index].next();
        while let Some(&(end, at)) = self.ends[index].first() {
            if end >= next && !(index == 1 && self.is_jammed()) {
                break;
            }
            self.ends[index].pop_first();
            let slot = &mut self.slots[at];
            slot.read_to_end = slot.queue.front().map(key_of);
            slot.job = Job::Idle;
            self.advance(at, out);
        }
    }

    /// Whether nothing more can be read before something that waits goes on. Then an event does not
    /// wait for signals, lest they wait for each other.
    pub(super) fn is_jammed(&self) -> bool {
        self.recompare.is_none() && !self.wants(Source::Events) && !self.wants(Source::Signals)
    }

    fn take_template(&mut self, at: SlotId, out: &mut Vec<Output>) -> Next {
        let slot = &mut self.slots[at];
        let Some(held) = &mut slot.held else { return Next::Wait };
        let reference = held.execution.template.as_ref();
        let child_of = || slot.queue.front().and_then(template_of_child);
        if let Some(reference) = reference.cloned().or_else(child_of)
            && let Some(template) = self.templates.get(&reference)
        {
            held.template = Some(template.clone());
            return Next::Again;
        }
        self.find_template(at, out);
        Next::Wait
    }

    /// Takes a step over what waits.
    fn judge(&mut self, at: SlotId, out: &mut Vec<Output>) -> Next {
        let step_max = self.config.step_max.max(1);
        let slot = &self.slots[at];
        let limit = if slot.step_limit == 0 { step_max } else { slot.step_limit.min(step_max) };
        let count = slot.queue.len().min(limit);
        let is_alone = |message: &Message| {
            self.verdict_on(message).is_some() || self.early(at, message).is_some()
        };
        let count = slot.queue.iter().take(count).position(is_alone).unwrap_or(count);
        let slot = &mut self.slots[at];
        let Some(held) = &slot.held else { return Next::Wait };
        let Some(template) = &held.template else { return Next::Wait };
        let messages = &slot.queue.make_contiguous()[..count];
        let taken = catch_unwind(AssertUnwindSafe(|| step(template, &held.execution, messages)));
        let Ok(taken) = taken else {
            if count > 1 {
                slot.step_limit = count / 2;
                return Next::Again;
            }
            return self.judge_poison(at, DeadReason::Poison, "the step panicked".into(), out);
        };
        let cut = taken
            .verdicts
            .iter()
            .zip(messages)
            .position(|(verdict, message)| ends_a_step(verdict, message));
        let judged = cut.unwrap_or(taken.verdicts.len());
        let takes_more = taken.verdicts[judged..].iter().any(is_taken);
        match taken.draft {
            // What is set aside is not stepped over: first what comes before it.
            Some(_) if takes_more && judged > 0 => {
                slot.step_limit = judged;
                Next::Again
            }
            Some(draft) if !takes_more => self.decided(at, draft, taken.verdicts, judged, out),
            Some(_) | None if judged > 0 => {
                slot.step_limit = 0;
                self.answer_verdicts(at, &taken.verdicts[..judged], out);
                self.done(at, judged);
                Next::Again
            }
            Some(_) | None => match taken.verdicts.into_iter().next() {
                Some(verdict) => self.judge_alone(at, verdict, out),
                None => self.judge_poison(at, DeadReason::Poison, "not judged".into(), out),
            },
        }
    }

    /// An entry was decided for the first `judged` messages.
    fn decided(
        &mut self,
        at: SlotId,
        draft: Draft,
        mut verdicts: Vec<Verdict>,
        judged: usize,
        out: &mut Vec<Output>,
    ) -> Next {
        let slot = &mut self.slots[at];
        let Some(held) = &slot.held else { return Next::Wait };
        let writer = Writer { worker: self.config.worker.clone(), epoch: self.epoch };
        let largest = self.config.max_entry_bytes;
        let sealed = draft.seal_within(&writer, held.base, largest);
        if sealed.bytes.len() > largest {
            return self.judge_too_large(at, judged, out);
        }
        verdicts.truncate(judged);
        if self.config.leaves_out(Mutation::IgnoredUnwritten)
            && sealed.entry.causes.iter().all(|cause| cause.outcome == Outcome::Ignored)
        {
            self.answer_causes(at, &sealed.entry, out);
            self.answer_verdicts(at, &verdicts, out);
            self.done(at, judged);
            return Next::Again;
        }
        if self.config.leaves_out(Mutation::VerdictsEarly) {
            self.pass_untaken(at, &verdicts);
        }
        let slot = &mut self.slots[at];
        let expected = slot.held.as_ref().map_or(0, |held| held.stream_seq);
        slot.step_limit = 0;
        slot.job = Job::Commit(Box::new(Written { sealed, expected, verdicts }));
        self.publish_entry(at, out);
        Next::Wait
    }

    /// Lets the position pass what a step judged and did not take (the trap `VerdictsEarly`).
    fn pass_untaken(&mut self, at: SlotId, verdicts: &[Verdict]) {
        let slot = &self.slots[at];
        for (verdict, message) in verdicts.iter().zip(&slot.queue) {
            if let Some(index) = index_of(message.source).filter(|_| !is_taken(verdict)) {
                self.inputs[index].done(message.stream_seq);
            }
        }
        self.writing.note_done();
    }

    /// An entry for so many messages is larger than it may be: fewer, or the one is set aside.
    pub(super) fn judge_too_large_written(
        &mut self,
        at: SlotId,
        judged: usize,
        out: &mut Vec<Output>,
    ) {
        self.slots[at].job = Job::Idle;
        match self.judge_too_large(at, judged, out) {
            Next::Again => self.advance(at, out),
            Next::Wait => {}
        }
    }

    fn judge_too_large(&mut self, at: SlotId, judged: usize, out: &mut Vec<Output>) -> Next {
        let slot = &mut self.slots[at];
        if judged > 1 {
            slot.step_limit = judged / 2;
            return Next::Again;
        }
        // A task whose result does not fit must still end.
        if let Some(front) = slot.queue.front_mut() {
            let before = weigh_message(front);
            if shrink_result(front) {
                self.waiting_bytes -= before;
                self.waiting_bytes += weigh_message(front);
                return Next::Again;
            }
        }
        let detail =
            format!("its entry would be larger than {} bytes", self.config.max_entry_bytes);
        self.judge_poison(at, DeadReason::TooLarge, detail, out)
    }

    /// A verdict that makes no entry and is not simply done, for the message in front.
    fn judge_alone(&mut self, at: SlotId, verdict: Verdict, out: &mut Vec<Output>) -> Next {
        let slot = &mut self.slots[at];
        slot.step_limit = 0;
        let Some(front) = slot.queue.front() else { return Next::Wait };
        match verdict {
            Verdict::Closed => {
                self.set_aside(at, DeadReason::Closed, "the execution has ended".into(), out);
                Next::Wait
            }
            Verdict::Newer => {
                let ignores = self.config.leaves_out(Mutation::StaleIgnored);
                if slot.asked_leader != Some(key_of(front)) && !ignores {
                    self.load(at, true, None, out);
                    return Next::Wait;
                }
                // The leader has nothing newer: the token is of a life that was lost.
                self.stats.stale += 1;
                self.done(at, 1);
                Next::Again
            }
            Verdict::Unknown => {
                let detail = "it was sent before the execution began".to_owned();
                self.judge_poison(at, DeadReason::UnknownExecution, detail, out)
            }
            Verdict::Poison(detail) => self.judge_poison(at, DeadReason::Poison, detail, out),
            Verdict::DeferredFull => {
                let detail = "it is paused, and as much waits for it as may".to_owned();
                self.judge_poison(at, DeadReason::DeferredFull, detail, out)
            }
            Verdict::Taken(_) | Verdict::Repeat { .. } | Verdict::Exists | Verdict::Stale => {
                let detail = "the step gave a verdict without an entry".to_owned();
                self.judge_poison(at, DeadReason::Poison, detail, out)
            }
        }
    }

    /// The start in front asks for a template that is not there.
    pub(super) fn judge_no_template(&mut self, at: SlotId, detail: String, out: &mut Vec<Output>) {
        self.slots[at].job = Job::Idle;
        let _ = self.judge_poison(at, DeadReason::UnknownTemplate, detail, out);
    }

    /// Sets the message in front aside, once the leader has shown that it was judged on the newest
    /// entry: what another owner took must not be set aside as well.
    fn judge_poison(
        &mut self,
        at: SlotId,
        reason: DeadReason,
        detail: String,
        out: &mut Vec<Output>,
    ) -> Next {
        let slot = &self.slots[at];
        if slot.asked_leader == slot.queue.front().map(key_of)
            || self.config.leaves_out(Mutation::LeaderUnasked)
        {
            self.set_aside(at, reason, detail, out);
        } else {
            self.load(at, true, None, out);
        }
        Next::Wait
    }

    /// Answers messages that a step judged without taking them.
    pub(super) fn answer_verdicts(
        &mut self,
        at: SlotId,
        verdicts: &[Verdict],
        out: &mut Vec<Output>,
    ) {
        let mut replies = Vec::new();
        let slot = &self.slots[at];
        for (verdict, message) in verdicts.iter().zip(&slot.queue) {
            let (outcome, seq, repeat) = match verdict {
                Verdict::Taken(_) => continue,
                Verdict::Repeat { seq, outcome } => {
                    self.stats.repeats += 1;
                    (outcome.map_or("repeat", word), *seq, true)
                }
                Verdict::Exists => {
                    self.stats.exists += 1;
                    ("exists", None, false)
                }
                Verdict::Stale => {
                    self.stats.stale += 1;
                    ("stale", None, false)
                }
                Verdict::Closed => {
                    self.stats.closed += 1;
                    ("closed", None, false)
                }
                Verdict::Unknown => ("unknown-execution", None, false),
                Verdict::Newer | Verdict::Poison(_) | Verdict::DeferredFull => continue,
            };
            if let Some(subject) = &message.reply {
                let reply = self.reply(at, subject.clone(), outcome, seq, None);
                replies.push(Output::Reply(Reply { repeat, ..reply }));
            }
        }
        for reply in replies {
            self.publish(reply, out);
        }
    }

    /// An answer with what is known of the execution; `seq` is the entry that took the message.
    pub(super) fn reply(
        &self,
        at: SlotId,
        subject: Arc<str>,
        outcome: &str,
        seq: Option<u64>,
        error: Option<String>,
    ) -> Reply {
        let slot = &self.slots[at];
        let execution = slot.held.as_ref().map(|held| &held.execution).filter(|it| it.seq > 0);
        Reply {
            subject,
            execution: Some(slot.id.clone()),
            seq,
            outcome: outcome.into(),
            status: execution.map(|execution| execution.status),
            configuration: execution
                .map(|execution| execution.state.configuration.clone())
                .unwrap_or_default(),
            error,
            repeat: false,
        }
    }

    /// The first `count` messages are done: the position may pass them.
    pub(super) fn done(&mut self, at: SlotId, count: usize) {
        let slot = &mut self.slots[at];
        slot.reordered = false;
        for message in slot.queue.drain(..count.min(slot.queue.len())) {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(weigh_message(&message));
            if let Some(index) = index_of(message.source) {
                self.inputs[index].done(message.stream_seq);
            }
        }
        self.writing.note_done();
    }

    /// Nothing waits for the execution: it stays in memory while there is room.
    fn rest(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let is_over = self.slots[at].held.as_ref().is_none_or(|held| {
            held.execution.seq == 0
                || held.execution.status.is_terminal() && held.execution.state.tasks.is_empty()
        });
        if is_over {
            self.forget(at, out);
        } else {
            self.slots.rest(at);
        }
        while let Some(at) = self.slots.excess(self.config.cache_bytes) {
            self.forget(at, out);
        }
    }

    fn forget(&mut self, at: SlotId, out: &mut Vec<Output>) {
        self.write_snapshot(at, out);
        self.slots.forget(at);
    }

    /// Forgets what is in flight, and goes on as if nothing had been (the trap `KeepAbandoned`).
    pub(super) fn abandon_jobs(&mut self) {
        self.ops.clear();
        self.publishing = 0;
        self.writing.abandon();
        for at in self.slots.all().collect::<Vec<_>>() {
            let slot = &mut self.slots[at];
            if matches!(slot.job, Job::Idle) {
                continue;
            }
            slot.job = Job::Idle;
            let due = self.now.monotonic + 1;
            if slot.wake.is_none() {
                slot.wake = Some(due);
                self.wakes.insert((due, at));
            }
        }
        self.ends = Default::default();
        self.barriers.clear();
    }
}

/// What names a message.
pub(super) fn key_of(message: &Message) -> MessageKey {
    (message.source, message.stream_seq)
}

/// The template that a message starts its execution with, if need be.
pub(super) fn start_of(message: &Message) -> Option<&TemplateSelector> {
    match &message.body {
        Body::Event(event) => event.start.as_ref(),
        Body::ChildStart(start) => Some(&start.template),
        Body::Result(_)
        | Body::Send(_)
        | Body::ChildCancel(_)
        | Body::ChildDone(_)
        | Body::Fired { .. } => None,
    }
}

fn starts(message: &Message) -> bool {
    start_of(message).is_some()
}

/// The version that a parent starts.
fn template_of_child(message: &Message) -> Option<TemplateRef> {
    let Body::ChildStart(start) = &message.body else { return None };
    Some(TemplateRef { name: start.template.name.clone(), version: start.template.version? })
}

/// The stream by which the start may come of an execution that this message does not find: clients
/// start by PLED_EVENTS, parents by PLED_SIGNALS, and these give ids that can be told.
fn other_door(message: &Message) -> Option<Source> {
    match message.source {
        Source::Events => message.execution.may_be_a_child().then_some(Source::Signals),
        Source::Signals | Source::Timers | Source::Own => Some(Source::Events),
    }
}

/// Whether a message is a start and nothing else.
fn is_start(message: &Message) -> bool {
    match &message.body {
        Body::Event(event) => event.start.is_some() && event.event_type.as_str() == "pled.init",
        Body::ChildStart(_) => true,
        Body::Result(_)
        | Body::Send(_)
        | Body::ChildCancel(_)
        | Body::ChildDone(_)
        | Body::Fired { .. } => false,
    }
}

/// Whether what comes after a message with this verdict is left to another step, since it has to
/// be set aside or judged again first.
fn ends_a_step(verdict: &Verdict, message: &Message) -> bool {
    match verdict {
        Verdict::Newer | Verdict::Unknown | Verdict::Poison(_) | Verdict::DeferredFull => true,
        Verdict::Closed => message.source == Source::Events,
        Verdict::Taken(_) | Verdict::Repeat { .. } | Verdict::Exists | Verdict::Stale => false,
    }
}

fn is_taken(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Taken(_))
}

/// The word for an outcome in a reply.
pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Ignored => "ignored",
        Outcome::Deferred => "deferred",
        Outcome::Rejected => "rejected",
    }
}

/// Makes a failure of a result that is too large for an entry; false if it is none.
fn shrink_result(message: &mut Message) -> bool {
    let (Body::Result(result) | Body::ChildDone(result)) = &mut message.body else { return false };
    let what = match &result.outcome {
        TaskOutcome::Ok(_) => "the result is",
        TaskOutcome::Failed(failure) if &*failure.code != TOO_LARGE => "the failure's details are",
        TaskOutcome::Failed(_) | TaskOutcome::Started => return false,
    };
    result.outcome = TaskOutcome::Failed(Failure {
        code: TOO_LARGE.into(),
        message: format!("{what} too large for a journal entry"),
        details: Value::Null,
        retryable: false,
        retry_after_ms: None,
    });
    true
}

/// The code of a failure that stands for a result that was too large.
const TOO_LARGE: &str = "result_too_large";
