//! What is wrong with a template, and where.

use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::json::line_and_column;

/// How many errors of one text are kept: a person reads no more, and what is suggested for each
/// costs a look at all names.
const ERRORS_MAX: usize = 100;

/// One finding about a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable code, `E` for errors and `W` for warnings with three digits: `E012`.
    pub code: &'static str,
    /// JSON pointer (RFC 6901) to the place.
    pub pointer: String,
    /// The bytes of the source that are meant.
    pub span: Range<usize>,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A text is not a template: all errors that were found, in source order, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidTemplate {
    /// The template's text.
    pub source_text: Arc<str>,
    /// The errors.
    pub errors: Vec<Diagnostic>,
}

impl fmt::Display for InvalidTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            let (line, column) = line_and_column(&self.source_text, error.span.start);
            let pointer = if error.pointer.is_empty() { "the root" } else { &error.pointer };
            write!(formatter, "{}: {} (line {line}, column {column})", pointer, error.message)?;
        }
        Ok(())
    }
}

/// Findings while a template is read, with the pointer to where the reader is.
#[derive(Debug, Default)]
pub struct Findings {
    pointer: String,
    found: Vec<Diagnostic>,
    count: usize,
}

impl Findings {
    /// Reads `inner` with the pointer one step deeper, at the member `key` or the element of that
    /// index.
    pub fn at<T>(&mut self, key: impl fmt::Display, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        let _ = write!(self.pointer, "/{key}");
        if self.pointer[length + 1..].contains(['~', '/']) {
            let escaped = self.pointer[length + 1..].replace('~', "~0").replace('/', "~1");
            self.pointer.truncate(length + 1);
            self.pointer.push_str(&escaped);
        }
        let result = inner(self);
        self.pointer.truncate(length);
        result
    }

    /// Records an error at the present pointer. Beyond the first hundred they are only counted.
    pub fn error(&mut self, code: &'static str, span: &Range<usize>, message: impl Into<String>) {
        self.record(code, span, message.into(), None);
    }

    /// Records an error with advice.
    pub fn error_with_help(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.record(code, span, message.into(), Some(help.into()));
    }

    /// Records an error with advice, if there is any.
    pub fn report(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.record(code, span, message.into(), help);
    }

    fn record(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        self.count += 1;
        if self.found.len() < ERRORS_MAX {
            let pointer = self.pointer.clone();
            self.found.push(Diagnostic { code, pointer, span: span.clone(), message, help });
        }
    }

    /// How many errors were recorded, those included that were only counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether further errors are only counted, so that advice for them is not worth its cost.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.found.len() >= ERRORS_MAX
    }

    /// The pointer to where the reader is.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// What was found.
    #[must_use]
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }
}
