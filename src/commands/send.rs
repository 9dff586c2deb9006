//! `pled start` and `pled send`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use pled_engine::id::{ExecutionId, TemplateSelector};
use pled_engine::value::Value;
use pled_streams::codec::is_reserved;
use pled_streams::events::{self, EventToSend};
use pled_streams::outcome::Outcomes;
use serde_json::json;

use super::{answer, open};
use crate::cli::{Global, Send, Start};

pub(crate) async fn start(global: &Global, options: Start) -> anyhow::Result<ExitCode> {
    let template: TemplateSelector = options.template.parse()?;
    let execution: ExecutionId =
        options.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()).parse()?;
    let input = Value::parse(options.input.as_bytes()).context("the input")?;
    let event = EventToSend {
        execution,
        event_type: "pled.init".parse()?,
        data: input.to_canonical().into(),
        event_id: None,
        template: Some(template),
        reply: None,
        origin: None,
        emitted: None,
    };
    let wait = options.wait.or(options.must_be_new.then_some(10));
    deliver(global, event, wait, options.must_be_new).await
}

pub(crate) async fn send(global: &Global, options: Send) -> anyhow::Result<ExitCode> {
    if is_reserved(&options.event) {
        bail!("{} is reserved: pled., done., error. and after. come from inside", options.event);
    }
    let data = Value::parse(options.data.as_bytes()).context("the data")?;
    let event = EventToSend {
        execution: options.execution.parse()?,
        event_type: options.event.parse()?,
        data: data.to_canonical().into(),
        event_id: options.event_id,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    };
    deliver(global, event, options.wait, false).await
}

/// Sends an event, waits for its outcome if that is wanted, and tells it.
pub(super) async fn deliver(
    global: &Global,
    event: EventToSend,
    wait: Option<u64>,
    must_be_new: bool,
) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled send").await?;
    let execution = event.execution.clone();
    let Some(wait) = wait else {
        let stream_seq = events::send(&nats, event).await?;
        let stored = json!({ "execution": execution.to_string(), "stream_seq": stream_seq });
        answer(global, &stored, || format!("{execution}: stored as event {stream_seq}"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let outcomes = Outcomes::open(&nats).await?;
    let (stream_seq, outcome) =
        outcomes.send_and_wait(&nats, event, Duration::from_secs(wait)).await?;
    let answered = json!({
        "execution": execution.to_string(), "stream_seq": stream_seq, "outcome": outcome,
    });
    answer(global, &answered, || {
        let entry = outcome.seq.map(|seq| format!(" in entry {seq}")).unwrap_or_default();
        let status = outcome.status.clone().unwrap_or_default();
        let states = outcome.configuration.join(", ");
        let why = outcome.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("{execution}: {}{entry}{why}  {status} {states}", outcome.outcome)
    })?;
    let taken = match outcome.outcome.as_str() {
        "applied" | "ignored" | "deferred" => true,
        "exists" => !must_be_new,
        _ => false,
    };
    Ok(if taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
