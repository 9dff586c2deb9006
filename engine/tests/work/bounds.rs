//! What an execution may hold, and how long it may go on by itself.

use pled_engine::execution::Status;
use pled_engine::template::Template;
use pled_engine::value::Value;

use super::life::{Life, machine};
use super::{APPLIED, IGNORED, REJECTED};

#[test]
fn whatever_a_step_holds_can_be_written_and_read_back() {
    let template = machine(
        r#""context":{"n":9007199254740991,"deep":[]},"initial":"on","states":{"on":{"on":{
            "grow":{"actions":[{"type":"assign","params":{"n":{"*":[{"var":"context.n"},3]}}}]},
            "nest":{"actions":[{"type":"assign","params":{"deep":[{"var":"context.deep"}]}}]}}}}"#,
    );
    let mut life = Life::started(&template, "null");
    for _ in 0..12 {
        assert_eq!(life.receives("grow", "null"), APPLIED);
    }
    assert!(life.context("n").len() > 20, "{}", life.context("n"));

    for _ in 0..100 {
        assert_eq!(life.receives("nest", "null"), APPLIED);
    }
    let deep = life.now.state.context.get("deep").unwrap();
    assert!(!deep.is_deeper_than(64) && deep.is_deeper_than(63));
    assert!(life.now.state.incidents.values().all(|one| &*one.event == "error.execution"));
    assert_eq!(life.now.state.incidents.len(), 37);
    life.replays();
}

#[test]
fn constants_of_a_template_are_held_to_the_same_depth() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let source = |context: &str, meta: &str| {
        format!(
            r#"{{"pled":"1.0","id":"t","version":1,"logic":"pled-logic-1","context":{{"a":{context}}},
                "initial":"a","states":{{"a":{{"invoke":{{"src":"x","meta":{meta}}}}}}}}}"#
        )
    };
    assert!(Template::parse(&source(&deep(63), &deep(64))).is_ok());
    for (context, meta) in [(deep(64), deep(1)), (deep(1), deep(65))] {
        let errors = Template::parse(&source(&context, &meta)).unwrap_err().errors;
        assert_eq!(errors[0].code, "E026");
    }
    assert!(Template::parse(&source("1e20", "1")).unwrap_err().errors[0].message.contains("2^53"));
}

#[test]
fn the_door_and_the_journal_agree_on_large_numbers() {
    for refused in ["9007199254740992", "1e16", "-1e20", "99999999999999999999.0"] {
        assert!(Value::parse(refused.as_bytes()).is_err(), "{refused}");
    }
    for taken in ["9007199254740991", "1e21", "-1.5e300", "0.1"] {
        let value = Value::parse(taken.as_bytes()).unwrap();
        assert_eq!(Value::parse(&value.to_canonical()).unwrap(), value, "{taken}");
    }
}

#[test]
fn timers_without_delay_that_set_each_other_fail_the_execution() {
    for members in [
        r#""states":{"a":{"after":{"0":"b"}},"b":{"after":{"0":"a"}}}"#,
        r#""states":{"a":{"entry":[{"type":"send","params":{"event":"x","delay_ms":0}}],
            "on":{"x":{"target":"a","reenter":true}}}}"#,
        r#""states":{"a":{"entry":[{"type":"send","params":{"event":"y"}}],
            "after":{"0":{"target":"a","reenter":true}},
            "on":{"y":{"actions":[{"type":"send","params":{"event":"x","delay_ms":0,"id":"x"}}]}}}}"#,
    ] {
        let template = machine(&format!(r#""limits":{{"microsteps":50}},"initial":"a",{members}"#));
        let mut life = Life::started(&template, "null");
        let mut fired = 0;
        while life.status() == Status::Running {
            let timer = *life.now.state.timers.keys().next_back().unwrap();
            let message = life.fired(timer);
            let verdict = life.take_one(&message);
            assert!([APPLIED, IGNORED, REJECTED].contains(&verdict), "{verdict:?}");
            fired += 1;
            assert!(fired <= 120, "{members}");
        }
        assert_eq!(&*life.now.state.error.as_ref().unwrap().code, "loop");
        life.replays();
    }
}

#[test]
fn many_timers_without_delay_that_do_not_set_each_other_are_fine() {
    let template = machine(
        r#""limits":{"microsteps":20},"initial":"a","states":{"a":{"on":{
            "go":{"actions":[{"type":"send","params":{"event":"x","delay_ms":0}}]},
            "x":{"actions":[{"type":"log","params":{}}]}}}}"#,
    );
    let mut life = Life::started(&template, "null");
    for _ in 0..100 {
        assert_eq!(life.receives("go", "null"), APPLIED);
    }
    for _ in 0..100 {
        assert_eq!(life.fires("send"), APPLIED);
    }
    assert_eq!(life.status(), Status::Running);
}
