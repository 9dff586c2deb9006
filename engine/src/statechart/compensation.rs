//! What undoes an invocation that succeeded.

use super::Command;
use super::macrostep::{PRODUCED_BYTES_MAX, Run, scope};
use crate::expression::{Budget, EvalError, EventView, Scope};
use crate::template::{Invoke, Template};
use crate::value::{Object, Value};

impl Run<'_, '_> {
    /// If `event` is the success of an invocation of an active state, pushes what undoes it, with
    /// an input of the context before the event acts.
    pub(super) fn push_compensation(&mut self, event: &EventView) {
        let Some(id) = event.event_type.strip_prefix("done.invoke.") else { return };
        let Some((state, invoke)) = self.template.invocation(id) else { return };
        let Some(compensation) = &invoke.compensate else { return };
        if self.chart.active.binary_search(&state).is_err() {
            return;
        }
        let input = match &compensation.input {
            Some(input) => input.evaluate(&scope(self.chart, event), &mut self.budget),
            None => Ok(Value::Null),
        };
        match input {
            Ok(input) => {
                self.commands.push(Command::CompensationPush { invoke, compensation, input });
            }
            Err(error) => {
                self.report(event, format!("{}/compensate/input", invoke.pointer), &error);
            }
        }
    }
}

/// The input of the compensation of an invocation whose success, the `event`, came after its state
/// was left (R13); `None` if it has no compensation.
///
/// # Errors
/// If the input has no value.
pub fn compensation(
    template: &Template,
    invoke: &Invoke,
    context: &Object,
    event: &EventView,
) -> Result<Option<Value>, EvalError> {
    let Some(compensation) = &invoke.compensate else { return Ok(None) };
    let Some(input) = &compensation.input else { return Ok(Some(Value::Null)) };
    let scope = Scope { context: Some(context), event, item: None, active: &[] };
    let mut budget = Budget { steps: template.limits.logic_steps, bytes: PRODUCED_BYTES_MAX };
    input.evaluate(&scope, &mut budget).map(Some)
}
