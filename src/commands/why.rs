//! `pled why`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pled_engine::id::{EventType, ExecutionId};
use pled_engine::simulate::Simulation;
use pled_engine::template::Template;
use pled_engine::value::Value;
use pled_engine::why::{Change, Round, changes, of_entry};
use pled_streams::journal;
use serde::{Deserialize, Serialize};

use super::replay::Templates;
use super::{answer, open, template};
use crate::cli::{Global, Why};

pub(crate) async fn run(global: &Global, options: &Why) -> anyhow::Result<ExitCode> {
    match (&options.execution, &options.template) {
        (Some(execution), _) => of_execution(global, execution, options.entry).await,
        (None, Some(file)) => of_simulation(global, file, options),
        (None, None) => bail!("name an execution, or a template file with --template"),
    }
}

async fn of_execution(
    global: &Global,
    execution: &str,
    entry: Option<u64>,
) -> anyhow::Result<ExitCode> {
    let id: ExecutionId = execution.parse()?;
    let nats = open(global, "pled why").await?;
    let loaded = journal::history(&nats, &id).await?;
    let entries: Vec<_> = loaded.into_iter().map(|loaded| loaded.entry).collect();
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        bail!("there is no execution {id}");
    };
    let template = Templates::default().get(&nats, first).await?;
    let seq = entry.unwrap_or(last.seq);
    match of_entry(&template, &entries, seq)? {
        Some(why) => answer(global, &why, || why.to_string())?,
        None => bail!("{id} has entries 1 to {}, and no {seq}", last.seq),
    }
    Ok(ExitCode::SUCCESS)
}

/// A step of a simulation, as `pled simulate --steps` reads it too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    after_ms: i64,
    event: Option<StepEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepEvent {
    name: EventType,
    #[serde(default)]
    data: Value,
}

/// What a step of a simulation did, and why.
#[derive(Serialize)]
struct Seen {
    step: String,
    rounds: Vec<Round>,
    context: Vec<Change>,
}

fn of_simulation(global: &Global, file: &Path, options: &Why) -> anyhow::Result<ExitCode> {
    let source = template::read(file)?;
    let compiled = match Template::parse(&source) {
        Ok(template) => template,
        Err(invalid) => {
            template::report(file, &invalid);
            return Ok(ExitCode::FAILURE);
        }
    };
    let steps = steps(options)?;
    let input = Value::parse(options.input.as_bytes()).context("the input")?;
    let mut simulation = Simulation::start_watched(&compiled, input);
    let mut context = simulation.observe().context;
    let mut seen = vec![Seen {
        step: "start".to_owned(),
        rounds: simulation.seen(),
        context: changes(&compiled.context, &context),
    }];
    for Step { after_ms, event } in steps {
        let waited = (after_ms > 0).then(|| format!("after {after_ms} ms"));
        let named = event.as_ref().map(|event| event.name.to_string());
        simulation.advance(after_ms)?;
        if let Some(event) = event {
            simulation.deliver(&event.name, event.data)?;
        }
        let now = simulation.observe().context;
        seen.push(Seen {
            step: waited.into_iter().chain(named).collect::<Vec<_>>().join(", "),
            rounds: simulation.seen(),
            context: changes(&context, &now),
        });
        context = now;
    }
    answer(global, &seen, || seen.iter().map(Seen::text).collect::<Vec<_>>().join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

impl Seen {
    fn text(&self) -> String {
        let rounds = self.rounds.iter().map(ToString::to_string);
        let changes = self.context.iter().map(|change| format!("    {change}\n"));
        let heading = (!self.context.is_empty()).then(|| "  context\n".to_owned());
        let lines = rounds.chain(heading).chain(changes).collect::<String>();
        format!("{}\n{lines}", self.step)
    }
}

/// Those of the file, one a line, then those of the command line.
fn steps(options: &Why) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(file) = &options.steps {
        let text = template::read(file)?;
        for (at, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let step = serde_json::from_str(line);
            steps.push(step.with_context(|| format!("{}:{at}", file.display()))?);
        }
    }
    for event in &options.event {
        let (name, data) = event.split_once('=').unwrap_or((event, "null"));
        let data = Value::parse(data.as_bytes()).with_context(|| format!("the data of {name}"))?;
        steps.push(Step { after_ms: 0, event: Some(StepEvent { name: name.parse()?, data }) });
    }
    Ok(steps)
}
