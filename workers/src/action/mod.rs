//! The action worker: pulls tasks, does the work, says what came of it.

pub mod builtin;
mod handler;
mod registry;

pub use handler::{Handler, Task, TaskError};
pub use registry::Registry;
