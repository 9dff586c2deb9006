//! `pled test`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use pled_authoring::scenario::{Coverage, Covered, Document, Fault, Place, Ran, Suite, junit};
use pled_engine::template::{InvalidTemplate, Template};
use serde_json::json;

use super::{answer, template};
use crate::cli::{Format, Global, Test};
use crate::{say, say_error};

/// What a scenario file that is named or found ends with.
const SUFFIX: &str = ".test.yaml";

/// A file could not be run, which is another thing than a scenario that failed.
const BAD_FILE: u8 = 2;

pub(crate) fn run(global: &Global, options: &Test) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let files = match find(&options.paths) {
        Ok(files) => files,
        Err(error) => {
            say_error(&format!("pled: {error:#}"));
            return Ok(ExitCode::from(BAD_FILE));
        }
    };
    let mut tested = Tested::default();
    for file in files {
        tested.run(file, options.filter.as_deref(), global.output);
    }
    let covered = if options.coverage { tested.covered() } else { Vec::new() };
    let least = options.min_coverage.map(usize::from);
    let short: Vec<_> = match least {
        Some(least) => tested
            .covered()
            .into_iter()
            .filter(|(_, covered)| covered.percent() < least)
            .map(|(file, _)| file)
            .collect(),
        None => Vec::new(),
    };
    if let Some(path) = &options.junit {
        let xml = junit(tested.files.iter().map(|file| Suite {
            name: &file.name,
            ran: file.ran.iter().map(|(ran, took)| (ran, *took)).collect(),
        }))?;
        std::fs::write(path, xml).with_context(|| format!("writing {}", path.display()))?;
    }
    let (passed, failed) = tested.counts();
    let took = begin.elapsed();
    answer(global, &tested.json(&covered, passed, failed, took), || {
        let mut text = String::new();
        for (file, covered) in &covered {
            text.push_str(&coverage_text(file, covered));
        }
        for file in &short {
            let least = least.unwrap_or_default();
            let _ = writeln!(text, "coverage of {file} is below {least} %");
        }
        let bad = match tested.bad {
            0 => String::new(),
            1 => ", 1 file could not be run".to_owned(),
            bad => format!(", {bad} files could not be run"),
        };
        let _ =
            write!(text, "{passed} passed, {failed} failed{bad} in {:.2} s", took.as_secs_f64());
        text
    })?;
    Ok(match (tested.bad, failed, passed) {
        (1.., _, _) | (0, 0, 0) => ExitCode::from(BAD_FILE),
        (0, 0, _) if short.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// All that was run.
#[derive(Default)]
struct Tested {
    files: Vec<File>,
    /// How many files could not be run.
    bad: usize,
    faults: Vec<String>,
    /// By the path of the file; `None` where it is no template.
    templates: BTreeMap<PathBuf, Option<Used>>,
}

struct File {
    name: String,
    ran: Vec<(Ran, Duration)>,
}

/// A template that scenarios are for.
struct Used {
    /// As a person would name it.
    name: String,
    template: Arc<Template>,
    coverage: Coverage,
}

impl Tested {
    fn run(&mut self, file: PathBuf, filter: Option<&str>, format: Format) {
        let name = file.display().to_string();
        if let Err(faults) = self.try_run(&file, &name, filter, format) {
            self.bad += 1;
            for fault in faults {
                say_error(&fault);
                self.faults.push(fault);
            }
        }
    }

    fn try_run(
        &mut self,
        file: &Path,
        name: &str,
        filter: Option<&str>,
        format: Format,
    ) -> Result<(), Vec<String>> {
        let one = |error: String| vec![error];
        let told = |fault: Fault| at(name, fault.place, &fault.message);
        let text =
            std::fs::read_to_string(file).map_err(|error| one(format!("{name}: {error}")))?;
        let document = Document::parse(&text).map_err(|fault| one(told(fault)))?;
        let path = document.template().map_err(|fault| one(told(fault)))?;
        let path = file.parent().unwrap_or(Path::new("")).join(path);
        let place = document.template_place();
        let used = self.template(&path).map_err(|error| one(at(name, place, &error)))?;
        let scenarios = document.scenarios(&used.template);
        let scenarios =
            scenarios.map_err(|faults| faults.into_iter().map(told).collect::<Vec<_>>())?;
        let mut ran = Vec::new();
        for scenario in scenarios {
            if filter.is_some_and(|filter| !scenario.name.contains(filter)) {
                continue;
            }
            let begin = Instant::now();
            let one = scenario.run(&used.template);
            used.coverage.merge(&one.coverage);
            if format == Format::Text {
                say(ran_text(name, &one));
            }
            ran.push((one, begin.elapsed()));
        }
        self.files.push(File { name: name.to_owned(), ran });
        Ok(())
    }

    /// The template at `path`, which is read once.
    fn template(&mut self, path: &Path) -> Result<&mut Used, String> {
        let known = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let used = self.templates.entry(known).or_insert_with(|| {
            let source = std::fs::read_to_string(path).ok()?;
            let template = match Template::parse(&source) {
                Ok(template) => Arc::new(template),
                Err(invalid) => {
                    report(path, &invalid);
                    return None;
                }
            };
            let name = path.display().to_string();
            Some(Used { name, template, coverage: Coverage::default() })
        });
        used.as_mut().ok_or_else(|| match std::fs::metadata(path) {
            Ok(_) => format!("`template`: {} is no valid template", path.display()),
            Err(error) => format!("`template`: {}: {error}", path.display()),
        })
    }

    /// What of each template was used, by the path of its file.
    fn covered(&self) -> Vec<(String, Covered)> {
        let used = self.templates.values().flatten();
        used.map(|used| (used.name.clone(), used.coverage.of(&used.template))).collect()
    }

    fn counts(&self) -> (usize, usize) {
        let all = || self.files.iter().flat_map(|file| &file.ran);
        let passed = all().filter(|(ran, _)| ran.passed()).count();
        (passed, all().count() - passed)
    }

    fn json(
        &self,
        covered: &[(String, Covered)],
        passed: usize,
        failed: usize,
        took: Duration,
    ) -> serde_json::Value {
        let scenario = |(ran, took): &(Ran, Duration)| {
            json!({
                "name": ran.name, "line": ran.line, "passed": ran.passed(),
                "seconds": took.as_secs_f64(), "differences": ran.differences,
            })
        };
        let files = self.files.iter().map(|file| {
            let scenarios: Vec<_> = file.ran.iter().map(scenario).collect();
            json!({ "file": file.name, "scenarios": scenarios })
        });
        let coverage = covered.iter().map(|(file, covered)| {
            let percent = covered.percent();
            json!({ "file": file, "percent": percent, "covered": covered })
        });
        json!({
            "files": files.collect::<Vec<_>>(), "coverage": coverage.collect::<Vec<_>>(),
            "faults": self.faults, "passed": passed, "failed": failed,
            "seconds": took.as_secs_f64(),
        })
    }
}

fn report(path: &Path, invalid: &InvalidTemplate) {
    template::report(path, invalid);
}

fn ran_text(file: &str, ran: &Ran) -> String {
    if ran.passed() {
        return format!("ok    {file}: {}", ran.name);
    }
    let mut text = format!("FAIL  {file}:{}: {}", ran.line, ran.name);
    for difference in &ran.differences {
        let _ = write!(text, "\n      line {}, after {}:", difference.line, difference.after);
        for line in difference.text().lines() {
            let _ = write!(text, "\n        {line}");
        }
    }
    text
}

fn coverage_text(file: &str, covered: &Covered) -> String {
    let mut text = format!(
        "coverage of {file}: {} of {} states, {} of {} transitions\n",
        covered.states_covered, covered.states, covered.transitions_covered, covered.transitions
    );
    for missing in &covered.missing {
        let _ = writeln!(text, "  not covered  {file}:{}  {}", missing.line, missing.what);
    }
    text
}

/// A fault in the words of a compiler.
fn at(file: &str, place: Place, message: &str) -> String {
    format!("error: {message}\n  --> {file}:{}:{}", place.line, place.column)
}

/// The files that are named, and those that are found in folders, in order.
fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let here = [PathBuf::from(".")];
    let mut files = Vec::new();
    for path in if paths.is_empty() { &here[..] } else { paths } {
        let kind = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if kind.is_dir() {
            look_in(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        anyhow::bail!("no scenario file (*{SUFFIX}) was found");
    }
    Ok(files)
}

fn look_in(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && !name.starts_with('.') && !["target", "node_modules"].contains(&&*name) {
            look_in(&entry.path(), files)?;
        } else if !is_folder && name.ends_with(SUFFIX) {
            let path = entry.path();
            files.push(path.strip_prefix(".").unwrap_or(&path).to_owned());
        }
    }
    Ok(())
}
