//! `/v1/templates`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pled_engine::id::TemplateRef;
use pled_engine::json::line_and_column;
use pled_streams::templates::{self, RegisterError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::json::Body;
use crate::path::Selector;
use crate::problem::{Away, BadBody, Conflict, FieldError, Kind, NotFound, Problem};
use crate::{Gateway, etag};

/// A registered template version.
#[derive(Serialize, ToSchema)]
pub(crate) struct TemplateInfo {
    #[schema(example = "order@3")]
    template: String,
    name: String,
    version: u32,
    /// SHA-256 of the source, hexadecimal.
    hash: String,
}

/// A template and its versions.
#[derive(Serialize, ToSchema)]
pub(crate) struct TemplateVersions {
    name: String,
    /// Ascending.
    versions: Vec<u32>,
    latest: Option<u32>,
}

impl TemplateInfo {
    fn new(reference: &TemplateRef, hash: &impl ToString) -> Self {
        Self {
            template: reference.to_string(),
            name: reference.name.to_string(),
            version: reference.version,
            hash: hash.to_string(),
        }
    }
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Templates {
    items: Vec<TemplateVersions>,
}

/// Registers a template version: its JSON is the body. The same version with the same content
/// again is no change; with another content it is refused, for versions are immutable.
#[utoipa::path(post, path = "/v1/templates", operation_id = "registerTemplate", tag = "templates",
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses((status = CREATED, body = TemplateInfo), (status = OK, body = TemplateInfo),
        BadBody, Conflict, Away))]
pub(crate) async fn register(
    State(gateway): State<Gateway>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let source = std::str::from_utf8(&body).map_err(|error| {
        Problem::new(Kind::BadRequest, format!("the body is not UTF-8: {error}"))
    })?;
    let registered = templates::register(&gateway.nats, source).await.map_err(refused)?;
    let status = if registered.existed { StatusCode::OK } else { StatusCode::CREATED };
    let info = TemplateInfo::new(&registered.reference, &registered.hash);
    let location = format!("/v1/templates/{}", registered.reference);
    Ok((status, [(header::LOCATION, location)], Json(info)).into_response())
}

fn refused(error: RegisterError) -> Problem {
    match error {
        RegisterError::Invalid(invalid) => {
            let errors = invalid
                .errors
                .iter()
                .map(|error| {
                    let (line, column) = line_and_column(&invalid.source_text, error.span.start);
                    FieldError {
                        pointer: error.pointer.clone(),
                        detail: format!("{} (line {line}, column {column})", error.message),
                        code: Some(error.code.to_string()),
                        line: Some(line),
                        column: Some(column),
                        help: error.help.clone(),
                    }
                })
                .collect();
            Problem::new(Kind::ValidationFailed, "the template is not valid").with_errors(errors)
        }
        RegisterError::Conflict { .. } => Problem::new(Kind::VersionConflict, error.to_string()),
        RegisterError::TooLarge => Problem::new(Kind::PayloadTooLarge, error.to_string()),
        RegisterError::Refused(_) | RegisterError::Unavailable(_) => {
            Problem::new(Kind::NotReady, error.to_string()).retry_after(1)
        }
    }
}

/// Lists the registered templates by name.
#[utoipa::path(get, path = "/v1/templates", operation_id = "listTemplates", tag = "templates",
    responses((status = OK, body = Templates), Away))]
pub(crate) async fn list(State(gateway): State<Gateway>) -> Result<Json<Templates>, Problem> {
    let known = templates::list(&gateway.nats).await?.into_iter().map(|info| TemplateVersions {
        name: info.name.to_string(),
        versions: info.versions,
        latest: info.latest,
    });
    Ok(Json(Templates { items: known.collect() }))
}

/// Reads a template as it was registered: `order` (the newest version) or `order@3`.
#[utoipa::path(get, path = "/v1/templates/{template}", operation_id = "readTemplate",
    tag = "templates", params(("template" = String, Path, example = "order@3")),
    responses((status = OK, body = serde_json::Value), (status = NOT_MODIFIED), NotFound, Away))]
pub(crate) async fn read(
    State(gateway): State<Gateway>,
    Selector(selector): Selector,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(source) = templates::get(&gateway.nats, &selector).await? else {
        let detail = format!("no template {selector} is registered");
        return Err(Problem::new(Kind::TemplateNotFound, detail));
    };
    let tag = etag::of(&pled_engine::id::Hash::of(source.as_bytes()));
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok(etag::answer(&headers, &tag, || (json, source.to_string()).into_response()))
}
