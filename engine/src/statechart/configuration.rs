//! The configuration as ids: what a journal entry says of it, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Chart;
use crate::execution::State;
use crate::template::{StateIndex, StateKind, Template};

/// The ids of the active leaf states, in document order.
#[must_use]
pub fn leaves(template: &Template, chart: &Chart) -> Vec<Arc<str>> {
    template.leaves(&chart.active).map(|leaf| template.state(leaf).id.clone()).collect()
}

/// Writes configuration, context and history of `chart` into `state`.
pub fn store(template: &Template, chart: Chart, state: &mut State) {
    let id = |index: &StateIndex| template.state(*index).id.clone();
    state.configuration = leaves(template, &chart);
    state.history = chart
        .history
        .iter()
        .map(|(of, states)| (id(of), states.iter().map(id).collect()))
        .collect();
    state.context = chart.context;
}

/// The chart that `state` says, its configuration checked against the template.
///
/// # Errors
/// If the state is not one of an execution of this template.
pub fn chart_from(template: &Template, state: &State) -> Result<Chart, IllegalState> {
    let find = |id: &Arc<str>| template.index_of(id).ok_or(IllegalState::Unknown(id.clone()));
    let mut active = Vec::with_capacity(2 * state.configuration.len());
    let mut before: Option<StateIndex> = None;
    for id in &state.configuration {
        let leaf = find(id)?;
        active.push(leaf);
        // What holds the leaf before, too, is there already.
        let is_new = |ancestor: &StateIndex| {
            !before.is_some_and(|before| template.is_descendant(before, *ancestor))
        };
        active.extend(template.ancestors(leaf).take_while(is_new));
        before = Some(leaf);
    }
    active.sort_unstable();
    active.dedup();
    check(template, &active)?;
    let mut history = BTreeMap::new();
    for (of, states) in &state.history {
        let states: Vec<StateIndex> = states.iter().map(find).collect::<Result<_, _>>()?;
        history.insert(find(of)?, states);
    }
    check_history(template, &history)?;
    Ok(Chart { active, context: state.context.clone(), history })
}

/// A stored state does not fit the template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalState {
    /// It names a state that the template does not have.
    #[error("the template has no state {0:?}")]
    Unknown(Arc<str>),
    /// A state is active together with too many or too few of its children.
    #[error("the state {0:?} cannot be active with just these children")]
    Configuration(Arc<str>),
    /// A history holds what it cannot restore.
    #[error("the history {0:?} does not restore what it says")]
    History(Arc<str>),
}

/// A compound state is active with one child, a parallel one with all, any other with none.
fn check(template: &Template, active: &[StateIndex]) -> Result<(), IllegalState> {
    for (at, index) in active.iter().enumerate() {
        let state = template.state(*index);
        let inside = active[at + 1..].iter().take_while(|inner| **inner <= state.last);
        let children =
            inside.filter(|inner| template.state(**inner).parent == Some(*index)).count();
        let fits = match &state.kind {
            StateKind::Compound { .. } => children == 1,
            StateKind::Parallel => children == template.regions(*index).count(),
            StateKind::Atomic | StateKind::Final => true,
            StateKind::History { .. } => false,
        };
        if !fits {
            return Err(IllegalState::Configuration(state.id.clone()));
        }
    }
    Ok(())
}

fn check_history(
    template: &Template,
    history: &BTreeMap<StateIndex, Vec<StateIndex>>,
) -> Result<(), IllegalState> {
    for (of, states) in history {
        let state = template.state(*of);
        let is_history = matches!(state.kind, StateKind::History { .. });
        let within = |inner: &StateIndex| {
            let restorable = !matches!(template.state(*inner).kind, StateKind::History { .. });
            restorable && state.parent.is_some_and(|parent| template.is_descendant(*inner, parent))
        };
        if !is_history || !states.iter().all(within) {
            return Err(IllegalState::History(state.id.clone()));
        }
    }
    Ok(())
}
