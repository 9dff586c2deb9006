//! The executions that a partition holds: what waits for them, what is in flight, what is cached.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use crate::execution::{Execution, State};
use crate::id::{ExecutionId, TemplateSelector, Token};
use crate::message::{Body, Message, Millis, Source, TaskOutcome};
use crate::step::Verdict;
use crate::template::Template;
use crate::value::Value;

use super::dispatch::Dispatch;
use super::protocol::{DeadReason, Loaded};

/// The place of an execution in [`Slots`]; used again when the execution is not held any more.
pub(super) type SlotId = usize;

/// What names a message of the inputs.
pub(super) type MessageKey = (Source, u64);

/// An execution for which something waits, is in flight or is cached.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: ExecutionId,
    /// What arrived and is not done, in the order of arrival; a step takes from the front.
    pub(super) queue: VecDeque<Message>,
    /// The execution as its newest known entry left it.
    pub(super) held: Option<Held>,
    /// What is in flight.
    pub(super) job: Job,
    /// When the job tries again.
    pub(super) wake: Option<u64>,
    /// How often it was tried without success.
    pub(super) attempts: u32,
    /// Whether that was said.
    pub(super) stuck: bool,
    /// How many messages the next step may take; 0: as many as there may be.
    pub(super) step_limit: usize,
    /// The stream sequence of the newest entry that was ever seen: no reading may show less.
    pub(super) seen: u64,
    /// The message for which the stream's leader was asked for the newest entry.
    pub(super) asked_leader: Option<MessageKey>,
    /// The message for which the stream of a start was read to its end.
    pub(super) read_to_end: Option<MessageKey>,
    /// Whether what came by another stream was put in front of it.
    pub(super) reordered: bool,
    /// The write of the position that must be stored before the message in front is set aside: it
    /// says so.
    pub(super) settled_by: u64,
    /// Whether another writer won its last commit.
    pub(super) conflicted: bool,
    /// Whether a snapshot is due.
    pub(super) snapshot_due: bool,
    /// When it was last used, in [`Slots::idle`]; 0: it is busy.
    idle_since: u64,
}

/// An execution in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) execution: Execution,
    /// The stream sequence of its newest entry; 0 before the first.
    pub(super) stream_seq: u64,
    /// The stream sequence of the newest entry that carries the state.
    pub(super) base: Option<u64>,
    /// The version that it is pinned to, or before the first entry that its start asks for.
    pub(super) template: Option<Arc<Template>>,
    /// Its bytes, approximately.
    pub(super) weight: usize,
}

impl Held {
    pub(super) fn unborn(id: ExecutionId) -> Self {
        let execution = Execution::unborn(id);
        Self { execution, stream_seq: 0, base: None, template: None, weight: SLOT_WEIGHT }
    }
}

/// What is in flight for an execution.
#[derive(Debug)]
pub(super) enum Job {
    /// Nothing.
    Idle,
    /// Its newest entry is being read.
    Load(Load),
    /// The entries before the newest are being read, since that does not carry the state.
    Fold(Box<Fold>),
    /// The ends of the streams are being read, since the newest entry took more than is known.
    Bounds(Box<Loaded>),
    /// A template version is being read.
    Template(TemplateSelector),
    /// The end of the stream is being read by which its start may come.
    AskEnd,
    /// That stream is being read to the end that it had.
    AwaitEnd,
    /// An entry is being published.
    Commit(Box<Written>),
    /// The effects of an entry are being published.
    Dispatch(Box<Dispatch>),
    /// The timer in front, which fired too early, is being set again.
    SetAgain { timer: Token, due: Millis },
    /// The message in front is being set aside.
    SetAside(Box<Aside>),
}

/// How the newest entry is read.
#[derive(Debug)]
pub(super) struct Load {
    /// Whether the stream's leader is asked.
    pub(super) leader: bool,
    /// An entry whose publish did not end well: it may be the one that is found.
    pub(super) written: Option<Box<Written>>,
}

/// The newest entry, and the entries from its base on once they are read.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) newest: Loaded,
    pub(super) before: Vec<Loaded>,
}

/// An entry that was decided, with what it answers.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) sealed: crate::step::Sealed,
    /// The stream sequence of the entry before.
    pub(super) expected: u64,
    /// What became of each message that the step judged, from the front of the queue.
    pub(super) verdicts: Vec<Verdict>,
}

/// Why a message is set aside.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    pub(super) reason: DeadReason,
    pub(super) detail: String,
}

/// All executions that are held.
#[derive(Debug, Default)]
pub(super) struct Slots {
    list: Vec<Slot>,
    free: Vec<SlotId>,
    index: BTreeMap<ExecutionId, SlotId>,
    /// What can be forgotten, the longest unused first.
    idle: BTreeMap<u64, SlotId>,
    ticks: u64,
    /// The bytes of what is idle.
    idle_weight: usize,
}

impl Index<SlotId> for Slots {
    type Output = Slot;

    fn index(&self, at: SlotId) -> &Slot {
        &self.list[at]
    }
}

impl IndexMut<SlotId> for Slots {
    fn index_mut(&mut self, at: SlotId) -> &mut Slot {
        &mut self.list[at]
    }
}

impl Slots {
    /// The slot of an execution, which counts as busy from now on.
    pub(super) fn wake(&mut self, id: &ExecutionId) -> SlotId {
        let Some(&at) = self.index.get(id) else { return self.insert(id.clone()) };
        let slot = &mut self.list[at];
        if slot.idle_since > 0 {
            self.idle.remove(&slot.idle_since);
            self.idle_weight -= slot.held.as_ref().map_or(0, |held| held.weight);
            slot.idle_since = 0;
        }
        at
    }

    fn insert(&mut self, id: ExecutionId) -> SlotId {
        let slot = Slot {
            id: id.clone(),
            queue: VecDeque::new(),
            held: None,
            job: Job::Idle,
            wake: None,
            attempts: 0,
            stuck: false,
            step_limit: 0,
            seen: 0,
            asked_leader: None,
            read_to_end: None,
            reordered: false,
            settled_by: 0,
            conflicted: false,
            snapshot_due: false,
            idle_since: 0,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.list[at] = slot;
                at
            }
            None => {
                self.list.push(slot);
                self.list.len() - 1
            }
        };
        self.index.insert(id, at);
        at
    }

    /// Keeps an execution for which nothing waits and nothing is in flight, until its room is
    /// needed.
    pub(super) fn rest(&mut self, at: SlotId) {
        let slot = &mut self.list[at];
        if slot.idle_since > 0 {
            return;
        }
        self.ticks += 1;
        slot.idle_since = self.ticks;
        self.idle_weight += slot.held.as_ref().map_or(0, |held| held.weight);
        self.idle.insert(self.ticks, at);
    }

    /// Forgets an execution for which nothing waits and nothing is in flight.
    pub(super) fn forget(&mut self, at: SlotId) {
        let slot = &mut self.list[at];
        if slot.idle_since > 0 {
            self.idle.remove(&slot.idle_since);
            self.idle_weight -= slot.held.as_ref().map_or(0, |held| held.weight);
            slot.idle_since = 0;
        }
        slot.held = None;
        slot.queue = VecDeque::new();
        slot.snapshot_due = false;
        self.index.remove(&slot.id);
        self.free.push(at);
    }

    /// The execution to forget next, where those that are idle weigh more than `bytes`.
    pub(super) fn excess(&self, bytes: usize) -> Option<SlotId> {
        if self.idle_weight <= bytes {
            return None;
        }
        self.idle.first_key_value().map(|(_, &at)| at)
    }

    pub(super) fn find(&self, id: &ExecutionId) -> Option<&Slot> {
        self.index.get(id).map(|&at| &self.list[at])
    }

    /// All executions with a job.
    pub(super) fn busy(&self) -> usize {
        self.index.len() - self.idle.len()
    }

    pub(super) fn cached(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.idle_weight
    }

    /// All that are held, in the order of their ids.
    pub(super) fn all(&self) -> impl Iterator<Item = SlotId> {
        self.index.values().copied()
    }
}

/// What an execution costs beside its data: measured by how an engine worker grew with 13,000 more of
/// them, some 4 KB each.
const SLOT_WEIGHT: usize = 3_584;

/// The bytes of a state, approximately.
pub(super) fn weigh_state(state: &State) -> usize {
    let members = state.context.iter().map(|(key, value)| 48 + key.len() + weigh(value));
    let tasks = state.tasks.values().map(|task| 256 + weigh(&task.input));
    let fan_outs = state.fan_outs.values().flat_map(|fan_out| {
        let results = fan_out.results.iter().map(|(_, result)| result);
        fan_out.waiting.iter().chain(results).map(weigh)
    });
    let compensations = state.compensations.iter().map(|undo| 128 + weigh(&undo.input));
    let deferred = state.deferred.iter().map(weigh);
    let names = state.configuration.len() + state.history.len() + state.timers.len();
    let marks = state.ids.len() + state.senders.len() + state.given_up.len();
    SLOT_WEIGHT
        + members.sum::<usize>()
        + tasks.sum::<usize>()
        + fan_outs.sum::<usize>()
        + compensations.sum::<usize>()
        + deferred.sum::<usize>()
        + 64 * names
        + 48 * marks
}

/// The bytes of a message, approximately.
pub(super) fn weigh_message(message: &Message) -> usize {
    let data = match &message.body {
        Body::Event(event) => weigh(&event.data),
        Body::Send(send) => weigh(&send.data),
        Body::ChildStart(start) => weigh(&start.input),
        Body::Result(result) | Body::ChildDone(result) => match &result.outcome {
            TaskOutcome::Ok(data) => weigh(data),
            TaskOutcome::Failed(failure) => failure.message.len() + weigh(&failure.details),
            TaskOutcome::Started => 0,
        },
        Body::ChildCancel(_) | Body::Fired { .. } => 0,
    };
    256 + data
}

fn weigh(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 24,
        Value::String(text) => 40 + text.len(),
        Value::Array(elements) => 40 + elements.iter().map(weigh).sum::<usize>(),
        Value::Object(object) => {
            64 + object.iter().map(|(key, value)| 40 + key.len() + weigh(value)).sum::<usize>()
        }
    }
}
