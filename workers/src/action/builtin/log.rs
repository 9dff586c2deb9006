//! The action `log`: a line in the worker's log.

use pled_engine::value::Value;

use crate::action::handler::{Task, TaskError};

/// Writes the input to the worker's log, at the level that its member `level` names (`debug`,
/// `warn`, `error`, else `info`), and gives it back.
pub(super) async fn log(task: Task) -> Result<Value, TaskError> {
    let Task { key, execution, input, .. } = task;
    let message = input.get("message").and_then(Value::as_str).unwrap_or_default();
    match input.get("level").and_then(Value::as_str) {
        Some("debug") => tracing::debug!(task = %key, %execution, %input, "{message}"),
        Some("warn") => tracing::warn!(task = %key, %execution, %input, "{message}"),
        Some("error") => tracing::error!(task = %key, %execution, %input, "{message}"),
        Some(_) | None => tracing::info!(task = %key, %execution, %input, "{message}"),
    }
    Ok(input)
}
