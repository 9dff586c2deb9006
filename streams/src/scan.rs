//! Reading a whole stream once, as it is stored: for tools that look at everything.

use std::time::Duration;

use crate::codec::Stored;
use crate::connection::Nats;
use crate::read::{ReadError, stream_state};
use crate::reader::{Read, Reader};
use crate::subject::StreamKind;

/// How long a stream may bring nothing while there is more in it.
const SILENCE: Duration = Duration::from_secs(20);

/// Where a stream is, how full, and what it is.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// Its generation.
    pub generation: u64,
    /// Its first sequence.
    pub first: u64,
    /// Its last sequence.
    pub last: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Where a stream is, from its leader.
///
/// # Errors
/// If there is no answer.
pub async fn extent(nats: &Nats, kind: StreamKind) -> Result<Extent, ReadError> {
    let state = stream_state(nats, kind).await?;
    Ok(Extent {
        generation: crate::topology::generation_of(&state.metadata),
        first: state.first_seq,
        last: state.last_seq,
        messages: state.messages,
        bytes: state.bytes,
    })
}

/// Gives every message of a stream under `filter` (all: `None`), in order, up to the end that the
/// stream has now. A bucket gives the newest value of each key, markers included.
///
/// # Errors
/// If the stream cannot be read, or with the first error of `each`.
pub async fn scan<E: From<ReadError>>(
    nats: &Nats,
    kind: StreamKind,
    filter: Option<String>,
    each: impl FnMut(Stored) -> Result<(), E>,
) -> Result<(), E> {
    let end = extent(nats, kind).await?;
    scan_to(nats, kind, filter, &end, each).await
}

/// As [`scan`], up to an end that was read before.
///
/// # Errors
/// If the stream cannot be read, or with the first error of `each`.
pub async fn scan_to<E: From<ReadError>>(
    nats: &Nats,
    kind: StreamKind,
    filter: Option<String>,
    end: &Extent,
    mut each: impl FnMut(Stored) -> Result<(), E>,
) -> Result<(), E> {
    if end.messages == 0 {
        return Ok(());
    }
    let filter = filter.unwrap_or_default();
    let mut reader = Reader::start(nats, kind, filter, end.first);
    loop {
        match tokio::time::timeout(SILENCE, reader.next()).await {
            Ok(Read::Message(stored)) => {
                let seq = stored.stream_seq;
                if seq <= end.last {
                    each(stored)?;
                }
                if seq >= end.last {
                    return Ok(());
                }
            }
            Ok(Read::CaughtUp(last)) if last >= end.last => return Ok(()),
            Ok(Read::CaughtUp(_)) => {}
            Err(_) => {
                let name = nats.names().stream(kind);
                return Err(ReadError::unavailable(name, "the stream is silent").into());
            }
        }
    }
}
