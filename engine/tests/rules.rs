//! Rules: what a raw event becomes.

use pled_engine::rule::{BadKey, Emission, Emissions, RawEvent, emissions};
use pled_engine::template::{Diagnostic, Template};
use pled_engine::value::Value;

const ORDER: &str = include_str!("../../examples/order-fulfilment.json");

fn order() -> Template {
    Template::parse(ORDER).expect("the example compiles")
}

fn with_rules(rules: &str) -> Result<Template, Vec<Diagnostic>> {
    let source =
        format!(r#"{{"pled":"1.0","logic":"pled-logic-1","id":"t","version":2,"rules":{rules}}}"#);
    Template::parse(&source).map_err(|invalid| invalid.errors)
}

fn event(source: &str, event_type: &str, data: &str) -> RawEvent {
    RawEvent {
        event_type: event_type.into(),
        data: Value::parse(data.as_bytes()).expect(data),
        source: source.into(),
        id: Some("e-1".into()),
        time: 1_764_000_000_000,
    }
}

/// `rule/index: key <- event data (start)`
fn told(emissions: &Emissions) -> Vec<String> {
    emissions.messages.iter().map(tell).collect()
}

fn tell(message: &Emission) -> String {
    let key = match &message.key {
        Ok(key) => key.to_string(),
        Err(bad) => format!("({bad})"),
    };
    let start = message.start.as_ref().map(|start| format!(" starts {start}")).unwrap_or_default();
    let Emission { rule, emit_index, event, data, .. } = message;
    format!("{rule}/{emit_index}: {key} <- {event} {data}{start}")
}

#[test]
fn a_new_order_starts_an_execution_of_the_rules_own_version() {
    let data = r#"{"order_id":"A-1","total_minor":4200,"line_count":2}"#;

    let made = emissions(&order(), &event("shop", "order.created", data));

    assert_eq!(
        told(&made),
        [
            r#"order-created/0: A-1 <- pled.init {"amount":4200,"lines":2,"orderId":"A-1"} starts order@3"#
        ]
    );
    assert_eq!(made.errors, []);
}

#[test]
fn an_order_is_held_from_a_risk_of_seventy() {
    let flagged = |risk: &str| {
        let data = format!(r#"{{"order_id":"A-1","risk":{risk}}}"#);
        told(&emissions(&order(), &event("backoffice", "order.flagged", &data)))
    };

    assert_eq!(flagged("70"), [r#"ops-hold/0: A-1 <- HOLD {"reason":"risk 70"}"#]);
    assert_eq!(flagged("69"), Vec::<String>::new());
}

#[test]
fn what_is_emitted_without_data_carries_that_of_the_raw_event() {
    let released = emissions(&order(), &event("backoffice", "order.released", r#"{"order_id":7}"#));
    let cancelled = emissions(&order(), &event("shop", "order.cancelled", r#"{"order_id":7}"#));

    assert_eq!(told(&released), [r#"ops-release/0: 7 <- RESUME {"order_id":7}"#]);
    assert_eq!(told(&cancelled), [r#"customer-cancel/0: 7 <- CANCEL {"order_id":7}"#]);
}

#[test]
fn a_rule_hears_only_its_source() {
    let data = r#"{"order_id":"A-1"}"#;

    assert!(emissions(&order(), &event("shop", "order.released", data)).is_unmatched());
    assert!(emissions(&order(), &event("", "order.released", data)).is_unmatched());
    assert!(!emissions(&order(), &event("backoffice", "order.released", data)).is_unmatched());
}

#[test]
fn all_rules_that_match_fire_in_order_and_emit_in_order() {
    let template = with_rules(
        r#"[{"id":"b","when":true,"emit":[{"key":"k","event":"ONE","data":{"n":{"var":"event.time"}}},
                                          {"key":"k","event":"TWO","start":true,"data":null}]},
            {"id":"never","when":{"var":"event.data.no"},"emit":[{"key":"k","event":"NO"}]},
            {"id":"a","source":"s","when":{"==":[{"var":"event.id"},"e-1"]},
             "emit":[{"key":{"var":"event.source"},"event":"pled.cancel"}]}]"#,
    )
    .unwrap();

    assert_eq!(
        told(&emissions(&template, &event("s", "x", "5"))),
        [
            r#"b/0: k <- ONE {"n":1764000000000}"#,
            "b/1: k <- pled.init null starts t@2",
            "a/0: s <- pled.cancel 5"
        ]
    );
}

#[test]
fn a_key_that_names_no_execution_is_told_and_the_rest_goes_its_way() {
    let template = with_rules(
        r#"[{"id":"r","when":true,"emit":[{"key":{"var":"event.data.key"},"event":"X"},
                                          {"key":{"/":[1,{"var":"event.data.zero"}]},"event":"Y"},
                                          {"key":"ok","event":"Z"}]}]"#,
    )
    .unwrap();
    let keys = |key: &str| {
        let data = format!(r#"{{"key":{key},"zero":0}}"#);
        let made = emissions(&template, &event("s", "x", &data));
        assert!(matches!(made.messages[1].key, Err(BadKey::Logic(_))));
        assert_eq!(made.messages[2].key.as_ref().unwrap().as_str(), "ok");
        made.messages[0].key.clone().map(|key| key.to_string())
    };

    assert_eq!(keys("-12").unwrap(), "-12");
    assert_eq!(keys("12.0").unwrap(), "12");
    assert_eq!(keys(r#""order-42""#).unwrap(), "order-42");
    for bad in [r#""a.b""#, r#""""#, r#""a*""#, "1.5", "null", "true", "[1]", "{}"] {
        assert!(matches!(keys(bad), Err(BadKey::NotAnId(_))), "{bad}");
    }
    assert!(keys(&format!("{:?}", "k".repeat(129))).is_err());
}

#[test]
fn a_rule_that_cannot_be_evaluated_does_not_fire_and_stops_no_other() {
    let template = with_rules(
        r#"[{"id":"bad","when":{"<":[{"var":"event.data"},1]},"emit":[{"key":"k","event":"X"}]},
            {"id":"half","when":true,"emit":[{"key":"k","event":"X","data":{"n":{"+":["x",1]}}},
                                             {"key":"k","event":"Y","data":1}]}]"#,
    )
    .unwrap();

    let made = emissions(&template, &event("s", "x", "{}"));

    assert_eq!(told(&made), ["half/1: k <- Y 1"]);
    let errors: Vec<_> =
        made.errors.iter().map(|error| (&*error.rule, error.emit_index, error.part)).collect();
    assert_eq!(errors, [("bad", None, "when"), ("half", Some(0), "data")]);
    assert!(!made.is_unmatched());
}

#[test]
fn each_rule_has_the_budget_to_itself() {
    let source = r#"{"pled":"1.0","logic":"pled-logic-1","id":"t","version":1,
        "limits":{"logic_steps":500},"rules":[
        {"id":"greedy","when":{"all":[{"var":"event.data"},{">":[{"var":""},0]}]},"emit":[{"key":"k","event":"X"}]},
        {"id":"modest","when":true,"emit":[{"key":"k","event":"Y"}]}]}"#;
    let template = Template::parse(source).unwrap();
    let data = format!("[{}1]", "1,".repeat(10_000));

    let made = emissions(&template, &event("s", "x", &data));

    assert_eq!(made.messages.len(), 1);
    assert_eq!(&*made.messages[0].rule, "modest");
    assert_eq!((&*made.errors[0].rule, made.errors[0].part), ("greedy", "when"));
}

#[test]
fn a_rule_sees_no_context() {
    let errors = with_rules(
        r#"[{"id":"r","when":{"var":"context.a"},"emit":[{"key":{"var":"context.a"},"event":"X"}]}]"#,
    )
    .unwrap_err();

    let pointers: Vec<&str> = errors.iter().map(|error| &*error.pointer).collect();
    assert_eq!(pointers.len(), 2);
    assert!(pointers[0].starts_with("/rules/0/when"));
    assert!(pointers[1].starts_with("/rules/0/emit/0/key"));
}
