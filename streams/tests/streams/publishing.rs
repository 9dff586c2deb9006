use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::jetstream;
use futures::future::join_all;
use pled_engine::partition::Published;
use pled_harness::{NatsOptions, wait_until};
use pled_streams::events::SendError;
use pled_streams::topology::Settings;
use pled_streams::{Publication, StreamKind};

use crate::{Installation, SOON, sent, soon};

fn entry(subject: &str, expected: u64) -> Publication {
    Publication {
        subject: format!("pled.journal.0.{subject}"),
        payload: subject.to_owned().into(),
        expected: Some(expected),
        ..Publication::default()
    }
}

fn durable() -> NatsOptions {
    NatsOptions { durable: true, ..NatsOptions::default() }
}

fn settings() -> Settings {
    Settings { partitions: 4, ..Settings::default() }
}

#[tokio::test]
async fn one_of_two_writers_wins_and_the_other_learns_what_is_there() {
    let Installation { nats, server: _server } = Installation::start().await;
    let journal = nats.publisher(StreamKind::Journal);

    let first = journal.publish(entry("x", 0)).await;
    assert_eq!(first, Published::Stored { stream_seq: 1 });

    assert_eq!(journal.publish(entry("x", 0)).await, Published::Conflict { last: Some(1) });
    assert_eq!(journal.publish(entry("x", 1)).await, Published::Stored { stream_seq: 2 });
    let other = journal.publish(entry("y", 1)).await;
    assert_eq!(other, Published::Conflict { last: Some(0) });
}

#[tokio::test]
async fn a_full_inbox_refuses_and_loses_nothing() {
    let mut small = settings();
    small.max_bytes = BTreeMap::from([(StreamKind::Events, 50_000)]);
    let Installation { nats, server: _server } =
        Installation::with(NatsOptions::default(), &small).await;

    let data = format!("\"{}\"", "x".repeat(1_000));
    let mut stored = 0;
    let refused = loop {
        match sent(&nats, "order-1", "PAY", &data).await {
            Ok(seq) => stored = seq,
            Err(error) => break error,
        }
    };

    assert!(matches!(refused, SendError::Full), "{refused}");
    assert!(stored > 20);
    let facts = pled_streams::inputs::facts(&nats).await.unwrap();
    assert_eq!((facts.events.first, facts.events.last), (1, stored));
}

#[tokio::test]
async fn what_is_larger_than_the_server_takes_is_refused_before_it_is_sent() {
    let Installation { nats, server: _server } = Installation::with(
        NatsOptions { max_payload_bytes: Some(10_000), ..NatsOptions::default() },
        &settings(),
    )
    .await;

    let data = format!("\"{}\"", "x".repeat(10_001));
    let error = sent(&nats, "order-1", "PAY", &data).await.unwrap_err();

    assert!(matches!(error, SendError::TooLarge), "{error}");
    assert_eq!(nats.max_payload(), 10_000);
}

#[tokio::test]
async fn batches_answer_each_message_with_its_own_sequence() {
    let Installation { nats, server } = Installation::with(durable(), &settings()).await;
    let journal = nats.publisher(StreamKind::Journal);
    let context = jetstream::new(nats.client().clone());
    let stream = context.get_stream("PLED_JOURNAL").await.unwrap();

    let subjects: Vec<String> = (0..1_000).map(|n| format!("x{n}")).collect();
    let answers = join_all(subjects.iter().map(|subject| journal.publish(entry(subject, 0)))).await;

    let mut batched = 0;
    for (subject, answer) in subjects.iter().zip(answers) {
        let Published::Stored { stream_seq } = answer else { panic!("{answer:?}") };
        let message = stream.direct_get(stream_seq).await.unwrap();
        assert_eq!(message.subject.as_str(), format!("pled.journal.0.{subject}"));
        assert_eq!(message.payload, subject.as_bytes());
        batched += usize::from(message.headers.get("Nats-Batch-Id").is_some());
    }
    assert!(batched > 900, "only {batched} of 1,000 went in batches");
    drop(server);
}

#[tokio::test]
async fn a_bad_member_of_a_batch_is_answered_alone_and_the_rest_is_stored() {
    let Installation { nats, server: _server } = Installation::with(durable(), &settings()).await;
    let journal = nats.publisher(StreamKind::Journal);
    for bad in ["x100", "x500", "x501"] {
        assert!(matches!(journal.publish(entry(bad, 0)).await, Published::Stored { .. }));
    }

    let subjects: Vec<String> = (0..1_000).map(|n| format!("x{n}")).collect();
    let expected = |subject: &str| if subject == "x700" { 99 } else { 0 };
    let publish = |subject: &String| journal.publish(entry(subject, expected(subject)));
    let answers = join_all(subjects.iter().map(publish)).await;

    for (subject, answer) in subjects.iter().zip(&answers) {
        let wanted = match &**subject {
            "x100" => Some(1),
            "x500" => Some(2),
            "x501" => Some(3),
            "x700" => Some(0),
            _ => None,
        };
        match (wanted, answer) {
            (None, Published::Stored { .. }) => {}
            (Some(last), Published::Conflict { last: Some(found) }) if last == *found => {}
            _ => panic!("{subject}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn signals_go_in_batches_though_their_stored_subject_is_another() {
    let Installation { nats, server: _server } = Installation::with(durable(), &settings()).await;
    let signals = nats.publisher(StreamKind::Signals);
    let signal = |n: usize| Publication {
        subject: format!("pled.signals.x{n}.result.1-0-1"),
        payload: "{\"ok\":true}".into(),
        expected: Some(0),
        ..Publication::default()
    };
    let there = signals.publish(signal(77)).await;
    assert_eq!(there, Published::Stored { stream_seq: 1 });

    let answers = join_all((0..200).map(|n| signals.publish(signal(n)))).await;

    let conflicts: Vec<usize> =
        (0..200).filter(|n| answers[*n] == Published::Conflict { last: Some(1) }).collect();
    assert_eq!(conflicts, [77]);
    let stored = |answer: &&Published| matches!(answer, Published::Stored { .. });
    assert_eq!(answers.iter().filter(stored).count(), 199);
}

#[tokio::test]
async fn messages_of_one_subject_keep_their_order_under_load() {
    let Installation { nats, server: _server } = Installation::with(durable(), &settings()).await;
    let events = nats.publisher(StreamKind::Events);

    let publish = |n: usize| {
        events.publish(Publication {
            subject: format!("pled.events.x{}.PAY", n % 3),
            payload: n.to_string().into(),
            ..Publication::default()
        })
    };
    let answers = join_all((0..600).map(publish)).await;

    let mut last = [0; 3];
    for (n, answer) in answers.into_iter().enumerate() {
        let Published::Stored { stream_seq } = answer else { panic!("{answer:?}") };
        assert!(stream_seq > last[n % 3], "message {n} overtook one of its subject");
        last[n % 3] = stream_seq;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_as_stored_survives_the_servers_kill_and_publishing_goes_on() {
    let Installation { nats, mut server } = Installation::start().await;
    let journal = nats.publisher(StreamKind::Journal).clone();
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = answered.clone();
    let answers = tokio::spawn(async move {
        join_all((0..20_000).map(|n| {
            let (answer, counter) = (journal.publish(entry(&format!("x{n}"), 0)), counter.clone());
            async move {
                let answer = answer.await;
                counter.fetch_add(1, Ordering::Relaxed);
                (n, answer)
            }
        }))
        .await
    });
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    wait_until(SOON, "some are answered", || async { answered.load(Ordering::Relaxed) > 500 })
        .await;
    let before = nats.server_id();
    server.kill();
    let answers = soon("the answers", answers).await.unwrap();
    server.restart().await;

    let mut stored = 0;
    for (n, answer) in answers {
        match answer {
            Published::Stored { stream_seq } => {
                stored += 1;
                if n % 50 == 0 {
                    let stream = context.get_stream("PLED_JOURNAL").await.unwrap();
                    let message = stream.direct_get(stream_seq).await.unwrap();
                    assert_eq!(message.subject.as_str(), format!("pled.journal.0.x{n}"));
                }
            }
            Published::Unknown => {}
            Published::Conflict { .. }
            | Published::Full
            | Published::TooLarge
            | Published::Refused(_) => panic!("{answer:?}"),
        }
    }
    assert!(stored > 500);
    wait_until(SOON, "publishing works again", || async {
        let answer = nats.publisher(StreamKind::Journal).publish(entry("after", 0)).await;
        matches!(answer, Published::Stored { .. } | Published::Conflict { .. })
    })
    .await;
    let now = nats.connections().borrow().clone();
    assert_eq!((now.connected, now.count), (true, 2));
    assert_eq!(now.server_id, nats.server_id());
    assert_ne!(now.server_id, before, "a restart gives the server another id");
}
