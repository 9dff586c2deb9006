//! What journal entries make of tasks: one row of `actions` each, over all its attempts.
//!
//! An entry tells the ends of tasks by results, by cancellations and by timers that fired, but a
//! task that is cancelled while it waits for its next attempt leaves no word of its own: it is only
//! gone from the state. So where an entry carries the state, the state decides what is still open.

use std::collections::{BTreeMap, BTreeSet};

use pled_engine::effect::{Effect, EffectKind};
use pled_engine::entry::{Cause, JournalEntry};
use pled_engine::execution::State;
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::Millis;
use pled_engine::value::Value;

use crate::rows::{derived_id, jsonb, without_nul};

/// The rows that a batch of entries touches.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    rows: BTreeMap<(ExecutionId, Token), ActionRow>,
    /// Those of them that are pending or retrying.
    open: BTreeSet<(ExecutionId, Token)>,
}

/// A row of `actions`, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ActionRow {
    /// What is written when the row is made; `None` where it is there already.
    pub(crate) first: Option<First>,
    pub(crate) status: ActionStatus,
    /// How many attempts were handed out.
    pub(crate) attempts: u32,
    pub(crate) output: Option<String>,
    pub(crate) error: Option<String>,
    /// The timer that ends the task.
    pub(crate) close_timer: Option<Token>,
    /// The timer that ends the attempt which nobody picks up.
    pub(crate) start_timer: Option<Token>,
    /// Whether an invocation waits for it: it ends with its execution.
    pub(crate) invoked: bool,
    pub(crate) updated: Millis,
    /// Whether it differs from what Postgres has.
    pub(crate) changed: bool,
}

/// What does not change over the life of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct First {
    pub(crate) action: String,
    pub(crate) invocation: Option<String>,
    pub(crate) input: String,
    pub(crate) created: Millis,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActionStatus {
    /// An attempt is handed out.
    Pending,
    /// The next attempt waits for its time.
    Retrying,
    /// It gave a result.
    Succeeded,
    /// It failed for good.
    Failed,
    /// Its result was not wanted any more.
    Cancelled,
}

impl ActionStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Retrying => true,
            Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }
}

/// The row's id.
pub(crate) fn action_id(execution: &ExecutionId, task: Token) -> [u8; 16] {
    derived_id("action", &[execution.as_str(), &task.to_string()])
}

/// An attempt of a task or child as its effect says it.
struct HandedOut<'e> {
    task: Token,
    attempt: u32,
    action: String,
    invocation: Option<&'e str>,
    input: &'e Value,
    /// Whether a timer stands behind it that bounds the attempt.
    has_start_timer: bool,
    /// Whether one does that bounds all attempts.
    has_close_timer: bool,
}

impl Actions {
    /// Adds a row that Postgres has.
    pub(crate) fn know(&mut self, execution: ExecutionId, task: Token, row: ActionRow) {
        if row.status.is_open() {
            self.open.insert((execution.clone(), task));
        }
        self.rows.insert((execution, task), row);
    }

    /// The rows that are to be written.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&ExecutionId, Token, &ActionRow)> {
        let rows = self.rows.iter().filter(|(_, row)| row.changed);
        rows.map(|((execution, task), row)| (execution, *task, row))
    }

    /// Takes what the next entry of an execution says of its tasks. All open rows of that execution
    /// must be known.
    pub(crate) fn take(&mut self, entry: &JournalEntry) {
        for cause in &entry.causes {
            self.result(entry, cause);
        }
        for (index, effect) in entry.effects.iter().enumerate() {
            match &effect.kind {
                EffectKind::Task(task) => {
                    let (within, action) = (task.timeout.schedule_to_start_ms, &task.action);
                    let handed = HandedOut {
                        task: task.task,
                        attempt: task.attempt,
                        action: action.to_string(),
                        invocation: task.invocation.as_deref(),
                        input: &task.input,
                        has_start_timer: within.is_some(),
                        has_close_timer: task.deadline.is_some(),
                    };
                    self.dispatched(entry, &handed, &entry.effects[index + 1..]);
                }
                EffectKind::ChildStart(start) => {
                    let handed = HandedOut {
                        task: start.task,
                        attempt: start.attempt,
                        action: format!("template:{}", start.template),
                        invocation: Some(&*start.invocation),
                        input: &start.input,
                        has_start_timer: start.timeout.start_to_close_ms.is_some(),
                        has_close_timer: start.deadline.is_some(),
                    };
                    self.dispatched(entry, &handed, &entry.effects[index + 1..]);
                }
                EffectKind::TaskCancel { task, .. } | EffectKind::ChildCancel { task, .. }
                    if entry.state.is_none() =>
                {
                    self.ended_without_result(entry, *task);
                }
                EffectKind::TaskCancel { .. }
                | EffectKind::TimerSet { .. }
                | EffectKind::TimerCancel { .. }
                | EffectKind::Send { .. }
                | EffectKind::ChildCancel { .. }
                | EffectKind::ChildDone { .. } => {}
            }
        }
        match &entry.state {
            Some(state) => self.settle(entry, state),
            None => self.guess(entry),
        }
    }

    fn result(&mut self, entry: &JournalEntry, cause: &Cause) {
        let is_end = matches!(cause.cause_type.as_str(), "pled.result" | "pled.child");
        let Some(task) = cause.token.filter(|_| is_end) else { return };
        let ok = cause.data.get("ok").and_then(Value::as_bool) == Some(true);
        let part = |name| jsonb(cause.data.get(name).unwrap_or(&Value::Null));
        let status = match ok {
            true => ActionStatus::Succeeded,
            false if is_tried_again(entry, task) => ActionStatus::Retrying,
            false => ActionStatus::Failed,
        };
        self.change(entry, task, |row| {
            row.status = status;
            row.attempts = row.attempts.max(cause.attempt.unwrap_or(0));
            if ok {
                row.output = Some(part("data"));
            } else {
                row.error = Some(part("error"));
            }
        });
    }

    fn dispatched(&mut self, entry: &JournalEntry, task: &HandedOut<'_>, behind: &[Effect]) {
        // The timers of an attempt stand right behind it.
        let mut timers = behind.iter().map_while(|effect| match &effect.kind {
            EffectKind::TimerSet { timer, .. } => Some(*timer),
            EffectKind::Task(_)
            | EffectKind::TaskCancel { .. }
            | EffectKind::TimerCancel { .. }
            | EffectKind::Send { .. }
            | EffectKind::ChildStart(_)
            | EffectKind::ChildCancel { .. }
            | EffectKind::ChildDone { .. } => None,
        });
        let start_timer = if task.has_start_timer { timers.next() } else { None };
        let has_close_timer = task.has_close_timer && task.attempt == 1;
        let close_timer = if has_close_timer { timers.next() } else { None };
        let first = (task.attempt == 1).then(|| First {
            action: task.action.clone(),
            invocation: task.invocation.map(without_nul),
            input: jsonb(task.input),
            created: entry.at,
        });
        self.change(entry, task.task, |row| {
            row.status = ActionStatus::Pending;
            row.attempts = task.attempt;
            row.invoked = task.invocation.is_some();
            row.start_timer = start_timer;
            row.close_timer = close_timer.or(row.close_timer);
            row.first = first.or(row.first.take());
        });
    }

    /// A task whose outstanding attempt is taken back: one of its timers fired, or it is not wanted
    /// any more.
    fn ended_without_result(&mut self, entry: &JournalEntry, task: Token) {
        self.change(entry, task, |row| {
            let (status, error) = if fired(entry, row.close_timer) {
                (ActionStatus::Failed, Some(timeout("the task did not end in its time")))
            } else if fired(entry, row.start_timer) {
                let error = timeout("no worker picked the attempt up in time");
                let again = is_tried_again(entry, task);
                let status = if again { ActionStatus::Retrying } else { ActionStatus::Failed };
                (status, Some(error))
            } else {
                (ActionStatus::Cancelled, None)
            };
            row.status = status;
            row.error = error.or(row.error.take());
        });
    }

    /// Makes the rows agree with the state: what is not outstanding there has ended.
    fn settle(&mut self, entry: &JournalEntry, state: &State) {
        for task in self.open_tasks(&entry.execution) {
            if !state.tasks.contains_key(&task) {
                self.ended_without_result(entry, task);
            }
        }
        for (token, task) in &state.tasks {
            let waits = task.not_before.is_some();
            let status = if waits { ActionStatus::Retrying } else { ActionStatus::Pending };
            let key = (entry.execution.clone(), *token);
            if self.rows.get(&key).is_none_or(|row| row.status != status) {
                self.change(entry, *token, |row| {
                    row.status = status;
                    row.attempts = row.attempts.max(task.attempt.saturating_sub(u32::from(waits)));
                    if fired(entry, row.start_timer) {
                        row.error = Some(timeout("no worker picked the attempt up in time"));
                    }
                });
            }
        }
    }

    /// Without the state: what fired while the task waited, and what the end takes back.
    fn guess(&mut self, entry: &JournalEntry) {
        for task in self.open_tasks(&entry.execution) {
            let key = (entry.execution.clone(), task);
            let ends = self.rows.get(&key).is_some_and(|row| {
                fired(entry, row.close_timer) || (entry.status.is_terminal() && row.invoked)
            });
            if ends {
                self.ended_without_result(entry, task);
            }
        }
    }

    fn open_tasks(&self, execution: &ExecutionId) -> Vec<Token> {
        let none = Token { entry: 0, index: 0 };
        let from = self.open.range((execution.clone(), none)..);
        from.take_while(|(of, _)| of == execution).map(|(_, task)| *task).collect()
    }

    fn change(&mut self, entry: &JournalEntry, task: Token, change: impl FnOnce(&mut ActionRow)) {
        let key = (entry.execution.clone(), task);
        let row = self.rows.entry(key.clone()).or_insert_with(ActionRow::unknown);
        change(row);
        row.updated = entry.at;
        row.changed = true;
        if row.status.is_open() {
            self.open.insert(key);
        } else {
            self.open.remove(&key);
        }
    }
}

impl ActionRow {
    /// One of which nothing is known but that it is in Postgres.
    fn unknown() -> Self {
        Self {
            first: None,
            status: ActionStatus::Pending,
            attempts: 0,
            output: None,
            error: None,
            close_timer: None,
            start_timer: None,
            invoked: false,
            updated: 0,
            changed: false,
        }
    }
}

fn fired(entry: &JournalEntry, timer: Option<Token>) -> bool {
    timer.is_some()
        && entry
            .causes
            .iter()
            .any(|cause| cause.cause_type.as_str() == "pled.timer" && cause.token == timer)
}

/// Whether another attempt follows on one that ended badly. Where the state does not stand in the
/// entry, a timer that is set tells it, until the next entry that has the state knows better.
fn is_tried_again(entry: &JournalEntry, task: Token) -> bool {
    match &entry.state {
        Some(state) => state.tasks.contains_key(&task),
        None => {
            entry.effects.iter().any(|effect| matches!(effect.kind, EffectKind::TimerSet { .. }))
        }
    }
}

fn timeout(message: &str) -> String {
    let error = [("code", Value::from("timeout")), ("message", Value::from(message))];
    Value::Object(error.into_iter().collect()).to_string()
}
