//! The fields that each part of a template has: what the reader knows, and what the published JSON
//! Schema is held against.

/// What the root has besides the fields of a state.
pub const ROOT: [&str; 11] = [
    "$schema", "pled", "version", "logic", "context", "delays", "events", "retry", "rules",
    "on_error", "limits",
];
/// A state, the root included.
pub const STATE: [&str; 17] = [
    "id",
    "type",
    "initial",
    "states",
    "entry",
    "exit",
    "on",
    "always",
    "after",
    "onDone",
    "invoke",
    "history",
    "target",
    "output",
    "description",
    "tags",
    "meta",
];
/// `initial`, where it is an object.
pub const INITIAL: [&str; 2] = ["target", "actions"];
/// A transition.
pub const TRANSITION: [&str; 7] =
    ["target", "guard", "actions", "reenter", "description", "tags", "meta"];
/// An invocation.
pub const INVOKE: [&str; 11] = [
    "id",
    "src",
    "input",
    "onDone",
    "onError",
    "retry",
    "timeout",
    "queue",
    "each",
    "compensate",
    "meta",
];
/// A fan-out.
pub const EACH: [&str; 3] = ["in", "concurrency", "on_failure"];
/// What undoes an invocation.
pub const COMPENSATION: [&str; 4] = ["src", "input", "retry", "timeout"];
/// How often and when work is tried again.
pub const RETRY: [&str; 5] =
    ["max_attempts", "initial_interval_ms", "backoff", "max_interval_ms", "non_retryable"];
/// Time-outs of work.
pub const TIMEOUT: [&str; 4] =
    ["schedule_to_start_ms", "start_to_close_ms", "schedule_to_close_ms", "heartbeat_ms"];
/// Bounds.
pub const LIMITS: [&str; 4] = ["microsteps", "logic_steps", "context_bytes", "event_ids"];
/// The declaration of an event.
pub const EVENT: [&str; 2] = ["schema", "description"];
/// A rule.
pub const RULE: [&str; 4] = ["id", "source", "when", "emit"];
/// What a rule emits.
pub const EMIT: [&str; 4] = ["key", "event", "data", "start"];
/// The actions that the engine itself takes.
pub const OWN_ACTIONS: [&str; 9] =
    ["assign", "raise", "send", "cancel", "choose", "spawn", "stop", "log", "compensate"];
/// `compensate`, which has no `params`.
pub const ACTION_ALONE: [&str; 1] = ["type"];
/// Any other action of the engine.
pub const OWN_ACTION: [&str; 2] = ["type", "params"];
/// An action of a worker.
pub const CUSTOM_ACTION: [&str; 6] = ["type", "params", "retry", "timeout", "queue", "id"];
/// `params` of `raise`.
pub const RAISE: [&str; 5] = ["event", "data", "delay_ms", "delay", "id"];
/// `params` of `send`.
pub const SEND: [&str; 5] = ["to", "event", "data", "delay_ms", "id"];
/// `params` of `cancel`.
pub const CANCEL: [&str; 1] = ["id"];
/// `params` of `choose`.
pub const CHOOSE: [&str; 1] = ["branches"];
/// A branch of `choose`.
pub const BRANCH: [&str; 2] = ["guard", "actions"];
/// `params` of `spawn`.
pub const SPAWN: [&str; 4] = ["id", "template", "input", "parent_close"];
/// `params` of `stop`.
pub const STOP: [&str; 1] = ["id"];
