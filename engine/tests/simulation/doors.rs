//! The doors of raw events against a simulated log with the faults of the partitions: what the rules
//! of each event emit takes effect once, and in order per sender (invariant R).

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;

use pled_engine::door::{
    Answer, Becomes, Config, Door, Emitted, Input, Mutation, Op, Output, evaluate,
};
use pled_engine::execution::Execution;
use pled_engine::id::ExecutionId;
use pled_engine::message::{Body, Event, Message, Millis, Source};
use pled_engine::partition::{
    DeadReason, InputPosition, Malformed, Position, Published, StreamFacts,
};
use pled_engine::rule::RawEvent;
use pled_engine::step::{Verdict, Writer, step};
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};

use crate::faults::{Faults, Weather};
use crate::log::{EPOCH, GENERATION, LATEST_MS};
use crate::on_all_cores;
use crate::random::Random;

const NOISE_MS: u64 = 10_000;
const CALM_MS: u64 = 60_000;
const LEASE_MS: u64 = 3_000;
const WORKERS: usize = 3;

/// Each event becomes two messages for one execution and one for another.
const ORDERS: &str = r#"{
  "pled": "1.0", "id": "orders", "version": 1, "logic": "pled-logic-1",
  "rules": [
    { "id": "paid", "when": { "==": [{ "var": "event.type" }, "paid"] }, "emit": [
      { "key": { "var": "event.data.id" }, "event": "PAID", "data": { "n": { "var": "event.data.n" } } },
      { "key": { "var": "event.data.friend" }, "event": "SEEN", "data": { "n": { "var": "event.data.n" } } },
      { "key": { "var": "event.data.id" }, "event": "THANKED", "data": { "n": { "var": "event.data.n" } } }] }
  ],
  "initial": "open",
  "states": { "open": {} }
}"#;

#[derive(Clone, Copy)]
struct Setup {
    weather: Option<Weather>,
    mutation: Option<Mutation>,
}

/// What a door emitted, as it stands in PLED_EVENTS.
struct StoredEmit {
    sender: Arc<str>,
    emitted: Arc<Emitted>,
    time: Millis,
}

enum Happening {
    Tick { worker: usize },
    Lease { worker: usize },
    Deliver { instance: u64 },
    Perform { instance: u64, number: u16, output: Box<Output>, server: u64 },
    Answer { instance: u64, op: Op, answer: Box<Answer>, server: u64 },
    Late { number: u16, output: Box<Output> },
    Restart { worker: usize },
    Connected { worker: usize },
    Client,
    Chaos,
}

struct Instance {
    worker: usize,
    number: u16,
    door: Door,
    server: u64,
    cursor: Option<u64>,
    told: u64,
    stalled: u64,
}

#[derive(Default)]
struct Worker {
    dead: bool,
    paused_until: u64,
    owned: BTreeMap<u16, u64>,
}

struct World {
    random: Random,
    now: u64,
    serial: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    config: Config,
    template: Arc<Template>,
    faults: Faults,
    quiet: bool,
    workers: Vec<Worker>,
    instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    server: u64,
    /// PLED_INGEST: by sequence the partition and the event, `None` for what is none.
    raw: BTreeMap<u64, (u16, Option<RawEvent>)>,
    events: Vec<StoredEmit>,
    dead: BTreeMap<(u64, DeadReason), ()>,
    positions: BTreeMap<u16, (Position, u64)>,
    revision: u64,
    leases: BTreeMap<u16, (usize, u64)>,
    full_until: u64,
    wrong: Vec<String>,
    takeovers: u64,
    crashes: u64,
}

const PARTITIONS: u16 = 2;

impl World {
    fn new(seed: u64, setup: Setup, template: Arc<Template>) -> Self {
        let mut random = Random::new(seed);
        let weather = Weather::of(&mut random);
        let faults = setup.weather.unwrap_or(weather).faults();
        let config = Config {
            open_max: *random.pick(&[2, 10, 1_000]),
            waiting_bytes: *random.pick(&[200, 1 << 20]),
            position_every_ms: *random.pick(&[20, 100]),
            lease_margin_ms: 500,
            mutation: setup.mutation,
            ..Config::new(0, Arc::from(""))
        };
        let input = InputPosition { generation: GENERATION, next: 1, ..InputPosition::default() };
        let inputs = BTreeMap::from([("ingest".to_owned(), input)]);
        let position = Position { inputs, ..Position::default() };
        Self {
            random,
            now: 0,
            serial: 0,
            queue: BTreeMap::new(),
            config,
            template,
            faults: Faults { cut: 0, ..faults },
            quiet: false,
            workers: (0..WORKERS).map(|_| Worker::default()).collect(),
            instances: BTreeMap::new(),
            next_instance: 1,
            server: 1,
            raw: BTreeMap::new(),
            events: Vec::new(),
            dead: BTreeMap::new(),
            positions: (0..PARTITIONS).map(|number| (number, (position.clone(), 0))).collect(),
            revision: 0,
            leases: BTreeMap::new(),
            full_until: 0,
            wrong: Vec::new(),
            takeovers: 0,
            crashes: 0,
        }
    }

    fn run(mut self) -> Self {
        for worker in 0..WORKERS {
            self.after(worker as u64 + 1, Happening::Tick { worker });
            self.after(worker as u64 * 7 + 1, Happening::Lease { worker });
        }
        self.after(1, Happening::Client);
        self.after(10, Happening::Chaos);
        self.run_until(NOISE_MS);
        self.quiet = true;
        self.faults = Faults::default();
        self.full_until = 0;
        let mut until = NOISE_MS;
        while until < NOISE_MS + CALM_MS && self.wrong.is_empty() && !self.is_calm() {
            until += 500;
            self.run_until(until);
        }
        if self.wrong.is_empty() && !self.is_calm() {
            self.wrong.push(format!("no rest: {:?}", self.positions));
        }
        self
    }

    fn is_calm(&self) -> bool {
        let last = self.raw.len() as u64;
        let done = |(position, _): &(Position, u64)| position.inputs["ingest"].next == last + 1;
        self.positions.values().all(done)
            && !self.queue.values().any(|it| matches!(it, Happening::Late { .. }))
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), happening);
    }

    fn run_until(&mut self, until: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until || !self.wrong.is_empty() {
                break;
            }
            let ((now, _), happening) = entry.remove_entry();
            self.now = now;
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { worker } => {
                if !self.defer(worker, Happening::Tick { worker }) {
                    for id in self.owned(worker) {
                        self.handle(id, Input::Tick);
                    }
                    let pause = self.random.between(10, 30);
                    self.after(pause, Happening::Tick { worker });
                }
            }
            Happening::Lease { worker } => self.lease(worker),
            Happening::Deliver { instance } => self.deliver(instance),
            Happening::Perform { instance, number, output, server } => {
                self.perform(instance, number, *output, server);
            }
            Happening::Answer { instance, op, answer, server } => {
                self.answer(instance, op, *answer, server);
            }
            Happening::Late { number, output } => {
                self.store(number, &output);
            }
            Happening::Restart { worker } => self.workers[worker].dead = false,
            Happening::Connected { worker } => {
                if !self.defer(worker, Happening::Connected { worker }) {
                    for id in self.owned(worker) {
                        let server = self.server;
                        self.instances.get_mut(&id).unwrap().server = server;
                        self.handle(id, Input::Connected { server: format!("s{server}").into() });
                    }
                }
            }
            Happening::Client => self.client(),
            Happening::Chaos => self.chaos(),
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
        self.after(until - self.now + 1, happening);
        true
    }

    fn lease(&mut self, worker: usize) {
        if self.defer(worker, Happening::Lease { worker }) {
            return;
        }
        let pause = self.random.between(100, 900);
        self.after(pause, Happening::Lease { worker });
        if self.workers[worker].dead {
            return;
        }
        for number in 0..PARTITIONS {
            let until = self.now + LEASE_MS;
            let is_free = self
                .leases
                .get(&number)
                .is_none_or(|(owner, until)| *owner == worker || *until <= self.now);
            match (self.workers[worker].owned.get(&number).copied(), is_free) {
                (Some(id), false) => self.handle(id, Input::LeaseLost),
                (Some(id), true) if !self.quiet && self.random.chance(8_000) => {
                    self.handle(id, Input::Drain);
                }
                (Some(id), true) => {
                    self.leases.insert(number, (worker, until));
                    self.handle(id, Input::LeaseHeld { until });
                }
                (None, true) if self.random.chance(500_000) => {
                    self.leases.insert(number, (worker, until));
                    self.acquire(worker, number, until);
                }
                (None, _) => {}
            }
        }
    }

    fn acquire(&mut self, worker: usize, number: u16, until: u64) {
        let id = self.next_instance;
        self.next_instance += 1;
        self.takeovers += 1;
        let name = format!("w{worker}").into();
        let config = Config { partition: number, worker: name, ..self.config.clone() };
        let instance = Instance {
            worker,
            number,
            door: Door::new(config),
            server: self.server,
            cursor: None,
            told: 0,
            stalled: 0,
        };
        self.instances.insert(id, instance);
        self.workers[worker].owned.insert(number, id);
        let templates = Input::Templates([self.template.clone()].into());
        self.handle(id, Input::Connected { server: format!("s{}", self.server).into() });
        self.handle(id, templates);
        self.handle(id, Input::LeaseHeld { until });
        self.after(1, Happening::Deliver { instance: id });
    }

    fn deliver(&mut self, id: u64) {
        let Some(worker) = self.instances.get(&id).map(|it| it.worker) else { return };
        if self.defer(worker, Happening::Deliver { instance: id }) {
            return;
        }
        for _ in 0..self.random.between(1, 6) {
            self.deliver_one(id);
        }
        let pause = self.random.between(1, 12);
        self.after(pause, Happening::Deliver { instance: id });
    }

    fn deliver_one(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(cursor) = instance.cursor.filter(|_| instance.stalled <= self.now) else { return };
        if !self.quiet && self.random.chance(self.faults.stall) {
            instance.stalled = self.now + self.random.between(50, 1_500);
            return;
        }
        if !instance.door.wants() {
            return;
        }
        let number = instance.number;
        let next = self.raw.range(cursor..).find(|(_, (partition, _))| *partition == number);
        if let Some((&stream_seq, (_, event))) = next {
            let again = self.random.chance(self.faults.again);
            let next = if again { stream_seq.saturating_sub(3).max(1) } else { stream_seq + 1 };
            instance.cursor = Some(next);
            let event = event.clone().ok_or_else(|| Malformed {
                execution: None,
                reason: DeadReason::Malformed,
                detail: "not JSON".into(),
                reply: None,
            });
            self.handle(id, Input::Arrived { stream_seq, event });
        } else if instance.told != self.raw.len() as u64 {
            let stream_last = self.raw.len() as u64;
            (instance.told, instance.cursor) = (stream_last, Some(stream_last + 1));
            self.handle(id, Input::CaughtUp { stream_last });
        }
    }

    fn handle(&mut self, id: u64, input: Input) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let mut out = Vec::new();
        instance.door.handle(input, self.now, &mut out);
        for output in out {
            if !self.quiet && self.random.chance(self.faults.crash) {
                if let Some(worker) = self.instances.get(&id).map(|it| it.worker) {
                    self.crash(worker);
                }
                return;
            }
            self.start(id, output);
        }
    }

    fn start(&mut self, id: u64, output: Output) {
        match output {
            Output::Subscribe { from } => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.cursor = Some(from);
                }
            }
            Output::Stuck { .. } => {}
            Output::Release => self.leave(id, true),
            Output::Dropped { .. } => {
                let releases = self.random.chance(500_000);
                self.leave(id, releases);
            }
            Output::Halt { reason } => self.wrong.push(format!("halted: {reason}")),
            output @ (Output::ReadPosition { .. }
            | Output::WritePosition { .. }
            | Output::ReadStream { .. }
            | Output::Emit { .. }
            | Output::SetAside { .. }) => {
                let Some(instance) = self.instances.get(&id) else { return };
                let (number, server) = (instance.number, instance.server);
                let delay = self.latency();
                let output = Box::new(output);
                self.after(delay, Happening::Perform { instance: id, number, output, server });
            }
        }
    }

    fn leave(&mut self, id: u64, releases: bool) {
        let Some(instance) = self.instances.remove(&id) else { return };
        self.workers[instance.worker].owned.remove(&instance.number);
        if releases && self.leases.get(&instance.number).is_some_and(|it| it.0 == instance.worker) {
            self.leases.remove(&instance.number);
        }
    }

    fn latency(&mut self) -> u64 {
        if !self.quiet && self.random.chance(self.faults.slow) {
            self.random.between(20, 600)
        } else {
            self.random.between(0, 4)
        }
    }

    fn perform(&mut self, id: u64, number: u16, output: Output, server: u64) {
        let lost = server != self.server || !self.instances.contains_key(&id);
        let is_read = matches!(output, Output::ReadPosition { .. } | Output::ReadStream { .. });
        let op = op_of(&output);
        let answer = if is_read {
            if lost || !self.quiet && self.random.chance(self.faults.failed) {
                Answer::Failed
            } else {
                self.read(number, &output)
            }
        } else if lost || !self.quiet && self.random.chance(self.faults.unknown) {
            match self.random.below(3) {
                0 => {
                    self.store(number, &output);
                }
                1 => {
                    let delay = self.random.between(5, LATEST_MS);
                    let output = Box::new(output);
                    self.after(delay, Happening::Late { number, output });
                }
                _ => {}
            }
            Answer::Published(Published::Unknown)
        } else if !self.quiet && self.random.chance(self.faults.refuse) {
            Answer::Published(Published::Refused("not now".into()))
        } else {
            Answer::Published(self.store(number, &output))
        };
        let (delay, server) = (self.latency(), self.server);
        let answer = Box::new(answer);
        self.after(delay, Happening::Answer { instance: id, op, answer, server });
    }

    fn read(&self, number: u16, output: &Output) -> Answer {
        match output {
            Output::ReadPosition { .. } => Answer::Position(Some(self.positions[&number].clone())),
            _ => {
                let last = self.raw.len() as u64;
                let facts = StreamFacts { generation: GENERATION, first: 1, last };
                Answer::Stream { facts, begins: Vec::new() }
            }
        }
    }

    fn store(&mut self, number: u16, output: &Output) -> Published {
        match output {
            Output::WritePosition { position, revision, .. } => {
                let (stored, at) = self.positions.get_mut(&number).unwrap();
                if at != revision {
                    return Published::Conflict { last: Some(*at) };
                }
                self.revision += 1;
                stored.clone_from(position);
                *at = self.revision;
                Published::Stored { stream_seq: self.revision }
            }
            Output::Emit { .. } | Output::SetAside { .. } if self.now < self.full_until => {
                Published::Full
            }
            Output::Emit { sender, emitted, .. } => {
                let (sender, emitted) = (sender.clone(), emitted.clone());
                let time = EPOCH + self.now as Millis;
                self.events.push(StoredEmit { sender, emitted, time });
                Published::Stored { stream_seq: self.events.len() as u64 }
            }
            Output::SetAside { aside, .. } => {
                match self.dead.insert((aside.stream_seq, aside.reason), ()) {
                    None => Published::Stored { stream_seq: 1 },
                    Some(()) => Published::Conflict { last: Some(1) },
                }
            }
            _ => Published::Unknown,
        }
    }

    fn answer(&mut self, id: u64, op: Op, answer: Answer, server: u64) {
        let Some(worker) = self.instances.get(&id).map(|it| it.worker) else { return };
        if self.workers[worker].paused_until > self.now {
            let delay = self.workers[worker].paused_until - self.now + 1;
            let answer = Box::new(answer);
            return self.after(delay, Happening::Answer { instance: id, op, answer, server });
        }
        let answer = match answer {
            Answer::Published(_) if server != self.server => Answer::Published(Published::Unknown),
            Answer::Position(_) | Answer::Stream { .. } if server != self.server => Answer::Failed,
            answer => answer,
        };
        self.handle(id, Input::Answer { op, answer });
    }

    fn crash(&mut self, worker: usize) {
        self.crashes += 1;
        self.workers[worker].dead = true;
        for (_, id) in std::mem::take(&mut self.workers[worker].owned) {
            self.instances.remove(&id);
        }
        let pause = self.random.between(50, 3_000);
        self.after(pause, Happening::Restart { worker });
    }

    fn client(&mut self) {
        if self.quiet {
            return;
        }
        let pause = *self.random.pick(&[1, 5, 20, 100]);
        self.after(pause, Happening::Client);
        let seq = self.raw.len() as u64 + 1;
        let partition = u16::try_from(self.random.below(u64::from(PARTITIONS))).unwrap();
        let (id, friend) = (self.random.below(5), self.random.below(5));
        let id = if self.random.chance(50_000) { "no id".to_owned() } else { format!("o{id}") };
        let data = [
            ("friend", Value::from(format!("o{friend}").as_str())),
            ("id", Value::from(id.as_str())),
            ("n", Value::Int(i64::try_from(seq).unwrap())),
        ];
        let event = RawEvent {
            event_type: if self.random.chance(50_000) { "lost".into() } else { "paid".into() },
            data: Value::Object(data.into_iter().collect::<Object>()),
            source: format!("s{partition}").into(),
            id: None,
            time: EPOCH + self.now as Millis,
        };
        let event = Some(event).filter(|_| !self.random.chance(20_000));
        self.raw.insert(seq, (partition, event));
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
            let number = u16::try_from(self.random.below(u64::from(PARTITIONS))).unwrap();
            self.leases.remove(&number);
        }
        if self.random.chance(faults.pause) {
            self.workers[worker].paused_until = self.now + *self.random.pick(faults.pauses);
        }
        if self.random.chance(faults.outage) {
            let until = self.now + self.random.between(4_000, 6_000);
            self.workers.iter_mut().for_each(|worker| worker.paused_until = until);
        }
        if self.random.chance(faults.fill) {
            self.full_until = self.now + *self.random.pick(faults.fills);
        }
        if self.random.chance(faults.restart) {
            self.server += 1;
            for worker in 0..WORKERS {
                let delay = self.random.between(1, 60);
                self.after(delay, Happening::Connected { worker });
            }
        } else if self.random.chance(faults.reconnect) {
            self.after(1, Happening::Connected { worker });
        }
    }

    /// Invariant R: what executions take of each sender is what the rules make of its events, each
    /// once and in order; what is set aside is what has to be.
    fn check(&self) -> Vec<String> {
        if !self.wrong.is_empty() {
            return self.wrong.clone();
        }
        let mut wrong = Vec::new();
        let mut expected: BTreeMap<(ExecutionId, String), Vec<(u64, u64)>> = BTreeMap::new();
        for (seq, (partition, event)) in &self.raw {
            let becomes = match event {
                Some(event) => evaluate(std::slice::from_ref(&self.template), *seq, event),
                None => Becomes {
                    messages: Vec::new(),
                    set_aside: vec![(DeadReason::Malformed, String::new())],
                },
            };
            for emitted in becomes.messages {
                let key = (emitted.execution, format!("rules-{partition}"));
                expected.entry(key).or_default().push(emitted.place);
            }
            for (reason, _) in becomes.set_aside {
                // One that nobody wants may be only counted.
                if !self.dead.contains_key(&(*seq, reason)) && reason != DeadReason::Unmatched {
                    wrong.push(format!("event {seq} is not set aside as {reason:?}"));
                }
            }
        }
        let taken = self.taken();
        for key in expected.keys().chain(taken.keys()) {
            let nothing = Vec::new();
            let (should, is) =
                (expected.get(key).unwrap_or(&nothing), taken.get(key).unwrap_or(&nothing));
            if should != is {
                let at = should.iter().zip(is).position(|(should, is)| should != is);
                let at = at.unwrap_or(should.len().min(is.len()));
                let (should, is) = (should.get(at), is.get(at));
                wrong.push(format!("{key:?} took {is:?} where {should:?} has to be"));
            }
        }
        wrong
    }

    /// What executions take of what was emitted, as their steps judge it.
    fn taken(&self) -> BTreeMap<(ExecutionId, String), Vec<(u64, u64)>> {
        let mut executions: BTreeMap<ExecutionId, Execution> = BTreeMap::new();
        let mut taken: BTreeMap<(ExecutionId, String), Vec<(u64, u64)>> = BTreeMap::new();
        for (StoredEmit { sender, emitted, time }, stream_seq) in self.events.iter().zip(2..) {
            let id = &emitted.execution;
            let before = executions.remove(id).unwrap_or_else(|| {
                let start = event("pled.init", Some("orders"), None, Value::Null);
                self.takes(&Execution::unborn(id.clone()), 1, EPOCH, start).1
            });
            let sent = Some((sender.clone(), emitted.place.0, emitted.place.1));
            let data = serde_json::from_slice(&emitted.data).unwrap();
            let event = event(emitted.event_type.as_str(), None, sent, data);
            let (verdict, after) = self.takes(&before, stream_seq, *time, event);
            executions.insert(id.clone(), after);
            match verdict {
                Verdict::Taken(_) => {
                    let key = (id.clone(), sender.to_string());
                    taken.entry(key).or_default().push(emitted.place);
                }
                Verdict::Repeat { .. } => {}
                other => panic!("{id}: {:?} is judged {other:?}", emitted.place),
            }
        }
        taken
    }

    fn takes(
        &self,
        before: &Execution,
        stream_seq: u64,
        time: Millis,
        event: Event,
    ) -> (Verdict, Execution) {
        let message = Message {
            execution: before.id.clone(),
            source: Source::Events,
            generation: GENERATION,
            stream_seq,
            time,
            reply: None,
            body: Body::Event(event),
        };
        let mut made = step(&self.template, before, &[message]);
        let writer = Writer { worker: "r".into(), epoch: 1 };
        let after = made.draft.map_or_else(|| before.clone(), |it| it.seal(&writer, None).after);
        (made.verdicts.remove(0), after)
    }
}

fn event(
    event_type: &str,
    start: Option<&str>,
    emitted: Option<(Arc<str>, u64, u64)>,
    data: Value,
) -> Event {
    Event {
        event_type: event_type.parse().unwrap(),
        id: None,
        origin: None,
        start: start.map(|template| template.parse().unwrap()),
        emitted,
        data,
    }
}

fn op_of(output: &Output) -> Op {
    match output {
        Output::ReadPosition { op }
        | Output::WritePosition { op, .. }
        | Output::ReadStream { op }
        | Output::Emit { op, .. }
        | Output::SetAside { op, .. } => *op,
        Output::Subscribe { .. }
        | Output::Stuck { .. }
        | Output::Release
        | Output::Dropped { .. }
        | Output::Halt { .. } => 0,
    }
}

fn run(seed: u64, setup: Setup, template: &Arc<Template>) -> (World, Vec<String>) {
    let world = World::new(seed, setup, template.clone()).run();
    let wrong = world.check();
    (world, wrong)
}

fn template() -> Arc<Template> {
    Arc::new(Template::parse(ORDERS).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn what_rules_emit_takes_effect_once_and_in_order_whatever_happens() {
    let template = template();
    let setup = Setup { weather: None, mutation: None };
    let runs = on_all_cores(1..501, |seed| {
        let (world, wrong) = run(seed, setup, &template);
        (seed, [world.takeovers, world.crashes, world.events.len() as u64], wrong)
    });
    let [takeovers, crashes, emitted] =
        [0, 1, 2].map(|at: usize| runs.iter().map(|(_, counts, _)| counts[at]).sum::<u64>());
    eprintln!("500 seeds: {takeovers} takeovers, {crashes} crashes, {emitted} emitted");
    assert!(takeovers > 2_000 && crashes > 100);
    for (seed, .., wrong) in &runs {
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
    }
}

#[test]
fn each_trap_of_the_door_is_found() {
    let template = template();
    for (mutation, weather, within) in [
        (Mutation::AllAtOnce, Weather::Rough, 100),
        (Mutation::UnknownIsStored, Weather::Rough, 100),
        (Mutation::PositionEarly, Weather::Crashes, 100),
    ] {
        let setup = Setup { weather: Some(weather), mutation: Some(mutation) };
        let found = (1..=within).find_map(|seed| {
            let wrong = catch_unwind(|| run(seed, setup, &template).1);
            let wrong = wrong.unwrap_or_else(|_| vec!["a panic".to_owned()]);
            wrong.into_iter().next().map(|first| (seed, first))
        });
        let (seed, first) = found.unwrap_or_else(|| panic!("{mutation:?}: not in {within} seeds"));
        eprintln!("{mutation:?} {weather:?} seed {seed} of {within}: {first}");
    }
}
