//! What runs while everything is being killed.

/// Takes events one after the other and counts them.
pub(crate) const DEVICE: &str = r##"{
  "pled": "1.0", "id": "chaos_device", "version": 1, "logic": "pled-logic-1",
  "context": { "count": 0 },
  "initial": "on",
  "states": {
    "on": { "on": { "TICK": { "target": "off", "actions": [
      { "type": "assign", "params": { "count": { "+": [{ "var": "context.count" }, 1] } } } ] } } },
    "off": { "on": { "TICK": { "target": "on", "actions": [
      { "type": "assign", "params": { "count": { "+": [{ "var": "context.count" }, 1] } } } ] } } }
  }
}"##;

/// Two tasks with retries, the second an effect on the outside world, and a timer between them; a
/// note in the end that nobody waits for.
pub(crate) const FLOW: &str = r##"{
  "pled": "1.0", "id": "chaos_flow", "version": 1, "logic": "pled-logic-1",
  "context": { "sink": null },
  "entry": [{ "type": "assign", "params": { "sink": { "var": "event.data.sink" } } }],
  "initial": "first",
  "states": {
    "first": { "invoke": { "id": "first", "src": "bench.noop", "onDone": { "target": "pause" },
      "retry": { "max_attempts": 5, "initial_interval_ms": 50 } } },
    "pause": { "after": { "40": "call" } },
    "call": { "invoke": { "id": "call", "src": "http",
      "input": { "url": { "var": "context.sink" }, "json": { "invoice": 1 }, "timeout_ms": 5000 },
      "retry": { "max_attempts": 50, "initial_interval_ms": 50, "max_interval_ms": 1000 },
      "onDone": { "target": "finished" } } },
    "finished": { "type": "final", "entry": [{ "type": "bench.noop", "params": {} }] }
  }
}"##;

/// Begins with the first raw event of a meter and takes all that follow.
pub(crate) const METER: &str = r##"{
  "pled": "1.0", "id": "chaos_meter", "version": 1, "logic": "pled-logic-1",
  "context": { "sum": 0 },
  "rules": [
    { "id": "begin", "source": "plant",
      "when": { "==": [{ "var": "event.type" }, "meter.reading"] },
      "emit": [
        { "start": true, "key": { "var": "event.data.meter" }, "event": "pled.init" },
        { "key": { "var": "event.data.meter" }, "event": "READING",
          "data": { "value": { "var": "event.data.value" } } }
      ] }
  ],
  "initial": "counting",
  "states": {
    "counting": { "on": { "READING": { "actions": [
      { "type": "assign",
        "params": { "sum": { "+": [{ "var": "context.sum" }, { "var": "event.data.value" }] } } } ] } } }
  }
}"##;
