//! The path of an execution through its template: what a picture marks.

use std::collections::BTreeSet;

use pled_engine::entry::JournalEntry;
use pled_engine::execution::Execution;
use pled_engine::id::EventType;
use pled_engine::message::Source;
use pled_engine::simulate::Simulation;
use pled_engine::step;
use pled_engine::template::{StateIndex, Template};
use pled_engine::value::Value;

/// What an execution went through, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The states that were active at some time.
    pub states: BTreeSet<StateIndex>,
    /// The numbers of the transitions that were taken.
    pub transitions: BTreeSet<u32>,
    /// The states that are active now, or in which it ended, ancestors included.
    pub current: BTreeSet<StateIndex>,
}

/// One step of a simulated execution: time passes, then an event comes.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// How much time passes first, in milliseconds.
    pub after_ms: i64,
    /// What comes then.
    pub event: Option<(EventType, Value)>,
}

/// An execution cannot have gone that way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// A simulated step cannot be taken.
    #[error("step {step}: {reason}")]
    Step {
        /// Which one, the first being 1.
        step: usize,
        /// Why not.
        reason: String,
    },
    /// The entries are not those of an execution of the template.
    #[error("entry {entry}: {reason}")]
    Entry {
        /// Its sequence.
        entry: u64,
        /// Why not.
        reason: String,
    },
}

impl Path {
    /// The path of an execution that starts with this input and goes through these steps, on a
    /// virtual clock.
    ///
    /// # Errors
    /// If a step has an event that only the engine makes, or makes timers fire without end.
    pub fn simulate(
        template: &Template,
        input: Value,
        steps: &[Step],
    ) -> Result<Self, InvalidPath> {
        let mut simulation = Simulation::start(template, input);
        for (at, step) in steps.iter().enumerate() {
            let invalid = |reason: String| InvalidPath::Step { step: at + 1, reason };
            simulation.advance(step.after_ms).map_err(|error| invalid(error.to_string()))?;
            if let Some((event, data)) = &step.event {
                simulation
                    .deliver(event, data.clone())
                    .map_err(|error| invalid(error.to_string()))?;
            }
        }
        let coverage = simulation.coverage();
        let mut path =
            Self { states: coverage.states, transitions: coverage.transitions, ..Self::default() };
        for leaf in simulation.observe().configuration {
            path.is_in(template, &leaf);
        }
        Ok(path.with_ancestors(template))
    }

    /// The path of a recorded execution: its steps are taken again from the causes in its journal.
    ///
    /// # Errors
    /// If the entries, from the first one on, are not those of an execution of this template.
    pub fn of_journal(template: &Template, entries: &[JournalEntry]) -> Result<Self, InvalidPath> {
        let Some(first) = entries.first() else { return Ok(Self::default()) };
        let mut path = Self::default();
        let mut before = Execution::unborn(first.execution.clone());
        for entry in entries {
            let invalid = |reason: String| InvalidPath::Entry { entry: entry.seq, reason };
            let causes = entry.causes.iter().filter(|cause| cause.stream != Source::Own);
            let messages: Result<Vec<_>, _> =
                causes.map(|cause| cause.message(&entry.execution)).collect();
            let messages = messages.map_err(|error| invalid(error.to_string()))?;
            let step = step::step(template, &before, &messages);
            let draft = step.draft.ok_or_else(|| {
                invalid(
                    "its causes give no step: it is of another template or has a gap".to_owned(),
                )
            })?;
            path.transitions.extend(draft.transitions());
            for transition in &entry.transitions {
                for leaf in transition.from.iter().chain(&transition.to) {
                    path.states.extend(template.index_of(leaf));
                }
            }
            before = Execution { hash: entry.hash, ..draft.after().clone() };
        }
        for leaf in &before.state.configuration {
            path.is_in(template, leaf);
        }
        for (source, transition) in template.transitions() {
            if path.transitions.contains(&transition.number) {
                path.states.insert(source);
            }
        }
        Ok(path.with_ancestors(template))
    }

    fn is_in(&mut self, template: &Template, leaf: &str) {
        self.current.extend(template.index_of(leaf));
    }

    fn with_ancestors(mut self, template: &Template) -> Self {
        let above = |states: &BTreeSet<StateIndex>| {
            states.iter().flat_map(|state| template.ancestors(*state)).collect::<Vec<_>>()
        };
        self.current.extend(above(&self.current));
        self.states.extend(&self.current);
        self.states.extend(above(&self.states));
        self
    }
}
