//! What is wrong with a template, and where.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::json::line_and_column;

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
}

impl Findings {
    /// Reads `inner` with the pointer one step deeper, at the member `key` or the element of that
    /// index.
    pub fn at<T>(&mut self, key: impl fmt::Display, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        let escaped = key.to_string().replace('~', "~0").replace('/', "~1");
        self.pointer.push('/');
        self.pointer.push_str(&escaped);
        let result = inner(self);
        self.pointer.truncate(length);
        result
    }

    /// Records an error at the present pointer.
    pub fn error(&mut self, code: &'static str, span: &Range<usize>, message: impl Into<String>) {
        self.found.push(Diagnostic {
            code,
            pointer: self.pointer.clone(),
            span: span.clone(),
            message: message.into(),
            help: None,
        });
    }

    /// Records an error with advice.
    pub fn error_with_help(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.error(code, span, message);
        if let Some(last) = self.found.last_mut() {
            last.help = Some(help.into());
        }
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
