//! `pled demo`: 200 orders through a durable workflow, the engine killed half-way, everything
//! checked after.

mod children;
mod orders;
mod progress;
mod report;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pled_engine::id::EventType;
use pled_engine::value::Value;
use pled_ledger::Ledger;
use pled_streams::events::{EventToSend, SendError};
use pled_streams::topology::{self, Settings};
use pled_streams::{Nats, events, ingest, journal, templates};

pub(crate) use children::Role;
use orders::{Orders, Publication};
use progress::Progress;

use crate::cli::{Demo, Global};
use crate::commands::{self, replay};
use crate::{local, roles, say, shutdown};

/// After this long without any entry the demo gives up.
const SILENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(global: &Global, options: &Demo) -> anyhow::Result<ExitCode> {
    let orders = Orders::read(options.rounds.max(1))?;
    if options.services {
        let registry = world::services(&orders, options.seed);
        return roles::run_actions(global, registry).await;
    }
    if !options.inside && global.nats_url.is_none() && global.context.is_none() {
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        arguments.push("--inside".into());
        return Err(local::again_inside(&["--postgres-optional"], &arguments));
    }
    let shutdown = shutdown::listen()?;
    tokio::select! {
        code = Box::pin(play(global, options, &orders)) => code,
        () = shutdown.cancelled() => bail!("interrupted"),
    }
}

async fn play(global: &Global, options: &Demo, orders: &Orders) -> anyhow::Result<ExitCode> {
    let nats = commands::connect(global, "pled demo").await?;
    topology::init(&nats, &Settings::default()).await?;
    topology::open(&nats).await?;
    let registered = templates::register(&nats, orders::TEMPLATE).await?;
    let ledger = global.database_url.as_deref().map(Ledger::lazy).transpose()?;
    say(format!(
        "{} orders, template {}, {}",
        orders.worlds.len(),
        registered.reference,
        if ledger.is_some() { "ledger in Postgres" } else { "no Postgres: the ledger is left out" }
    ));

    let seed = options.seed.to_string();
    let rounds = options.rounds.to_string();
    let mut engine = Role::start("engine", &["engine", "--lease-ttl-ms", "2000"])?;
    let mut others = vec![
        Role::start("rule worker", &["rules"])?,
        Role::start("services", &["demo", "--services", "--seed", &seed, "--rounds", &rounds])?,
    ];
    if ledger.is_some() {
        others.push(Role::start("ledger worker", &["ledger"])?);
    }

    let publishing = tokio::spawn(publish(nats.clone(), orders.messages.clone()));
    let progress = follow(&nats, orders, &mut engine, &mut others).await?;
    publishing.await??;
    let elapsed = progress.elapsed();
    say(format!("all {} orders have ended; checking", orders.worlds.len()));
    let checked = check(&nats, ledger.as_ref(), &progress).await?;
    report::print(&progress, orders, elapsed, &checked);
    Ok(if checked.mismatches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Publishes each message at its time. A full inbox is waited for.
async fn publish(nats: Nats, messages: Vec<Publication>) -> anyhow::Result<()> {
    let begin = Instant::now();
    for message in messages {
        let due = begin + Duration::from_millis(message.at_ms);
        tokio::time::sleep_until(due.into()).await;
        loop {
            match deliver(&nats, &message).await {
                Ok(_) => break,
                // With the event's id a repeat has no effect.
                Err(SendError::Full | SendError::Unknown) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error @ (SendError::TooLarge | SendError::Refused(_))) => {
                    return Err(anyhow::Error::from(error).context(message.subject));
                }
            }
        }
    }
    Ok(())
}

async fn deliver(nats: &Nats, message: &Publication) -> Result<u64, SendError> {
    let data = message.data.as_ref().map(Value::to_canonical).unwrap_or_default();
    let refused = |text: String| SendError::Refused(text);
    let words: Vec<&str> = message.subject.splitn(4, '.').collect();
    let [_, door, first, rest] = words[..] else {
        return Err(refused(format!("{} is no subject of PLED", message.subject)));
    };
    let event_type: EventType = rest.parse().map_err(|error| refused(format!("{error}")))?;
    if door == "ingest" {
        return ingest::publish_raw(nats, first, &event_type, data.into(), Some(&message.id)).await;
    }
    let event = EventToSend {
        execution: first.parse().map_err(|error| refused(format!("{error}")))?,
        event_type,
        data: data.into(),
        event_id: Some(message.id.clone()),
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    };
    events::send(nats, event).await
}

/// Reads the journal as it grows until every order has ended, kills the engine when half of them
/// have, and shows how it goes.
async fn follow(
    nats: &Nats,
    orders: &Orders,
    engine: &mut Role,
    others: &mut [Role],
) -> anyhow::Result<Progress> {
    let mut progress = Progress::new(orders.worlds.keys().cloned());
    let mut reader = journal::follow(nats, 1);
    let mut killed = false;
    let mut last_news = Instant::now();
    let live = std::io::stdout().is_terminal();
    let mut shown = Instant::now();
    while !progress.all_ended() {
        let batch = reader.next_batch(500, Duration::from_millis(100)).await?;
        if !batch.is_empty() {
            last_news = Instant::now();
        }
        for loaded in batch {
            progress.take(loaded.entry);
        }
        if !killed && progress.ended() * 2 >= orders.worlds.len() {
            killed = true;
            let pid = engine.pid().unwrap_or_default();
            engine.kill().await?;
            clear(live);
            say(format!("{}  kill -9 of the engine, process {pid}", progress.line()));
            engine.again()?;
        }
        engine.check()?;
        for role in others.iter_mut() {
            role.check()?;
        }
        if shown.elapsed() >= Duration::from_millis(if live { 100 } else { 2_000 }) {
            shown = Instant::now();
            show(live, &progress.line());
        }
        if last_news.elapsed() > SILENCE {
            let left = progress.unfinished().join(", ");
            bail!("nothing happened for {} s; still open: {left}", SILENCE.as_secs());
        }
    }
    clear(live);
    say(progress.line());
    Ok(progress)
}

#[expect(clippy::print_stdout, reason = "one line that is written over and over")]
fn show(live: bool, line: &str) {
    if live {
        print!("\r\x1b[2K{line}");
        let _ = std::io::stdout().flush();
    } else {
        say(line);
    }
}

#[expect(clippy::print_stdout, reason = "makes place for a line that stays")]
fn clear(live: bool) {
    if live {
        print!("\r\x1b[2K");
    }
}

/// What the checks found.
pub(crate) struct Checked {
    pub(crate) replayed: replay::Replayed,
    pub(crate) replay_time: Duration,
    /// Entries that the ledger has too; `None` without a ledger.
    pub(crate) ledger_entries: Option<usize>,
    /// Sentences, one for each mismatch.
    pub(crate) mismatches: Vec<String>,
}

async fn check(
    nats: &Nats,
    ledger: Option<&Ledger>,
    progress: &Progress,
) -> anyhow::Result<Checked> {
    let began = Instant::now();
    let histories: BTreeMap<_, _> = progress.histories().collect();
    let mut templates = replay::Templates::default();
    let replayed = replay::verify(nats, &mut templates, histories).await?;
    let replay_time = began.elapsed();
    let mut mismatches = replayed.divergences.clone();
    let ledger_entries = match ledger {
        None => None,
        Some(ledger) => Some(compare(ledger, progress, &mut mismatches).await?),
    };
    Ok(Checked { replayed, replay_time, ledger_entries, mismatches })
}

/// Waits until the ledger has caught up, then compares it entry by entry.
async fn compare(
    ledger: &Ledger,
    progress: &Progress,
    mismatches: &mut Vec<String>,
) -> anyhow::Result<usize> {
    let want = i64::try_from(progress.entries()).unwrap_or(i64::MAX);
    let deadline = Instant::now() + Duration::from_secs(30);
    while ledger.counts().await.map_or(0, |counts| counts.entries) < want {
        if Instant::now() > deadline {
            mismatches.push("the ledger has not caught up within 30 s".to_owned());
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut same = 0;
    for (execution, entries) in progress.histories() {
        let rows = ledger.entry_hashes(&execution).await.context("reading the ledger")?;
        if rows.len() != entries.len() {
            mismatches.push(format!(
                "{execution}: {} entries in the journal, {} in the ledger",
                entries.len(),
                rows.len()
            ));
        }
        for (entry, row) in entries.iter().zip(&rows) {
            if entry.seq == row.seq && entry.hash == row.hash && row.intact {
                same += 1;
            } else {
                let seq = entry.seq;
                mismatches.push(format!("{execution}: entry {seq} differs in the ledger"));
            }
        }
    }
    Ok(same)
}
