//! How a partition is taken over, compared with the streams, and handed over.
//!
//! Read the position from the leader; write it back with the epoch raised (the fence: of two that
//! take over at once one wins); compare the streams with it; read what was open; then read on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::{INPUTS, Message, Source};

use super::protocol::{Answer, Malformed, Op, Output, Position, Published, StreamFacts, Streams};
use super::{Mutation, Partition, Pending, Progress, STUCK_AFTER, pause};

/// Where a partition is in its life.
#[derive(Debug)]
pub(super) enum Life {
    /// It waits for the lease.
    Waiting,
    /// It takes over.
    Taking(Box<Taking>),
    Running,
    /// It finishes what is in flight, to hand over.
    Draining,
    /// The last position is being written.
    Leaving,
    Over,
}

impl Life {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Draining)
    }
}

/// A takeover.
#[derive(Debug)]
pub(super) struct Taking {
    stage: Stage,
    /// The step that is in flight, where it is one op.
    op: Option<Op>,
    /// When it tries again.
    wake: Option<u64>,
    attempts: u32,
    position: Position,
    /// What was open, as it is read.
    opened: BTreeMap<(Source, u64), Result<Message, Malformed>>,
    /// What of it has to be read again.
    again: Vec<(Source, u64)>,
    /// What of it is being read.
    reading: usize,
}

/// The step of a takeover.
#[derive(Debug)]
enum Stage {
    /// The position is read.
    Read,
    /// It is written back with the epoch raised.
    Fence,
    /// It is read again, since it is not known whether that was stored.
    Confirm,
    /// The streams are compared with it.
    Compare,
    /// What was open is read.
    Open,
    /// It is read again, since something that was open is not there.
    Missing(String),
}

/// A comparison of the streams with what was known when the question was asked.
#[derive(Debug)]
pub(super) struct Recompare {
    op: Option<Op>,
    wake: Option<u64>,
    attempts: u32,
    /// Generation and end of each input.
    inputs: [(u64, u64); 3],
    journal: u64,
}

impl Partition {
    pub(super) fn lease_held(&mut self, until: u64, out: &mut Vec<Output>) {
        self.lease_until = self.lease_until.max(until);
        if matches!(self.life, Life::Waiting) && !self.is_past_margin() {
            self.life = Life::Taking(Box::new(Taking {
                stage: Stage::Read,
                op: None,
                wake: None,
                attempts: 0,
                position: Position::default(),
                opened: BTreeMap::new(),
                again: Vec::new(),
                reading: 0,
            }));
            self.take_step(out);
        }
    }

    /// Puts out what the step of the takeover needs.
    fn take_step(&mut self, out: &mut Vec<Output>) {
        let Life::Taking(taking) = &mut self.life else { return };
        taking.wake = None;
        let op = match &taking.stage {
            Stage::Read | Stage::Confirm | Stage::Missing(_) => {
                let op = self.expect(Pending::Life);
                out.push(Output::ReadPosition { op });
                op
            }
            Stage::Fence => {
                let position = taking.position.clone();
                let revision = self.writing.revision();
                let op = self.expect(Pending::Fence);
                out.push(Output::WritePosition { op, position, revision });
                op
            }
            Stage::Compare => {
                let op = self.expect(Pending::Life);
                out.push(Output::ReadStreams { op });
                op
            }
            Stage::Open => {
                let again = std::mem::take(&mut taking.again);
                taking.reading += again.len();
                for (source, stream_seq) in again {
                    let op = self.expect(Pending::Open(source, stream_seq));
                    out.push(Output::ReadMessage { op, source, stream_seq });
                }
                return;
            }
        };
        if let Life::Taking(taking) = &mut self.life {
            taking.op = Some(op);
        }
    }

    fn take_stage(&mut self, stage: Stage, out: &mut Vec<Output>) {
        if let Life::Taking(taking) = &mut self.life {
            taking.stage = stage;
            self.take_step(out);
        }
    }

    fn take_again_later(&mut self, why: &str, out: &mut Vec<Output>) {
        let Life::Taking(taking) = &mut self.life else { return };
        taking.wake.get_or_insert(self.now.monotonic + pause(taking.attempts));
        taking.attempts += 1;
        if taking.attempts == STUCK_AFTER {
            out.push(Output::Stuck { execution: None, reason: format!("takeover: {why}") });
        }
    }

    pub(super) fn life_answered(&mut self, answer: Answer, out: &mut Vec<Output>) {
        let Life::Taking(taking) = &mut self.life else { return };
        match (&mut taking.stage, answer) {
            (Stage::Read, Answer::Position(Some((position, revision)))) => {
                self.begin_fence(position, revision, out);
            }
            (Stage::Confirm, Answer::Position(Some((position, revision)))) => {
                self.confirm_fence(position, revision, out);
            }
            (Stage::Missing(reason), Answer::Position(Some((position, _)))) => {
                let reason = std::mem::take(reason);
                if position.epoch == self.epoch {
                    self.halt(reason, out);
                } else {
                    self.drop_whole("another worker has taken the partition over".into(), out);
                }
            }
            (Stage::Read | Stage::Confirm | Stage::Missing(_), Answer::Position(None)) => {
                let partition = self.config.partition;
                self.halt(
                    format!(
                        "the position of partition {partition} is not there: run `pled init`, or \
                         `pled recover` where there was one"
                    ),
                    out,
                );
            }
            (Stage::Compare, Answer::Streams(streams)) => self.compare(streams, out),
            (_, _) => self.take_again_later("a read failed", out),
        }
    }

    fn begin_fence(&mut self, position: Position, revision: u64, out: &mut Vec<Output>) {
        self.epoch = position.epoch + 1;
        self.writing.start(revision);
        if let Life::Taking(taking) = &mut self.life {
            taking.position =
                Position { epoch: self.epoch, owner: self.config.worker.to_string(), ..position };
        }
        self.take_stage(Stage::Fence, out);
    }

    pub(super) fn fence_answered(&mut self, answer: Answer, out: &mut Vec<Output>) {
        match answer {
            Answer::Published(Published::Stored { stream_seq }) => {
                self.writing.start(stream_seq);
                self.take_stage(Stage::Compare, out);
            }
            Answer::Published(Published::Conflict { .. } | Published::Unknown) => {
                self.take_stage(Stage::Confirm, out);
            }
            Answer::Published(Published::Full | Published::TooLarge | Published::Refused(_))
            | Answer::Position(_)
            | Answer::Streams(_)
            | Answer::Entry(_)
            | Answer::Entries(_)
            | Answer::Message(_)
            | Answer::Template(_)
            | Answer::Found(_)
            | Answer::Failed => self.take_again_later("the position cannot be written", out),
        }
    }

    /// The fence was written, or another's, or none: the position tells.
    fn confirm_fence(&mut self, position: Position, revision: u64, out: &mut Vec<Output>) {
        if position.epoch == self.epoch && *position.owner == *self.config.worker {
            self.writing.start(revision);
            if let Life::Taking(taking) = &mut self.life {
                taking.position = position;
            }
            self.take_stage(Stage::Compare, out);
        } else if position.epoch < self.epoch {
            self.begin_fence(position, revision, out);
        } else {
            self.drop_whole("another worker has taken the partition over".into(), out);
        }
    }

    /// Compares the streams with the position as it was taken over.
    fn compare(&mut self, streams: Streams, out: &mut Vec<Output>) {
        let Life::Taking(taking) = &mut self.life else { return };
        let facts = [streams.events, streams.signals, streams.timers];
        for (source, facts) in INPUTS.into_iter().zip(facts) {
            let known = taking.position.inputs.get(name_of(source));
            if let Some(known) = known
                && let Some(reason) =
                    behind(source, facts, known.generation, known.next.saturating_sub(1))
            {
                return self.halt(reason, out);
            }
        }
        if let Some(reason) = journal_behind(streams.journal, taking.position.journal) {
            return self.halt(reason, out);
        }
        self.journal = taking.position.journal;
        self.inputs = [0, 1, 2].map(|index: usize| {
            let known = taking.position.inputs.get(name_of(INPUTS[index]));
            Progress::resume(known, facts[index])
        });
        if self.config.leaves_out(Mutation::OpenForgotten) {
            for input in &mut self.inputs {
                let open: Vec<u64> = input.open().collect();
                open.into_iter().for_each(|seq| input.done(seq));
            }
        }
        taking.again = INPUTS
            .into_iter()
            .zip(&self.inputs)
            .flat_map(|(source, input)| input.open().map(move |seq| (source, seq)))
            .collect();
        if taking.again.is_empty() {
            self.begin(BTreeMap::new(), out);
        } else {
            self.take_stage(Stage::Open, out);
        }
    }

    pub(super) fn open_answered(
        &mut self,
        source: Source,
        seq: u64,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        let Life::Taking(taking) = &mut self.life else { return };
        taking.reading -= 1;
        match answer {
            Answer::Message(Some(message)) => {
                taking.opened.insert((source, seq), *message);
            }
            Answer::Message(None) => {
                let reason = format!(
                    "message {seq} of the stream of {} is open in the position of partition {} \
                     and not there any more: the stream lost it; run `pled recover`",
                    name_of(source),
                    self.config.partition
                );
                return self.take_stage(Stage::Missing(reason), out);
            }
            Answer::Position(_)
            | Answer::Streams(_)
            | Answer::Entry(_)
            | Answer::Entries(_)
            | Answer::Template(_)
            | Answer::Found(_)
            | Answer::Published(_)
            | Answer::Failed => {
                taking.again.push((source, seq));
                return self.take_again_later("an open message cannot be read", out);
            }
        }
        if taking.reading == 0 && taking.again.is_empty() && matches!(taking.stage, Stage::Open) {
            let opened = std::mem::take(&mut taking.opened);
            self.begin(opened, out);
        }
    }

    fn begin(
        &mut self,
        opened: BTreeMap<(Source, u64), Result<Message, Malformed>>,
        out: &mut Vec<Output>,
    ) {
        self.life = Life::Running;
        self.writing.note_idle();
        for (source, input) in INPUTS.into_iter().zip(&self.inputs) {
            out.push(Output::Subscribe { source, from: input.next() });
        }
        for ((source, seq), message) in opened {
            self.enqueue(source, seq, message, out);
        }
    }

    pub(super) fn life_keep_time(&mut self, out: &mut Vec<Output>) {
        let now = self.now.monotonic;
        if let Life::Taking(taking) = &self.life
            && taking.wake.is_some_and(|due| due <= now)
        {
            self.take_step(out);
        }
        if let Some(recompare) = &self.recompare
            && recompare.wake.is_some_and(|due| due <= now)
        {
            self.ask_streams(out);
        }
    }

    /// Takes note of the server's identity. Another than before may have lost what was
    /// acknowledged: nothing is published until the streams are compared again.
    pub(super) fn connected(&mut self, server: Arc<str>, out: &mut Vec<Output>) {
        let known = std::mem::replace(&mut self.server, server);
        if known.is_empty()
            || known == self.server
            || self.config.leaves_out(Mutation::ServerUncompared)
        {
            return;
        }
        match &mut self.life {
            Life::Waiting | Life::Over => {}
            Life::Taking(taking) => match taking.stage {
                Stage::Read | Stage::Fence | Stage::Confirm | Stage::Missing(_) => {}
                Stage::Compare => {
                    if let Some(op) = taking.op.take() {
                        self.ops.remove(&op);
                    }
                    self.take_step(out);
                }
                Stage::Open => self.begin_recompare(out),
            },
            Life::Running | Life::Draining | Life::Leaving => self.begin_recompare(out),
        }
    }

    fn begin_recompare(&mut self, out: &mut Vec<Output>) {
        if let Some(op) = self.recompare.take().and_then(|earlier| earlier.op) {
            self.ops.remove(&op);
        }
        let inputs = [0, 1, 2].map(|index: usize| known_end(&self.inputs[index]));
        let journal = self.journal;
        self.recompare = Some(Recompare { op: None, wake: None, attempts: 0, inputs, journal });
        self.ask_streams(out);
    }

    fn ask_streams(&mut self, out: &mut Vec<Output>) {
        let op = self.expect(Pending::Recompare);
        if let Some(recompare) = &mut self.recompare {
            recompare.op = Some(op);
            recompare.wake = None;
        }
        out.push(Output::ReadStreams { op });
    }

    pub(super) fn recompare_answered(&mut self, answer: Answer, out: &mut Vec<Output>) {
        let Some(recompare) = &mut self.recompare else { return };
        if self.config.leaves_out(Mutation::ComparedWithNewer) {
            recompare.inputs = [0, 1, 2].map(|index: usize| known_end(&self.inputs[index]));
            recompare.journal = self.journal;
        }
        let Answer::Streams(streams) = answer else {
            recompare.wake = Some(self.now.monotonic + pause(recompare.attempts));
            recompare.attempts += 1;
            return;
        };
        let facts = [streams.events, streams.signals, streams.timers];
        for ((source, facts), (generation, end)) in
            INPUTS.into_iter().zip(facts).zip(recompare.inputs)
        {
            if let Some(reason) = behind(source, facts, generation, end) {
                return self.halt(reason, out);
            }
        }
        if let Some(reason) = journal_behind(streams.journal, recompare.journal) {
            return self.halt(reason, out);
        }
        for (input, facts) in self.inputs.iter_mut().zip(facts) {
            input.reaches(facts.last);
        }
        self.recompare = None;
        self.writing.note_idle();
        out.append(&mut self.held_back);
    }

    pub(super) fn drain(&mut self, out: &mut Vec<Output>) {
        match &self.life {
            Life::Waiting | Life::Taking(_) => self.end(Output::Release, out),
            Life::Running => {
                self.life = Life::Draining;
                self.all_snapshots(out);
            }
            Life::Draining | Life::Leaving | Life::Over => {}
        }
    }

    /// Goes on with the hand-over where nothing that was published is unanswered. What waits for
    /// room in a stream stays open, for the next owner.
    pub(super) fn finish_drain(&mut self, out: &mut Vec<Output>) {
        if self.publishing > 0 || self.recompare.is_some() {
            return;
        }
        if matches!(self.life, Life::Draining) && self.may_write_position() {
            self.life = Life::Leaving;
            self.write_position(out);
        } else if matches!(self.life, Life::Leaving) {
            self.end(Output::Release, out);
        }
    }

    /// What a wrong worker would do past the margin of its lease: forget what is in flight, keep
    /// the rest, and go on when the lease is renewed.
    pub(super) fn break_off(&mut self) {
        self.lease_until = 0;
        self.abandon_jobs();
    }
}

/// The name of an input in the position.
pub(super) fn name_of(source: Source) -> &'static str {
    match source {
        Source::Events => "events",
        Source::Signals => "signals",
        Source::Timers => "timers",
        Source::Own => "self",
    }
}

/// The generation of an input, and how far it was read.
fn known_end(input: &Progress) -> (u64, u64) {
    (input.generation(), input.next().saturating_sub(1))
}

fn behind(source: Source, facts: StreamFacts, generation: u64, end: u64) -> Option<String> {
    let name = name_of(source);
    if facts.generation != generation {
        Some(format!(
            "the stream of {name} is of generation {}, the position of {generation}: it is another \
             stream, or a recovery is not complete; run `pled recover`",
            facts.generation
        ))
    } else if facts.last < end {
        Some(format!(
            "the stream of {name} ends at {}, but {end} was read from it: acknowledged messages \
             are lost; run `pled recover`",
            facts.last
        ))
    } else {
        None
    }
}

fn journal_behind(facts: StreamFacts, journal: u64) -> Option<String> {
    (facts.last < journal).then(|| {
        format!(
            "PLED_JOURNAL ends at {}, but {journal} was acknowledged: entries are lost; run \
             `pled recover`",
            facts.last
        )
    })
}
