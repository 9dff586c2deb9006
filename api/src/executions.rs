//! `/v1/executions`

use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use pled_engine::execution::Status;
use pled_engine::id::{EventType, ExecutionId, Hash, TemplateName, TemplateSelector};
use pled_engine::partition::{Loaded, Snapshot};
use pled_engine::template::Template;
use pled_engine::value::Value;
use pled_ledger::Ledger;
use pled_ledger::query::Filter;
use pled_streams::events::{EventToSend, SendError};
use pled_streams::outcome::{Outcome, OutcomeError};
use pled_streams::{journal, snapshots, state};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::json::Members;
use crate::path::Id;
use crate::problem::{Away, BadBody, BadQuery, Conflict, Kind, NoAnswer, NotFound, Problem};
use crate::{Gateway, etag, prefer};

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
    /// What if there is an execution of this id: `use_existing` (the default) answers `exists`,
    /// `fail` is a problem `execution-exists`, for which the answer waits.
    on_conflict: Option<String>,
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

/// Why an execution is controlled. For documentation; the body is read strictly in the handler.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct ControlRequest {
    /// It is recorded in the journal.
    reason: Option<String>,
}

/// How an execution is paused. For documentation; the body is read strictly in the handler.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct PauseRequest {
    /// It is recorded in the journal.
    reason: Option<String>,
    /// `run`: timers run on, and what came due meanwhile is taken at the resume. `stop`: what was
    /// left of them begins at the resume.
    timers: Option<String>,
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
    #[schema(value_type = serde_json::Value)]
    state: pled_engine::execution::State,
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

/// A page of journal entries in order. For documentation; it is written as it is recorded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct History {
    /// Journal entries, byte for byte as they are recorded, so that their hashes can be checked.
    items: Vec<serde_json::Value>,
    /// Pass it as `cursor` for the next page; absent on the last.
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

/// Starts an execution. 202: it will be started; with `Prefer: wait=5` the answer is 200 and says
/// what came of it, if that came in time. A second start of the same id changes nothing and is
/// answered `exists`.
#[utoipa::path(post, path = "/v1/executions", operation_id = "startExecution", tag = "executions",
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    request_body = StartRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        BadBody, NotFound, Conflict, Away, NoAnswer))]
pub(crate) async fn start(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    members.only(&["template", "id", "input", "on_conflict"])?;
    let fails = match members.text("on_conflict")?.as_deref() {
        None | Some("use_existing") => false,
        Some("fail") => true,
        Some(_) => {
            return Err(Problem::field("/on_conflict", "must be use_existing or fail"));
        }
    };
    let template: TemplateSelector = members.parsed("template")?;
    let key = idempotency_key(&headers)?;
    let execution = match (members.parsed_or_none::<ExecutionId>("id")?, &key) {
        (Some(id), _) => id,
        (None, Some(key)) => id_of_key(&template, key)?,
        (None, None) => new_id()?,
    };
    let input = members.value("input");
    // A clear answer now is worth a look; the engine judges again by what is registered then.
    match gateway.templates.get(&gateway.nats, &template).await? {
        Ok(Some(template)) => check_input(&template, &input)?,
        Ok(None) => {
            let detail = format!("no template {template} is registered");
            return Err(Problem::new(Kind::TemplateNotFound, detail));
        }
        Err(_) => {}
    }
    let event = EventToSend {
        execution: execution.clone(),
        event_type: own("pled.init")?,
        data: input.to_canonical().into(),
        event_id: key.clone(),
        template: Some(template),
        reply: None,
        origin: None,
        emitted: None,
    };
    let wait = prefer::wait(&headers).or(fails.then_some(FAIL_WAIT));
    let delivered = deliver(&gateway, event, wait).await?;
    if fails && delivered.is_of_another_start() {
        let detail = format!("there is an execution {execution} already");
        return Err(Problem::new(Kind::ExecutionExists, detail).of(&execution));
    }
    if key.is_some() && delivered.is_old() {
        check_same_start(&gateway, &execution, &input).await?;
    }
    Ok(delivered.into_response())
}

/// How long a start that is to fail where there is such an execution waits to know it.
const FAIL_WAIT: Duration = Duration::from_secs(10);

/// Whether the template takes this input, by its schema of `pled.init`.
fn check_input(template: &Template, input: &Value) -> Result<(), Problem> {
    template.check_data("pled.init", input).map_err(|violation| {
        Problem::field(&format!("/input{}", violation.pointer), violation.reason)
    })
}

/// Whether the execution was started with this input: an idempotency key stands for one request.
async fn check_same_start(
    gateway: &Gateway,
    execution: &ExecutionId,
    input: &Value,
) -> Result<(), Problem> {
    let first = journal::page(&gateway.nats, execution, 0, 1).await?;
    let same = first
        .first()
        .and_then(|first| first.entry.causes.first())
        .is_none_or(|start| start.data == *input);
    if same {
        return Ok(());
    }
    let detail = format!("{execution} was started with another input");
    Err(Problem::new(Kind::IdempotencyConflict, detail).of(execution))
}

/// Sends an event to an execution. 202: it is stored and will be taken in order; with
/// `Prefer: wait=5` the answer is 200 and says what came of it, if that came in time.
#[utoipa::path(post, path = "/v1/executions/{id}/events", operation_id = "sendEvent",
    tag = "executions",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header),
        ("Prefer" = Option<String>, Header)),
    request_body = EventRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        BadBody, NotFound, Conflict, Away, NoAnswer))]
pub(crate) async fn send(
    State(gateway): State<Gateway>,
    Id(execution): Id,
    headers: HeaderMap,
    members: Members,
) -> Result<Delivered, Problem> {
    members.only(&["type", "data", "id"])?;
    let event_type: EventType = members.parsed("type")?;
    if pled_streams::codec::is_reserved(event_type.as_str()) {
        return Err(Problem::field(
            "/type",
            format!("{event_type} is reserved: pled., done., error. and after. come from inside"),
        ));
    }
    let event_id = match members.text("id")? {
        Some(id) if is_event_id(&id) => Some(id),
        Some(_) => {
            return Err(Problem::field(
                "/id",
                "must be 1 to 255 bytes without control characters and space around it",
            ));
        }
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

/// Asks an execution to end in its own way: its template may handle `pled.cancel`, else its states
/// are left and what was done is compensated.
#[utoipa::path(post, path = "/v1/executions/{id}/cancel", operation_id = "cancelExecution",
    tag = "executions", params(("id" = String, Path), ("Prefer" = Option<String>, Header)),
    request_body = ControlRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        BadBody, NotFound, Conflict, Away, NoAnswer))]
pub(crate) async fn cancel(
    State(gateway): State<Gateway>,
    Id(execution): Id,
    headers: HeaderMap,
    members: Members,
) -> Result<Delivered, Problem> {
    control(&gateway, execution, "pled.cancel", &headers, &members).await
}

/// Ends an execution at once, without compensation.
#[utoipa::path(post, path = "/v1/executions/{id}/terminate", operation_id = "terminateExecution",
    tag = "executions", params(("id" = String, Path), ("Prefer" = Option<String>, Header)),
    request_body = ControlRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        BadBody, NotFound, Conflict, Away, NoAnswer))]
pub(crate) async fn terminate(
    State(gateway): State<Gateway>,
    Id(execution): Id,
    headers: HeaderMap,
    members: Members,
) -> Result<Delivered, Problem> {
    control(&gateway, execution, "pled.terminate", &headers, &members).await
}

/// Lets an execution rest: what comes for it waits until it is resumed.
#[utoipa::path(post, path = "/v1/executions/{id}/pause", operation_id = "pauseExecution",
    tag = "executions", params(("id" = String, Path), ("Prefer" = Option<String>, Header)),
    request_body = PauseRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        BadBody, NotFound, Conflict, Away, NoAnswer))]
pub(crate) async fn pause(
    State(gateway): State<Gateway>,
    Id(execution): Id,
    headers: HeaderMap,
    members: Members,
) -> Result<Delivered, Problem> {
    control(&gateway, execution, "pled.pause", &headers, &members).await
}

/// Lets a paused execution go on, with what came meanwhile.
#[utoipa::path(post, path = "/v1/executions/{id}/resume", operation_id = "resumeExecution",
    tag = "executions", params(("id" = String, Path), ("Prefer" = Option<String>, Header)),
    request_body = ControlRequest,
    responses((status = ACCEPTED, body = Accepted), (status = OK, body = Accepted),
        BadBody, NotFound, Conflict, Away, NoAnswer))]
pub(crate) async fn resume(
    State(gateway): State<Gateway>,
    Id(execution): Id,
    headers: HeaderMap,
    members: Members,
) -> Result<Delivered, Problem> {
    control(&gateway, execution, "pled.resume", &headers, &members).await
}

async fn control(
    gateway: &Gateway,
    execution: ExecutionId,
    event_type: &str,
    headers: &HeaderMap,
    members: &Members,
) -> Result<Delivered, Problem> {
    let mut data = Vec::new();
    if let Some(reason) = members.text("reason")? {
        data.push(("reason", Value::from(reason)));
    }
    if event_type == "pled.pause" {
        members.only(&["reason", "timers"])?;
        if let Some(timers) = members.text("timers")? {
            if !["run", "stop"].contains(&&*timers) {
                return Err(Problem::field("/timers", "must be run or stop"));
            }
            data.push(("timers", timers.into()));
        }
    } else {
        members.only(&["reason"])?;
    }
    let data =
        if data.is_empty() { Value::Null } else { Value::Object(data.into_iter().collect()) };
    let event = EventToSend {
        execution,
        event_type: own(event_type)?,
        data: data.to_canonical().into(),
        event_id: idempotency_key(headers)?,
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    };
    deliver(gateway, event, prefer::wait(headers)).await
}

/// An event that is stored, with its outcome if the client waited for it and it came.
pub(crate) struct Delivered(Accepted);

impl Delivered {
    /// Whether another start was there first.
    fn is_of_another_start(&self) -> bool {
        self.0.outcome.as_ref().is_some_and(|outcome| outcome.outcome == "exists")
    }

    /// Whether what was sent had been taken before.
    fn is_old(&self) -> bool {
        let outcome = self.0.outcome.as_ref();
        outcome.is_some_and(|outcome| outcome.repeat || outcome.outcome == "exists")
    }
}

impl IntoResponse for Delivered {
    fn into_response(self) -> Response {
        let Self(accepted) = &self;
        let location = [(header::LOCATION, format!("/v1/executions/{}", accepted.execution))];
        let Some(outcome) = &accepted.outcome else {
            return (StatusCode::ACCEPTED, location, Json(accepted)).into_response();
        };
        let mut response = (StatusCode::OK, location, Json(accepted)).into_response();
        if let Some(seq) = outcome.seq {
            etag::set(&mut response, &etag::of(&seq));
        }
        if outcome.repeat {
            let replayed = HeaderName::from_static("idempotency-replayed");
            response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
        }
        response
    }
}

async fn deliver(
    gateway: &Gateway,
    event: EventToSend,
    wait: Option<Duration>,
) -> Result<Delivered, Problem> {
    let execution = event.execution.clone();
    let delivered = |stream_seq, outcome| {
        Delivered(Accepted { execution: execution.to_string(), stream_seq, outcome })
    };
    let Some(wait) = wait else {
        let sent = pled_streams::events::send(&gateway.nats, event).await;
        return sent
            .map(|stream_seq| delivered(stream_seq, None))
            .map_err(|error| not_sent(error, &execution));
    };
    match gateway.outcomes.send_and_wait(&gateway.nats, event, wait).await {
        Ok((stream_seq, outcome)) => {
            accepted(&outcome, &execution)?;
            Ok(delivered(stream_seq, Some(outcome)))
        }
        // It is stored and will be taken: what a client that does not wait is told.
        Err(OutcomeError::Pending { stream_seq }) => Ok(delivered(stream_seq, None)),
        Err(OutcomeError::Send(error)) => Err(not_sent(error, &execution)),
    }
}

/// Whether the event was taken.
fn accepted(outcome: &Outcome, execution: &ExecutionId) -> Result<(), Problem> {
    let kind = match outcome.outcome.as_str() {
        "applied" | "ignored" | "deferred" | "exists" => return Ok(()),
        "closed" => {
            let detail = format!("execution {execution} has ended");
            return Err(Problem::new(Kind::ExecutionClosed, detail).of(execution));
        }
        "unknown-execution" => return Err(no_execution(execution)),
        "unknown-template" => Kind::TemplateNotFound,
        "too-large" => Kind::PayloadTooLarge,
        _ => Kind::EventRejected,
    };
    Err(Problem::new(kind, why(outcome)).of(execution))
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
    responses((status = OK, body = Execution), (status = NOT_MODIFIED), NotFound, Away))]
pub(crate) async fn read(
    State(gateway): State<Gateway>,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = state::read(&gateway.nats, &gateway.templates, &id).await?;
    let execution = found.ok_or_else(|| no_execution(&id))?;
    let tag = etag::of(&execution.seq);
    Ok(etag::answer(&headers, &tag, || {
        let body = Execution {
            id: id.to_string(),
            template: execution.template.as_ref().map(ToString::to_string).unwrap_or_default(),
            status: execution.status.as_str().to_owned(),
            seq: execution.seq,
            hash: execution.hash.to_string(),
            updated_at: execution.at,
            state: execution.state,
        };
        Json(body).into_response()
    }))
}

/// Reads what happened in an execution: its journal entries in order, from the first.
#[utoipa::path(get, path = "/v1/executions/{id}/history", operation_id = "readHistory",
    tag = "executions", params(("id" = String, Path), HistoryQuery),
    responses((status = OK, body = History), BadQuery, NotFound, Away))]
pub(crate) async fn history(
    State(gateway): State<Gateway>,
    Id(id): Id,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, Problem> {
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
    let next = entries.get(limit).map(|next| next.stream_seq.to_string());
    entries.truncate(limit);
    let body = history_json(&entries, next.as_deref())?;
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (json, body).into_response();
    if let Some(next) = next {
        let path = format!("/v1/executions/{id}/history?limit={limit}&cursor={next}");
        link_to_next(&mut response, &path);
    }
    Ok(response)
}

fn history_json(entries: &[Loaded], next_cursor: Option<&str>) -> Result<Vec<u8>, Problem> {
    let mut body = br#"{"items":["#.to_vec();
    for (index, loaded) in entries.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let entry = loaded.entry.encode();
        body.extend(entry.map_err(|error| Problem::new(Kind::Internal, error.to_string()))?);
    }
    body.push(b']');
    if let Some(cursor) = next_cursor {
        body.extend_from_slice(format!(",\"next_cursor\":\"{cursor}\"").as_bytes());
    }
    body.push(b'}');
    Ok(body)
}

/// Lists executions, the newest first, from the ledger; without a ledger from the snapshots, by
/// id, where a page may hold fewer than `limit` though there are more.
#[utoipa::path(get, path = "/v1/executions", operation_id = "listExecutions", tag = "executions",
    params(ListQuery), responses((status = OK, body = Executions), BadQuery, Away))]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|rejection| bad_query(&rejection))?;
    let limit = limit(query.limit, 50)?;
    let wanted = Wanted::of(&query)?;
    let (items, next_cursor) = match &gateway.ledger {
        Some(ledger) => from_ledger(ledger, &query, &wanted, limit).await?,
        None => from_snapshots(&gateway, &query, &wanted, limit).await?,
    };
    let next = next_cursor.as_ref().map(|cursor| {
        let mut path = format!("/v1/executions?limit={limit}&cursor={cursor}");
        if let Some(template) = &wanted.template {
            path.push_str(&format!("&template={template}"));
        }
        if let Some(status) = &wanted.status {
            path.push_str(&format!("&status={}", status.as_str()));
        }
        path
    });
    let mut response = Json(Executions { items, next_cursor }).into_response();
    if let Some(next) = next {
        link_to_next(&mut response, &next);
    }
    Ok(response)
}

/// The filters of a list, known to be such.
struct Wanted {
    template: Option<TemplateName>,
    status: Option<Status>,
}

impl Wanted {
    fn of(query: &ListQuery) -> Result<Self, Problem> {
        let template = query.template.as_deref().map(|text| {
            text.parse().map_err(|error: pled_engine::id::InvalidName| {
                Problem::new(Kind::BadRequest, format!("template: {error}"))
            })
        });
        let status = query.status.as_deref().map(|text| {
            Status::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
                let known = Status::ALL.map(Status::as_str).join(", ");
                Problem::new(Kind::BadRequest, format!("status must be one of {known}"))
            })
        });
        Ok(Self { template: template.transpose()?, status: status.transpose()? })
    }
}

type Page = (Vec<Summary>, Option<String>);

async fn from_ledger(
    ledger: &Ledger,
    query: &ListQuery,
    wanted: &Wanted,
    limit: usize,
) -> Result<Page, Problem> {
    let filter = Filter {
        template: wanted.template.as_ref().map(ToString::to_string),
        status: wanted.status.map(|status| status.as_str().to_owned()),
        after: query.cursor.as_deref().map(read_cursor).transpose()?,
        limit: i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1),
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
    Ok((rows.into_iter().map(summary).collect(), next))
}

/// How many snapshots are looked at for one page, and how many are read at once.
const SCANNED_MAX: usize = 2_000;
const READS: usize = 32;

async fn from_snapshots(
    gateway: &Gateway,
    query: &ListQuery,
    wanted: &Wanted,
    limit: usize,
) -> Result<Page, Problem> {
    let ids = snapshots::ids(&gateway.nats, query.cursor.as_deref()).await?;
    let mut more = ids.len() > SCANNED_MAX;
    let reads = futures::stream::iter(ids.into_iter().take(SCANNED_MAX))
        .map(async |id| (snapshots::get(&gateway.nats, &id).await, id));
    let mut reads = std::pin::pin!(reads.buffered(READS));
    let (mut items, mut last) = (Vec::new(), None);
    while let Some((read, id)) = reads.next().await {
        if items.len() == limit {
            more = true;
            break;
        }
        last = Some(id.to_string());
        if let Some(snapshot) = read?.filter(|snapshot| wanted.is(snapshot)) {
            items.push(Summary::of(&id, snapshot));
        }
    }
    Ok((items, last.filter(|_| more)))
}

impl Wanted {
    fn is(&self, snapshot: &Snapshot) -> bool {
        self.template.as_ref().is_none_or(|template| *template == snapshot.template.name)
            && self.status.is_none_or(|status| status == snapshot.status)
    }
}

impl Summary {
    fn of(id: &ExecutionId, snapshot: Snapshot) -> Self {
        let configuration = &snapshot.state.configuration;
        Self {
            id: id.to_string(),
            template: snapshot.template.to_string(),
            status: snapshot.status.as_str().to_owned(),
            seq: i64::try_from(snapshot.seq).unwrap_or(i64::MAX),
            configuration: configuration.iter().map(ToString::to_string).collect(),
            created_at: None,
            updated_at: snapshot.at,
        }
    }
}

fn link_to_next(response: &mut Response, path: &str) {
    if let Ok(link) = HeaderValue::from_str(&format!("<{path}>; rel=\"next\"")) {
        response.headers_mut().insert(header::LINK, link);
    }
}

/// The end of the year 9999, in milliseconds.
const CREATED_MAX: i64 = 253_402_300_799_999;

fn read_cursor(cursor: &str) -> Result<(i64, String), Problem> {
    let (created, id) = cursor.split_once('.').ok_or_else(bad_cursor)?;
    let created = created.parse().map_err(|_| bad_cursor())?;
    let id: ExecutionId = id.parse().map_err(|_| bad_cursor())?;
    if !(0..=CREATED_MAX).contains(&created) {
        return Err(bad_cursor());
    }
    Ok((created, id.to_string()))
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

fn no_execution(id: &ExecutionId) -> Problem {
    Problem::new(Kind::ExecutionNotFound, format!("there is no execution {id}")).of(id)
}

/// The header as a quoted structured string or bare.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
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
    own(&format!("{}-{}", template.name, &hash[..32]))
}

fn new_id() -> Result<ExecutionId, Problem> {
    own(&uuid::Uuid::now_v7().to_string())
}

/// A name that is ours to make.
fn own<T: FromStr<Err = pled_engine::id::InvalidName>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Problem::new(Kind::Internal, error.to_string()))
}

/// Whether a header carries it as it is.
fn is_event_id(id: &str) -> bool {
    (1..=255).contains(&id.len()) && id.trim() == id && !id.chars().any(char::is_control)
}
