//! A template without its data: what the exploration steps through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pled_engine::expression::{Budget, Expression, Mapping, Roots, Scope};
use pled_engine::template::diagnostic::Findings;
use pled_engine::template::document::Node;
use pled_engine::template::{
    Action, ActionKind, Delay, OnError, SendSpec, State, StateIndex, StateKind, Template,
    Transition,
};
use pled_engine::value::{Object, Value};

use crate::check::facts::{Facts, SiteKind};
use crate::check::reads::{one, reads};

/// How often it is told apart that a key was assigned within one macrostep.
const VERSIONS_MAX: i64 = 3;

pub(super) struct Skeleton {
    /// The template: expressions gone, a guard the number of its [`Guard`].
    pub(super) template: Template,
    pub(super) guards: Vec<Guard>,
    pub(super) atoms: Vec<Atom>,
    /// The keys of the context that keep their values.
    pub(super) exact: BTreeSet<Arc<str>>,
    /// Keys in the place of those that are open: how often they were assigned in this macrostep.
    pub(super) versions: Vec<Arc<str>>,
    /// For each state the events from outside that it handles.
    pub(super) events: Vec<Vec<Arc<str>>>,
    /// The delays of each state's timers, `None` where they are computed.
    pub(super) delays: Vec<Vec<Option<i64>>>,
    pub(super) fails_on_error: bool,
    pub(super) compensates: bool,
    /// The targets of each transition, by its number.
    targets: Vec<Vec<StateIndex>>,
}

/// A guard, with conditions that may hold or not.
#[derive(Debug)]
pub(super) enum Guard {
    /// All that it reads is known.
    Exact(Expression),
    /// A condition, by its place among the atoms.
    Atom(usize),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// A condition over data that is not known.
#[derive(Debug)]
pub(super) struct Atom {
    /// The operator and its operands, as they are written; `""` is the truth of one value.
    pub(super) operator: &'static str,
    pub(super) operands: Vec<Node>,
    /// The versions of the open keys that it reads.
    versions: Vec<Arc<str>>,
    reads_event: bool,
}

/// What an atom was asked about: as long as this is the same, so is the answer.
pub(super) type Question = (usize, i64, Option<Arc<str>>);

impl Skeleton {
    /// The skeleton of `template`, in which the keys in `open` are not kept.
    pub(super) fn of(template: Template, facts: &Facts<'_>, open: &BTreeSet<String>) -> Self {
        let relevant = relevant(facts);
        let exact = exact(facts, &relevant, open);
        let mut open_keys: Vec<Arc<str>> = Vec::new();
        for key in &relevant {
            if !exact.contains(*key) && facts.assigns.contains_key(key) {
                open_keys.push((*key).into());
            }
        }
        let mut builder = Builder {
            facts,
            exact: &exact,
            versions: open_keys.iter().zip(0..).map(|(k, n)| (k.clone(), version(n))).collect(),
            ids: template.ids.clone(),
            guards: Vec::new(),
            atoms: Vec::new(),
            by_text: BTreeMap::new(),
        };
        let events = template.states.iter().map(|state| outside_events(facts, state)).collect();
        let delays = template.states.iter().map(|state| {
            let millis = |delay: &Delay| match delay {
                Delay::Millis(millis) => Some(*millis),
                Delay::Logic(_) => None,
            };
            state.after.iter().map(|after| millis(&after.delay)).collect()
        });
        let delays = delays.collect();
        let compensates =
            template.states.iter().flat_map(|it| &it.invoke).any(|it| it.compensate.is_some());
        let mut targets =
            vec![Vec::new(); usize::try_from(template.transition_count()).unwrap_or(0)];
        for (_, transition) in template.transitions() {
            if let Some(of) =
                usize::try_from(transition.number).ok().and_then(|it| targets.get_mut(it))
            {
                of.clone_from(&transition.target);
            }
        }
        let mut template = template;
        for state in &mut template.states {
            builder.strip(state);
        }
        let versions: Vec<Arc<str>> = builder.versions.values().cloned().collect();
        let kept = template.context.iter().filter(|(key, _)| exact.contains(key)).cloned();
        let zeros = versions.iter().map(|key| (key.clone(), Value::Int(0)));
        template.context = kept.chain(zeros).collect::<Object>();
        template.output = None;
        let states = u32::try_from(template.states.len()).unwrap_or(u32::MAX);
        template.limits.microsteps = template.limits.microsteps.min(states.saturating_add(100));
        let Builder { guards, atoms, .. } = builder;
        let fails_on_error = template.on_error == OnError::Fail;
        Self {
            template,
            guards,
            atoms,
            exact,
            versions,
            events,
            delays,
            fails_on_error,
            compensates,
            targets,
        }
    }

    /// The targets of the transition of that number.
    pub(super) fn targets(&self, number: u32) -> &[StateIndex] {
        let targets = usize::try_from(number).ok().and_then(|number| self.targets.get(number));
        targets.map_or(&[], Vec::as_slice)
    }

    /// Whether the guard that stands for `expression` holds, where `answer` says it of an atom.
    pub(super) fn holds(
        &self,
        expression: &Expression,
        scope: &Scope<'_>,
        answer: &mut dyn FnMut(Question) -> bool,
    ) -> bool {
        let number = expression.as_constant().and_then(Value::as_int);
        let guard =
            number.and_then(|it| usize::try_from(it).ok()).and_then(|it| self.guards.get(it));
        guard.is_none_or(|guard| self.guard_holds(guard, scope, answer))
    }

    fn guard_holds(
        &self,
        guard: &Guard,
        scope: &Scope<'_>,
        answer: &mut dyn FnMut(Question) -> bool,
    ) -> bool {
        match guard {
            Guard::Exact(expression) => {
                let mut budget = Budget { steps: 100_000, bytes: 1 << 20 };
                expression.holds(scope, &mut budget).unwrap_or(false)
            }
            Guard::Atom(number) => {
                let atom = &self.atoms[*number];
                let version = |key: &Arc<str>| scope.context?.get(key)?.as_int();
                let versions = atom.versions.iter().filter_map(version).sum();
                let event = atom.reads_event.then(|| scope.event.event_type.clone());
                answer((*number, versions, event))
            }
            Guard::Not(inner) => !self.guard_holds(inner, scope, answer),
            Guard::All(all) => all.iter().all(|inner| self.guard_holds(inner, scope, answer)),
            Guard::Any(any) => any.iter().any(|inner| self.guard_holds(inner, scope, answer)),
        }
    }

    /// Whether so much was assigned in the macrostep that answers could not be told apart.
    pub(super) fn is_blurred(&self, context: &Object) -> bool {
        let most = |key: &Arc<str>| {
            context.get(key).and_then(Value::as_int).is_some_and(|count| count >= VERSIONS_MAX)
        };
        self.versions.iter().any(most)
    }
}

fn version(number: usize) -> Arc<str> {
    // No template's own key is among them: they are told apart by the space.
    format!("version {number}").into()
}

/// The keys of the context that a guard reads, and those that these are computed from.
fn relevant<'f>(facts: &'f Facts<'_>) -> BTreeSet<&'f str> {
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = Vec::new();
    for site in &facts.sites {
        if matches!(site.kind, SiteKind::Guard | SiteKind::Branch) {
            open.extend(site.reads.iter().filter_map(|read| read.context_key()));
        }
    }
    while let Some(key) = open.pop() {
        if key.is_empty() {
            open.extend(facts.assigns.keys().copied().filter(|key| !keys.contains(key)));
            continue;
        }
        if keys.insert(key) {
            for side in facts.assigns.get(key).into_iter().flatten() {
                open.extend(reads(side).iter().filter_map(|read| read.context_key()));
            }
        }
    }
    keys
}

/// Those of the keys that are only set from constants and each other.
fn exact(
    facts: &Facts<'_>,
    relevant: &BTreeSet<&str>,
    open: &BTreeSet<String>,
) -> BTreeSet<Arc<str>> {
    let mut exact: BTreeSet<Arc<str>> =
        relevant.iter().filter(|key| !open.contains(**key)).map(|key| Arc::from(*key)).collect();
    loop {
        let unknown: Vec<Arc<str>> = exact
            .iter()
            .filter(|key| {
                let sides = facts.assigns.get(&***key).into_iter().flatten();
                sides.into_iter().any(|side| !is_known(side, &exact))
            })
            .cloned()
            .collect();
        if unknown.is_empty() {
            return exact;
        }
        for key in unknown {
            exact.remove(&key);
        }
    }
}

/// Whether all that an expression reads is known while exploring.
fn is_known(node: &Node, exact: &BTreeSet<Arc<str>>) -> bool {
    reads(node).iter().all(|read| match read.context_key() {
        Some(key) => exact.contains(key),
        None => read.path == "event.type",
    })
}

/// The events from outside that a state handles; for `prefix.*` and `*` one of them.
fn outside_events(facts: &Facts<'_>, state: &State) -> Vec<Arc<str>> {
    let kept = |event: &str| {
        let reserved = ["pled.", "done.", "error.", "after."];
        reserved.iter().any(|prefix| event.starts_with(prefix))
    };
    let is_from_outside = |event: &str| {
        !kept(event)
            || event == "pled.cancel"
            || event
                .strip_prefix("error.action.")
                .is_some_and(|action| facts.actions.iter().any(|acted| acted.action == action))
    };
    let exact = state.on.exact.keys().filter(|event| is_from_outside(event)).cloned();
    let mut events: Vec<Arc<str>> = exact.collect();
    for (prefix, _) in &state.on.prefixes {
        if !kept(&format!("{prefix}.")) {
            events.push(format!("{prefix}.any").into());
        }
    }
    if !state.on.any.is_empty() {
        events.push("ANY".into());
    }
    events
}

struct Builder<'b, 'n> {
    facts: &'b Facts<'n>,
    exact: &'b BTreeSet<Arc<str>>,
    /// The key that counts the assignments to an open key.
    versions: BTreeMap<Arc<str>, Arc<str>>,
    ids: BTreeMap<Arc<str>, StateIndex>,
    guards: Vec<Guard>,
    atoms: Vec<Atom>,
    by_text: BTreeMap<String, usize>,
}

impl Builder<'_, '_> {
    fn strip(&mut self, state: &mut State) {
        state.output = None;
        for after in &mut state.after {
            after.delay = Delay::Millis(0);
        }
        for invoke in &mut state.invoke {
            (invoke.input, invoke.each) = (None, None);
            if let Some(compensate) = &mut invoke.compensate {
                compensate.input = None;
            }
        }
        self.actions(&mut state.entry);
        self.actions(&mut state.exit);
        if let StateKind::Compound { actions, .. } = &mut state.kind {
            self.actions(actions);
        }
        let on = &mut state.on;
        let prefixes = on.prefixes.iter_mut().map(|(_, transitions)| transitions);
        let lists = on.exact.values_mut().chain(prefixes).chain([&mut on.any, &mut state.always]);
        for transition in lists.flatten() {
            self.transition(transition);
        }
    }

    fn transition(&mut self, transition: &mut Transition) {
        if transition.guard.is_some() {
            transition.guard = self.guard_at(&format!("{}/guard", transition.pointer));
        }
        self.actions(&mut transition.actions);
    }

    fn actions(&mut self, actions: &mut Vec<Action>) {
        actions.retain_mut(|action| match &mut action.kind {
            ActionKind::Assign(sides) => {
                self.assign(sides);
                !sides.is_empty()
            }
            ActionKind::Raise(spec) | ActionKind::Send(spec) => strip_send(spec),
            ActionKind::Cancel { id } => id.as_constant().is_some(),
            ActionKind::Choose(branches) => {
                for (at, branch) in branches.iter_mut().enumerate() {
                    if branch.guard.is_some() {
                        let pointer = format!("{}/params/branches/{at}/guard", action.pointer);
                        branch.guard = self.guard_at(&pointer);
                    }
                    self.actions(&mut branch.actions);
                }
                true
            }
            ActionKind::Spawn { input, .. } => {
                *input = Mapping::constant(Value::Null);
                true
            }
            ActionKind::Stop { .. } | ActionKind::Compensate => true,
            ActionKind::Log(_) | ActionKind::Custom { .. } => false,
        });
    }

    /// Keeps what sets a known key; counts what sets an open one; drops what no guard reads.
    fn assign(&self, sides: &mut Vec<(Arc<str>, Mapping)>) {
        sides.retain_mut(|(key, side)| {
            if self.exact.contains(key) {
                return true;
            }
            let Some(counter) = self.versions.get(key) else { return false };
            let count =
                format!(r#"{{"min":[{{"+":[{{"var":"context.{counter}"}},1]}},{VERSIONS_MAX}]}}"#);
            let counted = Node::parse(&count).ok().and_then(|node| {
                let roots = Roots { context: true, item: false, states: None };
                Mapping::compile(&node, roots, &mut Findings::default())
            });
            *side = counted.unwrap_or_else(|| Mapping::constant(Value::Int(1)));
            *key = counter.clone();
            true
        });
    }

    /// The number of the guard that stands there, as an expression.
    fn guard_at(&mut self, pointer: &str) -> Option<Expression> {
        let node = *self.facts.guards.get(pointer)?;
        let guard = self.guard(node);
        self.guards.push(guard);
        let number = Node::parse(&(self.guards.len() - 1).to_string()).ok()?;
        let roots = Roots { context: true, item: false, states: None };
        Expression::compile(&number, roots, &mut Findings::default())
    }

    fn guard(&mut self, node: &Node) -> Guard {
        if is_known(node, self.exact) {
            let ids = &self.ids;
            let resolve = |id: &str| ids.get(id).copied();
            let roots = Roots { context: true, item: false, states: Some(&resolve) };
            if let Some(known) = Expression::compile(node, roots, &mut Findings::default()) {
                return Guard::Exact(known);
            }
        }
        let Some([only]) = node.members() else { return self.atom("", &[node]) };
        let operands: Vec<&Node> = match only.value.elements() {
            Some(all) => all.iter().collect(),
            None => vec![&only.value],
        };
        match (&*only.key, operands.as_slice()) {
            ("and", all) => Guard::All(all.iter().map(|inner| self.guard(inner)).collect()),
            ("or", any) => Guard::Any(any.iter().map(|inner| self.guard(inner)).collect()),
            ("!", _) => Guard::Not(Box::new(self.guard(one(&only.value)))),
            ("!!", _) => self.guard(one(&only.value)),
            ("==", all @ [_, _]) => self.atom("==", all),
            ("===", all @ [_, _]) => self.atom("===", all),
            ("!=", all @ [_, _]) => Guard::Not(Box::new(self.atom("==", all))),
            ("!==", all @ [_, _]) => Guard::Not(Box::new(self.atom("===", all))),
            ("<", all @ [_, _]) => self.atom("<", all),
            (">", [left, right]) => self.atom("<", &[right, left]),
            (">=", all @ [_, _]) => Guard::Not(Box::new(self.atom("<", all))),
            ("<=", [left, right]) => Guard::Not(Box::new(self.atom("<", &[right, left]))),
            _ => self.atom("", &[node]),
        }
    }

    /// The same condition is the same atom, wherever it stands.
    fn atom(&mut self, operator: &'static str, operands: &[&Node]) -> Guard {
        let text: Vec<String> = operands.iter().map(|it| it.to_value().to_string()).collect();
        let text = format!("{operator} {}", text.join(" "));
        if let Some(known) = self.by_text.get(&text) {
            return Guard::Atom(*known);
        }
        let all = operands.iter().flat_map(|operand| reads(operand));
        let (mut versions, mut reads_event) = (BTreeSet::new(), false);
        for read in all {
            match read.context_key() {
                Some("") => versions.extend(self.versions.values().cloned()),
                Some(key) => versions.extend(self.versions.get(key).cloned()),
                None => reads_event = true,
            }
        }
        let operands = operands.iter().map(|operand| (*operand).clone()).collect();
        let versions = versions.into_iter().collect();
        self.atoms.push(Atom { operator, operands, versions, reads_event });
        self.by_text.insert(text, self.atoms.len() - 1);
        Guard::Atom(self.atoms.len() - 1)
    }
}

/// Keeps a send to the execution itself whose event is known.
fn strip_send(spec: &mut SendSpec) -> bool {
    spec.data = None;
    if spec.id.as_ref().is_some_and(|id| id.as_constant().is_none()) {
        spec.id = None;
    }
    if let Some(delay @ Delay::Logic(_)) = &mut spec.delay {
        *delay = Delay::Millis(0);
    }
    spec.to.is_none() && spec.event.as_constant().is_some()
}
