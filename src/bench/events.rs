//! `events`: long-lived executions, each event applied before the next to the same execution goes
//! out.

use std::time::{Duration, Instant};

use anyhow::bail;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pled_engine::id::{EventType, ExecutionId};
use pled_streams::Nats;
use pled_streams::events::EventToSend;
use pled_streams::outcome::{Outcome, OutcomeError, Outcomes};

use super::Measured;

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

/// Keeps one event under way for each of `executions` executions.
pub(crate) async fn run(
    nats: &Nats,
    executions: usize,
    warm_up: Duration,
    span: Duration,
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

    let begin = Instant::now();
    let (from, until) = (begin + warm_up, begin + warm_up + span);
    let mut measured = Measured { count: 0, span, latencies: Vec::new(), total: 0 };
    let one = |index: usize| {
        let (ids, outcomes) = (&ids, &outcomes);
        async move {
            let sent = Instant::now();
            (index, sent, send(nats, outcomes, &ids[index], "TICK").await)
        }
    };
    let mut under_way: FuturesUnordered<_> = (0..executions).map(one).collect();
    while let Some((index, sent, answered)) = under_way.next().await {
        applied(&answered?.1)?;
        let now = Instant::now();
        measured.total += 1;
        if now >= from && now < until {
            measured.count += 1;
            measured.latencies.push(now - sent);
        }
        if now < until {
            under_way.push(one(index));
        }
    }
    Ok(measured)
}

async fn send(
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

fn applied(outcome: &Outcome) -> anyhow::Result<()> {
    if outcome.outcome != "applied" {
        bail!("an event was not applied: {outcome:?}");
    }
    Ok(())
}
