//! Findings for programs: one document, its fields stable.

use pled_engine::json::line_and_column;
use pled_engine::value::Value;
use serde::Serialize;

use super::{Finding, Report, Severity};
use crate::model::{Explored, Step};

/// What was found in several files.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The files, in the order in which they were named.
    pub files: Vec<File>,
    /// How many errors there are in all.
    pub errors: usize,
    /// How many warnings.
    pub warnings: usize,
    /// How many notes.
    pub notes: usize,
}

/// What was found in a file.
#[derive(Debug, Serialize)]
pub struct File {
    /// Its name.
    pub file: String,
    /// The findings, in the order of the text.
    pub findings: Vec<Entry>,
    /// What the model check explored; null if it did not run.
    pub explored: Option<Explored>,
}

/// A finding.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its code.
    pub code: &'static str,
    /// How severe it is.
    pub severity: Severity,
    /// JSON pointer to the place.
    pub pointer: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The line and the column behind its last character.
    pub end_line: usize,
    /// See `end_line`.
    pub end_column: usize,
    /// What is wrong.
    pub message: String,
    /// What it means.
    pub meaning: &'static str,
    /// What to do; null if there is no advice.
    pub help: Option<String>,
    /// The input with which the way begins, where it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// The shortest way to a configuration of the model check, as steps that `pled simulate` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
    /// Whether a simulation of just these steps gets there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replays: Option<bool>,
    /// The configuration at the end of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Vec<String>>,
}

impl Document {
    /// A document of no file.
    #[must_use]
    pub fn new() -> Self {
        Self { files: Vec::new(), errors: 0, warnings: 0, notes: 0 }
    }

    /// Adds what was found in a file.
    pub fn add(&mut self, file: &str, source: &str, report: &Report) {
        self.errors += report.count(Severity::Error);
        self.warnings += report.count(Severity::Warning);
        self.notes += report.count(Severity::Note);
        self.files.push(File {
            file: file.to_owned(),
            findings: report.findings.iter().map(|finding| Entry::of(source, finding)).collect(),
            explored: report.explored.clone(),
        });
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    /// A finding in a text.
    #[must_use]
    pub fn of(source: &str, finding: &Finding) -> Self {
        let (line, column) = line_and_column(source, finding.span.start);
        let (end_line, end_column) = line_and_column(source, finding.span.end);
        let path = finding.path.as_ref();
        Self {
            code: finding.code.code,
            severity: finding.code.severity,
            pointer: finding.pointer.clone(),
            line,
            column,
            end_line,
            end_column,
            message: finding.message.clone(),
            meaning: finding.code.meaning,
            help: finding.help.clone(),
            input: path.map(|path| path.input.clone()).filter(|input| !input.is_null()),
            steps: path.map(|path| path.steps.clone()),
            replays: path.map(|path| path.replays),
            configuration: path.map(|path| path.configuration.clone()),
        }
    }
}
