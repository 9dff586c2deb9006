//! `pled-logic-1` against the official cases of jsonlogic.com, and where it differs from other
//! implementations on purpose.

use pled_engine::expression::{Budget, Expression};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::Value;

const BUDGET: Budget = Budget { steps: 1_000, bytes: 10_000 };

fn compile(rule: &str) -> Option<Expression> {
    let node = Node::parse(rule).expect("a test's JSON");
    Expression::compile_any_root(&node, &mut Findings::default())
}

#[test]
fn of_the_official_cases_271_hold_and_four_are_refused() {
    let cases = Value::parse(include_bytes!("data/jsonlogic.json")).unwrap();
    let cases: Vec<_> = cases.as_array().unwrap().iter().filter_map(Value::as_array).collect();
    assert_eq!(cases.len(), 275);

    let mut refused = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let [rule, data, expected] = case else { panic!("case {number} has other parts") };
        let Some(compiled) = compile(&rule.to_string()) else {
            refused.push(number);
            continue;
        };
        let found = compiled.evaluate_any_root(data, &mut BUDGET.clone());
        assert_eq!(found.as_ref(), Ok(expected), "case {number}: {rule}");
    }

    // They use `?:` or compute a path.
    assert_eq!(refused, [68, 69, 187, 203]);
}

#[test]
fn the_deliberate_differences_are_those_of_their_page() {
    let page = include_str!("../../docs/logic-differences.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')))
        .map(Iterator::collect)
        .collect();
    assert!(rows.len() > 40);

    for row in rows {
        let [rule, data, ours, theirs, ..] = row[..] else { panic!("{row:?} has too few cells") };
        assert_eq!(evaluate(rule, data), ours, "PLED on {rule}, {data}");
        assert_eq!(evaluate_by_jsonlogic_rs(rule, data), theirs, "jsonlogic-rs on {rule}, {data}");
    }
}

fn evaluate(rule: &str, data: &str) -> String {
    let Some(rule) = compile(rule) else { return "refused".to_owned() };
    let data = Value::parse(data.as_bytes()).expect("a page's JSON");
    rule.evaluate_any_root(&data, &mut BUDGET.clone())
        .map_or_else(|_| "error".to_owned(), |value| value.to_string())
}

fn evaluate_by_jsonlogic_rs(rule: &str, data: &str) -> String {
    let json = |text: &str| serde_json::from_str(text).expect("a page's JSON");
    jsonlogic_rs::apply(&json(rule), &json(data))
        .map_or_else(|_| "error".to_owned(), |value: serde_json::Value| value.to_string())
}
