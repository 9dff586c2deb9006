//! `pled cancel`, `pled terminate`, `pled pause` and `pled resume`

use std::process::ExitCode;

use pled_engine::value::{Object, Value};
use pled_streams::events::EventToSend;

use super::send::deliver;
use crate::cli::{Control, Global, Pause};

/// Sends a control event with the reason as its data.
pub(crate) async fn send(
    global: &Global,
    event_type: &str,
    options: Control,
) -> anyhow::Result<ExitCode> {
    send_with(global, event_type, options, Vec::new()).await
}

pub(crate) async fn pause(global: &Global, options: Pause) -> anyhow::Result<ExitCode> {
    let timers = if options.stop_timers { "stop" } else { "run" };
    let members = vec![("timers", Value::from(timers))];
    send_with(global, "pled.pause", options.control, members).await
}

async fn send_with(
    global: &Global,
    event_type: &str,
    options: Control,
    mut members: Vec<(&str, Value)>,
) -> anyhow::Result<ExitCode> {
    if let Some(reason) = options.reason {
        members.push(("reason", reason.into()));
    }
    let is_empty = members.is_empty();
    let data: Object = members.into_iter().collect();
    let data = if is_empty { Value::Null } else { Value::Object(data) };
    let event = EventToSend {
        execution: options.execution.parse()?,
        event_type: event_type.parse()?,
        data: data.to_canonical().into(),
        event_id: None,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    };
    deliver(global, event, options.wait, false).await
}
