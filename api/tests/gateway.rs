#![cfg(test)]
//! What the gateway promises, over HTTP, before a real nats-server and a real engine, and a real
//! Postgres where lists come from the ledger.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pled_api::{Gateway, listen, openapi};
use pled_harness::{Database, NatsOptions, NatsServer, free_port, wait_until};
use pled_ledger::Ledger;
use pled_streams::topology::{self, Settings};
use pled_streams::{ConnectOptions, Nats, inputs};
use pled_workers::engine::{self, EngineConfig};
use pled_workers::{CancellationToken, Partitions};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Long enough for anything that is to happen at once, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A gate that counts who passes and can be closed for good.
const GATE: &str = r#"{
  "pled": "1.0", "id": "gate", "version": 1, "logic": "pled-logic-1",
  "context": { "passed": 0, "last": null },
  "entry": [ { "type": "assign", "params": { "last": { "var": "event.data" } } } ],
  "initial": "open",
  "states": {
    "open": {
      "on": {
        "PASS": { "actions": [ { "type": "assign", "params": {
          "passed": { "+": [ { "var": "context.passed" }, 1 ] }, "last": { "var": "event.data" } } } ] },
        "CLOSE": "closed"
      }
    },
    "closed": { "type": "final" }
  },
  "output": { "passed": { "var": "context.passed" } }
}"#;

/// A nats-server with PLED's streams, an engine if it was started, and a gateway.
struct World {
    server: NatsServer,
    nats: Nats,
    client: Client,
    url: String,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl World {
    /// With an engine, without a ledger.
    async fn start() -> Self {
        let world = Self::without_engine(None).await;
        world.start_engine();
        world
    }

    async fn without_engine(ledger: Option<Ledger>) -> Self {
        let server = NatsServer::start(NatsOptions::default()).await;
        let nats = Nats::connect(ConnectOptions::to(server.url(), "test")).await.unwrap();
        topology::init(&nats, &Settings { partitions: 2, ..Settings::default() }).await.unwrap();
        Self::serve(server, nats, ledger).await
    }

    async fn serve(server: NatsServer, nats: Nats, ledger: Option<Ledger>) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let gateway = Gateway::new(nats.clone(), ledger, None).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(async move { gateway.serve(listener, stopped).await.unwrap() });
        Self { server, nats, client: Client::new(), url, stop, serving }
    }

    fn start_engine(&self) {
        let config = EngineConfig { partitions: Partitions::All, ..EngineConfig::new("engine-1") };
        let run = engine::run(self.nats.clone(), config, CancellationToken::new());
        tokio::spawn(async move { run.await.unwrap() });
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).timeout(SOON)
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.posting(path).body(body.to_string())).await
    }

    /// Posts and waits for what comes of it.
    async fn ask(&self, path: &str, body: &Value) -> Answer {
        let request = self.posting(path).header("prefer", "wait=20");
        Answer::of(request.body(body.to_string())).await
    }

    fn posting(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path).header("content-type", "application/json")
    }

    async fn register(&self, source: &str) -> Answer {
        Answer::of(self.posting("/v1/templates").body(source.to_owned())).await
    }

    /// Starts an execution of the gate and waits until it is started.
    async fn started(&self, id: &str) {
        let body = json!({ "template": "gate", "id": id });
        let answer = self.ask("/v1/executions", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    }
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    json: Value,
}

impl Answer {
    async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Self { status, headers, text, json }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Checks that it is problem+json (RFC 9457) of this kind, and gives it.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> &Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["code"], code, "{self:?}");
        assert_eq!(self.json["type"], format!("https://pled.dev/problems/{code}"));
        assert!(self.json["title"].is_string() && self.json["detail"].is_string());
        &self.json
    }
}

#[tokio::test]
async fn a_template_is_registered_once_and_never_changed() {
    let world = World::without_engine(None).await;

    let created = world.register(GATE).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(created.header("location"), "/v1/templates/gate@1");
    assert_eq!(created.json["template"], "gate@1");
    assert_eq!(created.json["version"], 1);

    let again = world.register(GATE).await;
    assert_eq!((again.status, &again.json), (StatusCode::OK, &created.json));

    let other = world.register(&GATE.replace("\"passed\": 0", "\"passed\": 1")).await;
    other.problem(409, "version-conflict");
}

#[tokio::test]
async fn what_is_wrong_with_a_template_is_told_with_its_place() {
    let world = World::without_engine(None).await;

    let answer =
        world.register(&GATE.replace("\"CLOSE\": \"closed\"", "\"CLOSE\": \"shut\"")).await;
    let problem = answer.problem(422, "validation-failed");
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors[0]["pointer"], "/states/open/on/CLOSE", "{errors:?}");
    assert!(errors[0]["detail"].as_str().unwrap().contains("line "), "{errors:?}");
    assert!(errors[0]["code"].is_string());

    let nonsense = world.register("{\"pled\":").await;
    assert!(!nonsense.problem(422, "validation-failed")["errors"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_template_is_read_as_it_was_registered_and_not_sent_twice() {
    let world = World::without_engine(None).await;
    let hash = world.register(GATE).await.json["hash"].clone();
    let second = GATE.replace("\"version\": 1", "\"version\": 2");
    world.register(&second).await;

    let first = world.get("/v1/templates/gate@1").await;
    assert_eq!((first.status, first.text.as_str()), (StatusCode::OK, GATE));
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("etag"), format!("\"{}\"", hash.as_str().unwrap()));
    assert_eq!(world.get("/v1/templates/gate").await.text, second);

    let known = world.request(Method::GET, "/v1/templates/gate@1");
    let known = known.header("if-none-match", format!("\"x\", {}", first.header("etag")));
    let known = Answer::of(known).await;
    assert_eq!((known.status, known.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(known.header("etag"), first.header("etag"));

    let list = world.get("/v1/templates").await;
    let gate = json!({ "name": "gate", "versions": [1, 2], "latest": 2 });
    assert_eq!(list.json, json!({ "items": [gate] }));
    for unknown in ["gate@3", "door", "gate@0", "g%C3%A4te", "%FF"] {
        let answer = world.get(&format!("/v1/templates/{unknown}")).await;
        if unknown == "%FF" {
            answer.problem(400, "bad-request");
        } else {
            answer.problem(404, "template-not-found");
        }
    }
}

#[tokio::test]
async fn an_execution_is_started_at_once_or_when_it_was_stored() {
    let world = World::start().await;
    world.register(GATE).await;

    let body = json!({ "template": "gate@1", "id": "gate-1", "input": { "by": "north" } });
    let accepted = world.post("/v1/executions", &body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    assert_eq!(accepted.header("location"), "/v1/executions/gate-1");
    assert_eq!(accepted.json["execution"], "gate-1");
    assert!(accepted.json["stream_seq"].is_u64() && accepted.json.get("outcome").is_none());

    let exists = world.ask("/v1/executions", &body).await;
    assert_eq!(exists.status, StatusCode::OK);
    assert_eq!(exists.json["outcome"]["outcome"], "exists");

    let body = json!({ "template": "gate" });
    let started = world.ask("/v1/executions", &body).await;
    assert_eq!(started.status, StatusCode::OK, "{started:?}");
    let outcome = &started.json["outcome"];
    assert_eq!(outcome["outcome"], "applied");
    assert_eq!((&outcome["seq"], &outcome["status"]), (&json!(1), &json!("running")));
    assert_eq!(outcome["configuration"], json!(["gate.open"]));
    assert_eq!(started.header("etag"), "\"1\"");
    let id = started.json["execution"].as_str().unwrap();
    assert_eq!(started.header("location"), format!("/v1/executions/{id}"));
    assert_eq!(id.split('-').nth(2).unwrap().as_bytes()[0], b'7', "a UUIDv7: {id}");
    assert_eq!(world.get(started.header("location")).await.json["seq"], 1);
}

#[tokio::test]
async fn a_start_with_an_idempotency_key_starts_one_execution() {
    let world = World::start().await;
    world.register(GATE).await;
    let start = async |key: &str, input: Value| {
        let body = json!({ "template": "gate", "input": input }).to_string();
        let request = world.posting("/v1/executions").header("idempotency-key", key);
        Answer::of(request.header("prefer", "wait=20").body(body)).await
    };

    let first = start("\"order 7\"", json!({ "n": 7 })).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.header("idempotency-replayed"), "");
    // The quotes are the structured field's, not the key's.
    let again = start("order 7", json!({ "n": 7 })).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    assert_eq!(again.json["execution"], first.json["execution"]);
    assert_eq!(again.json["outcome"]["repeat"], true);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = start("order 8", json!({ "n": 8 })).await;
    assert_ne!(other.json["execution"], first.json["execution"]);

    let reused = start("order 7", json!({ "n": 9 })).await;
    assert_eq!(
        reused.problem(422, "idempotency-conflict")["execution_id"],
        first.json["execution"]
    );
    for bad in ["\"\"", "x".repeat(256).as_str()] {
        start(bad, Value::Null).await.problem(400, "bad-request");
    }
}

#[tokio::test]
async fn a_start_that_cannot_be_is_refused_with_what_is_wrong() {
    let world = World::without_engine(None).await;
    world.register(GATE).await;
    let start = async |body: Value| world.post("/v1/executions", &body).await;

    start(json!({ "template": "door" })).await.problem(404, "template-not-found");
    start(json!({ "template": "gate@2" })).await.problem(404, "template-not-found");
    for (body, pointer) in [
        (json!({ "template": "gate", "id": "a b" }), "/id"),
        (json!({ "template": "gate", "id": 7 }), "/id"),
        (json!({ "template": "gate", "id": "" }), "/id"),
        (json!({ "template": "no such name" }), "/template"),
        (json!({ "id": "gate-1" }), "/template"),
        (json!({ "template": "gate", "a/b": 1 }), "/a~1b"),
        (json!([1]), ""),
    ] {
        let answer = start(body.clone()).await;
        let problem = answer.problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_large_is_refused() {
    let world = World::without_engine(None).await;
    world.register(GATE).await;
    let paths = ["/v1/executions", "/v1/executions/gate-1/events"];

    for path in paths {
        for malformed in ["{\"template\":", "{\"a\":1,\"a\":2}", "", "\u{feff}{}", "{\"n\":1e999}"]
        {
            let answer = Answer::of(world.posting(path).body(malformed)).await;
            answer.problem(400, "bad-request");
        }
        let answer = Answer::of(world.posting(path).body(vec![b'"', 0xff, b'"'])).await;
        answer.problem(400, "bad-request");
    }
    let deep =
        format!("{{\"template\":\"gate\",\"input\":{}{}}}", "[".repeat(500), "]".repeat(500));
    Answer::of(world.posting(paths[0]).body(deep)).await.problem(400, "bad-request");

    for path in ["/v1/executions", "/v1/executions/gate-1/events", "/v1/templates"] {
        for wrong in ["text/plain", "application/x-www-form-urlencoded", "text/x+json", ""] {
            let request = world.request(Method::POST, path);
            let request =
                if wrong.is_empty() { request } else { request.header("content-type", wrong) };
            Answer::of(request.body("{}")).await.problem(415, "unsupported-media-type");
        }
        let large = format!("{{\"template\":\"gate\",\"input\":\"{}\"}}", "x".repeat(1 << 20));
        let answer = Answer::of(world.posting(path).body(large.clone())).await;
        answer.problem(413, "payload-too-large");
        let answer = post_without_length(&world, path, &large).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    // It fits the request, and not the message with what is around it.
    let filled = format!("{{\"template\":\"gate\",\"input\":\"{}\"}}", "x".repeat((1 << 20) - 32));
    let answer = Answer::of(world.posting(paths[0]).body(filled)).await;
    answer.problem(413, "payload-too-large");
    // Parameters and other JSON types are understood.
    for right in
        ["application/json; charset=utf-8", "Application/JSON", "application/vnd.gate+json"]
    {
        let request = world.request(Method::POST, paths[0]).header("content-type", right);
        let answer = Answer::of(request.body("{\"template\":\"gate\"}")).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{right}: {answer:?}");
    }
}

/// Sends a body whose length is not said before, and gives the answer as it came.
async fn post_without_length(world: &World, path: &str, body: &str) -> String {
    let address = world.url.strip_prefix("http://").unwrap();
    let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    // The server may close before it has read all.
    let sending = tokio::spawn(async move { to.write_all(head.as_bytes()).await.is_ok() });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, from.read_to_end(&mut answer)).await.unwrap();
    sending.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_event_is_stored_or_answered_with_what_came_of_it() {
    let world = World::start().await;
    world.register(GATE).await;
    world.started("gate-1").await;
    let path = "/v1/executions/gate-1/events";

    let stored = world.post(path, &json!({ "type": "PASS", "data": "a" })).await;
    assert_eq!(stored.status, StatusCode::ACCEPTED, "{stored:?}");
    assert_eq!(stored.header("location"), "/v1/executions/gate-1");

    let applied = world.ask(path, &json!({ "type": "PASS", "data": "b" })).await;
    assert_eq!(applied.status, StatusCode::OK, "{applied:?}");
    assert_eq!(applied.json["outcome"]["outcome"], "applied");
    assert_eq!(applied.header("etag"), format!("\"{}\"", applied.json["outcome"]["seq"]));
    let ignored = world.ask(path, &json!({ "type": "WAVE" })).await;
    assert_eq!(ignored.json["outcome"]["outcome"], "ignored");

    let closing = world.ask(path, &json!({ "type": "CLOSE" })).await;
    assert_eq!(closing.json["outcome"]["status"], "done");
    let state = world.get("/v1/executions/gate-1").await;
    assert_eq!(state.json["state"]["output"], json!({ "passed": 2 }));
    let late = world.ask(path, &json!({ "type": "PASS" })).await;
    assert_eq!(late.problem(409, "execution-closed")["execution_id"], "gate-1");
    let unknown = world.ask("/v1/executions/gate-2/events", &json!({ "type": "PASS" })).await;
    assert_eq!(unknown.problem(404, "execution-not-found")["execution_id"], "gate-2");
}

#[tokio::test]
async fn an_event_with_an_id_has_its_effect_once() {
    let world = World::start().await;
    world.register(GATE).await;
    world.started("gate-1").await;
    let path = "/v1/executions/gate-1/events";

    let body = json!({ "type": "PASS", "id": "ticket-1" });
    let first = world.ask(path, &body).await;
    let again = world.ask(path, &body).await;
    let keyed = world.posting(path).header("prefer", "wait=20");
    let keyed = keyed.header("idempotency-key", "\"ticket-1\"").body("{\"type\":\"PASS\"}");
    let keyed = Answer::of(keyed).await;

    assert_eq!(first.json["outcome"]["repeat"], false, "{first:?}");
    for repeat in [again, keyed] {
        assert_eq!(repeat.json["outcome"]["repeat"], true, "{repeat:?}");
        assert_eq!(repeat.json["outcome"]["seq"], first.json["outcome"]["seq"]);
        assert_eq!(repeat.header("idempotency-replayed"), "true");
    }
    let state = world.get("/v1/executions/gate-1").await;
    assert_eq!(state.json["state"]["context"]["passed"], 1);
}

#[tokio::test]
async fn an_event_that_cannot_be_is_refused_with_what_is_wrong() {
    let world = World::without_engine(None).await;
    let path = "/v1/executions/gate-1/events";

    for (body, pointer) in [
        (json!({ "data": 1 }), "/type"),
        (json!({ "type": "a b" }), "/type"),
        (json!({ "type": ["PASS"] }), "/type"),
        (json!({ "type": "done.invoke.charge" }), "/type"),
        (json!({ "type": "error.invoke.charge" }), "/type"),
        (json!({ "type": "after.1000.open" }), "/type"),
        (json!({ "type": "pled.result" }), "/type"),
        (json!({ "type": "PASS", "id": "a\nb" }), "/id"),
        (json!({ "type": "PASS", "id": "" }), "/id"),
        (json!({ "type": "PASS", "to": "gate-2" }), "/to"),
    ] {
        let answer = world.post(path, &body).await;
        let problem = answer.problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let nobody = world.post("/v1/executions/a.b/events", &json!({ "type": "PASS" })).await;
    nobody.problem(404, "execution-not-found");
    let control = world.post(path, &json!({ "type": "pled.cancel" })).await;
    assert_eq!(control.status, StatusCode::ACCEPTED, "{control:?}");
}

#[tokio::test]
async fn a_client_whose_wait_ends_before_the_outcome_is_told_that_the_event_is_stored() {
    let world = World::without_engine(None).await;
    world.register(GATE).await;
    let body = json!({ "template": "gate", "id": "gate-1" });
    let request = world.posting("/v1/executions").header("prefer", "wait=1");

    let answer = Answer::of(request.body(body.to_string())).await;

    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(answer.header("location"), "/v1/executions/gate-1");
    assert!(answer.json.get("outcome").is_none());
    world.start_engine();
    wait_until(SOON, "it is started", || async {
        world.get("/v1/executions/gate-1").await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn the_state_is_read_from_the_journal_and_not_sent_twice() {
    let world = World::start().await;
    world.register(GATE).await;
    world.started("gate-1").await;
    let pass = json!({ "type": "PASS", "data": { "who": "ü" } });
    world.ask("/v1/executions/gate-1/events", &pass).await;

    let state = world.get("/v1/executions/gate-1").await;

    assert_eq!(state.status, StatusCode::OK, "{state:?}");
    assert_eq!(state.header("etag"), "\"2\"");
    let text = |key: &str| state.json[key].as_str().unwrap();
    assert_eq!((text("id"), text("template"), text("status")), ("gate-1", "gate@1", "running"));
    assert_eq!(state.json["seq"], 2);
    assert_eq!(text("hash").len(), 64);
    assert!(state.json["updated_at"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(state.json["state"]["configuration"], json!(["gate.open"]));
    assert_eq!(state.json["state"]["context"], json!({ "passed": 1, "last": { "who": "ü" } }));

    let known =
        world.request(Method::GET, "/v1/executions/gate-1").header("if-none-match", "\"2\"");
    let known = Answer::of(known).await;
    assert_eq!((known.status, known.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(known.header("etag"), "\"2\"");
    world.get("/v1/executions/gate-2").await.problem(404, "execution-not-found");
    world.get("/v1/executions/a%20b").await.problem(404, "execution-not-found");
    world.get("/v1/executions/%FF").await.problem(400, "bad-request");
}

#[tokio::test]
async fn the_history_is_given_in_pages_as_it_is_recorded() {
    let world = World::start().await;
    world.register(GATE).await;
    world.started("gate-1").await;
    world.started("gate-2").await;
    for passed in 1..=4 {
        let data = json!({ "n": passed, "half": 0.5, "text": "ü\u{2028}" });
        let pass = json!({ "type": "PASS", "data": data });
        for gate in ["gate-1", "gate-2"] {
            let passed = world.ask(&format!("/v1/executions/{gate}/events"), &pass).await;
            assert_eq!(passed.status, StatusCode::OK, "{passed:?}");
        }
    }

    let mut path = "/v1/executions/gate-1/history?limit=2".to_owned();
    let (mut seqs, mut pages) = (Vec::new(), 0);
    loop {
        let page = world.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        pages += 1;
        for item in page.json["items"].as_array().unwrap() {
            assert_eq!(item["execution"], "gate-1");
            seqs.push(item["seq"].as_u64().unwrap());
        }
        let Some(cursor) = page.json["next_cursor"].as_str() else {
            assert_eq!(page.header("link"), "");
            break;
        };
        path = format!("/v1/executions/gate-1/history?limit=2&cursor={cursor}");
        assert_eq!(page.header("link"), format!("<{path}>; rel=\"next\""));
    }
    assert_eq!((seqs, pages), (vec![1, 2, 3, 4, 5], 3));

    let all = world.get("/v1/executions/gate-1/history").await;
    let inside = all.text.strip_prefix("{\"items\":[").unwrap().strip_suffix("]}").unwrap();
    let entries: Vec<&str> = inside.split("},{\"at\"").collect();
    let last = format!("{{\"at\"{}", entries[4]);
    let entry = pled_engine::entry::JournalEntry::decode(last.as_bytes()).unwrap();
    assert_eq!(entry.seq, 5);

    world.get("/v1/executions/gate-3/history").await.problem(404, "execution-not-found");
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=x", "cursor=x", "offset=3"] {
        let answer = world.get(&format!("/v1/executions/gate-1/history?{query}")).await;
        answer.problem(400, "bad-request");
    }
    let behind = world.get("/v1/executions/gate-1/history?cursor=999999").await;
    assert_eq!(behind.json, json!({ "items": [] }));
}

/// Follows the links of a list and gives the ids of all pages.
async fn list(world: &World, query: &str) -> Vec<Vec<String>> {
    let mut path = format!("/v1/executions?{query}");
    let mut pages = Vec::new();
    loop {
        let page = world.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let items = page.json["items"].as_array().unwrap().iter();
        pages.push(items.map(|item| item["id"].as_str().unwrap().to_owned()).collect());
        let link = page.header("link");
        assert_eq!(link.is_empty(), page.json.get("next_cursor").is_none());
        let Some(next) = link.strip_suffix(">; rel=\"next\"") else { return pages };
        path = next.strip_prefix('<').unwrap().to_owned();
    }
}

async fn bad_lists(world: &World) {
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "page=2",
        "template=a%00b",
        "status=away",
        "status=%00",
    ] {
        let answer = world.get(&format!("/v1/executions?{query}")).await;
        answer.problem(400, "bad-request");
    }
}

#[tokio::test]
async fn without_a_ledger_executions_are_listed_by_their_ids() {
    let world = World::start().await;
    assert_eq!(world.get("/v1/executions").await.json, json!({ "items": [] }));
    world.register(GATE).await;
    for at in 1..=5 {
        world.started(&format!("gate-{at}")).await;
    }
    world.ask("/v1/executions/gate-3/events", &json!({ "type": "CLOSE" })).await;
    let all = ["gate-1", "gate-2", "gate-3", "gate-4", "gate-5"];
    wait_until(SOON, "all are listed", || async {
        let open = list(&world, "limit=10&status=running").await.concat();
        list(&world, "limit=10").await.concat() == all && open.len() == 4
    })
    .await;

    let pages = list(&world, "limit=2").await;
    assert_eq!(pages, [&all[..2], &all[2..4], &all[4..]]);
    assert_eq!(list(&world, "limit=1&status=done").await.concat(), ["gate-3"]);
    assert_eq!(list(&world, "template=gate&limit=3").await.concat(), all);
    assert_eq!(list(&world, "template=door").await.concat(), Vec::<String>::new());
    let first = world.get("/v1/executions?limit=1").await.json["items"][0].clone();
    assert_eq!((&first["template"], &first["status"]), (&json!("gate@1"), &json!("running")));
    assert_eq!(first["configuration"], json!(["gate.open"]));
    bad_lists(&world).await;
}

#[tokio::test]
async fn with_a_ledger_executions_are_listed_the_newest_first() {
    let database = Database::create().await;
    let ledger = Ledger::lazy(database.url()).unwrap();
    let world = World::without_engine(Some(ledger.clone())).await;
    world.start_engine();
    let (nats, following) = (world.nats.clone(), ledger.clone());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move { pled_ledger::follow(&nats, &following, stopped).await.unwrap() });
    world.register(GATE).await;
    for at in 1..=5 {
        world.started(&format!("gate-{at}")).await;
    }
    world.ask("/v1/executions/gate-3/events", &json!({ "type": "CLOSE" })).await;
    wait_until(SOON, "all are projected", || async {
        ledger.counts().await.is_ok_and(|counts| counts.entries == 6)
    })
    .await;

    let all = ["gate-5", "gate-4", "gate-3", "gate-2", "gate-1"];
    assert_eq!(list(&world, "limit=2").await, [&all[..2], &all[2..4], &all[4..]]);
    assert_eq!(list(&world, "limit=1&status=done").await, [["gate-3"]]);
    let running = list(&world, "limit=3&status=running&template=gate").await;
    assert_eq!(running, [vec!["gate-5", "gate-4", "gate-2"], vec!["gate-1"]]);
    assert_eq!(list(&world, "template=door").await.concat(), Vec::<String>::new());
    let item = world.get("/v1/executions?status=done").await.json["items"][0].clone();
    assert_eq!((&item["seq"], &item["template"]), (&json!(2), &json!("gate@1")));
    assert!(item["created_at"].as_i64() <= item["updated_at"].as_i64());
    bad_lists(&world).await;
    for cursor in ["x", "1", "1.a%00b", "99999999999999999.gate-1", "-1.gate-1", "1.a.b"] {
        let answer = world.get(&format!("/v1/executions?cursor={cursor}")).await;
        answer.problem(400, "bad-request");
    }
}

#[tokio::test]
async fn it_is_ready_with_nats_and_only_degraded_without_postgres() {
    let world = World::without_engine(None).await;
    assert_eq!(world.get("/health").await.json["status"], "ok");
    let ready = json!({ "status": "ready", "nats": "connected", "ledger": "none" });
    assert_eq!(world.get("/ready").await.json, ready);

    let database = Database::create().await;
    let with = |world: &World, url: &str| {
        let ledger = Ledger::lazy(url).unwrap();
        let nats = world.nats.clone();
        async move {
            let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let gateway = Gateway::new(nats, Some(ledger), None).await.unwrap();
            let (stop, stopped) = watch::channel(false);
            tokio::spawn(async move { gateway.serve(listener, stopped).await.unwrap() });
            (url, stop)
        }
    };
    let (url, _stop) = with(&world, database.url()).await;
    let connected = Answer::of(world.client.get(format!("{url}/ready"))).await;
    assert_eq!(
        (&connected.json["status"], &connected.json["ledger"]),
        (&json!("ready"), &json!("connected"))
    );

    let away = format!("postgres://pled@127.0.0.1:{}/pled", free_port());
    let (url, _stop) = with(&world, &away).await;
    let asked = Instant::now();
    let degraded = Answer::of(world.client.get(format!("{url}/ready"))).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(degraded.status, StatusCode::OK);
    let expected = json!({ "status": "degraded", "nats": "connected", "ledger": "away" });
    assert_eq!(degraded.json, expected);
    let listed = Answer::of(world.client.get(format!("{url}/v1/executions"))).await;
    assert_eq!(listed.problem(503, "ledger-away")["retry_after"], 5);
    assert_eq!(listed.header("retry-after"), "5");
}

#[tokio::test]
async fn without_nats_it_lives_and_is_not_ready_until_nats_is_back() {
    let mut world = World::without_engine(None).await;
    world.register(GATE).await;

    world.server.kill();
    wait_until(SOON, "the loss is known", || async {
        !world.nats.connections().borrow().connected
    })
    .await;
    let asked = Instant::now();
    let ready = world.get("/ready").await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(ready.problem(503, "not-ready")["retry_after"], 1);
    assert_eq!(ready.header("retry-after"), "1");
    assert_eq!(world.get("/health").await.status, StatusCode::OK);
    world.get("/v1/executions/gate-1").await.problem(503, "not-ready");

    world.server.restart().await;
    wait_until(SOON, "it is ready again", || async {
        world.get("/ready").await.status == StatusCode::OK
    })
    .await;
    world.server.freeze();
    let asked = Instant::now();
    world.get("/ready").await.problem(503, "not-ready");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    world.server.thaw();
    world.start_engine();
    world.started("gate-1").await;
}

#[tokio::test]
async fn streams_that_are_missing_make_it_not_ready() {
    let server = NatsServer::start(NatsOptions::default()).await;
    let nats = Nats::connect(ConnectOptions::to(server.url(), "test")).await.unwrap();
    let world = World::serve(server, nats, None).await;

    let answer = world.get("/ready").await;

    let detail = answer.problem(503, "not-ready")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("pled init"), "{detail}");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done_there_is_a_problem_too() {
    let world = World::without_engine(None).await;

    for path in ["/v2", "/v1", "/v1/executions/", "/v1/executions/a/b", "/metrics/x", "/%FF"] {
        world.get(path).await.problem(404, "not-found");
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/v1/executions", "GET,HEAD,POST"),
        (Method::PUT, "/v1/executions/gate-1", "GET,HEAD"),
        (Method::GET, "/v1/executions/gate-1/events", "POST"),
        (Method::POST, "/v1/executions/gate-1/history", "GET,HEAD"),
        (Method::POST, "/v1/templates/gate", "GET,HEAD"),
        (Method::PATCH, "/v1/templates", "GET,HEAD,POST"),
        (Method::POST, "/health", "GET,HEAD"),
        (Method::POST, "/openapi.json", "GET,HEAD"),
    ] {
        let answer = Answer::of(world.request(method, path)).await;
        answer.problem(405, "method-not-allowed");
        let mut allow: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow.join(","), allowed, "{path}");
    }
    let head = Answer::of(world.request(Method::HEAD, "/health")).await;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    let page = world.get("/").await;
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("PLED"));
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_has_every_operation() {
    let world = World::without_engine(None).await;

    let answer = world.get("/openapi.json").await;

    let document: Value = serde_json::from_str(&openapi().unwrap()).unwrap();
    assert_eq!(answer.json, document);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["title"], "PLED");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            operations.push(format!("{id}: {} {path}", method.to_uppercase()));
            problems_are_problems(operation);
        }
    }
    operations.sort();
    // Clients are generated from these names: a change breaks them.
    assert_eq!(
        operations,
        [
            "backfillSchedule: POST /v1/schedules/{name}/backfill",
            "cancelExecution: POST /v1/executions/{id}/cancel",
            "deleteSchedule: DELETE /v1/schedules/{name}",
            "health: GET /health",
            "listExecutions: GET /v1/executions",
            "listSchedules: GET /v1/schedules",
            "listTemplates: GET /v1/templates",
            "metrics: GET /metrics",
            "nextOfSchedule: GET /v1/schedules/{name}/next",
            "pauseExecution: POST /v1/executions/{id}/pause",
            "pauseSchedule: POST /v1/schedules/{name}/pause",
            "putSchedule: PUT /v1/schedules/{name}",
            "readExecution: GET /v1/executions/{id}",
            "readHistory: GET /v1/executions/{id}/history",
            "readSchedule: GET /v1/schedules/{name}",
            "readTemplate: GET /v1/templates/{template}",
            "ready: GET /ready",
            "registerTemplate: POST /v1/templates",
            "resumeExecution: POST /v1/executions/{id}/resume",
            "resumeSchedule: POST /v1/schedules/{name}/resume",
            "sendEvent: POST /v1/executions/{id}/events",
            "startExecution: POST /v1/executions",
            "terminateExecution: POST /v1/executions/{id}/terminate",
            "triggerSchedule: POST /v1/schedules/{name}/trigger",
        ]
    );
    for reference in references(&document) {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{reference}");
    }
}

fn problems_are_problems(operation: &Value) {
    for (status, response) in operation["responses"].as_object().unwrap() {
        if status.starts_with(['4', '5']) {
            let content = response["content"].as_object().unwrap();
            assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"]);
        }
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[tokio::test]
async fn metrics_are_given_in_the_text_format_of_prometheus() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || metrics::counter!("pled_passed_total").increment(3));
    let world = World::without_engine(None).await;
    let gateway = Gateway::new(world.nats.clone(), None, Some(handle)).await.unwrap();
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move { gateway.serve(listener, stopped).await.unwrap() });

    let answer = Answer::of(world.client.get(url)).await;

    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(answer.text.contains("pled_passed_total 3"), "{}", answer.text);
    assert_eq!(world.get("/metrics").await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn at_the_end_what_is_under_way_is_answered_and_nothing_new_is_taken() {
    let world = World::without_engine(None).await;
    world.register(GATE).await;
    let request = world.posting("/v1/executions").header("prefer", "wait=20");
    let request = request.body("{\"template\":\"gate\",\"id\":\"gate-1\"}");
    let waiting = tokio::spawn(Answer::of(request));
    wait_until(SOON, "the start is stored", || async {
        inputs::facts(&world.nats).await.unwrap().events.last == 1
    })
    .await;

    world.stop.send_replace(true);
    world.start_engine();

    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
    tokio::time::timeout(SOON, world.serving).await.unwrap().unwrap();
    assert!(world.client.get(format!("{}/health", world.url)).send().await.is_err());
}

#[tokio::test]
async fn a_schedule_is_put_read_changed_and_deleted() {
    let world = World::without_engine(None).await;
    world.register(GATE).await;
    let put = async |name: &str, body: Value| {
        let request = world.request(Method::PUT, &format!("/v1/schedules/{name}"));
        let request = request.header("content-type", "application/json");
        Answer::of(request.body(body.to_string())).await
    };

    let created = put("nightly", json!({ "template": "gate", "cron": "0 3 * * *" })).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert!(created.json["next"].is_i64());
    let read = world.get("/v1/schedules/nightly").await;
    assert_eq!((read.status, &read.json), (StatusCode::OK, &created.json));
    let known = world.request(Method::GET, "/v1/schedules/nightly");
    let known = Answer::of(known.header("if-none-match", read.header("etag"))).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);

    let again = put("nightly", json!({ "template": "gate", "cron": "0 3 * * *" })).await;
    assert_eq!((again.status, &again.json), (StatusCode::OK, &created.json));
    let next = world.get("/v1/schedules/nightly/next?count=2&after=2026-01-01T00:00:00Z").await;
    assert_eq!(next.json["items"][1]["time"], "2026-01-02T03:00:00Z");

    let paused = world.post("/v1/schedules/nightly/pause", &json!({ "reason": "why" })).await;
    assert_eq!(paused.json["state"]["paused"]["reason"], "why");
    let key = world.posting("/v1/schedules/nightly/trigger").header("idempotency-key", "k");
    let triggered = Answer::of(key.body("{}")).await;
    assert_eq!(triggered.status, StatusCode::ACCEPTED);
    assert!(triggered.json["execution"].as_str().unwrap().starts_with("nightly-"));
    let range = json!({ "from": "2026-01-01T00:00:00Z", "until": "2026-01-03T00:00:00Z" });
    let backfilled = world.post("/v1/schedules/nightly/backfill", &range).await;
    assert_eq!((backfilled.status.as_u16(), &backfilled.json["times"]), (202, &json!(2)));

    let gone = Answer::of(world.request(Method::DELETE, "/v1/schedules/nightly")).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    world.get("/v1/schedules/nightly").await.problem(404, "not-found");
    let recreated = put("nightly", json!({ "template": "gate", "every": "PT1H" })).await;
    assert_eq!(recreated.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_is_refused_with_the_place() {
    let world = World::without_engine(None).await;
    world.register(GATE).await;
    let put = async |body: Value| {
        let request = world.request(Method::PUT, "/v1/schedules/wrong");
        let request = request.header("content-type", "application/json");
        Answer::of(request.body(body.to_string())).await
    };

    for (body, pointer) in [
        (json!({ "template": "gate", "cron": "0 0 30 2 *" }), "/cron"),
        (json!({ "template": "gate", "every": 1, "overlap": "no" }), "/overlap"),
        (json!({ "template": "gate", "cron": "@daily", "time_zone": "Nowhere" }), "/time_zone"),
    ] {
        let refused = put(body).await;
        let errors = refused.problem(422, "validation-failed")["errors"].as_array().unwrap();
        assert!(errors.iter().any(|error| error["pointer"] == pointer), "{errors:?}");
    }
    let missing = put(json!({ "template": "none", "cron": "@daily" })).await;
    missing.problem(404, "template-not-found");
    let future = json!({ "from": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z" });
    put(json!({ "template": "gate", "cron": "@daily" })).await;
    let refused = world.post("/v1/schedules/wrong/backfill", &future).await;
    refused.problem(422, "validation-failed");
    world.post("/v1/schedules/none/pause", &json!({})).await.problem(404, "not-found");
}

#[tokio::test]
async fn an_execution_is_paused_resumed_and_cancelled() {
    let world = World::start().await;
    world.register(GATE).await;
    let start = json!({ "template": "gate", "id": "gate-1", "on_conflict": "fail" });
    assert_eq!(world.post("/v1/executions", &start).await.json["outcome"]["outcome"], "applied");
    world.post("/v1/executions", &start).await.problem(409, "execution-exists");
    let control = async |what: &str, body: Value| {
        world.ask(&format!("/v1/executions/gate-1/{what}"), &body).await
    };

    let paused = control("pause", json!({ "reason": "closed", "timers": "stop" })).await;
    assert_eq!(paused.json["outcome"]["status"], "paused", "{paused:?}");
    let passed = world.ask("/v1/executions/gate-1/events", &json!({ "type": "PASS" })).await;
    assert_eq!(passed.json["outcome"]["outcome"], "deferred", "{passed:?}");
    let resumed = control("resume", json!({})).await;
    assert_eq!(resumed.json["outcome"]["status"], "running");
    let state = world.get("/v1/executions/gate-1").await;
    assert_eq!(state.json["state"]["context"]["passed"], 1, "{state:?}");

    control("pause", json!({ "timers": "halt" })).await.problem(422, "validation-failed");
    let cancelled = control("cancel", json!({ "reason": "no longer needed" })).await;
    assert_eq!(cancelled.json["outcome"]["status"], "cancelled");
    control("pause", json!({})).await.problem(409, "execution-closed");
}
