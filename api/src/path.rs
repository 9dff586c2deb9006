//! What a path names; what cannot be such a name is not there.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use pled_engine::id::{ExecutionId, InvalidName, ScheduleName, TemplateSelector};

use crate::problem::{Kind, Problem};

/// The execution of `/v1/executions/{id}`.
pub(crate) struct Id(pub(crate) ExecutionId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = text(parts, state).await?.parse();
        id.map(Self)
            .map_err(|error: InvalidName| Problem::new(Kind::ExecutionNotFound, error.to_string()))
    }
}

/// The template of `/v1/templates/{template}`.
pub(crate) struct Selector(pub(crate) TemplateSelector);

impl<S: Send + Sync> FromRequestParts<S> for Selector {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let selector = text(parts, state).await?.parse();
        selector
            .map(Self)
            .map_err(|error: InvalidName| Problem::new(Kind::TemplateNotFound, error.to_string()))
    }
}

/// The schedule of `/v1/schedules/{name}`.
pub(crate) struct Name(pub(crate) ScheduleName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = text(parts, state).await?.parse();
        name.map(Self).map_err(|error: InvalidName| Problem::new(Kind::NotFound, error.to_string()))
    }
}

async fn text<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(text)| text)
        .map_err(|rejection| Problem::new(Kind::BadRequest, rejection.body_text()))
}
