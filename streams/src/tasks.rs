//! PLED_TASKS: attempts of tasks, handed to whoever pulls their queue.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::consumer::pull::{BatchConfig, Config};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::{HeaderMap, Request, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use pled_engine::effect::Timeouts;
use pled_engine::id::{ExecutionId, TemplateRef, Token};
use pled_engine::message::Millis;
use pled_engine::partition::{Published, TaskMessage};
use pled_engine::value::Value;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::actions;
use crate::connection::{Connection, Nats};
use crate::publish::Publication;
use crate::read::{ReadError, last_from_leader};
use crate::reader;
use crate::subject::{CLASSES, Class, StreamKind, is_queue, worker_consumer};

/// How long a worker may be silent about a task, where its queue says nothing else.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// Tasks of a class and queue that workers may hold at a time.
const MAX_ACK_PENDING: i64 = 10_000;
/// How long a pull request stays with the server.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it has nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Without a word for this long the requests are made again.
const SILENCE: Duration = Duration::from_secs(12);
/// Pauses where the consumer is not there.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// One attempt of a task, as a worker in any language gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRequest {
    /// `<execution>/<entry>/<index>`: the idempotency key, the same over all attempts.
    pub task: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The execution that asks.
    pub execution: ExecutionId,
    /// Its template version.
    pub template: TemplateRef,
    /// The named work.
    pub action: Arc<str>,
    /// The arguments.
    #[serde(default)]
    pub input: Value,
    /// Time-outs in milliseconds.
    #[serde(default)]
    pub timeout: Timeouts,
    /// When schedule-to-close ends.
    #[serde(default)]
    pub deadline: Option<Millis>,
    /// Data for people.
    #[serde(default)]
    pub meta: Value,
    /// Where the result is published, expecting that the subject is empty.
    pub result_subject: String,
}

impl TaskRequest {
    /// The place where the task was first asked for, the end of [`Self::task`].
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        let (rest, index) = self.task.rsplit_once('/')?;
        let (_, entry) = rest.rsplit_once('/')?;
        format!("{entry}-{index}").parse().ok()
    }
}

/// The request that a task effect becomes.
#[must_use]
pub fn request(nats: &Nats, message: &TaskMessage) -> TaskRequest {
    let TaskMessage { execution, template, effect, .. } = message;
    let Token { entry, index } = effect.task;
    TaskRequest {
        task: format!("{execution}/{entry}/{index}"),
        attempt: effect.attempt,
        execution: execution.clone(),
        template: template.clone(),
        action: effect.action.clone(),
        input: effect.input.clone(),
        timeout: effect.timeout,
        deadline: effect.deadline,
        meta: effect.meta.clone(),
        result_subject: nats.names().result(execution, effect.task, effect.attempt),
    }
}

/// Publishes an attempt, expecting that its subject is empty: a conflict means that it is there.
pub fn publish(
    nats: &Nats,
    partition: u16,
    message: &TaskMessage,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let effect = &message.effect;
    let queued = if is_queue(&effect.queue) {
        serde_json::to_vec(&request(nats, message)).map_err(|error| error.to_string())
    } else {
        Err(format!("{:?} is no name of a queue", effect.queue))
    };
    let queued = queued.map(|payload| {
        nats.publisher(StreamKind::Tasks).publish(Publication {
            subject: nats.names().task(
                Class::Normal,
                &effect.queue,
                partition,
                &message.execution,
                effect.task,
                effect.attempt,
            ),
            payload: payload.into(),
            expected: Some(0),
            ..Publication::default()
        })
    });
    async move {
        match queued {
            Ok(published) => published.await,
            Err(reason) => Published::Refused(reason),
        }
    }
}

/// Whether an attempt is in the stream, as its leader says.
///
/// # Errors
/// If the leader does not answer.
pub async fn exists(
    nats: &Nats,
    partition: u16,
    execution: &ExecutionId,
    queue: &str,
    task: Token,
    attempt: u32,
) -> Result<bool, ReadError> {
    if !is_queue(queue) {
        return Ok(false);
    }
    let subject = nats.names().task(Class::Normal, queue, partition, execution, task, attempt);
    Ok(last_from_leader(nats, StreamKind::Tasks, &subject).await?.is_some())
}

/// A queue's consumers could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The name is none.
    #[error("{0:?} is no name of a queue: words of letters, digits and _ with dots between")]
    Name(String),
    /// The server refuses, or does not answer.
    #[error("the consumer {consumer}: {reason}")]
    Refused {
        /// The consumer.
        consumer: String,
        /// Why.
        reason: String,
    },
}

/// Makes the consumers of a queue, one for each class, or gives those that are there this
/// `ack_wait`: how long a worker may be silent about a task before another gets it.
///
/// # Errors
/// If the name is none, or the server refuses.
pub async fn ensure_consumers(
    nats: &Nats,
    queue: &str,
    ack_wait: Duration,
) -> Result<(), QueueError> {
    if !is_queue(queue) {
        return Err(QueueError::Name(queue.to_owned()));
    }
    for class in CLASSES {
        make_consumer(nats, class, queue, ack_wait).await?;
    }
    Ok(())
}

/// Makes those consumers of a queue that are not there. With a `heartbeat`, those that wait longer
/// for a sign of life wait so long from now on.
pub(crate) async fn ensure_queue(
    nats: &Nats,
    queue: &str,
    heartbeat: Option<Duration>,
) -> Result<(), QueueError> {
    if !is_queue(queue) {
        return Err(QueueError::Name(queue.to_owned()));
    }
    for class in CLASSES {
        let consumer = worker_consumer(class, queue);
        let known = match nats.stream(StreamKind::Tasks).consumer_info(&consumer).await {
            Ok(info) => Some(info.config.ack_wait),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => None,
            Err(error) => {
                return Err(QueueError::Refused { consumer, reason: error.to_string() });
            }
        };
        let wanted = heartbeat.unwrap_or(known.unwrap_or(ACK_WAIT));
        if known.is_none_or(|known| wanted < known) {
            make_consumer(nats, class, queue, wanted).await?;
        }
    }
    Ok(())
}

/// Gives the consumers of a queue the limits that the binding of the action of its name has.
pub(crate) async fn limit_queue(nats: &Nats, queue: &str) -> Result<(), QueueError> {
    for class in CLASSES {
        let wait = ack_wait(nats, queue, class).await;
        let consumer = worker_consumer(class, queue);
        let wait =
            wait.map_err(|error| QueueError::Refused { consumer, reason: error.to_string() })?;
        make_consumer(nats, class, queue, wait.unwrap_or(ACK_WAIT)).await?;
    }
    Ok(())
}

/// Makes a consumer, or alters the one that is there. The server counts what workers hold of it, so
/// the bound holds over all workers, in any language.
async fn make_consumer(
    nats: &Nats,
    class: Class,
    queue: &str,
    ack_wait: Duration,
) -> Result<(), QueueError> {
    let consumer = worker_consumer(class, queue);
    let limits = actions::limits(nats, queue).await.map_err(|error| QueueError::Refused {
        consumer: consumer.clone(),
        reason: error.to_string(),
    })?;
    let config = Config {
        durable_name: Some(consumer.clone()),
        description: Some(format!("tasks of the queue {queue}, class {}", class.as_str())),
        filter_subject: nats.names().tasks(class, queue),
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_ack_pending: limits.concurrency.map_or(MAX_ACK_PENDING, i64::from),
        max_deliver: -1,
        max_waiting: 2_048,
        ..Config::default()
    };
    match nats.stream(StreamKind::Tasks).create_consumer(config).await {
        Ok(_) => Ok(()),
        Err(error) => Err(QueueError::Refused { consumer, reason: error.to_string() }),
    }
}

/// How long the consumer of a queue waits for a sign of life; `None` if the queue is not there.
///
/// # Errors
/// If there is no answer.
pub async fn ack_wait(
    nats: &Nats,
    queue: &str,
    class: Class,
) -> Result<Option<Duration>, ReadError> {
    let consumer = worker_consumer(class, queue);
    match nats.stream(StreamKind::Tasks).consumer_info(&consumer).await {
        Ok(info) => Ok(Some(info.config.ack_wait)),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::unavailable(consumer, error)),
    }
}

/// How a queue does, over all classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// Tasks that wait for a worker.
    pub waiting: u64,
    /// Tasks that workers hold.
    pub held: u64,
    /// Requests of workers for more: 0 says that no worker is there, or that all are busy.
    pub pulls: u64,
}

/// How a queue does; `None`: it has no consumers, so no worker can pull it.
///
/// # Errors
/// If there is no answer.
pub async fn queue_facts(nats: &Nats, queue: &str) -> Result<Option<QueueFacts>, ReadError> {
    let mut facts = None;
    for class in CLASSES {
        let consumer = worker_consumer(class, queue);
        match nats.stream(StreamKind::Tasks).consumer_info(&consumer).await {
            Ok(info) => {
                let count = |number: usize| u64::try_from(number).unwrap_or_default();
                let known = facts.get_or_insert(QueueFacts::default());
                known.waiting += info.num_pending;
                known.held += count(info.num_ack_pending);
                known.pulls += count(info.num_waiting);
            }
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {}
            Err(error) => return Err(ReadError::unavailable(consumer, error)),
        }
    }
    Ok(facts)
}

/// How many tasks of a queue wait or are held by workers, over all classes.
///
/// # Errors
/// If there is no answer.
pub async fn outstanding(nats: &Nats, queue: &str) -> Result<u64, ReadError> {
    let mut sum = 0;
    for class in CLASSES {
        let consumer = worker_consumer(class, queue);
        match nats.stream(StreamKind::Tasks).consumer_info(&consumer).await {
            Ok(info) => {
                sum += info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or_default();
            }
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {}
            Err(error) => return Err(ReadError::unavailable(consumer, error)),
        }
    }
    Ok(sum)
}

/// Pulls the tasks of a queue until it is dropped.
#[derive(Debug)]
pub struct TaskPuller {
    deliveries: mpsc::Receiver<Delivery>,
    task: JoinHandle<()>,
}

impl Drop for TaskPuller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Pulls a queue's tasks of a class. At most `max` deliveries are in hand at a time: those that
/// were given and not dropped, those that wait here, and those that are on their way. A queue that
/// is not there yet is waited for.
#[must_use]
pub fn pull(nats: &Nats, queue: &str, class: Class, max: usize) -> TaskPuller {
    let max = max.clamp(1, Semaphore::MAX_PERMITS);
    let (sender, deliveries) = mpsc::channel(max.min(1_024));
    let pulling = Pulling {
        nats: nats.clone(),
        next: format!(
            "CONSUMER.MSG.NEXT.{}.{}",
            nats.names().stream(StreamKind::Tasks),
            worker_consumer(class, queue)
        )
        .into(),
        max,
        hands: Arc::new(Semaphore::new(max)),
        sender,
    };
    TaskPuller { deliveries, task: tokio::spawn(pulling.run(nats.connections())) }
}

impl TaskPuller {
    /// The next task. Waits for as long as it takes; safe to drop before.
    pub async fn next(&mut self) -> Delivery {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            // The task only ends with this puller or with the runtime.
            None => std::future::pending().await,
        }
    }

    /// Stops pulling, and gives back what waits here and was not given to anybody.
    pub async fn stop(mut self) {
        self.task.abort();
        self.deliveries.close();
        while let Some(delivery) = self.deliveries.recv().await {
            delivery.nak().await;
        }
    }
}

struct Pulling {
    nats: Nats,
    next: Subject,
    max: usize,
    hands: Arc<Semaphore>,
    sender: mpsc::Sender<Delivery>,
}

/// Hands that are free, and how many tasks they were promised.
struct Free {
    hands: OwnedSemaphorePermit,
    asked: usize,
}

enum Word {
    Ended,
    Nothing,
    Gone,
}

impl Pulling {
    async fn run(self, mut connections: watch::Receiver<Connection>) {
        let mut pause = PAUSES.0;
        loop {
            connections.borrow_and_update();
            let inbox = self.nats.client().new_inbox();
            let Ok(mut messages) = self.nats.client().subscribe(inbox.clone()).await else {
                return; // The client is closed.
            };
            let before = Instant::now();
            if let Word::Ended = self.live(&inbox, &mut messages, &mut connections).await {
                return;
            }
            let _ = messages.unsubscribe().await;
            let lived = before.elapsed() > SILENCE;
            pause = if lived { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = connections.changed() => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Pulls through one inbox until it is better to begin anew.
    async fn live(
        &self,
        inbox: &str,
        messages: &mut Subscriber,
        connections: &mut watch::Receiver<Connection>,
    ) -> Word {
        let Ok(hands) = self.hands.clone().try_acquire_many_owned(0) else {
            return Word::Ended;
        };
        let mut free = Free { hands, asked: 0 };
        let mut heard = Instant::now();
        loop {
            self.ask(inbox, &mut free).await;
            let all_asked = free.asked == free.hands.num_permits();
            tokio::select! {
                biased;
                message = messages.next() => {
                    let Some(message) = message else { return Word::Ended };
                    heard = Instant::now();
                    match self.take(message, &mut free).await {
                        Word::Nothing => {}
                        word @ (Word::Ended | Word::Gone) => return word,
                    }
                }
                changed = connections.changed() => {
                    if changed.is_err() { return Word::Ended }
                    return Word::Gone;
                }
                hand = self.hands.clone().acquire_owned(), if all_asked => {
                    let Ok(hand) = hand else { return Word::Ended };
                    free.hands.merge(hand);
                }
                () = tokio::time::sleep_until(heard + SILENCE), if free.asked > 0 => {
                    return Word::Gone;
                }
                () = self.sender.closed() => return Word::Ended,
            }
            if free.asked == 0 {
                heard = Instant::now();
            }
        }
    }

    /// Asks for tasks once a good part of the hands is free, or where nothing is asked for.
    async fn ask(&self, inbox: &str, free: &mut Free) {
        while let Ok(more) = self.hands.clone().try_acquire_owned() {
            free.hands.merge(more);
        }
        let unasked = free.hands.num_permits().saturating_sub(free.asked);
        let enough = unasked >= (self.max / 4).max(1) || free.asked == 0;
        if unasked == 0 || !enough {
            return;
        }
        let batch = BatchConfig {
            batch: unasked,
            expires: Some(EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        let payload = serde_json::to_vec(&batch).unwrap_or_default();
        let request = Request::new().payload(payload.into()).inbox(inbox.to_owned());
        if self.nats.jetstream().send_request(self.next.clone(), request).await.is_ok() {
            free.asked += unasked;
        }
    }

    async fn take(&self, message: async_nats::Message, free: &mut Free) -> Word {
        match message.status.unwrap_or(StatusCode::OK) {
            StatusCode::OK => {
                free.asked = free.asked.saturating_sub(1);
                let hand = free.hands.split(1);
                let delivery = Delivery::new(self.nats.clone(), message, hand);
                if self.sender.send(delivery).await.is_err() { Word::Ended } else { Word::Nothing }
            }
            StatusCode::IDLE_HEARTBEAT => Word::Nothing,
            StatusCode::TIMEOUT => {
                let header = message.headers.as_ref().and_then(|headers| {
                    headers.get(async_nats::HeaderName::from_static("Nats-Pending-Messages"))
                });
                let left = header.and_then(|left| left.as_str().parse().ok());
                free.asked = free.asked.saturating_sub(left.unwrap_or(free.asked));
                Word::Nothing
            }
            _ => {
                let why = message.description.as_deref().unwrap_or("no consumer");
                tracing::debug!(consumer = %self.next, why, "pulling again");
                Word::Gone
            }
        }
    }
}

/// A task in the hands of a worker. Dropping it makes room for another; the server hands it out
/// again unless it was acknowledged.
#[derive(Debug)]
pub struct Delivery {
    /// What is asked for; an error in words if it cannot be read.
    pub request: Result<TaskRequest, String>,
    /// How often it was handed out, this time included.
    pub deliveries: u64,
    /// Its headers: `traceparent`.
    pub headers: HeaderMap,
    nats: Nats,
    reply: Option<Subject>,
    _hand: Option<OwnedSemaphorePermit>,
}

/// An acknowledgement was not confirmed: the task may be handed out again.
#[derive(Debug, thiserror::Error)]
#[error("the acknowledgement of a task was not confirmed: {0}")]
pub struct AckError(String);

/// How long one confirmation of an acknowledgement is waited for, and all of them.
const ACK_ATTEMPT: Duration = Duration::from_secs(2);
/// See [`ACK_ATTEMPT`].
const ACK_ATTEMPTS: Duration = Duration::from_secs(60);

impl Delivery {
    fn new(nats: Nats, message: async_nats::Message, hand: Option<OwnedSemaphorePermit>) -> Self {
        let request = serde_json::from_slice(&message.payload).map_err(|error| error.to_string());
        let numbers =
            message.reply.as_ref().and_then(|reply| reader::Delivery::parse(reply.as_str()));
        Self {
            request,
            deliveries: numbers.map_or(1, |numbers| numbers.deliveries),
            headers: message.headers.unwrap_or_default(),
            nats,
            reply: message.reply,
            _hand: hand,
        }
    }

    /// Says that the task is finished, and again until the server confirms it.
    ///
    /// # Errors
    /// If it did not confirm it within a minute.
    pub async fn ack(&self) -> Result<(), AckError> {
        let Some(reply) = &self.reply else {
            return Err(AckError("it came without a reply subject".into()));
        };
        let deadline = Instant::now() + ACK_ATTEMPTS;
        let mut pause = PAUSES.0;
        loop {
            let request =
                Request::new().payload(Bytes::from_static(b"+ACK")).timeout(Some(ACK_ATTEMPT));
            let answer = self.nats.client().send_request(reply.clone(), request).await;
            let Err(error) = answer else { return Ok(()) };
            if Instant::now() + pause > deadline {
                return Err(AckError(error.to_string()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Says that the task is being worked on: its `ack_wait` begins anew.
    pub async fn progress(&self) {
        self.say(b"+WPI").await;
    }

    /// Gives the task back at once: for a worker that shuts down.
    pub async fn nak(&self) {
        self.say(b"-NAK").await;
    }

    /// Says that the task is never to be handed out again: for one that cannot be read.
    pub async fn term(&self) {
        self.say(b"+TERM").await;
    }

    async fn say(&self, word: &'static [u8]) {
        let Some(reply) = &self.reply else { return };
        let said = self.nats.client().publish(reply.clone(), Bytes::from_static(word)).await;
        if let Err(error) = said {
            tracing::debug!(%error, "a word about a task was not sent");
        }
    }
}
