//! Pauses: what comes meanwhile waits, and is taken in order when the execution goes on.
#![cfg(test)]

#[expect(dead_code, reason = "the tests of the step use the rest")]
mod life;

use life::{Life, machine};
use pled_engine::effect::EffectKind;
use pled_engine::entry::Outcome;
use pled_engine::execution::Status;
use pled_engine::replay::replay;
use pled_engine::step::Verdict;

const APPLIED: Verdict = Verdict::Taken(Outcome::Applied);
const IGNORED: Verdict = Verdict::Taken(Outcome::Ignored);
const DEFERRED: Verdict = Verdict::Taken(Outcome::Deferred);

/// Waits for work and for events, with a timer of a minute.
fn worker() -> Life {
    let template = machine(
        r#""context":{"seen":[]},"initial":"working","states":{
            "working":{
                "invoke":{"id":"work","src":"work.do","onDone":"worked","onError":"failed"},
                "after":{"60000":"late"},
                "on":{"NOTE":{"actions":[{"type":"assign","params":{
                    "seen":{"merge":[{"var":"context.seen"},[{"var":"event.data"}]]}}}]}}},
            "worked":{},"late":{},"failed":{}}"#,
    );
    Life::started(&template, "null")
}

fn replays(life: &Life) {
    let entries = life.entries.clone();
    replay(&life.template, &entries).unwrap_or_else(|divergence| panic!("{divergence}"));
}

#[test]
fn events_and_results_wait_and_are_taken_in_order_at_the_resume() {
    let mut life = worker();

    assert_eq!(life.receives("pled.pause", r#"{"reason":"stock-taking"}"#), APPLIED);
    assert_eq!(life.status(), Status::Paused);
    assert_eq!(life.receives("NOTE", "1"), DEFERRED);
    assert_eq!(life.receives("NOTE", "2"), DEFERRED);
    assert_eq!(life.succeeds("work", "null"), DEFERRED);
    assert_eq!(life.receives("NOTE", "3"), DEFERRED);
    assert_eq!((life.context("seen"), life.configuration()), ("[]".to_owned(), vec!["working"]));
    assert_eq!(life.receives("pled.pause", "null"), IGNORED);

    assert_eq!(life.receives("pled.resume", "null"), APPLIED);

    // The third note came after the work was done, where nothing waits for it.
    assert_eq!(life.context("seen"), "[1,2]");
    assert_eq!((life.configuration(), life.status()), (vec!["worked"], Status::Running));
    assert!(life.now.state.deferred.is_empty());
    assert_eq!(life.receives("pled.resume", "null"), IGNORED);
    replays(&life);
}

#[test]
fn a_repeat_of_a_deferred_event_is_a_repeat() {
    let mut life = worker();
    life.receives("pled.pause", "null");
    let note = life.event_with_id("NOTE", "once");
    assert_eq!(life.take_one(&note), DEFERRED);

    let again = life.event_with_id("NOTE", "once");
    let repeat = Verdict::Repeat { seq: Some(3), outcome: Some(Outcome::Deferred) };
    assert_eq!(life.take_one(&again), repeat);
    life.receives("pled.resume", "null");
    assert_eq!(life.context("seen"), "[null]");
    assert!(matches!(life.take_one(&note), Verdict::Repeat { .. }));
}

#[test]
fn timers_that_run_on_take_effect_at_the_resume() {
    let mut life = worker();
    life.receives("pled.pause", "null");

    assert_eq!(life.fires("after"), DEFERRED);
    assert_eq!(life.configuration(), ["working"]);

    life.receives("pled.resume", "null");
    assert_eq!(life.configuration(), ["late"]);
    replays(&life);
}

#[test]
fn timers_that_are_stopped_have_what_was_left_of_them_after_the_resume() {
    let mut life = worker();
    let timer = life.timer("after");
    let due = life.now.state.timers[&timer].due;
    life.receives("pled.pause", r#"{"timers":"stop"}"#);
    let paused_at = life.entry().at;
    assert_eq!(life.effects(), [EffectKind::TimerCancel { timer }]);

    // A firing that was under way.
    let late = life.fired(timer);
    assert_eq!(life.take_one(&late), Verdict::Stale);

    life.clock += 3_600_000;
    life.receives("pled.resume", "null");
    let again = life.timer("after");
    let rested = life.entry().at - paused_at;
    assert_ne!(again, timer);
    assert_eq!(life.now.state.timers[&again].due, due + rested);
    assert_eq!(life.fires("after"), APPLIED);
    assert_eq!(life.configuration(), ["late"]);
    replays(&life);
}

#[test]
fn a_cancel_ends_the_pause_and_a_terminate_ends_all() {
    let mut life = worker();
    life.receives("pled.pause", "null");
    life.receives("NOTE", "1");
    assert_eq!(life.receives("pled.cancel", "null"), APPLIED);
    assert_eq!((life.status(), life.context("seen")), (Status::Cancelled, "[1]".to_owned()));
    replays(&life);

    let mut life = worker();
    life.receives("pled.pause", "null");
    life.receives("NOTE", "1");
    assert_eq!(life.receives("pled.terminate", "null"), APPLIED);
    assert_eq!((life.status(), life.context("seen")), (Status::Terminated, "[]".to_owned()));
    assert!(life.now.state.deferred.is_empty() && life.now.state.paused.is_none());
    assert_eq!(life.receives("pled.pause", "null"), Verdict::Closed);
}

#[test]
fn only_so_much_waits() {
    let mut life = worker();
    life.receives("pled.pause", "null");
    for number in 0..1_000 {
        assert_eq!(life.receives("NOTE", &number.to_string()), DEFERRED);
    }

    assert_eq!(life.receives("NOTE", "1000"), Verdict::DeferredFull);
    // A result is not refused: nobody would say it again.
    assert_eq!(life.succeeds("work", "null"), DEFERRED);
}

#[test]
fn how_timers_are_paused_must_be_said_right() {
    let mut life = worker();

    let verdict = life.receives("pled.pause", r#"{"timers":"halt"}"#);

    assert_eq!(verdict, Verdict::Taken(Outcome::Rejected));
    assert_eq!(life.status(), Status::Running);
}
