//! `/v1/schedules`

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pled_engine::id::{ExecutionId, Hash, ScheduleName};
use pled_engine::message::Millis;
use pled_engine::partition::Published;
use pled_engine::schedule::{
    InvalidSpec, Overlap, Refusal, Schedule as Machine, Spec, instant, instant_text,
};
use pled_engine::value::Value;
use pled_streams::clock::server_time;
use pled_streams::schedules::{self, ChangeError, Stored};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::executions::idempotency_key;
use crate::json::{Body, Members, malformed};
use crate::path::Name;
use crate::problem::{Away, BadBody, Conflict, FieldError, Kind, NotFound, Problem};
use crate::{Gateway, etag};

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedule {
    name: String,
    /// Changes with every change of the schedule and of its state; also the ETag.
    revision: u64,
    created_at: i64,
    changed_at: i64,
    /// What is started and when, as it was given (docs/time.md).
    #[schema(value_type = serde_json::Value)]
    spec: Value,
    /// What runs, what waits, and how often what happened.
    #[schema(value_type = serde_json::Value)]
    state: pled_engine::schedule::State,
    /// The next nominal time, milliseconds since the epoch.
    next: Option<i64>,
}

/// All schedules by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedules {
    items: Vec<Schedule>,
}

/// When a schedule is due.
#[derive(Serialize, ToSchema)]
pub(crate) struct Firings {
    items: Vec<Firing>,
}

/// A time of a schedule.
#[derive(Serialize, ToSchema)]
pub(crate) struct Firing {
    /// The nominal time, RFC 3339 in UTC.
    time: String,
    /// The same in milliseconds since the epoch.
    nominal: i64,
    /// When the execution is started: later by the jitter.
    due: i64,
}

/// How many times.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextQuery {
    /// 1 to 1,000 (5).
    count: Option<usize>,
    /// After this instant; else from now on.
    after: Option<String>,
}

/// Why a schedule is paused. For documentation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct PauseScheduleRequest {
    /// Why.
    reason: Option<String>,
}

/// What is to be started now. For documentation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct TriggerRequest {
    /// The execution's id: a repeat has no effect. Without one it is derived from the
    /// Idempotency-Key, and without that it is the schedule's name and the moment.
    id: Option<String>,
    /// What becomes of it while others run (`allow_all`).
    overlap: Option<String>,
}

/// A range of the past. For documentation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct BackfillRequest {
    /// RFC 3339.
    #[schema(example = "2026-03-01T00:00:00Z")]
    from: String,
    /// RFC 3339; included.
    #[schema(example = "2026-03-31T23:59:59Z")]
    until: String,
    /// What becomes of each while others run (`buffer_all`).
    overlap: Option<String>,
}

/// What will be started.
#[derive(Serialize, ToSchema)]
pub(crate) struct Triggered {
    execution: String,
}

/// What will be started.
#[derive(Serialize, ToSchema)]
pub(crate) struct Backfilled {
    /// How many nominal times are in the range.
    times: usize,
}

impl Schedule {
    fn new(stored: &Stored, now: Millis) -> Self {
        let schedule = &stored.schedule;
        Self {
            name: schedule.name().to_string(),
            revision: stored.revision,
            created_at: schedule.created_at(),
            changed_at: schedule.changed_at(),
            spec: schedule.spec().source.clone(),
            state: schedule.state().clone(),
            next: schedule.spec().times.next(now.max(schedule.state().last)),
        }
    }
}

/// Lists the schedules by name.
#[utoipa::path(get, path = "/v1/schedules", operation_id = "listSchedules", tag = "schedules",
    responses((status = OK, body = Schedules), Away))]
pub(crate) async fn list(State(gateway): State<Gateway>) -> Result<Json<Schedules>, Problem> {
    let now = server_time(&gateway.nats).await?;
    let known = schedules::list(&gateway.nats).await?;
    let items = known.iter().map(|stored| Schedule::new(stored, now)).collect();
    Ok(Json(Schedules { items }))
}

/// Reads a schedule.
#[utoipa::path(get, path = "/v1/schedules/{name}", operation_id = "readSchedule",
    tag = "schedules", params(("name" = String, Path)),
    responses((status = OK, body = Schedule), (status = NOT_MODIFIED), NotFound, Away))]
pub(crate) async fn read(
    State(gateway): State<Gateway>,
    Name(name): Name,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let stored = find(&gateway, &name).await?;
    let now = server_time(&gateway.nats).await?;
    let tag = etag::of(&stored.revision);
    let answer = || Json(Schedule::new(&stored, now)).into_response();
    Ok(etag::answer(&headers, &tag, answer))
}

/// Creates a schedule, or gives one another specification; what it counted and what runs is kept.
/// The same specification again is no change.
#[utoipa::path(put, path = "/v1/schedules/{name}", operation_id = "putSchedule",
    tag = "schedules", params(("name" = String, Path)),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses((status = CREATED, body = Schedule), (status = OK, body = Schedule),
        BadBody, NotFound, Conflict, Away))]
pub(crate) async fn put(
    State(gateway): State<Gateway>,
    Name(name): Name,
    Body(body): Body,
) -> Result<Response, Problem> {
    let source = Value::parse(&body).map_err(|error| malformed(&error))?;
    let spec = Spec::parse(&source).map_err(invalid)?;
    if let Ok(None) = gateway.templates.get(&gateway.nats, &spec.template).await? {
        let detail = format!("no template {} is registered", spec.template);
        return Err(Problem::new(Kind::TemplateNotFound, detail));
    }
    let now = server_time(&gateway.nats).await?;
    let (status, stored) = match schedules::get(&gateway.nats, &name).await? {
        Ok(_) => {
            let replace = |it: &mut Machine| it.replace(spec.clone(), now);
            let changed = schedules::change(&gateway.nats, &name, replace).await;
            let (stored, _) = changed.map_err(|error| not_changed(error, invalid))?;
            (StatusCode::OK, stored)
        }
        Err(revision) => {
            let schedule = Machine::new(name.clone(), spec, now).map_err(invalid)?;
            let published = schedules::put(&gateway.nats, &schedule, revision).await;
            let Published::Stored { stream_seq: revision } = published else {
                return Err(not_stored(&format!("{published:?}")));
            };
            (StatusCode::CREATED, Stored { schedule, revision })
        }
    };
    let location = format!("/v1/schedules/{name}");
    let answer = Json(Schedule::new(&stored, now));
    let mut response = (status, [(header::LOCATION, location)], answer).into_response();
    etag::set(&mut response, &etag::of(&stored.revision));
    Ok(response)
}

/// Removes a schedule; what it started goes on.
#[utoipa::path(delete, path = "/v1/schedules/{name}", operation_id = "deleteSchedule",
    tag = "schedules", params(("name" = String, Path)),
    responses((status = NO_CONTENT), NotFound, Away))]
pub(crate) async fn delete(
    State(gateway): State<Gateway>,
    Name(name): Name,
) -> Result<StatusCode, Problem> {
    let deleted = schedules::delete(&gateway.nats, &name).await;
    if deleted.map_err(|error| not_changed(error, never))? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(&name))
    }
}

/// Tells when a schedule is due next.
#[utoipa::path(get, path = "/v1/schedules/{name}/next", operation_id = "nextOfSchedule",
    tag = "schedules", params(("name" = String, Path), NextQuery),
    responses((status = OK, body = Firings), NotFound, Away))]
pub(crate) async fn next(
    State(gateway): State<Gateway>,
    Name(name): Name,
    query: Result<Query<NextQuery>, QueryRejection>,
) -> Result<Json<Firings>, Problem> {
    let Query(NextQuery { count, after }) =
        query.map_err(|rejection| Problem::new(Kind::BadRequest, rejection.body_text()))?;
    let count = count.unwrap_or(5);
    if !(1..=1_000).contains(&count) {
        return Err(Problem::new(Kind::BadRequest, "count must be 1 to 1000"));
    }
    let stored = find(&gateway, &name).await?;
    let after = match after {
        Some(after) => instant(&after).map_err(|reason| Problem::new(Kind::BadRequest, reason))?,
        None => server_time(&gateway.nats).await?,
    };
    let firings = stored.schedule.spec().times.preview(&name, after, count);
    let items = firings.into_iter().map(|firing| Firing {
        time: instant_text(firing.nominal),
        nominal: firing.nominal,
        due: firing.due,
    });
    Ok(Json(Firings { items: items.collect() }))
}

/// Starts nothing more by itself until it is resumed.
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", operation_id = "pauseSchedule",
    tag = "schedules", params(("name" = String, Path)), request_body = PauseScheduleRequest,
    responses((status = OK, body = Schedule), BadBody, NotFound, Away))]
pub(crate) async fn pause(
    State(gateway): State<Gateway>,
    Name(name): Name,
    members: Members,
) -> Result<Json<Schedule>, Problem> {
    members.only(&["reason"])?;
    let reason: Option<Arc<str>> = members.text("reason")?.map(Into::into);
    let now = server_time(&gateway.nats).await?;
    let pause = |it: &mut Machine| Ok::<_, Infallible>(it.pause(reason.clone(), now));
    let changed = schedules::change(&gateway.nats, &name, pause).await;
    let (stored, _) = changed.map_err(|error| not_changed(error, never))?;
    Ok(Json(Schedule::new(&stored, now)))
}

/// Goes on with the times from now on; those of the pause are counted as skipped.
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", operation_id = "resumeSchedule",
    tag = "schedules", params(("name" = String, Path)),
    responses((status = OK, body = Schedule), NotFound, Conflict, Away))]
pub(crate) async fn resume(
    State(gateway): State<Gateway>,
    Name(name): Name,
) -> Result<Json<Schedule>, Problem> {
    let now = server_time(&gateway.nats).await?;
    let changed = schedules::change(&gateway.nats, &name, |it: &mut Machine| it.resume(now)).await;
    let (stored, _) = changed.map_err(|error| not_changed(error, refused))?;
    Ok(Json(Schedule::new(&stored, now)))
}

/// Starts an execution now, beside the times. 202: it will be started.
#[utoipa::path(post, path = "/v1/schedules/{name}/trigger", operation_id = "triggerSchedule",
    tag = "schedules",
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = TriggerRequest,
    responses((status = ACCEPTED, body = Triggered), BadBody, NotFound, Conflict, Away))]
pub(crate) async fn trigger(
    State(gateway): State<Gateway>,
    Name(name): Name,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    members.only(&["id", "overlap"])?;
    let overlap = members.parsed_or_none::<Overlap>("overlap")?;
    let id = match (members.parsed_or_none::<ExecutionId>("id")?, idempotency_key(&headers)?) {
        (Some(id), _) => Some(id),
        (None, Some(key)) => Some(id_of_key(&name, &key)?),
        (None, None) => None,
    };
    let now = server_time(&gateway.nats).await?;
    let trigger = |it: &mut Machine| it.trigger(id.clone(), overlap, now);
    let changed = schedules::change(&gateway.nats, &name, trigger).await;
    let (_, execution) = changed.map_err(|error| not_changed(error, refused))?;
    let location = format!("/v1/executions/{execution}");
    let answer = Json(Triggered { execution: execution.to_string() });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], answer).into_response())
}

/// Starts what belongs to the nominal times of a range of the past, both ends included. Executions
/// that were started before stay as they are. 202: they will be started.
#[utoipa::path(post, path = "/v1/schedules/{name}/backfill", operation_id = "backfillSchedule",
    tag = "schedules", params(("name" = String, Path)), request_body = BackfillRequest,
    responses((status = ACCEPTED, body = Backfilled), BadBody, NotFound, Conflict, Away))]
pub(crate) async fn backfill(
    State(gateway): State<Gateway>,
    Name(name): Name,
    members: Members,
) -> Result<(StatusCode, Json<Backfilled>), Problem> {
    members.only(&["from", "until", "overlap"])?;
    let at = |key: &str| {
        let text = members.parsed::<String>(key)?;
        instant(&text).map_err(|reason| Problem::field(&format!("/{key}"), reason))
    };
    let range = (at("from")?, at("until")?);
    let overlap = members.parsed_or_none::<Overlap>("overlap")?;
    let now = server_time(&gateway.nats).await?;
    let backfill = |it: &mut Machine| it.backfill(range, overlap, now);
    let changed = schedules::change(&gateway.nats, &name, backfill).await;
    let (_, times) = changed.map_err(|error| not_changed(error, refused))?;
    Ok((StatusCode::ACCEPTED, Json(Backfilled { times })))
}

async fn find(gateway: &Gateway, name: &ScheduleName) -> Result<Stored, Problem> {
    schedules::get(&gateway.nats, name).await?.map_err(|_| unknown(name))
}

/// The same key for the same schedule is the same execution.
fn id_of_key(name: &ScheduleName, key: &str) -> Result<ExecutionId, Problem> {
    let hash = Hash::of(format!("{name}\n{key}").as_bytes()).to_string();
    let id = format!("{name}-{}", &hash[..16]);
    id.parse().map_err(|error: pled_engine::id::InvalidName| {
        Problem::new(Kind::Internal, error.to_string())
    })
}

fn unknown(name: &ScheduleName) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no schedule {name}"))
}

fn invalid(error: InvalidSpec) -> Problem {
    let told = error.to_string();
    let fields = error.faults.into_iter().map(|fault| FieldError {
        pointer: fault.pointer,
        detail: fault.message,
        ..FieldError::default()
    });
    Problem::new(Kind::ValidationFailed, told).with_errors(fields.collect())
}

fn refused(error: Refusal) -> Problem {
    Problem::new(Kind::ValidationFailed, error.to_string())
}

fn never(error: Infallible) -> Problem {
    match error {}
}

fn not_stored(reason: &str) -> Problem {
    let detail = format!("the schedule was not stored, or that is not known: {reason}");
    Problem::new(Kind::NotReady, detail).retry_after(1)
}

fn not_changed<E>(error: ChangeError<E>, refused: impl FnOnce(E) -> Problem) -> Problem {
    match error {
        ChangeError::Unknown(name) => unknown(&name),
        ChangeError::Refused(error) => refused(error),
        ChangeError::NotStored(reason) => not_stored(&reason),
        ChangeError::Read(error) => error.into(),
    }
}
