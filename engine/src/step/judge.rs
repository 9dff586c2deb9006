//! What is to become of a message, before anything is changed by it.

use std::sync::Arc;

use super::run::Run;
use super::{Verdict, exact};
use crate::execution::TakenId;
use crate::expression::EventView;
use crate::id::{ExecutionId, Token};
use crate::message::{Body, Event, Failure, Message, Send, Source, TaskOutcome, TaskResult};
use crate::value::Value;

/// How a message is taken.
pub(super) enum Taking<'m> {
    /// It starts the execution; an event of another type comes after the start.
    Start { event: &'m Event },
    /// It is an event of the template's own.
    Event { view: EventView },
    /// The execution is to end in its own way.
    Cancel { view: EventView },
    /// The execution is to end at once.
    Terminate,
    /// It changes nothing.
    Nothing,
    /// It cannot be taken, for this reason; the answer stands in the entry.
    Rejected { reason: String },
    /// A worker picked up the attempt that this timer waits for.
    Started { timer: Token },
    /// The task succeeded.
    Succeeded { task: Token, data: &'m Value },
    /// The attempt failed.
    Failed { task: Token, failure: &'m Failure },
    /// A task that was given up succeeded.
    SucceededLate { task: Token, data: &'m Value },
    /// A task that was given up failed.
    FailedLate { task: Token },
    /// The timer came due.
    Fired { timer: Token },
}

impl Run<'_> {
    /// How `message` is to be taken, or why it is not.
    pub(super) fn judge<'m>(&self, message: &'m Message) -> Result<Taking<'m>, Verdict> {
        if message.execution != *self.id() {
            let reason = format!("a message for {} was given to {}", message.execution, self.id());
            return Err(Verdict::Poison(reason));
        }
        if !has_exact_numbers(message) {
            return Err(Verdict::Poison("a number beyond 2^53 - 1 cannot be recorded".to_owned()));
        }
        if !self.is_born() {
            return self.judge_unborn(message);
        }
        if self.is_before_birth(message) {
            return Err(Verdict::Unknown);
        }
        self.judge_repeat(message)?;
        match &message.body {
            Body::Event(event) => self.judge_event(event, message),
            Body::Send(send) => self.judge_send(send, message),
            Body::Result(result) => self.judge_result(result),
            Body::Fired { timer } => self.judge_timer(*timer),
        }
    }

    fn judge_unborn<'m>(&self, message: &'m Message) -> Result<Taking<'m>, Verdict> {
        match &message.body {
            // They prove that there is or was an execution, of which nothing was loaded.
            Body::Result(_) | Body::Fired { .. } => Err(Verdict::Newer),
            Body::Send(_) => Err(Verdict::Unknown),
            Body::Event(event) => {
                let Some(start) = &event.start else { return Err(Verdict::Unknown) };
                let template = self.template;
                let version_fits = start.version.is_none_or(|version| version == template.version);
                if start.name != template.name || !version_fits {
                    let found = template.reference();
                    let reason = format!("a start of {start} was given the template {found}");
                    return Err(Verdict::Poison(reason));
                }
                let name = event.event_type.as_str();
                let is_init = name == "pled.init";
                if !is_init && is_reserved(name) {
                    return Err(Verdict::Unknown);
                }
                // What does not fit starts nothing, so that a right start may follow.
                let input = if is_init { &event.data } else { &Value::Null };
                self.check("pled.init", input).map_err(Verdict::Poison)?;
                if !is_init {
                    self.check(name, &event.data).map_err(Verdict::Poison)?;
                }
                Ok(Taking::Start { event })
            }
        }
    }

    /// Whether the message was in its stream before the start was: it was answered `unknown` then,
    /// and must be again.
    fn is_before_birth(&self, message: &Message) -> bool {
        let Some(born) = &self.state.born else { return false };
        match &message.body {
            Body::Event(_) => (message.generation, message.stream_seq) < (born.0, born.1),
            Body::Send(_) => message.time < born.2,
            // Their tokens say it better.
            Body::Result(_) | Body::Fired { .. } => false,
        }
    }

    fn judge_repeat(&self, message: &Message) -> Result<(), Verdict> {
        let state = &self.state;
        let place = (message.generation, message.stream_seq);
        let last = match message.source {
            Source::Events => state.taken.events,
            Source::Signals => state.taken.signals,
            Source::Timers => state.taken.timers,
            Source::Own => {
                let reason = "a send to oneself is taken by the step that makes it".to_owned();
                return Err(Verdict::Poison(reason));
            }
        };
        let (id, sender) = match &message.body {
            Body::Event(event) => (event.id.as_deref(), emitter(event)),
            Body::Send(send) => (None, Some(sender(send))),
            Body::Result(_) | Body::Fired { .. } => (None, None),
        };
        let remembered = id.and_then(|id| self.remembered(id));
        let sent_before = sender.is_some_and(|(sender, entry, index)| {
            state.senders.get(&sender).is_some_and(|last| (entry, index) <= *last)
        });
        if place > last && remembered.is_none() && !sent_before {
            return Ok(());
        }
        let started =
            state.born.filter(|born| message.source == Source::Events && place == (born.0, born.1));
        Err(Verdict::Repeat {
            seq: remembered.map(|taken| taken.seq).or(started.map(|_| 1)),
            outcome: remembered.map(|taken| taken.outcome).or(started.map(|born| born.3)),
        })
    }

    fn remembered(&self, id: &str) -> Option<&TakenId> {
        if self.state.ids.is_empty() {
            return None;
        }
        let hash = TakenId::hash_of(id);
        self.state.ids.iter().rev().find(|taken| taken.hash == hash)
    }

    fn judge_event<'m>(
        &self,
        event: &'m Event,
        message: &'m Message,
    ) -> Result<Taking<'m>, Verdict> {
        let name = event.event_type.as_str();
        if name == "pled.init" {
            return Err(Verdict::Exists);
        }
        if self.has_ended() {
            return Err(Verdict::Closed);
        }
        if let Some(start) = event.start.as_ref().filter(|start| start.name != self.template.name) {
            let reason = format!(
                "it is for an execution of {start}, this is one of {}",
                self.template.reference()
            );
            return Ok(Taking::Rejected { reason });
        }
        let view = || self.view_of_event(event, message);
        Ok(match name {
            "pled.cancel" if self.is_closed() => Taking::Nothing,
            _ if self.is_closed() && name != "pled.terminate" => return Err(Verdict::Closed),
            "pled.cancel" => Taking::Cancel { view: view() },
            "pled.terminate" => Taking::Terminate,
            "pled.pause" | "pled.resume" | "pled.migrate" => {
                Taking::Rejected { reason: format!("{name} is not supported yet") }
            }
            _ if is_reserved(name) => {
                Taking::Rejected { reason: format!("{name} is a reserved type") }
            }
            _ => match self.check(name, &event.data) {
                Ok(()) => Taking::Event { view: view() },
                Err(reason) => Taking::Rejected { reason },
            },
        })
    }

    fn judge_send<'m>(&self, send: &Send, message: &Message) -> Result<Taking<'m>, Verdict> {
        if self.is_closed() {
            return Err(Verdict::Stale);
        }
        let name = send.event_type.as_str();
        if is_reserved(name) {
            return Ok(Taking::Rejected { reason: format!("{name} is a reserved type") });
        }
        if let Err(reason) = self.check(name, &send.data) {
            return Ok(Taking::Rejected { reason });
        }
        Ok(Taking::Event { view: self.view_of_send(send, message.time) })
    }

    /// Whether the template takes `data` with an event of this type; an error says why not.
    pub(super) fn check(&self, event_type: &str, data: &Value) -> Result<(), String> {
        self.template.check_data(event_type, data).map_err(|violation| violation.to_string())
    }

    fn judge_result<'m>(&self, result: &'m TaskResult) -> Result<Taking<'m>, Verdict> {
        if result.task.entry > self.loaded_seq() {
            return Err(Verdict::Newer);
        }
        let state = &self.state;
        let Some(task) = state.tasks.get(&result.task) else { return self.judge_late(result) };
        if result.attempt < task.attempt {
            return Err(Verdict::Stale);
        }
        // The attempt that waits for its pause to end is handed out by an entry yet to be loaded.
        if result.attempt > task.attempt || task.not_before.is_some() {
            return Err(Verdict::Newer);
        }
        match &result.outcome {
            TaskOutcome::Ok(data) => Ok(Taking::Succeeded { task: result.task, data }),
            TaskOutcome::Failed(failure) => Ok(Taking::Failed { task: result.task, failure }),
            TaskOutcome::Started => match self.start_timer(result.task, result.attempt) {
                Some(timer) => Ok(Taking::Started { timer }),
                None => Err(Verdict::Stale),
            },
        }
    }

    fn judge_late<'m>(&self, result: &'m TaskResult) -> Result<Taking<'m>, Verdict> {
        let given_up = self.state.given_up.get(&result.task);
        if given_up.is_none_or(|given_up| given_up.attempt != result.attempt) {
            return Err(Verdict::Stale);
        }
        let task = result.task;
        match &result.outcome {
            TaskOutcome::Ok(data) => Ok(Taking::SucceededLate { task, data }),
            TaskOutcome::Failed(_) => Ok(Taking::FailedLate { task }),
            TaskOutcome::Started => Err(Verdict::Stale),
        }
    }

    fn judge_timer<'m>(&self, timer: Token) -> Result<Taking<'m>, Verdict> {
        if timer.entry > self.loaded_seq() {
            Err(Verdict::Newer)
        } else if self.state.timers.contains_key(&timer) {
            Ok(Taking::Fired { timer })
        } else {
            Err(Verdict::Stale)
        }
    }
}

/// Whether only the engine itself may say this (TEMPLATE section 5).
pub(super) fn is_reserved(event_type: &str) -> bool {
    ["pled", "done", "error", "after"].contains(&event_type.split('.').next().unwrap_or_default())
        && event_type.contains('.')
}

/// The key in the table of senders, with entry and index.
pub(super) fn sender(send: &Send) -> (Arc<str>, u64, u64) {
    (shared(&send.sender), send.token.entry, send.token.index.into())
}

/// As [`sender`]; the colon keeps a rule worker apart from an execution of the same name.
pub(super) fn emitter(event: &Event) -> Option<(Arc<str>, u64, u64)> {
    let (worker, ingest_seq, index) = event.emitted.as_ref()?;
    Some((format!("emit:{worker}").into(), *ingest_seq, *index))
}

fn shared(execution: &ExecutionId) -> Arc<str> {
    execution.as_str().into()
}

fn has_exact_numbers(message: &Message) -> bool {
    let of_body = match &message.body {
        Body::Event(event) => event
            .emitted
            .as_ref()
            .is_none_or(|(_, ingest_seq, index)| exact(*ingest_seq) && exact(*index)),
        Body::Send(send) => exact(send.token.entry),
        // A token that names no entry that was loaded is never recorded.
        Body::Result(_) | Body::Fired { .. } => true,
    };
    let time = u64::try_from(message.time).is_ok_and(exact);
    of_body && time && exact(message.generation) && exact(message.stream_seq)
}
