//! `pled simulate` and `pled test`, the real binary.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn pled(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pled"))
        .args(arguments)
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Packed cases, each as a line that the simulation takes, with what XState saw.
fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(ROOT).join("engine/tests/data").join(file);
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    // The order of a template's states counts, so only what is around it may be parsed.
    text.lines()
        .map(|line| {
            let head = r#""template":{"pled":"1.0","version":1,"logic":"pled-logic-1","#;
            let line = line.replacen(r#""template":{"#, head, 1);
            let mut case: Value = serde_json::from_str(&line).unwrap();
            case["line"] = line.into();
            case
        })
        .collect()
}

fn differing(file: &str, corners: &str) -> (usize, usize, String) {
    let cases = cases(file);
    let lines: String =
        cases.iter().map(|case| format!("{}\n", case["line"].as_str().unwrap())).collect();
    let output = pled(&["simulate", "--jsonl", "--corners", corners], &lines);
    assert!(output.status.success());
    let results: Vec<Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), cases.len());
    let running = |seen: &Value| {
        let mut seen = seen.clone();
        if seen["status"] == "active" {
            seen["status"] = "running".into();
        }
        seen
    };
    let differ = cases.iter().zip(&results).filter(|(case, result)| {
        assert_eq!(case["name"], result["name"]);
        let steps = case["steps"].as_array().unwrap().iter().map(|step| running(&step["expect"]));
        let wanted: Vec<Value> = std::iter::once(running(&case["initial"])).chain(steps).collect();
        let seen = result["steps"].as_array().cloned().unwrap_or_default();
        let seen: Vec<Value> = std::iter::once(result["initial"].clone()).chain(seen).collect();
        wanted != seen
    });
    (differ.count(), cases.len(), err(&output).to_owned())
}

#[test]
fn four_hundred_cases_end_as_in_xstate_and_the_corners_are_counted() {
    let (differ, of, said) = differing("statecharts.jsonl.gz", "xstate");
    assert_eq!((differ, of), (0, 400));
    assert!(said.starts_with("10 cases meet a corner"), "{said}");

    let (differ, _, said) = differing("statecharts.jsonl.gz", "pled");
    assert_eq!((differ, said.as_str()), (8, ""));
}

#[test]
fn a_bad_case_gets_its_result_and_stops_nothing() {
    let good = r#"{"name":"good","template":{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1","initial":"a","states":{"a":{}}}}"#;
    let input = format!("no json\n\n{{\"name\":\"bad\",\"template\":{{}}}}\n{good}");

    let output = pled(&["simulate", "--jsonl"], &input);

    let lines: Vec<Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["error"]["message"].is_string());
    assert_eq!(lines[1]["name"], "bad");
    assert_eq!(lines[2]["initial"]["configuration"], json!(["t.a"]));
    assert!(output.status.success());
}

#[test]
fn steps_of_a_file_are_taken_first_and_a_saved_session_passes_as_a_test() {
    let folder = tempfile::tempdir().unwrap();
    let steps = folder.path().join("steps.jsonl");
    std::fs::write(
        &steps,
        concat!(
            "{\"event\":{\"name\":\"APPROVE\",\"data\":{\"by\":\"ada\"}}}\n",
            "{\"after_ms\":1000,\"event\":{\"name\":\"done.invoke.tell\"}}\n",
        ),
    )
    .unwrap();
    let saved = folder.path().join("saved.test.yaml");
    let typed = format!("state\nsave {}\nquit\n", saved.display());

    let output = pled(
        &[
            "simulate",
            "examples/approval.json",
            "--input",
            r#"{"what":"a desk","amount":900}"#,
            "--steps",
            steps.to_str().unwrap(),
        ],
        &typed,
    );

    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("state     telling -> granted"), "{}", out(&output));
    let tested = pled(&["test", saved.to_str().unwrap(), "--coverage", "false"], "");
    assert!(tested.status.success(), "{}{}", out(&tested), err(&tested));
    assert!(out(&tested).contains("1 passed, 0 failed"), "{}", out(&tested));
}

#[test]
fn the_examples_pass_and_cover_every_state_and_transition() {
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("junit.xml");

    let output = pled(
        &["test", "examples", "--min-coverage", "100", "--junit", junit.to_str().unwrap()],
        "",
    );

    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    assert!(!out(&output).contains("not covered"), "{}", out(&output));
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.contains("<testsuite name=\"examples/approval.test.yaml\" tests=\"5\""), "{xml}");
}

#[test]
fn failures_bad_files_and_low_coverage_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.test.yaml");
    let path = file.to_str().unwrap();
    let template = format!("template: {ROOT}/examples/approval.json\n");
    let write = |rest: &str| std::fs::write(&file, format!("{template}{rest}")).unwrap();

    write(
        "scenarios:\n  - name: refused\n    input: { amount: 900 }\n    steps:\n      - send: REFUSE\n    expect: { state: granted }\n",
    );
    let failed = pled(&["test", path], "");
    assert_eq!(failed.status.code(), Some(1));
    let told = out(&failed);
    assert!(told.contains("state: expected approval.granted, found approval.refused"), "{told}");
    assert!(told.contains("wrong.test.yaml:3: refused"), "{told}");
    let as_json: Value =
        serde_json::from_str(out(&pled(&["test", path, "-o", "json"], ""))).unwrap();
    assert_eq!(as_json["files"][0]["scenarios"][0]["differences"][0]["what"], "state");

    write("scenarios:\n  - name: pen\n    input: { amount: 3 }\n");
    assert_eq!(pled(&["test", path], "").status.code(), Some(0));
    assert_eq!(pled(&["test", path, "--min-coverage", "50"], "").status.code(), Some(1));

    write("scenarios:\n  - name: pen\n    expect: { stat: granted }\n");
    let bad = pled(&["test", path], "");
    assert_eq!(bad.status.code(), Some(2));
    let told = err(&bad);
    assert!(told.contains("`expect` has no field `stat`; did you mean `state`?"), "{told}");
    assert!(told.contains("wrong.test.yaml:4:15"), "{told}");
    assert_eq!(pled(&["test", "no/such/folder"], "").status.code(), Some(2));
}

#[test]
fn a_thousand_scenarios_run_in_little_time() {
    let folder = tempfile::tempdir().unwrap();
    let one = std::fs::read_to_string(format!("{ROOT}/examples/approval.test.yaml")).unwrap();
    let (head, scenarios) = one.split_once("scenarios:\n").unwrap();
    let head = head.replace("approval.json", &format!("{ROOT}/examples/approval.json"));
    let text = format!("{head}scenarios:\n{}", scenarios.repeat(200));
    std::fs::write(folder.path().join("many.test.yaml"), text).unwrap();

    let begin = Instant::now();
    let output = pled(&["test", folder.path().to_str().unwrap()], "");

    assert!(out(&output).contains("1000 passed, 0 failed"), "{}", err(&output));
    // A second is promised of a release build on a quiet machine.
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}
