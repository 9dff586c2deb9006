//! One batch of journal entries, written in one transaction together with the position.

use std::collections::BTreeMap;

use pled_engine::entry::JournalEntry;
use pled_engine::id::ExecutionId;
use pled_engine::partition::Loaded;
use pled_engine::value::Value;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::position::NAME;
use crate::rows::{self, MessageRow};
use crate::{Ledger, LedgerError, WRITE_WITHIN, answered, executions, partitions, tasks};

impl Ledger {
    /// Writes these entries, in stream order, and moves the position from `from` to the last of
    /// them, all or nothing. `outputs` are those of executions whose entries do not carry them.
    ///
    /// Returns `false` and writes nothing if the position is not `from` any more: another projector
    /// was there.
    ///
    /// # Errors
    /// If Postgres is away or refuses.
    pub async fn project(
        &self,
        from: u64,
        batch: &[Loaded],
        outputs: &BTreeMap<ExecutionId, Value>,
    ) -> Result<bool, LedgerError> {
        let Some(last) = batch.last() else { return Ok(true) };
        let mut connection = self.connection().await?;
        let written = timeout(WRITE_WITHIN, write(&mut connection, from, batch, last, outputs));
        let written = written.await;
        answered(connection, written)
    }
}

async fn write(
    connection: &mut PgConnection,
    from: u64,
    batch: &[Loaded],
    last: &Loaded,
    outputs: &BTreeMap<ExecutionId, Value>,
) -> Result<bool, LedgerError> {
    // Before the transaction: a partition is made under a lock that nobody should wait for long.
    partitions::make_for(connection, batch.iter().map(|loaded| loaded.entry.at)).await?;
    let mut transaction = connection.begin().await?;
    let moved = sqlx::query(
        "UPDATE projections SET stream_seq = $3, execution_id = $4, hash = $5, updated_at = now()
         WHERE name = $1 AND stream_seq = $2",
    )
    .bind(NAME)
    .bind(bigint(from))
    .bind(bigint(last.stream_seq))
    .bind(last.entry.execution.as_str())
    .bind(last.entry.hash.as_bytes().as_slice())
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    write_entries(&mut transaction, batch).await?;
    write_messages(&mut transaction, batch).await?;
    tasks::write(&mut transaction, batch).await?;
    executions::write(&mut transaction, batch, outputs).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn write_entries(connection: &mut PgConnection, batch: &[Loaded]) -> Result<(), LedgerError> {
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
    .execute(&mut *connection)
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
    connection: &mut PgConnection,
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
    .execute(&mut *connection)
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
    .execute(&mut *connection)
    .await?;
    Ok(())
}

pub(crate) fn hex(id: &[u8; 16]) -> String {
    id.iter().fold(String::with_capacity(32), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// Sequences stay far below 2^63.
pub(crate) fn bigint(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
