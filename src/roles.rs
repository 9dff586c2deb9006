//! The roles of a PLED process: each alone, or all in one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use pled_api::Gateway;
use pled_engine::value::Value;
use pled_ledger::Ledger;
use pled_streams::{Nats, actions as bindings};
use pled_workers::action::builtin::{self, Http, HttpConfig, Reach};
use pled_workers::action::{self, ActionConfig, Binder, Registry, Secrets, Task};
use pled_workers::engine::{self, EngineConfig};
use pled_workers::rules::{self, RulesConfig};
use pled_workers::{CancellationToken, maintain, schedules};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::{All, Engine, Gateway as GatewayOptions, Global, Worker};
use crate::{commands, shutdown, telemetry};

/// What a process is to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles {
    engine: Option<Engine>,
    rules: bool,
    scheduler: bool,
    worker: Option<Worker>,
    gateway: Option<GatewayOptions>,
    ledger: Ledgers,
}

/// Whether a process projects the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ledgers {
    #[default]
    No,
    /// If a Postgres is named.
    IfThere,
    Yes,
}

impl Roles {
    pub(crate) fn engine(options: Engine) -> Self {
        Self { engine: Some(options), ..Self::default() }
    }

    pub(crate) fn rules() -> Self {
        Self { rules: true, ..Self::default() }
    }

    pub(crate) fn scheduler() -> Self {
        Self { scheduler: true, ..Self::default() }
    }

    pub(crate) fn worker(options: Worker) -> Self {
        Self { worker: Some(options), ..Self::default() }
    }

    pub(crate) fn gateway(options: GatewayOptions) -> Self {
        Self { gateway: Some(options), ..Self::default() }
    }

    pub(crate) fn ledger() -> Self {
        Self { ledger: Ledgers::Yes, ..Self::default() }
    }

    pub(crate) fn all(options: All) -> Self {
        Self {
            engine: Some(options.engine),
            rules: true,
            scheduler: true,
            worker: Some(options.worker),
            gateway: Some(options.gateway),
            ledger: Ledgers::IfThere,
        }
    }
}

/// Runs the roles until Ctrl-C or TERM, or until one of them fails: then the others end too.
pub(crate) async fn run(global: &Global, roles: Roles) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::listen()?;
    let Some(nats) = commands::open_patiently(global, "pled", &shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let metrics = telemetry::metrics()?;
    let tasks = start(global, &nats, roles, metrics, &shutdown).await?;
    finish(tasks, &shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs these actions, as a worker process of its own.
pub(crate) async fn run_actions(global: &Global, registry: Registry) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::listen()?;
    let Some(nats) = commands::open_patiently(global, "pled demo services", &shutdown).await?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    action::run(nats, registry, ActionConfig::default(), shutdown).await;
    Ok(ExitCode::SUCCESS)
}

type Tasks = JoinSet<anyhow::Result<()>>;

async fn start(
    global: &Global,
    nats: &Nats,
    roles: Roles,
    metrics: PrometheusHandle,
    shutdown: &CancellationToken,
) -> anyhow::Result<Tasks> {
    let ledger = global.database_url.as_deref().map(Ledger::lazy).transpose()?;
    let mut tasks = Tasks::new();
    // What cannot start is said before anything has begun.
    if let Some(options) = roles.gateway {
        let gateway = Gateway::new(nats.clone(), ledger.clone(), Some(metrics)).await?;
        let listener = pled_api::listen(options.listen).await?;
        tracing::info!(address = %options.listen, "the gateway listens");
        let stop = watched(shutdown);
        tasks.spawn(async move { Ok(gateway.serve(listener, stop).await?) });
    }
    match (roles.ledger, ledger) {
        (Ledgers::Yes, None) => {
            anyhow::bail!(
                "the ledger needs a Postgres: name it with --database-url or DATABASE_URL"
            )
        }
        (Ledgers::Yes | Ledgers::IfThere, Some(ledger)) => {
            let (nats, stop) = (nats.clone(), watched(shutdown));
            tasks.spawn(async move { Ok(pled_ledger::follow(&nats, &ledger, stop).await?) });
        }
        (Ledgers::No | Ledgers::IfThere, _) => {}
    }
    if let Some(options) = roles.engine {
        let mut config = EngineConfig::new(worker_id("engine", options.id.as_deref()));
        config.lease_ttl = Duration::from_millis(options.lease_ttl_ms);
        config.cache_bytes = usize::try_from(options.cache_mib << 20).unwrap_or(usize::MAX);
        let (nats, stop, worker) = (nats.clone(), shutdown.clone(), config.worker_id.clone());
        tasks.spawn(async move {
            let maintaining = maintain::run(nats.clone(), worker, Default::default(), stop.clone());
            let (engine, ()) = tokio::join!(engine::run(nats, config, stop), maintaining);
            Ok(engine?)
        });
    }
    if roles.rules {
        let config = RulesConfig::new(worker_id("rules", None));
        let (nats, stop) = (nats.clone(), shutdown.clone());
        tasks.spawn(async move { Ok(rules::run(nats, config, stop).await?) });
    }
    if roles.scheduler {
        let (nats, stop) = (nats.clone(), shutdown.clone());
        tasks.spawn(async move {
            schedules::run(nats, worker_id("scheduler", None), stop).await;
            Ok(())
        });
    }
    if let Some(options) = roles.worker {
        let (registry, config) = actions(nats, &options).await?;
        let (nats, stop) = (nats.clone(), shutdown.clone());
        tasks.spawn(async move {
            action::run(nats, registry, config, stop).await;
            Ok(())
        });
    }
    Ok(tasks)
}

/// Waits for all, and tells all to stop once one has failed.
async fn finish(mut tasks: Tasks, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut failed = None;
    while let Some(ended) = tasks.join_next().await {
        let error = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(error) => anyhow::Error::from(error).context("a role of this process panicked"),
        };
        tracing::error!(error = format!("{error:#}"), "a role ended; the others end too");
        shutdown.cancel();
        failed.get_or_insert(error);
    }
    failed.map_or(Ok(()), Err)
}

async fn actions(nats: &Nats, options: &Worker) -> anyhow::Result<(Registry, ActionConfig)> {
    let mut http = HttpConfig::default();
    if options.allow_private {
        http.reach = Reach::everywhere();
    }
    if let Some(file) = &options.http_ca {
        let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
        http.authorities = builtin::authorities(&pem)
            .with_context(|| format!("the certificates in {}", file.display()))?;
    }
    let secrets = Secrets { folder: options.secrets_dir.clone() };
    let http = Http::new(http).context("the action http")?;
    let binder = Binder { nats: nats.clone(), http, secrets };
    let mut registry = builtin::registry_of(&binder);
    if options.noop {
        registry = registry.handle("bench.noop", |_: Task| async { Ok(Value::Null) });
    }
    let queues = (!options.actions.is_empty()).then(|| options.actions.clone());
    for action in queues.iter().flatten() {
        if registry.find(action).is_none() && bindings::get(nats, action).await?.is_none() {
            let known: Vec<_> = registry.actions().collect();
            anyhow::bail!(
                "{action} is neither bound (pled action bind) nor built in; built in are {}",
                known.join(", ")
            );
        }
    }
    let config = ActionConfig {
        queues,
        binder: Some(binder),
        concurrency: options.concurrency,
        ..Default::default()
    };
    Ok((registry, config))
}

/// An id that no other living process has, unless one was given.
fn worker_id(kind: &str, given: Option<&str>) -> Arc<str> {
    match given {
        Some(id) => id.into(),
        None => {
            let id = uuid::Uuid::now_v7().simple().to_string();
            format!("{kind}-{}", &id[id.len() - 12..]).into()
        }
    }
}

fn watched(shutdown: &CancellationToken) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        sender.send_replace(true);
    });
    receiver
}
