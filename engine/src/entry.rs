//! The journal entry: all that one step decided, in one message, chained by hashes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::execution::{State, Status};
use crate::id::{EventType, ExecutionId, Hash, TemplateRef, TemplateSelector, Token};
use crate::message::{Millis, Source};
use crate::value::Value;

/// The version of this format, the field `v`.
pub const FORMAT: u32 = 1;

/// One step of one execution, as it stands in PLED_JOURNAL. Stored as exactly its RFC 8785 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// [`FORMAT`].
    pub v: u32,
    /// The execution.
    pub execution: ExecutionId,
    /// 1, 2, 3, … without gaps.
    pub seq: u64,
    /// The version that the execution is pinned to.
    pub template: TemplateRef,
    /// The hash of that version's source; in the first entry only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<Hash>,
    /// The greatest time among the causes and the entry before.
    pub at: Millis,
    /// The hash of the entry before; zeros in the first.
    pub prev: Hash,
    /// SHA-256 of the RFC 8785 form without this field.
    pub hash: Hash,
    /// What was taken, in order.
    pub causes: Vec<Cause>,
    /// What it did to the configuration, a record for each macrostep that took a transition.
    pub transitions: Vec<Transition>,
    /// What is to be done.
    pub effects: Vec<Effect>,
    /// The status after the step.
    pub status: Status,
    /// The stream sequence of the newest entry that carries the state, where this one does not.
    pub base: Option<u64>,
    /// SHA-256 of the state's RFC 8785 form.
    pub state_hash: Hash,
    /// The state after the step; absent where `base` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The version of the semantics that took the step, [`crate::SEMANTICS`].
    pub engine: Arc<str>,
    /// Who wrote it.
    pub worker: Arc<str>,
    /// The epoch of the partition's owner: the fence.
    pub epoch: u64,
}

/// A message that a step took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The stream it came by.
    pub stream: Source,
    /// That stream's generation.
    pub generation: u64,
    /// Its sequence there; 0 for `self`.
    pub stream_seq: u64,
    /// The client's id of an event; the effect's id of a send.
    pub id: Option<Arc<str>>,
    /// The event's type; `pled.result` for the end of an attempt, `pled.started` for its pick-up,
    /// `pled.timer` for a timer.
    #[serde(rename = "type")]
    pub cause_type: EventType,
    /// The payload: of an event or send its data; of a result `{"ok":true,"data":…}` or
    /// `{"ok":false,"error":…}`; of the rest `null`.
    pub data: Value,
    /// Its stream timestamp; for a timer its due time.
    pub time: Millis,
    /// Where the outcome is wanted.
    pub reply: Option<Arc<str>>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was rejected.
    pub error: Option<String>,
    /// Who says so (`ce-source`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<str>>,
    /// The template that a start asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<TemplateSelector>,
    /// The task of a result, or the timer that fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The attempt that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Who sent it, with the entry and index of the effect; for what a rule emitted the rule
    /// worker, ingest sequence and emit index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<(Arc<str>, u64, u64)>,
}

/// What became of a message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It took a transition, or ended or retried a task.
    Applied,
    /// Nothing in the template wanted it.
    Ignored,
    /// It waits until the execution is resumed.
    Deferred,
    /// It could not be taken.
    Rejected,
}

/// What one macrostep did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The event that began it.
    pub event: Arc<str>,
    /// Leaf ids before.
    pub from: Vec<Arc<str>>,
    /// Leaf ids after.
    pub to: Vec<Arc<str>>,
    /// How many microsteps it took.
    pub microsteps: u32,
}
