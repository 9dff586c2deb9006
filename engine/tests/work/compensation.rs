//! Compensations: what undoes the invocations that succeeded.

use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::execution::Status;
use pled_engine::id::Token;
use pled_engine::message::TaskOutcome;
use pled_engine::step::Verdict;
use pled_engine::template::Template;

use super::life::{Life, json, machine};
use super::{APPLIED, IGNORED, broken, ok};

/// A trip that books a hotel, then a flight, then waits; `members` stand at the root.
fn trip_with(members: &str) -> Arc<Template> {
    let step = |id: &str, next: &str| {
        format!(
            r#""{id}":{{"invoke":{{"id":"{id}","src":"book.{id}","onDone":"{next}",
                "compensate":{{"src":"undo.{id}","retry":{{"max_attempts":2}},
                    "input":{{"booking":{{"var":"event.data.ref"}},"trip":{{"var":"context.trip"}}}}}}}}}}"#
        )
    };
    machine(&format!(
        r#""context":{{"trip":"t-1","why":null}},{members}"initial":"hotel","states":{{{},{},
            "booked":{{"on":{{"finish":"done"}}}},
            "undoing":{{"entry":[{{"type":"compensate"}}],
                "on":{{"done.compensate":"undone","retry":{{"target":"undoing","reenter":true}},
                    "error.compensate":{{"actions":[{{"type":"assign","params":
                        {{"why":{{"var":"event.data"}}}}}}]}}}}}},
            "undone":{{}},"elsewhere":{{}},"done":{{"type":"final"}}}}"#,
        step("hotel", "flight"),
        step("flight", "booked")
    ))
}

fn trip() -> Arc<Template> {
    trip_with(r#""on":{"undo":".undoing","leave":".elsewhere"},"#)
}

fn booked(template: &Arc<Template>) -> Life {
    let mut life = Life::started(template, "null");
    assert_eq!(life.succeeds("hotel", r#"{"ref":"h-1"}"#), APPLIED);
    assert_eq!(life.succeeds("flight", r#"{"ref":"f-1"}"#), APPLIED);
    life
}

impl Life {
    fn stack(&self) -> Vec<&str> {
        self.now.state.compensations.iter().map(|undo| &*undo.invocation).collect()
    }

    fn undoes(&mut self, what: &str, outcome: TaskOutcome) -> Verdict {
        self.ends(&format!("undo.{what}"), outcome)
    }

    fn incident(&self, event: &str) -> bool {
        self.now.state.incidents.values().any(|incident| &*incident.event == event)
    }
}

#[test]
fn the_stack_is_run_in_reverse_one_after_the_other_and_then_the_template_is_told() {
    let mut life = booked(&trip());
    assert_eq!(life.stack(), ["hotel", "flight"]);

    assert_eq!(life.receives("undo", "null"), APPLIED);
    assert_eq!(life.tasks().len(), 1, "one at a time");
    let task = life.tasks().remove(0);
    assert_eq!(&*task.action, "undo.flight");
    assert_eq!((&task.invocation, task.input), (&None, json(r#"{"booking":"f-1","trip":"t-1"}"#)));

    assert_eq!(life.undoes("flight", ok("null")), APPLIED);
    assert_eq!(&*life.tasks()[0].action, "undo.hotel");
    assert_eq!((life.stack(), life.configuration()), (vec!["hotel"], vec!["undoing"]));
    assert_eq!(life.undoes("hotel", ok("null")), APPLIED);

    assert_eq!((life.stack().len(), life.configuration()), (0, vec!["undone"]));
    assert!(life.now.state.compensating.is_none() && life.now.state.tasks.is_empty());
    life.replays();
}

#[test]
fn an_empty_stack_is_done_in_the_same_step() {
    let mut life = Life::started(&trip(), "null");

    assert_eq!(life.receives("undo", "null"), APPLIED);

    assert_eq!(life.configuration(), ["undone"]);
    life.replays();
}

#[test]
fn a_success_is_on_the_stack_before_the_template_acts_on_it() {
    let template = machine(
        r#""initial":"pay","states":{"pay":{"invoke":{"id":"pay","src":"charge",
            "compensate":{"src":"refund"},
            "onDone":{"target":"regret","actions":[{"type":"compensate"}]}}},
            "regret":{"on":{"done.compensate":"over"}},"over":{}}"#,
    );
    let mut life = Life::started(&template, "null");

    assert_eq!(life.succeeds("pay", "null"), APPLIED);
    assert_eq!((&*life.tasks()[0].action, life.configuration()), ("refund", vec!["regret"]));
    assert_eq!(life.succeeds("refund", "null"), APPLIED);
    assert_eq!(life.configuration(), ["over"]);
}

#[test]
fn a_failed_compensation_keeps_itself_and_the_rest_and_can_be_run_again() {
    let mut life = booked(&trip());
    life.receives("undo", "null");
    assert_eq!(life.undoes("flight", broken()), APPLIED);
    assert_eq!(life.fires("retry"), APPLIED, "it has its own retries");

    assert_eq!(life.undoes("flight", broken()), APPLIED);

    let why = json(&life.context("why"));
    assert_eq!(why.get("code"), Some(&"retries_exhausted".into()));
    assert_eq!(why.get("invocation"), Some(&"flight".into()));
    assert_eq!(life.stack(), ["hotel", "flight"]);
    assert!(life.now.state.tasks.is_empty() && life.now.state.compensating.is_none());

    life.receives("retry", "null");
    life.undoes("flight", ok("null"));
    life.undoes("hotel", ok("null"));
    assert_eq!((life.stack().len(), life.configuration()), (0, vec!["undone"]));
    life.replays();
}

#[test]
fn a_second_compensate_while_one_runs_changes_nothing() {
    let mut life = booked(&trip());
    life.receives("undo", "null");
    life.receives("retry", "null");
    assert!(life.effects().is_empty());

    life.undoes("flight", ok("null"));
    life.undoes("hotel", ok("null"));

    assert_eq!(life.configuration(), ["undone"]);
}

fn late(life: &mut Life, task: Token) -> Verdict {
    life.token_ends(task, ok(r#"{"ref":"late"}"#))
}

#[test]
fn a_late_success_is_undone_at_once_and_alone() {
    let mut life = Life::started(&trip(), "null");
    life.succeeds("hotel", r#"{"ref":"h-1"}"#);
    let flight = life.task("flight");
    life.receives("leave", "null");
    assert_eq!(life.effects(), [EffectKind::TaskCancel { task: flight, attempt: 1 }]);

    assert_eq!(late(&mut life, flight), APPLIED);
    assert_eq!(life.tasks()[0].input, json(r#"{"booking":"late","trip":"t-1"}"#));
    assert_eq!(life.undoes("flight", ok("null")), APPLIED);

    assert_eq!((life.stack(), life.configuration()), (vec!["hotel"], vec!["elsewhere"]));
    assert!(life.now.state.tasks.is_empty() && life.now.state.given_up.is_empty());
    assert_eq!(late(&mut life, flight), Verdict::Stale, "it is undone once");
    life.replays();
}

#[test]
fn a_late_failure_leaves_nothing_to_undo() {
    let mut life = Life::started(&trip(), "null");
    let hotel = life.task("hotel");
    life.receives("leave", "null");
    assert_eq!(life.now.state.given_up.len(), 1);

    assert_eq!(life.token_ends(hotel, broken()), APPLIED);

    assert!(life.now.state.given_up.is_empty() && life.stack().is_empty());
}

#[test]
fn a_late_success_after_the_end_is_undone_all_the_same() {
    let mut life = Life::started(&trip(), "null");
    let hotel = life.task("hotel");
    assert_eq!(life.receives("pled.cancel", "null"), APPLIED);
    assert_eq!(life.status(), Status::Cancelled);

    assert_eq!(late(&mut life, hotel), APPLIED);
    assert_eq!(life.undoes("hotel", ok("null")), APPLIED);

    assert_eq!((life.status(), life.stack().len()), (Status::Cancelled, 0));
    life.replays();
}

#[test]
fn a_success_after_schedule_to_close_is_undone_too() {
    let template = machine(
        r#""initial":"pay","states":{"pay":{"invoke":{"id":"pay","src":"charge","onError":"sorry",
            "timeout":{"schedule_to_close_ms":1000},"compensate":{"src":"refund"}}},"sorry":{}}"#,
    );
    let mut life = Life::started(&template, "null");
    let pay = life.task("pay");
    assert_eq!(life.fires("close"), APPLIED);
    assert_eq!(life.configuration(), ["sorry"]);

    assert_eq!(late(&mut life, pay), APPLIED);

    assert_eq!(&*life.tasks()[0].action, "refund");
}

#[test]
fn a_cancel_undoes_all_before_the_execution_is_cancelled_and_a_second_one_changes_nothing() {
    let mut life = booked(&trip());

    assert_eq!(life.receives("pled.cancel", "null"), APPLIED);
    assert_eq!(life.status(), Status::Running);
    assert_eq!(life.now.state.ending, Some(Status::Cancelled));
    assert_eq!(life.receives("pled.cancel", "null"), IGNORED);
    assert_eq!(life.receives("undo", "null"), Verdict::Closed);
    assert_eq!(life.undoes("flight", ok("null")), APPLIED);
    assert_eq!(life.status(), Status::Running);
    assert_eq!(life.undoes("hotel", ok("null")), APPLIED);

    assert_eq!((life.status(), life.now.state.ending), (Status::Cancelled, None));
    assert!(life.stack().is_empty() && life.now.state.tasks.is_empty());
    assert_eq!(life.receives("pled.cancel", "null"), Verdict::Closed);
    life.replays();
}

#[test]
fn what_cannot_be_undone_after_a_cancel_is_an_incident_and_the_rest_is_undone() {
    for on_error in ["incident", "fail"] {
        let template = trip_with(&format!(r#""on_error":"{on_error}","#));
        let mut life = booked(&template);
        life.receives("pled.cancel", "null");
        life.undoes("flight", broken());
        life.fires("retry");
        assert_eq!(life.undoes("flight", broken()), APPLIED);

        assert_eq!(&*life.tasks()[0].action, "undo.hotel");
        assert!(life.incident("error.compensate"));
        assert_eq!(life.undoes("hotel", ok("null")), APPLIED);

        assert_eq!((life.status(), life.stack()), (Status::Cancelled, vec!["flight"]));
        life.replays();
    }
}

#[test]
fn a_cancel_that_the_template_handles_undoes_only_what_it_says() {
    let template = trip_with(r#""on":{"pled.cancel":".undoing"},"#);
    let mut life = booked(&template);

    assert_eq!(life.receives("pled.cancel", "null"), APPLIED);

    assert_eq!((life.configuration(), life.now.state.ending), (vec!["undoing"], None));
    assert_eq!(&*life.tasks()[0].action, "undo.flight");
}

#[test]
fn a_terminated_execution_ends_at_once_and_undoes_nothing_more() {
    let mut life = booked(&trip());
    life.receives("pled.cancel", "null");
    let running = life.task("undo.flight");

    assert_eq!(life.receives("pled.terminate", "null"), APPLIED);

    assert_eq!(life.status(), Status::Terminated);
    assert!(life.effects().contains(&EffectKind::TaskCancel { task: running, attempt: 1 }));
    assert_eq!(life.stack(), ["hotel", "flight"], "what was not undone can be seen");
    assert!(life.now.state.tasks.is_empty() && life.now.state.given_up.is_empty());
    assert_eq!(life.token_ends(running, ok("null")), Verdict::Stale);
    life.replays();
}

#[test]
fn an_execution_that_is_done_has_nothing_to_undo() {
    let mut life = booked(&trip());

    assert_eq!(life.receives("finish", "null"), APPLIED);

    assert_eq!((life.status(), life.stack().len()), (Status::Done, 0));
    assert!(life.tasks().is_empty());
}

#[test]
fn compensations_that_run_are_finished_after_the_end() {
    let template = machine(
        r#""initial":"a","states":{
            "a":{"invoke":{"id":"a","src":"a","compensate":{"src":"undo.a"},"onDone":"b"}},
            "b":{"invoke":{"id":"b","src":"b","compensate":{"src":"undo.b"},"onDone":"end"}},
            "end":{"type":"final","entry":[{"type":"compensate"}]}}"#,
    );
    let mut life = Life::started(&template, "null");
    life.succeeds("a", "null");
    life.succeeds("b", "null");
    assert_eq!((life.status(), &*life.tasks()[0].action), (Status::Done, "undo.b"));

    assert_eq!(life.undoes("b", broken()), APPLIED);
    assert!(life.incident("error.compensate"));
    assert_eq!(life.undoes("a", ok("null")), APPLIED);

    assert_eq!((life.status(), life.stack()), (Status::Done, vec!["b"]));
    life.replays();
}

#[test]
fn a_success_whose_macrostep_is_given_up_stays_on_the_stack() {
    let template = machine(
        r#""initial":"pay","states":{"pay":{"invoke":{"id":"pay","src":"charge","onDone":"a",
            "compensate":{"src":"refund","input":{"charge":{"var":"event.data"}}}}},
            "a":{"always":{"target":"b"}},"b":{"always":{"target":"a"}}}"#,
    );
    let mut life = Life::started(&template, "null");

    life.succeeds("pay", r#""ch-1""#);

    assert_eq!((life.status(), life.stack()), (Status::Failed, vec!["pay"]));
    assert_eq!(life.now.state.compensations[0].input, json(r#"{"charge":"ch-1"}"#));
}

#[test]
fn an_input_without_a_value_is_an_error_of_logic() {
    let template = machine(
        r#""initial":"pay","states":{"pay":{"on":{"leave":"rest"},"invoke":{"id":"pay","src":"charge",
            "onDone":"rest",
            "compensate":{"src":"refund","input":{"sum":{"+":[{"var":"event.data"},1]}}}}},"rest":{}}"#,
    );
    for leaves in [false, true] {
        let mut life = Life::started(&template, "null");
        let pay = life.task("pay");
        if leaves {
            life.receives("leave", "null");
        }
        assert_eq!(life.token_ends(pay, ok(r#""no number""#)), APPLIED);
        assert!(life.incident("error.execution") && life.stack().is_empty());
    }
}
