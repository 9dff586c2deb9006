//! Work that is more than one task: fan-outs and compensations; and what bounds it, schemas of
//! events and the limits of values.

#![cfg(test)]

mod bounds;
mod compensation;
mod each;
mod incidents;
#[path = "../life/mod.rs"]
#[expect(dead_code, reason = "the tests of the step use the rest")]
mod life;
mod schema;

use life::{Life, failure, json};
use pled_engine::entry::Outcome;
use pled_engine::id::Token;
use pled_engine::message::TaskOutcome;
use pled_engine::replay::replay;
use pled_engine::step::Verdict;

const APPLIED: Verdict = Verdict::Taken(Outcome::Applied);
const IGNORED: Verdict = Verdict::Taken(Outcome::Ignored);
const REJECTED: Verdict = Verdict::Taken(Outcome::Rejected);

impl Life {
    /// The outstanding task of an element.
    fn element(&self, index: u32) -> Token {
        let mut tasks = self.now.state.tasks.iter();
        *tasks.find(|(_, task)| task.index == Some(index)).expect("the element runs").0
    }

    fn element_ends(&mut self, index: u32, outcome: TaskOutcome) -> Verdict {
        let task = self.element(index);
        let attempt = self.now.state.tasks[&task].attempt;
        let message = self.result(task, attempt, outcome);
        self.take_one(&message)
    }

    /// A task that is not in the state any more, or that is told by its token, ends so.
    fn token_ends(&mut self, task: Token, outcome: TaskOutcome) -> Verdict {
        let message = self.result(task, 1, outcome);
        self.take_one(&message)
    }

    /// The journal gives the same bytes when it is taken again from its causes alone.
    fn replays(&self) {
        assert_eq!(replay(&self.template, &self.entries).unwrap().execution, self.now);
    }
}

fn ok(data: &str) -> TaskOutcome {
    TaskOutcome::Ok(json(data))
}

fn broken() -> TaskOutcome {
    failure("broken")
}
