//! `flow`: executions of three no-op tasks in a row, each through the task stream.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pled_engine::id::{EventType, ExecutionId, TemplateSelector};
use pled_streams::events::{self, EventToSend};
use pled_streams::journal::JournalReader;
use pled_streams::{Nats, journal};

use super::measured::{Measured, Window};
use super::pace::{Load, Pace};

pub(crate) const TEMPLATE: &str = r##"{
  "pled": "1.0", "id": "bench_flow", "version": 1, "logic": "pled-logic-1",
  "initial": "first",
  "states": {
    "first": { "invoke": { "id": "first", "src": "bench.noop", "onDone": { "target": "second" } } },
    "second": { "invoke": { "id": "second", "src": "bench.noop", "onDone": { "target": "third" } } },
    "third": { "invoke": { "id": "third", "src": "bench.noop", "onDone": { "target": "finished" } } },
    "finished": { "type": "final" }
  }
}"##;

/// After this long without any entry the bench gives up.
const SILENCE: Duration = Duration::from_secs(20);

/// Starts executions at the pace of `load`, and waits for the end of each.
pub(crate) async fn run(nats: &Nats, load: Load, window: Window) -> anyhow::Result<Measured> {
    let first = pled_streams::inputs::facts(nats).await?.journal.last + 1;
    let mut reader = journal::follow(nats, first);
    let template: TemplateSelector = "bench_flow@1".parse()?;
    let init: EventType = "pled.init".parse()?;
    // The workers need a moment to take their partitions: nothing is measured before one is through.
    events::send(nats, start("flow-0".parse()?, &template, &init)).await?;
    first_end(&mut reader).await?;
    let mut under_way: HashMap<String, Instant> = HashMap::new();
    let mut sends = FuturesUnordered::new();
    let mut number = 0_u64;
    let mut measured = Measured::begin(window, 1);
    let mut pace = Pace::begin(load, window.length());
    let mut last_news = Instant::now();
    while measured.is_open() || !under_way.is_empty() {
        tokio::select! {
            planned = pace.next(under_way.len()), if measured.is_open() => {
                number += 1;
                let execution = format!("flow-{number}");
                sends.push(events::send(nats, start(execution.parse()?, &template, &init)));
                under_way.insert(execution, planned);
            }
            Some(sent) = sends.next(), if !sends.is_empty() => { sent?; }
            batch = reader.next_stored(512, Duration::from_millis(500)) => {
                for entry in &batch {
                    let Some(execution) = ended(&entry.payload) else { continue };
                    let Some(planned) = under_way.remove(execution) else { continue };
                    measured.finished(planned);
                }
                if !batch.is_empty() {
                    last_news = Instant::now();
                }
            }
        }
        if last_news.elapsed() > SILENCE {
            let left = under_way.len();
            bail!("no entry for {} s, {left} executions are open", SILENCE.as_secs());
        }
    }
    while let Some(sent) = sends.next().await {
        sent?;
    }
    Ok(measured)
}

/// Waits until some execution has ended.
async fn first_end(reader: &mut JournalReader) -> anyhow::Result<()> {
    let deadline = Instant::now() + SILENCE;
    while Instant::now() < deadline {
        let batch = reader.next_stored(512, Duration::from_millis(500)).await;
        if batch.iter().any(|entry| ended(&entry.payload).is_some()) {
            return Ok(());
        }
    }
    bail!("the first execution has not ended within {} s", SILENCE.as_secs())
}

fn start(execution: ExecutionId, template: &TemplateSelector, init: &EventType) -> EventToSend {
    EventToSend {
        execution,
        event_type: init.clone(),
        data: bytes::Bytes::new(),
        event_id: None,
        template: Some(template.clone()),
        reply: None,
        origin: None,
        emitted: None,
    }
}

/// The execution of a terminal entry, found without reading all of it: the client shares the
/// machine with what it measures.
fn ended(payload: &[u8]) -> Option<&str> {
    const DONE: &[u8] = br#""status":"done""#;
    const EXECUTION: &[u8] = br#""execution":""#;
    payload.windows(DONE.len()).rposition(|window| window == DONE)?;
    let at = payload.windows(EXECUTION.len()).position(|window| window == EXECUTION)?;
    let rest = &payload[at + EXECUTION.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminal_entries_end_an_execution() {
        let entry =
            |status: &str| format!(r#"{{"at":1,"execution":"flow-7","status":"{status}"}}"#);

        assert_eq!(ended(entry("done").as_bytes()), Some("flow-7"));
        assert_eq!(ended(entry("running").as_bytes()), None);
    }
}
