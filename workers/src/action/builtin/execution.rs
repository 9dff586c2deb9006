//! The actions `start_execution` and `send_event`: one execution begins another, or tells it
//! something, and hears what came of it.
//!
//! `start_execution`: `{"template": "order@3", "id": "order-42", "input": any}`; without `id` it is
//! derived from the task. Result: `{"execution", "outcome": "applied" | "exists"}`.
//!
//! `send_event`: `{"execution": "order-42", "event": "PAID", "data": any}`. Result: `{"execution",
//! "outcome": "applied" | "ignored" | "deferred", "seq"}`.
//!
//! Both carry the task's key as event id, so a repeat of the task has no effect and the first answer.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pled_engine::id::{ExecutionId, Hash, TemplateSelector};
use pled_engine::value::{Object, Value};
use pled_streams::Nats;
use pled_streams::codec::is_reserved;
use pled_streams::events::{EventToSend, SendError};
use pled_streams::outcome::{Outcome, OutcomeError, Outcomes};
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::action::handler::{Handler, Task, TaskError};

/// How long an outcome is waited for.
const WAIT: Duration = Duration::from_secs(30);

/// The public door, and where its answers are received.
#[derive(Clone, Debug)]
pub(super) struct Door {
    nats: Nats,
    outcomes: Arc<OnceCell<Outcomes>>,
}

/// The handler of the action `start_execution`.
#[derive(Clone, Debug)]
pub(super) struct StartExecution(pub(super) Door);

/// The handler of the action `send_event`.
#[derive(Clone, Debug)]
pub(super) struct SendEvent(pub(super) Door);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    template: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    input: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    execution: String,
    event: String,
    #[serde(default)]
    data: Value,
}

impl Door {
    pub(super) fn new(nats: &Nats) -> Self {
        Self { nats: nats.clone(), outcomes: Arc::default() }
    }

    /// Sends an event and gives what came of it, if it was taken in one of these ways.
    async fn deliver(&self, event: EventToSend, taken: &[&str]) -> Result<Value, TaskError> {
        let outcomes = self.outcomes.get_or_try_init(|| Outcomes::open(&self.nats)).await?;
        let execution = event.execution.clone();
        let sent = outcomes.send_and_wait(&self.nats, event, WAIT).await;
        let (_, outcome) = sent.map_err(|error| unsent(&error))?;
        if !taken.contains(&outcome.outcome.as_str()) {
            return Err(refused(&outcome));
        }
        let mut result = Object::from_iter([
            ("execution", Value::from(execution.as_str())),
            ("outcome", outcome.outcome.into()),
        ]);
        if let Some(seq) = outcome.seq.and_then(|seq| i64::try_from(seq).ok()) {
            result.insert("seq", Value::Int(seq));
        }
        Ok(result.into())
    }
}

fn event(
    task: &Task,
    execution: ExecutionId,
    kind: &str,
    data: &Value,
) -> Result<EventToSend, TaskError> {
    Ok(EventToSend {
        execution,
        event_type: kind.parse().map_err(bad)?,
        data: data.to_canonical().into(),
        event_id: Some(task.key.clone()),
        template: None,
        reply: None,
        origin: Some(task.execution.to_string()),
        emitted: None,
    })
}

fn bad(error: impl std::fmt::Display) -> TaskError {
    TaskError::fatal("bad_input", error.to_string())
}

fn unsent(error: &OutcomeError) -> TaskError {
    let message = error.to_string();
    match error {
        OutcomeError::Send(SendError::TooLarge) => TaskError::fatal("event_too_large", message),
        OutcomeError::Send(SendError::Refused(_)) => TaskError::fatal("event_refused", message),
        OutcomeError::Send(SendError::Full | SendError::Unknown) => {
            TaskError::retryable("not_sent", message)
        }
        OutcomeError::Pending { .. } => TaskError::retryable("timeout", message),
    }
}

/// The code is the outcome: `rejected`, `closed`, `unknown_execution`.
fn refused(outcome: &Outcome) -> TaskError {
    let message = match &outcome.error {
        Some(error) => error.clone(),
        None => format!("the event was answered {}", outcome.outcome),
    };
    TaskError::fatal(outcome.outcome.replace('-', "_"), message)
}

impl Handler for StartExecution {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        let door = self.0.clone();
        Box::pin(async move {
            let start: Start = task.parse()?;
            let template: TemplateSelector = start.template.parse().map_err(bad)?;
            let execution = match &start.id {
                Some(id) => id.parse().map_err(bad)?,
                None => derived_id(&task.key),
            };
            let init = event(&task, execution, "pled.init", &start.input)?;
            let init = EventToSend { template: Some(template), ..init };
            door.deliver(init, &["applied", "ignored", "exists"]).await
        })
    }
}

impl Handler for SendEvent {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        let door = self.0.clone();
        Box::pin(async move {
            let send: Send = task.parse()?;
            if send.event.starts_with("pled.") || is_reserved(&send.event) {
                return Err(bad(format!("{} is a reserved type", send.event)));
            }
            let execution = send.execution.parse().map_err(bad)?;
            let event = event(&task, execution, &send.event, &send.data)?;
            door.deliver(event, &["applied", "ignored", "deferred"]).await
        })
    }
}

/// The id of the execution that a task starts without naming it.
fn derived_id(key: &str) -> ExecutionId {
    let hash = Hash::of(format!("start_execution {key}").as_bytes()).to_string();
    format!("x{}", &hash[..32]).parse().expect("hexadecimal digits are an id")
}
