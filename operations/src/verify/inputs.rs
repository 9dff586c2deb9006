//! The messages that the input streams still hold, and what became of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pled_engine::entry::Cause;
use pled_engine::execution::TakenId;
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::{Body, Message, Millis, Source, TaskOutcome, TaskResult};
use pled_engine::partition::Malformed;
use pled_streams::events::Stored;

/// A message that is still in its stream.
#[derive(Clone, Debug)]
pub struct Retained {
    /// Its partition, as its subject says.
    pub partition: u16,
    /// For whom; `None` for what names nobody.
    pub execution: Option<ExecutionId>,
    /// Its time, as a cause records it.
    pub time: Millis,
    /// What it is, as far as its fate depends on it.
    pub kind: Kind,
    /// What it says, to tell it from another.
    pub(crate) body: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What a retained message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It starts an execution and does nothing else.
    Start,
    /// An event, with the hash of its id and who emitted it.
    Event {
        /// See [`TakenId::hash_of`].
        id: Option<u64>,
        /// The rule worker, ingest sequence and index.
        emitted: Option<(Arc<str>, u64, u64)>,
    },
    /// The end of an attempt.
    Result {
        /// The task.
        task: Token,
        /// The attempt.
        attempt: u32,
    },
    /// The pick-up of an attempt.
    Started {
        /// The task.
        task: Token,
        /// The attempt.
        attempt: u32,
    },
    /// A send of another execution.
    Send {
        /// Who sent it.
        sender: ExecutionId,
        /// The effect.
        token: Token,
    },
    /// The start of a child.
    ChildStart {
        /// Who starts it.
        parent: ExecutionId,
        /// The effect.
        token: Token,
    },
    /// The wish that a child ends.
    ChildCancel {
        /// Who wishes it.
        parent: ExecutionId,
        /// The effect.
        token: Token,
    },
    /// How a child ended, for its parent.
    ChildDone {
        /// The task that the child is.
        task: Token,
        /// The attempt.
        attempt: u32,
    },
    /// A timer that fired before it was due: it is set again.
    FiredEarly {
        /// The timer.
        timer: Token,
    },
    /// A timer that fired.
    Fired {
        /// The timer.
        timer: Token,
    },
    /// It is no message.
    Malformed,
}

/// What became of a retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known yet.
    Open,
    /// It is a cause of an entry.
    Taken,
    /// It is in PLED_DEAD.
    Aside,
    /// Its id was taken before, under another sequence.
    Repeat,
}

/// The messages of all inputs by stream and sequence.
#[derive(Debug, Default)]
pub struct Inputs {
    held: BTreeMap<(Source, u64), Retained>,
    by_id: HashMap<(ExecutionId, u64), Vec<u64>>,
    results: HashSet<(ExecutionId, Token, u32)>,
    sends: HashSet<(ExecutionId, Token)>,
    fired: HashSet<(ExecutionId, Token)>,
    /// Starts of children by parent and effect; ends of children by parent, task and attempt.
    starts: HashSet<(ExecutionId, Token)>,
    ends: HashSet<(ExecutionId, Token, u32)>,
}

/// Whether a cause is the message that stands under its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It is.
    Same,
    /// Another message stands there.
    Other,
    /// Nothing stands there any more.
    Gone,
}

impl Inputs {
    /// Takes a message of a stream.
    pub fn hold(&mut self, source: Source, stored: &Stored, message: Result<Message, Malformed>) {
        let partition = stored.subject.split('.').nth(2).and_then(|word| word.parse().ok());
        let partition = partition.unwrap_or_default();
        let retained = match message {
            Ok(message) => self.retained(message, stored.stream_seq, partition),
            Err(malformed) => Retained {
                partition,
                execution: malformed.execution,
                time: stored.time,
                kind: Kind::Malformed,
                body: 0,
                fate: Fate::Open,
            },
        };
        self.held.insert((source, stored.stream_seq), retained);
    }

    fn retained(&mut self, message: Message, seq: u64, partition: u16) -> Retained {
        let Message { execution, time, .. } = &message;
        let kind = kind_of(&message.body);
        if let Kind::Event { id: Some(id), .. } = &kind {
            self.by_id.entry((execution.clone(), *id)).or_default().push(seq);
        }
        if let Body::Result(result) = &message.body
            && result.outcome != TaskOutcome::Started
        {
            self.results.insert((execution.clone(), result.task, result.attempt));
        }
        if let Kind::Send { sender, token } = &kind {
            self.sends.insert((sender.clone(), *token));
        }
        if let Kind::ChildStart { parent, token } = &kind {
            self.starts.insert((parent.clone(), *token));
        }
        if let Kind::ChildDone { task, attempt } = &kind {
            self.ends.insert((execution.clone(), *task, *attempt));
        }
        if let Kind::Fired { timer } = &kind {
            self.fired.insert((execution.clone(), *timer));
        }
        Retained {
            partition,
            execution: Some(execution.clone()),
            time: *time,
            body: body_of(&message.body),
            kind,
            fate: Fate::Open,
        }
    }

    /// Notes that a firing was stored before it was due.
    pub(super) fn fired_early(&mut self, seq: u64) {
        let Some(held) = self.held.get_mut(&(Source::Timers, seq)) else { return };
        if let (Kind::Fired { timer }, Some(execution)) = (&held.kind, &held.execution) {
            self.fired.remove(&(execution.clone(), *timer));
            held.kind = Kind::FiredEarly { timer: *timer };
        }
    }

    /// Notes that a message is in PLED_DEAD.
    pub fn set_aside(&mut self, source: Source, seq: u64, execution: Option<&ExecutionId>) {
        if let Some(held) = self.held.get_mut(&(source, seq))
            && (execution.is_none() || held.execution.as_ref() == execution)
        {
            held.fate = Fate::Aside;
        }
    }

    /// Notes that an execution took a message.
    pub(crate) fn take(&mut self, execution: &ExecutionId, cause: &Cause) -> Match {
        if cause.stream == Source::Events
            && let Some(id) = &cause.id
        {
            let key = (execution.clone(), TakenId::hash_of(id));
            for seq in self.by_id.get(&key).into_iter().flatten() {
                if let Some(held) = self.held.get_mut(&(Source::Events, *seq))
                    && held.fate == Fate::Open
                {
                    held.fate = Fate::Repeat;
                }
            }
        }
        let Some(held) = self.held.get_mut(&(cause.stream, cause.stream_seq)) else {
            return Match::Gone;
        };
        if held.execution.as_ref() != Some(execution) || held.time != cause.time {
            return Match::Other;
        }
        held.fate = Fate::Taken;
        // A result that did not fit in an entry was made smaller.
        let is_result = matches!(held.kind, Kind::Result { .. });
        let said = cause.message(execution).map(|message| body_of(&message.body));
        if is_result || said.is_ok_and(|body| body == held.body) {
            Match::Same
        } else {
            Match::Other
        }
    }

    /// Those of which nothing is known.
    pub fn open(&self) -> impl Iterator<Item = (Source, u64, &Retained)> {
        self.held
            .iter()
            .filter(|(_, held)| held.fate == Fate::Open)
            .map(|((source, seq), held)| (*source, *seq, held))
    }

    /// All of a stream.
    pub fn of(&self, source: Source) -> impl Iterator<Item = (u64, &Retained)> {
        self.held.range((source, 0)..=(source, u64::MAX)).map(|((_, seq), held)| (*seq, held))
    }

    /// A message that is still there.
    #[must_use]
    pub fn get(&self, source: Source, seq: u64) -> Option<&Retained> {
        self.held.get(&(source, seq))
    }

    /// Whether the result of an attempt is there.
    #[must_use]
    pub fn has_result(&self, execution: &ExecutionId, task: Token, attempt: u32) -> bool {
        self.results.contains(&(execution.clone(), task, attempt))
    }

    /// Whether a copy of a send is there.
    #[must_use]
    pub fn has_send(&self, sender: &ExecutionId, token: Token) -> bool {
        self.sends.contains(&(sender.clone(), token))
    }

    /// Whether a copy of the start of a child is there.
    #[must_use]
    pub fn has_start(&self, parent: &ExecutionId, token: Token) -> bool {
        self.starts.contains(&(parent.clone(), token))
    }

    /// Whether what a parent is told of the end of its child is there.
    #[must_use]
    pub fn has_end(&self, parent: &ExecutionId, task: Token, attempt: u32) -> bool {
        self.ends.contains(&(parent.clone(), task, attempt))
    }

    /// Whether a firing of a timer is there.
    #[must_use]
    pub fn has_fired(&self, execution: &ExecutionId, timer: Token) -> bool {
        self.fired.contains(&(execution.clone(), timer))
    }
}

fn kind_of(body: &Body) -> Kind {
    match body {
        Body::Event(event) if event.event_type.as_str() == "pled.init" => Kind::Start,
        Body::Event(event) => {
            let id = event.id.as_deref().map(TakenId::hash_of);
            Kind::Event { id, emitted: event.emitted.clone() }
        }
        Body::Result(TaskResult { task, attempt, outcome }) => match outcome {
            TaskOutcome::Started => Kind::Started { task: *task, attempt: *attempt },
            TaskOutcome::Ok(_) | TaskOutcome::Failed(_) => {
                Kind::Result { task: *task, attempt: *attempt }
            }
        },
        Body::Send(send) => Kind::Send { sender: send.sender.clone(), token: send.token },
        Body::ChildStart(start) => {
            Kind::ChildStart { parent: start.parent.clone(), token: start.token }
        }
        Body::ChildCancel(cancel) => {
            Kind::ChildCancel { parent: cancel.parent.clone(), token: cancel.token }
        }
        Body::ChildDone(result) => Kind::ChildDone { task: result.task, attempt: result.attempt },
        Body::Fired { timer } => Kind::Fired { timer: *timer },
    }
}

fn body_of(body: &Body) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{body:?}").hash(&mut hasher);
    hasher.finish()
}

/// Which numbers were seen: a bit each.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<u64, [u64; 16]>);

impl Seen {
    /// Notes a number; false if it was seen before.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let words = self.0.entry(number >> 10).or_default();
        let word = &mut words[usize::try_from(number >> 6 & 15).unwrap_or_default()];
        let bit = 1_u64 << (number & 63);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn each_number_is_new_once() {
        let mut seen = Seen::default();
        for number in [0, 1, 63, 64, 1_023, 1_024, 1 << 40, (1 << 53) - 1] {
            assert!(seen.insert(number), "{number}");
            assert!(!seen.insert(number), "{number}");
        }
    }
}
