//! Waiting for the outcome of an event that was sent: one subscription a process, an answer for
//! each event.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::connection::Nats;
use crate::events::{self, EventToSend, SendError};

/// What came of an event, as the engine answers on its reply subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The execution, where it is known.
    pub execution: Option<String>,
    /// The entry that took the event, where there is one.
    pub seq: Option<u64>,
    /// `applied`, `ignored`, `deferred`, `rejected`, `exists`, `closed`, `unknown-execution`, or
    /// another reason of PLED_DEAD.
    pub outcome: String,
    /// The execution's status.
    pub status: Option<String>,
    /// Its active leaf states.
    pub configuration: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether the event had been taken before.
    pub repeat: bool,
}

/// An event has no outcome yet, or was not sent.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// It was not stored, or that is not known.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It is stored, and will be taken; the outcome did not come in time.
    #[error("the event is stored at {stream_seq}; its outcome did not come in time")]
    Pending {
        /// Its sequence in PLED_EVENTS.
        stream_seq: u64,
    },
}

/// Outcomes cannot be received.
#[derive(Debug, thiserror::Error)]
#[error("subscribing to {subject}: {reason}")]
pub struct OpenError {
    subject: String,
    reason: String,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Outcome>>>>;

/// Receives outcomes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Outcomes {
    inbox: Arc<str>,
    next: Arc<AtomicU64>,
    waiting: Waiting,
}

impl Outcomes {
    /// Subscribes to an inbox of its own, for as long as a clone lives.
    ///
    /// # Errors
    /// If the client cannot subscribe.
    pub async fn open(nats: &Nats) -> Result<Self, OpenError> {
        let inbox: Arc<str> = nats.client().new_inbox().into();
        let subject = format!("{inbox}.*");
        let mut answers = nats
            .client()
            .subscribe(subject.clone())
            .await
            .map_err(|error| OpenError { subject, reason: error.to_string() })?;
        let waiting = Waiting::default();
        let weak = Arc::downgrade(&waiting);
        tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                let Some(waiting) = weak.upgrade() else { return };
                let id = message.subject.rsplit('.').next().and_then(|id| id.parse().ok());
                let waiter = id.and_then(|id: u64| {
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
                });
                match (waiter, serde_json::from_slice(&message.payload)) {
                    (Some(waiter), Ok(outcome)) => drop(waiter.send(outcome)),
                    (Some(_), Err(error)) => tracing::warn!(%error, "an outcome cannot be read"),
                    (None, _) => {}
                }
            }
        });
        Ok(Self { inbox, next: Arc::default(), waiting })
    }

    /// Sends an event and waits for its outcome, at most `wait` after it is stored.
    ///
    /// # Errors
    /// See [`OutcomeError`].
    pub async fn send_and_wait(
        &self,
        nats: &Nats,
        mut event: EventToSend,
        wait: Duration,
    ) -> Result<(u64, Outcome), OutcomeError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.lock().insert(id, sender);
        // However this ends, also when the caller goes away, nobody waits for ever.
        let _forget = Forget { outcomes: self, id };
        event.reply = Some(format!("{}.{id}", self.inbox));
        let stream_seq = events::send(nats, event).await?;
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(outcome)) => Ok((stream_seq, outcome)),
            Ok(Err(_)) | Err(_) => Err(OutcomeError::Pending { stream_seq }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<'a> {
    outcomes: &'a Outcomes,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.outcomes.lock().remove(&self.id);
    }
}
