//! PLED's HTTP gateway: the resources of `/v1`, problem details (RFC 9457), health and metrics.
//!
//! One file a resource. What it answers with 202 is stored in JetStream; what it answers with a
//! state is read from the journal.

mod etag;
mod executions;
mod health;
mod json;
mod path;
mod prefer;
mod problem;
mod schedules;
mod templates;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use pled_ledger::Ledger;
use pled_streams::Nats;
use pled_streams::outcome::Outcomes;
use pled_streams::templates::TemplateCache;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use problem::{FieldError, Kind, Problem, ProblemDetails};

/// What the handlers share.
#[derive(Clone)]
pub struct Gateway {
    nats: Nats,
    templates: TemplateCache,
    outcomes: Outcomes,
    ledger: Option<Ledger>,
    metrics: Option<PrometheusHandle>,
}

/// The gateway cannot listen or serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Replies cannot be received.
    #[error("subscribing to outcomes: {0}")]
    Outcomes(String),
    /// The server ended.
    #[error("serving HTTP: {0}")]
    Serve(std::io::Error),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "PLED",
        description = "A durable workflow engine on NATS JetStream. Errors are RFC 9457 problem details.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemDetails, FieldError))
)]
struct Document;

impl Gateway {
    /// A gateway to these streams; without a ledger lists come from the snapshots.
    ///
    /// # Errors
    /// If replies cannot be received.
    pub async fn new(
        nats: Nats,
        ledger: Option<Ledger>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, ServeError> {
        let outcomes =
            Outcomes::open(&nats).await.map_err(|error| ServeError::Outcomes(error.to_string()))?;
        let templates = TemplateCache::default();
        Ok(Self { nats, templates, outcomes, ledger, metrics })
    }

    /// All routes.
    pub fn router(self) -> Router {
        let body_max = self.nats.max_payload();
        let (router, document) = routes_and_document().split_for_parts();
        let document = Arc::new(document);
        router
            .route("/openapi.json", get(async move || Json((*document).clone())))
            .route("/", get(async || Html(include_str!("index.html"))))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            // Not a layer of tower-http's, whose refusal is no problem+json.
            .layer(DefaultBodyLimit::max(body_max))
            .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
                use axum::response::IntoResponse as _;
                Problem::new(Kind::Internal, "the request could not be handled").into_response()
            }))
            .with_state(self)
    }

    /// Serves on `listener` until `shutdown` becomes true, then finishes what is under way, for at
    /// most `DRAIN`.
    ///
    /// # Errors
    /// If the server ends by itself.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), ServeError> {
        let stopped = |mut shutdown: watch::Receiver<bool>| async move {
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        let serving =
            axum::serve(listener, self.router()).with_graceful_shutdown(stopped(shutdown.clone()));
        let drained = async {
            stopped(shutdown).await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving => served.map_err(ServeError::Serve),
            () = drained => Ok(()),
        }
    }
}

/// Listens on `address`.
///
/// # Errors
/// If it is taken or not ours.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// The OpenAPI 3.1 document as JSON, without a server.
///
/// # Errors
/// Never for a document of ours.
pub fn openapi() -> Result<String, serde_json::Error> {
    let (_, document) = routes_and_document().split_for_parts();
    serde_json::to_string_pretty(&document)
}

fn routes_and_document() -> OpenApiRouter<Gateway> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(templates::register, templates::list))
        .routes(routes!(templates::read))
        .routes(routes!(executions::start, executions::list))
        .routes(routes!(executions::read))
        .routes(routes!(executions::history))
        .routes(routes!(executions::send))
        .routes(routes!(executions::cancel))
        .routes(routes!(executions::terminate))
        .routes(routes!(executions::pause))
        .routes(routes!(executions::resume))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::read, schedules::put, schedules::delete))
        .routes(routes!(schedules::next))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::trigger))
        .routes(routes!(schedules::backfill))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("nothing at {uri}; see /openapi.json"))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{method} is no method of {uri}"))
}

/// The longest that a client may wait for an outcome.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long requests that are under way may take at the end: what they sent is stored, and a client
/// that waits for its outcome can ask for it again.
const DRAIN: Duration = Duration::from_secs(10);
