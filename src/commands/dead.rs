//! `pled dead`

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pled_operations::dead::{self, Filter, Retried};
use pled_streams::Nats;
use pled_streams::dead::Dead as Record;
use serde_json::{Value, json};

use super::{answer, open};
use crate::cli::{Dead, DeadFilter, Global};
use crate::{say, say_error};

/// Characters of a payload that a list shows.
const PREVIEW: usize = 60;

pub(crate) async fn run(global: &Global, command: Dead) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled dead").await?;
    match command {
        Dead::List { which, limit, notes } => {
            let filter = Filter { notes, ..filter(&which)? };
            list(global, &dead::list(&nats, &filter, limit).await?)
        }
        Dead::Show { record } => show(global, &get(&nats, record).await?),
        Dead::Retry { records, all, which } => {
            let chosen = chosen(&nats, &records, all, &which).await?;
            retry(global, &nats, &chosen).await
        }
        Dead::Drop { records, all, which, yes } => {
            let chosen = chosen(&nats, &records, all, &which).await?;
            drop_all(global, &nats, &chosen, yes).await
        }
    }
}

fn filter(which: &DeadFilter) -> anyhow::Result<Filter> {
    let execution = which.execution.as_deref().map(str::parse).transpose()?;
    Ok(Filter { cause: which.cause.clone(), execution, notes: false })
}

async fn get(nats: &Nats, record: u64) -> anyhow::Result<Record> {
    let found = pled_streams::dead::get(nats, record).await?;
    found.with_context(|| format!("there is no record {record}: `pled dead list` shows them"))
}

async fn chosen(
    nats: &Nats,
    records: &[u64],
    all: bool,
    which: &DeadFilter,
) -> anyhow::Result<Vec<Record>> {
    if all {
        return Ok(dead::list(nats, &filter(which)?, usize::MAX).await?);
    }
    let filter = filter(which)?;
    if filter.cause.is_some() || filter.execution.is_some() {
        bail!("--cause and --execution choose among --all");
    }
    let mut chosen = Vec::with_capacity(records.len());
    for record in records {
        chosen.push(get(nats, *record).await?);
    }
    Ok(chosen)
}

fn list(global: &Global, records: &[Record]) -> anyhow::Result<ExitCode> {
    let shown: Vec<Value> = records.iter().map(json_of).collect();
    answer(global, &shown, || {
        if records.is_empty() {
            return "nothing is set aside".to_owned();
        }
        let mut text = String::new();
        for record in records {
            let execution = record.execution.as_ref().map_or("-", |id| id.as_str());
            let preview: String =
                String::from_utf8_lossy(&record.payload).chars().take(PREVIEW).collect();
            let _ = writeln!(
                text,
                "{:>6}  {}  {:<17}  {execution}  {}  {preview}",
                record.seq,
                utc(record.time),
                record.reason,
                kind_of(record),
            );
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the message was, by the end of its subject.
fn kind_of(record: &Record) -> String {
    match record.subject.splitn(5, '.').nth(4) {
        Some(kind) => kind.to_owned(),
        None => record.origin.clone(),
    }
}

/// Whether a header is the record's, and not the message's.
fn is_its_own(header: &str) -> bool {
    header.starts_with("Pled-Dead-") || header.starts_with("Nats-")
}

fn json_of(record: &Record) -> Value {
    let headers: serde_json::Map<String, Value> = record
        .headers
        .iter()
        .filter(|(name, _)| {
            let name: &str = name.as_ref();
            !is_its_own(name)
        })
        .map(|(name, values)| {
            let name: &str = name.as_ref();
            let value = values.first().map(|value| value.as_str()).unwrap_or_default();
            (name.to_owned(), value.into())
        })
        .collect();
    let text = String::from_utf8_lossy(&record.payload);
    let payload = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_ref()));
    json!({
        "record": record.seq, "time": record.time, "cause": record.reason,
        "execution": record.execution, "origin": record.origin, "detail": record.detail,
        "subject": record.subject, "stored_at": record.stored_at, "headers": headers,
        "payload": payload,
    })
}

fn show(global: &Global, record: &Record) -> anyhow::Result<ExitCode> {
    answer(global, &json_of(record), || {
        let execution = record.execution.as_ref().map_or("-", |id| id.as_str());
        let mut text = format!(
            "record     {}\ncause      {}\nwhy        {}\nset aside  {}\nexecution  {execution}\n\
             message    {} of {}, stored {}\n",
            record.seq,
            record.reason,
            record.detail,
            utc(record.time),
            record.origin,
            record.subject,
            utc(record.stored_at)
        );
        for (name, values) in record.headers.iter() {
            let name: &str = name.as_ref();
            if !is_its_own(name) {
                for value in values {
                    let _ = writeln!(text, "header     {name}: {}", value.as_str());
                }
            }
        }
        let _ = write!(text, "\n{}", String::from_utf8_lossy(&record.payload));
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn retry(global: &Global, nats: &Nats, records: &[Record]) -> anyhow::Result<ExitCode> {
    let (mut answers, mut failed) = (Vec::new(), 0_usize);
    for record in records {
        let seq = record.seq;
        let (shown, line) = match dead::retry(nats, record).await {
            Ok(Retried::Sent { stream_seq }) => (
                json!({ "record": seq, "sent": stream_seq }),
                format!("{seq}: sent again as {stream_seq}"),
            ),
            Ok(Retried::Taken { entry }) => (
                json!({ "record": seq, "taken": entry }),
                format!("{seq}: entry {entry} had taken it; the record is dropped"),
            ),
            Err(error) => {
                failed += 1;
                say_error(&format!("{seq}: {error}"));
                continue;
            }
        };
        answers.push((shown, line));
    }
    let shown: Vec<_> = answers.iter().map(|(shown, _)| shown).collect();
    let all = json!({ "retried": shown, "failed": failed });
    answer(global, &all, || {
        let lines = answers.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n");
        if lines.is_empty() && failed == 0 { "nothing fits".to_owned() } else { lines }
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drop_all(
    global: &Global,
    nats: &Nats,
    records: &[Record],
    yes: bool,
) -> anyhow::Result<ExitCode> {
    if !yes {
        list(global, records)?;
        if !records.is_empty() {
            say(format!(
                "{} records would be dropped for good: repeat it with --yes",
                records.len()
            ));
        }
        return Ok(ExitCode::FAILURE);
    }
    let mut dropped = 0_usize;
    for record in records {
        dropped += usize::from(dead::drop_record(nats, record).await?);
    }
    answer(global, &json!({ "dropped": dropped }), || format!("{dropped} records dropped"))?;
    Ok(ExitCode::SUCCESS)
}

/// A time as `2026-11-24 16:00:00`, by the server's clock in UTC.
fn utc(millis: i64) -> String {
    pled_streams::timers::rfc3339(millis).replace('T', " ").chars().take(19).collect()
}
