//! What pictures of templates promise.
#![cfg(test)]

use std::time::{Duration, Instant};

use pled_authoring::draw::{InvalidPath, Path, Step, mermaid, svg};
use pled_engine::template::Template;
use pled_engine::value::Value;

const ORDER: &str = include_str!("../../examples/order-fulfilment.json");
const APPROVAL: &str = include_str!("../../examples/approval.json");

#[test]
fn the_examples_in_mermaid() {
    insta::assert_snapshot!("order_mermaid", mermaid(&template(ORDER), None));
    insta::assert_snapshot!("approval_mermaid", mermaid(&template(APPROVAL), None));
}

#[test]
fn the_examples_in_svg() {
    insta::assert_snapshot!("order_svg", svg(&template(ORDER), None));
    insta::assert_snapshot!("approval_svg", svg(&template(APPROVAL), None));
}

#[test]
fn the_picture_in_the_documents_is_that_of_the_example() {
    let drawn = include_str!("../../docs/order-fulfilment.svg");

    assert!(
        svg(&template(ORDER), None) == drawn,
        "make it anew: pled draw examples/order-fulfilment.json --out docs/order-fulfilment.svg"
    );
}

#[test]
fn a_path_marks_what_was_visited_what_was_taken_and_where_it_is() {
    let order = template(ORDER);
    let steps = [event("done.invoke.charge", r#"{"charge_id":"c"}"#), event("HOLD", "{}")];

    let path = Path::simulate(&order, value(r#"{"orderId":"o","amount":5,"lines":1}"#), &steps);
    let path = path.unwrap();

    let ids = |states: &std::collections::BTreeSet<u32>| {
        states.iter().map(|state| order.state(*state).id.to_string()).collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!(ids(&path.current), @"order onHold");
    insta::assert_snapshot!(
        ids(&path.states),
        @"order checking active payment charging fulfilment shipping booking invoicing issuing onHold"
    );
    assert_eq!(path.transitions.len(), 3);
    let drawn = mermaid(&order, Some(&path));
    assert!(drawn.contains("active --> onHold : ✓ HOLD"), "{drawn}");
    assert!(drawn.contains("class onHold current"), "{drawn}");
    assert!(drawn.contains("class charging visited"), "{drawn}");
    let drawn = svg(&order, Some(&path));
    assert_eq!(drawn.matches("<g class=\"now\">").count(), 3);
    assert!(drawn.contains("The execution is in onHold."), "{drawn}");
}

#[test]
fn an_event_that_only_the_engine_makes_is_no_step_of_a_path() {
    let steps = [event("NOTHING", "null"), event("pled.init", "null")];

    let refused = Path::simulate(&template(ORDER), Value::Null, &steps).unwrap_err();

    assert!(matches!(refused, InvalidPath::Step { step: 2, .. }), "{refused}");
}

#[test]
fn texts_of_a_template_stay_texts() {
    let hostile = r#"{"pled":"1.0","logic":"pled-logic-1","id":"t","version":1,"initial":"end",
        "description":"</title><script>alert(1)</script>",
        "states":{
          "end":{"description":"]]> & \" ' <img onerror=x>",
            "entry":[{"type":"assign","params":{"a\"><b":"</text><script>"}}],
            "on":{"A":{"guard":{"==":[{"var":"context.x"},"\"><script>\n%%{init}%%\n"]},"target":"state"}}},
          "state":{"on":{"B":{"target":"end","actions":[{"type":"raise","params":{"event":"C"}}]}}}}}"#;
    let template = template(hostile);

    let drawn = svg(&template, None);
    let text = mermaid(&template, None);

    for picture in [&drawn, &text] {
        assert!(!picture.contains("<script") && !picture.contains("<img"), "{picture}");
    }
    assert!(drawn.contains("&lt;/title&gt;&lt;script&gt;"), "{drawn}");
    assert!(text.matches('"').count().is_multiple_of(2), "{text}");
    assert!(!text.contains("%%"), "{text}");
    // Words of Mermaid's own are no names.
    assert!(text.contains("state \"end\" as end_1"), "{text}");
}

#[test]
fn a_thousand_states_are_drawn_in_seconds_and_the_same_each_time() {
    for source in [wide(1_000), deep(1_000)] {
        let template = template(&source);
        let began = Instant::now();

        let first = svg(&template, None);
        let text = mermaid(&template, None);

        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(first, svg(&template, None));
        assert_eq!(text, mermaid(&template, None));
    }
}

/// A chain of states with jumps back and forth, all in one.
fn wide(count: usize) -> String {
    let mut seed = 7_usize;
    let states: Vec<String> = (0..count)
        .map(|at| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let jump = (at + (seed >> 40) % 12).saturating_sub(4).min(count - 1);
            let next = (at + 1).min(count - 1);
            format!(r##""s{at}":{{"on":{{"A":"#t.s{next}","B":"#t.s{jump}"}}}}"##)
        })
        .collect();
    chart(&states.join(","), "s0")
}

/// Groups of ten, with transitions from the inside of one to the inside of another.
fn deep(count: usize) -> String {
    let groups = count / 10;
    let groups: Vec<String> = (0..groups)
        .map(|group| {
            let next = (group + 1) % groups;
            let states: Vec<String> = (0..9)
                .map(|at| {
                    let on = format!(
                        r##"{{"A":"#t.g{group}.s{}","B":"#t.g{next}.s{at}"}}"##,
                        (at + 1) % 9
                    );
                    format!(r#""s{at}":{{"on":{on}}}"#)
                })
                .collect();
            format!(r#""g{group}":{{"initial":"s0","states":{{{}}}}}"#, states.join(","))
        })
        .collect();
    chart(&groups.join(","), "g0")
}

fn chart(states: &str, initial: &str) -> String {
    format!(
        r#"{{"pled":"1.0","logic":"pled-logic-1","id":"t","version":1,"initial":"{initial}","states":{{{states}}}}}"#
    )
}

fn template(source: &str) -> Template {
    Template::parse(source).unwrap()
}

fn event(name: &str, data: &str) -> Step {
    Step { after_ms: 0, event: Some((name.parse().unwrap(), value(data))) }
}

fn value(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}
