//! PLED_LOCKS: leases, the workers that are there, and positions.
//!
//! A lease saves work and gives order; correctness is the journal's expected sequences alone. Keys
//! are written by raw publishes, since the client's own update drops a key's time to live.

use std::time::Duration;

use async_nats::{HeaderMap, header};
use pled_engine::partition::{Position, Published};
use serde::{Deserialize, Serialize};

use crate::connection::Nats;
use crate::publish::Publication;
use crate::read::{ReadError, is_marker, last_from_leader, values};
use crate::subject::{HALT_KEY, StreamKind, lease_key, position_key, worker_key};

/// The shortest time to live that the server knows.
const TTL_MIN: Duration = Duration::from_secs(1);

/// A lease that is held: nobody else holds it until its time to live is over.
#[derive(Debug)]
pub struct Lease {
    nats: Nats,
    subject: String,
    owner: String,
    ttl: Duration,
    revision: u64,
}

/// Takes the lease of `kind` on a partition, if it is free or `owner`'s own: `None` if another
/// holds it.
///
/// # Errors
/// If it is not known whether it is held now: ask again; an owner that got it finds its own.
pub async fn acquire(
    nats: &Nats,
    kind: &str,
    partition: u16,
    owner: &str,
    ttl: Duration,
) -> Result<Option<Lease>, ReadError> {
    let subject = nats.names().key(StreamKind::Locks, &lease_key(kind, partition));
    let found = last_from_leader(nats, StreamKind::Locks, &subject).await?;
    let revision = match &found {
        None => 0,
        Some(stored) if is_marker(stored) || stored.payload == owner.as_bytes() => {
            stored.stream_seq
        }
        Some(_) => return Ok(None),
    };
    let mut lease = Lease { nats: nats.clone(), subject, owner: owner.to_owned(), ttl, revision };
    Ok(lease.renew().await?.then_some(lease))
}

impl Lease {
    /// Begins the time to live anew. `false`: the lease is lost.
    ///
    /// # Errors
    /// If it is not known whether it is held: ask again while the time to live lasts.
    pub async fn renew(&mut self) -> Result<bool, ReadError> {
        let ttl = self.ttl.max(TTL_MIN);
        let published = put_with_ttl(&self.nats, &self.subject, &self.owner, ttl, self.revision);
        match published.await {
            Published::Stored { stream_seq } => {
                self.revision = stream_seq;
                Ok(true)
            }
            Published::Conflict { .. } => self.found_own().await,
            Published::Unknown => {
                if self.found_own().await? {
                    Ok(true)
                } else {
                    Err(ReadError::unavailable(&self.subject, "the lease was not acknowledged"))
                }
            }
            Published::Full => Err(ReadError::unavailable(&self.subject, "the bucket is full")),
            Published::TooLarge => Err(ReadError::unavailable(&self.subject, "too large")),
            Published::Refused(reason) => Err(ReadError::unavailable(&self.subject, reason)),
        }
    }

    /// After a conflict or without an answer: a newer value that is one's own was written by an
    /// attempt whose acknowledgement was lost, with its time to live.
    async fn found_own(&mut self) -> Result<bool, ReadError> {
        let found = last_from_leader(&self.nats, StreamKind::Locks, &self.subject).await?;
        let own = found.filter(|stored| {
            !is_marker(stored)
                && stored.payload == self.owner.as_bytes()
                && stored.stream_seq > self.revision
        });
        if let Some(own) = own {
            self.revision = own.stream_seq;
            return Ok(true);
        }
        Ok(false)
    }

    /// Gives the lease up, so that another can take it at once. Where the server does not hear of
    /// it, its time to live ends it.
    pub async fn release(self) {
        let published = delete(&self.nats, &self.subject, self.revision).await;
        if !matches!(published, Published::Stored { .. }) {
            tracing::debug!(subject = %self.subject, ?published, "a lease was not given up");
        }
    }

    /// Who holds it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// Who holds the leases of a kind: partition and owner.
///
/// # Errors
/// If there is no answer.
pub async fn leases(nats: &Nats, kind: &str) -> Result<Vec<(u16, String)>, ReadError> {
    let found = values(nats, StreamKind::Locks, &format!("lease.{kind}.*")).await?;
    let lease = |(key, stored): (String, crate::codec::Stored)| {
        let partition = key.rsplit('.').next()?.parse().ok()?;
        Some((partition, String::from_utf8_lossy(&stored.payload).into_owned()))
    };
    Ok(found.into_iter().filter_map(lease).collect())
}

/// Says that a worker is there for `ttl`, with what it says of itself. `worker` is a token.
pub fn announce(
    nats: &Nats,
    worker: &str,
    about: &str,
    ttl: Duration,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let subject = nats.names().key(StreamKind::Locks, &worker_key(worker));
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_TTL, seconds(ttl.max(TTL_MIN)));
    nats.publisher(StreamKind::Locks).publish(Publication {
        subject,
        headers,
        payload: about.to_owned().into(),
        expected: None,
    })
}

/// Says that a worker is gone.
pub fn retire(
    nats: &Nats,
    worker: &str,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let subject = nats.names().key(StreamKind::Locks, &worker_key(worker));
    nats.publisher(StreamKind::Locks).publish(deletion(subject, None))
}

/// The workers that are there, with what they say of themselves.
///
/// # Errors
/// If there is no answer.
pub async fn workers(nats: &Nats) -> Result<Vec<(String, String)>, ReadError> {
    let found = values(nats, StreamKind::Locks, "worker.*").await?;
    let worker = |(key, stored): (String, crate::codec::Stored)| {
        let worker = key.strip_prefix("worker.")?.to_owned();
        Some((worker, String::from_utf8_lossy(&stored.payload).into_owned()))
    };
    Ok(found.into_iter().filter_map(worker).collect())
}

/// A position and its revision, from the leader; `None` if the key is not there.
///
/// # Errors
/// If there is no answer, or the value is no position.
pub async fn read_position(
    nats: &Nats,
    kind: &str,
    partition: u16,
) -> Result<Option<(Position, u64)>, ReadError> {
    let key = position_key(kind, partition);
    let subject = nats.names().key(StreamKind::Locks, &key);
    let stored = last_from_leader(nats, StreamKind::Locks, &subject).await?;
    let Some(stored) = stored.filter(|stored| !is_marker(stored)) else {
        return Ok(None);
    };
    let position =
        serde_json::from_slice(&stored.payload).map_err(|error| ReadError::corrupt(key, error))?;
    Ok(Some((position, stored.stream_seq)))
}

/// Writes a position over the one with this revision; the sequence of the answer is the new one.
pub fn write_position(
    nats: &Nats,
    kind: &str,
    partition: u16,
    position: &Position,
    revision: u64,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let subject = nats.names().key(StreamKind::Locks, &position_key(kind, partition));
    let payload = serde_json::to_vec(position);
    let queued = payload.map(|payload| {
        nats.publisher(StreamKind::Locks).publish(Publication {
            subject,
            payload: payload.into(),
            expected: Some(revision),
            ..Publication::default()
        })
    });
    async move {
        match queued {
            Ok(published) => published.await,
            Err(error) => Published::Refused(error.to_string()),
        }
    }
}

/// Why nothing may be written to an installation until it was recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// In a sentence.
    pub reason: String,
    /// Who found it.
    pub worker: String,
}

/// Why the installation is halted; `None`: it is not.
///
/// # Errors
/// If there is no answer.
pub async fn halted(nats: &Nats) -> Result<Option<Halt>, ReadError> {
    let subject = nats.names().key(StreamKind::Locks, HALT_KEY);
    let stored = last_from_leader(nats, StreamKind::Locks, &subject).await?;
    let Some(stored) = stored.filter(|stored| !is_marker(stored)) else { return Ok(None) };
    serde_json::from_slice(&stored.payload)
        .map(Some)
        .map_err(|error| ReadError::corrupt(HALT_KEY, error))
}

/// Halts the installation: whoever starts from now on refuses, with this reason. What was lost is
/// seen by the process that knew it; one that starts after it reads positions of the time before,
/// and could not tell.
pub async fn halt(nats: &Nats, halt: &Halt) -> Published {
    let subject = nats.names().key(StreamKind::Locks, HALT_KEY);
    let Ok(payload) = serde_json::to_vec(halt) else {
        return Published::Refused("no JSON".into());
    };
    let publication = Publication { subject, payload: payload.into(), ..Publication::default() };
    nats.publisher(StreamKind::Locks).publish(publication).await
}

/// Lets the installation go on.
pub async fn lift_halt(nats: &Nats) -> Published {
    let subject = nats.names().key(StreamKind::Locks, HALT_KEY);
    nats.publisher(StreamKind::Locks).publish(deletion(subject, None)).await
}

fn put_with_ttl(
    nats: &Nats,
    subject: &str,
    value: &str,
    ttl: Duration,
    expected: u64,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_TTL, seconds(ttl));
    nats.publisher(StreamKind::Locks).publish(Publication {
        subject: subject.to_owned(),
        headers,
        payload: value.to_owned().into(),
        expected: Some(expected),
    })
}

async fn delete(nats: &Nats, subject: &str, expected: u64) -> Published {
    nats.publisher(StreamKind::Locks).publish(deletion(subject.to_owned(), Some(expected))).await
}

/// The marker of a key that is gone; it goes itself after a while.
fn deletion(subject: String, expected: Option<u64>) -> Publication {
    let mut headers = HeaderMap::new();
    headers.insert("KV-Operation", "DEL");
    headers.insert(header::NATS_MESSAGE_TTL, "60s");
    Publication { subject, headers, expected, ..Publication::default() }
}

/// A time to live as the server reads it, in whole seconds, rounded up.
fn seconds(ttl: Duration) -> String {
    let up = u64::from(ttl.subsec_nanos() > 0);
    format!("{}s", ttl.as_secs() + up)
}
