//! What the demo has seen of the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pled_engine::effect::EffectKind;
use pled_engine::entry::JournalEntry;
use pled_engine::execution::Status;
use pled_engine::id::ExecutionId;

pub(crate) struct Progress {
    began: Instant,
    ended_at: Instant,
    open: BTreeSet<String>,
    orders: BTreeMap<ExecutionId, Order>,
    entries: usize,
    tasks: usize,
    retries: usize,
}

pub(crate) struct Order {
    pub(crate) entries: Vec<JournalEntry>,
}

impl Order {
    pub(crate) fn status(&self) -> Status {
        self.entries.last().map_or(Status::Running, |entry| entry.status)
    }

    /// The final state, or why there is none.
    pub(crate) fn outcome(&self) -> String {
        let last = self.entries.iter().rev().find_map(|entry| entry.transitions.last());
        let leaf = last.and_then(|step| step.to.first()).map_or("nothing", |leaf| &**leaf);
        let status = self.status();
        if status == Status::Done { leaf.to_owned() } else { status.as_str().to_owned() }
    }

    /// From the first entry to the end, in milliseconds.
    pub(crate) fn took_ms(&self) -> i64 {
        let first = self.entries.first().map_or(0, |entry| entry.at);
        let end = self.entries.iter().find(|entry| entry.status.is_terminal());
        end.map_or(0, |entry| entry.at - first)
    }
}

impl Progress {
    pub(crate) fn new(orders: impl Iterator<Item = String>) -> Self {
        Self {
            began: Instant::now(),
            ended_at: Instant::now(),
            open: orders.collect(),
            orders: BTreeMap::new(),
            entries: 0,
            tasks: 0,
            retries: 0,
        }
    }

    pub(crate) fn take(&mut self, entry: JournalEntry) {
        self.entries += 1;
        for effect in &entry.effects {
            if let EffectKind::Task(task) = &effect.kind {
                self.tasks += 1;
                self.retries += usize::from(task.attempt > 1);
            }
        }
        if entry.status.is_terminal() && self.open.remove(entry.execution.as_str()) {
            self.ended_at = Instant::now();
        }
        let execution = entry.execution.clone();
        let order = self.orders.entry(execution).or_insert(Order { entries: Vec::new() });
        order.entries.push(entry);
    }

    /// Whether every order has ended and nothing that it asked for is outstanding.
    pub(crate) fn all_ended(&self) -> bool {
        let settled = |order: &Order| {
            let state = order.entries.last().and_then(|entry| entry.state.as_ref());
            state.is_none_or(|state| state.tasks.is_empty())
        };
        self.open.is_empty() && self.orders.values().all(settled)
    }

    pub(crate) fn ended(&self) -> usize {
        self.orders.values().filter(|order| order.status().is_terminal()).count()
    }

    pub(crate) fn unfinished(&self) -> Vec<&str> {
        self.open.iter().map(String::as_str).take(10).collect()
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn retries(&self) -> usize {
        self.retries
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.ended_at.duration_since(self.began)
    }

    pub(crate) fn orders(&self) -> impl Iterator<Item = (&ExecutionId, &Order)> {
        self.orders.iter()
    }

    pub(crate) fn histories(&self) -> impl Iterator<Item = (ExecutionId, Vec<JournalEntry>)> {
        self.orders.iter().map(|(id, order)| (id.clone(), order.entries.clone()))
    }

    /// How it goes, in one line.
    pub(crate) fn line(&self) -> String {
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        for order in self.orders.values().filter(|order| order.status().is_terminal()) {
            *outcomes.entry(order.outcome()).or_default() += 1;
        }
        let running = self.orders.len() - outcomes.values().sum::<usize>();
        let outcomes = outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect::<Vec<_>>();
        let outcomes =
            if outcomes.is_empty() { "none ended".to_owned() } else { outcomes.join(", ") };
        format!(
            "{:5.1} s  {running} running, {outcomes}; {} entries, {} tasks, {} retries",
            self.began.elapsed().as_secs_f64(),
            self.entries,
            self.tasks,
            self.retries
        )
    }
}
