//! The JSON Schema 2020-12 of templates: what editors complete and check by.
//!
//! It says all that a schema can say; what needs a look at other places, such as whether a target
//! is there, only the reader of templates finds. A test holds both together.

/// The schema's text.
#[must_use]
pub fn text() -> &'static str {
    include_str!("template.schema.json")
}
