//! Reads a stream in order under one filter, and goes on by itself after any loss.
//!
//! The consumer is ephemeral and without acknowledgements: where reading goes on is known here,
//! not there. It is made again after the connection was lost, when it is gone, silent, or has
//! skipped a delivery, always from the sequence after the last one that was handed on.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{BatchConfig, Config};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::{StatusCode, Subscriber};
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::codec::Stored;
use crate::connection::{Connection, Nats};
use crate::read::{ReadError, millis_of_nanos};
use crate::subject::StreamKind;

/// Messages in one pull request; two requests are under way at most.
const BATCH: usize = 512;
/// How long a pull request stays with the server.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it has nothing.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// Without a word for this long the consumer is made again.
const SILENCE: Duration = Duration::from_secs(3);
/// When the server drops a consumer that nobody asks.
const INACTIVE: Duration = Duration::from_secs(30);
/// Items that wait for the reader's owner.
const BUFFER: usize = 1_024;
/// Pauses between attempts to make the consumer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What a reader gives.
#[derive(Debug)]
pub(crate) enum Read {
    /// The next message.
    Message(Stored),
    /// Nothing is pending for the filter: the stream reaches at least this sequence.
    CaughtUp(u64),
}

/// Reads until it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    items: mpsc::Receiver<Read>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Begins at the sequence `from`, at 1 if that is 0.
    pub(crate) fn start(nats: &Nats, kind: StreamKind, filter: String, from: u64) -> Self {
        let (sender, items) = mpsc::channel(BUFFER);
        let connections = nats.connections();
        let reading =
            Reading { nats: nats.clone(), kind, filter, next: from.max(1), sender, connections };
        Self { items, task: tokio::spawn(reading.run()) }
    }

    /// The next item. Safe to drop before it is there.
    pub(crate) async fn next(&mut self) -> Read {
        match self.items.recv().await {
            Some(item) => item,
            // The task only ends with this reader or with the runtime.
            None => std::future::pending().await,
        }
    }

    /// An item that is there already.
    pub(crate) fn try_next(&mut self) -> Option<Read> {
        self.items.try_recv().ok()
    }
}

struct Reading {
    nats: Nats,
    kind: StreamKind,
    filter: String,
    /// The first sequence that was not handed on.
    next: u64,
    sender: mpsc::Sender<Read>,
    connections: watch::Receiver<Connection>,
}

/// One consumer.
struct Life {
    consumer: Consumer<Config>,
    inbox: String,
    messages: Subscriber,
    /// The number of the last delivery.
    delivered: u64,
    /// How many messages were asked for and are not here.
    asked: usize,
    batch: BatchConfig,
}

/// Why a consumer's life ended.
enum End {
    /// Nobody listens any more.
    Unheard,
    /// The consumer is to be made again, and why.
    Again(&'static str),
}

impl Reading {
    async fn run(mut self) {
        let mut pause = PAUSES.0;
        loop {
            let mut changes = self.connections.clone();
            let sender = self.sender.clone();
            let connected = tokio::select! {
                connected = changes.wait_for(|connection| connection.connected) => connected.is_ok(),
                () = sender.closed() => false,
            };
            if !connected {
                return;
            }
            changes.borrow_and_update();
            let opened = tokio::select! {
                opened = self.open() => opened,
                _ = changes.changed() => continue,
            };
            let before = self.next;
            match opened {
                Ok(mut life) => {
                    let end = self.live(&mut life, &mut changes).await;
                    self.close(life).await;
                    match end {
                        End::Unheard => return,
                        End::Again(why) => {
                            let (filter, next) = (&self.filter, self.next);
                            tracing::debug!(%filter, next, why, "reading again");
                        }
                    }
                }
                Err(error) => tracing::debug!(filter = %self.filter, %error, "no consumer"),
            }
            pause = if self.next > before { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed() => {}
                () = sender.closed() => return,
            }
        }
    }

    async fn open(&mut self) -> Result<Life, ReadError> {
        let failed = |error: &dyn std::fmt::Display| ReadError::unavailable(&self.filter, error);
        let stream = self.nats.stream(self.kind);
        // Read before the consumer is made: what it has to deliver then holds for this sequence.
        let last = crate::read::stream_state(&self.nats, self.kind).await?.last_seq;
        let inbox = self.nats.client().new_inbox();
        let messages =
            self.nats.client().subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            filter_subject: self.filter.clone(),
            max_deliver: 1,
            inactive_threshold: INACTIVE,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let caught_up = consumer.cached_info().num_pending == 0;
        let batch = BatchConfig {
            batch: BATCH,
            max_bytes: (4 << 20).max(self.nats.max_payload() * 2),
            expires: Some(EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        if caught_up
            && last + 1 >= self.next
            && self.sender.send(Read::CaughtUp(last)).await.is_err()
        {
            return Err(failed(&"nobody listens"));
        }
        Ok(Life { consumer, inbox, messages, delivered: 0, asked: 0, batch })
    }

    async fn live(&mut self, life: &mut Life, changes: &mut watch::Receiver<Connection>) -> End {
        let mut heard = Instant::now();
        loop {
            if life.asked <= BATCH / 2 {
                let inbox = life.inbox.clone().into();
                if life.consumer.request_batch(life.batch.clone(), inbox).await.is_err() {
                    return End::Again("no request could be sent");
                }
                life.asked += BATCH;
            }
            tokio::select! {
                biased;
                message = life.messages.next() => {
                    let Some(message) = message else {
                        return End::Again("the subscription ended");
                    };
                    heard = Instant::now();
                    if let Some(end) = self.take(life, message).await {
                        return end;
                    }
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return End::Unheard;
                    }
                    return End::Again("the connection changed");
                }
                () = tokio::time::sleep_until(heard + SILENCE) => return End::Again("silence"),
                () = self.sender.closed() => return End::Unheard,
            }
        }
    }

    async fn take(&mut self, life: &mut Life, message: async_nats::Message) -> Option<End> {
        let status = message.status.unwrap_or(StatusCode::OK);
        if status == StatusCode::OK {
            return self.take_message(life, message).await;
        }
        let header = |name: async_nats::HeaderName| {
            let value = message.headers.as_ref()?.get(name)?;
            value.as_str().parse::<u64>().ok()
        };
        if status == StatusCode::IDLE_HEARTBEAT {
            if header(async_nats::header::NATS_LAST_CONSUMER)
                .is_some_and(|last| last > life.delivered)
            {
                return Some(End::Again("a delivery was lost"));
            }
            let last = header(async_nats::header::NATS_LAST_STREAM)?;
            let unheard =
                last + 1 >= self.next && self.sender.send(Read::CaughtUp(last)).await.is_err();
            return unheard.then_some(End::Unheard);
        }
        let description = message.description.as_deref().unwrap_or_default();
        let goes_on = status == StatusCode::TIMEOUT
            || (status == StatusCode::REQUEST_TERMINATED
                && (description.contains("MaxBytes") || description.contains("Batch Completed")));
        if !goes_on {
            return Some(End::Again("the consumer is gone"));
        }
        let left = header(async_nats::HeaderName::from_static("Nats-Pending-Messages"));
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(life.asked);
        life.asked = life.asked.saturating_sub(left);
        None
    }

    async fn take_message(&mut self, life: &mut Life, message: async_nats::Message) -> Option<End> {
        let delivery = message.reply.as_ref().and_then(|reply| Delivery::parse(reply.as_str()));
        let Some(delivery) = delivery else {
            return Some(End::Again("a delivery without its numbers"));
        };
        if delivery.consumer_seq != life.delivered + 1 || delivery.stream_seq < self.next {
            return Some(End::Again("a delivery was lost"));
        }
        life.delivered = delivery.consumer_seq;
        life.asked = life.asked.saturating_sub(1);
        let stored = Stored {
            subject: message.subject.into_string(),
            headers: message.headers,
            payload: message.payload,
            stream_seq: delivery.stream_seq,
            time: millis_of_nanos(delivery.nanos),
            pending: delivery.pending,
        };
        let unheard = self.sender.send(Read::Message(stored)).await.is_err();
        self.next = delivery.stream_seq + 1;
        unheard.then_some(End::Unheard)
    }

    /// Tells the server that the consumer is not wanted any more, without waiting for its answer;
    /// where it does not hear, it drops it after a while by itself.
    async fn close(&self, life: Life) {
        let info = life.consumer.cached_info();
        let subject = format!("CONSUMER.DELETE.{}.{}", info.stream_name, info.name);
        let _ = self.nats.jetstream().send_request(subject, async_nats::Request::new()).await;
    }
}

/// What the reply subject of a delivery says:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanos>.<pending>`, in its
/// second form with domain and account before the stream and maybe more behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) deliveries: u64,
    pub(crate) stream_seq: u64,
    pub(crate) consumer_seq: u64,
    pub(crate) nanos: i128,
    pub(crate) pending: u64,
}

impl Delivery {
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let words = reply.strip_prefix("$JS.ACK.")?;
        let skip = if words.split('.').count() == 7 { 2 } else { 4 };
        let mut words = words.split('.').skip(skip);
        Some(Self {
            deliveries: words.next()?.parse().ok()?,
            stream_seq: words.next()?.parse().ok()?,
            consumer_seq: words.next()?.parse().ok()?,
            nanos: words.next()?.parse().ok()?,
            pending: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Delivery;

    #[test]
    fn a_delivery_is_read_in_both_forms() {
        let delivery = Delivery {
            deliveries: 3,
            stream_seq: 100,
            consumer_seq: 7,
            nanos: 1_790_230_470_084_404_000,
            pending: 42,
        };
        for reply in [
            "$JS.ACK.events.c.3.100.7.1790230470084404000.42",
            "$JS.ACK._.szMp.events.c.3.100.7.1790230470084404000.42",
            "$JS.ACK.hub.szMp.events.c.3.100.7.1790230470084404000.42.token.more",
        ] {
            assert_eq!(Delivery::parse(reply), Some(delivery));
        }
        assert_eq!(Delivery::parse("$JS.ACK.events.c.3"), None);
        assert_eq!(Delivery::parse("_INBOX.x"), None);
    }
}
