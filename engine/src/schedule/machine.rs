//! One schedule as a machine without I/O and clock.
//!
//! What is decided stands in the state before anything is done: the shell writes the state with
//! the revision that it read, and only then starts what the state says is to be started. So of two
//! workers one decides, and whoever comes after a crash starts what the other did not get to; the
//! ids of executions are derived from the nominal times, so that a start is taken once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::period::{instant_text, instant_token};
use super::spec::{InvalidSpec, Overlap, Spec};
use super::state::{Backfill, Ending, Pause, Recent, Run, State, Trigger, Waiting, What};
use crate::canonical;
use crate::id::{ExecutionId, InvalidName, ScheduleName};
use crate::message::Millis;
use crate::value::Value;

/// How many nominal times are decided at once, so that a long outage does not hold up others.
const AT_ONCE: usize = 500;
/// How many executions are started at once where they may run beside each other.
const STARTS_AT_ONCE: usize = 50;
/// The most that waits.
const WAITING_MAX: usize = 1_000;
/// The most running executions that are remembered where they may run beside each other.
const RUNNING_MAX: usize = 16;
/// The most triggers and backfills that wait to be decided, and pauses that are remembered.
const ASKED_MAX: usize = 100;
/// The most times of one backfill.
const BACKFILL_MAX: usize = 10_000;
/// The shortest and longest pause between two looks at an execution whose end is waited for.
const LOOK: (Millis, Millis) = (50, 5_000);
/// The longest pause between two looks at an execution whose start is not confirmed.
const CONFIRM_MAX: Millis = 60_000;
/// A start that had no effect for so long is sent again: a server that does not sync may lose it.
const START_AGAIN: Millis = 60_000;

/// One schedule: what it starts and when, and what is remembered.
#[derive(Clone, Debug)]
pub struct Schedule {
    name: ScheduleName,
    spec: Arc<Spec>,
    created_at: Millis,
    changed_at: Millis,
    state: State,
}

/// What a schedule's machine is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed.
    Tick,
    /// What there is of an execution that it started.
    Seen {
        /// The execution.
        execution: &'a ExecutionId,
        /// What there is.
        seen: Seen,
    },
    /// The start of an execution is stored.
    Started(&'a ExecutionId),
    /// The event that ends an execution is stored.
    Ended(&'a ExecutionId),
}

/// What there is of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet.
    Absent,
    /// It runs.
    Running,
    /// It has ended.
    Ended,
    /// The engine refused to start it, for this reason.
    Refused(Arc<str>),
}

/// What a schedule's machine wants done. All may be done twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// See what there is of an execution, and tell it by [`Input::Seen`]; then tick again.
    Look(ExecutionId),
    /// Start an execution, once the state is stored, and tell it by [`Input::Started`].
    Start(Start),
    /// End an execution, once the state is stored, and tell it by [`Input::Ended`].
    End {
        /// The execution.
        execution: ExecutionId,
        /// How.
        ending: Ending,
    },
}

/// An execution that is to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Its id.
    pub execution: ExecutionId,
    /// The time that it stands for.
    pub nominal: Millis,
    /// Its input.
    pub input: Value,
}

/// What a person asked of a schedule is refused, with a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// As it is stored. The times are for people; the machine reads the state.
#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    name: ScheduleName,
    created_at: Millis,
    changed_at: Millis,
    spec: Value,
    state: State,
}

impl Schedule {
    /// A schedule that is created at `now`: nothing from before is started by itself.
    ///
    /// # Errors
    /// If no time ever comes.
    pub fn new(name: ScheduleName, spec: Spec, now: Millis) -> Result<Self, InvalidSpec> {
        spec.comes(now)?;
        let paused = spec.paused.then_some(Pause { since: now, reason: None });
        let state = State { last: now, paused, ..State::default() };
        Ok(Self { name, spec: spec.into(), created_at: now, changed_at: now, state })
    }

    /// Reads a schedule as it is stored.
    ///
    /// # Errors
    /// With a sentence, if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.v != 1 {
            return Err(format!("version {} is of another program", record.v));
        }
        let spec = Spec::parse(&record.spec).map_err(|error| error.to_string())?;
        let Record { name, created_at, changed_at, state, .. } = record;
        Ok(Self { name, spec: spec.into(), created_at, changed_at, state })
    }

    /// As it is stored.
    ///
    /// # Panics
    /// Never: nothing in a schedule is without a canonical form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let record = Record {
            v: 1,
            name: self.name.clone(),
            created_at: self.created_at,
            changed_at: self.changed_at,
            spec: self.spec.source.clone(),
            state: self.state.clone(),
        };
        canonical::to_vec(&record).expect("a schedule of exact numbers")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ScheduleName {
        &self.name
    }

    /// What it starts and when.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What is remembered.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Millis {
        self.created_at
    }

    /// When a person changed it last.
    #[must_use]
    pub fn changed_at(&self) -> Millis {
        self.changed_at
    }

    /// Gives it another specification, and says whether that is one. What was counted and what runs
    /// is kept; of the new times those after `now` are started.
    ///
    /// # Errors
    /// If no time ever comes.
    pub fn replace(&mut self, spec: Spec, now: Millis) -> Result<bool, InvalidSpec> {
        if spec.source == self.spec.source {
            return Ok(false);
        }
        spec.comes(now)?;
        self.state.last = self.state.last.max(now);
        if spec.paused && self.state.paused.is_none() {
            self.state.paused = Some(Pause { since: now, reason: None });
        }
        self.spec = spec.into();
        self.changed_at = now;
        Ok(true)
    }

    /// Starts nothing more by itself. `false`: it was paused already.
    pub fn pause(&mut self, reason: Option<Arc<str>>, now: Millis) -> bool {
        if self.state.paused.is_some() {
            return false;
        }
        self.state.paused = Some(Pause { since: now, reason });
        self.changed_at = now;
        true
    }

    /// Goes on with the times after `now`; those in between are counted. `false`: it was not paused.
    ///
    /// # Errors
    /// If so many pauses are over that no schedule worker has seen.
    pub fn resume(&mut self, now: Millis) -> Result<bool, Refusal> {
        let Some(pause) = self.state.paused.clone() else { return Ok(false) };
        if self.state.pauses.len() >= ASKED_MAX {
            return Err(self.too_much_asked());
        }
        self.state.pauses.push((pause.since, now.max(pause.since)));
        self.state.paused = None;
        self.changed_at = now;
        Ok(true)
    }

    /// Starts an execution beside the times; it is named by the moment, unless it is named here.
    ///
    /// # Errors
    /// If there is no such name, or too much was asked that no schedule worker has seen.
    pub fn trigger(
        &mut self,
        execution: Option<ExecutionId>,
        overlap: Option<Overlap>,
        now: Millis,
    ) -> Result<ExecutionId, Refusal> {
        if self.state.triggers.len() >= ASKED_MAX {
            return Err(self.too_much_asked());
        }
        let taken = |id: &ExecutionId| {
            self.state.triggers.iter().any(|trigger| trigger.execution == *id)
                || self.state.running.iter().any(|run| run.execution == *id)
        };
        let mut at = now;
        let execution = match execution {
            // A repeat of the request.
            Some(execution) if taken(&execution) => return Ok(execution),
            Some(execution) => execution,
            None => loop {
                let id = self.id(at, true).map_err(|error| Refusal(error.to_string()))?;
                if !taken(&id) {
                    break id;
                }
                at += 1;
            },
        };
        let overlap = overlap.unwrap_or(Overlap::AllowAll);
        self.state.triggers.push(Trigger { execution: execution.clone(), at, overlap });
        self.changed_at = now;
        Ok(execution)
    }

    /// Starts what belongs to the nominal times of a range of the past, both ends included, and says
    /// how many those are. Those that were started before are there already, and stay as they are.
    ///
    /// # Errors
    /// If the range is empty, not past or too large.
    pub fn backfill(
        &mut self,
        (from, until): (Millis, Millis),
        overlap: Option<Overlap>,
        now: Millis,
    ) -> Result<usize, Refusal> {
        if until < from {
            return Err(Refusal("the range ends before it begins".to_owned()));
        }
        if until > now {
            let until = instant_text(until);
            return Err(Refusal(format!("{until} is not past: what is to come starts by itself")));
        }
        if self.state.backfills.len() >= ASKED_MAX {
            return Err(self.too_much_asked());
        }
        let times =
            std::iter::successors(self.spec.times.next(from - 1), |at| self.spec.times.next(*at));
        let count = times.take_while(|at| *at <= until).take(BACKFILL_MAX + 1).count();
        match count {
            0 => Err(Refusal("no nominal time is in this range".to_owned())),
            _ if count > BACKFILL_MAX => Err(Refusal(format!(
                "more than {BACKFILL_MAX} nominal times are in this range: ask for parts of it"
            ))),
            _ => {
                let overlap = overlap.unwrap_or(Overlap::BufferAll);
                self.state.backfills.push(Backfill { after: from - 1, until, overlap });
                self.changed_at = now;
                Ok(count)
            }
        }
    }

    fn too_much_asked(&self) -> Refusal {
        Refusal(format!(
            "{ASKED_MAX} requests wait for a schedule worker: run `pled scheduler` or `pled all`"
        ))
    }

    /// Takes an input at `now`, by the server's clock, and gives what is to be done.
    ///
    /// A tick decides what is due; where that depends on whether something still runs, it asks to
    /// look first and decides nothing. Starts and ends are given at every tick until they are told
    /// to be stored.
    pub fn handle(&mut self, input: Input<'_>, now: Millis) -> Vec<Output> {
        match input {
            Input::Tick => self.tick(now),
            Input::Seen { execution, seen } => {
                self.seen(execution, seen, now);
                Vec::new()
            }
            Input::Started(execution) => {
                self.runs(execution).for_each(|run| run.sent = true);
                if self.spec.overlap == Overlap::AllowAll {
                    self.forget_oldest();
                }
                Vec::new()
            }
            Input::Ended(execution) => {
                let ends = self.runs(execution).filter_map(|run| run.ending.as_mut());
                ends.for_each(|(_, sent)| *sent = true);
                Vec::new()
            }
        }
    }

    /// When to tick next, if nothing else happens; `now` or earlier: at once.
    #[must_use]
    pub fn wakes_at(&self, now: Millis) -> Option<Millis> {
        let state = &self.state;
        let due = match &state.paused {
            Some(_) => None,
            None => self.spec.times.next_firing(&self.name, state.last).map(|firing| firing.due),
        };
        let is_idle = state.running.is_empty();
        let held = |waiting: &Waiting| self.is_held(waiting);
        let waits = state.waiting.first().is_some_and(|first| !held(first));
        let asked = !state.triggers.is_empty() || !state.backfills.is_empty();
        let at_once = (asked || waits) && is_idle || self.decides_without_looking();
        let look = state.running.iter().filter_map(|run| Self::looks_at(run, asked || waits)).min();
        [due, at_once.then_some(now), look].into_iter().flatten().min()
    }

    /// Whether something was asked for that does not depend on what runs.
    fn decides_without_looking(&self) -> bool {
        let free = |overlap: Overlap| overlap == Overlap::AllowAll;
        self.state.triggers.first().is_some_and(|trigger| free(trigger.overlap))
            || self.state.backfills.first().is_some_and(|backfill| free(backfill.overlap))
    }

    /// When to look at a running execution: soon where its end is waited for, the longer it runs the
    /// more seldom, so that a wait is at most an eighth longer than the run.
    fn looks_at(run: &Run, is_waited_for: bool) -> Option<Millis> {
        let (least, most) = match (is_waited_for, run.confirmed) {
            (true, _) => LOOK,
            (false, false) => (1_000, CONFIRM_MAX),
            (false, true) => return None,
        };
        let Some(seen_at) = run.seen_at else { return Some(run.decided_at + least) };
        let age = seen_at.saturating_sub(run.decided_at);
        Some(seen_at + (age / 8).clamp(least, most))
    }

    fn tick(&mut self, now: Millis) -> Vec<Output> {
        let mut looks = Vec::new();
        let steps =
            [Self::decide_times, Self::decide_triggers, Self::decide_backfills, Self::drain];
        for step in steps {
            if step(self, now) == Decided::LookFirst {
                looks = self.unseen(now);
                break;
            }
        }
        if looks.is_empty() {
            let is_due = |run: &&Run| {
                let waited = !self.state.waiting.is_empty() || !self.state.backfills.is_empty();
                run.sent && Self::looks_at(run, waited).is_some_and(|at| at <= now)
            };
            let due = self.state.running.iter().filter(is_due).map(|run| run.execution.clone());
            looks = due.collect();
        }
        let mut outputs: Vec<Output> = looks.into_iter().map(Output::Look).collect();
        outputs.extend(self.to_be_sent());
        outputs
    }

    /// What the state says is to be started and ended, and is not known to be stored.
    fn to_be_sent(&self) -> Vec<Output> {
        let mut outputs = Vec::new();
        for run in &self.state.running {
            if !run.sent {
                let input = self.spec.input_of(run.nominal);
                let (execution, nominal) = (run.execution.clone(), run.nominal);
                outputs.push(Output::Start(Start { execution, nominal, input }));
            }
            if let Some((ending, false)) = run.ending {
                outputs.push(Output::End { execution: run.execution.clone(), ending });
            }
        }
        outputs
    }

    fn seen(&mut self, execution: &ExecutionId, seen: Seen, now: Millis) {
        for run in self.runs(execution) {
            run.seen_at = Some(now);
            match &seen {
                Seen::Running => run.confirmed = true,
                Seen::Absent if now.saturating_sub(run.decided_at) >= START_AGAIN => {
                    run.decided_at = now;
                    run.sent = false;
                }
                Seen::Absent | Seen::Ended | Seen::Refused(_) => {}
            }
        }
        let Seen::Refused(reason) = &seen else {
            if seen == Seen::Ended {
                self.state.running.retain(|run| run.execution != *execution);
            }
            return;
        };
        let refused: Vec<_> =
            self.state.running.extract_if(.., |run| run.execution == *execution).collect();
        for run in refused {
            self.state.counts.started = self.state.counts.started.saturating_sub(1);
            self.state.record(Recent {
                nominal: run.nominal,
                what: What::Refused,
                execution: Some(run.execution),
                reason: Some(reason.clone()),
            });
        }
    }

    /// Decides the nominal times that are due.
    fn decide_times(&mut self, now: Millis) -> Decided {
        let limit = self.state.paused.as_ref().map_or(now, |pause| now.min(pause.since));
        let mut started = 0;
        for _ in 0..AT_ONCE {
            let firing = self.spec.times.next_firing(&self.name, self.state.last);
            let Some(firing) = firing.filter(|at| at.due <= now && at.nominal <= limit) else {
                self.forget_pauses(now);
                return Decided::All;
            };
            let nominal = firing.nominal;
            let within =
                |(since, until): &(Millis, Millis)| (*since < nominal) && nominal <= *until;
            if self.state.pauses.iter().any(within) {
                self.state.skipped(nominal, What::Paused);
            } else if now.saturating_sub(nominal) > self.spec.catch_up_window_ms {
                self.state.skipped(nominal, What::CatchUp);
            } else {
                if self.must_look(self.spec.overlap, now) {
                    return Decided::LookFirst;
                }
                let Ok(execution) = self.id(nominal, false) else { return Decided::All };
                let run = Waiting { execution, nominal, asked: false };
                started += usize::from(self.offer(run, self.spec.overlap, now));
            }
            self.state.last = nominal;
            if started >= STARTS_AT_ONCE {
                break;
            }
        }
        Decided::All
    }

    fn forget_pauses(&mut self, now: Millis) {
        if self.state.paused.is_none() {
            let last = &self.state.last;
            let next = self.spec.times.next(*last).unwrap_or(Millis::MAX);
            self.state.pauses.retain(|(_, until)| *until >= next && next <= now);
        }
    }

    fn decide_triggers(&mut self, now: Millis) -> Decided {
        while let Some(trigger) = self.state.triggers.first().cloned() {
            if self.must_look(trigger.overlap, now) {
                return Decided::LookFirst;
            }
            self.state.triggers.remove(0);
            let Trigger { execution, at, overlap } = trigger;
            self.offer(Waiting { execution, nominal: at, asked: true }, overlap, now);
        }
        Decided::All
    }

    fn decide_backfills(&mut self, now: Millis) -> Decided {
        let mut started = 0;
        for _ in 0..AT_ONCE {
            let Some(backfill) = self.state.backfills.first().cloned() else { break };
            let Some(nominal) =
                self.spec.times.next(backfill.after).filter(|at| *at <= backfill.until)
            else {
                self.state.backfills.remove(0);
                continue;
            };
            if self.must_look(backfill.overlap, now) {
                return Decided::LookFirst;
            }
            // They wait here rather than in the list of what waits.
            if backfill.overlap == Overlap::BufferAll && self.is_busy() || started >= STARTS_AT_ONCE
            {
                break;
            }
            let Ok(execution) = self.id(nominal, false) else { break };
            let run = Waiting { execution, nominal, asked: true };
            started += usize::from(self.offer(run, backfill.overlap, now));
            self.state.backfills[0].after = nominal;
        }
        Decided::All
    }

    /// Starts what waits, if nothing runs any more.
    fn drain(&mut self, now: Millis) -> Decided {
        let Some(first) = self.state.waiting.iter().position(|waiting| !self.is_held(waiting))
        else {
            return Decided::All;
        };
        if self.must_look(Overlap::BufferAll, now) {
            return Decided::LookFirst;
        }
        if self.state.running.is_empty() {
            let run = self.state.waiting.remove(first);
            self.start(run, now);
        }
        Decided::All
    }

    /// A pause holds what time alone wants.
    fn is_held(&self, waiting: &Waiting) -> bool {
        self.state.paused.is_some() && !waiting.asked
    }

    fn is_busy(&self) -> bool {
        !self.state.running.is_empty() || !self.state.waiting.is_empty()
    }

    /// Whether a decision by this policy depends on executions that were not looked at just now.
    fn must_look(&self, overlap: Overlap, now: Millis) -> bool {
        overlap != Overlap::AllowAll && !self.unseen(now).is_empty()
    }

    fn unseen(&self, now: Millis) -> Vec<ExecutionId> {
        let unseen = |run: &&Run| run.sent && run.seen_at != Some(now) && run.decided_at != now;
        self.state.running.iter().filter(unseen).map(|run| run.execution.clone()).collect()
    }

    /// Decides by the policy what becomes of a run, and says whether it is started now.
    fn offer(&mut self, run: Waiting, overlap: Overlap, now: Millis) -> bool {
        if overlap == Overlap::AllowAll || !self.is_busy() {
            self.start(run, now);
            return true;
        }
        let nominal = run.nominal;
        match overlap {
            Overlap::Skip | Overlap::AllowAll => self.state.skipped(nominal, What::Overlap),
            Overlap::BufferOne if self.state.waiting.is_empty() => self.state.waiting.push(run),
            Overlap::BufferAll if self.state.waiting.len() < WAITING_MAX => {
                self.state.waiting.push(run);
            }
            Overlap::BufferOne | Overlap::BufferAll => {
                self.state.skipped(nominal, What::BufferFull)
            }
            Overlap::CancelOther => self.replace_others(run, Ending::Cancel),
            Overlap::TerminateOther => self.replace_others(run, Ending::Terminate),
        }
        false
    }

    fn replace_others(&mut self, run: Waiting, ending: Ending) {
        for running in &mut self.state.running {
            let is_asked = running.ending.is_some_and(|(asked, _)| asked >= ending);
            if !is_asked {
                running.ending = Some((ending, false));
            }
        }
        for waiting in std::mem::take(&mut self.state.waiting) {
            self.state.skipped(waiting.nominal, What::Superseded);
        }
        self.state.waiting.push(run);
    }

    fn start(&mut self, run: Waiting, now: Millis) {
        let Waiting { execution, nominal, asked: _ } = run;
        self.state.record(Recent {
            nominal,
            what: What::Started,
            execution: Some(execution.clone()),
            reason: None,
        });
        self.state.running.push(Run {
            execution,
            nominal,
            decided_at: now,
            sent: false,
            ending: None,
            seen_at: None,
            confirmed: false,
        });
    }

    /// Where executions may run beside each other nobody asks whether the older ones still do.
    fn forget_oldest(&mut self) {
        while self.state.running.len() > RUNNING_MAX {
            let Some(oldest) = self.state.running.iter().position(|run| run.sent) else { return };
            self.state.running.remove(oldest);
        }
    }

    fn runs(&mut self, execution: &ExecutionId) -> impl Iterator<Item = &mut Run> {
        self.state.running.iter_mut().filter(|run| run.execution == *execution)
    }

    /// The id of what is started for a time: `<schedule>-20260329T010000Z`.
    fn id(&self, at: Millis, with_millis: bool) -> Result<ExecutionId, InvalidName> {
        format!("{}-{}", self.name, instant_token(at, with_millis)).parse()
    }
}

/// What a step of a tick came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decided {
    /// All that it could.
    All,
    /// It depends on what runs.
    LookFirst,
}
