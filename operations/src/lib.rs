//! What an operator does with PLED: prove that it kept its promises, look at what is wrong, put
//! back what was set aside, recover after a loss.
//!
//! What is decided here is decided on values ([`verify`] takes records, wherever they come from);
//! the command line in `src/commands` only asks, shows and ends with a code.
#![warn(missing_docs)]

pub mod dead;
pub mod doctor;
pub mod export;
pub mod record;
pub mod recover;
pub mod verify;
