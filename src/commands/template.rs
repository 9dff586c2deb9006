//! `pled template`

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pled_engine::id::{TemplateRef, TemplateSelector};
use pled_engine::template::{InvalidTemplate, Template};
use pled_streams::Nats;
use pled_streams::templates::{self, RegisterError};
use serde_json::json;

use super::check::report_errors;
use super::{answer, open};
use crate::cli::Global;
use crate::{say, say_error};

pub(crate) async fn add(global: &Global, file: &Path) -> anyhow::Result<ExitCode> {
    let source = read(file)?;
    let nats = open(global, "pled template").await?;
    let registered = match templates::register(&nats, &source).await {
        Ok(registered) => registered,
        Err(RegisterError::Invalid(invalid)) => {
            report(file, &invalid);
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let missing = missing_children(&nats, &source).await?;
    for child in &missing {
        say_error(&format!(
            "warning: it starts {child}, which is not registered yet: until it is, such a start \
             fails with `unknown_template`"
        ));
    }
    let answered = json!({
        "template": registered.reference.to_string(),
        "hash": registered.hash.to_string(),
        "existed": registered.existed,
        "missing_children": missing,
        "metadata": Template::parse(&source).map(|template| template.metadata()).ok(),
    });
    answer(global, &answered, || {
        let how = if registered.existed { "is registered already" } else { "registered" };
        format!("{} {how}, sha256 {}", registered.reference, registered.hash)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The versions that a template starts as children and that are not registered. That is no error:
/// two templates may start each other, and teams register theirs in any order.
async fn missing_children(nats: &Nats, source: &str) -> anyhow::Result<Vec<TemplateRef>> {
    let template = Template::parse(source)?;
    let mut missing = Vec::new();
    for child in template.children() {
        if templates::get(nats, &TemplateSelector::from(child)).await?.is_none() {
            missing.push(child.clone());
        }
    }
    Ok(missing)
}

pub(crate) async fn list(global: &Global) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled template").await?;
    let known = templates::list(&nats).await?;
    let rows = known.iter().map(|info| {
        json!({ "name": info.name.to_string(), "versions": info.versions, "latest": info.latest })
    });
    answer(global, &rows.collect::<Vec<_>>(), || {
        if known.is_empty() {
            return "no template is registered; see `pled template add`".to_owned();
        }
        let line = |info: &templates::TemplateInfo| {
            let versions = info.versions.iter().map(ToString::to_string).collect::<Vec<_>>();
            let latest = info.latest.unwrap_or_default();
            format!("{}@{latest}  versions {}", info.name, versions.join(", "))
        };
        known.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn show(global: &Global, template: &str) -> anyhow::Result<ExitCode> {
    let selector: TemplateSelector = template.parse()?;
    let nats = open(global, "pled template").await?;
    match templates::get(&nats, &selector).await? {
        Some(source) => say(source.trim_end()),
        None => bail!("no template {selector} is registered; see `pled template list`"),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn schema() -> ExitCode {
    say(pled_authoring::schema::text().trim_end());
    ExitCode::SUCCESS
}

pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut source = String::new();
        std::io::stdin().read_to_string(&mut source).context("standard input")?;
        return Ok(source);
    }
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// Prints the errors of a template with their places, as `pled check` does.
pub(crate) fn report(file: &Path, invalid: &InvalidTemplate) {
    report_errors(file, &invalid.source_text);
}
