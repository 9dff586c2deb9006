//! docs/templates.md says what is so: its templates are valid, its scenarios pass, and its commands
//! print what stands there. `UPDATE_DOCS=1` writes what they print into the page.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pled_engine::template::Template;
use serde_json::{Value, json};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/templates.md");

/// A block of the page: what stands behind its fence, and its lines.
struct Block<'p> {
    info: &'p str,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            let text = text.map(|line| format!("{line}\n")).collect();
            blocks.push(Block { info, text });
        }
    }
    blocks
}

/// Runs `$ pled …`; the lines that begin with `> ` are what is typed.
fn run(text: &str, folder: &Path) -> String {
    let (command, rest) = text.split_once('\n').unwrap();
    let arguments = words(command.strip_prefix("$ pled ").unwrap());
    let typed: String = rest
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pled"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    format!("{command}\n{printed}")
}

/// The words of a command line, in which '…' keeps blanks.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// The time that a run took is another one each time.
fn timeless(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once(" in ") {
        Some((head, time)) if line.contains(" passed, ") && time.ends_with(" s") => head.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn is_valid(text: &str) {
    if let Err(error) = Template::parse(text) {
        panic!("{error}\n{text}");
    }
}

/// A template around the fields of a state, with the states that it may go to.
fn with_state(state: &str) -> String {
    format!(
        r#"{{"pled":"1.0","id":"machine","version":1,"logic":"pled-logic-1","delays":{{"reminder":1}},
        "initial":"here","states":{{"here":{state},"next":{{}},"other":{{}},"failed":{{}}}}}}"#
    )
}

fn with_root(members: &str) -> String {
    let mut root: Value = serde_json::from_str(members).unwrap();
    let head = json!({"pled": "1.0", "id": "machine", "version": 1, "logic": "pled-logic-1",
        "initial": "here", "states": {"here": {}}});
    root.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
    root.to_string()
}

#[test]
fn every_block_of_the_page_holds() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut updated = page.clone();
    let mut differing = Vec::new();
    let mut seen = 0;
    for Block { info, text } in blocks(&page) {
        seen += 1;
        match info.split_once(' ') {
            Some((kind, file)) if file.starts_with("file=") => {
                let file = file.trim_start_matches("file=");
                std::fs::write(folder.path().join(file), &text).unwrap();
                if kind == "json" {
                    is_valid(&text);
                }
            }
            Some(("json", "state")) => is_valid(&with_state(&text)),
            Some(("json", "root")) => is_valid(&with_root(&text)),
            _ => {
                assert_eq!(info, "console", "what is this block for?\n{text}");
                let printed = run(&text, folder.path());
                if timeless(&printed) != timeless(&text) {
                    differing.push(format!("the page says\n{text}\nit prints\n{printed}"));
                    updated = updated.replace(&text, &printed);
                }
            }
        }
    }
    assert!(seen > 15, "only {seen} blocks were found");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, updated).unwrap();
        return;
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
