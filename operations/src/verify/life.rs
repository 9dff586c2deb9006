//! One execution as its entries come: what is remembered of it, and what each entry must be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pled_engine::canonical;
use pled_engine::effect::EffectKind;
use pled_engine::entry::{Cause, JournalEntry};
use pled_engine::execution::{State, Status, TakenId, Task};
use pled_engine::id::{ExecutionId, Hash, Token};
use pled_engine::message::{Millis, Source};
use pled_engine::replay::Replayer;
use pled_engine::value::Value;

use super::invariant::{Findings, Invariant};

/// Event ids that are remembered of an execution, where its template asks for no fewer.
const IDS: usize = 64;
/// Attempts that are remembered of an execution, beside those that are outstanding.
const ATTEMPTS: usize = 256;
/// Senders that are remembered of an execution.
const SENDERS: usize = 256;

/// An execution, in little memory but for the state that its steps are taken on.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) seq: u64,
    pub(crate) stream_seq: u64,
    hash: Hash,
    at: Millis,
    pub(crate) epoch: u64,
    pub(crate) status: Status,
    pub(super) replay: Replay,
    /// The last attempt of each task that is not known to be over, and whether that ended.
    attempts: BTreeMap<Token, (u32, bool)>,
    /// Attempts that are handed out and did not end, by the newest state that is known.
    pub(crate) tasks: Vec<(Token, u32)>,
    /// Timers that are set, by that state.
    pub(crate) timers: Vec<(Token, Millis)>,
    /// Children that are started and waited for, by that state.
    pub(crate) children: Vec<Awaited>,
    /// Whose child it is.
    pub(crate) parent: Option<ChildOf>,
    /// Whether `tasks`, `timers` and `children` are those of the newest entry.
    pub(crate) knows_state: bool,
    taken: [(u64, u64); 3],
    senders: BTreeMap<Arc<str>, (u64, u64)>,
    ids: VecDeque<u64>,
    /// The causes of the newest entry.
    pub(crate) newest: Vec<(Source, u64, u64)>,
}

/// What a child is to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChildOf {
    pub(crate) parent: ExecutionId,
    pub(crate) task: Token,
    pub(crate) attempt: u32,
}

/// A child that its parent waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) child: ExecutionId,
    pub(crate) task: Token,
    pub(crate) attempt: u32,
    /// The effect that started it.
    pub(crate) start: Token,
}

/// How far the steps of an execution are taken again.
#[derive(Debug)]
pub(super) enum Replay {
    /// Up to the newest entry.
    Going(Box<Replayer>),
    /// It was given up, and goes on with the next state that stands in an entry.
    Waiting,
}

impl Life {
    pub(super) fn begin(entry: &JournalEntry) -> Self {
        Self {
            seq: 0,
            stream_seq: 0,
            hash: Hash::ZERO,
            at: 0,
            epoch: 0,
            status: Status::Running,
            replay: Replay::Going(Box::new(Replayer::begin(entry.execution.clone()))),
            attempts: BTreeMap::new(),
            tasks: Vec::new(),
            timers: Vec::new(),
            children: Vec::new(),
            parent: entry.causes.first().and_then(child_of),
            knows_state: true,
            taken: [(0, 0); 3],
            senders: BTreeMap::new(),
            ids: VecDeque::new(),
            newest: Vec::new(),
        }
    }

    /// The time of its newest entry.
    pub(crate) fn at(&self) -> Millis {
        self.at
    }

    /// Whether it was started as a child of this execution.
    pub(crate) fn is_child_of(&self, parent: &ExecutionId) -> bool {
        self.parent.as_ref().is_some_and(|of| of.parent == *parent)
    }

    /// The last (entry, index) that was taken of a sender.
    pub(crate) fn last_of(&self, sender: &str) -> Option<(u64, u64)> {
        self.senders.get(sender).copied()
    }

    /// Where an input stream was last taken from: generation and sequence.
    pub(crate) fn last_taken(&self, source: Source) -> (u64, u64) {
        index_of(source).map_or((0, 0), |index| self.taken[index])
    }

    /// Checks what can be told of an entry without its template.
    pub(super) fn link(&mut self, entry: &JournalEntry, findings: &mut Findings) {
        let at = (&entry.execution, entry.seq);
        let next = self.seq + 1;
        let out_of_order = entry.seq != next;
        let gap = out_of_order.then(|| format!("entry {} stands where {next} has to", entry.seq));
        findings.expect(Invariant::J1, at, gap);
        let broken = !out_of_order && entry.prev != self.hash;
        let wrong = broken.then(|| {
            format!("`prev` is {}, the hash of entry {} is {}", entry.prev, self.seq, self.hash)
        });
        findings.expect(Invariant::J2, at, wrong);
        if let Some(state) = &entry.state {
            let hash = canonical::to_vec(state).map_or(Hash::ZERO, |bytes| Hash::of(&bytes));
            let wrong = (hash != entry.state_hash)
                .then(|| format!("`state_hash` is {}, the state has {hash}", entry.state_hash));
            findings.expect(Invariant::J5, at, wrong);
        }
        let fell = entry.epoch < self.epoch;
        findings.expect(
            Invariant::J6,
            at,
            fell.then(|| format!("epoch {} after {}", entry.epoch, self.epoch)),
        );
        let earlier = entry.at < self.at;
        findings.expect(
            Invariant::J8,
            at,
            earlier.then(|| format!("`at` is {} after {}", entry.at, self.at)),
        );
        let revived = self.status.is_terminal() && entry.status != self.status;
        let change = || format!("{} after {}", entry.status.as_str(), self.status.as_str());
        findings.expect(Invariant::J9, at, revived.then(change));
        if self.status.is_terminal() {
            let late = entry.causes.iter().find(|cause| {
                cause.stream == Source::Events || cause.token.is_none() && cause.sender.is_some()
            });
            let wrong = late.map(|cause| {
                format!("{} was taken though it was {}", cause.cause_type, self.status.as_str())
            });
            findings.wrong(Invariant::J7, at, wrong);
        } else if entry.status.is_terminal() {
            findings.checked(Invariant::J7, 1);
        }
    }

    /// Checks that causes go on in order.
    pub(super) fn order(&mut self, entry: &JournalEntry, ids: usize, findings: &mut Findings) {
        let ids = ids.min(IDS);
        let at = (&entry.execution, entry.seq);
        self.newest.clear();
        for cause in entry.causes.iter().filter(|cause| cause.stream != Source::Own) {
            let Some(index) = index_of(cause.stream) else { continue };
            let place = (cause.generation, cause.stream_seq);
            self.newest.push((cause.stream, place.0, place.1));
            let last = self.taken[index];
            let back = place <= last;
            let wrong = back.then(|| {
                let name = name_of(cause.stream);
                format!("{name} {} was taken after {}", place_text(place), place_text(last))
            });
            findings.expect(Invariant::J4, at, wrong);
            self.taken[index] = last.max(place);
            if let (Source::Events, Some(id)) = (cause.stream, &cause.id) {
                let hash = TakenId::hash_of(id);
                let twice = self.ids.contains(&hash);
                let wrong = twice.then(|| format!("the event id {id:?} is taken a second time"));
                findings.expect(Invariant::E3, at, wrong);
                self.ids.push_back(hash);
                while self.ids.len() > ids {
                    self.ids.pop_front();
                }
            }
            if let Some((sender, sent, index)) = &cause.sender {
                let place = (*sent, *index);
                let last = self.senders.get(sender).copied();
                let back = last.is_some_and(|last| place <= last);
                let wrong = back.then(|| {
                    format!(
                        "{sender}/{sent}/{index} arrived after {}",
                        pair(last.unwrap_or((0, 0)))
                    )
                });
                findings.expect(Invariant::M1, at, wrong);
                if last.is_some() || self.senders.len() < SENDERS {
                    self.senders.insert(sender.clone(), last.unwrap_or(place).max(place));
                }
            }
        }
    }

    /// Checks what an entry says of tasks.
    pub(super) fn attempts(&mut self, entry: &JournalEntry, findings: &mut Findings) {
        let at = (&entry.execution, entry.seq);
        for cause in entry.causes.iter().filter(|cause| cause.cause_type.as_str() == "pled.result")
        {
            let (Some(task), Some(attempt)) = (cause.token, cause.attempt) else { continue };
            let wrong = match self.attempts.get_mut(&task) {
                None => Some(format!("{task} is no task that is outstanding")),
                Some((known, _)) if *known != attempt => {
                    Some(format!("a result of attempt {attempt} of {task}, which is at {known}"))
                }
                Some((_, true)) => Some(format!("attempt {attempt} of {task} ends twice")),
                Some((_, ended)) => {
                    *ended = true;
                    None
                }
            };
            findings.wrong(Invariant::A3, at, wrong);
            if cause.data.get("ok").and_then(Value::as_bool) == Some(true) {
                self.attempts.remove(&task);
            }
        }
        for (index, effect) in entry.effects.iter().enumerate() {
            let derived = format!("{}/{}/{index}", entry.execution, entry.seq);
            let other = *effect.id != *derived;
            let wrong = other.then(|| format!("an effect has the id {}, not {derived}", effect.id));
            findings.expect(Invariant::A2, at, wrong);
            let EffectKind::Task(task) = &effect.kind else { continue };
            let last = self.attempts.get(&task.task).map_or(0, |(attempt, _)| *attempt);
            let is_new = task.attempt == 1 && task.task.entry == entry.seq;
            let fits = if last == 0 { is_new } else { task.attempt == last + 1 };
            let wrong = (!fits).then(|| {
                format!("attempt {} of {} is handed out after {last}", task.attempt, task.task)
            });
            findings.expect(Invariant::A3, at, wrong);
            self.attempts.insert(task.task, (task.attempt, false));
        }
    }

    /// Takes over what an entry leaves.
    pub(super) fn go_on(&mut self, stream_seq: u64, entry: &JournalEntry) {
        self.seq = entry.seq;
        self.stream_seq = stream_seq;
        self.hash = entry.hash;
        self.at = self.at.max(entry.at);
        self.epoch = self.epoch.max(entry.epoch);
        if !self.status.is_terminal() {
            self.status = entry.status;
        }
        let mut found = None;
        let state = match (&self.replay, &entry.state) {
            (_, Some(state)) => Some(state),
            (Replay::Going(replayer), None) if replayer.execution().seq == entry.seq => {
                Some(&replayer.execution().state)
            }
            (Replay::Going(_) | Replay::Waiting, None) => None,
        };
        if let Some(state) = state {
            found = Some(Outstanding::of(&entry.execution, state));
            // One that was called off may end all the same.
            let crowded = self.attempts.len() > ATTEMPTS;
            self.attempts.retain(|task, (_, ended)| {
                // A person may have a failed one tried once more.
                let is_open = state.tasks.contains_key(task) || state.incidents.contains_key(task);
                is_open || !(crowded || *ended)
            });
        }
        self.knows_state = found.is_some();
        if let Some(Outstanding { tasks, timers, children }) = found {
            (self.tasks, self.timers, self.children) = (tasks, timers, children);
        }
    }

    /// Whether no further step can come.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_terminal() && self.knows_state && self.tasks.is_empty()
    }
}

/// The parent that a cause names as the one who starts this execution.
pub(crate) fn child_of(cause: &Cause) -> Option<ChildOf> {
    cause.depth?;
    let (parent, ..) = cause.sender.as_ref()?;
    Some(ChildOf { parent: parent.parse().ok()?, task: cause.token?, attempt: cause.attempt? })
}

/// Attempts that are handed out, timers that are set, and children that are waited for.
pub(crate) struct Outstanding {
    pub(crate) tasks: Vec<(Token, u32)>,
    pub(crate) timers: Vec<(Token, Millis)>,
    pub(crate) children: Vec<Awaited>,
}

impl Outstanding {
    pub(crate) fn of(execution: &ExecutionId, state: &State) -> Self {
        let child = |(task, it): (&Token, &Task)| {
            let start = it.child.as_ref().filter(|_| it.not_before.is_none())?.place;
            let (child, task) = (execution.child(start), *task);
            Some(Awaited { child, task, attempt: it.attempt, start })
        };
        Self {
            children: state.tasks.iter().filter_map(child).collect(),
            tasks: handed_out(state),
            timers: state.timers.iter().map(|(token, timer)| (*token, timer.due)).collect(),
        }
    }
}

/// The attempts that are with the workers and did not end, those that were given up included: their
/// success is to be undone. A child execution is no work of a worker.
fn handed_out(state: &State) -> Vec<(Token, u32)> {
    let is_work = |task: &Task| task.not_before.is_none() && task.child.is_none();
    let awaited = state.tasks.iter().filter(|(_, task)| is_work(task));
    let awaited = awaited.map(|(token, task)| (*token, task.attempt));
    let given_up = state.given_up.iter().map(|(token, given_up)| (*token, given_up.attempt));
    awaited.chain(given_up).collect()
}

fn index_of(source: Source) -> Option<usize> {
    match source {
        Source::Events => Some(0),
        Source::Signals => Some(1),
        Source::Timers => Some(2),
        Source::Own => None,
    }
}

/// The name of an input, as in positions.
pub(crate) fn name_of(source: Source) -> &'static str {
    match source {
        Source::Events => "events",
        Source::Signals => "signals",
        Source::Timers => "timers",
        Source::Own => "self",
    }
}

/// The generation is told from the second on.
pub(super) fn place_text((generation, seq): (u64, u64)) -> String {
    if generation <= 1 { seq.to_string() } else { format!("{seq} of generation {generation}") }
}

fn pair((entry, index): (u64, u64)) -> String {
    format!("{entry}/{index}")
}
