//! What is fuzzed: each function takes any bytes, and panics if the core breaks a promise on them.
//!
//! Shared by the cargo-fuzz targets beside this file and by `engine/tests/fuzz.rs`, which runs them
//! on mutated templates in every test run.

use std::sync::Arc;

use pled_engine::entry::JournalEntry;
use pled_engine::execution::Execution;
use pled_engine::expression::{Budget, EventView, Expression, Roots, Scope};
use pled_engine::id::{EventType, Token};
use pled_engine::message::{
    Body, Event, Failure, Message, Millis, Send, Source, TaskOutcome, TaskResult,
};
use pled_engine::replay::{execution_of, fold, replay, verify_chain};
use pled_engine::simulate::simulate_line;
use pled_engine::step::{Writer, step};
use pled_engine::template::Template;
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::Value;
use pled_engine::why;

/// A template: it is refused with reasons, or an execution of it goes through the whole pipe. Says
/// how many messages that took.
pub(crate) fn template(bytes: &[u8]) -> u64 {
    let Ok(source) = std::str::from_utf8(bytes) else { return 0 };
    match Template::parse(source) {
        Ok(template) => {
            let seed = bytes
                .iter()
                .fold(1, |seed: u64, byte| seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte));
            live(&Arc::new(template), &mut Random::new(seed), 3)
        }
        Err(invalid) => {
            assert!(!invalid.errors.is_empty(), "refused without a reason");
            for error in &invalid.errors {
                assert!(source.get(error.span.clone()).is_some(), "{error:?} is at no text");
            }
            0
        }
    }
}

/// An expression and, behind the first line break, the data it looks at. Evaluation with a trace
/// must come to the same.
pub(crate) fn logic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (expression, data) = text.split_once('\n').unwrap_or((text, "null"));
    let (Ok(node), Ok(data)) = (Node::read(expression), Value::parse(data.as_bytes())) else {
        return;
    };
    let budget = || Budget { steps: 10_000, bytes: 1 << 16 };
    if let Some(expression) = Expression::compile_any_root(&node, &mut Findings::default()) {
        let _ = expression.evaluate_any_root(&data, &mut budget());
    }
    let states = |id: &str| (id == "a").then_some(1);
    let roots = Roots { context: true, item: true, states: Some(&states) };
    let Some(expression) = Expression::compile(&node, roots, &mut Findings::default()) else {
        return;
    };
    let context = data.as_object().cloned().unwrap_or_default();
    let event =
        EventView { event_type: "X".into(), data: data.clone(), id: None, source: None, time: 1 };
    let item = Some((&data, 3));
    let scope = Scope { context: Some(&context), event: &event, item, active: &[0, 1] };
    let (mut plain, mut traced) = (budget(), budget());
    let holds = expression.holds(&scope, &mut plain);
    let (same, trace) = expression.holds_traced(&scope, &mut traced, &|_| "a".into());
    assert_eq!(holds, same, "{trace:?}");
    assert_eq!((plain.steps, plain.bytes), (traced.steps, traced.bytes));
}

/// A stored entry: altered bytes are refused. What has the form of an entry, whatever it says, does
/// no harm to those that read, fold and replay it.
pub(crate) fn entry(bytes: &[u8], template: &Arc<Template>) {
    if let Ok(entry) = JournalEntry::decode(bytes) {
        assert!(entry.verify_hash() || entry.encode().map(|again| again != bytes).unwrap_or(true));
    }
    let Ok(entry) = serde_json::from_slice::<JournalEntry>(bytes) else { return };
    let entries = std::slice::from_ref(&entry);
    let _ = (entry.encode(), verify_chain(entries), replay(template, entries));
    let _ = fold(Execution::unborn(entry.execution.clone()), template, entries);
    let _ = why::of_entry(template, entries, entry.seq).map(|why| why.map(|why| why.to_string()));
    let Some(execution) = execution_of(&entry) else { return };
    let mut life = Life { now: execution, entries: Vec::new(), base: None };
    let mut random = Random::new(entry.seq);
    for _ in 0..3 {
        let message = message(template, &life.now, &mut random);
        life.take(template, &[message]);
    }
}

/// A case of `pled simulate --jsonl`: each gets an answer of one line of JSON.
pub(crate) fn line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let answer = simulate_line(text);
    assert!(!answer.contains('\n'));
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer is JSON");
    assert!(answer.get("name").is_some());
}

/// Takes `steps` steps of an execution of `template`, with what `random` makes up as messages, and
/// replays all of it. Says how many messages that took.
pub(crate) fn live(template: &Arc<Template>, random: &mut Random, steps: u32) -> u64 {
    let mut given = 1;
    let mut life = Life {
        now: Execution::unborn("x".parse().expect("an id")),
        entries: Vec::new(),
        base: None,
    };
    life.take(template, &[start(template, random)]);
    for _ in 0..steps {
        let count = random.below(8).saturating_sub(5).max(1);
        given += count;
        let messages: Vec<Message> =
            (0..count).map(|_| message(template, &life.now, random)).collect();
        life.take(template, &messages);
    }
    life.check(template);
    given
}

/// An execution whose entries go through their stored bytes.
struct Life {
    now: Execution,
    entries: Vec<JournalEntry>,
    base: Option<u64>,
}

impl Life {
    fn take(&mut self, template: &Template, messages: &[Message]) {
        let taken = step(template, &self.now, messages);
        assert!(taken.verdicts.len() <= messages.len());
        let Some(draft) = taken.draft else { return };
        let writer = Writer { worker: "w".into(), epoch: 1 };
        let sealed = draft.seal(&writer, self.base);
        let decoded = JournalEntry::decode(&sealed.bytes).expect("what was sealed can be read");
        assert_eq!(decoded, sealed.whole_entry());
        for (index, effect) in sealed.entry.effects.iter().enumerate() {
            let id = format!("{}/{}/{index}", sealed.entry.execution, sealed.entry.seq);
            assert_eq!(*effect.id, *id);
        }
        if sealed.entry.base.is_none() {
            self.base = Some(sealed.entry.seq);
        }
        self.entries.push(decoded);
        self.now = sealed.after;
    }

    fn check(&self, template: &Template) {
        let Some(last) = self.entries.last() else { return };
        let replayed = replay(template, &self.entries).expect("what was done is done again");
        assert_eq!(replayed.execution, self.now);
        verify_chain(&self.entries).expect("a chain");
        let told = why::of_entry(template, &self.entries, last.seq).expect("the same again");
        assert!(!told.expect("its entry is there").to_string().is_empty());
    }
}

/// The message that starts an execution.
pub(crate) fn start(template: &Template, random: &mut Random) -> Message {
    let event_type: EventType = "pled.init".parse().expect("an event type");
    let event = Event {
        event_type,
        id: None,
        origin: None,
        start: Some((&template.reference()).into()),
        emitted: None,
        data: random.value(3),
    };
    Message {
        execution: "x".parse().expect("an id"),
        source: Source::Events,
        generation: 1,
        stream_seq: 1,
        time: 1_764_000_000_000,
        reply: None,
        body: Body::Event(event),
    }
}

/// A message that the execution may expect, or one that it may not.
fn message(template: &Template, now: &Execution, random: &mut Random) -> Message {
    let (source, body) = match random.below(10) {
        0..=4 => (Source::Events, Body::Event(event(template, random))),
        5 | 6 => (Source::Signals, Body::Result(result(now, random))),
        7 => (Source::Signals, Body::Send(send(template, random))),
        _ => {
            let timers: Vec<Token> = now.state.timers.keys().copied().collect();
            (Source::Timers, Body::Fired { timer: random.token(&timers) })
        }
    };
    let taken = now.state.taken;
    let (generation, last) = match source {
        Source::Events => taken.events,
        Source::Signals | Source::Own => taken.signals,
        Source::Timers => taken.timers,
    };
    let other = if random.below(100) == 0 { "y" } else { now.id.as_str() };
    Message {
        execution: other.parse().expect("an id"),
        source: if random.below(200) == 0 { Source::Own } else { source },
        generation: if random.below(50) == 0 { random.next() } else { generation.max(1) },
        stream_seq: if random.below(50) == 0 { random.next() } else { last.saturating_add(1) },
        time: random.time(now.at),
        reply: (random.below(20) == 0).then(|| "inbox.1".into()),
        body,
    }
}

fn event(template: &Template, random: &mut Random) -> Event {
    Event {
        event_type: event_type(template, random),
        id: (random.below(4) == 0).then(|| random.text().into()),
        origin: (random.below(8) == 0).then(|| random.text().into()),
        start: (random.below(20) == 0).then(|| (&template.reference()).into()),
        emitted: (random.below(20) == 0)
            .then(|| ("rules-1".into(), random.below(9), random.below(3))),
        data: random.value(3),
    }
}

/// Mostly one that the template has transitions for.
fn event_type(template: &Template, random: &mut Random) -> EventType {
    let fixed =
        ["NOISE", "pled.cancel", "pled.terminate", "error.x", "a.b.c", "done.invoke.charge"];
    let picked = random.pick(&template.states).and_then(|state| {
        let names: Vec<&Arc<str>> = state.on.exact.keys().collect();
        random.pick(&names).map(|name| EventType::try_from((*name).clone()))
    });
    let name = *random.pick(&fixed).unwrap_or(&"NOISE");
    match picked {
        Some(Ok(picked)) if random.below(5) > 0 => picked,
        Some(_) | None => name.parse().expect("an event type"),
    }
}

fn result(now: &Execution, random: &mut Random) -> TaskResult {
    let tasks: Vec<Token> = now.state.tasks.keys().copied().collect();
    let task = random.token(&tasks);
    let attempt = now.state.tasks.get(&task).map_or(1, |task| task.attempt);
    TaskResult {
        task,
        attempt: if random.below(10) == 0 { u32::MAX } else { attempt },
        outcome: match random.below(5) {
            0 => TaskOutcome::Started,
            1 | 2 => TaskOutcome::Ok(random.value(3)),
            _ => TaskOutcome::Failed(Failure {
                code: random.text().into(),
                message: random.text(),
                details: random.value(2),
                retryable: random.below(2) == 0,
                retry_after_ms: None,
            }),
        },
    }
}

fn send(template: &Template, random: &mut Random) -> Send {
    let sender = if random.below(3) == 0 { "x" } else { "other" };
    Send {
        sender: sender.parse().expect("an id"),
        token: random.token(&[]),
        event_type: event_type(template, random),
        data: random.value(2),
    }
}

/// Seeded chance: SplitMix64, so that a seed gives the same run everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// From this seed on.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A place in something of that length; 0 in nothing.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.place(of.len()))
    }

    fn token(&mut self, known: &[Token]) -> Token {
        if self.below(10) > 0
            && let Some(token) = self.pick(known)
        {
            return *token;
        }
        let index = u32::try_from(self.below(5)).unwrap_or(0);
        Token { entry: if self.below(5) == 0 { self.next() } else { self.below(4) }, index }
    }

    fn time(&mut self, now: Millis) -> Millis {
        match self.below(40) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => -1,
            3 => 9_007_199_254_740_991,
            4 => 0,
            _ => now.saturating_add(i64::try_from(self.below(100_000)).unwrap_or(0)),
        }
    }

    /// A text that is no one's friend.
    pub(crate) fn text(&mut self) -> String {
        const TEXTS: [&str; 14] = [
            "",
            "a",
            "charge",
            "x.y.*",
            "*",
            "pled.init",
            "\u{0}",
            "\u{1f600}\u{301}",
            "\u{ffff}\u{e000}",
            "9007199254740993",
            "1e999",
            " 0x10 ",
            "\\\"\n\r\t",
            "__proto__",
        ];
        match self.below(60) {
            0 => "long ".repeat(2_000),
            _ => (*self.pick(&TEXTS).unwrap_or(&"")).to_owned(),
        }
    }

    /// A value that is nested at most so deep.
    pub(crate) fn value(&mut self, depth: u32) -> Value {
        const NUMBERS: [f64; 9] =
            [0.0, 1.0, -1.0, 0.5, 70.0, 1e21, 1e-7, 9_007_199_254_740_991.0, f64::MAX];
        const KEYS: [&str; 10] = [
            "amount",
            "lines",
            "orderId",
            "reason",
            "code",
            "n",
            "list",
            "charge_id",
            "",
            "\u{1f600}",
        ];
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => Value::from(self.below(2) == 0),
            2 | 3 => {
                let number = *self.pick(&NUMBERS).unwrap_or(&0.0);
                Value::from_f64(number).unwrap_or_default()
            }
            4 => Value::from(self.text()),
            5 => {
                let length = self.below(4);
                (0..length).map(|_| self.value(depth - 1)).collect::<Vec<_>>().into()
            }
            _ => {
                let length = self.below(5);
                let member = |random: &mut Self| {
                    let key = *random.pick(&KEYS).unwrap_or(&"n");
                    (key, random.value(depth - 1))
                };
                Value::Object((0..length).map(|_| member(self)).collect())
            }
        }
    }
}
