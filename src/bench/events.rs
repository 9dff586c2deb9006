//! `events`: long-lived executions, each event applied before the next to the same execution goes
//! out.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pled_engine::id::{EventType, ExecutionId};
use pled_streams::Nats;
use pled_streams::events::EventToSend;
use pled_streams::outcome::{Outcome, OutcomeError, Outcomes};

use super::measured::{Measured, Window};
use super::pace::{Load, Pace};

pub(crate) const TEMPLATE: &str = r##"{
  "pled": "1.0", "id": "bench_events", "version": 1, "logic": "pled-logic-1",
  "context": { "count": 0 },
  "initial": "on",
  "states": {
    "on": { "on": { "TICK": { "target": "off", "actions": [
      { "type": "assign", "params": { "count": { "+": [{ "var": "context.count" }, 1] } } } ] } } },
    "off": { "on": { "TICK": { "target": "on", "actions": [
      { "type": "assign", "params": { "count": { "+": [{ "var": "context.count" }, 1] } } } ] } } }
  }
}"##;

const WAIT: Duration = Duration::from_secs(20);

/// Sends events to `executions` executions in turn, at the pace of `load`, and waits for the outcome
/// of each. Under a closed load each execution has one event under way.
pub(crate) async fn run(
    nats: &Nats,
    executions: usize,
    load: Load,
    window: Window,
) -> anyhow::Result<Measured> {
    let outcomes = Outcomes::open(nats).await?;
    let ids = (1..=executions)
        .map(|number| format!("events-{number}").parse())
        .collect::<Result<Vec<ExecutionId>, _>>()?;
    let mut starts: FuturesUnordered<_> =
        ids.iter().map(|id| send(nats, &outcomes, id, "pled.init")).collect();
    while let Some(started) = starts.next().await {
        applied(&started?.1)?;
    }
    drop(starts);

    let mut measured = Measured::begin(window, 0);
    let mut pace = Pace::begin(load, window.length());
    let mut idle: VecDeque<usize> = (0..executions).collect();
    let mut under_way = FuturesUnordered::new();
    while measured.is_open() || !under_way.is_empty() {
        tokio::select! {
            planned = pace.next(under_way.len()), if measured.is_open() => {
                let index = idle.pop_front().unwrap_or_default();
                // An open load does not wait for an execution to be idle.
                if matches!(load, Load::Open(_)) {
                    idle.push_back(index);
                }
                let (id, outcomes) = (&ids[index], &outcomes);
                under_way.push(async move {
                    (index, planned, send(nats, outcomes, id, "TICK").await)
                });
            }
            Some((index, planned, answered)) = under_way.next(), if !under_way.is_empty() => {
                applied(&answered?.1)?;
                measured.finished(planned);
                if matches!(load, Load::Closed(_)) {
                    idle.push_back(index);
                }
            }
            () = tokio::time::sleep_until(measured.end().into()), if measured.is_open() => {}
        }
    }
    Ok(measured)
}

pub(super) async fn send(
    nats: &Nats,
    outcomes: &Outcomes,
    execution: &ExecutionId,
    event_type: &str,
) -> Result<(u64, Outcome), OutcomeError> {
    let start = event_type == "pled.init";
    let event = EventToSend {
        execution: execution.clone(),
        event_type: event_type.parse::<EventType>().map_err(refused)?,
        data: bytes::Bytes::new(),
        event_id: None,
        template: start.then(|| "bench_events@1".parse()).transpose().map_err(refused)?,
        reply: None,
        origin: None,
        emitted: None,
    };
    outcomes.send_and_wait(nats, event, WAIT).await
}

fn refused(error: pled_engine::id::InvalidName) -> OutcomeError {
    pled_streams::events::SendError::Refused(error.to_string()).into()
}

pub(super) fn applied(outcome: &Outcome) -> anyhow::Result<()> {
    if outcome.outcome != "applied" {
        bail!("an event was not applied: {outcome:?}");
    }
    Ok(())
}
