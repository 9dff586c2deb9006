//! Bound actions: PLED_ACTIONS says what is called, and a worker follows it while it runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use pled_engine::effect::{TaskEffect, Timeouts};
use pled_engine::message::{Body, Failure, Source, TaskOutcome};
use pled_engine::partition::{Published, TaskMessage};
use pled_engine::value::Value;
use pled_harness::wait_until;
use pled_streams::{actions, tasks};
use pled_workers::CancellationToken;
use pled_workers::action::builtin::{self, Http, HttpConfig, Reach};
use pled_workers::action::{self, ActionConfig, Binder, Secrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{Installation, SOON, execution, json};

const CHARGE: &str = "payments.charge";
const CANARY: &str = "c4n4ry-\"5ecret\"-9f2e";

/// Answers each request with what `answer` makes of it, and keeps what was asked.
async fn serve(
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !is_whole(&request) {
                let read = socket.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                request.extend_from_slice(&buffer[..read]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let answer = answer(&request);
            kept.lock().unwrap().push(request);
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

impl Installation {
    async fn bind(&self, action: &str, binding: &str) {
        let bound = actions::put(&self.nats, action, binding.to_owned().into()).await;
        assert!(matches!(bound, Published::Stored { .. }), "{bound:?}");
        actions::apply_limits(&self.nats, action).await.unwrap();
    }

    async fn ask(&self, id: &str, action: &str, input: &str) {
        let effect = TaskEffect {
            task: "1-0".parse().unwrap(),
            action: action.into(),
            queue: action.into(),
            invocation: None,
            index: None,
            attempt: 1,
            input: json(input),
            timeout: Timeouts::default(),
            deadline: None,
            meta: Value::Null,
        };
        let template = "order@1".parse().unwrap();
        let message = TaskMessage { execution: execution(id), template, effect, at: 0 };
        let partition = self.nats.partition_of(&message.execution);
        let published = tasks::publish(&self.nats, partition, &message).await;
        assert!(matches!(published, Published::Stored { .. }), "{published:?}");
    }

    /// What came of the task of this execution, when `count` results are there.
    async fn outcome(&self, id: &str, count: usize) -> TaskOutcome {
        let messages = self.messages(Source::Signals, count).await;
        let found = messages.into_iter().find(|message| message.execution == execution(id));
        match found.unwrap().body {
            Body::Result(result) => result.outcome,
            other @ (Body::Event(_)
            | Body::Send(_)
            | Body::ChildStart(_)
            | Body::ChildCancel(_)
            | Body::ChildDone(_)
            | Body::Fired { .. }) => panic!("{other:?}"),
        }
    }

    async fn succeeded(&self, id: &str, count: usize) -> Value {
        match self.outcome(id, count).await {
            TaskOutcome::Ok(value) => value,
            other @ (TaskOutcome::Started | TaskOutcome::Failed(_)) => panic!("{other:?}"),
        }
    }

    async fn failed(&self, id: &str, count: usize) -> Failure {
        match self.outcome(id, count).await {
            TaskOutcome::Failed(failure) => failure,
            other @ (TaskOutcome::Started | TaskOutcome::Ok(_)) => panic!("{other:?}"),
        }
    }

    fn work_bound(&self, secrets: Option<PathBuf>) -> (JoinHandle<()>, CancellationToken) {
        let config = HttpConfig { reach: Reach::everywhere(), ..HttpConfig::default() };
        let binder = Binder {
            nats: self.nats.clone(),
            http: Http::new(config).unwrap(),
            secrets: Secrets { folder: secrets },
        };
        let registry = builtin::registry_of(&binder);
        let shutdown = CancellationToken::new();
        let config = ActionConfig { binder: Some(binder), ..ActionConfig::default() };
        let run = action::run(self.nats.clone(), registry, config, shutdown.clone());
        (tokio::spawn(run), shutdown)
    }
}

#[tokio::test]
async fn a_binding_is_served_within_a_second_and_a_changed_one_changes() {
    let installation = Installation::start().await;
    let (url, asked) = serve(|_| answer("201 Created", r#"{"id":"ch_1","n":7}"#)).await;
    let (worker, shutdown) = installation.work_bound(None);

    // Before the worker can have heard of it, the queue and a task are there.
    tasks::ensure_consumers(&installation.nats, CHARGE, SOON).await.unwrap();
    installation.ask("a", CHARGE, r#"{"amount":5,"order":"o 1"}"#).await;
    installation.bind(CHARGE, &format!(r#"{{"http":{{"url":"{url}/v1/{{order}}"}}}}"#)).await;
    let bound = std::time::Instant::now();
    let first = installation.succeeded("a", 1).await;
    assert!(bound.elapsed() < Duration::from_secs(1), "{:?}", bound.elapsed());

    let mapped = format!(
        r#"{{"http":{{"url":"{url}/v2","method":"PUT","body":"/order","response":{{"result":{{"charge":"/body/id","status":"/status"}}}}}}}}"#
    );
    installation.bind(CHARGE, &mapped).await;
    wait_until(SOON, "the changed binding is followed", || async {
        let count = asked.lock().unwrap().len() + 1;
        installation.ask(&format!("b{count}"), CHARGE, r#"{"order":"o 2"}"#).await;
        installation.succeeded(&format!("b{count}"), count).await
            == json(r#"{"charge":"ch_1","status":201}"#)
    })
    .await;
    shutdown.cancel();
    worker.await.unwrap();

    assert_eq!(first, json(r#"{"id":"ch_1","n":7}"#));
    let asked = asked.lock().unwrap().clone();
    assert!(asked[0].starts_with("POST /v1/o%201 HTTP/1.1"), "{}", asked[0]);
    assert!(asked[0].ends_with(r#"{"amount":5,"order":"o 1"}"#), "{}", asked[0]);
    assert!(asked[0].contains("idempotency-key: a/1/0"), "{}", asked[0]);
    let last = asked.last().unwrap();
    assert!(last.starts_with("PUT /v2 ") && last.ends_with(r#""o 2""#), "{last}");
}

#[tokio::test]
async fn an_action_that_is_bound_no_more_is_left_to_others() {
    let installation = Installation::start().await;
    let (url, _) = serve(|_| answer("200 OK", "1")).await;
    installation.bind(CHARGE, &format!(r#"{{"http":{{"url":"{url}"}}}}"#)).await;
    let (_worker, _shutdown) = installation.work_bound(None);
    let pulls =
        async || tasks::queue_facts(&installation.nats, CHARGE).await.unwrap().unwrap().pulls;
    wait_until(SOON, "it is pulled", || async { pulls().await > 0 }).await;

    actions::remove(&installation.nats, CHARGE).await;

    wait_until(SOON, "it is pulled no more", || async { pulls().await == 0 }).await;
    installation.ask("a", CHARGE, "null").await;
    let mut own = tasks::pull(&installation.nats, CHARGE, pled_streams::Class::Normal, 1);
    let delivery = tokio::time::timeout(SOON, own.next()).await.unwrap();
    assert_eq!(delivery.deliveries, 1);
}

#[tokio::test]
async fn services_on_nats_are_bound_too() {
    let installation = Installation::start().await;
    let client = installation.nats.client().clone();
    let mut asked = client.subscribe("stock.>").await.unwrap();
    installation.bind("stock.reserve", r#"{"nats":{"request":"stock.reserve"}}"#).await;
    installation.bind("stock.tell", r#"{"nats":{"publish":"stock.told"}}"#).await;
    let (_worker, _shutdown) = installation.work_bound(None);

    installation.ask("a", "stock.reserve", r#"{"sku":"s1"}"#).await;
    let request = asked.next().await.unwrap();
    assert_eq!(request.payload, r#"{"sku":"s1"}"#);
    client.publish(request.reply.unwrap(), r#"{"left":3}"#.into()).await.unwrap();
    assert_eq!(installation.succeeded("a", 1).await, json(r#"{"left":3}"#));

    installation.ask("b", "stock.tell", r#"{"sku":"s2"}"#).await;
    assert_eq!(asked.next().await.unwrap().payload, r#"{"sku":"s2"}"#);
    assert_eq!(installation.succeeded("b", 2).await, Value::Null);
}

#[tokio::test]
async fn no_more_tasks_are_held_than_the_limit_says_over_all_workers() {
    let installation = Installation::start().await;
    let client = installation.nats.client().clone();
    let mut asked = client.subscribe("slow").await.unwrap();
    let limited = r#"{"nats":{"request":"slow"},"limits":{"concurrency":2}}"#;
    installation.bind(CHARGE, limited).await;
    let (_one, _stop_one) = installation.work_bound(None);
    let (_two, _stop_two) = installation.work_bound(None);
    for id in ["a", "b", "c", "d", "e"] {
        installation.ask(id, CHARGE, "null").await;
    }
    let held = async || tasks::queue_facts(&installation.nats, CHARGE).await.unwrap().unwrap().held;

    let mut waiting = vec![asked.next().await.unwrap(), asked.next().await.unwrap()];
    assert_eq!(held().await, 2);
    assert!(tokio::time::timeout(Duration::from_millis(300), asked.next()).await.is_err());
    // A limit is changed while tasks wait for it, and a later template keeps it.
    installation.bind(CHARGE, &limited.replace(":2", ":4")).await;
    waiting.push(asked.next().await.unwrap());
    waiting.push(asked.next().await.unwrap());
    assert!(tokio::time::timeout(Duration::from_millis(300), asked.next()).await.is_err());
    tasks::ensure_consumers(&installation.nats, CHARGE, SOON).await.unwrap();
    assert_eq!(held().await, 4);
    for request in waiting {
        client.publish(request.reply.unwrap(), "1".into()).await.unwrap();
    }
    let last = asked.next().await.unwrap();
    client.publish(last.reply.unwrap(), "1".into()).await.unwrap();
    installation.messages(Source::Signals, 5).await;
}

#[tokio::test]
async fn a_secret_goes_to_the_service_and_nowhere_else() {
    let log = capture_log();
    let installation = Installation::start().await;
    let folder = tempfile_folder();
    std::fs::write(folder.join("TOKEN"), CANARY).unwrap();
    // The services repeat whatever they are sent.
    let echo = |status: &'static str| {
        move |request: &str| {
            let told = Value::from(request).to_string();
            answer(status, &format!(r#"{{"echo":{told},{told}:1}}"#))
        }
    };
    let (good, asked) = serve(echo("200 OK")).await;
    let (bad, _) = serve(echo("503 Service Unavailable")).await;
    let binding = |url: &str, path: &str| {
        format!(
            r#"{{"http":{{"url":"{url}{path}","headers":{{"authorization":"Bearer ${{secret:TOKEN}}","x-token":"${{secret:TOKEN}}"}},"response":{{"result":""}}}}}}"#
        )
    };
    installation.bind("echo.good", &binding(&good, "/")).await;
    installation.bind("echo.bad", &binding(&bad, "/")).await;
    installation.bind("echo.away", &binding("http://127.0.0.1:1", "/x")).await;
    installation
        .bind(
            "echo.missing",
            r#"{"http":{"url":"http://127.0.0.1:1/","headers":{"a":"${secret:NOT_HERE}"}}}"#,
        )
        .await;
    let (worker, shutdown) = installation.work_bound(Some(folder.clone()));

    installation.ask("a", "echo.good", "{}").await;
    installation.ask("b", "echo.bad", "{}").await;
    installation.ask("c", "echo.away", "{}").await;
    installation.ask("d", "echo.missing", "{}").await;
    // A template cannot have a secret sent where it likes.
    tasks::ensure_consumers(&installation.nats, "http", SOON).await.unwrap();
    let stolen = format!(r#"{{"url":"{good}","headers":{{"x":"${{secret:TOKEN}}"}}}}"#);
    installation.ask("e", "http", &stolen).await;
    installation.messages(Source::Signals, 5).await;
    shutdown.cancel();
    worker.await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();

    assert_eq!(asked.lock().unwrap()[0].matches(CANARY).count(), 2);
    assert!(asked.lock().unwrap()[1].contains("x: ${secret:TOKEN}"), "{asked:?}");
    assert!(installation.succeeded("a", 5).await.to_string().contains("***"));
    let failure = installation.failed("b", 5).await;
    assert_eq!((&*failure.code, failure.retryable), ("http_503", true));
    assert!(failure.details.to_string().contains("***"));
    assert_eq!(&*installation.failed("c", 5).await.code, "connect");
    assert_eq!(&*installation.failed("d", 5).await.code, "secret_missing");
    // Every file that the server stores, and every line that was logged.
    let needle = "5ecret";
    let mut read = 0;
    for (file, bytes) in stored_files(&installation) {
        read += bytes.len();
        let found = bytes.windows(needle.len()).any(|part| part == needle.as_bytes());
        assert!(!found, "the secret stands in {}", file.display());
    }
    assert!(read > 1_000, "{read}");
    assert!(!log.lock().unwrap().is_empty());
    let logged = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    assert!(!logged.contains(needle), "{logged}");
}

/// All that this process logs from now on, at every level, the HTTP client's words included.
fn capture_log() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Writer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer(log.clone());
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    log
}

fn tempfile_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pled-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn stored_files(installation: &Installation) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![installation.server.disk()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                found.push((path, bytes));
            }
        }
    }
    found
}

#[tokio::test]
async fn a_webhook_is_signed_and_keeps_its_id_over_deliveries() {
    use hmac::{KeyInit, Mac};
    let installation = Installation::start().await;
    let folder = std::env::temp_dir().join(format!("pled-webhook-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("WEBHOOK_ORDERS"), "whsec_c2VjcmV0IGtleSBvZiB0aGUgdGVzdA==")
        .unwrap();
    let (url, asked) = serve(|_| answer("204 No Content", "")).await;
    let bound = format!(r#"{{"webhook":{{"url":"{url}/bound","secret":"WEBHOOK_ORDERS"}}}}"#);
    installation.bind("orders.tell", &bound).await;
    tasks::ensure_consumers(&installation.nats, "webhook", SOON).await.unwrap();
    let (worker, shutdown) = installation.work_bound(Some(folder.clone()));

    installation.ask("a", "orders.tell", r#"{"order":"o-1"}"#).await;
    assert_eq!(installation.succeeded("a", 1).await, json(r#"{"status":204}"#));
    let built_in = format!(r#"{{"url":"{url}/x","secret":"WEBHOOK_ORDERS","data":{{"n":1}}}}"#);
    installation.ask("b", "webhook", &built_in).await;
    assert_eq!(installation.succeeded("b", 2).await, json(r#"{"status":204}"#));
    let misused = built_in.replace("WEBHOOK_ORDERS", "PAYMENTS");
    installation.ask("c", "webhook", &misused).await;
    let refused = installation.failed("c", 3).await;
    shutdown.cancel();
    worker.await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();

    assert_eq!((&*refused.code, refused.retryable), ("bad_input", false));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    let mut ids = Vec::new();
    for request in &asked {
        let header = |name: &str| {
            let line = request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("{name} is not in {request}")).to_owned()
        };
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
        let mut mac =
            hmac::Hmac::<sha2::Sha256>::new_from_slice(b"secret key of the test").unwrap();
        mac.update(format!("{id}.{time}.{body}").as_bytes());
        let signature =
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac.finalize().into_bytes());
        assert_eq!(header("webhook-signature"), format!("v1,{signature}"));
        ids.push(id);
    }
    assert!(asked[0].ends_with(r#"{"order":"o-1"}"#) && asked[1].ends_with(r#"{"n":1}"#));
    assert_ne!(ids[0], ids[1]);
}

/// A real TLS server, whose certificate no system's authority has signed.
#[tokio::test]
async fn tls_is_held_and_an_authority_of_the_deployment_can_be_added() {
    let folder = std::env::temp_dir().join(format!("pled-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &file("key.pem"), "-out", &file("cert.pem")])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let port = pled_harness::free_port();
    let mut server = tokio::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &port.to_string()])
        .args(["-key", &file("key.pem"), "-cert", &file("cert.pem")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait_until(SOON, "the server listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let call = async |authorities| {
        let config =
            HttpConfig { reach: Reach::everywhere(), authorities, ..HttpConfig::default() };
        let task = pled_workers::action::Task {
            key: "a/1/0".to_owned(),
            attempt: 1,
            execution: execution("a"),
            template: "order@1".parse().unwrap(),
            action: "http".to_owned(),
            input: json(&format!(r#"{{"url":"https://localhost:{port}/"}}"#)),
            meta: Value::Null,
            deadline: None,
            start_to_close_ms: None,
            traceparent: None,
        };
        pled_workers::action::Handler::handle(&Http::new(config).unwrap(), task).await
    };

    let unknown = call(Vec::new()).await.unwrap_err();
    let pem = std::fs::read(file("cert.pem")).unwrap();
    let known = call(builtin::authorities(&pem).unwrap()).await.unwrap();
    server.kill().await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();

    assert_eq!((unknown.code.as_str(), unknown.retryable), ("connect", true));
    assert!(unknown.message.contains("certificate"), "{}", unknown.message);
    assert_eq!(known.get("status"), Some(&Value::Int(200)));
}
