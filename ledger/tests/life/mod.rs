//! An execution in the hands of a test: the engine takes the steps, the entries are kept.

use pled_engine::execution::Execution;
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::{
    Body, Event, Failure, Message, Millis, Source, TaskOutcome, TaskResult,
};
use pled_engine::partition::Loaded;
use pled_engine::step::{Verdict, Writer, step};
use pled_engine::template::Template;
use pled_engine::value::Value;

/// 2025-11-24T16:00:00Z
pub(crate) const NOW: Millis = 1_764_000_000_000;

/// One task with every time-out, retried twice after a second, that can be called off.
pub(crate) const WORK: &str = r##"{
  "pled": "1.0", "id": "work", "version": 1, "logic": "pled-logic-1",
  "context": { "text": null, "note": null },
  "entry": [ { "type": "assign", "params": { "text": { "var": "event.data.text" } } } ],
  "rules": [
    { "id": "call-off", "source": "office", "when": true,
      "emit": [ { "key": { "var": "event.data.id" }, "event": "STOP" } ] },
    { "id": "everything", "when": true, "emit": [ { "key": { "var": "event.data.id" }, "event": "NOTE" } ] }
  ],
  "initial": "working",
  "states": {
    "working": {
      "invoke": {
        "id": "work", "src": "do.work", "input": { "text": { "var": "context.text" } },
        "retry": { "max_attempts": 3, "initial_interval_ms": 1000, "backoff": 1 },
        "timeout": { "schedule_to_start_ms": 10000, "schedule_to_close_ms": 60000 },
        "onDone": "finished", "onError": "given_up"
      },
      "on": {
        "NOTE": { "actions": [ { "type": "assign", "params": { "note": { "var": "event.data" } } } ] },
        "BREAK": "resting",
        "STOP": "called_off"
      }
    },
    "resting": { "on": { "GO": "working" } },
    "finished": { "type": "final" },
    "given_up": { "type": "final" },
    "called_off": { "type": "final" }
  },
  "output": { "text": { "var": "context.text" } }
}"##;

pub(crate) struct Life {
    template: Template,
    pub(crate) now: Execution,
    /// The time of the next message.
    pub(crate) clock: Millis,
    /// Of all input streams.
    sequence: u64,
    base: Option<u64>,
    /// The stream sequence of the next entry.
    next: u64,
    pub(crate) entries: Vec<Loaded>,
}

impl Life {
    /// One of the template `WORK` whose entries begin at this sequence of the journal.
    pub(crate) fn begin(id: &str, next: u64, input: &str) -> Self {
        Self::begin_at(id, next, NOW, input)
    }

    pub(crate) fn begin_at(id: &str, next: u64, clock: Millis, input: &str) -> Self {
        Self::begin_of(WORK, id, next, clock, input)
    }

    /// One of another template.
    pub(crate) fn begin_with(id: &str, next: u64, source: &str) -> Self {
        Self::begin_of(source, id, next, NOW, "{}")
    }

    fn begin_of(source: &str, id: &str, next: u64, clock: Millis, input: &str) -> Self {
        let template = Template::parse(source).unwrap_or_else(|error| panic!("{error}"));
        let start = (&template.reference()).into();
        let now = Execution::unborn(id.parse().unwrap());
        let mut life =
            Self { template, now, clock, sequence: 0, base: None, next, entries: Vec::new() };
        let event = Event { start: Some(start), ..event("pled.init", input) };
        life.take(Source::Events, Body::Event(event));
        life
    }

    pub(crate) fn id(&self) -> &ExecutionId {
        &self.now.id
    }

    pub(crate) fn receives(&mut self, event_type: &str, data: &str) {
        self.take(Source::Events, Body::Event(event(event_type, data)));
    }

    pub(crate) fn receives_with_id(&mut self, event_type: &str, data: &str, id: &str) {
        let event = Event { id: Some(id.into()), ..event(event_type, data) };
        self.take(Source::Events, Body::Event(event));
    }

    pub(crate) fn succeeds(&mut self, data: &str) {
        self.ends(TaskOutcome::Ok(json(data)));
    }

    pub(crate) fn fails(&mut self, code: &str, retryable: bool) {
        let message = format!("it was {code}");
        let failure = Failure {
            code: code.into(),
            message,
            details: Value::Null,
            retryable,
            retry_after_ms: None,
        };
        self.ends(TaskOutcome::Failed(failure));
    }

    fn ends(&mut self, outcome: TaskOutcome) {
        let (task, attempt) = {
            let (token, task) = self.now.state.tasks.iter().next().unwrap();
            (*token, task.attempt)
        };
        self.take(Source::Signals, Body::Result(TaskResult { task, attempt, outcome }));
    }

    /// The timer of this purpose fires when it is due.
    pub(crate) fn fires(&mut self, purpose: &str) {
        let purpose = format!("\"kind\":\"{purpose}\"");
        let found =
            self.now.state.timers.iter().find(|(_, timer)| {
                serde_json::to_string(&timer.purpose).unwrap().contains(&purpose)
            });
        let (timer, due): (Token, Millis) =
            found.map(|(token, timer)| (*token, timer.due)).unwrap();
        self.clock = due - 1;
        self.take(Source::Timers, Body::Fired { timer });
    }

    fn take(&mut self, source: Source, body: Body) {
        self.sequence += 1;
        self.clock += 1;
        let message = Message {
            execution: self.now.id.clone(),
            source,
            generation: 1,
            stream_seq: self.sequence,
            time: self.clock,
            reply: None,
            body,
        };
        let step = step(&self.template, &self.now, std::slice::from_ref(&message));
        assert!(matches!(step.verdicts[..], [Verdict::Taken(_)]), "{:?}", step.verdicts);
        let writer = Writer { worker: "worker-1".into(), epoch: 1 };
        let sealed = step.draft.unwrap().seal(&writer, self.base);
        let entry = sealed.whole_entry();
        if entry.base.is_none() {
            self.base = Some(self.next);
        }
        self.now = sealed.after;
        self.entries.push(Loaded { stream_seq: self.next, entry });
        self.next += 1;
    }
}

fn event(event_type: &str, data: &str) -> Event {
    Event {
        event_type: event_type.parse().unwrap(),
        id: None,
        origin: None,
        start: None,
        emitted: None,
        data: json(data),
    }
}

fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}
