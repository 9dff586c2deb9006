//! Schemas of event data.

use std::sync::Arc;

use pled_engine::message::Body;
use pled_engine::step::Verdict;
use pled_engine::template::{Diagnostic, Template};

use super::life::{Life, json, machine};
use super::{APPLIED, REJECTED};

fn shop() -> Arc<Template> {
    machine(
        r##""context":{"paid":0},"events":{
            "pled.init":{"schema":{"type":"object","required":["order"]}},
            "PAY":{"schema":{"type":"object","additionalProperties":false,"properties":{
                "amount":{"type":"integer","minimum":1},"code":{"pattern":"^[A-Z]+$"},
                "lines":{"type":"array","items":{"$ref":"#/$defs/line"}}},
                "$defs":{"line":{"required":["sku"]}}}},
            "FREE":{"description":"no schema"}},
        "initial":"on","states":{"on":{"on":{
            "PAY":{"actions":[{"type":"assign","params":{"paid":{"var":"event.data.amount"}}}]},
            "tell":{"actions":[{"type":"send","params":{"event":"PAY","data":{"var":"event.data"}}}]},
            "later":{"actions":[{"type":"send","params":
                {"event":"PAY","data":{"var":"event.data"},"delay_ms":5}}]}}}}"##,
    )
}

fn open() -> Life {
    Life::started(&shop(), r#"{"order":"o-1"}"#)
}

impl Life {
    fn cause_error(&self) -> &str {
        self.entry().causes.iter().find_map(|cause| cause.error.as_deref()).unwrap_or_default()
    }
}

#[test]
fn data_that_does_not_fit_is_rejected_with_its_place() {
    for (data, error) in [
        (
            r#"{"amount":"five"}"#,
            "the data of PAY at /amount is of another type (schema: /properties/amount/type)",
        ),
        (
            r#"{"amount":0}"#,
            "the data of PAY at /amount does not fit `minimum` (schema: /properties/amount/minimum)",
        ),
        (
            r#"{"code":"x"}"#,
            "the data of PAY at /code does not fit `pattern` (schema: /properties/code/pattern)",
        ),
        (
            r#"{"lines":[{"sku":1},{}]}"#,
            "the data of PAY at /lines/1 lacks the member \"sku\" (schema: /$defs/line/required)",
        ),
        (
            r#"{"amonut":1}"#,
            "the data of PAY may not have the member \"amonut\" (schema: /additionalProperties)",
        ),
        ("null", "the data of PAY is of another type (schema: /type)"),
    ] {
        let mut life = open();
        assert_eq!(life.receives("PAY", data), REJECTED, "{data}");
        assert_eq!(life.cause_error(), error);
        assert!(life.entry().transitions.is_empty());
        life.replays();
    }
    let mut life = open();
    assert_eq!(life.receives("PAY", r#"{"amount":5,"code":"AB","lines":[{"sku":0}]}"#), APPLIED);
    assert_eq!(life.context("paid"), "5");
}

#[test]
fn of_several_places_the_first_is_told_whatever_their_order() {
    let template = shop();
    let data = json(r#"{"code":1,"amount":"x","zz":1,"lines":[{}]}"#);
    let told: Vec<_> = (0..5).map(|_| template.check_data("PAY", &data).unwrap_err()).collect();
    assert!(told.iter().all(|violation| *violation == told[0]));
    assert_eq!(told[0].pointer, "");
}

#[test]
fn an_input_that_does_not_fit_starts_nothing_and_a_right_one_may_follow() {
    let mut life = Life::unborn(&shop());
    let wrong = life.start(r#"{"ordre":"o-1"}"#);
    let reason = "the data of pled.init lacks the member \"order\" (schema: /required)".to_owned();
    assert_eq!(life.take_one(&wrong), Verdict::Poison(reason));
    assert!(life.entries.is_empty());

    let right = life.start(r#"{"order":"o-1"}"#);
    assert_eq!(life.take_one(&right), APPLIED);
}

#[test]
fn an_event_that_starts_is_held_to_both_schemas() {
    let template = machine(
        r#""events":{"go":{"schema":{"type":"integer"}}},"initial":"a","states":{"a":{"on":{"go":"b"}},"b":{}}"#,
    );
    for (data, fits) in [("1", true), ("1.5", false)] {
        let mut life = Life::unborn(&template);
        let mut go = life.event("go", data);
        let Body::Event(event) = &mut go.body else { unreachable!() };
        event.start = Some("machine".parse().unwrap());
        let verdict = life.take_one(&go);
        assert_eq!(verdict == APPLIED, fits, "{verdict:?}");
    }
}

#[test]
fn sends_are_held_to_the_schema_whoever_makes_them() {
    let mut life = open();
    let from_other = life.send("order-41", "9-1", "PAY");
    assert_eq!(life.take_one(&from_other), REJECTED, "its data is null");

    life.receives("tell", r#"{"amount":"five"}"#);
    assert!(life.cause_error().contains("/amount"));
    assert_eq!(life.context("paid"), "0");
    life.receives("tell", r#"{"amount":5}"#);
    assert_eq!(life.context("paid"), "5");

    life.receives("later", r#"{"amount":"six"}"#);
    assert_eq!(life.fires("send"), REJECTED);
    assert!(life.cause_error().contains("/amount"));
    assert_eq!(life.context("paid"), "5");
    life.replays();
}

fn fault(schema: &str) -> Diagnostic {
    let source = format!(
        r#"{{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1","initial":"a",
            "states":{{"a":{{}}}},"events":{{"PAY":{{"schema":{schema}}}}}}}"#
    );
    Template::parse(&source).unwrap_err().errors.remove(0)
}

#[test]
fn what_is_no_schema_is_an_error_of_the_template_with_its_place() {
    for (schema, code, pointer) in [
        (r#"{"type":"strin"}"#, "E024", "/events/PAY/schema/type"),
        (
            r#"{"properties":{"a/b":{"minimum":"1"}}}"#,
            "E024",
            "/events/PAY/schema/properties/a~1b/minimum",
        ),
        (r#"{"pattern":"(?=x)"}"#, "E024", "/events/PAY/schema/pattern"),
        (r#"{"pattern":"(a)\\1"}"#, "E024", "/events/PAY/schema/pattern"),
        (
            r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#,
            "E024",
            "/events/PAY/schema/$schema",
        ),
        (
            r#"{"items":{"$ref":"https://example.org/x.json"}}"#,
            "E025",
            "/events/PAY/schema/items/$ref",
        ),
        (r##"{"items":{"$ref":"#/$defs/none"}}"##, "E025", "/events/PAY/schema"),
        (r#"7"#, "E003", "/events/PAY/schema"),
    ] {
        let fault = fault(schema);
        assert_eq!((fault.code, &*fault.pointer), (code, pointer), "{schema}: {}", fault.message);
    }
}

#[test]
fn a_schema_for_what_the_engine_makes_is_refused() {
    let source = r#"{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1","initial":"a",
        "states":{"a":{}},"events":{"done.invoke.x":{"schema":true}}}"#;
    assert_eq!(Template::parse(source).unwrap_err().errors[0].code, "E019");
}
