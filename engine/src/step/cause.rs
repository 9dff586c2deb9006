//! Messages as causes of an entry, and back: what replay reads.

use std::sync::{Arc, LazyLock};

use crate::entry::{Cause, Outcome};
use crate::id::{EventType, ExecutionId, Token};
use crate::message::{Body, Event, Failure, Message, Send, Source, TaskOutcome, TaskResult};
use crate::value::{Object, Value};

static RESULT: LazyLock<EventType> = LazyLock::new(|| well_known("pled.result"));
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
        };
        match &message.body {
            Body::Event(event) => Self {
                id: event.id.clone(),
                origin: event.origin.clone(),
                start: event.start.clone(),
                sender: event.emitted.clone(),
                ..cause(event.event_type.clone(), event.data.clone())
            },
            Body::Send(send) => Self {
                id: Some(effect_id(&send.sender, send.token)),
                sender: Some((
                    send.sender.as_str().into(),
                    send.token.entry,
                    send.token.index.into(),
                )),
                ..cause(send.event_type.clone(), send.data.clone())
            },
            Body::Result(result) => {
                let (cause_type, data) = match &result.outcome {
                    TaskOutcome::Started => (STARTED.clone(), Value::Null),
                    TaskOutcome::Ok(data) => (RESULT.clone(), success(data)),
                    TaskOutcome::Failed(failure) => (RESULT.clone(), failed(failure)),
                };
                Self {
                    token: Some(result.task),
                    attempt: Some(result.attempt),
                    ..cause(cause_type, data)
                }
            }
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
                (Some(task), Some(attempt)) => {
                    Body::Result(TaskResult { task, attempt, outcome: self.task_outcome()? })
                }
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
                }))
            }
            None => Err(self.invalid()),
        }
    }

    fn send(&self) -> Result<Send, InvalidCause> {
        let (sender, entry, index) = self.sender.as_ref().ok_or_else(|| self.invalid())?;
        Ok(Send {
            sender: sender.parse().map_err(|_| self.invalid())?,
            token: Token {
                entry: *entry,
                index: u32::try_from(*index).map_err(|_| self.invalid())?,
            },
            event_type: self.cause_type.clone(),
            data: self.data.clone(),
        })
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

fn success(data: &Value) -> Value {
    object([("data", data.clone()), ("ok", true.into())])
}

fn failed(failure: &Failure) -> Value {
    let error = object([
        ("code", failure.code.clone().into()),
        ("details", failure.details.clone()),
        ("message", failure.message.as_str().into()),
        ("retryable", failure.retryable.into()),
    ]);
    object([("error", error), ("ok", false.into())])
}

/// An object of these members.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().collect::<Object>())
}
