//! The dispatch: what an entry says is done, each effect once, all at the same time but for what
//! has to keep its order.

use std::collections::BTreeMap;

use crate::effect::{EffectKind, TaskEffect};
use crate::entry::JournalEntry;
use crate::id::{ExecutionId, Token};
use crate::message::{ChildCancel, ChildStart, TaskOutcome, TaskResult};

use super::protocol::{Answer, Find, Output, Publish, Published, TaskMessage};
use super::slots::{Job, SlotId};
use super::{Mutation, Partition, Pending};

/// An entry that is being dispatched.
#[derive(Debug)]
pub(super) struct Dispatch {
    entry: JournalEntry,
    /// By the entry's effects.
    items: Vec<Item>,
    /// How many are not done.
    left: usize,
    /// How many waiting messages are done with it.
    messages: usize,
}

/// How far an effect is.
#[derive(Debug)]
struct Item {
    stage: Stage,
    in_flight: bool,
    /// The effect that must wait for this one.
    then: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What is told to the same execution goes first.
    Behind,
    /// Whether the task is there already.
    LookForTask,
    /// Whether its result is there already.
    LookForResult,
    Publish,
    Done,
}

impl Partition {
    /// Does what an entry says, the newest of its execution; then its `messages` are done. `again`:
    /// it may have been done before, in part or whole.
    pub(super) fn dispatch(
        &mut self,
        at: SlotId,
        entry: JournalEntry,
        messages: usize,
        again: bool,
        out: &mut Vec<Output>,
    ) {
        let looks = again && !self.config.leaves_out(Mutation::TaskWithoutLook);
        let items = self.items(at, &entry, looks);
        let left = items.iter().filter(|item| item.stage != Stage::Done).count();
        self.slots[at].job = Job::Dispatch(Box::new(Dispatch { entry, items, left, messages }));
        if left == 0 {
            self.dispatched(at, out);
        } else {
            self.issue_effects(at, out);
        }
    }

    fn items(&self, at: SlotId, entry: &JournalEntry, looks: bool) -> Vec<Item> {
        let slot = &self.slots[at];
        let timers = slot.held.as_ref().map(|held| &held.execution.state.timers);
        let mut items: Vec<Item> = Vec::with_capacity(entry.effects.len());
        let mut told: BTreeMap<&ExecutionId, usize> = BTreeMap::new();
        for (index, effect) in entry.effects.iter().enumerate() {
            let mut stage = Stage::Publish;
            match &effect.kind {
                EffectKind::Task(_) if looks => stage = Stage::LookForTask,
                EffectKind::Task(_) => {}
                // Advice that nothing depends on: a worker's late result is stale by its token.
                EffectKind::TaskCancel { .. } => stage = Stage::Done,
                // Set and taken back in the same entry: nothing to do, for either.
                EffectKind::TimerSet { timer, .. } => {
                    if !timers.is_some_and(|timers| timers.contains_key(timer)) {
                        stage = Stage::Done;
                    }
                }
                EffectKind::TimerCancel { timer } => {
                    if timer.entry == entry.seq {
                        stage = Stage::Done;
                    }
                }
                EffectKind::Send { to, .. } if *to == slot.id => stage = Stage::Done,
                EffectKind::Send { .. }
                | EffectKind::ChildStart(_)
                | EffectKind::ChildCancel { .. }
                | EffectKind::ChildDone { .. } => {}
            }
            if stage == Stage::Publish
                && let Some(target) = target(&effect.kind)
                && let Some(before) = told.insert(target, index)
                && !self.config.leaves_out(Mutation::SendsAtOnce)
            {
                items[before].then = Some(index);
                stage = Stage::Behind;
            }
            items.push(Item { stage, in_flight: false, then: None });
        }
        items
    }

    /// Puts out what is neither done, nor in flight, nor behind another.
    pub(super) fn issue_effects(&mut self, at: SlotId, out: &mut Vec<Output>) {
        if self.config.leaves_out(Mutation::AllEffectsAgain) {
            self.begin_again(at);
        }
        let Job::Dispatch(dispatch) = &self.slots[at].job else { return };
        for index in 0..dispatch.items.len() {
            self.issue_effect(at, index, out);
        }
    }

    /// Forgets which effects are done (the trap `AllEffectsAgain`).
    fn begin_again(&mut self, at: SlotId) {
        let Job::Dispatch(dispatch) = &self.slots[at].job else { return };
        if dispatch.items.iter().all(|item| !item.in_flight) {
            let items = self.items(at, &dispatch.entry, false);
            let left = items.iter().filter(|item| item.stage != Stage::Done).count();
            let Job::Dispatch(dispatch) = &mut self.slots[at].job else { return };
            dispatch.items = items;
            dispatch.left = left;
        }
    }

    fn issue_effect(&mut self, at: SlotId, index: usize, out: &mut Vec<Output>) {
        let slot = &mut self.slots[at];
        let Job::Dispatch(dispatch) = &mut slot.job else { return };
        let Dispatch { entry, items, .. } = &mut **dispatch;
        let (Some(item), Some(effect)) = (items.get_mut(index), entry.effects.get(index)) else {
            return;
        };
        if item.in_flight || matches!(item.stage, Stage::Done | Stage::Behind) {
            return;
        }
        item.in_flight = true;
        match (item.stage, &effect.kind) {
            (Stage::LookForTask, EffectKind::Task(task)) => {
                let find = find_task(&slot.id, task);
                let op = self.expect(Pending::Look(at, index));
                out.push(Output::Find { op, find });
            }
            (Stage::LookForResult, EffectKind::Task(task)) => {
                let find = find_result(&slot.id, task);
                let op = self.expect(Pending::Look(at, index));
                out.push(Output::Find { op, find });
            }
            (_, EffectKind::TimerSet { .. })
                if self.config.leaves_out(Mutation::TimerUnscheduled) =>
            {
                item.in_flight = false;
                self.effect_done(at, index, out);
            }
            (_, kind) => {
                let publish = publication(&slot.id, entry, index, kind);
                let op = self.expect(Pending::Effect(at, index));
                self.publish(Output::Publish { op, publish }, out);
            }
        }
    }

    pub(super) fn look_answered(
        &mut self,
        at: SlotId,
        index: usize,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        let Some(item) = self.item(at, index) else { return };
        item.in_flight = false;
        let Answer::Found(found) = answer else {
            return self.back_off(at, "its tasks cannot be looked for", out);
        };
        if found {
            return self.effect_done(at, index, out);
        }
        item.stage = match item.stage {
            Stage::LookForTask => Stage::LookForResult,
            Stage::LookForResult | Stage::Publish | Stage::Behind | Stage::Done => Stage::Publish,
        };
        self.issue_effect(at, index, out);
    }

    pub(super) fn effect_answered(
        &mut self,
        at: SlotId,
        index: usize,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        let Job::Dispatch(dispatch) = &mut self.slots[at].job else { return };
        let Dispatch { entry, items, .. } = &mut **dispatch;
        let (Some(item), Some(effect)) = (items.get_mut(index), entry.effects.get(index)) else {
            return;
        };
        item.in_flight = false;
        let Answer::Published(published) = answer else {
            return self.back_off(at, "an effect of it is not answered", out);
        };
        match (published, &effect.kind) {
            (Published::Stored { .. }, _) => self.effect_done(at, index, out),
            // Tasks and signals are there already; a timer to take back is gone already.
            (
                Published::Conflict { .. },
                EffectKind::Task(_)
                | EffectKind::Send { .. }
                | EffectKind::ChildStart(_)
                | EffectKind::ChildCancel { .. }
                | EffectKind::ChildDone { .. }
                | EffectKind::TimerCancel { .. },
            ) => self.effect_done(at, index, out),
            (Published::Conflict { .. }, _) => self.back_off(at, "a timer of it is refused", out),
            (Published::Unknown, _) if self.config.leaves_out(Mutation::UnknownIsDone) => {
                self.effect_done(at, index, out);
            }
            // It may have been worked on already, so it is looked for first.
            (Published::Unknown, EffectKind::Task(_)) => {
                item.stage = Stage::LookForTask;
                self.back_off(at, "a task of it is not answered", out);
            }
            (Published::Unknown, _) => self.back_off(at, "an effect of it is not answered", out),
            (Published::Full, _) if self.config.leaves_out(Mutation::FullIsDone) => {
                self.effect_done(at, index, out);
            }
            (Published::Full, _) => self.back_off(at, "the stream of its effects is full", out),
            (Published::TooLarge, _) => {
                self.back_off(at, "an effect of it is larger than the server takes", out);
            }
            (Published::Refused(why), _) => {
                self.back_off(at, &format!("an effect of it is refused: {why}"), out);
            }
        }
    }

    fn item(&mut self, at: SlotId, index: usize) -> Option<&mut Item> {
        let Job::Dispatch(dispatch) = &mut self.slots[at].job else { return None };
        dispatch.items.get_mut(index)
    }

    fn effect_done(&mut self, at: SlotId, index: usize, out: &mut Vec<Output>) {
        let slot = &mut self.slots[at];
        let Job::Dispatch(dispatch) = &mut slot.job else { return };
        let (Some(item), Some(effect)) =
            (dispatch.items.get_mut(index), dispatch.entry.effects.get(index))
        else {
            return;
        };
        item.stage = Stage::Done;
        let then = item.then;
        dispatch.left -= 1;
        match &effect.kind {
            EffectKind::Task(_) => self.stats.tasks += 1,
            // Only now: a firing that comes before the schedule would not take it back.
            EffectKind::TimerSet { timer, due } => self.near.insert(*due, &slot.id, *timer),
            EffectKind::TaskCancel { .. }
            | EffectKind::TimerCancel { .. }
            | EffectKind::Send { .. }
            | EffectKind::ChildStart(_)
            | EffectKind::ChildCancel { .. }
            | EffectKind::ChildDone { .. } => {}
        }
        if let Some(then) = then {
            if let Some(next) = dispatch.items.get_mut(then) {
                next.stage = Stage::Publish;
            }
            self.issue_effect(at, then, out);
        } else if dispatch.left == 0 {
            self.dispatched(at, out);
        }
    }

    /// All that the entry says is done, so are the messages that it took.
    fn dispatched(&mut self, at: SlotId, out: &mut Vec<Output>) {
        self.went_on(at);
        let job = std::mem::replace(&mut self.slots[at].job, Job::Idle);
        if let Job::Dispatch(dispatch) = job
            && dispatch.messages > 0
        {
            self.done(at, dispatch.messages);
        }
        self.advance(at, out);
    }
}

/// The execution that an effect tells something.
fn target(kind: &EffectKind) -> Option<&ExecutionId> {
    match kind {
        EffectKind::Send { to, .. } => Some(to),
        EffectKind::ChildStart(start) => Some(&start.child),
        EffectKind::ChildCancel { child, .. } => Some(child),
        EffectKind::ChildDone { parent, .. } => Some(parent),
        EffectKind::Task(_)
        | EffectKind::TaskCancel { .. }
        | EffectKind::TimerSet { .. }
        | EffectKind::TimerCancel { .. } => None,
    }
}

fn find_task(execution: &ExecutionId, task: &TaskEffect) -> Find {
    Find::Task {
        execution: execution.clone(),
        queue: task.queue.clone(),
        task: task.task,
        attempt: task.attempt,
    }
}

fn find_result(execution: &ExecutionId, task: &TaskEffect) -> Find {
    Find::Result { execution: execution.clone(), task: task.task, attempt: task.attempt }
}

fn publication(
    execution: &ExecutionId,
    entry: &JournalEntry,
    index: usize,
    kind: &EffectKind,
) -> Publish {
    let execution = execution.clone();
    let token = Token { entry: entry.seq, index: u32::try_from(index).unwrap_or(u32::MAX) };
    match kind {
        EffectKind::Task(effect) => Publish::Task(Box::new(TaskMessage {
            execution,
            template: entry.template.clone(),
            effect: effect.clone(),
            at: entry.at,
        })),
        EffectKind::TimerSet { timer, due } => {
            Publish::TimerSet { execution, timer: *timer, due: *due }
        }
        EffectKind::TimerCancel { timer } | EffectKind::TaskCancel { task: timer, .. } => {
            Publish::TimerCancel { execution, timer: *timer }
        }
        EffectKind::Send { to, event, data } => Publish::Send {
            sender: execution,
            token,
            to: to.clone(),
            event: event.clone(),
            data: data.clone(),
        },
        EffectKind::ChildStart(effect) => Publish::ChildStart {
            child: effect.child.clone(),
            start: Box::new(ChildStart {
                parent: execution,
                token,
                task: effect.task,
                attempt: effect.attempt,
                depth: effect.depth,
                template: (&effect.template).into(),
                input: effect.input.clone(),
            }),
        },
        EffectKind::ChildCancel { child, task, attempt } => Publish::ChildCancel {
            child: child.clone(),
            cancel: ChildCancel { parent: execution, token, task: *task, attempt: *attempt },
        },
        EffectKind::ChildDone { parent, task, attempt, output, error } => Publish::ChildDone {
            parent: parent.clone(),
            result: TaskResult {
                task: *task,
                attempt: *attempt,
                outcome: match error {
                    Some(error) => TaskOutcome::Failed(error.clone()),
                    None => TaskOutcome::Ok(output.clone()),
                },
            },
        },
    }
}
