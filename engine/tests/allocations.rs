//! What must cost no memory: an event that nothing handles, and guards and rules that do not hold.

#![cfg(test)]

#[expect(dead_code, reason = "the tests of the step use the rest")]
mod life;

use allocation_counter::measure;
use life::{Life, json, machine, order};
use pled_engine::expression::EventView;
use pled_engine::rule::{RawEvent, emissions};
use pled_engine::statechart::{chart_from, macrostep};
use pled_engine::template::Template;
use pled_engine::value::Value;

fn event(event_type: &str, data: Value) -> EventView {
    EventView { event_type: event_type.into(), data, id: None, source: None, time: 0 }
}

/// How often memory is asked for when `event` acts on the states that `life` is in.
fn allocations(template: &Template, life: &Life, event: &EventView) -> u64 {
    let mut chart = chart_from(template, &life.now.state).unwrap();
    let mut handled = true;
    let counted = measure(|| {
        handled = macrostep(template, &mut chart, event).unwrap().handled;
    });
    assert!(!handled, "{event:?} is not to be handled");
    counted.count_total
}

#[test]
fn an_event_that_nothing_handles_asks_for_no_memory() {
    let order = Life::ordered();

    let noise = event("NOISE", json(r#"{"n":[1,2,3]}"#));
    assert_eq!(allocations(&order.template, &order, &noise), 0);
}

#[test]
fn neither_do_guards_that_do_not_hold() {
    let template = machine(
        r##""context":{"amount":4990,"lines":[{"sku":"a"},{"sku":"b"}]},"initial":"a",
        "states":{"b":{},"a":{"on":{
          "PAY":[
            {"target":"b","guard":{"and":[{">":[{"var":"context.amount"},100]},{"==":[{"var":"event.data.by"},"card"]}]}},
            {"target":"b","guard":{"some":[{"var":"context.lines"},{"==":[{"var":"sku"},"c"]}]}}],
          "PAY.*":{"target":"b","guard":{"in":[{"var":"event.type"},["x","y"]]}},
          "*":{"target":"b","guard":{"!":[{"inState":"machine.a"}]}}}}}"##,
    );
    let life = Life::started(&template, "null");

    let paid = event("PAY", json(r#"{"by":"transfer"}"#));
    assert_eq!(allocations(&template, &life, &paid), 0);
}

#[test]
fn neither_does_a_raw_event_that_no_rule_wants() {
    let order = order();
    let event = RawEvent {
        event_type: "order.flagged".into(),
        data: json(r#"{"order_id":"order-42","risk":3}"#),
        source: "backoffice".into(),
        id: Some("e-1".into()),
        time: 1,
    };

    let mut unmatched = false;
    let counted = measure(|| unmatched = emissions(&order, &event).is_unmatched());
    assert!(unmatched);
    assert_eq!(counted.count_total, 0);
}
