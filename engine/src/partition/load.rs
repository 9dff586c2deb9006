//! How the newest entry of an execution is read and adopted.

use crate::entry::Cause;
use crate::execution::Execution;
use crate::id::TemplateSelector;
use crate::message::INPUTS;

use super::protocol::{Answer, Loaded, Output};
use super::slots::{Fold, Held, Job, Load, SlotId, Written, weigh_state};
use super::{Mutation, Partition, Pending};

/// How many template versions are kept at hand.
const TEMPLATES_MAX: usize = 256;

/// After how many readings that show less than was seen the partition is given up.
const OLDER_MAX: u32 = 20;

impl Partition {
    /// Reads the newest entry; `written` is what may have been stored meanwhile.
    pub(super) fn load(
        &mut self,
        at: SlotId,
        leader: bool,
        written: Option<Box<Written>>,
        out: &mut Vec<Output>,
    ) {
        let slot = &mut self.slots[at];
        if leader {
            slot.asked_leader = slot.queue.front().map(|front| (front.source, front.stream_seq));
        }
        if written.is_none() {
            slot.held = None;
        }
        slot.job = Job::Load(Load { leader, written });
        self.read_entry(at, out);
    }

    pub(super) fn read_entry(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let Job::Load(Load { leader, .. }) = &self.slots[at].job else { return };
        let leader = *leader;
        let execution = self.slots[at].id.clone();
        let op = self.expect(Pending::Load(at));
        self.stats.loads += 1;
        out.push(Output::ReadEntry { op, execution, leader });
    }

    pub(super) fn loaded(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Entry(newest) = answer else {
            return self.back_off(at, "its newest entry cannot be read", out);
        };
        let slot = &mut self.slots[at];
        let Job::Load(load) = &mut slot.job else { return };
        if newest.as_ref().map_or(0, |newest| newest.stream_seq) < slot.seen {
            return self.shows_less(at, out);
        }
        if let Some(written) = load.written.take()
            && self.found_written(at, written, newest.as_deref(), out)
        {
            return;
        }
        match newest {
            Some(newest) => self.found(at, newest, out),
            None => self.found_none(at, out),
        }
    }

    /// A replica is behind, or the leader has lost what was acknowledged.
    fn shows_less(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let slot = &mut self.slots[at];
        let Job::Load(load) = &mut slot.job else { return };
        if !load.leader {
            let written = load.written.take();
            return self.load(at, true, written, out);
        }
        if slot.attempts >= OLDER_MAX {
            let reason = format!(
                "the journal of {} shows less than was acknowledged: compare again",
                slot.id
            );
            return self.drop_whole(reason, out);
        }
        self.back_off(at, "the journal shows less than was acknowledged", out);
    }

    fn found_none(&mut self, at: SlotId, out: &mut Vec<Output>) {
        self.went_on(at);
        let trust = self.config.leaves_out(Mutation::TrustReplica);
        let slot = &mut self.slots[at];
        if trust {
            slot.asked_leader = slot.queue.front().map(|front| (front.source, front.stream_seq));
        }
        slot.held = Some(Held::unborn(slot.id.clone()));
        slot.job = Job::Idle;
        self.advance(at, out);
    }

    fn found(&mut self, at: SlotId, newest: Box<Loaded>, out: &mut Vec<Output>) {
        if newest.entry.epoch > self.epoch && !self.config.leaves_out(Mutation::EpochIgnored) {
            let reason = format!("epoch {} has written to the journal", newest.entry.epoch);
            return self.drop_whole(reason, out);
        }
        self.slots[at].seen = newest.stream_seq;
        if newest.entry.state.is_some() {
            return self.complete(at, newest, out);
        }
        if newest.entry.base.is_none() {
            self.slots[at].job = Job::Load(Load { leader: true, written: None });
            return self.back_off(at, "its newest entry carries neither state nor base", out);
        }
        self.slots[at].job = Job::Fold(Box::new(Fold { newest: *newest, before: Vec::new() }));
        self.read_entries(at, out);
    }

    /// The newest entry is there with the state after it.
    fn complete(&mut self, at: SlotId, newest: Box<Loaded>, out: &mut Vec<Output>) {
        if self.took_more_than_known(&newest) {
            self.slots[at].job = Job::Bounds(newest);
            return self.read_bounds(at, out);
        }
        self.adopt(at, newest, out);
    }

    /// Whether an entry took messages that lie beyond the known ends of the streams.
    fn took_more_than_known(&self, newest: &Loaded) -> bool {
        let Some(state) = &newest.entry.state else { return false };
        let taken = [state.taken.events, state.taken.signals, state.taken.timers];
        self.inputs.iter().zip(taken).any(|(input, (generation, seq))| {
            generation == input.generation() && seq > input.last()
        })
    }

    pub(super) fn read_bounds(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let op = self.expect(Pending::Bounds(at));
        out.push(Output::ReadStreams { op });
    }

    pub(super) fn bounds_answered(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Streams(streams) = answer else {
            return self.back_off(at, "the streams cannot be read", out);
        };
        let lasts = [streams.events.last, streams.signals.last, streams.timers.last];
        for (input, last) in self.inputs.iter_mut().zip(lasts) {
            input.reaches(last);
        }
        let Job::Bounds(newest) = std::mem::replace(&mut self.slots[at].job, Job::Idle) else {
            return;
        };
        if self.took_more_than_known(&newest) {
            let reason = format!(
                "entry {} of {} took messages beyond the end of their streams: acknowledged \
                 messages are lost; run `pled recover`",
                newest.entry.seq, newest.entry.execution
            );
            return self.halt(reason, out);
        }
        self.adopt(at, newest, out);
    }

    pub(super) fn read_entries(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let Job::Fold(fold) = &self.slots[at].job else { return };
        let Some(base) = fold.newest.entry.base else { return };
        if !fold.before.is_empty() {
            return self.fold(at, out);
        }
        let execution = self.slots[at].id.clone();
        let op = self.expect(Pending::Fold(at));
        out.push(Output::ReadEntries { op, execution, base });
    }

    pub(super) fn folded(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Entries(before) = answer else {
            return self.back_off(at, "the entries before its newest cannot be read", out);
        };
        let Job::Fold(fold) = &mut self.slots[at].job else { return };
        fold.before = before;
        self.fold(at, out);
    }

    /// Takes the steps from the base to the newest entry again.
    fn fold(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let Job::Fold(fold) = &mut self.slots[at].job else { return };
        let missing = fold
            .before
            .iter()
            .map(|loaded| &loaded.entry.template)
            .chain([&fold.newest.entry.template])
            .find(|template| !self.templates.contains_key(template));
        if let Some(template) = missing {
            let selector = TemplateSelector::from(template);
            return self.read_template_for_fold(at, selector, out);
        }
        let newest_seq = fold.newest.entry.seq;
        fold.before.retain(|loaded| loaded.entry.seq < newest_seq);
        match super::core::fold(fold, |reference| self.templates.get(reference).cloned()) {
            Ok(execution) => {
                let job = std::mem::replace(&mut self.slots[at].job, Job::Idle);
                if let Job::Fold(fold) = job {
                    let mut newest = Box::new(fold.newest);
                    newest.entry.state = Some(execution.state);
                    self.complete(at, newest, out);
                }
            }
            Err(reason) => {
                fold.before.clear();
                self.back_off(at, &reason, out);
            }
        }
    }

    fn read_template_for_fold(
        &mut self,
        at: SlotId,
        selector: TemplateSelector,
        out: &mut Vec<Output>,
    ) {
        let op = self.expect(Pending::Template(at));
        out.push(Output::ReadTemplate { op, selector });
    }

    /// Goes on from the newest entry, which is dispatched again first where it may not have been.
    fn adopt(&mut self, at: SlotId, newest: Box<Loaded>, out: &mut Vec<Output>) {
        self.went_on(at);
        let Loaded { stream_seq, mut entry } = *newest;
        let execution = Execution {
            id: entry.execution.clone(),
            seq: entry.seq,
            hash: entry.hash,
            at: entry.at,
            template: Some(entry.template.clone()),
            status: entry.status,
            state: entry.state.take().unwrap_or_default(),
        };
        let base = entry.base.unwrap_or(stream_seq);
        let template = self.templates.get(&entry.template).cloned();
        let weight = weigh_state(&execution.state);
        self.near.load(&execution, self.now.wall);
        self.slots[at].held =
            Some(Held { execution, stream_seq, base: Some(base), template, weight });
        let conflicted = self.slots[at].conflicted;
        self.slots[at].conflicted = false;
        let skips = self.config.leaves_out(Mutation::NoRedispatch)
            || conflicted && self.config.leaves_out(Mutation::NoConflictRedispatch);
        let is_done = entry.causes.iter().all(|cause| self.is_done(cause))
            && !self.config.leaves_out(Mutation::AlwaysRedispatch);
        if skips || is_done {
            self.slots[at].job = Job::Idle;
            return self.advance(at, out);
        }
        self.stats.redispatched += 1;
        self.answer_causes(at, &entry, out);
        self.dispatch(at, entry, 0, true, out);
    }

    fn is_done(&self, cause: &Cause) -> bool {
        let index = INPUTS.iter().position(|source| *source == cause.stream);
        index.is_none_or(|index| self.inputs[index].is_done(cause.generation, cause.stream_seq))
    }

    /// Finds the template of the execution: the one that it is pinned to, or that its start asks
    /// for.
    pub(super) fn find_template(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let slot = &mut self.slots[at];
        let Some(held) = &mut slot.held else { return };
        let selector = match &held.execution.template {
            Some(reference) => TemplateSelector::from(reference),
            None => match slot.queue.front().and_then(super::judge::start_of) {
                Some(selector) => selector.clone(),
                None => return,
            },
        };
        slot.job = Job::Template(selector);
        self.read_template(at, out);
    }

    pub(super) fn read_template(&mut self, at: SlotId, out: &mut Vec<Output>) {
        let Job::Template(selector) = &self.slots[at].job else { return };
        let selector = selector.clone();
        let op = self.expect(Pending::Template(at));
        out.push(Output::ReadTemplate { op, selector });
    }

    pub(super) fn template_answered(&mut self, at: SlotId, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Template(found) = answer else {
            return self.back_off(at, "its template cannot be read", out);
        };
        let (template, reason) = match found {
            Ok(Some(template)) => (Some(template), String::new()),
            Ok(None) => (None, "the template is not registered".to_owned()),
            Err(reason) => (None, reason),
        };
        if let Some(template) = &template {
            if self.templates.len() >= TEMPLATES_MAX {
                self.templates.clear();
            }
            self.templates.insert(template.reference(), template.clone());
        }
        let unborn = self.is_unborn(at);
        let slot = &mut self.slots[at];
        match (&slot.job, template) {
            (Job::Fold(_), Some(_)) => self.fold(at, out),
            (Job::Template(_), Some(template)) => {
                if let Some(held) = &mut slot.held {
                    held.template = Some(template);
                }
                slot.job = Job::Idle;
                self.went_on(at);
                self.advance(at, out);
            }
            (Job::Template(selector), None) if unborn => {
                let detail = format!("{selector}: {reason}");
                self.judge_no_template(at, detail, out);
            }
            (_, None) => self.back_off(at, &reason, out),
            (_, Some(_)) => {}
        }
    }

    fn is_unborn(&self, at: SlotId) -> bool {
        self.slots[at].held.as_ref().is_some_and(|held| held.execution.seq == 0)
    }
}
