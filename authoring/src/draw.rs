//! Pictures of a template: Mermaid and SVG, with the path of an execution on it.
//!
//! The same template and path give the same bytes.

mod diagram;
mod infix;
mod layered;
mod mermaid;
mod path;
mod place;
mod svg;
mod text;

use pled_engine::template::Template;

use diagram::Diagram;

pub use path::{InvalidPath, Path, Step};

/// The template as a Mermaid `stateDiagram-v2`.
#[must_use]
pub fn mermaid(template: &Template, path: Option<&Path>) -> String {
    mermaid::write(&Diagram::of(template), path)
}

/// The template as an SVG image of its own: no scripts, no fonts, light and dark by the reader's
/// preference.
#[must_use]
pub fn svg(template: &Template, path: Option<&Path>) -> String {
    svg::write(&Diagram::of(template), path)
}
