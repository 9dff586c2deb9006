//! What a handler of an action gets and gives back.

use std::fmt;
use std::future::Future;

use futures::future::BoxFuture;
use pled_engine::id::{ExecutionId, TemplateRef};
use pled_engine::message::{Failure, Millis};
use pled_engine::value::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One attempt of one piece of work.
///
/// It may be delivered again, to this worker or another, if a worker dies: the same [`Self::key`]
/// comes back, and whatever a handler changes outside should be keyed by it.
#[derive(Clone, Debug)]
pub struct Task {
    /// `<execution>/<entry>/<index>`: the idempotency key, the same over all attempts.
    pub key: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The execution that asks for it.
    pub execution: ExecutionId,
    /// The template version of that execution.
    pub template: TemplateRef,
    /// The action's name.
    pub action: String,
    /// The arguments, as the template resolved them.
    pub input: Value,
    /// Data for people, as the template says it.
    pub meta: Value,
    /// When all attempts together must have ended, in milliseconds since the epoch.
    pub deadline: Option<Millis>,
    /// How long this attempt may take, in milliseconds; then it is dropped and counts as failed.
    pub start_to_close_ms: Option<i64>,
    /// The trace that the task belongs to (W3C `traceparent`).
    pub traceparent: Option<String>,
}

impl Task {
    /// The input as a type of the handler's own.
    ///
    /// # Errors
    /// With the code `bad_input`, not retryable, if it does not fit.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        serde_json::from_slice(&self.input.to_canonical()).map_err(|error| {
            TaskError::fatal(
                "bad_input",
                format!("the input of {} does not fit: {error}", self.action),
            )
        })
    }
}

/// Why an attempt failed. `?` makes one of any error: code `error`, retryable.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskError {
    /// A short stable word that the template may look at (`event.data.code`, `non_retryable`).
    pub code: String,
    /// For people.
    pub message: String,
    /// Whatever else is known.
    pub details: Value,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// The next attempt is not to be made before so many milliseconds.
    pub retry_after_ms: Option<i64>,
}

impl TaskError {
    /// A failure that another attempt may mend.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            details: Value::Null,
            retryable: true,
            retry_after_ms: None,
        }
    }

    /// A failure that another attempt cannot mend.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(code, message) }
    }

    /// The same with more that is known.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

// `TaskError` is no `std::error::Error` itself, so that this holds for all that are.
impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::retryable("error", message)
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Self {
            code: error.code.into(),
            message: error.message,
            details: error.details,
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
        }
    }
}

/// Something that does the work of an action.
///
/// Every `async` function or closure from [`Task`] to `Result<impl Serialize, TaskError>` is one.
/// Implement it by hand where the work needs state of its own.
pub trait Handler: Send + Sync + 'static {
    /// Does the work once. The future is dropped when the attempt's time is up or the worker has
    /// to stop before it is done.
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>>;
}

impl<F, Fut, T> Handler for F
where
    F: Fn(Task) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, TaskError>> + Send + 'static,
    T: Serialize,
{
    fn handle(&self, task: Task) -> BoxFuture<'static, Result<Value, TaskError>> {
        let work = self(task);
        Box::pin(async move { to_value(&work.await?) })
    }
}

/// Any serialisable result as a value of the core.
fn to_value(result: &impl Serialize) -> Result<Value, TaskError> {
    let bad = |error: String| {
        TaskError::fatal("bad_result", format!("the result cannot be kept as JSON: {error}"))
    };
    let text = serde_json::to_vec(result).map_err(|error| bad(error.to_string()))?;
    Value::parse(&text).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(input: &str) -> Task {
        Task {
            key: "order-42/1/0".to_owned(),
            attempt: 1,
            execution: "order-42".parse().unwrap(),
            template: "order@3".parse().unwrap(),
            action: "payments.charge".to_owned(),
            input: Value::parse(input.as_bytes()).unwrap(),
            meta: Value::Null,
            deadline: None,
            start_to_close_ms: None,
            traceparent: None,
        }
    }

    #[derive(serde::Deserialize, Serialize)]
    struct Charge {
        amount: i64,
    }

    #[tokio::test]
    async fn a_closure_over_types_of_its_own_is_a_handler() {
        let handler = |task: Task| async move {
            let charge: Charge = task.parse()?;
            Ok(Charge { amount: charge.amount + 1 })
        };

        let done = handler.handle(task(r#"{"amount":41}"#)).await.unwrap();
        let failed = handler.handle(task(r#"{"amount":"much"}"#)).await.unwrap_err();

        assert_eq!(done.get("amount"), Some(&Value::Int(42)));
        assert_eq!((failed.code.as_str(), failed.retryable), ("bad_input", false));
    }

    #[tokio::test]
    async fn any_error_becomes_a_retryable_failure_with_its_causes() {
        let handler = |_task: Task| async move {
            let port: u16 = "many".parse()?;
            Ok(port)
        };

        let failed = handler.handle(task("null")).await.unwrap_err();

        assert_eq!(failed.to_string(), "error: invalid digit found in string");
        assert!(failed.retryable);
    }
}
