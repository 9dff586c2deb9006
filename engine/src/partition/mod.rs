//! The commit protocol of one partition (DESIGN section 5) as a state machine without I/O, clock
//! or randomness: `handle(input, now) -> outputs`.
//!
//! The shell in `workers/` performs the outputs and feeds back what happened; it decides nothing.
//!
//! A partition lives once: it takes over (`takeover`: read the position, fence, compare), runs,
//! and ends with [`Output::Release`], [`Output::Dropped`] or [`Output::Halt`]; to take the
//! partition again the shell makes a new one. While it runs, each execution for which something
//! waits has one job at a time, in this order: load (`load`), judge (`judge`), commit
//! (`commit`), dispatch (`dispatch`); then its messages are done, and the position
//! (`position`) follows. What cannot be taken is set aside (`set_aside`).
//!
//! What holds at every moment:
//! - A message that arrived is open until the entry that takes it is committed and dispatched, or
//!   until it got a verdict that cannot change; only then may the position pass it.
//! - Only the newest entry of an execution can be undispatched, since nothing is judged over an
//!   entry that was loaded before it is known to be dispatched.
//! - Nothing is decided on top of a publish whose end is unknown: it is read back, then published
//!   again, the same bytes.

mod commit;
mod core;
mod dispatch;
mod judge;
mod load;
mod mutation;
mod position;
mod progress;
mod protocol;
mod set_aside;
mod slots;
mod takeover;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::id::TemplateRef;
use crate::message::{Message, Millis, Source};
use crate::template::Template;

use position::Writing;
use progress::Progress;
use set_aside::Loose;
use slots::{Job, SlotId, Slots};
use takeover::{Life, Recompare};
use timers::NearTimers;

#[doc(hidden)]
pub use mutation::Mutation;
pub use protocol::{
    Answer, AsideVerdict, DeadReason, Find, Input, InputPosition, Loaded, Malformed, Now, Op,
    Output, Position, Publish, Published, Reply, Snapshot, StreamFacts, Streams, TaskMessage,
};

/// What a partition is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which partition.
    pub partition: u16,
    /// Who owns it: the worker's id, unique among living processes.
    pub worker: Arc<str>,
    /// The largest entry, half of the server's `max_payload`.
    pub max_entry_bytes: usize,
    /// How many messages of one input may be open before no more are taken.
    pub open_max: usize,
    /// How many bytes of waiting messages there may be before no more are taken.
    pub waiting_bytes: usize,
    /// How many messages one step takes at most.
    pub step_max: usize,
    /// How many bytes of executions are kept, approximately.
    pub cache_bytes: usize,
    /// How often the position is written at most, in milliseconds.
    pub position_every_ms: u64,
    /// How long before the end of the lease the partition is given up, in milliseconds.
    pub lease_margin_ms: u64,
    /// How long a snapshot waits for a newer one, in milliseconds; 0: none are written.
    pub snapshot_after_ms: u64,
    /// How many timers are fired in process; the others are left to their schedules.
    pub near_timers_max: usize,
    /// A rule that is left out, to show that the simulation finds what comes of it.
    #[cfg(feature = "mutations")]
    #[doc(hidden)]
    pub mutation: Option<Mutation>,
}

impl Config {
    /// The defaults for `partition`, owned by `worker`.
    #[must_use]
    pub fn new(partition: u16, worker: Arc<str>) -> Self {
        Self {
            partition,
            worker,
            max_entry_bytes: 512 * 1024,
            open_max: 1_000,
            waiting_bytes: 64 * 1024 * 1024,
            step_max: 256,
            cache_bytes: 64 * 1024 * 1024,
            position_every_ms: 100,
            lease_margin_ms: 1_000,
            snapshot_after_ms: 100,
            near_timers_max: 200_000,
            #[cfg(feature = "mutations")]
            mutation: None,
        }
    }
}

/// What a partition counted since it was made, and how much it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that arrived.
    pub arrived: u64,
    /// Entries that were committed.
    pub entries: u64,
    /// Messages that those took.
    pub taken: u64,
    /// Of those, what nothing in the template wanted.
    pub ignored: u64,
    /// Of those, what was rejected.
    pub rejected: u64,
    /// Messages that had been taken before.
    pub repeats: u64,
    /// Starts of executions that were there already.
    pub exists: u64,
    /// Timers and results that nothing waited for any more.
    pub stale: u64,
    /// Messages after the end of their execution.
    pub closed: u64,
    /// Messages that were set aside.
    pub dead: u64,
    /// Commits that another writer won.
    pub conflicts: u64,
    /// Publishes that were not answered.
    pub unknown: u64,
    /// Publishes that were refused because a stream is full.
    pub full: u64,
    /// Entries that were dispatched again.
    pub redispatched: u64,
    /// Tasks that were handed out.
    pub tasks: u64,
    /// Timers that were fired in process.
    pub fired: u64,
    /// Timers that had fired before they were due, and were set again.
    pub early: u64,
    /// Executions that were read from the journal.
    pub loads: u64,
    /// Executions that are stuck now.
    pub stuck: u64,
    /// Messages that are open now.
    pub open: u64,
    /// Executions with a job now.
    pub busy: u64,
    /// Executions that are held now, busy ones not counted.
    pub cached: u64,
    /// Their bytes, approximately.
    pub cached_bytes: u64,
    /// Timers that are held in process now.
    pub near_timers: u64,
}

/// The commit protocol of one partition. See the module.
#[derive(Debug)]
pub struct Partition {
    config: Config,
    life: Life,
    /// Until when the lease is held, on the own monotonic clock; 0: not at all.
    lease_until: u64,
    now: Now,
    server: Arc<str>,
    /// A comparison that must end well before anything more is published.
    recompare: Option<Recompare>,
    /// What waits for it.
    held_back: Vec<Output>,
    epoch: u64,
    next_op: Op,
    ops: BTreeMap<Op, Pending>,
    /// How many of `ops` publish.
    publishing: usize,
    /// By [`index_of`].
    inputs: [Progress; 3],
    /// The last acknowledged stream sequence in PLED_JOURNAL.
    journal: u64,
    writing: Writing,
    slots: Slots,
    waiting_bytes: usize,
    /// When which execution tries again, on the own monotonic clock.
    wakes: BTreeSet<(u64, SlotId)>,
    /// Which executions wait until an input, by [`index_of`], is read beyond a sequence.
    ends: [BTreeSet<(u64, SlotId)>; 2],
    /// Which executions wait for a write of the position, in which a verdict stands.
    barriers: BTreeSet<(u64, SlotId)>,
    /// Malformed messages on their way to PLED_DEAD.
    loose: BTreeMap<(Source, u64), Loose>,
    loose_wakes: BTreeSet<(u64, Source, u64)>,
    templates: BTreeMap<TemplateRef, Arc<Template>>,
    near: NearTimers,
    /// Executions whose snapshot is due, in order of time.
    snapshots: VecDeque<(u64, SlotId)>,
    stats: Stats,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug)]
enum Pending {
    /// The step of the takeover.
    Life,
    /// The write of the fence.
    Fence,
    /// An open message.
    Open(Source, u64),
    Recompare,
    WritePosition,
    ReadBackPosition,
    Load(SlotId),
    Fold(SlotId),
    Bounds(SlotId),
    Template(SlotId),
    End(SlotId),
    Commit(SlotId),
    /// A look for a task or its result.
    Look(SlotId, usize),
    Effect(SlotId, usize),
    SetAgain(SlotId),
    SetAside(SlotId),
    Loose(Source, u64),
}

impl Pending {
    fn publishes(self) -> bool {
        match self {
            Self::Commit(_)
            | Self::Effect(..)
            | Self::Look(..)
            | Self::SetAgain(_)
            | Self::SetAside(_)
            | Self::Loose(..)
            | Self::WritePosition
            | Self::ReadBackPosition => true,
            Self::Life
            | Self::Fence
            | Self::Open(..)
            | Self::Recompare
            | Self::Load(_)
            | Self::Fold(_)
            | Self::Bounds(_)
            | Self::Template(_)
            | Self::End(_) => false,
        }
    }
}

/// The place of an input stream in arrays.
fn index_of(source: Source) -> Option<usize> {
    match source {
        Source::Events => Some(0),
        Source::Signals => Some(1),
        Source::Timers => Some(2),
        Source::Own => None,
    }
}

/// How long to wait before another attempt, in milliseconds, after this many.
fn pause(attempts: u32) -> u64 {
    (25 << attempts.min(6)).min(1_000)
}

/// After how many attempts something counts as stuck.
const STUCK_AFTER: u32 = 10;

impl Partition {
    /// One that waits for its lease.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let near = NearTimers::new(config.near_timers_max);
        Self {
            config,
            life: Life::Waiting,
            lease_until: 0,
            now: Now { monotonic: 0, wall: 0 },
            server: Arc::from(""),
            recompare: None,
            held_back: Vec::new(),
            epoch: 0,
            next_op: 1,
            ops: BTreeMap::new(),
            publishing: 0,
            inputs: Default::default(),
            journal: 0,
            writing: Writing::default(),
            slots: Slots::default(),
            waiting_bytes: 0,
            wakes: BTreeSet::new(),
            ends: Default::default(),
            barriers: BTreeSet::new(),
            loose: BTreeMap::new(),
            loose_wakes: BTreeSet::new(),
            templates: BTreeMap::new(),
            near,
            snapshots: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes what happened and appends what is to be done. `now.monotonic` never decreases.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        if self.life.is_over() {
            return;
        }
        self.now = now;
        if self.is_past_margin() {
            if self.config.leaves_out(Mutation::KeepAbandoned) {
                self.break_off();
            } else {
                return self.drop_whole("the lease ran out before it was renewed".into(), out);
            }
        }
        match input {
            Input::LeaseHeld { until } => self.lease_held(until, out),
            Input::LeaseLost => self.drop_whole("the lease is another's".into(), out),
            Input::Drain => self.drain(out),
            Input::Connected { server } => self.connected(server, out),
            Input::Disconnected => {}
            Input::Arrived { source, stream_seq, message } => {
                self.arrived(source, stream_seq, message, out);
            }
            Input::CaughtUp { source, stream_last } => self.caught_up(source, stream_last, out),
            Input::Answer { op, answer } => self.answered(op, answer, out),
            Input::Tick => {}
        }
        self.keep_time(out);
    }

    /// Whether messages of this input are wanted now. The shell reads a subscription only while
    /// this is true; the few that it has read already are taken all the same.
    #[must_use]
    pub fn wants(&self, source: Source) -> bool {
        let Some(input) = index_of(source).map(|index| &self.inputs[index]) else { return false };
        self.life.is_running()
            && self.recompare.is_none()
            && input.open_count() < self.config.open_max
            && self.waiting_bytes < self.config.waiting_bytes
    }

    /// When the earliest timer that is held in process comes due, by the wall clock: the shell
    /// ticks then, beside its regular ticks.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.near.next_due()
    }

    /// Whether it runs and nothing is open, in flight or to be written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.life.is_running()
            && self.slots.busy() == 0
            && self.loose.is_empty()
            && self.ops.is_empty()
            && !self.writing.is_due()
            && self.inputs.iter().all(|input| input.open_count() == 0)
    }

    /// Whether it has ended: no more outputs follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life.is_over()
    }

    /// The epoch under which it writes; 0 before the takeover.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What it counted and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Stats {
            open: self.inputs.iter().map(|input| count(input.open_count())).sum(),
            busy: count(self.slots.busy()),
            cached: count(self.slots.cached()),
            cached_bytes: count(self.slots.cached_bytes()),
            near_timers: count(self.near.len()),
            ..self.stats
        }
    }

    fn is_past_margin(&self) -> bool {
        self.lease_until > 0 && self.now.monotonic + self.config.lease_margin_ms >= self.lease_until
    }

    fn arrived(
        &mut self,
        source: Source,
        stream_seq: u64,
        message: Result<Message, Malformed>,
        out: &mut Vec<Output>,
    ) {
        let Some(index) = index_of(source) else { return };
        if !self.life.is_running() || !self.inputs[index].arrive(stream_seq) {
            return;
        }
        self.stats.arrived += 1;
        self.enqueue(source, stream_seq, message, out);
        self.release_ends(index, out);
    }

    fn enqueue(
        &mut self,
        source: Source,
        stream_seq: u64,
        message: Result<Message, Malformed>,
        out: &mut Vec<Output>,
    ) {
        let message = match message {
            Ok(message) => message,
            Err(malformed) => return self.set_aside_loose(source, stream_seq, malformed, out),
        };
        let generation = index_of(source).map(|index| self.inputs[index].generation());
        if Some(message.generation) != generation {
            let reason = format!("the generation of the stream of {source:?} has changed");
            return self.drop_whole(reason, out);
        }
        self.waiting_bytes += slots::weigh_message(&message);
        let at = self.slots.wake(&message.execution);
        self.slots[at].queue.push_back(message);
        if matches!(self.slots[at].job, Job::Idle) {
            self.advance(at, out);
        }
    }

    fn caught_up(&mut self, source: Source, stream_last: u64, out: &mut Vec<Output>) {
        let Some(index) = index_of(source) else { return };
        if !self.life.is_running() || !self.inputs[index].catch_up(stream_last) {
            return;
        }
        self.writing.note_idle();
        self.release_ends(index, out);
    }

    fn answered(&mut self, op: Op, answer: Answer, out: &mut Vec<Output>) {
        let Some(pending) = self.ops.remove(&op) else { return };
        if pending.publishes() {
            self.publishing -= 1;
        }
        if matches!(answer, Answer::Published(Published::Unknown)) {
            self.stats.unknown += 1;
        }
        if matches!(answer, Answer::Published(Published::Full)) {
            self.stats.full += 1;
        }
        match pending {
            Pending::Life => self.life_answered(answer, out),
            Pending::Fence => self.fence_answered(answer, out),
            Pending::Open(source, seq) => self.open_answered(source, seq, answer, out),
            Pending::Recompare => self.recompare_answered(answer, out),
            Pending::WritePosition => self.position_written(answer, out),
            Pending::ReadBackPosition => self.position_read_back(answer, out),
            Pending::Load(at) => self.loaded(at, answer, out),
            Pending::Fold(at) => self.folded(at, answer, out),
            Pending::Bounds(at) => self.bounds_answered(at, answer, out),
            Pending::Template(at) => self.template_answered(at, answer, out),
            Pending::End(at) => self.end_answered(at, answer, out),
            Pending::Commit(at) => self.commit_answered(at, answer, out),
            Pending::Look(at, effect) => self.look_answered(at, effect, answer, out),
            Pending::Effect(at, effect) => self.effect_answered(at, effect, answer, out),
            Pending::SetAgain(at) => self.set_again_answered(at, answer, out),
            Pending::SetAside(at) => self.set_aside_answered(at, answer, out),
            Pending::Loose(source, seq) => self.loose_answered(source, seq, answer, out),
        }
    }

    /// Does what has come due: at every input, so a tick is only needed where nothing else happens.
    fn keep_time(&mut self, out: &mut Vec<Output>) {
        if self.life.is_over() {
            return;
        }
        self.life_keep_time(out);
        if self.life.is_running() {
            self.wake_due(out);
            if self.is_jammed() {
                self.release_ends(1, out);
            }
            self.fire_due(out);
            self.snapshots_due(out);
        }
        if self.life.is_running() || self.life.is_draining() {
            self.position_due(out);
        }
        self.finish_drain(out);
    }

    fn wake_due(&mut self, out: &mut Vec<Output>) {
        while let Some(&(due, at)) = self.wakes.first() {
            if due > self.now.monotonic || !self.life.is_running() {
                break;
            }
            self.wakes.pop_first();
            self.slots[at].wake = None;
            self.resume(at, out);
        }
        while let Some(&(due, source, seq)) = self.loose_wakes.first() {
            if due > self.now.monotonic || !self.life.is_running() {
                break;
            }
            self.loose_wakes.pop_first();
            self.publish_loose(source, seq, out);
        }
    }

    /// Lets the job of an execution try again after a pause.
    fn resume(&mut self, at: SlotId, out: &mut Vec<Output>) {
        match &self.slots[at].job {
            Job::Load(_) => self.read_entry(at, out),
            Job::Fold(_) => self.read_entries(at, out),
            Job::Bounds(_) => self.read_bounds(at, out),
            Job::Template(_) => self.read_template(at, out),
            Job::AskEnd => self.read_end(at, out),
            Job::Commit(_) => self.publish_entry(at, out),
            Job::Dispatch(_) => self.issue_effects(at, out),
            Job::SetAgain { .. } => self.publish_set_again(at, out),
            Job::SetAside(_) => self.publish_set_aside(at, out),
            Job::Idle => self.advance(at, out),
            Job::AwaitEnd => {}
        }
    }

    /// Tries the job of an execution again after a pause that grows with the attempts.
    fn back_off(&mut self, at: SlotId, why: &str, out: &mut Vec<Output>) {
        let slot = &mut self.slots[at];
        if slot.wake.is_some() {
            return;
        }
        let due = self.now.monotonic + pause(slot.attempts);
        slot.wake = Some(due);
        self.wakes.insert((due, at));
        slot.attempts = slot.attempts.saturating_add(1);
        if slot.attempts >= STUCK_AFTER && !slot.stuck {
            slot.stuck = true;
            self.stats.stuck += 1;
            out.push(Output::Stuck { execution: Some(slot.id.clone()), reason: why.to_owned() });
        }
    }

    /// Its job went on: what comes next starts with fresh patience.
    fn went_on(&mut self, at: SlotId) {
        let slot = &mut self.slots[at];
        slot.attempts = 0;
        if slot.stuck {
            slot.stuck = false;
            self.stats.stuck -= 1;
        }
        if let Some(due) = slot.wake.take() {
            self.wakes.remove(&(due, at));
        }
    }

    fn expect(&mut self, pending: Pending) -> Op {
        let op = self.next_op;
        self.next_op += 1;
        if pending.publishes() {
            self.publishing += 1;
        }
        self.ops.insert(op, pending);
        op
    }

    /// Puts out what publishes, or holds it back until the streams are compared.
    fn publish(&mut self, output: Output, out: &mut Vec<Output>) {
        if self.recompare.is_some() { self.held_back.push(output) } else { out.push(output) }
    }

    fn drop_whole(&mut self, reason: String, out: &mut Vec<Output>) {
        self.end(Output::Dropped { reason }, out);
    }

    fn halt(&mut self, reason: String, out: &mut Vec<Output>) {
        self.end(Output::Halt { reason }, out);
    }

    fn end(&mut self, last: Output, out: &mut Vec<Output>) {
        if self.life.is_over() {
            return;
        }
        let ended = Self { life: Life::Over, stats: self.stats, ..Self::new(self.config.clone()) };
        *self = ended;
        out.push(last);
    }
}
