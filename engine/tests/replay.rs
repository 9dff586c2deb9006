//! Replay: the journal says what its template makes of its messages, and nothing else passes.

#[cfg(test)]
#[expect(dead_code, reason = "the tests of the step use the rest")]
mod life;

use life::{Life, order, template};
use pled_engine::effect::EffectKind;
use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::execution::Status;
use pled_engine::id::Hash;
use pled_engine::replay::{Divergence, execution_of, fold, replay, verify_chain};
use pled_engine::value::Value;

/// An order whose charge is retried, that is held and resumed, paid and cancelled.
fn eventful() -> Life {
    let mut order = Life::ordered();
    order.fails("charge", "bank_away");
    order.fires("retry");
    let messages = [order.event("HOLD", r#"{"reason":"risk"}"#), order.event("NOISE", "null")];
    order.take(&messages);
    order.receives("RESUME", "null");
    order.succeeds("notify.ops", "null");
    order.succeeds("charge", r#"{"charge_id":"ch_1"}"#);
    order.succeeds("invoice", r#"{"number":"R-7"}"#);
    order.receives("CANCEL", "null");
    order.succeeds("refund", "null");
    assert_eq!((order.status(), order.configuration()), (Status::Done, vec!["rejected"]));
    order
}

#[test]
fn a_life_is_the_same_when_it_is_taken_again_from_its_causes_alone() {
    let order = eventful();

    let replayed = replay(&order.template, &order.entries).unwrap();

    assert_eq!(replayed.execution, order.now);
    assert_eq!((replayed.entries, replayed.causes), (10, 11));
    verify_chain(&order.entries).unwrap();
}

#[test]
fn another_guard_in_the_template_is_a_divergence() {
    let order = eventful();
    let source = include_str!("../../examples/order-fulfilment.json");
    let altered = template(&source.replace(r#""card_declined""#, r#""bank_away""#));

    let by_hash = replay(&altered, &order.entries).unwrap_err();
    let mut entries = order.entries.clone();
    entries[0].template_hash = Some(altered.hash);
    let by_effect = replay(&altered, &entries).unwrap_err();

    assert_eq!((by_hash.entry, by_hash.field), (1, "template_hash"));
    assert_eq!(by_hash.found, format!("{:?}", order.template.hash.to_string()));
    assert_eq!((by_effect.entry, by_effect.field), (1, "state"));

    let guard = template(
        &source.replace(r#"{ "var": "context.lines" }, 0]"#, r#"{ "var": "context.lines" }, 9]"#),
    );
    let mut entries = order.entries.clone();
    entries[0].template_hash = Some(guard.hash);
    assert_eq!(replay(&guard, &entries).unwrap_err().field, "transitions");
}

fn diverges(alter: impl Fn(&mut Vec<JournalEntry>)) -> (u64, &'static str) {
    let order = eventful();
    let mut entries = order.entries.clone();
    alter(&mut entries);
    let Divergence { entry, field, .. } =
        replay(&order.template, &entries).expect_err("it was altered");
    (entry, field)
}

#[test]
fn every_altered_field_is_named_with_its_entry() {
    assert_eq!(diverges(|entries| entries[2].at += 1), (3, "at"));
    assert_eq!(diverges(|entries| entries[2].at = 0), (3, "at"));
    assert_eq!(diverges(|entries| entries[3].transitions[0].microsteps += 1), (4, "transitions"));
    assert_eq!(diverges(|entries| entries[3].effects.truncate(1)), (4, "effects"));
    assert_eq!(
        diverges(|entries| {
            let EffectKind::Task(task) = &mut entries[0].effects[1].kind else {
                panic!("the charge comes behind the timer of the payment")
            };
            task.attempt = 2;
        }),
        (1, "effects")
    );
    assert_eq!(diverges(|entries| entries[3].causes[1].outcome = Outcome::Applied), (4, "causes"));
    assert_eq!(diverges(|entries| entries[3].causes[0].data = Value::Null), (4, "effects"));
    assert_eq!(diverges(|entries| entries[4].status = Status::Failed), (5, "status"));
    assert_eq!(diverges(|entries| entries[4].state_hash = Hash::ZERO), (5, "state_hash"));
    assert_eq!(diverges(|entries| entries[4].log.push(Value::Null)), (5, "log"));
    assert_eq!(diverges(|entries| entries[4].worker = "other".into()), (5, "hash"));
    assert_eq!(diverges(|entries| entries[4].hash = Hash::ZERO), (5, "hash"));
    assert_eq!(diverges(|entries| entries[4].epoch = 2), (5, "epoch"));
    assert_eq!(diverges(|entries| entries[4].engine = "0".into()), (5, "engine"));
    assert_eq!(diverges(|entries| entries[4].state = None), (5, "base"));
    assert_eq!(diverges(|entries| drop(entries.remove(4))), (6, "seq"));
    assert_eq!(diverges(|entries| entries.swap(4, 5)), (6, "seq"));
    assert_eq!(diverges(|entries| entries[4].prev = Hash::ZERO), (5, "prev"));
    assert_eq!(diverges(|entries| drop(entries.remove(0))), (2, "template_hash"));
    assert_eq!(
        diverges(|entries| entries[4].execution = "order-43".parse().unwrap()),
        (5, "execution")
    );
}

#[test]
fn a_divergence_reads_as_a_sentence() {
    let order = eventful();
    let mut entries = order.entries;
    entries[4].status = Status::Failed;

    let divergence = replay(&order.template, &entries).unwrap_err();

    insta::assert_snapshot!(
        divergence,
        @r#"entry 5 of order-42 differs in status: expected "running", found "failed""#
    );
}

#[test]
fn the_chain_is_verified_without_a_template() {
    let order = eventful();
    let broken = |alter: &dyn Fn(&mut Vec<JournalEntry>)| {
        let mut entries = order.entries.clone();
        alter(&mut entries);
        verify_chain(&entries).unwrap_err().field
    };

    assert_eq!(broken(&|entries| entries[3].causes[0].time += 1), "hash");
    assert_eq!(broken(&|entries| drop(entries.remove(3))), "seq");
    assert_eq!(broken(&|entries| drop(entries.remove(0))), "seq");
    assert_eq!(broken(&|entries| entries.clear()), "seq");
    assert_eq!(verify_chain(&order.entries[..3]), Ok(()));
}

#[test]
fn entries_without_a_state_are_folded_from_the_base_on() {
    let order = eventful();
    let base = execution_of(&order.entries[1]).unwrap();
    let mut behind = order.entries[2..].to_vec();
    for entry in &mut behind {
        (entry.state, entry.base) = (None, Some(1_002));
    }

    assert_eq!(execution_of(&behind[0]), None);
    assert_eq!(fold(base.clone(), &order.template, &behind), Ok(order.now.clone()));
    assert_eq!(fold(order.now.clone(), &order.template, &[]), Ok(order.now.clone()));

    behind.remove(3);
    assert_eq!(fold(base, &order.template, &behind).unwrap_err().field, "seq");
}

#[test]
fn a_life_of_large_states_is_replayed_too() {
    let pad = format!(r#"{{"orderId":"{}","amount":1,"lines":1}}"#, "x".repeat(5_000));
    let mut order = Life::started(&order(), &pad);
    for round in 0..100 {
        order.receives(if round % 2 == 0 { "HOLD" } else { "RESUME" }, "null");
    }
    assert!(order.entries.iter().filter(|entry| entry.state.is_some()).count() == 2);

    let replayed = replay(&order.template, &order.entries).unwrap();
    assert_eq!(replayed.execution, order.now);
    verify_chain(&order.entries).unwrap();
    let base = execution_of(&order.entries[63]).unwrap();
    assert_eq!(fold(base, &order.template, &order.entries[64..]), Ok(order.now));
}
