//! One batch of journal entries, written in one transaction together with the position.

use std::collections::BTreeMap;
use std::sync::Arc;

use pled_engine::entry::JournalEntry;
use pled_engine::partition::Loaded;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::rows::{self, ActionChange, MessageRow};
use crate::{Ledger, LedgerError, partitions};

/// The name of this projection in `projections`.
const NAME: &str = "ledger";

impl Ledger {
    /// Up to where the journal of `incarnation` is projected: the last stream sequence, 0 before
    /// the first.
    ///
    /// # Errors
    /// If Postgres is away, or the ledger holds another journal.
    pub async fn position(&self, incarnation: &str) -> Result<u64, LedgerError> {
        sqlx::query(
            "INSERT INTO projections (name, incarnation, stream_seq) VALUES ($1, $2, 0)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(NAME)
        .bind(incarnation)
        .execute(self.pool())
        .await?;
        let (found, seq): (String, i64) =
            sqlx::query_as("SELECT incarnation, stream_seq FROM projections WHERE name = $1")
                .bind(NAME)
                .fetch_one(self.pool())
                .await?;
        if found != incarnation {
            return Err(LedgerError::ForeignJournal { found, expected: incarnation.to_owned() });
        }
        Ok(u64::try_from(seq).unwrap_or(0))
    }

    /// Writes these entries, in stream order, and moves the position from `from` to the last of
    /// them, all or nothing.
    ///
    /// Returns `false` and writes nothing if the position is not `from` any more: another projector
    /// was there.
    ///
    /// # Errors
    /// If Postgres is away or refuses.
    pub async fn project(&self, from: u64, batch: &[Loaded]) -> Result<bool, LedgerError> {
        let Some(last) = batch.last() else { return Ok(true) };
        {
            let mut connection = self.pool().acquire().await?;
            let times = batch.iter().map(|loaded| loaded.entry.at);
            partitions::make_for(&mut connection, times).await?;
        }
        let mut transaction = self.pool().begin().await?;
        let moved = sqlx::query(
            "UPDATE projections SET stream_seq = $3, updated_at = now()
             WHERE name = $1 AND stream_seq = $2",
        )
        .bind(NAME)
        .bind(bigint(from))
        .bind(bigint(last.stream_seq))
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        write_entries(&mut transaction, batch).await?;
        write_messages(&mut transaction, batch).await?;
        write_actions(&mut transaction, batch).await?;
        write_executions(&mut transaction, batch).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Records a registered template, its rules enabled only if it is the newest version.
    ///
    /// # Errors
    /// If Postgres is away or refuses.
    pub async fn put_template(
        &self,
        template: &pled_engine::template::Template,
        newest: bool,
    ) -> Result<(), LedgerError> {
        let reference = template.reference();
        let id = hex(&rows::template_id(&reference));
        let source = pled_engine::value::Value::parse(template.source.as_bytes())
            .map_err(|error| LedgerError::Damaged(error.to_string()))?;
        let mut transaction = self.pool().begin().await?;
        sqlx::query(
            "INSERT INTO templates (id, name, version, hash, model)
             VALUES ($1::uuid, $2, $3, $4, $5::jsonb) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&id)
        .bind(reference.name.as_str())
        .bind(i32::try_from(reference.version).unwrap_or(i32::MAX))
        .bind(template.hash.as_bytes().as_slice())
        .bind(rows::jsonb(&source))
        .execute(&mut *transaction)
        .await?;
        if newest {
            sqlx::query(
                "UPDATE rules SET enabled = false FROM templates
                 WHERE rules.template_id = templates.id AND templates.name = $1
                   AND templates.version < $2 AND rules.enabled",
            )
            .bind(reference.name.as_str())
            .bind(i32::try_from(reference.version).unwrap_or(i32::MAX))
            .execute(&mut *transaction)
            .await?;
        }
        let sources = source.get("rules").and_then(pled_engine::value::Value::as_array);
        for (rule, json) in template.rules.iter().zip(sources.unwrap_or_default()) {
            sqlx::query(
                "INSERT INTO rules (id, template_id, rule, type, rule_json, enabled)
                 VALUES ($1::uuid, $2::uuid, $3, $4, $5::jsonb, $6)
                 ON CONFLICT (id) DO UPDATE SET enabled = excluded.enabled",
            )
            .bind(hex(&rows::derived_id("rule", &[&reference.to_string(), &rule.id])))
            .bind(&id)
            .bind(&*rule.id)
            .bind(rule.source.as_deref().unwrap_or("*"))
            .bind(rows::jsonb(json))
            .bind(newest)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

async fn write_entries(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &[Loaded],
) -> Result<(), LedgerError> {
    let mut ids = Vec::with_capacity(batch.len());
    let mut executions = Vec::with_capacity(batch.len());
    let mut seqs = Vec::with_capacity(batch.len());
    let mut texts = Vec::with_capacity(batch.len());
    let mut exact: Vec<Option<Vec<u8>>> = Vec::with_capacity(batch.len());
    let mut hashes = Vec::with_capacity(batch.len());
    let mut stream_seqs = Vec::with_capacity(batch.len());
    let mut times = Vec::with_capacity(batch.len());
    for Loaded { stream_seq, entry } in batch {
        let bytes = entry.encode().map_err(|error| LedgerError::Damaged(error.to_string()))?;
        let json = String::from_utf8_lossy(&bytes);
        let (text, changed) = rows::jsonb_of(&json);
        let seq = entry.seq.to_string();
        ids.push(hex(&rows::derived_id("entry", &[entry.execution.as_str(), &seq])));
        executions.push(entry.execution.to_string());
        seqs.push(bigint(entry.seq));
        texts.push(text);
        exact.push(changed.then(|| bytes.clone()));
        hashes.push(entry.hash.as_bytes().to_vec());
        stream_seqs.push(bigint(*stream_seq));
        times.push(entry.at);
    }
    sqlx::query(
        "INSERT INTO ledger_entries
             (id, execution_id, seq, entry_json, entry_bytes, hash, stream_seq, created_at)
         SELECT id::uuid, execution, seq, json::jsonb, bytes, hash, stream_seq,
                'epoch'::timestamptz + at * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::bytea[], $6::bytea[],
                     $7::int8[], $8::int8[])
              AS row (id, execution, seq, json, bytes, hash, stream_seq, at)",
    )
    .bind(ids)
    .bind(executions)
    .bind(seqs)
    .bind(texts)
    .bind(exact)
    .bind(hashes)
    .bind(stream_seqs)
    .bind(times)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

#[derive(Default)]
struct MessageColumns {
    ids: Vec<String>,
    executions: Vec<String>,
    seqs: Vec<i64>,
    indexes: Vec<i32>,
    streams: Vec<&'static str>,
    stream_seqs: Vec<i64>,
    types: Vec<String>,
    payloads: Vec<String>,
    event_ids: Vec<Option<String>>,
    outcomes: Vec<&'static str>,
    errors: Vec<Option<String>>,
    times: Vec<i64>,
    entry_times: Vec<i64>,
}

impl MessageColumns {
    fn push(&mut self, entry: &JournalEntry, row: MessageRow) {
        self.ids.push(hex(&row.id));
        self.executions.push(entry.execution.to_string());
        self.seqs.push(bigint(entry.seq));
        self.indexes.push(row.cause_index);
        self.streams.push(row.stream);
        self.stream_seqs.push(row.stream_seq);
        self.types.push(row.message_type);
        self.payloads.push(row.payload);
        self.event_ids.push(row.event_id);
        self.outcomes.push(row.outcome);
        self.errors.push(row.error);
        self.times.push(row.time);
        self.entry_times.push(entry.at);
    }
}

async fn write_messages(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &[Loaded],
) -> Result<(), LedgerError> {
    let mut all = MessageColumns::default();
    let mut events = MessageColumns::default();
    for Loaded { entry, .. } in batch {
        for row in rows::messages(entry) {
            if row.stream == "events" {
                events.push(entry, row.clone());
            }
            all.push(entry, row);
        }
    }
    sqlx::query(
        "INSERT INTO messages (id, execution_id, seq, cause_index, stream, stream_seq, type,
                               payload, outcome, error, \"timestamp\")
         SELECT id::uuid, execution, seq, cause_index, stream, stream_seq, type, payload::jsonb,
                outcome, error, 'epoch'::timestamptz + at * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::int8[], $4::int4[], $5::text[], $6::int8[],
                     $7::text[], $8::text[], $9::text[], $10::text[], $11::int8[])
              AS row (id, execution, seq, cause_index, stream, stream_seq, type, payload,
                      outcome, error, at)",
    )
    .bind(all.ids)
    .bind(all.executions)
    .bind(all.seqs)
    .bind(all.indexes)
    .bind(all.streams)
    .bind(all.stream_seqs)
    .bind(all.types)
    .bind(all.payloads)
    .bind(all.outcomes)
    .bind(all.errors)
    .bind(all.times)
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "INSERT INTO events (id, execution_id, seq, cause_index, type, payload, event_id,
                             \"timestamp\", created_at)
         SELECT id::uuid, execution, seq, cause_index, type, payload::jsonb, event_id,
                'epoch'::timestamptz + at * interval '1 millisecond',
                'epoch'::timestamptz + entry_at * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::int8[], $4::int4[], $5::text[], $6::text[],
                     $7::text[], $8::int8[], $9::int8[])
              AS row (id, execution, seq, cause_index, type, payload, event_id, at, entry_at)",
    )
    .bind(events.ids)
    .bind(events.executions)
    .bind(events.seqs)
    .bind(events.indexes)
    .bind(events.types)
    .bind(events.payloads)
    .bind(events.event_ids)
    .bind(events.times)
    .bind(events.entry_times)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// What is written once of a task.
#[derive(Default)]
struct FirstAttempt {
    task: String,
    action: String,
    invocation: Option<String>,
    input: String,
}

/// What a task is after a batch: its changes folded, so that each row is written once.
struct ActionRow {
    execution: String,
    first: Option<FirstAttempt>,
    status: &'static str,
    attempts: i32,
    output: Option<String>,
    error: Option<String>,
    created: i64,
    updated: i64,
}

async fn write_actions(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &[Loaded],
) -> Result<(), LedgerError> {
    let mut folded: BTreeMap<[u8; 16], ActionRow> = BTreeMap::new();
    for Loaded { entry, .. } in batch {
        for change in rows::actions(entry) {
            fold(&mut folded, entry, change);
        }
    }
    let (fresh, known): (Vec<_>, Vec<_>) =
        folded.into_iter().partition(|(_, row)| row.first.is_some());
    insert_actions(transaction, fresh).await?;
    update_actions(transaction, known).await
}

fn fold(folded: &mut BTreeMap<[u8; 16], ActionRow>, entry: &JournalEntry, change: ActionChange) {
    let row = |folded: &mut BTreeMap<[u8; 16], ActionRow>, id| {
        folded.entry(id).or_insert_with(|| ActionRow {
            execution: entry.execution.to_string(),
            first: None,
            status: "pending",
            attempts: 0,
            output: None,
            error: None,
            created: entry.at,
            updated: entry.at,
        });
    };
    match change {
        ActionChange::Dispatched { id, task, action, invocation, attempt, input } => {
            row(folded, id);
            if let Some(row) = folded.get_mut(&id) {
                if attempt == 1 {
                    row.first = Some(FirstAttempt { task, action, invocation, input });
                }
                row.status = "pending";
                row.attempts = attempt;
                row.updated = entry.at;
            }
        }
        ActionChange::Ended { id, status, output, error } => {
            row(folded, id);
            if let Some(row) = folded.get_mut(&id) {
                row.status = status;
                row.output = output.or(row.output.take());
                row.error = error.or(row.error.take());
                row.updated = entry.at;
            }
        }
    }
}

async fn insert_actions(
    connection: &mut PgConnection,
    rows: Vec<([u8; 16], ActionRow)>,
) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    let none = FirstAttempt::default();
    let first = || rows.iter().map(|(_, row)| row.first.as_ref().unwrap_or(&none));
    sqlx::query(
        "INSERT INTO actions (id, execution_id, task, type, invocation, status, attempts, input,
                              output, error_json, created_at, updated_at)
         SELECT id::uuid, execution, task, type, invocation, status, attempts, input::jsonb,
                output::jsonb, error::jsonb,
                'epoch'::timestamptz + created * interval '1 millisecond',
                'epoch'::timestamptz + updated * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::int4[], $8::text[], $9::text[], $10::text[], $11::int8[], $12::int8[])
              AS row (id, execution, task, type, invocation, status, attempts, input, output,
                      error, created, updated)",
    )
    .bind(rows.iter().map(|(id, _)| hex(id)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.execution.clone()).collect::<Vec<_>>())
    .bind(first().map(|first| first.task.clone()).collect::<Vec<_>>())
    .bind(first().map(|first| first.action.clone()).collect::<Vec<_>>())
    .bind(first().map(|first| first.invocation.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.status).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.attempts).collect::<Vec<_>>())
    .bind(first().map(|first| first.input.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.output.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.error.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.created).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.updated).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn update_actions(
    connection: &mut PgConnection,
    rows: Vec<([u8; 16], ActionRow)>,
) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE actions SET
             status = row.status,
             attempts = greatest(actions.attempts, row.attempts),
             output = coalesce(row.output::jsonb, actions.output),
             error_json = coalesce(row.error::jsonb, actions.error_json),
             updated_at = 'epoch'::timestamptz + row.updated * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::int4[], $4::text[], $5::text[], $6::int8[])
              AS row (id, status, attempts, output, error, updated)
         WHERE actions.id = row.id::uuid",
    )
    .bind(rows.iter().map(|(id, _)| hex(id)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.status).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.attempts).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.output.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.error.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.updated).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Of each execution in the batch: its first time, and its newest entry with the configuration and
/// output as far as the batch tells them.
struct ExecutionRow<'a> {
    created: i64,
    newest: &'a JournalEntry,
    configuration: Option<Vec<Arc<str>>>,
    output: Option<String>,
}

async fn write_executions(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &[Loaded],
) -> Result<(), LedgerError> {
    let mut executions: BTreeMap<&str, ExecutionRow<'_>> = BTreeMap::new();
    for Loaded { entry, .. } in batch {
        let row = executions.entry(entry.execution.as_str()).or_insert(ExecutionRow {
            created: entry.at,
            newest: entry,
            configuration: None,
            output: None,
        });
        row.newest = entry;
        if let Some(state) = &entry.state {
            row.configuration = Some(state.configuration.clone());
            row.output = (!state.output.is_null()).then(|| rows::jsonb(&state.output));
        } else if let Some(transition) = entry.transitions.last() {
            row.configuration = Some(transition.to.clone());
        }
    }
    let rows: Vec<_> = executions.into_iter().collect();
    sqlx::query(
        "INSERT INTO executions (id, template_id, template_name, template_version, status, seq,
                                 hash, configuration, output, created_at, updated_at)
         SELECT id, template_id::uuid, template_name, template_version, status, seq, hash,
                coalesce(ARRAY(SELECT jsonb_array_elements_text(configuration::jsonb)), '{}'),
                output::jsonb,
                'epoch'::timestamptz + created * interval '1 millisecond',
                'epoch'::timestamptz + updated * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::text[], $6::int8[],
                     $7::bytea[], $8::text[], $9::text[], $10::int8[], $11::int8[])
              AS row (id, template_id, template_name, template_version, status, seq, hash,
                      configuration, output, created, updated)
         ON CONFLICT (id) DO UPDATE SET
             status = excluded.status,
             seq = excluded.seq,
             hash = excluded.hash,
             configuration = CASE WHEN excluded.configuration = '{}' AND excluded.status IN ('running', 'paused')
                                  THEN executions.configuration ELSE excluded.configuration END,
             output = coalesce(excluded.output, executions.output),
             updated_at = excluded.updated_at",
    )
    .bind(rows.iter().map(|(id, _)| (*id).to_owned()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| hex(&rows::template_id(&row.newest.template))).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.newest.template.name.to_string()).collect::<Vec<_>>())
    .bind(
        rows.iter()
            .map(|(_, row)| i32::try_from(row.newest.template.version).unwrap_or(i32::MAX))
            .collect::<Vec<_>>(),
    )
    .bind(rows.iter().map(|(_, row)| row.newest.status.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| bigint(row.newest.seq)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.newest.hash.as_bytes().to_vec()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| configuration_json(row)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.output.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.created).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.newest.at).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// An array of arrays must be rectangular in Postgres, so each configuration travels as JSON.
fn configuration_json(row: &ExecutionRow<'_>) -> String {
    let ids = row.configuration.iter().flatten().map(|id| id.clone().into()).collect::<Vec<_>>();
    rows::jsonb(&ids.into())
}

pub(crate) fn hex(id: &[u8; 16]) -> String {
    id.iter().fold(String::with_capacity(32), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// Sequences stay far below 2^63.
fn bigint(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
