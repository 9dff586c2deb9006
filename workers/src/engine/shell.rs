//! Drives one partition: feeds it what happens, performs what it puts out, decides nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::FutureExt;
use futures::stream::FuturesUnordered;
use pled_engine::message::{Millis, Source};
use pled_engine::partition::{Answer, Config, Input, Op, Output, Partition, Published};
use pled_streams::inputs::{self, Arrival, Arriving, Subscription};
use pled_streams::{Connection, reply};
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::meter::Meter;
use super::perform::{self, Flying};
use crate::clock::millis;
use crate::ownership::{Ended, Held, Renewal, Renewed};

/// The pause between ticks of a partition that has something to do, and of one that has not.
const TICK: Duration = Duration::from_millis(10);
const IDLE_TICK: Duration = Duration::from_millis(100);

/// What came of something that was under way.
pub(super) enum Done {
    /// An output is answered.
    Answered(Op, Answer),
    /// The publish of an entry of this time is answered.
    Committed(Op, Published, Option<Millis>),
    /// A renewal of the lease.
    Renewed(Renewed),
    /// News of the connection.
    Connection(watch::Receiver<Connection>),
    /// The partition is to be handed over.
    Drain,
    /// An output without an answer is performed.
    Said,
}

pub(super) struct Shell {
    shared: Arc<Shared>,
    number: u16,
    partition: Partition,
    flight: FuturesUnordered<Flying>,
    subscriptions: Subscriptions,
    tick: Tick,
    renewal: Renewal,
    /// Whether the lease is in `flight`, where it is renewed.
    renewing: bool,
    meter: Meter,
}

impl Shell {
    /// Drives the partition until it ends by itself or `drain` is called and done.
    pub(super) async fn run(
        shared: Arc<Shared>,
        number: u16,
        held: Held,
        drain: CancellationToken,
    ) -> Ended {
        let partition = Partition::new(Config {
            max_entry_bytes: shared.nats.max_payload() / 2,
            cache_bytes: shared.config.cache_bytes / usize::from(shared.nats.partitions().max(1)),
            lease_margin_ms: millis(shared.config.lease_ttl) / 5,
            ..Config::new(number, shared.config.worker_id.clone())
        });
        let mut shell = Self {
            number,
            partition,
            flight: FuturesUnordered::new(),
            subscriptions: Subscriptions::default(),
            tick: Tick::new(),
            renewal: Renewal::new(shared.clock.clone(), shared.config.lease_ttl),
            renewing: false,
            meter: Meter::new(number),
            shared,
        };
        let draining = async move {
            drain.cancelled().await;
            Done::Drain
        };
        shell.flight.push(draining.boxed());
        let ended = shell.live(held).await;
        shell.meter.count(&shell.partition);
        shell.let_go().await;
        ended
    }

    async fn live(&mut self, held: Held) -> Ended {
        let connections = self.shared.nats.connections();
        let mut next = Some(self.renewed(Renewed::Held(held)));
        let mut first = self.connection(connections);
        let mut outputs = Vec::new();
        loop {
            let input = match first.take().or(next.take()) {
                Some(input) => input,
                None => self.next().await,
            };
            let now = self.shared.clock.now();
            self.partition.handle(input, now, &mut outputs);
            for output in outputs.drain(..) {
                if let Some(ended) = self.perform(output) {
                    return ended;
                }
            }
        }
    }

    /// What happens next. Answers come first: they let go what messages would only add to.
    async fn next(&mut self) -> Input {
        loop {
            self.tick.set(&self.partition, &self.shared);
            let Self { partition, flight, subscriptions, tick, .. } = self;
            let Subscriptions { events, signals, timers } = subscriptions;
            let arriving = tokio::select! {
                biased;
                Some(done) = flight.next() => match self.done(done) {
                    Some(input) => return input,
                    None => continue,
                },
                arriving = next_of(signals), if partition.wants(Source::Signals) => {
                    (Source::Signals, arriving)
                }
                arriving = next_of(timers), if partition.wants(Source::Timers) => {
                    (Source::Timers, arriving)
                }
                arriving = next_of(events), if partition.wants(Source::Events) => {
                    (Source::Events, arriving)
                }
                () = &mut tick.sleep => {
                    tick.fired();
                    self.meter.count(&self.partition);
                    return Input::Tick;
                }
            };
            return arrived(arriving);
        }
    }

    /// The input that something under way becomes at its end, if it becomes one.
    fn done(&mut self, done: Done) -> Option<Input> {
        match done {
            Done::Answered(op, answer) => Some(Input::Answer { op, answer }),
            Done::Committed(op, published, at) => {
                if let (Published::Stored { .. }, Some(at)) = (&published, at) {
                    self.meter.entry_committed(self.shared.clock.now().wall - at);
                }
                Some(Input::Answer { op, answer: Answer::Published(published) })
            }
            Done::Renewed(renewed) => Some(self.renewed(renewed)),
            Done::Connection(connections) => self.connection(connections),
            Done::Drain => Some(Input::Drain),
            Done::Said => None,
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
        Some(if connection.connected {
            Input::Connected { server: connection.server_id.into() }
        } else {
            Input::Disconnected
        })
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
    /// partition ends the loop.
    fn perform(&mut self, output: Output) -> Option<Ended> {
        let (nats, number) = (&self.shared.nats, self.number);
        let flying = match output {
            Output::Publish { op, publish } => perform::publish(nats, number, op, publish),
            Output::ReadPosition { op } => perform::read_position(nats.clone(), number, op),
            Output::WritePosition { op, position, revision } => {
                perform::write_position(nats, number, op, &position, revision)
            }
            Output::ReadStreams { op } => perform::read_streams(nats.clone(), op),
            Output::Subscribe { source, from } => {
                self.subscriptions.put(source, inputs::subscribe(nats, number, source, from));
                return None;
            }
            Output::ReadMessage { op, source, stream_seq } => {
                perform::read_message(nats.clone(), op, source, stream_seq)
            }
            Output::ReadEntry { op, execution, leader } => {
                perform::read_entry(nats.clone(), op, execution, leader)
            }
            Output::ReadEntries { op, execution, base } => {
                perform::read_entries(nats.clone(), op, execution, base)
            }
            Output::ReadTemplate { op, selector } => {
                let templates = self.shared.templates.clone();
                perform::read_template(nats.clone(), templates, op, selector)
            }
            Output::Find { op, find } => perform::find(nats.clone(), number, op, find),
            Output::Reply(outcome) => {
                let nats = nats.clone();
                async move {
                    reply::reply(&nats, &outcome).await;
                    Done::Said
                }
                .boxed()
            }
            Output::Snapshot(snapshot) => {
                self.shared.snapshots.put(snapshot);
                return None;
            }
            Output::Stuck { execution, reason } => {
                let execution = execution.as_ref().map(tracing::field::display);
                tracing::warn!(partition = number, execution, reason, "stuck");
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

/// The open subscriptions. A new one of a stream ends the earlier one.
#[derive(Default)]
struct Subscriptions {
    events: Option<Subscription>,
    signals: Option<Subscription>,
    timers: Option<Subscription>,
}

impl Subscriptions {
    fn put(&mut self, source: Source, subscription: Subscription) {
        match source {
            Source::Events => self.events = Some(subscription),
            Source::Signals => self.signals = Some(subscription),
            Source::Timers => self.timers = Some(subscription),
            Source::Own => {}
        }
    }
}

async fn next_of(subscription: &mut Option<Subscription>) -> Arriving {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

fn arrived((source, arriving): (Source, Arriving)) -> Input {
    match arriving {
        Arriving::Arrival(Arrival { stream_seq, message, .. }) => {
            Input::Arrived { source, stream_seq, message }
        }
        Arriving::CaughtUp { stream_last } => Input::CaughtUp { source, stream_last },
    }
}

/// When the partition is to be told that time has passed.
struct Tick {
    sleep: Pin<Box<Sleep>>,
    /// What the sleep was set by; `None` after it fired.
    set_by: Option<(bool, Option<Millis>)>,
}

impl Tick {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(TICK)), set_by: None }
    }

    fn fired(&mut self) {
        self.set_by = None;
    }

    /// Sets the sleep anew where what it depends on has changed.
    fn set(&mut self, partition: &Partition, shared: &Shared) {
        let by = (partition.is_idle(), partition.next_due());
        if self.set_by == Some(by) {
            return;
        }
        self.set_by = Some(by);
        let regular = if by.0 { IDLE_TICK } else { TICK };
        let due = by.1.map_or(regular, |due| shared.clock.until(due));
        let pause = regular.min(due.max(Duration::from_millis(1)));
        self.sleep.as_mut().reset(tokio::time::Instant::now() + pause);
    }
}
