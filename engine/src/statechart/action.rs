//! Running action lists (R7) and what their parts give.

use std::sync::Arc;

use super::Command;
use super::macrostep::{Run, scope};
use crate::expression::{EvalError, EventView, Mapping};
use crate::id::{EventType, ExecutionId};
use crate::template::{Action, ActionKind, Branch, DELAY_MS_MAX, Delay, SendSpec, StateIndex};
use crate::value::{Value, canonical_string_len};

impl<'t> Run<'t, '_> {
    /// Runs a list of actions of `state`, one after the other. Where one fails, the rest of the
    /// list is left out and the failure is queued (R14); then false comes back.
    pub(super) fn run(
        &mut self,
        state: StateIndex,
        actions: &'t [Action],
        event: &EventView,
    ) -> bool {
        actions.iter().all(|action| {
            if let ActionKind::Choose(branches) = &action.kind {
                return self.choose(state, action, branches, event);
            }
            let acted = self.act(state, &action.kind, event);
            if let Err(error) = &acted {
                self.report(event, action.pointer.as_ref().to_owned(), error);
            }
            acted.is_ok()
        })
    }

    /// Runs the first branch that holds. A failure in it ends the list around it, too.
    fn choose(
        &mut self,
        state: StateIndex,
        action: &Action,
        branches: &'t [Branch],
        event: &EventView,
    ) -> bool {
        let mut branches = branches.iter().enumerate();
        let chosen = branches.find(|(at, branch)| self.branch_holds(action, *at, branch, event));
        chosen.is_none_or(|(_, branch)| self.run(state, &branch.actions, event))
    }

    /// The guards of `choose` see the context at their place.
    fn branch_holds(
        &mut self,
        action: &Action,
        at: usize,
        branch: &Branch,
        event: &EventView,
    ) -> bool {
        let Some(guard) = &branch.guard else { return true };
        let place = || format!("{}/params/branches/{at}/guard", action.pointer);
        let holds = self.holds(guard, event);
        if let Some(witness) = &mut self.witness {
            witness.chose(place());
        }
        holds.unwrap_or_else(|error| {
            self.report(event, place(), &error);
            false
        })
    }

    fn act(
        &mut self,
        state: StateIndex,
        kind: &'t ActionKind,
        event: &EventView,
    ) -> Result<(), EvalError> {
        let command = match kind {
            ActionKind::Assign(sides) => return self.assign(sides, event),
            ActionKind::Raise(spec) if spec.delay.is_none() => {
                let event_type = self.event_type(spec, event)?;
                let data = self.data(spec, event)?;
                self.raise(event, event_type.shared(), data);
                return Ok(());
            }
            ActionKind::Raise(spec) | ActionKind::Send(spec) => self.send(spec, event)?,
            ActionKind::Cancel { id } => Command::SendCancel { id: self.name(id, "id", event)? },
            // `run` takes it: it is no single act.
            ActionKind::Choose(_) => return Ok(()),
            ActionKind::Spawn { id, template, input, abandon } => {
                let (input, abandon) = (self.evaluate(input, event)?, *abandon);
                Command::Spawn { id, template, input, abandon }
            }
            ActionKind::Stop { id } => Command::Stop { id },
            ActionKind::Log(mapping) => Command::Log(self.evaluate(mapping, event)?),
            ActionKind::Compensate => Command::Compensate,
            ActionKind::Custom { action, params, options } => {
                let params = self.evaluate(params, event)?;
                Command::Task { state, action, params, options }
            }
        };
        self.commands.push(command);
        Ok(())
    }

    /// All right sides see the context before; then all keys are set. A context that would outgrow
    /// its bound is an error, and it stays as it was.
    fn assign(
        &mut self,
        sides: &'t [(Arc<str>, Mapping)],
        event: &EventView,
    ) -> Result<(), EvalError> {
        let mut values = Vec::with_capacity(sides.len());
        for (_, side) in sides {
            values.push(self.evaluate(side, event)?);
        }
        self.check_context_bytes(sides, &values)?;
        for ((key, _), value) in sides.iter().zip(values) {
            if self.chart.context.get(key) != Some(&value) {
                self.changed = true;
                self.chart.context.insert(key.clone(), value);
            }
        }
        Ok(())
    }

    /// Only growth is refused, so an execution whose context is too large already can shrink it.
    fn check_context_bytes(
        &mut self,
        sides: &[(Arc<str>, Mapping)],
        values: &[Value],
    ) -> Result<(), EvalError> {
        let context = &self.chart.context;
        let (mut added, mut removed) = (0, 0);
        for ((key, _), value) in sides.iter().zip(values) {
            match context.get(key) {
                Some(old) => removed += old.canonical_len(),
                None => {
                    let comma = usize::from(added > 0 || !context.is_empty());
                    added += canonical_string_len(key) + ":".len() + comma;
                }
            }
            added += value.canonical_len();
        }
        let max = self.template.limits.context_bytes;
        if added <= removed {
            self.context_bytes = self.context_bytes.map(|bytes| bytes - (removed - added));
            return Ok(());
        }
        let before = match self.context_bytes {
            Some(bytes) => bytes,
            None => Value::Object(context.clone()).canonical_len(),
        };
        let after = before + (added - removed);
        if after > max {
            self.context_bytes = Some(before);
            return Err(EvalError::Type(format!(
                "the context would have {after} bytes, and may have {max}"
            )));
        }
        self.context_bytes = Some(after);
        Ok(())
    }

    fn send(&mut self, spec: &'t SendSpec, event: &EventView) -> Result<Command<'t>, EvalError> {
        let to = spec.to.as_ref().map(|to| self.receiver(to, event)).transpose()?;
        let event_type = self.event_type(spec, event)?;
        if to.is_some() && event_type.is_reserved() {
            let reason = format!("the event {:?} is the engine's to make", event_type.as_str());
            return Err(EvalError::Type(reason));
        }
        Ok(Command::Send {
            to,
            event: event_type,
            data: self.data(spec, event)?,
            delay_ms: match &spec.delay {
                Some(delay) => Some(self.delay_ms(delay, event)?),
                None => None,
            },
            id: match &spec.id {
                Some(id) => Some(self.name(id, "id", event)?),
                None => None,
            },
        })
    }

    fn receiver(&mut self, to: &'t Mapping, event: &EventView) -> Result<Arc<str>, EvalError> {
        let to = self.name(to, "to", event)?;
        let child = to.strip_prefix("child:").is_some_and(|id| !id.is_empty());
        if child || to.parse::<ExecutionId>().is_ok() {
            return Ok(to);
        }
        Err(EvalError::Type(format!("{:?} is no receiver of a send", cut(&to))))
    }

    fn event_type(
        &mut self,
        spec: &'t SendSpec,
        event: &EventView,
    ) -> Result<EventType, EvalError> {
        let name = self.name(&spec.event, "event", event)?;
        let event_type =
            EventType::try_from(name).map_err(|error| EvalError::Type(error.to_string()))?;
        if event_type.as_str().starts_with("pled.") {
            let reason = format!("the event {:?} is the engine's to make", event_type.as_str());
            return Err(EvalError::Type(reason));
        }
        Ok(event_type)
    }

    fn data(&mut self, spec: &'t SendSpec, event: &EventView) -> Result<Value, EvalError> {
        spec.data.as_ref().map_or(Ok(Value::Null), |data| self.evaluate(data, event))
    }

    /// A delay: a non-negative integer.
    pub(super) fn delay_ms(
        &mut self,
        delay: &'t Delay,
        event: &EventView,
    ) -> Result<i64, EvalError> {
        let value = match delay {
            Delay::Millis(millis) => return Ok(*millis),
            Delay::Logic(expression) => {
                expression.evaluate(&scope(self.chart, event), &mut self.budget)?
            }
        };
        match value.as_int() {
            Some(millis @ 0..=DELAY_MS_MAX) => Ok(millis),
            _ => Err(EvalError::Type(format!(
                "a delay is an integer from 0 to {DELAY_MS_MAX} milliseconds, not {}",
                described(&value)
            ))),
        }
    }

    /// What names something: a string, or an integer as its digits.
    fn name(
        &mut self,
        mapping: &'t Mapping,
        what: &str,
        event: &EventView,
    ) -> Result<Arc<str>, EvalError> {
        let value = self.evaluate(mapping, event)?;
        if let Value::String(text) = value {
            return Ok(text);
        }
        match value.as_int() {
            Some(int) => Ok(int.to_string().into()),
            None => {
                Err(EvalError::Type(format!("`{what}` is a string, not {}", described(&value))))
            }
        }
    }

    pub(super) fn evaluate(
        &mut self,
        mapping: &Mapping,
        event: &EventView,
    ) -> Result<Value, EvalError> {
        mapping.evaluate(&scope(self.chart, event), &mut self.budget)
    }
}

/// A value for a message: short ones as they are, else their kind.
fn described(value: &Value) -> String {
    if value.canonical_len() <= 40 { value.to_string() } else { value.kind().to_owned() }
}

/// The beginning of a text that comes from outside.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
