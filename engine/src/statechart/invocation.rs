//! Starting what lives as long as a state.

use super::Command;
use super::macrostep::{Run, scope};
use crate::expression::{EvalError, EventView, Scope};
use crate::template::{Each, Invoke, StateIndex};
use crate::value::Value;

impl<'t> Run<'t, '_> {
    /// Starts an invocation of a state that was entered. Without an input it is not started, and
    /// `error.execution` says why.
    pub(super) fn start_invocation(
        &mut self,
        state: StateIndex,
        invoke: &'t Invoke,
        event: &EventView,
    ) {
        match self.invocation_input(invoke, event) {
            Ok(input) => {
                self.started.push((state, self.commands.len()));
                self.commands.push(Command::InvokeStart { state, invoke, input });
            }
            Err(error) => self.report(event, invoke.pointer.as_ref().to_owned(), &error),
        }
    }

    fn invocation_input(
        &mut self,
        invoke: &'t Invoke,
        event: &EventView,
    ) -> Result<Value, EvalError> {
        match (&invoke.each, &invoke.input) {
            (Some(each), _) => self.inputs_of_each(invoke, each, event),
            (None, Some(input)) => self.evaluate(input, event),
            (None, None) => Ok(Value::Null),
        }
    }

    fn inputs_of_each(
        &mut self,
        invoke: &'t Invoke,
        each: &'t Each,
        event: &EventView,
    ) -> Result<Value, EvalError> {
        let over = each.over.evaluate(&scope(self.chart, event), &mut self.budget)?;
        let Some(items) = over.as_array() else {
            let reason = format!("`each` goes over an array, not over {}", over.kind());
            return Err(EvalError::Type(reason));
        };
        let mut inputs = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let input = match &invoke.input {
                Some(input) => {
                    let scope = Scope { item: Some((item, index)), ..scope(self.chart, event) };
                    input.evaluate(&scope, &mut self.budget)?
                }
                None => Value::Null,
            };
            inputs.push(input);
        }
        Ok(inputs.into())
    }
}
