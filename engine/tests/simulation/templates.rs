//! The processes that the simulation runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use pled_engine::template::Template;

/// Work with retries, a time-out, sends to the hub and to others, sends to itself with and without
/// delay, and work that nothing waits for.
const WORK: &str = r##"{
  "pled": "1.0", "id": "work", "version": 1, "logic": "pled-logic-1",
  "context": { "me": null, "n": 0, "pongs": 0, "ticks": 0, "result": null },
  "entry": [{ "type": "assign", "params": { "me": { "var": "event.data.me" } } }],
  "on": {
    "PONG": { "actions": [{ "type": "assign", "params": { "pongs": { "+": [{ "var": "context.pongs" }, 1] } } }] },
    "TICK": { "actions": [{ "type": "assign", "params": { "ticks": { "+": [{ "var": "context.ticks" }, 1] } } }] },
    "END": { "target": "#over" }
  },
  "initial": "run",
  "states": {
    "run": {
      "id": "run",
      "after": { "5000": { "target": "#wait", "actions": [
        { "type": "send", "params": { "to": "hub", "event": "PING", "data": { "from": { "var": "context.me" } } } }] } },
      "invoke": {
        "id": "charge", "src": "charge", "input": { "n": { "var": "context.n" } },
        "retry": { "max_attempts": 3, "initial_interval_ms": 150 },
        "onDone": { "target": "#wait", "actions": [
          { "type": "assign", "params": { "result": { "var": "event.data" } } },
          { "type": "send", "params": { "to": "hub", "event": "PING", "data": { "from": { "var": "context.me" } } } },
          { "type": "notify", "params": { "n": { "var": "context.n" } }, "retry": { "max_attempts": 2, "initial_interval_ms": 100 } },
          { "type": "send", "params": { "to": "hub", "event": "PING", "data": { "from": { "var": "context.me" } } } }] },
        "onError": { "target": "#failed" }
      }
    },
    "failed": { "id": "failed", "on": { "GO": "#run" } },
    "wait": { "id": "wait", "on": { "GO": "#go", "AGAIN": "#run" } },
    "go": {
      "id": "go",
      "entry": [
        { "type": "assign", "params": { "n": { "+": [{ "var": "context.n" }, 1] } } },
        { "type": "send", "params": { "event": "SELF" } },
        { "type": "send", "params": { "event": "TICK", "delay_ms": 300 } },
        { "type": "send", "params": { "to": { "var": "event.data.to" }, "event": "PONG" } }],
      "on": { "SELF": { "actions": [{ "type": "send", "params": { "to": "nobody", "event": "PING" } }] } },
      "after": { "700": { "target": "#wait" } }
    },
    "over": { "id": "over", "type": "final" }
  }
}"##;

/// Counts what it is sent, and answers each.
const HUB: &str = r##"{
  "pled": "1.0", "id": "hub", "version": 1, "logic": "pled-logic-1",
  "context": { "pings": 0 },
  "initial": "open",
  "states": {
    "open": { "id": "open", "on": { "PING": { "actions": [
      { "type": "assign", "params": { "pings": { "+": [{ "var": "context.pings" }, 1] } } },
      { "type": "send", "params": { "to": { "var": "event.data.from" }, "event": "PONG" } }] } } }
  }
}"##;

/// Starts kids in all ways and takes whatever becomes of them.
const FAMILY: &str = r##"{
  "pled": "1.0", "id": "family", "version": 1, "logic": "pled-logic-1",
  "context": { "cries": 0, "home": 0, "lost": 0, "codes": [] },
  "on": {
    "CRY": { "actions": [{ "type": "assign", "params": { "cries": { "+": [{ "var": "context.cries" }, 1] } } }] },
    "SPAWN": { "actions": [{ "type": "spawn", "params": { "id": "kid", "template": "kid@1" } }] },
    "LEND": { "actions": [{ "type": "spawn", "params": { "id": "lent", "template": "kid@1", "parent_close": "abandon" } }] },
    "CALL": { "actions": [
      { "type": "send", "params": { "to": "child:kid", "event": "HUSH" } },
      { "type": "send", "params": { "to": "child:kid", "event": "HUSH" } }] },
    "STOP": { "actions": [{ "type": "stop", "params": { "id": "kid" } }] },
    "done.invoke.*": { "actions": [{ "type": "assign", "params": { "home": { "+": [{ "var": "context.home" }, 1] } } }] },
    "error.invoke.*": { "actions": [{ "type": "assign", "params": {
      "lost": { "+": [{ "var": "context.lost" }, 1] },
      "codes": { "merge": [{ "var": "context.codes" }, { "var": "event.data.code" }] } } }] },
    "END": "#over"
  },
  "initial": "rest",
  "states": {
    "rest": { "id": "rest", "on": { "GO": "#care", "BAD": "#bad" } },
    "care": {
      "id": "care",
      "invoke": { "id": "ward", "src": "template:kid@1", "input": { "n": 1 },
        "retry": { "max_attempts": 2, "initial_interval_ms": 150 },
        "timeout": { "start_to_close_ms": 2500 },
        "onDone": { "target": "#rest" }, "onError": { "target": "#rest" } },
      "on": { "AGAIN": "#rest" }
    },
    "bad": {
      "id": "bad",
      "invoke": { "id": "none", "src": "template:nothing@1", "onError": { "target": "#rest", "actions": [
        { "type": "assign", "params": { "codes": { "merge": [{ "var": "context.codes" }, { "var": "event.data.code" }] } } }] } }
    },
    "over": { "id": "over", "type": "final" }
  }
}"##;

/// Cries, works, and is done, or fails with its work.
const KID: &str = r##"{
  "pled": "1.0", "id": "kid", "version": 1, "logic": "pled-logic-1", "on_error": "fail",
  "context": { "hushed": 0 },
  "on": {
    "HUSH": { "actions": [{ "type": "assign", "params": { "hushed": { "+": [{ "var": "context.hushed" }, 1] } } }] },
    "error.execution": {}
  },
  "output": { "hushed": { "var": "context.hushed" } },
  "initial": "play",
  "states": {
    "play": {
      "entry": [{ "type": "send", "params": { "to": "parent", "event": "CRY" } }],
      "invoke": { "id": "toy", "src": "charge", "onDone": { "target": "home" } },
      "after": { "900": { "target": "home" } }
    },
    "home": { "type": "final", "entry": [{ "type": "send", "params": { "to": "parent", "event": "CRY" } }] }
  }
}"##;

/// Its state is too large to stand in every entry.
fn big() -> String {
    let ballast = "x".repeat(5_000);
    format!(
        r##"{{
  "pled": "1.0", "id": "big", "version": 1, "logic": "pled-logic-1",
  "context": {{ "ballast": "{ballast}", "n": 0, "note": null }},
  "initial": "wait",
  "states": {{
    "wait": {{ "id": "wait", "on": {{ "GO": {{ "target": "#go", "actions": [
      {{ "type": "assign", "params": {{ "note": {{ "var": "event.data" }} }} }}] }} }} }},
    "go": {{ "id": "go",
      "entry": [{{ "type": "assign", "params": {{ "n": {{ "+": [{{ "var": "context.n" }}, 1] }} }} }}],
      "after": {{ "900": {{ "target": "#wait" }} }},
      "invoke": {{ "id": "print", "src": "print", "onDone": {{ "target": "#wait" }}, "onError": {{ "target": "#wait" }} }} }}
  }}
}}"##
    )
}

/// All templates by `name@version`.
pub(crate) fn all() -> BTreeMap<String, Arc<Template>> {
    [WORK.to_owned(), HUB.to_owned(), FAMILY.to_owned(), KID.to_owned(), big()]
        .iter()
        .map(|source| {
            let template = Template::parse(source).unwrap_or_else(|error| panic!("{error}"));
            (template.reference().to_string(), Arc::new(template))
        })
        .collect()
}

/// One that comes later, under this name.
pub(crate) fn named(name: &str) -> Arc<Template> {
    let source = HUB.replacen("\"hub\"", &format!("\"{name}\""), 1);
    Arc::new(Template::parse(&source).unwrap_or_else(|error| panic!("{error}")))
}
