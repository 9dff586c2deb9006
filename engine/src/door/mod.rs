//! The ingest door of one partition as a state machine without I/O, clock or randomness, as
//! [`crate::partition`] is one: `handle(input, now) -> outputs`.
//!
//! It takes the partition over (reads the position, raises its epoch, compares the stream), then
//! evaluates raw events in order (`emit`), puts out what the rules emit in order for each execution
//! (`outbox`), and moves the position when all of it is stored (`progress`). A door lives once, and
//! ends with [`Output::Release`], [`Output::Dropped`] or [`Output::Halt`].
//!
//! What holds at every moment:
//! - The position passes an event only when all that it becomes is stored.
//! - Of two messages for one execution the second goes out when the first is stored. So what a
//!   receiver has taken of this sender is always all up to there, and whatever is emitted once more
//!   after a crash is a repeat for it or what comes next.

mod emit;
mod outbox;
mod progress;
mod protocol;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::ExecutionId;
use crate::partition::{DeadReason, InputPosition, Malformed, Position, Published, StreamFacts};
use crate::rule::RawEvent;
use crate::template::Template;

use outbox::Outbox;
use progress::Progress;

pub use emit::{Becomes, Emitted, evaluate};
#[doc(hidden)]
pub use protocol::Mutation;
pub use protocol::{Answer, Aside, Config, Input, Op, Output, generation_at};

/// The name of the input in the position.
const INPUT: &str = "ingest";
/// Pauses between attempts, in milliseconds.
const PAUSES: (u64, u64) = (25, 1_000);

/// Where a door is in its life.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    /// It waits for the lease.
    Waiting,
    /// It reads the position.
    Reading,
    /// It writes the position with its epoch raised.
    Fencing,
    /// It compares the stream with the position.
    Comparing,
    /// It waits for the templates: before all are there an event could be taken for one that no rule
    /// wants.
    Learning,
    Running,
    Over,
}

/// What an answer is for.
#[derive(Debug)]
enum Pending {
    Life,
    Emit(ExecutionId),
    Aside(u64),
    /// The position was written up to here.
    Position,
    /// The stream is compared once more; it had reached this.
    Compare(u64),
}

/// What is tried again after a pause.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Emit(ExecutionId),
    Aside(u64),
    Compare,
}

/// The door of one ingest partition. See the module.
#[derive(Debug)]
pub struct Door {
    config: Config,
    life: Life,
    now: u64,
    /// Until when the lease is held; 0: not at all.
    lease_until: u64,
    server: Arc<str>,
    templates: Option<Arc<[Arc<Template>]>>,
    position: Position,
    revision: u64,
    generation: u64,
    /// Where each generation after the first begins.
    begins: Vec<u64>,
    progress: Progress,
    outbox: Outbox,
    asides: BTreeMap<u64, (Aside, u32)>,
    next_aside: u64,
    next_op: Op,
    ops: BTreeMap<Op, Pending>,
    wakes: BTreeSet<(u64, Wake)>,
    /// Whether a comparison with the stream is under way: nothing is published meanwhile.
    comparing: bool,
    /// What waits for that.
    held_back: BTreeSet<Wake>,
    writing: bool,
    written_at: u64,
    draining: bool,
}

impl Door {
    /// One that waits for its lease.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            life: Life::Waiting,
            now: 0,
            lease_until: 0,
            server: Arc::from(""),
            templates: None,
            position: Position::default(),
            revision: 0,
            generation: 0,
            begins: Vec::new(),
            progress: Progress::new(1),
            outbox: Outbox::default(),
            asides: BTreeMap::new(),
            next_aside: 1,
            next_op: 1,
            ops: BTreeMap::new(),
            wakes: BTreeSet::new(),
            comparing: false,
            held_back: BTreeSet::new(),
            writing: false,
            written_at: 0,
            draining: false,
        }
    }

    /// Takes what happened and appends what is to be done. `now`, on the own monotonic clock in
    /// milliseconds, never decreases.
    pub fn handle(&mut self, input: Input, now: u64, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        self.now = now;
        if self.lease_until > 0 && now + self.config.lease_margin_ms >= self.lease_until {
            return self.dropped("the lease ran out before it was renewed".into(), out);
        }
        match input {
            Input::LeaseHeld { until } => self.lease_held(until, out),
            Input::LeaseLost => self.dropped("the lease is another's".into(), out),
            Input::Drain => self.drain(out),
            Input::Connected { server } => self.connected(server, out),
            Input::Templates(templates) => {
                self.templates = Some(templates);
                self.learned(out);
            }
            Input::Arrived { stream_seq, event } => self.arrived(stream_seq, event, out),
            Input::CaughtUp { stream_last } => {
                if self.life == Life::Running {
                    self.progress.caught_up(stream_last);
                }
            }
            Input::Answer { op, answer } => self.answered(op, answer, out),
            Input::Tick => {}
        }
        self.keep_time(out);
    }

    /// Whether more events are wanted now.
    #[must_use]
    pub fn wants(&self) -> bool {
        self.life == Life::Running
            && !self.draining
            && !self.comparing
            && self.progress.open() < self.config.open_max
            && self.outbox.bytes() < self.config.waiting_bytes
    }

    /// Whether it has ended: no more outputs follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life == Life::Over
    }

    /// Whether it runs and nothing is open, in flight or to be written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.life == Life::Running
            && self.progress.open() == 0
            && self.ops.is_empty()
            && self.is_written()
    }

    fn lease_held(&mut self, until: u64, out: &mut Vec<Output>) {
        self.lease_until = self.lease_until.max(until);
        if self.life == Life::Waiting {
            self.life = Life::Reading;
            let op = self.expect(Pending::Life);
            out.push(Output::ReadPosition { op });
        }
    }

    fn drain(&mut self, out: &mut Vec<Output>) {
        self.draining = true;
        if self.life != Life::Running {
            self.end(Output::Release, out);
        }
    }

    fn answered(&mut self, op: Op, answer: Answer, out: &mut Vec<Output>) {
        let Some(pending) = self.ops.remove(&op) else { return };
        match pending {
            Pending::Life => self.life_answered(answer, out),
            Pending::Emit(execution) => self.emitted(execution, answer, out),
            Pending::Aside(id) => self.aside_answered(id, answer, out),
            Pending::Position => self.position_written(answer, out),
            Pending::Compare(known) => self.compared(known, answer, out),
        }
    }

    fn life_answered(&mut self, answer: Answer, out: &mut Vec<Output>) {
        let number = self.config.partition;
        match (&self.life, answer) {
            (Life::Reading, Answer::Position(Some((position, revision)))) => {
                let owner = self.config.worker.to_string();
                self.position = Position { epoch: position.epoch + 1, owner, ..position };
                self.life = Life::Fencing;
                let position = self.position.clone();
                let op = self.expect(Pending::Life);
                out.push(Output::WritePosition { op, position, revision });
            }
            (Life::Reading, Answer::Position(None)) => {
                let reason = format!(
                    "the position of ingest partition {number} is not there: run `pled init`, or \
                     `pled recover` where there was one"
                );
                self.end(Output::Halt { reason }, out);
            }
            (Life::Fencing, Answer::Published(Published::Stored { stream_seq })) => {
                self.revision = stream_seq;
                self.life = Life::Comparing;
                let op = self.expect(Pending::Life);
                out.push(Output::ReadStream { op });
            }
            (Life::Comparing, Answer::Stream { facts, begins }) => {
                let input = self.position.inputs.get(INPUT).cloned().unwrap_or_default();
                let reached = input.next.saturating_sub(1);
                if facts.generation < input.generation || facts.last < reached {
                    let reason = behind(number, reached, facts);
                    return self.end(Output::Halt { reason }, out);
                }
                self.generation = facts.generation;
                self.begins = begins;
                self.progress = Progress::new(input.next.max(1));
                self.life = Life::Learning;
                self.learned(out);
            }
            // Whoever takes it over next begins with what is there then.
            (_, _) => self.dropped("it could not be taken over".into(), out),
        }
    }

    fn learned(&mut self, out: &mut Vec<Output>) {
        if self.life == Life::Learning && self.templates.is_some() {
            self.life = Life::Running;
            out.push(Output::Subscribe { from: self.progress.next() });
        }
    }

    fn arrived(
        &mut self,
        stream_seq: u64,
        event: Result<RawEvent, Malformed>,
        out: &mut Vec<Output>,
    ) {
        if self.life != Life::Running || self.progress.was_seen(stream_seq) {
            return;
        }
        let Becomes { messages, set_aside } = match event {
            Ok(event) => {
                evaluate(self.templates.as_deref().unwrap_or_default(), stream_seq, &event)
            }
            Err(malformed) => Becomes {
                messages: Vec::new(),
                set_aside: vec![(malformed.reason, malformed.detail)],
            },
        };
        self.progress.begin(stream_seq, messages.len() + set_aside.len());
        for emitted in messages {
            let execution = emitted.execution.clone();
            let is_first = self.outbox.push(emitted);
            if is_first {
                self.emit(execution, out);
            } else if self.config.leaves_out(Mutation::AllAtOnce) {
                self.emit_last(&execution, out);
            }
        }
        for (reason, detail) in set_aside {
            self.begin_aside(stream_seq, reason, detail, None, out);
        }
    }

    /// Puts out the first message of an execution.
    fn emit(&mut self, execution: ExecutionId, out: &mut Vec<Output>) {
        if self.comparing {
            self.held_back.insert(Wake::Emit(execution));
            return;
        }
        let Some(emitted) = self.outbox.first(&execution).cloned() else { return };
        let sender = self.sender_of(emitted.place.0);
        let op = self.expect(Pending::Emit(execution));
        out.push(Output::Emit { op, sender, emitted });
    }

    /// Puts out a message that has to wait for another (the trap `AllAtOnce`).
    fn emit_last(&mut self, execution: &ExecutionId, out: &mut Vec<Output>) {
        if let Some(emitted) = self.outbox.last(execution).cloned() {
            let sender = self.sender_of(emitted.place.0);
            out.push(Output::Emit { op: 0, sender, emitted });
        }
    }

    fn emitted(&mut self, execution: ExecutionId, answer: Answer, out: &mut Vec<Output>) {
        match answer {
            Answer::Published(Published::Stored { .. }) => self.finish_first(execution, out),
            Answer::Published(Published::Unknown)
                if self.config.leaves_out(Mutation::UnknownIsStored) =>
            {
                self.finish_first(execution, out);
            }
            Answer::Published(Published::TooLarge) => {
                if let Some(seq) = self.outbox.first(&execution).map(|emitted| emitted.place.0) {
                    let detail = format!("what it becomes for {execution} is too large to be sent");
                    self.progress.add_part(seq);
                    let for_whom = Some(execution.clone());
                    self.begin_aside(seq, DeadReason::TooLarge, detail, for_whom, out);
                }
                self.finish_first(execution, out);
            }
            // The message stays the first of its execution until it is stored, so that a full
            // stream slows reading down and loses nothing.
            Answer::Published(
                Published::Full
                | Published::Unknown
                | Published::Conflict { .. }
                | Published::Refused(_),
            )
            | Answer::Position(_)
            | Answer::Stream { .. }
            | Answer::Failed => {
                let due = self.now + pause(self.outbox.failed(&execution));
                self.wakes.insert((due, Wake::Emit(execution)));
            }
        }
    }

    /// The first message of an execution needs nothing more; the next one goes out.
    fn finish_first(&mut self, execution: ExecutionId, out: &mut Vec<Output>) {
        if let Some(emitted) = self.outbox.pop(&execution) {
            self.progress.part_done(emitted.place.0);
        }
        if self.outbox.first(&execution).is_some() {
            self.emit(execution, out);
        }
    }

    fn begin_aside(
        &mut self,
        stream_seq: u64,
        reason: DeadReason,
        detail: String,
        execution: Option<ExecutionId>,
        out: &mut Vec<Output>,
    ) {
        let generation = self.generation;
        let id = self.next_aside;
        self.next_aside += 1;
        self.asides.insert(id, (Aside { reason, detail, execution, generation, stream_seq }, 0));
        self.set_aside(id, out);
    }

    fn set_aside(&mut self, id: u64, out: &mut Vec<Output>) {
        if self.comparing {
            self.held_back.insert(Wake::Aside(id));
            return;
        }
        let Some((aside, attempt)) = self.asides.get(&id) else { return };
        let (aside, again) = (aside.clone(), *attempt > 0);
        let op = self.expect(Pending::Aside(id));
        out.push(Output::SetAside { op, aside, again });
    }

    fn aside_answered(&mut self, id: u64, answer: Answer, out: &mut Vec<Output>) {
        let Some((aside, attempts)) = self.asides.get_mut(&id) else { return };
        match answer {
            Answer::Published(Published::Stored { .. } | Published::Conflict { .. }) => {}
            // Events that nobody wants are only counted where there is no room for them.
            Answer::Published(Published::Full) if aside.reason == DeadReason::Unmatched => {}
            Answer::Published(
                Published::Full | Published::Unknown | Published::TooLarge | Published::Refused(_),
            )
            | Answer::Position(_)
            | Answer::Stream { .. }
            | Answer::Failed => {
                *attempts = attempts.saturating_add(1);
                let (attempts, seq) = (*attempts, aside.stream_seq);
                self.wakes.insert((self.now + pause(attempts), Wake::Aside(id)));
                if attempts == STUCK_AFTER {
                    let reason = format!("event {seq} cannot be set aside");
                    out.push(Output::Stuck { reason });
                }
                return;
            }
        }
        let seq = aside.stream_seq;
        self.asides.remove(&id);
        self.progress.part_done(seq);
    }

    /// Who emits what the raw event at a sequence becomes: another one in each generation, for the
    /// sequences of a life that was lost come again.
    fn sender_of(&self, stream_seq: u64) -> Arc<str> {
        let number = self.config.partition;
        match generation_at(&self.begins, stream_seq) {
            0 | 1 => format!("rules-{number}").into(),
            generation => format!("rules-{number}-g{generation}").into(),
        }
    }

    /// Another server may have lost what was acknowledged: nothing is published until the stream is
    /// compared.
    fn connected(&mut self, server: Arc<str>, out: &mut Vec<Output>) {
        let known = std::mem::replace(&mut self.server, server);
        if known.is_empty() || known == self.server {
            return;
        }
        match self.life {
            Life::Waiting | Life::Over => {}
            Life::Reading | Life::Fencing | Life::Comparing | Life::Learning => {
                self.dropped("the server changed while it was taken over".into(), out);
            }
            Life::Running => {
                self.comparing = true;
                self.compare(out);
            }
        }
    }

    fn compare(&mut self, out: &mut Vec<Output>) {
        self.ops.retain(|_, pending| !matches!(pending, Pending::Compare(_)));
        let known = self.progress.seen().saturating_sub(1);
        let op = self.expect(Pending::Compare(known));
        out.push(Output::ReadStream { op });
    }

    fn compared(&mut self, known: u64, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Stream { facts, .. } = answer else {
            self.wakes.insert((self.now + PAUSES.1, Wake::Compare));
            return;
        };
        if facts.last < known {
            let reason = behind(self.config.partition, known, facts);
            return self.end(Output::Halt { reason }, out);
        }
        if facts.generation != self.generation {
            return self.dropped("the generation of PLED_INGEST has changed".into(), out);
        }
        self.comparing = false;
        for held in std::mem::take(&mut self.held_back) {
            self.wake(held, out);
        }
    }

    /// Does what has come due.
    fn keep_time(&mut self, out: &mut Vec<Output>) {
        while let Some((due, _)) = self.wakes.first()
            && *due <= self.now
            && !self.is_over()
        {
            if let Some((_, wake)) = self.wakes.pop_first() {
                self.wake(wake, out);
            }
        }
        if self.life != Life::Running {
            return;
        }
        self.write_position(out);
        if self.draining && self.progress.open() == 0 && self.is_written() {
            self.end(Output::Release, out);
        }
    }

    fn wake(&mut self, wake: Wake, out: &mut Vec<Output>) {
        match wake {
            Wake::Emit(execution) => self.emit(execution, out),
            Wake::Aside(id) => self.set_aside(id, out),
            Wake::Compare if self.comparing => self.compare(out),
            Wake::Compare => {}
        }
    }

    /// Writes the position if it has moved and the last write was not a moment ago.
    fn write_position(&mut self, out: &mut Vec<Output>) {
        let due = self.draining || self.now >= self.written_at + self.config.position_every_ms;
        if self.writing || self.comparing || !due || self.is_written() {
            return;
        }
        let next = self.reached();
        let input = InputPosition { generation: self.generation, next, ..InputPosition::default() };
        self.position.inputs.insert(INPUT.to_owned(), input);
        self.position.server = self.server.to_string();
        self.writing = true;
        let (position, revision) = (self.position.clone(), self.revision);
        let op = self.expect(Pending::Position);
        out.push(Output::WritePosition { op, position, revision });
    }

    /// Below which sequence all is done.
    fn reached(&self) -> u64 {
        if self.config.leaves_out(Mutation::PositionEarly) {
            self.progress.seen()
        } else {
            self.progress.next()
        }
    }

    fn is_written(&self) -> bool {
        let input = self.position.inputs.get(INPUT);
        !self.writing
            && input.is_some_and(|input| {
                input.next == self.reached() && input.generation == self.generation
            })
    }

    fn position_written(&mut self, answer: Answer, out: &mut Vec<Output>) {
        self.writing = false;
        self.written_at = self.now;
        match answer {
            Answer::Published(Published::Stored { stream_seq }) => self.revision = stream_seq,
            Answer::Published(Published::Conflict { .. }) => {
                self.dropped("another worker has taken the partition over".into(), out);
            }
            // Taking it over again tells what is there.
            Answer::Published(
                Published::Unknown | Published::Full | Published::TooLarge | Published::Refused(_),
            )
            | Answer::Position(_)
            | Answer::Stream { .. }
            | Answer::Failed => self.dropped("the position was not written".into(), out),
        }
    }

    fn expect(&mut self, pending: Pending) -> Op {
        let op = self.next_op;
        self.next_op += 1;
        self.ops.insert(op, pending);
        op
    }

    fn dropped(&mut self, reason: String, out: &mut Vec<Output>) {
        self.end(Output::Dropped { reason }, out);
    }

    fn end(&mut self, last: Output, out: &mut Vec<Output>) {
        if !self.is_over() {
            *self = Self { life: Life::Over, ..Self::new(self.config.clone()) };
            out.push(last);
        }
    }
}

/// After how many attempts something counts as stuck.
const STUCK_AFTER: u32 = 10;

fn behind(number: u16, reached: u64, facts: StreamFacts) -> String {
    format!(
        "PLED_INGEST ends at {} (generation {}), but the position of ingest partition {number} has \
         reached {reached}: acknowledged events are lost; run `pled recover`",
        facts.last, facts.generation
    )
}

fn pause(attempts: u32) -> u64 {
    (PAUSES.0 << attempts.min(6)).min(PAUSES.1)
}
