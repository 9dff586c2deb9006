//! The core panics on nothing: mutated templates, messages, expressions, stored entries and
//! simulated cases, 100,000 inputs in all, go through reading, step, seal, decode and replay.
//!
//! `PLED_FUZZ_CASES` asks for more, `PLED_FUZZ_SEED` for others. A failure prints both with its
//! input. The functions under test are shared with cargo-fuzz: see `fuzz/README.md`.

#![cfg(test)]

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use pled_engine::entry::JournalEntry;
use pled_engine::execution::Execution;
use pled_engine::step::{Writer, step};
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};
use targets::Random;

/// Uses what a template can say on little space.
const RICH: &str = r##"{"pled":"1.0","id":"m","version":1,"logic":"pled-logic-1",
"context":{"n":0,"list":[1,2],"text":"a"},"delays":{"soon":{"*":[{"var":"context.n"},10]}},
"rules":[{"id":"r","when":{"==":[{"var":"event.type"},"A"]},"emit":[{"key":{"var":"event.data.id"},"event":"GO"}]}],
"initial":"a","output":{"n":{"var":"context.n"}},
"entry":[{"type":"assign","params":{"n":{"var":["event.data.n",1]}}}],
"on":{"HOLD":"#m.held","*":{"actions":[{"type":"log","params":{"it":{"var":"event"}}}]}},
"states":{
"a":{"after":{"soon":".deep","1000":{"target":"#m.p","guard":{"inState":"m.a"}}},"initial":"x",
 "on":{"GO":[{"target":"#m.p","guard":{"and":[{">":[{"var":"event.data.n"},0]},{"some":[{"var":"context.list"},{"==":[{"var":""},2]}]}]}},"#m.a.h"],
       "n.*":{"actions":[{"type":"choose","params":{"branches":[{"guard":{"<":[{"var":"context.n"},5]},"actions":[{"type":"raise","params":{"event":"GO","data":{"n":1}}}]},{"actions":[{"type":"send","params":{"event":"n.again","delay_ms":5,"id":"d"}}]}]}}]}},
 "states":{"x":{"on":{"NEXT":"deep"},"exit":[{"type":"cancel","params":{"id":"d"}}]},"deep":{"always":{"guard":{"===":[{"var":"context.text"},"b"]},"target":"#m.end"}},"h":{"type":"history","history":"deep"}}},
"p":{"type":"parallel","onDone":"#m.end","states":{
 "l":{"initial":"w","states":{"w":{"invoke":{"id":"charge","src":"pay","input":{"n":{"var":"context.n"}},"retry":{"max_attempts":2,"initial_interval_ms":5},"timeout":{"schedule_to_close_ms":50,"schedule_to_start_ms":20},"onDone":{"target":"d","actions":[{"type":"assign","params":{"text":{"var":"event.data"}}}]},"onError":"#m.held"}},"d":{"type":"final","output":{"cat":[{"var":"context.text"},"!"]}}}},
 "r":{"initial":"w","states":{"w":{"entry":[{"type":"mail","params":{"to":{"var":"context.text"}}}],"on":{"GO":"d"}},"d":{"type":"final"}}}}},
"held":{"on":{"RESUME":"#m.a.h","GO":{"target":"#m.held","reenter":true}}},
"end":{"type":"final","output":{"var":"context.list"}}}}"##;

const EXPRESSIONS: [&str; 6] = [
    r#"{"and":[{">":[{"var":"context.n"},1]},{"inState":"a"}]}"#,
    r#"{"reduce":[{"var":"event.data.list"},{"+":[{"var":"current"},{"var":"accumulator"}]},0]}"#,
    r#"{"map":[{"filter":[{"var":"context.list"},{"!":{"missing":["a","b"]}}]},{"substr":[{"cat":[{"var":"a"},"x"]},-2]}]}"#,
    r#"{"if":[{"in":["a",{"var":"event.data"}]},{"merge":[[1],{"var":"item"}]},{"missing_some":[1,["context.a","context.b"]]}]}"#,
    r#"{"all":[{"var":"context.list"},{"<=":[0,{"%":[{"var":""},7]},{"max":[1,2,3]}]}]}"#,
    r#"{"!==":[{"var":["context.x",{"/":[1,{"var":"event.time"}]}]},{"-":["5"]}]}"#,
];

const CASES: u64 = 100_000;

#[test]
fn the_core_panics_on_nothing() {
    let number = |name: &str, default| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
    };
    let (seed, cases) = (number("PLED_FUZZ_SEED", 1), number("PLED_FUZZ_CASES", CASES));
    let corpus = Corpus::read();
    let (mut case, mut inputs) = (0_u64, 0);
    while inputs < cases {
        case += 1;
        let mut random = Random::new(seed ^ case.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut input = Vec::new();
        let run = catch_unwind(AssertUnwindSafe(|| corpus.run(&mut random, &mut input)));
        let Ok(given) = run else {
            let input = String::from_utf8_lossy(&input);
            panic!("PLED_FUZZ_SEED={seed}, case {case}: a panic on\n{input}");
        };
        inputs += given;
    }
}

/// What is mutated.
struct Corpus {
    /// Templates, as they are written and as values.
    sources: Vec<String>,
    values: Vec<Value>,
    /// Those that compile.
    templates: Vec<Arc<Template>>,
    /// Cases of the simulation.
    lines: Vec<String>,
    /// Stored entries, with the template of each.
    entries: Vec<(Vec<u8>, Arc<Template>)>,
    expressions: Vec<Value>,
}

impl Corpus {
    fn read() -> Self {
        let lines = lines();
        let of_line = |line: &String| {
            let case = Value::parse(line.as_bytes()).expect("a case");
            case.get("template").expect("its template").to_string()
        };
        let mut sources = vec![RICH.to_owned()];
        sources.extend(lines.iter().map(of_line));
        let large = [
            include_str!("../../examples/order-fulfilment.json"),
            include_str!("../../examples/approval.json"),
        ];
        let of_source = |source: &str| {
            Arc::new(Template::parse(source).unwrap_or_else(|error| panic!("{error}")))
        };
        let templates: Vec<_> =
            sources.iter().map(|source| of_source(source)).chain(large.map(of_source)).collect();
        let entries = templates.iter().rev().take(8).chain(&templates[..1]);
        Self {
            values: sources
                .iter()
                .map(|source| Value::parse(source.as_bytes()).expect("JSON"))
                .collect(),
            entries: entries.map(|template| (first_entry(template), template.clone())).collect(),
            expressions: EXPRESSIONS
                .iter()
                .map(|text| Value::parse(text.as_bytes()).expect("JSON"))
                .collect(),
            sources,
            templates,
            lines,
        }
    }

    /// Makes up a case and runs it; `input` is what it was. Says how many inputs that were.
    fn run(&self, random: &mut Random, input: &mut Vec<u8>) -> u64 {
        match random.below(20) {
            // Whole executions of templates as they are, with messages that are made up.
            0..=8 => {
                let template = random.pick(&self.templates).expect("a template").clone();
                input.extend_from_slice(template.source.as_bytes());
                return targets::live(&template, random, 3);
            }
            9..=12 => {
                let value = random.pick(&self.values).expect("a value").clone();
                *input = mutated(random, &value, &self.values).to_canonical();
                return 1 + targets::template(input);
            }
            13 => {
                let source = random.pick(&self.sources).expect("a source");
                *input = scrambled(random, source.as_bytes());
                return 1 + targets::template(input);
            }
            14..=16 => {
                let expression = random.pick(&self.expressions).expect("one").clone();
                *input = mutated(random, &expression, &self.expressions).to_canonical();
                input.push(b'\n');
                input.extend(random.value(4).to_canonical());
                targets::logic(input);
            }
            17 => {
                let (bytes, template) = random.pick(&self.entries).expect("an entry");
                *input = scrambled(random, bytes);
                targets::entry(input, template);
            }
            18 => {
                let (bytes, template) = random.pick(&self.entries).expect("an entry");
                let value = Value::parse(bytes).expect("JSON");
                *input = mutated(random, &value, &self.values).to_canonical();
                targets::entry(input, template);
            }
            _ => {
                let line = random.pick(&self.lines).expect("a line");
                *input = if random.below(2) == 0 {
                    scrambled(random, line.as_bytes())
                } else {
                    let value = Value::parse(line.as_bytes()).expect("JSON");
                    mutated(random, &value, &self.values).to_canonical()
                };
                targets::line(input);
            }
        }
        1
    }
}

/// Some cases of `data/statecharts.jsonl.gz`, as lines that the simulation takes.
fn lines() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/statecharts.jsonl.gz");
    let file = std::fs::File::open(path).expect("the cases");
    let lines = BufReader::new(GzDecoder::new(file)).lines().map(|line| line.expect("a line"));
    let head = r#""template":{"pled":"1.0","version":1,"logic":"pled-logic-1","#;
    let lines = lines.map(|line| line.replacen(r#""template":{"#, head, 1));
    lines.step_by(5).filter(|line| line.len() < 8_000).collect()
}

/// The stored bytes of an execution's first entry.
fn first_entry(template: &Arc<Template>) -> Vec<u8> {
    let mut random = Random::new(7);
    let message = targets::start(template, &mut random);
    let execution = Execution::unborn(message.execution.clone());
    let draft = step(template, &execution, &[message]).draft.expect("a start is taken");
    let sealed = draft.seal(&Writer { worker: "w".into(), epoch: 1 }, None);
    assert!(JournalEntry::decode(&sealed.bytes).is_ok());
    sealed.bytes.to_vec()
}

/// Bytes with a few changes that know nothing of what they mean.
fn scrambled(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.place(bytes.len());
        let end = at.saturating_add(random.place(40)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copied = bytes[at..end].to_vec();
                let to = random.place(bytes.len());
                drop(bytes.splice(to..to, copied));
            }
            3 => drop(bytes.splice(at..at, "[".repeat(300).into_bytes())),
            4 => drop(bytes.splice(at..end, random.text().into_bytes())),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// A value with a few changes at places of its own; some bring in parts of others.
fn mutated(random: &mut Random, value: &Value, others: &[Value]) -> Value {
    let mut value = value.clone();
    for _ in 0..=random.below(2) {
        let place = random.place(count(&value));
        value = replaced(random, &value, &mut { place }, others);
    }
    value
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(object) => object.iter().map(|(_, member)| count(member)).sum(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => 0,
    }
}

/// Replaces what stands at `place`, counted from the root.
fn replaced(random: &mut Random, value: &Value, place: &mut usize, others: &[Value]) -> Value {
    if *place == 0 {
        *place = usize::MAX;
        return replacement(random, value, others);
    }
    *place = place.saturating_sub(1);
    let mut within = |value: &Value| {
        let size = count(value);
        if *place >= size {
            // Not in here, or done already.
            *place = if *place == usize::MAX { usize::MAX } else { *place - size };
            return value.clone();
        }
        replaced(random, value, place, others)
    };
    match value {
        Value::Array(elements) => elements.iter().map(&mut within).collect::<Vec<_>>().into(),
        Value::Object(object) => {
            let members = object.iter().map(|(key, member)| (key.clone(), within(member)));
            Value::Object(members.collect())
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => {
            value.clone()
        }
    }
}

fn replacement(random: &mut Random, value: &Value, others: &[Value]) -> Value {
    match (random.below(7), value) {
        (0, _) => random.value(3),
        (1, _) => {
            let other = random.pick(others).expect("another").clone();
            let place = random.place(count(&other));
            part(&other, &mut { place }).unwrap_or_default()
        }
        (2, _) => {
            let depth = random.below(150);
            let wrap = |inner: Value, _| Value::from(vec![inner]);
            (0..depth).fold(value.clone(), wrap)
        }
        (3, _) => Value::from(vec![value.clone(), value.clone()]),
        (_, Value::Object(object)) if !object.is_empty() => changed_object(random, object, others),
        (_, Value::Array(elements)) if !elements.is_empty() => {
            let mut elements = elements.to_vec();
            let at = random.place(elements.len());
            match random.below(3) {
                0 => drop(elements.remove(at)),
                1 => elements.push(elements[at].clone()),
                _ => elements.reverse(),
            }
            elements.into()
        }
        (_, Value::Int(int)) => {
            Value::from_f64(f64::from(i32::try_from(*int).unwrap_or(7)) * -1e9).unwrap_or_default()
        }
        (_, Value::String(text)) if random.below(2) == 0 => Value::from(format!("{text}.*")),
        (_, _) => Value::from(random.text()),
    }
}

/// Without a member, or with one more, or with one under another's key.
fn changed_object(random: &mut Random, object: &Object, others: &[Value]) -> Value {
    let mut changed = object.clone();
    let keys: Vec<_> = object.iter().map(|(key, _)| key.clone()).collect();
    let (one, other) = (random.pick(&keys), random.pick(&keys));
    let (Some(one), Some(other)) = (one, other) else { return Value::Null };
    match random.below(3) {
        0 => drop(changed.remove(one)),
        1 => {
            let member = changed.remove(one).unwrap_or_default();
            let key = if random.below(2) == 0 { other.to_string() } else { random.text() };
            changed.insert(key, member);
        }
        _ => {
            let from = random.pick(others).expect("another").clone();
            let place = random.place(count(&from));
            changed.insert(one.clone(), part(&from, &mut { place }).unwrap_or_default());
        }
    }
    changed.into()
}

/// What stands at `place` in `value`.
fn part(value: &Value, place: &mut usize) -> Option<Value> {
    if *place == 0 {
        return Some(value.clone());
    }
    *place -= 1;
    match value {
        Value::Array(elements) => elements.iter().find_map(|element| part(element, place)),
        Value::Object(object) => object.iter().find_map(|(_, member)| part(member, place)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => None,
    }
}
