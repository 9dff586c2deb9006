//! Bodies: JSON with the strictness of the engine's door, errors as problems.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use pled_engine::json::InvalidJson;
use pled_engine::value::{Object, Value};

use crate::problem::{FieldError, Kind, Problem};

/// The body of a request that says that it is JSON; its size is bounded before.
///
/// The type must be said: no page in a browser can then send such a request to a gateway on
/// loopback without asking first.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "send JSON with the header `content-type: application/json`",
            ));
        }
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::new(Kind::PayloadTooLarge, "the body is larger than the server takes")
            } else {
                Problem::new(Kind::BadRequest, rejection.body_text())
            }
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A body that is a JSON object of known members.
pub(crate) struct Members(Object);

impl<S: Send + Sync> FromRequest<S> for Members {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Body(bytes) = Body::from_request(request, state).await?;
        match Value::parse(&bytes).map_err(|error| malformed(&error))? {
            Value::Object(members) => Ok(Self(members)),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Array(_)) => {
                Err(Problem::field("", format!("must be an object, not {}", other.kind())))
            }
        }
    }
}

impl Members {
    /// Refuses members that are not among `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(key, _)| !known.contains(&&**key)) {
            None => Ok(()),
            Some((key, _)) => Err(Problem::field(
                &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
                format!("is no member of this request; these are: {}", known.join(", ")),
            )),
        }
    }

    /// A member of any kind; absent is `null`.
    pub(crate) fn value(&self, key: &str) -> Value {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// A member that is a string, absent or null.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, Problem> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.to_string())),
            Some(other) => Err(Problem::field(
                &format!("/{key}"),
                format!("must be a string, not {}", other.kind()),
            )),
        }
    }

    /// A member that must be there and be read as a `T`.
    pub(crate) fn parsed<T>(&self, key: &str) -> Result<T, Problem>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.parsed_or_none(key)?
            .ok_or_else(|| Problem::field(&format!("/{key}"), "must be given, as a string"))
    }

    /// A member that is read as a `T`, if it is there.
    pub(crate) fn parsed_or_none<T>(&self, key: &str) -> Result<Option<T>, Problem>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let read = text
            .parse()
            .map_err(|error: T::Err| Problem::field(&format!("/{key}"), error.to_string()))?;
        Ok(Some(read))
    }
}

/// A body that is no JSON.
pub(crate) fn malformed(error: &InvalidJson) -> Problem {
    Problem::new(Kind::BadRequest, format!("the body is not valid JSON: {error}"))
        .with_errors(vec![FieldError { detail: error.to_string(), ..FieldError::default() }])
}
