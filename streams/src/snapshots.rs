//! PLED_SNAPSHOTS: a cache for readers. Nothing is decided from it, and losing it loses nothing.

use pled_engine::id::ExecutionId;
use pled_engine::partition::{Published, Snapshot};

use crate::connection::Nats;
use crate::publish::Publication;
use crate::read::{ReadError, is_marker, keys, last_direct};
use crate::subject::StreamKind;

/// Puts an execution's snapshot; the newest put wins.
pub fn put(
    nats: &Nats,
    execution: &ExecutionId,
    snapshot: &Snapshot,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let payload = serde_json::to_vec(snapshot);
    let subject = nats.names().key(StreamKind::Snapshots, execution.as_str());
    let publisher = nats.publisher(StreamKind::Snapshots).clone();
    async move {
        match payload {
            Ok(payload) => {
                let payload = payload.into();
                publisher.publish(Publication { subject, payload, ..Publication::default() }).await
            }
            Err(error) => Published::Refused(error.to_string()),
        }
    }
}

/// The snapshot that is there, which may be older than the journal.
///
/// # Errors
/// If there is no answer, or the value is no snapshot.
pub async fn get(nats: &Nats, execution: &ExecutionId) -> Result<Option<Snapshot>, ReadError> {
    let subject = nats.names().key(StreamKind::Snapshots, execution.as_str());
    let stored = last_direct(nats, StreamKind::Snapshots, &subject).await?;
    let Some(stored) = stored.filter(|stored| !is_marker(stored)) else {
        return Ok(None);
    };
    let mut snapshot: Snapshot = serde_json::from_slice(&stored.payload)
        .map_err(|error| ReadError::corrupt(format!("the snapshot of {execution}"), error))?;
    snapshot.execution = Some(execution.clone());
    Ok(Some(snapshot))
}

/// The ids of all executions that have a snapshot, ascending, those after `after`. It asks the
/// server for every key: for tools and small installations, the ledger lists without.
///
/// # Errors
/// If there is no answer.
pub async fn ids(nats: &Nats, after: Option<&str>) -> Result<Vec<ExecutionId>, ReadError> {
    let mut ids: Vec<ExecutionId> = keys(nats, StreamKind::Snapshots, ">")
        .await?
        .iter()
        .filter(|key| after.is_none_or(|after| key.as_str() > after))
        .filter_map(|key| key.parse().ok())
        .collect();
    ids.sort();
    Ok(ids)
}
