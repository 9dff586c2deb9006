//! The ingest door: raw events become messages for executions, in order, and none is lost.

use std::time::Duration;

use pled_engine::message::{Body, Event, Source};
use pled_harness::{NatsOptions, wait_until};
use pled_streams::topology::Settings;
use pled_streams::{Nats, StreamKind, ingest, locks};
use pled_workers::rules::{self, RulesConfig};
use pled_workers::{CancellationToken, Partitions};
use tokio::task::JoinHandle;

use crate::{Installation, SOON, kill};

/// Orders that are created and then confirmed twice, by two rules and in one emit list.
const ORDER: &str = r#"{
  "pled": "1.0", "id": "order", "version": 1, "logic": "pled-logic-1",
  "rules": [
    { "id": "created", "source": "shop", "when": { "==": [{ "var": "event.type" }, "order.created"] },
      "emit": [ { "start": true, "key": { "var": "event.data.id" }, "event": "pled.init" } ] },
    { "id": "paid", "source": "shop", "when": { "==": [{ "var": "event.type" }, "order.paid"] },
      "emit": [ { "key": { "var": "event.data.id" }, "event": "PAID", "data": { "n": { "var": "event.data.n" } } },
                { "key": { "var": "event.data.id" }, "event": "THANKED" } ] }
  ],
  "initial": "waiting",
  "states": { "waiting": { "on": { "PAID": "paid" } }, "paid": { "type": "final" } }
}"#;

impl Installation {
    fn evaluate(&self, worker: &str) -> (JoinHandle<()>, CancellationToken) {
        let shutdown = CancellationToken::new();
        let config = RulesConfig {
            partitions: Partitions::All,
            lease_ttl: Duration::from_secs(2),
            ..RulesConfig::new(worker)
        };
        let run = rules::run(self.nats.clone(), config, shutdown.clone());
        (tokio::spawn(async move { run.await.unwrap() }), shutdown)
    }

    async fn raw(&self, source: &str, kind: &str, data: &str, id: Option<&str>) -> u64 {
        let (kind, data) = (kind.parse().unwrap(), data.to_owned().into());
        ingest::publish_raw(&self.nats, source, &kind, data, id).await.unwrap()
    }

    /// What was emitted, as (execution, type, data).
    async fn emitted(&self, count: usize) -> Vec<(String, Event)> {
        let event = |body: Body| match body {
            Body::Event(event) => event,
            other @ (Body::Result(_)
            | Body::Send(_)
            | Body::ChildStart(_)
            | Body::ChildCancel(_)
            | Body::ChildDone(_)
            | Body::Fired { .. }) => panic!("{other:?}"),
        };
        let messages = self.messages(Source::Events, count).await;
        messages
            .into_iter()
            .map(|message| (message.execution.to_string(), event(message.body)))
            .collect()
    }

    async fn wait_until_ingest_is_done(&self, last: u64) {
        wait_until(SOON, "every raw event is done", || async {
            for partition in 0..self.nats.partitions() {
                if done(&self.nats, partition).await <= last {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// Below which sequence a partition is done.
async fn done(nats: &Nats, partition: u16) -> u64 {
    let (position, _) = locks::read_position(nats, "rules", partition).await.unwrap().unwrap();
    position.inputs["ingest"].next
}

fn shown(emitted: &[(String, Event)]) -> Vec<String> {
    let show = |(execution, event): &(String, Event)| {
        format!("{execution} {} {}", event.event_type, event.data)
    };
    emitted.iter().map(show).collect()
}

#[tokio::test]
async fn a_raw_event_becomes_messages_in_the_order_of_the_rules() {
    let installation = Installation::start().await;
    installation.register(ORDER).await;
    let (worker, shutdown) = installation.evaluate("r1");

    installation.raw("shop", "order.created", r#"{"id":"o1"}"#, Some("e1")).await;
    installation.raw("shop", "order.paid", r#"{"id":"o1","n":1}"#, Some("e2")).await;
    let last = installation.raw("shop", "order.paid", r#"{"id":"o1","n":2}"#, None).await;
    let emitted = installation.emitted(5).await;
    installation.wait_until_ingest_is_done(last).await;
    shutdown.cancel();
    worker.await.unwrap();

    assert_eq!(
        shown(&emitted),
        [
            r#"o1 pled.init {"id":"o1"}"#,
            r#"o1 PAID {"n":1}"#,
            r#"o1 THANKED {"id":"o1","n":1}"#,
            r#"o1 PAID {"n":2}"#,
            r#"o1 THANKED {"id":"o1","n":2}"#,
        ]
    );
    let event = |at: usize| &emitted[at].1;
    assert_eq!(event(0).start.as_ref().unwrap().to_string(), "order@1");
    assert_eq!(event(0).origin.as_deref(), Some("shop"));
    let places: Vec<_> = (0..5).map(|at| event(at).emitted.clone().unwrap()).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    assert!(event(1).id.is_some() && event(1).id != event(2).id);
    assert_eq!(event(3).id, None);
}

#[tokio::test]
async fn what_no_rule_wants_and_what_names_nobody_is_set_aside_and_the_rest_goes_on() {
    let installation = Installation::start().await;
    installation.register(ORDER).await;
    let (_worker, _shutdown) = installation.evaluate("r1");

    installation.raw("shop", "order.lost", "{}", None).await;
    installation.raw("shop", "order.created", r#"{"id":"not an id"}"#, None).await;
    installation.raw("shop", "order.created", "no JSON", None).await;
    let last = installation.raw("shop", "order.created", r#"{"id":"o1"}"#, None).await;
    installation.wait_until_ingest_is_done(last).await;

    let mut reasons: Vec<String> =
        installation.dead().await.into_iter().map(|(reason, _)| reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["bad-key", "malformed", "unmatched"]);
    assert_eq!(shown(&installation.emitted(1).await), [r#"o1 pled.init {"id":"o1"}"#]);
}

#[tokio::test]
async fn a_killed_rule_worker_leaves_nothing_out_and_keeps_each_executions_order() {
    let installation = Installation::start().await;
    installation.register(ORDER).await;
    const EVENTS: u64 = 2_000;
    let mut last = 0;
    for n in 0..EVENTS {
        let data = format!(r#"{{"id":"o{}","n":{n}}}"#, n % 7);
        last = installation.raw("shop", "order.paid", &data, None).await;
    }

    let (dying, _) = installation.evaluate("r1");
    wait_until(SOON, "some are emitted", || async {
        pled_streams::inputs::facts(&installation.nats).await.unwrap().events.last > 100
    })
    .await;
    kill(dying).await;
    let (_worker, _shutdown) = installation.evaluate("r2");
    installation.wait_until_ingest_is_done(last).await;

    // Some are there twice: those that the first worker had published and not yet counted as done.
    let stored = pled_streams::inputs::facts(&installation.nats).await.unwrap().events.last;
    let emitted = installation.emitted(usize::try_from(stored).unwrap()).await;
    for order in 0..7 {
        let own = emitted.iter().filter(|(execution, _)| *execution == format!("o{order}"));
        let mut taken = Vec::new();
        let mut newest = (0, 0);
        for (_, event) in own {
            let (_, sequence, index) = event.emitted.clone().unwrap();
            // What its receiver does with repeats.
            if (sequence, index) > newest {
                newest = (sequence, index);
                if event.event_type.as_str() == "PAID" {
                    taken.push(
                        u64::try_from(event.data.get("n").unwrap().as_int().unwrap()).unwrap(),
                    );
                }
            }
        }
        let expected: Vec<u64> = (0..EVENTS).filter(|n| n % 7 == order).collect();
        assert_eq!(taken, expected, "order {order}");
    }
}

#[tokio::test]
async fn a_full_inbox_makes_rules_wait_and_loses_nothing() {
    let max_bytes = [(StreamKind::Events, 64 << 10)].into();
    let settings = Settings { partitions: 1, max_bytes, ..Settings::default() };
    let installation = Installation::with(NatsOptions::default(), settings).await;
    installation.register(ORDER).await;
    let filler = "x".repeat(4_000);
    let mut last = 0;
    for n in 0..40 {
        let data = format!(r#"{{"id":"o1","n":{n},"filler":"{filler}"}}"#);
        last = installation.raw("shop", "order.paid", &data, None).await;
    }

    let (_worker, _shutdown) = installation.evaluate("r1");
    wait_until(SOON, "the inbox is full", || async {
        let first = pled_streams::events::send(
            &installation.nats,
            crate::event("other", "FILL", &format!(r#""{filler}""#)),
        );
        matches!(first.await, Err(pled_streams::events::SendError::Full))
    })
    .await;
    assert!(done(&installation.nats, 0).await <= last);
    installation.empty_inbox_until_done(last).await;
}

impl Installation {
    /// Takes what is in the inbox away, as often as it takes until ingest is done, and holds what
    /// was taken against the order of the events.
    async fn empty_inbox_until_done(&self, last: u64) {
        let mut subscription = pled_streams::inputs::subscribe(&self.nats, 0, Source::Events, 1);
        let mut taken = Vec::new();
        let reading = async {
            while taken.len() < 40 {
                let arriving = subscription.next().await;
                let pled_streams::inputs::Arriving::Arrival(arrival) = arriving else { continue };
                let seq = arrival.stream_seq;
                if let Body::Event(event) = arrival.message.unwrap().body
                    && event.event_type.as_str() == "PAID"
                {
                    taken.push(event.data.get("n").unwrap().as_int().unwrap());
                }
                self.purge_inbox(seq).await;
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("all that was emitted");
        self.wait_until_ingest_is_done(last).await;
        assert_eq!(taken, (0..40).collect::<Vec<i64>>());
    }

    /// Purges PLED_EVENTS up to a sequence, as maintenance would.
    async fn purge_inbox(&self, up_to: u64) {
        let subject =
            format!("$JS.API.STREAM.PURGE.{}", self.nats.names().stream(StreamKind::Events));
        let payload = format!(r#"{{"seq":{}}}"#, up_to + 1);
        self.nats.client().request(subject, payload.into()).await.unwrap();
    }
}
