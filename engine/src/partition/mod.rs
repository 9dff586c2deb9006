//! The commit protocol of one partition (DESIGN section 5) as a state machine without I/O, clock
//! or randomness: `handle(input, now) -> outputs`.
//!
//! The shell in `workers/` performs the outputs and feeds back what happened; it decides nothing.

mod protocol;

pub use protocol::{
    Answer, DeadReason, Find, Input, InputPosition, Loaded, Malformed, Now, Op, Output, Position,
    Publish, Published, Reply, Snapshot, StreamFacts, Streams, TaskMessage,
};
