//! `pled template import`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use pled_authoring::import::{Imported, NeedKind, import};
use pled_engine::template::Template;
use pled_engine::template::document::Node;

use super::template;
use crate::{say, say_error};

pub(crate) fn run(
    file: &Path,
    out: Option<&Path>,
    guards: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let machine = template::read(file)?;
    let guards = guards.map(expressions).transpose()?.unwrap_or_default();
    let imported =
        import(&machine, &guards).with_context(|| format!("importing {}", file.display()))?;
    match out {
        Some(out) => std::fs::write(out, &imported.template)
            .with_context(|| format!("writing {}", out.display()))?,
        None => say(imported.template.trim_end()),
    }
    tell(&imported);
    Ok(ExitCode::SUCCESS)
}

/// Expressions by the names of guards.
fn expressions(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = template::read(file)?;
    let map = Node::parse(&text).with_context(|| format!("reading {}", file.display()))?;
    let members = map.members().context("--guards: an object of expressions by name")?;
    let expression = |member: &pled_engine::template::document::Member| {
        let expression = text.get(member.value.span.clone()).unwrap_or_default();
        (member.key.to_string(), expression.to_owned())
    };
    Ok(members.iter().map(expression).collect())
}

fn tell(imported: &Imported) {
    for note in &imported.notes {
        let pointer = if note.pointer.is_empty() { "the root" } else { &note.pointer };
        say_error(&format!("note: {pointer}: {}", note.message));
    }
    for need in &imported.needs {
        let what = match need.kind {
            NeedKind::Guard => "needs an expression",
            NeedKind::Action => "needs an action with data in place of its function",
            NeedKind::Value => "needs an expression",
            NeedKind::Delay => "needs milliseconds or an expression",
            NeedKind::Worker => "is done by a worker",
        };
        say_error(&format!("{} {:?} {what}", need.kind, need.name));
        for pointer in &need.pointers {
            say_error(&format!("  {pointer}"));
        }
    }
    match Template::parse(&imported.template) {
        Ok(_) => say_error("the template is complete; payloads of events are in `event.data` here"),
        Err(invalid) => {
            let count = invalid.errors.len();
            say_error(&format!("{count} places are refused until they are filled in"));
        }
    }
}
