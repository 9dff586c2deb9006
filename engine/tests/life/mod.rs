//! An execution in the hands of a test: messages are made, taken by steps, and every entry that is
//! sealed goes through its stored bytes.

use std::sync::Arc;

use pled_engine::effect::{EffectKind, TaskEffect};
use pled_engine::entry::JournalEntry;
use pled_engine::execution::{Execution, Status, TimerPurpose};
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::{
    Body, Event, Failure, Message, Millis, Send, Source, TaskOutcome, TaskResult,
};
use pled_engine::step::{Step, Verdict, Writer, step};
use pled_engine::template::Template;
use pled_engine::value::Value;

pub(crate) struct Life {
    pub(crate) template: Arc<Template>,
    pub(crate) now: Execution,
    pub(crate) entries: Vec<JournalEntry>,
    /// The time of the next message.
    pub(crate) clock: Millis,
    sequences: [u64; 3],
    base: Option<u64>,
}

pub(crate) fn order() -> Arc<Template> {
    template(include_str!("../../../examples/order-fulfilment.json"))
}

pub(crate) fn template(source: &str) -> Arc<Template> {
    Arc::new(Template::parse(source).unwrap_or_else(|error| panic!("{error}")))
}

/// A small template of these members, for what the order example does not show.
pub(crate) fn machine(members: &str) -> Arc<Template> {
    template(&format!(
        r#"{{"pled":"1.0","id":"machine","version":1,"logic":"pled-logic-1",{members}}}"#
    ))
}

pub(crate) fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}

pub(crate) fn failure(code: &str) -> TaskOutcome {
    TaskOutcome::Failed(Failure {
        code: code.into(),
        message: format!("it was {code}"),
        details: Value::Null,
        retryable: true,
        retry_after_ms: None,
    })
}

impl Life {
    pub(crate) fn unborn(template: &Arc<Template>) -> Self {
        Self {
            template: template.clone(),
            now: Execution::unborn("order-42".parse().unwrap()),
            entries: Vec::new(),
            clock: 1_764_000_000_000,
            sequences: [0; 3],
            base: None,
        }
    }

    pub(crate) fn started(template: &Arc<Template>, input: &str) -> Self {
        let mut life = Self::unborn(template);
        let start = life.start(input);
        assert_eq!(life.take(&[start]).len(), 1);
        life
    }

    /// An order of two lines over 49.90, waiting for its charge.
    pub(crate) fn ordered() -> Self {
        Self::started(&order(), r#"{"orderId":"order-42","amount":4990,"lines":2}"#)
    }

    /// Takes a step, writes its entry, and reads it back.
    pub(crate) fn take(&mut self, messages: &[Message]) -> Vec<Verdict> {
        let Step { verdicts, draft } = step(&self.template, &self.now, messages);
        if let Some(draft) = draft {
            let writer = Writer { worker: "worker-1".into(), epoch: 3 };
            let sealed = draft.seal(&writer, self.base);
            let entry = sealed.whole_entry();
            assert_eq!(JournalEntry::decode(&sealed.bytes).unwrap(), entry);
            if entry.state.is_some() {
                self.base = Some(1_000 + entry.seq);
            }
            self.entries.push(entry);
            self.now = sealed.after;
        }
        verdicts
    }

    /// Takes one message and gives its verdict.
    pub(crate) fn take_one(&mut self, message: &Message) -> Verdict {
        self.take(std::slice::from_ref(message)).pop().unwrap()
    }

    pub(crate) fn entry(&self) -> &JournalEntry {
        self.entries.last().unwrap()
    }

    pub(crate) fn effects(&self) -> Vec<EffectKind> {
        self.entry().effects.iter().map(|effect| effect.kind.clone()).collect()
    }

    /// The tasks that the newest entry hands out.
    pub(crate) fn tasks(&self) -> Vec<TaskEffect> {
        let tasks = self.effects().into_iter().filter_map(|effect| match effect {
            EffectKind::Task(task) => Some(task),
            EffectKind::TaskCancel { .. }
            | EffectKind::TimerSet { .. }
            | EffectKind::TimerCancel { .. }
            | EffectKind::Send { .. }
            | EffectKind::ChildStart(_)
            | EffectKind::ChildCancel { .. }
            | EffectKind::ChildDone { .. } => None,
        });
        tasks.collect()
    }

    pub(crate) fn configuration(&self) -> Vec<&str> {
        let ids = self.now.state.configuration.iter();
        ids.map(|id| id.strip_prefix("machine.").unwrap_or(id)).collect()
    }

    pub(crate) fn context(&self, key: &str) -> String {
        self.now.state.context.get(key).map(ToString::to_string).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Status {
        self.now.status
    }

    /// The outstanding task of an invocation or, by its name, of a fire-and-forget action.
    pub(crate) fn task(&self, name: &str) -> Token {
        let mut tasks = self.now.state.tasks.iter();
        let found =
            tasks.find(|(_, task)| task.invocation.as_deref().unwrap_or(&task.action) == name);
        *found.unwrap_or_else(|| panic!("no task {name} in {:?}", self.now.state.tasks)).0
    }

    /// The timer whose purpose, as JSON, contains `text`.
    pub(crate) fn timer(&self, text: &str) -> Token {
        let mut timers = self.now.state.timers.iter();
        let found =
            timers.find(|(_, timer)| serde_json::to_string(&timer.purpose).unwrap().contains(text));
        *found.unwrap_or_else(|| panic!("no timer {text} in {:?}", self.now.state.timers)).0
    }

    pub(crate) fn purposes(&self) -> Vec<&TimerPurpose> {
        self.now.state.timers.values().map(|timer| &timer.purpose).collect()
    }

    pub(crate) fn start(&mut self, input: &str) -> Message {
        let start = self.template.reference();
        let mut message = self.event("pled.init", input);
        let Body::Event(event) = &mut message.body else { unreachable!() };
        event.start = Some((&start).into());
        message
    }

    pub(crate) fn event(&mut self, event_type: &str, data: &str) -> Message {
        let event = Event {
            event_type: event_type.parse().unwrap(),
            id: None,
            origin: None,
            start: None,
            emitted: None,
            data: json(data),
        };
        self.message(Source::Events, Body::Event(event))
    }

    pub(crate) fn event_with_id(&mut self, event_type: &str, id: &str) -> Message {
        let mut message = self.event(event_type, "null");
        let Body::Event(event) = &mut message.body else { unreachable!() };
        event.id = Some(id.into());
        message
    }

    pub(crate) fn result(&mut self, task: Token, attempt: u32, outcome: TaskOutcome) -> Message {
        self.message(Source::Signals, Body::Result(TaskResult { task, attempt, outcome }))
    }

    /// The outstanding attempt of the named task ends so.
    pub(crate) fn ends(&mut self, name: &str, outcome: TaskOutcome) -> Verdict {
        let task = self.task(name);
        let attempt = self.now.state.tasks[&task].attempt;
        let message = self.result(task, attempt, outcome);
        self.take_one(&message)
    }

    pub(crate) fn succeeds(&mut self, name: &str, data: &str) -> Verdict {
        self.ends(name, TaskOutcome::Ok(json(data)))
    }

    pub(crate) fn fails(&mut self, name: &str, code: &str) -> Verdict {
        self.ends(name, failure(code))
    }

    pub(crate) fn receives(&mut self, event_type: &str, data: &str) -> Verdict {
        let message = self.event(event_type, data);
        self.take_one(&message)
    }

    pub(crate) fn fired(&mut self, timer: Token) -> Message {
        let due = self.now.state.timers.get(&timer).map_or(self.clock, |timer| timer.due);
        let mut message = self.message(Source::Timers, Body::Fired { timer });
        message.time = due;
        self.clock = self.clock.max(due);
        message
    }

    pub(crate) fn fires(&mut self, text: &str) -> Verdict {
        let timer = self.timer(text);
        let message = self.fired(timer);
        self.take_one(&message)
    }

    pub(crate) fn send(&mut self, sender: &str, token: &str, event_type: &str) -> Message {
        let send = Send {
            sender: sender.parse().unwrap(),
            token: token.parse().unwrap(),
            event_type: event_type.parse().unwrap(),
            data: Value::Null,
        };
        self.message(Source::Signals, Body::Send(send))
    }

    fn message(&mut self, source: Source, body: Body) -> Message {
        let stream = match source {
            Source::Events => 0,
            Source::Signals | Source::Own => 1,
            Source::Timers => 2,
        };
        self.sequences[stream] += 1;
        self.clock += 10;
        Message {
            execution: ExecutionId::clone(&self.now.id),
            source,
            generation: 1,
            stream_seq: self.sequences[stream],
            time: self.clock,
            reply: None,
            body,
        }
    }
}
