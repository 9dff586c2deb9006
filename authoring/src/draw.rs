//! Pictures of a template: Mermaid and SVG.
