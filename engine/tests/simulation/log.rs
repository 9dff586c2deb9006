//! A JetStream in memory: what the server would store, and what it would answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pled_engine::entry::JournalEntry;
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::{Body, INPUTS, Message, Millis, Send, Source};
use pled_engine::partition::{
    DeadReason, Find, InputPosition, Loaded, Malformed, Position, Publish, Published, StreamFacts,
    Streams,
};

/// The wall clock at the beginning of the simulation.
pub(crate) const EPOCH: Millis = 1_764_000_000_000;

/// By how much a firing may be before its due time.
pub(crate) const EARLY_MAX: Millis = 2;

pub(crate) const GENERATION: u64 = 1;

/// By how much a publish that was not answered may be late.
pub(crate) const LATEST_MS: u64 = 4_000;

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) partition: u16,
    pub(crate) seq: u64,
    /// When it was stored, in simulated milliseconds.
    pub(crate) at: u64,
    /// Its time as a message: of a timer the due time.
    pub(crate) time: Millis,
    /// What the server's clock showed then.
    pub(crate) wall: Millis,
    pub(crate) execution: ExecutionId,
    pub(crate) reply: Option<Arc<str>>,
    /// `None`: it is no message.
    pub(crate) body: Option<Body>,
    /// The subject that is free again when it is purged.
    subject: Option<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Stream {
    pub(crate) messages: BTreeMap<u64, Stored>,
    pub(crate) last: u64,
}

/// A stored journal entry.
#[derive(Clone)]
pub(crate) struct StoredEntry {
    pub(crate) stream_seq: u64,
    pub(crate) bytes: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskStage {
    Ready,
    /// With an action worker since then.
    Busy(u64),
    /// Acknowledged then.
    Acked(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct StoredTask {
    pub(crate) execution: ExecutionId,
    pub(crate) task: Token,
    pub(crate) attempt: u32,
    pub(crate) stage: TaskStage,
    pub(crate) deliveries: u32,
}

/// What a power cut leaves.
#[derive(Clone, Default)]
struct Synced {
    inputs: [Stream; 3],
    subjects: BTreeMap<String, u64>,
    journal: BTreeMap<ExecutionId, Vec<StoredEntry>>,
    journal_last: u64,
    tasks: BTreeMap<String, StoredTask>,
    schedules: BTreeMap<(ExecutionId, Token), Millis>,
    positions: BTreeMap<u16, (Position, u64)>,
    locks_last: u64,
    dead: BTreeMap<(Source, u64), DeadReason>,
}

pub(crate) struct Log {
    pub(crate) partitions: u16,
    /// Events, signals, timers.
    pub(crate) inputs: [Stream; 3],
    subjects: BTreeMap<String, u64>,
    pub(crate) journal: BTreeMap<ExecutionId, Vec<StoredEntry>>,
    pub(crate) journal_last: u64,
    pub(crate) tasks: BTreeMap<String, StoredTask>,
    pub(crate) schedules: BTreeMap<(ExecutionId, Token), Millis>,
    pub(crate) positions: BTreeMap<u16, (Position, u64)>,
    pub(crate) leases: BTreeMap<u16, (String, u64)>,
    locks_last: u64,
    pub(crate) dead: BTreeMap<(Source, u64), DeadReason>,
    /// All that was ever stored in the inputs.
    pub(crate) history: BTreeMap<(Source, u64), Stored>,
    /// Tasks that were finished and removed.
    pub(crate) finished: BTreeSet<String>,
    /// Whether signals are kept while a message that is older than they are is not done, and as long
    /// after that as a publish may be late.
    pub(crate) purges_carefully: bool,
    /// Since when something was not done, as was seen lately.
    undone: VecDeque<(u64, u64)>,
    /// Whether messages are purged that are not done.
    pub(crate) purges_by_age: bool,
    /// Whether leases and positions keep nobody out.
    pub(crate) without_fences: bool,
    /// By how much the clock of PLED_SIGNALS differs.
    skew: Millis,
    /// By how much the server's clock is ahead.
    pub(crate) clock: Millis,
    synced: Synced,
    /// The server that came with the last power cut.
    pub(crate) cut_at: u64,
    /// Until when which streams are full: journal, tasks, dead.
    pub(crate) full_until: [u64; 3],
}

pub(crate) fn index_of(source: Source) -> usize {
    INPUTS.iter().position(|input| *input == source).unwrap()
}

impl Log {
    pub(crate) fn new(partitions: u16, skew: Millis) -> Self {
        let position = Position {
            inputs: ["events", "signals", "timers"]
                .map(|name| {
                    let at = InputPosition {
                        generation: GENERATION,
                        next: 1,
                        ..InputPosition::default()
                    };
                    (name.to_owned(), at)
                })
                .into(),
            ..Position::default()
        };
        let positions: BTreeMap<u16, (Position, u64)> = (0..partitions)
            .map(|number| (number, (position.clone(), u64::from(number) + 1)))
            .collect();
        let locks_last = u64::from(partitions);
        Self {
            partitions,
            synced: Synced { positions: positions.clone(), locks_last, ..Synced::default() },
            inputs: Default::default(),
            subjects: BTreeMap::new(),
            journal: BTreeMap::new(),
            journal_last: 0,
            tasks: BTreeMap::new(),
            schedules: BTreeMap::new(),
            positions,
            leases: BTreeMap::new(),
            locks_last,
            dead: BTreeMap::new(),
            history: BTreeMap::new(),
            finished: BTreeSet::new(),
            purges_carefully: false,
            undone: VecDeque::new(),
            purges_by_age: false,
            without_fences: false,
            skew,
            clock: 0,
            cut_at: 0,
            full_until: [0; 3],
        }
    }

    /// What the server's clock shows.
    pub(crate) fn wall(&self, now: u64) -> Millis {
        EPOCH + now as Millis + self.clock
    }

    /// Syncs one of the streams.
    pub(crate) fn sync(&mut self, part: usize) {
        let synced = &mut self.synced;
        match part {
            0..=2 => {
                synced.inputs[part] = self.inputs[part].clone();
                if part == 1 {
                    synced.subjects.clone_from(&self.subjects);
                }
                if part == 2 {
                    synced.schedules.clone_from(&self.schedules);
                }
            }
            3 => {
                synced.journal.clone_from(&self.journal);
                synced.journal_last = self.journal_last;
            }
            4 => synced.tasks.clone_from(&self.tasks),
            5 => {
                synced.positions.clone_from(&self.positions);
                synced.locks_last = self.locks_last;
            }
            _ => synced.dead.clone_from(&self.dead),
        }
    }

    /// What is left after a power cut, when `server` comes.
    pub(crate) fn lose_unsynced(&mut self, server: u64) {
        let Synced {
            inputs,
            subjects,
            journal,
            journal_last,
            tasks,
            schedules,
            positions,
            locks_last,
            dead,
        } = self.synced.clone();
        self.inputs = inputs;
        self.subjects = subjects;
        self.journal = journal;
        self.journal_last = journal_last;
        self.tasks = tasks;
        self.schedules = schedules;
        self.positions = positions;
        self.locks_last = locks_last;
        self.dead = dead;
        self.leases.clear();
        self.cut_at = server;
    }

    pub(crate) fn partition_of(&self, execution: &ExecutionId) -> u16 {
        let hash = execution
            .as_str()
            .bytes()
            .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        u16::try_from(hash % u32::from(self.partitions)).unwrap()
    }

    /// Stores a message of an input stream.
    pub(crate) fn store(
        &mut self,
        source: Source,
        now: u64,
        execution: ExecutionId,
        reply: Option<Arc<str>>,
        body: Option<Body>,
    ) -> u64 {
        self.store_as(source, now, None, None, execution, reply, body)
    }

    #[expect(clippy::too_many_arguments, reason = "what a stored message is made of")]
    fn store_as(
        &mut self,
        source: Source,
        now: u64,
        time: Option<Millis>,
        subject: Option<String>,
        execution: ExecutionId,
        reply: Option<Arc<str>>,
        body: Option<Body>,
    ) -> u64 {
        let partition = self.partition_of(&execution);
        let wall = self.wall(now);
        let stream = &mut self.inputs[index_of(source)];
        stream.last += 1;
        let seq = stream.last;
        let skew = if source == Source::Signals { self.skew } else { 0 };
        let time = time.unwrap_or(wall + skew);
        let stored =
            Stored { partition, seq, at: now, time, wall, execution, reply, body, subject };
        stream.messages.insert(seq, stored.clone());
        self.history.insert((source, seq), stored);
        seq
    }

    /// Stores a signal whose subject must be empty; false if it is there already.
    pub(crate) fn signal(
        &mut self,
        subject: String,
        now: u64,
        execution: ExecutionId,
        body: Body,
    ) -> bool {
        if self.subjects.contains_key(&subject) {
            return false;
        }
        let named = Some(subject.clone());
        let seq = self.store_as(Source::Signals, now, None, named, execution, None, Some(body));
        self.subjects.insert(subject, seq);
        true
    }

    pub(crate) fn has_signal(&self, subject: &str) -> bool {
        self.subjects.contains_key(subject)
    }

    fn fire(&mut self, execution: &ExecutionId, timer: Token, due: Millis, now: u64) -> u64 {
        let body = Some(Body::Fired { timer });
        self.store_as(Source::Timers, now, Some(due), None, execution.clone(), None, body)
    }

    /// Lets a native schedule fire.
    pub(crate) fn fire_schedule(&mut self, key: &(ExecutionId, Token), now: u64) {
        if let Some(due) = self.schedules.remove(key) {
            self.fire(&key.0, key.1, due, now);
        }
    }

    pub(crate) fn message(&self, source: Source, seq: u64) -> Option<Result<Message, Malformed>> {
        self.inputs[index_of(source)].messages.get(&seq).map(|stored| decode(source, stored))
    }

    /// How far the inputs and the journal reach.
    pub(crate) fn ends(&self) -> [u64; 4] {
        let [events, signals, timers] = &self.inputs;
        [events.last, signals.last, timers.last, self.journal_last]
    }

    pub(crate) fn facts(&self) -> Streams {
        let facts = |last: u64| StreamFacts { generation: GENERATION, first: 1, last };
        Streams {
            events: facts(self.inputs[0].last),
            signals: facts(self.inputs[1].last),
            timers: facts(self.inputs[2].last),
            journal: facts(self.journal_last),
        }
    }

    /// The newest entry, or one that was the newest so many entries ago.
    pub(crate) fn newest(&self, execution: &ExecutionId, behind: usize) -> Option<Loaded> {
        let entries = self.journal.get(execution)?;
        let at = entries.len().checked_sub(1 + behind)?;
        Some(load(&entries[at]))
    }

    pub(crate) fn range(&self, execution: &ExecutionId, from: u64) -> Vec<Loaded> {
        let entries = self.journal.get(execution).map(Vec::as_slice).unwrap_or_default();
        entries.iter().filter(|entry| entry.stream_seq >= from).map(load).collect()
    }

    pub(crate) fn find(&self, find: &Find) -> bool {
        match find {
            Find::Task { execution, task, attempt, .. } => {
                self.tasks.contains_key(&task_subject(execution, *task, *attempt))
            }
            Find::Result { execution, task, attempt } => {
                self.has_signal(&result_subject(execution, *task, *attempt))
            }
        }
    }

    pub(crate) fn write_position(
        &mut self,
        partition: u16,
        position: &Position,
        revision: u64,
    ) -> Published {
        let (at, stored) = self.positions.get_mut(&partition).unwrap();
        if self.without_fences {
            let merged = merged(at, position);
            self.locks_last += 1;
            *at = merged;
            *stored = self.locks_last;
            return Published::Stored { stream_seq: self.locks_last };
        }
        if *stored != revision {
            return Published::Conflict { last: Some(*stored) };
        }
        self.locks_last += 1;
        *at = position.clone();
        *stored = self.locks_last;
        Published::Stored { stream_seq: self.locks_last }
    }

    pub(crate) fn publish(&mut self, publish: &Publish, now: u64) -> Published {
        match publish {
            Publish::Entry { execution, expected, bytes } => {
                let entries = self.journal.entry(execution.clone()).or_default();
                let last = entries.last().map_or(0, |entry| entry.stream_seq);
                if last != *expected {
                    return Published::Conflict { last: Some(last) };
                }
                if now < self.full_until[0] {
                    return Published::Full;
                }
                self.journal_last += 1;
                let stream_seq = self.journal_last;
                entries.push(StoredEntry { stream_seq, bytes: bytes.clone() });
                Published::Stored { stream_seq }
            }
            Publish::Task(message) => {
                let effect = &message.effect;
                let subject = task_subject(&message.execution, effect.task, effect.attempt);
                if self.tasks.contains_key(&subject) {
                    return Published::Conflict { last: Some(1) };
                }
                if now < self.full_until[1] {
                    return Published::Full;
                }
                self.tasks.insert(
                    subject,
                    StoredTask {
                        execution: message.execution.clone(),
                        task: effect.task,
                        attempt: effect.attempt,
                        stage: TaskStage::Ready,
                        deliveries: 0,
                    },
                );
                Published::Stored { stream_seq: 1 }
            }
            Publish::TimerSet { execution, timer, due } => {
                self.schedules.insert((execution.clone(), *timer), *due);
                Published::Stored { stream_seq: 1 }
            }
            Publish::TimerCancel { execution, timer } => {
                match self.schedules.remove(&(execution.clone(), *timer)) {
                    Some(_) => Published::Stored { stream_seq: 1 },
                    None => Published::Conflict { last: None },
                }
            }
            Publish::TimerFire { execution, timer, due } => {
                self.schedules.remove(&(execution.clone(), *timer));
                let stream_seq = self.fire(execution, *timer, *due, now);
                Published::Stored { stream_seq }
            }
            Publish::Send { sender, token, to, event, data } => {
                let subject = format!("send.{to}.{sender}-{token}");
                let body = Body::Send(Send {
                    sender: sender.clone(),
                    token: *token,
                    event_type: event.clone(),
                    data: data.clone(),
                });
                self.tell(subject, now, to, body)
            }
            Publish::ChildStart { child, start } => {
                let subject = format!("start.{child}.{}-{}", start.parent, start.token);
                self.tell(subject, now, child, Body::ChildStart((**start).clone()))
            }
            Publish::ChildCancel { child, cancel } => {
                let subject = format!("cancel.{child}.{}-{}", cancel.parent, cancel.token);
                self.tell(subject, now, child, Body::ChildCancel(cancel.clone()))
            }
            Publish::ChildDone { parent, result } => {
                let subject = format!("done.{parent}.{}-{}", result.task, result.attempt);
                self.tell(subject, now, parent, Body::ChildDone(result.clone()))
            }
            Publish::Dead { reason, source, stream_seq, .. } => {
                if self.dead.contains_key(&(*source, *stream_seq)) {
                    return Published::Conflict { last: Some(1) };
                }
                if now < self.full_until[2] {
                    return Published::Full;
                }
                self.dead.insert((*source, *stream_seq), *reason);
                Published::Stored { stream_seq: 1 }
            }
        }
    }

    fn tell(&mut self, subject: String, now: u64, to: &ExecutionId, body: Body) -> Published {
        if self.signal(subject, now, to.clone(), body) {
            Published::Stored { stream_seq: self.inputs[1].last }
        } else {
            Published::Conflict { last: Some(1) }
        }
    }

    /// Takes the lease if it is free, or one's own; until when it is then held.
    pub(crate) fn take_lease(
        &mut self,
        partition: u16,
        owner: &str,
        now: u64,
        ttl: u64,
    ) -> Option<u64> {
        match self.leases.get(&partition) {
            Some((other, until)) if other != owner && *until > now && !self.without_fences => None,
            _ => {
                self.leases.insert(partition, (owner.to_owned(), now + ttl));
                Some(now + ttl)
            }
        }
    }

    pub(crate) fn release_lease(&mut self, partition: u16, owner: &str) {
        if self.leases.get(&partition).is_some_and(|(holder, _)| holder == owner) {
            self.leases.remove(&partition);
        }
    }

    /// Removes what is done everywhere and old enough.
    pub(crate) fn purge(&mut self, now: u64, retention: u64) {
        let undone_since = self.undone.iter().map(|(_, since)| *since).min().unwrap_or(0);
        for (index, name) in ["events", "signals", "timers"].into_iter().enumerate() {
            let floor = self.positions.values().map(|(position, _)| {
                let input = &position.inputs[name];
                input.open.first().copied().unwrap_or(input.next).min(input.next)
            });
            let floor = floor.min().unwrap();
            let messages = &mut self.inputs[index].messages;
            let is_kept = |stored: &Stored| {
                let may_be_late = stored.at + retention + LATEST_MS >= now;
                self.purges_carefully && index == 1 && (may_be_late || stored.at >= undone_since)
            };
            let old = |stored: &Stored| {
                (stored.seq < floor || self.purges_by_age)
                    && stored.at + retention < now
                    && !is_kept(stored)
            };
            let purged: Vec<u64> = messages
                .values()
                .take_while(|stored| old(stored))
                .map(|stored| stored.seq)
                .collect();
            for seq in purged {
                if let Some(subject) = messages.remove(&seq).and_then(|stored| stored.subject) {
                    self.subjects.remove(&subject);
                }
            }
        }
        let old = |stage| matches!(stage, TaskStage::Acked(at) if at + retention < now);
        for (subject, _) in self.tasks.extract_if(.., |_, task| old(task.stage)) {
            self.finished.insert(subject);
        }
    }

    /// Takes note of what is not done now.
    pub(crate) fn note_undone(&mut self, now: u64) {
        if self.purges_carefully {
            self.undone.push_back((now, self.undone_since()));
            while self.undone.front().is_some_and(|(seen, _)| seen + LATEST_MS < now) {
                self.undone.pop_front();
            }
        }
    }

    /// When the oldest message was stored that a position does not say is done.
    fn undone_since(&self) -> u64 {
        let oldest = self.positions.values().flat_map(|(position, _)| {
            INPUTS.into_iter().zip(["events", "signals", "timers"]).filter_map(|(source, name)| {
                let input = &position.inputs[name];
                let floor = input.open.first().copied().unwrap_or(input.next);
                self.history.get(&(source, floor)).map(|stored| stored.at)
            })
        });
        oldest.min().unwrap_or(u64::MAX)
    }
}

/// What is done by either of two positions.
fn merged(one: &Position, other: &Position) -> Position {
    let is_open = |at: &InputPosition, seq: u64| seq >= at.next || at.open.contains(&seq);
    let inputs = one.inputs.iter().map(|(name, first)| {
        let second = &other.inputs[name];
        let open = first.open.iter().chain(&second.open).copied().collect::<BTreeSet<u64>>();
        let next = first.next.max(second.next);
        let open = open.into_iter().filter(|seq| is_open(first, *seq) && is_open(second, *seq));
        let open: Vec<u64> = open.collect();
        let aside = first.aside.iter().chain(&second.aside);
        let aside: BTreeMap<u64, _> = aside.map(|verdict| (verdict.seq, verdict.clone())).collect();
        let aside = aside.into_values().filter(|verdict| open.contains(&verdict.seq)).collect();
        (name.clone(), InputPosition { generation: GENERATION, next, open, aside })
    });
    Position {
        // So that all owners write under the same.
        epoch: 0,
        inputs: inputs.collect(),
        journal: one.journal.max(other.journal),
        ..other.clone()
    }
}

fn load(stored: &StoredEntry) -> Loaded {
    let entry = JournalEntry::decode(&stored.bytes).unwrap_or_else(|error| panic!("{error}"));
    Loaded { stream_seq: stored.stream_seq, entry }
}

pub(crate) fn decode(source: Source, stored: &Stored) -> Result<Message, Malformed> {
    let Some(body) = &stored.body else {
        return Err(Malformed {
            execution: Some(stored.execution.clone()),
            reason: DeadReason::Malformed,
            detail: "not JSON".into(),
            reply: stored.reply.clone(),
        });
    };
    let is_early = source == Source::Timers && stored.wall + EARLY_MAX < stored.time;
    Ok(Message {
        execution: stored.execution.clone(),
        source,
        generation: GENERATION,
        stream_seq: stored.seq,
        time: if is_early { stored.wall } else { stored.time },
        reply: stored.reply.clone(),
        body: body.clone(),
    })
}

pub(crate) fn task_subject(execution: &ExecutionId, task: Token, attempt: u32) -> String {
    format!("{execution}-{task}-{attempt}")
}

pub(crate) fn result_subject(execution: &ExecutionId, task: Token, attempt: u32) -> String {
    format!("result.{execution}.{task}-{attempt}")
}
