//! The journal entry: all that one step decided, in one message, chained by hashes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::canonical::straight::{close, members};
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
    /// Lines for people (the action `log`), in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<Value>,
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
    /// The client's id of an event; the effect's id of what another execution says.
    pub id: Option<Arc<str>>,
    /// The event's type; `pled.result` for the end of an attempt, `pled.started` for its pick-up,
    /// `pled.child` for the end of a child, `pled.timer` for a timer.
    #[serde(rename = "type")]
    pub cause_type: EventType,
    /// The payload: of an event or send its data; of a result or child `{"ok":true,"data":…}` or
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
    /// How many ancestors an execution has that is started as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
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

impl Outcome {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
        }
    }
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

impl JournalEntry {
    /// Its RFC 8785 bytes, with `hash` as it stands.
    ///
    /// # Errors
    /// If a number in it is beyond ±(2^53 - 1); no step makes one.
    pub fn encode(&self) -> Result<Vec<u8>, canonical::Error> {
        canonical::to_vec(self)
    }

    /// Reads a stored entry. What comes back is what its writer hashed: any altered bit is found.
    ///
    /// # Errors
    /// If it is of another format, no entry, or altered: then it is not to be acted upon.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        let entry: Self =
            serde_json::from_slice(bytes).map_err(|error| unreadable(bytes, &error))?;
        if entry.v != FORMAT {
            return Err(InvalidEntry::Format { found: entry.v });
        }
        let found = hash_of(bytes, entry.hash);
        if found != Some(entry.hash) {
            return Err(InvalidEntry::Hash { stated: entry.hash, found });
        }
        Ok(entry)
    }

    /// Whether `hash` is that of the entry as it stands.
    #[must_use]
    pub fn verify_hash(&self) -> bool {
        self.encode().is_ok_and(|bytes| hash_of(&bytes, self.hash) == Some(self.hash))
    }

    /// Writes the entry with this form of its state, and sets its hash.
    ///
    /// The same bytes as [`Self::encode`] gives, without serialising the state again.
    pub(crate) fn seal(&mut self, state: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2048 + state.map_or(0, <[u8]>::len));
        let out = &mut bytes;
        out.push(b'{');
        members!(out
            "at" => self.at,
            "base" => self.base,
            "causes" => self.causes,
            "effects" => self.effects,
            "engine" => self.engine,
            "epoch" => self.epoch,
            "execution" => self.execution,
        );
        let before = out.len();
        members!(out "hash" => Hash::ZERO,);
        let behind = out.len();
        members!(out "log" => ?self.log, "prev" => self.prev, "seq" => self.seq,);
        if let Some(state) = state {
            out.extend_from_slice(b"\"state\":");
            out.extend_from_slice(state);
            out.push(b',');
        }
        members!(out
            "state_hash" => self.state_hash,
            "status" => self.status,
            "template" => self.template,
            "template_hash" => ?self.template_hash,
            "transitions" => self.transitions,
            "v" => self.v,
            "worker" => self.worker,
        );
        close(out, b'}');
        self.hash = Hash::of_parts(&[&bytes[..before], &bytes[behind..]]);
        // The digits end the member, with a quote and a comma.
        bytes[behind - 66..behind - 2].copy_from_slice(&self.hash.digits());
        bytes
    }
}

/// The hash of stored bytes: of all but the member that states it, which is found by its text. No
/// other place can hold that text, for it would be part of what is hashed.
fn hash_of(bytes: &[u8], stated: Hash) -> Option<Hash> {
    let member = format!(",\"hash\":\"{stated}\"");
    let at = std::str::from_utf8(bytes).ok()?.find(&member)?;
    Some(Hash::of_parts(&[&bytes[..at], &bytes[at + member.len()..]]))
}

/// Why bytes could not be read: a later format may have other fields.
fn unreadable(bytes: &[u8], error: &serde_json::Error) -> InvalidEntry {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    match serde_json::from_slice::<Version>(bytes) {
        Ok(Version { v }) if v != FORMAT => InvalidEntry::Format { found: v },
        Ok(_) | Err(_) => InvalidEntry::Malformed(error.to_string()),
    }
}

/// Stored bytes are no journal entry to act upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// It was written by a later engine: leave it alone.
    #[error("an entry of format {found}; this engine reads format {FORMAT}")]
    Format {
        /// Its `v`.
        found: u32,
    },
    /// It is no entry at all.
    #[error("no journal entry: {0}")]
    Malformed(String),
    /// It is not what its writer hashed.
    #[error("the entry is altered: it states the hash {stated}, its bytes have {}", match found {
        Some(hash) => hash.to_string(),
        None => "no place for it".to_owned(),
    })]
    Hash {
        /// What it states.
        stated: Hash,
        /// What its bytes give, where the statement was found in them.
        found: Option<Hash>,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::effect::EffectKind;
    use crate::value::Object;

    fn entry() -> JournalEntry {
        let state = State {
            configuration: vec!["charging".into()],
            senders: BTreeMap::from([("order-41".into(), (9, 1))]),
            ..State::default()
        };
        JournalEntry {
            v: FORMAT,
            execution: "order-42".parse().unwrap(),
            seq: 7,
            template: "order@3".parse().unwrap(),
            template_hash: None,
            at: 1_764_000_000_123,
            prev: Hash::of(b"6"),
            hash: Hash::ZERO,
            causes: vec![Cause {
                stream: Source::Events,
                generation: 1,
                stream_seq: 1234,
                id: Some("a\"b".into()),
                cause_type: "PAY".parse().unwrap(),
                data: Value::Object(Object::from_iter([
                    ("hash", "x".into()),
                    ("n", Value::from_f64(1e20).unwrap()),
                ])),
                time: 1_764_000_000_120,
                reply: None,
                outcome: Outcome::Applied,
                error: None,
                origin: None,
                start: None,
                token: None,
                attempt: None,
                sender: Some(("rules-3".into(), 8, 0)),
                depth: None,
            }],
            transitions: vec![Transition {
                event: "PAY".into(),
                from: vec!["charging".into()],
                to: vec!["charging".into()],
                microsteps: 1,
            }],
            effects: vec![Effect {
                id: "order-42/7/0".into(),
                kind: EffectKind::TimerSet { timer: "7-0".parse().unwrap(), due: 5 },
            }],
            log: vec![Value::from("a line")],
            status: Status::Running,
            base: None,
            state_hash: Hash::of(&canonical::to_vec(&state).unwrap()),
            state: Some(state),
            engine: crate::SEMANTICS.into(),
            worker: "w1".into(),
            epoch: 17,
        }
    }

    #[test]
    fn a_sealed_entry_is_its_rfc_8785_form_and_is_read_back_equal() {
        for state in [true, false] {
            let mut entry = entry();
            if !state {
                (entry.state, entry.base, entry.log) = (None, Some(99), Vec::new());
                entry.template_hash = Some(Hash::of(b"source"));
            }
            let state = entry.state.as_ref().map(|state| canonical::to_vec(state).unwrap());

            let bytes = entry.seal(state.as_deref());

            assert_eq!(bytes, entry.encode().unwrap());
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(bytes, value.to_canonical());
            assert_eq!(JournalEntry::decode(&bytes).unwrap(), entry);
            assert!(entry.verify_hash());
        }
    }

    #[test]
    fn every_altered_bit_is_found() {
        let mut entry = entry();
        let state = canonical::to_vec(entry.state.as_ref().unwrap()).unwrap();
        let mut bytes = entry.seal(Some(&state));

        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(JournalEntry::decode(&bytes).is_err(), "bit {at} of {bytes:?}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
    }

    #[test]
    fn an_entry_of_a_later_format_is_told_from_rubbish() {
        let later = JournalEntry::decode(br#"{"v":2,"news":true}"#);
        assert_eq!(later, Err(InvalidEntry::Format { found: 2 }));
        assert!(matches!(JournalEntry::decode(b"{}"), Err(InvalidEntry::Malformed(_))));
    }
}
