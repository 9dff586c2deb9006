//! Messages as causes of an entry, and back: what replay reads.

use std::sync::{Arc, LazyLock};

use crate::entry::{Cause, Outcome};
use crate::id::{EventType, ExecutionId, Token};
use crate::message::{
    Body, ChildCancel, ChildStart, Event, Failure, Message, Send, Source, TaskOutcome, TaskResult,
};
use crate::value::{Object, Value};

static RESULT: LazyLock<EventType> = LazyLock::new(|| well_known("pled.result"));
static CHILD: LazyLock<EventType> = LazyLock::new(|| well_known("pled.child"));
static INIT: LazyLock<EventType> = LazyLock::new(|| well_known("pled.init"));
static CANCEL: LazyLock<EventType> = LazyLock::new(|| well_known("pled.cancel"));
static STARTED: LazyLock<EventType> = LazyLock::new(|| well_known("pled.started"));
static TIMER: LazyLock<EventType> = LazyLock::new(|| well_known("pled.timer"));

fn well_known(text: &'static str) -> EventType {
    text.parse().expect("a well-formed event type")
}

impl Cause {
    /// `message`, of which this became.
    #[must_use]
    pub fn of(message: &Message, outcome: Outcome, error: Option<String>) -> Self {
        let cause = |cause_type: EventType, data: Value| Self {
            stream: message.source,
            generation: message.generation,
            stream_seq: message.stream_seq,
            id: None,
            cause_type,
            data,
            time: message.time,
            reply: message.reply.clone(),
            outcome,
            error,
            origin: None,
            start: None,
            token: None,
            attempt: None,
            sender: None,
            depth: None,
        };
        let said = |by: &ExecutionId, token: Token, cause: Self| Self {
            id: Some(effect_id(by, token)),
            sender: Some((by.as_str().into(), token.entry, token.index.into())),
            ..cause
        };
        match &message.body {
            Body::Event(event) => Self {
                id: event.id.clone(),
                origin: event.origin.clone(),
                start: event.start.clone(),
                sender: event.emitted.clone(),
                ..cause(event.event_type.clone(), event.data.clone())
            },
            Body::Send(send) => {
                let sent = cause(send.event_type.clone(), send.data.clone());
                said(&send.sender, send.token, sent)
            }
            Body::Result(result) => {
                let cause_type = match &result.outcome {
                    TaskOutcome::Started => &STARTED,
                    TaskOutcome::Ok(_) | TaskOutcome::Failed(_) => &RESULT,
                };
                Self {
                    token: Some(result.task),
                    attempt: Some(result.attempt),
                    ..cause(LazyLock::force(cause_type).clone(), data_of(&result.outcome))
                }
            }
            Body::ChildStart(start) => Self {
                start: Some(start.template.clone()),
                token: Some(start.task),
                attempt: Some(start.attempt),
                depth: Some(start.depth),
                ..said(&start.parent, start.token, cause(INIT.clone(), start.input.clone()))
            },
            Body::ChildCancel(cancel) => Self {
                token: Some(cancel.task),
                attempt: Some(cancel.attempt),
                ..said(&cancel.parent, cancel.token, cause(CANCEL.clone(), Value::Null))
            },
            Body::ChildDone(result) => Self {
                token: Some(result.task),
                attempt: Some(result.attempt),
                ..cause(CHILD.clone(), data_of(&result.outcome))
            },
            Body::Fired { timer } => {
                Self { token: Some(*timer), ..cause(TIMER.clone(), Value::Null) }
            }
        }
    }

    /// The message that it was, addressed to `execution`.
    ///
    /// # Errors
    /// If no message becomes such a cause.
    pub fn message(&self, execution: &ExecutionId) -> Result<Message, InvalidCause> {
        let body = match self.stream {
            Source::Events => Body::Event(Event {
                event_type: self.cause_type.clone(),
                id: self.id.clone(),
                origin: self.origin.clone(),
                start: self.start.clone(),
                emitted: self.sender.clone(),
                data: self.data.clone(),
            }),
            Source::Timers => Body::Fired { timer: self.token.ok_or_else(|| self.invalid())? },
            Source::Signals | Source::Own => match (self.token, self.attempt) {
                (Some(task), Some(attempt)) => self.of_task(task, attempt)?,
                _ => Body::Send(self.send()?),
            },
        };
        Ok(Message {
            execution: execution.clone(),
            source: self.stream,
            generation: self.generation,
            stream_seq: self.stream_seq,
            time: self.time,
            reply: self.reply.clone(),
            body,
        })
    }

    /// What names an attempt of a task: its end, or what a parent says to its child.
    fn of_task(&self, task: Token, attempt: u32) -> Result<Body, InvalidCause> {
        if let Some(depth) = self.depth {
            let (parent, token) = self.said_by()?;
            let template = self.start.clone().ok_or_else(|| self.invalid())?;
            let input = self.data.clone();
            let start = ChildStart { parent, token, task, attempt, depth, template, input };
            return Ok(Body::ChildStart(start));
        }
        if self.cause_type == *CANCEL {
            let (parent, token) = self.said_by()?;
            return Ok(Body::ChildCancel(ChildCancel { parent, token, task, attempt }));
        }
        let result = TaskResult { task, attempt, outcome: self.task_outcome()? };
        Ok(if self.cause_type == *CHILD { Body::ChildDone(result) } else { Body::Result(result) })
    }

    fn task_outcome(&self) -> Result<TaskOutcome, InvalidCause> {
        if self.cause_type == *STARTED {
            return Ok(TaskOutcome::Started);
        }
        match self.data.get("ok").and_then(Value::as_bool) {
            Some(true) => Ok(TaskOutcome::Ok(self.data.get("data").cloned().unwrap_or_default())),
            Some(false) => {
                let error = self.data.get("error").ok_or_else(|| self.invalid())?;
                Ok(TaskOutcome::Failed(Failure {
                    code: error.get("code").and_then(Value::as_str).unwrap_or_default().into(),
                    message: error
                        .get("message")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned(),
                    details: error.get("details").cloned().unwrap_or_default(),
                    retryable: error.get("retryable").and_then(Value::as_bool).unwrap_or(true),
                    retry_after_ms: error.get("retry_after_ms").and_then(Value::as_int),
                }))
            }
            None => Err(self.invalid()),
        }
    }

    fn send(&self) -> Result<Send, InvalidCause> {
        let (sender, token) = self.said_by()?;
        let (event_type, data) = (self.cause_type.clone(), self.data.clone());
        Ok(Send { sender, token, event_type, data })
    }

    /// The execution that said it, and the place of the effect.
    fn said_by(&self) -> Result<(ExecutionId, Token), InvalidCause> {
        let (sender, entry, index) = self.sender.as_ref().ok_or_else(|| self.invalid())?;
        let sender = sender.parse().map_err(|_| self.invalid())?;
        let index = u32::try_from(*index).map_err(|_| self.invalid())?;
        Ok((sender, Token { entry: *entry, index }))
    }

    fn invalid(&self) -> InvalidCause {
        InvalidCause { cause_type: self.cause_type.clone(), stream_seq: self.stream_seq }
    }
}

/// A cause that no message becomes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cause {cause_type} (stream sequence {stream_seq}) stands for no message")]
pub struct InvalidCause {
    /// Its type.
    pub cause_type: EventType,
    /// Its stream sequence.
    pub stream_seq: u64,
}

/// `<execution>/<entry>/<index>`
pub(super) fn effect_id(execution: &ExecutionId, token: Token) -> Arc<str> {
    format!("{execution}/{}/{}", token.entry, token.index).into()
}

fn data_of(outcome: &TaskOutcome) -> Value {
    match outcome {
        TaskOutcome::Started => Value::Null,
        TaskOutcome::Ok(data) => object([("data", data.clone()), ("ok", true.into())]),
        TaskOutcome::Failed(failure) => failed(failure),
    }
}

fn failed(failure: &Failure) -> Value {
    let mut error = Object::from_iter([
        ("code", failure.code.clone().into()),
        ("details", failure.details.clone()),
        ("message", failure.message.as_str().into()),
        ("retryable", failure.retryable.into()),
    ]);
    if let Some(ms) = failure.retry_after_ms {
        error.insert("retry_after_ms", Value::Int(ms));
    }
    object([("error", error.into()), ("ok", false.into())])
}

/// An object of these members.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().collect::<Object>())
}
