//! `takeover`: two engine workers, one partition with many idle executions; its owner is killed, and
//! the other goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pled_streams::outcome::Outcomes;
use pled_streams::{Nats, locks};
use serde_json::json;

use super::statistics::percentile_ms;
use super::{events, starts};
use crate::demo::Role;

/// How long a lease lives in this bench.
const LEASE_TTL: Duration = Duration::from_secs(2);
/// By when something that is to happen must have happened.
const WITHIN: Duration = Duration::from_secs(30);
/// How often the lease is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The two engine workers, each with its id.
pub(super) fn engines() -> anyhow::Result<Vec<(String, Role)>> {
    let ttl = LEASE_TTL.as_millis().to_string();
    ["bench-engine-1", "bench-engine-2"]
        .map(|id| {
            let role = Role::start("engine", &["engine", "--id", id, "--lease-ttl-ms", &ttl])?;
            Ok((id.to_owned(), role))
        })
        .into_iter()
        .collect()
}

/// Parks `executions`, then kills the owner `kills` times. The names of the engines are their ids.
pub(crate) async fn run(
    nats: &Nats,
    executions: usize,
    kills: usize,
    engines: &mut [(String, Role)],
) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    starts::park(nats, executions).await?;
    let outcomes = Outcomes::open(nats).await?;
    let idle = "takeover-1".parse()?;
    events::applied(&events::send(nats, &outcomes, &idle, "pled.init").await?.1)?;
    let (mut free, mut gone_to_applied, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..kills {
        both_are_there(nats, engines).await?;
        let owner = owner(nats).await?.context("the partition has no owner")?;
        let role = engines.iter_mut().find(|(id, _)| *id == owner);
        let (_, role) = role.with_context(|| format!("the owner {owner} is none of ours"))?;
        role.kill().await?;
        let killed = Instant::now();
        let tick = events::send(nats, &outcomes, &idle, "TICK");
        let (gone, answered) = tokio::join!(lease_gone(nats, &owner), tick);
        let applied = Instant::now();
        events::applied(&answered?.1)?;
        let gone = gone?;
        free.push(gone - killed);
        gone_to_applied.push(applied.saturating_duration_since(gone));
        whole.push(applied - killed);
        role.again()?;
    }
    for times in [&mut free, &mut gone_to_applied, &mut whole] {
        times.sort_unstable();
    }
    let spread = |times: &[Duration]| {
        json!({
            "min": percentile_ms(times, 0.0),
            "median": percentile_ms(times, 0.5),
            "max": percentile_ms(times, 1.0),
        })
    };
    json!({
        "kills": kills,
        "idle_executions": executions,
        "lease_ttl_ms": u64::try_from(LEASE_TTL.as_millis())?,
        "kill_to_lease_gone_ms": spread(&free),
        "lease_gone_to_applied_ms": spread(&gone_to_applied),
        "kill_to_applied_ms": spread(&whole),
    })
    .as_object()
    .cloned()
    .context("an object is an object")
}

async fn owner(nats: &Nats) -> anyhow::Result<Option<String>> {
    let leases = locks::leases(nats, "engine").await?;
    Ok(leases.into_iter().find(|(partition, _)| *partition == 0).map(|(_, owner)| owner))
}

/// When the lease was first seen not to be `before`'s any more.
async fn lease_gone(nats: &Nats, before: &str) -> anyhow::Result<Instant> {
    let began = Instant::now();
    while began.elapsed() < WITHIN {
        if owner(nats).await?.as_deref() != Some(before) {
            return Ok(Instant::now());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("the lease of {before} did not end within {} s", WITHIN.as_secs())
}

async fn both_are_there(nats: &Nats, engines: &[(String, Role)]) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < WITHIN {
        let there = locks::workers(nats).await?;
        let is_there =
            |id: &String| there.iter().any(|(worker, _)| worker.starts_with(id.as_str()));
        if engines.iter().all(|(id, _)| is_there(id)) && owner(nats).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("the engine workers were not there within {} s", WITHIN.as_secs())
}
