//! What holds for any JSON as an expression and any JSON as data.

use pled_engine::expression::{Budget, EvalError, EventView, Expression, Mapping, Roots, Scope};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::value::{Object, Value};
use proptest::prelude::*;

/// Operators, with how many operands they take at least and at most.
const OPERATORS: [(&str, usize, usize); 32] = [
    ("missing", 0, 3),
    ("missing_some", 2, 2),
    ("if", 0, 5),
    ("and", 1, 3),
    ("or", 1, 3),
    ("!", 1, 1),
    ("!!", 1, 1),
    ("==", 2, 2),
    ("!=", 2, 2),
    ("===", 2, 2),
    ("!==", 2, 2),
    ("<", 2, 3),
    ("<=", 2, 3),
    (">", 2, 3),
    (">=", 2, 3),
    ("+", 1, 3),
    ("-", 1, 2),
    ("*", 1, 3),
    ("/", 2, 2),
    ("%", 2, 2),
    ("min", 1, 3),
    ("max", 1, 3),
    ("cat", 0, 3),
    ("substr", 2, 3),
    ("in", 2, 2),
    ("merge", 0, 3),
    // Wrong ones, which must be refused wherever they stand.
    ("log", 1, 1),
    ("vra", 1, 2),
    ("", 1, 1),
    ("==", 0, 3),
    ("inState", 1, 1),
    ("if", 1, 3),
];

const ITERATORS: [&str; 5] = ["map", "filter", "all", "some", "none"];

const TEXTS: [&str; 20] = [
    "",
    "a",
    "context",
    "context.a",
    "context.a.0",
    "context.b.a",
    "event",
    "event.data",
    "event.data.a",
    "event.time",
    "event.none",
    "item",
    "index",
    "current",
    "accumulator",
    "accumulator.0",
    " 12 ",
    "0x1f",
    "Infinity",
    "añ😀",
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..10).prop_map(Value::Int),
        (-1e9..1e9).prop_filter_map("finite", Value::from_f64),
        prop::sample::select(vec![1e300, -1e300, 1e-300])
            .prop_filter_map("finite", Value::from_f64),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        let key = prop::sample::select(vec!["a", "b", "0", ""]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Object>())),
        ]
    })
}

#[derive(Clone, Copy)]
enum View {
    Top,
    Element,
    Reduce,
}

impl View {
    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Top => &TEXTS[2..13],
            Self::Element => &["", "a", "0", "b.a", "event"],
            Self::Reduce => &["current", "accumulator", "accumulator.0", "current.a"],
        }
    }
}

/// JSON that is mostly an expression, but for a wrong operator, path or object here and there.
fn expression(view: View, depth: usize) -> BoxedStrategy<Value> {
    let path = prop_oneof![
        30 => prop::sample::select(view.paths()),
        1 => prop::sample::select(&TEXTS[..]),
    ];
    let path = path.prop_map(Value::from).boxed();
    let look_up = path.clone().prop_map(|path| operation("var", path));
    if depth == 0 {
        return prop_oneof![scalar(), look_up].boxed();
    }
    let inner = expression(view, depth - 1);
    let with_default = (path, inner.clone())
        .prop_map(|(path, default)| operation("var", vec![path, default].into()));
    let operands = prop::collection::vec(inner.clone(), 5);
    let simple = (prop::sample::select(&OPERATORS[..]), operands, any::<prop::sample::Index>())
        .prop_map(|((name, least, most), mut operands, index)| {
            operands.truncate(least + index.index(most - least + 1));
            operation(name, operands.into())
        });
    let body = expression(View::Element, depth - 1);
    let iterator = (prop::sample::select(&ITERATORS[..]), inner.clone(), body)
        .prop_map(|(name, source, body)| operation(name, vec![source, body].into()));
    let body = expression(View::Reduce, depth - 1);
    let reduce = (inner.clone(), body, inner.clone())
        .prop_map(|(source, body, first)| operation("reduce", vec![source, body, first].into()));
    let object = (inner.clone(), inner.clone())
        .prop_map(|(a, b)| Value::Object([("a", a), ("b", b)].into_iter().collect::<Object>()));
    prop_oneof![
        3 => look_up,
        1 => scalar(),
        1 => with_default,
        8 => simple,
        4 => iterator,
        3 => reduce,
        2 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
        1 => json().prop_map(|value| operation("$literal", value)),
        1 => object,
    ]
    .boxed()
}

fn operation(name: &str, operands: Value) -> Value {
    Value::Object(std::iter::once((name, operands)).collect::<Object>())
}

fn event(data: Value) -> EventView {
    EventView {
        event_type: "X".into(),
        data,
        id: Some("1".into()),
        source: None,
        time: 1_700_000_000_000,
    }
}

fn roots() -> Roots<'static> {
    Roots { context: true, item: true, states: Some(&|id| (id == "a").then_some(1)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_refused_with_reasons_or_evaluated_the_same_way_each_time(
        rule in expression(View::Top, 3),
        data in json(),
        steps in 0_u64..200,
        bytes in 0_u64..500,
    ) {
        let node = Node::parse(&rule.to_string()).unwrap();
        let mut findings = Findings::default();
        let compiled = Expression::compile(&node, roots(), &mut findings);
        prop_assert_eq!(compiled.is_none(), findings.count() > 0);
        let mapping = Mapping::compile(&node, roots(), &mut Findings::default());
        let (context, event) = (Object::from_iter([("a", data.clone())]), event(data.clone()));
        let scope =
            Scope { context: Some(&context), event: &event, item: Some((&data, 2)), active: &[1] };
        let run = |steps, bytes| {
            let mut budget = Budget { steps, bytes };
            let value = compiled.as_ref().map(|rule| rule.evaluate(&scope, &mut budget));
            (value, budget.steps, budget.bytes)
        };

        let (value, steps_left, bytes_left) = run(steps, bytes);

        prop_assert!(steps_left <= steps && bytes_left <= bytes);
        prop_assert_eq!(&run(steps, bytes), &(value.clone(), steps_left, bytes_left));
        if !matches!(value, Some(Err(EvalError::Budget(_)))) {
            // More room changes nothing.
            let (roomy, left, _) = run(100_000, 1_000_000);
            prop_assert_eq!(&roomy, &value);
            prop_assert_eq!(100_000 - left, steps - steps_left);
        }
        if let (Some(Ok(value)), Some(mapping)) = (value, mapping) {
            // What an expression gives, a mapping of the same text gives, too.
            let mut budget = Budget { steps: 100_000, bytes: 1_000_000 };
            prop_assert_eq!(mapping.evaluate(&scope, &mut budget), Ok(value));
        }
    }

    #[test]
    fn what_a_mapping_gives_can_be_written_and_weighs_what_it_counted(
        rule in expression(View::Top, 3),
        data in json(),
    ) {
        let node = Node::parse(&rule.to_string()).unwrap();
        let Some(mapping) = Mapping::compile(&node, roots(), &mut Findings::default()) else {
            return Ok(());
        };
        let (context, event) = (Object::from_iter([("a", data.clone())]), event(data.clone()));
        let scope =
            Scope { context: Some(&context), event: &event, item: Some((&data, 2)), active: &[] };
        let mut budget = Budget { steps: 100_000, bytes: 1_000_000 };

        if let Ok(value) = mapping.evaluate(&scope, &mut budget) {
            let written = value.to_string().len();
            let given = data.to_string().len() + rule.to_string().len();
            let counted = 1_000_000 - usize::try_from(budget.bytes).unwrap();
            // Numbers count 8 bytes and may be written in 24.
            prop_assert!(written <= 200 + given + 3 * counted, "{} of {}", written, counted);
        }
    }

    #[test]
    fn an_order_is_one(a in scalar(), b in scalar()) {
        let holds = |name: &str, a: &Value, b: &Value| {
            let rule = operation(name, vec![a.clone(), b.clone()].into()).to_string();
            let rule = Node::parse(&rule).unwrap();
            let rule = Expression::compile(&rule, roots(), &mut Findings::default()).unwrap();
            let event = event(Value::Null);
            let scope = Scope { context: None, event: &event, item: None, active: &[] };
            rule.holds(&scope, &mut Budget { steps: 100, bytes: 100 }).unwrap()
        };

        prop_assert_eq!(holds("<", &a, &b), holds(">", &b, &a));
        prop_assert_eq!(holds("<=", &a, &b), holds(">=", &b, &a));
        prop_assert_eq!(holds("==", &a, &b), holds("==", &b, &a));
        prop_assert_ne!(holds("==", &a, &b), holds("!=", &a, &b));
        prop_assert_ne!(holds("===", &a, &b), holds("!==", &a, &b));
        prop_assert!(!holds("===", &a, &b) || holds("==", &a, &b));
        prop_assert!(!(holds("<", &a, &b) && holds(">=", &a, &b)));
        prop_assert_eq!(holds("===", &a, &b), a == b);
    }
}

#[test]
fn the_deepest_expression_over_the_deepest_data_needs_little_stack() {
    let deep = |levels: usize| {
        let text = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        Value::parse(text.as_bytes()).unwrap()
    };
    let wrapped =
        |inner: &str| format!("{}{inner}{}", r#"{"if":[1,["#.repeat(31), r#"]]}"#.repeat(31));
    let run = move || {
        let data = deep(120);
        let mut results = Vec::new();
        for inner in [r#"{"var":"event.data"}"#, r#"{"==":[{"var":"event.data"},{"var":"item"}]}"#]
        {
            let node = Node::parse(&wrapped(inner)).unwrap();
            let rule = Mapping::compile(&node, roots(), &mut Findings::default()).unwrap();
            let (event, item) = (event(data.clone()), deep(120));
            let scope = Scope { context: None, event: &event, item: Some((&item, 0)), active: &[] };
            let mut budget = Budget { steps: 100_000, bytes: 1_000_000 };
            results.push(rule.evaluate(&scope, &mut budget));
        }
        results
    };

    let small = std::thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap();
    let results = small.join().unwrap();

    let message = "a value that logic makes is nested 100 deep at most";
    assert_eq!(results[0], Err(EvalError::Type(message.to_owned())));
    assert!(results[1].is_ok());
}
