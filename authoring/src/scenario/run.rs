//! Running a scenario.

use std::sync::Arc;

use pled_engine::template::Template;
use serde::Serialize;

use super::coverage::Coverage;
use super::expect::{Difference, Expectation, Seen};
use super::moment::Happening;
use super::read::{Act, Scenario};
use super::world::{Delivered, Impossible, World};

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// Its line in the file.
    pub line: u64,
    /// What was other than expected; it passed if nothing was.
    pub differences: Vec<Difference>,
    /// What of the template it used.
    #[serde(skip)]
    pub coverage: Coverage,
}

impl Ran {
    /// Whether all was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

impl Scenario {
    /// Runs the scenario, and replays what it wrote. A step after one that is impossible is not
    /// taken; a failed expectation ends nothing.
    #[must_use]
    pub fn run(&self, template: &Arc<Template>) -> Ran {
        let mut run = Run { all: Vec::new(), differences: Vec::new() };
        let world = World::start(template.clone(), self.input.clone(), self.mocks.clone());
        let coverage = match world {
            Ok(mut world) => {
                run.all.extend(effects_of(&mut world));
                if self.steps.iter().all(|step| run.step(&mut world, step)) {
                    run.expect(&world, self.expect.as_ref(), None, None, "the last step");
                    run.verify(&world, self.place.line);
                }
                world.coverage().clone()
            }
            Err(impossible) => {
                run.impossible(self.place.line, "the start", &impossible);
                Coverage::default()
            }
        };
        let (name, line) = (self.name.clone(), self.place.line);
        Ran { name, line, differences: run.differences, coverage }
    }
}

struct Run {
    /// The effects of all steps so far.
    all: Vec<Happening>,
    differences: Vec<Difference>,
}

impl Run {
    /// Takes a step; false if it is impossible.
    fn step(&mut self, world: &mut World, step: &super::read::Step) -> bool {
        let after = step.act.text();
        let delivered = match &step.act {
            Act::Look => Ok(None),
            Act::Send { event, data } => world.send(event.clone(), data.clone()).map(Some),
            Act::Wait(ms) => world.wait(*ms).map(|()| None),
            Act::End { task, outcome } => world.end_task(task, outcome.clone()).map(Some),
        };
        let effects = effects_of(world);
        match delivered {
            Ok(delivered) => {
                // What only looks sees all that happened so far.
                let seen = if step.act == Act::Look { None } else { Some(&*effects) };
                self.all.extend_from_slice(&effects);
                self.expect(world, step.expect.as_ref(), seen, delivered, &after);
                true
            }
            Err(impossible) => {
                self.impossible(step.place.line, &after, &impossible);
                false
            }
        }
    }

    fn expect(
        &mut self,
        world: &World,
        expectation: Option<&Expectation>,
        effects: Option<&[Happening]>,
        delivered: Option<Delivered>,
        after: &str,
    ) {
        if let Some(expectation) = expectation {
            let effects = effects.unwrap_or(&self.all);
            let found = expectation.differences(&Seen { world, effects, delivered, after });
            self.differences.extend(found);
        }
    }

    fn impossible(&mut self, line: u64, after: &str, impossible: &Impossible) {
        self.differences.push(Difference {
            line,
            after: after.to_owned(),
            what: "step".to_owned(),
            expected: "one that can be taken".to_owned(),
            found: impossible.to_string(),
        });
    }

    fn verify(&mut self, world: &World, line: u64) {
        if let Err(divergence) = world.verify() {
            self.differences.push(Difference {
                line,
                after: "the replay of all entries".to_owned(),
                what: format!("entry {} {}", divergence.entry, divergence.field),
                expected: divergence.expected,
                found: divergence.found,
            });
        }
    }
}

fn effects_of(world: &mut World) -> Vec<Happening> {
    world.take_moments().into_iter().flat_map(|moment| moment.effects).collect()
}

impl Act {
    fn text(&self) -> String {
        match self {
            Self::Look => "the steps so far".to_owned(),
            Self::Send { event, .. } => format!("send {event}"),
            Self::Wait(ms) => format!("wait {}", super::show::duration(*ms)),
            Self::End { task, outcome } => match outcome {
                pled_engine::message::TaskOutcome::Failed(failure) => {
                    format!("fail {task} {}", failure.code)
                }
                pled_engine::message::TaskOutcome::Ok(_)
                | pled_engine::message::TaskOutcome::Started => format!("done {task}"),
            },
        }
    }
}
