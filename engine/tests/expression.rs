//! `pled-logic-1`: what expressions and mappings give, what is refused, and that all of it ends.

use pled_engine::expression::{Budget, EvalError, EventView, Expression, Mapping, Roots, Scope};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::{Object, Value};

const BUDGET: Budget = Budget { steps: 100_000, bytes: 1_000_000 };

const CONTEXT: &str = r#"{"n":7,"s":"abc","list":[1,2,3],"gone":null,"o":{"k":{"d":5}},
    "rows":[{"sku":"a","qty":2},{"sku":"b","qty":3}],"":1}"#;

fn parse(text: &str) -> Value {
    Value::parse(text.as_bytes()).expect("a test's JSON")
}

fn event(data: Value) -> EventView {
    EventView { event_type: "PAY".into(), data, id: Some("e-1".into()), source: None, time: 1_700 }
}

/// The expression, or what is wrong with it: code, pointer, the text that is meant, message, help.
fn compile(rule: &str) -> Result<Expression, String> {
    let node = Node::parse(rule).expect("a test's JSON");
    let states = |id: &str| (id == "paid").then_some(3);
    let roots = Roots { context: true, item: false, states: Some(&states) };
    let mut findings = Findings::default();
    Expression::compile(&node, roots, &mut findings).ok_or_else(|| report(rule, findings))
}

fn report(source: &str, findings: Findings) -> String {
    let found = findings.into_found();
    assert!(!found.is_empty(), "{source} is refused without a reason");
    let lines = found.into_iter().map(|error| {
        let text = &source[error.span.clone()];
        let help = error.help.map_or(String::new(), |help| format!(" ({help})"));
        format!("{} {} at {text}: {}{help}", error.code, error.pointer, error.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn evaluate_on(rule: &str, data: Value, budget: &mut Budget) -> Result<Value, EvalError> {
    let Value::Object(context) = parse(CONTEXT) else { unreachable!() };
    let event = event(data);
    let scope = Scope { context: Some(&context), event: &event, item: None, active: &[0, 3] };
    compile(rule).expect("a valid expression").evaluate(&scope, budget)
}

fn evaluate(rule: &str) -> String {
    match evaluate_on(rule, parse(r#"{"x":2,"event":"inner"}"#), &mut BUDGET.clone()) {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

fn map(source: &str, params: bool) -> Result<String, String> {
    let node = Node::parse(source).expect("a test's JSON");
    let roots = Roots { context: true, item: true, states: None };
    let compile = if params { Mapping::compile_params } else { Mapping::compile };
    let mut findings = Findings::default();
    let mapping = compile(&node, roots, &mut findings).ok_or_else(|| report(source, findings))?;
    let Value::Object(context) = parse(CONTEXT) else { unreachable!() };
    let (event, item) = (event(Value::Null), Value::from("it"));
    let scope =
        Scope { context: Some(&context), event: &event, item: Some((&item, 4)), active: &[] };
    mapping
        .evaluate(&scope, &mut BUDGET.clone())
        .map(|value| value.to_string())
        .map_err(|error| error.to_string())
}

#[test]
fn look_ups_begin_at_context_and_event() {
    for (rule, value) in [
        (r#"{"var":"context.n"}"#, "7"),
        (r#"{"var":["context.n"]}"#, "7"),
        (r#"{"var":"context.o.k.d"}"#, "5"),
        (r#"{"var":"context.list.1"}"#, "2"),
        (r#"{"var":"context.list.01"}"#, "null"),
        (r#"{"var":"context.list.-1"}"#, "null"),
        (r#"{"var":"context.list.length"}"#, "null"),
        (r#"{"var":"context.s.0"}"#, "null"),
        (r#"{"var":"context.rows.1.sku"}"#, r#""b""#),
        (r#"{"var":["context.gone","default"]}"#, "null"),
        (r#"{"var":["context.nowhere","default"]}"#, r#""default""#),
        (r#"{"var":["context.gone.deep","default"]}"#, r#""default""#),
        (r#"{"var":["context.nowhere",{"var":"context.n"}]}"#, "7"),
        (r#"{"var":["context.n",{"/":[1,0]}]}"#, "7"),
        (r#"{"var":"event.data.x"}"#, "2"),
        (r#"{"var":"event.type"}"#, r#""PAY""#),
        (r#"{"var":"event.type.length"}"#, "null"),
        (r#"{"var":"event.id"}"#, r#""e-1""#),
        (r#"{"var":["event.source","none"]}"#, "null"),
        (r#"{"var":"event.time"}"#, "1700"),
        (
            r#"{"var":"event"}"#,
            r#"{"data":{"event":"inner","x":2},"id":"e-1","source":null,"time":1700,"type":"PAY"}"#,
        ),
        (r#"{"==":[{"var":"context"},{"var":"context"}]}"#, "true"),
        (
            r#"{"missing":["context.s","context.gone","event.data.y"]}"#,
            r#"["context.gone","event.data.y"]"#,
        ),
        (r#"{"missing":[{"cat":["context.","s"]},{"cat":"nowhere"}]}"#, r#"["nowhere"]"#),
        (r#"{"missing_some":[1,["context.s","context.gone"]]}"#, "[]"),
        (r#"{"missing_some":[2,["context.s","context.gone"]]}"#, r#"["context.gone"]"#),
        (r#"{"inState":"paid"}"#, "true"),
        (r#"{"and":[{"!":{"inState":"paid"}},true]}"#, "false"),
    ] {
        assert_eq!(evaluate(rule), value, "{rule}");
    }
}

#[test]
fn iterators_see_their_element_and_nothing_else() {
    for (rule, value) in [
        (r#"{"map":[{"var":"context.list"},{"*":[{"var":""},2]}]}"#, "[2,4,6]"),
        (r#"{"map":[{"var":"context.rows"},{"var":"sku"}]}"#, r#"["a","b"]"#),
        (r#"{"map":[{"var":"context.rows"},{"var":["context.n","none"]}]}"#, r#"["none","none"]"#),
        (r#"{"map":[[[1,2],[3]],{"var":1}]}"#, "[2,null]"),
        (r#"{"map":[[[1,2],[3]],{"map":[{"var":""},{"+":[{"var":""},1]}]}]}"#, "[[2,3],[4]]"),
        (r#"{"map":[{"var":"context.nowhere"},1]}"#, "[]"),
        (
            r#"{"filter":[{"var":"context.rows"},{">":[{"var":"qty"},2]}]}"#,
            r#"[{"qty":3,"sku":"b"}]"#,
        ),
        (
            r#"{"map":[{"var":"context.rows"},{"missing":["sku","price"]}]}"#,
            r#"[["price"],["price"]]"#,
        ),
        (
            r#"{"reduce":[{"var":"context.list"},{"+":[{"var":"current"},{"var":"accumulator"}]},0]}"#,
            "6",
        ),
        (
            r#"{"reduce":[{"var":"context.rows"},{"+":[{"var":"current.qty"},{"var":"accumulator"}]},0]}"#,
            "5",
        ),
        (r#"{"reduce":[null,1,{"var":"context.n"}]}"#, "7"),
        (r#"{"all":[[],true]}"#, "false"),
        (r#"{"all":[[1,2],{"var":""}]}"#, "true"),
        (r#"{"some":[{"var":"context.nowhere"},true]}"#, "false"),
        (r#"{"none":[[],true]}"#, "true"),
        (r#"{"none":[[0,""],{"var":""}]}"#, "true"),
    ] {
        assert_eq!(evaluate(rule), value, "{rule}");
    }
}

#[test]
fn numbers_are_exact_integers_or_finite_floats() {
    for (rule, value) in [
        (r#"{"/":[6,2]}"#, "3"),
        (r#"{"/":[1,3]}"#, "0.3333333333333333"),
        (r#"{"===":[1,1.0]}"#, "true"),
        (r#"{"===":[{"/":[3,2]},1.5]}"#, "true"),
        (r#"{"-":[0]}"#, "0"),
        (r#"{"*":[0,-1]}"#, "0"),
        (r#"{"%":[-1,2]}"#, "-1"),
        (r#"{"%":[5.5,2]}"#, "1.5"),
        (r#"{"%":[-2,2]}"#, "0"),
        (r#"{"+":[9007199254740990,1]}"#, "9007199254740991"),
        (r#"{"*":[9007199254740991,2]}"#, "18014398509481982"),
        (r#"{"+":[0.1,0.2]}"#, "0.30000000000000004"),
        (r#"{"+":["3.5"," 1 "]}"#, "4.5"),
        (r#"{"-":["0x10",1]}"#, "15"),
        (r#"{"+":"12"}"#, "12"),
        (r#"{"min":[3,"2",2.5]}"#, "2"),
        (r#"{"max":[-1]}"#, "-1"),
        (r#"{"+":["a",1]}"#, r#"error: `+` takes numbers and numeric strings, not "a""#),
        (r#"{"+":["",1]}"#, r#"error: `+` takes numbers and numeric strings, not """#),
        (r#"{"+":[null,1]}"#, "error: `+` takes numbers and numeric strings, not null"),
        (r#"{"-":[true,1]}"#, "error: `-` takes numbers and numeric strings, not true"),
        (r#"{"*":[[1],1]}"#, "error: `*` takes numbers and numeric strings, not an array"),
        (
            r#"{"+":[{"var":"context.gone"},1]}"#,
            "error: `+` takes numbers and numeric strings, and `context.gone` is null",
        ),
        (
            r#"{"+":["Infinity",1]}"#,
            r#"error: `+` takes numbers and numeric strings, not "Infinity""#,
        ),
        (r#"{"/":[1,0]}"#, "error: `/` divides by zero"),
        (r#"{"%":[1,0]}"#, "error: `%` divides by zero"),
        (r#"{"*":[1e308,10]}"#, "error: the result of `*` is beyond the largest number"),
        (r#"{"-":[-1e308,1e308]}"#, "error: the result of `-` is beyond the largest number"),
    ] {
        assert_eq!(evaluate(rule), value, "{rule}");
    }
}

#[test]
fn scalars_compare_as_in_ecmascript_and_what_is_deep_by_its_members() {
    for (rule, value) in [
        (r#"{"==":[null,0]}"#, "false"),
        (r#"{"==":[null,false]}"#, "false"),
        (r#"{"==":[null,null]}"#, "true"),
        (r#"{"==":[null,{"var":"context.nowhere"}]}"#, "true"),
        (r#"{"==":["1",1]}"#, "true"),
        (r#"{"==":["",0]}"#, "true"),
        (r#"{"==":[false,"0"]}"#, "true"),
        (r#"{"==":[true,"true"]}"#, "false"),
        (r#"{"==":["0x10",16]}"#, "true"),
        (r#"{"==":["1","1.0"]}"#, "false"),
        (r#"{"===":["1",1]}"#, "false"),
        (r#"{"!=":["1",1]}"#, "false"),
        (r#"{"!==":["1",1]}"#, "true"),
        (r#"{"==":[[1,[2]],[1.0,[2]]]}"#, "true"),
        (r#"{"==":[["1"],[1]]}"#, "false"),
        (r#"{"==":[[1],1]}"#, "false"),
        (r#"{"==":[[],false]}"#, "false"),
        (r#"{"===":[{"var":"context.rows.0"},{"$literal":{"qty":2,"sku":"a"}}]}"#, "true"),
        (r#"{">":[null,-1]}"#, "true"),
        (r#"{">=":[null,0]}"#, "true"),
        (r#"{"<":["10","9"]}"#, "true"),
        (r#"{"<":["10",9]}"#, "false"),
        (r#"{"<":["a",9]}"#, "false"),
        (r#"{">=":["a",9]}"#, "false"),
        (r#"{">":["Infinity",9]}"#, "true"),
        // As UTF-16, a surrogate pair comes before U+FF5E.
        (r#"{"<":["😀","～"]}"#, "true"),
        (r#"{"<":[1,2,3]}"#, "true"),
        (r#"{"<":[1,2,2]}"#, "false"),
        (r#"{">=":[3,3,1]}"#, "true"),
        (r#"{"<":[[1],2]}"#, "error: `<` takes numbers and strings, not an array"),
        (
            r#"{"<":[3,1,{"var":"context.o"}]}"#,
            "error: `<` takes numbers and strings, and `context.o` is an object",
        ),
        (r#"{"in":[{"var":"context.n"},[1,7]]}"#, "true"),
        (r#"{"in":["7",[1,7]]}"#, "false"),
        (r#"{"in":[[1],[[1],[2]]]}"#, "true"),
        (r#"{"in":["b",{"var":"context.s"}]}"#, "true"),
        (r#"{"in":["b",null]}"#, "false"),
        (r#"{"in":[null,"null"]}"#, "error: `in` takes a string to look for in a string, not null"),
        (r#"{"in":[1,12]}"#, "error: `in` takes an array or a string to look in, not 12"),
    ] {
        assert_eq!(evaluate(rule), value, "{rule}");
    }
}

#[test]
fn truth_is_that_of_jsonlogic() {
    for falsy in ["false", "null", "0", "-0.0", "\"\"", "[]"] {
        assert_eq!(evaluate(&format!(r#"{{"!!":[{falsy}]}}"#)), "false", "{falsy}");
    }
    for truthy in ["true", "1", "-0.5", "\"0\"", "\"false\"", "[0]", r#"{"$literal":{}}"#] {
        assert_eq!(evaluate(&format!(r#"{{"!!":[{truthy}]}}"#)), "true", "{truthy}");
    }
    assert_eq!(evaluate(r#"{"and":[1,[],{"/":[1,0]}]}"#), "[]");
    assert_eq!(evaluate(r#"{"or":[0,"",{"var":"context.n"},{"/":[1,0]}]}"#), "7");
    assert_eq!(evaluate(r#"{"if":["0","yes",{"/":[1,0]}]}"#), r#""yes""#);
    assert_eq!(evaluate(r#"{"if":[0,1]}"#), "null");
}

#[test]
fn texts_are_joined_and_cut_by_characters() {
    for (rule, value) in [
        (r#"{"cat":["a",1,null,true,1.5,1e21]}"#, r#""a1true1.51e+21""#),
        (r#"{"cat":[]}"#, r#""""#),
        (r#"{"cat":[[1]]}"#, "error: `cat` takes strings, numbers and booleans, not an array"),
        (r#"{"substr":["añb😀c",2,2]}"#, r#""b😀""#),
        (r#"{"substr":["añb😀c",-2]}"#, r#""😀c""#),
        (r#"{"substr":["abcdef",-3,-1]}"#, r#""de""#),
        (r#"{"substr":["abcdef",2,-9]}"#, r#""""#),
        (r#"{"substr":["abc",9]}"#, r#""""#),
        (r#"{"substr":["abc",-9,2]}"#, r#""ab""#),
        (r#"{"substr":["abc",-9007199254740991,-9007199254740991]}"#, r#""""#),
        (r#"{"substr":[12,0]}"#, "error: `substr` takes a string, not 12"),
        (r#"{"substr":["abc",0.5]}"#, "error: `substr` takes integers behind the string, not 0.5"),
    ] {
        assert_eq!(evaluate(rule), value, "{rule}");
    }
}

#[test]
fn data_is_never_logic() {
    let data = r#"{"rules":[{"var":"context.n"},{"==":[1,1]}]}"#;
    let found = |rule: &str| evaluate_on(rule, parse(data), &mut BUDGET.clone()).unwrap();

    let predicate = r#"{"some":[{"var":"event.data.rules"},{"==":[{"var":""},7]}]}"#;
    assert_eq!(found(predicate), Value::Bool(false));
    let default = r#"{"var":["event.data.none",{"var":"event.data.rules.0"}]}"#;
    assert_eq!(found(default), parse(r#"{"var":"context.n"}"#));
    let escaped = r#"{"map":[[1],{"$literal":{"var":"context.n"}}]}"#;
    assert_eq!(found(escaped), parse(r#"[{"var":"context.n"}]"#));
}

#[test]
fn what_is_refused_says_where_it_is_and_what_to_do() {
    let refused = |rule: &str| compile(rule).expect_err(rule);

    insta::assert_snapshot!(refused(r#"{"and":[true,{"vra":"context.n"}]}"#), @r#"E100 /and/1 at "vra": there is no operator `vra` (did you mean `var`?)"#);
    insta::assert_snapshot!(refused(r#"{"?:":[1,2,3]}"#), @r#"E100  at "?:": `?:` is not part of pled-logic-1 (use `if`, which does the same)"#);
    insta::assert_snapshot!(refused(r#"{"===":[{"now":[]},{"frobnicate":1}]}"#), @r#"
    E100 /===/0 at "now": `now` is not part of pled-logic-1 (logic has no clock; `event.time` is the time of the event in milliseconds)
    E100 /===/1 at "frobnicate": there is no operator `frobnicate` (there are: var missing missing_some if and or ! !! == != === !== < <= > >= + - * / % min max cat substr in merge map filter reduce all some none inState)
    "#);
    insta::assert_snapshot!(refused(r#"{"&&":[1,2]}"#), @r#"E100  at "&&": there is no operator `&&` (did you mean `and`?)"#);
    insta::assert_snapshot!(refused(r#"{"a":1,"b":2}"#), @r#"E104  at {"a":1,"b":2}: an operation is an object with one key, this one has 2 (an object that is meant as a value is written {"$literal": {…}})"#);
    insta::assert_snapshot!(refused(r#"{"==":[1]}"#), @r#"E101  at [1]: `==` takes 2 operands, not 1 (write {"==": [a, b]})"#);
    insta::assert_snapshot!(refused(r#"{"!":[]}"#), @r#"E101  at []: `!` takes one operand, not 0 (write {"!": a}, and {"!": [[…]]} of an array)"#);
    insta::assert_snapshot!(refused(r#"{"<":[1,2,3,4]}"#), @r#"E101  at [1,2,3,4]: `<` takes 2 or 3 operands, not 4 (write {"<": [a, b]} or {"<": [a, b, c]})"#);
    insta::assert_snapshot!(refused(r#"{"map":{"var":"context.list"}}"#), @r#"E101  at {"var":"context.list"}: `map` takes 2 operands, not 1 (write {"map": [array, expression over the element]})"#);
    insta::assert_snapshot!(refused(r#"{"or":[]}"#), @r#"E101  at []: `or` takes one or more operands, not 0 (write {"or": [a, b, …]})"#);
    insta::assert_snapshot!(refused(r#"{"var":{"cat":["context.","n"]}}"#), @r#"E102 /var at {"cat":["context.","n"]}: the path of `var` is a string or an index, not an object (paths are not computed: choose between two with `if`, or take an element with `filter`)"#);
    insta::assert_snapshot!(refused(r#"{"var":-1}"#), @r#"E102 /var at -1: the path of `var` is a string or an index, not -1 (paths are not computed: choose between two with `if`, or take an element with `filter`)"#);
    insta::assert_snapshot!(refused(r#"{"var":[]}"#), @r#"E101  at []: `var` takes 1 or 2 operands, not 0 (write {"var": "path"} or {"var": ["path", default]})"#);
    insta::assert_snapshot!(refused(r#"{"var":"contxt.n"}"#), @r#"E102 /var at "contxt.n": there is nothing at "contxt.n" to look at here (did you mean `context`? paths begin with context, event)"#);
    insta::assert_snapshot!(refused(r#"{"var":""}"#), @r#"E102 /var at "": there is nothing at "" to look at here (paths begin with context, event)"#);
    insta::assert_snapshot!(refused(r#"{"var":"item"}"#), @r#"E102 /var at "item": there is nothing at "item" to look at here (paths begin with context, event)"#);
    insta::assert_snapshot!(refused(r#"{"var":"event.payload"}"#), @r#"E102 /var at "event.payload": an event has no field "payload" (it has type, data, id, source and time; its payload is `event.data`)"#);
    insta::assert_snapshot!(refused(r#"{"var":"context..n"}"#), @r#"E102 /var at "context..n": the path "context..n" has an empty part (one dot stands between two keys, none at an end)"#);
    insta::assert_snapshot!(refused(r#"{"missing":["context.n","n"]}"#), @r#"E102 /missing at ["context.n","n"]: there is nothing at "n" to look at here (paths begin with context, event)"#);
    insta::assert_snapshot!(refused(r#"{"reduce":[[],{"var":"context.n"},0]}"#), @r#"E102 /reduce/1/var at "context.n": there is nothing at "context.n" to look at here (paths begin with current, accumulator; iterators see nothing else)"#);
    insta::assert_snapshot!(refused(r#"{"inState":"nowhere"}"#), @r#"E105 /inState at "nowhere": there is no state with the id "nowhere""#);
    insta::assert_snapshot!(refused(r#"{"==":[{"inState":"paid"},true]}"#), @r#"E105 /==/0/inState at "paid": `inState` cannot stand here (it stands in guards only, as the whole of one or under `and`, `or` and `!`)"#);
    insta::assert_snapshot!(refused(r#"{"if":[{"inState":"paid"},1,2]}"#), @r#"E105 /if/0/inState at "paid": `inState` cannot stand here (it stands in guards only, as the whole of one or under `and`, `or` and `!`)"#);
    insta::assert_snapshot!(refused(r#"{"inState":{"var":"context.s"}}"#), @r#"E105 /inState at {"var":"context.s"}: `inState` takes the id of a state, not an object ({"inState": "id of a state"})"#);
}

#[test]
fn an_expression_is_64_deep_and_has_1000_nodes_at_most() {
    let deep = |levels: usize| format!("{}1{}", r#"{"!":"#.repeat(levels), "}".repeat(levels));
    assert!(compile(&deep(64)).is_ok());
    assert!(compile(&deep(65)).unwrap_err().starts_with("E103"));

    let wide = |nodes: usize| format!(r#"{{"cat":[{}1]}}"#, "1,".repeat(nodes - 2));
    assert!(compile(&wide(1_000)).is_ok());
    assert_eq!(compile(&wide(1_500)).unwrap_err().matches("E103").count(), 1);
    let escaped = format!(r#"{{"in":[1,{{"$literal":[{}1]}}]}}"#, "1,".repeat(1_500));
    assert!(compile(&escaped).is_ok());
}

#[test]
fn a_mapping_is_a_template_with_expressions_in_it() {
    let value = |source: &str| map(source, false).unwrap();

    let nested =
        r#"{"b":{"c":[1,{"+":[{"var":"context.n"},1]}],"max":5,"d":"x"},"a":{"var":"context.n"}}"#;
    assert_eq!(value(nested), r#"{"a":7,"b":{"c":[1,8],"d":"x","max":5}}"#);
    assert_eq!(value(r#"{"max":[5,{"var":"context.n"}]}"#), "7");
    assert_eq!(value(r#"{"a":{"max":[5,8]},"vra":{"log":"x"}}"#), r#"{"a":8,"vra":{"log":"x"}}"#);
    assert_eq!(value(r#"[{"var":"item"},{"var":"index"}]"#), r#"["it",4]"#);
    assert_eq!(value(r#"{"a":{"$literal":{"var":"x"}}}"#), r#"{"a":{"var":"x"}}"#);
    assert_eq!(value(r#""event.data""#), r#""event.data""#);
    assert_eq!(value("{}"), "{}");
}

#[test]
fn the_root_of_params_is_never_an_operation() {
    assert_eq!(map(r#"{"max":5}"#, true).unwrap(), r#"{"max":5}"#);
    assert_eq!(map(r#"{"var":{"var":"context.n"}}"#, true).unwrap(), r#"{"var":7}"#);
    assert_eq!(map(r#"{"$literal":{"max":[1,2]}}"#, true).unwrap(), r#"{"max":[1,2]}"#);
    insta::assert_snapshot!(map("[1]", true).unwrap_err(), @r#"E104  at [1]: an object of named members stands here, not an array"#);
}

#[test]
fn objects_are_templates_where_they_become_a_part_of_the_result() {
    let value = |source: &str| map(source, false).unwrap();

    let appended = r#"{"merge":[{"var":"context.rows"},[{"sku":{"var":"item"},"qty":1}]]}"#;
    assert_eq!(
        value(appended),
        r#"[{"qty":2,"sku":"a"},{"qty":3,"sku":"b"},{"qty":1,"sku":"it"}]"#
    );
    let chosen = r#"{"if":[{"var":"context.n"},{"a":{"var":"context.n"}},null]}"#;
    assert_eq!(value(chosen), r#"{"a":7}"#);
    let renamed = r#"{"map":[{"var":"context.rows"},{"article":{"var":"sku"}}]}"#;
    assert_eq!(value(renamed), r#"[{"article":"a"},{"article":"b"}]"#);
    let default = r#"{"or":[{"var":"context.gone"},{"var":["context.nowhere",{"a":1,"b":2}]}]}"#;
    assert_eq!(value(default), r#"{"a":1,"b":2}"#);

    // Anywhere else one would always be true.
    insta::assert_snapshot!(map(r#"{"if":[{"vra":"context.n"},1,2]}"#, false).unwrap_err(), @r#"E100 /if/0 at "vra": there is no operator `vra` (did you mean `var`?)"#);
    insta::assert_snapshot!(map(r#"{"a":{"!":{"b":1,"c":2}}}"#, false).unwrap_err(), @r#"E104 /a/! at {"b":1,"c":2}: an operation is an object with one key, this one has 2 (an object that is meant as a value is written {"$literal": {…}})"#);
    insta::assert_snapshot!(map(r#"{"a":{"inState":"paid"}}"#, false).unwrap_err(), @r#"E105 /a/inState at "paid": `inState` cannot stand here (it stands in guards only, as the whole of one or under `and`, `or` and `!`)"#);
    insta::assert_snapshot!(map(r#"{"a":{"$literal":1,"b":2}}"#, false).unwrap_err(), @r#"E106 /a at "$literal": `$literal` must be the only key of its object (put the other members into it, or take it away)"#);
}

#[test]
fn a_mapping_without_expressions_is_a_constant() {
    let node = Node::parse(r#"{"a":[1,{"b":null}],"c":{"$literal":{"var":"x"}}}"#).unwrap();
    let roots = Roots { context: true, item: false, states: None };
    let mapping = Mapping::compile(&node, roots, &mut Findings::default()).unwrap();

    assert_eq!(mapping.as_constant(), Some(&parse(r#"{"a":[1,{"b":null}],"c":{"var":"x"}}"#)));
    assert_eq!(Mapping::constant(Value::Int(1)).as_constant(), Some(&Value::Int(1)));
}

#[test]
fn rules_see_the_event_alone() {
    let node = Node::parse(r#"{"var":"context.n"}"#).unwrap();
    let roots = Roots { context: false, item: false, states: None };
    let mut findings = Findings::default();

    assert!(Expression::compile(&node, roots, &mut findings).is_none());
    insta::assert_snapshot!(report(r#"{"var":"context.n"}"#, findings), @r#"E102 /var at "context.n": there is nothing at "context.n" to look at here (paths begin with event)"#);
}

#[test]
fn bombs_end_in_an_error() {
    let reduce = |body: &str, first: &str| {
        format!(r#"{{"reduce":[{{"var":"event.data"}},{body},{first}]}}"#)
    };
    let acc = r#"{"var":"accumulator"}"#;
    let ones = |count: usize| Value::from(vec![Value::Int(1); count]);
    let text = |bytes: usize| Value::from("x".repeat(bytes));

    let produced = Err(EvalError::Budget("produced bytes"));
    let steps = Err(EvalError::Budget("evaluation steps"));
    let nested =
        Err(EvalError::Type("a value that logic makes is nested 100 deep at most".to_owned()));
    for (name, rule, data, result) in [
        ("a text that doubles", reduce(&format!(r#"{{"cat":[{acc},{acc}]}}"#), r#""x""#), ones(60), &produced),
        ("an array that shares itself", reduce(&format!("[{acc},{acc}]"), "0"), ones(60), &produced),
        ("an array that grows inwards", reduce(&format!("[{acc}]"), "0"), ones(20_000), &nested),
        ("an array that doubles", reduce(&format!(r#"{{"merge":[{acc},{acc}]}}"#), "[1]"), ones(60), &produced),
        ("a growing array that is searched", reduce(&format!(r#"{{"merge":[{acc},{{"in":[7,{acc}]}}]}}"#), "[]"), ones(4_000), &steps),
        ("the same text again and again", format!(r#"{{"map":[{},{{"var":""}}]}}"#, r#"{"var":"event.data"}"#), vec![text(50_000); 100].into(), &produced),
        ("long texts that are cut", r#"{"all":[{"var":"event.data"},{"substr":[{"var":""},-2]}]}"#.to_owned(), vec![text(500_000); 100].into(), &steps),
        ("long texts that are searched", r#"{"none":[{"var":"event.data"},{"in":["y",{"var":""}]}]}"#.to_owned(), vec![text(500_000); 100].into(), &steps),
        ("long texts that are compared", r#"{"all":[{"var":"event.data"},{"==":[{"var":"a"},{"var":"b"}]}]}"#.to_owned(), vec![parse(&format!(r#"{{"a":{0},"b":{0}}}"#, text(500_000))); 100].into(), &steps),
        ("loops in loops", r#"{"map":[{"var":"event.data"},{"reduce":[{"var":""},{"+":[{"var":"accumulator"},1]},0]}]}"#.to_owned(), vec![ones(1_000); 200].into(), &steps),
        ("an event in each place", format!("[{}]", vec![r#"{"var":"event"}"#; 900].join(",")), text(2_000), &produced),
    ] {
        assert_eq!(&evaluate_on(&rule, data, &mut BUDGET.clone()), result, "{name}");
    }
}

#[test]
fn a_guard_costs_a_step_for_each_operation_and_operand() {
    let mut budget = BUDGET;
    let guard = r#"{"and":[{"==":[{"var":"event.type"},"PAY"]},{"<":[{"var":"context.n"},10]}]}"#;

    assert_eq!(evaluate_on(guard, Value::Null, &mut budget), Ok(Value::Bool(true)));

    assert_eq!(BUDGET.steps - budget.steps, 7);
    assert_eq!(BUDGET.bytes, budget.bytes);
}

#[test]
fn an_order_of_members_in_the_source_does_not_show() {
    let one = map(r#"{"b":{"var":"item"},"a":{"var":"index"}}"#, false);
    let other = map(r#"{"a":{"var":"index"},"b":{"var":"item"}}"#, false);
    let object: Object = [("a", Value::Int(4)), ("b", Value::from("it"))].into_iter().collect();

    assert_eq!(one, other);
    assert_eq!(one.unwrap(), Value::Object(object).to_string());
}
