//! PLED_ACTIONS: how a deployment binds the names of actions. The values are JSON that the action
//! worker reads; here they are bytes.

use bytes::Bytes;
use pled_engine::partition::Published;

use crate::connection::Nats;
use crate::publish::Publication;
use crate::read::{ReadError, is_marker, last_from_leader, values};
use crate::reader::{Read, Reader};
use crate::subject::{StreamKind, is_queue};

/// Binds an action, over any binding that is there.
pub async fn put(nats: &Nats, action: &str, binding: Bytes) -> Published {
    if !is_queue(action) {
        return Published::Refused(format!("{action:?} is no name of an action"));
    }
    let subject = nats.names().key(StreamKind::Actions, action);
    let publication = Publication { subject, payload: binding, ..Publication::default() };
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
