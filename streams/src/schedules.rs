//! PLED_SCHEDULES: one schedule a key, what it is and what is remembered of it in one value, so that
//! whoever changes either does it with the revision of both.

use pled_engine::id::{ExecutionId, ScheduleName};
use pled_engine::partition::Published;
use pled_engine::schedule::{Schedule, Seen};

use crate::connection::Nats;
use crate::journal;
use crate::publish::Publication;
use crate::read::{ReadError, is_marker, last_from_leader, values};
use crate::reader::{Read, Reader};
use crate::subject::{DEAD_DETAIL, StreamKind};

/// A schedule and the revision of its key.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The schedule.
    pub schedule: Schedule,
    /// What a change of it expects.
    pub revision: u64,
}

/// A schedule was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// There is no schedule of this name.
    #[error("there is no schedule {0}")]
    Unknown(ScheduleName),
    /// The change is refused.
    #[error(transparent)]
    Refused(E),
    /// Others changed it again and again meanwhile, or the server does not take it.
    #[error("the schedule was not changed: {0}")]
    NotStored(String),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How often a change is tried against others.
const TRIES: usize = 20;

/// Writes a schedule over the one with this revision; 0: there is none. The sequence of the answer
/// is the new revision.
pub async fn put(nats: &Nats, schedule: &Schedule, revision: u64) -> Published {
    nats.publisher(StreamKind::Schedules)
        .publish(Publication {
            subject: subject(nats, schedule.name()),
            payload: schedule.to_bytes().into(),
            expected: Some(revision),
            ..Publication::default()
        })
        .await
}

/// Reads a schedule. Where there is none, the revision that a new one expects is given.
///
/// # Errors
/// If there is no answer, or what is stored is no schedule.
pub async fn get(nats: &Nats, name: &ScheduleName) -> Result<Result<Stored, u64>, ReadError> {
    let stored = last_from_leader(nats, StreamKind::Schedules, &subject(nats, name)).await?;
    match stored {
        None => Ok(Err(0)),
        Some(stored) if is_marker(&stored) => Ok(Err(stored.stream_seq)),
        Some(stored) => read(name.as_str(), &stored).map(Ok),
    }
}

/// All schedules by name.
///
/// # Errors
/// If there is no answer, or what is stored is no schedule.
pub async fn list(nats: &Nats) -> Result<Vec<Stored>, ReadError> {
    let found = values(nats, StreamKind::Schedules, ">").await?;
    let mut schedules = Vec::with_capacity(found.len());
    for (name, stored) in found {
        schedules.push(read(&name, &stored)?);
    }
    schedules.sort_by(|one, other| one.schedule.name().cmp(other.schedule.name()));
    Ok(schedules)
}

/// Changes a schedule, and tries again where others change it meanwhile. The change may therefore
/// be made several times, each time to what is there then.
///
/// # Errors
/// See [`ChangeError`].
pub async fn change<T, E>(
    nats: &Nats,
    name: &ScheduleName,
    mut change: impl FnMut(&mut Schedule) -> Result<T, E>,
) -> Result<(Stored, T), ChangeError<E>> {
    for _ in 0..TRIES {
        let Ok(Stored { mut schedule, revision }) = get(nats, name).await? else {
            return Err(ChangeError::Unknown(name.clone()));
        };
        let before = schedule.to_bytes();
        let told = change(&mut schedule).map_err(ChangeError::Refused)?;
        if schedule.to_bytes() == before {
            return Ok((Stored { schedule, revision }, told));
        }
        let published = put(nats, &schedule, revision).await;
        if let Published::Stored { stream_seq: revision } = published {
            return Ok((Stored { schedule, revision }, told));
        }
        if !matches!(published, Published::Conflict { .. }) {
            return Err(ChangeError::NotStored(format!("{published:?}")));
        }
    }
    Err(ChangeError::NotStored("it changes all the time".to_owned()))
}

/// Removes a schedule; what it started goes on. `false`: there was none.
///
/// # Errors
/// See [`ChangeError`].
pub async fn delete(
    nats: &Nats,
    name: &ScheduleName,
) -> Result<bool, ChangeError<std::convert::Infallible>> {
    for _ in 0..TRIES {
        let Ok(Stored { revision, .. }) = get(nats, name).await? else { return Ok(false) };
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let (subject, expected) = (subject(nats, name), Some(revision));
        let deletion = Publication { subject, headers, expected, ..Publication::default() };
        let published = nats.publisher(StreamKind::Schedules).publish(deletion).await;
        if matches!(published, Published::Stored { .. }) {
            return Ok(true);
        }
        if !matches!(published, Published::Conflict { .. }) {
            return Err(ChangeError::NotStored(format!("{published:?}")));
        }
    }
    Err(ChangeError::NotStored("it changes all the time".to_owned()))
}

/// What there is of an execution that a schedule started, as the leaders say. What the engine
/// refused to start stands in PLED_DEAD.
///
/// # Errors
/// If there is no answer.
pub async fn seen(nats: &Nats, execution: &ExecutionId) -> Result<Seen, ReadError> {
    if let Some(newest) = journal::newest(nats, execution, true).await? {
        let has_ended = newest.entry.status.is_terminal();
        return Ok(if has_ended { Seen::Ended } else { Seen::Running });
    }
    let dead = format!("{}.dead.*.{execution}.*", nats.names().prefix());
    let Some(dead) = last_from_leader(nats, StreamKind::Dead, &dead).await? else {
        return Ok(Seen::Absent);
    };
    let reason = dead.header(DEAD_DETAIL).unwrap_or("the engine set the start aside");
    Ok(Seen::Refused(reason.into()))
}

/// Gives every schedule that is there and every later change, until it is dropped.
#[must_use]
pub fn watch(nats: &Nats) -> Watch {
    let filter = nats.names().key(StreamKind::Schedules, ">");
    let prefix = nats.names().key(StreamKind::Schedules, "");
    Watch { reader: Reader::start(nats, StreamKind::Schedules, filter, 1), prefix }
}

/// See [`watch`].
#[derive(Debug)]
pub struct Watch {
    reader: Reader,
    prefix: String,
}

/// News of a schedule.
#[derive(Debug)]
pub enum Changed {
    /// It is so now.
    Is(Box<Stored>),
    /// It is gone, by the change of this revision.
    Gone {
        /// Its name.
        name: String,
        /// The revision.
        revision: u64,
    },
    /// What is stored is no schedule.
    Damaged(ReadError),
}

impl Watch {
    /// The next news. Safe to drop before it is there.
    pub async fn next(&mut self) -> Changed {
        loop {
            let Read::Message(stored) = self.reader.next().await else { continue };
            let Some(name) = stored.subject.strip_prefix(&self.prefix) else { continue };
            if is_marker(&stored) {
                let (name, revision) = (name.to_owned(), stored.stream_seq);
                return Changed::Gone { name, revision };
            }
            return match read(name, &stored) {
                Ok(stored) => Changed::Is(Box::new(stored)),
                Err(error) => Changed::Damaged(error),
            };
        }
    }
}

fn subject(nats: &Nats, name: &ScheduleName) -> String {
    nats.names().key(StreamKind::Schedules, name.as_str())
}

fn read(name: &str, stored: &crate::codec::Stored) -> Result<Stored, ReadError> {
    let schedule = Schedule::from_bytes(&stored.payload)
        .map_err(|error| ReadError::corrupt(format!("the schedule {name}"), error))?;
    if schedule.name().as_str() != name {
        let reason = format!("it says that it is {}", schedule.name());
        return Err(ReadError::corrupt(format!("the schedule {name}"), reason));
    }
    Ok(Stored { schedule, revision: stored.stream_seq })
}
