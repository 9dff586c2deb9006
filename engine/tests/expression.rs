//! `pled-logic-1` against the official cases of jsonlogic.com, and where it differs on purpose.

use pled_engine::expression::{Budget, EvalError, EventView, Expression, Mapping, Roots, Scope};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::{Object, Value};

const BUDGET: Budget = Budget { steps: 100_000, bytes: 1_000_000 };

fn event(data: &str) -> EventView {
    EventView {
        event_type: "PAY".into(),
        data: Value::parse(data.as_bytes()).expect("a valid test value"),
        id: Some("e-1".into()),
        source: None,
        time: 1_700,
    }
}

fn compile(rule: &str) -> Result<Expression, Vec<(String, String)>> {
    let node = Node::parse(rule).expect("a valid test value");
    let mut findings = Findings::default();
    let states = |id: &str| (id == "paid").then_some(3);
    let roots = Roots { context: true, item: false, states: Some(&states) };
    Expression::compile(&node, roots, &mut findings).ok_or_else(|| {
        let found = findings.into_found();
        assert!(!found.is_empty(), "{rule} is refused without a reason");
        found.into_iter().map(|error| (error.code.to_owned(), error.message)).collect()
    })
}

fn evaluate(rule: &str, context: &str, data: &str) -> Result<Value, EvalError> {
    let Value::Object(context) = Value::parse(context.as_bytes()).expect("a valid test value")
    else {
        panic!()
    };
    let event = event(data);
    let scope = Scope { context: Some(&context), event: &event, item: None, active: &[0, 3] };
    compile(rule).expect("a valid test value").evaluate(&scope, &mut BUDGET.clone())
}

fn text(rule: &str) -> String {
    match evaluate(
        rule,
        r#"{"n":7,"s":"abc","list":[1,2,3],"gone":null,"o":{"k":{"d":5}}}"#,
        r#"{"x":2}"#,
    ) {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn of_the_official_cases_271_hold_and_four_are_refused() {
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("data/jsonlogic.json")).unwrap();
    let cases: Vec<_> = cases.as_array().unwrap().iter().filter(|case| case.is_array()).collect();
    assert_eq!(cases.len(), 275);
    let mut refused = Vec::new();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let value = |index: usize| Value::parse(case[index].to_string().as_bytes()).unwrap();
        let node = Node::parse(&case[0].to_string()).unwrap();
        let mut findings = Findings::default();
        let Some(rule) = Expression::compile_any_root(&node, &mut findings) else {
            refused.push(number);
            continue;
        };
        let found = rule.evaluate_any_root(&value(1), &mut BUDGET.clone());
        if found != Ok(value(2)) {
            wrong.push(format!("{number}: {case} gives {found:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(refused, [68, 69, 187, 203]);
}

#[test]
fn values_are_those_of_the_profile() {
    for (rule, expected) in [
        (r#"{"/":[6,2]}"#, "3"),
        (r#"{"===":[1,1.0]}"#, "true"),
        (r#"{"-":[0]}"#, "0"),
        (r#"{"*":[9007199254740991,2]}"#, "18014398509481982"),
        (r#"{"==":[null,0]}"#, "false"),
        (r#"{">":[null,-1]}"#, "true"),
        (r#"{"==":["1",1]}"#, "true"),
        (r#"{"===":["1",1]}"#, "false"),
        (r#"{"==":["0x10",16]}"#, "true"),
        (r#"{"<":["10","9"]}"#, "true"),
        (r#"{"<":["10",9]}"#, "false"),
        (r#"{"<":["a",9]}"#, "false"),
        (r#"{"<":[1,2,3]}"#, "true"),
        (r#"{"==":[{"var":"context.list"},[1,2,3]]}"#, "true"),
        (r#"{"!!":[{"var":"context.o"}]}"#, "true"),
        (r#"{"!!":["0"]}"#, "true"),
        (r#"{"!!":[[]]}"#, "false"),
        (r#"{"substr":["añb😀c",2,2]}"#, "\"b😀\""),
        (r#"{"substr":["abcdef",-3,-1]}"#, "\"de\""),
        (r#"{"cat":["a",1,null,true,1.5]}"#, "\"a1true1.5\""),
        (r#"{"var":["context.gone","default"]}"#, "null"),
        (r#"{"var":["context.nowhere","default"]}"#, "\"default\""),
        (r#"{"var":["context.gone.deep","default"]}"#, "\"default\""),
        (r#"{"var":"context.o.k.d"}"#, "5"),
        (r#"{"var":"context.list.1"}"#, "2"),
        (r#"{"var":"event.data.x"}"#, "2"),
        (r#"{"var":"event.time"}"#, "1700"),
        (
            r#"{"var":"event"}"#,
            r#"{"data":{"x":2},"id":"e-1","source":null,"time":1700,"type":"PAY"}"#,
        ),
        (
            r#"{"missing":["context.s","context.gone","event.data.y"]}"#,
            r#"["context.gone","event.data.y"]"#,
        ),
        (r#"{"inState":"paid"}"#, "true"),
        (r#"{"!":{"inState":"paid"}}"#, "false"),
        (r#"{"in":[{"var":"context.n"},[1,7]]}"#, "true"),
        (
            r#"{"reduce":[{"var":"context.list"},{"+":[{"var":"current"},{"var":"accumulator"}]},0]}"#,
            "6",
        ),
        (r#"{"map":[{"var":"context.list"},{"*":[{"var":""},2]}]}"#, "[2,4,6]"),
        (r#"{"all":[[],true]}"#, "false"),
        (r#"{"none":[[],true]}"#, "true"),
    ] {
        assert_eq!(text(rule), expected, "{rule}");
    }
}

#[test]
fn what_has_no_value_is_an_error() {
    for (rule, reason) in [
        (r#"{"+":["a",1]}"#, "no finite number"),
        (r#"{"+":[null,1]}"#, "takes numbers"),
        (r#"{"+":[true,1]}"#, "takes numbers"),
        (r#"{"/":[1,0]}"#, "no finite number"),
        (r#"{"%":[1,0]}"#, "no finite number"),
        (r#"{"*":[1e308,10]}"#, "no finite number"),
        (r#"{"<":[[1],2]}"#, "cannot be ordered"),
        (r#"{"cat":[[1]]}"#, "takes texts"),
    ] {
        let found = text(rule);
        assert!(found.starts_with("error") && found.contains(reason), "{rule}: {found}");
    }
}

#[test]
fn data_is_never_logic() {
    let data = r#"{"rules":[{"var":"context.secret"},{"==":[1,1]}]}"#;
    let rule = r#"{"some":[{"var":"event.data.rules"},{"==":[{"var":""},true]}]}"#;
    assert_eq!(evaluate(rule, r#"{"secret":true}"#, data), Ok(Value::Bool(false)));

    let default = r#"{"var":["event.data.none",{"var":"event.data.rules.0"}]}"#;
    let found = evaluate(default, r#"{"secret":1}"#, data).unwrap();
    assert_eq!(found.to_string(), r#"{"var":"context.secret"}"#);
}

#[test]
fn what_is_not_of_the_profile_is_refused_with_its_reason() {
    for (rule, code, reason) in [
        (r#"{"vra":"context.x"}"#, "E100", "no operator"),
        (r#"{"log":"x"}"#, "E100", "not part of"),
        (r#"{"?:":[1,2,3]}"#, "E100", "not part of"),
        (r#"{"var":{"var":"context.x"}}"#, "E102", "written out"),
        (r#"{"var":"x"}"#, "E102", "must begin"),
        (r#"{"var":"event.payload"}"#, "E102", "no field"),
        (
            r#"{"map":[{"var":"context.l"},{"reduce":[[],{"var":"context.x"},0]}]}"#,
            "E102",
            "must begin",
        ),
        (r#"{"==":[1]}"#, "E101", "takes 2 operands"),
        (r#"{"<":[1,2,3,4]}"#, "E101", "takes 2 to 3"),
        (r#"{"a":1,"b":2}"#, "E104", "one key"),
        (r#"{"==":[{"inState":"paid"},true]}"#, "E105", "cannot stand here"),
        (r#"{"inState":"nowhere"}"#, "E105", "no state"),
    ] {
        let found = compile(rule).unwrap_err();
        assert!(found.iter().any(|(c, m)| c == code && m.contains(reason)), "{rule}: {found:?}");
    }
    let deep = format!("{}1{}", r#"{"!":["#.repeat(40), "]}".repeat(40));
    assert!(compile(&deep).is_ok());
    let deep = format!("{}1{}", r#"{"!":"#.repeat(70), "}".repeat(70));
    assert_eq!(compile(&deep).unwrap_err()[0].0, "E103");
    let wide = format!(r#"{{"cat":[{}1]}}"#, r#"{"cat":[1,2,3]},"#.repeat(255));
    assert_eq!(compile(&wide).unwrap_err()[0].0, "E103");
}

#[test]
fn bombs_end_in_a_budget_error() {
    let doubling = r#"{"reduce":[{"var":"event.data"},{"cat":[{"var":"accumulator"},{"var":"accumulator"}]},"x"]}"#;
    let ones = format!("[{}1]", "1,".repeat(60));
    assert_eq!(evaluate(doubling, "{}", &ones), Err(EvalError::Budget("produced bytes")));

    let quadratic = r#"{"all":[{"var":"event.data"},{"in":[{"var":""},{"merge":[[]]}]}]}"#;
    assert_eq!(evaluate(quadratic, "{}", &ones), Ok(Value::Bool(false)));
    let nested = r#"{"map":[{"var":"event.data"},{"reduce":[{"var":""},{"+":[{"var":"accumulator"},1]},0]}]}"#;
    let inner = format!("[{}1]", "1,".repeat(999));
    let many = format!("[{}[]]", format!("{inner},").repeat(200));
    assert_eq!(evaluate(nested, "{}", &many), Err(EvalError::Budget("evaluation steps")));
}

#[test]
fn mappings_are_templates_with_expressions_in_them() {
    let mapping = |source: &str, params: bool| {
        let node = Node::parse(source).unwrap();
        let mut findings = Findings::default();
        let roots = Roots { context: true, item: true, states: None };
        let mapping = if params {
            Mapping::compile_params(&node, roots, &mut findings)
        } else {
            Mapping::compile(&node, roots, &mut findings)
        };
        let mapping = mapping.unwrap_or_else(|| panic!("{:?}", findings.into_found()));
        let context: Object = [("n", Value::Int(7))].into_iter().collect();
        let event = event("{}");
        let item = Value::from("it");
        let scope =
            Scope { context: Some(&context), event: &event, item: Some((&item, 4)), active: &[] };
        mapping.evaluate(&scope, &mut BUDGET.clone()).unwrap().to_string()
    };

    let nested =
        r#"{"a":{"var":"context.n"},"b":{"c":[1,{"+":[{"var":"context.n"},1]}],"max":5,"d":"x"}}"#;
    assert_eq!(mapping(nested, false), r#"{"a":7,"b":{"c":[1,8],"d":"x","max":5}}"#);
    assert_eq!(mapping(r#"{"max":[5,{"var":"context.n"}]}"#, false), "7");
    assert_eq!(mapping(r#"{"max":5}"#, true), r#"{"max":5}"#);
    assert_eq!(mapping(r#"{"a":{"$literal":{"var":"x"}}}"#, true), r#"{"a":{"var":"x"}}"#);
    assert_eq!(mapping(r#"[{"var":"item"},{"var":"index"}]"#, false), r#"["it",4]"#);
}
