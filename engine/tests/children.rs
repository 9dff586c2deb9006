//! Executions that start others: every message between them is taken by a step of its receiver, and
//! every entry goes through its stored bytes.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pled_engine::effect::EffectKind;
use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::execution::{Execution, Parent, Status};
use pled_engine::id::{ExecutionId, TemplateSelector, Token};
use pled_engine::message::{
    Body, ChildCancel, ChildStart, Event, Message, Millis, Send, Source, TaskOutcome, TaskResult,
};
use pled_engine::replay;
use pled_engine::step::{Step, Verdict, Writer, step};
use pled_engine::template::Template;
use pled_engine::value::Value;

fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}

const APPLIED: Verdict = Verdict::Taken(Outcome::Applied);
const REJECTED: Verdict = Verdict::Taken(Outcome::Rejected);

/// Waits for GO and is then done; REPORT is passed on to the parent.
const SHIPMENT: &str = r##""id":"shipment","context":{"parcel":null,"by":null},
    "entry":[{"type":"assign","params":{"parcel":{"var":"event.data.parcel"}}}],
    "output":{"parcel":{"var":"context.parcel"},"by":{"var":"context.by"}},
    "initial":"packed","states":{
      "packed":{"on":{
        "GO":{"target":"gone","actions":[{"type":"assign","params":{"by":{"var":"event.data.by"}}}]},
        "REPORT":{"actions":[{"type":"send","params":{"to":"parent","event":"REPORTED"}}]}}},
      "gone":{"type":"final","entry":[{"type":"send","params":{"to":"parent","event":"LEFT"}}]}}"##;

/// Invokes a shipment, with these further members of the invocation.
fn order_of(members: &str) -> String {
    format!(
        r##""id":"order","context":{{"reports":0,"result":null}},
        "on":{{"REPORTED":{{"actions":[
            {{"type":"assign","params":{{"reports":{{"+":[{{"var":"context.reports"}},1]}}}}}}]}}}},
        "initial":"shipping","states":{{
          "shipping":{{
            "invoke":{{"id":"ship","src":"template:shipment@1","input":{{"parcel":7}}{members},
              "onDone":{{"target":"shipped","actions":[
                {{"type":"assign","params":{{"result":{{"var":"event.data"}}}}}}]}},
              "onError":{{"target":"failed","actions":[
                {{"type":"assign","params":{{"result":{{"var":"event.data"}}}}}}]}}}},
            "on":{{"HURRY":{{"actions":[{{"type":"send","params":{{"to":"child:ship","event":"REPORT"}}}}]}},
                   "STOP":"stopped"}}}},
          "shipped":{{}},"failed":{{}},"stopped":{{}}}}"##
    )
}

/// Spawns shipments and outlives them or not.
const DEPOT: &str = r##""id":"depot","context":{"done":[],"failed":[],"errors":[]},
    "on":{
      "SPAWN":{"actions":[{"type":"spawn","params":{"id":"own","template":"shipment@1","input":{"parcel":1}}}]},
      "LEND":{"actions":[{"type":"spawn","params":{"id":"lent","template":"shipment@1","input":{"parcel":2},"parent_close":"abandon"}}]},
      "STOP":{"actions":[{"type":"stop","params":{"id":"own"}}]},
      "CALL":{"actions":[{"type":"send","params":{"to":"child:own","event":"GO"}}]},
      "done.invoke.own":{"actions":[{"type":"assign","params":{"done":{"merge":[{"var":"context.done"},{"var":"event.data.parcel"}]}}}]},
      "error.invoke.own":{"actions":[{"type":"assign","params":{"failed":{"merge":[{"var":"context.failed"},{"var":"event.data.code"}]}}}]},
      "error.execution":{"actions":[{"type":"assign","params":{"errors":{"merge":[{"var":"context.errors"},{"var":"event.data.code"}]}}}]},
      "CLOSE":"#closed"},
    "initial":"open","states":{"open":{},"closed":{"id":"closed","type":"final"}}"##;

/// Executions, and what is under way between them.
struct Family {
    templates: BTreeMap<String, Arc<Template>>,
    members: BTreeMap<ExecutionId, Execution>,
    entries: BTreeMap<ExecutionId, Vec<JournalEntry>>,
    under_way: VecDeque<Message>,
    clock: Millis,
    seq: u64,
}

impl Family {
    fn of(templates: &[&str]) -> Self {
        let templates = templates.iter().map(|members| {
            let source =
                format!(r#"{{"pled":"1.0","version":1,"logic":"pled-logic-1",{members}}}"#);
            let template = Template::parse(&source).unwrap_or_else(|error| panic!("{error}"));
            (template.reference().to_string(), Arc::new(template))
        });
        Self {
            templates: templates.collect(),
            members: BTreeMap::new(),
            entries: BTreeMap::new(),
            under_way: VecDeque::new(),
            clock: 1_764_000_000_000,
            seq: 0,
        }
    }

    fn message(&mut self, to: &ExecutionId, source: Source, body: Body) -> Message {
        self.seq += 1;
        self.clock += 10;
        Message {
            execution: to.clone(),
            source,
            generation: 1,
            stream_seq: self.seq,
            time: self.clock,
            reply: None,
            body,
        }
    }

    /// An event from outside; `start`: it starts the execution.
    fn event(&mut self, to: &str, event: &str, data: &str, start: Option<&str>) -> Verdict {
        let body = Body::Event(Event {
            event_type: event.parse().unwrap(),
            id: None,
            origin: None,
            start: start.map(|template| template.parse().unwrap()),
            emitted: None,
            data: json(data),
        });
        let message = self.message(&to.parse().unwrap(), Source::Events, body);
        self.take(&message)
    }

    fn start(&mut self, id: &str, template: &str) {
        let template = format!("{template}@1");
        assert_eq!(self.event(id, "pled.init", "null", Some(&template)), APPLIED);
    }

    fn tell(&mut self, to: &str, event: &str, data: &str) -> Verdict {
        self.event(to, event, data, None)
    }

    fn take(&mut self, message: &Message) -> Verdict {
        self.take_all(std::slice::from_ref(message)).pop().unwrap()
    }

    /// Takes a step of the receiver; what it tells others is under way then.
    fn take_all(&mut self, messages: &[Message]) -> Vec<Verdict> {
        let to = messages[0].execution.clone();
        let before =
            self.members.get(&to).cloned().unwrap_or_else(|| Execution::unborn(to.clone()));
        let name = match (&before.template, &messages[0].body) {
            (Some(template), _) => template.to_string(),
            (None, Body::ChildStart(start)) => start.template.to_string(),
            (None, Body::Event(event)) => event.start.as_ref().unwrap().to_string(),
            (None, body) => panic!("{body:?} for {to}, which is not there"),
        };
        let Step { verdicts, draft } = step(&self.templates[&name].clone(), &before, messages);
        if let Some(draft) = draft {
            let sealed = draft.seal(&Writer { worker: "worker-1".into(), epoch: 1 }, None);
            let entry = sealed.whole_entry();
            assert_eq!(JournalEntry::decode(&sealed.bytes).unwrap(), entry);
            self.dispatch(&entry);
            self.entries.entry(to.clone()).or_default().push(entry);
            self.members.insert(to, sealed.after);
        }
        verdicts
    }

    fn dispatch(&mut self, entry: &JournalEntry) {
        let own = &entry.execution;
        for (index, effect) in entry.effects.iter().enumerate() {
            let token = Token { entry: entry.seq, index: index.try_into().unwrap() };
            let (to, body) = match effect.kind.clone() {
                EffectKind::Send { to, .. } if to == *own => continue,
                EffectKind::Send { to, event: event_type, data } => {
                    (to, Body::Send(Send { sender: own.clone(), token, event_type, data }))
                }
                EffectKind::ChildStart(start) => {
                    let template = TemplateSelector::from(&start.template);
                    let (task, attempt, depth) = (start.task, start.attempt, start.depth);
                    let (parent, input) = (own.clone(), start.input);
                    let body = ChildStart { parent, token, task, attempt, depth, template, input };
                    (start.child, Body::ChildStart(body))
                }
                EffectKind::ChildCancel { child, task, attempt } => {
                    let cancel = ChildCancel { parent: own.clone(), token, task, attempt };
                    (child, Body::ChildCancel(cancel))
                }
                EffectKind::ChildDone { parent, task, attempt, output, error } => {
                    let outcome = error.map_or(TaskOutcome::Ok(output), TaskOutcome::Failed);
                    (parent, Body::ChildDone(TaskResult { task, attempt, outcome }))
                }
                EffectKind::Task(_)
                | EffectKind::TaskCancel { .. }
                | EffectKind::TimerSet { .. }
                | EffectKind::TimerCancel { .. } => continue,
            };
            let message = self.message(&to, Source::Signals, body);
            self.under_way.push_back(message);
        }
    }

    /// Delivers what is under way, twice each, until nothing is: the second copy, which comes by
    /// another sequence, changes nothing.
    fn settle(&mut self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while let Some(message) = self.under_way.pop_front() {
            verdicts.push(self.take(&message));
            self.seq += 1;
            let again = self.take(&Message { stream_seq: self.seq, ..message.clone() });
            assert!(
                matches!(again, Verdict::Repeat { .. } | Verdict::Stale),
                "{again:?} for the second {message:?}"
            );
        }
        verdicts
    }

    /// Delivers what is under way in steps of many messages, as a partition does, until nothing is.
    fn settle_in_steps(&mut self, mut each: impl FnMut(&Self)) {
        while let Some(first) = self.under_way.pop_front() {
            let (mut step, mut others) = (vec![first], VecDeque::new());
            for message in self.under_way.drain(..) {
                let is_of_it = message.execution == step[0].execution && step.len() < 256;
                if is_of_it { step.push(message) } else { others.push_back(message) }
            }
            self.under_way = others;
            self.take_all(&step);
            each(self);
        }
    }

    fn fires(&mut self, of: &str, text: &str) {
        let member = self.get(of);
        let (timer, due) = member
            .state
            .timers
            .iter()
            .find(|(_, timer)| serde_json::to_string(&timer.purpose).unwrap().contains(text))
            .map(|(timer, set)| (*timer, set.due))
            .unwrap();
        let mut message = self.message(&of.parse().unwrap(), Source::Timers, Body::Fired { timer });
        message.time = due;
        self.clock = self.clock.max(due);
        assert_eq!(self.take(&message), APPLIED);
    }

    fn get(&self, id: &str) -> &Execution {
        &self.members[&id.parse().unwrap()]
    }

    fn context(&self, id: &str, key: &str) -> String {
        self.get(id).state.context.get(key).unwrap().to_string()
    }

    fn leaf(&self, id: &str) -> &str {
        let leaf = &self.get(id).state.configuration[0];
        leaf.rsplit('.').next().unwrap()
    }

    fn ids(&self) -> Vec<&str> {
        self.members.keys().map(ExecutionId::as_str).collect()
    }
}

/// Every journal says what its causes make of the template.
impl Drop for Family {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for entries in self.entries.values() {
            let template = &self.templates[&entries[0].template.to_string()];
            replay::replay(template, entries).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

fn ordered(members: &str) -> Family {
    let mut family = Family::of(&[&order_of(members), SHIPMENT]);
    family.start("o-1", "order");
    family
}

#[test]
fn a_child_is_started_by_an_invocation_and_gives_its_output_to_it() {
    let mut family = ordered("");
    assert_eq!(family.settle(), [APPLIED]);

    let child = family.get("o-1_1_0");
    assert_eq!(child.template.as_ref().unwrap().to_string(), "shipment@1");
    let parent = Parent {
        execution: "o-1".parse().unwrap(),
        task: "1-0".parse().unwrap(),
        attempt: 1,
        depth: 1,
    };
    assert_eq!(child.state.parent, Some(parent));
    assert_eq!(family.context("o-1_1_0", "parcel"), "7");

    assert_eq!(family.tell("o-1_1_0", "GO", r#"{"by":"rail"}"#), APPLIED);
    family.settle();

    assert_eq!(family.leaf("o-1"), "shipped");
    assert_eq!(family.context("o-1", "result"), r#"{"by":"rail","parcel":7}"#);
    assert!(family.get("o-1").state.tasks.is_empty());
}

#[test]
fn what_a_child_sends_to_its_parent_arrives_before_its_end() {
    let mut family = ordered("");
    family.settle();

    family.tell("o-1_1_0", "GO", "null");
    let kinds: Vec<_> = family.under_way.iter().map(|message| &message.body).collect();

    assert!(matches!(kinds[..], [Body::Send(_), Body::ChildDone(_)]));
    family.settle();
}

#[test]
fn a_parent_sends_to_its_child_by_the_id_of_the_invocation_and_the_child_to_its_parent() {
    let mut family = ordered("");
    family.settle();

    assert_eq!(family.tell("o-1", "HURRY", "null"), APPLIED);
    family.settle();

    assert_eq!(family.context("o-1", "reports"), "1");
}

#[test]
fn leaving_the_state_cancels_the_child_and_its_end_is_stale() {
    let mut family = ordered("");
    family.settle();

    family.tell("o-1", "STOP", "null");
    assert_eq!(family.settle(), [APPLIED, Verdict::Stale]);

    assert_eq!(family.get("o-1_1_0").status, Status::Cancelled);
    assert_eq!(family.leaf("o-1"), "stopped");
    assert!(family.get("o-1").state.tasks.is_empty());
}

#[test]
fn a_child_may_answer_a_cancel_in_its_own_way() {
    let slow = r##""id":"shipment","initial":"packed","states":{
        "packed":{"on":{"pled.cancel":"unpacking"}},"unpacking":{"on":{"GO":"gone"}},
        "gone":{"type":"final"}}"##;
    let mut family = Family::of(&[&order_of(""), slow]);
    family.start("o-1", "order");
    family.settle();

    family.tell("o-1", "STOP", "null");
    assert_eq!(family.settle(), [APPLIED]);

    assert_eq!(family.leaf("o-1_1_0"), "unpacking");
    assert_eq!(family.get("o-1_1_0").status, Status::Running);
}

#[test]
fn a_child_that_is_cancelled_or_terminated_from_outside_fails_its_invocation() {
    for (control, code) in [("pled.cancel", "cancelled"), ("pled.terminate", "terminated")] {
        let mut family = ordered(r#","retry":{"max_attempts":3}"#);
        family.settle();

        family.tell("o-1_1_0", control, "null");
        family.settle();

        assert_eq!(family.leaf("o-1"), "failed");
        let expected = format!(
            r#"{{"attempts":1,"code":"{code}","details":{{"execution":"o-1_1_0"}},"message":"o-1_1_0 was {code}"}}"#
        );
        assert_eq!(family.context("o-1", "result"), expected);
    }
}

#[test]
fn a_child_that_fails_gives_its_code_to_its_parent() {
    let looping = r##""id":"shipment","context":{"n":0},"initial":"packed","states":{
        "packed":{"on":{"GO":"round"}},
        "round":{"always":{"target":"round","reenter":true,"actions":[
            {"type":"assign","params":{"n":{"+":[{"var":"context.n"},1]}}}]}}}"##;
    let mut family = Family::of(&[&order_of(""), looping]);
    family.start("o-1", "order");
    family.settle();

    assert_eq!(family.tell("o-1_1_0", "GO", "null"), REJECTED);
    family.settle();

    assert_eq!(family.get("o-1_1_0").status, Status::Failed);
    assert!(family.context("o-1", "result").contains(r#""code":"loop""#));
}

#[test]
fn a_child_that_fails_is_tried_again_as_an_execution_of_its_own() {
    let fails_once = r##""id":"shipment","on_error":"fail","initial":"packed","states":{
        "packed":{"on":{"GO":"gone","BREAK":{"actions":[{"type":"assign","params":{"n":{"+":["x",1]}}}]}}},
        "gone":{"type":"final"}}"##;
    let retry = r#","retry":{"max_attempts":2,"initial_interval_ms":1000}"#;
    let mut family = Family::of(&[&order_of(retry), fails_once]);
    family.start("o-1", "order");
    family.settle();

    family.tell("o-1_1_0", "BREAK", "null");
    family.settle();
    assert_eq!(family.get("o-1_1_0").status, Status::Failed);
    assert_eq!(family.leaf("o-1"), "shipping");

    family.fires("o-1", "retry");
    family.settle();
    assert_eq!(family.ids(), ["o-1", "o-1_1_0", "o-1_3_0"]);
    assert_eq!(family.get("o-1_3_0").state.parent.as_ref().unwrap().attempt, 2);
    family.tell("o-1_3_0", "GO", "null");
    family.settle();

    assert_eq!(family.leaf("o-1"), "shipped");
}

#[test]
fn a_child_that_does_not_end_in_its_time_is_cancelled_and_fails_its_invocation() {
    for timeout in ["start_to_close_ms", "schedule_to_close_ms"] {
        let mut family = ordered(&format!(r#","timeout":{{"{timeout}":5000}}"#));
        family.settle();

        family.fires("o-1", "task");
        family.settle();

        assert_eq!(family.leaf("o-1"), "failed");
        assert!(family.context("o-1", "result").contains(r#""code":"timeout""#));
        assert_eq!(family.get("o-1_1_0").status, Status::Cancelled);
        assert!(family.get("o-1").state.timers.is_empty());
    }
}

#[test]
fn an_execution_of_another_is_no_child_and_the_invocation_fails_at_once() {
    for ended in [false, true] {
        let mut family = Family::of(&[&order_of(""), SHIPMENT]);
        family.start("o-1_1_0", "shipment");
        if ended {
            family.tell("o-1_1_0", "GO", "null");
        }
        family.start("o-1", "order");

        assert_eq!(family.settle(), [REJECTED, APPLIED]);

        assert_eq!(family.leaf("o-1"), "failed");
        assert!(family.context("o-1", "result").contains(r#""code":"exists""#));
        let other = family.get("o-1_1_0");
        assert_eq!(other.status, if ended { Status::Done } else { Status::Running });
        assert_eq!(other.state.parent, None);
    }
}

#[test]
fn only_the_parent_may_cancel_a_child() {
    let mut family = ordered("");
    family.settle();
    let child: ExecutionId = "o-1_1_0".parse().unwrap();

    for (parent, task, attempt) in [("o-2", "1-0", 1), ("o-1", "1-1", 1), ("o-1", "1-0", 2)] {
        let body = Body::ChildCancel(ChildCancel {
            parent: parent.parse().unwrap(),
            token: "9-0".parse().unwrap(),
            task: task.parse().unwrap(),
            attempt,
        });
        let message = family.message(&child, Source::Signals, body);
        assert_eq!(family.take(&message), Verdict::Stale);
    }
    assert_eq!(family.get("o-1_1_0").status, Status::Running);
}

#[test]
fn a_worker_cannot_end_a_child_nor_a_child_a_task() {
    let mut family = ordered("");
    family.settle();

    let forged = TaskResult {
        task: "1-0".parse().unwrap(),
        attempt: 1,
        outcome: TaskOutcome::Ok(json("1")),
    };
    let message = family.message(&"o-1".parse().unwrap(), Source::Signals, Body::Result(forged));

    assert_eq!(family.take(&message), Verdict::Stale);
    assert_eq!(family.leaf("o-1"), "shipping");
}

#[test]
fn spawned_children_live_beside_the_states_and_answer_by_their_id() {
    let mut family = Family::of(&[DEPOT, SHIPMENT]);
    family.start("d", "depot");
    family.tell("d", "SPAWN", "null");
    family.tell("d", "SPAWN", "null");
    family.settle();
    assert_eq!(family.ids(), ["d", "d_2_0", "d_3_0"]);

    // The newest of an id is meant.
    family.tell("d", "CALL", "null");
    family.settle();
    assert_eq!(family.get("d_3_0").status, Status::Done);
    assert_eq!(family.context("d", "done"), "[1]");

    family.tell("d_2_0", "pled.cancel", "null");
    family.settle();
    assert_eq!(family.context("d", "failed"), r#"["cancelled"]"#);
}

#[test]
fn a_child_that_is_stopped_is_cancelled_and_not_heard_of_any_more() {
    let mut family = Family::of(&[DEPOT, SHIPMENT]);
    family.start("d", "depot");
    assert_eq!(family.tell("d", "STOP", "null"), APPLIED, "there is none, so nothing happens");
    family.tell("d", "SPAWN", "null");
    family.settle();

    family.tell("d", "STOP", "null");
    assert_eq!(family.settle(), [APPLIED, Verdict::Stale]);

    assert_eq!(family.get("d_3_0").status, Status::Cancelled);
    assert_eq!(family.context("d", "failed"), "[]");
    family.tell("d", "CALL", "null");
    assert_eq!(family.context("d", "errors"), r#"["no_receiver"]"#);
}

#[test]
fn the_end_of_a_parent_cancels_its_children_but_those_that_it_abandons() {
    for end in ["CLOSE", "pled.cancel", "pled.terminate"] {
        let mut family = Family::of(&[DEPOT, SHIPMENT]);
        family.start("d", "depot");
        family.tell("d", "SPAWN", "null");
        family.tell("d", "LEND", "null");
        family.settle();

        family.tell("d", end, "null");
        family.settle();

        assert!(family.get("d").status.is_terminal());
        assert!(family.get("d").state.tasks.is_empty());
        assert_eq!(family.get("d_2_0").status, Status::Cancelled, "{end}");
        assert_eq!(family.get("d_3_0").status, Status::Running, "{end}");
        family.tell("d_3_0", "GO", "null");
        assert_eq!(family.settle(), [Verdict::Stale, Verdict::Stale]);
    }
}

#[test]
fn one_that_nobody_started_has_no_parent_to_send_to() {
    let mut family = Family::of(&[SHIPMENT]);
    family.start("s", "shipment");

    family.tell("s", "REPORT", "null");

    let incident = family.get("s").state.incidents.values().next().unwrap();
    assert_eq!(&*incident.event, "error.execution");
    assert_eq!(&*incident.failure.code, "no_receiver");
    assert!(family.under_way.is_empty());
}

#[test]
fn children_of_children_end_at_a_depth_of_sixteen() {
    let doll = r##""id":"doll","initial":"open","states":{
        "open":{"invoke":{"id":"inner","src":"template:doll@1",
            "onError":{"target":"last","guard":{"==":[{"var":"event.data.code"},"depth"]}},
            "onDone":"around"}},
        "last":{"on":{"CLOSE":"shut"}},"around":{"type":"final"},"shut":{"type":"final"}}"##;
    let mut family = Family::of(&[doll]);
    family.start("d", "doll");
    family.settle();

    assert_eq!(family.members.len(), 17);
    let last = family.members.keys().max_by_key(|id| id.as_str().len()).unwrap().to_string();
    assert_eq!(family.leaf(&last), "last");
    assert_eq!(family.get(&last).state.parent.as_ref().unwrap().depth, 16);

    family.tell(&last, "CLOSE", "null");
    family.settle();
    assert!(family.members.values().all(|doll| doll.status == Status::Done));
}

#[test]
fn a_child_whose_id_would_be_too_long_has_a_hashed_one() {
    let parent: ExecutionId = "x".repeat(126).parse().unwrap();
    let place = "12-3".parse().unwrap();

    let child = parent.child(place);

    assert!(child.as_str().starts_with("child-") && child.as_str().len() == 70);
    assert_eq!(child, parent.child(place));
    assert_ne!(child, parent.child("12-4".parse().unwrap()));
    assert_eq!(child.child(place).as_str(), format!("{child}_12_3"));
    let told = |id: &str| id.parse::<ExecutionId>().unwrap().may_be_a_child();
    assert!(told(child.as_str()) && told("order-42_7_0") && told("a_1_0_2_11"));
    assert!(!told("order_42") && !told("7_0") && !told("order-42") && !told("a_b_0"));
}

#[test]
fn events_from_before_the_birth_of_a_child_stay_unknown() {
    let mut family = ordered("");
    let early = family.clock;
    family.settle();
    let child: ExecutionId = "o-1_1_0".parse().unwrap();
    let event = |start: Option<&str>, event_type: &str| {
        Body::Event(Event {
            event_type: event_type.parse().unwrap(),
            id: None,
            origin: None,
            start: start.map(|start| start.parse().unwrap()),
            emitted: None,
            data: json("null"),
        })
    };

    for (body, verdict) in [
        (event(None, "GO"), Verdict::Unknown),
        (event(Some("shipment"), "pled.init"), Verdict::Exists),
        (event(Some("shipment"), "REPORT"), APPLIED),
    ] {
        let mut message = family.message(&child, Source::Events, body);
        message.time = early - 1;
        assert_eq!(family.take(&message), verdict);
    }
    family.settle();
}

/// Sends a child for each number of its input; with these further members of `each`.
fn fleet(each: &str) -> String {
    format!(
        r##""id":"fleet","context":{{"legs":[],"result":null}},
        "entry":[{{"type":"assign","params":{{"legs":{{"var":"event.data"}}}}}}],
        "initial":"sailing","states":{{
          "sailing":{{"invoke":{{"id":"legs","src":"template:leg@1","input":{{"n":{{"var":"item"}}}},
            "each":{{"in":{{"var":"context.legs"}}{each}}},
            "onDone":{{"target":"landed","actions":[
              {{"type":"assign","params":{{"result":{{"var":"event.data"}}}}}}]}},
            "onError":{{"target":"wrecked","actions":[
              {{"type":"assign","params":{{"result":{{"var":"event.data"}}}}}}]}}}}}},
          "landed":{{}},"wrecked":{{}}}}"##
    )
}

/// Is done at its start with twice its number.
const QUICK_LEG: &str = r##""id":"leg","context":{"n":0},
    "entry":[{"type":"assign","params":{"n":{"var":"event.data.n"}}}],
    "output":{"*":[{"var":"context.n"},2]},
    "initial":"there","states":{"there":{"type":"final"}}"##;

/// Waits for GO, and fails by BREAK.
const SLOW_LEG: &str = r##""id":"leg","on_error":"fail","context":{"n":0},
    "entry":[{"type":"assign","params":{"n":{"var":"event.data.n"}}}],
    "output":{"var":"context.n"},
    "initial":"under_way","states":{
      "under_way":{"on":{"GO":"there",
        "BREAK":{"actions":[{"type":"assign","params":{"n":{"+":["x",1]}}}]}}},
      "there":{"type":"final"}}"##;

#[test]
fn a_thousand_children_run_a_hundred_at_a_time_and_are_joined_in_order() {
    let mut family = Family::of(&[&fleet(r#","concurrency":100"#), QUICK_LEG]);
    let numbers: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let start = format!("[{}]", numbers.join(","));

    assert_eq!(family.event("f", "pled.init", &start, Some("fleet@1")), APPLIED);
    let mut most = 0;
    family.settle_in_steps(|family| most = most.max(family.get("f").state.tasks.len()));

    assert_eq!(family.leaf("f"), "landed");
    let doubled: Vec<String> = (0..1_000).map(|number| (2 * number).to_string()).collect();
    assert_eq!(family.context("f", "result"), format!("[{}]", doubled.join(",")));
    assert_eq!((most, family.members.len()), (100, 1_001));
    assert!(family.get("f").state.tasks.is_empty());
}

#[test]
fn the_first_child_of_many_that_fails_cancels_the_others_or_stands_in_the_results() {
    let start = |each: &str| {
        let mut family = Family::of(&[&fleet(each), SLOW_LEG]);
        family.event("f", "pled.init", "[7,8,9]", Some("fleet@1"));
        family.settle();
        family.tell("f_1_0", "GO", "null");
        family.tell("f_1_1", "BREAK", "null");
        family.settle();
        family
    };

    let family = start("");
    assert_eq!(family.leaf("f"), "wrecked");
    assert!(family.context("f", "result").contains(r#""index":1"#));
    assert_eq!(family.get("f_1_2").status, Status::Cancelled);

    let mut family = start(r#","on_failure":"collect""#);
    assert_eq!(family.leaf("f"), "sailing");
    family.tell("f_1_2", "GO", "null");
    family.settle();
    assert_eq!(family.leaf("f"), "landed");
    let result = family.context("f", "result");
    assert!(result.starts_with(r#"[7,{"error":{"#) && result.ends_with(",9]"), "{result}");
}

#[test]
fn children_without_room_or_depth_fail_their_invocation_as_a_whole() {
    let doll = r##""id":"doll","context":{"code":null},"initial":"open","states":{
        "open":{"invoke":{"id":"inner","src":"template:doll@1",
            "each":{"in":{"var":"context.two"}},
            "onError":{"target":"last","actions":[
                {"type":"assign","params":{"code":{"var":"event.data.code"}}}]}}},
        "last":{}}"##
        .replace(r#""code":null"#, r#""code":null,"two":[1]"#);
    let mut family = Family::of(&[&doll]);
    family.start("d", "doll");
    family.settle();

    assert_eq!(family.members.len(), 17);
    let last = family.members.keys().max_by_key(|id| id.as_str().len()).unwrap().to_string();
    assert_eq!((family.leaf(&last), &*family.context(&last, "code")), ("last", r#""depth""#));
    assert!(family.get(&last).state.fan_outs.is_empty());
}

#[test]
fn input_that_the_child_s_schema_refuses_starts_nothing() {
    let picky = r##""id":"shipment","events":{"pled.init":{"schema":{
        "type":"object","required":["weight"]}}},"initial":"packed","states":{"packed":{}}"##;
    let mut family = Family::of(&[&order_of(""), picky]);
    family.start("o-1", "order");

    let start = family.under_way.pop_front().unwrap();

    assert!(matches!(family.take(&start), Verdict::Poison(reason) if reason.contains("weight")));
    assert_eq!(family.ids(), ["o-1"]);
}

#[test]
fn a_child_that_ends_well_after_its_parent_gave_it_up_is_undone() {
    let stubborn = r##""id":"shipment","initial":"packed","states":{
        "packed":{"on":{"pled.cancel":"gone"}},"gone":{"type":"final"}}"##;
    let undone = r#","compensate":{"src":"parcel.fetch_back","input":{"parcel":7}}"#;
    let mut family = Family::of(&[&order_of(undone), stubborn]);
    family.start("o-1", "order");
    family.settle();

    family.tell("o-1", "STOP", "null");
    while let Some(message) = family.under_way.pop_front() {
        family.take(&message);
    }

    let tasks = &family.get("o-1").state.tasks;
    assert_eq!(&*tasks.values().next().unwrap().action, "parcel.fetch_back");
}
