//! What workers would answer, as a scenario says it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pled_engine::effect::TaskEffect;
use pled_engine::message::{Failure, Millis, TaskOutcome};
use pled_engine::value::Value;

use super::moment::element;

/// The answers to the attempts of tasks, by the name of an element of an invocation's `each`
/// (`notify[2]`), of an invocation or of an action; the first of these that is there is asked.
pub type Mocks = BTreeMap<Arc<str>, Vec<Answer>>;

/// What one attempt, or several in a row, of a task come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What comes back; `None`: nothing, the attempt is left to the scenario's steps.
    pub outcome: Option<TaskOutcome>,
    /// After how long.
    pub after_ms: Millis,
    /// For how many attempts.
    pub times: u32,
}

/// The answers that were given so far, by the same names.
pub(super) type Given = BTreeMap<Arc<str>, u32>;

/// The answer to this attempt. The last one of a list holds for all that come after it.
pub(super) fn answer<'m>(
    mocks: &'m Mocks,
    given: &mut Given,
    task: &TaskEffect,
) -> Option<&'m Answer> {
    let (name, answers) = find(mocks, task)?;
    let given = given.entry(name.clone()).or_default();
    let mut place = *given;
    *given = given.saturating_add(1);
    for answer in answers {
        match place.checked_sub(answer.times) {
            Some(rest) => place = rest,
            None => return Some(answer),
        }
    }
    answers.last()
}

fn find<'m>(mocks: &'m Mocks, task: &TaskEffect) -> Option<(&'m Arc<str>, &'m Vec<Answer>)> {
    let names = task.invocation.iter().flat_map(|id| [element(id, task.index), id.clone()]);
    names.chain([task.action.clone()]).find_map(|name| mocks.get_key_value(&name))
}

impl Answer {
    /// One that comes at once.
    #[must_use]
    pub fn now(outcome: TaskOutcome) -> Self {
        Self { outcome: Some(outcome), after_ms: 0, times: 1 }
    }

    /// What comes back of an attempt with this limit, and after how long: a worker that takes
    /// longer gives up.
    pub(super) fn within(&self, limit_ms: Option<Millis>) -> Option<(TaskOutcome, Millis)> {
        let outcome = self.outcome.as_ref()?;
        Some(match limit_ms {
            Some(limit) if self.after_ms > limit => {
                (failed("timeout", "the attempt did not end in its time"), limit)
            }
            Some(_) | None => (outcome.clone(), self.after_ms),
        })
    }
}

/// A failure with this code.
#[must_use]
pub fn failed(code: &str, message: &str) -> TaskOutcome {
    TaskOutcome::Failed(Failure {
        code: code.into(),
        message: message.to_owned(),
        details: Value::Null,
        retryable: true,
        retry_after_ms: None,
    })
}
