//! A step while it is taken: the running state, and what was decided so far.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use super::cause::effect_id;
use super::judge::{Taking, emitter, said_by};
use super::{Draft, Verdict};
use crate::effect::{Effect, EffectKind};
use crate::entry::{Cause, FORMAT, JournalEntry, Outcome, Transition};
use crate::execution::{Born, Execution, Incident, State, Status, TakenId};
use crate::expression::EventView;
use crate::id::{EventType, ExecutionId, Hash, Token};
use crate::message::{Body, Event, Message, Millis, Send, Source};
use crate::statechart::{self, Chart, Manner, Round, Witness};
use crate::template::{StateIndex, Template};
use crate::value::Value;

/// [`crate::SEMANTICS`], shared by all entries.
static ENGINE: LazyLock<Arc<str>> = LazyLock::new(|| crate::SEMANTICS.into());

pub(super) struct Run<'t> {
    pub(super) template: &'t Template,
    before: &'t Execution,
    /// The greatest time so far.
    pub(super) at: Millis,
    pub(super) status: Status,
    pub(super) chart: Chart,
    /// How many timers without delay led, one from the other, to what is being taken (R9).
    pub(super) chain: u32,
    /// The ids of the active leaf states.
    pub(super) leaves: Vec<Arc<str>>,
    /// All but configuration, context and history, which `chart` has until the end.
    pub(super) state: State,
    causes: Vec<Cause>,
    pub(super) transitions: Vec<Transition>,
    /// The numbers of the template's transitions that were taken.
    pub(super) taken: Vec<u32>,
    effects: Vec<Effect>,
    pub(super) log: Vec<Value>,
    /// Sends to oneself that are yet to be taken.
    pub(super) own: VecDeque<OwnSend>,
    /// Incidents that arose at no effect.
    pub(super) incidents: Vec<Incident>,
    pub(super) notes: Option<&'t mut Notes>,
}

/// What a step looked at: a list of rounds for each cause, in their order.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(super) witness: Witness,
    pub(crate) of_causes: Vec<Vec<Round>>,
}

/// An event for the execution itself, to be taken in the step that sends it.
pub(super) struct OwnSend {
    pub(super) token: Token,
    pub(super) event_type: EventType,
    pub(super) data: Value,
    /// It is dropped once this state was left.
    pub(super) while_active: Option<StateIndex>,
    /// [`Run::chain`] of what sent it.
    pub(super) chain: u32,
}

/// How a message was taken: the outcome, and why it was rejected.
pub(super) type Taken = (Outcome, Option<String>);

impl<'t> Run<'t> {
    /// Goes on where `before` is; an error says why it cannot.
    pub(super) fn begin(template: &'t Template, before: &'t Execution) -> Result<Self, String> {
        if let Some(pinned) = before.template.as_ref().filter(|pinned| !is_of(pinned, template)) {
            let given = template.reference();
            return Err(format!("it is an execution of {pinned}, the template given is {given}"));
        }
        let chart = if before.seq == 0 {
            Chart { context: template.context.clone(), ..Chart::default() }
        } else {
            statechart::chart_from(template, &before.state).map_err(|error| error.to_string())?
        };
        Ok(Self {
            template,
            before,
            at: before.at,
            status: before.status,
            chart,
            chain: 0,
            leaves: before.state.configuration.clone(),
            state: before.state.clone(),
            causes: Vec::new(),
            transitions: Vec::new(),
            taken: Vec::new(),
            effects: Vec::new(),
            log: Vec::new(),
            own: VecDeque::new(),
            incidents: Vec::new(),
            notes: None,
        })
    }

    /// Judges a message and, if it is to be taken, takes it.
    pub(super) fn take(&mut self, message: &Message) -> Verdict {
        let taking = match self.judge(message) {
            Ok(taking) => taking,
            Err(verdict) => return verdict,
        };
        self.at = self.time_of(message);
        self.chain = 0;
        let (outcome, error) = self.carry(taking, message);
        self.remember(message, outcome);
        self.cause(Cause::of(message, outcome, error));
        Verdict::Taken(outcome)
    }

    /// Takes a message as it was judged.
    pub(super) fn carry(&mut self, taking: Taking<'_>, message: &Message) -> Taken {
        match taking {
            Taking::Start { event } => self.start(event, message),
            Taking::ChildStart { start } => self.start_as_child(start),
            Taking::ChildRefused { start } => self.refuse_child(start),
            Taking::Event { view } => self.macrostep(&view, None),
            Taking::Cancel { view } => {
                self.resume();
                if self.is_closed() { (Outcome::Ignored, None) } else { self.cancel(&view) }
            }
            Taking::Terminate => self.terminate(),
            Taking::Incident { decision } => self.decide_incident(decision),
            Taking::Pause { stops_timers } => self.pause(stops_timers),
            Taking::Resume => self.resume(),
            Taking::Deferred => self.defer(message),
            Taking::Nothing => (Outcome::Ignored, None),
            Taking::Rejected { reason } => (Outcome::Rejected, Some(reason)),
            Taking::Started { timer } => self.picked_up(timer),
            Taking::Succeeded { task, data } => self.task_succeeded(task, data),
            Taking::Failed { task, failure } => self.attempt_failed(task, failure),
            Taking::SucceededLate { task, data } => self.succeeded_late(task, data),
            Taking::FailedLate { task } => self.failed_late(task),
            Taking::Fired { timer } => self.timer_fired(timer),
        }
    }

    /// What a repeat of the message is known by.
    fn remember(&mut self, message: &Message, outcome: Outcome) {
        let seq = self.seq();
        let place = (message.generation, message.stream_seq);
        match message.source {
            Source::Events => self.state.taken.events = place,
            Source::Signals => self.state.taken.signals = place,
            Source::Timers => self.state.taken.timers = place,
            Source::Own => {}
        }
        if !self.is_born() {
            self.state.born = Some(Born(place.0, place.1, message.time, outcome));
        }
        let sender = match &message.body {
            Body::Event(event) => {
                if let Some(id) = &event.id {
                    let hash = TakenId::hash_of(id);
                    self.state.ids.push(TakenId { hash, seq, outcome });
                    let excess =
                        self.state.ids.len().saturating_sub(self.template.limits.event_ids);
                    self.state.ids.drain(..excess);
                }
                emitter(event)
            }
            Body::Send(_)
            | Body::ChildStart(_)
            | Body::ChildCancel(_)
            | Body::Result(_)
            | Body::ChildDone(_)
            | Body::Fired { .. } => said_by(&message.body),
        };
        if let Some((sender, entry, index)) = sender {
            self.state.senders.insert(sender, (entry, index));
        }
    }

    /// Takes what the step sent to the execution itself, and what that sends, up to the bound of
    /// R9.
    pub(super) fn take_own_sends(&mut self) {
        let mut taken = 0;
        while let Some(own) = self.own.pop_front() {
            let is_active = |state: StateIndex| self.chart.active.binary_search(&state).is_ok();
            if !own.while_active.is_none_or(is_active) {
                continue;
            }
            if taken == self.template.limits.microsteps {
                self.fail("loop", format!("more than {taken} sends to oneself in a row"));
                return;
            }
            taken += 1;
            self.take_own_send(own);
        }
    }

    fn take_own_send(&mut self, own: OwnSend) {
        let OwnSend { token, event_type, data, while_active: _, chain } = own;
        self.chain = chain;
        let send = Send { sender: self.id().clone(), token, event_type, data };
        let view = self.view_of_send(&send, self.at);
        let (outcome, error) = self.take_checked(&view, Some(token));
        let message = Message {
            execution: self.id().clone(),
            source: Source::Own,
            generation: 0,
            stream_seq: 0,
            time: self.at,
            reply: None,
            body: Body::Send(send),
        };
        self.cause(Cause::of(&message, outcome, error));
    }

    fn cause(&mut self, cause: Cause) {
        self.causes.push(cause);
        if let Some(notes) = &mut self.notes {
            notes.of_causes.push(notes.witness.take());
        }
    }

    /// How the algorithm is run.
    pub(super) fn manner<'n>(notes: &'n mut Option<&'t mut Notes>) -> Manner<'n> {
        Manner::seen_by(notes.as_mut().map(|notes| &mut notes.witness))
    }

    /// Takes an event that the execution sent to itself, if its data fits.
    pub(super) fn take_checked(&mut self, view: &EventView, place: Option<Token>) -> Taken {
        match self.check(&view.event_type, &view.data) {
            Ok(()) => self.macrostep(view, place),
            Err(reason) => (Outcome::Rejected, Some(reason)),
        }
    }

    /// The entry of all that was taken.
    pub(super) fn finish(mut self) -> Option<Draft> {
        if self.causes.is_empty() {
            return None;
        }
        if self.has_ended() && !self.before.status.is_terminal() {
            self.tell_parent();
        }
        self.number_incidents();
        statechart::store(self.template, self.chart, &mut self.state);
        let entry = JournalEntry {
            v: FORMAT,
            execution: self.before.id.clone(),
            seq: self.before.seq + 1,
            template: self.template.reference(),
            template_hash: (self.before.seq == 0).then_some(self.template.hash),
            at: self.at,
            prev: self.before.hash,
            hash: Hash::ZERO,
            causes: self.causes,
            transitions: self.transitions,
            effects: self.effects,
            log: self.log,
            status: self.status,
            base: None,
            state_hash: Hash::ZERO,
            state: None,
            engine: ENGINE.clone(),
            worker: Arc::default(),
            epoch: 0,
        };
        let after = Execution {
            id: entry.execution.clone(),
            seq: entry.seq,
            hash: self.before.hash,
            at: self.at,
            template: Some(entry.template.clone()),
            status: self.status,
            state: self.state,
        };
        Some(Draft { entry, after, transitions: self.taken })
    }

    /// Gives the incidents that arose at no effect the places behind the effects.
    fn number_incidents(&mut self) {
        let Token { entry, index: first } = self.next_token();
        let tokens = (first..).map(|index| Token { entry, index });
        self.state.incidents.extend(tokens.zip(self.incidents.drain(..)));
        self.forget_old_incidents();
    }
}

impl<'t> Run<'t> {
    pub(super) fn id(&self) -> &'t ExecutionId {
        &self.before.id
    }

    /// The sequence of the entry that was loaded.
    pub(super) fn loaded_seq(&self) -> u64 {
        self.before.seq
    }

    /// The sequence of the entry that is being made.
    pub(super) fn seq(&self) -> u64 {
        self.before.seq + 1
    }

    pub(super) fn is_born(&self) -> bool {
        self.before.seq > 0 || self.state.born.is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.status.is_terminal()
    }

    /// Whether it takes no events any more: it has ended, or only undoes what it did.
    pub(super) fn is_closed(&self) -> bool {
        self.has_ended() || self.state.ending.is_some()
    }

    /// The time of a message as logic sees it, which never goes back (R15).
    pub(super) fn time_of(&self, message: &Message) -> Millis {
        self.at.max(message.time)
    }

    /// Adds an effect; its place comes back.
    pub(super) fn effect(&mut self, kind: EffectKind) -> Token {
        let token = self.next_token();
        self.effects.push(Effect { id: effect_id(self.id(), token), kind });
        token
    }

    /// The place that the next effect will have.
    pub(super) fn next_token(&self) -> Token {
        Token { entry: self.seq(), index: self.next_index() }
    }

    fn next_index(&self) -> u32 {
        u32::try_from(self.effects.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn view_of_event(&self, event: &Event, message: &Message) -> EventView {
        EventView {
            event_type: event.event_type.shared(),
            data: event.data.clone(),
            id: event.id.clone(),
            source: event.origin.clone(),
            time: self.time_of(message),
        }
    }

    pub(super) fn view_of_send(&self, send: &Send, time: Millis) -> EventView {
        EventView {
            event_type: send.event_type.shared(),
            data: send.data.clone(),
            id: Some(effect_id(&send.sender, send.token)),
            source: Some(send.sender.as_str().into()),
            time: self.at.max(time),
        }
    }

    /// What the parent says.
    pub(super) fn view_of_parent(
        &self,
        event_type: &str,
        parent: &ExecutionId,
        token: Token,
        data: Value,
    ) -> EventView {
        EventView {
            event_type: event_type.into(),
            data,
            id: Some(effect_id(parent, token)),
            source: Some(parent.as_str().into()),
            time: self.at,
        }
    }

    /// An event that comes from no one else: of a task or a timer.
    pub(super) fn view(&self, event_type: Arc<str>, data: Value) -> EventView {
        EventView { event_type, data, id: None, source: None, time: self.at }
    }
}

fn is_of(pinned: &crate::id::TemplateRef, template: &Template) -> bool {
    pinned.version == template.version && pinned.name == template.name
}
