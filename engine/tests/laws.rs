//! What holds for every life of an execution, whatever arrives.

#[cfg(test)]
#[expect(dead_code, reason = "the tests of the step use the rest")]
mod life;

use std::collections::BTreeSet;
use std::sync::Arc;

use life::{Life, failure, json, machine};
use pled_engine::canonical;
use pled_engine::effect::EffectKind;
use pled_engine::entry::{Cause, JournalEntry, Outcome};
use pled_engine::execution::Execution;
use pled_engine::id::Token;
use pled_engine::message::{Message, Source, TaskOutcome};
use pled_engine::replay::{execution_of, fold, replay, verify_chain};
use pled_engine::step::{Verdict, Writer, step};
use pled_engine::template::Template;
use pled_engine::value::{Object, Value};
use proptest::prelude::*;

/// One thing that may arrive; the numbers choose among what is outstanding.
#[derive(Clone, Debug)]
enum Arrival {
    Event(&'static str),
    Identified(&'static str, u8),
    Succeeded(u8),
    Failed(u8, &'static str),
    Fired(u8),
    /// The result of a task that was given up; whether it succeeded.
    Late(u8, bool),
    Sent(u8, u8),
    Repeated(u8),
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let event = prop::sample::select(vec![
        "HOLD",
        "RESUME",
        "CANCEL",
        "INVOICED",
        "RETRY_REFUND",
        "NOISE",
        "pled.pause",
    ]);
    let rare = prop::sample::select(vec!["pled.cancel", "pled.terminate"]);
    let code = prop::sample::select(vec!["bank_away", "bank_away", "card_declined"]);
    prop_oneof![
        6 => event.clone().prop_map(Arrival::Event),
        1 => rare.prop_map(Arrival::Event),
        2 => (event, 0..5_u8).prop_map(|(event, id)| Arrival::Identified(event, id)),
        6 => any::<u8>().prop_map(Arrival::Succeeded),
        6 => (any::<u8>(), code).prop_map(|(task, code)| Arrival::Failed(task, code)),
        5 => any::<u8>().prop_map(Arrival::Fired),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(task, ok)| Arrival::Late(task, ok)),
        1 => (any::<u8>(), 0..3_u8).prop_map(|(entry, index)| Arrival::Sent(entry, index)),
        2 => any::<u8>().prop_map(Arrival::Repeated),
    ]
}

/// What arrives, step by step, at an order or, if it says so, at a trip.
type Script = (bool, Vec<Vec<Arrival>>);

fn script() -> impl Strategy<Value = Script> {
    (any::<bool>(), prop::collection::vec(prop::collection::vec(arrival(), 1..4), 1..30))
}

/// Fan-outs whose failures end or are collected, compensations, a schema, timers without delay.
fn trip() -> Arc<Template> {
    machine(
        r#""context":{"why":null},
        "events":{"INVOICED":{"schema":{"required":["nothing that arrives"]}}},
        "on":{"CANCEL":".undoing","HOLD":".held","INVOICED":".held"},
        "initial":"seats","states":{
            "seats":{"invoke":{"id":"seats","src":"book.seat",
                "each":{"in":["a","b","c"],"concurrency":2},"input":{"seat":{"var":"item"}},
                "retry":{"max_attempts":2},"timeout":{"schedule_to_close_ms":9000},
                "compensate":{"src":"free.seats","input":{"seats":{"var":"event.data"}}},
                "onDone":"hotel","onError":"undoing"}},
            "hotel":{"invoke":{"id":"hotel","src":"book.hotel",
                "compensate":{"src":"free.hotel","retry":{"max_attempts":2},
                    "input":{"ref":{"var":"event.data.charge_id"}}},
                "onDone":"meals","onError":"undoing"}},
            "meals":{"invoke":{"id":"meals","src":"order.meal",
                "each":{"in":[1,2,3,4],"concurrency":3,"on_failure":"collect"},"onDone":"ready"}},
            "ready":{"after":{"0":{"target":"hotel","guard":{"==":[{"var":"context.why"},1]}}},
                "on":{"RETRY_REFUND":"end"}},
            "held":{"on":{"RESUME":"hotel"}},
            "undoing":{"entry":[{"type":"compensate"}],"on":{
                "done.compensate":"held","RETRY_REFUND":{"target":"undoing","reenter":true},
                "error.compensate":{"actions":[{"type":"assign","params":
                    {"why":{"var":"event.data.code"}}}]}}},
            "end":{"type":"final","entry":[{"type":"compensate"}]}}"#,
    )
}

/// A life with all that was given to it.
struct Told {
    life: Life,
    steps: Vec<(Execution, Vec<Message>)>,
}

fn tell((at_trip, script): &Script) -> Told {
    let life = if *at_trip { Life::started(&trip(), "null") } else { Life::ordered() };
    let mut told = Told { life, steps: Vec::new() };
    for batch in script {
        let messages: Vec<_> = batch.iter().filter_map(|one| told.message(one)).collect();
        let before = told.life.now.clone();
        let verdicts = told.life.take(&messages);
        assert_eq!(verdicts.len(), messages.len(), "nothing is newer than what is there");
        told.steps.push((before, messages));
    }
    told
}

impl Told {
    fn message(&mut self, arrival: &Arrival) -> Option<Message> {
        let life = &mut self.life;
        let data = r#"{"charge_id":"ch","tracking":"T","number":"R","reason":"why"}"#;
        Some(match arrival {
            Arrival::Event(event) => life.event(event, data),
            Arrival::Identified(event, id) => life.event_with_id(event, &format!("id-{id}")),
            Arrival::Succeeded(choice) => {
                let (task, attempt) = outstanding(life, *choice)?;
                life.result(task, attempt, TaskOutcome::Ok(json(data)))
            }
            Arrival::Failed(choice, code) => {
                let (task, attempt) = outstanding(life, *choice)?;
                life.result(task, attempt, failure(code))
            }
            Arrival::Fired(choice) => {
                let timers: Vec<_> = life.now.state.timers.keys().copied().collect();
                let timer = *timers.get(usize::from(*choice) % timers.len().max(1))?;
                life.fired(timer)
            }
            Arrival::Late(choice, ok) => {
                let given_up = life.now.state.given_up.iter();
                let given_up: Vec<_> =
                    given_up.map(|(token, given_up)| (*token, given_up.attempt)).collect();
                let (task, attempt) =
                    *given_up.get(usize::from(*choice) % given_up.len().max(1))?;
                let outcome = if *ok { TaskOutcome::Ok(json(data)) } else { failure("late") };
                life.result(task, attempt, outcome)
            }
            Arrival::Sent(entry, index) => {
                life.send("order-41", &format!("{}-{index}", u32::from(*entry) + 1), "HOLD")
            }
            Arrival::Repeated(choice) => {
                let given: Vec<_> = self.steps.iter().flat_map(|(_, messages)| messages).collect();
                (*given.get(usize::from(*choice) % given.len().max(1))?).clone()
            }
        })
    }
}

/// The causes that came by a stream.
fn delivered(entries: &[JournalEntry]) -> impl Iterator<Item = &Cause> {
    let causes = entries.iter().flat_map(|entry| &entry.causes);
    causes.filter(|cause| cause.stream != Source::Own)
}

/// An attempt that a worker has.
fn outstanding(life: &Life, choice: u8) -> Option<(Token, u32)> {
    let tasks = life.now.state.tasks.iter().filter(|(_, task)| task.not_before.is_none());
    let tasks: Vec<_> = tasks.map(|(token, task)| (*token, task.attempt)).collect();
    tasks.get(usize::from(choice) % tasks.len().max(1)).copied()
}

fn sealed(life: &Life, before: &Execution, messages: &[Message]) -> Option<Vec<u8>> {
    let writer = Writer { worker: "worker-1".into(), epoch: 3 };
    let draft = step(&life.template, before, messages).draft?;
    Some(draft.seal(&writer, None).bytes.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_give_the_same_bytes(script in script()) {
        let Told { life, steps } = tell(&script);
        for (before, messages) in &steps {
            prop_assert_eq!(sealed(&life, before, messages), sealed(&life, before, messages));
        }
    }

    #[test]
    fn the_fold_of_the_journal_is_the_state(script in script()) {
        let Told { life, .. } = tell(&script);

        let replayed = replay(&life.template, &life.entries).unwrap();
        let base = execution_of(&life.entries[0]).unwrap();
        let mut behind = life.entries[1..].to_vec();
        for entry in &mut behind {
            (entry.state, entry.base) = (None, Some(1));
        }

        prop_assert_eq!(&replayed.execution, &life.now);
        prop_assert_eq!(&fold(base, &life.template, &behind).unwrap(), &life.now);
        prop_assert!(verify_chain(&life.entries).is_ok());
    }

    #[test]
    fn whatever_was_given_changes_nothing_when_it_is_given_again(script in script()) {
        let Told { life, steps } = tell(&script);
        for message in steps.iter().flat_map(|(_, messages)| messages) {
            let again = step(&life.template, &life.now, std::slice::from_ref(message));
            prop_assert!(again.draft.is_none(), "{:?} of {message:?}", again.verdicts);
            prop_assert!(!matches!(again.verdicts[..], [Verdict::Newer | Verdict::Poison(_)]));
        }
    }

    #[test]
    fn ids_of_effects_are_their_places_and_what_is_set_is_in_the_state(script in script()) {
        let Told { life, .. } = tell(&script);
        let mut ids = BTreeSet::new();
        let mut timers = BTreeSet::new();
        let (mut waiting, mut taken) = (Vec::new(), Vec::new());
        for entry in &life.entries {
            for cause in &entry.causes {
                match (cause.cause_type.as_str(), cause.outcome) {
                    // What fires in a pause is taken at the resume, or else cancelled.
                    ("pled.timer", Outcome::Deferred) => waiting.push(cause.token.unwrap()),
                    ("pled.timer", _) => drop(timers.remove(&cause.token.unwrap())),
                    // A cancel ends the pause first.
                    ("pled.resume" | "pled.cancel", _) => taken.append(&mut waiting),
                    _ => {}
                }
            }
            for (index, effect) in entry.effects.iter().enumerate() {
                let place = format!("{}/{}/{index}", entry.execution, entry.seq);
                prop_assert_eq!(&*effect.id, &*place);
                prop_assert!(ids.insert(effect.id.clone()));
                match &effect.kind {
                    EffectKind::TimerSet { timer, .. } => drop(timers.insert(*timer)),
                    EffectKind::TimerCancel { timer } => prop_assert!(timers.remove(timer)),
                    EffectKind::Task(_)
                    | EffectKind::TaskCancel { .. }
                    | EffectKind::Send { .. }
                    | EffectKind::ChildStart(_)
                    | EffectKind::ChildCancel { .. }
                    | EffectKind::ChildDone { .. } => {}
                }
            }
            for timer in taken.drain(..) {
                timers.remove(&timer);
            }
        }
        let state = &life.now.state;
        let is_stopped = state.paused.as_ref().is_some_and(|paused| paused.stops_timers);
        let set: BTreeSet<_> =
            state.timers.keys().copied().filter(|_| !is_stopped).collect();
        prop_assert_eq!(set, timers);
    }

    #[test]
    fn times_never_go_back_and_places_never_repeat(script in script()) {
        let Told { life, .. } = tell(&script);
        let mut last = [(0, 0); 4];
        prop_assert!(life.entries.is_sorted_by_key(|entry| entry.at));
        for cause in delivered(&life.entries) {
            let stream = usize::from(cause.stream != Source::Events)
                + usize::from(cause.stream == Source::Timers);
            let place = (cause.generation, cause.stream_seq);
            prop_assert!(place > last[stream]);
            last[stream] = place;
        }
    }

    #[test]
    fn a_flipped_bit_of_an_entry_is_found(script in script(), bits in prop::collection::vec(any::<prop::sample::Index>(), 20)) {
        let Told { life, .. } = tell(&script);
        for (entry, bit) in life.entries.iter().zip(bits) {
            let mut bytes = entry.encode().unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(JournalEntry::decode(&bytes).is_err());
        }
    }

    #[test]
    fn serde_writes_the_canonical_form_of_any_value(value in value()) {
        let canonical = value.to_canonical();
        prop_assert_eq!(&canonical::to_vec(&value).unwrap(), &canonical);
        prop_assert_eq!(&serde_json::from_slice::<Value>(&canonical).unwrap(), &value);
    }

    #[test]
    fn causes_are_the_messages_that_they_were(script in script()) {
        let Told { life, steps } = tell(&script);
        let mut given = steps.iter().flat_map(|(_, messages)| messages);
        for cause in delivered(&life.entries[1..]) {
            let message = cause.message(&life.now.id).unwrap();
            prop_assert!(given.any(|given| *given == message));
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![any::<String>(), "[a-c\u{e000}\u{10000}\"\\\\\n]{0,3}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", Value::from_f64),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::Int),
        key.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Object>())),
        ]
    })
}
