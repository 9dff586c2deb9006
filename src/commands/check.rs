//! `pled check`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pled_authoring::check::{self, Options, Severity, code, json::Document, render};
use serde_json::json;

use crate::cli::{Check, Format, Global};
use crate::{say, say_error};

/// Nothing was found that fails the check.
const CLEAN: u8 = 0;
/// Errors were found, or warnings with `--deny-warnings`.
const FOUND: u8 = 1;
/// The command line is wrong, or a file could not be read.
const USAGE: u8 = 2;

pub(crate) fn run(global: &Global, options: &Check) -> ExitCode {
    ExitCode::from(match &options.explain {
        Some(code) => explain(global, code),
        None => files(global, options),
    })
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

fn files(global: &Global, options: &Check) -> u8 {
    let mut unreadable = false;
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
    }
    match global.output {
        Format::Json => say(serde_json::to_string(&document).unwrap_or_default()),
        Format::Text if document.files.is_empty() => {}
        Format::Text => say(render::summary(
            document.files.len(),
            document.errors,
            document.warnings,
            document.notes,
        )),
    }
    if unreadable {
        USAGE
    } else if document.errors > 0 || (options.deny_warnings && document.warnings > 0) {
        FOUND
    } else {
        CLEAN
    }
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
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(std::io::Error::other("there is no *.json in this folder"));
    }
    found.sort();
    Ok(found)
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
