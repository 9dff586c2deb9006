//! Pulls the tasks of queues and performs each: result first, acknowledgement after.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pled_streams::subject::CLASSES;
use pled_streams::tasks::{self, Delivery, TaskPuller};
use pled_streams::{Class, Nats};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attempt::perform;
use super::registry::Registry;

/// How often the wait of a queue's consumer is asked for: a template may shorten it.
const ASK_WAIT: Duration = Duration::from_secs(15);

/// What an action worker is like.
#[derive(Clone, Debug)]
pub struct ActionConfig {
    /// The queues to pull; `None`: one for each action that the registry has.
    pub queues: Option<Vec<String>>,
    /// How many tasks of a queue and class are worked on at a time.
    pub concurrency: usize,
    /// How long to wait at shutdown for tasks that are being worked on; then they are given back.
    pub drain_timeout: Duration,
}

impl Default for ActionConfig {
    fn default() -> Self {
        Self { queues: None, concurrency: 64, drain_timeout: Duration::from_secs(10) }
    }
}

/// What all tasks of a worker share.
pub(super) struct Shared {
    pub(super) nats: Nats,
    pub(super) registry: Registry,
    /// Tasks that are being worked on here, by key and attempt.
    pub(super) running: Mutex<HashSet<(String, u32)>>,
    /// The largest result in bytes: its entry has to fit into a message with all else.
    pub(super) result_bytes_max: usize,
    /// Cancelled where there is no more time to finish: what is being worked on is given back.
    pub(super) give_back: CancellationToken,
}

/// Runs an action worker until `shutdown`: then it pulls no more, finishes what it holds, and
/// gives back what it cannot finish in time.
pub async fn run(
    nats: Nats,
    registry: Registry,
    config: ActionConfig,
    shutdown: CancellationToken,
) {
    let queues =
        config.queues.clone().unwrap_or_else(|| registry.actions().map(str::to_owned).collect());
    let give_back = CancellationToken::new();
    let shared = Arc::new(Shared {
        result_bytes_max: nats.max_payload() / 4,
        nats,
        registry,
        running: Mutex::default(),
        give_back: give_back.clone(),
    });
    tracing::info!(?queues, "tasks are pulled");
    let mut pulls = JoinSet::new();
    for queue in queues {
        let (sender, wait) = watch::channel(tasks::ACK_WAIT);
        pulls.spawn(follow_wait(shared.clone(), queue.clone(), sender, shutdown.clone()));
        for class in CLASSES {
            let puller = tasks::pull(&shared.nats, &queue, class, config.concurrency);
            let (shared, wait, shutdown) = (shared.clone(), wait.clone(), shutdown.clone());
            pulls.spawn(serve(shared, puller, wait, shutdown));
        }
    }
    shutdown.cancelled().await;
    tokio::select! {
        () = async { while pulls.join_next().await.is_some() {} } => return,
        () = tokio::time::sleep(config.drain_timeout) => give_back.cancel(),
    }
    while pulls.join_next().await.is_some() {}
}

/// Performs what a puller gives, each as a task of its own; the puller bounds how many.
async fn serve(
    shared: Arc<Shared>,
    mut puller: TaskPuller,
    wait: watch::Receiver<Duration>,
    shutdown: CancellationToken,
) {
    let mut attempts = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = attempts.join_next() => {}
            delivery = puller.next() => {
                let ack_wait = *wait.borrow();
                attempts.spawn(guarded(shared.clone(), delivery, ack_wait));
            }
        }
    }
    puller.stop().await;
    while attempts.join_next().await.is_some() {}
}

/// Performs a task unless the same attempt is being worked on here already: then its heartbeats
/// were late, and the attempt that runs acknowledges both.
async fn guarded(shared: Arc<Shared>, delivery: Delivery, ack_wait: Duration) {
    let request = match &delivery.request {
        Ok(request) => request,
        Err(reason) => {
            tracing::error!(reason, "a task that cannot be read is thrown away");
            metrics::counter!("pled_action_attempts_total", "action" => "other", "outcome" => "unreadable")
                .increment(1);
            return delivery.term().await;
        }
    };
    let attempt = (request.task.clone(), request.attempt);
    let running = || shared.running.lock().unwrap_or_else(PoisonError::into_inner);
    if !running().insert(attempt.clone()) {
        return;
    }
    perform(&shared, &delivery, request, ack_wait).await;
    running().remove(&attempt);
}

/// Keeps up with how long the consumers of a queue wait for a sign of life.
async fn follow_wait(
    shared: Arc<Shared>,
    queue: String,
    sender: watch::Sender<Duration>,
    shutdown: CancellationToken,
) {
    loop {
        match tasks::ack_wait(&shared.nats, &queue, Class::Normal).await {
            Ok(Some(wait)) => {
                sender.send_replace(wait);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the consumer is asked again"),
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_WAIT) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
