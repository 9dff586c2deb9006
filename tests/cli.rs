//! The command line as a person uses it, and a worker that is played by hand.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod support;

use std::time::Duration;

use futures::StreamExt;
use pled_harness::async_nats::jetstream::{self, consumer::PullConsumer};
use pled_harness::async_nats::{self, Client, HeaderMap};
use pled_harness::{NatsOptions, free_port, wait_until};
use serde_json::{Value, json};
use support::{Installation, Role, SOON, Said};

const APPROVAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/approval.json");
const ORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/order-fulfilment.json");

#[tokio::test]
async fn story_init_may_be_repeated() {
    let pled = Installation::start(NatsOptions::default(), None).await;

    let again = pled.json(&["init"]).await;

    let streams = again["streams"].as_array().unwrap();
    assert!(streams.len() >= 11, "{again}");
    assert!(streams.iter().all(|line| line.as_str().unwrap().ends_with(" is there")), "{again}");
    assert!(pled.pled(&["init"]).await.succeeded().contains("PLED_JOURNAL is there"));
}

#[tokio::test]
async fn story_templates_are_added_listed_and_shown() {
    let pled = Installation::start(NatsOptions::default(), None).await;
    assert_eq!(pled.json(&["template", "list"]).await, json!([]));
    assert!(pled.pled(&["template", "list"]).await.succeeded().starts_with("no template"));

    let added = pled.json(&["template", "add", APPROVAL]).await;
    assert_eq!(added["template"], "approval@1");
    assert_eq!(added["existed"], false);
    let again = pled.json(&["template", "add", APPROVAL]).await;
    assert_eq!(again["existed"], true);
    assert_eq!(again["hash"], added["hash"]);

    let known = json!([{ "name": "approval", "versions": [1], "latest": 1 }]);
    assert_eq!(pled.json(&["template", "list"]).await, known);
    let source = std::fs::read_to_string(APPROVAL).unwrap();
    for name in ["approval", "approval@1"] {
        let shown = pled.pled(&["template", "show", name]).await;
        assert_eq!(shown.succeeded().trim_end(), source.trim_end());
        let parsed: Value = serde_json::from_str(&source).unwrap();
        assert_eq!(pled.json(&["template", "show", name]).await, parsed);
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.json");
    std::fs::write(&file, source.replace("\"target\": \"refused\"", "\"target\": \"nowhere\""))
        .unwrap();
    let refused = pled.pled(&["template", "add", file.to_str().unwrap()]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    for said in ["error[", "nowhere", "wrong.json:22:", "/states/waiting/on/REFUSE/target"] {
        assert!(refused.err.contains(said), "{said} is not in:\n{}", refused.err);
    }
    std::fs::write(&file, source.replace("an hour", "a day")).unwrap();
    let refused = pled.pled(&["template", "add", file.to_str().unwrap()]).await;
    fails(&refused, "approval@1");
}

#[tokio::test]
async fn story_an_approval_is_started_sent_to_and_read() {
    let (pled, _all) = running(APPROVAL).await;

    let started = pled
        .json(&[
            "start",
            "approval",
            r#"{"what":"a desk","amount":900}"#,
            "--id",
            "desk-1",
            "--wait",
        ])
        .await;
    assert_eq!(started["outcome"]["outcome"], "applied", "{started}");
    assert_eq!(started["outcome"]["configuration"], json!(["approval.waiting"]));
    let again = pled.json(&["start", "approval", "{}", "--id", "desk-1", "--wait"]).await;
    assert_eq!(again["outcome"]["outcome"], "exists", "{again}");

    let ignored = pled.json(&["send", "desk-1", "NONSENSE", "--wait"]).await;
    assert_eq!(ignored["outcome"]["outcome"], "ignored", "{ignored}");
    let sent = pled.pled(&["send", "desk-1", "APPROVE", r#"{"by":"finance"}"#, "--wait=10"]).await;
    assert!(sent.succeeded().starts_with("desk-1: applied in entry "), "{}", sent.out);
    let shown = pled.wait_for("desk-1", "approval.granted").await;
    assert_eq!(shown["status"], "done");
    assert_eq!(shown["template"], "approval@1");
    assert_eq!(
        shown["state"]["output"],
        json!({ "what": "a desk", "amount": 900, "by": "finance" })
    );
    let text = pled.pled(&["show", "desk-1"]).await;
    assert!(text.succeeded().starts_with("desk-1  approval@1  done\n"), "{}", text.out);

    let closed = pled.pled(&["send", "desk-1", "APPROVE", "--wait"]).await;
    assert_eq!(closed.code, Some(1), "{}", closed.out);
    assert!(closed.out.contains("closed"), "{}", closed.out);

    let history = pled.json(&["history", "desk-1"]).await;
    let entries = history.as_array().unwrap();
    let numbers: Vec<_> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(entries[3]["hash"], shown["hash"]);
    let told = pled.pled(&["history", "desk-1"]).await;
    for said in [
        "pled.init",
        "NONSENSE (ignored)",
        "approval.waiting -> approval.telling",
        "do log #1",
        "log #1 ok",
    ] {
        assert!(told.succeeded().contains(said), "{said} is not in:\n{}", told.out);
    }

    pled.json(&[
        "start",
        "approval",
        r#"{"what":"a car","amount":9000}"#,
        "--id",
        "car-1",
        "--wait",
    ])
    .await;
    let ids = async |arguments: &[&str]| {
        let rows = pled.json(&[&["list"], arguments].concat()).await;
        let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    wait_until(SOON, "both are listed", async || {
        ids(&[]).await == ["car-1", "desk-1"] && ids(&["--status", "done"]).await == ["desk-1"]
    })
    .await;
    assert_eq!(ids(&["--limit", "1"]).await, ["car-1"]);
    assert_eq!(ids(&["--template", "order"]).await, Vec::<String>::new());
    assert!(pled.pled(&["list"]).await.succeeded().contains("waiting"));
}

#[tokio::test]
async fn story_a_replay_finds_the_one_guard_that_was_altered() {
    let (pled, _all) = running(APPROVAL).await;
    for (id, amount) in [("desk-1", 900), ("pen-1", 5)] {
        let input = json!({ "what": "something", "amount": amount }).to_string();
        pled.json(&["start", "approval", &input, "--id", id, "--wait"]).await;
    }
    pled.wait_for("pen-1", "approval.granted").await;

    let all = pled.json(&["replay", "--verify"]).await;
    assert_eq!(all["executions"], 2, "{all}");
    assert_eq!(all["divergences"], json!([]));
    pled.pled(&["replay", "desk-1", "--verify"]).await.succeeded();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("altered.json");
    let file = file.to_str().unwrap();
    let source = std::fs::read_to_string(APPROVAL).unwrap();
    let replay = async |source: &str| {
        std::fs::write(file, source).unwrap();
        pled.pled(&["replay", "--verify", "--template", file, "-o", "json"]).await
    };
    // Only the desk is between the old bound and the new one.
    let altered =
        replay(&source.replace("context.amount\" }, 100]", "context.amount\" }, 1000]")).await;
    assert_eq!(altered.code, Some(1));
    let answer: Value = serde_json::from_str(&altered.out).unwrap();
    let divergences = answer["divergences"].as_array().unwrap();
    assert_eq!(divergences.len(), 1, "{answer}");
    let divergence = divergences[0].as_str().unwrap();
    for said in ["desk-1", "entry 1", "transitions", "telling", "waiting"] {
        assert!(divergence.contains(said), "{said} is not in {divergence}");
    }
    assert_eq!(altered.err, format!("{divergence}\n"));
    // Other words alone change no step.
    assert_eq!(replay(&source.replace("an hour", "a day")).await.code, Some(0));
}

#[tokio::test]
async fn story_an_operator_looks_after_an_installation() {
    let (pled, all) = running(APPROVAL).await;
    pled.json(&["start", "approval", r#"{"what":"a pen","amount":5}"#, "--id", "pen-1", "--wait"])
        .await;
    pled.wait_for("pen-1", "approval.granted").await;
    let unknown = pled.json(&["send", "ghost", "APPROVE"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();

    wait_until(SOON, "the event is set aside", async || {
        !pled.json(&["dead", "list"]).await.as_array().unwrap().is_empty()
    })
    .await;
    let log = |seq: &Value| json!({ "execution": "ghost", "type": "APPROVE", "stream_seq": seq });
    let known = format!("{}\n", log(&unknown["stream_seq"]));
    std::fs::write(folder.path().join("client.jsonl"), &known).unwrap();
    let verified = pled.pled(&["verify", "--client-log", &path("client.jsonl")]).await;
    assert!(verified.succeeded().ends_with("everything holds\n"), "{}", verified.out);
    let lost = format!("{known}{}\n", log(&json!(77)));
    std::fs::write(folder.path().join("client.jsonl"), lost).unwrap();
    let verified = pled.pled(&["verify", "--client-log", &path("client.jsonl")]).await;
    assert_eq!(verified.code, Some(1), "{}", verified.out);
    assert!(verified.out.contains("E1 ghost: APPROVE, acknowledged as events 77, is nowhere"));

    pled.pled(&["export", &path("all.jsonl")]).await.succeeded();
    pled.pled(&["verify", "--from", &path("all.jsonl")]).await.succeeded();
    let whole = std::fs::read_to_string(folder.path().join("all.jsonl")).unwrap();
    let cut = whole.lines().take(whole.lines().count() - 1).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.path().join("cut.jsonl"), cut).unwrap();
    let cut = pled.pled(&["verify", "--from", &path("cut.jsonl")]).await;
    assert_eq!(cut.code, Some(2), "{}", cut.out);

    let doctor = pled.pled(&["doctor"]).await;
    assert_eq!(doctor.code, Some(0), "{}", doctor.out);
    assert!(doctor.out.contains("1 unknown-execution"), "{}", doctor.out);
    let shown = pled.json(&["dead", "list", "--cause", "unknown-execution"]).await;
    let record = shown[0]["record"].to_string();
    assert_eq!(pled.json(&["dead", "show", &record]).await["execution"], "ghost");
    let asked = pled.pled(&["dead", "drop", &record]).await;
    assert_eq!(asked.code, Some(1), "{}", asked.out);
    pled.pled(&["dead", "retry", "--all", "--cause", "unknown-execution"]).await.succeeded();
    wait_until(SOON, "it is set aside once more", async || {
        pled.json(&["dead", "list"]).await[0]["record"] != shown[0]["record"]
    })
    .await;
    let dropped = pled.json(&["dead", "drop", "--all", "--yes"]).await;
    assert_eq!(dropped["dropped"], 1);
    assert_eq!(pled.json(&["dead", "list"]).await, json!([]));

    let running = pled.pled(&["recover"]).await;
    fails(&running, "stop all engine and rule workers first");
    drop(all);
    wait_until(SOON, "the leases are over", async || pled.pled(&["recover"]).await.code == Some(0))
        .await;
    let plan = pled.pled(&["recover"]).await;
    assert!(plan.succeeded().contains("Nothing was done"), "{}", plan.out);
    pled.pled(&["recover", "--yes"]).await.succeeded();
    pled.pled(&["verify", "--settled"]).await.succeeded();
}

#[tokio::test]
async fn story_a_role_waits_for_nats_and_a_command_does_not() {
    let mut pled = Installation::start(NatsOptions::default(), None).await;
    pled.server.kill();

    let mut engine = pled.role("engine", &["engine"]);
    fails(&pled.pled(&["list"]).await, "no connection to NATS");
    wait_until(SOON, "the engine waits", async || engine.log().contains("waiting for NATS")).await;
    assert!(engine.child.as_mut().unwrap().try_wait().unwrap().is_none());
    pled.server.restart().await;
    wait_until(SOON, "the engine works", async || engine.log().contains("partitions")).await;
}

#[tokio::test]
async fn story_a_worker_by_hand_drives_an_order_to_its_end() {
    let (pled, _all) = running(ORDER).await;
    let client = async_nats::connect(pled.server.url()).await.unwrap();
    let input = r#"{"orderId":"order-42","amount":4200,"lines":2}"#;
    pled.pled(&["start", "order", input, "--id", "order-42"]).await.succeeded();

    let task =
        work(&client, "worker-payments-charge", r#"{"ok":true,"data":{"charge_id":"ch_1"}}"#).await;
    let subject = "pled.signals.order-42.result.1-1-1";
    assert_eq!(task["result_subject"], subject, "{task}");
    assert_eq!(task["task"], "order-42/1/1");
    assert_eq!((&task["attempt"], &task["template"]), (&json!(1), &json!("order@3")));
    assert_eq!(task["input"]["idempotency_key"], "charge-order-42");
    assert_eq!(task["input"]["amount"], 4200);
    // The same attempt has one result.
    let again = publish_result(&client, subject, r#"{"ok":false,"error":{"code":"late"}}"#).await;
    assert_eq!(again["error"]["err_code"], 10_071, "{again}");
    let shown = pled.wait_for("order-42", "booking").await;
    assert_eq!(shown["state"]["context"]["chargeId"], "ch_1");
    assert_eq!(shown["state"]["configuration"], json!(["booking", "issuing"]));

    work(&client, "worker-carrier-book", r#"{"ok":true,"data":{"tracking":"TRK-1"}}"#).await;
    let no = r#"{"ok":false,"error":{"code":"ledger_closed","message":"no","retryable":false}}"#;
    work(&client, "worker-billing-invoice", no).await;
    let ticket = work(&client, "worker-ops-ticket", r#"{"ok":true}"#).await;
    assert_eq!(ticket["input"], json!({ "order": "order-42", "why": "ledger_closed" }));
    pled.wait_for("order-42", "manualInvoice").await;
    pled.json(&["send", "order-42", "INVOICED", "--wait"]).await;

    let shown = pled.wait_for("order-42", "completed").await;
    assert_eq!(shown["status"], "done");
    let output =
        json!({ "order": "order-42", "tracking": "TRK-1", "invoice": null, "failure": null });
    assert_eq!(shown["state"]["output"], output);
    pled.pled(&["replay", "order-42", "--verify"]).await.succeeded();
    for queue in ["payments-charge", "carrier-book", "billing-invoice", "ops-ticket"] {
        let info = consumer(&client, &format!("worker-{queue}")).await.cached_info().clone();
        assert_eq!((info.num_pending, info.num_ack_pending), (0, 0), "{queue}");
    }
}

#[tokio::test]
async fn story_a_mistake_is_one_sentence_and_exit_1() {
    let (pled, _all) = running(APPROVAL).await;

    for (arguments, said) in [
        (&["show", "nobody"][..], "there is no execution nobody"),
        (&["history", "nobody"], "there is no execution nobody"),
        (&["replay", "nobody"], "there is no execution nobody"),
        (&["show", "bad!id"], "bad!id"),
        (&["send", "bad!id", "TICK"], "bad!id"),
        (&["send", "desk-1", "T!CK"], "T!CK"),
        (&["send", "desk-1", "done.invoke.pay"], "reserved"),
        (&["send", "desk-1", "TICK", "{"], "the data"),
        (&["start", "no template"], "no template"),
        (&["start", "approval", "{"], "the input"),
        (&["template", "show", "nothing"], "no template nothing"),
        (&["template", "add", "/nowhere/at.json"], "/nowhere/at.json"),
        (&["ledger"], "--database-url"),
        (&["worker", "--actions", "payments.charge"], "payments.charge"),
        (&["list", "--nats-url", "nats://127.0.0.1:1"], "no connection to NATS"),
        (&["list", "--database-url", "postgres://127.0.0.1:1/pled"], "Postgres"),
        (&["list", "--context", "nowhere"], "nowhere"),
    ] {
        fails(&pled.pled(arguments).await, said);
    }
    let unknown = pled.pled(&["start", "nothing", "--id", "fresh-1", "--wait"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.out.contains("unknown-template"), "{}{}", unknown.out, unknown.err);

    let empty = pled_harness::NatsServer::start(NatsOptions::default()).await;
    fails(&pled.pled(&["list", "--nats-url", &empty.url()]).await, "pled init");
}

/// `pled all` with one template.
async fn running(template: &str) -> (Installation, Role) {
    let pled = Installation::start(NatsOptions::default(), None).await;
    pled.pled(&["template", "add", template]).await.succeeded();
    let all = pled.role("all", &["all", "--listen", &format!("127.0.0.1:{}", free_port())]);
    (pled, all)
}

impl Installation {
    /// The answer of a command that succeeds, as JSON.
    async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.pled(&[arguments, &["--output", "json"]].concat()).await;
        let answer = said.succeeded();
        serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Waits until an execution is in a state, and shows it.
    async fn wait_for(&self, id: &str, leaf: &str) -> Value {
        let show = async || self.json(&["show", id]).await;
        let is_there = |shown: &Value| {
            let leaves = shown["state"]["configuration"].as_array().unwrap();
            leaves.iter().any(|found| found == leaf)
        };
        wait_until(SOON, &format!("{id} is in {leaf}"), async || is_there(&show().await)).await;
        show().await
    }
}

/// Exit 1, nothing on standard output, one sentence on standard error.
#[track_caller]
fn fails(said: &Said, sentence: &str) {
    let Said { code, out, err, .. } = said;
    assert_eq!((*code, out.as_str()), (Some(1), ""), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("pled: ") && err.contains(sentence), "{sentence:?} is not in {err}");
}

/// Takes the next task of a consumer, publishes its result and acknowledges it, as README.md says.
async fn work(client: &Client, worker: &str, result: &str) -> Value {
    let consumer = consumer(client, worker).await;
    let mut batch = consumer.batch().max_messages(1).expires(SOON).messages().await.unwrap();
    let delivered = tokio::time::timeout(SOON + Duration::from_secs(1), batch.next()).await;
    let delivered = delivered.unwrap().unwrap_or_else(|| panic!("{worker} has no task")).unwrap();
    let task: Value = serde_json::from_slice(&delivered.payload).unwrap();
    let subject = task["result_subject"].as_str().unwrap();
    let stored = publish_result(client, subject, result).await;
    assert_eq!(stored["stream"], "PLED_SIGNALS", "{stored}");
    delivered.double_ack().await.unwrap();
    task
}

async fn publish_result(client: &Client, subject: &str, result: &str) -> Value {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    let (subject, result) = (subject.to_owned(), result.to_owned().into());
    let answer = client.request_with_headers(subject, headers, result).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn consumer(client: &Client, name: &str) -> PullConsumer {
    let context = jetstream::new(client.clone());
    context.get_consumer_from_stream(name, "PLED_TASKS").await.unwrap()
}
