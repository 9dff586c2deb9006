//! `pled check`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pled_authoring::check::{self, Options, Severity, code, json::Document, render};
use pled_engine::template::Template;
use pled_streams::subject::worker_consumer;
use pled_streams::{Class, Nats, actions, tasks};
use serde_json::json;

use super::action::is_built_in;
use super::open;
use crate::cli::{Check, Format, Global};
use crate::{say, say_error};

/// Nothing was found that fails the check.
const CLEAN: u8 = 0;
/// Errors were found, or warnings with `--deny-warnings`.
const FOUND: u8 = 1;
/// The command line is wrong, or a file could not be read.
const USAGE: u8 = 2;

pub(crate) async fn run(global: &Global, options: &Check) -> anyhow::Result<ExitCode> {
    let live = match options.live {
        true => Some(open(global, "pled check").await?),
        false => None,
    };
    Ok(ExitCode::from(match &options.explain {
        Some(code) => explain(global, code),
        None => files(global, options, live.as_ref()).await?,
    }))
}

fn explain(global: &Global, name: &str) -> u8 {
    let Some(code) = code::find(name) else {
        say_error(&format!(
            "pled: there is no code {name:?}; these are known:\n{}",
            render::list()
        ));
        return USAGE;
    };
    match global.output {
        Format::Text => say(render::explain(code).trim_end()),
        Format::Json => say(json!({
            "code": code.code,
            "severity": code.severity,
            "title": code.title,
            "meaning": code.meaning,
            "remedy": code.remedy,
            "example": code.example,
        })),
    }
    CLEAN
}

async fn files(global: &Global, options: &Check, live: Option<&Nats>) -> anyhow::Result<u8> {
    let mut unreadable = false;
    let mut unserved = Vec::new();
    let mut files = Vec::new();
    for path in &options.files {
        match expand(path) {
            Ok(found) => files.extend(found),
            Err(error) => {
                unreadable = true;
                say_error(&format!("pled: {}: {error}", path.display()));
            }
        }
    }
    let max_configurations = if options.no_model { 0 } else { options.max_configurations };
    let mut document = Document::new();
    for path in files {
        let name = if path == Path::new("-") { "<stdin>".into() } else { path.to_string_lossy() };
        let source = match read(&path) {
            Ok(source) => source,
            Err(error) => {
                unreadable = true;
                say_error(&format!("pled: {name}: {error}"));
                continue;
            }
        };
        let report = check::check(&source, &Options { max_configurations });
        if global.output == Format::Text {
            let styled = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let text = render::text(&name, &source, &report, styled);
            if !text.is_empty() {
                say(text.trim_end());
                say("");
            }
        }
        document.add(&name, &source, &report);
        if let (Some(nats), Ok(template)) = (live, Template::parse(&source)) {
            for (action, why) in nobody_does(nats, &template).await? {
                if global.output == Format::Text {
                    say(format!("warning: nobody does {action} of {name}: {why}\n"));
                }
                unserved.push(json!({ "file": name, "action": action, "message": why }));
            }
        }
    }
    match global.output {
        Format::Json if live.is_some() => {
            let mut document = serde_json::to_value(&document)?;
            document["unserved"] = unserved.clone().into();
            say(document);
        }
        Format::Json => say(serde_json::to_string(&document).unwrap_or_default()),
        Format::Text if document.files.is_empty() => {}
        Format::Text => say(render::summary(
            document.files.len(),
            document.errors,
            document.warnings + unserved.len(),
            document.notes,
        )),
    }
    let warnings = document.warnings + unserved.len();
    Ok(if unreadable {
        USAGE
    } else if document.errors > 0 || (options.deny_warnings && warnings > 0) {
        FOUND
    } else {
        CLEAN
    })
}

/// The actions of a template whose tasks no worker asks for, each with what is known of it.
async fn nobody_does(nats: &Nats, template: &Template) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for queue in template.queues() {
        let consumer = worker_consumer(Class::Normal, &queue.name);
        let facts = tasks::queue_facts(nats, &queue.name).await?;
        if facts.is_some_and(|facts| facts.pulls > 0 || facts.held > 0) {
            continue;
        }
        for action in &queue.actions {
            let is_bound = actions::get(nats, action).await?.is_some();
            // Its queue is made when the template is registered; before, nobody can be seen.
            let is_built_in = is_built_in(action) && *action == queue.name;
            let why = match facts {
                None if is_built_in => continue,
                Some(_) if is_built_in => "it is built in, and no pled worker runs".to_owned(),
                _ if is_bound && *action == queue.name => {
                    "it is bound, and no pled worker runs".to_owned()
                }
                _ if is_bound => {
                    format!("it is bound, but its tasks go to the queue {}", queue.name)
                }
                _ => format!("it has no binding, and no worker pulls {consumer}"),
            };
            found.push((action.to_string(), why));
        }
    }
    Ok(found)
}

/// The file itself; of a folder the templates in it and below, by name.
fn expand(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json")
                && may_be_a_template(&path)
            {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(std::io::Error::other("there is no template (*.json) in this folder"));
    }
    found.sort();
    Ok(found)
}

/// Whether a file that was found in a folder is meant: other programs keep JSON beside templates. One
/// that cannot be read is looked at, and told of.
fn may_be_a_template(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => ["pled", "logic", "states"].iter().any(|name| value.get(name).is_some()),
        Err(_) => true,
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        let mut source = String::new();
        std::io::stdin().read_to_string(&mut source)?;
        return Ok(source);
    }
    std::fs::read_to_string(path)
}

/// Prints the errors of a template that was refused elsewhere, as `pled check` does.
pub(crate) fn report_errors(file: &Path, source: &str) {
    let report = check::check(source, &Options { max_configurations: 0 });
    let styled = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = render::text(&file.to_string_lossy(), source, &report, styled);
    say_error(text.trim_end());
    let count = report.count(Severity::Error);
    let errors = if count == 1 { "error" } else { "errors" };
    say_error(&format!("\n{count} {errors} in {}", file.display()));
}
