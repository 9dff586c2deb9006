//! PLED_SIGNALS: results of tasks, what executions send to each other, and what parents and
//! children tell each other.

use async_nats::HeaderMap;
use pled_engine::id::{EventType, ExecutionId, Token};
use pled_engine::message::{ChildCancel, ChildStart, TaskOutcome, TaskResult};
use pled_engine::partition::Published;
use pled_engine::value::Value;

use crate::codec::{child_cancel_to_json, child_start_to_json, outcome_to_json};
use crate::connection::Nats;
use crate::publish::{Publication, set_header};
use crate::read::{ReadError, last_from_leader};
use crate::subject::{ChildSays, EVENT, ResultToken, StreamKind};

/// Publishes what came out of an attempt on the subject that its request names, expecting that it
/// is empty: a conflict means that it is there already. A pick-up goes on its own subject.
pub async fn publish_result(nats: &Nats, result_subject: &str, outcome: &TaskOutcome) -> Published {
    if !is_result(nats, result_subject) {
        return Published::Refused(format!("{result_subject:?} is no subject of a result"));
    }
    let suffix = match outcome {
        TaskOutcome::Started => "-started",
        TaskOutcome::Ok(_) | TaskOutcome::Failed(_) => "",
    };
    let publication = Publication {
        subject: format!("{result_subject}{suffix}"),
        payload: outcome_to_json(outcome).into(),
        expected: Some(0),
        ..Publication::default()
    };
    nats.publisher(StreamKind::Signals).publish(publication).await
}

/// Whether `subject` is `pled.signals.<execution>.result.<entry>-<index>-<attempt>`.
fn is_result(nats: &Nats, subject: &str) -> bool {
    let words = nats.names().words(subject).unwrap_or_default();
    let [door, execution, kind, token] = words[..] else {
        return false;
    };
    door == "signals"
        && kind == "result"
        && execution.parse::<ExecutionId>().is_ok()
        && ResultToken::parse(token).is_some_and(|token| !token.started)
}

/// Whether the result of an attempt is in the stream, as its leader says.
///
/// # Errors
/// If the leader does not answer.
pub async fn result_exists(
    nats: &Nats,
    execution: &ExecutionId,
    task: Token,
    attempt: u32,
) -> Result<bool, ReadError> {
    let partition = nats.known_partition_of(execution)?;
    let subject = nats.names().result_stored(partition, execution, task, attempt);
    Ok(last_from_leader(nats, StreamKind::Signals, &subject).await?.is_some())
}

/// Publishes an event of one execution for another, expecting that its subject is empty.
pub fn publish_send(
    nats: &Nats,
    sender: &ExecutionId,
    token: Token,
    to: &ExecutionId,
    event: &EventType,
    data: &Value,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let mut headers = HeaderMap::new();
    set_header(&mut headers, EVENT, event.as_str());
    nats.publisher(StreamKind::Signals).publish(Publication {
        subject: nats.names().send(to, sender, token),
        headers,
        payload: data.to_canonical().into(),
        expected: Some(0),
    })
}

/// Publishes the start of a child, expecting that its subject is empty.
pub fn publish_child_start(
    nats: &Nats,
    child: &ExecutionId,
    start: &ChildStart,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let subject = nats.names().child(child, ChildSays::Start, &start.parent, start.token);
    publish_new(nats, subject, child_start_to_json(start))
}

/// Publishes the wish that a child ends, expecting that its subject is empty.
pub fn publish_child_cancel(
    nats: &Nats,
    child: &ExecutionId,
    cancel: &ChildCancel,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let subject = nats.names().child(child, ChildSays::Cancel, &cancel.parent, cancel.token);
    publish_new(nats, subject, child_cancel_to_json(cancel))
}

/// Publishes how a child ended for its parent, expecting that its subject is empty.
pub fn publish_child_done(
    nats: &Nats,
    parent: &ExecutionId,
    result: &TaskResult,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let subject = nats.names().child_done(parent, result.task, result.attempt);
    publish_new(nats, subject, outcome_to_json(&result.outcome))
}

fn publish_new(
    nats: &Nats,
    subject: String,
    payload: Vec<u8>,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    nats.publisher(StreamKind::Signals).publish(Publication {
        subject,
        payload: payload.into(),
        expected: Some(0),
        ..Publication::default()
    })
}
