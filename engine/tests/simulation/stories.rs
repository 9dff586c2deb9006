//! One partition and one log, step by step: what happens in the cases that chance seldom makes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::execution::Status;
use pled_engine::id::ExecutionId;
use pled_engine::message::{Body, Event, INPUTS, Millis, Send, Source, TaskOutcome, TaskResult};
use pled_engine::partition::{
    Answer, Config, DeadReason, Input, Now, Op, Output, Partition, Publish, Published, Reply,
    Snapshot,
};
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};

use crate::log::{EPOCH, Log, TaskStage, decode, index_of, result_subject};
use crate::templates;

/// A partition whose outputs are performed at once and in order, but for what the story holds back.
struct Story {
    log: Log,
    templates: BTreeMap<String, Arc<Template>>,
    machine: Partition,
    now: u64,
    /// The next sequence of each subscription.
    cursors: [Option<u64>; 3],
    /// What is not performed yet.
    waiting: VecDeque<Output>,
    /// Whether a publish is held back.
    holds: fn(&Publish) -> bool,
    held: Vec<(Op, Publish)>,
    /// What was published, by its kind.
    published: Vec<String>,
    replies: Vec<Reply>,
    snapshots: Vec<Snapshot>,
    reads: Vec<String>,
    stuck: Vec<String>,
    end: Option<Output>,
}

impl Story {
    /// One that has taken its partition over.
    fn begin() -> Self {
        let mut story = Self::with(Log::new(1, 0), |_| {});
        story.take_over();
        story
    }

    fn with(log: Log, configure: fn(&mut Config)) -> Self {
        let mut config = Config::new(0, "w".into());
        configure(&mut config);
        Self {
            log,
            templates: templates::all(),
            machine: Partition::new(config),
            now: 1_000,
            cursors: [None; 3],
            waiting: VecDeque::new(),
            holds: |_| false,
            held: Vec::new(),
            published: Vec::new(),
            replies: Vec::new(),
            snapshots: Vec::new(),
            reads: Vec::new(),
            stuck: Vec::new(),
            end: None,
        }
    }

    fn take_over(&mut self) {
        self.handle(Input::Connected { server: "s1".into() });
        self.handle(Input::LeaseHeld { until: self.now + 3_600_000 });
        self.run();
    }

    /// A worker of the same log, whose partition has just been taken over.
    fn successor(self) -> Self {
        let mut story = Self::with(self.log, |_| {});
        story.now = self.now;
        story.take_over();
        story
    }

    fn handle(&mut self, input: Input) {
        let now = Now { monotonic: self.now, wall: EPOCH + self.now as Millis };
        let mut out = Vec::new();
        self.machine.handle(input, now, &mut out);
        self.waiting.extend(out);
    }

    fn answer(&mut self, op: Op, answer: Answer) {
        self.handle(Input::Answer { op, answer });
    }

    /// Performs and delivers until nothing happens any more.
    fn run(&mut self) {
        loop {
            while let Some(output) = self.waiting.pop_front() {
                self.perform(output);
            }
            if !INPUTS.into_iter().any(|source| self.deliver(source)) && self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Lets time pass.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += 10.min(end - self.now);
            self.handle(Input::Tick);
            self.run();
        }
    }

    fn deliver(&mut self, source: Source) -> bool {
        let index = index_of(source);
        let Some(cursor) = self.cursors[index] else { return false };
        if !self.machine.wants(source) {
            return false;
        }
        let stream = &self.log.inputs[index];
        let Some((&seq, stored)) = stream.messages.range(cursor..).next() else { return false };
        self.cursors[index] = Some(seq + 1);
        let message = decode(source, stored);
        self.handle(Input::Arrived { source, stream_seq: seq, message });
        true
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::ReadPosition { op } => {
                self.answer(op, Answer::Position(self.log.positions.get(&0).cloned()));
            }
            Output::WritePosition { op, position, revision } => {
                let published = self.log.write_position(0, &position, revision);
                self.published.push("position".into());
                self.answer(op, Answer::Published(published));
            }
            Output::ReadStreams { op } => {
                self.reads.push("streams".into());
                self.answer(op, Answer::Streams(self.log.facts()));
            }
            Output::Subscribe { source, from } => self.cursors[index_of(source)] = Some(from),
            Output::ReadMessage { op, source, stream_seq } => {
                let message = self.log.message(source, stream_seq).map(Box::new);
                self.answer(op, Answer::Message(message));
            }
            Output::ReadEntry { op, execution, leader } => {
                self.reads
                    .push(format!("{execution} {}", if leader { "leader" } else { "replica" }));
                let newest = self.log.newest(&execution, 0).map(Box::new);
                self.answer(op, Answer::Entry(newest));
            }
            Output::ReadEntries { op, execution, base } => {
                self.reads.push(format!("{execution} from {base}"));
                let entries = self.log.range(&execution, base);
                self.answer(op, Answer::Entries(entries));
            }
            Output::ReadTemplate { op, selector } => {
                self.reads.push(format!("template {selector}"));
                let found = self.templates.values().find(|template| template.name == selector.name);
                self.answer(op, Answer::Template(Ok(found.cloned())));
            }
            Output::Find { op, find } => {
                let found = self.log.find(&find);
                self.reads.push(format!("{find:?} {found}"));
                self.answer(op, Answer::Found(found));
            }
            Output::Publish { op, publish } => {
                if (self.holds)(&publish) {
                    self.held.push((op, publish));
                    return;
                }
                self.publish(op, &publish);
            }
            Output::Reply(reply) => self.replies.push(reply),
            Output::Snapshot(snapshot) => self.snapshots.push(*snapshot),
            Output::Stuck { reason, .. } => self.stuck.push(reason),
            end @ (Output::Release | Output::Dropped { .. } | Output::Halt { .. }) => {
                assert!(self.waiting.is_empty(), "nothing follows the end");
                self.end = Some(end);
            }
        }
    }

    fn publish(&mut self, op: Op, publish: &Publish) {
        self.published.push(name_of(publish));
        let published = self.log.publish(publish, self.now);
        self.answer(op, Answer::Published(published));
    }

    /// Performs what was held back.
    fn let_go(&mut self) {
        self.holds = |_| false;
        for (op, publish) in std::mem::take(&mut self.held) {
            self.publish(op, &publish);
        }
        self.run();
    }

    fn send(&mut self, execution: &str, event: &str, data: Value) -> u64 {
        self.event(execution, event, None, None, data)
    }

    fn start(&mut self, execution: &str, template: &str) -> u64 {
        let me = vec![(Arc::from("me"), Value::from(execution))];
        let data = Value::Object(Object::from_members(me).unwrap());
        self.event(execution, "pled.init", Some(template), None, data)
    }

    fn event(
        &mut self,
        execution: &str,
        event: &str,
        template: Option<&str>,
        id: Option<&str>,
        data: Value,
    ) -> u64 {
        let body = Body::Event(Event {
            event_type: event.parse().unwrap(),
            id: id.map(Arc::from),
            origin: None,
            start: template.map(|name| name.parse().unwrap()),
            emitted: None,
            data,
        });
        let reply = Some(format!("reply.{}", self.log.inputs[0].last + 1).into());
        let execution = execution.parse().unwrap();
        let seq = self.log.store(Source::Events, self.now, execution, reply, Some(body));
        self.run();
        seq
    }

    /// Lets the only task of an execution that is ready end.
    fn work(&mut self, execution: &str, outcome: TaskOutcome) {
        let ready = |task: &crate::log::StoredTask| {
            task.execution.as_str() == execution && task.stage == TaskStage::Ready
        };
        let task = self.log.tasks.values_mut().find(|task| ready(task)).unwrap();
        task.stage = TaskStage::Acked(self.now);
        let subject = result_subject(&task.execution, task.task, task.attempt);
        let (task, attempt) = (task.task, task.attempt);
        let body = Body::Result(TaskResult { task, attempt, outcome });
        self.log.signal(subject, self.now, execution.parse().unwrap(), body);
        self.run();
    }

    fn journal(&self, execution: &str) -> Vec<JournalEntry> {
        let id: ExecutionId = execution.parse().unwrap();
        let entries = self.log.journal.get(&id).map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| JournalEntry::decode(&entry.bytes).unwrap()).collect()
    }

    fn answer_to(&self, event: u64) -> &Reply {
        let subject = format!("reply.{event}");
        self.replies.iter().rfind(|reply| *reply.subject == *subject).unwrap()
    }

    fn open(&self, input: &str) -> Vec<u64> {
        self.log.positions[&0].0.inputs[input].open.clone()
    }

    fn count(&self, what: &str) -> usize {
        self.published.iter().filter(|name| name.starts_with(what)).count()
    }

    fn halted(&self) -> &str {
        match &self.end {
            Some(Output::Halt { reason }) => reason,
            other => panic!("not halted: {other:?}"),
        }
    }

    fn dropped(&self) -> &str {
        match &self.end {
            Some(Output::Dropped { reason }) => reason,
            other => panic!("not dropped: {other:?}"),
        }
    }
}

fn name_of(publish: &Publish) -> String {
    match publish {
        Publish::Entry { execution, .. } => format!("entry {execution}"),
        Publish::Task(task) => format!("task {}", task.effect.action),
        Publish::TimerSet { .. } => "timer set".into(),
        Publish::TimerCancel { .. } => "timer cancel".into(),
        Publish::TimerFire { .. } => "timer fire".into(),
        Publish::Send { to, token, .. } => format!("send {to} {token}"),
        Publish::ChildStart { child, .. } => format!("start {child}"),
        Publish::ChildCancel { child, .. } => format!("cancel {child}"),
        Publish::ChildDone { parent, result } => format!("done {parent} {}", result.task),
        Publish::Dead { reason, .. } => format!("dead {}", reason.as_str()),
    }
}

fn is_task(publish: &Publish) -> bool {
    matches!(publish, Publish::Task(_))
}

fn is_send(publish: &Publish) -> bool {
    matches!(publish, Publish::Send { .. })
}

fn is_dead(publish: &Publish) -> bool {
    matches!(publish, Publish::Dead { .. })
}

fn is_entry(publish: &Publish) -> bool {
    matches!(publish, Publish::Entry { .. })
}

#[test]
fn an_event_becomes_an_entry_its_effects_and_an_answer_and_the_position_follows() {
    let mut story = Story::begin();

    let start = story.start("a", "work");
    story.pass(200);

    assert_eq!(story.journal("a").len(), 1);
    assert_eq!((story.count("task charge"), story.count("timer set")), (1, 1));
    let answer = story.answer_to(start);
    assert_eq!((&*answer.outcome, answer.seq), ("applied", Some(1)));
    assert_eq!(answer.configuration, vec![Arc::from("run")]);
    let (position, _) = &story.log.positions[&0];
    assert_eq!((position.epoch, &*position.owner, position.journal), (1, "w", 1));
    assert_eq!((position.inputs["events"].next, story.open("events")), (2, vec![]));
    assert!(story.machine.is_idle());
}

#[test]
fn a_start_is_not_read_for_and_its_repeat_changes_nothing() {
    let mut story = Story::begin();
    story.start("a", "work");
    assert!(!story.reads.iter().any(|read| read.starts_with('a')), "{:?}", story.reads);

    let again = story.start("a", "work");
    assert_eq!(&*story.answer_to(again).outcome, "exists");
    assert_eq!(story.journal("a").len(), 1);
}

#[test]
fn what_arrives_while_a_commit_is_under_way_is_taken_in_one_step() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.holds = is_entry;
    story.send("a", "X", Value::Null);
    for event in ["Y", "Z"] {
        story.send("a", event, Value::Null);
    }
    story.let_go();

    let causes: Vec<usize> = story.journal("a").iter().map(|entry| entry.causes.len()).collect();
    assert_eq!(causes, [1, 1, 2]);
}

#[test]
fn a_position_ahead_of_a_stream_halts_the_takeover() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.send("a", "X", Value::Null);
    story.pass(200);

    let mut log = story.log;
    log.inputs[0].last = 1;
    log.inputs[0].messages.remove(&2);
    let mut behind = Story::with(log, |_| {});
    behind.take_over();
    assert!(behind.halted().contains("the stream of events ends at 1, but 2 was read"));
    assert_eq!(behind.count("position"), 1, "only the fence was written");
}

#[test]
fn a_journal_that_lost_entries_halts_the_takeover() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.pass(200);

    let mut log = story.log;
    log.journal.clear();
    log.journal_last = 0;
    let mut behind = Story::with(log, |_| {});
    behind.take_over();
    assert!(behind.halted().contains("PLED_JOURNAL ends at 0, but 1 was acknowledged"));
}

#[test]
fn a_position_that_is_not_there_halts_the_takeover() {
    let mut story = Story::with(Log::new(1, 0), |_| {});
    story.log.positions.clear();
    story.take_over();
    assert!(story.halted().contains("the position of partition 0 is not there: run `pled init`"));
    assert!(story.published.is_empty());
}

#[test]
fn an_open_message_that_is_gone_halts_the_takeover() {
    let mut story = Story::begin();
    story.holds = is_entry;
    story.start("a", "work");
    let other = story.send("b", "X", Value::Null);
    story.pass(1_500);
    assert_eq!(story.open("events"), [1]);
    assert_eq!(&*story.answer_to(other).outcome, "unknown-execution");

    let mut log = story.log;
    log.inputs[0].messages.remove(&1);
    let mut gone = Story::with(log, |_| {});
    gone.take_over();
    assert!(gone.halted().contains("message 1 of the stream of events is open"));
}

#[test]
fn a_server_that_lost_what_was_acknowledged_halts_before_anything_is_published() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.send("a", "X", Value::Null);
    let published = story.published.len();

    story.log.inputs[0].last = 1;
    story.handle(Input::Disconnected);
    story.handle(Input::Connected { server: "s2".into() });
    let is_asking = |output: &Output| matches!(output, Output::ReadStreams { .. });
    assert!(story.waiting.iter().all(is_asking), "{:?}", story.waiting);
    story.run();
    assert!(story.halted().contains("acknowledged messages are lost"));
    assert_eq!(story.published.len(), published);
}

#[test]
fn another_server_with_all_that_was_acknowledged_is_gone_on_with() {
    let mut story = Story::begin();
    story.holds = is_entry;
    story.start("a", "work");
    let (op, _) = story.held.pop().unwrap();

    story.handle(Input::Disconnected);
    story.handle(Input::Connected { server: "s2".into() });
    story.answer(op, Answer::Published(Published::Unknown));
    assert!(!story.machine.wants(Source::Events));
    story.holds = |_| false;
    story.run();

    assert_eq!(story.journal("a").len(), 1, "the same entry was published again");
    assert!(story.machine.wants(Source::Events));
    story.pass(1_500);
    assert_eq!(story.log.positions[&0].0.server, "s2");
}

#[test]
fn of_two_that_take_over_at_once_the_fence_lets_one() {
    let mut first = Story::begin();
    first.start("a", "work");
    first.pass(200);
    let revision = first.log.positions[&0].1;

    let mut second = first.log.positions[&0].0.clone();
    second.epoch += 1;
    second.owner = "other".into();
    first.log.write_position(0, &second, revision);
    first.send("a", "X", Value::Null);
    first.pass(200);
    assert!(first.dropped().contains("another worker has taken the partition over"));
}

#[test]
fn an_entry_of_a_newer_epoch_ends_the_older_owner() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.pass(200);

    let mut zombie = Story::with(Log::new(1, 0), |_| {});
    std::mem::swap(&mut zombie.log, &mut story.log);
    let mut successor = zombie.successor();
    successor.send("a", "X", Value::Null);
    assert_eq!(successor.journal("a")[1].epoch, 2);

    std::mem::swap(&mut successor.log, &mut story.log);
    story.run();
    assert!(story.dropped().contains("epoch 2 has written"));
    assert_eq!(story.journal("a").len(), 2);
}

#[test]
fn past_the_margin_of_its_lease_a_partition_is_silent_for_ever() {
    let mut story = Story::with(Log::new(1, 0), |_| {});
    story.handle(Input::Connected { server: "s1".into() });
    story.handle(Input::LeaseHeld { until: story.now + 5_000 });
    story.run();
    story.start("a", "work");

    story.now += 4_000;
    story.handle(Input::LeaseHeld { until: story.now + 5_000 });
    story.run();
    assert!(story.dropped().contains("the lease ran out"));
    story.end = None;
    story.handle(Input::LeaseHeld { until: story.now + 10_000 });
    story.handle(Input::Tick);
    assert!(story.waiting.is_empty() && story.machine.is_over());
}

#[test]
fn a_hand_over_finishes_what_is_in_flight_and_leaves_the_rest_open() {
    let mut story = Story::begin();
    story.start("hub", "hub");
    story.start("a", "work");
    story.start("b", "work");
    story.log.full_until[1] = u64::MAX;
    story.work("a", TaskOutcome::Ok(Value::Int(1)));
    story.holds = is_entry;
    story.send("b", "X", Value::Null);
    story.send("b", "Y", Value::Null);

    story.handle(Input::Drain);
    story.run();
    assert!(story.end.is_none(), "the entry of b is in flight");
    assert!(!story.machine.wants(Source::Events));
    story.let_go();

    assert!(matches!(story.end, Some(Output::Release)));
    assert_eq!(story.journal("b").len(), 2, "the second event was not begun");
    assert_eq!(story.open("events"), [5]);
    assert_eq!(story.open("signals"), [1, 4, 5], "the task of a found no room, its sends wait");

    story.log.full_until[1] = 0;
    let mut next = story.successor();
    next.pass(200);
    assert_eq!(next.journal("b").len(), 3);
    assert_eq!((next.open("events"), next.open("signals")), (vec![], vec![]));
    assert_eq!(next.count("task notify"), 1, "dispatched by the successor");
}

#[test]
fn a_full_task_stream_parks_one_execution_and_only_the_task_is_tried_again() {
    let mut story = Story::begin();
    story.start("hub", "hub");
    story.start("a", "work");
    story.log.full_until[1] = u64::MAX;
    story.work("a", TaskOutcome::Ok(Value::Int(1)));
    story.send("a", "GO", Value::Null);
    story.pass(8_000);

    assert_eq!(story.count("send hub"), 2, "sends went out once");
    assert_eq!(story.journal("a").len(), 2, "nothing is taken over the parked entry");
    assert_eq!(story.journal("hub").len(), 3, "others go on");
    assert_eq!(story.stuck, ["the stream of its effects is full"]);
    assert_eq!(story.machine.stats().stuck, 1);

    story.log.full_until[1] = 0;
    story.pass(1_500);
    assert!(story.journal("a").len() > 2);
    assert_eq!((story.count("send hub"), story.machine.stats().stuck), (2, 0));
}

#[test]
fn a_full_journal_parks_and_the_same_bytes_are_written_when_there_is_room() {
    let mut story = Story::begin();
    story.log.full_until[0] = 2_000;
    story.start("a", "work");
    story.send("a", "X", Value::Null);
    story.pass(3_000);

    let causes: Vec<usize> = story.journal("a").iter().map(|entry| entry.causes.len()).collect();
    assert_eq!(causes, [1, 1]);
}

#[test]
fn two_sends_to_one_target_go_one_after_the_other() {
    let mut story = Story::begin();
    story.start("hub", "hub");
    story.start("a", "work");
    story.holds = is_send;
    story.work("a", TaskOutcome::Ok(Value::Int(1)));

    assert_eq!(story.held.len(), 1, "the second waits for the first");
    story.let_go();
    assert_eq!(story.count("send hub"), 2);
    let pings = story.journal("hub").iter().skip(1).map(|entry| entry.causes.len()).sum::<usize>();
    assert_eq!(pings, 2);
}

#[test]
fn a_takeover_dispatches_what_was_committed_and_makes_no_finished_task_again() {
    let mut story = Story::begin();
    story.holds = is_task;
    story.start("a", "work");
    let (_, task) = story.held.pop().unwrap();
    story.pass(200);
    assert_eq!(story.log.positions[&0].0.inputs["events"].next, 1, "it is not dispatched");

    // The task arrives after all, is worked on and removed, before the successor looks.
    story.log.publish(&task, story.now);
    let (subject, stored) = story.log.tasks.pop_first().unwrap();
    let result = result_subject(&stored.execution, stored.task, stored.attempt);
    let body = Body::Result(TaskResult {
        task: stored.task,
        attempt: 1,
        outcome: TaskOutcome::Ok(Value::Int(1)),
    });
    story.log.signal(result, story.now, stored.execution, body);

    let mut next = story.successor();
    next.pass(200);
    assert_eq!(next.count("task charge"), 0, "{subject} was found done");
    assert!(next.reads.iter().any(|read| read.starts_with("Result") && read.ends_with("true")));
    assert_eq!(next.answer_to(1).outcome, "applied".into());
    assert_eq!(next.journal("a").len(), 2);
}

#[test]
fn an_entry_that_is_done_is_not_dispatched_again() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.pass(200);

    let mut next = story.successor();
    next.send("a", "X", Value::Null);
    assert_eq!(next.machine.stats().redispatched, 0);
    assert_eq!(next.journal("a").len(), 2);
}

#[test]
fn an_unanswered_commit_is_read_back_and_recognised() {
    let mut story = Story::begin();
    story.holds = is_entry;
    story.start("a", "work");
    let (op, entry) = story.held.pop().unwrap();
    story.log.publish(&entry, story.now);
    story.holds = |_| false;
    story.answer(op, Answer::Published(Published::Unknown));
    story.run();

    assert_eq!(story.count("entry"), 0, "it was not published again");
    assert_eq!((story.journal("a").len(), story.count("task charge")), (1, 1));
    assert_eq!(story.machine.stats().conflicts, 0);
}

#[test]
fn a_send_waits_for_the_events_before_it_and_then_finds_what_they_started() {
    let mut story = Story::begin();
    let events = std::mem::take(&mut story.cursors[0]);
    story.start("late", "work");
    let body = Body::Send(Send {
        sender: "a".parse().unwrap(),
        token: "1-0".parse().unwrap(),
        event_type: "PONG".parse().unwrap(),
        data: Value::Null,
    });
    story.now += 5;
    story.log.signal("send".into(), story.now, "late".parse().unwrap(), body);
    story.run();
    assert!(story.journal("late").is_empty() && story.log.dead.is_empty());

    story.cursors[0] = events;
    story.run();
    let causes: Vec<_> = story.journal("late").into_iter().flat_map(|entry| entry.causes).collect();
    assert_eq!(causes.len(), 2);
    assert_eq!(causes[1].outcome, Outcome::Applied);
}

#[test]
fn a_token_that_the_leader_does_not_know_either_is_of_a_life_that_was_lost() {
    let mut story = Story::begin();
    story.start("a", "work");
    let fired = |token: &str| Some(Body::Fired { timer: token.parse().unwrap() });
    let a: ExecutionId = "a".parse().unwrap();
    story.log.store(Source::Timers, story.now, a, None, fired("99-0"));
    story.log.store(Source::Timers, story.now, "ghost".parse().unwrap(), None, fired("1-0"));
    story.run();
    story.pass(200);

    assert!(story.reads.contains(&"a leader".to_owned()), "{:?}", story.reads);
    assert_eq!((story.machine.stats().stale, story.journal("a").len()), (1, 1));
    assert_eq!(story.log.dead[&(Source::Timers, 2)], DeadReason::UnknownExecution);
    assert!(story.open("timers").is_empty());
}

#[test]
fn a_signal_is_set_aside_once_the_position_says_so_and_nothing_is_taken_before() {
    let mut story = Story::begin();
    let body = Body::Send(Send {
        sender: "a".parse().unwrap(),
        token: "1-0".parse().unwrap(),
        event_type: "PONG".parse().unwrap(),
        data: Value::Null,
    });
    story.log.signal("send".into(), story.now, "ghost".parse().unwrap(), body);
    story.holds = is_dead;
    story.run();
    story.start("ghost", "work");
    story.pass(200);
    assert!(story.journal("ghost").is_empty() && story.log.dead.is_empty());
    let verdict = &story.log.positions[&0].0.inputs["signals"].aside[0];
    assert_eq!((verdict.seq, verdict.reason), (1, DeadReason::UnknownExecution));

    story.let_go();
    assert_eq!(story.log.dead[&(Source::Signals, 1)], DeadReason::UnknownExecution);
    assert_eq!(story.journal("ghost").len(), 1);
    story.pass(200);
    assert!(story.log.positions[&0].0.inputs["signals"].aside.is_empty());
}

#[test]
fn what_one_owner_will_set_aside_the_next_one_does_not_take_though_it_could() {
    let mut story = Story::with(Log::new(1, 0), |config| config.max_entry_bytes = 8_000);
    story.take_over();
    story.start("a", "work");
    story.holds = is_dead;
    let huge = story.send("a", "X", Value::from("y".repeat(9_000).as_str()));
    let unknown = story.start("x", "nothing");
    story.pass(50);
    assert_eq!(story.held.len(), 2);

    let mut next = Story::with(story.log, |_| {});
    next.now = story.now;
    next.templates.insert("nothing@1".into(), templates::named("nothing"));
    next.take_over();
    next.send("a", "X", Value::Null);
    next.pass(200);

    assert_eq!(next.log.dead[&(Source::Events, huge)], DeadReason::TooLarge);
    assert_eq!(next.log.dead[&(Source::Events, unknown)], DeadReason::UnknownTemplate);
    assert_eq!(&*next.answer_to(huge).outcome, "too-large");
    assert_eq!((next.journal("a").len(), next.journal("x").len()), (2, 0));
    assert!(next.open("events").is_empty());
}

#[test]
fn events_before_a_start_are_set_aside_at_once() {
    let mut story = Story::begin();
    let early = [story.send("a", "X", Value::Null), story.send("a", "Y", Value::Null)];
    story.start("a", "work");

    for event in early {
        assert_eq!(story.log.dead[&(Source::Events, event)], DeadReason::UnknownExecution);
        assert_eq!(story.answer_to(event).error.as_deref(), Some("no such execution"));
    }
    assert_eq!(story.journal("a").len(), 1);
}

#[test]
fn what_is_no_message_is_set_aside_and_others_go_on() {
    let mut story = Story::begin();
    story.start("a", "work");
    let execution: ExecutionId = "a".parse().unwrap();
    story.log.full_until[2] = 2_000;
    let seq = story.log.store(Source::Events, story.now, execution, Some("r".into()), None);
    story.send("a", "X", Value::Null);
    assert_eq!(story.journal("a").len(), 2);

    story.pass(3_000);
    assert_eq!(story.log.dead[&(Source::Events, seq)], DeadReason::Malformed);
    assert_eq!(
        &*story.replies.iter().find(|reply| &*reply.subject == "r").unwrap().outcome,
        "malformed"
    );
    assert!(story.open("events").is_empty());
}

#[test]
fn an_event_after_the_end_is_answered_closed_and_kept() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.send("a", "END", Value::Null);
    let late = story.send("a", "GO", Value::Null);

    assert_eq!(&*story.answer_to(late).outcome, "closed");
    assert_eq!(story.answer_to(late).status, Some(Status::Done));
    assert_eq!(story.log.dead[&(Source::Events, late)], DeadReason::Closed);

    story.log.full_until[2] = u64::MAX;
    let uncounted = story.send("a", "GO", Value::Null);
    story.pass(200);
    assert_eq!(&*story.answer_to(uncounted).outcome, "closed");
    assert!(story.open("events").is_empty(), "only counted, since PLED_DEAD is full");
}

#[test]
fn an_entry_that_would_be_too_large_is_split_and_a_single_event_set_aside() {
    let mut story = Story::with(Log::new(1, 0), |config| config.max_entry_bytes = 8_000);
    story.take_over();
    story.start("a", "work");
    story.holds = is_entry;
    story.send("a", "X", Value::Null);
    for _ in 0..4 {
        story.send("a", "X", Value::from("y".repeat(2_500).as_str()));
    }
    let huge = story.send("a", "X", Value::from("y".repeat(9_000).as_str()));
    story.let_go();
    story.pass(200);

    let causes: Vec<usize> = story.journal("a").iter().map(|entry| entry.causes.len()).collect();
    assert_eq!(causes.iter().sum::<usize>(), 6);
    assert!(causes.iter().all(|count| *count <= 2), "{causes:?}");
    assert_eq!(story.log.dead[&(Source::Events, huge)], DeadReason::TooLarge);
    assert_eq!(&*story.answer_to(huge).outcome, "too-large");
}

#[test]
fn a_result_that_is_too_large_ends_its_task_all_the_same() {
    let mut story = Story::with(Log::new(1, 0), |config| config.max_entry_bytes = 8_000);
    story.take_over();
    story.start("a", "work");
    story.work("a", TaskOutcome::Ok(Value::from("z".repeat(9_000).as_str())));

    let cause = &story.journal("a")[1].causes[0];
    assert_eq!(
        cause.data.get("error").unwrap().get("code"),
        Some(&Value::from("result_too_large"))
    );
    assert!(story.log.dead.is_empty());
}

#[test]
fn a_repeat_is_answered_with_the_first_outcome() {
    let mut story = Story::begin();
    story.start("a", "work");
    story.event("a", "X", None, Some("once"), Value::Null);
    let again = story.event("a", "X", None, Some("once"), Value::Null);

    let answer = story.answer_to(again);
    assert_eq!((&*answer.outcome, answer.seq, answer.repeat), ("ignored", Some(2), true));
    assert_eq!(story.journal("a").len(), 2);
}

#[test]
fn a_timer_fires_in_process_when_it_is_due_and_not_before() {
    let mut story = Story::begin();
    story.start("a", "work");
    let due = story.machine.next_due().unwrap();
    assert_eq!(due, EPOCH + story.now as Millis + 5_000);

    story.pass(4_999);
    assert_eq!(story.count("timer fire"), 0);
    story.pass(1);
    assert_eq!(story.count("timer fire"), 1);
    assert_eq!(story.journal("a")[1].causes[0].time, due);
    assert!(story.log.schedules.is_empty() && story.machine.next_due().is_none());
}

#[test]
fn a_timer_that_fired_before_it_was_due_by_the_server_s_clock_is_set_again() {
    let mut story = Story::begin();
    story.start("a", "work");
    let due = story.machine.next_due().unwrap();
    story.log.clock = -10_000; // It is put back, and the worker does not know.
    story.pass(5_200);
    assert_eq!((story.count("timer fire"), story.machine.stats().early), (1, 1));
    assert_eq!((story.count("timer set"), story.journal("a").len()), (2, 1));
    assert!(story.open("timers").is_empty());

    story.now += 10_000;
    let (key, set) = story.log.schedules.first_key_value().unwrap();
    let (key, set) = (key.clone(), *set);
    assert_eq!(set, due);
    story.log.fire_schedule(&key, story.now);
    story.run();
    assert_eq!(story.journal("a")[1].causes[0].time, due);
}

#[test]
fn of_several_entries_one_snapshot_is_written() {
    let mut story = Story::begin();
    story.start("a", "work");
    for _ in 0..3 {
        story.send("a", "X", Value::Null);
    }
    assert!(story.snapshots.is_empty());
    story.pass(150);

    let [snapshot] = &story.snapshots[..] else { panic!("{:?}", story.snapshots) };
    assert_eq!((snapshot.seq, snapshot.hash), (4, story.journal("a")[3].hash));
}

#[test]
fn a_large_state_is_loaded_from_its_base_and_the_entries_behind_it() {
    let mut story = Story::begin();
    story.start("big1", "big");
    for _ in 0..4 {
        story.send("big1", "X", Value::Null);
    }
    assert!(story.journal("big1")[4].state.is_none());
    story.pass(200);

    let mut next = story.successor();
    next.send("big1", "X", Value::Null);
    assert!(next.reads.contains(&"big1 from 1".to_owned()), "{:?}", next.reads);
    let entries = next.journal("big1");
    assert_eq!((entries.len(), entries[5].base), (6, Some(1)));
}

#[test]
fn no_more_is_wanted_while_too_much_is_open() {
    let mut story = Story::with(Log::new(1, 0), |config| config.open_max = 3);
    story.take_over();
    story.holds = is_entry;
    for number in 0..5 {
        story.start(&format!("x{number}"), "hub");
    }
    assert_eq!(story.machine.stats().open, 3);
    assert!(!story.machine.wants(Source::Events) && story.machine.wants(Source::Signals));
    story.let_go();
    assert_eq!(story.machine.stats().open, 0);
    assert_eq!(story.machine.stats().entries, 5);
}

#[test]
fn executions_are_forgotten_when_their_room_is_needed() {
    let mut story = Story::with(Log::new(1, 0), |config| config.cache_bytes = 4_000);
    story.take_over();
    for number in 0..20 {
        story.start(&format!("x{number}"), "hub");
    }
    let stats = story.machine.stats();
    assert!(stats.cached_bytes <= 4_000 && stats.cached < 4, "{stats:?}");
    story.send("x0", "X", Value::Null);
    assert_eq!(story.journal("x0").len(), 2);
}

#[test]
fn a_child_is_started_by_a_signal_and_its_end_is_one() {
    let mut story = Story::begin();
    story.start("fam", "family");
    story.send("fam", "GO", Value::Null);
    assert_eq!((story.count("start fam_2_0"), story.journal("fam_2_0").len()), (1, 1));

    story.work("fam_2_0", TaskOutcome::Ok(Value::Int(1)));
    assert_eq!(story.count("done fam 2-0"), 1);
    let fam = story.journal("fam");
    let after = fam.last().unwrap().state.as_ref().unwrap();
    assert_eq!(&*after.configuration[0], "rest");
    assert!(after.tasks.is_empty());
    assert_eq!(story.journal("fam_2_0").last().unwrap().status, Status::Done);
}

#[test]
fn a_child_of_a_template_that_is_not_registered_is_told_to_its_parent_and_not_kept_as_dead() {
    let mut story = Story::begin();
    story.start("fam", "family");
    story.send("fam", "BAD", Value::Null);
    story.pass(200);

    let fam = story.journal("fam");
    let codes = fam.last().unwrap().state.as_ref().unwrap().context.get("codes").cloned();
    assert_eq!(codes.unwrap().to_string(), r#"["unknown_template"]"#);
    assert!(story.journal("fam_2_0").is_empty() && story.log.dead.is_empty());
    story.pass(200);
    assert!(story.open("signals").is_empty());
}

#[test]
fn a_start_that_is_dispatched_again_after_a_kill_makes_no_second_child() {
    let mut story = Story::begin();
    story.start("fam", "family");
    story.holds = |publish| matches!(publish, Publish::ChildStart { .. });
    story.send("fam", "GO", Value::Null);
    story.pass(200);
    let (_, start) = story.held.pop().unwrap();

    let mut next = story.successor();
    next.pass(100);
    assert_eq!((next.count("start fam_2_0"), next.journal("fam_2_0").len()), (1, 1));

    // The first, late, where the second is not kept any more.
    let Publish::ChildStart { child, start } = start else { panic!("{start:?}") };
    next.log.signal("late".into(), next.now, child, Body::ChildStart(*start));
    next.run();
    next.pass(200);
    // The event that the first did not finish, and the start.
    assert_eq!((next.machine.stats().repeats, next.journal("fam_2_0").len()), (2, 1));
    assert!(next.open("signals").is_empty());
}

#[test]
fn an_event_for_what_may_be_a_child_waits_for_the_signals_before_it() {
    let mut story = Story::begin();
    story.start("fam", "family");
    let signals = std::mem::take(&mut story.cursors[1]);
    story.send("fam", "GO", Value::Null);
    story.now += 5;
    let hush = story.send("fam_2_0", "HUSH", Value::Null);
    assert!(story.journal("fam_2_0").is_empty() && story.log.dead.is_empty());

    story.cursors[1] = signals;
    story.run();
    assert_eq!(story.answer_to(hush).outcome, "applied".into());
    let other = story.send("order-2", "HUSH", Value::Null);
    assert_eq!(story.answer_to(other).outcome, "unknown-execution".into());
}

#[test]
fn events_and_signals_that_wait_for_each_other_go_on_where_neither_can_be_read() {
    let mut story = Story::with(Log::new(1, 0), |config| config.open_max = 1);
    story.take_over();
    let send = |number: u32| {
        Body::Send(Send {
            sender: "a".parse().unwrap(),
            token: format!("1-{number}").parse().unwrap(),
            event_type: "PONG".parse().unwrap(),
            data: Value::Null,
        })
    };
    let cursors = std::mem::take(&mut story.cursors);
    for number in 0..2 {
        let ghost = format!("ghost{number}").parse().unwrap();
        story.log.signal(format!("send{number}"), story.now, ghost, send(number));
        story.send(&format!("ghost_{number}_0"), "HUSH", Value::Null);
    }
    story.cursors = cursors;
    story.run();
    story.pass(500);

    assert_eq!(story.log.dead.len(), 4);
}
