//! Incidents: what a person decides, and what a worker says about the next attempt.

use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::execution::Status;
use pled_engine::message::{Failure, TaskOutcome};
use pled_engine::step::Verdict;
use pled_engine::template::Template;
use pled_engine::value::Value;

use super::life::{Life, machine};
use super::{APPLIED, REJECTED, broken, ok};

fn charging(options: &str) -> Arc<Template> {
    machine(&format!(
        r#""context":{{"ref":null}},"initial":"charging","states":{{
            "charging":{{"entry":[{{"type":"note","params":{{}}}}],
                "invoke":{{"id":"charge","src":"payments.charge","input":{{"amount":5}},{options}
                "onDone":{{"target":"paid","actions":[
                    {{"type":"assign","params":{{"ref":{{"var":"event.data.ref"}}}}}}]}}}},
                "on":{{"leave":"away"}}}},
            "paid":{{}},"away":{{}}}}"#
    ))
}

fn stuck(options: &str) -> Life {
    let mut life = Life::started(&charging(options), "null");
    assert_eq!(life.fails("charge", "broken"), APPLIED);
    assert_eq!(life.now.state.incidents.len(), 1);
    life
}

impl Life {
    fn decides(&mut self, action: &str, data: &str) -> Verdict {
        let token = *self.now.state.incidents.keys().next().unwrap();
        let data = format!(r#"{{"incident":"{token}","action":"{action}","data":{data}}}"#);
        self.receives("pled.incident", &data)
    }

    fn reason(&self) -> &str {
        self.entry().causes[0].error.as_deref().unwrap()
    }
}

#[test]
fn a_retry_hands_out_one_more_attempt_under_the_same_key() {
    let mut life = stuck(r#""timeout":{"schedule_to_close_ms":60000},"meta":{"who":"ops"},"#);

    assert_eq!(life.decides("retry", "null"), APPLIED);

    let tasks = life.tasks();
    assert_eq!((tasks.len(), tasks[0].attempt, &*tasks[0].action), (1, 2, "payments.charge"));
    assert_eq!(tasks[0].input, super::json(r#"{"amount":5}"#));
    assert_eq!(tasks[0].deadline, Some(life.now.at + 60_000));
    assert_eq!(life.task("charge"), tasks[0].task);
    assert!(life.now.state.incidents.is_empty());
    // The attempt from before is stale, the new one ends the invocation.
    let late = life.result(tasks[0].task, 1, ok("null"));
    assert_eq!(life.take_one(&late), Verdict::Stale);
    assert_eq!(life.succeeds("charge", r#"{"ref":"r-1"}"#), APPLIED);
    assert_eq!((life.configuration(), life.context("ref")), (vec!["paid"], r#""r-1""#.to_owned()));
    life.replays();
}

#[test]
fn a_retry_that_fails_is_an_incident_again_however_many_attempts_there_were() {
    let mut life = Life::started(
        &charging(r#""retry":{"max_attempts":2,"initial_interval_ms":1000},"#),
        "null",
    );
    life.fails("charge", "broken");
    life.fires("retry");
    life.fails("charge", "broken");

    for attempt in 3..6 {
        assert_eq!(life.decides("retry", "null"), APPLIED);
        assert_eq!(life.tasks()[0].attempt, attempt);
        assert_eq!(life.fails("charge", "broken"), APPLIED);
        let incident = life.now.state.incidents.values().next().unwrap();
        assert_eq!(&*incident.failure.code, "retries_exhausted");
    }
    life.replays();
}

#[test]
fn what_an_earlier_attempt_brings_late_is_not_undone_where_a_later_one_succeeds() {
    let options = r#""timeout":{"schedule_to_close_ms":1000},
        "compensate":{"src":"payments.refund","input":{}},"#;
    let mut life = Life::started(&charging(options), "null");
    life.fires("close");
    assert_eq!(life.now.state.given_up.len(), 1);

    life.decides("retry", "null");
    let task = life.task("charge");
    assert_eq!(life.succeeds("charge", "null"), APPLIED);
    let late = life.result(task, 1, ok("null"));
    assert_eq!(life.take_one(&late), Verdict::Stale);

    assert_eq!(life.now.state.compensations.len(), 1);
    assert!(life.now.state.compensating.is_none());
    life.replays();
}

#[test]
fn a_resolution_is_the_result_of_the_invocation() {
    let mut life = stuck("");

    assert_eq!(life.decides("resolve", r#"{"ref":"by hand"}"#), APPLIED);

    assert_eq!((life.configuration(), life.context("ref")), (vec!["paid"], r#""by hand""#.into()));
    assert!(life.now.state.incidents.is_empty());
    life.replays();
}

#[test]
fn an_ignored_incident_is_forgotten_and_a_failed_one_ends_the_execution() {
    let mut ignored = stuck("");
    assert_eq!(ignored.decides("ignore", "null"), APPLIED);
    assert_eq!((ignored.configuration(), ignored.status()), (vec!["charging"], Status::Running));
    assert!(ignored.now.state.incidents.is_empty());
    assert_eq!(ignored.receives("leave", "null"), APPLIED);
    ignored.replays();

    let mut failed = stuck("");
    assert_eq!(failed.decides("fail", "null"), APPLIED);
    assert_eq!(failed.status(), Status::Failed);
    let error = failed.now.state.error.as_ref().unwrap();
    assert_eq!((&*error.code, &*error.message), ("error.invoke.charge", "it was broken"));
    failed.replays();
}

#[test]
fn fire_and_forget_work_is_retried_too() {
    let mut life = Life::started(&charging(""), "null");
    life.fails("note", "broken");

    assert_eq!(life.decides("retry", "null"), APPLIED);
    assert_eq!((&*life.tasks()[0].action, life.tasks()[0].attempt), ("note", 2));
    assert_eq!(life.succeeds("note", "null"), APPLIED);

    assert!(life.now.state.incidents.is_empty());
    life.replays();
}

#[test]
fn a_decision_that_cannot_be_carried_out_says_why_and_changes_nothing() {
    let mut life = stuck("");
    let before = life.now.state.incidents.clone();

    for (data, said) in [
        (r#"{"incident":"99-0","action":"retry"}"#, "there is no incident 99-0"),
        (r#"{"incident":"x","action":"retry"}"#, "x"),
        (r#"{"action":"retry"}"#, "`incident` is no string"),
        (r#"{"incident":"1-1","action":"mend"}"#, "\"mend\" is none of"),
        ("null", "`incident` is no string"),
    ] {
        assert_eq!(life.receives("pled.incident", data), REJECTED, "{data}");
        assert!(life.reason().contains(said), "{said} is not in {}", life.reason());
    }

    assert_eq!(life.now.state.incidents, before);
    life.receives("leave", "null");
    assert!(life.now.state.incidents.is_empty());
    life.replays();
}

#[test]
fn a_fan_out_is_no_single_task_but_can_be_resolved() {
    let template = machine(
        r#""context":{},"initial":"work","states":{"work":{"invoke":{"id":"all","src":"do.it",
            "each":{"in":{"$literal":[1,2]}},"input":{"n":{"var":"item"}},"onDone":"done"}},
            "done":{"type":"final","output":{"results":{"var":"event.data"}}}}"#,
    );
    let mut life = Life::started(&template, "null");
    life.element_ends(0, broken());

    assert_eq!(life.decides("retry", "null"), REJECTED);
    assert!(life.reason().contains("no single task"), "{}", life.reason());
    assert_eq!(life.decides("resolve", "[1,2]"), APPLIED);
    assert_eq!(life.status(), Status::Done);
    life.replays();
}

#[test]
fn the_pause_is_the_longer_of_what_the_template_gives_and_what_the_service_asks_for() {
    let asking = |retry_after_ms: Option<i64>| {
        let options = r#""retry":{"max_attempts":3,"initial_interval_ms":1000,"backoff":1},"#;
        let mut life = Life::started(&charging(options), "null");
        let failure = Failure {
            code: "http_503".into(),
            message: String::new(),
            details: Value::Null,
            retryable: true,
            retry_after_ms,
        };
        assert_eq!(life.ends("charge", TaskOutcome::Failed(failure)), APPLIED);
        life.replays();
        let due = life.effects().into_iter().find_map(|effect| match effect {
            EffectKind::TimerSet { due, .. } => Some(due),
            EffectKind::Task(_)
            | EffectKind::TaskCancel { .. }
            | EffectKind::TimerCancel { .. }
            | EffectKind::Send { .. }
            | EffectKind::ChildStart(_)
            | EffectKind::ChildCancel { .. }
            | EffectKind::ChildDone { .. } => None,
        });
        due.unwrap() - life.now.at
    };

    let own = asking(None);
    assert!((1_000..=1_200).contains(&own), "{own}");
    assert_eq!(asking(Some(500)), own);
    assert_eq!(asking(Some(30_000)), 30_000);
    assert_eq!(asking(Some(i64::from(u32::MAX))), 86_400_000);
}
