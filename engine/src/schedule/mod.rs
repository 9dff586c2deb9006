//! Schedules: executions that are started by time.
//!
//! A [`Spec`] says what is started and when; its [`Times`] gives the nominal times one after the
//! other; a [`Schedule`] is one schedule with its state, as a machine that decides what becomes of
//! each nominal time. The time is an argument everywhere: nothing here reads a clock.

mod calendar;
mod cron;
mod field;
mod machine;
mod period;
mod spec;
mod state;
mod times;
mod zone;

pub use machine::{Input, Output, Refusal, Schedule, Seen, Start};
pub use spec::{Fault, InvalidSpec, Overlap, Spec};
pub use state::{Backfill, Counts, Ending, Pause, Recent, Run, State, Trigger, Waiting, What};
pub use times::{Firing, Times};

pub use period::{instant, instant_text};
