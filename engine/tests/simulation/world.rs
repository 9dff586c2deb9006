//! Workers, clients and chance around the simulated log, on one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pled_engine::id::{EventType, ExecutionId, TemplateSelector};
use pled_engine::message::{Body, Event, Failure, INPUTS, Millis, Source, TaskOutcome, TaskResult};
use pled_engine::partition::{
    Answer, Config, Input, Mutation, Now, Op, Output, Partition, Publish, Published, Reply, Stats,
};
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};

use crate::faults::{Faults, Weather};
use crate::log::{EPOCH, LATEST_MS, Log, TaskStage, index_of, result_subject, task_subject};
use crate::random::Random;

/// How long the noise lasts, and how long the calm after it may.
const NOISE_MS: u64 = 20_000;
const CALM_MS: u64 = 240_000;
const LEASE_MS: u64 = 3_000;
const ACK_WAIT_MS: u64 = 1_500;
const WORKERS: usize = 3;

/// How large an entry may be where that is little, for some owners and for others.
const SMALL_BYTES: usize = 9_000;
const LARGER_BYTES: usize = 13_000;

/// Executions that are sent events from inside before and after they are started.
const LATES: [&str; 5] = ["late0", "late1", "late2", "late3", "late4"];

/// The streams that a power cut takes the ends of.
const PARTS: usize = 7;

/// How long a record of an input or output is at most in a trace.
const TRACED_MAX: usize = 400;

/// What a run is made with, beside its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// `None`: that of the seed.
    pub(crate) weather: Option<Weather>,
    pub(crate) trap: Option<Trap>,
    /// Whether nothing but the expected sequences keeps two owners apart: each gets the lease, and
    /// neither positions nor epochs tell one of the other.
    pub(crate) without_fences: bool,
    pub(crate) traced: bool,
}

/// What is left out of the protocol, or of what it relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// In the partition.
    Rule(Mutation),
    /// Tasks and results are looked for at any replica.
    FindAtReplica,
    /// Messages are purged when they are old enough, done or not.
    PurgedByAge,
}

/// What a run was, for the checks.
pub(crate) struct Run {
    pub(crate) log: Log,
    pub(crate) templates: BTreeMap<String, Arc<Template>>,
    /// Events that were acknowledged to the client.
    pub(crate) acked: Vec<Acked>,
    /// Replies by subject.
    pub(crate) replies: BTreeMap<Arc<str>, Vec<Reply>>,
    /// Snapshots: execution, entry, hash.
    pub(crate) snapshots: BTreeSet<(ExecutionId, u64, String)>,
    /// How often each attempt of a task was worked on.
    pub(crate) worked: BTreeMap<String, u32>,
    /// Whether work may have been repeated for a good reason.
    pub(crate) disturbed: bool,
    /// What went wrong on the way.
    pub(crate) faults: Vec<String>,
    /// Whether all came to rest.
    pub(crate) is_calm: bool,
    /// A number that differs where two runs differ.
    pub(crate) digest: u64,
    /// Whether the server has lost what it had acknowledged.
    pub(crate) was_cut: bool,
    pub(crate) without_fences: bool,
    /// All that happened, where that was wanted.
    pub(crate) trace: Option<String>,
    /// The simulated time at the end.
    pub(crate) ended: u64,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) takeovers: u64,
    pub(crate) crashes: u64,
    pub(crate) drops: u64,
    pub(crate) drains: u64,
    pub(crate) conflicts: u64,
    pub(crate) redispatched: u64,
    pub(crate) unknown: u64,
    pub(crate) full: u64,
    pub(crate) fired: u64,
    pub(crate) entries: u64,
    pub(crate) taken: u64,
    pub(crate) rejected: u64,
    pub(crate) repeats: u64,
    pub(crate) exists: u64,
    pub(crate) stale: u64,
    pub(crate) closed: u64,
    pub(crate) dead: u64,
    pub(crate) tasks: u64,
    pub(crate) loads: u64,
    pub(crate) folds: u64,
    pub(crate) releases: u64,
    pub(crate) inputs: u64,
    pub(crate) cuts: u64,
    pub(crate) halts: u64,
}

impl Counts {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.takeovers += other.takeovers;
        self.crashes += other.crashes;
        self.drops += other.drops;
        self.drains += other.drains;
        self.conflicts += other.conflicts;
        self.redispatched += other.redispatched;
        self.unknown += other.unknown;
        self.full += other.full;
        self.fired += other.fired;
        self.entries += other.entries;
        self.taken += other.taken;
        self.rejected += other.rejected;
        self.repeats += other.repeats;
        self.exists += other.exists;
        self.stale += other.stale;
        self.closed += other.closed;
        self.dead += other.dead;
        self.tasks += other.tasks;
        self.loads += other.loads;
        self.folds += other.folds;
        self.releases += other.releases;
        self.inputs += other.inputs;
        self.cuts += other.cuts;
        self.halts += other.halts;
    }

    fn add_stats(&mut self, stats: &Stats) {
        self.conflicts += stats.conflicts;
        self.redispatched += stats.redispatched;
        self.unknown += stats.unknown;
        self.full += stats.full;
        self.fired += stats.fired;
        self.entries += stats.entries;
        self.taken += stats.taken;
        self.rejected += stats.rejected;
        self.repeats += stats.repeats;
        self.exists += stats.exists;
        self.stale += stats.stale;
        self.closed += stats.closed;
        self.dead += stats.dead;
        self.tasks += stats.tasks;
        self.loads += stats.loads;
    }
}

pub(crate) struct Acked {
    pub(crate) execution: ExecutionId,
    pub(crate) seq: u64,
    pub(crate) id: Option<Arc<str>>,
    pub(crate) is_start: bool,
    pub(crate) is_message: bool,
}

/// What happens next.
enum Happening {
    Tick {
        worker: usize,
    },
    Lease {
        worker: usize,
    },
    Deliver {
        instance: u64,
    },
    Perform(Box<Performed>),
    Answer {
        instance: u64,
        op: Op,
        answer: Box<Answer>,
        server: u64,
        publishes: bool,
    },
    Apply(Box<Publish>),
    ApplyPosition {
        partition: u16,
        position: Box<pled_engine::partition::Position>,
        revision: u64,
    },
    Connected {
        worker: usize,
    },
    Client,
    Actor,
    ActorDone {
        subject: String,
        deliveries: u32,
    },
    Server,
    Chaos,
    /// A stream is synced.
    Sync {
        part: usize,
    },
    /// A worker hears how the server's clock goes.
    Clock {
        worker: usize,
        clock: Millis,
    },
    Restart {
        worker: usize,
    },
}

/// An output on its way to the server.
struct Performed {
    instance: u64,
    number: u16,
    output: Output,
    server: u64,
}

struct Worker {
    name: String,
    alive: bool,
    paused_until: u64,
    /// By how much it believes the server's clock to differ.
    clock: Millis,
    /// Partition number to instance.
    owned: BTreeMap<u16, u64>,
}

/// A partition in a worker.
struct Instance {
    worker: usize,
    number: u16,
    machine: Partition,
    cursors: [Option<u64>; 3],
    told: [u64; 3],
    /// The server that it was told of.
    server: u64,
    /// How far it knows the inputs and the journal to reach.
    reached: [u64; 4],
    /// Entries whose acknowledgement is on its way.
    stored: BTreeMap<Op, u64>,
    /// How far it knew them to reach when a power cut took some of that.
    robbed_of: Option<[u64; 4]>,
    /// Until when a subscription brings nothing.
    stalled: [u64; 3],
    leaving: bool,
}

pub(crate) struct World {
    random: Random,
    now: u64,
    serial: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    log: Log,
    templates: BTreeMap<String, Arc<Template>>,
    workers: Vec<Worker>,
    instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    server: u64,
    config: Config,
    setup: Setup,
    faults: Faults,
    quiet: bool,
    retention: u64,
    events: u64,
    run: RunParts,
}

#[derive(Default)]
struct RunParts {
    acked: Vec<Acked>,
    replies: BTreeMap<Arc<str>, Vec<Reply>>,
    snapshots: BTreeSet<(ExecutionId, u64, String)>,
    worked: BTreeMap<String, u32>,
    disturbed: bool,
    faults: Vec<String>,
    digest: u64,
    counts: Counts,
    halted: bool,
    trace: Option<String>,
}

pub(crate) fn run(seed: u64, setup: Setup, templates: &BTreeMap<String, Arc<Template>>) -> Run {
    let mut world = World::new(seed, setup, templates.clone());
    world.begin();
    world.run_until(NOISE_MS);
    world.calm_down();
    let mut is_calm = false;
    let mut until = NOISE_MS;
    while !is_calm && until < NOISE_MS + CALM_MS && !world.is_over() {
        until += 1_000;
        world.run_until(until);
        is_calm = world.is_calm();
    }
    world.end(is_calm)
}

impl World {
    fn new(seed: u64, setup: Setup, templates: BTreeMap<String, Arc<Template>>) -> Self {
        let mut random = Random::new(seed);
        let partitions = *random.pick(&[1, 1, 2]);
        let weather = Weather::of(&mut random);
        let faults = setup.weather.unwrap_or(weather).faults();
        let mutation = match setup.trap {
            Some(Trap::Rule(mutation)) => Some(mutation),
            Some(Trap::FindAtReplica | Trap::PurgedByAge) | None => None,
        };
        let config = Config {
            max_entry_bytes: *random.pick(&[512 * 1024, 512 * 1024, SMALL_BYTES]),
            open_max: *random.pick(&[4, 20, 1_000]),
            step_max: *random.pick(&[1, 4, 256]),
            cache_bytes: *random.pick(&[0, 8_000, 1_000_000]),
            position_every_ms: *random.pick(&[20, 100]),
            lease_margin_ms: 500,
            snapshot_after_ms: *random.pick(&[0, 50]),
            near_timers_max: *random.pick(&[0, 2, 1_000]),
            mutation,
            ..Config::new(0, Arc::from(""))
        };
        let retention = *random.pick(&[800, 3_000, 8_000]);
        let mut log = Log::new(partitions, *random.pick(faults.skews));
        log.purges_carefully = seed.is_multiple_of(2);
        log.purges_by_age = setup.trap == Some(Trap::PurgedByAge);
        log.without_fences = setup.without_fences;
        let trace = setup.traced.then(String::new);
        Self {
            log,
            random,
            now: 0,
            serial: 0,
            queue: BTreeMap::new(),
            templates,
            workers: (0..WORKERS)
                .map(|number| Worker {
                    name: format!("w{number}"),
                    alive: true,
                    paused_until: 0,
                    clock: 0,
                    owned: BTreeMap::new(),
                })
                .collect(),
            instances: BTreeMap::new(),
            next_instance: 1,
            server: 1,
            config,
            setup,
            faults,
            quiet: false,
            retention,
            events: 0,
            run: RunParts { trace, ..RunParts::default() },
        }
    }

    fn begin(&mut self) {
        for worker in 0..WORKERS {
            self.after(worker as u64 + 1, Happening::Tick { worker });
            self.after(worker as u64 * 7 + 1, Happening::Lease { worker });
        }
        self.client_starts("hub", "hub");
        self.after(5, Happening::Client);
        self.after(5, Happening::Actor);
        self.after(10, Happening::Server);
        self.after(10, Happening::Chaos);
        if self.faults.cut > 0 {
            for part in 0..PARTS {
                self.after(100, Happening::Sync { part });
            }
        }
    }

    /// Whether nothing more is to be seen.
    fn is_over(&self) -> bool {
        self.run.halted || !self.run.faults.is_empty()
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.run.trace {
            let mut line = what();
            if line.len() > TRACED_MAX {
                line.truncate(line.floor_char_boundary(TRACED_MAX));
                line.push('…');
            }
            trace.push_str(&format!("{:>6} {line}\n", self.now));
        }
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), happening);
    }

    fn run_until(&mut self, until: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((now, _), happening) = entry.remove_entry();
            self.now = now;
            self.happen(happening);
            if self.is_over() {
                return;
            }
        }
        self.now = self.now.max(until);
    }

    /// No more faults; what was under way takes effect.
    fn calm_down(&mut self) {
        self.quiet = true;
        self.faults = Faults::default();
        self.say(|| "all is calm".to_owned());
        self.log.full_until = [0; 3];
        for worker in &mut self.workers {
            worker.paused_until = worker.paused_until.min(self.now);
        }
    }

    fn is_calm(&self) -> bool {
        let inputs = self.log.inputs.iter();
        let names = ["events", "signals", "timers"];
        let ends: Vec<(&str, u64)> =
            names.into_iter().zip(inputs.map(|stream| stream.last + 1)).collect();
        self.log.schedules.is_empty()
            && self.log.tasks.values().all(|task| matches!(task.stage, TaskStage::Acked(_)))
            && self.log.positions.values().all(|(position, _)| {
                ends.iter().all(|(name, end)| {
                    let input = &position.inputs[*name];
                    input.next == *end && input.open.is_empty()
                })
            })
            && self.instances.values().all(|instance| instance.machine.is_idle())
            && !self.queue.values().any(|happening| {
                matches!(happening, Happening::Apply(_) | Happening::ApplyPosition { .. })
            })
    }

    fn end(mut self, is_calm: bool) -> Run {
        for instance in self.instances.values() {
            self.run.counts.add_stats(&instance.machine.stats());
        }
        Run {
            log: self.log,
            templates: self.templates,
            acked: self.run.acked,
            replies: self.run.replies,
            snapshots: self.run.snapshots,
            worked: self.run.worked,
            disturbed: self.run.disturbed,
            faults: self.run.faults,
            is_calm,
            digest: self.run.digest,
            was_cut: self.run.counts.cuts > 0,
            without_fences: self.setup.without_fences,
            trace: self.run.trace,
            ended: self.now,
            counts: self.run.counts,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { worker } => {
                if !self.defer(worker, Happening::Tick { worker }) {
                    for instance in self.owned(worker) {
                        self.handle(instance, Input::Tick);
                    }
                    let pause = self.random.between(8, 25);
                    self.after(pause, Happening::Tick { worker });
                }
            }
            Happening::Lease { worker } => self.lease(worker),
            Happening::Deliver { instance } => self.deliver(instance),
            Happening::Perform(performed) => self.perform(*performed),
            Happening::Answer { instance, op, answer, server, publishes } => {
                self.answer(instance, op, *answer, server, publishes);
            }
            Happening::Apply(publish) => {
                self.log.publish(&publish, self.now);
            }
            Happening::ApplyPosition { partition, position, revision } => {
                self.log.write_position(partition, &position, revision);
            }
            Happening::Connected { worker } => {
                if !self.defer(worker, Happening::Connected { worker }) {
                    let server: Arc<str> = format!("s{}", self.server).into();
                    for instance in self.owned(worker) {
                        if let Some(told) = self.instances.get_mut(&instance) {
                            told.server = self.server;
                        }
                        self.handle(instance, Input::Connected { server: server.clone() });
                    }
                }
            }
            Happening::Client => self.client(),
            Happening::Actor => self.actor(),
            Happening::ActorDone { subject, deliveries } => self.actor_done(&subject, deliveries),
            Happening::Server => self.serve(),
            Happening::Chaos => self.chaos(),
            Happening::Sync { part } => {
                self.log.sync(part);
                let pause = self.random.between(300, 4_000);
                self.after(pause, Happening::Sync { part });
            }
            Happening::Clock { worker, clock } => self.workers[worker].clock = clock,
            Happening::Restart { worker } => self.workers[worker].alive = true,
        }
    }

    fn owned(&self, worker: usize) -> Vec<u64> {
        self.workers[worker].owned.values().copied().collect()
    }

    /// Puts off what happens in a process that stands still.
    fn defer(&mut self, worker: usize, happening: Happening) -> bool {
        let until = self.workers[worker].paused_until;
        if until <= self.now {
            return false;
        }
        let delay = until - self.now + self.random.below(5);
        self.after(delay, happening);
        true
    }

    fn lease(&mut self, worker: usize) {
        if self.defer(worker, Happening::Lease { worker }) {
            return;
        }
        let pause = self.random.between(100, 900);
        self.after(pause, Happening::Lease { worker });
        if !self.workers[worker].alive {
            return;
        }
        for number in 0..self.log.partitions {
            match self.workers[worker].owned.get(&number).copied() {
                Some(instance) => self.renew(worker, number, instance),
                None if self.random.chance(500_000) => self.acquire(worker, number),
                None => {}
            }
        }
    }

    fn renew(&mut self, worker: usize, number: u16, instance: u64) {
        if self.instances.get(&instance).is_some_and(|instance| instance.leaving) {
            return;
        }
        if !self.quiet && self.random.chance(self.faults.failed * 4) {
            return;
        }
        if !self.quiet && self.random.chance(8_000) {
            self.run.counts.drains += 1;
            self.instances.get_mut(&instance).unwrap().leaving = true;
            return self.handle(instance, Input::Drain);
        }
        let name = self.workers[worker].name.clone();
        match self.log.take_lease(number, &name, self.now, LEASE_MS) {
            Some(until) => self.handle(instance, Input::LeaseHeld { until }),
            None => self.handle(instance, Input::LeaseLost),
        }
    }

    fn acquire(&mut self, worker: usize, number: u16) {
        let name = self.workers[worker].name.clone();
        let Some(until) = self.log.take_lease(number, &name, self.now, LEASE_MS) else { return };
        let id = self.next_instance;
        self.next_instance += 1;
        self.run.counts.takeovers += 1;
        let mut config =
            Config { partition: number, worker: name.as_str().into(), ..self.config.clone() };
        // The server was started with room for larger messages, so this owner takes what another
        // one does not.
        if config.max_entry_bytes == SMALL_BYTES && self.random.chance(500_000) {
            config.max_entry_bytes = LARGER_BYTES;
        }
        let instance = Instance {
            worker,
            number,
            machine: Partition::new(config),
            cursors: [None; 3],
            told: [0; 3],
            server: self.server,
            reached: [0; 4],
            stored: BTreeMap::new(),
            robbed_of: None,
            stalled: [0; 3],
            leaving: false,
        };
        self.instances.insert(id, instance);
        self.workers[worker].owned.insert(number, id);
        self.handle(id, Input::Connected { server: format!("s{}", self.server).into() });
        self.handle(id, Input::LeaseHeld { until });
        self.after(1, Happening::Deliver { instance: id });
    }

    /// Delivers some of what a partition's subscriptions hold.
    fn deliver(&mut self, id: u64) {
        let Some(instance) = self.instances.get(&id) else { return };
        let worker = instance.worker;
        if self.defer(worker, Happening::Deliver { instance: id }) {
            return;
        }
        for _ in 0..self.random.between(1, 12) {
            let source = *self.random.pick(&INPUTS);
            self.deliver_one(id, source);
        }
        let pause = self.random.between(1, 12);
        self.after(pause, Happening::Deliver { instance: id });
    }

    fn deliver_one(&mut self, id: u64, source: Source) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let index = index_of(source);
        let Some(cursor) = instance.cursors[index] else { return };
        if instance.stalled[index] > self.now {
            return;
        }
        if !self.quiet && self.random.chance(self.faults.stall) {
            instance.stalled[index] = self.now + self.random.between(50, 1_500);
            return;
        }
        if !instance.machine.wants(source) && !self.random.chance(20_000) {
            return;
        }
        let stream = &self.log.inputs[index];
        let number = instance.number;
        let next = stream.messages.range(cursor..).find(|(_, stored)| stored.partition == number);
        if let Some((&seq, stored)) = next {
            let again = self.random.chance(self.faults.again);
            instance.reached[index] = instance.reached[index].max(seq);
            instance.cursors[index] =
                Some(if again { seq.saturating_sub(3).max(1) } else { seq + 1 });
            let message = crate::log::decode(source, stored);
            self.handle(id, Input::Arrived { source, stream_seq: seq, message });
        } else if instance.told[index] != stream.last {
            instance.told[index] = stream.last;
            instance.cursors[index] = Some(cursor.max(stream.last + 1));
            let stream_last = stream.last;
            instance.reached[index] = instance.reached[index].max(stream_last);
            self.handle(id, Input::CaughtUp { source, stream_last });
        }
    }

    fn handle(&mut self, id: u64, input: Input) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        self.run.counts.inputs += 1;
        let clock = self.workers[instance.worker].clock;
        let now = Now { monotonic: self.now, wall: EPOCH + self.now as Millis + clock - 2 };
        let kind = kind_of_input(&input);
        if self.run.trace.is_some() {
            let line = format!("#{id} <- {input:?}");
            self.say(|| line);
        }
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let mut out = Vec::new();
        instance.machine.handle(input, now, &mut out);
        self.note(id, kind);
        for output in out {
            self.say(|| format!("#{id} -> {output:?}"));
            let crashes = !self.quiet && self.random.chance(self.faults.crash);
            if crashes {
                let worker = self.instances.get(&id).map(|instance| instance.worker);
                if let Some(worker) = worker {
                    self.crash(worker);
                }
                return;
            }
            self.start(id, output);
        }
    }

    fn note(&mut self, id: u64, kind: u64) {
        for number in [self.now, id, kind, self.serial] {
            self.run.digest = (self.run.digest ^ number).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn crash(&mut self, worker: usize) {
        self.say(|| format!("w{worker} dies"));
        self.run.counts.crashes += 1;
        self.run.disturbed = true;
        self.workers[worker].alive = false;
        for (_, id) in std::mem::take(&mut self.workers[worker].owned) {
            if let Some(instance) = self.instances.remove(&id) {
                self.run.counts.add_stats(&instance.machine.stats());
            }
        }
        let pause = self.random.between(50, 3_000);
        self.after(pause, Happening::Restart { worker });
    }

    /// Begins what a partition wants done.
    fn start(&mut self, id: u64, output: Output) {
        match output {
            Output::Subscribe { source, from } => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.cursors[index_of(source)] = Some(from);
                    instance.reached[index_of(source)] = from.saturating_sub(1);
                }
            }
            Output::Reply(reply) => {
                self.run.replies.entry(reply.subject.clone()).or_default().push(reply);
            }
            Output::Snapshot(snapshot) => {
                let execution = snapshot.execution.clone().unwrap();
                self.run.snapshots.insert((execution, snapshot.seq, snapshot.hash.to_string()));
            }
            Output::Stuck { execution, reason } => {
                let late = self.now > NOISE_MS + 30_000;
                if self.quiet && late && self.run.counts.cuts == 0 {
                    let fault = format!("stuck in the calm: {execution:?}: {reason}");
                    self.run.faults.push(fault);
                }
            }
            Output::Release => {
                self.run.counts.releases += 1;
                self.leave(id, true);
            }
            Output::Dropped { .. } => {
                self.run.counts.drops += 1;
                let keeps = self.random.chance(500_000);
                self.leave(id, !keeps);
            }
            Output::Halt { .. } if self.run.counts.cuts > 0 => {
                self.run.counts.halts += 1;
                self.run.halted = true;
            }
            Output::Halt { reason } => self.run.faults.push(format!("halted: {reason}")),
            output @ (Output::ReadPosition { .. }
            | Output::WritePosition { .. }
            | Output::ReadStreams { .. }
            | Output::ReadMessage { .. }
            | Output::ReadEntry { .. }
            | Output::ReadEntries { .. }
            | Output::ReadTemplate { .. }
            | Output::Find { .. }
            | Output::Publish { .. }) => {
                let latency = self.latency();
                let Some(instance) = self.instances.get(&id) else { return };
                let (number, server) = (instance.number, instance.server);
                let performed = Performed { instance: id, number, output, server };
                self.after(latency, Happening::Perform(Box::new(performed)));
            }
        }
    }

    fn leave(&mut self, id: u64, releases: bool) {
        let Some(instance) = self.instances.remove(&id) else { return };
        self.run.counts.add_stats(&instance.machine.stats());
        let worker = &mut self.workers[instance.worker];
        worker.owned.remove(&instance.number);
        if releases {
            self.log.release_lease(instance.number, &worker.name);
        }
    }

    fn latency(&mut self) -> u64 {
        if !self.quiet && self.random.chance(self.faults.slow) {
            self.random.between(20, 600)
        } else {
            self.random.between(0, 4)
        }
    }

    /// The server takes a request.
    fn perform(&mut self, performed: Performed) {
        let Performed { instance: id, number, output, server } = performed;
        let alive = self.instances.contains_key(&id);
        if server != self.server || !alive {
            // It was on its way when the connection or the process died.
            let arrives = server >= self.log.cut_at && self.random.chance(500_000);
            if arrives {
                self.apply_late(number, &output);
            }
            let (op, publishes) = op_of(&output);
            let answer =
                if publishes { Answer::Published(Published::Unknown) } else { Answer::Failed };
            return self.answer_later(id, op, answer, publishes, 1);
        }
        let (_, publishes) = op_of(&output);
        if publishes && self.instances[&id].robbed_of.is_some() {
            self.run.faults.push(format!(
                "#{id} publishes although the server lost what it had read: {output:?}"
            ));
            return;
        }
        match output {
            Output::Publish { op, publish } => self.perform_publish(id, op, publish),
            Output::WritePosition { op, position, revision } => {
                let answer = if !self.quiet && self.random.chance(self.faults.unknown) {
                    match self.random.below(3) {
                        0 => {
                            self.log.write_position(number, &position, revision);
                        }
                        1 => {
                            let delay = self.random.between(5, LATEST_MS);
                            let late = Happening::ApplyPosition {
                                partition: number,
                                position: Box::new(position),
                                revision,
                            };
                            self.after(delay, late);
                        }
                        _ => {}
                    }
                    Published::Unknown
                } else {
                    self.log.write_position(number, &position, revision)
                };
                self.answer_soon(id, op, Answer::Published(answer), true);
            }
            read => self.perform_read(id, number, read),
        }
    }

    fn perform_publish(&mut self, id: u64, op: Op, publish: Publish) {
        if !self.quiet && self.random.chance(self.faults.unknown) {
            self.run.disturbed = true;
            match self.random.below(3) {
                0 => {
                    self.log.publish(&publish, self.now);
                }
                1 => {
                    let delay = self.random.between(5, LATEST_MS);
                    self.after(delay, Happening::Apply(Box::new(publish)));
                }
                _ => {}
            }
            let delay = self.random.between(10, 200);
            let answer = Answer::Published(Published::Unknown);
            return self.answer_later(id, op, answer, true, delay);
        }
        let refuses = !self.quiet && self.random.chance(self.faults.refuse);
        let published = if refuses {
            Published::Refused("not now".into())
        } else {
            self.log.publish(&publish, self.now)
        };
        if let (Publish::Task(task), Published::Stored { .. }) = (&publish, &published) {
            let subject = task_subject(&task.execution, task.effect.task, task.effect.attempt);
            if self.log.finished.contains(&subject) && self.run.counts.cuts == 0 {
                self.run.faults.push(format!("the finished task {subject} was made again"));
            }
        }
        if let (Publish::Entry { .. }, Published::Stored { stream_seq }) = (&publish, &published)
            && let Some(instance) = self.instances.get_mut(&id)
        {
            instance.stored.insert(op, *stream_seq);
        }
        self.answer_soon(id, op, Answer::Published(published.clone()), true);
        if self.random.chance(self.faults.again / 2) {
            self.answer_soon(id, op, Answer::Published(published), true);
        }
    }

    fn perform_read(&mut self, id: u64, number: u16, read: Output) {
        let fails = !self.quiet && self.random.chance(self.faults.failed);
        let (op, _) = op_of(&read);
        let answer = match read {
            _ if fails => Answer::Failed,
            Output::ReadPosition { .. } => {
                Answer::Position(Some(self.log.positions[&number].clone()))
            }
            Output::ReadStreams { .. } => {
                // What has grown again hides the loss: that is why every power cut of a server that
                // does not sync needs a recovery.
                let ends = self.log.ends();
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.robbed_of = instance.robbed_of.filter(|known| is_beyond(*known, ends));
                }
                Answer::Streams(self.log.facts())
            }
            Output::ReadMessage { source, stream_seq, .. } => {
                Answer::Message(self.log.message(source, stream_seq).map(Box::new))
            }
            Output::ReadEntry { execution, leader, .. } => {
                let stale = !leader && !self.quiet && self.random.chance(self.faults.stale);
                let behind = if stale { *self.random.pick(&[1, 1, 2, 5]) } else { 0 };
                Answer::Entry(self.log.newest(&execution, behind).map(Box::new))
            }
            Output::ReadEntries { execution, base, .. } => {
                self.run.counts.folds += 1;
                Answer::Entries(self.log.range(&execution, base))
            }
            Output::ReadTemplate { selector, .. } => {
                let found = self.templates.values().rfind(|template| {
                    template.name == selector.name
                        && selector.version.is_none_or(|version| version == template.version)
                });
                Answer::Template(Ok(found.cloned()))
            }
            Output::Find { find, .. } => {
                let stale = self.setup.trap == Some(Trap::FindAtReplica)
                    && self.random.chance(self.faults.stale);
                Answer::Found(!stale && self.log.find(&find))
            }
            _ => Answer::Failed,
        };
        self.answer_soon(id, op, answer, false);
    }

    fn apply_late(&mut self, number: u16, output: &Output) {
        match output {
            Output::Publish { publish, .. } => {
                self.log.publish(publish, self.now);
            }
            Output::WritePosition { position, revision, .. } => {
                self.log.write_position(number, position, *revision);
            }
            _ => {}
        }
    }

    fn answer_soon(&mut self, id: u64, op: Op, answer: Answer, publishes: bool) {
        let latency = self.latency();
        self.answer_later(id, op, answer, publishes, latency);
    }

    fn answer_later(&mut self, instance: u64, op: Op, answer: Answer, publishes: bool, delay: u64) {
        let server = self.server;
        let answer = Box::new(answer);
        self.after(delay, Happening::Answer { instance, op, answer, server, publishes });
    }

    fn answer(&mut self, id: u64, op: Op, answer: Answer, server: u64, publishes: bool) {
        let Some(instance) = self.instances.get(&id) else { return };
        let worker = instance.worker;
        if self.workers[worker].paused_until > self.now {
            let delay = self.workers[worker].paused_until - self.now + self.random.below(5);
            let answer = Box::new(answer);
            return self
                .after(delay, Happening::Answer { instance: id, op, answer, server, publishes });
        }
        let answer = match (server == self.server, publishes) {
            (true, _) => answer,
            (false, true) => Answer::Published(Published::Unknown),
            (false, false) => Answer::Failed,
        };
        if let Some(instance) = self.instances.get_mut(&id)
            && let Some(stored) = instance.stored.remove(&op)
            && matches!(answer, Answer::Published(Published::Stored { .. }))
        {
            instance.reached[3] = instance.reached[3].max(stored);
        }
        self.handle(id, Input::Answer { op, answer });
    }

    /// Schedules fire, late and in any order; what is old is purged.
    fn serve(&mut self) {
        let wall = self.log.wall(self.now);
        let due: Vec<_> = self
            .log
            .schedules
            .iter()
            .filter(|(_, due)| **due <= wall)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if self.random.chance(150_000) {
                self.log.fire_schedule(&key, self.now);
            }
        }
        self.log.note_undone(self.now);
        if self.random.chance(50_000) {
            self.log.purge(self.now, self.retention);
        }
        self.after(20, Happening::Server);
    }

    fn chaos(&mut self) {
        if self.quiet {
            return;
        }
        self.after(100, Happening::Chaos);
        let worker = usize::try_from(self.random.below(WORKERS as u64)).unwrap();
        let faults = self.faults;
        if self.random.chance(faults.kill) {
            self.crash(worker);
        }
        if self.random.chance(faults.steal) {
            let number = u16::try_from(self.random.below(2)).unwrap();
            self.say(|| format!("the lease of {number} is lost"));
            self.log.leases.remove(&number);
        }
        if self.random.chance(faults.pause) {
            let pause = *self.random.pick(faults.pauses);
            self.pause(worker, pause);
        }
        if self.random.chance(faults.outage) {
            let pause = self.random.between(9_000, 12_000);
            (0..WORKERS).for_each(|worker| self.pause(worker, pause));
        }
        if self.random.chance(faults.fill) {
            let which = usize::try_from(self.random.below(3)).unwrap();
            let longest = *self.random.pick(faults.fills);
            self.log.full_until[which] = self.now + self.random.between(100, longest);
        }
        if self.random.chance(faults.restart) {
            self.kill_server();
        }
        if self.random.chance(faults.reconnect) {
            self.after(1, Happening::Connected { worker });
        }
        if self.random.chance(faults.jump) {
            self.jump();
        }
        if self.random.chance(faults.cut) {
            self.cut_power();
        }
    }

    fn pause(&mut self, worker: usize, pause: u64) {
        self.say(|| format!("w{worker} stands still for {pause} ms"));
        self.workers[worker].paused_until = self.now + pause;
        self.run.disturbed = true;
    }

    /// The server's clock jumps. Workers hear of it late, and of a jump back later, since they
    /// believe the latest of the times that they were told.
    fn jump(&mut self) {
        let by = *self.random.pick(&[-15_000, -2_000, -300, 300, 2_000, 15_000]);
        let clock = (self.log.clock + by).clamp(-40_000, 40_000);
        self.say(|| format!("the server's clock is {clock} ms ahead"));
        let latest = if clock < self.log.clock { 16_000 } else { 2_000 };
        self.log.clock = clock;
        for worker in 0..WORKERS {
            let after = self.random.between(1, latest);
            self.after(after, Happening::Clock { worker, clock });
        }
    }

    /// The server loses what was not synced, and what was on its way.
    fn cut_power(&mut self) {
        self.run.counts.cuts += 1;
        self.kill_server();
        self.log.lose_unsynced(self.server);
        self.queue.retain(|_, happening| {
            !matches!(happening, Happening::Apply(_) | Happening::ApplyPosition { .. })
        });
        let ends = self.log.ends();
        self.say(|| format!("power is cut: the streams end at {ends:?}"));
        for instance in self.instances.values_mut() {
            if is_beyond(instance.reached, ends) {
                instance.robbed_of = Some(instance.reached);
            }
        }
    }

    /// The server is killed and comes back: what is in flight is unknown, the last acks are undone.
    fn kill_server(&mut self) {
        self.server += 1;
        let server = self.server;
        self.say(|| format!("the server is killed, s{server} comes"));
        self.run.disturbed = true;
        for task in self.log.tasks.values_mut() {
            if matches!(task.stage, TaskStage::Acked(at) if at + 200 > self.now) {
                task.stage = TaskStage::Ready;
            }
        }
        for worker in 0..WORKERS {
            if self.workers[worker].paused_until <= self.now {
                for instance in self.owned(worker) {
                    self.handle(instance, Input::Disconnected);
                }
            }
            let delay = self.random.between(1, 60);
            self.after(delay, Happening::Connected { worker });
        }
    }

    fn client(&mut self) {
        if self.quiet {
            return;
        }
        let pause = *self.random.pick(&[1, 20, 100, 300, 700]);
        self.after(pause, Happening::Client);
        let works = ["a", "b", "c", "d"];
        // Families would hide what a trap does that is sprung.
        let kinds = if self.setup.trap.is_none() { 50 } else { 40 };
        match self.random.below(kinds) {
            40 => self.client_starts("fam", "family"),
            // Ids that a child would have: it may be there, or come, or be refused.
            41 => {
                let which = *self.random.pick(&["fam_2_0", "fam_3_0", "fam_5_0"]);
                if self.random.chance(200_000) {
                    self.client_starts(which, "kid");
                } else {
                    self.client_sends(which, "HUSH", None);
                }
            }
            42 if self.now > NOISE_MS * 3 / 4 => self.client_sends("fam", "END", None),
            42..=49 => {
                let events = ["GO", "GO", "AGAIN", "BAD", "SPAWN", "SPAWN", "LEND", "CALL", "STOP"];
                let event = *self.random.pick(&events);
                self.client_sends("fam", event, None);
            }
            0..=3 => {
                let which = *self.random.pick(&works);
                self.client_starts(which, "work");
            }
            4..=5 => {
                let which = *self.random.pick(&LATES);
                self.client_starts(which, "work");
            }
            6 => self.client_starts("big1", "big"),
            7 => self.client_starts("x", "nothing"),
            8 => self.client_sends("ghost", "GO", None),
            9 => {
                let which = *self.random.pick(&works);
                self.client_malformed(which);
            }
            10 => {
                let which = *self.random.pick(&works);
                self.client_sends(which, "GO", Some("work"));
            }
            11 if self.now > NOISE_MS / 2 => {
                let which = *self.random.pick(&works);
                self.client_sends(which, "END", None);
            }
            12..=17 => self.client_sends("big1", "GO", None),
            _ => {
                let which = *self.random.pick(&works);
                let event = *self.random.pick(&["GO", "GO", "GO", "AGAIN", "OTHER"]);
                self.client_sends(which, event, None);
            }
        }
    }

    fn client_starts(&mut self, execution: &str, template: &str) {
        let data = object(&[("me", execution)]);
        self.client_event(execution, "pled.init", Some(template), data, None);
    }

    fn client_sends(&mut self, execution: &str, event: &str, template: Option<&str>) {
        self.events += 1;
        let id = match self.random.below(4) {
            0 => Some(format!("c{}", self.events)),
            1 => Some(format!("c{}", self.events.saturating_sub(self.random.below(12)))),
            _ => None,
        };
        let size = *self.random.pick(&[10, 10, 10, 3_000, 7_000, 10_500]);
        let to = *self.random.pick(&LATES);
        let data = object(&[("to", to), ("pad", &"y".repeat(size))]);
        self.client_event(execution, event, template, data, id);
    }

    fn client_event(
        &mut self,
        execution: &str,
        event: &str,
        template: Option<&str>,
        data: Value,
        id: Option<String>,
    ) {
        let execution: ExecutionId = execution.parse().unwrap();
        let id: Option<Arc<str>> = id.map(|id| id.as_str().into());
        let body = Body::Event(Event {
            event_type: event.parse::<EventType>().unwrap(),
            id: id.clone(),
            origin: None,
            start: template.map(|name| name.parse::<TemplateSelector>().unwrap()),
            emitted: None,
            data,
        });
        let reply = self.reply_subject();
        let seq = self.log.store(Source::Events, self.now, execution.clone(), reply, Some(body));
        let is_start = event == "pled.init";
        self.run.acked.push(Acked { execution, seq, id, is_start, is_message: true });
    }

    fn client_malformed(&mut self, execution: &str) {
        let execution: ExecutionId = execution.parse().unwrap();
        let reply = self.reply_subject();
        let seq = self.log.store(Source::Events, self.now, execution.clone(), reply, None);
        let acked = Acked { execution, seq, id: None, is_start: false, is_message: false };
        self.run.acked.push(acked);
    }

    fn reply_subject(&mut self) -> Option<Arc<str>> {
        let number = self.run.acked.len();
        self.random.chance(500_000).then(|| format!("reply.{number}").into())
    }

    /// An action worker takes a task.
    fn actor(&mut self) {
        let pause = self.random.between(5, 25);
        self.after(pause, Happening::Actor);
        let now = self.now;
        let ready: Vec<String> = self
            .log
            .tasks
            .iter()
            .filter(|(_, task)| match task.stage {
                TaskStage::Ready => true,
                TaskStage::Busy(since) => since + ACK_WAIT_MS < now,
                TaskStage::Acked(_) => false,
            })
            .map(|(subject, _)| subject.clone())
            .collect();
        if ready.is_empty() {
            return;
        }
        let subject = self.random.pick(&ready).clone();
        let task = self.log.tasks.get_mut(&subject).unwrap();
        task.deliveries += 1;
        task.stage = TaskStage::Busy(now);
        let deliveries = task.deliveries;
        let result = result_subject(&task.execution, task.task, task.attempt);
        if deliveries > 1 && self.log.has_signal(&result) {
            self.log.tasks.get_mut(&subject).unwrap().stage = TaskStage::Acked(now);
            return;
        }
        *self.run.worked.entry(subject.clone()).or_default() += 1;
        let duration = *self.random.pick(&[1, 10, 80, 400]);
        self.after(duration, Happening::ActorDone { subject, deliveries });
    }

    fn actor_done(&mut self, subject: &str, deliveries: u32) {
        let Some(task) = self.log.tasks.get(subject) else { return };
        if task.deliveries != deliveries || matches!(task.stage, TaskStage::Acked(_)) {
            return;
        }
        let (execution, token, attempt) = (task.execution.clone(), task.task, task.attempt);
        if !self.quiet && self.random.chance(self.faults.unknown * 3) {
            self.run.disturbed = true;
            return; // It dies before the result.
        }
        let outcome = self.outcome();
        let result = result_subject(&execution, token, attempt);
        let body = Body::Result(TaskResult { task: token, attempt, outcome });
        self.log.signal(result, self.now, execution, body);
        if !self.quiet && self.random.chance(self.faults.unknown * 3) {
            self.run.disturbed = true;
            return; // It dies before the ack.
        }
        self.log.tasks.get_mut(subject).unwrap().stage = TaskStage::Acked(self.now);
    }

    fn outcome(&mut self) -> TaskOutcome {
        match self.random.below(10) {
            0..=2 => TaskOutcome::Failed(Failure {
                code: "no_luck".into(),
                message: String::new(),
                details: Value::Null,
                retryable: true,
                retry_after_ms: None,
            }),
            3 => TaskOutcome::Ok(Value::from("z".repeat(10_000).as_str())),
            _ => TaskOutcome::Ok(Value::Int(1)),
        }
    }
}

fn is_beyond(known: [u64; 4], ends: [u64; 4]) -> bool {
    known.iter().zip(ends).any(|(known, end)| *known > end)
}

fn object(members: &[(&str, &str)]) -> Value {
    let members = members.iter().map(|(key, text)| (Arc::from(*key), Value::from(*text)));
    Value::Object(Object::from_members(members.collect()).unwrap())
}

fn kind_of_input(input: &Input) -> u64 {
    match input {
        Input::LeaseHeld { .. } => 1,
        Input::LeaseLost => 2,
        Input::Drain => 3,
        Input::Connected { .. } => 4,
        Input::Disconnected => 5,
        Input::Arrived { stream_seq, .. } => 16 + *stream_seq,
        Input::CaughtUp { stream_last, .. } => 1_000_016 + *stream_last,
        Input::Answer { op, .. } => 2_000_016 + *op,
        Input::Tick => 6,
    }
}

fn op_of(output: &Output) -> (Op, bool) {
    match output {
        Output::ReadPosition { op }
        | Output::ReadStreams { op }
        | Output::ReadMessage { op, .. }
        | Output::ReadEntry { op, .. }
        | Output::ReadEntries { op, .. }
        | Output::ReadTemplate { op, .. }
        | Output::Find { op, .. } => (*op, false),
        Output::WritePosition { op, .. } | Output::Publish { op, .. } => (*op, true),
        Output::Subscribe { .. }
        | Output::Reply(_)
        | Output::Snapshot(_)
        | Output::Stuck { .. }
        | Output::Release
        | Output::Dropped { .. }
        | Output::Halt { .. } => (0, false),
    }
}
