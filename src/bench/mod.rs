//! `pled bench`: servers, engine workers, action worker and load client as processes of their own,
//! one JSON line at the end.

mod audit;
mod events;
mod flow;
mod ingest;
mod measured;
mod pace;
mod replay;
mod starts;
pub(crate) mod statistics;
mod takeover;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pled_streams::Nats;
use pled_streams::templates;
use pled_streams::topology::{self, Settings};
use serde_json::{Map, Value, json};

use crate::cli::{Bench, BenchOptions, Global};
use crate::demo::Role;
use crate::{commands, local, say};
use measured::{Measured, Window};
use pace::Load;
use usage::Cpu;

pub(crate) async fn run(global: &Global, bench: &Bench) -> anyhow::Result<ExitCode> {
    let options = bench.options();
    if !options.inside {
        return Err(again_inside(options));
    }
    let nats = commands::connect(global, "pled bench").await?;
    let mut settings = Settings { replicas: options.replicas, ..Settings::default() };
    if let Bench::Takeover(_) = bench {
        settings.partitions = 1;
    }
    topology::init(&nats, &settings).await?;
    let facts = topology::open(&nats).await?;
    match (options.durable, facts.sync_always) {
        (true, Some(true)) | (false, Some(false)) => {}
        (durable, found) => {
            bail!("the bench asks for sync_always={durable} and the server says {found:?}")
        }
    }
    for template in [flow::TEMPLATE, events::TEMPLATE, starts::TEMPLATE] {
        templates::register(&nats, template).await?;
    }
    let mut roles = roles(bench)?;
    let processes = processes(&roles);
    let engines: Vec<u32> =
        processes.iter().filter(|(name, _)| name == "engine").map(|(_, pid)| *pid).collect();
    let window = Window {
        warm_up: Duration::from_secs(options.secs) / 5,
        span: Duration::from_secs(options.secs),
    };

    let before = Before::now(&nats, &processes).await?;
    let mut line = Map::new();
    let total = work(bench, &nats, window, &engines, &mut line).await?;
    for role in &mut roles {
        role.check()?;
    }
    before.describe(&nats, &processes, total, &mut line).await?;
    match bench {
        Bench::Flow(_) => audit::flows(&nats, total).await?,
        Bench::Events(_) => audit::events(&nats, total).await?,
        // What they counted was in the journal, or needs none.
        Bench::Ingest(_) | Bench::Starts(_) | Bench::Replay(_) | Bench::Takeover(_) => {}
    }
    say(serde_json::to_string(&Value::Object(head(bench, line)))?);
    Ok(ExitCode::SUCCESS)
}

/// Runs the workload and adds what it gave; says how many were finished in all.
async fn work(
    bench: &Bench,
    nats: &Nats,
    window: Window,
    engines: &[u32],
    line: &mut Map<String, Value>,
) -> anyhow::Result<usize> {
    match bench {
        Bench::Flow(options) => {
            let load = load(options, 64);
            Ok(describe(load, flow::run(nats, load, window).await?, line))
        }
        Bench::Events(options) => {
            let executions = options.in_flight.unwrap_or(200);
            let load = load(options, executions);
            Ok(describe(load, events::run(nats, executions, load, window).await?, line))
        }
        Bench::Ingest(options) => {
            let load = load(options, 512);
            Ok(describe(load, ingest::run(nats, load, window).await?, line))
        }
        Bench::Starts(options) => {
            let executions = options.executions.unwrap_or(100_000);
            line.extend(starts::run(nats, executions, engines).await?);
            Ok(executions)
        }
        Bench::Replay(options) => {
            line.extend(replay::run(nats, options.entries).await?);
            Ok(options.entries)
        }
        Bench::Takeover(options) => {
            let mut engines = takeover::engines()?;
            let executions = options.executions.unwrap_or(10_000);
            line.extend(takeover::run(nats, executions, options.kills, &mut engines).await?);
            Ok(options.kills)
        }
    }
}

fn again_inside(options: &BenchOptions) -> anyhow::Error {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    arguments.push("--inside".into());
    let replicas = options.replicas.to_string();
    let mut servers = vec!["--no-postgres", "--nats-servers", &replicas];
    if options.durable {
        servers.push("--durable");
    }
    local::again_inside(&servers, &arguments)
}

fn load(options: &BenchOptions, in_flight: usize) -> Load {
    match options.rate {
        Some(rate) => Load::Open(rate),
        None => Load::Closed(options.in_flight.unwrap_or(in_flight)),
    }
}

/// The processes that the workload needs, beside the client.
fn roles(bench: &Bench) -> anyhow::Result<Vec<Role>> {
    let mut roles = Vec::new();
    let engines = match bench {
        Bench::Ingest(_) | Bench::Takeover(_) => 0,
        Bench::Flow(_) | Bench::Events(_) | Bench::Starts(_) | Bench::Replay(_) => {
            bench.options().engines
        }
    };
    for number in 1..=engines {
        roles.push(Role::start("engine", &["engine", "--id", &format!("bench-engine-{number}")])?);
    }
    if let Bench::Flow(_) = bench {
        roles.push(Role::start("worker", &["worker", "--noop", "--concurrency", "256"])?);
    }
    Ok(roles)
}

/// All processes that take part, the servers and this one included.
fn processes(roles: &[Role]) -> Vec<(String, u32)> {
    let servers = std::env::var("PLED_NATS_PIDS").unwrap_or_default();
    let servers = servers.split_whitespace().filter_map(|pid| pid.parse().ok());
    let mut processes: Vec<(String, u32)> = servers.map(|pid| ("nats".to_owned(), pid)).collect();
    processes.extend(
        roles.iter().filter_map(|role| role.pid().map(|pid| (role.name().to_owned(), pid))),
    );
    processes.push(("client".to_owned(), std::process::id()));
    processes
}

/// Adds what a load gave; says how many were finished in all.
fn describe(load: Load, mut measured: Measured, line: &mut Map<String, Value>) -> usize {
    measured.latencies.sort_unstable();
    match load {
        Load::Closed(in_flight) => line.insert("in_flight".into(), in_flight.into()),
        Load::Open(rate) => line.insert("planned_per_s".into(), rate.into()),
    };
    let percentile = |part| statistics::percentile_ms(&measured.latencies, part).into();
    line.insert(
        "rate_per_s".into(),
        statistics::rate(measured.count, measured.window().span).into(),
    );
    line.insert("p50_ms".into(), percentile(0.5));
    line.insert("p90_ms".into(), percentile(0.9));
    line.insert("p99_ms".into(), percentile(0.99));
    line.insert("max_ms".into(), percentile(1.0));
    line.insert("count".into(), measured.count.into());
    line.insert("secs".into(), measured.window().span.as_secs_f64().into());
    measured.total
}

/// What was used before a workload began.
struct Before {
    begin: Instant,
    cpu: Cpu,
    writes: audit::Writes,
    disk_bytes: u64,
}

impl Before {
    async fn now(nats: &Nats, processes: &[(String, u32)]) -> anyhow::Result<Self> {
        let writes = audit::writes(nats).await?;
        let (cpu, disk_bytes) = (Cpu::now(processes), disk_bytes(processes));
        Ok(Self { begin: Instant::now(), cpu, writes, disk_bytes })
    }

    /// Adds what each of `total` cost.
    async fn describe(
        &self,
        nats: &Nats,
        processes: &[(String, u32)],
        total: usize,
        line: &mut Map<String, Value>,
    ) -> anyhow::Result<()> {
        ensure!(total > 0, "nothing was finished");
        let seconds = self.begin.elapsed().as_secs_f64();
        let cpu = Cpu::now(processes).since(&self.cpu);
        let total = f64::from(u32::try_from(total).context("too many to count")?);
        let hundredths = |number: f64| (number * 100.0).round() / 100.0;
        let mut by_stream = Map::new();
        let mut writes = 0.0;
        for (stream, last) in audit::writes(nats).await? {
            let first = self.writes.get(&stream).copied().unwrap_or_default();
            let count = f64::from(u32::try_from(last - first).unwrap_or(u32::MAX)) / total;
            writes += count;
            if count >= 0.005 {
                by_stream.insert(stream, json!(hundredths(count)));
            }
        }
        let written = disk_bytes(processes).saturating_sub(self.disk_bytes);
        let written = f64::from(u32::try_from(written >> 10).unwrap_or(u32::MAX)) * 1024.0;
        line.insert("writes_each".into(), hundredths(writes).into());
        line.insert("writes_by_stream".into(), by_stream.into());
        line.insert("disk_bytes_each".into(), (written / total).round().into());
        line.insert("cpu_ms_each".into(), json!(cpu.ms_each(total)));
        line.insert("other_cpu".into(), cpu.other_cores(seconds).into());
        line.insert("stolen_cpu".into(), cpu.stolen_cores(seconds).into());
        Ok(())
    }
}

/// What the servers had written to disk until now.
fn disk_bytes(processes: &[(String, u32)]) -> u64 {
    let servers = processes.iter().filter(|(name, _)| name == "nats");
    servers.filter_map(|(_, pid)| usage::written_bytes(*pid)).sum()
}

/// What was asked for stands first.
fn head(bench: &Bench, rest: Map<String, Value>) -> Map<String, Value> {
    let options = bench.options();
    let cores = std::thread::available_parallelism().map(std::num::NonZero::get).unwrap_or(0);
    let mut line = Map::new();
    line.insert("workload".into(), bench.name().into());
    line.insert("mode".into(), if options.durable { "durable" } else { "relaxed" }.into());
    line.insert("replicas".into(), options.replicas.into());
    line.insert("engines".into(), options.engines.into());
    line.insert("cores".into(), cores.into());
    line.extend(rest);
    line
}
