//! Reading a live system in the order in which it can be verified.

use pled_streams::scan::{extent, scan, scan_to};
use pled_streams::subject::{STREAMS, StreamKind};
use pled_streams::topology::Facts;
use pled_streams::{Nats, ReadError};

use crate::record::{FORMAT, Header, Place, Record};

/// Gives everything that a verification needs, in its order: see [`crate::record`]. The system may
/// go on meanwhile.
///
/// # Errors
/// If a stream cannot be read, or with the first error of `take`.
pub async fn walk<E: From<ReadError>>(
    nats: &Nats,
    facts: &Facts,
    mut take: impl FnMut(Record) -> Result<(), E>,
) -> Result<(), E> {
    let names = nats.names();
    let prefix = names.prefix().to_owned();
    // They are given after the header, but read before it says where the streams are.
    let mut positions = Vec::new();
    let filter = names.key(StreamKind::Locks, "position.>");
    scan(nats, StreamKind::Locks, Some(filter), |stored| {
        positions.push(stored);
        Ok::<_, E>(())
    })
    .await?;
    take(Record::Header(header(nats, facts).await?))?;
    let mut messages = 0;
    for stored in positions {
        messages += 1;
        take(Record::Message(StreamKind::Locks, stored))?;
    }
    // What waits in the server before what has fired: a timer that is missed in the first has
    // fired by the second. What is set aside after the inputs from which it was taken.
    for (kind, filter) in [
        (StreamKind::Snapshots, None),
        (StreamKind::Tasks, None),
        (StreamKind::Signals, None),
        (StreamKind::Timers, Some(format!("{prefix}.timers.>"))),
        (StreamKind::Timers, Some(format!("{prefix}.fired.>"))),
        (StreamKind::Events, None),
        (StreamKind::Ingest, None),
        (StreamKind::Dead, None),
    ] {
        if kind == StreamKind::Snapshots && !facts.snapshots {
            continue;
        }
        scan(nats, kind, filter, |stored| {
            messages += 1;
            take(Record::Message(kind, stored))
        })
        .await?;
    }
    // Whatever has an entry up to this end was started of a template that is there by now.
    let end = extent(nats, StreamKind::Journal).await?;
    let mut read = |kind, stored| {
        messages += 1;
        take(Record::Message(kind, stored))
    };
    let templates = StreamKind::Templates;
    scan(nats, templates, None, |stored| read(templates, stored)).await?;
    let journal = StreamKind::Journal;
    scan_to(nats, journal, None, &end, |stored| read(journal, stored)).await?;
    take(Record::End { messages })
}

async fn header(nats: &Nats, facts: &Facts) -> Result<Header, ReadError> {
    let mut header = Header {
        pled_export: FORMAT,
        prefix: nats.names().prefix().to_owned(),
        partitions: facts.partitions,
        incarnation: facts.incarnation.clone(),
        ..Header::default()
    };
    for kind in STREAMS {
        if kind == StreamKind::Snapshots && !facts.snapshots {
            continue;
        }
        let found = extent(nats, kind).await?;
        let place = Place { generation: found.generation, first: found.first, last: found.last };
        header.streams.insert(kind.word().to_owned(), place);
    }
    Ok(header)
}
