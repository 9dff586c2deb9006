//! What can only be told once everything was read: nothing is lost, nothing hangs.

use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::{Millis, Source};
use pled_streams::partition_of;

use super::invariant::{Invariant, Report, Violation};
use super::life::{Life, name_of};
use super::{Acknowledged, Awaited, Checker, ChildOf, Fate, Kind, Retained};

/// How long PLED_DEAD keeps a record: of what is older nothing can be told from it.
const DEAD_KEPT: Millis = 14 * 24 * 3_600_000;

impl Checker {
    /// What was found, once all records were taken.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.positions_lie_in_their_streams();
        let pending = self.inputs_are_accounted_for();
        self.tasks_are_there();
        self.timers_will_fire();
        self.sends_are_there();
        self.children_are_there();
        self.snapshots_are_not_ahead();
        self.acknowledged_are_accounted_for();
        if self.options.settled {
            self.nothing_is_left(pending);
        }
        let executions = u64::try_from(self.lives.len()).unwrap_or(u64::MAX);
        self.findings.checked(Invariant::D1, self.aside.records);
        let incomplete = match self.end {
            None => Some("the last line is missing: the export is cut".to_owned()),
            Some(messages) if messages != self.messages => Some(format!(
                "the last line tells of {messages} messages, {} are there",
                self.messages
            )),
            Some(_) => None,
        };
        let lines = self.findings.lines();
        let clean = incomplete.is_none() && lines.iter().all(|line| line.violations == 0);
        Report {
            clean,
            incomplete,
            executions,
            entries: self.entries,
            not_replayed: self.not_replayed,
            pending,
            lines,
            violations: self.findings.into_told(),
        }
    }

    fn report(&mut self, invariant: Invariant, at: Option<(&ExecutionId, u64)>, what: String) {
        self.findings.found(Violation {
            invariant,
            execution: at.map(|(execution, _)| execution.clone()),
            entry: at.map(|(_, entry)| entry).filter(|entry| *entry > 0),
            what,
        });
    }

    fn positions_lie_in_their_streams(&mut self) {
        let mut wrong = Vec::new();
        let mut checked = 0;
        for partition in 0..self.header.partitions {
            let Some(position) = self.positions.get(&("engine".to_owned(), partition)) else {
                wrong.push(format!("partition {partition} has no position"));
                continue;
            };
            checked += 1;
            let streams = &self.header.streams;
            for (input, at) in &position.inputs {
                let Some(place) = streams.get(&input.to_ascii_uppercase()) else { continue };
                if at.generation != place.generation {
                    wrong.push(format!(
                        "partition {partition}: the position knows generation {} of {input}, the \
                         stream is of {}",
                        at.generation, place.generation
                    ));
                } else if at.next > place.last + 1 {
                    wrong.push(format!(
                        "partition {partition}: {input} are done up to {}, the stream ends at {}",
                        at.next - 1,
                        place.last
                    ));
                }
            }
            if let Some(journal) = streams.get("JOURNAL")
                && position.journal > journal.last
            {
                wrong.push(format!(
                    "partition {partition}: entry {} was acknowledged, PLED_JOURNAL ends at {}",
                    position.journal, journal.last
                ));
            }
        }
        self.findings.checked(Invariant::P1, checked);
        wrong.into_iter().for_each(|what| self.report(Invariant::P1, None, what));
    }

    /// Whether the position said that a message was done, before anything else was read.
    pub(crate) fn is_done(
        &self,
        execution: &ExecutionId,
        source: Source,
        generation: Option<u64>,
        seq: u64,
    ) -> bool {
        let partition = partition_of(execution, self.header.partitions);
        let position = self.positions.get(&("engine".to_owned(), partition));
        let Some(input) = position.and_then(|position| position.inputs.get(name_of(source))) else {
            return false;
        };
        generation.is_some_and(|generation| generation < input.generation)
            || seq < input.next && !input.open.contains(&seq)
    }

    /// Whether what an entry says was dispatched before anything else was read.
    fn is_dispatched(&self, execution: &ExecutionId, life: &Life, entry: u64) -> bool {
        entry < life.seq
            || life.newest.iter().all(|(source, generation, seq)| {
                self.is_done(execution, *source, Some(*generation), *seq)
            })
    }

    fn inputs_are_accounted_for(&mut self) -> u64 {
        let mut wrong = Vec::new();
        let (mut pending, mut checked) = (0, 0);
        for source in [Source::Events, Source::Signals, Source::Timers] {
            for (seq, held) in self.inputs.of(source) {
                let done = match &held.execution {
                    Some(execution) => self.is_done(execution, source, None, seq),
                    None => held.fate != Fate::Open || self.all_are_past(source, seq),
                };
                checked += 1;
                if !done {
                    pending += u64::from(held.fate == Fate::Open);
                } else if held.fate == Fate::Open
                    && let Some(why) = self.unexplained(held)
                {
                    let at = held.execution.clone().map(|execution| (execution, 0));
                    wrong.push((at, format!("{} {seq} {why}", name_of(source))));
                }
            }
        }
        self.findings.checked(Invariant::E4, checked);
        for (at, what) in wrong {
            let at = at.as_ref().map(|(execution, entry)| (execution, *entry));
            self.report(Invariant::E4, at, what);
        }
        pending
    }

    fn all_are_past(&self, source: Source, seq: u64) -> bool {
        let inputs = self.positions.iter().filter(|((kind, _), _)| kind == "engine");
        inputs
            .filter_map(|(_, position)| position.inputs.get(name_of(source)))
            .all(|input| seq < input.next && !input.open.contains(&seq))
    }

    /// Why a message that is done, is no cause and was not set aside should not be so; `None` where
    /// nothing had to come of it.
    pub(crate) fn unexplained(&self, held: &Retained) -> Option<String> {
        let lost =
            |what: &str| Some(format!("{what} is done, taken by no entry and not set aside"));
        let Some(execution) = &held.execution else { return lost("(no message)") };
        let life = self.lives.get(execution);
        let ended = life.is_some_and(|life| life.status.is_terminal());
        match &held.kind {
            Kind::Start if life.is_some() => None,
            Kind::Start => lost("(a start)"),
            Kind::Event { .. } if ended => None,
            Kind::Event { emitted: Some((sender, seq, index)), .. }
                if life
                    .and_then(|it| it.last_of(sender))
                    .is_some_and(|it| (*seq, *index) <= it) =>
            {
                None
            }
            Kind::Event { .. } => lost("(an event)"),
            Kind::Result { task, attempt } => {
                let awaited = life.is_some_and(|life| {
                    life.knows_state && life.tasks.contains(&(*task, *attempt))
                });
                awaited.then(|| {
                    format!(
                        "(the result of attempt {attempt} of {task}) is done, and the task waits"
                    )
                })
            }
            Kind::Send { .. } if ended => None,
            Kind::Send { sender, token }
                if life
                    .and_then(|life| life.last_of(sender.as_str()))
                    .is_some_and(|last| (token.entry, u64::from(token.index)) <= last) =>
            {
                None
            }
            Kind::Send { .. } => lost("(a send)"),
            // A repeat, or refused by its partition, of which the parent was told.
            Kind::ChildStart { parent, token } => {
                let waits = self.lives.get(parent).is_some_and(|parent| {
                    parent.knows_state && parent.children.iter().any(|it| it.start == *token)
                });
                let was_told = self.lives.get(parent).is_some_and(|it| {
                    let child = it.children.iter().find(|it| it.start == *token);
                    child.is_some_and(|it| self.inputs.has_end(parent, it.task, it.attempt))
                });
                let is_its = life.is_some_and(|life| life.is_child_of(parent));
                (waits && !was_told && !is_its)
                    .then(|| "(the start of a child) is done, and the parent waits".to_owned())
            }
            Kind::ChildDone { task, attempt } => {
                let waits = life.is_some_and(|life| {
                    let is_it = |it: &Awaited| (it.task, it.attempt) == (*task, *attempt);
                    life.knows_state && life.children.iter().any(is_it)
                });
                waits
                    .then(|| format!("(the end of the child {task}) is done, and the parent waits"))
            }
            Kind::Fired { timer } => {
                let waits = life.is_some_and(|life| {
                    life.knows_state && life.timers.iter().any(|(set, _)| set == timer)
                });
                waits.then(|| format!("(the timer {timer}) is done, and the timer is still set"))
            }
            Kind::Started { .. } | Kind::ChildCancel { .. } | Kind::FiredEarly { .. } => None,
            Kind::Malformed => lost("(no message)"),
        }
    }

    fn tasks_are_there(&mut self) {
        let mut wrong = Vec::new();
        let mut checked = 0;
        for (id, life) in &self.lives {
            for (task, attempt) in life.tasks.iter().filter(|_| life.knows_state) {
                checked += 1;
                let key = (id.clone(), *task, *attempt);
                let is_there = self.tasks.contains_key(&key)
                    || self.inputs.has_result(id, *task, *attempt)
                    || !self.is_dispatched(id, life, life.seq);
                if !is_there {
                    let what =
                        format!("attempt {attempt} of {task} waits, and no worker can get it");
                    wrong.push((id.clone(), life.seq, what));
                }
            }
        }
        for ((id, task, attempt), intended) in &self.tasks {
            checked += 1;
            if !intended {
                let what = format!("PLED_TASKS holds attempt {attempt} of {task}, of no entry");
                wrong.push((id.clone(), 0, what));
            }
        }
        self.findings.checked(Invariant::A1, checked);
        for (id, entry, what) in wrong {
            self.report(Invariant::A1, Some((&id, entry)), what);
        }
    }

    fn timers_will_fire(&mut self) {
        let mut wrong = Vec::new();
        let mut checked = 0;
        for (id, life) in self.lives.iter().filter(|(_, life)| life.knows_state) {
            for (timer, due) in &life.timers {
                checked += 1;
                let is_there = self.schedules.contains(&(id.clone(), *timer))
                    || self.inputs.has_fired(id, *timer)
                    || !self.is_dispatched(id, life, timer.entry);
                if !is_there {
                    let what = format!("the timer {timer}, due at {due}, is set nowhere");
                    wrong.push((id.clone(), life.seq, what));
                }
            }
        }
        self.findings.checked(Invariant::T2, checked);
        for (id, entry, what) in wrong {
            self.report(Invariant::T2, Some((&id, entry)), what);
        }
    }

    fn sends_are_there(&mut self) {
        let lost: Vec<(ExecutionId, Token, ExecutionId)> = self
            .outstanding_sends()
            .filter(|(sender, token, _)| !self.inputs.has_send(sender, *token))
            .map(|(sender, token, to)| (sender.clone(), token, to.clone()))
            .collect();
        for (sender, token, to) in lost {
            let what = format!("effect {} for {to} arrived nowhere", token.index);
            self.report(Invariant::M1, Some((&sender, token.entry)), what);
        }
    }

    /// What a parent waits for was started; where that has ended, the parent will hear of it.
    fn children_are_there(&mut self) {
        let mut wrong = Vec::new();
        let mut checked = [0, 0];
        for (id, life) in self.lives.iter().filter(|(_, life)| life.knows_state) {
            for Awaited { child, task, attempt, start } in &life.children {
                if self.inputs.has_end(id, *task, *attempt) {
                    continue;
                }
                let of = ChildOf { parent: id.clone(), task: *task, attempt: *attempt };
                match self.lives.get(child).filter(|child| child.parent.as_ref() == Some(&of)) {
                    None => {
                        checked[0] += 1;
                        let is_on_its_way = self.inputs.has_start(id, *start)
                            || !self.is_dispatched(id, life, start.entry);
                        if !is_on_its_way {
                            let what = format!("{id} waits for this child, which was not started");
                            wrong.push((Invariant::C1, child.clone(), 0, what));
                        }
                    }
                    Some(ended) if ended.status.is_terminal() => {
                        checked[1] += 1;
                        if self.is_dispatched(child, ended, ended.seq) {
                            let what = format!("it has ended, and {id} waits for it");
                            wrong.push((Invariant::C2, child.clone(), ended.seq, what));
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        self.findings.checked(Invariant::C1, checked[0]);
        self.findings.checked(Invariant::C2, checked[1]);
        for (invariant, id, entry, what) in wrong {
            self.report(invariant, Some((&id, entry)), what);
        }
    }

    /// Sends that were dispatched and whose target can still take them, and did not.
    fn outstanding_sends(&self) -> impl Iterator<Item = (&ExecutionId, Token, &ExecutionId)> {
        let newest = self.lives.values().map(Life::at).max().unwrap_or_default();
        self.unsettled_sends().filter_map(move |(sender, token, to)| {
            let life = self.lives.get(sender)?;
            let is_forgotten = !self.lives.contains_key(to) && life.at() < newest - DEAD_KEPT;
            let is_on_its_way = !self.is_dispatched(sender, life, token.entry);
            (!is_forgotten && !is_on_its_way).then_some((sender, token, to))
        })
    }

    /// Sends that did not arrive, were not set aside, and whose target has not ended.
    pub(crate) fn unsettled_sends(
        &self,
    ) -> impl Iterator<Item = (&ExecutionId, Token, &ExecutionId)> {
        self.sends.iter().filter_map(|((sender, token), to)| {
            let target = self.lives.get(to);
            let is_over = target.is_some_and(|target| target.status.is_terminal());
            let is_aside = self.aside.sends.contains(&(sender.clone(), *token));
            (!is_over && !is_aside).then_some((sender, *token, to))
        })
    }

    fn snapshots_are_not_ahead(&mut self) {
        let ahead: Vec<_> = self
            .snapshots
            .iter()
            .filter_map(|(id, (seq, _))| {
                let newest = self.lives.get(id).map_or(0, |life| life.seq);
                (newest < *seq).then(|| {
                    (
                        id.clone(),
                        newest,
                        format!("its snapshot is of entry {seq}, the last is {newest}"),
                    )
                })
            })
            .collect();
        for (id, entry, what) in ahead {
            self.report(Invariant::S1, Some((&id, entry)), what);
        }
    }

    fn acknowledged_are_accounted_for(&mut self) {
        self.client_log.account_for_repeats();
        let lines = std::mem::take(&mut self.client_log.lines);
        self.findings.checked(Invariant::E1, u64::try_from(lines.len()).unwrap_or(u64::MAX));
        for (line, accounted) in lines {
            if !accounted && !self.is_known(&line) {
                let what = lost(&line);
                let at = line.execution.as_ref().map(|execution| (execution, 0));
                self.report(Invariant::E1, at, what);
            }
        }
    }

    /// Whether something else than an entry or a record says what became of an event.
    fn is_known(&self, line: &Acknowledged) -> bool {
        let seq = line.stream_seq;
        let Some(execution) = line.execution.as_ref() else {
            // A raw event of which no rule made anything, or that waits for its rule.
            let waits = self.positions.iter().any(|((kind, _), position)| {
                let input = position.inputs.get("ingest");
                kind == "rules" && input.is_none_or(|it| seq >= it.next || it.open.contains(&seq))
            });
            return waits;
        };
        if let Some(held) = self.inputs.get(Source::Events, seq)
            && held.execution.as_ref() == Some(execution)
        {
            let done = self.is_done(execution, Source::Events, None, seq);
            return !done || held.fate != Fate::Open || self.unexplained(held).is_none();
        }
        let Some(life) = self.lives.get(execution) else { return false };
        let is_start = line.event_type.as_deref() == Some("pled.init");
        let came_late = life.status.is_terminal() && life.last_taken(Source::Events).1 < seq;
        is_start || came_late
    }

    fn nothing_is_left(&mut self, pending: u64) {
        let executions = u64::try_from(self.lives.len()).unwrap_or(u64::MAX);
        self.findings.checked(Invariant::V1, executions);
        if pending > 0 {
            self.report(Invariant::V1, None, format!("{pending} inputs are not done"));
        }
        let mut wrong: Vec<_> = Vec::new();
        for (id, life) in &self.lives {
            for (task, attempt) in &life.tasks {
                let what = format!("attempt {attempt} of {task} is outstanding");
                wrong.push((id.clone(), life.seq, what));
            }
        }
        for (id, entry, what) in wrong {
            self.report(Invariant::V1, Some((&id, entry)), what);
        }
    }
}

fn lost(line: &Acknowledged) -> String {
    let event_type = line.event_type.as_deref().unwrap_or("an event");
    let id = line.id.as_deref().map(|id| format!(", id {id:?}")).unwrap_or_default();
    let door = line.door.as_deref().unwrap_or("events");
    format!("{event_type}, acknowledged as {door} {}{id}, is nowhere", line.stream_seq)
}
