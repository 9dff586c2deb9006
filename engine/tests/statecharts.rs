//! The semantics of statecharts against those of XState, the laws that hold for any chart, and
//! that nothing makes the simulation panic. The data is described in `data/README.md`.

#![expect(clippy::unwrap_used, reason = "what is wrong with a test may end it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use pled_engine::execution::State;
use pled_engine::expression::EventView;
use pled_engine::simulate::{Simulation, simulate_line};
use pled_engine::statechart::{Chart, chart_from, macrostep, start, store};
use pled_engine::template::Template;
use pled_engine::value::Value;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// The cases of `data/statecharts.jsonl.gz`, each as a line that [`simulate_line`] takes.
fn lines() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| packed("statecharts.jsonl.gz"))
}

fn packed(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let file = std::fs::File::open(path).unwrap();
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    let head = r#""template":{"pled":"1.0","version":1,"logic":"pled-logic-1","#;
    lines.map(|line| line.unwrap().replacen(r#""template":{"#, head, 1)).collect()
}

fn parse(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}

/// What XState saw, in the words of PLED.
fn expected(seen: &Value) -> Value {
    let mut seen = seen.as_object().unwrap().clone();
    if seen.get("status").and_then(Value::as_str) == Some("active") {
        seen.insert("status", "running".into());
    }
    seen.into()
}

#[test]
fn four_hundred_statecharts_do_what_they_do_in_xstate() {
    assert_eq!(lines().len(), 400);
    as_in_xstate(lines(), |_, observations| observations);
}

#[test]
fn four_hundred_more_with_invocations_and_chained_ends_do_what_they_do_in_xstate() {
    let lines = packed("statecharts-2.jsonl.gz");
    assert_eq!(lines.len(), 400);
    as_in_xstate(&lines, outstanding_told_apart);
}

/// XState starts invocations behind all actions, and also those that it stops at once. So what is
/// compared is which are outstanding after each step, and their inputs.
fn outstanding_told_apart(steps: &[Value], observations: Vec<Value>) -> Vec<Value> {
    let mut outstanding: BTreeMap<String, Value> = BTreeMap::new();
    let injected = std::iter::once(None).chain(steps.iter().map(|step| step.get("event")));
    let told_apart = injected.zip(observations).map(|(event, observation)| {
        let name = event.and_then(|event| event.get("name")).and_then(Value::as_str).unwrap_or("");
        if let Some((_, id)) = name.split_once(".invoke.") {
            outstanding.remove(id);
        }
        let mut observation = observation.as_object().unwrap().clone();
        let actions = observation.get("actions").and_then(Value::as_array).unwrap().to_vec();
        let own = actions.into_iter().filter(|action| {
            let [kind, params] = action.as_array().unwrap() else { panic!("{action}") };
            let id = || params.get("id").and_then(Value::as_str).unwrap().to_owned();
            match kind.as_str() {
                Some("invoke.start") => {
                    outstanding.insert(id(), params.get("input").unwrap().clone());
                    false
                }
                Some("invoke.cancel") => {
                    outstanding.remove(&id());
                    false
                }
                _ => true,
            }
        });
        let own: Vec<Value> = own.collect();
        observation.insert("actions", own.into());
        let pairs = outstanding.iter().map(|(id, input)| vec![(**id).into(), input.clone()].into());
        observation.insert("invocations", pairs.collect::<Vec<Value>>().into());
        observation.into()
    });
    told_apart.collect()
}

/// Holds what each case gives, changed by `look`, against what XState saw.
fn as_in_xstate(lines: &[String], look: fn(&[Value], Vec<Value>) -> Vec<Value>) {
    let mut differing = Vec::new();
    for line in lines {
        let case = parse(line);
        let name = case.get("name").unwrap();
        let result = parse(&simulate_line(line));
        assert_eq!(result.get("name"), Some(name));
        let steps = case.get("steps").and_then(Value::as_array).unwrap();
        let expectations = steps.iter().map(|step| step.get("expect").unwrap());
        let wanted: Vec<Value> =
            case.get("initial").into_iter().chain(expectations).map(expected).collect();
        let seen: Vec<Value> = result
            .get("initial")
            .into_iter()
            .chain(result.get("steps").and_then(Value::as_array).unwrap_or_default())
            .cloned()
            .collect();
        let seen = look(steps, seen);
        let at = (0..wanted.len()).find(|at| seen.get(*at) != wanted.get(*at));
        if let Some(at) = at {
            let seen = seen.get(at).map_or(&result, |seen| seen);
            differing.push(format!("{name} at {at}:\n  want {}\n  seen {seen}", wanted[at]));
        }
    }
    assert!(differing.is_empty(), "{} differ\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    for line in lines().iter().take(100) {
        assert_eq!(simulate_line(line), simulate_line(line));
    }
}

#[test]
fn every_configuration_is_legal_and_survives_being_stored() {
    for line in lines() {
        let case = parse(line);
        let from = line.find(r#""template":"#).unwrap() + r#""template":"#.len();
        let to = line.find(r#","initial":{"configuration""#).unwrap();
        let template = Template::parse(&line[from..to]).unwrap();
        let event = |name: &Value, data: &Value| EventView {
            event_type: name.as_str().unwrap().into(),
            data: data.clone(),
            id: None,
            source: None,
            time: 0,
        };
        let (mut chart, _) = start(&template, &event(&"pled.init".into(), &Value::Null)).unwrap();
        for step in case.get("steps").and_then(Value::as_array).unwrap() {
            let Some(given) = step.get("event") else { continue };
            let view = event(given.get("name").unwrap(), given.get("data").unwrap_or(&Value::Null));
            // Without its timers a case may find itself where XState would go round for ever.
            let Ok(done) = macrostep(&template, &mut chart, &view) else { break };

            let mut state = State::default();
            store(&template, chart.clone(), &mut state);
            assert_eq!(chart_from(&template, &state).unwrap(), chart);
            if done.completed.is_some() {
                break;
            }
        }
    }
}

/// Charts that mean little and use everything, of states `s0` to at most `s8`.
fn template_text() -> impl Strategy<Value = String> {
    let states = proptest::collection::vec((0..5_u8, any::<[u8; 8]>()), 3..9);
    states.prop_map(|plan| {
        json!({
            "pled": "1.0", "id": "t", "version": 1, "logic": "pled-logic-1",
            "limits": {"microsteps": 50},
            "context": {"n": 0},
            "initial": "s0",
            "states": siblings(&plan, 0, plan.len()),
        })
        .to_string()
    })
}

type Plan = [(u8, [u8; 8])];

/// The states of a plan from `at` to `end`, nested as it says: 2 holds those that follow, 3 too, as
/// its regions, 4 is final, all others are atomic.
fn siblings(plan: &Plan, mut at: usize, end: usize) -> Map<String, Json> {
    let mut states = Map::new();
    while at < end {
        let (kind, bits) = plan[at];
        let inside = match kind {
            2 | 3 => (1 + usize::from(bits[7] % 3)).min(end - at - 1),
            _ => 0,
        };
        states.insert(format!("s{at}"), state(plan, at, inside));
        at += 1 + inside;
    }
    states
}

fn state(plan: &Plan, at: usize, inside: usize) -> Json {
    let (kind, bits) = plan[at];
    let id = format!("s{at}");
    if kind == 4 {
        return json!({"id": id, "type": "final"});
    }
    let target = |bits: u8| format!("#s{}", usize::from(bits) % plan.len());
    let count = json!({"type": "assign", "params": {"n": {"+": [{"var": "context.n"}, 1]}}});
    let note = json!({"type": "note", "params": {"n": {"var": "context.n"}}});
    let raise = json!({"type": "raise", "params": {"event": "A"}});
    let every = json!({"==": [{"%": [{"var": "context.n"}, 2 + bits[0] % 5]}, 1]});
    let mut state = json!({
        "id": id,
        "on": {
            "A": {"target": target(bits[1]), "reenter": bits[0] % 2 == 0, "actions": [count]},
            "B": target(bits[2]),
            "a.*": {"guard": {"<": [{"var": "event.data"}, 3]}, "actions": [raise, note]},
        },
        "after": {(1 + bits[3] % 40).to_string(): target(bits[4])},
        "always": [{"guard": every, "target": target(bits[5])}],
        "invoke": {"id": format!("work.{id}"), "src": "work", "onDone": target(bits[6])},
    });
    if inside > 0 {
        let mut states = siblings(plan, at + 1, at + 1 + inside);
        let history = format!("history_{id}");
        states.insert(history.clone(), json!({"type": "history", "history": "deep"}));
        state["on"]["C"] = json!(format!(".{history}"));
        state["states"] = states.into();
        if kind == 3 {
            state["type"] = json!("parallel");
        } else {
            state["initial"] = json!(format!("s{}", at + 1));
        }
    }
    state
}

proptest! {
    #[test]
    fn no_line_makes_the_simulation_panic(line in ".{0,200}") {
        let result = simulate_line(&line);
        prop_assert!(Value::parse(result.as_bytes()).is_ok(), "{}", result);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_altered_case_makes_the_simulation_panic(
        line in proptest::sample::select(lines()),
        at in any::<proptest::sample::Index>(),
        with in "[\\x20-\\x7e]{0,3}",
    ) {
        let at = at.index(line.len());
        let end = (at + with.len()).min(line.len());
        let result = simulate_line(&format!("{}{with}{}", &line[..at], &line[end..]));
        prop_assert!(Value::parse(result.as_bytes()).is_ok(), "{}", result);
    }

    #[test]
    fn any_chart_stays_legal_whatever_happens(
        text in template_text(),
        events in proptest::collection::vec((0..6_usize, 0..6_i64, 0..50_i64), 0..12),
    ) {
        let template = Template::parse(&text).map_err(|error| failed(&error, &text))?;
        let mut simulation = Simulation::start(&template, Value::Null);
        let mut chart = Chart::default();
        for (event, data, after_ms) in events {
            let event = ["A", "B", "C", "a.b", "done.invoke.work.s1", "error.invoke.work.s2"][event];
            simulation.advance(after_ms).map_err(|error| failed(&error, &text))?;
            simulation.deliver(&event.parse().unwrap(), Value::Int(data)).unwrap();

            let configuration = simulation.observe().configuration;
            let state = State { configuration, ..State::default() };
            chart = chart_from(&template, &state).map_err(|error| failed(&error, &text))?;
        }
        prop_assert!(chart.active.is_sorted());
    }
}

fn failed(error: &dyn std::error::Error, text: &str) -> TestCaseError {
    TestCaseError::fail(format!("{error}: {text}"))
}
