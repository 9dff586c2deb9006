use std::time::Duration;

use pled_engine::entry::{FORMAT, JournalEntry};
use pled_engine::execution::{State, Status};
use pled_engine::id::{ExecutionId, Hash};
use pled_engine::partition::{Published, Snapshot};
use pled_engine::value::Value;
use pled_streams::journal::{follow, history, newest, publish_entry, range};
use pled_streams::{Nats, Publication, ReadError, StreamKind, snapshots};

use crate::{Installation, execution, soon};

/// An entry with its hash as it must be.
fn entry(id: &ExecutionId, seq: u64) -> JournalEntry {
    let mut entry = JournalEntry {
        v: FORMAT,
        execution: id.clone(),
        seq,
        template: "order@1".parse().unwrap(),
        template_hash: None,
        at: 1,
        prev: Hash::ZERO,
        hash: Hash::ZERO,
        causes: Vec::new(),
        transitions: Vec::new(),
        effects: Vec::new(),
        log: Vec::new(),
        status: Status::Running,
        base: None,
        state_hash: Hash::ZERO,
        state: Some(State::default()),
        engine: "1".into(),
        worker: "test".into(),
        epoch: 1,
    };
    let Value::Object(mut object) = Value::parse(&entry.encode().unwrap()).unwrap() else {
        panic!("an entry is an object")
    };
    object.remove("hash");
    entry.hash = Hash::of(&Value::Object(object).to_canonical());
    entry
}

async fn write(nats: &Nats, id: &ExecutionId, seq: u64, expected: u64) -> u64 {
    let bytes = entry(id, seq).encode().unwrap().into();
    let published = publish_entry(nats, nats.partition_of(id), id, expected, bytes).await;
    let Published::Stored { stream_seq } = published else { panic!("{published:?}") };
    stream_seq
}

#[tokio::test]
async fn the_entries_of_an_execution_are_found_newest_first_between_and_all() {
    let Installation { nats, server: _server } = Installation::start().await;
    let (id, other) = (execution("order-42"), execution("order-43"));
    for leader in [false, true] {
        assert!(newest(&nats, &id, leader).await.unwrap().is_none());
    }
    assert!(history(&nats, &id).await.unwrap().is_empty());

    let mut last = 0;
    let mut seqs = Vec::new();
    for seq in 1..=20 {
        last = write(&nats, &id, seq, last).await;
        seqs.push(last);
        write(&nats, &execution(&format!("z{seq}")), 1, 0).await;
    }
    write(&nats, &other, 1, 0).await;

    for leader in [false, true] {
        let found = newest(&nats, &id, leader).await.unwrap().unwrap();
        assert_eq!((found.stream_seq, found.entry.seq), (last, 20));
        assert_eq!(found.entry, entry(&id, 20));
    }
    let between = range(&nats, &id, seqs[4], Some(seqs[9])).await.unwrap();
    assert_eq!(between.iter().map(|found| found.entry.seq).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    let rest = range(&nats, &id, seqs[17], None).await.unwrap();
    assert_eq!(rest.iter().map(|found| found.entry.seq).collect::<Vec<_>>(), [18, 19, 20]);
    let all = history(&nats, &id).await.unwrap();
    assert_eq!(all.iter().map(|found| found.stream_seq).collect::<Vec<_>>(), seqs);
}

#[tokio::test]
async fn the_journal_is_followed_in_stream_order_and_a_damaged_entry_stops_it() {
    let Installation { nats, server: _server } = Installation::start().await;
    for n in 1..=300 {
        write(&nats, &execution(&format!("x{n}")), 1, 0).await;
    }
    let mut reader = follow(&nats, 101);
    let mut seqs = Vec::new();
    while seqs.len() < 200 {
        let batch = reader.next_batch(64, Duration::from_secs(10)).await.unwrap();
        assert!(!batch.is_empty() && batch.len() <= 64);
        seqs.extend(batch.iter().map(|found| found.stream_seq));
    }
    assert_eq!(seqs, (101..=300).collect::<Vec<u64>>());
    let none = reader.next_batch(64, Duration::from_millis(50)).await.unwrap();
    assert!(none.is_empty());

    let good = write(&nats, &execution("good"), 1, 0).await;
    let damaged = entry(&execution("bad"), 1).encode().unwrap();
    let damaged = String::from_utf8(damaged).unwrap().replace("running", "paused");
    nats.publisher(StreamKind::Journal)
        .publish(Publication {
            subject: "pled.journal.0.bad".into(),
            payload: damaged.into(),
            ..Publication::default()
        })
        .await;
    let mut got = Vec::new();
    let error = soon("the damaged entry", async {
        loop {
            match reader.next_batch(64, Duration::from_secs(1)).await {
                Ok(batch) => got.extend(batch.iter().map(|found| found.stream_seq)),
                Err(error) => break error,
            }
        }
    })
    .await;
    assert_eq!(got, [good]);
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
    assert!(reader.next_batch(64, Duration::from_secs(1)).await.is_err(), "it was passed over");
}

#[tokio::test]
async fn the_newest_snapshot_is_found_by_its_execution() {
    let Installation { nats, server: _server } = Installation::start().await;
    let id = execution("order-42");
    assert!(snapshots::get(&nats, &id).await.unwrap().is_none());

    for seq in 1..=3 {
        let snapshot = Snapshot {
            execution: Some(id.clone()),
            seq,
            hash: Hash::ZERO,
            at: 5,
            status: Status::Running,
            template: "order@1".parse().unwrap(),
            state: State::default(),
        };
        let put = snapshots::put(&nats, &id, &snapshot).await;
        assert!(matches!(put, Published::Stored { .. }), "{put:?}");
    }

    let found = snapshots::get(&nats, &id).await.unwrap().unwrap();
    assert_eq!((found.seq, found.execution), (3, Some(id)));
}
