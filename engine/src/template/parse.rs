//! From a text to a template.

use super::diagnostic::{Diagnostic, Findings};
use super::document::{Node, Unreadable};
use super::{InvalidTemplate, Template, code, root};

impl Template {
    /// Reads, checks and compiles a template.
    ///
    /// # Errors
    /// If the text is not a template: with all errors that were found (of a text that is not JSON
    /// the first), but no more than a hundred.
    pub fn parse(source: &str) -> Result<Self, InvalidTemplate> {
        let document = Node::read(source)
            .map_err(|unreadable| invalid(source, vec![unreadable.into_diagnostic(source)]))?;
        let mut findings = Findings::default();
        let template = root::template(source, &document, &mut findings);
        let mut errors = findings.into_found();
        if let (Some(template), []) = (template, &*errors) {
            return Ok(template);
        }
        errors.sort_by_key(|error| error.span.start);
        Err(invalid(source, errors))
    }
}

fn invalid(source: &str, errors: Vec<Diagnostic>) -> InvalidTemplate {
    InvalidTemplate { source_text: source.into(), errors }
}

impl Unreadable {
    fn into_diagnostic(self, source: &str) -> Diagnostic {
        let start = self.error.offset.min(source.len());
        let next = source.get(start..).and_then(|rest| rest.chars().next());
        let end = start + next.map_or(0, char::len_utf8);
        Diagnostic {
            code: if self.repeated_key { code::REPEATED_KEY } else { code::NOT_JSON },
            pointer: self.pointer,
            span: start..end,
            message: self.error.reason,
            help: None,
        }
    }
}
