//! What is read from the ledger.

use pled_engine::entry::JournalEntry;
use pled_engine::id::{ExecutionId, Hash};
use pled_engine::value::Value;
use serde::Serialize;
use sqlx::{Postgres, QueryBuilder, Row};
use tokio::time::timeout;

use crate::rows::jsonb_of;
use crate::{ANSWER_WITHIN, Ledger, LedgerError, answered};

/// An execution in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExecutionSummary {
    /// Its id.
    pub id: String,
    /// `order@3`
    pub template: String,
    /// Its status.
    pub status: String,
    /// The sequence of its newest entry.
    pub seq: i64,
    /// Its active leaf states.
    pub configuration: Vec<String>,
    /// When its first entry was, in milliseconds.
    pub created_at: i64,
    /// When its newest entry was.
    pub updated_at: i64,
}

/// Which executions are wanted; the newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this template.
    pub template: Option<String>,
    /// Only those with this status.
    pub status: Option<String>,
    /// Only those after this one in the order of the list: `created_at` and id of the last seen.
    pub after: Option<(i64, String)>,
    /// At most this many.
    pub limit: i64,
}

/// One row of the projected journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHash {
    /// The entry's sequence in its execution.
    pub seq: u64,
    /// The hash that was recorded beside it.
    pub hash: Hash,
    /// Whether the stored entry still has that hash.
    pub intact: bool,
}

impl Ledger {
    /// Executions, the newest first.
    ///
    /// # Errors
    /// If Postgres is away.
    pub async fn executions(&self, filter: &Filter) -> Result<Vec<ExecutionSummary>, LedgerError> {
        // Only the conditions that there are, so that each list has its index.
        let mut query = QueryBuilder::<Postgres>::new(
            "SELECT id, template_name || '@' || template_version AS template, status, seq,
                    configuration,
                    (extract(epoch FROM created_at) * 1000)::int8 AS created,
                    (extract(epoch FROM updated_at) * 1000)::int8 AS updated
             FROM executions WHERE true",
        );
        if let Some(template) = &filter.template {
            query.push(" AND template_name = ").push_bind(template);
        }
        if let Some(status) = &filter.status {
            query.push(" AND status = ").push_bind(status);
        }
        if let Some((created, id)) = &filter.after {
            query
                .push(" AND (created_at, id) < ('epoch'::timestamptz + ")
                .push_bind(created)
                .push(" * interval '1 millisecond', ")
                .push_bind(id)
                .push(")");
        }
        query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(filter.limit);
        let mut connection = self.connection().await?;
        let rows = timeout(ANSWER_WITHIN, query.build().fetch_all(&mut *connection)).await;
        let rows = answered(connection, rows)?;
        rows.into_iter()
            .map(|row| {
                Ok(ExecutionSummary {
                    id: row.try_get("id")?,
                    template: row.try_get("template")?,
                    status: row.try_get("status")?,
                    seq: row.try_get("seq")?,
                    configuration: row.try_get("configuration")?,
                    created_at: row.try_get("created")?,
                    updated_at: row.try_get("updated")?,
                })
            })
            .collect()
    }

    /// The entries of an execution that the ledger holds, in order, each with its recorded hash
    /// and whether the entry still has it. It costs memory for all of them.
    ///
    /// # Errors
    /// If Postgres is away, or a recorded hash is none.
    pub async fn entry_hashes(
        &self,
        execution: &ExecutionId,
    ) -> Result<Vec<EntryHash>, LedgerError> {
        let mut connection = self.connection().await?;
        let asked = sqlx::query(
            "SELECT seq, encode(hash, 'hex') AS hash, entry_json::text AS json, entry_bytes
             FROM ledger_entries WHERE execution_id = $1 ORDER BY seq",
        )
        .bind(execution.as_str())
        .fetch_all(&mut *connection);
        let rows = timeout(ANSWER_WITHIN, asked).await;
        let rows = answered(connection, rows)?;
        rows.into_iter()
            .map(|row| {
                let seq: i64 = row.try_get("seq")?;
                let damaged = || LedgerError::Damaged(format!("{execution}/{seq}: no hash"));
                let hash: Hash =
                    row.try_get::<String, _>("hash")?.parse().map_err(|_| damaged())?;
                let seq = u64::try_from(seq).unwrap_or(0);
                let stored = entry_of(row.try_get("json")?, row.try_get("entry_bytes")?);
                let intact = stored.is_some_and(|entry| {
                    (&entry.execution, entry.seq, entry.hash) == (execution, seq, hash)
                });
                Ok(EntryHash { seq, hash, intact })
            })
            .collect()
    }

    /// How many entries, executions, messages and actions there are.
    ///
    /// # Errors
    /// If Postgres is away.
    pub async fn counts(&self) -> Result<Counts, LedgerError> {
        let mut connection = self.connection().await?;
        let asked = sqlx::query(
            "SELECT (SELECT count(*) FROM ledger_entries) AS entries,
                    (SELECT count(*) FROM executions) AS executions,
                    (SELECT count(*) FROM messages) AS messages,
                    (SELECT count(*) FROM events) AS events,
                    (SELECT count(*) FROM actions) AS actions",
        )
        .fetch_one(&mut *connection);
        let row = timeout(ANSWER_WITHIN, asked).await;
        let row = answered(connection, row)?;
        Ok(Counts {
            entries: row.try_get("entries")?,
            executions: row.try_get("executions")?,
            messages: row.try_get("messages")?,
            events: row.try_get("events")?,
            actions: row.try_get("actions")?,
        })
    }
}

/// The entry of a row, if it is still what was written.
fn entry_of(json: &str, exact: Option<Vec<u8>>) -> Option<JournalEntry> {
    let shown = canonical(json)?;
    let Some(exact) = exact else { return JournalEntry::decode(&shown).ok() };
    let (expected, _) = jsonb_of(std::str::from_utf8(&exact).ok()?);
    let entry = JournalEntry::decode(&exact).ok()?;
    (canonical(&expected)? == shown).then_some(entry)
}

/// The RFC 8785 form of JSON that JSONB gives back: it writes numbers in another notation, `1e20`
/// as an integer that the engine's strict door refuses.
fn canonical(json: &str) -> Option<Vec<u8>> {
    serde_json::from_str::<Value>(json).ok().map(|value| value.to_canonical())
}

/// Rows in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Journal entries.
    pub entries: i64,
    /// Executions.
    pub executions: i64,
    /// Inputs that were taken.
    pub messages: i64,
    /// Those of them that came from outside.
    pub events: i64,
    /// Tasks.
    pub actions: i64,
}
