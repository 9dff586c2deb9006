//! `pled show`, `pled history` and `pled list`

use std::process::ExitCode;

use anyhow::bail;
use pled_engine::entry::JournalEntry;
use pled_engine::execution::Execution;
use pled_engine::id::ExecutionId;
use pled_ledger::Ledger;
use pled_ledger::query::Filter;
use pled_streams::templates::TemplateCache;
use pled_streams::{journal, snapshots, state};
use serde_json::json;

use super::{answer, open};
use crate::cli::{Global, List};
use crate::render;

pub(crate) async fn show(global: &Global, execution: &str) -> anyhow::Result<ExitCode> {
    let id: ExecutionId = execution.parse()?;
    let nats = open(global, "pled show").await?;
    let Some(execution) = state::read(&nats, &TemplateCache::default(), &id).await? else {
        bail!("there is no execution {id}");
    };
    let answered = json!({
        "id": id.to_string(),
        "template": execution.template.as_ref().map(ToString::to_string),
        "status": execution.status,
        "seq": execution.seq,
        "hash": execution.hash.to_string(),
        "updated_at": execution.at,
        "state": execution.state,
    });
    answer(global, &answered, || text_of(&execution))?;
    Ok(ExitCode::SUCCESS)
}

fn text_of(execution: &Execution) -> String {
    let state = &execution.state;
    let template = execution.template.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut lines = vec![
        format!("{}  {template}  {}", execution.id, execution.status.as_str()),
        format!("  states   {}", render::leaves(&state.configuration)),
        format!("  entry    {}  {}", execution.seq, execution.hash),
    ];
    if let Some(parent) = &state.parent {
        lines.push(format!("  parent   {} task {}", parent.execution, parent.task));
    }
    for (key, value) in &state.context {
        lines.push(format!("  context  {key} = {value}"));
    }
    for (token, task) in &state.tasks {
        let wait = task.not_before.map(|_| ", waits for its retry").unwrap_or_default();
        let child = task.child.as_ref().map(|child| execution.id.child(child.place));
        let child = child.map(|child| format!(" as {child}")).unwrap_or_default();
        let (action, attempt) = (&task.action, task.attempt);
        lines.push(format!("  task     {token} {action}{child} attempt {attempt}{wait}"));
    }
    for (token, timer) in &state.timers {
        let left = timer.due - execution.at;
        lines.push(format!("  timer    {token} due {left} ms after that entry"));
    }
    for (token, incident) in &state.incidents {
        let failure = &incident.failure;
        let what = format!("{}: {} {}", incident.event, failure.code, failure.message);
        lines.push(format!("  incident {token} {what}"));
    }
    if let Some(error) = &state.error {
        lines.push(format!("  error    {}: {}", error.code, error.message));
    }
    if !state.output.is_null() {
        lines.push(format!("  output   {}", state.output));
    }
    lines.join("\n")
}

pub(crate) async fn history(global: &Global, execution: &str) -> anyhow::Result<ExitCode> {
    let id: ExecutionId = execution.parse()?;
    let nats = open(global, "pled history").await?;
    let entries: Vec<JournalEntry> =
        journal::history(&nats, &id).await?.into_iter().map(|loaded| loaded.entry).collect();
    if entries.is_empty() {
        bail!("there is no execution {id}");
    }
    answer(global, &entries, || render::table(&render::story(&entries)))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn list(global: &Global, options: &List) -> anyhow::Result<ExitCode> {
    let rows = match &global.database_url {
        Some(url) => from_ledger(&Ledger::lazy(url)?, options).await?,
        None => from_snapshots(global, options).await?,
    };
    answer(global, &rows, || {
        if rows.is_empty() {
            return "no executions".to_owned();
        }
        let text =
            |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let line = |row: &serde_json::Value| {
            let (id, template) = (text(row, "id"), text(row, "template"));
            let (status, states) = (text(row, "status"), text(row, "states"));
            format!("{id:<36}  {template:<16}  {status:<10}  {states}")
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn from_ledger(ledger: &Ledger, options: &List) -> anyhow::Result<Vec<serde_json::Value>> {
    let filter = Filter {
        template: options.template.clone(),
        status: options.status.clone(),
        after: None,
        limit: i64::from(options.limit),
    };
    let rows = ledger.executions(&filter).await?.into_iter().map(|row| {
        json!({
            "id": row.id, "template": row.template, "status": row.status, "seq": row.seq,
            "states": row.configuration.join(", "), "updated_at": row.updated_at,
        })
    });
    Ok(rows.collect())
}

/// Without a ledger: from the cache of states, by id.
async fn from_snapshots(global: &Global, options: &List) -> anyhow::Result<Vec<serde_json::Value>> {
    let nats = open(global, "pled list").await?;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for id in snapshots::ids(&nats, None).await? {
        if rows.len() >= limit {
            break;
        }
        let Some(snapshot) = snapshots::get(&nats, &id).await? else { continue };
        let template = options.template.as_deref();
        let status = options.status.as_deref();
        if template.is_none_or(|wanted| wanted == snapshot.template.name.as_str())
            && status.is_none_or(|wanted| wanted == snapshot.status.as_str())
        {
            rows.push(json!({
                "id": id.to_string(), "template": snapshot.template.to_string(),
                "status": snapshot.status, "seq": snapshot.seq,
                "states": snapshot.state.configuration.join(", "), "updated_at": snapshot.at,
            }));
        }
    }
    Ok(rows)
}
