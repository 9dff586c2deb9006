//! Taking away what a loss left behind: for a recovery alone, while nothing else writes.

use crate::connection::Nats;
use crate::read::{ReadError, at_from_leader};
use crate::subject::StreamKind;

/// How far sequences leap: further than any life of a stream can have come.
const LEAP: u64 = 1_000_000_000;

/// Takes all messages of a stream away, and gives how many there were.
///
/// # Errors
/// If there is no answer.
pub async fn clear(nats: &Nats, kind: StreamKind) -> Result<u64, ReadError> {
    let purged = nats.stream(kind).purge().await;
    let purged = purged.map_err(|error| ReadError::unavailable(nats.names().stream(kind), error));
    Ok(purged?.purged)
}

/// Takes all messages of a stream under a subject away.
///
/// # Errors
/// If there is no answer.
pub async fn clear_under(nats: &Nats, kind: StreamKind, subject: &str) -> Result<u64, ReadError> {
    let purged = nats.stream(kind).purge().filter(subject).await;
    let purged = purged.map_err(|error| ReadError::unavailable(nats.names().stream(kind), error));
    Ok(purged?.purged)
}

/// Takes all messages of a stream away, and lets its sequences go on far behind, so that an
/// acknowledgement from a life that was lost meets none of its messages.
///
/// # Errors
/// If there is no answer.
pub async fn clear_and_leap(nats: &Nats, kind: StreamKind) -> Result<u64, ReadError> {
    let last = crate::scan::extent(nats, kind).await?.last;
    let purged = nats.stream(kind).purge().sequence(last + LEAP).await;
    let purged = purged.map_err(|error| ReadError::unavailable(nats.names().stream(kind), error));
    Ok(purged?.purged)
}

/// Takes one message away, if it is there.
///
/// # Errors
/// If there is no answer.
pub async fn remove(nats: &Nats, kind: StreamKind, stream_seq: u64) -> Result<(), ReadError> {
    match nats.stream(kind).delete_message(stream_seq).await {
        Ok(_) => Ok(()),
        Err(_) if at_from_leader(nats, kind, stream_seq).await?.is_none() => Ok(()),
        Err(error) => {
            let what = format!("{} {stream_seq}", nats.names().stream(kind));
            Err(ReadError::unavailable(what, error))
        }
    }
}
