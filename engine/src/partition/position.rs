//! The position: how far the inputs are done, written behind with a compare-and-set.

use std::collections::BTreeMap;

use crate::message::INPUTS;

use super::protocol::{Answer, Output, Position, Published};
use super::slots::SlotId;
use super::takeover::name_of;
use super::{Life, Mutation, Partition, Pending};

/// What is to be written, and what is being written.
#[derive(Debug, Default)]
pub(super) struct Writing {
    revision: u64,
    /// Something is done that the written position does not say.
    due: bool,
    /// Only the ends of the streams have moved.
    idle_due: bool,
    /// How many writes were begun, and how many of them are known to be stored.
    begun: u64,
    stored: u64,
    in_flight: bool,
    begun_at: u64,
    /// When it is tried again after one without success.
    wake: Option<u64>,
}

impl Writing {
    pub(super) fn start(&mut self, revision: u64) {
        self.revision = revision;
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The next write that is begun.
    pub(super) fn next(&self) -> u64 {
        self.begun + 1
    }

    pub(super) fn is_due(&self) -> bool {
        self.due || self.idle_due || self.in_flight
    }

    pub(super) fn note_done(&mut self) {
        self.due = true;
    }

    pub(super) fn note_idle(&mut self) {
        self.idle_due = true;
    }

    pub(super) fn abandon(&mut self) {
        self.in_flight = false;
        self.due = true;
    }
}

/// How long a position waits at most in which a verdict stands that is to be acted upon, in
/// milliseconds.
const VERDICT_EVERY_MS: u64 = 10;

/// How much seldomer a position is written of which only the ends of the streams have moved.
const IDLE_FACTOR: u64 = 10;

impl Partition {
    pub(super) fn position_due(&mut self, out: &mut Vec<Output>) {
        let writing = &self.writing;
        let mut every = self.config.position_every_ms;
        if !self.barriers.is_empty() {
            every = every.min(VERDICT_EVERY_MS);
        }
        let pause = if writing.due { every } else { every * IDLE_FACTOR };
        let is_due = writing.due || writing.idle_due;
        let early = writing.begun > 0 && self.now.monotonic < writing.begun_at + pause;
        if is_due && !early && !writing.in_flight && self.may_write_position() {
            self.write_position(out);
        }
    }

    /// Whether no pause after a write without success is under way.
    pub(super) fn may_write_position(&self) -> bool {
        self.writing.wake.is_none_or(|due| due <= self.now.monotonic)
    }

    pub(super) fn write_position(&mut self, out: &mut Vec<Output>) {
        self.writing.begun += 1;
        self.writing.begun_at = self.now.monotonic;
        self.writing.due = false;
        self.writing.idle_due = false;
        self.writing.in_flight = true;
        self.writing.wake = None;
        let position = self.position();
        let revision = self.writing.revision;
        let op = self.expect(Pending::WritePosition);
        self.publish(Output::WritePosition { op, position, revision }, out);
    }

    fn position(&self) -> Position {
        let mut inputs: BTreeMap<_, _> = INPUTS
            .into_iter()
            .zip(&self.inputs)
            .map(|(source, input)| (name_of(source).to_owned(), input.position()))
            .collect();
        if self.config.leaves_out(Mutation::PositionEarly) {
            inputs.values_mut().for_each(|input| input.open.clear());
        }
        Position {
            epoch: self.epoch,
            owner: self.config.worker.to_string(),
            inputs,
            journal: self.journal,
            server: self.server.to_string(),
        }
    }

    pub(super) fn position_written(&mut self, answer: Answer, out: &mut Vec<Output>) {
        match answer {
            Answer::Published(Published::Stored { stream_seq }) => {
                self.position_stored(stream_seq, out);
            }
            Answer::Published(Published::Conflict { .. } | Published::Unknown) => {
                let op = self.expect(Pending::ReadBackPosition);
                out.push(Output::ReadPosition { op });
            }
            Answer::Published(Published::Full | Published::TooLarge | Published::Refused(_))
            | Answer::Position(_)
            | Answer::Streams(_)
            | Answer::Entry(_)
            | Answer::Entries(_)
            | Answer::Message(_)
            | Answer::Template(_)
            | Answer::Found(_)
            | Answer::Failed => self.write_position_later(),
        }
    }

    fn position_stored(&mut self, revision: u64, out: &mut Vec<Output>) {
        self.writing.in_flight = false;
        self.writing.revision = revision;
        self.writing.stored = self.writing.begun;
        self.pass_barriers(out);
    }

    /// Nothing is known of the write: the same again, or what has become of it, after a pause.
    fn write_position_later(&mut self) {
        self.writing.in_flight = false;
        self.writing.due = true;
        self.writing.wake = Some(self.now.monotonic + self.config.position_every_ms.max(20));
        if matches!(self.life, Life::Leaving) {
            self.life = Life::Draining;
        }
    }

    /// The write was stored, or one before it that was thought lost, or another worker's.
    pub(super) fn position_read_back(&mut self, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Position(Some((position, revision))) = answer else {
            return self.write_position_later();
        };
        if position.epoch == self.epoch && *position.owner == *self.config.worker {
            self.writing.revision = revision;
            self.write_position_later();
        } else {
            self.drop_whole("another worker has taken the partition over".into(), out);
        }
    }

    /// Whether the position says what is to become of the message in front; if not its execution
    /// waits for a write of the position.
    pub(super) fn is_settled(&mut self, at: SlotId) -> bool {
        let slot = &mut self.slots[at];
        if slot.settled_by <= self.writing.stored {
            return true;
        }
        self.barriers.insert((slot.settled_by, at));
        self.writing.due = true;
        false
    }

    fn pass_barriers(&mut self, out: &mut Vec<Output>) {
        while let Some(&(serial, at)) = self.barriers.first() {
            if serial > self.writing.stored {
                break;
            }
            self.barriers.pop_first();
            self.publish_set_aside(at, out);
        }
    }
}
