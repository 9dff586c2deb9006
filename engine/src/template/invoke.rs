//! Invocations, and how tasks are handed out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compile::{CONTEXT, Compiler, expression, mapping};
use super::diagnostic::Findings;
use super::document::{Kind, Node};
use super::reader::{Fields, array, cut, integer, one_of, string, wrong_kind};
use super::{
    Compensation, DELAY_MS_MAX, Descriptors, Each, Invoke, InvokeSource, Queue, StateIndex,
    TaskOptions, code, fields, name,
};
use crate::effect::Timeouts;
use crate::execution::Retry;
use crate::expression::Roots;
use crate::json::{Number, VALUE_DEPTH_MAX};
use crate::value::Value;

impl Compiler<'_, '_> {
    /// Reads the field `invoke` of a state.
    pub(super) fn invokes(
        &mut self,
        state: StateIndex,
        node: &Node,
        on: &mut Descriptors,
        findings: &mut Findings,
    ) -> Vec<Invoke> {
        let mut invokes = Vec::new();
        let Some(elements) = node.elements() else {
            invokes.extend(self.invoke(state, 0, node, on, findings));
            return invokes;
        };
        for (index, element) in elements.iter().enumerate() {
            invokes.extend(
                findings.at(index, |findings| self.invoke(state, index, element, on, findings)),
            );
        }
        invokes
    }

    fn invoke(
        &mut self,
        state: StateIndex,
        index: usize,
        node: &Node,
        on: &mut Descriptors,
        findings: &mut Findings,
    ) -> Option<Invoke> {
        let fields = Fields::of(node, "an invocation", &fields::INVOKE, findings)?;
        let id = self.invocation_id(state, index, &fields, node, findings);
        let source = fields.require("src", findings, invoke_source);
        let options = self.invoke_options(source.as_ref(), &fields, findings);
        let each = fields.read("each", findings, each);
        let roots = Roots { item: fields.get("each").is_some(), ..CONTEXT };
        let input = fields.read("input", findings, |node, findings| mapping(node, roots, findings));
        let compensate =
            fields.read("compensate", findings, |node, findings| self.compensation(node, findings));
        let done_event: Arc<str> = format!("done.invoke.{id}").into();
        let error_event: Arc<str> = format!("error.invoke.{id}").into();
        for (key, event) in [("onDone", &done_event), ("onError", &error_event)] {
            let transitions = fields.read(key, findings, |node, findings| {
                Some(self.transitions(state, node, findings))
            });
            on.add(event.clone(), transitions.unwrap_or_default());
        }
        Some(Invoke {
            pointer: findings.pointer().into(),
            id,
            source: source?,
            input,
            options,
            each,
            compensate,
            done_event,
            error_event,
        })
    }

    /// The invocation's id, unique in the template. Without one it is its place in the list and the
    /// state's id, as in XState.
    fn invocation_id(
        &mut self,
        state: StateIndex,
        index: usize,
        fields: &Fields<'_>,
        node: &Node,
        findings: &mut Findings,
    ) -> Arc<str> {
        let default = || Arc::from(format!("{index}.{}", self.outline.place(state).id));
        let id = fields.read("id", findings, name::id).unwrap_or_else(default);
        let other = match (self.invocations.get(&id), self.spawned.get(&id)) {
            (Some((first, _)), _) => Some(self.outline.pointer(*first)),
            (None, Some(spawn)) => Some(spawn.to_string()),
            (None, None) => None,
        };
        let Some(other) = other else {
            self.invocations.insert(id.clone(), (state, index));
            return id;
        };
        let span = &fields.get("id").unwrap_or(node).span;
        let message = format!("the invocation id {:?} stands twice", cut(&id));
        let help = format!("{other} has it already; results are told apart by it, so it is unique");
        findings.at("id", |findings| {
            findings.error_with_help(code::REPEATED_ID, span, message, help);
        });
        id
    }

    fn invoke_options(
        &mut self,
        source: Option<&InvokeSource>,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) -> TaskOptions {
        match source {
            Some(InvokeSource::Action(action)) => self.task_options(action, fields, findings),
            Some(InvokeSource::Template(template)) => {
                self.children.insert(template.clone());
                if let Some(queue) = fields.get("queue") {
                    findings.at("queue", |findings| {
                        findings.error(
                            code::CONTRADICTION,
                            &queue.span,
                            "a child execution is not handed to workers, so it has no queue",
                        );
                    });
                }
                let timeout = fields.read("timeout", findings, timeouts).unwrap_or_default();
                for (key, is_set) in [
                    ("schedule_to_start_ms", timeout.schedule_to_start_ms.is_some()),
                    ("heartbeat_ms", timeout.heartbeat_ms.is_some()),
                ] {
                    if let Some(node) = fields.get("timeout").filter(|_| is_set) {
                        findings.at("timeout", |findings| {
                            findings.error(
                                code::CONTRADICTION,
                                &node.get(key).unwrap_or(node).span,
                                format!("no worker takes a child execution, so it has no `{key}`"),
                            );
                        });
                    }
                }
                TaskOptions {
                    retry: fields.read("retry", findings, retry),
                    timeout,
                    meta: fields.read("meta", findings, meta).unwrap_or_default(),
                    ..TaskOptions::default()
                }
            }
            None => TaskOptions::default(),
        }
    }

    /// How tasks of `action` are handed out.
    pub(super) fn task_options(
        &mut self,
        action: &Arc<str>,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) -> TaskOptions {
        let own_retry = fields.read("retry", findings, retry);
        let options = TaskOptions {
            queue: fields
                .read("queue", findings, |node, findings| name::action(node, "queue", findings)),
            retry: own_retry.or_else(|| self.retry.clone()),
            timeout: fields.read("timeout", findings, timeouts).unwrap_or_default(),
            meta: fields.read("meta", findings, meta).unwrap_or_default(),
            id: if action_has_id(fields) { fields.read("id", findings, name::id) } else { None },
        };
        self.use_queue(action, &options, fields, findings);
        options
    }

    /// Notes that tasks of `action` go to a queue. The heartbeat is a setting of the queue's
    /// consumer, so one queue has one.
    fn use_queue(
        &mut self,
        action: &Arc<str>,
        options: &TaskOptions,
        fields: &Fields<'_>,
        findings: &mut Findings,
    ) {
        let name = options.queue.as_ref().unwrap_or(action);
        let queue = self.queues.entry(name.clone()).or_insert_with(|| Queue {
            name: name.clone(),
            actions: BTreeSet::new(),
            heartbeat_ms: None,
        });
        queue.actions.insert(action.clone());
        let Some(heartbeat) = options.timeout.heartbeat_ms else { return };
        let other = *queue.heartbeat_ms.get_or_insert(heartbeat);
        if other == heartbeat {
            return;
        }
        if let Some(node) = fields.get("timeout") {
            let span = &node.get("heartbeat_ms").unwrap_or(node).span;
            let message = format!("the queue `{name}` has a heartbeat of {other} ms elsewhere");
            let help = "a heartbeat belongs to the queue: give this one another `queue`, or the \
                        same value";
            findings.at("timeout", |findings| {
                findings.at("heartbeat_ms", |findings| {
                    findings.error_with_help(code::HEARTBEAT, span, message, help);
                });
            });
        }
    }

    fn compensation(&mut self, node: &Node, findings: &mut Findings) -> Option<Compensation> {
        let fields = Fields::of(node, "a compensation", &fields::COMPENSATION, findings)?;
        let action = fields
            .require("src", findings, |node, findings| name::action(node, "action", findings))?;
        Some(Compensation {
            input: fields
                .read("input", findings, |node, findings| mapping(node, CONTEXT, findings)),
            options: self.task_options(&action, &fields, findings),
            action,
        })
    }
}

/// Whether `fields` are those of an action in a list, whose `id` is a name for people, and not of
/// an invocation.
fn action_has_id(fields: &Fields<'_>) -> bool {
    fields.get("type").is_some()
}

fn invoke_source(node: &Node, findings: &mut Findings) -> Option<InvokeSource> {
    let text = string(node, findings)?;
    if let Some(template) = text.strip_prefix("template:") {
        return name::template_ref(template, &node.span, findings).map(InvokeSource::Template);
    }
    name::action(node, "action", findings).map(InvokeSource::Action)
}

fn each(node: &Node, findings: &mut Findings) -> Option<Each> {
    let fields = Fields::of(node, "`each`", &fields::EACH, findings)?;
    let concurrency =
        fields.read("concurrency", findings, |node, findings| integer(node, 1..=10_000, findings));
    let collect = fields.read("on_failure", findings, |node, findings| {
        one_of(node, &[("cancel", false), ("collect", true)], findings)
    });
    Some(Each {
        over: fields
            .require("in", findings, |node, findings| expression(node, CONTEXT, findings))?,
        concurrency: concurrency.and_then(|int| u32::try_from(int).ok()),
        collect: collect.unwrap_or(false),
    })
}

/// Data that a task carries for people.
fn meta(node: &Node, findings: &mut Findings) -> Option<Value> {
    let value = node.to_value();
    if value.is_deeper_than(VALUE_DEPTH_MAX) {
        let message = format!("`meta` is nested deeper than {VALUE_DEPTH_MAX}");
        findings.error(code::VALUE_DEPTH, &node.span, message);
    }
    Some(value)
}

/// Reads a `retry`. What it does not say has the built-in default.
pub(super) fn retry(node: &Node, findings: &mut Findings) -> Option<Retry> {
    let fields = Fields::of(node, "`retry`", &fields::RETRY, findings)?;
    let max_attempts = fields
        .require("max_attempts", findings, |node, findings| integer(node, 1..=10_000, findings));
    let interval = |node: &Node, findings: &mut Findings| integer(node, 0..=DELAY_MS_MAX, findings);
    let initial = fields.read("initial_interval_ms", findings, interval).unwrap_or(1_000);
    let longest = fields.read("max_interval_ms", findings, interval);
    if let (Some(longest), Some(node)) = (longest, fields.get("max_interval_ms"))
        && longest < initial
    {
        let message = format!("the longest pause is shorter than the first, {initial} ms");
        findings.at("max_interval_ms", |findings| {
            findings.error(code::CONTRADICTION, &node.span, message);
        });
    }
    Some(Retry {
        max_attempts: u32::try_from(max_attempts?).ok()?,
        initial_interval_ms: initial,
        backoff: fields.read("backoff", findings, backoff).unwrap_or(2.0),
        max_interval_ms: longest.unwrap_or(initial.max(60_000)),
        non_retryable: fields.read("non_retryable", findings, codes).unwrap_or_default(),
    })
}

fn backoff(node: &Node, findings: &mut Findings) -> Option<f64> {
    let factor = match node.kind {
        Kind::Number(Number::Int(int)) => i32::try_from(int).ok().map(f64::from),
        Kind::Number(Number::Float(float)) => Some(float),
        Kind::Null | Kind::Bool(_) | Kind::String(_) | Kind::Array(_) | Kind::Object(_) => {
            wrong_kind(node, "this must be a number from 1 to 1000", findings);
            return None;
        }
    };
    let factor = factor.filter(|factor| (1.0..=1_000.0).contains(factor));
    if factor.is_none() {
        findings.error(code::VALUE, &node.span, "this must be a number from 1 to 1000");
    }
    factor
}

fn codes(node: &Node, findings: &mut Findings) -> Option<Vec<Arc<str>>> {
    let elements = array(node, "`non_retryable`", findings)?.iter().enumerate();
    Some(
        elements
            .filter_map(|(index, element)| findings.at(index, |findings| string(element, findings)))
            .collect(),
    )
}

fn timeouts(node: &Node, findings: &mut Findings) -> Option<Timeouts> {
    let fields = Fields::of(node, "`timeout`", &fields::TIMEOUT, findings)?;
    let mut read = |key| {
        fields.read(key, findings, |node, findings| integer(node, 1..=DELAY_MS_MAX, findings))
    };
    Some(Timeouts {
        schedule_to_start_ms: read("schedule_to_start_ms"),
        start_to_close_ms: read("start_to_close_ms"),
        schedule_to_close_ms: read("schedule_to_close_ms"),
        heartbeat_ms: read("heartbeat_ms"),
    })
}
