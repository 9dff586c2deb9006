//! `ingest`: events are published until they are acknowledged. No engine runs, so this is what the
//! door takes.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pled_engine::id::{EventType, ExecutionId};
use pled_streams::Nats;
use pled_streams::events::{self, EventToSend};

use super::measured::{Measured, Window};
use super::pace::{Load, Pace};

/// Over how many executions the events go.
const EXECUTIONS: usize = 1_000;
/// A small order, as JSON.
const PAYLOAD: &[u8] = br#"{"order":"A-1009","customer":"C-77","currency":"EUR","total":4990,"items":[{"sku":"K-1","quantity":2,"price":1995},{"sku":"K-9","quantity":1,"price":1000}],"ship_to":{"street":"Long Lane 4","city":"Tallinn","country":"EE"},"note":"leave it with the neighbour"}"#;

/// Publishes at the pace of `load`.
pub(crate) async fn run(nats: &Nats, load: Load, window: Window) -> anyhow::Result<Measured> {
    let ids = (1..=EXECUTIONS)
        .map(|number| format!("ingest-{number}").parse())
        .collect::<Result<Vec<ExecutionId>, _>>()?;
    let event_type: EventType = "READING".parse()?;
    let mut measured = Measured::begin(window, 0);
    let mut pace = Pace::begin(load, window.length());
    let mut under_way = FuturesUnordered::new();
    let mut number = 0;
    while measured.is_open() || !under_way.is_empty() {
        tokio::select! {
            planned = pace.next(under_way.len()), if measured.is_open() => {
                let event = EventToSend {
                    execution: ids[number % EXECUTIONS].clone(),
                    event_type: event_type.clone(),
                    data: bytes::Bytes::from_static(PAYLOAD),
                    event_id: None,
                    template: None,
                    reply: None,
                    origin: None,
                    emitted: None,
                };
                number += 1;
                let sent = events::send(nats, event);
                under_way.push(async move { sent.await.map(|_| planned) });
            }
            Some(sent) = under_way.next(), if !under_way.is_empty() => measured.finished(sent?),
            () = tokio::time::sleep(Duration::from_millis(50)), if measured.is_open() => {}
        }
    }
    Ok(measured)
}
