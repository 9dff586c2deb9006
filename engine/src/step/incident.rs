//! What a person decides about an incident (R14), by the control event `pled.incident`.

use super::run::{Run, Taken};
use crate::entry::Outcome;
use crate::execution::{Incident, Task, TimerPurpose};
use crate::id::Token;
use crate::value::Value;

/// `{"incident": "7-0", "action": "resolve", "data": {…}}`, read.
pub(super) struct Decision<'m> {
    incident: Token,
    what: What<'m>,
}

/// What becomes of an incident.
enum What<'m> {
    /// The task is tried once more, under the same key.
    Retry,
    /// The invocation counts as done, with this result.
    Resolve(&'m Value),
    /// It is forgotten; the execution stays where it is.
    Ignore,
    /// The execution fails by it.
    Fail,
}

static NULL: Value = Value::Null;

impl Run<'_> {
    /// Whether what is asked for can be done; an error says why not.
    pub(super) fn judge_incident<'m>(&self, data: &'m Value) -> Result<Decision<'m>, String> {
        let text = |name: &str| {
            let text = data.get(name).and_then(Value::as_str);
            text.ok_or_else(|| format!("`{name}` is no string"))
        };
        let token: Token = text("incident")?.parse().map_err(|error| format!("{error}"))?;
        let what = match text("action")? {
            "retry" => What::Retry,
            "resolve" => What::Resolve(data.get("data").unwrap_or(&NULL)),
            "ignore" => What::Ignore,
            "fail" => What::Fail,
            other => {
                return Err(format!("{other:?} is none of `retry`, `resolve`, `ignore`, `fail`"));
            }
        };
        let incident = self.state.incidents.get(&token);
        let incident = incident.ok_or_else(|| format!("there is no incident {token}"))?;
        if matches!(what, What::Retry) {
            repeatable(incident)?;
        }
        Ok(Decision { incident: token, what })
    }

    pub(super) fn decide_incident(&mut self, decision: Decision<'_>) -> Taken {
        let token = decision.incident;
        let Some(incident) = self.state.incidents.remove(&token) else {
            return (Outcome::Ignored, None);
        };
        match decision.what {
            What::Retry => {
                if let Some(task) = incident.task {
                    self.try_once_more(token, task);
                }
                (Outcome::Applied, None)
            }
            What::Resolve(data) => match incident.event.strip_prefix("error.invoke.") {
                Some(id) => {
                    let view = self.view(format!("done.invoke.{id}").into(), data.clone());
                    self.tell(&view, None)
                }
                None => (Outcome::Applied, None),
            },
            What::Ignore => (Outcome::Applied, None),
            What::Fail => {
                self.fail(&incident.event, incident.failure.message);
                (Outcome::Applied, None)
            }
        }
    }

    /// One more attempt, whatever `retry` allows, in a new schedule-to-close.
    fn try_once_more(&mut self, token: Token, mut task: Task) {
        // One that waited for its pause was never handed out.
        if task.not_before.take().is_none() {
            task.attempt += 1;
        }
        task.deadline = task.timeout.schedule_to_close_ms.map(|ms| self.after(ms));
        // What an earlier attempt brings late is what this one is to bring.
        self.state.given_up.remove(&token);
        self.hand_out(Some(token), &mut task);
        if let Some(due) = task.deadline {
            self.set_timer(due, TimerPurpose::Close { task: token });
        }
        self.state.tasks.insert(token, task);
    }
}

/// Whether there is a task that can be tried once more.
fn repeatable(incident: &Incident) -> Result<(), String> {
    let Some(task) = &incident.task else {
        return Err(format!(
            "no single task stands behind {}: it can be resolved, ignored or failed",
            incident.event
        ));
    };
    if task.child.is_some() && task.retry.is_none() {
        return Err("the input of a child without `retry` is not kept: resolve it, or fail".into());
    }
    Ok(())
}
