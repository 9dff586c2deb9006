//! Transitions: their events, targets and guards.

use std::sync::Arc;

use super::compile::{Compiler, expression};
use super::diagnostic::Findings;
use super::document::{Member, Node};
use super::outline::Shape;
use super::reader::{Fields, boolean, cut, string, wrong_kind};
use super::suggest::closest;
use super::{After, DELAY_MS_MAX, Delay, Descriptors, StateIndex, Transition, code, fields, name};
use crate::expression::{Expression, Roots};
use crate::id::EventType;

impl Compiler<'_, '_> {
    /// Reads the field `on` of the state `source`.
    pub(super) fn on(
        &mut self,
        source: StateIndex,
        node: &Node,
        on: &mut Descriptors,
        findings: &mut Findings,
    ) {
        let Some(fields) = Fields::unchecked(node, "`on`", findings) else { return };
        for Member { key, key_span, value } in fields.members() {
            findings.at(key, |findings| {
                let transitions = self.transitions(source, value, findings);
                if **key == *"*" {
                    on.any.extend(transitions);
                } else if let Some(prefix) = key.strip_suffix(".*").filter(|it| is_event(it)) {
                    on.prefixes.push((prefix.into(), transitions));
                } else if key.contains('*') {
                    findings.error_with_help(
                        code::NAME,
                        key_span,
                        format!("{:?} is no event descriptor", cut(key)),
                        "one is the type of an event, `prefix.*`, or `*` for all",
                    );
                } else if name::event_type(key, key_span, findings).is_some() {
                    on.add(key.clone(), transitions);
                }
            });
        }
    }

    /// Reads the field `after` of the state `source`.
    pub(super) fn after(
        &mut self,
        source: StateIndex,
        node: &Node,
        on: &mut Descriptors,
        findings: &mut Findings,
    ) -> Vec<After> {
        let mut timers = Vec::new();
        let Some(fields) = Fields::unchecked(node, "`after`", findings) else { return timers };
        for member in fields.members() {
            let key = &member.key;
            findings.at(key, |findings| {
                let delay = self.after_delay(member, findings);
                let transitions = self.transitions(source, &member.value, findings);
                let Some(delay) = delay else { return };
                if transitions.is_empty() {
                    return;
                }
                let id = &self.outline.place(source).id;
                let event: Arc<str> = format!("after.{key}.{id}").into();
                on.add(event.clone(), transitions);
                timers.push(After { name: key.clone(), delay, event });
            });
        }
        timers
    }

    fn after_delay(&self, member: &Member, findings: &mut Findings) -> Option<Delay> {
        let key = &*member.key;
        let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return self.named_delay(key, &member.key_span, findings);
        }
        let millis = key.parse().ok().filter(|millis| *millis <= DELAY_MS_MAX);
        if millis.is_none() || (key.len() > 1 && key.starts_with('0')) {
            let message = format!(
                "{:?} is no delay: in digits it is 0 to {DELAY_MS_MAX} milliseconds, without \
                 leading zeros",
                cut(key)
            );
            findings.error(code::UNKNOWN_DELAY, &member.key_span, message);
            return None;
        }
        millis.map(Delay::Millis)
    }

    /// The delay of that name in `delays`.
    pub(super) fn named_delay(
        &self,
        key: &str,
        span: &std::ops::Range<usize>,
        findings: &mut Findings,
    ) -> Option<Delay> {
        if let Some(delay) = self.delays.get(key) {
            return Some(delay.clone());
        }
        let message = format!("{:?} is neither milliseconds nor a name in `delays`", cut(key));
        let near = closest(key, self.delays.keys().map(|name| &**name));
        let help = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "add it to `delays` at the root, or write milliseconds in digits".to_owned(),
        };
        findings.error_with_help(code::UNKNOWN_DELAY, span, message, help);
        None
    }

    /// Reads one transition or an array of them.
    pub(super) fn transitions(
        &mut self,
        source: StateIndex,
        node: &Node,
        findings: &mut Findings,
    ) -> Vec<Transition> {
        let Some(elements) = node.elements() else {
            return self.transition(source, node, findings).into_iter().collect();
        };
        let mut transitions = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            transitions
                .extend(findings.at(index, |findings| self.transition(source, element, findings)));
        }
        transitions
    }

    fn transition(
        &mut self,
        source: StateIndex,
        node: &Node,
        findings: &mut Findings,
    ) -> Option<Transition> {
        let number = self.transitions;
        self.transitions += 1;
        let pointer = Arc::from(findings.pointer());
        if node.as_str().is_some() {
            let target = self.targets(source, node, findings)?;
            let (guard, actions) = (None, Vec::new());
            return Some(Transition { number, pointer, target, reenter: false, guard, actions });
        }
        if node.members().is_none() {
            wrong_kind(node, "a transition must be a target or an object", findings);
            return None;
        }
        let fields = Fields::of(node, "a transition", &fields::TRANSITION, findings)?;
        for key in ["description", "tags"] {
            fields.read(key, findings, |node, findings| {
                super::state::labels(key, node, findings);
                Some(())
            });
        }
        let target =
            fields.read("target", findings, |node, findings| self.targets(source, node, findings));
        Some(Transition {
            number,
            pointer,
            target: target.unwrap_or_default(),
            reenter: fields.read("reenter", findings, boolean).unwrap_or(false),
            guard: fields.read("guard", findings, |node, findings| self.guard(node, findings)),
            actions: fields
                .read("actions", findings, |node, findings| Some(self.actions(node, findings)))
                .unwrap_or_default(),
        })
    }

    pub(super) fn guard(&self, node: &Node, findings: &mut Findings) -> Option<Expression> {
        let resolve = |id: &str| self.outline.by_id(id);
        expression(node, Roots { context: true, item: false, states: Some(&resolve) }, findings)
    }

    /// Reads a target or an array of targets. `None`: an error was recorded.
    pub(super) fn targets(
        &self,
        source: StateIndex,
        node: &Node,
        findings: &mut Findings,
    ) -> Option<Vec<StateIndex>> {
        let Some(elements) = node.elements() else {
            return Some(vec![self.target(source, node, findings)?]);
        };
        if elements.is_empty() {
            findings.error_with_help(
                code::TARGETS,
                &node.span,
                "an empty array names no target",
                "leave `target` out if the transition stays where it is",
            );
            return None;
        }
        let targets: Vec<Option<StateIndex>> = elements
            .iter()
            .enumerate()
            .map(|(index, element)| {
                findings.at(index, |findings| self.target(source, element, findings))
            })
            .collect();
        let targets: Vec<StateIndex> = targets.into_iter().collect::<Option<_>>()?;
        self.check_orthogonal(&targets, node, findings);
        Some(targets)
    }

    /// Several targets must be able to be active together: any two of them lie in different
    /// regions of a parallel state. In document order it is enough to compare neighbours.
    fn check_orthogonal(&self, targets: &[StateIndex], node: &Node, findings: &mut Findings) {
        let mut order: Vec<(StateIndex, StateIndex)> =
            targets.iter().map(|target| (self.stands_for(*target), *target)).collect();
        order.sort_unstable();
        for pair in order.windows(2) {
            let ancestor = self.outline.common_ancestor(pair[0].0, pair[1].0);
            let apart = ancestor != pair[0].0 && ancestor != pair[1].0;
            if apart && self.outline.place(ancestor).shape == Shape::Parallel {
                continue;
            }
            let [a, b] = [pair[0].1, pair[1].1].map(|target| cut(&self.outline.place(target).id));
            findings.error_with_help(
                code::TARGETS,
                &node.span,
                format!("the targets {a:?} and {b:?} cannot be entered together"),
                "several targets lie in different regions of a parallel state",
            );
        }
    }

    /// A history state stands for what was active in its parent.
    fn stands_for(&self, target: StateIndex) -> StateIndex {
        let place = self.outline.place(target);
        match (place.shape, place.parent) {
            (Shape::History, Some(parent)) => parent,
            _ => target,
        }
    }

    fn target(
        &self,
        source: StateIndex,
        node: &Node,
        findings: &mut Findings,
    ) -> Option<StateIndex> {
        let text = string(node, findings)?;
        let found = if let Some(id) = text.strip_prefix('#') {
            self.outline.by_id(id)
        } else if let Some(path) = text.strip_prefix('.') {
            self.descend(source, path)
        } else {
            let parent = self.outline.place(source).parent;
            parent.and_then(|parent| self.outline.child(parent, &text))
        };
        if found.is_none() {
            let help = if findings.is_full() { None } else { self.meant_target(source, &text) };
            let message = self.no_target(source, &text);
            findings.report(code::UNKNOWN_TARGET, &node.span, message, help);
        }
        found
    }

    fn descend(&self, from: StateIndex, path: &str) -> Option<StateIndex> {
        path.split('.').try_fold(from, |state, key| self.outline.child(state, key))
    }

    fn no_target(&self, source: StateIndex, text: &str) -> String {
        let shown = cut(text);
        match text.bytes().next() {
            Some(b'#') => format!("no state has the id {:?}", cut(&text[1..])),
            Some(b'.') => format!("{shown:?} leads to no state below this one"),
            _ if source == 0 => format!("the root has no siblings, so {shown:?} names no state"),
            _ => format!("{shown:?} is no sibling of this state"),
        }
    }

    /// How the state that is probably meant is written.
    fn meant_target(&self, source: StateIndex, text: &str) -> Option<String> {
        let bare = text.trim_start_matches(['#', '.']);
        if self.outline.by_id(bare).is_some() {
            return Some(format!("did you mean \"#{bare}\", the state with that id?"));
        }
        if self.descend(source, bare).is_some() {
            return Some(format!("did you mean \".{bare}\", a state below this one?"));
        }
        let parent = self.outline.place(source).parent;
        if let Some(state) = parent.and_then(|parent| self.descend(parent, bare)) {
            let place = self.outline.place(state);
            return Some(match bare.contains('.') {
                true => format!("write \"#{}\", the id of the state that is meant", cut(&place.id)),
                false => format!("did you mean {bare:?}, a sibling?"),
            });
        }
        if text.starts_with('#') {
            return closest(bare, self.outline.ids()).map(|id| format!("did you mean \"#{id}\"?"));
        }
        if text.starts_with('.') {
            return closest(bare, self.outline.child_keys(source))
                .map(|key| format!("did you mean \".{key}\"?"));
        }
        let sibling =
            closest(bare, parent.into_iter().flat_map(|parent| self.outline.child_keys(parent)));
        match sibling {
            Some(key) => Some(format!("did you mean {key:?}?")),
            None => closest(bare, self.outline.ids()).map(|id| format!("did you mean \"#{id}\"?")),
        }
    }
}

fn is_event(text: &str) -> bool {
    text.parse::<EventType>().is_ok()
}
