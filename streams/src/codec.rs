//! From stored messages to the engine's messages and back.
//!
//! Nothing here trusts what it reads: whoever may publish an event writes its subject, headers and
//! payload. What is no message becomes [`Malformed`], with the place in PLED_DEAD where it goes.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use pled_engine::id::{EventType, ExecutionId, TemplateSelector, Token};
use pled_engine::message::{
    Body, ChildCancel, ChildStart, Event, Failure, Message, Millis, Send, Source, TaskOutcome,
    TaskResult,
};
use pled_engine::partition::{DeadReason, Malformed};
use pled_engine::value::{Object, Value};

use crate::read::millis_of_nanos;
use crate::subject::{
    CE_ID, CE_SOURCE, CONTENT_TYPE, DUE, EMIT, EVENT, EVENT_ID, Names, REPLY, ResultToken, SENDER,
    TEMPLATE, number, parse_send_token,
};

/// A message as a stream holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The subject under which it is stored.
    pub subject: String,
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// Its payload.
    pub payload: Bytes,
    /// Its sequence in the stream.
    pub stream_seq: u64,
    /// Its stream timestamp.
    pub time: Millis,
    /// How many more were pending for the consumer that delivered it.
    pub pending: u64,
}

impl From<async_nats::jetstream::message::StreamMessage> for Stored {
    fn from(message: async_nats::jetstream::message::StreamMessage) -> Self {
        Self {
            subject: message.subject.into_string(),
            stream_seq: message.sequence,
            time: millis_of_nanos(message.time.unix_timestamp_nanos()),
            headers: Some(message.headers),
            payload: message.payload,
            pending: 0,
        }
    }
}

impl Stored {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &'static str) -> Option<&str> {
        let name = HeaderName::from_static(name);
        self.headers.as_ref()?.get(name).map(HeaderValue::as_str)
    }
}

/// The message of an input stream, of this generation.
///
/// # Errors
/// If it is none.
pub fn decode(
    names: &Names,
    source: Source,
    generation: u64,
    stored: &Stored,
) -> Result<Message, Malformed> {
    let reply: Option<Arc<str>> =
        stored.header(REPLY).filter(|reply| names.is_reply(reply)).map(Into::into);
    let bad = |execution: Option<&ExecutionId>, reason: DeadReason, detail: String| Malformed {
        execution: execution.cloned(),
        reason,
        detail,
        reply: reply.clone(),
    };
    let malformed = |detail: String| bad(None, DeadReason::Malformed, detail);
    let expected = match source {
        Source::Events => "inbox",
        Source::Signals => "signal",
        Source::Timers => "fired",
        Source::Own => return Err(malformed("no stream holds sends to oneself".into())),
    };
    let mut words = stored
        .subject
        .strip_prefix(names.prefix())
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or_default()
        .splitn(4, '.');
    let (word, _partition, execution, rest) =
        (words.next(), words.next(), words.next(), words.next());
    let (true, Some(execution), Some(rest)) = (word == Some(expected), execution, rest) else {
        return Err(malformed(format!("the subject {} is none of this stream", stored.subject)));
    };
    let execution: ExecutionId =
        execution.parse().map_err(|error| malformed(format!("{error}")))?;
    let message = |time: Millis, body: Body| Message {
        execution: execution.clone(),
        source,
        generation,
        stream_seq: stored.stream_seq,
        time,
        reply: reply.clone(),
        body,
    };
    let refuse = |(reason, detail): (DeadReason, String)| bad(Some(&execution), reason, detail);
    match source {
        Source::Events => {
            let event = event(stored, rest).map_err(refuse)?;
            Ok(message(stored.time, Body::Event(event)))
        }
        Source::Signals => {
            let body = signal(stored, rest).map_err(refuse)?;
            Ok(message(stored.time, body))
        }
        Source::Timers | Source::Own => {
            let (timer, due) = fired(stored, rest).map_err(refuse)?;
            let is_early = stored.time.saturating_add(EARLY_MAX) < due;
            Ok(message(if is_early { stored.time } else { due }, Body::Fired { timer }))
        }
    }
}

/// By how much a firing may be before its due time, in milliseconds: clocks are read in whole ones.
const EARLY_MAX: Millis = 2;

type Refusal = (DeadReason, String);

fn malformed(detail: impl Into<String>) -> Refusal {
    (DeadReason::Malformed, detail.into())
}

fn event(stored: &Stored, type_of_subject: &str) -> Result<Event, Refusal> {
    let (type_text, emitted) = match type_of_subject.strip_prefix(EMIT) {
        Some(inner) => (inner, Some(sender(stored)?)),
        None => (type_of_subject, None),
    };
    let event_type: EventType = type_text.parse().map_err(|error| malformed(format!("{error}")))?;
    if is_reserved(type_text) {
        let detail = format!("the type {type_text} is reserved: it cannot come from outside");
        return Err((DeadReason::ReservedType, detail));
    }
    let start = match stored.header(TEMPLATE) {
        Some(text) => Some(
            text.parse::<TemplateSelector>()
                .map_err(|error| malformed(format!("header {TEMPLATE}: {error}")))?,
        ),
        None => None,
    };
    let Content { id, origin, data } = content(stored).map_err(malformed)?;
    Ok(Event { event_type, id, origin, start, emitted, data })
}

/// Whether the public door refuses this type.
#[must_use]
pub fn is_reserved(event_type: &str) -> bool {
    const ALLOWED: [&str; 7] = [
        "pled.init",
        "pled.cancel",
        "pled.pause",
        "pled.resume",
        "pled.terminate",
        "pled.migrate",
        "pled.incident",
    ];
    let first = event_type.split('.').next().unwrap_or_default();
    matches!(first, "pled" | "done" | "error" | "after") && !ALLOWED.contains(&event_type)
}

fn sender(stored: &Stored) -> Result<(Arc<str>, u64, u64), Refusal> {
    let text = stored
        .header(SENDER)
        .ok_or_else(|| malformed(format!("an emitted event needs the header {SENDER}")))?;
    let parsed = (|| {
        let (rest, index) = text.rsplit_once('/')?;
        let (sender, sequence) = rest.rsplit_once('/')?;
        let sender = Some(sender).filter(|sender| !sender.is_empty())?;
        Some((sender.into(), number(sequence)?, number(index)?))
    })();
    parsed.ok_or_else(|| malformed(format!("the header {SENDER} is no <sender>/<seq>/<index>")))
}

/// What the headers and the payload of an event say.
pub(crate) struct Content {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) origin: Option<Arc<str>>,
    pub(crate) data: Value,
}

pub(crate) fn content(stored: &Stored) -> Result<Content, String> {
    let id = stored.header(EVENT_ID).map(Arc::from);
    let structured = stored
        .header(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.starts_with("application/cloudevents"));
    let mut content = if structured { structured_event(stored)? } else { binary_event(stored)? };
    if id.is_some() {
        content.id = id;
    }
    Ok(content)
}

fn binary_event(stored: &Stored) -> Result<Content, String> {
    let origin = stored.header(CE_SOURCE).map(percent_decoded).transpose()?;
    let ce_id = stored.header(CE_ID).map(percent_decoded).transpose()?;
    let data = json(&stored.payload)?;
    Ok(Content {
        id: event_id(origin.as_deref(), ce_id.as_deref()),
        origin: origin.map(Into::into),
        data,
    })
}

fn structured_event(stored: &Stored) -> Result<Content, String> {
    let value = json(&stored.payload)?;
    let object = value.as_object().ok_or("a structured CloudEvent is a JSON object")?;
    let text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("the CloudEvent's {name} is no string")),
    };
    let (origin, ce_id) = (text("source")?, text("id")?);
    if object.get("data_base64").is_some() {
        return Err("the CloudEvent's data is binary, only JSON is taken".into());
    }
    Ok(Content {
        id: event_id(origin.as_deref(), ce_id.as_deref()),
        origin,
        data: object.get("data").cloned().unwrap_or_default(),
    })
}

/// The id of a CloudEvent is unique within its source, and a URI holds no space.
fn event_id(origin: Option<&str>, ce_id: Option<&str>) -> Option<Arc<str>> {
    let ce_id = ce_id?;
    Some(format!("{} {ce_id}", origin.unwrap_or_default()).into())
}

fn json(payload: &[u8]) -> Result<Value, String> {
    if payload.is_empty() {
        return Ok(Value::Null);
    }
    let value =
        Value::parse(payload).map_err(|error| format!("the payload is not JSON: {error}"))?;
    // Most payloads hold so few brackets that they cannot be deep.
    let brackets = payload.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets > DEPTH_MAX && is_deeper(&value, DEPTH_MAX) {
        return Err(format!("the payload is nested deeper than {DEPTH_MAX}"));
    }
    Ok(value)
}

/// How deep what comes from outside may be nested. A journal entry holds it some levels down, and
/// must be readable for every JSON reader, of which many stop at 128.
const DEPTH_MAX: usize = 64;

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(elements) => {
            levels == 0 || elements.iter().any(|element| is_deeper(element, levels - 1))
        }
        Value::Object(object) => {
            levels == 0 || object.iter().any(|(_, member)| is_deeper(member, levels - 1))
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => false,
    }
}

/// Undoes the percent-encoding of CloudEvents' headers.
fn percent_decoded(text: &str) -> Result<String, String> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let error = || format!("the header value {text:?} is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or_else(error)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| error())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| error())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| error())
}

/// A header value as CloudEvents encode it: printable ASCII without space, `"` and `%`.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

fn signal(stored: &Stored, rest: &str) -> Result<Body, Refusal> {
    let (kind, token) = rest.split_once('.').unwrap_or((rest, ""));
    match kind {
        "result" => {
            let Some(ResultToken { task, attempt, started }) = ResultToken::parse(token) else {
                return Err(malformed(format!("{token:?} is no <entry>-<index>-<attempt>")));
            };
            let outcome =
                if started { TaskOutcome::Started } else { outcome_of_json(&stored.payload) };
            Ok(Body::Result(TaskResult { task, attempt, outcome }))
        }
        "send" => {
            let Some((sender, token)) = parse_send_token(token) else {
                return Err(malformed(format!("{token:?} is no <sender>-<entry>-<index>")));
            };
            let event_type = stored
                .header(EVENT)
                .ok_or_else(|| malformed(format!("a send needs the header {EVENT}")))?
                .parse()
                .map_err(|error| malformed(format!("header {EVENT}: {error}")))?;
            let data = own_json(&stored.payload).map_err(malformed)?;
            Ok(Body::Send(Send { sender, token, event_type, data }))
        }
        "child" => of_child(stored, token).map_err(malformed),
        _ => Err(malformed(format!("{kind:?} is no kind of signal"))),
    }
}

/// What a parent says to its child, or a child to its parent.
fn of_child(stored: &Stored, token: &str) -> Result<Body, String> {
    let (says, token) = token.split_once('-').unwrap_or((token, ""));
    if says == "done" {
        let token = ResultToken::parse(token).filter(|token| !token.started);
        let ResultToken { task, attempt, .. } =
            token.ok_or_else(|| format!("{token:?} is no <entry>-<index>-<attempt>"))?;
        let outcome = outcome_of(own_json(&stored.payload));
        return Ok(Body::ChildDone(TaskResult { task, attempt, outcome }));
    }
    let (parent, token) = parse_send_token(token)
        .ok_or_else(|| format!("{token:?} is no <parent>-<entry>-<index>"))?;
    let said = own_json(&stored.payload)?;
    let text = |name: &str| {
        said.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` is no string"))
    };
    let count = |name: &str| {
        let count = said.get(name).and_then(Value::as_int);
        let count = count.and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(|| format!("`{name}` is no count"))
    };
    let task = text("task")?.parse::<Token>().map_err(|error| error.to_string())?;
    let attempt = count("attempt")?;
    match says {
        "start" => Ok(Body::ChildStart(ChildStart {
            parent,
            token,
            task,
            attempt,
            depth: count("depth")?,
            template: text("template")?
                .parse::<TemplateSelector>()
                .map_err(|error| error.to_string())?,
            input: said.get("input").cloned().unwrap_or_default(),
        })),
        "cancel" => Ok(Body::ChildCancel(ChildCancel { parent, token, task, attempt })),
        _ => Err(format!("{says:?} is nothing that is said of a child")),
    }
}

/// The payload of a child's start.
#[must_use]
pub fn child_start_to_json(start: &ChildStart) -> Vec<u8> {
    let members = [
        ("attempt", Value::from(start.attempt)),
        ("depth", start.depth.into()),
        ("input", start.input.clone()),
        ("task", start.task.to_string().into()),
        ("template", start.template.to_string().into()),
    ];
    Value::from(members.into_iter().collect::<Object>()).to_canonical()
}

/// The payload of the wish that a child ends.
#[must_use]
pub fn child_cancel_to_json(cancel: &ChildCancel) -> Vec<u8> {
    let members =
        [("attempt", Value::from(cancel.attempt)), ("task", cancel.task.to_string().into())];
    Value::from(members.into_iter().collect::<Object>()).to_canonical()
}

fn fired(stored: &Stored, rest: &str) -> Result<(Token, Millis), Refusal> {
    let timer = rest.parse().map_err(|error| malformed(format!("{error}")))?;
    let due = stored
        .header(DUE)
        .and_then(number)
        .ok_or_else(|| malformed(format!("the header {DUE} is not there or no number")))?;
    Ok((timer, due))
}

/// `{"ok":true,"data":…}` or `{"ok":false,"error":{…}}`.
#[must_use]
pub fn outcome_to_json(outcome: &TaskOutcome) -> Vec<u8> {
    let mut members = Vec::with_capacity(2);
    match outcome {
        TaskOutcome::Started => members.push(("started", Value::Bool(true))),
        TaskOutcome::Ok(data) => {
            members.push(("ok", Value::Bool(true)));
            members.push(("data", data.clone()));
        }
        TaskOutcome::Failed(failure) => {
            let mut error = Object::from_iter([
                ("code", Value::from(failure.code.clone())),
                ("message", Value::from(failure.message.as_str())),
                ("details", failure.details.clone()),
                ("retryable", Value::Bool(failure.retryable)),
            ]);
            if let Some(ms) = failure.retry_after_ms {
                error.insert("retry_after_ms", Value::Int(ms));
            }
            members.push(("ok", Value::Bool(false)));
            members.push(("error", error.into()));
        }
    }
    Value::from(members.into_iter().collect::<Object>()).to_canonical()
}

/// What a worker published as the result of an attempt. What is no result is the failure
/// `bad_result`, so that the execution that waits for it goes on.
#[must_use]
pub fn outcome_of_json(payload: &[u8]) -> TaskOutcome {
    outcome_of(json(payload))
}

fn outcome_of(value: Result<Value, String>) -> TaskOutcome {
    let bad = |reason: String| {
        TaskOutcome::Failed(Failure {
            code: "bad_result".into(),
            message: reason,
            details: Value::Null,
            retryable: false,
            retry_after_ms: None,
        })
    };
    let value = match value {
        Ok(value) => value,
        Err(reason) => return bad(reason),
    };
    match value.get("ok").and_then(Value::as_bool) {
        Some(true) => TaskOutcome::Ok(value.get("data").cloned().unwrap_or_default()),
        Some(false) => match failure(value.get("error")) {
            Ok(failure) => TaskOutcome::Failed(failure),
            Err(reason) => bad(reason),
        },
        None => bad("a result is {\"ok\":true,\"data\":…} or {\"ok\":false,\"error\":…}".into()),
    }
}

fn failure(error: Option<&Value>) -> Result<Failure, String> {
    let error =
        error.and_then(Value::as_object).ok_or("a failed result needs an object `error`")?;
    let code = error
        .get("code")
        .and_then(Value::as_str)
        .filter(|code| !code.is_empty())
        .ok_or("the error of a failed result needs a string `code`")?;
    let retryable = match error.get("retryable") {
        None => true,
        Some(flag) => flag.as_bool().ok_or("`retryable` is a boolean")?,
    };
    let retry_after_ms = match error.get("retry_after_ms") {
        None | Some(Value::Null) => None,
        Some(ms) => Some(
            ms.as_int()
                .filter(|ms| *ms >= 0)
                .ok_or("`retry_after_ms` is a whole number of milliseconds")?,
        ),
    };
    Ok(Failure {
        code: code.into(),
        message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        details: error.get("details").cloned().unwrap_or_default(),
        retryable,
        retry_after_ms,
    })
}

/// A value that PLED wrote itself. It may hold what the door refuses, such as an integral number
/// beyond 2^53 that was computed.
fn own_json(payload: &[u8]) -> Result<Value, String> {
    json(payload).or_else(|refusal| serde_json::from_slice(payload).map_err(|_| refusal))
}
