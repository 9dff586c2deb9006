//! Templates: what is accepted and what it becomes, what is refused and with which words.

use std::sync::Arc;

use pled_engine::id::Hash;
use pled_engine::template::{
    ActionKind, Delay, Diagnostic, InvokeSource, Limits, OnError, StateKind, Template,
};
use proptest::prelude::*;

const ORDER: &str = include_str!("../../examples/order-fulfilment.json");

/// A template whose root has these members besides the four that every template has.
fn text(members: &str) -> String {
    format!(
        r#"{{"pled":"1.0","logic":"pled-logic-1","id":"t","version":1{comma}{members}}}"#,
        comma = if members.is_empty() { "" } else { "," }
    )
}

fn compile(members: &str) -> Template {
    Template::parse(&text(members)).unwrap_or_else(|invalid| panic!("{members}: {invalid}"))
}

fn errors_of(source: &str) -> Vec<Diagnostic> {
    Template::parse(source).expect_err(source).errors
}

fn id(template: &Template, index: u32) -> &str {
    &template.state(index).id
}

/// The targets of all transitions of a state on an event, in order, several ones joined by `+`.
fn targets(template: &Template, state: &str, event: &str) -> Vec<String> {
    let state = template.state(template.index_of(state).expect(state));
    let ids = |targets: &[u32]| {
        targets.iter().map(|target| id(template, *target)).collect::<Vec<_>>().join("+")
    };
    state.on.matching(event).map(|transition| ids(&transition.target)).collect()
}

#[test]
fn the_order_example_compiles_and_its_states_are_numbered_in_the_order_of_the_text() {
    let order = Template::parse(ORDER).unwrap();

    let ids: Vec<&str> = order.states.iter().map(|state| &*state.id).collect();
    assert_eq!(
        ids,
        [
            "order",
            "checking",
            "active",
            "resumePoint",
            "payment",
            "charging",
            "cooling",
            "fulfilment",
            "shipping",
            "booking",
            "shipped",
            "invoicing",
            "issuing",
            "manualInvoice",
            "invoiced",
            "onHold",
            "compensating",
            "route",
            "refunding",
            "stuck",
            "completed",
            "rejected"
        ]
    );
    assert_eq!(order.reference().to_string(), "order@3");
    assert_eq!(order.hash, Hash::of(ORDER.as_bytes()));
    assert_eq!(&*order.source, ORDER);
    assert_eq!(order.rules.len(), 4);
    assert_eq!(order.limits, Limits::default());
    assert!(order.output.is_some());
}

#[test]
fn the_order_example_shows_events_timers_and_invocations_under_their_names() {
    let order = Template::parse(ORDER).unwrap();

    assert_eq!(targets(&order, "charging", "done.invoke.charge"), ["fulfilment"]);
    assert_eq!(targets(&order, "charging", "error.invoke.charge"), ["cooling", "rejected"]);
    assert_eq!(targets(&order, "fulfilment", "done.state.fulfilment"), ["completed"]);
    assert_eq!(targets(&order, "payment", "after.paymentWindow.payment"), ["compensating"]);
    assert_eq!(targets(&order, "onHold", "RESUME"), ["resumePoint"]);

    let (state, charge) = order.invocation("charge").unwrap();
    assert_eq!(id(&order, state), "charging");
    assert_eq!(&*charge.pointer, "/states/active/states/payment/states/charging/invoke");
    assert_eq!(charge.options.retry.as_ref().unwrap().max_attempts, 5);
    assert_eq!(charge.options.timeout.schedule_to_close_ms, Some(180_000));
    let queues: Vec<&str> = order.queues().iter().map(|queue| &*queue.name).collect();
    assert_eq!(
        queues,
        [
            "billing.invoice",
            "carrier.book",
            "notify.ops",
            "ops.ticket",
            "payments.charge",
            "payments.refund"
        ]
    );
}

#[test]
fn relations_between_states_are_read_from_their_numbers() {
    let order = Template::parse(ORDER).unwrap();
    let at = |id: &str| order.index_of(id).unwrap();

    assert!(order.is_descendant(at("booking"), at("fulfilment")));
    assert!(!order.is_descendant(at("fulfilment"), at("fulfilment")));
    assert!(!order.is_descendant(at("onHold"), at("active")));
    let ancestors: Vec<&str> =
        order.ancestors(at("booking")).map(|state| id(&order, state)).collect();
    assert_eq!(ancestors, ["shipping", "fulfilment", "active", "order"]);
    assert_eq!(order.common_ancestor(at("booking"), at("issuing")), at("fulfilment"));
    assert_eq!(order.common_ancestor(at("booking"), at("shipping")), at("shipping"));
    assert_eq!(order.common_ancestor(at("shipping"), at("booking")), at("shipping"));
    assert_eq!(order.common_ancestor(at("booking"), at("onHold")), 0);
    let active = ["order", "active", "fulfilment", "shipping", "booking", "invoicing", "issuing"];
    let active: Vec<u32> = active.into_iter().map(at).collect();
    assert_eq!(order.leaves(&active).collect::<Vec<_>>(), [at("booking"), at("issuing")]);
    assert_eq!(order.leaves(&[]).count(), 0);
}

#[test]
fn transitions_are_numbered_without_gaps_and_point_to_their_place() {
    let order = Template::parse(ORDER).unwrap();
    let document = pled_engine::template::document::Node::parse(ORDER).unwrap();

    let mut numbers: Vec<u32> = order.transitions().map(|(_, found)| found.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..order.transition_count()).collect::<Vec<_>>());
    for (_, transition) in order.transitions() {
        let mut node = &document;
        for step in transition.pointer.split('/').skip(1) {
            node = match node.elements() {
                Some(elements) => &elements[step.parse::<usize>().unwrap()],
                None => node.get(step).unwrap(),
            };
        }
        assert!(node.get("target").is_some(), "{}", transition.pointer);
    }
}

#[test]
fn the_order_of_states_is_that_of_the_text_whatever_their_names() {
    let template = compile(
        r#""initial":"b","states":{"b":{"initial":"z","states":{"z":{},"a":{}}},"a":{"id":"x.y"}}"#,
    );

    let ids: Vec<&str> = template.states.iter().map(|state| &*state.id).collect();
    assert_eq!(ids, ["t", "t.b", "t.b.z", "t.b.a", "x.y"]);
    let shape: Vec<_> =
        template.states.iter().map(|state| (state.parent, state.last, state.depth)).collect();
    assert_eq!(
        shape,
        [(None, 4, 0), (Some(0), 3, 1), (Some(1), 2, 2), (Some(1), 3, 2), (Some(0), 4, 1)]
    );
    assert_eq!(template.state(0).children, [1, 4]);
}

#[test]
fn a_template_may_be_small() {
    let template = compile("");

    assert!(matches!(template.state(0).kind, StateKind::Atomic));
    assert_eq!(template.on_error, OnError::Incident);
    assert_eq!(template.transition_count(), 0);
}

#[test]
fn the_exact_name_is_asked_first_then_longer_prefixes_then_the_star() {
    let template = compile(
        r##""on":{"*":"#any","a.*":".a","a.b":[".ab",".ab2"],"a.b.*":".abx","ab.*":"#no"},
           "initial":"a","states":{"a":{},"ab":{},"ab2":{},"abx":{},"any":{"id":"any"},"no":{"id":"no"}}"##,
    );

    assert_eq!(targets(&template, "t", "a.b"), ["t.ab", "t.ab2", "t.abx", "t.a", "any"]);
    assert_eq!(targets(&template, "t", "a"), ["t.a", "any"]);
    assert_eq!(targets(&template, "t", "a.b.c"), ["t.abx", "t.a", "any"]);
    assert_eq!(targets(&template, "t", "ac"), ["any"]);
    assert_eq!(targets(&template, "t", "done.state.x"), ["any"]);
    assert_eq!(targets(&template, "t", "pled.init"), Vec::<String>::new());
}

#[test]
fn transitions_written_in_several_places_for_one_event_stand_in_the_order_of_the_text() {
    let states = r#""initial":"a","states":{"a":{},"b":{},"c":{}}"#;
    let sugar_first =
        compile(&format!(r#""onDone":".a","on":{{"done.state.t":[".b",".c"]}},{states}"#));
    let sugar_last = compile(&format!(r#"{states},"on":{{"done.state.t":".b"}},"onDone":[".c"]"#));
    let of_others = compile(
        r#""on":{"done.invoke.i":".a","after.10.t":".a"},
           "invoke":{"id":"i","src":"x","onDone":".b"},"after":{"10":".b"},
           "initial":"a","states":{"a":{},"b":{}}"#,
    );

    assert_eq!(targets(&sugar_first, "t", "done.state.t"), ["t.a", "t.b", "t.c"]);
    assert_eq!(targets(&sugar_last, "t", "done.state.t"), ["t.b", "t.c"]);
    assert_eq!(targets(&of_others, "t", "done.invoke.i"), ["t.a", "t.b"]);
    assert_eq!(targets(&of_others, "t", "after.10.t"), ["t.a", "t.b"]);
}

#[test]
fn targets_are_ids_siblings_paths_and_arrays_of_them() {
    let template = compile(
        r##""initial":"p","on":{"BOTH":{"target":["#t.p.r",".p.q"]}},
           "states":{"p":{"type":"parallel","states":{"q":{},"r":{}}}}"##,
    );
    assert_eq!(targets(&template, "t", "BOTH"), ["t.p.r+t.p.q"]);

    let template = compile(
        r##""initial":"a","states":{"a":{"on":{"S":"b","D":".x.y","I":"#b"},"initial":"x",
           "states":{"x":{"initial":"y","states":{"y":{}}}}},"b":{"id":"b","on":{"SELF":{}}}}"##,
    );
    assert_eq!(targets(&template, "t.a", "S"), ["b"]);
    assert_eq!(targets(&template, "t.a", "D"), ["t.a.x.y"]);
    assert_eq!(targets(&template, "t.a", "I"), ["b"]);
    assert_eq!(targets(&template, "b", "SELF"), [""]);
}

#[test]
fn several_targets_may_include_a_history_state_of_another_region() {
    let template = compile(
        r##""type":"parallel","on":{"GO":{"target":["#h",".b.x"]}},
            "states":{"a":{"initial":"x","states":{"x":{},"h":{"id":"h","type":"history"}}},
                      "b":{"initial":"x","states":{"x":{}}}}"##,
    );

    assert_eq!(targets(&template, "t", "GO"), ["h+t.b.x"]);
}

#[test]
fn timers_of_a_state_ascend_and_equal_ones_keep_the_order_of_the_text() {
    let template = compile(
        r#""delays":{"soon":10,"late":500},
           "after":{"late":".a","500":".a","soon":".b","7":".a","9":[]},
           "initial":"a","states":{"a":{},"b":{}}"#,
    );

    let timers: Vec<(&str, i64)> = template
        .state(0)
        .after
        .iter()
        .map(|after| match after.delay {
            Delay::Millis(millis) => (&*after.event, millis),
            Delay::Logic(_) => panic!("a constant"),
        })
        .collect();
    assert_eq!(
        timers,
        [("after.7.t", 7), ("after.soon.t", 10), ("after.late.t", 500), ("after.500.t", 500),]
    );
}

#[test]
fn an_initial_transition_has_actions_and_history_a_default() {
    let template = compile(
        r#""initial":{"target":"b","actions":[{"type":"compensate"}]},
           "states":{"a":{},"b":{},"h":{"type":"history","history":"deep","target":"a"},"s":{"type":"history"}}"#,
    );

    let StateKind::Compound { initial, actions } = &template.state(0).kind else { panic!() };
    assert_eq!((id(&template, *initial), actions.len()), ("t.b", 1));
    let StateKind::History { deep, default } = &template.state(3).kind else { panic!() };
    assert_eq!((*deep, &**default), (true, &[1][..]));
    let StateKind::History { deep, default } = &template.state(4).kind else { panic!() };
    assert_eq!((*deep, default.len()), (false, 0));
}

#[test]
fn the_roots_retry_is_the_default_of_all_tasks_and_an_own_one_replaces_it_whole() {
    let template = compile(
        r#""retry":{"max_attempts":7,"backoff":3,"non_retryable":["no"]},
           "entry":[{"type":"mail.send","queue":"slow","id":"m","timeout":{"heartbeat_ms":5}}],
           "invoke":[{"id":"a","src":"x.y","compensate":{"src":"x.undo"}},
                     {"id":"b","src":"x.z","retry":{"max_attempts":2,"initial_interval_ms":90000}},
                     {"id":"c","src":"template:child@4","meta":{"due":1}}]"#,
    );
    let root = template.state(0);
    let attempts =
        |at: usize| root.invoke[at].options.retry.as_ref().map(|retry| retry.max_attempts);

    assert_eq!([attempts(0), attempts(1), attempts(2)], [Some(7), Some(2), None]);
    let own = root.invoke[1].options.retry.as_ref().unwrap();
    assert_eq!((own.initial_interval_ms, own.max_interval_ms), (90_000, 90_000));
    assert_eq!((own.backoff, own.non_retryable.len()), (2.0, 0));
    let undo = root.invoke[0].compensate.as_ref().unwrap();
    assert_eq!(undo.options.retry.as_ref().unwrap().max_attempts, 7);
    let InvokeSource::Template(child) = &root.invoke[2].source else { panic!() };
    assert_eq!(child.to_string(), "child@4");
    assert_eq!(template.children(), std::slice::from_ref(child));
    let ActionKind::Custom { options, .. } = &root.entry[0].kind else { panic!() };
    assert_eq!(options.retry.as_ref().unwrap().max_attempts, 7);
    assert_eq!(options.id.as_deref(), Some("m"));
    let slow = template.queues().iter().find(|queue| &*queue.name == "slow").unwrap();
    assert_eq!(slow.heartbeat_ms, Some(5));
    assert_eq!(slow.actions.iter().map(|action| &**action).collect::<Vec<_>>(), ["mail.send"]);
}

#[test]
fn an_invocation_without_an_id_is_named_by_its_place_and_state() {
    let template = compile(r#""initial":"a","states":{"a":{"invoke":[{"src":"x"},{"src":"x"}]}}"#);

    let ids: Vec<&str> = template.state(1).invoke.iter().map(|invoke| &*invoke.id).collect();
    assert_eq!(ids, ["0.t.a", "1.t.a"]);
    assert_eq!(&*template.state(1).invoke[1].done_event, "done.invoke.1.t.a");
}

#[test]
fn labels_are_accepted_and_schemas_kept() {
    let template = compile(
        r#""description":"d","tags":["a"],"meta":{"x":[1]},
           "events":{"pled.init":{"schema":{"type":"object"},"description":"input"},"A.b":{}},
           "on":{"X":{"description":"why","meta":null,"tags":"t"}}"#,
    );

    let init = &template.events["pled.init"];
    assert_eq!(init.schema.as_ref().unwrap().to_string(), r#"{"type":"object"}"#);
    assert_eq!(init.description.as_deref(), Some("input"));
    assert!(template.events["A.b"].schema.is_none());
}

#[test]
fn limits_have_defaults_and_bounds() {
    let template = compile(r#""limits":{"microsteps":10000,"event_ids":1024}"#);

    assert_eq!(
        template.limits,
        Limits { microsteps: 10_000, event_ids: 1_024, ..Limits::default() }
    );
}

const REFUSED: &str = include_str!("data/refused_templates.txt");

#[test]
fn what_is_wrong_is_refused_with_its_code_its_place_and_advice() {
    let mut cases = 0;
    for block in REFUSED.split("\n\n").filter(|block| !block.starts_with('#')) {
        let (members, expected) = block.split_once('\n').unwrap_or((block, ""));
        let source = text(members);
        let errors = errors_of(&source);

        let told: Vec<String> = errors.iter().map(|error| tell(error, &source)).collect();
        assert_eq!(told.join("\n"), expected.trim_end(), "{members}");
        cases += 1;
    }
    assert!(cases > 100);
}

#[test]
fn expressions_are_checked_where_they_stand() {
    for (members, pointer) in [
        (r#""on":{"X":{"guard":{"inState":"nowhere"}}}"#, "/on/X/guard/inState"),
        (r#""on":{"X":{"guard":{"gt":[1,2]}}}"#, "/on/X/guard"),
        (r#""entry":[{"type":"assign","params":{"n":{"var":"n"}}}]"#, "/entry/0/params/n/var"),
        (
            r#""entry":[{"type":"choose","params":{"branches":[{"guard":{"var":"item"},"actions":[]}]}}]"#,
            "/entry/0/params/branches/0/guard/var",
        ),
        (r#""entry":[{"type":"raise","params":{"event":{"no":1}}}]"#, "/entry/0/params/event"),
        (r#""delays":{"d":{"inState":"t"}}"#, "/delays/d/inState"),
        (r#""invoke":{"src":"a","input":{"x":{"var":"item"}}}"#, "/invoke/input/x/var"),
        (r#""output":{"a":{"==":[1]}}"#, "/output/a"),
    ] {
        let errors = errors_of(&text(members));
        let [error] = &*errors else { panic!("{members}: {errors:#?}") };
        assert!(error.code.starts_with("E1"), "{error:?}");
        assert_eq!(error.pointer, pointer, "{error:?}");
    }
    compile(
        r#""on":{"X":{"guard":{"and":[{"inState":"t"},{"var":"context.a"}]}}},"delays":{"d":{"+":[{"var":"context.a"},1]}},
           "invoke":{"src":"a","each":{"in":{"var":"context.list"}},"input":{"x":{"var":"item"},"n":{"var":"index"}}}"#,
    );
}

/// `code pointer «what the span covers»`, then the message and the help on lines of their own.
fn tell(error: &Diagnostic, source: &str) -> String {
    let span: String = source[error.span.clone()].chars().take(40).collect();
    let help = error.help.as_ref().map(|help| format!("\n    help: {help}")).unwrap_or_default();
    format!("  {} {} «{span}»\n    {}{help}", error.code, error.pointer, error.message)
}

#[test]
fn the_root_says_format_logic_name_and_version() {
    let refused = |source: &str| {
        errors_of(source).into_iter().map(|error| (error.code, error.pointer)).collect::<Vec<_>>()
    };

    let nothing: Vec<_> = errors_of("{}").into_iter().map(|error| error.message).collect();
    assert_eq!(
        nothing,
        ["`pled` is missing", "`logic` is missing", "`version` is missing", "`id` is missing"]
    );
    assert_eq!(refused("7"), [("E003", String::new())]);
    assert_eq!(
        refused(r#"{"pled":"2.0","logic":"x","id":"a.b","version":0}"#),
        [
            ("E008", "/pled".to_owned()),
            ("E008", "/logic".to_owned()),
            ("E011", "/id".to_owned()),
            ("E006", "/version".to_owned())
        ]
    );
}

#[test]
fn a_text_that_is_not_json_is_refused_at_its_place() {
    let [error] = &*errors_of("{\"pled\": \"1.0\",\n \"states\": {\"a\": {\"on\": [1, tru]}}}")
    else {
        panic!()
    };
    assert_eq!((error.code, &*error.pointer), ("E001", "/states/a/on/1"));
    assert_eq!(error.span, 44..45);

    let [error] = &*errors_of("") else { panic!() };
    assert_eq!((error.code, error.span.clone()), ("E001", 0..0));

    let [error] = &*errors_of(r#"{"states":{"a":{"on":{"X/Y":1,"X/Y":2}}}}"#) else { panic!() };
    assert_eq!((error.code, &*error.pointer), ("E002", "/states/a/on/X~1Y"));
    assert!(error.message.contains("stands twice"));
}

#[test]
fn all_errors_are_told_in_the_order_of_the_text() {
    let source = text(
        r#""initial":"a","states":{"a":{"on":{"X":"b","Y":"c"},"entry":[{"type":"stop"}]}},"colour":1"#,
    );

    let invalid = Template::parse(&source).unwrap_err();
    let pointers: Vec<&str> = invalid.errors.iter().map(|error| &*error.pointer).collect();
    assert_eq!(pointers, ["/states/a/on/X", "/states/a/on/Y", "/states/a/entry/0", "/colour"]);
    insta::assert_snapshot!(invalid, @r#"/states/a/on/X: "b" is no sibling of this state (line 1, column 98); /states/a/on/Y: "c" is no sibling of this state (line 1, column 106); /states/a/entry/0: `params` is missing (line 1, column 120); /colour: a template has no field `colour` (line 1, column 139)"#);
}

#[test]
fn a_hundred_errors_are_enough() {
    let wrong: Vec<String> = (0..5_000).map(|index| format!(r#""on{index}x":1"#)).collect();

    assert_eq!(errors_of(&text(&wrong.join(","))).len(), 100);
}

#[test]
fn nesting_is_bounded_by_the_text_and_not_by_the_stack() {
    let nested = |levels: usize| {
        let open = r#""initial":"a","states":{"a":{"#.repeat(levels);
        text(&format!("{open}{}", "}}".repeat(levels)))
    };
    let chosen = |levels: usize| {
        let open = r#"[{"type":"choose","params":{"branches":[{"actions":"#.repeat(levels);
        text(&format!(r#""entry":{open}[]{}"#, "}]}}]".repeat(levels)))
    };

    assert_eq!(Template::parse(&nested(63)).unwrap().states.len(), 64);
    assert!(Template::parse(&chosen(24)).is_ok());
    for deep in [nested(65), nested(100_000), chosen(26), chosen(100_000)] {
        let errors = errors_of(&deep);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].message.contains("nested deeper than 128"), "{errors:?}");
    }
}

#[test]
fn ten_thousand_states_compile() {
    let states: Vec<String> = (0..10_000)
        .map(|index| format!(r#""s{index}":{{"on":{{"NEXT":"s{}"}}}}"#, (index + 1) % 10_000))
        .collect();
    let template = compile(&format!(r#""initial":"s0","states":{{{}}}"#, states.join(",")));

    assert_eq!(template.states.len(), 10_001);
    assert_eq!(targets(&template, "t.s9999", "NEXT"), ["t.s0"]);
}

/// A JSON text whose keys and strings are often those of templates.
fn json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "pled",
        "1.0",
        "logic",
        "id",
        "states",
        "on",
        "always",
        "after",
        "initial",
        "type",
        "final",
        "history",
        "parallel",
        "target",
        "guard",
        "actions",
        "entry",
        "invoke",
        "src",
        "params",
        "assign",
        "raise",
        "choose",
        "branches",
        "event",
        "each",
        "in",
        "retry",
        "rules",
        "emit",
        "when",
        "var",
        "context.a",
        "==",
        "and",
        "",
        "*",
        "a.*",
        "#a",
        ".a",
        "a",
        "1",
        "é\u{0}~/",
    ]);
    let string = word.clone().prop_map(|word| format!("{word:?}").replace("\\0", "\\u0000"));
    let string = string.prop_map(|text| text.replace("\\u{0}", "\\u0000"));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i32>().prop_map(|int| int.to_string()),
        Just("1.5".to_owned()),
        string.clone()
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::btree_map(string.clone(), inner, 0..6).prop_map(|members| {
                let members = members.iter().map(|(key, value)| format!("{key}:{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            })
        ]
    })
}

/// What holds of every answer.
fn check(source: &str) {
    match Template::parse(source) {
        Ok(template) => {
            assert_eq!(&*template.source, source);
            let numbers: Vec<u32> = template.transitions().map(|(_, found)| found.number).collect();
            assert!(numbers.iter().all(|number| *number < template.transition_count()));
        }
        Err(invalid) => {
            assert!(!invalid.errors.is_empty());
            let starts: Vec<usize> = invalid.errors.iter().map(|error| error.span.start).collect();
            assert!(starts.is_sorted());
            for error in &invalid.errors {
                assert!(source.get(error.span.clone()).is_some(), "{error:?}");
            }
            assert!(!invalid.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "\\PC*") {
        check(&source);
    }

    #[test]
    fn no_json_makes_it_panic(value in json()) {
        check(&value);
        check(&text(&format!(r#""initial":"a","states":{{"a":{value}}}"#)));
        check(&text(&format!(r#""on":{value},"entry":[{value}],"invoke":{value},"rules":[{value}]"#)));
    }

    #[test]
    fn no_slip_in_the_order_example_makes_it_panic(
        slips in prop::collection::vec((0..ORDER.len(), prop::sample::select(&b"{}[]\",:0a#.*x "[..])), 1..4),
    ) {
        let mut bytes = ORDER.as_bytes().to_vec();
        for (at, byte) in slips {
            bytes[at] = byte;
        }
        if let Ok(source) = String::from_utf8(bytes) {
            check(&source);
        }
    }

    #[test]
    fn no_member_moved_to_another_place_makes_it_panic(from in 0..ORDER.len(), to in 0..ORDER.len()) {
        let word = |at: usize| {
            let start = ORDER[..at].rfind('"').unwrap_or(0);
            let end = ORDER[at..].find('"').map_or(ORDER.len(), |end| at + end);
            start..end
        };
        let (from, to) = (word(from), word(to));
        let mut source = ORDER.to_owned();
        source.replace_range(to, &ORDER[from]);
        check(&source);
    }
}

#[test]
fn a_template_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &Arc<T>) {}

    shared(&Arc::new(compile("")));
}

#[test]
fn a_template_says_what_it_is_at_a_glance() {
    let order = Template::parse(include_str!("../../examples/order-fulfilment.json")).unwrap();

    let metadata = order.metadata();

    assert_eq!(metadata.template.to_string(), "order@3");
    assert_eq!((metadata.logic, metadata.semantics), ("pled-logic-1", pled_engine::SEMANTICS));
    assert_eq!(metadata.states, order.states.len());
    assert_eq!((metadata.transitions, metadata.invocations), (order.transition_count(), 4));
    assert_eq!((metadata.hash, metadata.rules), (order.hash, 4));
}
