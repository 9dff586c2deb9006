//! What comes in by the three doors is read as it was meant, and what is no message is set aside.

use futures::StreamExt;
use pled_engine::entry::Outcome;
use pled_engine::execution::Status;
use pled_engine::message::{Body, Failure, Source, TaskOutcome};
use pled_engine::partition::{DeadReason, Published, Reply};
use pled_engine::value::Value;
use pled_streams::dead::{self, DeadStored, set_aside_stored};
use pled_streams::events::{EventToSend, send};
use pled_streams::ingest::{RawArriving, publish_raw, subscribe_raw};
use pled_streams::inputs::get;
use pled_streams::signals::{publish_result, publish_send};
use pled_streams::subject::partition_of_token;
use pled_streams::{actions, reply};

use crate::{Installation, event, event_type, execution, soon, token};

#[tokio::test]
async fn an_event_arrives_with_everything_that_was_said_of_it() {
    let Installation { nats, server: _server } = Installation::start().await;
    let sent = EventToSend {
        event_id: Some("e-1".into()),
        template: Some("order@3".parse().unwrap()),
        reply: Some("_INBOX.me.7".into()),
        origin: Some("https://shop/\u{e4} \"x\"%".into()),
        ..event("order-42", "order.PAY", r#"{"amount":1}"#)
    };
    let seq = send(&nats, sent).await.unwrap();
    let emitted = EventToSend { emitted: Some(("rules-3".into(), 17, 2)), ..event("o", "PAY", "") };
    let emitted = send(&nats, emitted).await.unwrap();

    let message = get(&nats, Source::Events, seq).await.unwrap().unwrap().unwrap();
    assert_eq!(message.reply.as_deref(), Some("_INBOX.me.7"));
    let Body::Event(event) = message.body else { panic!() };
    assert_eq!(event.event_type.as_str(), "order.PAY");
    assert_eq!(event.id.as_deref(), Some("e-1"));
    assert_eq!(event.start.unwrap().to_string(), "order@3");
    assert_eq!(event.origin.as_deref(), Some("https://shop/\u{e4} \"x\"%"));
    assert_eq!(event.data, Value::parse(br#"{"amount":1}"#).unwrap());

    let message = get(&nats, Source::Events, emitted).await.unwrap().unwrap().unwrap();
    let Body::Event(event) = message.body else { panic!() };
    assert_eq!((event.event_type.as_str(), event.data), ("PAY", Value::Null));
    assert_eq!(event.emitted, Some(("rules-3".into(), 17, 2)));
}

#[tokio::test]
async fn signals_arrive_as_results_and_sends() {
    let Installation { nats, server: _server } = Installation::start().await;
    let failed = TaskOutcome::Failed(Failure {
        code: "declined".into(),
        message: "no \u{1f4b3}".into(),
        details: Value::from("x"),
        retryable: false,
        retry_after_ms: None,
    });
    let subject = "pled.signals.order-42.result.7-0-2";
    publish_result(&nats, subject, &TaskOutcome::Started).await;
    publish_result(&nats, subject, &failed).await;
    let sent = publish_send(
        &nats,
        &execution("order-41-7"),
        token("9-1"),
        &execution("order-42"),
        &event_type("SHIPPED"),
        &Value::from(true),
    );
    assert_eq!(sent.await, Published::Stored { stream_seq: 3 });

    for (seq, outcome) in [(1, TaskOutcome::Started), (2, failed)] {
        let message = get(&nats, Source::Signals, seq).await.unwrap().unwrap().unwrap();
        assert_eq!(message.execution, execution("order-42"));
        let Body::Result(result) = message.body else { panic!() };
        assert_eq!((result.task, result.attempt), (token("7-0"), 2));
        assert_eq!(result.outcome, outcome);
    }
    let message = get(&nats, Source::Signals, 3).await.unwrap().unwrap().unwrap();
    let Body::Send(send) = message.body else { panic!() };
    assert_eq!((send.sender, send.token), (execution("order-41-7"), token("9-1")));
    assert_eq!((send.event_type, send.data), (event_type("SHIPPED"), Value::from(true)));
}

#[tokio::test]
async fn raw_events_are_read_in_order_by_their_source() {
    let Installation { nats, server: _server } = Installation::start().await;
    let kind = event_type("order.created");
    for n in 0..5 {
        let id = format!("e{n}");
        publish_raw(&nats, "shop", &kind, n.to_string().into(), Some(&id)).await.unwrap();
    }
    assert!(publish_raw(&nats, "a.b", &kind, "1".into(), None).await.is_err());

    let mut subscription = subscribe_raw(&nats, partition_of_token("shop", 4), 1);
    let mut got = Vec::new();
    while got.len() < 5 {
        if let RawArriving::Arrival(arrival) = soon("an event", subscription.next()).await {
            let event = arrival.event.unwrap();
            assert_eq!((&*event.source, event.event_type.as_str()), ("shop", "order.created"));
            got.push((event.id.unwrap().to_string(), event.data.as_int().unwrap()));
        }
    }
    assert_eq!(got[4], ("e4".to_owned(), 4));
    assert!(got.is_sorted());
}

#[tokio::test]
async fn what_is_set_aside_is_there_once_with_its_cause_headers_and_payload() {
    let Installation { nats, server: _server } = Installation::start().await;
    let client = nats.client();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Pled-Event-Id", "e-1");
    headers.insert("traceparent", "00-1-2-03");
    headers.insert("Nats-Msg-Id", "order-42:e-1");
    let request = async_nats::Request::new().headers(headers).payload("{\"half".into());
    client.send_request("pled.events.order-42.PAY", request).await.unwrap();
    let malformed = get(&nats, Source::Events, 1).await.unwrap().unwrap().unwrap_err();
    assert_eq!(malformed.reason, DeadReason::Malformed);

    let record = DeadStored {
        reason: malformed.reason,
        detail: format!("{}\nwith a second line", malformed.detail),
        execution: malformed.execution,
        source: Source::Events,
        generation: 1,
        stream_seq: 1,
    };
    let first = set_aside_stored(&nats, record.clone()).await;
    assert_eq!(first, Published::Stored { stream_seq: 1 });
    let again = set_aside_stored(&nats, record).await;
    assert_eq!(again, Published::Conflict { last: Some(1) });

    let found = dead::list(&nats, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].reason, &*found[0].origin), ("malformed", "events-1-1"));
    assert_eq!(found[0].execution, Some(execution("order-42")));
    assert_eq!(found[0].payload, "{\"half");
    assert!(found[0].subject.starts_with("pled.inbox."));
    assert!(found[0].detail.contains("not JSON"));
    assert_eq!(found[0].headers.get("traceparent").unwrap().as_str(), "00-1-2-03");
    assert!(dead::drop_record(&nats, 1).await.unwrap());
    assert!(!dead::drop_record(&nats, 1).await.unwrap());
}

#[tokio::test]
async fn outcomes_go_to_whoever_asked_and_never_into_our_own_streams() {
    let Installation { nats, server: _server } = Installation::start().await;
    let inbox = nats.client().new_inbox();
    let mut answers = nats.client().subscribe(inbox.clone()).await.unwrap();
    let outcome = |subject: &str| Reply {
        subject: subject.into(),
        execution: Some(execution("x")),
        seq: Some(1),
        outcome: "applied".into(),
        status: Some(Status::Running),
        configuration: vec!["a".into()],
        error: None,
        repeat: false,
    };

    reply::reply(&nats, &outcome("pled.events.y.PAY")).await;
    reply::reply(&nats, &outcome("$JS.API.STREAM.DELETE.PLED_EVENTS")).await;
    reply::reply(&nats, &outcome(&inbox)).await;

    let answer = soon("the outcome", answers.next()).await.unwrap();
    let value = Value::parse(&answer.payload).unwrap();
    assert_eq!(value.get("outcome").and_then(Value::as_str), Some("applied"));
    let stored = pled_streams::inputs::facts(&nats).await.unwrap();
    assert_eq!(stored.events.last, 0);
    assert_eq!(serde_json::to_string(&Outcome::Applied).unwrap(), "\"applied\"");
}

#[tokio::test]
async fn bindings_of_actions_are_kept_and_watched() {
    let Installation { nats, server: _server } = Installation::start().await;
    let mut watch = actions::watch(&nats);
    assert_eq!(soon("the end", watch.next()).await, actions::Changed::CaughtUp);

    actions::put(&nats, "payments.charge", "{}".into()).await;
    assert!(matches!(actions::put(&nats, "a b", "{}".into()).await, Published::Refused(_)));

    assert_eq!(actions::get(&nats, "payments.charge").await.unwrap().unwrap(), "{}");
    assert_eq!(actions::list(&nats).await.unwrap().len(), 1);
    let bound = soon("the binding", async {
        loop {
            let changed = watch.next().await;
            if changed != actions::Changed::CaughtUp {
                break changed;
            }
        }
    })
    .await;
    let action = "payments.charge".to_owned();
    assert_eq!(bound, actions::Changed::Bound { action, binding: "{}".into() });
}
