//! What comes in wrong, over NATS and over HTTP: each gets a clear answer, what a stream has taken
//! is set aside with its cause, and other executions go on.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod support;

use futures::StreamExt;
use pled_harness::async_nats::client::PublishErrorKind;
use pled_harness::async_nats::{self, Client, HeaderMap};
use pled_harness::{NatsOptions, free_port, wait_until};
use pled_streams::dead::{self, Dead};
use pled_streams::{ConnectOptions, Nats, state, templates::TemplateCache, topology};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use support::{Installation, Role, SOON};

/// Counts TICKs until it is stopped; raw events of the shop tick too.
const STEADY: &str = r##"{
  "pled": "1.0", "id": "steady", "version": 1, "logic": "pled-logic-1",
  "context": { "ticks": 0 },
  "rules": [
    { "id": "shop-tick", "source": "shop", "when": { "==": [{ "var": "event.type" }, "tick"] },
      "emit": [{ "key": { "var": "event.data.for" }, "event": "TICK" }] }
  ],
  "initial": "ticking",
  "states": {
    "ticking": {
      "on": {
        "TICK": { "actions": [{ "type": "assign", "params": { "ticks": { "+": [{ "var": "context.ticks" }, 1] } } }] },
        "STOP": { "target": "stopped" }
      }
    },
    "stopped": { "type": "final" }
  }
}"##;
/// The most that the server takes.
const MAX_PAYLOAD: usize = 64 * 1024;

#[tokio::test]
async fn story_each_bad_event_over_nats_is_answered_and_set_aside() {
    let doors = Doors::open().await;
    let large = format!("\"{}\"", "x".repeat(MAX_PAYLOAD * 3 / 4));
    let barely_taken = format!("\"{}\"", "x".repeat(MAX_PAYLOAD - 200));
    let bad: [(&str, Option<&str>, &str, &str, &str); 15] = [
        ("steady-1.TICK", None, "{\"a\":", "malformed", "not JSON"),
        ("steady-1.TICK", None, "\u{feff}1", "malformed", "not JSON"),
        ("steady-1.T!CK", None, "1", "malformed", "T!CK"),
        ("bad!id.TICK", None, "1", "malformed", "bad!id"),
        ("fresh-1.pled.init", Some("no template!"), "1", "malformed", "Pled-Template"),
        ("fresh-1.pled.init", Some("steady@9"), "1", "unknown-template", "steady@9"),
        ("fresh-1.pled.init", Some("nothing"), "1", "unknown-template", "nothing"),
        ("nobody.TICK", None, "1", "unknown-execution", ""),
        ("ended-1.TICK", None, "1", "closed", "ended"),
        ("steady-1.done.invoke.pay", None, "1", "reserved-type", "done.invoke.pay"),
        ("steady-1.error.invoke.pay", None, "1", "reserved-type", "error.invoke.pay"),
        ("steady-1.after.5.ticking", None, "1", "reserved-type", "after.5.ticking"),
        ("steady-1.pled.timer", None, "1", "reserved-type", "pled.timer"),
        ("steady-1.TICK", None, &large, "too-large", "larger than 32768 bytes"),
        ("steady-1.TICK", None, &barely_taken, "too-large", "larger than 32768 bytes"),
    ];

    for (round, (subject, template, payload, outcome, reason)) in bad.iter().enumerate() {
        let (seq, answer) = doors.ask(subject, *template, payload).await;

        assert_eq!(answer["outcome"], *outcome, "{subject}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(reason), "{subject}: {error}");
        let record = doors.set_aside(&format!("events-1-{seq}")).await;
        assert_eq!(record.reason, *outcome);
        assert_eq!(record.detail, error);
        assert!(record.subject.ends_with(subject), "{}", record.subject);
        assert!(payload.as_bytes().starts_with(&record.payload), "{subject}");
        assert!(record.payload.len() + 12_000 > payload.len(), "{subject} is cut by too much");
        doors.tick(round).await;
    }
    assert_eq!(doors.all_set_aside().await.len(), bad.len());
}

#[tokio::test]
async fn story_an_event_over_the_servers_limit_is_refused_to_its_publisher() {
    let doors = Doors::open().await;
    let over = "x".repeat(MAX_PAYLOAD + 1);

    let refused = doors.client.publish("pled.events.steady-1.TICK", over.into()).await;

    assert_eq!(refused.unwrap_err().kind(), PublishErrorKind::MaxPayloadExceeded);
    doors.tick(0).await;
    assert_eq!(doors.all_set_aside().await.len(), 0);
}

#[tokio::test]
async fn story_each_bad_raw_event_is_set_aside() {
    let doors = Doors::open().await;
    let bad = [
        ("shop.tick", "{\"for\":", "malformed"),
        ("sh!op.tick", "{\"for\":\"steady-1\"}", "malformed"),
        ("shop.nothing", "{\"for\":\"steady-1\"}", "unmatched"),
        ("shop.tick", "{\"for\":\"bad!id\"}", "bad-key"),
        ("shop.tick", "{}", "bad-key"),
    ];

    for (subject, payload, reason) in bad {
        let seq = doors.publish(&format!("pled.ingest.{subject}"), HeaderMap::new(), payload).await;

        let record = doors.set_aside(&format!("ingest-1-{seq}")).await;
        assert_eq!(record.reason, reason, "{subject} {payload}: {}", record.detail);
        assert!(!record.detail.is_empty());
        assert_eq!(record.payload, payload.as_bytes());
    }

    doors.publish("pled.ingest.shop.tick", HeaderMap::new(), "{\"for\":\"steady-1\"}").await;
    wait_until(SOON, "the good one ticks", async || doors.ticks().await == 1).await;
    // What a rule emits to an execution that is not there is set aside where it was to be taken.
    doors.publish("pled.ingest.shop.tick", HeaderMap::new(), "{\"for\":\"nobody\"}").await;
    wait_until(SOON, "the emitted event is set aside", async || {
        doors.all_set_aside().await.last().unwrap().reason == "unknown-execution"
    })
    .await;
    doors.tick(1).await;
}

#[tokio::test]
async fn story_each_bad_request_over_http_is_a_problem() {
    let doors = Doors::open().await;
    let event = |text: Value| text.to_string();
    let tick = event(json!({ "type": "TICK" }));
    let large = event(json!({ "type": "TICK", "data": "x".repeat(MAX_PAYLOAD * 3 / 4) }));
    let over = event(json!({ "type": "TICK", "data": "x".repeat(MAX_PAYLOAD) }));
    let steady = "/v1/executions/steady-1/events";
    let start = "/v1/executions";
    let bad: &[(&str, &str, u16, &str, &str)] = &[
        (steady, "{\"type\":", 400, "bad-request", ""),
        (steady, "[]", 422, "validation-failed", ""),
        (steady, "{}", 422, "validation-failed", "/type"),
        (steady, "{\"type\":7}", 422, "validation-failed", "/type"),
        (steady, "{\"type\":\"T!CK\"}", 422, "validation-failed", "/type"),
        (steady, "{\"type\":\"done.invoke.pay\"}", 422, "validation-failed", "/type"),
        (steady, "{\"type\":\"TICK\",\"colour\":1}", 422, "validation-failed", "/colour"),
        (steady, &over, 413, "payload-too-large", ""),
        ("/v1/executions/bad!id/events", &tick, 404, "execution-not-found", ""),
        (start, "{\"template\":\"nothing\"}", 404, "template-not-found", ""),
        (start, "{\"template\":\"steady@9\"}", 404, "template-not-found", ""),
        (start, "{\"template\":\"not a name\"}", 422, "validation-failed", "/template"),
        (start, "{\"template\":\"steady\",\"id\":\"bad!id\"}", 422, "validation-failed", "/id"),
        ("/v1/nothing", &tick, 404, "not-found", ""),
        ("/v1/executions/steady-1", &tick, 405, "method-not-allowed", ""),
    ];
    for (round, (path, body, status, code, pointer)) in bad.iter().enumerate() {
        let problem = doors.problem(path, body, *status).await;

        assert_eq!(problem["code"], *code, "{path}: {problem}");
        if !pointer.is_empty() {
            assert_eq!(problem["errors"][0]["pointer"], *pointer, "{path}: {problem}");
        }
        doors.tick(round).await;
    }
    // None of these has reached a stream; these do, and are set aside.
    assert_eq!(doors.all_set_aside().await.len(), 0);
    let taken = [
        ("/v1/executions/nobody/events", &tick, 404, "execution-not-found", "unknown-execution"),
        ("/v1/executions/ended-1/events", &tick, 409, "execution-closed", "closed"),
        (steady, &large, 413, "payload-too-large", "too-large"),
    ];
    for (round, (path, body, status, code, reason)) in taken.into_iter().enumerate() {
        let problem = doors.problem(path, body, status).await;

        assert_eq!(problem["code"], code, "{path}: {problem}");
        let records = doors.all_set_aside().await;
        assert_eq!(records.len(), round + 1);
        assert_eq!(records.last().unwrap().reason, reason);
        doors.tick(bad.len() + round).await;
    }
}

#[tokio::test]
async fn story_a_bad_template_is_refused_with_the_place_and_the_reason() {
    let doors = Doors::open().await;

    let nowhere = STEADY.replace("\"target\": \"stopped\"", "\"target\": \"nowhere\"");
    let problem = doors.problem("/v1/templates", &nowhere, 422).await;
    assert_eq!(problem["code"], "validation-failed");
    let error = &problem["errors"][0];
    assert_eq!(error["pointer"], "/states/ticking/on/STOP/target", "{problem}");
    assert!(error["detail"].as_str().unwrap().contains("nowhere"), "{problem}");
    assert!(error["detail"].as_str().unwrap().contains("(line 13, column "), "{problem}");
    assert_eq!((&error["code"], &error["line"]), (&"E013".into(), &13.into()), "{problem}");

    let misspelt = STEADY.replace("\"==\":", "\"equals\":");
    let problem = doors.problem("/v1/templates", &misspelt, 422).await;
    assert_eq!(problem["errors"][0]["pointer"], "/rules/0/when", "{problem}");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("equals"), "{problem}");

    let cut = &STEADY[..STEADY.len() / 2];
    assert_eq!(doors.problem("/v1/templates", cut, 422).await["code"], "validation-failed");

    let other = STEADY.replace("\"ticks\": 0", "\"ticks\": 1");
    assert_eq!(doors.problem("/v1/templates", &other, 409).await["code"], "version-conflict");
    doors.tick(0).await;
}

/// PLED with both doors, the execution `steady-1`, which ticks, and `ended-1`, which has ended.
struct Doors {
    client: Client,
    nats: Nats,
    http: reqwest::Client,
    address: String,
    _roles: [Role; 3],
    pled: Installation,
}

impl Doors {
    async fn open() -> Self {
        let options =
            NatsOptions { max_payload_bytes: MAX_PAYLOAD.try_into().ok(), ..Default::default() };
        let pled = Installation::start(options, None).await;
        let address = format!("127.0.0.1:{}", free_port());
        let nats = Nats::connect(ConnectOptions::to(pled.server.url(), "story")).await.unwrap();
        topology::open(&nats).await.unwrap();
        let doors = Self {
            client: async_nats::connect(pled.server.url()).await.unwrap(),
            nats,
            http: reqwest::Client::new(),
            _roles: [
                pled.role("engine", &["engine"]),
                pled.role("rules", &["rules"]),
                pled.role("gateway", &["gateway", "--listen", &address]),
            ],
            address: format!("http://{address}"),
            pled,
        };
        doors.prepare().await;
        doors
    }

    async fn prepare(&self) {
        wait_until(SOON, "the gateway is ready", async || {
            let ready = self.http.get(format!("{}/ready", self.address)).send().await;
            ready.is_ok_and(|answer| answer.status() == StatusCode::OK)
        })
        .await;
        let registered = self.post("/v1/templates", STEADY).await;
        assert_eq!(registered.status(), StatusCode::CREATED);
        for id in ["steady-1", "ended-1"] {
            let start = json!({ "template": "steady", "id": id }).to_string();
            assert_eq!(self.post("/v1/executions", &start).await.status(), StatusCode::OK);
        }
        let stop = json!({ "type": "STOP" }).to_string();
        let ended = self.post("/v1/executions/ended-1/events", &stop).await;
        assert_eq!(ended.status(), StatusCode::OK);
        self.pled.pled(&["show", "ended-1"]).await.succeeded();
    }

    /// Posts JSON and waits for the outcome.
    async fn post(&self, path: &str, body: &str) -> reqwest::Response {
        self.http
            .request(Method::POST, format!("{}{path}", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .header("prefer", "wait=20")
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    /// Posts what is answered with a problem of this status.
    async fn problem(&self, path: &str, body: &str, status: u16) -> Value {
        let answer = self.post(path, body).await;
        let (found, kind) = (answer.status().as_u16(), answer.headers().get(header::CONTENT_TYPE));
        let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
        let text = answer.text().await.unwrap();
        assert_eq!(found, status, "{path}: {text}");
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{path}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["status"], status);
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("https://pled.dev/problems/{code}"));
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        problem
    }

    /// Publishes as `nats req` does, and gives the sequence of the acknowledgement.
    async fn publish(&self, subject: &str, headers: HeaderMap, payload: &str) -> u64 {
        let payload = payload.to_owned().into();
        let answer =
            self.client.request_with_headers(subject.to_owned(), headers, payload).await.unwrap();
        let acknowledged: Value = serde_json::from_slice(&answer.payload).unwrap();
        acknowledged["seq"].as_u64().unwrap_or_else(|| panic!("{subject}: {acknowledged}"))
    }

    /// Publishes an event and waits for its outcome on the subject that its header names.
    async fn ask(&self, subject: &str, template: Option<&str>, payload: &str) -> (u64, Value) {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Pled-Reply", inbox);
        if let Some(template) = template {
            headers.insert("Pled-Template", template);
        }
        let seq = self.publish(&format!("pled.events.{subject}"), headers, payload).await;
        let answer = tokio::time::timeout(SOON, answers.next()).await;
        let answer = answer.unwrap_or_else(|_| panic!("{subject} is not answered")).unwrap();
        (seq, serde_json::from_slice(&answer.payload).unwrap())
    }

    /// The execution `steady-1` takes one more event, after `before` of them.
    async fn tick(&self, before: usize) {
        assert_eq!(self.ticks().await, before);
        let (_, answer) = self.ask("steady-1.TICK", None, "").await;
        assert_eq!(answer["outcome"], "applied", "{answer}");
        assert_eq!(self.ticks().await, before + 1);
    }

    async fn ticks(&self) -> usize {
        let id = "steady-1".parse().unwrap();
        let read = state::read(&self.nats, &TemplateCache::default(), &id).await.unwrap().unwrap();
        let ticks = read.state.context.get("ticks").unwrap().to_string();
        ticks.parse().unwrap()
    }

    async fn set_aside(&self, origin: &str) -> Dead {
        let found = async || {
            let records = self.all_set_aside().await;
            records.into_iter().find(|record| record.origin == origin)
        };
        wait_until(SOON, &format!("{origin} is set aside"), async || found().await.is_some()).await;
        found().await.unwrap()
    }

    async fn all_set_aside(&self) -> Vec<Dead> {
        dead::list(&self.nats, 1_000).await.unwrap()
    }
}
