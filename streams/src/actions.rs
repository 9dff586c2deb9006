//! PLED_ACTIONS: how a deployment binds the names of actions. The values are JSON that the action
//! worker reads; here they are bytes.

use bytes::Bytes;
use pled_engine::partition::Published;
use serde::Deserialize;

use crate::connection::Nats;
use crate::publish::{Publication, set_header};
use crate::read::{ReadError, is_marker, last_from_leader, values};
use crate::reader::{Read, Reader};
use crate::subject::{StreamKind, is_queue};
use crate::tasks::{self, QueueError};

/// How much of an action may be done at a time (member `limits` of a binding).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Limits {
    /// How many of its tasks all workers together hold at most.
    pub concurrency: Option<u32>,
}

/// The limits of an action, as its binding has them; none where there is no binding, or none that
/// can be read.
///
/// # Errors
/// If there is no answer.
pub async fn limits(nats: &Nats, action: &str) -> Result<Limits, ReadError> {
    #[derive(Deserialize)]
    struct Binding {
        #[serde(default)]
        limits: Limits,
    }
    let binding = get(nats, action).await?;
    let read = binding.and_then(|binding| serde_json::from_slice::<Binding>(&binding).ok());
    Ok(read.map(|binding| binding.limits).unwrap_or_default())
}

/// Makes the queue of an action, or gives it the limits that its binding has now.
///
/// # Errors
/// If the name is none, or the server refuses.
pub async fn apply_limits(nats: &Nats, action: &str) -> Result<(), QueueError> {
    tasks::ensure_queue(nats, action, None).await?;
    tasks::limit_queue(nats, action).await
}

/// Binds an action, over any binding that is there.
pub async fn put(nats: &Nats, action: &str, binding: Bytes) -> Published {
    if !is_queue(action) {
        return Published::Refused(format!("{action:?} is no name of an action"));
    }
    let subject = nats.names().key(StreamKind::Actions, action);
    let publication = Publication { subject, payload: binding, ..Publication::default() };
    nats.publisher(StreamKind::Actions).publish(publication).await
}

/// Takes a binding away, if there is one.
pub async fn remove(nats: &Nats, action: &str) -> Published {
    if !is_queue(action) {
        return Published::Refused(format!("{action:?} is no name of an action"));
    }
    let mut headers = async_nats::HeaderMap::new();
    set_header(&mut headers, "KV-Operation", "DEL");
    let subject = nats.names().key(StreamKind::Actions, action);
    let publication = Publication { subject, headers, ..Publication::default() };
    nats.publisher(StreamKind::Actions).publish(publication).await
}

/// The binding of an action.
///
/// # Errors
/// If there is no answer.
pub async fn get(nats: &Nats, action: &str) -> Result<Option<Bytes>, ReadError> {
    if !is_queue(action) {
        return Ok(None);
    }
    let subject = nats.names().key(StreamKind::Actions, action);
    let stored = last_from_leader(nats, StreamKind::Actions, &subject).await?;
    Ok(stored.filter(|stored| !is_marker(stored)).map(|stored| stored.payload))
}

/// All bindings by the action's name.
///
/// # Errors
/// If there is no answer.
pub async fn list(nats: &Nats) -> Result<Vec<(String, Bytes)>, ReadError> {
    let found = values(nats, StreamKind::Actions, ">").await?;
    Ok(found.into_iter().map(|(action, stored)| (action, stored.payload)).collect())
}

/// Gives every binding that is there and every later change, until it is dropped.
#[must_use]
pub fn watch(nats: &Nats) -> Watch {
    let filter = nats.names().key(StreamKind::Actions, ">");
    let prefix = nats.names().key(StreamKind::Actions, "");
    Watch { reader: Reader::start(nats, StreamKind::Actions, filter, 1), prefix }
}

/// See [`watch`].
#[derive(Debug)]
pub struct Watch {
    reader: Reader,
    prefix: String,
}

/// News of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The action is bound so.
    Bound {
        /// The action.
        action: String,
        /// Its binding.
        binding: Bytes,
    },
    /// The action is bound no more.
    Unbound {
        /// The action.
        action: String,
    },
    /// All bindings that are there were given.
    CaughtUp,
}

impl Watch {
    /// The next news. Safe to drop before it is there.
    pub async fn next(&mut self) -> Changed {
        loop {
            let stored = match self.reader.next().await {
                Read::CaughtUp(_) => return Changed::CaughtUp,
                Read::Message(stored) => stored,
            };
            let Some(action) = stored.subject.strip_prefix(&self.prefix) else { continue };
            let action = action.to_owned();
            return if is_marker(&stored) {
                Changed::Unbound { action }
            } else {
                Changed::Bound { action, binding: stored.payload }
            };
        }
    }
}
