//! Timers that another one is always before, and delays that nothing uses.

use pled_engine::template::{After, Delay, StateIndex, Template};

use super::facts::members;
use super::transitions::{leaves, leaves_at_once};
use super::{Found, code};

/// Timers that can never fire, and names in `delays` without use.
pub(super) fn findings(found: &mut Found<'_, '_>) {
    let template = found.template();
    for (index, state) in (0..).zip(&template.states) {
        if leaves_at_once(template, index) {
            continue;
        }
        for after in &state.after {
            if let Some((other, first)) = earlier(template, index, after) {
                let whose = if other == index {
                    "of the same state".to_owned()
                } else {
                    format!("of {:?} around it", &*template.state(other).id)
                };
                let pointer = format!("{}/after/{}", template.pointer(index), after.name);
                found.add_at_key(
                    &code::TIMER_NEVER_FIRES,
                    &pointer,
                    format!(
                        "this timer never fires: the one {whose}, {:?}, is due first and leaves \
                         {:?}",
                        &*first.name, &*state.id
                    ),
                    "make it shorter than the other, or give the transitions of that one guards",
                );
            }
        }
    }
    unused_delays(found);
}

/// A timer of the state or of one around it that is always due before, and then leaves the state.
fn earlier<'t>(
    template: &'t Template,
    index: StateIndex,
    after: &After,
) -> Option<(StateIndex, &'t After)> {
    let Delay::Millis(millis) = after.delay else { return None };
    let around = std::iter::once(index).chain(template.ancestors(index));
    around.into_iter().find_map(|holder| {
        let timers = template.state(holder).after.iter();
        timers
            .filter(|other| match other.delay {
                Delay::Millis(other_millis) if holder == index => other_millis < millis,
                Delay::Millis(other_millis) => other_millis <= millis,
                Delay::Logic(_) => false,
            })
            .find(|other| always_leaves(template, holder, other))
            .map(|other| (holder, other))
    })
}

fn always_leaves(template: &Template, index: StateIndex, after: &After) -> bool {
    let first = template.state(index).on.matching(&after.event).next();
    first.is_some_and(|it| it.guard.is_none() && leaves(template, index, it))
}

fn unused_delays(found: &mut Found<'_, '_>) {
    let delays = found.facts.root.get("delays");
    for member in members(delays) {
        if !found.facts.delays.contains(&*member.key) {
            found.add_at_key(
                &code::UNUSED_DELAY,
                &format!("/delays/{}", member.key),
                format!("the delay {:?} is not used", &*member.key),
                "use it as a key of `after` or as the `delay` of a `raise`, or remove it",
            );
        }
    }
}
