//! One execution on a virtual clock, in the hands of the engine's own step: entries, attempts,
//! retries and timers are those that a running system would make of the same messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pled_engine::effect::{ChildEffect, EffectKind, TaskEffect, Timeouts};
use pled_engine::entry::{JournalEntry, Outcome};
use pled_engine::execution::Execution;
use pled_engine::id::{EventType, Token};
use pled_engine::message::{
    Body, Event, Failure, Message, Millis, Source, TaskOutcome, TaskResult,
};
use pled_engine::replay::{Divergence, replay};
use pled_engine::step::{Verdict, Writer, step};
use pled_engine::template::{StateIndex, Template};
use pled_engine::value::Value;

use super::coverage::Coverage;
use super::mock::{self, Answer, Given, Mocks};
use super::moment::{Moment, name_of, name_of_timer};

/// How many timers and answers may come in one wait.
const ARRIVALS_MAX: u32 = 10_000;

/// An execution whose clock, events and workers are the caller's. The clock starts at 0.
#[derive(Clone, Debug)]
pub struct World {
    template: Arc<Template>,
    execution: Execution,
    entries: Vec<JournalEntry>,
    now: Millis,
    /// The last sequence of each input stream.
    sequences: BTreeMap<Source, u64>,
    base: Option<u64>,
    writer: Writer,
    mocks: Mocks,
    given: Given,
    /// Whether what nothing answers is left to the caller, fire-and-forget work included.
    by_hand: bool,
    /// Answers on their way, by the time of their arrival and the order in which they were sent.
    answers: BTreeMap<(Millis, u64), TaskResult>,
    answered: u64,
    coverage: Coverage,
    moments: Vec<Moment>,
}

/// What became of an event or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// A step took it.
    Taken(Outcome),
    /// The execution has ended.
    Closed,
}

impl Delivered {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken(Outcome::Applied) => "applied",
            Self::Taken(Outcome::Ignored) => "ignored",
            Self::Taken(Outcome::Deferred) => "deferred",
            Self::Taken(Outcome::Rejected) => "rejected",
            Self::Closed => "closed",
        }
    }
}

/// Something cannot happen in the world as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Nobody waits for that result.
    #[error("no task {name:?} is outstanding: {}", match outstanding.as_slice() {
        [] => "none is".to_owned(),
        names => format!("there is {}", names.join(", ")),
    })]
    NoTask {
        /// The name that was given.
        name: String,
        /// The names of those that are outstanding.
        outstanding: Vec<String>,
    },
    /// The task waits for its next attempt.
    #[error("{name} waits for its next attempt, which is handed out in {in_ms} ms")]
    InPause {
        /// The name of the task.
        name: String,
        /// How long the pause still lasts.
        in_ms: Millis,
    },
    /// Timers set each other without end.
    #[error("more than {ARRIVALS_MAX} timers and results came in one wait")]
    TooMany,
    /// The engine does not take such a message.
    #[error("{0}")]
    Refused(String),
}

impl World {
    /// Starts an execution; what the mocks answer at once is taken.
    ///
    /// # Errors
    /// If the start cannot be taken, or timers without delay set each other without end.
    pub fn start(template: Arc<Template>, input: Value, mocks: Mocks) -> Result<Self, Impossible> {
        Self::begin(template, input, mocks, false)
    }

    /// As [`Self::start`] without any mock: all results are the caller's to give.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_by_hand(template: Arc<Template>, input: Value) -> Result<Self, Impossible> {
        Self::begin(template, input, Mocks::new(), true)
    }

    fn begin(
        template: Arc<Template>,
        input: Value,
        mocks: Mocks,
        by_hand: bool,
    ) -> Result<Self, Impossible> {
        let id = "scenario".parse().map_err(refused)?;
        let start = template.reference();
        let mut world = Self {
            template,
            execution: Execution::unborn(id),
            entries: Vec::new(),
            now: 0,
            sequences: BTreeMap::new(),
            base: None,
            writer: Writer { worker: "scenario".into(), epoch: 1 },
            mocks,
            given: Given::new(),
            by_hand,
            answers: BTreeMap::new(),
            answered: 0,
            coverage: Coverage::default(),
            moments: Vec::new(),
        };
        let init = "pled.init".parse().map_err(refused)?;
        let mut event = event(init, input);
        event.start = Some((&start).into());
        world.take(Source::Events, Body::Event(event))?;
        world.wait(0)?;
        Ok(world)
    }

    /// Sends an event, then takes what is due at once.
    ///
    /// # Errors
    /// If it cannot be recorded, or timers without delay set each other without end.
    pub fn send(&mut self, event_type: EventType, data: Value) -> Result<Delivered, Impossible> {
        let delivered = self.take(Source::Events, Body::Event(event(event_type, data)))?;
        self.wait(0)?;
        Ok(delivered)
    }

    /// Ends the outstanding attempt of the task of that name, an invocation's id or an action's
    /// name, then takes what is due at once.
    ///
    /// # Errors
    /// If there is no such attempt.
    pub fn end_task(&mut self, name: &str, outcome: TaskOutcome) -> Result<Delivered, Impossible> {
        let token = self.outstanding(name)?;
        let attempt = self.execution.state.tasks.get(&token).map_or(1, |task| task.attempt);
        self.answers.retain(|_, answer| answer.task != token);
        let result = TaskResult { task: token, attempt, outcome };
        let delivered = self.take(Source::Signals, self.body_of(result))?;
        self.wait(0)?;
        Ok(delivered)
    }

    /// Advances the clock. Timers that come due and answers that arrive are taken one at a time,
    /// in the order of their time; at the same time answers first, then timers as they were set.
    ///
    /// # Errors
    /// If there is no end of it.
    pub fn wait(&mut self, by_ms: Millis) -> Result<(), Impossible> {
        let end = self.now.saturating_add(by_ms.max(0));
        let mut arrivals = 0;
        loop {
            let answer = self.answers.first_key_value().map(|(key, _)| *key);
            let timer = self.next_timer();
            let at = answer.map(|(at, _)| at).into_iter().chain(timer.map(|(due, _)| due)).min();
            let Some(at) = at.filter(|at| *at <= end) else { break };
            if arrivals == ARRIVALS_MAX {
                return Err(Impossible::TooMany);
            }
            arrivals += 1;
            self.now = self.now.max(at);
            match (answer, timer) {
                (Some(key), _) if key.0 == at => {
                    if let Some(result) = self.answers.remove(&key) {
                        self.take(Source::Signals, self.body_of(result))?;
                    }
                }
                (_, Some((_, timer))) => {
                    self.take(Source::Timers, Body::Fired { timer })?;
                }
                (_, None) => break,
            }
        }
        self.now = end;
        Ok(())
    }

    /// What happened since this was last asked.
    pub fn take_moments(&mut self) -> Vec<Moment> {
        std::mem::take(&mut self.moments)
    }

    /// The execution as it is.
    #[must_use]
    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The states and transitions that were used.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// All active states in document order.
    #[must_use]
    pub fn active(&self) -> BTreeSet<StateIndex> {
        let leaves = self.execution.state.configuration.iter();
        let leaves = leaves.filter_map(|id| self.template.index_of(id));
        let with_ancestors =
            leaves.flat_map(|leaf| std::iter::once(leaf).chain(self.template.ancestors(leaf)));
        with_ancestors.collect()
    }

    /// The timers that are set: when each is due, and what for.
    #[must_use]
    pub fn timers(&self) -> Vec<(Millis, Arc<str>)> {
        let timers = self.execution.state.timers.values();
        let mut timers: Vec<_> = timers
            .map(|timer| (timer.due, name_of_timer(timer, &self.execution, &self.execution)))
            .collect();
        timers.sort();
        timers
    }

    /// The names of the tasks that are outstanding, those that wait for a retry included.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<str>> {
        self.execution.state.tasks.values().map(name_of).collect()
    }

    /// Takes all steps again from their recorded causes, as `pled replay --verify` does.
    ///
    /// # Errors
    /// If one differs: a fault of the engine.
    pub fn verify(&self) -> Result<(), Divergence> {
        replay(&self.template, &self.entries).map(drop)
    }

    fn next_timer(&self) -> Option<(Millis, Token)> {
        let timers = self.execution.state.timers.iter();
        timers.map(|(token, timer)| (timer.due, *token)).min()
    }

    fn outstanding(&self, name: &str) -> Result<Token, Impossible> {
        let tasks = &self.execution.state.tasks;
        let mut named = tasks
            .iter()
            .filter(|(_, task)| task.invocation.as_deref() == Some(name) || *task.action == *name);
        let Some((token, task)) = named.next() else {
            let outstanding = tasks.values().map(|task| name_of(task).to_string()).collect();
            return Err(Impossible::NoTask { name: name.to_owned(), outstanding });
        };
        match task.not_before {
            Some(due) => Err(Impossible::InPause { name: name.to_owned(), in_ms: due - self.now }),
            None => Ok(*token),
        }
    }

    fn take(&mut self, source: Source, body: Body) -> Result<Delivered, Impossible> {
        let sequence = self.sequences.entry(source).or_default();
        *sequence += 1;
        let message = Message {
            execution: self.execution.id.clone(),
            source,
            generation: 1,
            stream_seq: *sequence,
            time: self.now,
            reply: None,
            body,
        };
        let taken = step(&self.template, &self.execution, std::slice::from_ref(&message));
        let Some(draft) = taken.draft else {
            return match taken.verdicts.into_iter().next() {
                Some(Verdict::Closed) => Ok(Delivered::Closed),
                Some(Verdict::Stale) => Ok(Delivered::Taken(Outcome::Ignored)),
                Some(Verdict::Poison(reason)) => Err(Impossible::Refused(reason)),
                verdict => Err(Impossible::Refused(format!("it was judged {verdict:?}"))),
            };
        };
        let transitions = draft.transitions().to_vec();
        let sealed = draft.seal(&self.writer, self.base);
        let entry = sealed.whole_entry();
        let before = std::mem::replace(&mut self.execution, sealed.after);
        let moment = Moment::of(&message, &before, &entry, &self.execution);
        let outcome = moment.outcome;
        self.coverage.add(&self.template, self.active(), &transitions);
        self.moments.push(moment);
        self.dispatch(&entry);
        if entry.base.is_none() {
            self.base = Some(entry.seq);
        }
        self.entries.push(entry);
        Ok(Delivered::Taken(outcome))
    }

    /// Lets the workers see the tasks of an entry.
    fn dispatch(&mut self, entry: &JournalEntry) {
        for effect in &entry.effects {
            match &effect.kind {
                EffectKind::Task(task) => self.work(task),
                EffectKind::ChildStart(child) => self.work(&as_task(child)),
                // Advice only: the answer comes all the same, and is taken where it undoes a
                // success that came too late.
                EffectKind::TaskCancel { .. }
                | EffectKind::ChildCancel { .. }
                | EffectKind::TimerSet { .. }
                | EffectKind::TimerCancel { .. }
                | EffectKind::Send { .. }
                | EffectKind::ChildDone { .. } => {}
            }
        }
    }

    /// The end of a task as the execution hears of it: of a worker, or of a child.
    fn body_of(&self, result: TaskResult) -> Body {
        let task = self.execution.state.tasks.get(&result.task);
        match task.and_then(|task| task.child.as_ref()) {
            Some(_) => Body::ChildDone(result),
            None => Body::Result(result),
        }
    }

    /// What a worker does with an attempt. Fire-and-forget work that no mock is for succeeds.
    fn work(&mut self, task: &TaskEffect) {
        let limit = task.timeout.start_to_close_ms;
        let answer = mock::answer(&self.mocks, &mut self.given, task);
        let is_forgotten = task.invocation.is_none() && !self.by_hand;
        let succeeds = Answer::now(TaskOutcome::Ok(Value::Null));
        let Some(answer) = answer.or(is_forgotten.then_some(&succeeds)) else { return };
        let coming = answer.within(limit);
        if task.timeout.schedule_to_start_ms.is_some() && coming.is_some() {
            self.answer(task, TaskOutcome::Started, 0);
        }
        if let Some((outcome, after_ms)) = coming {
            self.answer(task, outcome, after_ms);
        }
    }

    fn answer(&mut self, task: &TaskEffect, outcome: TaskOutcome, after_ms: Millis) {
        let result = TaskResult { task: task.task, attempt: task.attempt, outcome };
        self.answered += 1;
        self.answers.insert((self.now.saturating_add(after_ms), self.answered), result);
    }
}

/// A child as work of that name, `template:parcel@1`; its time-outs are the engine's.
fn as_task(child: &ChildEffect) -> TaskEffect {
    let action: Arc<str> = format!("template:{}", child.template).into();
    TaskEffect {
        task: child.task,
        queue: action.clone(),
        action,
        invocation: Some(child.invocation.clone()),
        index: child.index,
        attempt: child.attempt,
        input: child.input.clone(),
        timeout: Timeouts::default(),
        deadline: child.deadline,
        meta: Value::Null,
    }
}

/// What is left of an invocation's failure when it is the last one.
#[must_use]
pub fn final_failure(data: &Value) -> TaskOutcome {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
    TaskOutcome::Failed(Failure {
        code: if text("code").is_empty() { "error".into() } else { text("code").into() },
        message: text("message").to_owned(),
        details: data.get("details").cloned().unwrap_or_default(),
        retryable: false,
        retry_after_ms: None,
    })
}

fn event(event_type: EventType, data: Value) -> Event {
    Event { event_type, id: None, origin: None, start: None, emitted: None, data }
}

fn refused(error: impl std::fmt::Display) -> Impossible {
    Impossible::Refused(error.to_string())
}
