//! `pled-logic-1` against the official cases of jsonlogic.com.

use pled_engine::expression::{Budget, Expression};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::Value;

#[test]
fn of_the_official_cases_271_hold_and_four_are_refused() {
    let cases = Value::parse(include_bytes!("data/jsonlogic.json")).unwrap();
    let cases: Vec<_> = cases.as_array().unwrap().iter().filter_map(Value::as_array).collect();
    assert_eq!(cases.len(), 275);

    let mut refused = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let [rule, data, expected] = case else { panic!("case {number} has other parts") };
        let node = Node::parse(&rule.to_string()).unwrap();
        let Some(rule) = Expression::compile_any_root(&node, &mut Findings::default()) else {
            refused.push(number);
            continue;
        };
        let found = rule.evaluate_any_root(data, &mut Budget { steps: 1_000, bytes: 10_000 });
        assert_eq!(found.as_ref(), Ok(expected), "case {number}: {rule:?}");
    }

    // They use `?:` or compute a path.
    assert_eq!(refused, [68, 69, 187, 203]);
}
