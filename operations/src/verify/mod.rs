//! The proof that the promises were kept: records in, violations out.
//!
//! [`Checker`] takes the records of a live system or of an export in their order, and needs little
//! memory for each execution, the messages that the input streams still hold, and one bit for each
//! message that was ever taken. It reads nothing itself, so a test can plant what it must find.

mod client_log;
mod inputs;
mod invariant;
mod life;
mod prefix;
mod rest;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::entry::{Cause, InvalidEntry, JournalEntry};
use pled_engine::id::{ExecutionId, TemplateRef, Token};
use pled_engine::message::{Millis, Source};
use pled_engine::partition::{Position, Snapshot};
use pled_engine::replay::Replayer;
use pled_engine::template::Template;
use pled_streams::dead;
use pled_streams::events::{Stored, decode};
use pled_streams::ingest::decode_raw;
use pled_streams::subject::{DUE, StreamKind, parse_send_token};
use pled_streams::{Names, partition_of};

pub use self::client_log::{Acknowledged, read as read_client_log};
pub use self::inputs::{Fate, Inputs, Kind, Retained};
pub use self::invariant::{INVARIANTS, Invariant, Line, Report, Violation};
pub use self::prefix::Prefix;

use self::client_log::ClientLog;
use self::inputs::{Match, Seen};
use self::invariant::Findings;
pub(crate) use self::life::{Awaited, ChildOf, Life, Outstanding, child_of, name_of};
use self::life::{Replay, place_text};
use crate::record::{Header, Place, Record};

/// How a verification is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether nothing may be left to do: for a system whose load has ended.
    pub settled: bool,
    /// How many bytes of states are held to take steps again, approximately. Beyond it those of
    /// executions that were not heard of for longest are given up until their next state.
    pub states_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { settled: false, states_bytes_max: 1 << 30 }
    }
}

/// Takes records in order, and says in the end what does not hold.
#[derive(Debug)]
pub struct Checker {
    options: Options,
    names: Option<Names>,
    header: Header,
    pub(crate) positions: BTreeMap<(String, u16), Position>,
    templates: HashMap<TemplateRef, Result<Arc<Template>, String>>,
    pub(crate) inputs: Inputs,
    pub(crate) aside: Aside,
    snapshots: HashMap<ExecutionId, (u64, String)>,
    /// Attempts in PLED_TASKS, and whether their entry was seen.
    tasks: BTreeMap<(ExecutionId, Token, u32), bool>,
    /// Timers that wait in the server.
    schedules: HashSet<(ExecutionId, Token)>,
    pub(crate) lives: BTreeMap<ExecutionId, Life>,
    /// Sends that did not arrive yet, and for whom they are.
    pub(crate) sends: BTreeMap<(ExecutionId, Token), ExecutionId>,
    /// Starts of children that did not arrive yet, by what they are to their parents.
    starts: HashMap<ChildOf, ExecutionId>,
    seen: BTreeMap<(Source, u64), Seen>,
    client_log: ClientLog,
    states: States,
    findings: Findings,
    entries: u64,
    messages: u64,
    not_replayed: u64,
    end: Option<u64>,
}

/// What PLED_DEAD holds, by what names the message.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Source, generation and sequence.
    messages: BTreeMap<(Source, u64, u64), String>,
    /// Those that are sends, by sender and effect.
    pub(crate) sends: HashSet<(ExecutionId, Token)>,
    records: u64,
}

/// The states that are held, by when their execution was last heard of.
#[derive(Debug, Default)]
struct States {
    by_age: BTreeMap<u64, (ExecutionId, usize)>,
    bytes: usize,
}

impl Checker {
    /// Checks nothing yet.
    #[must_use]
    pub fn new(options: Options, client_log: Vec<Acknowledged>) -> Self {
        Self {
            options,
            names: None,
            header: Header::default(),
            positions: BTreeMap::new(),
            templates: HashMap::new(),
            inputs: Inputs::default(),
            aside: Aside::default(),
            snapshots: HashMap::new(),
            tasks: BTreeMap::new(),
            schedules: HashSet::new(),
            lives: BTreeMap::new(),
            sends: BTreeMap::new(),
            starts: HashMap::new(),
            seen: BTreeMap::new(),
            client_log: ClientLog::of(client_log),
            states: States::default(),
            findings: Findings::default(),
            entries: 0,
            messages: 0,
            not_replayed: 0,
            end: None,
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// If the records do not begin with a header of this program's.
    pub fn take(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Header(header) => {
                self.names = Some(Names::new(&header.prefix)?);
                self.header = header.clone();
            }
            Record::End { messages } => self.end = Some(*messages),
            Record::Message(kind, stored) => {
                let Some(names) = self.names.clone() else {
                    return Err("the records do not begin with a header".into());
                };
                self.messages += 1;
                self.message(&names, *kind, stored);
            }
        }
        Ok(())
    }

    fn message(&mut self, names: &Names, kind: StreamKind, stored: &Stored) {
        match kind {
            StreamKind::Locks => self.position(names, stored),
            StreamKind::Templates => self.template(names, stored),
            StreamKind::Snapshots => self.snapshot(names, stored),
            StreamKind::Tasks => self.task(names, stored),
            StreamKind::Events => self.input(names, Source::Events, stored),
            StreamKind::Signals => self.input(names, Source::Signals, stored),
            StreamKind::Timers => self.timer(names, stored),
            StreamKind::Dead => self.dead(names, stored),
            StreamKind::Journal => self.journal(names, stored),
            StreamKind::Ingest => {
                if let Ok(event) = decode_raw(names, stored) {
                    self.client_log.raw(stored.stream_seq, &event);
                }
            }
            StreamKind::Actions | StreamKind::Schedules => {}
        }
    }

    fn position(&mut self, names: &Names, stored: &Stored) {
        let key = names.key(StreamKind::Locks, "position.");
        let Some(rest) = stored.subject.strip_prefix(&key) else { return };
        let Some((kind, partition)) = rest.split_once('.') else { return };
        let position = serde_json::from_slice::<Position>(&stored.payload);
        match (partition.parse(), position) {
            (Ok(partition), Ok(position)) => {
                self.positions.insert((kind.to_owned(), partition), position);
            }
            (Ok(_) | Err(_), _) => self.findings.found(Violation {
                invariant: Invariant::P1,
                execution: None,
                entry: None,
                what: format!("the key position.{rest} holds no position"),
            }),
        }
    }

    fn template(&mut self, names: &Names, stored: &Stored) {
        let key = names.key(StreamKind::Templates, "");
        let Some(rest) = stored.subject.strip_prefix(&key) else { return };
        let Some((name, version)) = rest.split_once('.') else { return };
        let Ok(reference) = format!("{name}@{version}").parse::<TemplateRef>() else { return };
        let source = std::str::from_utf8(&stored.payload).map_err(|error| error.to_string());
        let template = source.and_then(|source| {
            Template::parse(source).map(Arc::new).map_err(|error| error.to_string())
        });
        self.templates.insert(reference, template);
    }

    fn snapshot(&mut self, names: &Names, stored: &Stored) {
        let key = names.key(StreamKind::Snapshots, "");
        let id = stored.subject.strip_prefix(&key).and_then(|id| id.parse().ok());
        let snapshot = serde_json::from_slice::<Snapshot>(&stored.payload);
        if let (Some(id), Ok(snapshot)) = (id, snapshot) {
            self.snapshots.insert(id, (snapshot.seq, snapshot.hash.to_string()));
        }
    }

    fn task(&mut self, names: &Names, stored: &Stored) {
        let words = names.words(&stored.subject);
        let token = words.and_then(|words| words.last().copied().map(str::to_owned));
        let parsed = token.as_deref().and_then(|token| {
            let (rest, attempt) = token.rsplit_once('-')?;
            let (execution, task) = parse_send_token(rest)?;
            Some((execution, task, attempt.parse().ok()?))
        });
        if let Some(key) = parsed {
            self.tasks.insert(key, false);
        } else {
            self.findings.found(Violation {
                invariant: Invariant::A1,
                execution: None,
                entry: None,
                what: format!("the subject {} names no attempt of a task", stored.subject),
            });
        }
    }

    fn input(&mut self, names: &Names, source: Source, stored: &Stored) {
        let generation = self.generation(source);
        let message = decode(names, source, generation, stored);
        self.inputs.hold(source, stored, message);
    }

    fn generation(&self, source: Source) -> u64 {
        self.place_of(&name_of(source).to_ascii_uppercase()).generation
    }

    /// Where a stream was when the reading began, by its word.
    pub(crate) fn place_of(&self, stream: &str) -> Place {
        let unknown = Place { generation: 1, ..Place::default() };
        self.header.streams.get(stream).cloned().unwrap_or(unknown)
    }

    fn timer(&mut self, names: &Names, stored: &Stored) {
        let words = names.words(&stored.subject).unwrap_or_default();
        match words[..] {
            ["timers", _, execution, timer] => {
                if let (Ok(execution), Ok(timer)) = (execution.parse(), timer.parse()) {
                    self.schedules.insert((execution, timer));
                }
            }
            ["fired", ..] => {
                self.input(names, Source::Timers, stored);
                let held = self.inputs.get(Source::Timers, stored.stream_seq);
                // The message's time is when it was due, or earlier.
                if held.is_some_and(|held| held.time == stored.time)
                    && due_of(stored).is_some_and(|due| due > stored.time)
                {
                    self.inputs.fired_early(stored.stream_seq);
                }
            }
            _ => {}
        }
    }

    fn dead(&mut self, names: &Names, stored: &Stored) {
        let Some(record) = dead::record_of(names, stored.clone()) else { return };
        self.aside.records += 1;
        if let Some(origin) = record.origin() {
            let source = match origin.stream {
                "events" => Some(Source::Events),
                "signals" => Some(Source::Signals),
                "timers" => Some(Source::Timers),
                _ => None,
            };
            if let Some(source) = source {
                let key = (source, origin.generation, origin.stream_seq);
                self.aside.messages.insert(key, record.reason.clone());
                self.inputs.set_aside(source, origin.stream_seq, record.execution.as_ref());
            }
            match (&record.execution, source) {
                (Some(execution), Some(Source::Events)) => {
                    self.client_log.set_aside(execution, origin.stream_seq);
                }
                (_, None) => self.client_log.of_ingest(origin.stream_seq),
                (_, Some(_)) => {}
            }
        }
        if let Some((_, seq, _)) = record.emitted_by() {
            self.client_log.of_ingest(seq);
        }
        let words = names.words(&record.subject).unwrap_or_default();
        if let ["signal", _, _, "send", token] = words[..]
            && let Some(send) = parse_send_token(token)
        {
            self.aside.sends.insert(send);
        }
    }

    fn journal(&mut self, names: &Names, stored: &Stored) {
        self.entries += 1;
        let invalid = match JournalEntry::decode(&stored.payload) {
            Ok(entry) => return self.entry(names, stored, &entry, None),
            Err(invalid) => invalid,
        };
        // One that is altered is followed all the same, so that it is told once.
        let entry = serde_json::from_slice::<JournalEntry>(&stored.payload);
        match (&invalid, entry) {
            (InvalidEntry::Hash { .. }, Ok(entry)) => {
                self.entry(names, stored, &entry, Some(invalid.to_string()));
            }
            (
                InvalidEntry::Hash { .. }
                | InvalidEntry::Format { .. }
                | InvalidEntry::Malformed(_),
                _,
            ) => {
                self.findings.checked(Invariant::J2, 1);
                let words = names.words(&stored.subject).unwrap_or_default();
                self.findings.found(Violation {
                    invariant: Invariant::J2,
                    execution: words.get(2).and_then(|id| id.parse().ok()),
                    entry: None,
                    what: format!("PLED_JOURNAL {}: {invalid}", stored.stream_seq),
                });
            }
        }
    }

    fn entry(
        &mut self,
        names: &Names,
        stored: &Stored,
        entry: &JournalEntry,
        altered: Option<String>,
    ) {
        let id = &entry.execution;
        let at = (id, entry.seq);
        let own = names.journal(partition_of(id, self.header.partitions), id);
        let elsewhere = (stored.subject != own)
            .then(|| format!("PLED_JOURNAL {} stands under {}", stored.stream_seq, stored.subject));
        self.findings.wrong(Invariant::J1, at, elsewhere);
        let is_altered = altered.is_some();
        self.findings.wrong(Invariant::J2, at, altered);
        let mut life = self.lives.remove(id).unwrap_or_else(|| Life::begin(entry));
        self.states.forget(life.stream_seq);
        life.link(entry, &mut self.findings);
        let template = self.templates.get(&entry.template).and_then(|known| known.as_ref().ok());
        let ids = template.map_or(usize::MAX, |template| template.limits.event_ids);
        life.order(entry, ids, &mut self.findings);
        life.attempts(entry, &mut self.findings);
        self.causes(entry);
        self.effects(entry);
        self.replay(&mut life, entry, is_altered);
        if let Some((seq, hash)) = self.snapshots.get(id)
            && *seq == entry.seq
        {
            let other = *hash != entry.hash.to_string();
            let wrong =
                other.then(|| format!("its snapshot has the hash {hash}, not {}", entry.hash));
            self.findings.expect(Invariant::S1, at, wrong);
            self.snapshots.remove(id);
        }
        life.go_on(stored.stream_seq, entry);
        if life.is_over() {
            life.replay = Replay::Waiting;
        }
        if matches!(life.replay, Replay::Going(_)) {
            let bytes = 4 * stored.payload.len();
            self.states.hold(stored.stream_seq, id.clone(), bytes);
        }
        self.lives.insert(id.clone(), life);
        while self.states.bytes > self.options.states_bytes_max
            && let Some(oldest) = self.states.oldest()
        {
            if let Some(life) = self.lives.get_mut(&oldest) {
                life.replay = Replay::Waiting;
            }
        }
    }

    fn causes(&mut self, entry: &JournalEntry) {
        let at = (&entry.execution, entry.seq);
        for cause in &entry.causes {
            if let Some((sender, sent, index)) = &cause.sender {
                let from_rules = cause.stream == Source::Events;
                let token = u32::try_from(*index).map(|index| Token { entry: *sent, index });
                match (from_rules, sender.parse::<ExecutionId>(), token) {
                    (true, _, _) => self.client_log.of_ingest(*sent),
                    (false, Ok(sender), Ok(token)) if is_send(cause) => {
                        self.arrived(at, &sender, token);
                    }
                    (false, _, _) => {}
                }
            }
            if cause.stream == Source::Own {
                continue;
            }
            if let Some(of) = child_of(cause) {
                self.child_started(at, of);
            }
            if cause.stream == Source::Timers {
                self.timer_taken(at, cause);
            }
            if cause.cause_type.as_str() == "pled.child" {
                self.findings.checked(Invariant::C2, 1);
            }
            let place = (cause.generation, cause.stream_seq);
            let fresh = self.seen.entry((cause.stream, place.0)).or_default().insert(place.1);
            let name = name_of(cause.stream);
            let wrong = (!fresh)
                .then(|| format!("{name} {} is a cause for a second time", place_text(place)));
            self.findings.wrong(Invariant::J4, at, wrong);
            if cause.stream == Source::Events {
                let id = cause.id.as_deref();
                self.client_log.taken(at.0, place.1, cause.cause_type.as_str(), id);
            }
            let reason = self.aside.messages.get(&(cause.stream, place.0, place.1));
            let wrong = reason.map(|reason| {
                format!("{name} {} is also set aside as {reason}", place_text(place))
            });
            self.findings.wrong(Invariant::D1, at, wrong);
            let found = self.inputs.take(at.0, cause);
            let current = place.0 == self.generation(cause.stream);
            match found {
                Match::Same => self.findings.checked(Invariant::E2, 1),
                Match::Other if current => {
                    let what =
                        format!("{name} {} holds another message than this", place_text(place));
                    self.findings.expect(Invariant::E2, at, Some(what));
                }
                Match::Other | Match::Gone => {}
            }
        }
    }

    /// A send arrived: it must have been sent before.
    fn arrived(&mut self, at: (&ExecutionId, u64), sender: &ExecutionId, token: Token) {
        let key = (sender.clone(), token);
        let sent = self.sends.remove(&key);
        let wrong = match sent {
            None => Some(format!("{sender}/{}/{} was never sent", token.entry, token.index)),
            Some(to) if to != *at.0 => Some(format!("it is for {to}")),
            Some(_) if self.aside.sends.contains(&key) => {
                Some(format!("{sender}/{}/{} is also set aside", token.entry, token.index))
            }
            Some(_) => None,
        };
        self.findings.wrong(Invariant::M1, at, wrong);
    }

    /// A firing that is early is not taken.
    fn timer_taken(&mut self, at: (&ExecutionId, u64), cause: &Cause) {
        let held = self.inputs.get(cause.stream, cause.stream_seq);
        let is_early = held.is_some_and(|held| {
            matches!(held.kind, Kind::FiredEarly { .. }) && held.execution.as_ref() == Some(at.0)
        });
        let seq = cause.stream_seq;
        let wrong = is_early.then(|| format!("timers {seq} was stored before it was due"));
        self.findings.expect(Invariant::T1, at, wrong);
    }

    /// A start of a child arrived, of which the child became that of its parent or refused to: it must
    /// have been sent. One is taken once, for its execution remembers who sent it.
    fn child_started(&mut self, at: (&ExecutionId, u64), of: ChildOf) {
        let wrong = match self.starts.remove(&of) {
            None => Some(format!(
                "{} has not started attempt {} of {}, of which it is the child",
                of.parent, of.attempt, of.task
            )),
            Some(child) if child != *at.0 => Some(format!("{} has started {child}", of.parent)),
            Some(_) => None,
        };
        self.findings.expect(Invariant::C1, at, wrong);
    }

    fn effects(&mut self, entry: &JournalEntry) {
        for (effect, index) in entry.effects.iter().zip(0..) {
            if let EffectKind::Send { to, .. } = &effect.kind
                && *to != entry.execution
            {
                let token = Token { entry: entry.seq, index };
                self.sends.insert((entry.execution.clone(), token), to.clone());
            }
            if let EffectKind::ChildStart(start) = &effect.kind {
                let (task, attempt) = (start.task, start.attempt);
                let of = ChildOf { parent: entry.execution.clone(), task, attempt };
                self.starts.insert(of, start.child.clone());
            }
            if let EffectKind::Task(task) = &effect.kind {
                let key = (entry.execution.clone(), task.task, task.attempt);
                if let Some(intended) = self.tasks.get_mut(&key) {
                    *intended = true;
                }
            }
        }
    }

    /// Takes the step again. What cannot be, since an entry before it was damaged, goes on with the
    /// next state that stands in an entry.
    fn replay(&mut self, life: &mut Life, entry: &JournalEntry, is_altered: bool) {
        let resumed = || {
            Replayer::after(entry)
                .map_or(Replay::Waiting, |replayer| Replay::Going(Box::new(replayer)))
        };
        let Replay::Going(replayer) = &mut life.replay else {
            self.not_replayed += 1;
            life.replay = resumed();
            return;
        };
        let follows = entry.seq == replayer.execution().seq + 1
            && entry.prev == replayer.execution().hash
            && !is_altered;
        if !follows {
            self.not_replayed += 1;
            life.replay = resumed();
            return;
        }
        let wrong = match self.templates.get(&entry.template) {
            Some(Ok(template)) => replayer.take(template, entry).err().map(|it| it.to_string()),
            Some(Err(reason)) => Some(format!("its template {}: {reason}", entry.template)),
            None => Some(format!("its template {} is not registered", entry.template)),
        };
        if wrong.is_some() {
            life.replay = resumed();
        }
        self.findings.expect(Invariant::J3, (&entry.execution, entry.seq), wrong);
    }
}

/// When a firing says that it was due.
fn due_of(stored: &Stored) -> Option<Millis> {
    stored.header(DUE)?.parse().ok()
}

/// Whether a cause is an event that another execution sent; parents and children say other things.
fn is_send(cause: &Cause) -> bool {
    let is_own = cause.cause_type.as_str().starts_with("pled.");
    cause.stream == Source::Signals && cause.token.is_none() && !is_own
}

impl States {
    fn hold(&mut self, heard: u64, execution: ExecutionId, bytes: usize) {
        self.bytes += bytes;
        self.by_age.insert(heard, (execution, bytes));
    }

    fn forget(&mut self, heard: u64) {
        if let Some((_, bytes)) = self.by_age.remove(&heard) {
            self.bytes -= bytes;
        }
    }

    fn oldest(&mut self) -> Option<ExecutionId> {
        let (_, (execution, bytes)) = self.by_age.pop_first()?;
        self.bytes -= bytes;
        Some(execution)
    }
}
