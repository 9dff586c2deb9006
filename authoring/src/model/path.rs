//! The way to a configuration as steps of a simulation, and whether these get there.

use std::collections::BTreeMap;
use std::sync::Arc;

use pled_engine::execution::Status as ExecutionStatus;
use pled_engine::simulate::{Observation, Simulation};
use pled_engine::template::document::Node as Json;
use pled_engine::template::{Delay, StateIndex, Template};
use pled_engine::value::{Object, Value};

use super::explore::{Arrival, Exploration, Move, Node, Status};
use super::skeleton::Skeleton;
use super::{Step, StepEvent};
use crate::check::Path;

/// The way to the configuration `index`.
pub(super) fn to(
    template: &Template,
    skeleton: &Skeleton,
    exploration: &Exploration,
    index: usize,
) -> Path {
    let node = &exploration.nodes[index];
    let status = match node.status {
        Status::Running => ExecutionStatus::Running,
        Status::Done => ExecutionStatus::Done,
        Status::Failed => ExecutionStatus::Failed,
    };
    let way = steps(template, skeleton, exploration, Some(index), None);
    let configuration = leaves(template, node);
    let there = |seen: &Observation| seen.configuration == configuration && seen.status == status;
    finished(template, way, &configuration, there)
}

/// The way to the configuration `index`, from which only events follow that the execution sends
/// itself, so that it fails.
pub(super) fn to_a_loop(
    template: &Template,
    skeleton: &Skeleton,
    exploration: &Exploration,
    index: usize,
) -> Path {
    let way = steps(template, skeleton, exploration, Some(index), None);
    let configuration = leaves(template, &exploration.nodes[index]);
    finished(template, way, &configuration, |seen| seen.status == ExecutionStatus::Failed)
}

/// The way to a step that does not come to rest.
pub(super) fn through(
    template: &Template,
    skeleton: &Skeleton,
    exploration: &Exploration,
    last: &Arrival,
) -> Path {
    let way = steps(template, skeleton, exploration, last.from, Some(last));
    let from = last.from.map(|from| leaves(template, &exploration.nodes[from]));
    let configuration = from.unwrap_or_default();
    finished(template, way, &configuration, |seen| seen.status == ExecutionStatus::Failed)
}

fn leaves(template: &Template, node: &Node) -> Vec<Arc<str>> {
    template.leaves(&node.chart.active).map(|leaf| template.state(leaf).id.clone()).collect()
}

/// The way as it is told, tried in a simulation.
fn finished(
    template: &Template,
    (input, steps, possible): (Value, Vec<Step>, bool),
    configuration: &[Arc<str>],
    there: impl Fn(&Observation) -> bool,
) -> Path {
    let seen = if possible { simulate(template, &input, &steps) } else { None };
    let replays = seen.is_some_and(|seen| there(&seen));
    let configuration = configuration.iter().map(|id| id.to_string()).collect();
    Path { input, steps, replays, configuration }
}

fn simulate(template: &Template, input: &Value, steps: &[Step]) -> Option<Observation> {
    let mut simulation = Simulation::start(template, input.clone());
    for step in steps {
        if let Some(by_ms) = step.after_ms {
            simulation.advance(by_ms).ok()?;
        }
        if let Some(event) = &step.event {
            simulation.deliver(&event.name.parse().ok()?, event.data.clone()).ok()?;
        }
    }
    Some(simulation.observe())
}

/// The input and the steps, and whether a simulation can take them.
fn steps(
    template: &Template,
    skeleton: &Skeleton,
    exploration: &Exploration,
    until: Option<usize>,
    last: Option<&Arrival>,
) -> (Value, Vec<Step>, bool) {
    let mut arrivals: Vec<(&Arrival, Option<&Node>)> =
        last.map(|last| (last, None)).into_iter().collect();
    let mut next = until;
    while let Some(index) = next {
        let arrival = &exploration.arrivals[index];
        arrivals.push((arrival, Some(&exploration.nodes[index])));
        next = arrival.from;
    }
    arrivals.reverse();
    let mut clock = Clock { template, now: 0, set: BTreeMap::new() };
    let (mut input, mut steps, mut possible) = (Value::Null, Vec::new(), true);
    for (arrival, node) in arrivals {
        match &arrival.by {
            Move::Start => input = data(skeleton, &arrival.answers),
            Move::Event(name) => steps.push(Step {
                after_ms: None,
                event: Some(StepEvent {
                    name: name.to_string(),
                    data: data(skeleton, &arrival.answers),
                }),
            }),
            Move::Timer(state, timer) => {
                let due = clock.due(*state, *timer);
                steps.push(clock.wait_until(due));
            }
            Move::Delayed(_, delay) => {
                let due = clock.now + delay;
                steps.push(clock.wait_until(due));
            }
            Move::Own(_) => {}
            Move::Fault => possible = false,
        }
        if let Some(node) = node {
            clock.note(node);
        }
    }
    (input, steps, possible)
}

/// When timers are due, as far as the way tells.
struct Clock<'t> {
    template: &'t Template,
    now: i64,
    set: BTreeMap<(StateIndex, usize), i64>,
}

impl Clock<'_> {
    fn note(&mut self, node: &Node) {
        self.set.retain(|timer, _| node.timers.contains(timer));
        for timer in &node.timers {
            self.set.entry(*timer).or_insert(self.now);
        }
    }

    fn due(&self, state: StateIndex, timer: usize) -> i64 {
        let set = self.set.get(&(state, timer)).copied().unwrap_or(self.now);
        let delay = self.template.state(state).after.get(timer).map(|after| &after.delay);
        set + match delay {
            Some(Delay::Millis(millis)) => *millis,
            Some(Delay::Logic(_)) | None => 0,
        }
    }

    fn wait_until(&mut self, due: i64) -> Step {
        let by_ms = (due - self.now).max(0);
        self.now += by_ms;
        Step { after_ms: Some(by_ms), event: None }
    }
}

/// Event data with which the answers hold, as far as their form tells.
fn data(skeleton: &Skeleton, answers: &[(usize, bool)]) -> Value {
    let mut members = Object::default();
    for (number, holds) in answers {
        let atom = &skeleton.atoms[*number];
        let operands = atom.operands.as_slice();
        let (field, value) = match (atom.operator, operands) {
            ("", [one]) => (field(one), holds.then_some(Value::Bool(true))),
            ("==" | "===", [left, right]) if *holds => match (field(left), field(right)) {
                (Some(name), None) => (Some(name), constant(right)),
                (None, Some(name)) => (Some(name), constant(left)),
                _ => (None, None),
            },
            ("<", [left, right]) => match (field(left), field(right)) {
                (Some(name), None) => (Some(name), beside(right, if *holds { -1 } else { 0 })),
                (None, Some(name)) => (Some(name), beside(left, i64::from(*holds))),
                _ => (None, None),
            },
            _ => (None, None),
        };
        if let (Some(field), Some(value)) = (field, value)
            && members.get(&field).is_none()
        {
            members.insert(field, value);
        }
    }
    if members.is_empty() { Value::Null } else { Value::Object(members) }
}

/// The member of `event.data` that a `var` reads.
fn field(node: &Json) -> Option<String> {
    let text = node.get("var")?.as_str()?;
    let field = text.strip_prefix("event.data.")?;
    (!field.contains('.')).then(|| field.to_owned())
}

fn constant(node: &Json) -> Option<Value> {
    if node.members().is_some() || node.elements().is_some() {
        return None;
    }
    Some(node.to_value())
}

fn beside(node: &Json, distance: i64) -> Option<Value> {
    Some(Value::Int(constant(node)?.as_int()?.checked_add(distance)?))
}
