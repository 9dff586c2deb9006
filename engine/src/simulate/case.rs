//! One case a line: a template, an input and steps, and what is seen after each.

use serde::{Deserialize, Serialize};

use super::{Observation, Simulation};
use crate::id::EventType;
use crate::json::Number;
use crate::message::Millis;
use crate::statechart::Corners;
use crate::template::document::{Kind, Node};
use crate::template::{DELAY_MS_MAX, Template};
use crate::value::Value;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// The result as one line of JSON, without a line break.
    pub json: String,
    /// Whether it met a corner in which XState does another thing than the engine, and XState's
    /// way was gone.
    pub cornered: bool,
}

/// Runs the case that `line` is and gives its result as one line of JSON, without a line break.
///
/// A bad case gives a result, too: `{"name":…,"error":{"pointer":…,"message":…}}`, where the
/// pointer is into the template if the fault is there, else into the case.
///
/// This is the door at which PLED is compared with XState over generated charts, so what XState
/// 5.33.3 does against the rules of TEMPLATE is done here as well, in the two corners that
/// [`Corners`] names. Neither the engine nor a [`Simulation`] does so.
#[must_use]
pub fn simulate_line(line: &str) -> String {
    simulate_case(line, Corners::XState).json
}

/// As [`simulate_line`], where `corners` says whose way is gone in those two corners.
#[must_use]
pub fn simulate_case(line: &str, corners: Corners) -> Simulated {
    let mut cornered = false;
    let result = match Node::read(line) {
        Ok(case) => {
            let name = case.get("name").map(Node::to_value).unwrap_or_default();
            match run(line, &case, corners, &mut cornered) {
                Ok((initial, steps)) => serde_json::to_string(&Seen { name, initial, steps }),
                Err(error) => serde_json::to_string(&Failed { name, error }),
            }
        }
        Err(unreadable) => {
            let pointer = unreadable.pointer;
            let pointer = pointer.strip_prefix("/template").unwrap_or(&pointer).to_owned();
            let message = unreadable.error.to_string();
            let error = Fault { pointer, message };
            serde_json::to_string(&Failed { name: name_in(line), error })
        }
    };
    // Nothing in a result can fail to be JSON; a line is given all the same.
    let json = result
        .unwrap_or_else(|_| r#"{"name":null,"error":{"pointer":"","message":""}}"#.to_owned());
    Simulated { json, cornered }
}

#[derive(Serialize)]
struct Seen {
    name: Value,
    initial: Observation,
    steps: Vec<Observation>,
}

#[derive(Serialize)]
struct Failed {
    name: Value,
    error: Fault,
}

/// What is wrong with a case.
#[derive(Serialize)]
struct Fault {
    pointer: String,
    message: String,
}

struct Step {
    after_ms: Millis,
    event: Option<(EventType, Value)>,
}

fn run(
    line: &str,
    case: &Node,
    corners: Corners,
    cornered: &mut bool,
) -> Result<(Observation, Vec<Observation>), Fault> {
    let Some(template) = case.get("template") else {
        return Err(fault("", "a case is an object with a `template`"));
    };
    let source = line.get(template.span.clone()).unwrap_or_default();
    let template = Template::parse(source).map_err(|invalid| match invalid.errors.first() {
        Some(error) => fault(&error.pointer, &error.message),
        None => fault("", "no template"),
    })?;
    let steps = steps(case)?;
    let input = case.get("input").map(Node::to_value).unwrap_or_default();
    let mut simulation = Simulation::start_with(&template, input, corners, None);
    let initial = simulation.observe();
    let mut seen = Vec::with_capacity(steps.len());
    for (at, step) in steps.into_iter().enumerate() {
        simulation
            .advance(step.after_ms)
            .map_err(|error| fault(&format!("/steps/{at}/after_ms"), &error.to_string()))?;
        if let Some((event, data)) = step.event {
            simulation
                .deliver(&event, data)
                .map_err(|error| fault(&format!("/steps/{at}/event/name"), &error.to_string()))?;
        }
        seen.push(simulation.observe());
    }
    *cornered = simulation.cornered;
    Ok((initial, seen))
}

fn steps(case: &Node) -> Result<Vec<Step>, Fault> {
    let Some(steps) = case.get("steps") else { return Ok(Vec::new()) };
    let Some(steps) = steps.elements() else {
        return Err(fault("/steps", "`steps` is an array"));
    };
    steps.iter().enumerate().map(|(at, node)| step(&format!("/steps/{at}"), node)).collect()
}

fn step(pointer: &str, node: &Node) -> Result<Step, Fault> {
    if node.members().is_none() {
        return Err(fault(pointer, "a step is an object"));
    }
    let after_ms = match node.get("after_ms").map(|node| &node.kind) {
        None | Some(Kind::Null) => 0,
        Some(Kind::Number(Number::Int(millis @ 0..=DELAY_MS_MAX))) => *millis,
        Some(_) => {
            let message = format!("`after_ms` is an integer from 0 to {DELAY_MS_MAX}");
            return Err(fault(&format!("{pointer}/after_ms"), &message));
        }
    };
    let event = match node.get("event") {
        None => None,
        Some(node) if matches!(node.kind, Kind::Null) => None,
        Some(event) => Some(event_of(&format!("{pointer}/event"), event)?),
    };
    Ok(Step { after_ms, event })
}

fn event_of(pointer: &str, node: &Node) -> Result<(EventType, Value), Fault> {
    let Some(name) = node.get("name").and_then(Node::as_str) else {
        return Err(fault(pointer, "an event is an object with a `name`"));
    };
    let event = name.parse().map_err(|error: crate::id::InvalidName| {
        fault(&format!("{pointer}/name"), &error.to_string())
    })?;
    Ok((event, node.get("data").map(Node::to_value).unwrap_or_default()))
}

fn fault(pointer: &str, message: &str) -> Fault {
    Fault { pointer: pointer.to_owned(), message: message.to_owned() }
}

/// The name of a case that breaks a rule which plain JSON does not have.
fn name_in(line: &str) -> Value {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(line).map(|named| named.name.into()).unwrap_or_default()
}
