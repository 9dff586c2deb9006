//! `each`: one task for every element of an array.

use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::execution::Status;
use pled_engine::step::Verdict;
use pled_engine::template::Template;
use pled_engine::value::Value;

use super::life::{Life, json, machine};
use super::{APPLIED, broken, ok};

/// Work on every element of the input, `each` and the invocation having these further members.
fn packing(each: &str, invoke: &str) -> Arc<Template> {
    machine(&format!(
        r#""context":{{"items":null,"packed":null,"failure":null}},
        "entry":[{{"type":"assign","params":{{"items":{{"var":"event.data"}}}}}}],
        "initial":"packing","states":{{
            "packing":{{"on":{{"skip":"rest"}},"invoke":{{"id":"pack","src":"pack.item",
                "each":{{"in":{{"var":"context.items"}}{each}}},
                "input":{{"item":{{"var":"item"}},"at":{{"var":"index"}}}}{invoke},
                "onDone":{{"target":"rest","actions":[
                    {{"type":"assign","params":{{"packed":{{"var":"event.data"}}}}}}]}},
                "onError":{{"target":"rest","actions":[
                    {{"type":"assign","params":{{"failure":{{"var":"event.data"}}}}}}]}}}}}},
            "rest":{{}}}}"#
    ))
}

#[test]
fn every_element_is_a_task_and_the_results_come_in_the_order_of_the_elements() {
    let mut life = Life::started(&packing("", ""), r#"["a","b","c"]"#);
    let tasks = life.tasks();
    let inputs: Vec<_> = tasks.iter().map(|task| task.input.to_string()).collect();
    assert_eq!(
        inputs,
        [r#"{"at":0,"item":"a"}"#, r#"{"at":1,"item":"b"}"#, r#"{"at":2,"item":"c"}"#]
    );
    assert!(tasks.iter().all(|task| task.invocation.as_deref() == Some("pack")));
    let indexes: Vec<_> = tasks.iter().map(|task| task.index).collect();
    assert_eq!(indexes, [Some(0), Some(1), Some(2)]);

    assert_eq!(life.element_ends(2, ok(r#""C""#)), APPLIED);
    assert_eq!(life.element_ends(0, ok("null")), APPLIED);
    assert_eq!(life.configuration(), ["packing"]);
    assert!(life.entry().transitions.is_empty());
    assert_eq!(life.element_ends(1, ok(r#""B""#)), APPLIED);

    assert_eq!(life.configuration(), ["rest"]);
    assert_eq!(life.context("packed"), r#"[null,"B","C"]"#);
    assert!(life.now.state.fan_outs.is_empty() && life.now.state.tasks.is_empty());
    life.replays();
}

#[test]
fn no_more_run_at_once_than_the_concurrency_says_and_each_end_lets_the_next_begin() {
    let mut life = Life::started(&packing(r#","concurrency":2"#, ""), "[1,2,3,4]");
    assert_eq!(life.tasks().len(), 2);
    assert_eq!(life.now.state.fan_outs["pack"].waiting.len(), 2);

    life.element_ends(1, ok("20"));
    assert_eq!(life.tasks()[0].input, json(r#"{"item":3,"at":2}"#));
    life.element_ends(2, ok("30"));
    life.element_ends(0, ok("10"));
    assert!(life.tasks().is_empty(), "all are handed out");
    life.element_ends(3, ok("40"));

    assert_eq!(life.context("packed"), "[10,20,30,40]");
    life.replays();
}

#[test]
fn without_elements_it_is_done_in_the_same_step_behind_what_was_sent_before() {
    let template = machine(
        r#""context":{"heard":[]},"initial":"on","on":{"*":{"actions":[{"type":"assign","params":
            {"heard":{"merge":[{"var":"context.heard"},[{"var":"event.type"}]]}}}]}},
        "states":{"on":{"entry":[{"type":"send","params":{"event":"hello"}}],
            "invoke":{"id":"none","src":"x","each":{"in":[]},"onDone":"off"}},
            "off":{"entry":[{"type":"log","params":{"results":{"var":"event.data"}}}]}}"#,
    );
    let life = Life::started(&template, "null");

    assert_eq!(life.configuration(), ["off"]);
    assert_eq!(life.context("heard"), r#"["hello"]"#);
    assert_eq!(life.entry().log, [json(r#"{"results":[]}"#)]);
    assert!(life.tasks().is_empty() && life.now.state.fan_outs.is_empty());
    life.replays();
}

#[test]
fn what_is_not_an_array_is_an_error_of_logic_and_nothing_is_started() {
    let life = Life::started(&packing("", ""), r#"{"not":"an array"}"#);

    assert_eq!((life.configuration(), life.tasks().len()), (vec!["packing"], 0));
    let incident = life.now.state.incidents.values().next().unwrap();
    assert_eq!(&*incident.event, "error.execution");
    assert!(incident.failure.message.contains("array"), "{}", incident.failure.message);
}

#[test]
fn the_first_final_failure_cancels_the_rest_and_names_its_element() {
    let mut life = Life::started(&packing(r#","concurrency":3"#, ""), "[1,2,3,4,5]");
    life.element_ends(0, ok("10"));
    let late = life.element(2);

    assert_eq!(life.element_ends(1, broken()), APPLIED);

    assert_eq!(life.configuration(), ["rest"]);
    let failure = json(&life.context("failure"));
    assert_eq!(failure.get("code"), Some(&"broken".into()));
    assert_eq!(failure.get("details"), Some(&json(r#"{"index":1}"#)));
    let cancels =
        life.effects().into_iter().filter(|effect| matches!(effect, EffectKind::TaskCancel { .. }));
    assert_eq!(cancels.count(), 2);
    assert!(life.now.state.tasks.is_empty() && life.now.state.fan_outs.is_empty());
    assert_eq!(life.token_ends(late, ok("30")), Verdict::Stale);
    life.replays();
}

#[test]
fn collected_failures_stand_among_the_results() {
    let template = packing(r#","on_failure":"collect""#, "");
    let mut life = Life::started(&template, "[1,2]");

    life.element_ends(1, broken());
    life.element_ends(0, ok("10"));

    assert_eq!(
        life.context("packed"),
        r#"[10,{"error":{"attempts":1,"code":"broken","details":null,"message":"it was broken"}}]"#
    );
    life.replays();
}

#[test]
fn each_element_has_its_own_retries_and_times() {
    let options = r#","retry":{"max_attempts":2},"timeout":{"schedule_to_close_ms":60000}"#;
    let mut life = Life::started(&packing("", options), "[1,2]");
    assert_eq!(life.purposes().len(), 2);

    life.element_ends(0, broken());
    assert_eq!(life.fires("retry"), APPLIED);
    let again = life.tasks().remove(0);
    assert_eq!((again.index, again.attempt), (Some(0), 2));
    life.element_ends(1, ok("20"));
    assert_eq!(life.purposes().len(), 1, "the time of the one that ended is taken back");
    assert_eq!(life.fires("close"), APPLIED);

    let failure = json(&life.context("failure"));
    assert_eq!(failure.get("code"), Some(&"timeout".into()));
    assert!(life.purposes().is_empty());
    life.replays();
}

#[test]
fn leaving_the_state_cancels_those_that_run_and_forgets_those_that_wait() {
    let mut life = Life::started(&packing(r#","concurrency":2"#, ""), "[1,2,3,4]");
    life.element_ends(0, ok("10"));

    assert_eq!(life.receives("skip", "null"), APPLIED);

    let cancels = life.effects();
    assert_eq!(cancels.len(), 2);
    assert!(cancels.iter().all(|effect| matches!(effect, EffectKind::TaskCancel { .. })));
    assert!(life.now.state.fan_outs.is_empty() && life.now.state.tasks.is_empty());
    life.replays();
}

#[test]
fn an_end_from_outside_cancels_all_elements() {
    for event in ["pled.cancel", "pled.terminate"] {
        let mut life = Life::started(&packing("", ""), "[1,2,3]");
        assert_eq!(life.receives(event, "null"), APPLIED);
        assert_eq!(life.effects().len(), 3, "{event}");
        assert!(life.now.state.fan_outs.is_empty() && life.now.state.tasks.is_empty());
        assert!(life.status().is_terminal());
    }
}

#[test]
fn a_thousand_elements_go_in_waves_through_entries_of_moderate_size() {
    let items: Vec<Value> = (0..1_000_u32).map(|n| format!("item number {n}").into()).collect();
    let template = packing("", "");
    let mut life = Life::started(&template, &Value::from(items).to_string());
    assert_eq!(life.tasks().len(), 100, "the default");

    let mut largest = 0;
    while life.configuration() == ["packing"] {
        let running: Vec<_> = life.now.state.tasks.keys().copied().collect();
        let messages: Vec<_> =
            running.iter().map(|task| life.result(*task, 1, ok("true"))).collect();
        let verdicts = life.take(&messages);
        assert!(verdicts.iter().all(|verdict| *verdict == APPLIED));
        largest = largest.max(life.entry().encode().unwrap().len());
    }

    assert_eq!(json(&life.context("packed")).as_array().unwrap().len(), 1_000);
    assert!(largest < 256 * 1024, "{largest} bytes");
    assert_eq!(life.entries.len(), 11);
    life.replays();
}

#[test]
fn large_inputs_go_in_smaller_waves() {
    let items: Vec<Value> = (0..20).map(|_| "x".repeat(30_000).into()).collect();
    let template = packing("", "");
    let items = Value::from(items).to_string();
    let mut life = Life::started(&template, r#"["small"]"#);
    assert_eq!(life.tasks().len(), 1);
    // The context may not be that large, so the items are the event's.
    let direct = machine(
        r#""initial":"idle","states":{"idle":{"on":{"go":"work"}},
            "work":{"invoke":{"id":"w","src":"x","each":{"in":{"var":"event.data"}},
                "input":{"var":"item"},"onDone":"idle"}}}"#,
    );
    life = Life::started(&direct, "null");
    assert_eq!(life.receives("go", &items), APPLIED);
    assert_eq!(life.tasks().len(), 3, "until 64 KiB are handed out");

    for index in 0..20 {
        assert_eq!(life.element_ends(index, ok("1")), APPLIED);
    }
    assert_eq!((life.configuration(), life.status()), (vec!["idle"], Status::Running));
    life.replays();
}
