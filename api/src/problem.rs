//! What goes wrong, as RFC 9457 problem details.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// A problem, answered as [`ProblemDetails`].
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What kind of problem.
    pub kind: Kind,
    /// What is wrong in this case.
    pub detail: String,
    /// The execution.
    pub execution_id: Option<String>,
    /// Single errors, each with the place in the request.
    pub errors: Vec<FieldError>,
    /// Seconds to wait before trying again.
    pub retry_after: Option<u32>,
}

/// `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ProblemDetails {
    /// `https://pled.dev/problems/<code>`
    #[serde(rename = "type")]
    #[schema(example = "https://pled.dev/problems/execution-not-found")]
    problem_type: String,
    /// What kind of problem, in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong in this case.
    detail: String,
    /// The kind of problem, for programs.
    code: &'static str,
    /// The execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<String>,
    /// Single errors, each with the place in the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Seconds to wait before trying again; also the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// One error and its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the request's body.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
    /// A stable code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Its line in the body, from 1, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Its column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What to do about it, where there is advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 400
    BadRequest,
    /// 404
    TemplateNotFound,
    /// 404
    ExecutionNotFound,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 409
    ExecutionExists,
    /// 409
    ExecutionClosed,
    /// 409
    EventRejected,
    /// 409
    VersionConflict,
    /// 413
    PayloadTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422
    ValidationFailed,
    /// 422
    IdempotencyConflict,
    /// 503
    Full,
    /// 503
    NotReady,
    /// 503
    LedgerAway,
    /// 504: it may be stored or not.
    Unknown,
    /// 500
    Internal,
}

impl Kind {
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BadRequest => {
                ("bad-request", StatusCode::BAD_REQUEST, "The request is malformed")
            }
            Self::TemplateNotFound => {
                ("template-not-found", StatusCode::NOT_FOUND, "There is no such template")
            }
            Self::ExecutionNotFound => {
                ("execution-not-found", StatusCode::NOT_FOUND, "There is no such execution")
            }
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "This resource has no such method",
            ),
            Self::ExecutionExists => {
                ("execution-exists", StatusCode::CONFLICT, "There is such an execution already")
            }
            Self::ExecutionClosed => {
                ("execution-closed", StatusCode::CONFLICT, "The execution has ended")
            }
            Self::EventRejected => {
                ("event-rejected", StatusCode::CONFLICT, "The execution rejected the event")
            }
            Self::VersionConflict => (
                "version-conflict",
                StatusCode::CONFLICT,
                "This version is registered with another content",
            ),
            Self::PayloadTooLarge => {
                ("payload-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The payload is too large")
            }
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is not of a supported type",
            ),
            Self::ValidationFailed => {
                ("validation-failed", StatusCode::UNPROCESSABLE_ENTITY, "The content is not valid")
            }
            Self::IdempotencyConflict => (
                "idempotency-conflict",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The idempotency key was used for something else",
            ),
            Self::Full => ("full", StatusCode::SERVICE_UNAVAILABLE, "The inbox is full"),
            Self::NotReady => {
                ("not-ready", StatusCode::SERVICE_UNAVAILABLE, "NATS cannot be used now")
            }
            Self::LedgerAway => {
                ("ledger-away", StatusCode::SERVICE_UNAVAILABLE, "The ledger cannot be read now")
            }
            Self::Unknown => (
                "unknown",
                StatusCode::GATEWAY_TIMEOUT,
                "The event may be stored: send it again with the same id",
            ),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "PLED is at fault"),
        }
    }
}

/// What every request with a body may be answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers in the OpenAPI document")]
pub(crate) enum BadBody {
    /// The body is no JSON.
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemDetails),
    /// The body is larger than the server takes.
    #[response(status = PAYLOAD_TOO_LARGE, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemDetails),
    /// The body does not say that it is JSON.
    #[response(status = UNSUPPORTED_MEDIA_TYPE, content_type = "application/problem+json")]
    NoJson(#[to_schema] ProblemDetails),
    /// A member of the body is not valid; `errors` say which.
    #[response(status = UNPROCESSABLE_ENTITY, content_type = "application/problem+json")]
    Invalid(#[to_schema] ProblemDetails),
}

/// What cannot be done now.
#[derive(IntoResponses)]
#[response(status = SERVICE_UNAVAILABLE, content_type = "application/problem+json")]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct Away(#[to_schema] ProblemDetails);

/// What is not there.
#[derive(IntoResponses)]
#[response(status = NOT_FOUND, content_type = "application/problem+json")]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct NotFound(#[to_schema] ProblemDetails);

/// What contradicts what is there.
#[derive(IntoResponses)]
#[response(status = CONFLICT, content_type = "application/problem+json")]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct Conflict(#[to_schema] ProblemDetails);

/// A query that cannot be read.
#[derive(IntoResponses)]
#[response(status = BAD_REQUEST, content_type = "application/problem+json")]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct BadQuery(#[to_schema] ProblemDetails);

/// An event that is stored or not.
#[derive(IntoResponses)]
#[response(status = GATEWAY_TIMEOUT, content_type = "application/problem+json")]
#[expect(dead_code, reason = "describes an answer in the OpenAPI document")]
pub(crate) struct NoAnswer(#[to_schema] ProblemDetails);

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail, execution_id: None, errors: Vec::new(), retry_after: None }
    }

    /// It is about this execution.
    #[must_use]
    pub fn of(mut self, execution: &impl ToString) -> Self {
        self.execution_id = Some(execution.to_string());
        self
    }

    /// It has these single errors.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// It may help to try again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// One field of the body is not valid.
    pub fn field(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(Kind::ValidationFailed, format!("{pointer}: {detail}")).with_errors(vec![
            FieldError { pointer: pointer.to_owned(), detail, ..FieldError::default() },
        ])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status, title) = self.kind.parts();
        if status.is_server_error() {
            tracing::warn!(code, detail = self.detail, "answered with a problem");
        }
        let retry_after = self.retry_after;
        let details = ProblemDetails {
            problem_type: format!("https://pled.dev/problems/{code}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            code,
            execution_id: self.execution_id,
            errors: self.errors,
            retry_after,
        };
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<pled_streams::ReadError> for Problem {
    fn from(error: pled_streams::ReadError) -> Self {
        Self::new(Kind::NotReady, error.to_string()).retry_after(1)
    }
}

impl From<pled_ledger::LedgerError> for Problem {
    fn from(error: pled_ledger::LedgerError) -> Self {
        Self::new(Kind::LedgerAway, error.to_string()).retry_after(5)
    }
}
