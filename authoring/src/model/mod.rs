//! What an exploration of a template's configurations finds: deadlocks, livelocks, ends that cannot
//! be reached, regions that never join.
//!
//! The engine's own algorithm takes the steps, on a `skeleton` of the template: its states and
//! transitions, without the data. Guards over data are left open, so each may hold or not; the same
//! condition gives the same answer as long as what it reads does not change. Keys of the context
//! that take few values, all set from constants or each other, are kept and evaluated exactly.
//! `explore` goes through all configurations, breadth first, up to a bound; `verdict` says what is
//! wrong with what was found; `path` writes the way there as steps of a simulation and tries it.

mod explore;
mod path;
pub(crate) mod scc;
mod skeleton;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeSet;

use pled_engine::message::Millis;
use pled_engine::template::Template;
use pled_engine::value::Value;
use serde::Serialize;

use crate::check::{Found, Shape};
use explore::{Exploration, Interrupted};
use skeleton::Skeleton;

/// How many configurations are explored if nothing else is said.
pub const CONFIGURATIONS_DEFAULT: usize = 20_000;

/// What was explored.
#[derive(Clone, Debug, Serialize)]
pub struct Explored {
    /// How many configurations, with timers and work that are pending, were found.
    pub configurations: usize,
    /// How many steps between them were taken.
    pub steps: usize,
    /// Whether these are all: else a bound was reached, and what was not found may be there.
    pub complete: bool,
    /// The keys of the context that were evaluated exactly.
    pub exact: Vec<String>,
}

/// A step of a simulation, as `pled simulate` takes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Step {
    /// How far the clock is advanced first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<Millis>,
    /// What is delivered then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<StepEvent>,
}

/// An event of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepEvent {
    /// Its type.
    pub name: String,
    /// Its payload.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

impl Step {
    /// The step as a line of JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Explores a template and records what is wrong with what was found.
pub(crate) fn findings(
    source: &str,
    found: &mut Found<'_, '_>,
    shape: &Shape,
    configurations_max: usize,
) -> Explored {
    let mut open: BTreeSet<String> = BTreeSet::new();
    loop {
        // What parsed once parses again.
        let Ok(template) = Template::parse(source) else {
            return Explored { configurations: 0, steps: 0, complete: false, exact: Vec::new() };
        };
        let skeleton = Skeleton::of(template, found.facts, &open);
        match Exploration::run(&skeleton, configurations_max) {
            Ok(exploration) => {
                verdict::findings(found, shape, &skeleton, &exploration, configurations_max);
                return Explored {
                    configurations: exploration.nodes.len(),
                    steps: exploration.steps,
                    complete: exploration.complete,
                    exact: skeleton.exact.iter().map(|key| key.to_string()).collect(),
                };
            }
            Err(Interrupted::ManyValues(key)) => {
                open.insert(key);
            }
            Err(Interrupted::Bound) => open.extend(skeleton.exact.iter().map(|it| it.to_string())),
        }
    }
}
