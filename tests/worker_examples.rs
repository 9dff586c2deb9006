//! The examples of workers in five languages do the work of an execution, and keep to the protocol.
//!
//! A language whose tools are missing is left out, and named; where `CI` is set, that fails.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pled_harness::{NatsOptions, free_port, wait_until};
use serde_json::{Value, json};
use support::{Installation, SOON};
use tokio::process::{Child, Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Long enough for a worker that starts a process for each word.
const PATIENCE: Duration = Duration::from_secs(120);
/// Checks that a worker may get advice on, and still be right.
const ADVICE: [&str; 3] = ["pick-up", "start_to_close", "unreadable task"];

#[tokio::test]
async fn a_worker_in_rust_keeps_to_the_protocol() {
    let program = Path::new(env!("CARGO_BIN_EXE_pled")).parent().unwrap().join("examples/worker");
    // A run of all tests has built it.
    let build = ["build", "--locked", "--package", "pled", "--example", "worker"];
    if !program.exists() && !made(Path::new(ROOT), "cargo", &build).await {
        return;
    }
    story(Command::new(program), &[]).await;
}

#[tokio::test]
async fn a_worker_in_python_keeps_to_the_protocol() {
    let Some(folder) = prepared("python", &["python3"]) else { return };
    let python = folder.join("venv/bin/python");
    if !python.exists() && !made(&folder, "python3", &["-m", "venv", "venv"]).await {
        return;
    }
    let install = ["-m", "pip", "install", "--quiet", "-r", "requirements.txt"];
    if !made(&folder, python.to_str().unwrap(), &install).await {
        return;
    }
    let mut worker = Command::new(python);
    worker.arg("worker.py").current_dir(folder);
    story(worker, &[]).await;
}

#[tokio::test]
async fn a_worker_in_typescript_keeps_to_the_protocol() {
    let Some(folder) = prepared("typescript", &["node", "npm"]) else { return };
    let install = ["install", "--no-audit", "--no-fund", "--silent", "--prefer-offline"];
    if !made(&folder, "npm", &install).await || !made(&folder, "npm", &["run", "build"]).await {
        return;
    }
    let mut worker = Command::new("node");
    worker.arg("worker.js").current_dir(folder);
    story(worker, &[]).await;
}

#[tokio::test]
async fn a_worker_in_go_keeps_to_the_protocol() {
    let Some(folder) = prepared("go", &["go"]) else { return };
    if !made(&folder, "go", &["build", "-o", "worker", "."]).await {
        return;
    }
    story(Command::new(folder.join("worker")), &[]).await;
}

#[tokio::test]
async fn a_worker_in_the_shell_keeps_to_the_protocol() {
    let Some(folder) = prepared("shell", &["bash", "nats", "jq"]) else { return };
    story(Command::new(folder.join("worker.sh")), &ADVICE).await;
}

/// An execution has its work done, also work that fails; then the worker is put to the test.
async fn story(mut worker: Command, advice: &[&str]) {
    let pled = Installation::start(NatsOptions::default(), None).await;
    let template = format!("{ROOT}/examples/workers/charge.json");
    pled.pled(&["template", "add", &template]).await.succeeded();
    let listen = format!("127.0.0.1:{}", free_port());
    let _all = pled.role("all", &["all", "--listen", &listen]);
    worker.env("NATS_URL", pled.server.url()).env("PATH", path());
    worker.stdin(Stdio::null()).kill_on_drop(true);
    let mut worker = Group(worker.process_group(0).spawn().unwrap());

    for (id, amount) in [("charge-1", 5), ("charge-2", 0)] {
        let input = json!({ "amount": amount, "note": "two words" }).to_string();
        pled.pled(&["start", "charge", &input, "--id", id]).await.succeeded();
    }
    for (id, result) in [
        ("charge-1", json!({ "charged": 5, "reference": "charge-1/1/0", "note": "two words" })),
        ("charge-2", json!("bad_amount")),
    ] {
        let output = async || {
            let said = pled.pled(&["show", id, "--output", "json"]).await;
            let shown: Value = serde_json::from_str(&said.out).unwrap_or_default();
            shown["state"]["output"]["result"].clone()
        };
        wait_until(SOON, id, async || {
            let found = output().await;
            found == result || found["code"] == result
        })
        .await;
    }

    let huge = json!({ "amount": 5, "note": "x".repeat(300_000) });
    let arguments = [
        "worker",
        "conformance",
        "--action",
        "demo.charge",
        "--patience",
        "30",
        "--input",
        r#"{"amount":5}"#,
        "--fail-input",
        r#"{"amount":0}"#,
        "--slow-input",
        r#"{"amount":5,"wait_ms":3200}"#,
        "--huge-input",
        &file_of(&huge),
        "--output",
        "json",
    ];
    let said = pled.pled_within(PATIENCE, &arguments).await;
    let checks: Vec<Value> = serde_json::from_str(&said.out)
        .unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err));
    assert_eq!(checks.len(), 12, "{checks:#?}");
    for check in &checks {
        let is_right = check["verdict"] == "right"
            || (check["verdict"] == "advice" && advice.contains(&check["check"].as_str().unwrap()));
        assert!(is_right, "{checks:#?}");
    }
    assert!(worker.0.try_wait().unwrap().is_none(), "the worker has ended");
}

fn file_of(value: &Value) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("huge-input.json");
    std::fs::write(&file, value.to_string()).unwrap();
    format!("@{}", file.to_str().unwrap())
}

/// A worker with the processes that it started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.id() {
            let group = format!("-{id}");
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        }
    }
}

/// A copy of an example, where its dependencies may be put; `None` if a tool is missing.
fn prepared(language: &str, tools: &[&str]) -> Option<PathBuf> {
    for tool in tools {
        let is_there = std::env::split_paths(&path()).any(|folder| folder.join(tool).is_file());
        if !is_there {
            leave_out(&format!("{language}: {tool} is not installed"));
            return None;
        }
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("workers").join(language);
    std::fs::create_dir_all(&folder).unwrap();
    let example = Path::new(ROOT).join("examples/workers").join(language);
    for entry in std::fs::read_dir(example).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    Some(folder)
}

/// Runs a step of the preparation.
async fn made(folder: &Path, program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("PATH", path()).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        leave_out(&format!("{program} {}: {said}", arguments.join(" ")));
    }
    output.status.success()
}

#[expect(clippy::print_stderr, reason = "said to whoever runs the tests")]
fn leave_out(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "an example of a worker cannot run: {why}");
    eprintln!("SKIPPED: an example of a worker cannot run: {why}");
}

/// Where `go install` puts programs belongs to it.
fn path() -> std::ffi::OsString {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    folders.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin")));
    std::env::join_paths(folders).unwrap()
}
