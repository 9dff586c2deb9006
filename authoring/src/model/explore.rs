//! All configurations that a skeleton can come to, breadth first, up to a bound.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pled_engine::expression::{EventView, Expression, Scope};
use pled_engine::statechart::{
    Chart, Command, Loop, Macrostep, macrostep_deciding, start_deciding,
};
use pled_engine::template::{StateIndex, StateKind};
use pled_engine::value::Value;

use super::skeleton::{Question, Skeleton};

/// How many values a key of the context may take before it is no longer kept.
const VALUES_MAX: usize = 16;
/// How many outcomes of one event are looked at.
const OUTCOMES_MAX: usize = 256;
/// How many steps are taken for each configuration that may be explored.
const STEPS_PER_CONFIGURATION: usize = 8;

/// A configuration, and what is pending in it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) chart: Chart,
    /// Timers that were set and did not fire: a state, and the place among its timers.
    pub(super) timers: BTreeSet<(StateIndex, usize)>,
    /// Invocations and children whose outcome is still to come.
    work: BTreeSet<Arc<str>>,
    /// Delayed sends to itself: the event, the id, the delay.
    sends: BTreeSet<(Arc<str>, Option<Arc<str>>, i64)>,
    /// Sends to itself that come next.
    pub(super) own: Vec<Arc<str>>,
    compensating: bool,
    pub(super) status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    Done,
    Failed,
}

/// What moves an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// The start.
    Start,
    /// An event that anybody sends, or the outcome of work.
    Event(Arc<str>),
    Timer(StateIndex, usize),
    /// A delayed send to itself.
    Delayed(Arc<str>, i64),
    /// A send to itself; it follows without anything from outside.
    Own(Arc<str>),
    /// `error.execution`, which logic may cause; nothing from outside does.
    Fault,
}

/// How a configuration was first come to.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// From where; `None` for a start.
    pub(super) from: Option<usize>,
    pub(super) by: Move,
    /// What was answered on the way: atoms and whether they held.
    pub(super) answers: Vec<(usize, bool)>,
}

/// A step that does not come to rest.
#[derive(Debug)]
pub(super) struct Endless {
    pub(super) arrival: Arrival,
}

pub(super) struct Exploration {
    pub(super) nodes: Vec<Node>,
    pub(super) arrivals: Vec<Arrival>,
    /// From where to where; faults are not among them.
    pub(super) edges: Vec<(usize, usize)>,
    /// Whether something can happen in each configuration that the template takes note of.
    pub(super) moves: Vec<bool>,
    pub(super) endless: Vec<Endless>,
    /// Whether each state was active, also on the way through a step.
    pub(super) entered: Vec<bool>,
    pub(super) steps: usize,
    pub(super) complete: bool,
}

/// The exploration has to begin again with less of the context.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// A key takes too many values.
    ManyValues(String),
    /// There are too many configurations with the values that are kept.
    Bound,
}

impl Exploration {
    pub(super) fn run(skeleton: &Skeleton, configurations_max: usize) -> Result<Self, Interrupted> {
        let mut explorer = Explorer {
            skeleton,
            known: HashMap::new(),
            values: BTreeMap::new(),
            configurations_max,
            found: Self {
                nodes: Vec::new(),
                arrivals: Vec::new(),
                edges: Vec::new(),
                moves: Vec::new(),
                endless: Vec::new(),
                entered: vec![false; skeleton.template.states.len()],
                steps: 0,
                complete: true,
            },
        };
        explorer.start()?;
        let mut next = 0;
        while next < explorer.found.nodes.len() {
            explorer.leave(next)?;
            next += 1;
        }
        let found = explorer.found;
        if !found.complete && !skeleton.exact.is_empty() {
            return Err(Interrupted::Bound);
        }
        Ok(found)
    }
}

struct Explorer<'s> {
    skeleton: &'s Skeleton,
    known: HashMap<Vec<u8>, usize>,
    values: BTreeMap<Arc<str>, BTreeSet<Vec<u8>>>,
    configurations_max: usize,
    found: Exploration,
}

impl<'s> Explorer<'s> {
    fn start(&mut self) -> Result<(), Interrupted> {
        let skeleton = self.skeleton;
        let input = event("pled.init".into());
        self.outcomes(None, &Move::Start, |decide| {
            let (chart, macrostep) = start_deciding(&skeleton.template, &input, decide)?;
            let nothing = Node {
                chart,
                timers: BTreeSet::new(),
                work: BTreeSet::new(),
                sends: BTreeSet::new(),
                own: Vec::new(),
                compensating: false,
                status: Status::Running,
            };
            Ok((nothing, macrostep))
        })
    }

    /// Takes all steps that a configuration can take.
    fn leave(&mut self, index: usize) -> Result<(), Interrupted> {
        let node = self.found.nodes[index].clone();
        if node.status != Status::Running {
            return Ok(());
        }
        for by in self.moves(&node) {
            if self.is_full() {
                self.found.complete = false;
                return Ok(());
            }
            let mut before = node.clone();
            let name = before.begin(&by, self.skeleton);
            let view = event(name);
            let skeleton = self.skeleton;
            self.outcomes(Some(index), &by, |decide| {
                let mut after = before.clone();
                let macrostep =
                    macrostep_deciding(&skeleton.template, &mut after.chart, &view, decide)?;
                Ok((after, macrostep))
            })?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let most = self.configurations_max;
        self.found.nodes.len() >= most
            || self.found.steps >= most.saturating_mul(STEPS_PER_CONFIGURATION)
    }

    /// What can happen in a configuration, in a fixed order.
    fn moves(&self, node: &Node) -> Vec<Move> {
        if let Some(own) = node.own.first() {
            return vec![Move::Own(own.clone())];
        }
        let template = &self.skeleton.template;
        let mut moves: Vec<Move> = Vec::new();
        let mut names: BTreeSet<&Arc<str>> = BTreeSet::new();
        let mut hears_faults = false;
        for state in &node.chart.active {
            names.extend(&self.skeleton.events[at(*state)]);
            hears_faults |= template.state(*state).on.exact.contains_key("error.execution");
        }
        moves.extend(names.into_iter().map(|name| Move::Event(name.clone())));
        for id in &node.work {
            moves.push(Move::Event(format!("done.invoke.{id}").into()));
            moves.push(Move::Event(format!("error.invoke.{id}").into()));
        }
        moves.extend(self.timers(node));
        for (name, _, delay) in &node.sends {
            moves.push(Move::Delayed(name.clone(), *delay));
        }
        if node.compensating {
            moves.push(Move::Event("done.compensate".into()));
            moves.push(Move::Event("error.compensate".into()));
        }
        if hears_faults {
            moves.push(Move::Fault);
        }
        moves
    }

    /// The timers that may be next: of one state the shortest, and those of unknown delay.
    fn timers(&self, node: &Node) -> Vec<Move> {
        let mut shortest: BTreeMap<StateIndex, i64> = BTreeMap::new();
        for (state, timer) in &node.timers {
            if let Some(delay) = self.skeleton.delays[at(*state)][*timer] {
                let known = shortest.entry(*state).or_insert(delay);
                *known = delay.min(*known);
            }
        }
        let may_fire = |(state, timer): &&(StateIndex, usize)| {
            let delay = self.skeleton.delays[at(*state)][*timer];
            delay.is_none_or(|delay| shortest.get(state).is_none_or(|least| delay <= *least))
        };
        let timers = node.timers.iter().filter(may_fire);
        timers.map(|(state, timer)| Move::Timer(*state, *timer)).collect()
    }

    /// Takes a step once for each way in which its guards can be answered.
    fn outcomes(
        &mut self,
        from: Option<usize>,
        by: &Move,
        step: impl Fn(
            &mut dyn FnMut(&Expression, &Scope<'_>) -> bool,
        ) -> Result<(Node, Macrostep<'s>), Loop>,
    ) -> Result<(), Interrupted> {
        let skeleton = self.skeleton;
        let mut script: Vec<bool> = Vec::new();
        for _ in 0..OUTCOMES_MAX {
            let mut asked: BTreeMap<Question, bool> = BTreeMap::new();
            let mut order: Vec<(usize, bool)> = Vec::new();
            let mut blurred = false;
            let outcome = step(&mut |expression, scope| {
                blurred |= scope.context.is_some_and(|context| skeleton.is_blurred(context));
                skeleton.holds(expression, scope, &mut |question| {
                    let number = question.0;
                    *asked.entry(question).or_insert_with(|| {
                        let answer = script.get(order.len()).copied().unwrap_or(true);
                        order.push((number, answer));
                        answer
                    })
                })
            });
            self.found.steps += 1;
            let arrival = Arrival { from, by: by.clone(), answers: order.clone() };
            match outcome {
                Ok((node, macrostep)) => self.arrive(node, &macrostep, arrival)?,
                Err(Loop { .. }) if blurred => self.found.moves_on(from),
                Err(Loop { .. }) => {
                    self.found.moves_on(from);
                    self.found.endless.push(Endless { arrival });
                }
            }
            // The last answer that was yes becomes no; what came behind it is asked anew.
            let Some(last) = order.iter().rposition(|(_, answer)| *answer) else { return Ok(()) };
            script = order[..last].iter().map(|(_, answer)| *answer).collect();
            script.push(false);
        }
        self.found.complete = false;
        Ok(())
    }

    fn arrive(
        &mut self,
        mut node: Node,
        macrostep: &Macrostep<'s>,
        arrival: Arrival,
    ) -> Result<(), Interrupted> {
        let skeleton = self.skeleton;
        for command in &macrostep.commands {
            node.carry_out(command, skeleton);
        }
        for version in &skeleton.versions {
            node.chart.context.insert(version.clone(), Value::Int(0));
        }
        let failed_work = matches!(&arrival.by, Move::Event(name) if name.starts_with("error."));
        if macrostep.completed.is_some() {
            node.end(Status::Done);
        } else if skeleton.fails_on_error && failed_work && !macrostep.handled {
            node.end(Status::Failed);
        } else if failed_work
            && !macrostep.handled
            && let Some(from) = arrival.from
        {
            // An incident: a person may still complete the work.
            node.work = self.found.nodes[from].work.clone();
        }
        self.note_entered(&node, macrostep);
        let key = node.key();
        let from = arrival.from;
        let is_fault = arrival.by == Move::Fault;
        let to = match self.known.get(&key) {
            Some(known) => *known,
            None => {
                self.check_values(&node)?;
                self.known.insert(key, self.found.nodes.len());
                self.found.nodes.push(node);
                self.found.arrivals.push(arrival);
                self.found.moves.push(false);
                self.found.nodes.len() - 1
            }
        };
        if let Some(from) = from.filter(|_| !is_fault) {
            if from != to {
                self.found.edges.push((from, to));
            }
            if from != to || macrostep.handled {
                self.found.moves[from] = true;
            }
        }
        Ok(())
    }

    fn note_entered(&mut self, node: &Node, macrostep: &Macrostep<'s>) {
        for state in &node.chart.active {
            self.found.entered[at(*state)] = true;
        }
        for number in &macrostep.transitions {
            for target in self.skeleton.targets(*number) {
                enter(self.skeleton, *target, &mut self.found.entered);
            }
        }
    }

    fn check_values(&mut self, node: &Node) -> Result<(), Interrupted> {
        for key in &self.skeleton.exact {
            let value = node.chart.context.get(key).unwrap_or(&Value::Null).to_canonical();
            let known = self.values.entry(key.clone()).or_default();
            known.insert(value);
            if known.len() > VALUES_MAX {
                return Err(Interrupted::ManyValues(key.to_string()));
            }
        }
        Ok(())
    }
}

impl Exploration {
    fn moves_on(&mut self, from: Option<usize>) {
        if let Some(from) = from {
            self.moves[from] = true;
        }
    }
}

/// Marks a state and what is entered with it by default.
fn enter(skeleton: &Skeleton, state: StateIndex, entered: &mut [bool]) {
    entered[at(state)] = true;
    match &skeleton.template.state(state).kind {
        StateKind::Compound { initial, .. } => enter(skeleton, *initial, entered),
        StateKind::Parallel => {
            for region in skeleton.template.regions(state) {
                enter(skeleton, region, entered);
            }
        }
        StateKind::Atomic | StateKind::Final | StateKind::History { .. } => {}
    }
}

impl Node {
    /// Takes what moves the execution out of what is pending, and gives the event that comes.
    fn begin(&mut self, by: &Move, skeleton: &Skeleton) -> Arc<str> {
        match by {
            Move::Start => "pled.init".into(),
            Move::Event(name) => {
                let outcome =
                    ["done.invoke.", "error.invoke."].iter().find_map(|it| name.strip_prefix(it));
                if let Some(id) = outcome {
                    self.work.remove(id);
                }
                if name.ends_with(".compensate") {
                    self.compensating = false;
                }
                name.clone()
            }
            Move::Timer(state, timer) => {
                self.timers.remove(&(*state, *timer));
                skeleton.template.state(*state).after[*timer].event.clone()
            }
            Move::Delayed(name, delay) => {
                let sent = self.sends.iter().find(|it| it.0 == *name && it.2 == *delay).cloned();
                if let Some(sent) = sent {
                    self.sends.remove(&sent);
                }
                name.clone()
            }
            Move::Own(name) => {
                if !self.own.is_empty() {
                    self.own.remove(0);
                }
                name.clone()
            }
            Move::Fault => "error.execution".into(),
        }
    }

    fn carry_out(&mut self, command: &Command<'_>, skeleton: &Skeleton) {
        match command {
            Command::AfterSet { state, after, .. } => {
                let timers = &skeleton.template.state(*state).after;
                if let Some(timer) = timers.iter().position(|timer| timer.name == after.name) {
                    self.timers.insert((*state, timer));
                }
            }
            Command::AfterCancel { state } => self.timers.retain(|(of, _)| of != state),
            Command::InvokeStart { invoke, .. } => {
                self.work.insert(invoke.id.clone());
            }
            Command::InvokeCancel { invoke, .. } => {
                self.work.remove(&invoke.id);
            }
            Command::Spawn { id, .. } => {
                self.work.insert((*id).clone());
            }
            Command::Stop { id } => {
                self.work.remove(*id);
            }
            Command::Send { event, delay_ms, id, .. } => match delay_ms {
                None => self.own.push(event.shared()),
                Some(delay) => {
                    self.sends.retain(|(_, other, _)| id.is_none() || other != id);
                    self.sends.insert((event.shared(), id.clone(), *delay));
                }
            },
            Command::SendCancel { id } => self.sends.retain(|(_, of, _)| of.as_ref() != Some(id)),
            Command::Compensate if skeleton.compensates => self.compensating = true,
            Command::Compensate => self.own.push("done.compensate".into()),
            Command::Task { .. } | Command::Log(_) | Command::CompensationPush { .. } => {}
        }
    }

    fn end(&mut self, status: Status) {
        self.status = status;
        self.timers.clear();
        self.work.clear();
        self.sends.clear();
        self.own.clear();
        self.compensating = false;
    }

    /// Bytes that are the same for the same configuration.
    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(16 + 4 * self.chart.active.len());
        let mut numbers = |all: &mut dyn Iterator<Item = StateIndex>| {
            for number in all {
                key.extend_from_slice(&number.to_le_bytes());
            }
            key.extend_from_slice(&StateIndex::MAX.to_le_bytes());
        };
        numbers(&mut self.chart.active.iter().copied());
        for (of, states) in &self.chart.history {
            numbers(&mut std::iter::once(*of).chain(states.iter().copied()));
        }
        numbers(&mut std::iter::empty());
        let place = |timer: usize| StateIndex::try_from(timer).unwrap_or(StateIndex::MAX);
        numbers(&mut self.timers.iter().flat_map(|(state, timer)| [*state, place(*timer)]));
        let mut text = |text: &str| {
            key.extend_from_slice(text.as_bytes());
            key.push(0);
        };
        self.work.iter().for_each(|id| text(id));
        text("");
        for (name, id, delay) in &self.sends {
            text(name);
            text(id.as_deref().unwrap_or_default());
            text(&delay.to_string());
        }
        text("");
        self.own.iter().for_each(|name| text(name));
        text("");
        text(match (self.status, self.compensating) {
            (Status::Running, false) => "r",
            (Status::Running, true) => "c",
            (Status::Done, _) => "d",
            (Status::Failed, _) => "f",
        });
        key.extend_from_slice(&Value::Object(self.chart.context.clone()).to_canonical());
        key
    }
}

fn event(event_type: Arc<str>) -> EventView {
    EventView { event_type, data: Value::Null, id: None, source: None, time: 0 }
}

pub(super) fn at(index: StateIndex) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
