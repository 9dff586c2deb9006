//! Scenario files and sessions: what they find, and how they say it.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use std::sync::Arc;

use pled_authoring::scenario::{Document, Reply, Scenario, Session};
use pled_engine::template::Template;
use pled_engine::value::Value;

fn order() -> Arc<Template> {
    template(include_str!("../../examples/order-fulfilment.json"))
}

fn template(source: &str) -> Arc<Template> {
    Arc::new(Template::parse(source).unwrap())
}

fn read(text: &str) -> Result<Vec<Scenario>, Vec<String>> {
    let told = |fault: pled_authoring::scenario::Fault| fault.to_string();
    let document = Document::parse(text).map_err(|fault| vec![told(fault)])?;
    document.scenarios(&order()).map_err(|faults| faults.into_iter().map(told).collect())
}

/// The fault of a file with this scenario.
fn fault(scenario: &str) -> String {
    let text = format!("template: t.json\nscenarios:\n  - name: one\n    {scenario}\n");
    read(&text).unwrap_err().join(" | ")
}

#[test]
fn every_fault_names_its_field_and_its_place() {
    let faults = [
        ("stps: []", "4:5: a scenario has no field `stps`; did you mean `steps`?"),
        ("steps: 3", "4:12: `steps` is a list of steps"),
        ("steps: [{ sned: PAY }]", "4:15: a step has no field `sned`; did you mean `send`?"),
        ("steps: [{ send: PAY, wait: 1s }]", "4:32: a step has `send` or `wait`, not both"),
        ("steps: [{ wait: soon }]", "4:21: `wait` is a time like 1500ms, 5s, 15m, 1h or 7d"),
        ("steps: [{ wait: 1s, data: 1 }]", "4:25: `data` does not belong to `wait`"),
        ("steps: [{ done: chrge }]", "no invocation or action \"chrge\"; did you mean `charge`?"),
        ("mocks: { shp: { done: 1 } }", "4:14: `mocks`: the template has no invocation or action"),
        ("mocks: { ship: { doen: 1 } }", "no field `doen`; did you mean `done`?"),
        ("mocks: { ship: { done: 1, fail: x } }", "has one of `done`, `fail`, `pending`"),
        ("mocks: { ship: { done: 1, times: 0 } }", "`times` is how many attempts get it"),
        ("expect: { state: chargin }", "4:22: no state \"chargin\"; did you mean `charging`?"),
        ("expect: { status: over }", "4:23: `status` is one of running, paused, done"),
        ("expect: { outcome: maybe }", "4:24: `outcome` is one of applied, ignored"),
        ("expect: { effects: [{ what: 1 }] }", "an effect has no field `what`"),
        ("name: two", "4:5: "),
        ("steps: [", ""),
    ];
    for (scenario, wanted) in faults {
        let said = fault(scenario);
        assert!(said.contains(wanted), "{scenario}\n  wanted {wanted}\n  said   {said}");
    }
    assert!(read("scenarios: []").unwrap_err()[0].contains("the field `template` is missing"));
    assert!(read("template: t.json").unwrap_err()[0].contains("the field `scenarios` is missing"));
    assert!(read("- 1").unwrap_err()[0].contains("a scenario file is a map, not a list"));
}

fn differences(scenario: &str) -> Vec<String> {
    let text = format!(
        "template: t.json\ninput: {{ orderId: A, amount: 5, lines: 1 }}\nscenarios:\n  - name: one\n{scenario}"
    );
    let scenarios = read(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
    let ran = scenarios[0].run(&order());
    ran.differences.iter().map(|one| format!("{}: {}", one.line, one.text())).collect()
}

#[test]
fn what_differs_is_told_with_its_line() {
    let found = differences(
        "    mocks: { charge: { fail: card_declined } }
    expect:
      state: completed
      status: failed
      context: { attempt: 2, failure: null }
      output: { $exact: { failure: x } }
      effects: { $exact: [charge, refund] }
      incidents: [error.invoke.charge]
",
    );

    assert_eq!(found.len(), 7, "{found:#?}");
    assert_eq!(found[0], "7: state: expected completed, found rejected");
    assert_eq!(found[1], "7: status: expected failed, found done");
    assert_eq!(found[2], "7: context.attempt: expected 2, found 1");
    assert!(
        found[4].contains("  - {\n") || found[4].contains("- expected, + found"),
        "{}",
        found[4]
    );
    assert!(found.iter().any(|one| one.contains("- refund")), "{found:#?}");
    assert!(found.iter().any(|one| one.contains("expected error.invoke.charge, found none")));
}

#[test]
fn a_result_that_nobody_waits_for_ends_the_scenario() {
    let found =
        differences("    steps:\n      - done: ship\n      - expect: { state: completed }\n");

    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("no task \"ship\" is outstanding: there is charge"), "{found:#?}");
}

#[test]
fn an_attempt_in_its_pause_cannot_end() {
    let found = differences(
        "    steps:
      - fail: charge
        code: busy
      - done: charge
",
    );

    assert!(found[0].contains("charge waits for its next attempt"), "{found:#?}");
}

fn typed(session: &mut Session, line: &str) -> String {
    match session.line(line) {
        Reply::Text(text) => text,
        Reply::Save { .. } | Reply::Quit => panic!("{line} is another thing"),
    }
}

#[test]
fn a_session_takes_steps_back_and_saves_what_passes() {
    let input = Value::parse(br#"{"orderId":"A","amount":5,"lines":1}"#).unwrap();
    let (mut session, text) = Session::start(order(), input).unwrap();
    assert!(text.contains("invoke    charge (payments.charge)"), "{text}");

    let failed = typed(&mut session, "fail charge busy the gateway is busy");
    assert!(failed.contains("timer     retry of charge in 1."), "{failed}");
    assert!(typed(&mut session, "+2s").contains("invoke    charge #2"));
    let paid = typed(&mut session, r#"done charge {"charge_id":"ch-1"}"#);
    assert!(paid.contains("state     charging -> booking, issuing"), "{paid}");
    assert!(typed(&mut session, "undo").contains("attempt 2 of 5"));
    assert!(typed(&mut session, "events").contains("event     HOLD  (in active)"));
    assert!(typed(&mut session, "NONSENSE").contains("was ignored"));
    assert!(typed(&mut session, "HOLD {").contains("is no JSON"));
    assert!(typed(&mut session, "+soon").contains("is no time"));
    assert!(typed(&mut session, "done").contains("outstanding: charge"));
    typed(&mut session, r#"HOLD {"reason":"it's a \"test\": x"}"#);

    let saved = session.scenario("t.json");
    let scenarios = read(&saved).unwrap_or_else(|faults| panic!("{faults:?}\n{saved}"));
    assert_eq!(scenarios[0].steps.len(), 4, "{saved}");
    let ran = scenarios[0].run(&order());
    assert!(ran.passed(), "{:#?}\n{saved}", ran.differences);
}

#[test]
fn steps_as_the_model_check_prints_them_are_taken() {
    let input = Value::parse(br#"{"orderId":"A","amount":5,"lines":1}"#).unwrap();
    let (mut session, _) = Session::start(order(), input).unwrap();

    let failed = r#"{"event":{"name":"error.invoke.charge","data":{"code":"retries_exhausted"}}}"#;
    assert!(session.step(failed).unwrap().contains("charging -> cooling"));
    let on = session.step(r#"{"after_ms":60000,"event":{"name":"done.invoke.charge","data":{}}}"#);
    assert!(on.as_ref().unwrap().contains("charging -> booking, issuing"), "{on:?}");
    assert!(session.step("{").is_err());
    assert!(session.step(r#"{"after_ms":-1}"#).is_err());
    assert!(session.step(r#"{"event":{}}"#).is_err());
}

#[test]
fn elements_of_each_are_mocked_and_expected_by_their_index() {
    let template = template(
        r#"{"pled":"1.0","id":"m","version":1,"logic":"pled-logic-1","context":{"items":["a","b","c"],"got":null},
        "initial":"work","states":{"work":{"invoke":{"id":"pack","src":"box",
        "each":{"in":{"var":"context.items"},"on_failure":"collect"},"input":{"item":{"var":"item"}},
        "compensate":{"src":"unpack"},
        "onDone":{"target":"end","actions":[{"type":"assign","params":{"got":{"var":"event.data"}}}]},
        "onError":"end"},"on":{"STOP":"end"}},"end":{"type":"final"}}}"#,
    );
    let document = Document::parse(
        "template: t.json
mocks: { pack: { done: ok }, 'pack[1]': { done: other, after: 1s } }
scenarios:
  - name: all
    steps:
      - wait: 1s
    expect:
      context: { got: [ok, other, ok] }
      effects: ['pack[0]', { invoke: 'pack[1]', input: { item: b } }, pack]
",
    )
    .unwrap();

    let scenarios = document.scenarios(&template).unwrap();

    assert!(scenarios[0].run(&template).passed(), "{:#?}", scenarios[0].run(&template).differences);
}
