//! Why: the transitions that could have been taken, and the guards that decided.

#![cfg(test)]

#[expect(dead_code, reason = "the tests of the step use the rest")]
mod life;

use life::{Life, json, machine};
use pled_engine::simulate::Simulation;
use pled_engine::why::{Fate, of_entry};

fn why(life: &Life) -> String {
    let entries = &life.entries;
    let seq = life.entry().seq;
    of_entry(&life.template, entries, seq).unwrap().unwrap().to_string()
}

#[test]
fn a_failed_charge_says_which_guard_decided() {
    let mut order = Life::ordered();
    order.fails("charge", "card_declined");

    insta::assert_snapshot!(why(&order), @r#"
    order-42, entry 2: charging → rejected, done

    pled.result 1-1 was applied
      event error.invoke.charge in charging
        ✗ charging: error.invoke.charge → cooling   /states/active/states/payment/states/charging/invoke/onError/0
          its guard does not hold
            and = false
              === = false
                event.data.code = "card_declined"
                "retries_exhausted"
              (1 more not asked)
        ✓ charging: error.invoke.charge → rejected   /states/active/states/payment/states/charging/invoke/onError/1
          taken: it has no guard

    context
      failure: null → "payment: card_declined"

    effects
      timer cancel, timer 1-2
      timer cancel, timer 1-0
    "#);
}

#[test]
fn the_start_of_an_order_says_why_it_is_charged() {
    insta::assert_snapshot!(why(&Life::ordered()), @r#"
    order-42, entry 1: (not started) → charging, running

    pled.init was applied
      start: the initial states are entered
      without an event, in checking
        ✗ checking: always → rejected   /states/checking/always/0
          its guard does not hold
            or = false
              <= = false
                context.amount = 4990
                0
              <= = false
                context.lines = 2
                0
        ✓ checking: always → active   /states/checking/always/1
          taken: it has no guard

    context
      amount: 0 → 4990
      attempt: 0 → 1
      lines: 0 → 2
      orderId: null → "order-42"

    effects
      timer set, timer 1-0, due 1764000600010
      task, action payments.charge, task 1-1, attempt 1
      timer set, timer 1-2, due 1764000180010
    "#);
}

#[test]
fn an_event_that_nothing_handles_says_what_would_have_been_heard() {
    let mut order = Life::ordered();
    order.receives("RESUME", "null");

    insta::assert_snapshot!(why(&order), @r#"
    order-42, entry 2: charging → charging, running

    RESUME was ignored
      event RESUME in charging
        no transition matches it; these states listen to CANCEL, HOLD, after.paymentWindow.payment, done.invoke.charge, error.invoke.charge
    "#);
}

#[test]
fn what_was_not_asked_says_for_whom_it_stood_back() {
    let template = machine(
        r##""context":{"n":1},"initial":"p",
        "on":{"GO":{"target":"#machine.end"}},
        "states":{"end":{},"p":{"type":"parallel","states":{
          "a":{"on":{"GO":[
            {"guard":{"==":[{"var":"context.n"},"x"]},"target":"#machine.end"},
            {"guard":{"<":[{"var":"event.data.list"},1]},"target":"#machine.end"},
            {"guard":{"or":[{"inState":"machine.p.b"},{"var":"context.n"}]},"target":"#machine.end"},
            {"target":"#machine.end"}]}},
          "b":{"on":{"GO":{"target":"#machine.end"}}}}}}"##,
    );
    let mut life = Life::started(&template, "null");
    life.receives("GO", r#"{"list":[1,2]}"#);

    insta::assert_snapshot!(why(&life), @r#"
    order-42, entry 2: machine.p.a + machine.p.b → machine.end, running

    GO was applied
      event GO in machine.p.a + machine.p.b
        ✗ machine: GO → machine.end   /on/GO
          not asked: machine.p.a, within it, goes first
        ✗ machine.p.a: GO → machine.end   /states/p/states/a/on/GO/0
          its guard does not hold
            == = false
              context.n = 1
              "x"
        ✗ machine.p.a: GO → machine.end   /states/p/states/a/on/GO/1
          its guard has no value
            < has no value: `<` takes numbers and strings, and `event.data.list` is an array
              event.data.list = [1,2]
        ✓ machine.p.a: GO → machine.end   /states/p/states/a/on/GO/2
          taken: its guard holds
            or = true
              inState machine.p.b = true
              (1 more not asked)
        ✗ machine.p.a: GO → machine.end   /states/p/states/a/on/GO/3
          not asked: /states/p/states/a/on/GO/2 comes before it
        ✗ machine.p.b: GO → machine.end   /states/p/states/b/on/GO
          dropped: /states/p/states/a/on/GO/2 goes first
      event error.execution in machine.end
        no transition matches it; these states listen to GO
    "#);
}

#[test]
fn a_simulation_tells_the_same_without_a_journal() {
    let template = life::order();
    let input = json(r#"{"orderId":"o","amount":1,"lines":0}"#);

    let mut simulation = Simulation::start_watched(&template, input);
    let rounds = simulation.seen();
    let fates: Vec<_> = rounds
        .iter()
        .flat_map(|round| &round.candidates)
        .map(|candidate| (&*candidate.pointer, &candidate.fate))
        .collect();

    let first = "/states/checking/always/0";
    assert_eq!(
        fates,
        [(first, &Fate::Taken), ("/states/checking/always/1", &Fate::After(first.into())),]
    );
    assert!(simulation.seen().is_empty());
}

#[test]
fn long_evaluations_are_told_in_part() {
    let template = machine(
        r#""initial":"a","states":{"a":{"on":{"GO":{"guard":
        {"all":[{"var":"event.data"},{"<":[{"var":""},5000]}]}}}}}"#,
    );
    let mut life = Life::started(&template, "null");
    let numbers: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    life.receives("GO", &format!("[{}]", numbers.join(",")));

    let told = why(&life);
    assert!(told.contains("event.data = an array of 1000"), "{told}");
    assert!(told.contains("more not shown)"), "{told}");
    assert!(told.lines().count() < 400);
}
