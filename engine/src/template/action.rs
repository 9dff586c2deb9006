//! Actions of entry, exit and transitions.

use std::sync::Arc;

use super::compile::{CONTEXT, Compiler, delay, expression, mapping, params};
use super::diagnostic::Findings;
use super::document::{Kind, Member, Node};
use super::reader::{Fields, array, cut, one_of, string, wrong_kind};
use super::suggest::closest;
use super::{Action, ActionKind, Branch, Delay, SendSpec, code, fields, name};
use crate::expression::Mapping;
use crate::id::{ExecutionId, TemplateRef};
use crate::value::Value;

impl Compiler<'_, '_> {
    /// Reads a list of actions.
    pub(super) fn actions(&mut self, node: &Node, findings: &mut Findings) -> Vec<Action> {
        let elements = array(node, "a list of actions", findings).unwrap_or_default();
        // Actions are large, and a growing vector would hold room for four from the first on.
        let mut actions = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            actions.extend(findings.at(index, |findings| {
                let pointer = Arc::from(findings.pointer());
                let kind = self.action(element, findings)?;
                Some(Action { pointer, kind })
            }));
        }
        actions
    }

    fn action(&mut self, node: &Node, findings: &mut Findings) -> Option<ActionKind> {
        if let Some(name) = node.as_str() {
            findings.error_with_help(
                code::KIND,
                &node.span,
                "an action must be an object, not a string",
                format!("write {{\"type\": {:?}}}", cut(name)),
            );
            return None;
        }
        let fields = Fields::unchecked(node, "an action", findings)?;
        let action = fields.require("type", findings, string)?;
        let what = format!("the action `{}`", cut(&action));
        let known: &[&'static str] = match &*action {
            "compensate" => &fields::ACTION_ALONE,
            own if fields::OWN_ACTIONS.contains(&own) => &fields::OWN_ACTION,
            _ => &fields::CUSTOM_ACTION,
        };
        let fields = Fields::of(node, &what, known, findings)?;
        match &*action {
            "assign" => fields.require("params", findings, assign),
            "raise" => fields.require("params", findings, |node, findings| {
                self.raise(node, findings).map(ActionKind::Raise)
            }),
            "send" => fields.require("params", findings, |node, findings| {
                self.send(node, findings).map(ActionKind::Send)
            }),
            "cancel" => fields.require("params", findings, cancel),
            "choose" => {
                fields.require("params", findings, |node, findings| self.choose(node, findings))
            }
            "spawn" => {
                fields.require("params", findings, |node, findings| self.spawn(node, findings))
            }
            "stop" => fields.require("params", findings, stop),
            "log" => fields.require("params", findings, params).map(ActionKind::Log),
            "compensate" => Some(ActionKind::Compensate),
            _ => self.custom(&action, &fields, findings),
        }
    }

    fn raise(&mut self, node: &Node, findings: &mut Findings) -> Option<SendSpec> {
        let fields = Fields::of(node, "`params` of `raise`", &fields::RAISE, findings)?;
        let named = fields.read("delay", findings, |node, findings| {
            let name = string(node, findings)?;
            self.named_delay(&name, &node.span, findings)
        });
        if let (Some(_), Some(node)) = (fields.get("delay_ms"), fields.get("delay")) {
            let message = "`delay_ms` and `delay` both say how long to wait";
            findings.at("delay", |findings| {
                findings.error(code::CONTRADICTION, &node.span, message);
            });
        }
        let millis = fields.read("delay_ms", findings, delay);
        send_spec(&fields, None, named.or(millis), findings)
    }

    fn send(&mut self, node: &Node, findings: &mut Findings) -> Option<SendSpec> {
        let fields = Fields::of(node, "`params` of `send`", &fields::SEND, findings)?;
        let to = fields.read("to", findings, receiver);
        let millis = fields.read("delay_ms", findings, delay);
        send_spec(&fields, to, millis, findings)
    }

    fn choose(&mut self, node: &Node, findings: &mut Findings) -> Option<ActionKind> {
        let fields = Fields::of(node, "`params` of `choose`", &fields::CHOOSE, findings)?;
        let branches = fields.require("branches", findings, |node, findings| {
            let elements = array(node, "`branches`", findings)?.iter().enumerate();
            Some(
                elements
                    .filter_map(|(index, element)| {
                        findings.at(index, |findings| self.branch(element, findings))
                    })
                    .collect(),
            )
        });
        branches.map(ActionKind::Choose)
    }

    fn branch(&mut self, node: &Node, findings: &mut Findings) -> Option<Branch> {
        let fields = Fields::of(node, "a branch", &fields::BRANCH, findings)?;
        Some(Branch {
            guard: fields.read("guard", findings, |node, findings| self.guard(node, findings)),
            actions: fields.require("actions", findings, |node, findings| {
                Some(self.actions(node, findings))
            })?,
        })
    }

    fn spawn(&mut self, node: &Node, findings: &mut Findings) -> Option<ActionKind> {
        let fields = Fields::of(node, "`params` of `spawn`", &fields::SPAWN, findings)?;
        let id = fields.require("id", findings, |node, findings| self.spawned_id(node, findings));
        let template: Option<TemplateRef> =
            fields.require("template", findings, |node, findings| {
                name::template_ref(&string(node, findings)?, &node.span, findings)
            });
        let input =
            fields.read("input", findings, |node, findings| mapping(node, CONTEXT, findings));
        let abandon = fields.read("parent_close", findings, |node, findings| {
            one_of(node, &[("cancel", false), ("abandon", true)], findings)
        });
        self.children.extend(template.clone());
        Some(ActionKind::Spawn {
            id: id?,
            template: template?,
            input: input.unwrap_or_else(|| Mapping::constant(Value::Null)),
            abandon: abandon.unwrap_or(false),
        })
    }

    /// The id of a spawned child. Several `spawn` may have the same, but none that of an
    /// invocation, since their results could not be told apart.
    fn spawned_id(&mut self, node: &Node, findings: &mut Findings) -> Option<Arc<str>> {
        let id = name::id(node, findings)?;
        if let Some((state, _)) = self.invocations.get(&id) {
            findings.error_with_help(
                code::REPEATED_ID,
                &node.span,
                format!("an invocation has the id {:?} already", cut(&id)),
                format!(
                    "it stands in {}; results are told apart by it",
                    self.outline.pointer(*state)
                ),
            );
        }
        self.spawned.entry(id.clone()).or_insert_with(|| findings.pointer().into());
        Some(id)
    }

    fn custom(
        &mut self,
        action: &Arc<str>,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) -> Option<ActionKind> {
        if !name::is_action(action) {
            self.not_an_action(action, fields, findings);
            return None;
        }
        let params = match fields.get("params") {
            Some(_) => fields.read("params", findings, params),
            None => Some(Mapping::constant(Value::Object(Default::default()))),
        };
        let options = self.task_options(action, fields, findings);
        Some(ActionKind::Custom { action: action.clone(), params: params?, options })
    }

    fn not_an_action(&self, action: &str, fields: &Fields<'_>, findings: &mut Findings) {
        let Some(node) = fields.get("type") else { return };
        let near = closest(action, fields::OWN_ACTIONS);
        let help = near.map(|near| format!("did you mean `{near}`?"));
        let message = format!(
            "the action {:?} must match [a-z][a-z0-9_]*(\\.[a-z0-9_]+)* and have at most 100 bytes",
            cut(action)
        );
        findings.at("type", |findings| findings.report(code::NAME, &node.span, message, help));
    }
}

fn assign(node: &Node, findings: &mut Findings) -> Option<ActionKind> {
    let fields = Fields::unchecked(node, "`params` of `assign`", findings)?;
    let sides = fields.members().iter().filter_map(|Member { key, value, .. }| {
        let side = findings.at(key, |findings| mapping(value, CONTEXT, findings))?;
        Some((key.clone(), side))
    });
    Some(ActionKind::Assign(sides.collect()))
}

fn cancel(node: &Node, findings: &mut Findings) -> Option<ActionKind> {
    let fields = Fields::of(node, "`params` of `cancel`", &fields::CANCEL, findings)?;
    let id = fields.require("id", findings, text_or_expression)?;
    Some(ActionKind::Cancel { id })
}

fn stop(node: &Node, findings: &mut Findings) -> Option<ActionKind> {
    let fields = Fields::of(node, "`params` of `stop`", &fields::STOP, findings)?;
    let id = fields.require("id", findings, name::id)?;
    Some(ActionKind::Stop { id })
}

fn send_spec(
    fields: &Fields<'_>,
    to: Option<Mapping>,
    delay: Option<Delay>,
    findings: &mut Findings,
) -> Option<SendSpec> {
    let outwards = fields.get("to").is_some();
    Some(SendSpec {
        to,
        event: fields
            .require("event", findings, |node, findings| event(node, outwards, findings))?,
        data: fields.read("data", findings, |node, findings| mapping(node, CONTEXT, findings)),
        delay,
        id: fields.read("id", findings, text_or_expression),
    })
}

/// The event of a `raise` or `send`. Those that the engine itself makes cannot be sent to others;
/// those of `pled.` cannot be made at all.
fn event(node: &Node, outwards: bool, findings: &mut Findings) -> Option<Mapping> {
    if let Some(text) = node.as_str() {
        name::event_type(text, &node.span, findings)?;
        if text.starts_with("pled.") || (outwards && name::is_reserved(text)) {
            findings.error_with_help(
                code::RESERVED_EVENT,
                &node.span,
                format!("the event {:?} is the engine's to make", cut(text)),
                "names that begin with `pled.`, `done.`, `error.` or `after.` are kept for it",
            );
        }
    }
    text_or_expression(node, findings)
}

/// Whom a `send` is for: `parent`, `child:<id>` or an execution.
fn receiver(node: &Node, findings: &mut Findings) -> Option<Mapping> {
    if let Some(text) = node.as_str() {
        let child = text.strip_prefix("child:").is_some_and(|id| !id.is_empty());
        if !child && text.parse::<ExecutionId>().is_err() {
            findings.error_with_help(
                code::NAME,
                &node.span,
                format!("{:?} is no receiver", cut(text)),
                "it is `parent`, `child:<id>`, or an execution's id as text or expression",
            );
        }
    }
    text_or_expression(node, findings)
}

/// A text as it stands, or an expression that gives one.
fn text_or_expression(node: &Node, findings: &mut Findings) -> Option<Mapping> {
    let members = match &node.kind {
        Kind::String(text) => return Some(Mapping::constant(Value::String(text.clone()))),
        Kind::Object(members) => members.as_slice(),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Array(_) => &[],
    };
    let [member] = members else {
        wrong_kind(node, "this must be a string or an expression", findings);
        return None;
    };
    if *member.key != *"$literal" {
        // A mapping takes an object without an operator for data; here there is no such.
        expression(node, CONTEXT, findings)?;
    }
    let mapping = mapping(node, CONTEXT, findings)?;
    if mapping.as_constant().is_some_and(|value| value.as_str().is_none()) {
        findings.error(code::KIND, &node.span, "this must give a string");
    }
    Some(mapping)
}
