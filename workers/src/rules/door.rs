//! One ingest partition: reads raw events in order, emits, and moves its position.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use metrics::counter;
use pled_engine::id::ExecutionId;
use pled_engine::partition::{DeadReason, InputPosition, Position, Published, StreamFacts};
use pled_streams::dead::{DeadRaw, set_aside_raw};
use pled_streams::ingest::{
    RawArrival, RawArriving, RawSubscription, ingest_facts, ingest_generations, subscribe_raw,
};
use pled_streams::topology::Generations;
use pled_streams::{Connection, Nats, ReadError, events, locks};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::emit::{Becomes, evaluate};
use super::newest::Active;
use super::outbox::Outbox;
use super::progress::Progress;
use super::{INPUT, LEASE, RulesConfig};
use crate::clock::{Clock, millis};
use crate::ownership::{Ended, Held, Renewal, Renewed};

/// How many events may be open before no more are read.
const OPEN_MAX: usize = 1_000;
/// How many bytes of payloads may wait before no more events are read.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// How often the position is written at most.
const POSITION_EVERY: Duration = Duration::from_millis(100);
/// Pauses between attempts to publish or to read.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// What came of something that was under way.
enum Done {
    /// The first message of an execution was published.
    Emitted { execution: ExecutionId, published: Published, attempt: u32 },
    /// It is time to publish it again.
    TryAgain { execution: ExecutionId, attempt: u32 },
    /// A record of PLED_DEAD about an event.
    SetAside { record: DeadRaw, published: Published, attempt: u32 },
    /// The position was written up to here.
    Position { next: u64, published: Published },
    /// A renewal of the lease.
    Renewed(Renewed),
    /// News of the connection.
    Connection(watch::Receiver<Connection>),
    /// Where PLED_INGEST is, on a server that may have lost something; it had reached `known`.
    Compared { known: u64, facts: Result<StreamFacts, ReadError> },
    /// The partition is to be handed over.
    Drain,
}

pub(super) struct Door {
    nats: Nats,
    clock: Arc<Clock>,
    number: u16,
    /// What receivers know this partition by.
    sender: Arc<str>,
    generations: Generations,
    active: watch::Receiver<Active>,
    generation: u64,
    position: Position,
    revision: u64,
    progress: Progress,
    outbox: Outbox,
    flight: FuturesUnordered<BoxFuture<'static, Done>>,
    renewal: Renewal,
    /// Whether the lease is in `flight`, where it is renewed.
    renewing: bool,
    /// Until when the lease is held, and how long before that the partition is given up.
    held_until: u64,
    margin: u64,
    server: String,
    /// Whether a comparison with the stream is under way: nothing is emitted meanwhile.
    comparing: bool,
    /// Executions whose first message waits for that.
    held_back: Vec<ExecutionId>,
    writing: bool,
    written_at: Instant,
    draining: bool,
}

impl Door {
    /// Drives the partition until it is given up, or `drain` is called and done.
    pub(super) async fn run(
        nats: Nats,
        config: RulesConfig,
        clock: Arc<Clock>,
        active: watch::Receiver<Active>,
        number: u16,
        held: Held,
        drain: CancellationToken,
    ) -> Ended {
        let mut door = Self {
            number,
            sender: format!("{LEASE}-{number}").into(),
            generations: Generations::default(),
            active,
            generation: 0,
            position: Position::default(),
            revision: 0,
            progress: Progress::new(1),
            outbox: Outbox::default(),
            flight: FuturesUnordered::new(),
            renewal: Renewal::new(clock.clone(), config.lease_ttl),
            renewing: false,
            held_until: 0,
            margin: millis(config.lease_ttl) / 5,
            server: String::new(),
            comparing: false,
            held_back: Vec::new(),
            writing: false,
            written_at: Instant::now(),
            draining: false,
            nats,
            clock,
        };
        door.hold(held, false);
        door.watch_connection(door.nats.connections());
        let draining = async move {
            drain.cancelled().await;
            Done::Drain
        };
        door.flight.push(draining.boxed());
        let ended = match door.take_over(&config.worker_id).await {
            Ok(subscription) => door.live(subscription).await,
            Err(ended) => ended,
        };
        door.let_go().await;
        ended
    }

    /// Reads the position, raises its epoch, and compares it with the stream.
    async fn take_over(&mut self, worker: &str) -> Result<RawSubscription, Ended> {
        let failed = |error: ReadError| Ended::Dropped(format!("takeover: {error}"));
        let found = locks::read_position(&self.nats, LEASE, self.number).await.map_err(failed)?;
        let Some((position, revision)) = found else {
            return Err(Ended::Halted(format!(
                "the position of ingest partition {} is not there: run `pled init`, or \
                 `pled recover` where there was one",
                self.number
            )));
        };
        let epoch = position.epoch + 1;
        self.position = Position { epoch, owner: worker.to_owned(), ..position };
        let fence = locks::write_position(&self.nats, LEASE, self.number, &self.position, revision);
        let Published::Stored { stream_seq } = fence.await else {
            return Err(Ended::Dropped("takeover: the position was not written".to_owned()));
        };
        self.revision = stream_seq;

        let input = self.position.inputs.get(INPUT).cloned().unwrap_or_default();
        let facts = ingest_facts(&self.nats).await.map_err(failed)?;
        let reached = input.next.saturating_sub(1);
        if facts.generation < input.generation || facts.last < reached {
            return Err(Ended::Halted(behind(self.number, reached, &facts)));
        }
        self.generation = facts.generation;
        self.generations = ingest_generations(&self.nats).await.map_err(failed)?;
        self.progress = Progress::new(input.next.max(1));
        // Before all templates are there an event could be taken for one that no rule wants.
        loop {
            if self.active.borrow().is_some() {
                return Ok(subscribe_raw(&self.nats, self.number, self.progress.next()));
            }
            tokio::select! {
                _ = self.active.changed() => {}
                Some(done) = self.flight.next() => if let Some(ended) = self.done(done) {
                    return Err(ended);
                },
            }
            if self.draining {
                return Err(Ended::Released);
            }
        }
    }

    async fn live(&mut self, mut subscription: RawSubscription) -> Ended {
        loop {
            if self.clock.monotonic() + self.margin >= self.held_until {
                return Ended::Dropped("the lease ran out before it was renewed".to_owned());
            }
            self.write_position();
            if self.draining && self.progress.open() == 0 && self.is_written() {
                return Ended::Released;
            }
            let wants = !self.draining
                && !self.comparing
                && self.progress.open() < OPEN_MAX
                && self.outbox.bytes() < WAITING_BYTES_MAX;
            let ended = tokio::select! {
                biased;
                Some(done) = self.flight.next() => self.done(done),
                arriving = subscription.next(), if wants => {
                    self.arrived(arriving);
                    None
                }
                () = tokio::time::sleep(POSITION_EVERY) => None,
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    fn arrived(&mut self, arriving: RawArriving) {
        let RawArrival { stream_seq: seq, event, .. } = match arriving {
            RawArriving::CaughtUp { stream_last } => return self.progress.caught_up(stream_last),
            RawArriving::Arrival(arrival) => arrival,
        };
        if self.progress.was_seen(seq) {
            return;
        }
        let Becomes { messages, set_aside } = match event {
            Ok(event) => {
                let active = self.active.borrow().clone().unwrap_or_default();
                evaluate(&active, seq, event)
            }
            Err(malformed) => Becomes {
                messages: Vec::new(),
                set_aside: vec![(malformed.reason, malformed.detail)],
            },
        };
        counter!("pled_rule_events_total").increment(1);
        self.progress.begin(seq, messages.len() + set_aside.len());
        for emitted in messages {
            let execution = emitted.execution.clone();
            if self.outbox.push(emitted) {
                self.publish(execution, 0);
            }
        }
        for (reason, detail) in set_aside {
            self.begin_set_aside(seq, reason, detail, None);
        }
    }

    /// Publishes the first message of an execution.
    fn publish(&mut self, execution: ExecutionId, attempt: u32) {
        if self.comparing {
            return self.held_back.push(execution);
        }
        let Some(emitted) = self.outbox.first(&execution) else { return };
        let sender = self.sender_of(emitted.place.0);
        let publishing = events::publish(&self.nats, emitted.to_event(&sender));
        let done = move |published| Done::Emitted { execution, published, attempt };
        self.flight.push(publishing.map(done).boxed());
    }

    fn publish_later(&mut self, execution: ExecutionId, attempt: u32) {
        let waiting = async move {
            tokio::time::sleep(pause(attempt)).await;
            Done::TryAgain { execution, attempt }
        };
        self.flight.push(waiting.boxed());
    }

    fn done(&mut self, done: Done) -> Option<Ended> {
        match done {
            Done::Emitted { execution, published, attempt } => {
                self.emitted(execution, published, attempt);
            }
            Done::TryAgain { execution, attempt } => self.publish(execution, attempt),
            Done::SetAside { record, published, attempt } => {
                self.was_set_aside(record, published, attempt);
            }
            Done::Position { next, published } => return self.position_written(next, &published),
            Done::Renewed(renewed) => return self.renewed(renewed),
            Done::Connection(connections) => self.watch_connection(connections),
            Done::Compared { known, facts } => return self.compared(known, facts),
            Done::Drain => self.draining = true,
        }
        None
    }

    fn emitted(&mut self, execution: ExecutionId, published: Published, attempt: u32) {
        match published {
            Published::Stored { .. } => {
                counter!("pled_rule_emits_total").increment(1);
                self.finish_first(&execution);
            }
            Published::TooLarge => {
                if let Some(seq) = self.outbox.first(&execution).map(|emitted| emitted.place.0) {
                    let detail = format!("what it becomes for {execution} is too large to be sent");
                    self.progress.add_part(seq);
                    self.begin_set_aside(
                        seq,
                        DeadReason::TooLarge,
                        detail,
                        Some(execution.clone()),
                    );
                }
                self.finish_first(&execution);
            }
            // The message stays the first of its execution until it is stored, so that a full
            // stream slows reading down and loses nothing.
            Published::Full | Published::Unknown => self.publish_later(execution, attempt + 1),
            Published::Conflict { .. } | Published::Refused(_) => {
                tracing::warn!(partition = self.number, %execution, ?published, "refused, tried again");
                self.publish_later(execution, attempt + 1);
            }
        }
    }

    /// The first message of an execution needs nothing more; the next one goes out.
    fn finish_first(&mut self, execution: &ExecutionId) {
        if let Some(emitted) = self.outbox.pop(execution) {
            self.progress.part_done(emitted.place.0);
        }
        if self.outbox.first(execution).is_some() {
            self.publish(execution.clone(), 0);
        }
    }

    fn begin_set_aside(
        &mut self,
        stream_seq: u64,
        reason: DeadReason,
        detail: String,
        execution: Option<ExecutionId>,
    ) {
        counter!("pled_rule_events_set_aside_total", "reason" => reason.as_str()).increment(1);
        if reason == DeadReason::Unmatched {
            counter!("pled_unmatched_events_total").increment(1);
        }
        let generation = self.generation;
        self.set_aside(DeadRaw { reason, detail, execution, generation, stream_seq }, 0);
    }

    fn set_aside(&mut self, record: DeadRaw, attempt: u32) {
        let nats = self.nats.clone();
        let setting_aside = async move {
            if attempt > 0 {
                tokio::time::sleep(pause(attempt)).await;
            }
            let published = set_aside_raw(&nats, record.clone()).await;
            Done::SetAside { record, published, attempt }
        };
        self.flight.push(setting_aside.boxed());
    }

    fn was_set_aside(&mut self, record: DeadRaw, published: Published, attempt: u32) {
        match published {
            Published::Stored { .. } | Published::Conflict { .. } => {
                self.progress.part_done(record.stream_seq);
            }
            // Events that nobody wants are only counted where there is no room for them.
            Published::Full if record.reason == DeadReason::Unmatched => {
                self.progress.part_done(record.stream_seq);
            }
            Published::Full | Published::Unknown => self.set_aside(record, attempt + 1),
            Published::TooLarge | Published::Refused(_) => {
                let seq = record.stream_seq;
                tracing::error!(partition = self.number, seq, ?published, "cannot be set aside");
                self.set_aside(record, attempt + 1);
            }
        }
    }

    /// Writes the position if it has moved and the last write was not a moment ago.
    fn write_position(&mut self) {
        let due = self.draining || self.written_at.elapsed() >= POSITION_EVERY;
        if self.writing || self.comparing || !due || self.is_written() {
            return;
        }
        let next = self.progress.next();
        let input = InputPosition { generation: self.generation, next, ..InputPosition::default() };
        self.position.inputs.insert(INPUT.to_owned(), input);
        self.position.server.clone_from(&self.server);
        self.writing = true;
        let (position, revision) = (&self.position, self.revision);
        let write = locks::write_position(&self.nats, LEASE, self.number, position, revision);
        self.flight.push(write.map(move |published| Done::Position { next, published }).boxed());
    }

    fn is_written(&self) -> bool {
        let next = self.progress.next();
        !self.writing
            && self
                .position
                .inputs
                .get(INPUT)
                .is_some_and(|input| input.next == next && input.generation == self.generation)
    }

    fn position_written(&mut self, next: u64, published: &Published) -> Option<Ended> {
        self.writing = false;
        self.written_at = Instant::now();
        match published {
            Published::Stored { stream_seq } => {
                self.revision = *stream_seq;
                None
            }
            Published::Conflict { .. } => {
                Some(Ended::Dropped("another worker has taken the partition over".to_owned()))
            }
            Published::Unknown | Published::Full | Published::TooLarge | Published::Refused(_) => {
                Some(Ended::Dropped(format!("the position {next} was not written: {published:?}")))
            }
        }
    }

    /// Takes news of the lease, and goes on renewing it.
    fn renewed(&mut self, renewed: Renewed) -> Option<Ended> {
        match renewed {
            Renewed::Held(held) => self.hold(held, false),
            Renewed::NotYet(held) => self.hold(held, true),
            Renewed::Lost | Renewed::Stopped(_) => {
                self.renewing = false;
                return Some(Ended::Dropped("the lease is another's".to_owned()));
            }
        }
        None
    }

    fn hold(&mut self, held: Held, hurried: bool) {
        self.held_until = held.until;
        self.renewing = true;
        self.flight.push(self.renewal.next(held, hurried).map(Done::Renewed).boxed());
    }

    /// Takes news of the connection, and goes on watching it. Another server may have lost what
    /// was acknowledged: nothing is emitted until the stream is compared.
    fn watch_connection(&mut self, mut connections: watch::Receiver<Connection>) {
        let connection = connections.borrow_and_update().clone();
        let watching = async move {
            if connections.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            Done::Connection(connections)
        };
        self.flight.push(watching.boxed());
        if !connection.connected {
            return;
        }
        let before = std::mem::replace(&mut self.server, connection.server_id);
        if !before.is_empty() && before != self.server {
            self.comparing = true;
            self.compare(Duration::ZERO);
        }
    }

    /// Who emits what the raw event at a sequence becomes: another one in each generation, for the
    /// sequences of a life that was lost come again.
    fn sender_of(&self, stream_seq: u64) -> Arc<str> {
        match self.generations.at(stream_seq) {
            0 | 1 => self.sender.clone(),
            generation => format!("{}-g{generation}", self.sender).into(),
        }
    }

    fn compare(&mut self, after: Duration) {
        let (nats, known) = (self.nats.clone(), self.progress.next().saturating_sub(1));
        let comparing = async move {
            tokio::time::sleep(after).await;
            Done::Compared { known, facts: ingest_facts(&nats).await }
        };
        self.flight.push(comparing.boxed());
    }

    fn compared(&mut self, known: u64, facts: Result<StreamFacts, ReadError>) -> Option<Ended> {
        match facts {
            Err(error) => {
                tracing::debug!(%error, "PLED_INGEST is compared again");
                self.compare(PAUSES.1);
                None
            }
            Ok(facts) if facts.last < known => {
                Some(Ended::Halted(behind(self.number, known, &facts)))
            }
            Ok(facts) if facts.generation != self.generation => {
                Some(Ended::Dropped("the generation of PLED_INGEST has changed".to_owned()))
            }
            Ok(_) => {
                self.comparing = false;
                for execution in std::mem::take(&mut self.held_back) {
                    self.publish(execution, 0);
                }
                None
            }
        }
    }

    /// Gives the lease up, if it is still this one's.
    async fn let_go(mut self) {
        self.renewal.stop();
        while self.renewing {
            let Some(done) = self.flight.next().await else { return };
            let Done::Renewed(renewed) = done else { continue };
            self.renewing = false;
            renewed.release().await;
        }
    }
}

fn behind(number: u16, reached: u64, facts: &StreamFacts) -> String {
    format!(
        "PLED_INGEST ends at {} (generation {}), but the position of ingest partition {number} has \
         reached {reached}: acknowledged events are lost; run `pled recover`",
        facts.last, facts.generation
    )
}

fn pause(attempt: u32) -> Duration {
    (PAUSES.0 * 2_u32.saturating_pow(attempt.min(6))).min(PAUSES.1)
}
