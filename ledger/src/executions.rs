//! The rows of `executions`: each execution as the batch leaves it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pled_engine::entry::JournalEntry;
use pled_engine::id::ExecutionId;
use pled_engine::partition::Loaded;
use pled_engine::value::Value;
use sqlx::PgConnection;

use crate::LedgerError;
use crate::project::{bigint, hex};
use crate::rows::{jsonb, template_id};

/// Of each execution in the batch: its first time, and its newest entry with the configuration and
/// output as far as the batch tells them.
struct ExecutionRow<'a> {
    created: i64,
    newest: &'a JournalEntry,
    configuration: Option<&'a [Arc<str>]>,
    output: Option<&'a Value>,
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    batch: &[Loaded],
    outputs: &BTreeMap<ExecutionId, Value>,
) -> Result<(), LedgerError> {
    let rows = fold(batch, outputs);
    let newest = || rows.values().map(|row| row.newest);
    sqlx::query(
        "INSERT INTO executions (id, template_id, template_name, template_version, status, seq,
                                 hash, configuration, output, created_at, updated_at)
         SELECT id, template_id::uuid, template_name, template_version, status, seq, hash,
                CASE WHEN configuration IS NOT NULL
                     THEN ARRAY(SELECT jsonb_array_elements_text(configuration::jsonb))
                     ELSE coalesce((SELECT known.configuration FROM executions AS known
                                    WHERE known.id = row.id), '{}') END,
                output::jsonb,
                'epoch'::timestamptz + created * interval '1 millisecond',
                'epoch'::timestamptz + updated * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::text[], $6::int8[],
                     $7::bytea[], $8::text[], $9::text[], $10::int8[], $11::int8[])
              AS row (id, template_id, template_name, template_version, status, seq, hash,
                      configuration, output, created, updated)
         ON CONFLICT (id) DO UPDATE SET
             template_id = excluded.template_id,
             template_name = excluded.template_name,
             template_version = excluded.template_version,
             status = excluded.status,
             seq = excluded.seq,
             hash = excluded.hash,
             configuration = excluded.configuration,
             output = coalesce(excluded.output, executions.output),
             updated_at = excluded.updated_at",
    )
    .bind(rows.keys().map(|id| id.as_str()).collect::<Vec<_>>())
    .bind(newest().map(|entry| hex(&template_id(&entry.template))).collect::<Vec<_>>())
    .bind(newest().map(|entry| entry.template.name.as_str()).collect::<Vec<_>>())
    .bind(
        newest()
            .map(|entry| i32::try_from(entry.template.version).unwrap_or(i32::MAX))
            .collect::<Vec<_>>(),
    )
    .bind(newest().map(|entry| entry.status.as_str()).collect::<Vec<_>>())
    .bind(newest().map(|entry| bigint(entry.seq)).collect::<Vec<_>>())
    .bind(newest().map(|entry| entry.hash.as_bytes().as_slice()).collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.configuration.map(json_of)).collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.output.map(jsonb)).collect::<Vec<_>>())
    .bind(rows.values().map(|row| row.created).collect::<Vec<_>>())
    .bind(newest().map(|entry| entry.at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn fold<'a>(
    batch: &'a [Loaded],
    outputs: &'a BTreeMap<ExecutionId, Value>,
) -> BTreeMap<&'a ExecutionId, ExecutionRow<'a>> {
    let mut rows = BTreeMap::new();
    for Loaded { entry, .. } in batch {
        let row = rows.entry(&entry.execution).or_insert(ExecutionRow {
            created: entry.at,
            newest: entry,
            configuration: None,
            output: outputs.get(&entry.execution),
        });
        row.newest = entry;
        if let Some(state) = &entry.state {
            row.configuration = Some(&state.configuration);
            row.output = Some(&state.output).filter(|output| !output.is_null()).or(row.output);
        } else if let Some(transition) = entry.transitions.last() {
            row.configuration = Some(&transition.to);
        }
    }
    rows
}

/// An array of arrays must be rectangular in Postgres, so each configuration travels as JSON.
fn json_of(configuration: &[Arc<str>]) -> String {
    let ids: Vec<Value> = configuration.iter().map(|id| id.clone().into()).collect();
    jsonb(&ids.into())
}
