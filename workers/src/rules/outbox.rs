//! What was emitted and is not stored yet, in order for each execution.
//!
//! The receiver keeps the last (ingest sequence, emit index) that it took of a sender, and takes
//! what is at or below it for a repeat. So for one execution the next message goes out only when
//! the one before is stored; different executions do not wait for each other.

use std::collections::{HashMap, VecDeque};

use pled_engine::id::ExecutionId;

use super::emit::Emitted;

/// Messages by their execution; the first of each is under way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: HashMap<ExecutionId, VecDeque<Emitted>>,
    bytes: usize,
}

impl Outbox {
    /// Takes a message; `true`: it is the first of its execution, and to be published now.
    pub(super) fn push(&mut self, emitted: Emitted) -> bool {
        self.bytes += emitted.data.len();
        let queue = self.queues.entry(emitted.execution.clone()).or_default();
        queue.push_back(emitted);
        queue.len() == 1
    }

    /// The message of an execution that is under way, or is to be.
    pub(super) fn first(&self, execution: &ExecutionId) -> Option<&Emitted> {
        self.queues.get(execution)?.front()
    }

    /// The first message of an execution is finished with.
    pub(super) fn pop(&mut self, execution: &ExecutionId) -> Option<Emitted> {
        let queue = self.queues.get_mut(execution)?;
        let emitted = queue.pop_front()?;
        if queue.is_empty() {
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
