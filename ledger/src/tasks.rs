//! The rows of `actions`, read and written.

use std::collections::BTreeSet;

use pled_engine::partition::Loaded;
use sqlx::{PgConnection, Row};

use crate::LedgerError;
use crate::actions::{ActionRow, ActionStatus, Actions, First, action_id};
use crate::project::hex;

/// Folds the entries over the rows that are there, and writes each row that changed once.
pub(crate) async fn write(
    connection: &mut PgConnection,
    batch: &[Loaded],
) -> Result<(), LedgerError> {
    let mut actions = Actions::default();
    read_open(connection, batch, &mut actions).await?;
    for Loaded { entry, .. } in batch {
        actions.take(entry);
    }
    insert(connection, &actions).await?;
    update(connection, &actions).await
}

/// What is open of the executions that did not begin in this batch.
async fn read_open(
    connection: &mut PgConnection,
    batch: &[Loaded],
    actions: &mut Actions,
) -> Result<(), LedgerError> {
    let mut seen = BTreeSet::new();
    let mut asked = Vec::new();
    for Loaded { entry, .. } in batch {
        if seen.insert(&entry.execution) && entry.seq > 1 {
            asked.push(entry.execution.as_str());
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT execution_id, task, invocation IS NOT NULL AS invoked, status = 'retrying' AS waits,
                attempts, close_timer, start_timer
         FROM actions
         WHERE execution_id = ANY($1) AND status IN ('pending', 'retrying')",
    )
    .bind(asked)
    .fetch_all(connection)
    .await?;
    let damaged = |_| LedgerError::Damaged("a row of actions is none of ours".to_owned());
    for row in rows {
        let timer = |name| {
            let text: Option<String> = row.try_get(name)?;
            text.map(|text| text.parse().map_err(damaged)).transpose()
        };
        let waits: bool = row.try_get("waits")?;
        let known = ActionRow {
            first: None,
            status: if waits { ActionStatus::Retrying } else { ActionStatus::Pending },
            attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(0),
            output: None,
            error: None,
            close_timer: timer("close_timer")?,
            start_timer: timer("start_timer")?,
            invoked: row.try_get("invoked")?,
            updated: 0,
            changed: false,
        };
        let execution = row.try_get::<String, _>("execution_id")?.parse().map_err(damaged)?;
        let task = row.try_get::<String, _>("task")?.parse().map_err(damaged)?;
        actions.know(execution, task, known);
    }
    Ok(())
}

#[derive(Default)]
struct Columns<'a> {
    ids: Vec<String>,
    executions: Vec<&'a str>,
    tasks: Vec<String>,
    actions: Vec<&'a str>,
    invocations: Vec<Option<&'a str>>,
    inputs: Vec<&'a str>,
    created: Vec<i64>,
    statuses: Vec<&'static str>,
    attempts: Vec<i32>,
    outputs: Vec<Option<&'a str>>,
    errors: Vec<Option<&'a str>>,
    close_timers: Vec<Option<String>>,
    start_timers: Vec<Option<String>>,
    updated: Vec<i64>,
}

impl<'a> Columns<'a> {
    /// The rows that are to be made, or those that are there.
    fn of(actions: &'a Actions, fresh: bool) -> Self {
        let mut columns = Self::default();
        for (execution, task, row) in actions.changed() {
            if row.first.is_some() != fresh {
                continue;
            }
            columns.ids.push(hex(&action_id(execution, task)));
            columns.executions.push(execution.as_str());
            columns.tasks.push(task.to_string());
            if let Some(First { action, invocation, input, created }) = &row.first {
                columns.actions.push(action);
                columns.invocations.push(invocation.as_deref());
                columns.inputs.push(input);
                columns.created.push(*created);
            }
            columns.statuses.push(row.status.as_str());
            columns.attempts.push(i32::try_from(row.attempts).unwrap_or(i32::MAX));
            columns.outputs.push(row.output.as_deref());
            columns.errors.push(row.error.as_deref());
            columns.close_timers.push(row.close_timer.map(|timer| timer.to_string()));
            columns.start_timers.push(row.start_timer.map(|timer| timer.to_string()));
            columns.updated.push(row.updated);
        }
        columns
    }
}

async fn insert(connection: &mut PgConnection, actions: &Actions) -> Result<(), LedgerError> {
    let columns = Columns::of(actions, true);
    if columns.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO actions (id, execution_id, task, type, invocation, status, attempts, input,
                              output, error_json, close_timer, start_timer, created_at, updated_at)
         SELECT id::uuid, execution, task, type, invocation, status, attempts, input::jsonb,
                output::jsonb, error::jsonb, close_timer, start_timer,
                'epoch'::timestamptz + created * interval '1 millisecond',
                'epoch'::timestamptz + updated * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::int4[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                     $13::int8[], $14::int8[])
              AS row (id, execution, task, type, invocation, status, attempts, input, output,
                      error, close_timer, start_timer, created, updated)",
    )
    .bind(columns.ids)
    .bind(columns.executions)
    .bind(columns.tasks)
    .bind(columns.actions)
    .bind(columns.invocations)
    .bind(columns.statuses)
    .bind(columns.attempts)
    .bind(columns.inputs)
    .bind(columns.outputs)
    .bind(columns.errors)
    .bind(columns.close_timers)
    .bind(columns.start_timers)
    .bind(columns.created)
    .bind(columns.updated)
    .execute(connection)
    .await?;
    Ok(())
}

async fn update(connection: &mut PgConnection, actions: &Actions) -> Result<(), LedgerError> {
    let columns = Columns::of(actions, false);
    if columns.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE actions SET
             status = row.status,
             attempts = greatest(actions.attempts, row.attempts),
             output = coalesce(row.output::jsonb, actions.output),
             error_json = coalesce(row.error::jsonb, actions.error_json),
             close_timer = coalesce(row.close_timer, actions.close_timer),
             start_timer = row.start_timer,
             updated_at = 'epoch'::timestamptz + row.updated * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[], $3::int4[], $4::text[], $5::text[], $6::text[],
                     $7::text[], $8::int8[])
              AS row (id, status, attempts, output, error, close_timer, start_timer, updated)
         WHERE actions.id = row.id::uuid",
    )
    .bind(columns.ids)
    .bind(columns.statuses)
    .bind(columns.attempts)
    .bind(columns.outputs)
    .bind(columns.errors)
    .bind(columns.close_timers)
    .bind(columns.start_timers)
    .bind(columns.updated)
    .execute(connection)
    .await?;
    Ok(())
}
