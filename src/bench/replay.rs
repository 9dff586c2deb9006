//! `replay`: an execution with many entries is read and done again, every hash compared.

use std::time::Instant;

use anyhow::{Context, ensure};
use pled_engine::template::Template;
use pled_streams::outcome::Outcomes;
use pled_streams::{Nats, journal};
use serde_json::json;

use super::events;
use super::statistics::percentile_ms;

/// How often it is replayed.
const TIMES: usize = 5;

/// Makes an execution of `entries` entries and replays it.
pub(crate) async fn run(
    nats: &Nats,
    entries: usize,
) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let outcomes = Outcomes::open(nats).await?;
    let id = "replay-1".parse()?;
    events::applied(&events::send(nats, &outcomes, &id, "pled.init").await?.1)?;
    // One after the other: events that wait together would be taken in one entry.
    for _ in 1..entries {
        events::applied(&events::send(nats, &outcomes, &id, "TICK").await?.1)?;
    }
    let template = Template::parse(events::TEMPLATE)?;
    let (mut whole, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let begin = Instant::now();
        let loaded = journal::history(nats, &id).await?;
        reading.push(begin.elapsed());
        let history: Vec<_> = loaded.into_iter().map(|loaded| loaded.entry).collect();
        ensure!(history.len() == entries, "{} entries of {entries}", history.len());
        pled_engine::replay::replay(&template, &history)?;
        whole.push(begin.elapsed());
    }
    whole.sort_unstable();
    reading.sort_unstable();
    json!({
        "entries": entries,
        "times": TIMES,
        "replay_ms": percentile_ms(&whole, 0.5),
        "of_that_reading_ms": percentile_ms(&reading, 0.5),
    })
    .as_object()
    .cloned()
    .context("an object is an object")
}
