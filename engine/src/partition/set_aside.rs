//! What cannot be taken goes to PLED_DEAD, acknowledged before anything else of its execution is
//! taken.
//!
//! A verdict that might be another one later (a state becomes smaller, a template is registered) is
//! written into the position first. So it is the next owner's too, whatever it would judge itself,
//! and a message is never both taken and set aside.

use crate::id::ExecutionId;
use crate::message::{Body, ChildStart, Failure, Message, Source, TaskOutcome, TaskResult};
use crate::value::Value;

use super::protocol::{Answer, DeadReason, Malformed, Output, Publish, Published, Reply};
use super::slots::{Aside, Job, SlotId};
use super::{Mutation, Partition, Pending, STUCK_AFTER, index_of, pause};

/// A malformed message on its way to PLED_DEAD. It can never be taken, so it keeps no order.
#[derive(Debug)]
pub(super) struct Loose {
    malformed: Malformed,
    attempts: u32,
}

/// The longest text of a verdict in the position, in characters.
const DETAIL_MAX: usize = 200;

/// How a publish to PLED_DEAD ended.
enum Ended {
    There,
    Full,
    Again(String),
}

impl Partition {
    /// Sets aside the message in front of the queue.
    pub(super) fn set_aside(
        &mut self,
        at: SlotId,
        reason: DeadReason,
        detail: String,
        out: &mut Vec<Output>,
    ) {
        self.went_on(at);
        let aside = Aside { reason, detail };
        if self.may_change(at, reason) && !self.config.leaves_out(Mutation::AsideUnwritten) {
            self.write_verdict(at, &aside);
        }
        self.slots[at].job = Job::SetAside(Box::new(aside));
        self.publish_set_aside(at, out);
    }

    /// Sees to it that the position says that the message in front is to be set aside.
    fn write_verdict(&mut self, at: SlotId, aside: &Aside) {
        let slot = &mut self.slots[at];
        let Some(front) = slot.queue.front() else { return };
        let Some(index) = index_of(front.source) else { return };
        let input = &mut self.inputs[index];
        if input.aside(front.stream_seq).is_none() {
            let detail = aside.detail.chars().take(DETAIL_MAX).collect();
            input.set_aside(front.stream_seq, Aside { reason: aside.reason, detail });
            slot.settled_by = self.writing.next();
        }
    }

    /// Whether another owner might judge the message in front otherwise. The end of an execution is
    /// for ever; and an event from before the start is known as such where a start comes by the same
    /// stream.
    fn may_change(&self, at: SlotId, reason: DeadReason) -> bool {
        match reason {
            DeadReason::Closed => false,
            DeadReason::UnknownExecution => !self.slots[at].queue.front().is_some_and(|front| {
                front.source == Source::Events && !front.execution.may_be_a_child()
            }),
            DeadReason::Malformed
            | DeadReason::UnknownTemplate
            | DeadReason::ReservedType
            | DeadReason::BadKey
            | DeadReason::Unmatched
            | DeadReason::Poison
            | DeadReason::TooLarge
            | DeadReason::DeferredFull => true,
        }
    }

    pub(super) fn publish_set_aside(&mut self, at: SlotId, out: &mut Vec<Output>) {
        if !self.is_settled(at) {
            return;
        }
        let slot = &self.slots[at];
        let (Job::SetAside(aside), Some(front)) = (&slot.job, slot.queue.front()) else { return };
        let publish = match &front.body {
            Body::ChildStart(start) => refusal(start, aside),
            Body::Event(_)
            | Body::Result(_)
            | Body::Send(_)
            | Body::ChildCancel(_)
            | Body::ChildDone(_)
            | Body::Fired { .. } => Publish::Dead {
                reason: aside.reason,
                detail: aside.detail.clone(),
                execution: Some(slot.id.clone()),
                source: front.source,
                generation: front.generation,
                stream_seq: front.stream_seq,
            },
        };
        let op = self.expect(Pending::SetAside(at));
        self.publish(Output::Publish { op, publish }, out);
    }

    pub(super) fn set_aside_answered(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        let Job::SetAside(aside) = &self.slots[at].job else { return };
        match ended(answer) {
            // That it came after the end can be counted, where there is no room to keep it.
            Ended::Full if aside.reason == DeadReason::Closed => {}
            Ended::There => {}
            Ended::Full => return self.back_off(at, "PLED_DEAD is full", out),
            Ended::Again(why) => return self.back_off(at, &why, out),
        }
        self.went_on(at);
        let job = std::mem::replace(&mut self.slots[at].job, Job::Idle);
        let Job::SetAside(aside) = job else { return };
        self.answer_aside(at, *aside, out);
    }

    fn answer_aside(&mut self, at: SlotId, aside: Aside, out: &mut Vec<Output>) {
        let aside_reason = aside.reason;
        let is_refusal = self.slots[at].queue.front().is_some_and(is_child_start);
        match aside_reason {
            _ if is_refusal => self.stats.rejected += 1,
            DeadReason::Closed => self.stats.closed += 1,
            DeadReason::Malformed
            | DeadReason::UnknownExecution
            | DeadReason::UnknownTemplate
            | DeadReason::ReservedType
            | DeadReason::BadKey
            | DeadReason::Unmatched
            | DeadReason::Poison
            | DeadReason::TooLarge
            | DeadReason::DeferredFull => self.stats.dead += 1,
        }
        let subject = self.slots[at].queue.front().and_then(|front| front.reply.clone());
        if let Some(subject) = subject {
            let reply = self.reply(at, subject, aside.reason.as_str(), None, Some(aside.detail));
            self.publish(Output::Reply(reply), out);
        }
        let slot = &mut self.slots[at];
        if let Some(held) = slot.held.as_mut().filter(|held| held.execution.seq == 0) {
            held.template = None;
        }
        self.done(at, 1);
        self.advance(at, out);
    }

    /// Sets aside what is no message.
    pub(super) fn set_aside_loose(
        &mut self,
        source: Source,
        seq: u64,
        malformed: Malformed,
        out: &mut Vec<Output>,
    ) {
        self.loose.insert((source, seq), Loose { malformed, attempts: 0 });
        self.publish_loose(source, seq, out);
    }

    pub(super) fn publish_loose(&mut self, source: Source, seq: u64, out: &mut Vec<Output>) {
        let Some(loose) = self.loose.get(&(source, seq)) else { return };
        let publish = Publish::Dead {
            reason: loose.malformed.reason,
            detail: loose.malformed.detail.clone(),
            execution: loose.malformed.execution.clone(),
            source,
            generation: index_of(source).map_or(0, |index| self.inputs[index].generation()),
            stream_seq: seq,
        };
        let op = self.expect(Pending::Loose(source, seq));
        self.publish(Output::Publish { op, publish }, out);
    }

    pub(super) fn loose_answered(
        &mut self,
        source: Source,
        seq: u64,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        let why = match ended(answer) {
            Ended::There => return self.loose_done(source, seq, out),
            Ended::Full => "PLED_DEAD is full".to_owned(),
            Ended::Again(why) => why,
        };
        let Some(loose) = self.loose.get_mut(&(source, seq)) else { return };
        self.loose_wakes.insert((self.now.monotonic + pause(loose.attempts), source, seq));
        loose.attempts += 1;
        if loose.attempts == STUCK_AFTER {
            let execution: Option<ExecutionId> = loose.malformed.execution.clone();
            out.push(Output::Stuck { execution, reason: why });
        }
    }

    fn loose_done(&mut self, source: Source, seq: u64, out: &mut Vec<Output>) {
        let Some(Loose { malformed, .. }) = self.loose.remove(&(source, seq)) else { return };
        self.stats.dead += 1;
        if let Some(subject) = malformed.reply {
            let reply = Reply {
                subject,
                execution: malformed.execution,
                seq: None,
                outcome: malformed.reason.as_str().into(),
                status: None,
                configuration: Vec::new(),
                error: Some(malformed.detail),
                repeat: false,
            };
            self.publish(Output::Reply(reply), out);
        }
        if let Some(index) = index_of(source) {
            self.inputs[index].done(seq);
        }
        self.writing.note_done();
    }
}

fn is_child_start(message: &Message) -> bool {
    matches!(message.body, Body::ChildStart(_))
}

/// A child that cannot be started is no message for a person: its parent is told.
fn refusal(start: &ChildStart, aside: &Aside) -> Publish {
    let (code, retryable) = match aside.reason {
        DeadReason::UnknownTemplate => ("unknown_template", true),
        DeadReason::TooLarge => ("too_large", false),
        DeadReason::Malformed
        | DeadReason::UnknownExecution
        | DeadReason::ReservedType
        | DeadReason::BadKey
        | DeadReason::Unmatched
        | DeadReason::Closed
        | DeadReason::Poison
        | DeadReason::DeferredFull => ("rejected", false),
    };
    let failure = Failure {
        code: code.into(),
        message: aside.detail.clone(),
        details: Value::Null,
        retryable,
        retry_after_ms: None,
    };
    let outcome = TaskOutcome::Failed(failure);
    Publish::ChildDone {
        parent: start.parent.clone(),
        result: TaskResult { task: start.task, attempt: start.attempt, outcome },
    }
}

fn ended(answer: Answer) -> Ended {
    let Answer::Published(published) = answer else {
        return Ended::Again("PLED_DEAD is not reached".into());
    };
    match published {
        Published::Stored { .. } | Published::Conflict { .. } => Ended::There,
        Published::Full => Ended::Full,
        Published::Unknown => Ended::Again("PLED_DEAD does not answer".into()),
        Published::TooLarge => Ended::Again("it is too large for PLED_DEAD".into()),
        Published::Refused(why) => Ended::Again(format!("PLED_DEAD refuses it: {why}")),
    }
}
