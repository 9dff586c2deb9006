//! Steps of executions: the order example through its life, then each promise by itself.

#[cfg(test)]
mod life;

use life::{Life, failure, json, machine, order};
use pled_engine::effect::EffectKind;
use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::execution::{Execution, Status, TimerPurpose};
use pled_engine::id::Hash;
use pled_engine::message::{Body, TaskOutcome};
use pled_engine::step::{BASE_EVERY, INLINE_BYTES_MAX, Verdict, Writer, step};

const APPLIED: Verdict = Verdict::Taken(Outcome::Applied);
const IGNORED: Verdict = Verdict::Taken(Outcome::Ignored);
const REJECTED: Verdict = Verdict::Taken(Outcome::Rejected);

fn paid() -> Life {
    let mut order = Life::ordered();
    assert_eq!(order.succeeds("charge", r#"{"charge_id":"ch_1"}"#), APPLIED);
    order
}

#[test]
fn an_order_that_is_paid_is_shipped_and_invoiced_and_then_done() {
    let mut order = Life::ordered();
    let (entry, charge) = (order.entry().clone(), order.tasks().remove(0));
    assert_eq!(order.configuration(), ["charging"]);
    assert_eq!(entry.prev, Hash::ZERO);
    assert_eq!(entry.template_hash, Some(order.template.hash));
    assert_eq!(entry.transitions[0].from.len(), 0);
    assert_eq!(&*entry.effects[0].id, "order-42/1/0");
    assert_eq!((&*charge.action, charge.attempt), ("payments.charge", 1));
    assert_eq!(charge.task, order.task("charge"));
    assert_eq!(charge.input.get("idempotency_key"), Some(&"charge-order-42".into()));
    assert_eq!(charge.deadline, Some(entry.at + 180_000));

    assert_eq!(order.succeeds("charge", r#"{"charge_id":"ch_1"}"#), APPLIED);
    assert_eq!(order.configuration(), ["booking", "issuing"]);
    assert_eq!(order.context("chargeId"), r#""ch_1""#);
    assert_eq!(order.tasks().len(), 2);
    assert!(order.purposes().is_empty(), "the payment's timers are taken back");
    assert_eq!(&*order.entry().transitions[0].event, "done.invoke.charge");

    assert_eq!(order.succeeds("invoice", r#"{"number":"R-7"}"#), APPLIED);
    assert_eq!(order.configuration(), ["booking", "invoiced"]);
    assert_eq!(order.succeeds("ship", r#"{"tracking":"T-1"}"#), APPLIED);

    assert_eq!((order.status(), order.configuration()), (Status::Done, vec!["completed"]));
    assert_eq!(
        order.now.state.output,
        json(r#"{"order":"order-42","tracking":"T-1","invoice":"R-7","failure":null}"#)
    );
    assert!(order.now.state.tasks.is_empty() && order.now.state.timers.is_empty());
}

#[test]
fn a_declined_card_rejects_the_order_at_once() {
    let mut order = Life::ordered();

    assert_eq!(order.fails("charge", "card_declined"), APPLIED);

    assert_eq!((order.status(), order.configuration()), (Status::Done, vec!["rejected"]));
    assert_eq!(order.context("failure"), r#""payment: card_declined""#);
}

#[test]
fn a_failed_attempt_is_followed_by_the_next_after_a_growing_pause_under_the_same_task() {
    let mut order = Life::ordered();
    let task = order.task("charge");

    for (attempt, pause) in [(2, 1_000), (3, 2_000), (4, 4_000)] {
        assert_eq!(order.fails("charge", "bank_away"), APPLIED);
        let waiting = &order.now.state.tasks[&task];
        let due = waiting.not_before.unwrap();
        assert_eq!(waiting.attempt, attempt);
        assert!((pause..=pause + pause / 5).contains(&(due - order.now.at)));
        assert!(order.entry().transitions.is_empty());

        assert_eq!(order.fires("retry"), APPLIED);
        let next = order.tasks().remove(0);
        assert_eq!((next.task, next.attempt), (task, attempt));
        assert_eq!(order.now.state.tasks[&task].not_before, None);
    }
    assert_eq!(order.succeeds("charge", r#"{"charge_id":"ch_4"}"#), APPLIED);
    assert_eq!(order.configuration(), ["booking", "issuing"]);
}

fn exhaust_the_charge(order: &mut Life) {
    for _ in 1..5 {
        assert_eq!(order.fails("charge", "bank_away"), APPLIED);
        assert_eq!(order.fires("retry"), APPLIED);
    }
    assert_eq!(order.fails("charge", "bank_away"), APPLIED);
}

#[test]
fn exhausted_attempts_are_one_event_and_the_template_has_rounds_of_its_own() {
    let mut order = Life::ordered();

    exhaust_the_charge(&mut order);
    assert_eq!(order.configuration(), ["cooling"]);
    assert_eq!(order.fires("retryPause"), APPLIED);
    exhaust_the_charge(&mut order);
    assert_eq!(order.fires("retryPause"), APPLIED);
    exhaust_the_charge(&mut order);

    assert_eq!(order.configuration(), ["rejected"]);
    assert_eq!(order.context("failure"), r#""payment: retries_exhausted""#);
}

#[test]
fn an_order_that_is_held_and_resumed_is_charged_by_a_fresh_task_and_the_old_result_is_stale() {
    let mut order = Life::ordered();
    let old = order.task("charge");

    assert_eq!(order.receives("HOLD", r#"{"reason":"risk 80"}"#), APPLIED);
    assert_eq!(order.configuration(), ["onHold"]);
    let effects = order.effects();
    assert!(effects.contains(&EffectKind::TaskCancel { task: old, attempt: 1 }));
    assert_eq!(order.tasks()[0].input, json(r#"{"order":"order-42","reason":"risk 80"}"#));
    assert_eq!(order.purposes().len(), 1, "only the limit of the hold runs");

    assert_eq!(order.receives("RESUME", "null"), APPLIED);
    assert_eq!(order.configuration(), ["charging"]);
    let fresh = order.task("charge");
    assert_ne!(fresh, old);
    let late = order.result(old, 1, TaskOutcome::Ok(json("{}")));
    assert_eq!(order.take_one(&late), Verdict::Stale);
    assert_eq!(order.succeeds("charge", r#"{"charge_id":"ch_2"}"#), APPLIED);
    assert_eq!(order.context("chargeId"), r#""ch_2""#);
}

#[test]
fn a_paid_order_that_is_cancelled_is_refunded_and_an_unpaid_one_is_not() {
    let mut order = paid();
    assert_eq!(order.receives("CANCEL", "null"), APPLIED);
    assert_eq!(order.configuration(), ["refunding"]);
    assert_eq!(order.tasks()[0].input, json(r#"{"charge":"ch_1"}"#));

    assert_eq!(order.fails("refund", "bank_away"), APPLIED);
    assert_eq!(order.configuration(), ["stuck"], "one attempt, for it has no retry");
    assert_eq!(order.receives("RETRY_REFUND", "null"), APPLIED);
    assert_eq!(order.succeeds("refund", "null"), APPLIED);
    assert_eq!((order.status(), order.configuration()), (Status::Done, vec!["rejected"]));

    let mut unpaid = Life::ordered();
    assert_eq!(unpaid.receives("CANCEL", "null"), APPLIED);
    assert_eq!(unpaid.configuration(), ["rejected"]);
}

#[test]
fn the_payment_window_ends_a_charge_that_waits_for_its_retry() {
    let mut order = Life::ordered();
    order.fails("charge", "bank_away");

    assert_eq!(order.fires("paymentWindow"), APPLIED);

    assert_eq!(order.configuration(), ["rejected"]);
    assert_eq!(order.context("failure"), r#""payment window elapsed""#);
    assert_eq!(&*order.entry().transitions[0].event, "after.paymentWindow.payment");
    let cancels = order.effects();
    assert!(cancels.iter().all(|effect| matches!(effect, EffectKind::TimerCancel { .. })));
    assert!(order.now.state.tasks.is_empty() && order.now.state.timers.is_empty());
}

#[test]
fn the_end_of_schedule_to_close_is_final_and_counts_the_attempts_that_were_made() {
    let mut order = Life::ordered();
    order.fails("charge", "bank_away");
    order.fires("retry");
    order.fails("charge", "bank_away");

    assert_eq!(order.fires("close"), APPLIED);

    assert_eq!(order.context("failure"), r#""payment: timeout""#);
}

#[test]
fn several_messages_are_taken_by_one_entry_in_their_order() {
    let mut order = Life::ordered();
    let messages = [
        order.event("HOLD", r#"{"reason":"a"}"#),
        order.event("NOISE", "null"),
        order.event("RESUME", "null"),
        order.event("CANCEL", "null"),
        order.event("CANCEL", "null"),
    ];

    let verdicts = order.take(&messages);

    assert_eq!(verdicts, [APPLIED, IGNORED, APPLIED, APPLIED, Verdict::Closed]);
    let entry = order.entry();
    assert_eq!((entry.seq, entry.causes.len(), entry.transitions.len()), (2, 4, 3));
    assert_eq!(entry.at, messages[3].time);
    assert_eq!(order.now.state.taken.events, (1, 5));
}

#[test]
fn a_repeat_is_known_by_its_place_its_id_and_its_sender_and_changes_nothing() {
    let mut order = Life::unborn(&order());
    let start = order.start(r#"{"orderId":"order-42","amount":1,"lines":1}"#);
    order.take_one(&start);
    let hold = order.event_with_id("HOLD", "hold-1");
    let again = order.event_with_id("HOLD", "hold-1");
    let mut emitted = order.event("NOISE", "null");
    let Body::Event(event) = &mut emitted.body else { unreachable!() };
    event.emitted = Some(("rules-3".into(), 8, 1));
    let sent = order.send("order-41", "9-1", "NOISE");
    assert_eq!(order.take_one(&hold), APPLIED);
    assert_eq!(
        order.take(&[again.clone(), sent.clone(), emitted.clone()])[1..],
        [IGNORED, IGNORED]
    );
    let before = order.now.clone();
    let mut earlier = order.send("order-41", "9-0", "NOISE");
    earlier.stream_seq += 10;
    emitted.stream_seq += 10;

    let first = |seq| Verdict::Repeat { seq: Some(seq), outcome: Some(Outcome::Applied) };
    let some = Verdict::Repeat { seq: None, outcome: None };
    assert_eq!(order.take_one(&start), first(1));
    assert_eq!(order.take_one(&hold), first(2));
    assert_eq!(order.take_one(&again), first(2));
    for repeat in [&sent, &earlier, &emitted] {
        assert_eq!(order.take_one(repeat), some);
    }

    assert_eq!(order.now, before);
}

#[test]
fn a_second_start_finds_the_execution_also_after_its_end() {
    let mut order = Life::ordered();
    let second = order.start("{}");
    assert_eq!(order.take_one(&second), Verdict::Exists);
    order.fails("charge", "card_declined");

    assert_eq!(order.take_one(&second), Verdict::Exists);
    assert_eq!(order.receives("CANCEL", "null"), Verdict::Closed);
    let sent = order.send("order-41", "9-1", "HOLD");
    assert_eq!(order.take_one(&sent), Verdict::Stale);
}

#[test]
fn what_came_before_the_start_stays_unknown_after_it() {
    let mut order = Life::unborn(&order());
    let early = order.event("HOLD", "null");
    let early_send = order.send("order-41", "9-1", "HOLD");
    let start = order.start(r#"{"orderId":"order-42","amount":1,"lines":1}"#);

    assert_eq!(order.take_one(&early), Verdict::Unknown);
    assert_eq!(order.take_one(&early_send), Verdict::Unknown);
    assert_eq!(order.take_one(&start), APPLIED);
    assert_eq!(order.take_one(&early), Verdict::Unknown);
    assert_eq!(order.take_one(&early_send), Verdict::Unknown);
}

#[test]
fn what_names_a_newer_entry_or_attempt_stops_the_step() {
    let mut order = Life::ordered();
    let task = order.task("charge");
    let noise = order.event("NOISE", "null");
    let next_attempt = order.result(task, 2, failure("bank_away"));
    let verdicts = order.take(&[noise, next_attempt.clone(), next_attempt]);
    assert_eq!(verdicts, [IGNORED, Verdict::Newer]);

    let later = order.result("3-0".parse().unwrap(), 1, failure("bank_away"));
    assert_eq!(order.take_one(&later), Verdict::Newer);
    let later = order.fired("3-0".parse().unwrap());
    assert_eq!(order.take_one(&later), Verdict::Newer);

    order.fails("charge", "bank_away");
    let waiting = order.result(task, 2, failure("bank_away"));
    assert_eq!(order.take_one(&waiting), Verdict::Newer, "its pause is over elsewhere");
    let old = order.result(task, 1, failure("bank_away"));
    assert_eq!(order.take_one(&old), Verdict::Stale);
    let unborn = Execution::unborn("order-42".parse().unwrap());
    assert_eq!(step(&order.template, &unborn, &[old]).verdicts, [Verdict::Newer]);
}

#[test]
fn the_engines_own_types_are_rejected_from_outside_and_the_answer_is_kept() {
    let mut order = Life::ordered();
    for reserved in
        ["done.invoke.charge", "error.execution", "after.1.x", "pled.other", "pled.migrate"]
    {
        assert_eq!(order.receives(reserved, "null"), REJECTED);
        assert!(order.entry().causes[0].error.as_deref().unwrap().contains(reserved));
        assert!(order.entry().transitions.is_empty());
    }
    let mut other = order.event("NOISE", "null");
    let Body::Event(event) = &mut other.body else { unreachable!() };
    event.start = Some("invoice@1".parse().unwrap());
    assert_eq!(order.take_one(&other), REJECTED);
}

#[test]
fn an_event_with_a_template_starts_the_execution_first() {
    let counter = machine(
        r#""context":{"n":0},"initial":"on","states":{"on":{"on":{"add":{
            "actions":[{"type":"assign","params":{"n":{"+":[{"var":"context.n"},1]}}}]}}}}"#,
    );
    let mut life = Life::unborn(&counter);
    let mut add = life.event("add", "null");
    let unknown = life.event("add", "null");
    let Body::Event(event) = &mut add.body else { unreachable!() };
    event.start = Some("machine".parse().unwrap());

    assert_eq!(life.take_one(&unknown), Verdict::Unknown);
    assert_eq!(life.take_one(&add), APPLIED);

    let events: Vec<_> = life.entry().transitions.iter().map(|record| &*record.event).collect();
    assert_eq!(events, ["pled.init", "add"]);
    assert_eq!((life.context("n"), life.entry().causes.len()), ("1".to_owned(), 1));
    let mut again = life.event("add", "null");
    again.body = add.body.clone();
    assert_eq!(life.take_one(&again), APPLIED);
    assert_eq!(life.context("n"), "2");
}

#[test]
fn fire_and_forget_work_is_finished_after_the_end_and_nothing_else_is_taken() {
    let mut held = Life::ordered();
    held.receives("HOLD", "null");
    held.receives("CANCEL", "null");
    assert_eq!((held.status(), held.now.state.tasks.len()), (Status::Done, 1));

    assert_eq!(held.succeeds("notify.ops", "null"), APPLIED);
    assert_eq!((held.status(), held.now.state.tasks.len()), (Status::Done, 0));

    let notifier = machine(
        r#""initial":"off","states":{"off":{"type":"final","entry":[
            {"type":"notify","params":{},"retry":{"max_attempts":2}}]}}"#,
    );
    let mut life = Life::started(&notifier, "null");
    assert_eq!(life.status(), Status::Done);
    assert_eq!(life.fails("notify", "mail_down"), APPLIED);
    assert_eq!(life.fires("retry"), APPLIED);
    assert_eq!(life.tasks()[0].attempt, 2);
    assert_eq!(life.fails("notify", "mail_down"), APPLIED);
    let incident = life.now.state.incidents.values().next().unwrap();
    assert_eq!(&*incident.event, "error.action.notify");
    assert_eq!(&*incident.failure.code, "retries_exhausted");
    assert_eq!(life.status(), Status::Done);
}

#[test]
fn an_attempt_that_nobody_picks_up_fails_and_one_that_is_picked_up_runs_on() {
    let picky = machine(
        r#""initial":"work","states":{"work":{"invoke":{"id":"job","src":"do","retry":{"max_attempts":2},
            "timeout":{"schedule_to_start_ms":5000},"onError":"failed"}},"failed":{}}"#,
    );
    let mut life = Life::started(&picky, "null");
    let task = life.task("job");
    assert_eq!(life.fires("start"), APPLIED);
    assert!(life.effects().contains(&EffectKind::TaskCancel { task, attempt: 1 }));
    assert_eq!(life.fires("retry"), APPLIED);
    let waits = TimerPurpose::Start { task, attempt: 2 };
    assert_eq!(life.purposes(), [&waits]);

    let started = life.result(task, 2, TaskOutcome::Started);
    assert_eq!(life.take_one(&started), APPLIED);
    assert!(life.purposes().is_empty());
    let started = life.result(task, 2, TaskOutcome::Started);
    assert_eq!(life.take_one(&started), Verdict::Stale);
    assert_eq!(life.fails("job", "broken"), APPLIED);
    assert_eq!(life.configuration(), ["failed"]);
}

#[test]
fn sends_to_oneself_are_causes_of_the_same_entry_behind_what_was_given() {
    let echo = machine(
        r#""context":{"heard":[]},"initial":"on","states":{"on":{"on":{
            "shout":{"actions":[{"type":"send","params":{"event":"echo","data":{"var":"event.data"}}}]},
            "*":{"actions":[{"type":"assign","params":{"heard":
                {"merge":[{"var":"context.heard"},[{"var":"event.type"}]]}}}]}}}}"#,
    );
    let mut life = Life::started(&echo, "null");
    let messages = [life.event("shout", "7"), life.event("other", "null")];

    assert_eq!(life.take(&messages), [APPLIED, APPLIED]);

    assert_eq!(life.context("heard"), r#"["other","echo"]"#);
    let own = &life.entry().causes[2];
    assert_eq!((own.id.as_deref(), own.stream_seq), (Some("order-42/2/0"), 0));
    assert_eq!((own.cause_type.as_str(), own.data.as_int()), ("echo", Some(7)));
}

#[test]
fn an_endless_talk_with_oneself_and_an_endless_macrostep_fail_the_execution() {
    let ping = machine(
        r#""limits":{"microsteps":20},"initial":"on","states":{"on":{"on":{
            "ping":{"actions":[{"type":"send","params":{"event":"ping"}}]}}}}"#,
    );
    let mut life = Life::started(&ping, "null");
    assert_eq!(life.receives("ping", "null"), APPLIED);
    assert_eq!((life.status(), life.entry().causes.len()), (Status::Failed, 21));
    assert_eq!(&*life.now.state.error.as_ref().unwrap().code, "loop");

    let spin = machine(
        r#""context":{"n":0},"initial":"on","states":{"on":{"on":{"go":"a"}},
            "a":{"always":{"target":"b"}},"b":{"always":{"target":"a"}}}"#,
    );
    let mut life = Life::started(&spin, "null");
    assert_eq!(life.receives("go", "null"), REJECTED);
    assert_eq!((life.status(), life.configuration()), (Status::Failed, vec!["on"]));
    assert!(life.entry().causes[0].error.is_some() && life.entry().transitions.is_empty());
    assert_eq!(life.receives("go", "null"), Verdict::Closed);
}

#[test]
fn a_delayed_send_is_replaced_and_cancelled_by_its_id_and_survives_its_state() {
    let reminder = machine(
        r#""context":{"late":0},"initial":"on","states":{"on":{"on":{
            "remind":{"actions":[{"type":"send","params":{"event":"late","delay_ms":500,"id":"r"}}]},
            "forget":{"actions":[{"type":"cancel","params":{"id":"r"}}]},
            "both":{"actions":[{"type":"send","params":{"event":"late","delay_ms":1,"id":"r"}},
                               {"type":"cancel","params":{"id":"r"}}]},
            "late":{"actions":[{"type":"assign","params":{"late":{"+":[{"var":"context.late"},1]}}}]}}}}"#,
    );
    let mut life = Life::started(&reminder, "null");
    life.receives("remind", "null");
    let first = life.timer("send");
    life.receives("remind", "null");
    let second = life.timer("send");
    assert_eq!(life.effects()[0], EffectKind::TimerCancel { timer: first });

    let late = life.fired(first);
    assert_eq!(life.take_one(&late), Verdict::Stale);
    assert_eq!(life.fires("send"), APPLIED);
    assert_eq!(life.context("late"), "1");
    assert_ne!(first, second);
    life.receives("remind", "null");
    life.receives("forget", "null");
    assert!(life.purposes().is_empty());
    life.receives("both", "null");
    assert!(life.entry().effects.is_empty(), "never handed out");
}

#[test]
fn events_for_others_are_effects_and_reserved_types_are_not_sent() {
    let talker = machine(
        r#""initial":"on","states":{"on":{"on":{
            "tell":{"actions":[{"type":"send","params":{"to":{"cat":["order-",{"var":"event.data"}]},
                                                        "event":"HOLD","data":{"why":"asked"}}}]},
            "up":{"actions":[{"type":"send","params":{"to":"parent","event":"HOLD"}}]}}}}"#,
    );
    let mut life = Life::started(&talker, "null");
    life.receives("tell", "41");
    let expected = EffectKind::Send {
        to: "order-41".parse().unwrap(),
        event: "HOLD".parse().unwrap(),
        data: json(r#"{"why":"asked"}"#),
    };
    assert_eq!(life.effects(), [expected]);
    life.receives("tell", r#""not an id""#);
    life.receives("up", "null");
    let incidents = &life.now.state.incidents;
    assert_eq!(incidents.len(), 2);
    assert!(incidents.values().all(|incident| &*incident.event == "error.execution"));
}

#[test]
fn an_unhandled_failure_is_an_incident_until_its_state_is_left_or_fails_the_execution() {
    let members = r#""initial":"work","states":{
        "work":{"invoke":{"id":"job","src":"do"},"on":{"skip":"rest"}},"rest":{}}"#;
    let mut life = Life::started(&machine(members), "null");
    let task = life.task("job");
    assert_eq!(life.fails("job", "broken"), APPLIED);
    let incident = &life.now.state.incidents[&task];
    assert_eq!((&*incident.event, &*incident.failure.code), ("error.invoke.job", "broken"));
    assert_eq!((life.status(), life.configuration()), (Status::Running, vec!["work"]));
    life.receives("skip", "null");
    assert!(life.now.state.incidents.is_empty());

    let strict = machine(&format!(r#""on_error":"fail",{members}"#));
    let mut life = Life::started(&strict, "null");
    life.fails("job", "broken");
    assert_eq!(life.status(), Status::Failed);
    let error = life.now.state.error.as_ref().unwrap();
    assert_eq!((&*error.code, &*error.message), ("error.invoke.job", "it was broken"));
}

#[test]
fn an_error_in_logic_is_an_incident_and_the_execution_goes_on() {
    let faulty = machine(
        r#""context":{"n":0},"initial":"on","states":{"on":{"on":{"go":{
            "actions":[{"type":"assign","params":{"n":{"+":["x",1]}}}]}}}}"#,
    );
    let mut life = Life::started(&faulty, "null");
    for _ in 0..70 {
        assert_eq!(life.receives("go", "null"), APPLIED);
    }
    let incidents = &life.now.state.incidents;
    assert_eq!(incidents.len(), 64, "the oldest are forgotten");
    assert_eq!(life.status(), Status::Running);
    assert_eq!(incidents.keys().next().unwrap().entry, 8);
}

#[test]
fn a_cancelled_execution_leaves_its_states_and_a_terminated_one_does_not() {
    let members = |on: &str| {
        machine(&format!(
            r#""context":{{"left":false}},"initial":"work","states":{{"work":{{
                "exit":[{{"type":"tidy","params":{{}}}}],{on}
                "invoke":{{"id":"job","src":"do"}},"after":{{"1000":"rest"}}}},"rest":{{}}}}"#
        ))
    };
    let mut life = Life::started(&members(""), "null");
    assert_eq!(life.receives("pled.cancel", "null"), APPLIED);
    assert_eq!((life.status(), life.configuration().len()), (Status::Cancelled, 1));
    assert_eq!(&*life.tasks()[0].action, "tidy");
    assert_eq!((life.now.state.tasks.len(), life.now.state.timers.len()), (1, 0));
    assert_eq!(&*life.entry().transitions[0].event, "pled.cancel");

    let mut life = Life::started(&members(""), "null");
    assert_eq!(life.receives("pled.terminate", "null"), APPLIED);
    assert_eq!((life.status(), life.configuration()), (Status::Terminated, vec!["work"]));
    assert!(life.tasks().is_empty() && life.now.state.tasks.is_empty());

    let mut life = Life::started(&members(r#""on":{"pled.cancel":"rest"},"#), "null");
    assert_eq!(life.receives("pled.cancel", "null"), APPLIED);
    assert_eq!((life.status(), life.configuration()), (Status::Running, vec!["rest"]));
}

#[test]
fn a_large_state_stands_in_every_64th_entry_and_the_others_name_its_place() {
    let pad = format!(r#"{{"orderId":"{}","amount":1,"lines":1}}"#, "x".repeat(INLINE_BYTES_MAX));
    let mut order = Life::started(&order(), &pad);
    for _ in 1..130 {
        order.receives("NOISE", "null");
    }

    let bases: Vec<_> = order.entries.iter().map(|entry| entry.base).collect();
    assert_eq!(bases[..2], [None, Some(1_001)]);
    assert_eq!(bases[62..65], [Some(1_001), None, Some(1_064)]);
    assert_eq!(BASE_EVERY, 64);
    assert!(order.entries.iter().all(|entry| entry.state.is_some() == entry.base.is_none()));
}

#[test]
fn a_state_that_would_make_its_entry_too_long_is_left_out_of_it() {
    let pad = format!(r#"{{"orderId":"{}","amount":1,"lines":1}}"#, "x".repeat(INLINE_BYTES_MAX));
    let mut order = Life::started(&order(), &pad);
    while order.now.seq < BASE_EVERY - 1 {
        order.receives("NOISE", "null");
    }
    let noise = order.event("NOISE", &format!("{:?}", "y".repeat(4_000)));
    let writer = Writer { worker: "worker-1".into(), epoch: 3 };
    let sealed = |largest| {
        let draft = step(&order.template, &order.now, std::slice::from_ref(&noise)).draft.unwrap();
        draft.seal_within(&writer, Some(1_001), largest)
    };

    let (whole, bare) = (sealed(usize::MAX), sealed(8_000));

    assert!(whole.entry.base.is_none() && whole.bytes.len() > 8_000, "{}", whole.bytes.len());
    assert_eq!((bare.entry.base, bare.after.hash), (Some(1_001), bare.entry.hash));
    assert!(bare.bytes.len() < 8_000);
    assert_eq!(JournalEntry::decode(&bare.bytes).unwrap(), bare.whole_entry());
    assert_eq!(bare.after.state, whole.after.state);
}

#[test]
fn lines_of_the_log_stand_in_the_entry() {
    let scribe = machine(
        r#""initial":"on","states":{"on":{"entry":[{"type":"log","params":{"said":"hello"}}]}}"#,
    );
    let life = Life::started(&scribe, "null");
    assert_eq!(life.entry().log, [json(r#"{"said":"hello"}"#)]);
}
