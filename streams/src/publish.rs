//! The one publisher to a stream in a process: everything pipelined, in batches where they pay.
//!
//! With `sync_interval: always` on one server each message is an fsync, and an atomic batch is the
//! group commit; everywhere else the server groups by itself and single messages are faster. So a
//! task owns what waits, and decides by [`Mode`], by how much waits, and by what both ways have cost
//! lately.

mod costs;

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use async_nats::{Client, HeaderMap, HeaderName, StatusCode, Subscriber, header};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use pled_engine::partition::Published;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::subject::{Names, StreamKind};
use costs::Costs;

/// How long an acknowledgement may take.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often overdue acknowledgements are looked for.
const EXPIRY_CHECK: Duration = Duration::from_millis(100);
/// Messages that wait in the queue before callers wait.
const QUEUE: usize = 16_384;
/// Single messages without an acknowledgement at any time.
const WINDOW: usize = 4_096;
/// Messages in an atomic batch.
const BATCH: usize = 256;

/// What an acknowledgement costs on this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The server acknowledges before it syncs: single messages always.
    #[default]
    Relaxed,
    /// One server that syncs each message: batches from where they cost less, about 16 waiting.
    Durable,
    /// Several servers that sync: batches from 256 waiting.
    Replicated,
}

impl Mode {
    /// From how many messages that wait or are under way a batch pays.
    fn threshold(self, costs: &Costs) -> usize {
        match self {
            Self::Relaxed => usize::MAX,
            Self::Durable => costs.break_even(),
            Self::Replicated => 256,
        }
    }
}

/// The mode of all publishers of a connection.
#[derive(Clone, Debug)]
pub(crate) struct SharedMode(Arc<AtomicU8>);

impl SharedMode {
    pub(crate) fn new(mode: Mode) -> Self {
        let shared = Self(Arc::default());
        shared.set(mode);
        shared
    }

    pub(crate) fn set(&self, mode: Mode) {
        let number = match mode {
            Mode::Relaxed => 0,
            Mode::Durable => 1,
            Mode::Replicated => 2,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    fn get(&self) -> Mode {
        match self.0.load(Ordering::Relaxed) {
            1 => Mode::Durable,
            2 => Mode::Replicated,
            _ => Mode::Relaxed,
        }
    }
}

/// A message to be published.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Its subject.
    pub subject: String,
    /// Its headers, without the expected sequence.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
    /// The sequence of the last message that its subject must have; 0 for none.
    pub expected: Option<u64>,
}

/// Publishes to one stream. Cheap to clone; all clones share one queue.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    publication: Publication,
    answer: oneshot::Sender<Published>,
    /// It is not to go into a batch: one that held it was refused.
    single: bool,
}

impl Publisher {
    /// Publishes, in the order of calls. The message is queued at the call; the future gives what
    /// became of it and need not be awaited.
    ///
    /// Only where the queue is full does a message wait outside of it, until the future is polled,
    /// and lose its place in the order; who needs an order awaits.
    pub fn publish(
        &self,
        publication: Publication,
    ) -> impl Future<Output = Published> + Send + 'static + use<> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { publication, answer, single: false };
        let full = match self.queue.try_send(waiting) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(waiting)) => Some((self.queue.clone(), waiting)),
        };
        async move {
            if let Some((queue, waiting)) = full {
                let _ = queue.send(waiting).await;
            }
            answered.await.unwrap_or(Published::Unknown)
        }
    }

    pub(crate) fn start(
        client: &Client,
        stream: &Stream<()>,
        names: &Names,
        kind: StreamKind,
        mode: SharedMode,
        connections: watch::Receiver<Connection>,
    ) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let mode = if batches(kind) { mode } else { SharedMode::new(Mode::Relaxed) };
        let connected = connections.borrow().connected;
        let committer = Committer {
            connected,
            client: client.clone(),
            stream: stream.clone(),
            names: names.clone(),
            mode,
            inbox: client.new_inbox(),
            waiting: VecDeque::new(),
            flight: VecDeque::new(),
            first: 0,
            unanswered: 0,
            batch: None,
            batches: 0,
            costs: Costs::default(),
            connections,
        };
        tokio::spawn(committer.run(incoming));
        Self { queue }
    }
}

/// Whether the stream takes atomic batches. Templates and actions are rare, and snapshots are not
/// synced.
pub(crate) fn batches(kind: StreamKind) -> bool {
    match kind {
        StreamKind::Events
        | StreamKind::Signals
        | StreamKind::Ingest
        | StreamKind::Timers
        | StreamKind::Journal
        | StreamKind::Tasks
        | StreamKind::Dead
        | StreamKind::Locks => true,
        StreamKind::Templates
        | StreamKind::Actions
        | StreamKind::Schedules
        | StreamKind::Snapshots => false,
    }
}

/// Owns what waits and what is under way.
struct Committer {
    client: Client,
    stream: Stream<()>,
    names: Names,
    mode: SharedMode,
    inbox: String,
    waiting: VecDeque<Waiting>,
    /// What was sent, in order; its number is `first` plus its place. `None` when it is answered.
    flight: VecDeque<Option<Flying>>,
    first: u64,
    /// How many of `flight` are not answered.
    unanswered: usize,
    /// The number of the batch that is under way.
    batch: Option<u64>,
    /// How many batches were made.
    batches: u64,
    /// What the server takes for either way.
    costs: Costs,
    connections: watch::Receiver<Connection>,
    connected: bool,
}

struct Flying {
    sent: Instant,
    cargo: Cargo,
}

enum Sent {
    Yes,
    /// It was not, and this is the answer.
    No(Published),
}

enum Cargo {
    Single(oneshot::Sender<Published>),
    Batch(Vec<Waiting>),
}

impl Committer {
    async fn run(mut self, mut incoming: mpsc::Receiver<Waiting>) {
        let Ok(mut acks) = self.client.subscribe(format!("{}.*", self.inbox)).await else {
            return; // The client is closed: whoever waits reads `Unknown`.
        };
        let mut expiry = tokio::time::interval(EXPIRY_CHECK);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = Vec::with_capacity(BATCH);
        let mut open = true;
        loop {
            let room = QUEUE.saturating_sub(self.waiting.len()).min(BATCH);
            tokio::select! {
                biased;
                ack = acks.next() => {
                    let Some(ack) = ack else { return };
                    self.acknowledged(&ack).await;
                    self.drain(&mut acks).await;
                }
                changed = self.connections.changed() => {
                    if changed.is_err() { return }
                    self.connection_changed();
                }
                count = incoming.recv_many(&mut taken, room), if open && room > 0 => {
                    open = count > 0;
                    self.waiting.extend(taken.drain(..));
                }
                _ = expiry.tick() => self.expire(),
            }
            self.dispatch().await;
            if !open && self.waiting.is_empty() && self.unanswered == 0 {
                return; // Nobody can publish any more.
            }
        }
    }

    /// Takes the acknowledgements that are there already.
    async fn drain(&mut self, acks: &mut Subscriber) {
        for _ in 0..WINDOW {
            let Some(Some(ack)) = acks.next().now_or_never() else { return };
            self.acknowledged(&ack).await;
        }
    }

    /// Sends what may be sent now.
    async fn dispatch(&mut self) {
        let threshold = self.mode.get().threshold(&self.costs);
        while let Some(next) = self.waiting.front() {
            if !self.connected {
                // What the client kept would be stored after the connection is made again, maybe
                // on a server that lost what it builds on.
                for waiting in self.waiting.drain(..) {
                    let _ = waiting.answer.send(Published::Unknown);
                }
                return;
            }
            let under_way = self.unanswered + self.waiting.len();
            if next.single || under_way < threshold {
                if self.unanswered >= WINDOW {
                    return;
                }
                if let Some(waiting) = self.waiting.pop_front() {
                    self.send_single(waiting).await;
                }
            } else if self.batch.is_none() && self.waiting.len() >= threshold {
                self.send_batch().await;
            } else {
                return; // Too many for singles, too few for a batch: answers are on their way.
            }
        }
    }

    async fn send_single(&mut self, waiting: Waiting) {
        let Waiting { publication, answer, .. } = waiting;
        let reply = format!("{}.{}", self.inbox, self.first + count(self.flight.len()));
        let Publication { subject, mut headers, payload, expected } = publication;
        expect(&mut headers, expected);
        match self.send(subject, Some(reply), headers, payload).await {
            Sent::Yes => self.fly(Cargo::Single(answer)),
            Sent::No(published) => drop(answer.send(published)),
        }
    }

    /// Sends up to [`BATCH`] messages as one, none with the subject of another; what is left out
    /// keeps its order.
    async fn send_batch(&mut self) {
        let mut members: Vec<Waiting> = Vec::with_capacity(BATCH.min(self.waiting.len()));
        let mut left = VecDeque::new();
        let mut subjects = HashSet::with_capacity(BATCH);
        while let Some(waiting) = self.waiting.pop_front() {
            let too_large =
                waiting.publication.payload.len() + HEADROOM > self.client.max_payload();
            let fits = !waiting.single
                && !too_large
                && waiting.publication.headers.get(header::NATS_MESSAGE_ID).is_none()
                && subjects.insert(waiting.publication.subject.clone());
            if fits {
                members.push(waiting);
            } else {
                left.push_back(Waiting { single: waiting.single || too_large, ..waiting });
            }
            if members.len() == BATCH {
                break;
            }
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        if members.len() < 2 {
            for mut member in members {
                member.single = true;
                self.waiting.push_front(member);
            }
            if let Some(front) = self.waiting.front_mut() {
                front.single = true;
            }
            return;
        }
        self.batches += 1;
        let number = self.first + count(self.flight.len());
        let id = format!("{}-{}", self.inbox.rsplit('.').next().unwrap_or_default(), self.batches);
        let last = members.len();
        for (index, member) in members.iter().enumerate() {
            let Publication { subject, headers, payload, expected } = &member.publication;
            let mut headers = headers.clone();
            expect(&mut headers, *expected);
            headers.insert(header::NATS_BATCH_ID, id.as_str());
            headers.insert(header::NATS_BATCH_SEQUENCE, (index + 1).to_string());
            let reply = (index + 1 == last).then(|| {
                headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
                format!("{}.{number}", self.inbox)
            });
            let sent = self.send(subject.clone(), reply, headers, payload.clone()).await;
            if let Sent::No(_) = sent {
                // Without its commit the server gives the batch up: nothing of it is stored.
                self.singly(members);
                return;
            }
        }
        self.fly(Cargo::Batch(members));
        self.batch = Some(number);
    }

    /// Hands a message to the client, which takes none while it is full; and it stays full for as
    /// long as there is no connection.
    async fn send(
        &mut self,
        subject: String,
        reply: Option<String>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Sent {
        let (client, connections) = (&self.client, &mut self.connections);
        let publish = async move {
            match reply {
                Some(reply) if headers.is_empty() => {
                    client.publish_with_reply(subject, reply, payload).await
                }
                Some(reply) => {
                    client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                }
                None => client.publish_with_headers(subject, headers, payload).await,
            }
        };
        tokio::select! {
            biased;
            sent = publish => match sent {
                Ok(()) => Sent::Yes,
                Err(error) => Sent::No(unsent(&error)),
            },
            _ = connections.changed() => {
                self.connection_changed();
                Sent::No(Published::Unknown)
            }
        }
    }

    fn fly(&mut self, cargo: Cargo) {
        self.unanswered += match &cargo {
            Cargo::Single(_) => 1,
            Cargo::Batch(members) => members.len(),
        };
        self.flight.push_back(Some(Flying { sent: Instant::now(), cargo }));
    }

    /// Takes what was sent under `number`.
    fn land(&mut self, number: u64) -> Option<Flying> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let flying = self.flight.get_mut(place)?.take()?;
        while let Some(None) = self.flight.front() {
            self.flight.pop_front();
            self.first += 1;
        }
        if self.batch == Some(number) {
            self.batch = None;
        }
        self.unanswered -= match &flying.cargo {
            Cargo::Single(_) => 1,
            Cargo::Batch(members) => members.len(),
        };
        Some(flying)
    }

    async fn acknowledged(&mut self, ack: &async_nats::Message) {
        let number = ack.subject.as_str().rsplit('.').next().and_then(|number| number.parse().ok());
        let Some(flying) = number.and_then(|number| self.land(number)) else {
            return; // It came too late: `Unknown` was answered.
        };
        let published = read_ack(ack);
        if let Published::Stored { .. } = published {
            let is_batch = matches!(flying.cargo, Cargo::Batch(_));
            self.costs.acknowledged(flying.sent, Instant::now(), is_batch);
        }
        match flying.cargo {
            Cargo::Single(answer) => {
                let _ = answer.send(published);
            }
            Cargo::Batch(members) => self.batch_answered(members, published).await,
        }
    }

    async fn batch_answered(&mut self, members: Vec<Waiting>, published: Published) {
        match published {
            Published::Stored { stream_seq } => {
                let before = stream_seq.saturating_sub(count(members.len()));
                for (index, member) in (1..).zip(members) {
                    let _ = member.answer.send(Published::Stored { stream_seq: before + index });
                }
            }
            Published::Unknown => {
                for member in members {
                    let _ = member.answer.send(Published::Unknown);
                }
            }
            Published::Conflict { last: Some(last) } if last > 0 => {
                self.without_bad_member(members, last).await;
            }
            Published::Conflict { .. }
            | Published::Full
            | Published::TooLarge
            | Published::Refused(_) => self.singly(members),
        }
    }

    /// Answers the member whose subject the message at `last` has, and sends the rest again.
    async fn without_bad_member(&mut self, mut members: Vec<Waiting>, last: u64) {
        let lookup = tokio::time::timeout(ACK_TIMEOUT, self.stream.direct_get(last)).await;
        let subject = match lookup {
            Ok(Ok(message)) => message.subject.into_string(),
            Ok(Err(_)) | Err(_) => return self.singly(members),
        };
        let published = self.names.published(&subject);
        let is_bad = |member: &Waiting| {
            let publication = &member.publication;
            publication.expected != Some(last)
                && (publication.subject == subject
                    || Some(&publication.subject) == published.as_ref())
        };
        let Some(bad) = members.iter().position(is_bad) else {
            return self.singly(members);
        };
        let _ = members.remove(bad).answer.send(Published::Conflict { last: Some(last) });
        for member in members.into_iter().rev() {
            self.waiting.push_front(member);
        }
    }

    /// Lets each member get an answer of its own.
    fn singly(&mut self, members: Vec<Waiting>) {
        for member in members.into_iter().rev() {
            self.waiting.push_front(Waiting { single: true, ..member });
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(flying) = self.flight.front() {
            if flying.as_ref().is_some_and(|flying| flying.sent + ACK_TIMEOUT > now) {
                return;
            }
            self.give_up_first();
        }
    }

    /// The connection was lost or made again: what was under way is unknown.
    fn connection_changed(&mut self) {
        self.connected = self.connections.borrow_and_update().connected;
        while !self.flight.is_empty() {
            self.give_up_first();
        }
    }

    fn give_up_first(&mut self) {
        match self.land(self.first).map(|flying| flying.cargo) {
            Some(Cargo::Single(answer)) => {
                let _ = answer.send(Published::Unknown);
            }
            Some(Cargo::Batch(members)) => {
                for member in members {
                    let _ = member.answer.send(Published::Unknown);
                }
            }
            None => {
                self.flight.pop_front();
                self.first += 1;
            }
        }
    }
}

/// What headers of a batch may add to a message.
const HEADROOM: usize = 4_096;

fn expect(headers: &mut HeaderMap, expected: Option<u64>) {
    if let Some(expected) = expected {
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
    }
}

fn unsent(error: &async_nats::PublishError) -> Published {
    match error.kind() {
        async_nats::client::PublishErrorKind::MaxPayloadExceeded => Published::TooLarge,
        async_nats::client::PublishErrorKind::InvalidSubject
        | async_nats::client::PublishErrorKind::Send => Published::Refused(error.to_string()),
    }
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

fn read_ack(message: &async_nats::Message) -> Published {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Published::Unknown; // The stream is not there yet, or has no leader.
    }
    match serde_json::from_slice::<Ack>(&message.payload) {
        Ok(Ack { error: None, seq }) if seq > 0 => Published::Stored { stream_seq: seq },
        Ok(Ack { error: Some(error), .. }) => refused(error.err_code, error.description),
        Ok(_) | Err(_) => Published::Unknown,
    }
}

/// The meaning of an error code of JetStream for a publisher.
pub(crate) fn refused(code: u64, description: String) -> Published {
    match code {
        // Wrong last sequence, with the sequence and without.
        10071 | 10164 => {
            let last = description.rsplit(": ").next().and_then(|last| last.parse().ok());
            Published::Conflict { last }
        }
        // The stream, the account's or the server's store is full.
        10077 | 10002 | 10023 | 10028 | 10047 => Published::Full,
        10054 | 10097 => Published::TooLarge,
        // No leader, not current, too many requests.
        10008 | 10009 | 10118 | 10163 | 10167 => Published::Unknown,
        _ => Published::Refused(format!("{description} ({code})")),
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Sets a header without an allocation for its name. Line breaks, which no header can hold, become
/// spaces.
pub(crate) fn set_header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let name = HeaderName::from_static(name);
    if value.contains(['\r', '\n']) {
        headers.insert(name, value.replace(['\r', '\n'], " "));
    } else {
        headers.insert(name, value);
    }
}
