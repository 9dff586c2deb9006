//! `pled incident`: what needs a person, in groups that have one cause, and what is done about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use pled_engine::execution::Incident;
use pled_engine::id::{ExecutionId, Hash, Token};
use pled_engine::partition::Snapshot;
use pled_engine::value::Value;
use pled_streams::events::EventToSend;
use pled_streams::outcome::Outcomes;
use pled_streams::templates::TemplateCache;
use pled_streams::timers::rfc3339;
use pled_streams::{Nats, snapshots, state};
use serde_json::json;

use super::{answer, open};
use crate::cli::{Global, IncidentFilter, IncidentIds, Incidents};
use crate::say_error;

/// How many executions are read, or told something, at a time.
const AT_ONCE: usize = 32;
/// How long the answer of an execution is waited for.
const WAIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(global: &Global, command: Incidents) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled incident").await?;
    match command {
        Incidents::List { which, each } => list(global, &nats, &which, each).await,
        Incidents::Show { incident } => show(global, &nats, &incident).await,
        Incidents::Retry(ids) => decide(global, &nats, "retry", &ids, Value::Null).await,
        Incidents::Resolve { ids, data } => {
            let data = Value::parse(data.as_bytes()).context("the data")?;
            decide(global, &nats, "resolve", &ids, data).await
        }
        Incidents::Ignore(ids) => decide(global, &nats, "ignore", &ids, Value::Null).await,
        Incidents::Fail(ids) => decide(global, &nats, "fail", &ids, Value::Null).await,
    }
}

/// An incident and where it arose.
struct Found {
    execution: ExecutionId,
    token: Token,
    template: String,
    version: String,
    incident: Incident,
}

impl Found {
    fn id(&self) -> String {
        format!("{}/{}", self.execution, self.token)
    }

    /// The application's own code, also where its last attempt was one of many.
    fn code(&self) -> &str {
        let failure = &self.incident.failure;
        let last = failure.details.get("last").and_then(|last| last.get("code"));
        match last.and_then(Value::as_str) {
            Some(code) if &*failure.code == "retries_exhausted" => code,
            Some(_) | None => &failure.code,
        }
    }

    /// The same for all incidents of a template at one place with one code.
    fn fingerprint(&self) -> String {
        let cause = format!("{}\n{}\n{}", self.template, self.incident.event, self.code());
        Hash::of(cause.as_bytes()).to_string()[..8].to_owned()
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "incident": self.id(), "execution": self.execution, "template": self.version,
            "event": self.incident.event, "code": self.code(), "at": self.incident.at,
            "group": self.fingerprint(), "failure": self.incident.failure,
            "task": self.incident.task,
        })
    }
}

/// The open incidents of executions that run, as the snapshots have them.
async fn all(nats: &Nats, which: &IncidentFilter) -> anyhow::Result<Vec<Found>> {
    let ids = snapshots::ids(nats, None).await?;
    let read = |id: ExecutionId| async move {
        let snapshot = snapshots::get(nats, &id).await;
        snapshot.map(|snapshot| snapshot.map(|snapshot| (id, snapshot)))
    };
    let mut snapshots = futures::stream::iter(ids).map(read).buffered(AT_ONCE);
    let mut found = Vec::new();
    while let Some(snapshot) = snapshots.next().await {
        let Some((execution, snapshot)) = snapshot? else { continue };
        let Snapshot { template, state, status, .. } = snapshot;
        if status.is_terminal() {
            continue;
        }
        found.extend(state.incidents.into_iter().map(|(token, incident)| Found {
            execution: execution.clone(),
            token,
            template: template.name.to_string(),
            version: template.to_string(),
            incident,
        }));
    }
    found.retain(|found| {
        which.group.as_ref().is_none_or(|group| *group == found.fingerprint())
            && which.template.as_ref().is_none_or(|template| *template == found.template)
    });
    Ok(found)
}

async fn list(
    global: &Global,
    nats: &Nats,
    which: &IncidentFilter,
    each: bool,
) -> anyhow::Result<ExitCode> {
    let found = all(nats, which).await?;
    if each || which.group.is_some() {
        let rows: Vec<_> = found.iter().map(Found::json).collect();
        answer(global, &rows, || {
            let lines = found.iter().map(|found| {
                let Incident { event, at, failure, .. } = &found.incident;
                let (code, time, id) = (found.code(), utc(*at), found.id());
                format!("{id:<44}  {time}  {event}  {code}: {}", failure.message)
            });
            or_none(lines.collect())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut groups: BTreeMap<String, Vec<&Found>> = BTreeMap::new();
    for one in &found {
        groups.entry(one.fingerprint()).or_default().push(one);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let rows: Vec<_> = groups
        .iter()
        .filter_map(|(group, members)| {
            let first = members.first()?;
            let oldest = members.iter().map(|found| found.incident.at).min();
            Some(json!({
                "group": group, "count": members.len(), "template": first.template,
                "event": first.incident.event, "code": first.code(),
                "message": first.incident.failure.message, "oldest": oldest,
                "example": first.id(),
            }))
        })
        .collect();
    answer(global, &rows, || {
        let text =
            |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let line = |row: &serde_json::Value| {
            format!(
                "{}  {:>6}  {}  {}  {}: {}  (since {}, as {})",
                text(row, "group"),
                row["count"],
                text(row, "template"),
                text(row, "event"),
                text(row, "code"),
                text(row, "message"),
                utc(row["oldest"].as_i64().unwrap_or_default()),
                text(row, "example")
            )
        };
        or_none(rows.iter().map(line).collect())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn or_none(lines: Vec<String>) -> String {
    if lines.is_empty() { "no incidents".to_owned() } else { lines.join("\n") }
}

async fn show(global: &Global, nats: &Nats, id: &str) -> anyhow::Result<ExitCode> {
    let found = one(nats, id).await?;
    answer(global, &found.json(), || {
        let Incident { event, at, failure, task } = &found.incident;
        let mut text = format!(
            "incident   {}\ntemplate   {}\nevent      {event}\nsince      {}\ncode       {}\n\
             message    {}\ngroup      {}\ndetails    {}\n",
            found.id(),
            found.version,
            utc(*at),
            failure.code,
            failure.message,
            found.fingerprint(),
            failure.details
        );
        if let Some(task) = task {
            let _ = write!(text, "action     {}\ninput      {}", task.action, task.input);
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// An incident by its id, as the journal has it.
async fn one(nats: &Nats, id: &str) -> anyhow::Result<Found> {
    let (execution, token) = read_id(id)?;
    let Some(read) = state::read(nats, &TemplateCache::default(), &execution).await? else {
        bail!("there is no execution {execution}");
    };
    let Some(incident) = read.state.incidents.get(&token).cloned() else {
        bail!("{execution} has no incident {token}");
    };
    let Some(template) = read.template else { bail!("{execution} has no template") };
    let version = template.to_string();
    Ok(Found { execution, token, template: template.name.to_string(), version, incident })
}

fn read_id(id: &str) -> anyhow::Result<(ExecutionId, Token)> {
    let (execution, token) = id
        .split_once('/')
        .with_context(|| format!("{id:?} is no incident: it looks like order-42/7-0"))?;
    Ok((execution.parse()?, token.parse()?))
}

/// Tells the executions what a person decided, and says what came of it.
async fn decide(
    global: &Global,
    nats: &Nats,
    action: &str,
    ids: &IncidentIds,
    data: Value,
) -> anyhow::Result<ExitCode> {
    let meant = if ids.all {
        all(nats, &ids.which)
            .await?
            .iter()
            .map(|found| (found.execution.clone(), found.token))
            .collect()
    } else {
        ids.incidents.iter().map(|id| read_id(id)).collect::<anyhow::Result<Vec<_>>>()?
    };
    let outcomes = Outcomes::open(nats).await?;
    let (outcomes, data) = (&outcomes, &data);
    let tell = |(execution, token): (ExecutionId, Token)| async move {
        let id = format!("{execution}/{token}");
        let told = tell(nats, outcomes, action, execution, token, data).await;
        (id, told)
    };
    let told: Vec<_> = futures::stream::iter(meant).map(tell).buffered(AT_ONCE).collect().await;
    let mut failed = 0_usize;
    let mut rows = Vec::new();
    for (id, told) in &told {
        match told {
            Ok(seq) => rows.push(json!({ "incident": id, "entry": seq })),
            Err(error) => {
                failed += 1;
                say_error(&format!("{id}: {error:#}"));
            }
        }
    }
    answer(global, &json!({ "action": action, "done": rows, "failed": failed }), || {
        let line = |row: &serde_json::Value| {
            let id = row["incident"].as_str().unwrap_or_default();
            format!("{id}: {action} taken in entry {}", row["entry"])
        };
        let lines: Vec<_> = rows.iter().map(line).collect();
        if lines.is_empty() && failed == 0 { "nothing fits".to_owned() } else { lines.join("\n") }
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn tell(
    nats: &Nats,
    outcomes: &Outcomes,
    action: &str,
    execution: ExecutionId,
    token: Token,
    data: &Value,
) -> anyhow::Result<Option<u64>> {
    let decision = json!({
        "incident": token.to_string(), "action": action, "data": serde_json::to_value(data)?,
    });
    let event = EventToSend {
        execution,
        event_type: "pled.incident".parse()?,
        data: serde_json::to_vec(&decision)?.into(),
        event_id: None,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    };
    let (_, outcome) = outcomes.send_and_wait(nats, event, WAIT).await?;
    match outcome.outcome.as_str() {
        "applied" => Ok(outcome.seq),
        other => bail!("{}", outcome.error.unwrap_or_else(|| other.to_owned())),
    }
}

/// A time as `2026-11-24 16:00:00`, by the server's clock in UTC.
fn utc(millis: i64) -> String {
    rfc3339(millis).replace('T', " ").chars().take(19).collect()
}
