//! How fast the core is: each group holds a figure of benches/RESULTS.md.
#![expect(clippy::unwrap_used, reason = "a bench of broken input is to fail")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pled_engine::entry::JournalEntry;
use pled_engine::execution::Execution;
use pled_engine::expression::{Budget, EventView, Expression, Scope};
use pled_engine::message::Message;
use pled_engine::replay::replay;
use pled_engine::rule::{RawEvent, emissions};
use pled_engine::statechart;
use pled_engine::step::{Writer, step};
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};

#[expect(dead_code, reason = "the tests of the step use the rest")]
#[path = "../tests/life/mod.rs"]
mod life;

use life::{Life, json, machine, order};

/// That of the `pled` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A guard of seven nodes over contexts of three sizes: the size must not be seen.
fn guard(criterion: &mut Criterion) {
    let template = machine(
        r##""context":{"amount":4990,"lines":2},"initial":"a",
        "states":{"a":{"on":{"PAY":{"target":"#machine.b","guard":{"and":[
          {">":[{"var":"context.amount"},100]},
          {"==":[{"var":"event.data.tier"},"gold"]}]}}}},"b":{}}"##,
    );
    let guard = template.states[1].on.exact["PAY"][0].guard.as_ref().unwrap();
    let event = event("PAY", json(r#"{"tier":"gold"}"#));
    let mut group = criterion.benchmark_group("guard");
    for (name, bytes) in [("150 B", 150), ("3 KB", 3_000), ("56 KB", 56_000)] {
        let context = padded(&template.context, bytes);
        group.bench_function(name, |bencher| bencher.iter(|| holds(guard, &context, &event)));
    }
    group.finish();
}

fn holds(guard: &Expression, context: &Object, event: &EventView) -> bool {
    let mut budget = Budget { steps: 100_000, bytes: 1 << 20 };
    let scope = Scope { context: Some(context), event, item: None, active: &[0, 1] };
    guard.holds(black_box(&scope), &mut budget).unwrap()
}

/// Steps of the order example from the loaded execution to the bytes to be written.
fn order_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("order step");
    let mut life = Life::ordered();
    let hold = life.event("HOLD", r#"{"reason":"risk 80"}"#);
    let noise = life.event("NOISE", r#"{"n":1}"#);
    let charged = result_of(&mut life, "charge", r#"{"charge_id":"ch_1"}"#);
    for (name, message) in [
        ("HOLD: cancels the charge, hands out a task", &hold),
        ("charge is done: hands out two tasks", &charged),
        ("ignored", &noise),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| sealed(&life.template, &life.now, black_box(message)));
        });
    }
    let (steps, template) = (whole_life(), order());
    group.throughput(Throughput::Elements(steps.len().try_into().unwrap()));
    group.bench_function("a whole life", |bencher| {
        bencher.iter(|| {
            let mut now = Execution::unborn(steps[0].execution.clone());
            for message in &steps {
                now = sealed(&template, &now, message);
            }
            now
        });
    });
    group.finish();
}

fn result_of(life: &mut Life, name: &str, data: &str) -> Message {
    let outcome = pled_engine::message::TaskOutcome::Ok(json(data));
    life.result(life.task(name), 1, outcome)
}

/// The messages of an order that is paid, shipped and invoiced.
fn whole_life() -> Vec<Message> {
    let mut life = Life::unborn(&order());
    let mut messages = Vec::new();
    let mut take = |life: &mut Life, message: Message| {
        life.take_one(&message);
        messages.push(message);
    };
    let start = life.start(r#"{"orderId":"order-42","amount":4990,"lines":2}"#);
    take(&mut life, start);
    for (name, data) in [
        ("charge", r#"{"charge_id":"ch_1"}"#),
        ("ship", r#"{"tracking":"T-1"}"#),
        ("invoice", r#"{"number":"R-7"}"#),
    ] {
        let message = result_of(&mut life, name, data);
        take(&mut life, message);
    }
    assert!(life.status().is_terminal());
    messages
}

fn sealed(template: &Template, before: &Execution, message: &Message) -> Execution {
    let writer = Writer { worker: "worker-1".into(), epoch: 3 };
    let step = step(template, before, std::slice::from_ref(message));
    step.draft.unwrap().seal(&writer, Some(7)).after
}

/// The algorithm alone, without an entry: an event that nothing handles, and one that moves.
fn macrostep(criterion: &mut Criterion) {
    let template = order();
    let life = Life::ordered();
    let chart = statechart::chart_from(&template, &life.now.state).unwrap();
    let mut group = criterion.benchmark_group("macrostep");
    let noise = event("NOISE", Value::Null);
    let mut resting = chart.clone();
    group.bench_function("nothing handles it", |bencher| {
        bencher.iter(|| statechart::macrostep(&template, &mut resting, black_box(&noise)).unwrap());
    });
    let hold = event("HOLD", json(r#"{"reason":"risk 80"}"#));
    group.bench_function("HOLD", |bencher| {
        bencher.iter(|| {
            let mut chart = chart.clone();
            statechart::macrostep(&template, &mut chart, black_box(&hold)).unwrap();
            chart
        });
    });
    group.finish();
}

/// From the stored bytes of 10,000 events: read, each hash checked, each step taken again.
fn replay_of_a_journal(criterion: &mut Criterion) {
    const EVENTS: u64 = 10_000;
    let mut life = Life::ordered();
    for round in 1..EVENTS {
        match round % 3 {
            1 => life.receives("HOLD", r#"{"reason":"risk 80"}"#),
            2 => life.succeeds("notify.ops", "null"),
            _ => life.receives("RESUME", "null"),
        };
    }
    let stored: Vec<Vec<u8>> = life.entries.iter().map(|entry| entry.encode().unwrap()).collect();
    let mut group = criterion.benchmark_group("10,000 entries");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    group.bench_function("replay", |bencher| {
        bencher.iter(|| replay(&life.template, &life.entries).unwrap());
    });
    let decoded = || stored.iter().map(|bytes| JournalEntry::decode(bytes).unwrap());
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decoded().for_each(|entry| drop(black_box(entry))));
    });
    group.bench_function("decode and replay", |bencher| {
        bencher.iter(|| replay(&life.template, &decoded().collect::<Vec<_>>()).unwrap());
    });
    group.finish();
}

/// Rules by the second: of an event that few of many want, and of one that all want.
fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    for (count, matching) in [(4, 1), (1_000, 10), (1_000, 1_000)] {
        let template = rule_book(count, matching);
        let event = RawEvent {
            event_type: "order.flagged".into(),
            data: json(r#"{"order_id":"order-42","risk":80,"region":"eu"}"#),
            source: "shop".into(),
            id: Some("e-1".into()),
            time: 1_764_000_000_000,
        };
        assert_eq!(emissions(&template, &event).messages.len(), matching);
        group.throughput(Throughput::Elements(count.try_into().unwrap()));
        group.bench_function(format!("{count}, of which {matching} fire"), |bencher| {
            bencher.iter(|| emissions(&template, black_box(&event)));
        });
    }
    group.finish();
}

fn rule_book(count: usize, matching: usize) -> Arc<Template> {
    let rule = |index: usize| {
        let least = if index < matching { 70 } else { 90 };
        format!(
            r#"{{"id":"r{index}","when":{{"and":[{{"==":[{{"var":"event.type"}},"order.flagged"]}},
            {{">=":[{{"var":"event.data.risk"}},{least}]}}]}},
            "emit":[{{"key":{{"var":"event.data.order_id"}},"event":"HOLD"}}]}}"#
        )
    };
    let rules: Vec<String> = (0..count).map(rule).collect();
    machine(&format!(r#""rules":[{}],"initial":"a","states":{{"a":{{}}}}"#, rules.join(",")))
}

/// Reading, checking and compiling templates.
fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    let order = include_str!("../../examples/order-fulfilment.json");
    group.bench_function("the order example", |bencher| {
        bencher.iter(|| Template::parse(black_box(order)).unwrap());
    });
    let source = wide(1_000);
    group.bench_function("1,000 states", |bencher| {
        bencher.iter(|| Template::parse(black_box(&source)).unwrap());
    });
    group.finish();
}

/// A step must cost the same however many states the template has.
fn many_states(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step of a template of so many states");
    for count in [100, 1_000, 10_000] {
        let template = life::template(&wide(count));
        let mut life = Life::started(&template, "null");
        life.receives("NEXT", r#"{"n":1}"#);
        let (next, noise) = (life.event("NEXT", r#"{"n":1}"#), life.event("NOISE", "null"));
        for (name, message) in [("NEXT", &next), ("ignored", &noise)] {
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| sealed(&template, &life.now, black_box(message)));
            });
        }
    }
    group.finish();
}

/// A ring of about `count` states, each in a stage of ten: with a guard, an assignment, a timer and
/// a history to come back to.
fn wide(count: usize) -> String {
    let stages = count / 11;
    let mut states = String::new();
    for stage in 0..stages {
        let next = (stage + 1) % stages;
        let comma = if stage == 0 { "" } else { "," };
        let _ = write!(
            states,
            r##"{comma}"s{stage}":{{"initial":"a0","on":{{"SKIP":"#m.s{next}","*":[{{"guard":false,"target":"#m.s0"}}]}},"states":{{"##
        );
        for inner in 0..9 {
            let target = if inner == 8 { format!("#m.s{next}") } else { format!("a{}", inner + 1) };
            let comma = if inner == 0 { "" } else { "," };
            let _ = write!(
                states,
                r##"{comma}"a{inner}":{{"on":{{"NEXT":[{{"guard":{{">":[{{"var":"event.data.n"}},0]}},"target":"{target}","actions":[{{"type":"assign","params":{{"n":{{"+":[{{"var":"context.n"}},1]}}}}}}]}}],"BACK":"#m.s{stage}.back"}},"after":{{"60000":"#m.s{stage}"}}}}"##
            );
        }
        states.push_str(r#","back":{"type":"history"}}}"#);
    }
    format!(
        r#"{{"pled":"1.0","id":"m","version":1,"logic":"pled-logic-1","context":{{"n":0}},"initial":"s0","states":{{{states}}}}}"#
    )
}

fn event(event_type: &str, data: Value) -> EventView {
    EventView { event_type: event_type.into(), data, id: None, source: None, time: 0 }
}

/// `context` with as many more members as `bytes` want.
fn padded(context: &Object, bytes: usize) -> Object {
    let mut padded = context.clone();
    let mut index = 0;
    while Value::Object(padded.clone()).canonical_len() + 40 < bytes {
        padded.insert(format!("item{index:05}"), Value::from("some text of a line"));
        index += 1;
    }
    padded
}

criterion_group! {
    name = core;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = guard, order_step, macrostep, replay_of_a_journal, rules, compile, many_states
}
criterion_main!(core);
