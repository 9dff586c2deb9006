//! What is to become of a message, before anything is changed by it.

use std::sync::Arc;

use super::incident::Decision;
use super::run::Run;
use super::{Verdict, exact};
use crate::execution::TakenId;
use crate::expression::EventView;
use crate::id::{ExecutionId, TemplateSelector, Token};
use crate::message::{
    Body, ChildCancel, ChildStart, Event, Failure, Message, Send, Source, TaskOutcome, TaskResult,
};
use crate::template::Template;
use crate::value::Value;

/// How a message is taken.
pub(super) enum Taking<'m> {
    /// It starts the execution; an event of another type comes after the start.
    Start { event: &'m Event },
    /// A parent starts the execution.
    ChildStart { start: &'m ChildStart },
    /// A parent would start an execution that is another's: it is told so.
    ChildRefused { start: &'m ChildStart },
    /// It is an event of the template's own.
    Event { view: EventView },
    /// The execution is to end in its own way.
    Cancel { view: EventView },
    /// The execution is to end at once.
    Terminate,
    /// A person decides what becomes of an incident.
    Incident { decision: Decision<'m> },
    /// The execution is to rest.
    Pause { stops_timers: bool },
    /// The execution is to go on.
    Resume,
    /// It waits until the execution goes on.
    Deferred,
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
        let taking = self.judge_body(message)?;
        self.while_paused(taking, message)
    }

    /// As [`Self::judge`] of a message of which is known that it is new.
    pub(super) fn judge_body<'m>(&self, message: &'m Message) -> Result<Taking<'m>, Verdict> {
        match &message.body {
            Body::Event(event) => self.judge_event(event, message),
            Body::Send(send) => self.judge_send(send, message),
            Body::Result(result) => self.judge_result(result, false),
            Body::ChildDone(result) => self.judge_result(result, true),
            Body::ChildStart(start) => self.judge_child_start(start),
            Body::ChildCancel(cancel) => self.judge_child_cancel(cancel, message),
            Body::Fired { timer } => self.judge_timer(*timer),
        }
    }

    fn judge_unborn<'m>(&self, message: &'m Message) -> Result<Taking<'m>, Verdict> {
        match &message.body {
            // They prove that there is or was an execution, of which nothing was loaded.
            Body::Result(_) | Body::ChildDone(_) | Body::Fired { .. } => Err(Verdict::Newer),
            Body::Send(_) => Err(Verdict::Unknown),
            // What it would end was refused when it was to be started.
            Body::ChildCancel(_) => Err(Verdict::Stale),
            Body::ChildStart(start) => {
                fits(&start.template, self.template)?;
                self.check("pled.init", &start.input).map_err(Verdict::Poison)?;
                Ok(Taking::ChildStart { start })
            }
            Body::Event(event) => {
                let Some(start) = &event.start else { return Err(Verdict::Unknown) };
                fits(start, self.template)?;
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
            // One that starts a child if need be is never unknown.
            Body::Event(event) if event.start.is_some() && self.state.parent.is_some() => false,
            Body::Event(_) | Body::Send(_) if message.source == self.born_by() => {
                (message.generation, message.stream_seq) < (born.0, born.1)
            }
            Body::Event(_) | Body::Send(_) => message.time < born.2,
            // Their tokens say it better, and starts are told apart by the parent.
            Body::Result(_)
            | Body::ChildDone(_)
            | Body::ChildStart(_)
            | Body::ChildCancel(_)
            | Body::Fired { .. } => false,
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
            Body::Send(_)
            | Body::ChildStart(_)
            | Body::ChildCancel(_)
            | Body::Result(_)
            | Body::ChildDone(_)
            | Body::Fired { .. } => (None, said_by(&message.body)),
        };
        let remembered = id.and_then(|id| self.remembered(id));
        let sent_before = sender.is_some_and(|(sender, entry, index)| {
            state.senders.get(&sender).is_some_and(|last| (entry, index) <= *last)
        });
        if place > last && remembered.is_none() && !sent_before {
            return Ok(());
        }
        let started =
            state.born.filter(|born| message.source == self.born_by() && place == (born.0, born.1));
        Err(Verdict::Repeat {
            seq: remembered.map(|taken| taken.seq).or(started.map(|_| 1)),
            outcome: remembered.map(|taken| taken.outcome).or(started.map(|born| born.3)),
        })
    }

    /// The stream by which the start came.
    fn born_by(&self) -> Source {
        if self.state.parent.is_some() { Source::Signals } else { Source::Events }
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
            "pled.incident" => match self.judge_incident(&event.data) {
                Ok(decision) => Taking::Incident { decision },
                Err(reason) => Taking::Rejected { reason },
            },
            "pled.pause" => match event.data.get("timers").map(Value::as_str) {
                None | Some(Some("run")) => Taking::Pause { stops_timers: false },
                Some(Some("stop")) => Taking::Pause { stops_timers: true },
                Some(_) => {
                    Taking::Rejected { reason: "`timers` must be `run` or `stop`".to_owned() }
                }
            },
            "pled.resume" if self.state.paused.is_none() => Taking::Nothing,
            "pled.resume" => Taking::Resume,
            "pled.migrate" => Taking::Rejected { reason: format!("{name} is not supported yet") },
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

    fn judge_child_start<'m>(&self, start: &'m ChildStart) -> Result<Taking<'m>, Verdict> {
        if self.is_child_of(&start.parent, start.task, start.attempt) {
            return Err(Verdict::Repeat { seq: None, outcome: None });
        }
        Ok(Taking::ChildRefused { start })
    }

    fn judge_child_cancel<'m>(
        &self,
        cancel: &ChildCancel,
        message: &Message,
    ) -> Result<Taking<'m>, Verdict> {
        let ChildCancel { parent, token, task, attempt } = cancel;
        if self.is_closed() || !self.is_child_of(parent, *task, *attempt) {
            return Err(Verdict::Stale);
        }
        let time = self.time_of(message);
        let view = self.view_of_parent("pled.cancel", parent, *token, Value::Null);
        Ok(Taking::Cancel { view: EventView { time, ..view } })
    }

    fn is_child_of(&self, parent: &ExecutionId, task: Token, attempt: u32) -> bool {
        self.state.parent.as_ref().is_some_and(|own| {
            own.execution == *parent && own.task == task && own.attempt == attempt
        })
    }

    /// `of_child`: it is told by a child, not by a worker.
    fn judge_result<'m>(
        &self,
        result: &'m TaskResult,
        of_child: bool,
    ) -> Result<Taking<'m>, Verdict> {
        if result.task.entry > self.loaded_seq() {
            return Err(Verdict::Newer);
        }
        let state = &self.state;
        let Some(task) = state.tasks.get(&result.task) else { return self.judge_late(result) };
        if result.attempt < task.attempt || of_child != task.child.is_some() {
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

/// Whether the template is the one that a start asks for.
fn fits(start: &TemplateSelector, template: &Template) -> Result<(), Verdict> {
    let version_fits = start.version.is_none_or(|version| version == template.version);
    if start.name == template.name && version_fits {
        return Ok(());
    }
    let found = template.reference();
    Err(Verdict::Poison(format!("a start of {start} was given the template {found}")))
}

/// What another execution says: its key in the table of senders, with entry and index.
pub(super) fn said_by(body: &Body) -> Option<(Arc<str>, u64, u64)> {
    let (sender, token) = match body {
        Body::Send(send) => (&send.sender, send.token),
        Body::ChildStart(start) => (&start.parent, start.token),
        Body::ChildCancel(cancel) => (&cancel.parent, cancel.token),
        // These are told apart by the task or timer that they end.
        Body::Event(_) | Body::Result(_) | Body::ChildDone(_) | Body::Fired { .. } => return None,
    };
    Some((sender.as_str().into(), token.entry, token.index.into()))
}

/// As [`said_by`]; the colon keeps a rule worker apart from an execution of the same name.
pub(super) fn emitter(event: &Event) -> Option<(Arc<str>, u64, u64)> {
    let (worker, ingest_seq, index) = event.emitted.as_ref()?;
    Some((format!("emit:{worker}").into(), *ingest_seq, *index))
}

fn has_exact_numbers(message: &Message) -> bool {
    let of_body = match &message.body {
        Body::Event(event) => event
            .emitted
            .as_ref()
            .is_none_or(|(_, ingest_seq, index)| exact(*ingest_seq) && exact(*index)),
        Body::Send(send) => exact(send.token.entry),
        Body::ChildStart(start) => exact(start.token.entry) && exact(start.task.entry),
        Body::ChildCancel(cancel) => exact(cancel.token.entry) && exact(cancel.task.entry),
        // A token that names no entry that was loaded is never recorded.
        Body::Result(_) | Body::ChildDone(_) | Body::Fired { .. } => true,
    };
    let time = u64::try_from(message.time).is_ok_and(exact);
    of_body && time && exact(message.generation) && exact(message.stream_seq)
}
