//! PLED's workers: the async shells around the pure core.
//!
//! - [`engine`] owns partitions of executions and commits their steps;
//! - [`rules`] turns raw events into messages for executions;
//! - [`action`] does the work that templates name, and is the library for workers in Rust;
//! - [`conformance`] says what a worker in any language does wrong;
//! - [`schedules`] starts executions by time;
//! - [`maintain`] removes what is done from the streams.
//!
//! All run until a [`CancellationToken`] is cancelled, and end gracefully.

pub mod action;
mod clock;
pub mod conformance;
pub mod engine;
pub mod maintain;
mod ownership;
pub mod rules;
pub mod schedules;

pub use ownership::Partitions;
pub use tokio_util::sync::CancellationToken;
