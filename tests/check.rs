//! `pled check`, the real binary: what it prints, and its exit codes.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const WARNED: &str = "tests/data/bad/W001-unreachable-state.json";
const WRONG: &str = "tests/data/bad/E013-misspelt-sibling.json";

fn check(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pled"))
        .arg("check")
        .args(arguments)
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn exit_codes_tell_clean_from_wrong_from_unreadable() {
    let codes = [
        (&["examples"][..], 0),
        (&[WARNED], 0),
        (&["--deny-warnings", WARNED], 1),
        (&[WRONG], 1),
        (&["nowhere.json"], 2),
        (&["nowhere.json", WRONG], 2),
        (&["engine/src"], 2),
        (&[], 2),
        (&["--explain", "E012"], 0),
        (&["--explain", "E999"], 2),
    ];
    for (arguments, code) in codes {
        let output = check(arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_person_sees_the_place_what_is_wrong_and_what_to_do() {
    let output = check(&[WRONG], "");

    let text = out(&output);
    for said in ["error[E013]", "E013-misspelt-sibling.json:8:", "^^^^^^", "help: did you mean"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(text.contains("1 template checked: 1 error"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals");
    assert!(out(&check(&["--explain", "e013"], "")).contains("An example that has it"));
}

#[test]
fn a_program_gets_one_document_for_a_whole_folder() {
    let output = check(&["-o", "json", "--max-configurations", "500", "tests/data/bad"], "");

    let document: Value = serde_json::from_str(out(&output)).unwrap();
    let files = document["files"].as_array().unwrap();
    assert!(files.len() > 60, "{}", files.len());
    let deadlock = files
        .iter()
        .flat_map(|file| file["findings"].as_array().unwrap())
        .find(|finding| finding["code"] == "M001" && finding["pointer"] == "/states/both");
    let deadlock = deadlock.unwrap();
    assert_eq!(deadlock["steps"][0]["event"]["name"], "B");
    assert_eq!((&deadlock["replays"], &deadlock["line"]), (&true.into(), &8.into()));
}

#[test]
fn standard_input_is_a_file_too_and_the_model_check_can_be_left_out() {
    let source = std::fs::read_to_string(format!(
        "{ROOT}/tests/data/bad/M003-end-behind-guards-that-exclude-each-other.json"
    ))
    .unwrap();

    let whole = check(&["--deny-warnings", "-"], &source);
    assert_eq!(whole.status.code(), Some(1));
    assert!(out(&whole).contains("--> <stdin>:"), "{}", out(&whole));
    let text_alone = check(&["--deny-warnings", "--no-model", "-"], &source);
    assert_eq!(text_alone.status.code(), Some(0), "{}", out(&text_alone));
}
