//! Invocations with `each`: elements are handed out in waves, their results gathered in order.

use std::sync::Arc;

use super::cause::object;
use super::run::{Run, Taken};
use super::task::Purpose;
use crate::entry::Outcome;
use crate::execution::FanOut;
use crate::id::Token;
use crate::template::{Invoke, InvokeSource, StateIndex};
use crate::value::{Object, Value};

/// How many elements run at once where `each` does not say it.
const CONCURRENCY_DEFAULT: u32 = 100;

/// When one step has handed out this many bytes of inputs, the next elements wait for a result: an
/// entry stays well below what a message may hold.
const WAVE_BYTES_MAX: usize = 65_536;

impl FanOut {
    /// How many were handed out and have not ended.
    fn running(&self) -> u32 {
        let ended = u32::try_from(self.results.len()).unwrap_or(u32::MAX);
        self.next_index().saturating_sub(ended)
    }

    /// The index of the first that waits.
    fn next_index(&self) -> u32 {
        self.count - u32::try_from(self.waiting.len()).unwrap_or(self.count)
    }

    /// All results in the order of the elements.
    fn into_results(mut self) -> Value {
        self.results.sort_unstable_by_key(|(index, _)| *index);
        self.results.into_iter().map(|(_, result)| result).collect::<Vec<_>>().into()
    }
}

impl<'t> Run<'t> {
    /// Starts an invocation for each of these inputs. Without any it is done at once: the event is
    /// taken in the same step, behind what was sent before.
    pub(super) fn start_each(&mut self, state: StateIndex, invoke: &'t Invoke, inputs: &[Value]) {
        let Ok(count @ 1..) = u32::try_from(inputs.len()) else {
            return self.tell_oneself(&invoke.done_event, Vec::new().into(), Some(state));
        };
        let waiting = inputs.iter().cloned().collect();
        let fan_out = FanOut { count, waiting, results: Vec::new() };
        self.state.fan_outs.insert(invoke.id.clone(), fan_out);
        self.hand_out_elements(&invoke.id);
    }

    /// Hands out elements that wait, as many as may run at once.
    fn hand_out_elements(&mut self, id: &str) {
        let template = self.template;
        let Some((state, invoke)) = template.invocation(id) else { return };
        let each = invoke.each.as_ref();
        let running_max = each.and_then(|each| each.concurrency).unwrap_or(CONCURRENCY_DEFAULT);
        let mut bytes = 0;
        while let Some(fan_out) = self.state.fan_outs.get_mut(id) {
            let running = fan_out.running();
            let is_full = running >= running_max || (running > 0 && bytes >= WAVE_BYTES_MAX);
            let index = fan_out.next_index();
            let Some(input) = (!is_full).then(|| fan_out.waiting.pop_front()).flatten() else {
                return;
            };
            bytes += input.canonical_len();
            self.start_element(state, invoke, index, input);
        }
    }

    fn start_element(&mut self, state: StateIndex, invoke: &'t Invoke, index: u32, input: Value) {
        match &invoke.source {
            InvokeSource::Action(action) => {
                let purpose = Purpose::Element(&invoke.id, index);
                self.start_task(state, purpose, action, input, &invoke.options);
            }
            InvokeSource::Template(template) => {
                self.start_child(state, invoke, Some(index), template, input);
            }
        }
    }

    /// An element of the invocation `id` ended with this result; the last one ends the invocation.
    pub(super) fn element_ended(&mut self, id: &Arc<str>, index: u32, result: Value) -> Taken {
        let Some(fan_out) = self.state.fan_outs.get_mut(id) else {
            return (Outcome::Applied, None);
        };
        fan_out.results.push((index, result));
        if fan_out.results.len() < usize::try_from(fan_out.count).unwrap_or(usize::MAX) {
            self.hand_out_elements(id);
            return (Outcome::Applied, None);
        }
        let results = self.state.fan_outs.remove(id).map(FanOut::into_results);
        let view = self.view(format!("done.invoke.{id}").into(), results.unwrap_or_default());
        self.tell(&view, None)
    }

    /// An element of the invocation `id` failed for good with what `error` says: that stands in the
    /// results, or it ends the invocation.
    pub(super) fn element_failed(
        &mut self,
        id: &Arc<str>,
        index: u32,
        error: Value,
        place: Token,
    ) -> Taken {
        let each = self.template.invocation(id).and_then(|(_, invoke)| invoke.each.as_ref());
        if each.is_some_and(|each| each.collect) {
            return self.element_ended(id, index, object([("error", error)]));
        }
        self.cancel_invocation(id);
        let view = self.view(format!("error.invoke.{id}").into(), with_index(error, index));
        self.tell(&view, Some(place))
    }
}

/// Puts the index among the details of an error.
fn with_index(error: Value, index: u32) -> Value {
    let Value::Object(mut error) = error else { return error };
    let mut details = match error.get("details") {
        Some(Value::Object(details)) => details.clone(),
        None | Some(Value::Null) => Object::default(),
        Some(details) => Object::from_iter([("details", details.clone())]),
    };
    details.insert("index", index.into());
    error.insert("details", details.into());
    error.into()
}
