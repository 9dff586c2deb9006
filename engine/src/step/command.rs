//! From what a macrostep wants done to effects, timers and tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cause::object;
use super::judge::is_reserved;
use super::run::{OwnSend, Run};
use super::task::Purpose;
use crate::effect::EffectKind;
use crate::execution::TimerPurpose;
use crate::id::{EventType, ExecutionId};
use crate::message::Millis;
use crate::statechart::Command;
use crate::template::{After, Invoke, InvokeSource, StateIndex};
use crate::value::Value;

/// A `send` or `raise` whose values are known.
struct Outgoing {
    to: Option<ExecutionId>,
    event: EventType,
    data: Value,
    delay_ms: Option<Millis>,
    id: Option<Arc<str>>,
}

impl<'t> Run<'t> {
    /// Turns the commands of one macrostep, in order, into effects; `last` says that the execution
    /// ends with it.
    pub(super) fn carry_out(&mut self, commands: Vec<Command<'t>>, last: bool) {
        let undone = undone(&commands, last);
        for (at, command) in commands.into_iter().enumerate() {
            if !undone.contains(&at) {
                self.command(command);
            }
        }
    }

    fn command(&mut self, command: Command<'t>) {
        match command {
            Command::Task { state, action, params, options } => {
                self.start_task(state, Purpose::Nobody, action, params, options);
            }
            Command::InvokeStart { state, invoke, input } => self.invoke(state, invoke, input),
            Command::InvokeCancel { state: _, invoke } => self.cancel_invocation(&invoke.id),
            Command::AfterSet { state, after, delay_ms } => self.set_after(state, after, delay_ms),
            Command::AfterCancel { state } => self.cancel_after(state),
            Command::Send { to, event, data, delay_ms, id } => match self.addressee(to) {
                Ok(to) => self.send(Outgoing { to, event, data, delay_ms, id }),
                Err(reason) => self.error_execution("send", "no_receiver", &reason),
            },
            Command::SendCancel { id } => self.cancel_send(&id),
            Command::Log(line) => self.log.push(line),
            Command::Spawn { id, template, input, abandon } => {
                self.spawn(id, template, input, abandon);
            }
            Command::Stop { id } => self.stop_child(id),
            Command::CompensationPush { invoke, compensation: _, input } => {
                self.push_compensation(invoke, input, false);
            }
            Command::Compensate => self.compensate(),
        }
    }

    fn invoke(&mut self, state: StateIndex, invoke: &'t Invoke, input: Value) {
        if invoke.each.is_some() {
            return self.start_each(state, invoke, input.as_array().unwrap_or_default());
        }
        match &invoke.source {
            InvokeSource::Action(action) => {
                let purpose = Purpose::Invocation(&invoke.id);
                self.start_task(state, purpose, action, input, &invoke.options);
            }
            InvokeSource::Template(template) => {
                self.start_child(state, invoke, None, template, input);
            }
        }
    }

    fn set_after(&mut self, state: StateIndex, after: &After, delay_ms: Millis) {
        let state = self.template.state(state).id.clone();
        let due = self.after(delay_ms);
        self.set_timer(due, TimerPurpose::After { state, delay: after.name.clone() });
    }

    fn cancel_after(&mut self, state: StateIndex) {
        let left = &self.template.state(state).id;
        self.cancel_timers(|_, purpose| match purpose {
            TimerPurpose::After { state, delay: _ } => state == left,
            TimerPurpose::Send { .. }
            | TimerPurpose::Retry { .. }
            | TimerPurpose::Close { .. }
            | TimerPurpose::Start { .. } => false,
        });
    }

    /// For whom a send is; `None` is the execution itself.
    fn addressee(&self, to: Option<Arc<str>>) -> Result<Option<ExecutionId>, String> {
        let Some(to) = to.filter(|to| **to != *self.id().as_str()) else { return Ok(None) };
        if &*to == "parent" {
            let parent = self.state.parent.as_ref().map(|parent| parent.execution.clone());
            return parent.map(Some).ok_or_else(|| "this execution has no parent".to_owned());
        }
        if let Some(id) = to.strip_prefix("child:") {
            let child = self.child_execution(id);
            return child.map(Some).ok_or_else(|| format!("no child {id:?} is running"));
        }
        to.parse().map(Some).map_err(|error: crate::id::InvalidName| error.to_string())
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { to, event, data, delay_ms, id } = outgoing;
        if is_reserved(event.as_str()) {
            let reason = format!("{event} is a reserved type: nothing was sent");
            return self.error_execution("send", "reserved_type", &reason);
        }
        match (delay_ms, to) {
            (Some(delay_ms), to) => {
                if let Some(id) = &id {
                    self.cancel_send(id);
                }
                let due = self.after(delay_ms);
                self.set_timer(due, TimerPurpose::Send { id, to, event, data });
            }
            (None, Some(to)) => {
                self.effect(EffectKind::Send { to, event, data });
            }
            (None, None) => self.send_to_oneself(event, data, None),
        }
    }

    fn send_to_oneself(&mut self, event: EventType, data: Value, while_active: Option<StateIndex>) {
        if self.is_closed() {
            return;
        }
        let send =
            EffectKind::Send { to: self.id().clone(), event: event.clone(), data: data.clone() };
        let token = self.effect(send);
        let chain = self.chain;
        self.own.push_back(OwnSend { token, event_type: event, data, while_active, chain });
    }

    fn cancel_send(&mut self, meant: &str) {
        self.cancel_timers(|_, purpose| match purpose {
            TimerPurpose::Send { id, .. } => id.as_deref() == Some(meant),
            TimerPurpose::After { .. }
            | TimerPurpose::Retry { .. }
            | TimerPurpose::Close { .. }
            | TimerPurpose::Start { .. } => false,
        });
    }

    /// Says to the template that a command could not be carried out.
    fn error_execution(&mut self, place: &str, code: &str, reason: &str) {
        let data =
            object([("code", code.into()), ("message", reason.into()), ("where", place.into())]);
        self.tell_oneself("error.execution", data, None);
    }

    /// Says to the template that an invocation or a child failed at once.
    pub(super) fn error_invoke(
        &mut self,
        id: &str,
        code: &str,
        message: &str,
        while_active: Option<StateIndex>,
    ) {
        let data = object([
            ("attempts", 0_u32.into()),
            ("code", code.into()),
            ("details", Value::Null),
            ("message", message.into()),
        ]);
        self.tell_oneself(&format!("error.invoke.{id}"), data, while_active);
    }

    /// Gives the template an event of the engine's in this step, behind what was sent before.
    pub(super) fn tell_oneself(
        &mut self,
        event: &str,
        data: Value,
        while_active: Option<StateIndex>,
    ) {
        // An id may be too long for an event's type; a person is told all the same.
        let event = event.parse().or_else(|_| "error.execution".parse());
        if let Ok(event) = event {
            self.send_to_oneself(event, data, while_active);
        }
    }
}

/// Which sends of a macrostep are never handed out, like a start that is undone in the macrostep
/// that made it (R13): a later command replaces or cancels them, or the end takes them back.
fn undone(commands: &[Command<'_>], last: bool) -> BTreeSet<usize> {
    let mut undone = BTreeSet::new();
    let mut sends: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, command) in commands.iter().enumerate() {
        match command {
            Command::Send { to, delay_ms, id, .. } => match (delay_ms, id) {
                (Some(_), _) if last => drop(undone.insert(at)),
                (None, _) if last && to.is_none() => drop(undone.insert(at)),
                (Some(_), Some(id)) => undone.extend(sends.insert(id, at)),
                (Some(_), None) | (None, _) => {}
            },
            Command::SendCancel { id } => undone.extend(sends.remove(&**id)),
            Command::Task { .. }
            | Command::InvokeStart { .. }
            | Command::InvokeCancel { .. }
            | Command::AfterSet { .. }
            | Command::AfterCancel { .. }
            | Command::Log(_)
            | Command::Spawn { .. }
            | Command::Stop { .. }
            | Command::CompensationPush { .. }
            | Command::Compensate => {}
        }
    }
    undone
}
