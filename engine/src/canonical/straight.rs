//! The RFC 8785 form of what an entry holds, written straight.
//!
//! Each type says its members in their order, so that nothing is put in order and no key is looked
//! at: an entry is written twice for each step of each execution. The serde derives say the same
//! form, and read it; where builds check themselves, each entry that is sealed is written both
//! ways.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::effect::{ChildEffect, Effect, EffectKind, TaskEffect, Timeouts};
use crate::entry::{Cause, Outcome, Transition};
use crate::execution::{
    Born, Child, Compensating, Compensation, ExecutionError, FanOut, GivenUp, Incident, Parent,
    Paused, Retry, State, Status, Taken, TakenId, Task, Timer, TimerPurpose,
};
use crate::id::{EventType, ExecutionId, Hash, TemplateRef, TemplateSelector, Token};
use crate::message::{Failure, Source};
use crate::value::{Object, Value, key_order, write_int, write_string};

/// Has a form in RFC 8785.
pub(crate) trait Straight {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);

    /// Whether an optional member of this value is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Appends an object of these members, whose keys stand in order; one with `?` is left out where it
/// is absent.
macro_rules! object {
    ($out:ident; $($members:tt)*) => {{
        $out.push(b'{');
        members!($out $($members)*);
        close($out, b'}');
    }};
}

/// Appends these members, with a comma behind each.
macro_rules! members {
    ($out:ident) => {};
    ($out:ident $key:literal => ? $value:expr, $($rest:tt)*) => {
        if !$crate::canonical::straight::Straight::is_absent(&$value) {
            members!($out $key => $value,);
        }
        members!($out $($rest)*);
    };
    ($out:ident $key:literal => $value:expr, $($rest:tt)*) => {
        $out.extend_from_slice(concat!("\"", $key, "\":").as_bytes());
        $crate::canonical::straight::Straight::write(&$value, $out);
        $out.push(b',');
        members!($out $($rest)*);
    };
}
pub(crate) use members;

/// Ends what ends its members with commas.
pub(crate) fn close(out: &mut Vec<u8>, bracket: u8) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = bracket,
        _ => out.push(bracket),
    }
}

fn elements<'a, T: Straight + 'a>(elements: impl IntoIterator<Item = &'a T>, out: &mut Vec<u8>) {
    out.push(b'[');
    for element in elements {
        element.write(out);
        out.push(b',');
    }
    close(out, b']');
}

/// A number that JSON has exactly, as all are that a step takes.
fn count(count: u64, out: &mut Vec<u8>) {
    match i64::try_from(count) {
        Ok(count) => write_int(count, out),
        Err(_) => out.extend_from_slice(count.to_string().as_bytes()),
    }
}

macro_rules! as_count {
    ($($integer:ty),+) => {$(
        impl Straight for $integer {
            fn write(&self, out: &mut Vec<u8>) {
                count(u64::from(*self), out);
            }

            fn is_absent(&self) -> bool {
                *self == 0
            }
        }
    )+};
}

as_count!(u32, u64);

impl Straight for usize {
    fn write(&self, out: &mut Vec<u8>) {
        count(u64::try_from(*self).unwrap_or(u64::MAX), out);
    }
}

impl Straight for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        write_int(*self, out);
    }
}

impl Straight for f64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(ryu_js::Buffer::new().format(*self).as_bytes());
    }
}

impl Straight for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

impl Straight for str {
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl Straight for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl<T: Straight + ?Sized> Straight for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<T: Straight + ?Sized> Straight for Arc<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<T: Straight> Straight for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Straight> Straight for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        elements(self, out);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Straight> Straight for VecDeque<T> {
    fn write(&self, out: &mut Vec<u8>) {
        elements(self, out);
    }
}

impl<A: Straight, B: Straight> Straight for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        self.0.write(out);
        out.push(b',');
        self.1.write(out);
        out.push(b']');
    }
}

impl<A: Straight, B: Straight, C: Straight> Straight for (A, B, C) {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        self.0.write(out);
        out.push(b',');
        self.1.write(out);
        out.push(b',');
        self.2.write(out);
        out.push(b']');
    }
}

/// What names a member.
trait Key: Straight {
    /// The order of keys in RFC 8785.
    fn is_before(&self, other: &Self) -> bool;
}

impl Key for Arc<str> {
    fn is_before(&self, other: &Self) -> bool {
        key_order(self, other).is_lt()
    }
}

impl Key for Token {
    fn is_before(&self, other: &Self) -> bool {
        // `10-0` stands before `7-0`: the order is that of texts.
        self.to_string() < other.to_string()
    }
}

impl<K: Key + Ord, V: Straight> Straight for BTreeMap<K, V> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut members: Vec<(&K, &V)> = Vec::new();
        let in_order = self.len() < 2 || self.keys().is_sorted_by(|a, b| a.is_before(b));
        out.push(b'{');
        let mut member = |(key, value): (&K, &V)| {
            key.write(out);
            out.push(b':');
            value.write(out);
            out.push(b',');
        };
        if in_order {
            self.iter().for_each(&mut member);
        } else {
            members.extend(self);
            members.sort_by(|(a, _), (b, _)| b.is_before(a).cmp(&a.is_before(b)));
            members.into_iter().for_each(&mut member);
        }
        close(out, b'}');
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Straight for Value {
    fn write(&self, out: &mut Vec<u8>) {
        self.write_canonical(out);
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl Straight for Object {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (key, member) in self {
            write_string(key, out);
            out.push(b':');
            member.write_canonical(out);
            out.push(b',');
        }
        close(out, b'}');
    }
}

/// Appends a text that needs no escapes.
fn plain(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

macro_rules! as_plain_text {
    ($($name:ty),+) => {$(
        impl Straight for $name {
            fn write(&self, out: &mut Vec<u8>) {
                plain(out, |out| out.extend_from_slice(self.as_str().as_bytes()));
            }
        }
    )+};
}

as_plain_text!(ExecutionId, EventType, Status, Outcome, Source);

impl Straight for Token {
    fn write(&self, out: &mut Vec<u8>) {
        plain(out, |out| {
            count(self.entry, out);
            out.push(b'-');
            count(self.index.into(), out);
        });
    }
}

impl Straight for Hash {
    fn write(&self, out: &mut Vec<u8>) {
        plain(out, |out| out.extend_from_slice(&self.digits()));
    }
}

impl Straight for TemplateRef {
    fn write(&self, out: &mut Vec<u8>) {
        plain(out, |out| {
            out.extend_from_slice(self.name.as_str().as_bytes());
            out.push(b'@');
            count(self.version.into(), out);
        });
    }
}

impl Straight for TemplateSelector {
    fn write(&self, out: &mut Vec<u8>) {
        plain(out, |out| {
            out.extend_from_slice(self.name.as_str().as_bytes());
            if let Some(version) = self.version {
                out.push(b'@');
                count(version.into(), out);
            }
        });
    }
}

impl Straight for TakenId {
    fn write(&self, out: &mut Vec<u8>) {
        write_string(&self.to_string(), out);
    }
}

impl Straight for Born {
    fn write(&self, out: &mut Vec<u8>) {
        let Self(generation, seq, time, outcome) = self;
        out.push(b'[');
        generation.write(out);
        out.push(b',');
        seq.write(out);
        out.push(b',');
        time.write(out);
        out.push(b',');
        outcome.write(out);
        out.push(b']');
    }
}

impl Straight for Cause {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "attempt" => ?self.attempt,
            "data" => self.data,
            "depth" => ?self.depth,
            "error" => self.error,
            "generation" => self.generation,
            "id" => self.id,
            "origin" => ?self.origin,
            "outcome" => self.outcome,
            "reply" => self.reply,
            "sender" => ?self.sender,
            "start" => ?self.start,
            "stream" => self.stream,
            "stream_seq" => self.stream_seq,
            "time" => self.time,
            "token" => ?self.token,
            "type" => self.cause_type,
        );
    }
}

impl Straight for Transition {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "event" => self.event,
            "from" => self.from,
            "microsteps" => self.microsteps,
            "to" => self.to,
        );
    }
}

impl Straight for Effect {
    fn write(&self, out: &mut Vec<u8>) {
        let id = &self.id;
        match &self.kind {
            EffectKind::Task(task) => write_task(id, task, out),
            EffectKind::TaskCancel { task, attempt } => object!(out;
                "attempt" => attempt,
                "id" => id,
                "kind" => "task_cancel",
                "task" => task,
            ),
            EffectKind::TimerSet { timer, due } => object!(out;
                "due" => due,
                "id" => id,
                "kind" => "timer_set",
                "timer" => timer,
            ),
            EffectKind::TimerCancel { timer } => object!(out;
                "id" => id,
                "kind" => "timer_cancel",
                "timer" => timer,
            ),
            EffectKind::Send { to, event, data } => object!(out;
                "data" => data,
                "event" => event,
                "id" => id,
                "kind" => "send",
                "to" => to,
            ),
            EffectKind::ChildStart(child) => write_child(id, child, out),
            EffectKind::ChildCancel { child, task, attempt } => object!(out;
                "attempt" => attempt,
                "child" => child,
                "id" => id,
                "kind" => "child_cancel",
                "task" => task,
            ),
            EffectKind::ChildDone { parent, task, attempt, output, error } => object!(out;
                "attempt" => attempt,
                "error" => ?*error,
                "id" => id,
                "kind" => "child_done",
                "output" => ?*output,
                "parent" => parent,
                "task" => task,
            ),
        }
    }
}

fn write_task(id: &Arc<str>, task: &TaskEffect, out: &mut Vec<u8>) {
    object!(out;
        "action" => task.action,
        "attempt" => task.attempt,
        "deadline" => ?task.deadline,
        "id" => id,
        "index" => ?task.index,
        "input" => task.input,
        "invocation" => ?task.invocation,
        "kind" => "task",
        "meta" => ?task.meta,
        "queue" => task.queue,
        "task" => task.task,
        "timeout" => ?task.timeout,
    );
}

fn write_child(id: &Arc<str>, child: &ChildEffect, out: &mut Vec<u8>) {
    object!(out;
        "attempt" => child.attempt,
        "child" => child.child,
        "deadline" => ?child.deadline,
        "depth" => child.depth,
        "id" => id,
        "index" => ?child.index,
        "input" => child.input,
        "invocation" => child.invocation,
        "kind" => "child_start",
        "task" => child.task,
        "template" => child.template,
        "timeout" => ?child.timeout,
    );
}

impl Straight for Timeouts {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "heartbeat_ms" => ?self.heartbeat_ms,
            "schedule_to_close_ms" => ?self.schedule_to_close_ms,
            "schedule_to_start_ms" => ?self.schedule_to_start_ms,
            "start_to_close_ms" => ?self.start_to_close_ms,
        );
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Straight for Failure {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "code" => self.code,
            "details" => self.details,
            "message" => self.message,
            "retry_after_ms" => ?self.retry_after_ms,
            "retryable" => self.retryable,
        );
    }
}

impl Straight for State {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "born" => ?self.born,
            "compensating" => ?self.compensating,
            "compensations" => ?self.compensations,
            "configuration" => self.configuration,
            "context" => self.context,
            "deferred" => self.deferred,
            "ending" => ?self.ending,
            "error" => ?self.error,
            "fan_outs" => ?self.fan_outs,
            "given_up" => ?self.given_up,
            "history" => self.history,
            "ids" => self.ids,
            "incidents" => ?self.incidents,
            "output" => ?self.output,
            "parent" => ?self.parent,
            "paused" => ?self.paused,
            "senders" => self.senders,
            "taken" => self.taken,
            "tasks" => self.tasks,
            "timers" => self.timers,
        );
    }
}

impl Straight for Taken {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "events" => self.events,
            "signals" => self.signals,
            "timers" => self.timers,
        );
    }
}

impl Straight for Parent {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "attempt" => self.attempt,
            "depth" => self.depth,
            "execution" => self.execution,
            "task" => self.task,
        );
    }
}

impl Straight for Paused {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "since" => self.since,
            "stops_timers" => ?self.stops_timers,
        );
    }
}

impl Straight for Timer {
    fn write(&self, out: &mut Vec<u8>) {
        let (chain, due) = (self.chain, self.due);
        match &self.purpose {
            TimerPurpose::After { state, delay } => object!(out;
                "chain" => ?chain,
                "delay" => delay,
                "due" => due,
                "kind" => "after",
                "state" => state,
            ),
            TimerPurpose::Send { id, to, event, data } => object!(out;
                "chain" => ?chain,
                "data" => ?*data,
                "due" => due,
                "event" => event,
                "id" => ?*id,
                "kind" => "send",
                "to" => ?*to,
            ),
            TimerPurpose::Retry { task } => object!(out;
                "chain" => ?chain,
                "due" => due,
                "kind" => "retry",
                "task" => task,
            ),
            TimerPurpose::Close { task } => object!(out;
                "chain" => ?chain,
                "due" => due,
                "kind" => "close",
                "task" => task,
            ),
            TimerPurpose::Start { task, attempt } => object!(out;
                "attempt" => attempt,
                "chain" => ?chain,
                "due" => due,
                "kind" => "start",
                "task" => task,
            ),
        }
    }
}

impl Straight for Task {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "action" => self.action,
            "attempt" => self.attempt,
            "child" => ?self.child,
            "compensates" => ?self.compensates,
            "deadline" => self.deadline,
            "index" => ?self.index,
            "input" => self.input,
            "invocation" => self.invocation,
            "meta" => ?self.meta,
            "not_before" => self.not_before,
            "queue" => ?self.queue,
            "retry" => ?self.retry,
            "state" => ?self.state,
            "timeout" => ?self.timeout,
        );
    }
}

impl Straight for Child {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "abandon" => ?self.abandon,
            "place" => self.place,
        );
    }
}

impl Straight for FanOut {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "count" => self.count,
            "results" => self.results,
            "waiting" => self.waiting,
        );
    }
}

impl Straight for Compensation {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "action" => self.action,
            "due" => ?self.due,
            "input" => self.input,
            "invocation" => self.invocation,
        );
    }
}

impl Straight for Compensating {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "announce" => self.announce,
            "at" => self.at,
            "task" => self.task,
        );
    }
}

impl Straight for GivenUp {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "attempt" => self.attempt,
            "invocation" => self.invocation,
        );
    }
}

impl Straight for Retry {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "backoff" => self.backoff,
            "initial_interval_ms" => self.initial_interval_ms,
            "max_attempts" => self.max_attempts,
            "max_interval_ms" => self.max_interval_ms,
            "non_retryable" => ?self.non_retryable,
        );
    }
}

impl Straight for Incident {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "at" => self.at,
            "event" => self.event,
            "failure" => self.failure,
            "task" => ?self.task,
        );
    }
}

impl Straight for ExecutionError {
    fn write(&self, out: &mut Vec<u8>) {
        object!(out;
            "code" => self.code,
            "message" => self.message,
        );
    }
}
