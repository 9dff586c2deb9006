//! Scenarios: what should happen, on a virtual clock and without a server.
//!
//! A [`World`] is one execution whose events, workers and clock are the caller's; its steps are
//! those of the engine, so what holds here holds where it runs. A [`Session`] lets a person drive
//! it (`pled simulate`); a [`Document`] is a file of scenarios with expectations (`pled test`).

mod coverage;
mod expect;
mod junit;
mod mock;
mod moment;
mod read;
mod run;
mod session;
mod show;
mod world;
mod yaml;

pub use coverage::{Coverage, Covered, Missing};
pub use expect::{Difference, Expectation};
pub use junit::{Suite, junit};
pub use mock::{Answer, Mocks, failed};
pub use moment::{Happening, Moment};
pub use read::{Act, Document, Fault, Scenario, Step, duration_ms};
pub use run::Ran;
pub use session::{Reply, Session};
pub use show::duration;
pub use world::{Delivered, Impossible, World, final_failure};
pub use yaml::Place;
