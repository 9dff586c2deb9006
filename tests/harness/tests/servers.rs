//! The harness keeps its own promises.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pled_harness::async_nats::jetstream::{self, stream};
use pled_harness::{NatsOptions, NatsServer, Port, async_nats, wait_until};

#[tokio::test]
async fn a_killed_server_comes_back_at_the_same_address_with_its_streams() {
    let mut server = NatsServer::start(NatsOptions { durable: true, ..Default::default() }).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    let config =
        stream::Config { name: "KEPT".into(), subjects: vec!["kept".into()], ..Default::default() };
    jetstream.create_stream(config).await.unwrap();
    jetstream.publish("kept", "a message".into()).await.unwrap().await.unwrap();

    let (url, disk) = (server.url(), server.disk());
    server.kill();
    assert!(async_nats::connect(&url).await.is_err());
    server.restart().await;

    let client = async_nats::connect(&url).await.unwrap();
    let stream = jetstream::new(client).get_stream("KEPT").await.unwrap();
    let message = stream.get_last_raw_message_by_subject("kept").await.unwrap();
    assert_eq!(message.payload, "a message");

    drop(server);
    assert!(!disk.exists());
    assert!(async_nats::connect(&url).await.is_err());
}

#[tokio::test]
async fn a_frozen_server_answers_again_when_it_thaws() {
    let mut server = NatsServer::start(NatsOptions::default()).await;
    let client = async_nats::connect(server.url()).await.unwrap();

    let answers = || async { client.request("$JS.API.INFO", "".into()).await.is_ok() };
    assert!(answers().await);

    server.freeze();
    let silent = tokio::time::timeout(Duration::from_millis(200), answers()).await;
    assert!(silent.is_err());

    server.thaw();
    wait_until(Duration::from_secs(10), "the server answers", answers).await;
}

#[tokio::test]
#[should_panic(expected = "its log ends")]
async fn a_server_that_cannot_start_fails_the_test_with_its_log() {
    let options = NatsOptions { configuration: "no such option\n".into(), ..Default::default() };

    NatsServer::start(options).await;
}

#[tokio::test]
async fn a_killed_test_leaves_no_server_behind() {
    const NOTE: &str = "PLED_HARNESS_NOTE";
    // This test runs itself in a second process, which comes here and waits for its death.
    if let Some(note) = std::env::var_os(NOTE) {
        let server = NatsServer::start(NatsOptions::default()).await;
        std::fs::write(note, server.disk().to_str().unwrap()).unwrap();
        std::future::pending::<()>().await;
    }
    let note = std::env::temp_dir().join(format!("pled-harness-{}", std::process::id()));
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_no_server_behind"])
        .env(NOTE, &note)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let within = Duration::from_secs(40);
    wait_until(within, "the other process has a server", || async { read(&note).exists() }).await;
    let disk = read(&note);

    other.kill().unwrap();
    other.wait().unwrap();

    wait_until(within, "its server's disk is gone", || async { !disk.exists() }).await;
    std::fs::remove_file(&note).unwrap();
}

fn read(note: &Path) -> PathBuf {
    std::fs::read_to_string(note).unwrap_or_default().into()
}

#[test]
fn a_reserved_port_is_given_out_once() {
    let ports: Vec<Port> = (0..100).map(|_| Port::reserve()).collect();

    let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}

#[tokio::test]
#[should_panic(expected = "in vain until pigs fly")]
async fn waiting_in_vain_says_for_what() {
    wait_until(Duration::from_millis(20), "pigs fly", || async { false }).await;
}
