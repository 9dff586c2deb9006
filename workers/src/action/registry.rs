//! Which handler does which action.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::handler::Handler;

/// Handlers by the name of their action.
///
/// ```
/// use pled_workers::action::{Registry, Task, TaskError};
///
/// #[derive(serde::Deserialize)]
/// struct Charge {
///     amount: i64,
/// }
///
/// let registry = Registry::new().handle("payments.charge", |task: Task| async move {
///     let charge: Charge = task.parse()?;
///     if charge.amount <= 0 {
///         return Err(TaskError::fatal("bad_amount", "nothing to charge"));
///     }
///     // The key is the same over attempts: the payment provider takes it once.
///     Ok(serde_json::json!({ "charged": charge.amount, "reference": task.key }))
/// });
/// assert!(registry.find("payments.charge").is_some());
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<String, Arc<dyn Handler>>,
}

impl Registry {
    /// One without any handler; [`super::builtin::registry`] is one with the built-in actions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `handler` for `action`, in place of an earlier one.
    #[must_use]
    pub fn handle(mut self, action: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.insert(action.into(), Arc::new(handler));
        self
    }

    /// The handler of `action`.
    #[must_use]
    pub fn find(&self, action: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(action)
    }

    /// The actions that have a handler, in order.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.handlers.keys()).finish()
    }
}
