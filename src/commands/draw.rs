//! `pled draw`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pled_authoring::draw::{self, Path as Trace, Step};
use pled_engine::entry::JournalEntry;
use pled_engine::id::{ExecutionId, TemplateSelector};
use pled_engine::message::Millis;
use pled_engine::template::Template;
use pled_engine::value::Value;
use pled_streams::{journal, templates};

use super::{check, open, template};
use crate::cli::{Draw, Global, Picture};
use crate::say;

pub(crate) async fn run(global: &Global, options: &Draw) -> anyhow::Result<ExitCode> {
    let (source, entries) = match &options.execution {
        Some(execution) => recorded(global, execution, options.file.as_deref()).await?,
        None => {
            let file = options.file.as_deref().context("which template? Name a file")?;
            (template::read(file)?, Vec::new())
        }
    };
    let template = match Template::parse(&source) {
        Ok(template) => template,
        Err(invalid) => {
            let file = options.file.as_deref().unwrap_or(Path::new("-"));
            check::report_errors(file, &invalid.source_text);
            return Ok(ExitCode::FAILURE);
        }
    };
    let trace = match (&options.execution, steps(options)?) {
        (Some(_), _) => Some(Trace::of_journal(&template, &entries)?),
        (None, Some(steps)) => {
            let input = value(&options.input).context("--input")?;
            Some(Trace::simulate(&template, input, &steps)?)
        }
        (None, None) => None,
    };
    let picture = match format(options)? {
        Picture::Mermaid => draw::mermaid(&template, trace.as_ref()),
        Picture::Svg => draw::svg(&template, trace.as_ref()),
    };
    match &options.out {
        Some(file) => {
            std::fs::write(file, picture).with_context(|| format!("writing {}", file.display()))?
        }
        None => say(picture.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The template of a recorded execution, or the given one, and its journal.
async fn recorded(
    global: &Global,
    execution: &str,
    file: Option<&Path>,
) -> anyhow::Result<(String, Vec<JournalEntry>)> {
    let id: ExecutionId = execution.parse()?;
    let nats = open(global, "pled draw").await?;
    let entries: Vec<JournalEntry> =
        journal::history(&nats, &id).await?.into_iter().map(|loaded| loaded.entry).collect();
    let Some(first) = entries.first() else { bail!("there is no execution {id}") };
    if let Some(file) = file {
        return Ok((template::read(file)?, entries));
    }
    let selector: TemplateSelector = first.template.to_string().parse()?;
    let source = templates::get(&nats, &selector).await?;
    Ok((source.with_context(|| format!("{selector} is not registered"))?.to_string(), entries))
}

fn format(options: &Draw) -> anyhow::Result<Picture> {
    if let Some(format) = options.format {
        return Ok(format);
    }
    let Some(file) = &options.out else { return Ok(Picture::Mermaid) };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(Picture::Svg),
        Some("mmd" | "mermaid") => Ok(Picture::Mermaid),
        _ => bail!("{} ends neither in .svg nor in .mmd: say --format", file.display()),
    }
}

/// The steps to simulate, if a path is wanted.
fn steps(options: &Draw) -> anyhow::Result<Option<Vec<Step>>> {
    if let Some(file) = &options.steps {
        let lines = template::read(file)?;
        let lines = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(at, line): (usize, &str)| {
            step(line).with_context(|| format!("{}:{}", file.display(), at + 1))
        };
        return lines.map(read).collect::<anyhow::Result<_>>().map(Some);
    }
    let Some(path) = &options.path else { return Ok(None) };
    let event = |name: &str| {
        let event = name.parse().with_context(|| format!("--path {name}"))?;
        Ok(Step { after_ms: 0, event: Some((event, Value::Null)) })
    };
    let names = path.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(event).collect::<anyhow::Result<_>>().map(Some)
}

/// `{"after_ms":n,"event":{"name":…,"data":…}}`
fn step(line: &str) -> anyhow::Result<Step> {
    let step = value(line)?;
    let after_ms: Millis = match step.get("after_ms") {
        None => 0,
        Some(millis) => millis.as_int().context("`after_ms` is an integer")?,
    };
    let Some(event) = step.get("event") else { return Ok(Step { after_ms, event: None }) };
    let name = event.get("name").and_then(Value::as_str).context("an event has a `name`")?;
    let data = event.get("data").cloned().unwrap_or_default();
    Ok(Step { after_ms, event: Some((name.parse()?, data)) })
}

fn value(text: &str) -> anyhow::Result<Value> {
    Ok(Value::parse(text.as_bytes())?)
}
