//! The pure core of PLED: no I/O, no clock, no randomness, no unordered map.
//!
//! A template is read and compiled ([`template`]); [`step`] takes the messages that wait for an
//! execution and gives back its next state, with the journal entry that says all that was decided
//! ([`entry`]); [`replay`] does it again from the causes alone. [`partition`] is the commit
//! protocol around it, as a state machine that the async shell in `workers/` drives.
#![warn(missing_docs)]

pub mod canonical;
pub mod door;
pub mod effect;
pub mod entry;
pub mod execution;
pub mod expression;
pub mod id;
pub mod json;
pub mod message;
pub mod partition;
pub mod replay;
pub mod rule;
pub mod schedule;
pub mod simulate;
pub mod statechart;
pub mod step;
pub mod template;
pub mod value;
pub mod why;

/// The version of the semantics of templates, in every entry; raised when a step may differ.
pub const SEMANTICS: &str = "1";
