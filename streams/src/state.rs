//! The state of an execution, read from its journal: the newest entry alone where that carries the
//! state, else the snapshot of just that entry, else base and tail taken again.

use pled_engine::execution::Execution;
use pled_engine::id::ExecutionId;
use pled_engine::replay::{execution_of, fold};

use crate::connection::Nats;
use crate::journal;
use crate::read::ReadError;
use crate::snapshots;
use crate::templates::TemplateCache;

/// The execution as its newest entry left it; `None` if there is none, as the leader says.
///
/// # Errors
/// If there is no answer, or what is stored contradicts itself.
pub async fn read(
    nats: &Nats,
    templates: &TemplateCache,
    id: &ExecutionId,
) -> Result<Option<Execution>, ReadError> {
    let Some(newest) = journal::newest(nats, id, true).await? else { return Ok(None) };
    if let Some(execution) = execution_of(&newest.entry) {
        return Ok(Some(execution));
    }
    // Only a hint: taken if it is of exactly this entry.
    if let Ok(Some(snapshot)) = snapshots::get(nats, id).await
        && snapshot.hash == newest.entry.hash
    {
        return Ok(Some(Execution {
            id: id.clone(),
            seq: snapshot.seq,
            hash: snapshot.hash,
            at: snapshot.at,
            template: Some(snapshot.template),
            status: snapshot.status,
            state: snapshot.state,
        }));
    }
    let corrupt = |reason: String| ReadError::corrupt(format!("the journal of {id}"), reason);
    let Some(base) = newest.entry.base else {
        return Err(corrupt(format!("entry {} has neither state nor base", newest.entry.seq)));
    };
    let mut entries = journal::range(nats, id, base, Some(newest.stream_seq)).await?;
    entries.push(newest);
    let entries: Vec<_> = entries.into_iter().map(|loaded| loaded.entry).collect();
    let Some(first) = entries.first().and_then(execution_of) else {
        return Err(corrupt(format!("the base at {base} carries no state")));
    };
    let template = templates.get(nats, &(&entries[0].template).into()).await?;
    let Some(template) = template.map_err(corrupt)? else {
        return Err(corrupt(format!("its template {} is not registered", entries[0].template)));
    };
    let folded = fold(first, &template, &entries[1..]);
    folded.map(Some).map_err(|divergence| corrupt(divergence.to_string()))
}
