//! A pause: what comes for the execution waits in its state, and is taken in order at the resume.

use super::Verdict;
use super::judge::Taking;
use super::run::{Run, Taken};
use crate::canonical;
use crate::effect::EffectKind;
use crate::entry::{Cause, Outcome};
use crate::execution::{Paused, Status, Timer};
use crate::json::INTEGER_MAX;
use crate::message::{Body, Message, Millis};
use crate::value::Value;

/// The most events and sends that wait. Results and timers wait beside them: they are bounded by
/// what is outstanding.
const DEFERRED_MAX: usize = 1_000;
/// The most bytes with which an event may still wait: the state must fit into an entry.
const DEFERRED_BYTES_MAX: usize = 256 << 10;

impl Run<'_> {
    /// What becomes of a message that would be taken, were the execution not paused.
    pub(super) fn while_paused<'m>(
        &self,
        taking: Taking<'m>,
        message: &Message,
    ) -> Result<Taking<'m>, Verdict> {
        let Some(paused) = &self.state.paused else { return Ok(taking) };
        match taking {
            Taking::Event { .. } | Taking::Incident { .. } if self.is_full() => {
                Err(Verdict::DeferredFull)
            }
            Taking::Fired { .. } if paused.stops_timers => Err(Verdict::Stale),
            // A worker that is there may be told at any time.
            Taking::Started { .. } => Ok(taking),
            Taking::Event { .. }
            | Taking::Incident { .. }
            | Taking::Succeeded { .. }
            | Taking::Failed { .. }
            | Taking::SucceededLate { .. }
            | Taking::FailedLate { .. }
            | Taking::Fired { .. } => match message.body {
                Body::Event(_)
                | Body::Send(_)
                | Body::Result(_)
                | Body::ChildDone(_)
                | Body::Fired { .. } => Ok(Taking::Deferred),
                Body::ChildStart(_) | Body::ChildCancel(_) => Ok(taking),
            },
            Taking::Pause { .. } => Ok(Taking::Nothing),
            Taking::Start { .. }
            | Taking::ChildStart { .. }
            | Taking::ChildRefused { .. }
            | Taking::Cancel { .. }
            | Taking::Terminate
            | Taking::Resume
            | Taking::Deferred
            | Taking::Nothing
            | Taking::Rejected { .. } => Ok(taking),
        }
    }

    fn is_full(&self) -> bool {
        let is_event = |deferred: &&Value| {
            let text = |key: &str| deferred.get(key).and_then(Value::as_str);
            let of_task = deferred.get("attempt").is_some_and(|attempt| !attempt.is_null());
            text("stream") == Some("events") || text("stream") == Some("signals") && !of_task
        };
        let deferred = &self.state.deferred;
        deferred.iter().filter(is_event).count() >= DEFERRED_MAX
            || deferred.iter().map(Value::canonical_len).sum::<usize>() >= DEFERRED_BYTES_MAX
    }

    /// Begins a pause.
    pub(super) fn pause(&mut self, stops_timers: bool) -> Taken {
        self.status = Status::Paused;
        self.state.paused = Some(Paused { since: self.at, stops_timers });
        if stops_timers {
            for timer in self.state.timers.keys().copied().collect::<Vec<_>>() {
                self.effect(EffectKind::TimerCancel { timer });
            }
        }
        (Outcome::Applied, None)
    }

    /// Keeps a message until the resume, as the cause that it is of this entry.
    pub(super) fn defer(&mut self, message: &Message) -> Taken {
        let cause = Cause::of(message, Outcome::Deferred, None);
        let kept = canonical::to_vec(&cause).ok().and_then(|bytes| Value::parse(&bytes).ok());
        match kept {
            Some(kept) => {
                self.state.deferred.push(kept);
                (Outcome::Deferred, None)
            }
            None => (Outcome::Rejected, Some("it cannot be kept for the resume".to_owned())),
        }
    }

    /// Ends the pause, if there is one, and takes what came meanwhile, in order.
    pub(super) fn resume(&mut self) -> Taken {
        let Some(paused) = self.state.paused.take() else { return (Outcome::Ignored, None) };
        self.status = Status::Running;
        if paused.stops_timers {
            self.go_on_with_timers(self.at - paused.since);
        }
        for kept in std::mem::take(&mut self.state.deferred) {
            let cause: Option<Cause> = serde_json::from_slice(&kept.to_canonical()).ok();
            let message = cause.and_then(|cause| cause.message(self.id()).ok());
            // The end of an execution is the end of what waits for it.
            let Some(message) = message.filter(|_| !self.is_closed()) else { continue };
            // What nothing waits for any more is dropped, as it would be if it came now.
            if let Ok(taking) = self.judge_body(&message) {
                self.chain = 0;
                let _ = self.carry(taking, &message);
            }
        }
        (Outcome::Applied, None)
    }

    /// With the execution ends its pause, and what waits for the resume.
    pub(super) fn forget_pause(&mut self) {
        self.state.paused = None;
        self.state.deferred.clear();
    }

    /// Sets the timers anew, each later by the time of the pause.
    fn go_on_with_timers(&mut self, by: Millis) {
        let later = |at: Millis| at.saturating_add(by).min(INTEGER_MAX);
        for (_, timer) in std::mem::take(&mut self.state.timers) {
            let Timer { due, chain, purpose } = timer;
            let (token, due) = (self.next_token(), later(due));
            self.effect(EffectKind::TimerSet { timer: token, due });
            self.state.timers.insert(token, Timer { due, chain, purpose });
        }
        for task in self.state.tasks.values_mut() {
            task.not_before = task.not_before.map(later);
            task.deadline = task.deadline.map(later);
        }
    }
}
