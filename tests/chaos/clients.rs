//! Clients that write down what was acknowledged to them, in the form that `pled verify` reads.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pled_engine::id::{EventType, ExecutionId};
use pled_streams::Nats;
use pled_streams::events::{EventToSend, SendError, send};
use pled_streams::ingest::publish_raw;
use serde_json::{Value, json};

/// How long to wait before something that failed is sent again, with the same id.
const PAUSE: Duration = Duration::from_millis(50);
/// For how long it is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log of all clients.
#[derive(Clone)]
pub(crate) struct Log {
    file: Arc<Mutex<File>>,
    acknowledged: Arc<AtomicU64>,
}

impl Log {
    pub(crate) fn at(path: &Path) -> Self {
        let file = Arc::new(Mutex::new(File::create(path).unwrap()));
        Self { file, acknowledged: Arc::default() }
    }

    /// How many lines it has.
    pub(crate) fn len(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn note(&self, mut line: Value, stream_seq: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        line["acked_at"] = u64::try_from(now.as_millis()).unwrap().into();
        line["stream_seq"] = stream_seq.into();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}").unwrap();
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// One after the other, so many a second until the end; what is late is made up for.
pub(crate) struct Pace {
    pub(crate) per_second: f64,
    pub(crate) end: Instant,
}

impl Pace {
    fn begin(self) -> Paced {
        Paced { begin: Instant::now(), number: 0, pace: self }
    }
}

struct Paced {
    begin: Instant,
    number: u32,
    pace: Pace,
}

impl Paced {
    /// The number of the next, once it is due.
    async fn next(&mut self) -> Option<u64> {
        let after = Duration::from_secs_f64(f64::from(self.number) / self.pace.per_second);
        let due = self.begin + after;
        if due.max(Instant::now()) >= self.pace.end {
            return None;
        }
        tokio::time::sleep_until(due.into()).await;
        self.number += 1;
        Some((self.number - 1).into())
    }
}

/// Sends ticks to its device over NATS, each when the one before is acknowledged.
pub(crate) async fn device(nats: Nats, log: Log, number: u64, pace: Pace) {
    let id: ExecutionId = format!("device-{number}").parse().unwrap();
    store(&nats, &log, event(&id, "pled.init", "start", Some("chaos_device"))).await;
    let mut pace = pace.begin();
    while let Some(tick) = pace.next().await {
        store(&nats, &log, event(&id, "TICK", &format!("tick-{tick}"), None)).await;
    }
}

/// Starts flows over NATS.
pub(crate) async fn flows(nats: Nats, log: Log, sink: String, pace: Pace) {
    let input = json!({ "sink": sink }).to_string();
    let mut pace = pace.begin();
    while let Some(number) = pace.next().await {
        let id: ExecutionId = format!("flow-{number}").parse().unwrap();
        let start = event(&id, "pled.init", "start", Some("chaos_flow"));
        store(&nats, &log, EventToSend { data: input.clone().into(), ..start }).await;
    }
}

/// Publishes readings of forty meters at the ingest door.
pub(crate) async fn meters(nats: Nats, log: Log, pace: Pace) {
    let kind: EventType = "meter.reading".parse().unwrap();
    let mut pace = pace.begin();
    while let Some(number) = pace.next().await {
        let id = format!("reading-{number}");
        let data =
            json!({ "meter": format!("meter-{}", number % 40), "value": number }).to_string();
        let begun = Instant::now();
        let stream_seq = loop {
            let sent = publish_raw(&nats, "plant", &kind, data.clone().into(), Some(&id)).await;
            if let Some(stream_seq) = stored(sent, begun).await {
                break stream_seq;
            }
        };
        log.note(json!({ "door": "ingest", "type": kind.as_str(), "id": id }), stream_seq);
    }
}

/// Sends ticks to its device over HTTP.
pub(crate) async fn browser(base: String, log: Log, number: u64, pace: Pace) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let id = format!("browser-{number}");
    let start = json!({ "template": "chaos_device", "id": id });
    let stream_seq = accepted(&http, &format!("{base}/v1/executions"), "start", &start).await;
    log.note(json!({ "execution": id, "type": "pled.init", "id": "start" }), stream_seq);
    let mut pace = pace.begin();
    while let Some(tick) = pace.next().await {
        let key = format!("tick-{tick}");
        let url = format!("{base}/v1/executions/{id}/events");
        let stream_seq = accepted(&http, &url, &key, &json!({ "type": "TICK" })).await;
        log.note(json!({ "execution": id, "type": "TICK", "id": key }), stream_seq);
    }
}

/// Posts until it is accepted, always with the same key.
async fn accepted(http: &reqwest::Client, url: &str, key: &str, body: &Value) -> u64 {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "{url}: not accepted within {PATIENCE:?}");
        let posted = http.post(url).header("idempotency-key", key).json(body).send().await;
        if let Ok(answer) = posted {
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            if status.is_success() {
                let answer: Value = serde_json::from_str(&text).unwrap();
                return answer["stream_seq"].as_u64().unwrap();
            }
            assert!(status.is_server_error() || status == 429, "{url}: {status} {text}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn event(execution: &ExecutionId, kind: &str, id: &str, template: Option<&str>) -> EventToSend {
    EventToSend {
        execution: execution.clone(),
        event_type: kind.parse().unwrap(),
        data: bytes::Bytes::new(),
        event_id: Some(id.to_owned()),
        template: template.map(|template| template.parse().unwrap()),
        reply: None,
        origin: None,
        emitted: None,
    }
}

/// Sends until it is stored, always with the same id, and notes it.
async fn store(nats: &Nats, log: &Log, event: EventToSend) {
    let begun = Instant::now();
    let stream_seq = loop {
        if let Some(stream_seq) = stored(send(nats, event.clone()).await, begun).await {
            break stream_seq;
        }
    };
    let EventToSend { execution, event_type, event_id, .. } = event;
    let line = json!({
        "execution": execution.as_str(), "type": event_type.as_str(), "id": event_id,
    });
    log.note(line, stream_seq);
}

/// The sequence, or a pause before it is sent again: with its id a repeat has no effect. A server
/// whose disk is gone refuses for a while.
async fn stored(sent: Result<u64, SendError>, begun: Instant) -> Option<u64> {
    let error = match sent {
        Ok(stream_seq) => return Some(stream_seq),
        Err(error) => error,
    };
    let may_pass = !matches!(error, SendError::TooLarge) && begun.elapsed() < PATIENCE;
    assert!(may_pass, "{error}");
    tokio::time::sleep(PAUSE).await;
    None
}
