//! `pled init`

use std::process::ExitCode;

use pled_streams::topology::{self, Settings};
use serde_json::json;

use super::{answer, connect};
use crate::cli::{Global, Init};

pub(crate) async fn run(global: &Global, options: &Init) -> anyhow::Result<ExitCode> {
    let nats = connect(global, "pled init").await?;
    let settings = Settings {
        partitions: options.partitions,
        replicas: options.replicas,
        ..Settings::default()
    };
    let created = topology::init(&nats, &settings).await?;
    let line = |stream: &topology::Created| {
        let what = if stream.existed { "is there" } else { "created" };
        format!("{} {what}", stream.name)
    };
    let lines = created.iter().map(line).collect::<Vec<_>>();
    answer(global, &json!({ "streams": lines }), || lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
