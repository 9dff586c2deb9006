//! Commands that a person types: each connects, does one thing and answers.

pub(crate) mod check;
pub(crate) mod execution;
pub(crate) mod init;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod simulate;
pub(crate) mod template;
pub(crate) mod test;

use anyhow::Context;
use pled_streams::{ConnectOptions, Nats};
use serde::Serialize;

use crate::cli::{Format, Global};
use crate::say;

/// Connects to NATS without looking at the streams.
pub(crate) async fn connect(global: &Global, name: &str) -> anyhow::Result<Nats> {
    let options =
        ConnectOptions::from_env(name, global.nats_url.as_deref(), global.context.as_deref())?;
    Nats::connect(options).await.context(
        "no connection to NATS (start a server with `pled dev`, or name one with --nats-url or a \
         nats context)",
    )
}

/// Connects and checks that the streams are there.
pub(crate) async fn open(global: &Global, name: &str) -> anyhow::Result<Nats> {
    let nats = connect(global, name).await?;
    pled_streams::topology::open(&nats).await?;
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
