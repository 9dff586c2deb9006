//! The JSON Schema of templates.
