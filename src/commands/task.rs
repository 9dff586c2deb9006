//! `pled task`: work that is done outside, by a person or by anything that is no worker.
//!
//! A task is completed by its result, the same message that a worker publishes. Whoever comes first
//! is heard: the second is told so.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use pled_engine::execution::{Execution, Task};
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::{Failure, TaskOutcome};
use pled_engine::partition::Published;
use pled_engine::value::Value;
use pled_streams::templates::TemplateCache;
use pled_streams::{Nats, signals, snapshots, state};
use serde_json::{Value as Json, json};

use super::{answer, open};
use crate::cli::{Global, TaskAnswer, Tasks};

pub(crate) async fn run(global: &Global, command: Tasks) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled task").await?;
    match command {
        Tasks::List { execution, action } => {
            list(global, &nats, execution.as_deref(), action.as_deref()).await
        }
        Tasks::Show { task } => {
            let (execution, token) = place_of(&task)?;
            let found = read(&nats, &execution).await?;
            let shown = shown(&found, token, open_task(&found, token)?);
            answer(global, &shown, || text_of(&shown))?;
            Ok(ExitCode::SUCCESS)
        }
        Tasks::Complete { task, data, answer } => {
            let data = Value::parse(data.as_bytes()).context("the result")?;
            end(global, &nats, &task, &answer, TaskOutcome::Ok(data)).await
        }
        Tasks::Fail { task, code, message, retryable, answer } => {
            let failure = Failure {
                code: code.into(),
                message,
                details: Value::Null,
                retryable,
                retry_after_ms: None,
            };
            end(global, &nats, &task, &answer, TaskOutcome::Failed(failure)).await
        }
    }
}

async fn list(
    global: &Global,
    nats: &Nats,
    execution: Option<&str>,
    action: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let executions = match execution {
        Some(execution) => vec![read(nats, &execution.parse()?).await?],
        None => unended(nats).await?,
    };
    let is_meant = |task: &Task| {
        task.child.is_none()
            && task.not_before.is_none()
            && action.is_none_or(|action| *task.action == *action)
    };
    let mut tasks = Vec::new();
    for found in &executions {
        let meant = found.state.tasks.iter().filter(|(_, task)| is_meant(task));
        tasks.extend(meant.map(|(token, task)| shown(found, *token, task)));
    }
    answer(global, &tasks, || {
        if tasks.is_empty() {
            return "no tasks".to_owned();
        }
        tasks.iter().map(text_of).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// All executions that have tasks, by the cache of states.
async fn unended(nats: &Nats) -> anyhow::Result<Vec<Execution>> {
    let mut executions = Vec::new();
    for id in snapshots::ids(nats, None).await? {
        let Some(snapshot) = snapshots::get(nats, &id).await? else { continue };
        if !snapshot.state.tasks.is_empty() {
            executions.push(Execution {
                id,
                seq: snapshot.seq,
                hash: snapshot.hash,
                at: snapshot.at,
                template: Some(snapshot.template),
                status: snapshot.status,
                state: snapshot.state,
            });
        }
    }
    Ok(executions)
}

async fn end(
    global: &Global,
    nats: &Nats,
    task: &str,
    options: &TaskAnswer,
    outcome: TaskOutcome,
) -> anyhow::Result<ExitCode> {
    let (execution, token) = place_of(task)?;
    let found = read(nats, &execution).await?;
    let attempt = open_task(&found, token)?.attempt;
    let subject = nats.names().result(&execution, token, attempt);
    match signals::publish_result(nats, &subject, &outcome).await {
        Published::Stored { .. } => {}
        Published::Conflict { .. } => bail!("{task} has a result already: another was first"),
        Published::TooLarge => bail!("the result is larger than the server takes"),
        published @ (Published::Full | Published::Unknown | Published::Refused(_)) => {
            bail!("the result was not stored, or that is not known: {published:?}; try again")
        }
    }
    if let Some(wait) = options.wait {
        let taken = async {
            loop {
                let now = read(nats, &execution).await?;
                if now.state.tasks.get(&token).is_none_or(|task| task.attempt != attempt) {
                    return Ok::<_, anyhow::Error>(now);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let Ok(now) = tokio::time::timeout(Duration::from_secs(wait), taken).await else {
            bail!("the result of {task} is stored; it was not taken in time");
        };
        let now = now?;
        let told = json!({ "task": task, "status": now.status, "seq": now.seq });
        answer(global, &told, || format!("{task} is done, {execution} {}", now.status.as_str()))?;
        return Ok(ExitCode::SUCCESS);
    }
    answer(global, &json!({ "task": task }), || format!("{task}: the result is stored"))?;
    Ok(ExitCode::SUCCESS)
}

/// `<execution>/<entry>-<index>`, as it is listed.
fn place_of(text: &str) -> anyhow::Result<(ExecutionId, Token)> {
    let (execution, token) = text
        .split_once('/')
        .with_context(|| format!("{text:?} is no task: it must be <execution>/<entry>-<index>"))?;
    Ok((execution.parse()?, token.parse()?))
}

async fn read(nats: &Nats, id: &ExecutionId) -> anyhow::Result<Execution> {
    let found = state::read(nats, &TemplateCache::default(), id).await?;
    found.with_context(|| format!("there is no execution {id}"))
}

/// A task that a result can end now.
fn open_task(execution: &Execution, token: Token) -> anyhow::Result<&Task> {
    let id = &execution.id;
    let Some(task) = execution.state.tasks.get(&token) else {
        bail!("{id} waits for no task {token}");
    };
    if task.child.is_some() {
        bail!("{id}/{token} is an execution of its own");
    }
    if task.not_before.is_some() {
        bail!("{id}/{token} waits for its next attempt");
    }
    Ok(task)
}

fn shown(execution: &Execution, token: Token, task: &Task) -> Json {
    json!({
        "task": format!("{}/{token}", execution.id),
        "execution": execution.id.as_str(),
        "template": execution.template.as_ref().map(ToString::to_string),
        "action": task.action,
        "attempt": task.attempt,
        "deadline": task.deadline,
        "input": task.input,
        "meta": task.meta,
    })
}

fn text_of(task: &Json) -> String {
    let text = |key: &str| task[key].as_str().unwrap_or_default().to_owned();
    let mut line = format!("{:<40}  {:<20}  {}", text("task"), text("action"), task["input"]);
    if !task["meta"].is_null() {
        line.push_str(&format!("  {}", task["meta"]));
    }
    line
}
