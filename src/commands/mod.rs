//! Commands that a person types: each connects, does one thing and answers.

pub(crate) mod action;
pub(crate) mod check;
pub(crate) mod conformance;
pub(crate) mod control;
pub(crate) mod dead;
pub(crate) mod doctor;
pub(crate) mod draw;
pub(crate) mod execution;
pub(crate) mod import;
pub(crate) mod incident;
pub(crate) mod init;
pub(crate) mod recover;
pub(crate) mod replay;
pub(crate) mod schedule;
pub(crate) mod send;
pub(crate) mod simulate;
pub(crate) mod task;
pub(crate) mod template;
pub(crate) mod test;
pub(crate) mod verify;
pub(crate) mod why;

use std::time::Duration;

use anyhow::Context;
use pled_streams::topology::{self, TopologyError};
use pled_streams::{ConnectError, ConnectOptions, Nats};
use pled_workers::CancellationToken;
use serde::Serialize;

use crate::cli::{Format, Global};
use crate::say;

/// Connects to NATS without looking at the streams.
pub(crate) async fn connect(global: &Global, name: &str) -> anyhow::Result<Nats> {
    Nats::connect(options(global, name)?).await.context(
        "no connection to NATS (start a server with `pled dev`, or name one with --nats-url or a \
         nats context)",
    )
}

fn options(global: &Global, name: &str) -> anyhow::Result<ConnectOptions> {
    let (url, context) = (global.nats_url.as_deref(), global.context.as_deref());
    Ok(ConnectOptions::from_env(name, url, context)?)
}

/// As [`open`] for a service, which starts before its server as well as after it: waits while there
/// is no server, and says so. `None`: `shutdown` came first.
pub(crate) async fn open_patiently(
    global: &Global,
    name: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Nats>> {
    let mut pause = Duration::from_millis(250);
    loop {
        let waits_for = match Nats::connect(options(global, name)?).await {
            Err(error @ ConnectError::Unreachable { .. }) => error.to_string(),
            Err(error @ ConnectError::Options(_)) => return Err(error.into()),
            Ok(nats) => match topology::open(&nats).await {
                Ok(_) => return Ok(Some(nats)),
                // It may be starting still.
                Err(error @ (TopologyError::Failed { .. } | TopologyError::NoJetStream { .. })) => {
                    error.to_string()
                }
                Err(
                    error @ (TopologyError::ServerVersion { .. }
                    | TopologyError::ApiLevel { .. }
                    | TopologyError::NotDurable(_)
                    | TopologyError::Missing { .. }
                    | TopologyError::Foreign { .. }
                    | TopologyError::Differs { .. }
                    | TopologyError::StoreTooSmall { .. }
                    | TopologyError::Settings(_)),
                ) => return Err(error.into()),
            },
        };
        tracing::warn!(reason = waits_for, again_in_ms = pause.as_millis(), "waiting for NATS");
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
        }
    }
}

/// Connects and checks that the streams are there.
pub(crate) async fn open(global: &Global, name: &str) -> anyhow::Result<Nats> {
    let nats = connect(global, name).await?;
    topology::open(&nats).await?;
    Ok(nats)
}

/// Prints an answer as JSON or as the given text.
pub(crate) fn answer(
    global: &Global,
    json: &impl Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    match global.output {
        Format::Json => say(serde_json::to_string(json)?),
        Format::Text => say(text().trim_end()),
    }
    Ok(())
}
