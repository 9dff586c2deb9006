//! Drives one ingest partition: feeds its door what happens, performs what that puts out, decides
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use metrics::counter;
use pled_engine::door::{Answer, Aside, Config, Door, Emitted, Input, Op, Output};
use pled_engine::partition::{DeadReason, Published};
use pled_engine::rule::RawEvent;
use pled_streams::dead::{DeadRaw, set_aside_raw};
use pled_streams::events::EventToSend;
use pled_streams::ingest::{
    self, RawArrival, RawArriving, RawSubscription, ingest_facts, ingest_generations, subscribe_raw,
};
use pled_streams::{Connection, Nats, ReadError, events, locks};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::newest::Active;
use super::{LEASE, RulesConfig};
use crate::clock::{Clock, millis};
use crate::ownership::{Ended, Held, Renewal, Renewed};

/// The pause between ticks.
const TICK: Duration = Duration::from_millis(25);

/// What came of something that was under way.
enum Done {
    /// An output is answered.
    Answered(Op, Answer),
    /// A renewal of the lease.
    Renewed(Renewed),
    /// News of the connection.
    Connection(watch::Receiver<Connection>),
    /// News of the templates.
    Active(watch::Receiver<Active>),
    /// The partition is to be handed over.
    Drain,
}

type Flying = BoxFuture<'static, Done>;

pub(super) struct Shell {
    nats: Nats,
    clock: Arc<Clock>,
    number: u16,
    door: Door,
    subscription: Option<RawSubscription>,
    flight: FuturesUnordered<Flying>,
    renewal: Renewal,
    /// Whether the lease is in `flight`, where it is renewed.
    renewing: bool,
}

impl Shell {
    /// Drives the partition until it ends by itself or `drain` is called and done.
    pub(super) async fn run(
        nats: Nats,
        config: RulesConfig,
        clock: Arc<Clock>,
        active: watch::Receiver<Active>,
        number: u16,
        held: Held,
        drain: CancellationToken,
    ) -> Ended {
        let door = Door::new(Config {
            lease_margin_ms: millis(config.lease_ttl) / 5,
            ..Config::new(number, config.worker_id.clone())
        });
        let mut shell = Self {
            number,
            door,
            subscription: None,
            flight: FuturesUnordered::new(),
            renewal: Renewal::new(clock.clone(), config.lease_ttl),
            renewing: false,
            nats,
            clock,
        };
        let draining = async move {
            drain.cancelled().await;
            Done::Drain
        };
        shell.flight.push(draining.boxed());
        let ended = shell.live(held, active).await;
        shell.let_go().await;
        ended
    }

    async fn live(&mut self, held: Held, active: watch::Receiver<Active>) -> Ended {
        let first = [
            self.connection(self.nats.connections()),
            self.active(active),
            Some(self.renewed(Renewed::Held(held))),
        ];
        let mut first = first.into_iter().flatten();
        let mut outputs = Vec::new();
        loop {
            let input = match first.next() {
                Some(input) => input,
                None => self.next().await,
            };
            self.door.handle(input, self.clock.monotonic(), &mut outputs);
            for output in outputs.drain(..) {
                if let Some(ended) = self.perform(output) {
                    return ended;
                }
            }
        }
    }

    /// What happens next. Answers come first: they let go what events would only add to.
    async fn next(&mut self) -> Input {
        loop {
            let Self { door, flight, subscription, .. } = self;
            let arriving = tokio::select! {
                biased;
                Some(done) = flight.next() => match self.done(done) {
                    Some(input) => return input,
                    None => continue,
                },
                arriving = next_of(subscription), if door.wants() => arriving,
                () = tokio::time::sleep(TICK) => return Input::Tick,
            };
            return match arriving {
                RawArriving::CaughtUp { stream_last } => Input::CaughtUp { stream_last },
                RawArriving::Arrival(RawArrival { stream_seq, event, .. }) => {
                    counter!("pled_rule_events_total").increment(1);
                    Input::Arrived { stream_seq, event: event.map(raw) }
                }
            };
        }
    }

    /// The input that something under way becomes at its end, if it becomes one.
    fn done(&mut self, done: Done) -> Option<Input> {
        match done {
            Done::Answered(op, answer) => Some(Input::Answer { op, answer }),
            Done::Renewed(renewed) => Some(self.renewed(renewed)),
            Done::Connection(connections) => self.connection(connections),
            Done::Active(active) => self.active(active),
            Done::Drain => Some(Input::Drain),
        }
    }

    /// The state of the connection, and on with watching it.
    fn connection(&mut self, mut connections: watch::Receiver<Connection>) -> Option<Input> {
        let connection = connections.borrow_and_update().clone();
        let watching = async move {
            if connections.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            Done::Connection(connections)
        };
        self.flight.push(watching.boxed());
        let server = connection.server_id.into();
        connection.connected.then_some(Input::Connected { server })
    }

    /// The templates, if they are known, and on with watching them.
    fn active(&mut self, mut active: watch::Receiver<Active>) -> Option<Input> {
        let templates = active.borrow_and_update().clone();
        let watching = async move {
            if active.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            Done::Active(active)
        };
        self.flight.push(watching.boxed());
        templates.map(Input::Templates)
    }

    /// What is to be said of the lease, and on with renewing it.
    fn renewed(&mut self, renewed: Renewed) -> Input {
        let (held, hurried, input) = match renewed {
            Renewed::Held(held) => {
                let until = held.until;
                (held, false, Input::LeaseHeld { until })
            }
            Renewed::NotYet(held) => (held, true, Input::Tick),
            Renewed::Lost | Renewed::Stopped(_) => {
                self.renewing = false;
                return Input::LeaseLost;
            }
        };
        self.renewing = true;
        self.flight.push(self.renewal.next(held, hurried).map(Done::Renewed).boxed());
        input
    }

    /// Starts an output. What it ends in comes back by [`Self::next`]; only the last output of a
    /// door ends the loop.
    fn perform(&mut self, output: Output) -> Option<Ended> {
        let nats = self.nats.clone();
        let flying = match output {
            Output::ReadPosition { op } => read_position(nats, self.number, op),
            Output::WritePosition { op, position, revision } => {
                let writing = locks::write_position(&nats, LEASE, self.number, &position, revision);
                published(op, writing)
            }
            Output::ReadStream { op } => read_stream(nats, op),
            Output::Subscribe { from } => {
                self.subscription = Some(subscribe_raw(&nats, self.number, from));
                return None;
            }
            Output::Emit { op, sender, emitted } => emit(&nats, op, &sender, &emitted),
            Output::SetAside { op, aside, again } => {
                if !again {
                    count(&aside);
                }
                set_aside(nats, op, aside)
            }
            Output::Stuck { reason } => {
                tracing::warn!(partition = self.number, reason, "stuck");
                return None;
            }
            Output::Release => return Some(Ended::Released),
            Output::Dropped { reason } => return Some(Ended::Dropped(reason)),
            Output::Halt { reason } => return Some(Ended::Halted(reason)),
        };
        self.flight.push(flying);
        None
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

async fn next_of(subscription: &mut Option<RawSubscription>) -> RawArriving {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

fn raw(event: ingest::RawEvent) -> RawEvent {
    let ingest::RawEvent { source, event_type, id, time, data } = event;
    RawEvent { event_type: event_type.shared(), data, source, id, time }
}

fn published(op: Op, publishing: impl Future<Output = Published> + Send + 'static) -> Flying {
    publishing.map(move |published| Done::Answered(op, Answer::Published(published))).boxed()
}

fn read_position(nats: Nats, number: u16, op: Op) -> Flying {
    async move {
        let read = locks::read_position(&nats, LEASE, number).await;
        Done::Answered(op, read.map_or_else(failed, Answer::Position))
    }
    .boxed()
}

fn read_stream(nats: Nats, op: Op) -> Flying {
    async move {
        let read = async {
            let facts = ingest_facts(&nats).await?;
            let begins = ingest_generations(&nats).await?.begins();
            Ok(Answer::Stream { facts, begins })
        };
        Done::Answered(op, read.await.unwrap_or_else(failed))
    }
    .boxed()
}

fn emit(nats: &Nats, op: Op, sender: &Arc<str>, emitted: &Arc<Emitted>) -> Flying {
    let event = EventToSend {
        execution: emitted.execution.clone(),
        event_type: emitted.event_type.clone(),
        data: Bytes::from_owner(emitted.data.clone()),
        event_id: emitted.event_id.clone(),
        template: emitted.start.clone(),
        reply: None,
        origin: Some(emitted.origin.to_string()),
        emitted: Some((sender.clone(), emitted.place.0, emitted.place.1)),
    };
    let publishing = events::publish(nats, event).inspect(|published| match published {
        Published::Stored { .. } => counter!("pled_rule_emits_total").increment(1),
        Published::Conflict { .. } | Published::Refused(_) => {
            tracing::warn!(?published, "what a rule emitted is refused, and tried again");
        }
        Published::Full | Published::TooLarge | Published::Unknown => {}
    });
    published(op, publishing)
}

fn count(aside: &Aside) {
    let reason = aside.reason;
    counter!("pled_rule_events_set_aside_total", "reason" => reason.as_str()).increment(1);
    if reason == DeadReason::Unmatched {
        counter!("pled_unmatched_events_total").increment(1);
    }
}

fn set_aside(nats: Nats, op: Op, aside: Aside) -> Flying {
    let Aside { reason, detail, execution, generation, stream_seq } = aside;
    let dead = DeadRaw { reason, detail, execution, generation, stream_seq };
    published(op, async move { set_aside_raw(&nats, dead).await })
}

fn failed(error: ReadError) -> Answer {
    tracing::debug!(%error, "a read of a rule worker failed");
    Answer::Failed
}
