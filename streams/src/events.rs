//! PLED_EVENTS: sending an event to an execution.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use pled_engine::id::{EventType, ExecutionId, TemplateSelector};
use pled_engine::partition::Published;

use crate::codec::percent_encoded;
use crate::connection::Nats;
use crate::publish::{Publication, set_header};
use crate::subject::{CE_SOURCE, EVENT_ID, REPLY, SENDER, StreamKind, TEMPLATE};

pub use crate::codec::{Stored, decode};

/// An event for an execution.
#[derive(Clone, Debug)]
pub struct EventToSend {
    /// For whom.
    pub execution: ExecutionId,
    /// What happened; `pled.init` starts the execution.
    pub event_type: EventType,
    /// The payload, JSON or empty for `null`. It is not read here.
    pub data: Bytes,
    /// The client's id of it, unique within the execution.
    pub event_id: Option<String>,
    /// The template to start, if the execution is to be started.
    pub template: Option<TemplateSelector>,
    /// The core NATS subject where the outcome is wanted.
    pub reply: Option<String>,
    /// Who says so.
    pub origin: Option<String>,
    /// For what a rule emitted: the rule worker, ingest sequence and emit index.
    pub emitted: Option<(Arc<str>, u64, u64)>,
}

/// An event was not stored, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The inbox is full: send again later.
    #[error("the inbox is full, send again later")]
    Full,
    /// It is larger than the server takes.
    #[error("the event is larger than the server takes")]
    TooLarge,
    /// The server refuses it for another reason.
    #[error("the server refuses the event: {0}")]
    Refused(String),
    /// No answer: it may be stored. With an event id it can be sent again without harm.
    #[error("no answer from the server: the event may be stored or not")]
    Unknown,
}

/// Sends an event, and gives its sequence in PLED_EVENTS once it is stored.
///
/// # Errors
/// See [`SendError`].
pub async fn send(nats: &Nats, event: EventToSend) -> Result<u64, SendError> {
    stored(publish(nats, event).await)
}

/// [`send`] with the answer that the engine's shells work with: queued at the call.
pub fn publish(
    nats: &Nats,
    event: EventToSend,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let mut headers = HeaderMap::new();
    if let Some(id) = &event.event_id {
        set_header(&mut headers, EVENT_ID, id);
    }
    if let Some(template) = &event.template {
        set_header(&mut headers, TEMPLATE, &template.to_string());
    }
    if let Some(reply) = &event.reply {
        set_header(&mut headers, REPLY, reply);
    }
    if let Some(origin) = &event.origin {
        set_header(&mut headers, CE_SOURCE, &percent_encoded(origin));
    }
    let subject = match &event.emitted {
        Some((sender, sequence, index)) => {
            set_header(&mut headers, SENDER, &format!("{sender}/{sequence}/{index}"));
            nats.names().emitted(&event.execution, &event.event_type)
        }
        None => nats.names().event(&event.execution, event.event_type.as_str()),
    };
    let publication = Publication { subject, headers, payload: event.data, expected: None };
    nats.publisher(StreamKind::Events).publish(publication)
}

pub(crate) fn stored(published: Published) -> Result<u64, SendError> {
    match published {
        Published::Stored { stream_seq } => Ok(stream_seq),
        Published::Full => Err(SendError::Full),
        Published::TooLarge => Err(SendError::TooLarge),
        Published::Conflict { .. } => Err(SendError::Refused("wrong last sequence".into())),
        Published::Refused(reason) => Err(SendError::Refused(reason)),
        Published::Unknown => Err(SendError::Unknown),
    }
}
