//! Findings for people.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::code::ALL;
use super::{Code, Finding, Path, Report, Severity};

/// How many bytes of a line are shown, so that a template on one line is readable too.
const LINE_BYTES_MAX: usize = 240;

/// The findings of a file as text, with colours if `styled`; empty if there are none.
#[must_use]
pub fn text(file: &str, source: &str, report: &Report, styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&one(file, source, finding, &renderer));
        text.push_str("\n\n");
    }
    text
}

fn one(file: &str, source: &str, finding: &Finding, renderer: &Renderer) -> String {
    let level = match finding.code.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let pointer = if finding.pointer.is_empty() { "the root" } else { &finding.pointer };
    let window = Window::around(source, &finding.span);
    let snippet = Snippet::source(window.text)
        .line_start(window.line)
        .path(file)
        .annotation(AnnotationKind::Primary.span(window.span.clone()).label(finding.code.title));
    let mut group =
        level.primary_title(finding.message.as_str()).id(finding.code.code).element(snippet);
    let place = format!("at {pointer}");
    group = group.element(Level::NOTE.message(place));
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let steps = finding.path.as_ref().map(way);
    if let Some(steps) = &steps {
        group = group.element(Level::NOTE.message(steps.as_str()));
    }
    renderer.render(&[group])
}

/// A way in words, and its steps as lines of JSON.
fn way(path: &Path) -> String {
    let how = if path.replays { "" } else { ", if the guards allow" };
    let input = if path.input.is_null() {
        String::new()
    } else {
        format!(", started with the input {}", path.input)
    };
    if path.steps.is_empty() {
        return format!("this happens at the start{how}{input}");
    }
    let mut text = format!("the shortest way there{how}{input}:");
    for step in &path.steps {
        let _ = write!(text, "\n{}", step.to_line());
    }
    text
}

/// The lines of a text that are shown. A line that is too long is cut around its mark.
struct Window<'s> {
    text: &'s str,
    line: usize,
    /// The mark, within `text`, and on one line.
    span: Range<usize>,
}

impl<'s> Window<'s> {
    fn around(source: &'s str, span: &Range<usize>) -> Self {
        let start = floor(source, span.start.min(source.len()));
        let head = &source[..start];
        let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |length| start + length);
        let end = floor(source, span.end.min(line_end).max(start));
        let mut from = line_start;
        if line_end - line_start > LINE_BYTES_MAX {
            from = floor(source, start.saturating_sub(LINE_BYTES_MAX / 3).max(line_start));
        }
        let to = floor(source, line_end.min(from + LINE_BYTES_MAX));
        let end = end.min(to);
        Self {
            text: &source[from..to],
            line: head.bytes().filter(|byte| *byte == b'\n').count() + 1,
            span: start - from..end - from,
        }
    }
}

fn floor(source: &str, mut at: usize) -> usize {
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One line about all that was found.
#[must_use]
pub fn summary(files: usize, errors: usize, warnings: usize, notes: usize) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let checked = count(files, "template");
    if errors + warnings + notes == 0 {
        return format!("{checked} checked, nothing found");
    }
    let parts = [(errors, "error"), (warnings, "warning"), (notes, "note")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| count(*number, what))
        .collect();
    format!("{checked} checked: {}; `pled check --explain CODE` tells more", parts.join(", "))
}

/// What a code means, with an example.
#[must_use]
pub fn explain(code: &Code) -> String {
    let mut text = format!("{} ({}): {}\n\n", code.code, code.severity.as_str(), code.title);
    wrap(&mut text, code.meaning);
    text.push_str("\nWhat to do: ");
    wrap(&mut text, code.remedy);
    if !code.example.is_empty() {
        let _ = write!(text, "\nAn example that has it:\n\n    {}\n", code.example);
    }
    if code.severity != Severity::Error {
        let _ = write!(
            text,
            "\nWhere it is meant, this silences it, at the root or at the state, transition or\n\
             invocation: \"meta\": {{\"check\": {{\"allow\": [\"{}\"]}}}}\n",
            code.code
        );
    }
    text
}

/// All codes with their titles.
#[must_use]
pub fn list() -> String {
    let lines =
        ALL.iter().map(|it| format!("{}  {:<7}  {}", it.code, it.severity.as_str(), it.title));
    lines.collect::<Vec<_>>().join("\n")
}

fn wrap(text: &mut String, words: &str) {
    const WIDTH: usize = 92;
    let mut column = text.len() - text.rfind('\n').map_or(0, |newline| newline + 1);
    for word in words.split_whitespace() {
        if column > 0 && column + word.len() >= WIDTH {
            text.push('\n');
            column = 0;
        } else if column > 0 && !text.ends_with(' ') {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}
