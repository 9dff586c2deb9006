//! What a bench has to prove from the streams after it ran: that what it counted really happened.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{bail, ensure};
use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::value::Value;
use pled_streams::{Nats, inputs, journal};

/// Messages ever written, by stream.
pub(crate) type Writes = BTreeMap<String, u64>;

pub(crate) async fn writes(nats: &Nats) -> anyhow::Result<Writes> {
    Ok(pled_streams::topology::last_sequences(nats).await?)
}

#[derive(Default)]
struct Seen {
    started: bool,
    results: usize,
    ended: bool,
    last: Option<(u64, pled_engine::id::Hash)>,
    events: usize,
}

/// Fails unless at least `count` flows have their start, three results and a terminal entry each,
/// in whole chains.
pub(crate) async fn flows(nats: &Nats, count: usize) -> anyhow::Result<()> {
    let seen = read(nats).await?;
    let whole = seen
        .iter()
        .filter(|(id, _)| id.starts_with("flow-"))
        .filter(|(_, seen)| seen.started && seen.results == 3 && seen.ended)
        .count();
    ensure!(whole >= count, "{count} flows were counted, and the journal has {whole} whole ones");
    Ok(())
}

/// Fails unless the journal has at least `count` applied events.
pub(crate) async fn events(nats: &Nats, count: usize) -> anyhow::Result<()> {
    let seen = read(nats).await?;
    let applied: usize = seen.values().map(|seen| seen.events).sum();
    ensure!(applied >= count, "{count} events were counted, and the journal has {applied}");
    Ok(())
}

async fn read(nats: &Nats) -> anyhow::Result<BTreeMap<String, Seen>> {
    let last = inputs::facts(nats).await?.journal.last;
    let mut reader = journal::follow(nats, 1);
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut at = 0;
    while at < last {
        let batch = reader.next_batch(1_000, Duration::from_secs(10)).await?;
        let Some(newest) = batch.last() else { bail!("the journal is silent at {at} of {last}") };
        at = newest.stream_seq;
        for loaded in &batch {
            let execution = seen.entry(loaded.entry.execution.to_string()).or_default();
            take(execution, &loaded.entry)?;
        }
    }
    Ok(seen)
}

fn take(seen: &mut Seen, entry: &JournalEntry) -> anyhow::Result<()> {
    let (seq, prev) = seen.last.unwrap_or((0, pled_engine::id::Hash::ZERO));
    ensure!(
        entry.seq == seq + 1 && entry.prev == prev,
        "{}: entry {} does not follow entry {seq}",
        entry.execution,
        entry.seq
    );
    seen.last = Some((entry.seq, entry.hash));
    for cause in entry.causes.iter().filter(|cause| cause.outcome == Outcome::Applied) {
        match cause.cause_type.as_str() {
            "pled.init" => seen.started = true,
            "pled.result" if cause.data.get("ok").and_then(Value::as_bool) == Some(true) => {
                seen.results += 1;
            }
            "TICK" => seen.events += 1,
            _ => {}
        }
    }
    seen.ended |= entry.status.is_terminal();
    Ok(())
}
