//! docs/time.md and docs/control.md say what is so: their specifications are valid, their previews
//! print what stands there, and their commands succeed against real servers.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod support;

use std::path::Path;
use std::process::Stdio;

use pled_engine::schedule::Spec;
use pled_engine::value::Value;
use pled_harness::{NatsOptions, free_port, wait_until};
use support::{Installation, SOON};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_of_the_page_about_time_holds() {
    every_block_holds(include_str!("../docs/time.md")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_of_the_page_about_control_holds() {
    every_block_holds(include_str!("../docs/control.md")).await;
}

async fn every_block_holds(page: &'static str) {
    let pled = Installation::start(NatsOptions::default(), None).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let _all = pled.role("all", &["all", "--listen", &listen]);
    wait_until(SOON, "the gateway listens", async || {
        tokio::net::TcpStream::connect(&listen).await.is_ok()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();

    let mut seen = 0;
    for (info, text) in blocks(page) {
        seen += 1;
        match info.split_once(' ') {
            Some(("json", file)) if file.starts_with("file=") => {
                std::fs::write(folder.path().join(&file[5..]), text).unwrap();
            }
            Some(("json", _schedule)) => {
                Spec::parse(&Value::parse(text.as_bytes()).unwrap()).unwrap();
            }
            _ if info == "console" => {
                let (command, wanted) = text.split_once('\n').unwrap();
                let command = command.strip_prefix("$ ").unwrap();
                assert_eq!(shell(&pled, folder.path(), command).await, wanted, "{command}");
            }
            _ => {
                assert_eq!(info, "sh", "what is this block for?\n{text}");
                for command in text.lines() {
                    let command = command.replace("127.0.0.1:8080", &listen);
                    shell(&pled, folder.path(), &command).await;
                }
            }
        }
    }
    assert!(seen > 5, "only {seen} blocks were found");
}

/// What stands behind the fence of each block, and its lines.
fn blocks(page: &'static str) -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            blocks.push((info, text.map(|line| format!("{line}\n")).collect()));
        }
    }
    blocks
}

async fn shell(pled: &Installation, folder: &Path, command: &str) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_pled")).parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", format!("{binaries}:{path}"))
        .env("NATS_URL", pled.server.url())
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(SOON, output).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command}\n{out}{err}");
    out
}
