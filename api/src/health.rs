//! Whether the process lives, whether it can serve, and its metrics.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Gateway;
use crate::problem::{Kind, Problem, ProblemDetails};

/// The process lives.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
    version: &'static str,
}

/// Whether each part can be used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`, or `degraded` while the ledger is away: execution goes on without it.
    status: &'static str,
    nats: &'static str,
    ledger: &'static str,
}

/// The process lives.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "operation",
    responses((status = OK, body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Requests can be served: NATS is connected and its streams are there.
#[utoipa::path(get, path = "/ready", operation_id = "ready", tag = "operation",
    responses((status = OK, body = Ready), (status = SERVICE_UNAVAILABLE, body = ProblemDetails)))]
pub(crate) async fn ready(State(gateway): State<Gateway>) -> Result<Json<Ready>, Problem> {
    pled_streams::topology::open(&gateway.nats)
        .await
        .map_err(|error| Problem::new(Kind::NotReady, error.to_string()).retry_after(1))?;
    let ledger = match &gateway.ledger {
        None => "none",
        Some(ledger) if ledger.is_there().await => "connected",
        Some(_) => "away",
    };
    let status = if ledger == "away" { "degraded" } else { "ready" };
    Ok(Json(Ready { status, nats: "connected", ledger }))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "operation",
    responses((status = OK, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(gateway): State<Gateway>) -> Response {
    match &gateway.metrics {
        Some(handle) => {
            let text = "text/plain; version=0.0.4; charset=utf-8";
            ([("content-type", text)], handle.render()).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}
