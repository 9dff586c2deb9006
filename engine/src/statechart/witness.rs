//! What a macrostep looked at: the transitions that could have been taken, and what became of each.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::Chart;
use super::conflict::Selected;
use crate::expression::Trace;
use crate::template::{Descriptors, State, Template, Transition};

/// Notes what the algorithm looks at, if it is given to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    rounds: Vec<Round>,
    /// The guard that was evaluated last, and whether it had no value.
    evaluated: Option<(Trace, bool)>,
    /// The guards of transitions that were asked since the last selection.
    asked: Vec<Asked>,
}

#[derive(Clone, Debug)]
struct Asked {
    transition: u32,
    trace: Trace,
    failed: bool,
}

/// One selection of transitions, and the guards of `choose` in the actions that followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Round {
    /// What was selected for.
    pub stimulus: Stimulus,
    /// Ids of the active leaf states, in document order.
    pub configuration: Vec<Arc<str>>,
    /// The transitions that could have been taken, in document order of their states.
    pub candidates: Vec<Candidate>,
    /// Where there is no candidate: the descriptors for which the active states have transitions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<String>,
    /// The guards of `choose` that were asked in the actions, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
}

/// What transitions are selected for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stimulus {
    /// The initial states are entered; nothing is selected.
    Start,
    /// An event of this type, from outside or from the internal queue.
    Event(Arc<str>),
    /// No event: `always`.
    Eventless,
}

/// A transition that could have been taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The id of the state that it stands at.
    pub state: Arc<str>,
    /// The event descriptor that it matched by; `always` for an eventless one.
    pub descriptor: String,
    /// JSON pointer to it in the template.
    pub pointer: Arc<str>,
    /// Ids of its targets; none: it stays.
    pub target: Vec<Arc<str>>,
    /// What became of it.
    pub fate: Fate,
    /// How its guard came out, where it has one that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<Trace>,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was taken.
    Taken,
    /// Its guard does not hold.
    GuardFalse,
    /// Its guard has no value, so it does not hold.
    GuardFailed,
    /// It was not asked: this one (a pointer) of the same state comes before it and was selected.
    After(Arc<str>),
    /// It was not asked: this state (an id), which is within its own, selected one.
    Within(Arc<str>),
    /// It was selected, but leaves states that this one (a pointer), which goes first, leaves too.
    Conflict(Arc<str>),
}

/// The guard of a branch of `choose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// JSON pointer to the guard in the template.
    pub pointer: String,
    /// How it came out.
    pub guard: Trace,
}

impl Witness {
    /// What was noted since this was called last.
    pub(crate) fn take(&mut self) -> Vec<Round> {
        self.asked.clear();
        std::mem::take(&mut self.rounds)
    }

    /// A guard was evaluated; whose it was is said next.
    pub(super) fn evaluated(&mut self, trace: Trace, failed: bool) {
        self.evaluated = Some((trace, failed));
    }

    /// It was the guard of a transition.
    pub(super) fn asked(&mut self, transition: u32) {
        let evaluated = self.evaluated.take();
        self.asked.extend(evaluated.map(|(trace, failed)| Asked { transition, trace, failed }));
    }

    /// It was the guard of a branch of `choose`.
    pub(super) fn chose(&mut self, pointer: String) {
        if let (Some(round), Some((guard, _))) = (self.rounds.last_mut(), self.evaluated.take()) {
            round.choices.push(Choice { pointer, guard });
        }
    }

    /// The initial states are about to be entered.
    pub(super) fn started(&mut self) {
        self.rounds.push(Round {
            stimulus: Stimulus::Start,
            configuration: Vec::new(),
            candidates: Vec::new(),
            listening: Vec::new(),
            choices: Vec::new(),
        });
    }

    /// Of the transitions that were `selected`, these were `kept`. Eventless selections with
    /// nothing to select from are not noted.
    pub(super) fn selected(
        &mut self,
        template: &Template,
        chart: &Chart,
        event: Option<&Arc<str>>,
        selected: &[Selected<'_>],
        kept: &[Selected<'_>],
    ) {
        let asked = std::mem::take(&mut self.asked);
        let weighing = Weighing { template, chart, asked, selected, kept };
        let candidates = weighing.candidates(event);
        let listening = match event {
            None if candidates.is_empty() => return,
            Some(_) if candidates.is_empty() => listening(template, chart),
            None | Some(_) => Vec::new(),
        };
        self.rounds.push(Round {
            stimulus: event.map_or(Stimulus::Eventless, |event| Stimulus::Event(event.clone())),
            configuration: super::leaves(template, chart),
            candidates,
            listening,
            choices: Vec::new(),
        });
    }
}

/// A selection that was made, for finding out about each candidate.
struct Weighing<'w> {
    template: &'w Template,
    chart: &'w Chart,
    asked: Vec<Asked>,
    selected: &'w [Selected<'w>],
    kept: &'w [Selected<'w>],
}

impl Weighing<'_> {
    fn candidates(&self, event: Option<&Arc<str>>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for source in &self.chart.active {
            let state = self.template.state(*source);
            let mut add = |transition: &Transition, descriptor| {
                let candidate = Selected { source: *source, transition };
                candidates.push(self.candidate(&candidate, state, descriptor));
            };
            match event {
                None => state.always.iter().for_each(|always| add(always, "always".to_owned())),
                Some(event) => {
                    for transition in state.on.matching(event) {
                        add(transition, descriptor_of(&state.on, transition, event));
                    }
                }
            }
        }
        candidates
    }

    fn candidate(&self, candidate: &Selected<'_>, state: &State, descriptor: String) -> Candidate {
        let transition = candidate.transition;
        let asked = self.asked.iter().rev().find(|asked| asked.transition == transition.number);
        let target = transition.target.iter().map(|target| self.template.state(*target).id.clone());
        Candidate {
            state: state.id.clone(),
            descriptor,
            pointer: transition.pointer.clone(),
            target: target.collect(),
            fate: self.fate(candidate, asked),
            guard: asked.map(|asked| asked.trace.clone()),
        }
    }

    fn fate(&self, candidate: &Selected<'_>, asked: Option<&Asked>) -> Fate {
        let is_it = |other: &&Selected<'_>| other.transition.number == candidate.transition.number;
        if self.kept.iter().any(|other| is_it(&other)) {
            return Fate::Taken;
        }
        if let Some(selected) = self.selected.iter().find(is_it) {
            return Fate::Conflict(self.preempting(selected));
        }
        if let Some(asked) = asked {
            return if asked.failed { Fate::GuardFailed } else { Fate::GuardFalse };
        }
        let same_state = self.selected.iter().find(|other| other.source == candidate.source);
        if let Some(before) = same_state {
            return Fate::After(before.transition.pointer.clone());
        }
        let is_within =
            |other: &&Selected<'_>| self.template.is_descendant(other.source, candidate.source);
        match self.selected.iter().find(is_within) {
            Some(inner) => Fate::Within(self.template.state(inner.source).id.clone()),
            // Of what is left, only an `always` above a leaf whose way was ended has not been asked.
            None => Fate::GuardFalse,
        }
    }

    /// The transition that was kept in the place of this one.
    fn preempting(&self, dropped: &Selected<'_>) -> Arc<str> {
        let exits = dropped.exit_set(self.template, self.chart);
        let conflicts = |other: &&Selected<'_>| {
            let others = other.exit_set(self.template, self.chart);
            exits.start.max(others.start) < exits.end.min(others.end)
        };
        let kept = self.kept.iter().find(conflicts).or(self.kept.first());
        kept.map(|kept| kept.transition.pointer.clone()).unwrap_or_default()
    }
}

fn descriptor_of(on: &Descriptors, transition: &Transition, event: &str) -> String {
    let holds = |list: &[Transition]| list.iter().any(|other| other.number == transition.number);
    if on.exact.get(event).is_some_and(|list| holds(list)) {
        return event.to_owned();
    }
    let prefix = on.prefixes.iter().find(|(_, list)| holds(list));
    prefix.map_or_else(|| "*".to_owned(), |(prefix, _)| format!("{prefix}.*"))
}

fn listening(template: &Template, chart: &Chart) -> Vec<String> {
    let mut descriptors = BTreeSet::new();
    for state in &chart.active {
        let on = &template.state(*state).on;
        descriptors.extend(on.exact.keys().map(ToString::to_string));
        descriptors.extend(on.prefixes.iter().map(|(prefix, _)| format!("{prefix}.*")));
        if !on.any.is_empty() {
            descriptors.insert("*".to_owned());
        }
    }
    descriptors.into_iter().collect()
}
