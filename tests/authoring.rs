//! What a person does to a template before there is a server: `pled template schema`, `template
//! import`, `draw` and `why`, the real binary.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use std::fs;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ORDER: &str = "examples/order-fulfilment.json";
const MACHINE: &str = "authoring/tests/data/checkout.machine.json";

/// What the command says on standard output and standard error, and its exit code.
fn pled(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_pled"))
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn succeeds(arguments: &[&str]) -> String {
    let (out, err, code) = pled(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    out
}

#[test]
fn the_schema_is_one_document_for_an_editor() {
    let schema: Value = serde_json::from_str(&succeeds(&["template", "schema"])).unwrap();

    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["states"].is_object(), "{schema}");
}

#[test]
fn a_picture_is_the_same_each_time_and_shows_a_path() {
    let (first, again) = (succeeds(&["draw", ORDER]), succeeds(&["draw", ORDER]));
    assert!(first.contains("stateDiagram-v2"), "{first}");
    assert_eq!(first, again);
    let path = succeeds(&["draw", ORDER, "--path", "HOLD", "--input", r#"{"orderId":"o-1"}"#]);
    assert_ne!(first, path, "the path is marked");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("order.svg");
    succeeds(&["draw", ORDER, "--out", file.to_str().unwrap()]);
    let drawn = fs::read_to_string(file).unwrap();
    assert_eq!(drawn, fs::read_to_string(format!("{ROOT}/docs/order-fulfilment.svg")).unwrap());
}

#[test]
fn a_machine_of_xstate_becomes_a_template_and_the_functions_that_it_wants_are_named() {
    let (template, said, code) = pled(&["template", "import", MACHINE]);

    assert_eq!(code, Some(0), "{said}");
    let template: Value = serde_json::from_str(&template).unwrap();
    assert_eq!(template["pled"], "1.0");
    let machine: Value =
        serde_json::from_str(&fs::read_to_string(format!("{ROOT}/{MACHINE}")).unwrap()).unwrap();
    // A state's name is a word here.
    let names = |of: &Value| {
        let states = of["states"].as_object().unwrap();
        states.keys().map(|name| name.replace(' ', "_")).collect::<Vec<_>>()
    };
    assert_eq!(names(&template), names(&machine));
    assert!(said.contains("guard"), "{said}");
}

#[test]
fn why_says_which_guard_decided_and_what_its_operands_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("desk.json");
    let template = r#"{"pled":"1.0","id":"desk","version":1,"logic":"pled-logic-1",
        "initial":"waiting","states":{"waiting":{"on":{
        "PAY":[{"target":"paid","guard":{">=":[{"var":"event.data.sum"},40]}}]}},
        "paid":{"type":"final"}}}"#;
    fs::write(&file, template).unwrap();
    let steps = folder.path().join("steps.jsonl");
    fs::write(&steps, r#"{"event":{"name":"PAY","data":{"sum":39}}}"#).unwrap();
    let (file, steps) = (file.to_str().unwrap(), steps.to_str().unwrap());

    let why = succeeds(&["why", "--template", file, "--steps", steps]);

    for said in ["PAY", "waiting", ">=", "39", "40"] {
        assert!(why.contains(said), "{said} is not in:\n{why}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    for arguments in [
        &["draw", "nowhere.json"][..],
        &["template", "import", "nowhere.json"],
        &["why", "--template", "nowhere.json"],
    ] {
        let (out, err, code) = pled(arguments);
        assert!(code.is_some_and(|code| code != 0), "{arguments:?}");
        assert_eq!(out, "", "{arguments:?}");
        assert!(err.contains("nowhere.json"), "{arguments:?}: {err}");
    }
}
