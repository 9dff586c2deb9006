//! `/v1/executions`

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pled_engine::id::{EventType, ExecutionId, Hash, TemplateSelector};
use pled_ledger::query::Filter;
use pled_streams::events::{EventToSend, SendError};
use pled_streams::outcome::{Outcome, OutcomeError};
use pled_streams::{journal, snapshots, state};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Gateway;
use crate::json::Members;
use crate::prefer;
use crate::problem::{Kind, Problem, ProblemDetails};

/// What starts an execution. For documentation; the body is read strictly in the handler.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct StartRequest {
    /// `order` (the newest version) or `order@3`.
    #[schema(example = "approval")]
    template: String,
    /// The execution's id, `[A-Za-z0-9_-]{1,128}`; without one it is derived from the
    /// Idempotency-Key, and without that it is a UUIDv7.
    id: Option<String>,
    /// The input.
    input: Option<serde_json::Value>,
}

/// An event for an execution. For documentation; the body is read strictly in the handler.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct EventRequest {
    /// `[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*`; `pled.`, `done.`, `error.` and `after.` are reserved.
    #[serde(rename = "type")]
    #[schema(example = "APPROVE")]
    event_type: String,
    /// The payload.
    data: Option<serde_json::Value>,
    /// The client's id of the event within the execution: a repeat has no effect. The header
    /// Idempotency-Key stands for it.
    id: Option<String>,
}

/// What was stored, and if the client waited, what came of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The execution.
    execution: String,
    /// The event's sequence in PLED_EVENTS.
    stream_seq: u64,
    /// What came of it, if the client waited (`Prefer: wait=5`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<OutcomeSchema>)]
    outcome: Option<Outcome>,
}

/// What came of an event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct OutcomeSchema {
    /// The execution.
    execution: Option<String>,
    /// The entry that took the event.
    seq: Option<u64>,
    /// `applied`, `ignored`, `deferred`, `rejected`, `exists`, `closed`, `unknown-execution`, …
    outcome: String,
    /// The execution's status after it.
    status: Option<String>,
    /// The active leaf states after it.
    configuration: Vec<String>,
    /// Why it was rejected.
    error: Option<String>,
    /// Whether the event had been taken before.
    repeat: bool,
}

/// The state of an execution.
#[derive(Serialize, ToSchema)]
pub(crate) struct Execution {
    id: String,
    #[schema(example = "order@3")]
    template: String,
    status: String,
    /// The sequence of the newest journal entry; also the ETag.
    seq: u64,
    /// The hash of that entry.
    hash: String,
    /// The time of that entry, milliseconds since the epoch.
    updated_at: i64,
    /// Active leaf states, context, timers, outstanding tasks, incidents, output.
    state: serde_json::Value,
}

/// A page of executions, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Executions {
    items: Vec<Summary>,
    /// Pass it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// An execution in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Summary {
    id: String,
    template: String,
    status: String,
    seq: i64,
    configuration: Vec<String>,
    created_at: Option<i64>,
    updated_at: i64,
}

/// A page of journal entries in order.
#[derive(Serialize, ToSchema)]
pub(crate) struct History {
    /// Journal entries as they are recorded.
    items: Vec<serde_json::Value>,
    /// Pass it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which executions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those of this template.
    template: Option<String>,
    /// Only those with this status.
    status: Option<String>,
    /// At most this many, 1 to 1,000 (50).
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryQuery {
    /// At most this many, 1 to 1,000 (100).
    limit: Option<i64>,
    /// From the page before.
    cursor: Option<String>,
}

/// Starts an execution. A second start of the same id changes nothing and is answered `exists`.
#[utoipa::path(post, path = "/v1/executions", operation_id = "startExecution", tag = "executions",
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    request_body = StartRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        (status = NOT_FOUND, body = ProblemDetails), (status = UNPROCESSABLE_ENTITY, body = ProblemDetails),
        (status = SERVICE_UNAVAILABLE, body = ProblemDetails)))]
pub(crate) async fn start(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    members.only(&["template", "id", "input"])?;
    let template: TemplateSelector = members.parsed("template")?;
    let key = idempotency_key(&headers)?;
    let execution = match (members.parsed_or_none::<ExecutionId>("id")?, &key) {
        (Some(id), _) => id,
        (None, Some(key)) => id_of_key(&template, key)?,
        (None, None) => new_id()?,
    };
    // A clear 404 now is worth a read; the engine judges again by what is registered then.
    if pled_streams::templates::get(&gateway.nats, &template).await?.is_none() {
        let detail = format!("no template {template} is registered");
        return Err(Problem::new(Kind::TemplateNotFound, detail));
    }
    let event = EventToSend {
        execution: execution.clone(),
        event_type: event_type("pled.init")?,
        data: members.value("input").to_canonical().into(),
        event_id: key,
        template: Some(template),
        reply: None,
        origin: None,
        emitted: None,
    };
    deliver(&gateway, event, prefer::wait(&headers)).await
}

/// Sends an event to an execution. 202: it is stored and will be taken in order; with
/// `Prefer: wait=5` the answer says what came of it.
#[utoipa::path(post, path = "/v1/executions/{id}/events", operation_id = "sendEvent",
    tag = "executions",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header),
        ("Prefer" = Option<String>, Header)),
    request_body = EventRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        (status = CONFLICT, body = ProblemDetails), (status = NOT_FOUND, body = ProblemDetails),
        (status = UNPROCESSABLE_ENTITY, body = ProblemDetails),
        (status = SERVICE_UNAVAILABLE, body = ProblemDetails)))]
pub(crate) async fn send(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    members.only(&["type", "data", "id"])?;
    let execution = execution_id(&id)?;
    let event_type: EventType = members.parsed("type")?;
    if pled_streams::codec::is_reserved(event_type.as_str()) {
        return Err(Problem::field(
            "/type",
            format!("{event_type} is reserved: pled., done., error. and after. come from inside"),
        ));
    }
    let event_id = match members.text("id")? {
        Some(id) => Some(id),
        None => idempotency_key(&headers)?,
    };
    let event = EventToSend {
        execution,
        event_type,
        data: members.value("data").to_canonical().into(),
        event_id,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    };
    deliver(&gateway, event, prefer::wait(&headers)).await
}

async fn deliver(
    gateway: &Gateway,
    event: EventToSend,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    let execution = event.execution.clone();
    let location = [(header::LOCATION, format!("/v1/executions/{execution}"))];
    let Some(wait) = wait else {
        let sent = pled_streams::events::send(&gateway.nats, event).await;
        let stream_seq = sent.map_err(|error| not_sent(error, &execution))?;
        let accepted = Accepted { execution: execution.to_string(), stream_seq, outcome: None };
        return Ok((StatusCode::ACCEPTED, location, Json(accepted)).into_response());
    };
    let answered = gateway.outcomes.send_and_wait(&gateway.nats, event, wait).await;
    let (stream_seq, outcome) = match answered {
        Ok(answered) => answered,
        Err(OutcomeError::Send(error)) => return Err(not_sent(error, &execution)),
        Err(OutcomeError::Pending { stream_seq }) => {
            let detail = format!(
                "event {stream_seq} is stored, and its outcome did not come within {} s; it will \
                 be taken all the same",
                wait.as_secs()
            );
            return Err(Problem::new(Kind::OutcomePending, detail).of(&execution));
        }
    };
    match outcome.outcome.as_str() {
        "applied" | "ignored" | "deferred" | "exists" => {}
        "closed" => {
            let detail = format!("execution {execution} has ended");
            return Err(Problem::new(Kind::ExecutionClosed, detail).of(&execution));
        }
        "unknown-execution" => return Err(no_execution(&execution)),
        "unknown-template" => {
            return Err(Problem::new(Kind::TemplateNotFound, why(&outcome)).of(&execution));
        }
        "too-large" => {
            return Err(Problem::new(Kind::PayloadTooLarge, why(&outcome)).of(&execution));
        }
        _ => return Err(Problem::new(Kind::EventRejected, why(&outcome)).of(&execution)),
    }
    let etag = outcome.seq.map(|seq| format!("\"{seq}\""));
    let accepted =
        Accepted { execution: execution.to_string(), stream_seq, outcome: Some(outcome) };
    let mut response = (StatusCode::OK, location, Json(accepted)).into_response();
    set_etag(&mut response, etag.as_deref());
    Ok(response)
}

fn why(outcome: &Outcome) -> String {
    outcome.error.clone().unwrap_or_else(|| outcome.outcome.clone())
}

fn not_sent(error: SendError, execution: &ExecutionId) -> Problem {
    let text = error.to_string();
    match error {
        SendError::Full => Problem::new(Kind::Full, text).retry_after(1),
        SendError::TooLarge => Problem::new(Kind::PayloadTooLarge, text),
        SendError::Refused(_) => Problem::new(Kind::NotReady, text).retry_after(1),
        SendError::Unknown => Problem::new(Kind::Unknown, text).retry_after(1),
    }
    .of(execution)
}

/// Reads the state of an execution from its journal.
#[utoipa::path(get, path = "/v1/executions/{id}", operation_id = "readExecution",
    tag = "executions", params(("id" = String, Path)),
    responses((status = OK, body = Execution), (status = NOT_MODIFIED),
        (status = NOT_FOUND, body = ProblemDetails)))]
pub(crate) async fn read(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = execution_id(&id)?;
    let found = state::read(&gateway.nats, &gateway.templates, &id).await?;
    let execution = found.ok_or_else(|| no_execution(&id))?;
    let etag = format!("\"{}\"", execution.seq);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let body = Execution {
        id: id.to_string(),
        template: execution.template.as_ref().map(ToString::to_string).unwrap_or_default(),
        status: execution.status.as_str().to_owned(),
        seq: execution.seq,
        hash: execution.hash.to_string(),
        updated_at: execution.at,
        state: json_of(&execution.state)?,
    };
    let mut response = Json(body).into_response();
    set_etag(&mut response, Some(&etag));
    Ok(response)
}

/// Reads what happened in an execution: its journal entries in order, from the first.
#[utoipa::path(get, path = "/v1/executions/{id}/history", operation_id = "readHistory",
    tag = "executions", params(("id" = String, Path), HistoryQuery),
    responses((status = OK, body = History), (status = NOT_FOUND, body = ProblemDetails)))]
pub(crate) async fn history(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Problem> {
    let id = execution_id(&id)?;
    let Query(query) = query.map_err(|rejection| bad_query(&rejection))?;
    let limit = limit(query.limit, 100)?;
    let from = match query.cursor.as_deref() {
        None => 0,
        Some(cursor) => cursor.parse::<u64>().map_err(|_| bad_cursor())?,
    };
    let mut entries = journal::page(&gateway.nats, &id, from, limit + 1).await?;
    if entries.is_empty() && journal::newest(&gateway.nats, &id, true).await?.is_none() {
        return Err(no_execution(&id));
    }
    let next_cursor = (entries.len() > limit).then(|| {
        entries.truncate(limit);
        entries.last().map(|entry| (entry.stream_seq + 1).to_string()).unwrap_or_default()
    });
    let items =
        entries.iter().map(|loaded| json_of(&loaded.entry)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(History { items, next_cursor }))
}

/// Lists executions, the newest first, from the ledger; without a ledger from the snapshots, by id.
#[utoipa::path(get, path = "/v1/executions", operation_id = "listExecutions", tag = "executions",
    params(ListQuery), responses((status = OK, body = Executions),
        (status = SERVICE_UNAVAILABLE, body = ProblemDetails)))]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|rejection| bad_query(&rejection))?;
    let limit = limit(query.limit, 50)?;
    let (items, next_cursor) = match &gateway.ledger {
        Some(ledger) => {
            let filter = Filter {
                template: query.template,
                status: query.status,
                after: query.cursor.as_deref().map(read_cursor).transpose()?,
                limit: i64::try_from(limit).unwrap_or(i64::MAX) + 1,
            };
            let mut rows = ledger.executions(&filter).await?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next = rows.last().filter(|_| more);
            let next = next.map(|row| format!("{}.{}", row.created_at, row.id));
            let summary = |row: pled_ledger::query::ExecutionSummary| Summary {
                id: row.id,
                template: row.template,
                status: row.status,
                seq: row.seq,
                configuration: row.configuration,
                created_at: Some(row.created_at),
                updated_at: row.updated_at,
            };
            (rows.into_iter().map(summary).collect::<Vec<_>>(), next)
        }
        None => from_snapshots(&gateway, &query, limit).await?,
    };
    let link = next_cursor
        .as_ref()
        .map(|cursor| format!("</v1/executions?limit={limit}&cursor={cursor}>; rel=\"next\""));
    let mut response = Json(Executions { items, next_cursor }).into_response();
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

async fn from_snapshots(
    gateway: &Gateway,
    query: &ListQuery,
    limit: usize,
) -> Result<(Vec<Summary>, Option<String>), Problem> {
    let mut items = Vec::new();
    let mut last = None;
    for id in snapshots::ids(&gateway.nats, query.cursor.as_deref()).await? {
        if items.len() == limit {
            return Ok((items, last));
        }
        let Some(snapshot) = snapshots::get(&gateway.nats, &id).await? else { continue };
        let template = snapshot.template.to_string();
        let fits = query
            .template
            .as_deref()
            .is_none_or(|wanted| wanted == snapshot.template.name.as_str())
            && query.status.as_deref().is_none_or(|wanted| wanted == snapshot.status.as_str());
        last = Some(id.to_string());
        if fits {
            items.push(Summary {
                id: id.to_string(),
                template,
                status: snapshot.status.as_str().to_owned(),
                seq: i64::try_from(snapshot.seq).unwrap_or(i64::MAX),
                configuration: snapshot
                    .state
                    .configuration
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                created_at: None,
                updated_at: snapshot.at,
            });
        }
    }
    Ok((items, None))
}

fn read_cursor(cursor: &str) -> Result<(i64, String), Problem> {
    let (created, id) = cursor.split_once('.').ok_or_else(bad_cursor)?;
    Ok((created.parse().map_err(|_| bad_cursor())?, id.to_owned()))
}

fn bad_cursor() -> Problem {
    Problem::new(Kind::BadRequest, "the cursor is not one that a page before gave")
}

fn bad_query(rejection: &QueryRejection) -> Problem {
    Problem::new(Kind::BadRequest, rejection.body_text())
}

fn limit(wanted: Option<i64>, default: usize) -> Result<usize, Problem> {
    match wanted.map(usize::try_from) {
        None => Ok(default),
        Some(Ok(limit)) if (1..=1_000).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::new(Kind::BadRequest, "limit must be from 1 to 1,000")),
    }
}

fn execution_id(id: &str) -> Result<ExecutionId, Problem> {
    id.parse().map_err(|error: pled_engine::id::InvalidName| {
        Problem::new(Kind::ExecutionNotFound, error.to_string())
    })
}

fn no_execution(id: &ExecutionId) -> Problem {
    Problem::new(Kind::ExecutionNotFound, format!("there is no execution {id}")).of(id)
}

fn event_type(text: &str) -> Result<EventType, Problem> {
    text.parse().map_err(|error: pled_engine::id::InvalidName| {
        Problem::new(Kind::Internal, error.to_string())
    })
}

/// The header as a quoted structured string or bare.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if (1..=255).contains(&text.len()) {
        Ok(Some(text.to_owned()))
    } else {
        Err(Problem::new(
            Kind::BadRequest,
            "the header Idempotency-Key must be 1 to 255 visible ASCII characters",
        ))
    }
}

/// The same key for the same template is the same execution.
fn id_of_key(template: &TemplateSelector, key: &str) -> Result<ExecutionId, Problem> {
    let hash = Hash::of(format!("{}\n{key}", template.name).as_bytes()).to_string();
    execution_id(&format!("{}-{}", template.name, &hash[..32]))
}

fn new_id() -> Result<ExecutionId, Problem> {
    execution_id(&uuid::Uuid::now_v7().to_string())
}

fn json_of(value: &impl Serialize) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::new(Kind::Internal, error.to_string()))
}

fn set_etag(response: &mut Response, etag: Option<&str>) {
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
}
