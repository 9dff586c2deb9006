//! The codes of findings: stable, so that tools, templates and documents can name them.

use serde::Serialize;

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The template is refused by every door.
    Error,
    /// It can be registered, and is most likely not what was meant.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `E` for errors, `W` for warnings, `M` for what the model check finds, `N` for notes, and
    /// three digits.
    pub code: &'static str,
    /// How severe it is.
    pub severity: Severity,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// What it means and why it matters.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// A piece of a template that has it.
    pub example: &'static str,
}

/// The code of that name.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|known| known.code.eq_ignore_ascii_case(code))
}

pub(super) fn find_or_unknown(code: &str) -> &'static Code {
    find(code).unwrap_or(&UNKNOWN)
}

/// Stands for a code of the engine that is not described here; a test sees to it that there is
/// none.
static UNKNOWN: Code = Code {
    code: "E000",
    severity: Severity::Error,
    title: "an error without a description",
    meaning: "The engine refuses the template for a reason that this version does not describe.",
    remedy: "Read the message.",
    example: "",
};

macro_rules! codes {
    ($($name:ident = $code:literal $severity:ident $title:literal
        $meaning:literal $remedy:literal $example:literal;)*) => {
        $(
            pub(crate) static $name: Code = Code {
                code: $code,
                severity: Severity::$severity,
                title: $title,
                meaning: $meaning,
                remedy: $remedy,
                example: $example,
            };
        )*

        /// All codes, in their order.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    NOT_JSON = "E001" Error "not JSON"
        "The text is not JSON, nests too deep, or holds a number that JSON readers do not agree on. \
         Integers beyond 2^53 - 1 are among these: many programs round them silently."
        "Mend the text at the place shown; write large numbers as strings, money in minor units."
        r#"{ "id": "order", "version": 1, }"#;
    REPEATED_KEY = "E002" Error "a key stands twice"
        "The same key stands twice in one object. Readers of JSON keep the first or the last of the \
         two, so the template would mean different things to different programs."
        "Remove one of the two, or rename it."
        r#"{ "on": { "PAID": "shipping", "PAID": "done" } }"#;
    KIND = "E003" Error "a value of the wrong kind"
        "A value is a string where an object is needed, or the like."
        "Write a value of the kind that the message names."
        r#"{ "entry": "log" }"#;
    UNKNOWN_FIELD = "E004" Error "an unknown field"
        "The field is not one of those that are known at its place. Unknown fields are refused, since \
         one that is misspelt would otherwise be ignored without a word."
        "Correct the name; data of your own goes into `meta`."
        r##"{ "on": { "PAID": { "traget": "#done" } } }"##;
    MISSING_FIELD = "E005" Error "a field is missing"
        "A field is needed at this place and is not there."
        "Add it."
        r#"{ "type": "cancel", "params": {} }"#;
    VALUE = "E006" Error "a value out of bounds"
        "A value is of the right kind, but too small, too large, or none of the words that its place \
         takes."
        "Choose a value within the bounds that the message names."
        r#"{ "retry": { "max_attempts": 0 } }"#;
    MISPLACED_FIELD = "E007" Error "a field at the wrong place"
        "The field exists, but has no meaning for this kind of state, or only at the root."
        "Move it to the state that it is about."
        r#"{ "done": { "type": "final", "on": { "AGAIN": "start" } } }"#;
    UNSUPPORTED = "E008" Error "another format"
        "The template says that it is written in a format, or for a profile of logic, that this \
         engine does not read. Guessing what it means would be worse than refusing it."
        "Write the format that the message names, after checking that the template means it."
        r#"{ "pled": "2.0" }"#;
    STATE_KEY = "E010" Error "a bad key of a state"
        "A state's key begins with a letter or `_` and goes on with letters, digits, `_` and `-`. Keys \
         that look like integers are refused because JavaScript moves them to the front of their \
         object, and the order of states matters."
        "Rename the state."
        r#"{ "states": { "1": {}, "2": {} } }"#;
    NAME = "E011" Error "a bad name"
        "An id, a name, an event type or an event descriptor does not have the form of one. Names \
         become parts of subjects and ids, so their form is narrow."
        "Rename it as the message says."
        r#"{ "on": { "order paid": "shipping" } }"#;
    REPEATED_ID = "E012" Error "an id stands twice"
        "Two states, two invocations or two rules have the same id. Targets, results and traces name \
         them by it, so they could not be told apart."
        "Rename one of the two, and what refers to it."
        r#"{ "a": { "id": "pay" }, "b": { "id": "pay" } }"#;
    UNKNOWN_TARGET = "E013" Error "a target that is no state"
        "A target names no state. `\"#id\"` is a state anywhere by its id, `\"key\"` a sibling of the \
         state that the transition stands at, `\".child.path\"` a state below it."
        "Correct the target; the message says what is near."
        r#"{ "on": { "PAID": "shiping" } }"#;
    TARGETS = "E014" Error "targets that exclude each other"
        "A transition has several targets which cannot be active together: only states in different \
         regions of a parallel state can."
        "Keep one target, or one for each region."
        r#"{ "on": { "GO": { "target": ["a", "b"] } } }"#;
    INITIAL = "E015" Error "no state to begin with"
        "A state with `states` says with `initial` which of them is entered first, by the key of a \
         direct child that is no history state."
        "Add `initial`, or correct it."
        r#"{ "initial": "strat", "states": { "start": {} } }"#;
    HISTORY = "E016" Error "a bad default of a history state"
        "The default of a history state is where it leads if its parent was never active. It must be a \
         state within that parent, and no history state."
        "Name a state inside the parent, or leave the default out."
        r##"{ "back": { "type": "history", "target": "#elsewhere" } }"##;
    STRUCTURE = "E017" Error "a state that cannot be"
        "A parallel state has no regions, or the root is final or a history state."
        "Give the parallel state `states`, or leave the type out."
        r#"{ "both": { "type": "parallel" } }"#;
    UNKNOWN_DELAY = "E018" Error "an unknown delay"
        "A delay is milliseconds in digits, or a name in `delays` at the root."
        "Add the name to `delays`, or write the milliseconds."
        r#"{ "after": { "1h": "expired" } }"#;
    RESERVED_EVENT = "E019" Error "an event of the engine"
        "Names that begin with `pled.`, `done.`, `error.` or `after.` are given to events by the \
         engine alone, so that nobody can forge the result of a task or a timer."
        "Choose another name."
        r#"{ "type": "send", "params": { "to": "parent", "event": "done.invoke.x" } }"#;
    HEARTBEAT = "E020" Error "two heartbeats for one queue"
        "A heartbeat is a setting of the queue that workers pull from, so all work of one queue has \
         the same."
        "Use the same value, or another `queue`."
        r#"{ "src": "scan", "timeout": { "heartbeat_ms": 500 } }"#;
    CONTEXT_SIZE = "E021" Error "the initial context is too large"
        "The context may have `limits.context_bytes` bytes, and the initial one has more already."
        "Make it smaller, or raise the limit."
        r#"{ "limits": { "context_bytes": 2 }, "context": { "a": 1 } }"#;
    CONTRADICTION = "E022" Error "fields that contradict each other"
        "Two fields say different things about the same."
        "Keep the one that is meant."
        r#"{ "type": "raise", "params": { "event": "X", "delay_ms": 5, "delay": "soon" } }"#;
    EXPRESSION = "E023" Error "an expression that cannot be read"
        "An expression could not be compiled."
        "Write it in the logic profile of the template."
        r#"{ "guard": {} }"#;
    SCHEMA = "E024" Error "no JSON Schema"
        "The schema of an event is no JSON Schema 2020-12, or has a pattern whose cost is not bounded. \
         Each event is held against it, so it must be one that can be."
        "Correct it at the place shown."
        r#"{ "events": { "PAID": { "schema": { "type": "objekt" } } } }"#;
    SCHEMA_REFERENCE = "E025" Error "a schema that refers elsewhere"
        "A schema refers to something that is not in it. Nothing is fetched: an execution means the \
         same on every machine and on every day."
        "Copy what it refers to into `$defs`, and refer to it as `#/$defs/…`."
        r#"{ "schema": { "$ref": "https://shop.example/paid.json" } }"#;
    VALUE_DEPTH = "E026" Error "a value that is nested too deep"
        "What an execution holds is nested 64 deep at most, so that every reader of JSON can read its \
         journal."
        "Make it flatter, or carry it as a string."
        r#"{ "context": { "x": [[[["… 64 times …"]]]] } }"#;
    OPERATOR = "E100" Error "an unknown operator"
        "The operator does not exist in `pled-logic-1`. Implementations of JSONLogic that take an \
         unknown operator for data make each guard with a slip of the keyboard true."
        "Correct the name. Operators that read the clock, chance or the outside do not exist."
        r#"{ "guard": { "=<": [{ "var": "context.n" }, 3] } }"#;
    OPERANDS = "E101" Error "bad operands"
        "An operator has too few or too many operands, or one of a form that it does not take."
        "Write it as the message shows."
        r#"{ "guard": { "==": [1] } }"#;
    PATH = "E102" Error "a path that leads nowhere"
        "A path begins with something that cannot be read here, has an empty part, or is computed. \
         Guards read `context` and `event`, rules only `event`, and iterators only their element."
        "Begin the path with one of the roots that the message names."
        r#"{ "guard": { "var": "amount" } }"#;
    SIZE = "E103" Error "an expression that is too large"
        "An expression has 1,000 nodes and is nested 64 deep at most, so that its cost is known."
        "Assign a part to the context first, or put data into `$literal`."
        r#"{ "guard": { "in": [{ "var": "context.x" }, ["…a thousand elements…"]] } }"#;
    OBJECT = "E104" Error "an object that is no operation"
        "In an expression an object is an operation: it has one key, the operator."
        "Write data as `{\"$literal\": {…}}`; join several conditions by `and`."
        r#"{ "guard": { "==": [1, 1], "!": false } }"#;
    IN_STATE = "E105" Error "a misplaced inState"
        "`inState` asks for the configuration. It stands in guards of transitions, as the whole of one \
         or under `and`, `or` and `!`, and names a state by its id."
        "Move it, or correct the id."
        r#"{ "guard": { "inState": "shiped" } }"#;
    LITERAL = "E106" Error "a $literal with company"
        "`$literal` takes its value as data and must be the only key of its object."
        "Put what stands beside it inside, or outside."
        r#"{ "data": { "$literal": {}, "a": 1 } }"#;

    UNREACHABLE = "W001" Warning "an unreachable state"
        "No way leads from the start to this state, whatever the guards say."
        "Lead a transition to it, or remove it."
        r#"{ "initial": "a", "states": { "a": { "on": { "GO": "c" } }, "b": {}, "c": { "type": "final" } } }"#;
    SHADOWED = "W002" Warning "a transition that can never win"
        "The transition is never taken: one that stands before it in the same list has no guard or the \
         same guard, all states inside take the event first, or the state is left at once."
        "Guard the other one, change the order, or remove it."
        r#"{ "on": { "PAID": [{ "target": "a" }, { "target": "b", "guard": { "var": "event.data.big" } }] } }"#;
    STEALING = "W003" Warning "a * that takes the engine's events"
        "`*` matches every event but `pled.*`: also `done.*`, `error.*` and `after.*`. At an inner state \
         it wins over the timers, `onDone` and `onError` of the states around it, which then never act."
        "Name the events that are meant, or use a prefix such as `order.*`."
        r#"{ "after": { "1000": "late" }, "states": { "a": { "on": { "*": { "actions": [] } } } } }"#;
    NO_ON_ERROR = "W004" Warning "a failure that nothing handles"
        "When the invocation fails for good, no state on the way to the root handles it: the execution \
         stays where it is until a person comes."
        "Add `onError`, or `\"on_error\": \"fail\"` at the root."
        r#"{ "invoke": { "src": "payments.charge", "onDone": "paid" } }"#;
    DEAD_END = "W005" Warning "a dead end"
        "A state that is not final, from which nothing leads out: an execution in it stays there for \
         ever. Also a final state inside a state whose being done nothing follows from."
        "Add a transition, `\"type\": \"final\"`, or the `onDone` of the parent."
        r#"{ "paid": {} }"#;
    NO_END = "W006" Warning "no way to the end"
        "The template has a final state, but from this state none can be reached, whatever the guards \
         say."
        "Lead a transition towards the end."
        r##"{ "a": { "on": { "X": "b" } }, "b": { "on": { "Y": "a" } }, "end": { "type": "final" } }"##;
    ALWAYS_CYCLE = "W007" Warning "a circle of always"
        "`always` transitions lead in a circle, and no guard in it reads anything that changes on the \
         way. An execution that enters the circle fails with `loop` after `limits.microsteps` steps."
        "Let a guard read what an action in the circle assigns, or wait for an event."
        r#"{ "a": { "always": "b" }, "b": { "always": "a" } }"#;
    IDLE_ALWAYS = "W008" Warning "an always without effect"
        "An `always` with neither target nor `assign` changes nothing that ends it: its actions run \
         again at each step of the execution."
        "Give it a target, or move its actions to `entry`."
        r#"{ "a": { "always": { "actions": [{ "type": "log", "params": {} }] } } }"#;
    TIMER_NEVER_FIRES = "W009" Warning "a timer that can never fire"
        "The state is always left before the timer is due: by an `always` without guard, or by a \
         shorter timer of its own or of a state around it."
        "Make it shorter, or remove it."
        r#"{ "after": { "1000": "late", "5000": "later" } }"#;
    CONSTANT_GUARD = "W010" Warning "a guard that is always the same"
        "The guard reads nothing that can change, so it always holds or never does."
        "Remove the guard or what it guards, or let it read what was meant."
        r#"{ "guard": { "==": [1, 1] } }"#;
    UNASSIGNED = "W011" Warning "a key that is never in the context"
        "An expression reads a key of the context which the initial context does not have and no \
         `assign` sets. It gives null."
        "Correct the name, or add the key to `context`."
        r#"{ "context": { "amount": 0 }, "guard": { ">": [{ "var": "context.amuont" }, 10] } }"#;
    UNDECLARED_FIELD = "W012" Warning "a field that the event does not have"
        "The schema of the event, in `events`, does not have the field and allows no other, so the \
         expression gives null."
        "Correct the name, or add the field to the schema."
        r#"{ "var": "event.data.ammount" }"#;
    UNHANDLED_EVENT = "W013" Warning "an event that no state handles"
        "The event is declared, emitted by a rule, or sent by the execution to itself, but no state \
         has a transition for it."
        "Add a transition, or remove the event."
        r#"{ "events": { "PAID": {} }, "on": { "PAYED": "done" } }"#;
    RETRY_TOO_LONG = "W014" Warning "attempts that are never made"
        "The pauses between the attempts of the `retry` alone take longer than \
         `timeout.schedule_to_close_ms` allows for all of them, so the last attempts are never made."
        "Allow more time, fewer attempts, or shorter pauses."
        r#"{ "retry": { "max_attempts": 10, "initial_interval_ms": 1000 }, "timeout": { "schedule_to_close_ms": 5000 } }"#;
    NO_COMPENSATION = "W015" Warning "a step that is not undone"
        "Other invocations of the template have a `compensate`, this one has none, and after it the \
         action `compensate` can run: what it did stays done."
        "Add a `compensate`, or allow it in the invocation's `meta` where there is nothing to undo."
        r#"{ "invoke": { "src": "flight.book", "onDone": "paying", "onError": "undo" } }"#;
    NEVER_DONE = "W016" Warning "an onDone that never comes"
        "A transition waits for a state to be done, and that state never is: a compound state is done \
         when a direct child that is final is entered, a parallel one when all of its regions are. When the \
         root is done, the execution ends, and nothing follows."
        "Make the state in which it is done final."
        r#"{ "onDone": "next", "initial": "a", "states": { "a": {} } }"#;
    NEVER_COMES = "W017" Warning "an event that never comes"
        "A transition waits for an event which only the engine makes, and of which there is no source: \
         no invocation, state, timer or action has that name."
        "Correct the name; the message says what is near."
        r#"{ "on": { "done.invoke.chrage": "paid" } }"#;
    UNKNOWN_ID = "W018" Warning "an id that nothing has"
        "A `cancel` takes back a send that is never sent, or a `stop` or `send` is for a child that is \
         never started."
        "Correct the id."
        r#"{ "type": "cancel", "params": { "id": "remindre" } }"#;
    NOTHING_TO_COMPENSATE = "W019" Warning "nothing to compensate"
        "The action `compensate` runs, but no invocation of the template says how it is undone."
        "Add `compensate` to the invocations that have to be undone."
        r#"{ "entry": [{ "type": "compensate" }] }"#;
    NEVER_STARTED = "W020" Warning "work that is never started"
        "The state is left by an `always` without guard as soon as it is entered. Work that begins and \
         ends within one step is never handed out."
        "Guard the `always`, or move the invocation."
        r#"{ "invoke": { "src": "payments.charge" }, "always": "next" }"#;
    UNUSED_DELAY = "W021" Warning "a delay that nothing uses"
        "The name stands in `delays`, and no `after` and no `raise` uses it."
        "Use it, or remove it."
        r#"{ "delays": { "paymentWindow": 900000 } }"#;
    UNKNOWN_ALLOW = "W022" Warning "a silence of nothing"
        "`meta.check.allow` names a code that does not exist or cannot be allowed."
        "Name a code that begins with W, M or N."
        r#"{ "meta": { "check": { "allow": ["W999"] } } }"#;

    DEADLOCK = "M001" Warning "a deadlock"
        "The model check found a configuration that is not final and that no event, timer or result \
         can change."
        "Handle an event in it, or guard the way there."
        r#"{ "a": { "always": { "guard": { "var": "context.paid" }, "target": "done" } } }"#;
    LIVELOCK = "M002" Warning "a livelock"
        "The model check found configurations which the execution can move between, but from which no \
         end can be reached any more, though one could before."
        "Add a way out, or guard the way in."
        r#"{ "on": { "RETRY": { "guard": { "<": [{ "var": "context.n" }, 3] }, "target": "again" } } }"#;
    NO_FINAL_REACHED = "M003" Warning "no end can be reached"
        "The template has a final state, but the model check explored all configurations and none of \
         them was an end."
        "Look at the guards on the way to the final state: they exclude each other."
        r#"{ "always": { "guard": { "===": [{ "var": "context.mode" }, "b"] }, "target": "end" } }"#;
    ENDLESS_STEP = "M004" Warning "a step without an end"
        "The model check found an event after which the execution does not come to rest: events that \
         it raises lead to each other. It fails with `loop` after `limits.microsteps` steps."
        "Break the circle with a guard that something in it changes, or use `send` with a delay."
        r#"{ "on": { "PING": { "actions": [{ "type": "raise", "params": { "event": "PING" } }] } } }"#;
    NEVER_JOINS = "M005" Warning "a region that never joins"
        "A parallel state is waited for, and in no configuration that the model check found is this \
         region of it complete: the others wait for it in vain."
        "Look at what its final state needs: it happens only outside of the parallel state."
        r#"{ "guard": { "inState": "other" }, "target": "joined" }"#;

    NO_FINAL = "N001" Note "no final state"
        "The root has no final state, so executions run until somebody cancels them. The checks that \
         ask for a way to the end are left out."
        "Nothing, if that is meant; else add a state with `\"type\": \"final\"`."
        r#"{ "states": { "on": { "on": { "OFF": "off" } }, "off": { "on": { "ON": "on" } } } }"#;
    BOUND = "N002" Note "the model check reached its bound"
        "There are more configurations than the model check explores. What it found holds; what it did \
         not find may be there all the same."
        "Raise `--max-configurations`, or split the template into child executions."
        r#"{ "type": "parallel", "states": { "…": {} } }"#;
}
