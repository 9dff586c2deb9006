//! `pled check`: each mistake in `tests/data/bad` is found, at its place, and nothing else; what is
//! right stays without a word; what a way leads to is what the simulation shows.

#![expect(clippy::unwrap_used, reason = "what is wrong with a test may end it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pled_authoring::check::code::ALL;
use pled_authoring::check::{Code, Options, Report, Severity, check, render};
use pled_engine::simulate::simulate_line;
use serde::{Deserialize, Serialize};

/// Small enough that the template for the bound is quick.
const OPTIONS: Options = Options { max_configurations: 2_000 };

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Expected {
    code: String,
    pointer: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn bad() -> BTreeMap<String, Expected> {
    let text = std::fs::read_to_string(root().join("tests/data/bad-expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join("tests/data/bad").join(file)).unwrap()
}

fn seen(report: &Report) -> Vec<Expected> {
    let findings = report.findings.iter();
    findings
        .map(|finding| Expected {
            code: finding.code.code.to_owned(),
            pointer: finding.pointer.clone(),
        })
        .collect()
}

#[test]
fn every_mistake_is_found_at_its_place_and_nothing_else_is() {
    let mut wrong = String::new();
    for (file, expected) in bad() {
        let source = read(&file);
        let report = check(&source, &OPTIONS);
        if seen(&report) != [expected.clone()] {
            wrong += &format!("{file}: expected {} at {}\n", expected.code, expected.pointer);
            wrong += &render::text(&file, &source, &report, false);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_code_has_an_example_among_the_mistakes() {
    let examples: BTreeSet<String> = bad().into_values().map(|expected| expected.code).collect();
    let missing: Vec<&str> =
        ALL.iter().map(|code| code.code).filter(|code| !examples.contains(*code)).collect();

    // What stands behind every other reason for an expression that does not compile.
    assert_eq!(missing, ["E023"]);
    let files = std::fs::read_dir(root().join("tests/data/bad")).unwrap().count();
    assert_eq!(files, bad().len(), "each file has an entry in bad-expected.json");
}

#[test]
fn every_code_of_the_engine_is_explained() {
    for file in ["engine/src/template/code.rs", "engine/src/expression/compile.rs"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for code in text.split('"').filter(|word| word.len() == 4 && word.starts_with('E')) {
            let code = pled_authoring::check::code::find(code).unwrap_or_else(|| panic!("{code}"));
            assert_eq!(code.severity, Severity::Error);
            assert!(render::explain(code).contains(code.meaning.split(' ').next().unwrap()));
        }
    }
}

#[test]
fn the_examples_are_clean() {
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let report = check(&source, &Options::default());
        let text = render::text(&path.to_string_lossy(), &source, &report, false);
        assert!(report.findings.is_empty(), "{text}");
        assert!(report.explored.unwrap().complete);
    }
}

#[test]
fn the_way_to_what_the_model_check_found_is_one_that_a_simulation_goes() {
    let mut replayed = 0;
    for (file, _) in bad() {
        let source = read(&file);
        for finding in check(&source, &OPTIONS).findings {
            let Some(path) = finding.path else { continue };
            assert!(path.replays, "{file}: {path:?}");
            let steps = serde_json::to_string(&path.steps).unwrap();
            let input = path.input.to_string();
            let case =
                format!(r#"{{"name":"","template":{source},"input":{input},"steps":{steps}}}"#);
            let seen = simulate_line(&case.replace('\n', " "));
            let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
            let last = seen["steps"].as_array().unwrap().last().unwrap_or(&seen["initial"]);
            match finding.code.code {
                "M004" => assert_eq!(last["status"], "failed", "{file}"),
                _ => {
                    assert_eq!(last["configuration"], serde_json::json!(path.configuration));
                    assert_eq!(last["status"], "running", "{file}");
                }
            }
            replayed += 1;
        }
    }
    assert!(replayed >= 6, "{replayed}");
}

#[test]
fn a_finding_is_silenced_where_it_is_meant_and_an_error_never() {
    let source = read("W004-invocation-without-onError.json");
    let silent = |meta: &str| source.replace(r#""src":"#, &format!("{meta}, \"src\":"));
    let allowed = silent(r#""meta": { "check": { "allow": ["W004"] } }"#);
    let other = silent(r#""meta": { "check": { "allow": ["W005"] } }"#);
    let error = silent(r#""meta": { "check": { "allow": ["E004"] } }"#);

    assert!(check(&allowed, &OPTIONS).findings.is_empty());
    assert_eq!(check(&other, &OPTIONS).count(Severity::Warning), 1);
    assert_eq!(check(&error, &OPTIONS).count(Severity::Warning), 2);
}

/// A template of a thousand states: a hundred orders of ten steps, each with work and a timer.
fn thousand() -> String {
    let mut states = String::new();
    for at in 0..1_000 {
        let next = if at == 999 { "end".to_owned() } else { format!("s{}", at + 1) };
        states += &match at % 3 {
            0 => format!(
                r#""s{at}":{{"on":{{"GO":[{{"guard":{{">":[{{"var":"event.data.n"}},{at}]}},"target":"{next}"}},{{"target":"s{at}","reenter":true}}],"STOP":"end"}},"after":{{"1000":"end"}}}},"#
            ),
            1 => format!(
                r#""s{at}":{{"invoke":{{"src":"work","onDone":"{next}","onError":"end"}}}},"#
            ),
            _ => format!(r#""s{at}":{{"always":"{next}"}},"#),
        };
    }
    format!(
        r#"{{"pled":"1.0","id":"long","version":1,"logic":"pled-logic-1","initial":"s0","states":{{{states}"end":{{"type":"final"}}}}}}"#
    )
}

#[test]
fn a_thousand_states_are_checked_in_no_time() {
    let source = thousand();

    let begin = std::time::Instant::now();
    let report = check(&source, &Options::default());
    let took = begin.elapsed();

    assert!(report.findings.is_empty(), "{:?}", report.findings.first());
    assert!(report.explored.unwrap().complete);
    // Two seconds is the promise for what is shipped; this is not optimised and not alone.
    assert!(took.as_secs() < 20, "{took:?}");
}

#[test]
fn what_a_person_reads() {
    for file in [
        "E004-misspelt-target.json",
        "E002-event-twice.json",
        "E015-no-initial.json",
        "E102-path-without-root.json",
        "W003-star-steals-a-timer.json",
        "W014-retry-longer-than-its-time.json",
        "M001-guards-that-may-all-fail.json",
        "M002-attempts-used-up.json",
    ] {
        let source = read(file);
        let report = check(&source, &OPTIONS);
        let text = render::text(file, &source, &report, false);
        insta::assert_snapshot!(file.trim_end_matches(".json"), text);
    }
}

#[test]
fn a_line_without_end_is_cut_around_its_mark() {
    let source = thousand().replacen("\"target\":\"end\"", "\"target\":\"nowhere\"", 1);
    let source = source.replacen("s500\":{", "s500\":{\"oops\":1,", 1);

    let report = check(&source, &OPTIONS);

    let text = render::text("long.json", &source, &report, false);
    assert!(text.contains("oops") && text.len() < 1_500, "{text}");
}

/// The table of codes in docs/check.md. `UPDATE=1` writes it.
#[test]
fn the_table_of_codes_is_up_to_date() {
    let path = root().join("docs/check.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- codes -->\n", "<!-- end of codes -->");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();

    let written = format!("{head}{begin}{}{end}{tail}", table());

    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert!(page == written || std::env::var_os("UPDATE").is_some(), "run it with UPDATE=1");
}

fn table() -> String {
    let mut examples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, expected) in bad() {
        examples.entry(expected.code).or_default().push(file);
    }
    let mut text =
        "| code | severity | what it means | what to do | examples |\n|---|---|---|---|---|\n"
            .to_owned();
    for code in ALL {
        let files = examples.get(code.code).map(Vec::as_slice).unwrap_or_default();
        text += &row(code, files);
    }
    text
}

fn row(code: &Code, files: &[String]) -> String {
    let cell =
        |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let links: Vec<String> = files
        .iter()
        .map(|file| {
            let name = file.trim_end_matches(".json").split_once('-').unwrap().1.replace('-', " ");
            format!("[{name}](../tests/data/bad/{file})")
        })
        .collect();
    format!(
        "| {} | {} | **{}.** {} | {} | {} |\n",
        code.code,
        code.severity.as_str(),
        cell(code.title),
        cell(code.meaning),
        cell(code.remedy),
        links.join(", ")
    )
}
