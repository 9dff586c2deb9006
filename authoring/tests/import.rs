//! What an import of an XState machine promises.
#![cfg(test)]

use std::collections::BTreeMap;

use pled_authoring::import::{Imported, InvalidMachine, NeedKind, import};
use pled_engine::simulate::simulate_line;
use pled_engine::template::Template;
use serde_json::{Value, json};

const CHECKOUT: &str = include_str!("data/checkout.machine.json");

#[test]
fn a_machine_keeps_its_structure_and_what_is_a_function_stands_out() {
    let imported = without_guards(CHECKOUT).unwrap();

    insta::assert_snapshot!("checkout_template", imported.template);
    insta::assert_snapshot!("checkout_report", report(&imported));
}

#[test]
fn what_is_to_be_filled_in_is_refused_at_the_places_that_are_told() {
    let imported = without_guards(CHECKOUT).unwrap();
    let refused = Template::parse(&imported.template).unwrap_err();

    let template: Value = serde_json::from_str(&imported.template).unwrap();
    let to_fill = imported.needs.iter().filter(|need| need.kind != NeedKind::Worker);
    for need in to_fill {
        assert!(!need.pointers.is_empty());
        for pointer in &need.pointers {
            assert!(template.pointer(pointer).is_some(), "{need:?}");
            let near = |error: &str| error.starts_with(&**pointer) || pointer.starts_with(error);
            assert!(refused.errors.iter().any(|error| near(&error.pointer)), "{need:?} {refused}");
        }
    }
}

#[test]
fn guards_that_are_given_stand_in_their_places() {
    let machine = r#"{"id":"door","initial":"shut","context":{"n":0},"states":{
        "shut":{"on":{"OPEN":{"target":"open","guard":"mayOpen"}}},"open":{"on":{"SHUT":"shut"}}}}"#;
    let guards =
        BTreeMap::from([("mayOpen".to_owned(), r#"{"<":[{"var":"context.n"},3]}"#.to_owned())]);

    let imported = import(machine, &guards).unwrap();

    assert!(imported.needs.is_empty(), "{}", report(&imported));
    Template::parse(&imported.template).unwrap();
}

#[test]
fn names_of_keys_and_ids_lead_to_the_same_states_as_before() {
    let machine = r##"{"id":"my machine","initial":"1st","states":{
        "1st":{"on":{"A":"second one","B":"#my machine.second one.in ner","C":"#deep.x","D":".y"},
            "initial":"y","states":{"y":{}}},
        "second one":{"initial":"in ner","states":{"in ner":{}}},
        "third":{"id":"deep","initial":"x","states":{"x":{},"h":{"type":"history","target":"#deep"}}}}}"##;

    let imported = without_guards(machine).unwrap();

    let template: Value = serde_json::from_str(&imported.template).unwrap();
    let on = &template["states"]["s_1st"]["on"];
    assert_eq!(
        *on,
        json!({"A": "second_one", "B": "#my_machine.second_one.in_ner", "C": "#my_machine.third.x", "D": ".y"})
    );
}

#[test]
fn what_is_no_machine_is_told_with_its_place() {
    let of = |text: &str| without_guards(text).unwrap_err().to_string();

    insta::assert_snapshot!(of("import { createMachine } from 'xstate';"), @"line 1, column 1: expected a JSON value; JSON is wanted, not TypeScript or JavaScript: export the machine as JSON in Stately Studio, or print JSON.stringify(machine.config)");
    insta::assert_snapshot!(of("[]"), @"the root: a machine is an object");
    insta::assert_snapshot!(of(r#"{"id":"m"}"#), @"/states: a machine has states");
    insta::assert_snapshot!(of(r#"{"id":"m","initial":"a.b","states":{"a":{"states":{"b":{}}}}}"#), @r#"/initial: `initial` "a.b" is not the key of a direct child: let each state on the way have an `initial` of its own"#);
    insta::assert_snapshot!(of(r#"{"id":"m","key":"m","transitions":[],"states":{"a":{}}}"#), @"the root: this is a compiled machine (JSON.stringify(machine)), in which names are lost: print JSON.stringify(machine.config)");
    assert!(matches!(without_guards("{"), Err(InvalidMachine::NotJson { line: 1, .. })));
}

/// 40 charts without functions, and where XState 5.33.3 was after each of their steps.
#[test]
fn an_imported_machine_goes_where_xstate_goes() {
    let lines = include_str!("data/xstate_machines.jsonl").lines();
    let mut steps = 0;

    for line in lines {
        let case: Value = serde_json::from_str(line).unwrap();
        // Cut out of the text, since its order matters.
        let node = pled_engine::template::document::Node::parse(line).unwrap();
        let machine = &line[node.get("machine").unwrap().span.clone()];
        let imported = without_guards(machine).unwrap();
        assert!(imported.needs.is_empty(), "{}", report(&imported));
        let given: Vec<Value> = case["steps"].as_array().unwrap().iter().map(|step| {
            json!({"after_ms": step["after_ms"], "event": step["event"].as_str().map(|name| json!({"name": name}))})
        }).collect();
        let template = imported.template.replace('\n', " ");
        let run = format!(r#"{{"name":"c","template":{template},"steps":{}}}"#, Value::from(given));

        let seen: Value = serde_json::from_str(&simulate_line(&run)).unwrap();

        assert_eq!(seen["initial"]["configuration"], case["initial"], "{machine}");
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            assert_eq!(
                seen["steps"][at]["configuration"], step["leaves"],
                "step {at} of {machine}"
            );
            assert_eq!(seen["steps"][at]["status"] == "done", step["done"] == true);
            steps += 1;
        }
    }
    assert!(steps > 300, "{steps}");
}

#[test]
fn no_json_makes_an_import_panic() {
    let mut seed = 3_u64;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % bound
    };
    let values =
        ["null", "7", "\"x\"", "[]", "{}", "[{}]", "{\"type\":7}", "\"#\"", "\".\"", "true"];
    for _ in 0..300 {
        let mut text = CHECKOUT.to_owned();
        let places: Vec<usize> = text.match_indices(": ").map(|(at, _)| at).collect();
        let at = places[below(places.len())] + 2;
        let end = at + text[at..].find([',', '}', '\n']).unwrap_or(0);
        text.replace_range(at..end, values[below(values.len())]);

        if let Ok(imported) = without_guards(&text) {
            serde_json::from_str::<Value>(&imported.template).unwrap();
            let _ = Template::parse(&imported.template);
        }
    }
}

fn without_guards(machine: &str) -> Result<Imported, InvalidMachine> {
    import(machine, &BTreeMap::new())
}

fn report(imported: &Imported) -> String {
    let needs = imported
        .needs
        .iter()
        .map(|need| format!("{} {:?}\n  {}", need.kind, need.name, need.pointers.join("\n  ")));
    let notes = imported.notes.iter().map(|note| format!("{}: {}", note.pointer, note.message));
    needs.chain(notes).collect::<Vec<_>>().join("\n")
}
