//! Findings about a template, its errors and beyond its validity: what a compiler would say.
//!
//! [`check`] takes a text and gives a [`Report`]. [`render`] shows it to people, [`json`] to
//! programs, [`code`] explains the codes.

mod allow;
pub mod code;
mod expression;
pub(crate) mod facts;
mod graph;
pub mod json;
mod names;
pub(crate) mod reads;
pub mod render;
mod timers;
mod transitions;
mod work;

use std::ops::Range;

use pled_engine::template::document::Node;
use pled_engine::template::{Diagnostic, StateIndex, Template};
use pled_engine::value::Value;

pub use code::{Code, Severity};

use crate::model::{self, Explored, Step};
use facts::Facts;

pub(crate) use graph::{Shape, can_be_complete};

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many configurations the model check explores; 0: it is left out.
    pub max_configurations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_configurations: model::CONFIGURATIONS_DEFAULT }
    }
}

/// One finding, ready to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its code, which says how severe it is and what it means.
    pub code: &'static Code,
    /// JSON pointer to the place.
    pub pointer: String,
    /// The bytes of the source that are meant.
    pub span: Range<usize>,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// What to do about it here.
    pub help: Option<String>,
    /// The shortest way there, for what the model check found.
    pub path: Option<Path>,
}

/// A way to a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The input of the start, `null` if any does.
    pub input: Value,
    /// The steps, as `pled simulate` takes them.
    pub steps: Vec<Step>,
    /// Whether a simulation of just these steps gets there. If not, it is left to guards that the
    /// model check did not evaluate.
    pub replays: bool,
    /// Ids of the active leaf states at its end.
    pub configuration: Vec<String>,
}

/// What was found in a template.
#[derive(Clone, Debug)]
pub struct Report {
    /// The findings: errors alone, or else warnings and notes, in the order of the text.
    pub findings: Vec<Finding>,
    /// What the model check explored, if it ran.
    pub explored: Option<Explored>,
}

impl Report {
    /// How many findings are of that severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.code.severity == severity).count()
    }
}

/// Checks a template's text.
#[must_use]
pub fn check(source: &str, options: &Options) -> Report {
    let template = match Template::parse(source) {
        Ok(template) => template,
        Err(invalid) => {
            let findings = invalid.errors.into_iter().map(Finding::from).collect();
            return Report { findings, explored: None };
        }
    };
    // What parsed as a template parses as JSON.
    let Ok(root) = Node::parse(source) else {
        return Report { findings: Vec::new(), explored: None };
    };
    let facts = Facts::of(&template, &root);
    let mut found = Found { facts: &facts, findings: Vec::new() };
    let shape = graph::findings(&mut found);
    transitions::findings(&mut found);
    timers::findings(&mut found);
    expression::findings(&mut found);
    names::findings(&mut found);
    work::findings(&mut found);
    let explored = (options.max_configurations > 0)
        .then(|| model::findings(source, &mut found, &shape, options.max_configurations));
    let Found { mut findings, .. } = found;
    allow::apply(&facts, &mut findings);
    findings.sort_by(|a, b| (a.span.start, a.code.code).cmp(&(b.span.start, b.code.code)));
    Report { findings, explored }
}

impl From<Diagnostic> for Finding {
    fn from(error: Diagnostic) -> Self {
        let Diagnostic { code, pointer, span, message, help } = error;
        Self { code: code::find_or_unknown(code), pointer, span, message, help, path: None }
    }
}

/// Findings on their way.
pub(crate) struct Found<'f, 'n> {
    pub(crate) facts: &'f Facts<'n>,
    findings: Vec<Finding>,
}

impl<'n> Found<'_, 'n> {
    pub(crate) fn template(&self) -> &'n Template {
        self.facts.template
    }

    /// Records what is wrong at a pointer. Marked is the value; of one that goes over several
    /// lines its key.
    pub(crate) fn add(
        &mut self,
        code: &'static Code,
        pointer: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let span = self.span(pointer);
        self.add_at(code, pointer, &span, message, help);
    }

    /// Records what is wrong at a member, whose key is marked.
    pub(crate) fn add_at_key(
        &mut self,
        code: &'static Code,
        pointer: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let at = self.facts.at(pointer);
        let span = at.map(|at| at.key.unwrap_or(&at.node.span).clone()).unwrap_or_default();
        self.add_at(code, pointer, &span, message, help);
    }

    pub(crate) fn add_at(
        &mut self,
        code: &'static Code,
        pointer: &str,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.findings.push(Finding {
            code,
            pointer: pointer.to_owned(),
            span: span.clone(),
            message: message.into(),
            help: Some(help.into()),
            path: None,
        });
    }

    /// Records what the model check found, at a state.
    pub(crate) fn add_with_path(
        &mut self,
        code: &'static Code,
        state: StateIndex,
        message: impl Into<String>,
        help: impl Into<String>,
        path: Path,
    ) {
        let pointer = self.template().pointer(state);
        self.add_at_state(code, state, message, help);
        if let Some(finding) = self.findings.last_mut() {
            finding.pointer = pointer;
            finding.path = Some(path);
        }
    }

    /// Records what is wrong with a state, whose key is marked; the root's id.
    pub(crate) fn add_at_state(
        &mut self,
        code: &'static Code,
        state: StateIndex,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let pointer = self.template().pointer(state);
        if state == 0 {
            let span = self.span("/id");
            self.add_at(code, &pointer, &span, message, help);
        } else {
            self.add_at_key(code, &pointer, message, help);
        }
    }

    /// Whether a finding of that code was recorded.
    pub(crate) fn has(&self, code: &'static Code) -> bool {
        self.findings.iter().any(|finding| finding.code.code == code.code)
    }

    fn span(&self, pointer: &str) -> Range<usize> {
        let Some(at) = self.facts.at(pointer) else { return 0..0 };
        let value = &at.node.span;
        let lines = self.facts.template.source.get(value.clone()).unwrap_or_default();
        match at.key {
            Some(key) if lines.contains('\n') => key.clone(),
            Some(_) | None => value.clone(),
        }
    }
}
