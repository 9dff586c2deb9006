//! `pled schedule`

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use pled_engine::id::ScheduleName;
use pled_engine::message::Millis;
use pled_engine::partition::Published;
use pled_engine::schedule::{Firing, Schedule as Machine, Spec, Times, instant, instant_text};
use pled_engine::value::{Object, Value};
use pled_streams::clock::server_time;
use pled_streams::schedules::{self, Stored};
use pled_streams::{Nats, templates};
use serde_json::{Value as Json, json};

use super::{answer, open};
use crate::cli::{Global, Schedule, ScheduleSpec};

pub(crate) async fn run(global: &Global, command: Schedule) -> anyhow::Result<ExitCode> {
    match command {
        Schedule::Next { name: None, spec, count, after } => {
            let spec = read(&spec, true)?;
            let now = match after {
                Some(after) => instant_of(&after)?,
                None => own_time(),
            };
            // The jitter needs a name, which it does not have yet.
            let name = "unnamed".parse()?;
            return say_next(global, &spec.times, &name, now, count);
        }
        Schedule::Create { .. }
        | Schedule::List
        | Schedule::Show { .. }
        | Schedule::Next { .. }
        | Schedule::Pause { .. }
        | Schedule::Resume { .. }
        | Schedule::Trigger { .. }
        | Schedule::Backfill { .. }
        | Schedule::Delete { .. } => {}
    }
    let nats = open(global, "pled schedule").await?;
    let now = server_time(&nats).await?;
    match command {
        Schedule::Create { name, spec, replace } => {
            create(global, &nats, &name.parse()?, &spec, replace, now).await
        }
        Schedule::List => list(global, &nats, now).await,
        Schedule::Show { name } => {
            let stored = find(&nats, &name.parse()?).await?;
            answer(global, &shown(&stored, now), || text_of(&stored.schedule, now))?;
            Ok(ExitCode::SUCCESS)
        }
        Schedule::Next { name, count, after, .. } => {
            let name = name.unwrap_or_default().parse()?;
            let stored = find(&nats, &name).await?;
            let after = after.as_deref().map(instant_of).transpose()?;
            say_next(global, &stored.schedule.spec().times, &name, after.unwrap_or(now), count)
        }
        Schedule::Pause { name, reason } => {
            let name: ScheduleName = name.parse()?;
            let reason: Option<Arc<str>> = reason.map(Into::into);
            let pause =
                |it: &mut Machine| Ok::<_, std::convert::Infallible>(it.pause(reason.clone(), now));
            let (stored, news) = schedules::change(&nats, &name, pause).await?;
            let already = if news { "" } else { " already" };
            answer(global, &shown(&stored, now), || format!("{name} is paused{already}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Schedule::Resume { name } => {
            let name: ScheduleName = name.parse()?;
            let (stored, news) =
                schedules::change(&nats, &name, |it: &mut Machine| it.resume(now)).await?;
            let next = next_text(&stored.schedule, now);
            let said = if news { "goes on" } else { "was not paused" };
            answer(global, &shown(&stored, now), || format!("{name} {said}, next {next}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Schedule::Trigger { name, id, overlap } => {
            let name: ScheduleName = name.parse()?;
            let id = id.map(|id| id.parse()).transpose()?;
            let trigger = |it: &mut Machine| it.trigger(id.clone(), overlap, now);
            let (_, execution) = schedules::change(&nats, &name, trigger).await?;
            let told = json!({ "schedule": name.to_string(), "execution": execution.to_string() });
            answer(global, &told, || format!("{name} starts {execution}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Schedule::Backfill { name, from, until, overlap } => {
            let name: ScheduleName = name.parse()?;
            let range = (instant_of(&from)?, instant_of(&until)?);
            let backfill = |it: &mut Machine| it.backfill(range, overlap, now);
            let (_, times) = schedules::change(&nats, &name, backfill).await?;
            let told = json!({ "schedule": name.to_string(), "times": times });
            answer(global, &told, || format!("{name} starts {times} of the past"))?;
            Ok(ExitCode::SUCCESS)
        }
        Schedule::Delete { name } => {
            let name: ScheduleName = name.parse()?;
            if !schedules::delete(&nats, &name).await? {
                bail!("there is no schedule {name}");
            }
            let told = json!({ "schedule": name.to_string(), "deleted": true });
            answer(global, &told, || format!("{name} is deleted; what it started goes on"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn create(
    global: &Global,
    nats: &Nats,
    name: &ScheduleName,
    given: &ScheduleSpec,
    replace: bool,
    now: Millis,
) -> anyhow::Result<ExitCode> {
    let spec = read(given, false)?;
    if templates::get(nats, &spec.template).await?.is_none() {
        bail!("no template {} is registered: `pled template add` it first", spec.template);
    }
    let (stored, what) = match schedules::get(nats, name).await? {
        Err(revision) => {
            let schedule = Machine::new(name.clone(), spec, now)?;
            let published = schedules::put(nats, &schedule, revision).await;
            let Published::Stored { stream_seq: revision } = published else {
                bail!("the schedule {name} was not stored: {published:?}");
            };
            (Stored { schedule, revision }, "created")
        }
        Ok(stored) if stored.schedule.spec().source == spec.source => (stored, "unchanged"),
        Ok(_) if !replace => {
            bail!("there is a schedule {name} with another specification: replace it by --replace")
        }
        Ok(_) => {
            let replaced = |it: &mut Machine| it.replace(spec.clone(), now);
            (schedules::change(nats, name, replaced).await?.0, "replaced")
        }
    };
    let next = next_text(&stored.schedule, now);
    answer(global, &shown(&stored, now), || format!("{name} {what}, next {next}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global, nats: &Nats, now: Millis) -> anyhow::Result<ExitCode> {
    let known = schedules::list(nats).await?;
    let all: Vec<_> = known.iter().map(|stored| shown(stored, now)).collect();
    answer(global, &all, || {
        if known.is_empty() {
            return "no schedules".to_owned();
        }
        let line = |stored: &Stored| {
            let schedule = &stored.schedule;
            let template = schedule.spec().template.to_string();
            let paused = if schedule.state().paused.is_some() { "paused" } else { "" };
            let (name, next) = (schedule.name().as_str(), next_text(schedule, now));
            format!("{name:<24}  {template:<20}  next {next}  {paused}").trim_end().to_owned()
        };
        known.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn find(nats: &Nats, name: &ScheduleName) -> anyhow::Result<Stored> {
    let Ok(stored) = schedules::get(nats, name).await? else {
        bail!("there is no schedule {name}");
    };
    Ok(stored)
}

/// A schedule as JSON, with when it is due next.
fn shown(stored: &Stored, now: Millis) -> Json {
    let schedule = &stored.schedule;
    let next = next(schedule, now);
    json!({
        "name": schedule.name().as_str(),
        "revision": stored.revision,
        "created_at": schedule.created_at(),
        "changed_at": schedule.changed_at(),
        "spec": schedule.spec().source,
        "state": schedule.state(),
        "next": next.map(|firing| firing.nominal),
    })
}

fn next(schedule: &Machine, now: Millis) -> Option<Firing> {
    let after = now.max(schedule.state().last);
    schedule.spec().times.next_firing(schedule.name(), after)
}

fn next_text(schedule: &Machine, now: Millis) -> String {
    next(schedule, now).map_or_else(|| "never".to_owned(), |firing| instant_text(firing.nominal))
}

fn text_of(schedule: &Machine, now: Millis) -> String {
    let (spec, state) = (schedule.spec(), schedule.state());
    let mut lines = vec![format!("{}  {}", schedule.name(), spec.template)];
    for (key, value) in spec.source.as_object().into_iter().flatten() {
        if &**key != "template" {
            lines.push(format!("  {key:<10} {value}"));
        }
    }
    match &state.paused {
        Some(pause) => {
            let reason = pause.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            lines.push(format!("  paused     since {}{reason}", instant_text(pause.since)));
        }
        None => lines.push(format!("  next       {}", next_text(schedule, now))),
    }
    for run in &state.running {
        lines.push(format!("  running    {}", run.execution));
    }
    for waiting in &state.waiting {
        lines.push(format!("  waiting    {}", waiting.execution));
    }
    let counts = &state.counts;
    let skipped = counts.skipped().into_iter().filter(|(_, count)| *count > 0);
    let skipped: Vec<_> = skipped.map(|(why, count)| format!("{count} skipped ({why})")).collect();
    let refused = (counts.refused > 0).then(|| format!("{} refused", counts.refused));
    let counted = std::iter::once(format!("{} started", counts.started)).chain(refused);
    lines.push(format!("  counts     {}", counted.chain(skipped).collect::<Vec<_>>().join(", ")));
    for recent in state.recent.iter().rev() {
        let id = recent.execution.as_ref().map(|id| format!("  {id}")).unwrap_or_default();
        let why = recent.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let at = instant_text(recent.nominal);
        lines.push(format!("  {at}  {}{id}{why}", recent.what.as_str()));
    }
    lines.join("\n")
}

fn say_next(
    global: &Global,
    times: &Times,
    name: &ScheduleName,
    after: Millis,
    count: u16,
) -> anyhow::Result<ExitCode> {
    let firings = times.preview(name, after, count.into());
    let told = |firing: &Firing| {
        json!({
            "time": instant_text(firing.nominal), "nominal": firing.nominal, "due": firing.due,
        })
    };
    answer(global, &firings.iter().map(told).collect::<Vec<_>>(), || {
        if firings.is_empty() {
            return "never".to_owned();
        }
        let line = |firing: &Firing| times.local_text(firing.nominal);
        firings.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The specification of a file, with the members of the command line over it.
fn read(given: &ScheduleSpec, preview: bool) -> anyhow::Result<Spec> {
    let mut members = match &given.file {
        None => Object::from_iter(std::iter::empty::<(&str, Value)>()),
        Some(file) => {
            let text = if file.as_os_str() == "-" {
                let mut text = Vec::new();
                std::io::stdin().read_to_end(&mut text).context("standard input")?;
                text
            } else {
                std::fs::read(file).with_context(|| file.display().to_string())?
            };
            let value = Value::parse(&text).with_context(|| file.display().to_string())?;
            let Value::Object(members) = value else {
                bail!("{}: a schedule is an object, not {}", file.display(), value.kind());
            };
            members
        }
    };
    let texts = [
        ("template", &given.template),
        ("time_zone", &given.time_zone),
        ("overlap", &given.on_overlap),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            members.insert(key, Value::from(text.as_str()));
        }
    }
    if let Some(every) = &given.every {
        let millis = every.parse().ok().map(Value::Int);
        members.insert("every", millis.unwrap_or_else(|| every.as_str().into()));
    }
    match given.cron.as_slice() {
        [] => {}
        [cron] => members.insert("cron", cron.as_str().into()),
        crons => {
            let crons: Vec<Value> = crons.iter().map(|cron| cron.as_str().into()).collect();
            members.insert("cron", crons.into());
        }
    }
    if let Some(input) = &given.input {
        members.insert("input", Value::parse(input.as_bytes()).context("--input")?);
    }
    if preview && members.get("template").is_none() {
        members.insert("template", "preview".into());
    }
    Ok(Spec::parse(&Value::Object(members))?)
}

fn instant_of(text: &str) -> anyhow::Result<Millis> {
    instant(text).map_err(anyhow::Error::msg)
}

/// The time of this machine, for a preview without a server.
fn own_time() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or_default()
}
