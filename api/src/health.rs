//! Whether the process lives, whether it can serve, and its metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::Gateway;
use crate::problem::{Away, Kind, Problem};

/// Less than the second that a probe of readiness waits.
const READY_WITHIN: Duration = Duration::from_millis(800);

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
    responses((status = OK, body = Ready), Away))]
pub(crate) async fn ready(State(gateway): State<Gateway>) -> Result<Json<Ready>, Problem> {
    let (nats, ledger) = tokio::join!(nats(&gateway), ledger(&gateway));
    nats?;
    let status = if ledger == "away" { "degraded" } else { "ready" };
    Ok(Json(Ready { status, nats: "connected", ledger }))
}

async fn nats(gateway: &Gateway) -> Result<(), Problem> {
    let not_ready = |why: String| Problem::new(Kind::NotReady, why).retry_after(1);
    if !gateway.nats.connections().borrow().connected {
        return Err(not_ready("there is no connection to NATS".to_owned()));
    }
    match timeout(READY_WITHIN, pled_streams::topology::open(&gateway.nats)).await {
        Ok(opened) => opened.map(drop).map_err(|error| not_ready(error.to_string())),
        Err(_) => Err(not_ready("NATS does not answer".to_owned())),
    }
}

async fn ledger(gateway: &Gateway) -> &'static str {
    match &gateway.ledger {
        None => "none",
        Some(ledger) if ledger.is_there().await => "connected",
        Some(_) => "away",
    }
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
