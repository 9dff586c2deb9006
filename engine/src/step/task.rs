//! Tasks and timers: attempts, their retries and time-outs (DESIGN section 6).

use std::sync::Arc;

use super::cause::{effect_id, object};
use super::run::{Run, Taken};
use crate::effect::{EffectKind, TaskEffect};
use crate::entry::Outcome;
use crate::execution::{Retry, Task, Timer, TimerPurpose};
use crate::id::{Hash, Token};
use crate::json::INTEGER_MAX;
use crate::message::{Failure, Millis};
use crate::template::{StateIndex, TaskOptions};
use crate::value::{Object, Value};

/// The longest pause that a worker can ask for: a day.
const RETRY_AFTER_MAX_MS: Millis = 86_400_000;

/// For whom a task is.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// It is fire-and-forget.
    Nobody,
    /// An invocation waits for it.
    Invocation(&'a Arc<str>),
    /// An invocation waits for it and others, of which it is the one with this index.
    Element(&'a Arc<str>, u32),
    /// It undoes an invocation.
    Compensation(&'a Arc<str>),
}

impl Run<'_> {
    /// Hands out the first attempt of a task.
    pub(super) fn start_task(
        &mut self,
        state: StateIndex,
        purpose: Purpose<'_>,
        action: &Arc<str>,
        input: Value,
        options: &TaskOptions,
    ) -> Token {
        let (invocation, index, compensates) = match purpose {
            Purpose::Nobody => (None, None, None),
            Purpose::Invocation(id) => (Some(id), None, None),
            Purpose::Element(id, index) => (Some(id), Some(index), None),
            Purpose::Compensation(id) => (None, None, Some(id)),
        };
        self.begin_task(Task {
            action: action.clone(),
            queue: options.queue.clone().filter(|queue| queue != action),
            invocation: invocation.cloned(),
            index,
            compensates: compensates.cloned(),
            state: Some(self.template.state(state).id.clone()),
            attempt: 1,
            not_before: None,
            deadline: options.timeout.schedule_to_close_ms.map(|ms| self.after(ms)),
            input,
            retry: options.retry.clone(),
            timeout: options.timeout,
            meta: options.meta.clone(),
            child: None,
        })
    }

    /// Hands out the first attempt and keeps the task.
    pub(super) fn begin_task(&mut self, mut task: Task) -> Token {
        let token = self.hand_out(None, &mut task);
        if let Some(due) = task.deadline {
            self.set_timer(due, TimerPurpose::Close { task: token });
        }
        if task.child.is_some() && task.retry.is_none() {
            task.input = Value::Null;
        }
        self.state.tasks.insert(token, task);
        token
    }

    /// Hands out the attempt that `task` names; the first has no token yet and gets it here.
    pub(super) fn hand_out(&mut self, token: Option<Token>, task: &mut Task) -> Token {
        let place = self.next_token();
        let token = token.unwrap_or(place);
        if let Some(child) = &mut task.child {
            child.place = place;
        }
        let start = self.child_effect(token, task);
        // The worker holds the time of its attempt, the parent that of its child.
        let within = match &start {
            Some(_) => task.timeout.start_to_close_ms,
            None => task.timeout.schedule_to_start_ms,
        };
        let task_effect = || {
            EffectKind::Task(TaskEffect {
                task: token,
                action: task.action.clone(),
                queue: task.queue.clone().unwrap_or_else(|| task.action.clone()),
                invocation: task.invocation.clone(),
                index: task.index,
                attempt: task.attempt,
                input: task.input.clone(),
                timeout: task.timeout,
                deadline: task.deadline,
                meta: task.meta.clone(),
            })
        };
        self.effect(start.unwrap_or_else(task_effect));
        if let Some(ms) = within {
            let purpose = TimerPurpose::Start { task: token, attempt: task.attempt };
            self.set_timer(self.after(ms), purpose);
        }
        token
    }

    /// The timer that waits for the attempt to be picked up.
    pub(super) fn start_timer(&self, task: Token, attempt: u32) -> Option<Token> {
        let waits = TimerPurpose::Start { task, attempt };
        let mut timers = self.state.timers.iter();
        timers.find(|(_, timer)| timer.purpose == waits).map(|(token, _)| *token)
    }

    pub(super) fn picked_up(&mut self, timer: Token) -> Taken {
        self.cancel_timers(|token, _| token == timer);
        (Outcome::Applied, None)
    }

    pub(super) fn task_succeeded(&mut self, token: Token, data: &Value) -> Taken {
        let Some(task) = self.finish_task(token) else { return (Outcome::Applied, None) };
        match (task.invocation, task.index) {
            (Some(id), Some(index)) => self.element_ended(&id, index, data.clone()),
            (Some(id), None) => {
                let view = self.view(format!("done.invoke.{id}").into(), data.clone());
                self.tell(&view, None)
            }
            (None, _) if task.compensates.is_some() => self.compensated(),
            (None, _) => (Outcome::Applied, None),
        }
    }

    /// An attempt ended badly: another one follows after a pause, or the task has failed.
    pub(super) fn attempt_failed(&mut self, token: Token, failure: &Failure) -> Taken {
        let Some(task) = self.state.tasks.get(&token) else { return (Outcome::Applied, None) };
        let attempt = task.attempt;
        let attempts_max = task.retry.as_ref().map_or(1, |retry| retry.max_attempts);
        let may_help = failure.retryable
            && !task
                .retry
                .as_ref()
                .is_some_and(|retry| retry.non_retryable.contains(&failure.code));
        match &task.retry {
            Some(retry) if may_help && attempt < attempts_max => {
                let pause = pause_ms(retry, attempt, &effect_id(self.id(), token));
                let asked = failure.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS);
                let pause = pause.max(asked);
                self.wait_for_retry(token, pause);
                (Outcome::Applied, None)
            }
            Some(_) if may_help && attempts_max > 1 => {
                let last = object([
                    ("code", failure.code.clone().into()),
                    ("details", failure.details.clone()),
                    ("message", failure.message.as_str().into()),
                ]);
                let exhausted = Failure {
                    code: "retries_exhausted".into(),
                    message: failure.message.clone(),
                    details: object([("last", last)]),
                    retryable: false,
                    retry_after_ms: None,
                };
                self.task_failed(token, &exhausted, attempt)
            }
            Some(_) | None => self.task_failed(token, failure, attempt),
        }
    }

    fn wait_for_retry(&mut self, token: Token, pause_ms: Millis) {
        self.cancel_timers(
            |_, purpose| matches!(purpose, TimerPurpose::Start { task, .. } if *task == token),
        );
        let due = self.after(pause_ms);
        if let Some(task) = self.state.tasks.get_mut(&token) {
            task.attempt += 1;
            task.not_before = Some(due);
        }
        self.set_timer(due, TimerPurpose::Retry { task: token });
    }

    /// The task has failed for good.
    fn task_failed(&mut self, token: Token, failure: &Failure, attempts: u32) -> Taken {
        let Some(task) = self.finish_task(token) else { return (Outcome::Applied, None) };
        let mut error = Object::from_iter([
            ("attempts", attempts.into()),
            ("code", failure.code.clone().into()),
            ("details", failure.details.clone()),
            ("message", failure.message.as_str().into()),
        ]);
        let event = match (&task.invocation, task.index, &task.compensates) {
            (Some(id), Some(index), _) => {
                return self.element_failed(id, index, error.into(), token);
            }
            (Some(id), None, _) => format!("error.invoke.{id}"),
            (None, _, Some(undone)) => {
                error.insert("invocation", undone.clone().into());
                return self.compensation_failed(error.into(), token);
            }
            (None, _, None) => format!("error.action.{}", task.action),
        };
        let view = self.view(event.into(), error.into());
        let taken = self.tell(&view, Some(token));
        if let Some(incident) = self.state.incidents.get_mut(&token) {
            incident.task = Some(task);
        }
        taken
    }

    /// Takes the task out of the state, and back what still runs for it.
    fn finish_task(&mut self, token: Token) -> Option<Task> {
        self.cancel_timers(|_, purpose| task_of(purpose) == Some(token));
        self.state.tasks.remove(&token)
    }

    /// Tells the worker that the attempt that is handed out is not wanted any more.
    fn cancel_attempt(&mut self, token: Token) {
        if let Some(task) = self.state.tasks.get(&token)
            && task.not_before.is_none()
        {
            let attempt = task.attempt;
            let cancel = match &task.child {
                Some(child) => {
                    let child = self.id().child(child.place);
                    EffectKind::ChildCancel { child, task: token, attempt }
                }
                None => EffectKind::TaskCancel { task: token, attempt },
            };
            self.effect(cancel);
        }
    }

    /// Gives up the tasks that are meant: their workers are told, their timers taken back. Says
    /// whether there was one.
    pub(super) fn cancel_tasks(&mut self, is_meant: impl Fn(&Task) -> bool) -> bool {
        let tasks = self.state.tasks.iter().filter(|(_, task)| is_meant(task));
        let meant: Vec<Token> = tasks.map(|(token, _)| *token).collect();
        for token in &meant {
            self.cancel_attempt(*token);
            self.give_up(*token);
        }
        if meant.is_empty() {
            return false;
        }
        self.cancel_timers(|_, purpose| {
            task_of(purpose).is_some_and(|task| meant.binary_search(&task).is_ok())
        });
        for token in &meant {
            self.state.tasks.remove(token);
        }
        true
    }

    /// Ends the invocation `id`, if it is outstanding, and the incident that it may have left.
    pub(super) fn cancel_invocation(&mut self, id: &str) {
        self.state.fan_outs.remove(id);
        let is_of_it = |task: &Task| task.invocation.as_deref() == Some(id);
        if !self.cancel_tasks(is_of_it) && !self.state.incidents.is_empty() {
            let event = format!("error.invoke.{id}");
            self.state.incidents.retain(|_, incident| *incident.event != *event);
        }
    }

    /// Cancels all invocations and children, but for those that the end leaves alone.
    pub(super) fn cancel_invocations(&mut self) {
        self.state.fan_outs.clear();
        // A child that is left alone has neither retries nor time-outs.
        let is_left_alone = |task: &Task| task.child.as_ref().is_some_and(|child| child.abandon);
        self.state.tasks.retain(|_, task| !is_left_alone(task));
        self.cancel_tasks(|task| task.invocation.is_some());
    }

    pub(super) fn cancel_timers_but_of_tasks(&mut self) {
        self.cancel_timers(|_, purpose| task_of(purpose).is_none());
    }

    /// Takes back the timers that are meant.
    pub(super) fn cancel_timers(&mut self, is_meant: impl Fn(Token, &TimerPurpose) -> bool) {
        let timers = self.state.timers.iter();
        let meant = timers.filter(|(token, timer)| is_meant(**token, &timer.purpose));
        for timer in meant.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.state.timers.remove(&timer);
            self.effect(EffectKind::TimerCancel { timer });
        }
    }

    pub(super) fn set_timer(&mut self, due: Millis, purpose: TimerPurpose) {
        let timer = self.next_token();
        // Attempts are bounded by themselves.
        let chain = if due == self.at && task_of(&purpose).is_none() { self.chain + 1 } else { 0 };
        self.effect(EffectKind::TimerSet { timer, due });
        self.state.timers.insert(timer, Timer { due, chain, purpose });
    }

    /// The time `ms` from now.
    pub(super) fn after(&self, ms: Millis) -> Millis {
        self.at.saturating_add(ms).min(INTEGER_MAX)
    }

    pub(super) fn timer_fired(&mut self, token: Token) -> Taken {
        let Some(timer) = self.state.timers.remove(&token) else {
            return (Outcome::Ignored, None);
        };
        self.chain = timer.chain;
        if timer.chain > self.template.limits.microsteps {
            let reason = format!("more than {} timers without delay in a row", timer.chain - 1);
            return self.fail("loop", reason);
        }
        match timer.purpose {
            TimerPurpose::After { state, delay } => {
                let view = self.view(format!("after.{delay}.{state}").into(), Value::Null);
                self.macrostep(&view, None)
            }
            TimerPurpose::Send { id: _, to: Some(to), event, data } => {
                self.effect(EffectKind::Send { to, event, data });
                (Outcome::Applied, None)
            }
            TimerPurpose::Send { id: _, to: None, event, data } => {
                let mut view = self.view(event.shared(), data);
                view.source = Some(self.id().as_str().into());
                self.take_checked(&view, None)
            }
            TimerPurpose::Retry { task } => self.retry(task),
            TimerPurpose::Close { task } => {
                let attempts = self.attempts_made(task);
                self.cancel_attempt(task);
                self.give_up(task);
                let failure = timed_out("the task did not end in its time");
                self.task_failed(task, &failure, attempts)
            }
            TimerPurpose::Start { task, attempt: _ } => {
                self.cancel_attempt(task);
                let is_child = self.state.tasks.get(&task).is_some_and(|task| task.child.is_some());
                let message = if is_child {
                    "the child did not end in its time"
                } else {
                    "no worker picked the attempt up in time"
                };
                self.attempt_failed(task, &timed_out(message))
            }
        }
    }

    /// Hands out the attempt whose pause is over.
    fn retry(&mut self, token: Token) -> Taken {
        if let Some(mut task) = self.state.tasks.remove(&token) {
            task.not_before = None;
            self.hand_out(Some(token), &mut task);
            self.state.tasks.insert(token, task);
        }
        (Outcome::Applied, None)
    }

    /// How many attempts were handed out.
    fn attempts_made(&self, token: Token) -> u32 {
        match self.state.tasks.get(&token) {
            Some(task) if task.not_before.is_some() => task.attempt - 1,
            Some(task) => task.attempt,
            None => 0,
        }
    }
}

/// The task that a timer is for.
fn task_of(purpose: &TimerPurpose) -> Option<Token> {
    match purpose {
        TimerPurpose::After { .. } | TimerPurpose::Send { .. } => None,
        TimerPurpose::Retry { task }
        | TimerPurpose::Close { task }
        | TimerPurpose::Start { task, attempt: _ } => Some(*task),
    }
}

fn timed_out(message: &str) -> Failure {
    Failure {
        code: "timeout".into(),
        message: message.to_owned(),
        details: Value::Null,
        retryable: true,
        retry_after_ms: None,
    }
}

/// The pause after `attempt`, in milliseconds: it grows by the factor from one attempt to the next
/// up to the longest, and 0 to 20 % are added, derived from the task and the attempt.
fn pause_ms(retry: &Retry, attempt: u32, task: &str) -> Millis {
    let pause = bare_pause_ms(retry, attempt);
    let hash = Hash::of(format!("{task}/{attempt}").as_bytes());
    let draw = hash.as_bytes()[..4].iter().fold(0, |draw, byte| (draw << 8) | i64::from(*byte));
    // The bound keeps the product within an i64; it is far beyond the longest pause there can be.
    let jitter_max = (pause / 5).min(i64::from(u32::MAX) / 2);
    pause + ((draw * (jitter_max + 1)) >> 32)
}

/// Multiplied step by step, since powers of floats may differ from one machine to another.
fn bare_pause_ms(retry: &Retry, attempt: u32) -> Millis {
    let longest = retry.max_interval_ms.max(0);
    let mut pause = float(retry.initial_interval_ms.max(0));
    for _ in 1..attempt {
        if pause >= float(longest) || retry.backoff <= 1.0 {
            break;
        }
        pause *= retry.backoff;
    }
    let whole = Value::from_f64(pause.floor()).and_then(|pause| pause.as_int());
    whole.unwrap_or(longest).min(longest)
}

#[expect(clippy::as_conversions, reason = "pauses are far below 2^53, where floats are exact")]
fn float(ms: Millis) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry {
            max_attempts: 5,
            initial_interval_ms: 1_000,
            backoff: 2.0,
            max_interval_ms: 30_000,
            non_retryable: Vec::new(),
        }
    }

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_longest() {
        let pauses: Vec<_> = (1..8).map(|attempt| bare_pause_ms(&retry(), attempt)).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);

        let endless = Retry { backoff: 1e300, max_interval_ms: 3_155_760_000_000, ..retry() };
        assert_eq!(bare_pause_ms(&endless, u32::MAX), 3_155_760_000_000);
        let constant = Retry { backoff: 1.0, ..retry() };
        assert_eq!(bare_pause_ms(&constant, u32::MAX), 1_000);
    }

    #[test]
    fn jitter_is_derived_and_adds_at_most_a_fifth() {
        let pauses: Vec<_> =
            (0..1_000).map(|task| pause_ms(&retry(), 1, &format!("order-42/{task}/0"))).collect();
        let again = pause_ms(&retry(), 1, "order-42/7/0");

        assert_eq!(pauses[7], again);
        assert!(pauses.iter().all(|pause| (1_000..=1_200).contains(pause)));
        assert!(pauses.iter().min() < Some(&1_010) && pauses.iter().max() > Some(&1_190));
    }
}
