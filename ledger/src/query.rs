//! What is read from the ledger.

use pled_engine::entry::JournalEntry;
use pled_engine::id::{ExecutionId, Hash};
use pled_engine::value::Value;
use serde::Serialize;
use sqlx::Row;

use crate::{Ledger, LedgerError};

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
        let after = filter.after.as_ref();
        let rows = sqlx::query(
            "SELECT id, template_name || '@' || template_version AS template, status, seq,
                    configuration,
                    (extract(epoch FROM created_at) * 1000)::int8 AS created,
                    (extract(epoch FROM updated_at) * 1000)::int8 AS updated
             FROM executions
             WHERE ($1::text IS NULL OR template_name = $1)
               AND ($2::text IS NULL OR status = $2)
               AND ($3::int8 IS NULL OR (created_at, id)
                    < ('epoch'::timestamptz + $3 * interval '1 millisecond', $4::text))
             ORDER BY created_at DESC, id DESC LIMIT $5",
        )
        .bind(filter.template.as_deref())
        .bind(filter.status.as_deref())
        .bind(after.map(|(created, _)| *created))
        .bind(after.map(|(_, id)| id.as_str()))
        .bind(filter.limit)
        .fetch_all(self.pool())
        .await?;
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
    /// and whether the entry still has it.
    ///
    /// # Errors
    /// If Postgres is away, or a stored entry is none.
    pub async fn entry_hashes(
        &self,
        execution: &ExecutionId,
    ) -> Result<Vec<EntryHash>, LedgerError> {
        let rows = sqlx::query(
            "SELECT seq, hash, entry_json::text AS json, entry_bytes FROM ledger_entries
             WHERE execution_id = $1 ORDER BY seq",
        )
        .bind(execution.as_str())
        .fetch_all(self.pool())
        .await?;
        let damaged = |what: &str| LedgerError::Damaged(format!("{execution}: {what}"));
        rows.into_iter()
            .map(|row| {
                let seq: i64 = row.try_get("seq")?;
                let recorded: Vec<u8> = row.try_get("hash")?;
                let exact: Option<Vec<u8>> = row.try_get("entry_bytes")?;
                let bytes = match exact {
                    Some(bytes) => bytes,
                    None => row.try_get::<String, _>("json")?.into_bytes(),
                };
                let value = Value::parse(&bytes).map_err(|error| damaged(&error.to_string()))?;
                let entry = JournalEntry::decode(&value.to_canonical())
                    .map_err(|error| damaged(&error.to_string()))?;
                let recorded =
                    recorded.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let hash: Hash = recorded.parse().map_err(|_| damaged("a hash is none"))?;
                let intact = entry.hash == hash && entry.verify_hash();
                Ok(EntryHash { seq: u64::try_from(seq).unwrap_or(0), hash, intact })
            })
            .collect()
    }

    /// How many entries, executions, messages and actions there are.
    ///
    /// # Errors
    /// If Postgres is away.
    pub async fn counts(&self) -> Result<Counts, LedgerError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM ledger_entries) AS entries,
                    (SELECT count(*) FROM executions) AS executions,
                    (SELECT count(*) FROM messages) AS messages,
                    (SELECT count(*) FROM events) AS events,
                    (SELECT count(*) FROM actions) AS actions",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(Counts {
            entries: row.try_get("entries")?,
            executions: row.try_get("executions")?,
            messages: row.try_get("messages")?,
            events: row.try_get("events")?,
            actions: row.try_get("actions")?,
        })
    }
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
