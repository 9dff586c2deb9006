//! Pulls the tasks of queues and performs each: result first, acknowledgement after.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pled_streams::actions::{self, Changed};
use pled_streams::subject::CLASSES;
use pled_streams::tasks::{self, Delivery, TaskPuller};
use pled_streams::{Class, Nats};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attempt::perform;
use super::binding::Binding;
use super::bound::Binder;
use super::handler::Handler;
use super::registry::Registry;

/// How often the wait of a queue's consumer is asked for: a template may shorten it.
const ASK_WAIT: Duration = Duration::from_secs(15);

/// What an action worker is like.
#[derive(Clone, Debug)]
pub struct ActionConfig {
    /// The queues to pull; `None`: one for each action that the registry has, and each bound one.
    pub queues: Option<Vec<String>>,
    /// Does the actions that PLED_ACTIONS binds, also those bound while the worker runs.
    pub binder: Option<Binder>,
    /// How many tasks of a queue and class are worked on at a time.
    pub concurrency: usize,
    /// How long to wait at shutdown for tasks that are being worked on; then they are given back.
    pub drain_timeout: Duration,
}

impl Default for ActionConfig {
    fn default() -> Self {
        Self { queues: None, binder: None, concurrency: 64, drain_timeout: Duration::from_secs(10) }
    }
}

/// What all tasks of a worker share.
pub(super) struct Shared {
    pub(super) nats: Nats,
    registry: Registry,
    /// Handlers of actions that are bound now.
    bound: RwLock<BTreeMap<String, Arc<dyn Handler>>>,
    /// Tasks that are being worked on here, by key and attempt.
    running: Mutex<HashSet<(String, u32)>>,
    /// The largest result in bytes: its entry has to fit into a message with all else.
    pub(super) result_bytes_max: usize,
    /// Cancelled where there is no more time to finish: what is being worked on is given back.
    pub(super) give_back: CancellationToken,
}

impl Shared {
    fn find(&self, action: &str) -> Option<Arc<dyn Handler>> {
        let bound = || self.bound.read().unwrap_or_else(PoisonError::into_inner);
        self.registry.find(action).cloned().or_else(|| bound().get(action).cloned())
    }
}

/// Runs an action worker until `shutdown`: then it pulls no more, finishes what it holds, and
/// gives back what it cannot finish in time.
pub async fn run(
    nats: Nats,
    registry: Registry,
    config: ActionConfig,
    shutdown: CancellationToken,
) {
    let give_back = CancellationToken::new();
    let shared = Arc::new(Shared {
        result_bytes_max: nats.max_payload() / 4,
        nats,
        registry,
        bound: RwLock::default(),
        running: Mutex::default(),
        give_back: give_back.clone(),
    });
    let mut pulls = Pulls {
        shared: shared.clone(),
        concurrency: config.concurrency,
        shutdown: shutdown.clone(),
        queues: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let of_its_own =
        |queue: &&str| config.binder.is_none() || shared.registry.find(queue).is_some();
    let queues: Vec<&str> = match &config.queues {
        // Those of bound actions begin when their binding is read.
        Some(queues) => queues.iter().map(String::as_str).filter(of_its_own).collect(),
        None => shared.registry.actions().collect(),
    };
    tracing::info!(?queues, "tasks are pulled");
    for queue in queues {
        pulls.start(queue);
    }
    match &config.binder {
        Some(binder) => pulls.follow(binder, config.queues.as_deref()).await,
        None => shutdown.cancelled().await,
    }
    let mut tasks = pulls.tasks;
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => return,
        () = tokio::time::sleep(config.drain_timeout) => give_back.cancel(),
    }
    while tasks.join_next().await.is_some() {}
}

/// The queues that are pulled.
struct Pulls {
    shared: Arc<Shared>,
    concurrency: usize,
    shutdown: CancellationToken,
    /// Each with what ends its pulls.
    queues: BTreeMap<String, CancellationToken>,
    tasks: JoinSet<()>,
}

impl Pulls {
    fn start(&mut self, queue: &str) {
        if self.queues.contains_key(queue) {
            return;
        }
        let stop = self.shutdown.child_token();
        self.queues.insert(queue.to_owned(), stop.clone());
        let (sender, wait) = watch::channel(tasks::ACK_WAIT);
        let follow = follow_wait(self.shared.clone(), queue.to_owned(), sender, stop.clone());
        self.tasks.spawn(follow);
        for class in CLASSES {
            let puller = tasks::pull(&self.shared.nats, queue, class, self.concurrency);
            let (shared, wait, stop) = (self.shared.clone(), wait.clone(), stop.clone());
            self.tasks.spawn(serve(shared, puller, wait, stop));
        }
    }

    /// Does what PLED_ACTIONS binds, of `only` these where they are given, until shutdown.
    async fn follow(&mut self, binder: &Binder, only: Option<&[String]>) {
        let mut watch = actions::watch(&self.shared.nats);
        loop {
            let changed = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some(_) = self.tasks.join_next() => continue,
                changed = watch.next() => changed,
            };
            let is_meant = |action: &str| {
                only.is_none_or(|only| only.iter().any(|one| one == action))
                    && self.shared.registry.find(action).is_none()
            };
            match changed {
                Changed::CaughtUp => {}
                Changed::Bound { action, .. } | Changed::Unbound { action }
                    if !is_meant(&action) => {}
                Changed::Bound { action, binding } => self.bind(binder, &action, &binding),
                Changed::Unbound { action } => self.unbind(&action),
            }
        }
    }

    fn bind(&mut self, binder: &Binder, action: &str, binding: &[u8]) {
        let handler = match Binding::parse(binding) {
            Ok(binding) => binder.handler(binding),
            Err(error) => {
                tracing::error!(action, %error, "the action is not done: its binding is wrong");
                None
            }
        };
        let Some(handler) = handler else { return self.unbind(action) };
        tracing::info!(action, "the action is bound");
        self.bound().insert(action.to_owned(), handler);
        self.start(action);
    }

    fn unbind(&mut self, action: &str) {
        if let Some(stop) = self.queues.remove(action) {
            tracing::info!(action, "the action is bound no more");
            // In this order: whoever finds no handler then knows that it is to stop.
            stop.cancel();
            self.bound().remove(action);
        }
    }

    fn bound(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<dyn Handler>>> {
        self.shared.bound.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Performs what a puller gives, each as a task of its own; the puller bounds how many.
async fn serve(
    shared: Arc<Shared>,
    mut puller: TaskPuller,
    wait: watch::Receiver<Duration>,
    stop: CancellationToken,
) {
    let mut attempts = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = attempts.join_next() => {}
            delivery = puller.next() => {
                let ack_wait = *wait.borrow();
                let action = delivery.request.as_ref().ok().map(|request| request.action.clone());
                let handler = action.and_then(|action| shared.find(&action));
                if handler.is_none() && stop.is_cancelled() {
                    delivery.nak().await;
                    break;
                }
                attempts.spawn(guarded(shared.clone(), delivery, handler, ack_wait));
            }
        }
    }
    puller.stop().await;
    while attempts.join_next().await.is_some() {}
}

/// Performs a task unless the same attempt is being worked on here already: then its heartbeats
/// were late, and the attempt that runs acknowledges both.
async fn guarded(
    shared: Arc<Shared>,
    delivery: Delivery,
    handler: Option<Arc<dyn Handler>>,
    ack_wait: Duration,
) {
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
    perform(&shared, &delivery, request, handler, ack_wait).await;
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
