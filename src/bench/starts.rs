//! `starts`: executions that begin and then wait for an event; afterwards each gets it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pled_engine::id::{EventType, TemplateSelector};
use pled_streams::events::{self, EventToSend};
use pled_streams::journal::JournalReader;
use pled_streams::{Nats, journal};
use serde_json::json;

use super::statistics;
use super::usage;

pub(crate) const TEMPLATE: &str = r##"{
  "pled": "1.0", "id": "bench_wait", "version": 1, "logic": "pled-logic-1",
  "context": { "order": null },
  "entry": [{ "type": "assign", "params": { "order": { "var": "event.data" } } }],
  "initial": "waiting",
  "states": {
    "waiting": { "on": { "WAKE": "woken" } },
    "woken": { "type": "final" }
  }
}"##;

/// After this long without any entry the bench gives up.
const SILENCE: Duration = Duration::from_secs(30);
/// Publishes under way at any time.
const WINDOW: usize = 512;

/// Parks `count` executions, then wakes them all.
pub(crate) async fn run(
    nats: &Nats,
    count: usize,
    engines: &[u32],
) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let first = pled_streams::inputs::facts(nats).await?.journal.last + 1;
    let mut reader = journal::follow(nats, first);
    let template: TemplateSelector = "bench_wait@1".parse()?;
    // The workers need a moment to take their partitions.
    all(nats, &mut reader, "warm", 100, "pled.init", Some(&template)).await?;
    let before = resident(engines);
    let starting = all(nats, &mut reader, "wait", count, "pled.init", Some(&template)).await?;
    let parked = resident(engines);
    let waking = all(nats, &mut reader, "wait", count, "WAKE", None).await?;
    let mib = |bytes: u64| bytes >> 20;
    json!({
        "executions": count,
        "starts_per_s": statistics::rate(count, starting),
        "woken_per_s": statistics::rate(count, waking),
        "engine_mib_before": mib(before),
        "engine_mib_parked": mib(parked),
        "engine_growth_mib": mib(parked.saturating_sub(before)),
    })
    .as_object()
    .cloned()
    .context("an object is an object")
}

/// Parks `count` executions.
pub(super) async fn park(nats: &Nats, count: usize) -> anyhow::Result<()> {
    let first = pled_streams::inputs::facts(nats).await?.journal.last + 1;
    let mut reader = journal::follow(nats, first);
    let template: TemplateSelector = "bench_wait@1".parse()?;
    all(nats, &mut reader, "idle", count, "pled.init", Some(&template)).await?;
    Ok(())
}

/// Sends one event to each of `count` executions, and waits until the journal has as many entries
/// more.
async fn all(
    nats: &Nats,
    reader: &mut JournalReader,
    prefix: &str,
    count: usize,
    event_type: &str,
    template: Option<&TemplateSelector>,
) -> anyhow::Result<Duration> {
    let event_type: EventType = event_type.parse()?;
    let begin = Instant::now();
    let (mut sent, mut entries, mut last_news) = (0, 0, begin);
    let mut sends = FuturesUnordered::new();
    while entries < count {
        while sent < count && sends.len() < WINDOW {
            sends.push(events::send(
                nats,
                EventToSend {
                    execution: format!("{prefix}-{sent}").parse()?,
                    event_type: event_type.clone(),
                    data: bytes::Bytes::from_static(br#"{"order":"A-1009","total":4990}"#),
                    event_id: None,
                    template: template.cloned(),
                    reply: None,
                    origin: None,
                    emitted: None,
                },
            ));
            sent += 1;
        }
        tokio::select! {
            Some(stored) = sends.next(), if !sends.is_empty() => { stored?; }
            batch = reader.next_stored(4_096, Duration::from_millis(500)) => {
                entries += batch.len();
                if !batch.is_empty() {
                    last_news = Instant::now();
                }
            }
        }
        if last_news.elapsed() > SILENCE {
            bail!("no entry for {} s at {entries} of {count}", SILENCE.as_secs());
        }
    }
    Ok(begin.elapsed())
}

fn resident(engines: &[u32]) -> u64 {
    engines.iter().filter_map(|pid| usage::resident_bytes(*pid)).sum()
}
