//! The actions `nats.request` and `nats.publish`: for services that listen on NATS, never PLED's own
//! subjects or the server's.
//!
//! Input: `{"subject": "…", "data": any, "timeout_ms": 10000}`. The idempotency key goes along as
//! `Nats-Msg-Id`. The result of a request is its answer, as JSON where it is JSON, else as text.

use std::time::Duration;

use futures::future::BoxFuture;
use pled_engine::value::Value;
use pled_streams::Nats;
use pled_streams::request::{RequestError, publish, request};
use serde::Deserialize;

use crate::action::handler::{Handler, Task, TaskError};

/// How long an answer is waited for if the input says nothing.
const TIMEOUT_MS: u64 = 10_000;

/// The handler of the action `nats.request`.
#[derive(Clone, Debug)]
pub struct NatsRequest {
    /// Where to ask.
    pub nats: Nats,
}

/// The handler of the action `nats.publish`.
#[derive(Clone, Debug)]
pub struct NatsPublish {
    /// Where to publish.
    pub nats: Nats,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    subject: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

impl Handler for NatsRequest {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        let nats = self.nats.clone();
        Box::pin(async move {
            let input: Input = task.parse()?;
            let timeout = Duration::from_millis(input.timeout_ms.unwrap_or(TIMEOUT_MS));
            nats_request(&nats, &input.subject, &input.data, &task.key, timeout).await
        })
    }
}

impl Handler for NatsPublish {
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        let nats = self.nats.clone();
        Box::pin(async move {
            let input: Input = task.parse()?;
            nats_publish(&nats, &input.subject, &input.data, &task.key).await
        })
    }
}

/// Asks a service; its answer is JSON where it is JSON, else text.
pub(crate) async fn nats_request(
    nats: &Nats,
    subject: &str,
    data: &Value,
    key: &str,
    timeout: Duration,
) -> Result<Value, TaskError> {
    let asked = request(nats, subject, data.to_canonical().into(), key, timeout);
    let answer = asked.await.map_err(|error| failed(&error))?;
    Ok(match Value::parse(&answer) {
        Ok(json) => json,
        Err(_) if answer.is_empty() => Value::Null,
        Err(_) => String::from_utf8_lossy(&answer).into_owned().into(),
    })
}

/// Publishes to whoever listens.
pub(crate) async fn nats_publish(
    nats: &Nats,
    subject: &str,
    data: &Value,
    key: &str,
) -> Result<Value, TaskError> {
    let published = publish(nats, subject, data.to_canonical().into(), key).await;
    published.map(|()| Value::Null).map_err(|error| failed(&error))
}

fn failed(error: &RequestError) -> TaskError {
    let message = error.to_string();
    match error {
        RequestError::Subject(_) => TaskError::fatal("subject_refused", message),
        RequestError::TooLarge => TaskError::fatal("request_too_large", message),
        RequestError::NoResponders(_) => TaskError::retryable("no_responders", message),
        RequestError::Timeout(_) => TaskError::retryable("timeout", message),
        RequestError::Failed(_) => TaskError::retryable("nats", message),
    }
}
