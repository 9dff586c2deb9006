//! Plain NATS: requests to services that are not PLED's, and messages for whoever listens.

use std::time::Duration;

use async_nats::{Request, RequestErrorKind, header};
use bytes::Bytes;

use crate::connection::Nats;

/// A request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The subject may not be asked: it has wildcards, or is the server's or PLED's own.
    #[error("{0:?} is no subject that may be asked")]
    Subject(String),
    /// Nobody listens on the subject.
    #[error("nobody answers on {0}")]
    NoResponders(String),
    /// No answer came in time.
    #[error("no answer came from {0} in time")]
    Timeout(String),
    /// The request is larger than the server takes.
    #[error("the request is larger than the server takes")]
    TooLarge,
    /// The connection failed.
    #[error("the request failed: {0}")]
    Failed(String),
}

/// Asks a service on `subject` and gives its answer. `id` goes along as `Nats-Msg-Id`, so that a
/// service can tell a repeat.
///
/// # Errors
/// See [`RequestError`].
pub async fn request(
    nats: &Nats,
    subject: &str,
    payload: Bytes,
    id: &str,
    timeout: Duration,
) -> Result<Bytes, RequestError> {
    check(nats, subject)?;
    if payload.len() > nats.max_payload() {
        return Err(RequestError::TooLarge);
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, id);
    let request = Request::new().payload(payload).headers(headers).timeout(Some(timeout));
    match nats.client().send_request(subject.to_owned(), request).await {
        Ok(answer) => Ok(answer.payload),
        Err(error) => Err(match error.kind() {
            RequestErrorKind::TimedOut => RequestError::Timeout(subject.to_owned()),
            RequestErrorKind::NoResponders => RequestError::NoResponders(subject.to_owned()),
            RequestErrorKind::MaxPayloadExceeded => RequestError::TooLarge,
            RequestErrorKind::InvalidSubject => RequestError::Subject(subject.to_owned()),
            RequestErrorKind::Other => RequestError::Failed(error.to_string()),
        }),
    }
}

/// Publishes a message for whoever listens on `subject`, and returns when it was sent. `id` goes
/// along as `Nats-Msg-Id`: a stream that keeps the subject takes a repeat once.
///
/// # Errors
/// See [`RequestError`].
pub async fn publish(
    nats: &Nats,
    subject: &str,
    payload: Bytes,
    id: &str,
) -> Result<(), RequestError> {
    check(nats, subject)?;
    if payload.len() > nats.max_payload() {
        return Err(RequestError::TooLarge);
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, id);
    let failed = |error: &dyn std::fmt::Display| RequestError::Failed(error.to_string());
    let published = nats.client().publish_with_headers(subject.to_owned(), headers, payload).await;
    published.map_err(|error| failed(&error))?;
    nats.client().flush().await.map_err(|error| failed(&error))
}

fn check(nats: &Nats, subject: &str) -> Result<(), RequestError> {
    if nats.names().is_reply(subject) {
        Ok(())
    } else {
        Err(RequestError::Subject(subject.to_owned()))
    }
}
