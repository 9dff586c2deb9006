//! What was emitted and is not stored yet, in order for each execution.
//!
//! The receiver keeps the last (ingest sequence, emit index) that it took of a sender, and takes
//! what is at or below it for a repeat. So for one execution the next message goes out only when
//! the one before is stored; different executions do not wait for each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::id::ExecutionId;

use super::emit::Emitted;

/// Messages by their execution; the first of each is under way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: BTreeMap<ExecutionId, Queue>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Arc<Emitted>>,
    /// How often the first was published without success.
    attempts: u32,
}

impl Outbox {
    /// Takes a message; `true`: it is the first of its execution, and to be published now.
    pub(super) fn push(&mut self, emitted: Emitted) -> bool {
        self.bytes += emitted.data.len();
        let queue = self.queues.entry(emitted.execution.clone()).or_default();
        queue.messages.push_back(Arc::new(emitted));
        queue.messages.len() == 1
    }

    /// The message of an execution that is under way, or is to be.
    pub(super) fn first(&self, execution: &ExecutionId) -> Option<&Arc<Emitted>> {
        self.queues.get(execution)?.messages.front()
    }

    /// The newest message of an execution.
    pub(super) fn last(&self, execution: &ExecutionId) -> Option<&Arc<Emitted>> {
        self.queues.get(execution)?.messages.back()
    }

    /// How often the first message of an execution was published without success, this time
    /// included.
    pub(super) fn failed(&mut self, execution: &ExecutionId) -> u32 {
        let Some(queue) = self.queues.get_mut(execution) else { return 0 };
        queue.attempts = queue.attempts.saturating_add(1);
        queue.attempts
    }

    /// The first message of an execution is finished with.
    pub(super) fn pop(&mut self, execution: &ExecutionId) -> Option<Arc<Emitted>> {
        let queue = self.queues.get_mut(execution)?;
        let emitted = queue.messages.pop_front()?;
        queue.attempts = 0;
        if queue.messages.is_empty() {
            self.queues.remove(execution);
        }
        self.bytes -= emitted.data.len();
        Some(emitted)
    }

    /// The bytes of all payloads that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
