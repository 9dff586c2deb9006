//! `pled action`: what the names of actions stand for here, and whether anybody does them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pled_engine::partition::Published;
use pled_engine::template::Template;
use pled_streams::subject::{is_queue, worker_consumer};
use pled_streams::tasks::{self, QueueFacts};
use pled_streams::{Class, Nats, actions, templates};
use pled_workers::action::binding::Binding;
use pled_workers::action::{Secrets, builtin};
use serde_json::{Map, Value, json};

use super::{answer, open};
use crate::cli::{Action, Global};
use crate::say_error;

pub(crate) async fn run(global: &Global, command: Action) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled action").await?;
    match command {
        Action::List => list(global, &nats).await,
        Action::Show { action } => show(global, &nats, &action).await,
        Action::Bind { action, binding, secrets_dir } => {
            let secrets = Secrets { folder: secrets_dir };
            bind(global, &nats, &action, &read(&binding)?, &secrets).await
        }
        Action::Unbind { action } => unbind(global, &nats, &action).await,
        Action::Limit { action, concurrency, none: _ } => {
            limit(global, &nats, &action, concurrency).await
        }
    }
}

/// An action, as far as it is known here.
struct Known {
    binding: Option<Value>,
    /// What is wrong with the binding.
    fault: Option<String>,
    summary: String,
    queue: Option<QueueFacts>,
}

impl Known {
    async fn of(nats: &Nats, action: &str) -> anyhow::Result<Self> {
        let stored = actions::get(nats, action).await?;
        let parsed = stored.as_ref().map(|stored| Binding::parse(stored));
        let (summary, fault) = match &parsed {
            Some(Ok(binding)) => (binding.summary(), None),
            Some(Err(error)) => ("no valid binding".to_owned(), Some(error.to_string())),
            None if is_built_in(action) => ("built in".to_owned(), None),
            None => ("own workers".to_owned(), None),
        };
        Ok(Self {
            binding: stored.map(|stored| json_of(&stored)),
            fault,
            summary,
            queue: tasks::queue_facts(nats, action).await?,
        })
    }

    /// Whether a worker asks for its tasks, or has some.
    fn is_served(&self) -> bool {
        self.queue.is_some_and(|queue| queue.pulls > 0 || queue.held > 0)
    }

    fn json(&self, action: &str) -> Value {
        let queue = self.queue.map(
            |queue| json!({ "waiting": queue.waiting, "held": queue.held, "pulls": queue.pulls }),
        );
        json!({
            "action": action, "binding": self.binding, "fault": self.fault,
            "consumer": worker_consumer(Class::Normal, action),
            "queue": queue, "served": self.is_served(),
        })
    }

    fn limit(&self) -> String {
        let limits = self.binding.as_ref().map(|binding| &binding["limits"]);
        let concurrency = limits.and_then(|limits| limits["concurrency"].as_u64());
        concurrency.map_or_else(|| "-".to_owned(), |most| most.to_string())
    }
}

/// Whether a worker of `pled` does it without a binding.
pub(super) fn is_built_in(action: &str) -> bool {
    builtin::NAMES.contains(&action)
}

fn json_of(stored: &[u8]) -> Value {
    let text = || Value::from(String::from_utf8_lossy(stored).into_owned());
    serde_json::from_slice(stored).unwrap_or_else(|_| text())
}

/// All that are bound, and all that the newest versions of templates name.
async fn list(global: &Global, nats: &Nats) -> anyhow::Result<ExitCode> {
    let mut names: BTreeMap<String, Known> = BTreeMap::new();
    for (action, _) in actions::list(nats).await? {
        names.insert(action.clone(), Known::of(nats, &action).await?);
    }
    for template in templates::list(nats).await? {
        let name = template.name.to_string();
        let Some(source) = templates::get(nats, &name.parse()?).await? else { continue };
        let Ok(template) = Template::parse(&source) else { continue };
        for queue in template.queues() {
            if !names.contains_key(&*queue.name) {
                names.insert(queue.name.to_string(), Known::of(nats, &queue.name).await?);
            }
        }
    }
    let rows: Vec<_> = names.iter().map(|(action, known)| known.json(action)).collect();
    answer(global, &rows, || {
        if names.is_empty() {
            return "no actions: no binding, and no template that names one".to_owned();
        }
        let wide = names.keys().map(String::len).max().unwrap_or(0).max(6);
        let mut text = format!(
            "{:<wide$}  {:>7}  {:>6}  {:>6}  {:>6}  {:<6}  binding\n",
            "action", "waiting", "held", "pulls", "limit", "served"
        );
        for (action, known) in &names {
            let queue = known.queue.unwrap_or_default();
            let served = if known.is_served() { "yes" } else { "NO" };
            let _ = writeln!(
                text,
                "{action:<wide$}  {:>7}  {:>6}  {:>6}  {:>6}  {served:<6}  {}",
                queue.waiting,
                queue.held,
                queue.pulls,
                known.limit(),
                known.summary
            );
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, nats: &Nats, action: &str) -> anyhow::Result<ExitCode> {
    let known = Known::of(nats, action).await?;
    if known.binding.is_none() && known.queue.is_none() && !is_built_in(action) {
        bail!("{action} has no binding, and no registered template names it");
    }
    answer(global, &known.json(action), || {
        let mut text = format!("{action}  {}\n", known.summary);
        if let Some(fault) = &known.fault {
            let _ = writeln!(text, "wrong: {fault}");
        }
        if let Some(queue) = known.queue {
            let consumer = worker_consumer(Class::Normal, action);
            let QueueFacts { waiting, held, pulls } = queue;
            let _ = writeln!(text, "{consumer}: {waiting} waiting, {held} held, {pulls} pulls");
        }
        if !known.is_served() {
            text.push_str("nobody does it now: no worker asks for its tasks\n");
        }
        if let Some(binding) = &known.binding {
            text.push_str(&serde_json::to_string_pretty(binding).unwrap_or_default());
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A binding as it was given: JSON itself, a file, or standard input.
fn read(given: &str) -> anyhow::Result<String> {
    if given.trim_start().starts_with('{') {
        return Ok(given.to_owned());
    }
    if given == "-" {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    std::fs::read_to_string(given).with_context(|| given.to_owned())
}

async fn bind(
    global: &Global,
    nats: &Nats,
    action: &str,
    source: &str,
    secrets: &Secrets,
) -> anyhow::Result<ExitCode> {
    check_name(action)?;
    let binding = Binding::parse(source.as_bytes()).context("the binding")?;
    for name in binding.secrets() {
        if !secrets.knows(name) {
            say_error(&format!(
                "warning: there is no secret {name} here; the workers must have it, as \
                 PLED_SECRET_{name} or a file in their --secrets-dir"
            ));
        }
    }
    for header in binding.plain_credentials() {
        say_error(&format!(
            "warning: the value of the header {header} will stand in PLED_ACTIONS for all to read; \
             name a secret, ${{secret:NAME}}"
        ));
    }
    let mut value: Map<String, Value> = serde_json::from_str(source)?;
    if !value.contains_key("limits")
        && let Some(limits) = bound_to(nats, action).await?.remove("limits")
    {
        value.insert("limits".to_owned(), limits);
    }
    put(nats, action, &value).await?;
    answer(global, &json!({ "action": action, "binding": value }), || {
        format!("{action} is bound: {}", binding.summary())
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn unbind(global: &Global, nats: &Nats, action: &str) -> anyhow::Result<ExitCode> {
    let was_bound = actions::get(nats, action).await?.is_some();
    if !was_bound {
        bail!("{action} has no binding");
    }
    stored(actions::remove(nats, action).await)?;
    actions::apply_limits(nats, action).await?;
    answer(global, &json!({ "action": action, "binding": null }), || {
        format!("{action} is bound no more: its tasks are left to workers that pull them")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn limit(
    global: &Global,
    nats: &Nats,
    action: &str,
    concurrency: Option<u32>,
) -> anyhow::Result<ExitCode> {
    if !is_queue(action) {
        bail!("{action:?} is no name of an action");
    }
    let mut binding = bound_to(nats, action).await?;
    match concurrency {
        Some(most) => drop(binding.insert("limits".into(), json!({ "concurrency": most }))),
        None => drop(binding.remove("limits")),
    }
    if binding.is_empty() {
        stored(actions::remove(nats, action).await)?;
        actions::apply_limits(nats, action).await?;
    } else {
        put(nats, action, &binding).await?;
    }
    answer(
        global,
        &json!({ "action": action, "concurrency": concurrency }),
        || match concurrency {
            Some(most) => format!("{action}: {most} tasks at most at a time, over all workers"),
            None => format!("{action}: no limit"),
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn check_name(action: &str) -> anyhow::Result<()> {
    if is_built_in(action) {
        bail!("{action} is built in and cannot be bound: give the action a name of its own");
    }
    if !is_queue(action) {
        bail!("{action:?} is no name of an action: words of letters, digits and _, dots between");
    }
    Ok(())
}

async fn bound_to(nats: &Nats, action: &str) -> anyhow::Result<Map<String, Value>> {
    match actions::get(nats, action).await? {
        Some(stored) => serde_json::from_slice(&stored)
            .with_context(|| format!("the binding of {action} is no object: bind it anew")),
        None => Ok(Map::new()),
    }
}

/// Puts a binding, and gives the queue what it says of limits.
async fn put(nats: &Nats, action: &str, binding: &Map<String, Value>) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(binding)?;
    // What is there may have been put by another hand.
    Binding::parse(&bytes).context("the binding")?;
    stored(actions::put(nats, action, bytes.into()).await)?;
    Ok(actions::apply_limits(nats, action).await?)
}

fn stored(published: Published) -> anyhow::Result<()> {
    match published {
        Published::Stored { .. } => Ok(()),
        Published::Conflict { .. } => bail!("the binding was changed at the same time"),
        Published::Full => bail!("PLED_ACTIONS is full"),
        Published::TooLarge => bail!("the binding is larger than the server takes"),
        Published::Refused(reason) => bail!("the server refuses the binding: {reason}"),
        Published::Unknown => bail!("no answer from the server: it may be bound or not"),
    }
}
