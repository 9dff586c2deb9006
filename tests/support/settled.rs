//! Whether a system has come to rest.

use std::collections::BTreeMap;

use futures::StreamExt;
use pled_harness::wait_until;
use pled_streams::ingest::ingest_facts;
use pled_streams::{Nats, inputs, locks, tasks};

use crate::support::SOON;

/// No task waits or is held by a worker, no schedule is left, every input is done by its position.
pub(crate) async fn nothing_is_outstanding(nats: &Nats, queues: &[&str]) {
    for queue in queues {
        wait_until(SOON, &format!("no task of {queue} is outstanding"), async || {
            tasks::outstanding(nats, queue).await.is_ok_and(|count| count == 0)
        })
        .await;
    }
    for partition in 0..nats.partitions() {
        wait_until(SOON, &format!("all inputs of partition {partition} are done"), async || {
            is_done(nats, partition).await.unwrap_or(false)
        })
        .await;
    }
    wait_until(SOON, "no schedule is left", async || {
        schedules(nats).await.is_ok_and(|count| count == 0)
    })
    .await;
}

async fn is_done(nats: &Nats, partition: u16) -> anyhow::Result<bool> {
    let streams = inputs::facts(nats).await?;
    let raw = ingest_facts(nats).await?;
    let mut ends = BTreeMap::from([
        ("events", streams.events.last),
        ("signals", streams.signals.last),
        ("timers", streams.timers.last),
    ]);
    ends.insert("ingest", raw.last);
    for kind in ["engine", "rules"] {
        let Some((position, _)) = locks::read_position(nats, kind, partition).await? else {
            return Ok(false);
        };
        let done = position
            .inputs
            .iter()
            .all(|(input, at)| at.open.is_empty() && at.next > ends[input.as_str()]);
        if !done || position.inputs.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many timers wait in the server.
async fn schedules(nats: &Nats) -> anyhow::Result<usize> {
    let context = pled_harness::async_nats::jetstream::new(nats.client().clone());
    let stream = context.get_stream("PLED_TIMERS").await?;
    let subjects = stream.info_with_subjects("pled.timers.>").await?;
    Ok(subjects.count().await)
}
