//! The codes of errors in templates: stable, so that tools and documents can name them.

/// The text is not JSON, nests too deep, or holds a number that JSON does not carry exactly.
pub const NOT_JSON: &str = "E001";
/// A key stands twice in one object.
pub const REPEATED_KEY: &str = "E002";
/// A value is of another kind (string, object, …) than its place takes.
pub const KIND: &str = "E003";
/// A field is not known at its place.
pub const UNKNOWN_FIELD: &str = "E004";
/// A field is missing.
pub const MISSING_FIELD: &str = "E005";
/// A value is out of its bounds, or none of those that its place takes.
pub const VALUE: &str = "E006";
/// A field has no meaning for this kind of state, or stands only at the root.
pub const MISPLACED_FIELD: &str = "E007";
/// The format or the logic profile is not one that this engine reads.
pub const UNSUPPORTED: &str = "E008";
/// A state's key does not have the form of one.
pub const STATE_KEY: &str = "E010";
/// An id, a name, an event type or a descriptor does not have the form of one.
pub const NAME: &str = "E011";
/// An id stands twice.
pub const REPEATED_ID: &str = "E012";
/// A target names no state.
pub const UNKNOWN_TARGET: &str = "E013";
/// The targets of one transition cannot be active together.
pub const TARGETS: &str = "E014";
/// `initial` is missing or names no direct child that can be entered.
pub const INITIAL: &str = "E015";
/// The default of a history state is not one that it could restore.
pub const HISTORY: &str = "E016";
/// A parallel state has no regions, or the root is of a type that it cannot be.
pub const STRUCTURE: &str = "E017";
/// A delay is neither milliseconds nor a name in `delays`.
pub const UNKNOWN_DELAY: &str = "E018";
/// An event's name is kept for the engine.
pub const RESERVED_EVENT: &str = "E019";
/// One queue is given two heartbeats.
pub const HEARTBEAT: &str = "E020";
/// The initial context is larger than `limits.context_bytes`.
pub const CONTEXT_SIZE: &str = "E021";
/// Fields contradict each other.
pub const CONTRADICTION: &str = "E022";
/// What should be a JSON Schema is none, or is of a dialect or has a pattern that is not taken.
pub const SCHEMA: &str = "E024";
/// A schema refers to something that is not in it.
pub const SCHEMA_REFERENCE: &str = "E025";
/// A constant is nested deeper than a value may be.
pub const VALUE_DEPTH: &str = "E026";
/// An expression could not be compiled.
pub const EXPRESSION: &str = "E023";
