//! `pled bench`: servers, engine worker, action worker and load client as processes of their own,
//! one JSON line at the end.

mod audit;
mod events;
mod flow;
pub(crate) mod statistics;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use pled_streams::templates;
use pled_streams::topology::{self, Settings};
use serde_json::{Value, json};

use crate::cli::{BenchOptions, Global};
use crate::demo::Role;
use crate::{commands, local, say};

/// What a run measured.
pub(crate) struct Measured {
    /// How many were finished within the measured time.
    pub(crate) count: usize,
    /// The measured time.
    pub(crate) span: Duration,
    /// How long each took, unsorted.
    pub(crate) latencies: Vec<Duration>,
    /// All that were finished, warm-up and end included: what the streams' writes are divided by.
    pub(crate) total: usize,
}

pub(crate) async fn run(
    global: &Global,
    workload: &'static str,
    options: &BenchOptions,
) -> anyhow::Result<ExitCode> {
    if !options.inside {
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        arguments.push("--inside".into());
        let mut servers = vec!["--no-postgres"];
        if options.durable {
            servers.push("--durable");
        }
        return Err(local::again_inside(&servers, &arguments));
    }
    let nats = commands::connect(global, "pled bench").await?;
    topology::init(&nats, &Settings::default()).await?;
    let facts = topology::open(&nats).await?;
    match (options.durable, facts.sync_always) {
        (true, Some(true)) | (false, Some(false)) => {}
        (durable, found) => {
            bail!("the bench asks for sync_always={durable} and the server says {found:?}")
        }
    }
    let mut roles = vec![
        Role::start("engine", &["engine", "--id", "bench-engine"])?,
        Role::start("action worker", &["worker", "--noop", "--concurrency", "256"])?,
    ];
    for template in [flow::TEMPLATE, events::TEMPLATE] {
        templates::register(&nats, template).await?;
    }
    let in_flight = options.in_flight.unwrap_or(if workload == "flow" { 64 } else { 200 });
    let warm_up = Duration::from_secs(options.secs) / 5;
    let span = Duration::from_secs(options.secs);
    let before = audit::writes(&nats).await?;
    let mut measured = match workload {
        "flow" => flow::run(&nats, in_flight, warm_up, span).await?,
        "events" => events::run(&nats, in_flight, warm_up, span).await?,
        other => bail!("there is no workload {other}"),
    };
    for role in &mut roles {
        role.check()?;
    }
    let after = audit::writes(&nats).await?;
    match workload {
        "flow" => audit::flows(&nats, measured.total).await?,
        _ => audit::events(&nats, measured.total).await?,
    }
    measured.latencies.sort_unstable();
    say(serde_json::to_string(&line(workload, options, in_flight, &measured, &before, &after)?)?);
    Ok(ExitCode::SUCCESS)
}

fn line(
    workload: &str,
    options: &BenchOptions,
    in_flight: usize,
    measured: &Measured,
    before: &audit::Writes,
    after: &audit::Writes,
) -> anyhow::Result<Value> {
    let total = f64::from(u32::try_from(measured.total).context("too many to count")?).max(1.0);
    let mut by_stream = serde_json::Map::new();
    let mut writes = 0.0;
    for (stream, last) in after {
        let first = before.get(stream).copied().unwrap_or_default();
        let count = f64::from(u32::try_from(last - first).unwrap_or(u32::MAX)) / total;
        writes += count;
        by_stream.insert(stream.clone(), json!((count * 100.0).round() / 100.0));
    }
    Ok(json!({
        "workload": workload,
        "mode": if options.durable { "durable" } else { "relaxed" },
        "rate_per_s": statistics::rate(measured.count, measured.span),
        "p50_ms": statistics::percentile_ms(&measured.latencies, 0.5),
        "p99_ms": statistics::percentile_ms(&measured.latencies, 0.99),
        "in_flight": in_flight,
        "writes_per_execution": (writes * 100.0).round() / 100.0,
        "writes_by_stream": by_stream,
        "count": measured.count,
        "secs": measured.span.as_secs_f64(),
        "cores": std::thread::available_parallelism().map(std::num::NonZero::get).unwrap_or(0),
    }))
}
