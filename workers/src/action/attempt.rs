//! One attempt of one task, from its delivery to its acknowledgement.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use pled_engine::effect::Timeouts;
use pled_engine::message::{Failure, TaskOutcome};
use pled_engine::partition::Published;
use pled_engine::value::Value;
use pled_streams::signals;
use pled_streams::tasks::{Delivery, TaskRequest};
use tokio::task::AbortHandle;

use super::handler::{Handler, Task, TaskError};
use super::worker::Shared;

/// From this delivery on a task counts as one that kills its workers.
const LOST_AT: u64 = 6;
/// Pauses between attempts to publish a result.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(2));
/// How often a result that the server refuses is tried.
const REFUSALS: u32 = 8;

/// How an attempt ended, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Failed,
    /// Its result was there already.
    Repeat,
    /// The worker shut down before it was done.
    GivenBack,
    /// Its result could not be published.
    Unpublished,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Repeat => "repeat",
            Self::GivenBack => "given_back",
            Self::Unpublished => "unpublished",
        }
    }
}

/// Performs an attempt, with signs of life to its queue at a third of what the queue waits.
pub(super) async fn perform(
    shared: &Shared,
    delivery: &Delivery,
    request: &TaskRequest,
    handler: Option<Arc<dyn Handler>>,
    ack_wait: Duration,
) {
    let known = handler.is_some();
    let begun = Instant::now();
    let outcome = {
        let work = std::pin::pin!(work(shared, delivery, request, handler));
        let alive = std::pin::pin!(keep_alive(delivery, &request.timeout, ack_wait));
        match select(work, alive).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => match never {},
        }
    };
    let action = if known { request.action.to_string() } else { "other".to_owned() };
    metrics::histogram!("pled_action_duration_seconds", "action" => action.clone())
        .record(begun.elapsed());
    metrics::counter!(
        "pled_action_attempts_total",
        "action" => action,
        "outcome" => outcome.as_str()
    )
    .increment(1);
}

async fn keep_alive(
    delivery: &Delivery,
    timeout: &Timeouts,
    ack_wait: Duration,
) -> std::convert::Infallible {
    let heartbeat = timeout.heartbeat_ms.and_then(duration).unwrap_or(ack_wait);
    let pause = (heartbeat.min(ack_wait) / 3).max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(pause).await;
        delivery.progress().await;
    }
}

fn duration(millis: i64) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

async fn work(
    shared: &Shared,
    delivery: &Delivery,
    request: &TaskRequest,
    handler: Option<Arc<dyn Handler>>,
) -> Outcome {
    if delivery.deliveries > 1 && is_done(shared, request).await {
        acknowledge(delivery, request).await;
        return Outcome::Repeat;
    }
    let result = if delivery.deliveries >= LOST_AT {
        let message =
            format!("it was handed out {} times and no worker finished it", delivery.deliveries);
        TaskOutcome::Failed(TaskError::retryable("worker_lost", message).into())
    } else {
        if request.timeout.schedule_to_start_ms.is_some() {
            publish(shared, request, TaskOutcome::Started).await;
        }
        let Some(result) = run(shared, delivery, request, handler).await else {
            delivery.nak().await;
            return Outcome::GivenBack;
        };
        result
    };
    let outcome = match &result {
        TaskOutcome::Ok(_) | TaskOutcome::Started => Outcome::Ok,
        TaskOutcome::Failed(failure) => {
            let Failure { code, message, .. } = failure;
            tracing::debug!(task = request.task, attempt = request.attempt, %code, message, "failed");
            Outcome::Failed
        }
    };
    if publish(shared, request, result).await {
        acknowledge(delivery, request).await;
        outcome
    } else {
        // Without its acknowledgement it is handed out again.
        Outcome::Unpublished
    }
}

/// Whether the result is there already: another delivery of the same attempt brought it, and only
/// the acknowledgement was lost. Only the stream's leader knows.
async fn is_done(shared: &Shared, request: &TaskRequest) -> bool {
    let Some(token) = request.token() else { return false };
    let mut pause = PAUSES.0;
    loop {
        let looked =
            signals::result_exists(&shared.nats, &request.execution, token, request.attempt).await;
        match looked {
            Ok(found) => return found,
            Err(error) => tracing::debug!(%error, "a result is looked for again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Lets the handler do the work; `None` if the worker has to stop before it is done.
async fn run(
    shared: &Shared,
    delivery: &Delivery,
    request: &TaskRequest,
    handler: Option<Arc<dyn Handler>>,
) -> Option<TaskOutcome> {
    let Some(handler) = handler else {
        let message = format!("this worker has no handler for {}", request.action);
        return Some(failed(TaskError::retryable("unknown_action", message)));
    };
    let task = Task {
        key: request.task.clone(),
        attempt: request.attempt,
        execution: request.execution.clone(),
        template: request.template.clone(),
        action: request.action.to_string(),
        input: request.input.clone(),
        meta: request.meta.clone(),
        deadline: request.deadline,
        start_to_close_ms: request.timeout.start_to_close_ms,
        traceparent: delivery.headers.get("traceparent").map(|value| value.as_str().to_owned()),
    };
    // A task of its own: a panic ends nothing else, and a handler that blocks its thread does not
    // hold up the signs of life.
    let mut handling = tokio::spawn(async move { handler.handle(task).await });
    let _stop = StopOnDrop(handling.abort_handle());
    let bound = request.timeout.start_to_close_ms.and_then(duration);
    let time_is_up = async {
        match bound {
            Some(bound) => tokio::time::sleep(bound).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        handled = &mut handling => Some(match handled {
            Ok(Ok(value)) => fitting(value, shared.result_bytes_max),
            Ok(Err(error)) => failed(error),
            Err(error) => failed(match error.try_into_panic() {
                Ok(panic) => TaskError::retryable("panic", said_by(&*panic)),
                Err(error) => TaskError::retryable("error", error.to_string()),
            }),
        }),
        () = time_is_up => {
            let message = format!("it took longer than {} ms", bound.unwrap_or_default().as_millis());
            Some(failed(TaskError::retryable("timeout", message)))
        }
        () = shared.give_back.cancelled() => None,
    }
}

/// Ends a handler whose result is not wanted any more.
struct StopOnDrop(AbortHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn failed(error: TaskError) -> TaskOutcome {
    TaskOutcome::Failed(error.into())
}

fn fitting(value: Value, most: usize) -> TaskOutcome {
    let length = value.to_canonical().len();
    if length > most {
        let message = format!("the result has {length} bytes, {most} at most are kept");
        return failed(TaskError::fatal("result_too_large", message));
    }
    TaskOutcome::Ok(value)
}

/// What a panic said.
fn said_by(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// Publishes what came of it until it is known to be stored; `false` if the server refuses it.
async fn publish(shared: &Shared, request: &TaskRequest, mut outcome: TaskOutcome) -> bool {
    let mut pause = PAUSES.0;
    let mut refusals = 0;
    loop {
        let subject = &request.result_subject;
        match signals::publish_result(&shared.nats, subject, &outcome).await {
            Published::Stored { .. } | Published::Conflict { .. } => return true,
            Published::TooLarge => {
                let message = "the result is larger than the server takes";
                outcome = failed(TaskError::fatal("result_too_large", message));
                continue;
            }
            Published::Refused(reason) => {
                refusals += 1;
                if refusals >= REFUSALS {
                    tracing::error!(task = request.task, reason, "a result is refused");
                    return false;
                }
            }
            Published::Full => tracing::warn!("PLED_SIGNALS is full: results wait"),
            Published::Unknown => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn acknowledge(delivery: &Delivery, request: &TaskRequest) {
    if let Err(error) = delivery.ack().await {
        tracing::warn!(task = request.task, %error, "it may be handed out again");
    }
}
