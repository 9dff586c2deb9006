//! What the author of a template needs before it runs. Built on the pure core alone: no server, no
//! clock, and no I/O but text in and text out.
#![warn(missing_docs)]

pub mod check;
pub mod draw;
pub mod import;
pub mod model;
pub mod scenario;
pub mod schema;
