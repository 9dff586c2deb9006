//! What is read from a stream, and what is refused as no message: a table, and laws.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use pled_engine::id::{ExecutionId, Token};
use pled_engine::json::INTEGER_MAX;
use pled_engine::message::{
    Body, ChildCancel, ChildStart, Event, Failure, Message, Source, TaskOutcome, TaskResult,
};
use pled_engine::partition::{DeadReason, Malformed};
use pled_engine::value::Value;
use pled_streams::codec::{
    Stored, child_cancel_to_json, child_start_to_json, decode, is_reserved, outcome_of_json,
    outcome_to_json, percent_encoded,
};
use pled_streams::ingest::decode_raw;
use pled_streams::subject::{ChildSays, ResultToken, parse_send_token};
use pled_streams::{HeaderMap, Names};
use proptest::prelude::*;

fn names() -> Names {
    Names::new("pled").unwrap()
}

fn stored(subject: &str, headers: &[(&'static str, &str)], payload: &[u8]) -> Stored {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    Stored {
        subject: subject.to_owned(),
        headers: Some(map),
        payload: payload.to_vec().into(),
        stream_seq: 7,
        time: 1_000,
        pending: 0,
    }
}

fn read(source: Source, stored: &Stored) -> Result<Message, Malformed> {
    decode(&names(), source, 3, stored)
}

fn event(subject: &str, headers: &[(&'static str, &str)], payload: &[u8]) -> Event {
    let message = read(Source::Events, &stored(subject, headers, payload)).unwrap();
    assert_eq!((message.generation, message.stream_seq, message.time), (3, 7, 1_000));
    let Body::Event(event) = message.body else { panic!("no event") };
    event
}

fn refusal(
    source: Source,
    subject: &str,
    headers: &[(&'static str, &str)],
    payload: &[u8],
) -> Malformed {
    read(source, &stored(subject, headers, payload)).unwrap_err()
}

const PAY: &str = "pled.inbox.3.order-42.PAY";

#[test]
fn an_event_without_headers_has_its_payload_alone() {
    let plain = event(PAY, &[], b"");
    assert_eq!((plain.event_type.as_str(), plain.data), ("PAY", Value::Null));
    assert_eq!((plain.id, plain.origin, plain.start, plain.emitted), (None, None, None, None));

    let dotted = event("pled.inbox.3.order-42.order.line.added", &[], br#"{"b":1,"a":1.0}"#);
    assert_eq!(dotted.event_type.as_str(), "order.line.added");
    assert_eq!(dotted.data.to_string(), r#"{"a":1,"b":1}"#);
}

#[test]
fn a_cloud_event_is_taken_in_both_modes_and_our_own_id_stands_above_its() {
    let binary = [("ce-id", "1"), ("ce-source", "/shop/%C3%A4%20x"), ("ce-type", "OTHER")];
    let plain = event(PAY, &binary, b"5");
    assert_eq!(plain.event_type.as_str(), "PAY");
    assert_eq!(plain.origin.as_deref(), Some("/shop/\u{e4} x"));
    assert_eq!(plain.id.as_deref(), Some("/shop/\u{e4} x 1"));

    let own = [("ce-id", "1"), ("ce-source", "/shop"), ("Pled-Event-Id", "mine")];
    assert_eq!(event(PAY, &own, b"5").id.as_deref(), Some("mine"));

    let structured = event(
        PAY,
        &[("Content-Type", "application/cloudevents+json; charset=utf-8")],
        br#"{"specversion":"1.0","id":"9","source":"/shop","type":"OTHER","data":{"a":1}}"#,
    );
    assert_eq!(structured.id.as_deref(), Some("/shop 9"));
    assert_eq!(structured.data.to_string(), r#"{"a":1}"#);
}

#[test]
fn what_parents_and_children_say_is_read_as_it_was_written() {
    let (parent, child): (ExecutionId, ExecutionId) =
        ("order-42".parse().unwrap(), "order-42_7_0".parse().unwrap());
    let (token, task): (Token, Token) = ("9-1".parse().unwrap(), "7-0".parse().unwrap());
    let stored_as = |published: String| published.replacen("pled.signals.", "pled.signal.3.", 1);
    let said = |subject: String, payload: Vec<u8>| {
        read(Source::Signals, &stored(&stored_as(subject), &[], &payload)).unwrap()
    };

    let start = ChildStart {
        parent: parent.clone(),
        token,
        task,
        attempt: 2,
        depth: 3,
        template: "parcel@1".parse().unwrap(),
        // Computed, and beyond what the door takes.
        input: serde_json::from_str(r#"{"n":18014398509481984}"#).unwrap(),
    };
    let subject = names().child(&child, ChildSays::Start, &parent, token);
    assert_eq!(subject, "pled.signals.order-42_7_0.child.start-order-42-9-1");
    let message = said(subject, child_start_to_json(&start));
    assert_eq!(message.execution, child);
    assert_eq!(message.body, Body::ChildStart(start));

    let cancel = ChildCancel { parent: parent.clone(), token, task, attempt: 2 };
    let subject = names().child(&child, ChildSays::Cancel, &parent, token);
    let message = said(subject, child_cancel_to_json(&cancel));
    assert_eq!(message.body, Body::ChildCancel(cancel));

    let outcome = TaskOutcome::Ok(Value::from("delivered"));
    let subject = names().child_done(&parent, task, 2);
    assert_eq!(subject, "pled.signals.order-42.child.done-7-0-2");
    let message = said(subject, outcome_to_json(&outcome));
    let done = TaskResult { task, attempt: 2, outcome };
    assert_eq!((message.execution, message.body), (parent, Body::ChildDone(done)));
}

#[test]
fn what_no_parent_or_child_says_is_malformed() {
    for (token, payload, word) in [
        ("start-order-1-0", "{", "JSON"),
        ("start-order-1", "{}", "<parent>"),
        ("start-order-1-0", r#"{"attempt":1,"depth":1,"task":"1-0"}"#, "template"),
        ("start-order-1-0", r#"{"attempt":-1,"depth":1,"task":"1-0","template":"a@1"}"#, "attempt"),
        ("start-order-1-0", r#"{"attempt":1,"task":"1-0","template":"a@1"}"#, "depth"),
        ("cancel-order-1-0", r#"{"attempt":1}"#, "task"),
        ("done-1-0", "{}", "<entry>"),
        ("done-1-0-1-started", "{}", "<entry>"),
        ("other-order-1-0", r#"{"attempt":1,"task":"1-0"}"#, "other"),
        ("", "{}", "<parent>"),
    ] {
        let subject = format!("pled.signal.3.order.child.{token}");
        let refused = refusal(Source::Signals, &subject, &[], payload.as_bytes());
        assert_eq!(refused.reason, DeadReason::Malformed, "{token}");
        assert!(refused.detail.contains(word), "{token}: {}", refused.detail);
    }
}

#[test]
fn what_is_no_event_goes_where_its_reason_says() {
    let cloud = ("Content-Type", "application/cloudevents+json");
    for (subject, headers, payload, reason, word) in [
        (PAY, &[][..], &b"{"[..], DeadReason::Malformed, "not JSON"),
        (PAY, &[], b"{\"a\":1,\"a\":2}", DeadReason::Malformed, "twice"),
        (PAY, &[], b"9007199254740993", DeadReason::Malformed, "JSON"),
        (PAY, &[], b"\xff", DeadReason::Malformed, "UTF-8"),
        (PAY, &[("Pled-Template", "a@0")], b"", DeadReason::Malformed, "Pled-Template"),
        (PAY, &[("ce-source", "%zz")], b"", DeadReason::Malformed, "percent"),
        (PAY, &[cloud], b"[]", DeadReason::Malformed, "object"),
        (PAY, &[cloud], b"{\"id\":1}", DeadReason::Malformed, "string"),
        (PAY, &[cloud], b"{\"data_base64\":\"eA==\"}", DeadReason::Malformed, "binary"),
        ("pled.inbox.3.x.done.invoke.a", &[], b"", DeadReason::ReservedType, "reserved"),
        ("pled.inbox.3.x.pled.what", &[], b"", DeadReason::ReservedType, "reserved"),
        ("pled.inbox.3.x.pled.emit.PAY", &[], b"", DeadReason::Malformed, "Pled-Sender"),
        (
            "pled.inbox.3.x.pled.emit.PAY",
            &[("Pled-Sender", "rules-1/x/0")],
            b"",
            DeadReason::Malformed,
            "Pled-Sender",
        ),
        (
            "pled.inbox.3.x.pled.emit.error.a",
            &[("Pled-Sender", "rules-1/1/0")],
            b"",
            DeadReason::ReservedType,
            "reserved",
        ),
        ("pled.inbox.3.x.a b", &[], b"", DeadReason::Malformed, "event type"),
    ] {
        let refused = refusal(Source::Events, subject, headers, payload);
        assert_eq!(refused.reason, reason, "{subject} {headers:?}");
        assert!(refused.detail.contains(word), "{:?} lacks {word:?}", refused.detail);
        assert!(refused.execution.is_some());
    }
    for subject in ["pled.inbox.3.x", "pled.signal.3.x.PAY", "shop.inbox.3.x.PAY", "", "pled"] {
        assert_eq!(refusal(Source::Events, subject, &[], b"").execution, None, "{subject}");
    }
    let long = format!("pled.inbox.3.{}.PAY", "x".repeat(129));
    assert_eq!(refusal(Source::Events, &long, &[], b"").reason, DeadReason::Malformed);
}

#[test]
fn an_outcome_is_sent_to_a_client_also_of_what_is_no_message_but_never_to_ourselves() {
    let reply = |subject: &str| {
        let refused = refusal(Source::Events, PAY, &[("Pled-Reply", subject)], b"{");
        refused.reply.map(|reply| reply.to_string())
    };
    assert_eq!(reply("_INBOX.a.1").as_deref(), Some("_INBOX.a.1"));
    assert_eq!(reply("pledge.answers").as_deref(), Some("pledge.answers"));
    for subject in
        ["pled.journal.1.x", "pled", "$JS.API.X", "$SYS.x", "a.*", "a.>", "a b", "a..b", ".a", ""]
    {
        assert_eq!(reply(subject), None, "{subject}");
    }
}

#[test]
fn the_public_door_takes_control_events_and_refuses_the_engines_own() {
    for allowed in [
        "pled.init",
        "pled.cancel",
        "pled.pause",
        "pled.resume",
        "pled.terminate",
        "pled.migrate",
        "pled.incident",
    ] {
        assert!(!is_reserved(allowed));
    }
    for reserved in
        ["pled.x", "pled", "pled.init.x", "done", "done.state.a", "error.x", "after.1.a"]
    {
        assert!(is_reserved(reserved), "{reserved}");
    }
    assert!(!is_reserved("doner.x") && !is_reserved("order.done.x"));
}

#[test]
fn a_result_that_is_none_fails_its_task_and_a_signal_that_is_none_is_refused() {
    let result = |payload: &[u8]| {
        let stored = stored("pled.signal.3.x.result.7-0-2", &[], payload);
        let Body::Result(result) = read(Source::Signals, &stored).unwrap().body else { panic!() };
        assert_eq!((result.task, result.attempt), (Token { entry: 7, index: 0 }, 2));
        result.outcome
    };
    assert_eq!(result(b"{\"ok\":true}"), TaskOutcome::Ok(Value::Null));
    let TaskOutcome::Failed(failure) = result(b"{\"ok\":false,\"error\":{\"code\":\"x\"}}") else {
        panic!()
    };
    assert_eq!((&*failure.code, failure.retryable), ("x", true));
    for bad in [
        &b""[..],
        b"nonsense",
        b"{}",
        b"{\"ok\":1}",
        b"{\"ok\":false}",
        b"{\"ok\":false,\"error\":{\"code\":\"\"}}",
        b"{\"ok\":false,\"error\":{\"code\":\"x\",\"retryable\":1}}",
    ] {
        let TaskOutcome::Failed(failure) = result(bad) else { panic!("{bad:?}") };
        assert_eq!((&*failure.code, failure.retryable), ("bad_result", false));
    }

    for (rest, payload) in [
        ("result.7-0", &b"{\"ok\":true}"[..]),
        ("result.7-0-x", b"{\"ok\":true}"),
        ("result.7-0-+2", b"{\"ok\":true}"),
        ("send.a-1-0", b"{}"),
        ("send.1-0", b"{}"),
        ("other.1", b""),
        ("result", b""),
    ] {
        let refused = refusal(Source::Signals, &format!("pled.signal.3.x.{rest}"), &[], payload);
        assert_eq!(refused.reason, DeadReason::Malformed, "{rest}");
    }
}

#[test]
fn a_send_carries_also_what_the_public_door_refuses() {
    let large = Value::from_f64(1e19).unwrap();
    let send = |kind: &str, data: &[u8]| {
        read(
            Source::Signals,
            &stored("pled.signal.3.x.send.a-b-1-0", &[("Pled-Event", kind)], data),
        )
    };

    let message = send("order.DONE", &large.to_canonical()).unwrap();
    let Body::Send(sent) = message.body else { panic!() };
    assert_eq!((sent.sender.as_str(), sent.token), ("a-b", Token { entry: 1, index: 0 }));
    assert_eq!((sent.event_type.as_str(), sent.data), ("order.DONE", large));

    assert_eq!(send("a b", b"1").unwrap_err().reason, DeadReason::Malformed);
    assert_eq!(send("A", b"{").unwrap_err().reason, DeadReason::Malformed);
}

#[test]
fn the_time_of_a_timer_is_when_it_was_due_or_when_it_fired_before_that() {
    let fired = stored("pled.fired.3.order-42.9-1", &[("Pled-Due", "900")], b"");
    let message = read(Source::Timers, &fired).unwrap();
    assert_eq!(message.time, 900);
    assert_eq!(message.body, Body::Fired { timer: Token { entry: 9, index: 1 } });

    let early = stored("pled.fired.3.x.9-1", &[("Pled-Due", "9007199254740991")], b"");
    assert_eq!(read(Source::Timers, &early).unwrap().time, early.time);

    for (subject, due) in [
        ("pled.fired.3.x.9-1", "soon"),
        ("pled.fired.3.x.9-1", "-5"),
        ("pled.fired.3.x.9", "900"),
        ("pled.fired.3.x.9-1.2", "900"),
    ] {
        let refused = refusal(Source::Timers, subject, &[("Pled-Due", due)], b"");
        assert_eq!(refused.reason, DeadReason::Malformed, "{subject}");
    }
}

#[test]
fn a_raw_event_is_what_its_subject_and_payload_say() {
    let raw = stored("pled.raw.2.shop.order.created", &[("ce-id", "1")], b"{\"a\":[]}");
    let event = decode_raw(&names(), &raw).unwrap();
    assert_eq!((&*event.source, event.event_type.as_str()), ("shop", "order.created"));
    assert_eq!((event.id.as_deref(), event.time), (Some(" 1"), 1_000));

    for subject in ["pled.raw.2.shop", "pled.inbox.2.shop.x", "pled.raw.2.sh op.x"] {
        assert!(decode_raw(&names(), &stored(subject, &[], b"")).is_err(), "{subject}");
    }
}

#[test]
fn what_is_nested_too_deep_for_an_entry_to_hold_is_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));

    assert!(event(PAY, &[], nested(64).as_bytes()).data.as_array().is_some());
    let wide = format!("[{}]", vec!["[[]]"; 100].join(","));
    assert!(event(PAY, &[], wide.as_bytes()).data.as_array().is_some());
    for depth in [65, 125, 100_000] {
        let refused = refusal(Source::Events, PAY, &[], nested(depth).as_bytes());
        assert!(refused.detail.contains("nested deeper"), "{}", refused.detail);
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::Int),
        // A worker cannot give an integral number beyond 2^53: the door refuses its text.
        (-1e15..1e15).prop_filter_map("finite", Value::from_f64),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn outcomes() -> impl Strategy<Value = TaskOutcome> {
    let pause = prop::option::of(0..=INTEGER_MAX);
    let failure = (".{1,20}", any::<String>(), values(), any::<bool>(), pause);
    prop_oneof![
        values().prop_map(TaskOutcome::Ok),
        failure.prop_map(|(code, message, details, retryable, retry_after_ms)| {
            TaskOutcome::Failed(Failure {
                code: code.into(),
                message,
                details,
                retryable,
                retry_after_ms,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn an_outcome_is_read_as_it_was_written(outcome in outcomes()) {
        prop_assert_eq!(outcome_of_json(&outcome_to_json(&outcome)), outcome);
    }

    #[test]
    fn tokens_are_read_as_they_were_written(
        sender in "[A-Za-z0-9_-]{1,128}",
        entry: u64,
        index: u32,
        attempt: u32,
        started: bool,
    ) {
        let task = Token { entry, index };
        let token = ResultToken { task, attempt, started };
        prop_assert_eq!(ResultToken::parse(&token.to_string()), Some(token));

        let sender: ExecutionId = sender.parse().unwrap();
        let to: ExecutionId = "x".parse().unwrap();
        let subject = names().send(&to, &sender, task);
        let token = subject.strip_prefix("pled.signals.x.send.").unwrap();
        prop_assert_eq!(parse_send_token(token), Some((sender, task)));
    }

    #[test]
    fn what_a_stream_transformed_is_found_under_its_published_subject(
        execution in "[A-Za-z0-9_-]{1,20}",
        words in "[A-Z]{1,5}(\\.[A-Z]{1,5}){0,3}",
        partition in 0..64_u16,
    ) {
        for (stored, published) in [("inbox", "events"), ("signal", "signals"), ("raw", "ingest")] {
            let stored = format!("pled.{stored}.{partition}.{execution}.{words}");
            let published = format!("pled.{published}.{execution}.{words}");
            prop_assert_eq!(names().published(&stored), Some(published));
        }
    }

    #[test]
    fn an_origin_goes_through_a_header_unharmed(origin in any::<String>()) {
        let encoded = percent_encoded(&origin);
        prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
        let read = event(PAY, &[("ce-source", &encoded)], b"");
        prop_assert_eq!(read.origin.as_deref(), Some(&*origin));
    }

    #[test]
    fn nothing_that_is_stored_makes_reading_panic(
        subject in "(pled\\.)?(inbox|signal|fired|raw)?(\\.[a-zA-Z0-9_%-]{0,6}){0,6}",
        payload in prop::collection::vec(any::<u8>(), 0..64),
        header in "[ -~]{0,20}",
    ) {
        let headers = [
            ("Pled-Event-Id", &*header), ("Pled-Template", &*header), ("Pled-Reply", &*header),
            ("Pled-Sender", &*header), ("Pled-Due", &*header), ("ce-id", &*header),
            ("ce-source", &*header), ("Content-Type", &*header),
        ];
        let stored = stored(&subject, &headers, &payload);
        for source in [Source::Events, Source::Signals, Source::Timers, Source::Own] {
            let _ = read(source, &stored);
        }
        let _ = decode_raw(&names(), &stored);
    }
}
