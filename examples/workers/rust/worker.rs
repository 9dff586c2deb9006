//! A worker of the action `demo.charge` with the library: it pulls, says that it lives, holds the
//! bound of an attempt, publishes results and acknowledges. Only the work is left to write.

use std::time::Duration;

use pled_streams::{ConnectOptions, Nats, topology};
use pled_workers::CancellationToken;
use pled_workers::action::{self, ActionConfig, Registry, Task, TaskError};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Charge {
    amount: i64,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    note: Value,
}

async fn charge(task: Task) -> Result<Value, TaskError> {
    let charge: Charge = task.parse()?;
    if charge.amount <= 0 {
        return Err(TaskError::fatal("bad_amount", "there is nothing to charge"));
    }
    tokio::time::sleep(Duration::from_millis(charge.wait_ms)).await;
    // The key is the same over attempts and deliveries: a provider takes the charge once.
    Ok(json!({ "charged": charge.amount, "reference": task.key, "note": charge.note }))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let nats = Nats::connect(ConnectOptions::from_env("demo.charge", None, None)?).await?;
    topology::open(&nats).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    let registry = Registry::new().handle("demo.charge", charge);
    action::run(nats, registry, ActionConfig::default(), shutdown).await;
    Ok(())
}
