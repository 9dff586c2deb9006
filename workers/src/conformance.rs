//! Plays the engine to a worker in any language, and says what the worker does wrong.
//!
//! Tasks of executions that do not exist are handed out, and all that the worker says is watched on
//! the wire: what it asks for, what it publishes, what it acknowledges, and in which order. An
//! engine that runs at the same time takes the results for stale ones.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use pled_engine::effect::{TaskEffect, Timeouts};
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::TaskOutcome;
use pled_engine::partition::{Published, TaskMessage};
use pled_engine::value::Value;
use pled_streams::codec::outcome_of_json;
use pled_streams::publish::Publication;
use pled_streams::subject::worker_consumer;
use pled_streams::{Class, Nats, ReadError, StreamKind, signals, tasks};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long the worker may be silent about a task while it is tested.
const ACK_WAIT: Duration = Duration::from_secs(2);
/// The bound of an attempt that is to be given up.
const START_TO_CLOSE: Duration = Duration::from_millis(400);
/// Tasks that are handed out until one is in our own hands.
const TRIES: u32 = 10;

/// What is tested, and how.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The action whose tasks the worker pulls.
    pub action: String,
    /// An input with which it succeeds.
    pub input: Value,
    /// One with which it fails.
    pub fail: Option<Value>,
    /// One with which it takes longer than three seconds.
    pub slow: Option<Value>,
    /// One with which its result is larger than a message may be.
    pub huge: Option<Value>,
    /// How long anything may take.
    pub patience: Duration,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
}

/// How it stands with one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As the protocol says.
    Right,
    /// It could not be looked at.
    Skipped,
    /// It works, but something may be lost or is not there.
    Advice,
    /// Against the protocol.
    Wrong,
}

impl Verdict {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Skipped => "skipped",
            Self::Advice => "advice",
            Self::Wrong => "wrong",
        }
    }
}

/// The worker could not be tested.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The queue cannot be made.
    #[error(transparent)]
    Queue(#[from] tasks::QueueError),
    /// The server does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The server refuses.
    #[error("{0}")]
    Refused(String),
}

/// Tests the workers that pull an action; one at a time gives the clearest answers.
///
/// # Errors
/// If the server does not let it.
pub async fn run(nats: &Nats, trial: &Trial) -> Result<Vec<Check>, TrialError> {
    let before = tasks::ack_wait(nats, &trial.action, Class::Normal).await?;
    tasks::ensure_consumers(nats, &trial.action, ACK_WAIT).await?;
    let stage = Stage::open(nats, trial).await?;
    let checks = stage.all().await;
    stage.clean_up().await;
    tasks::ensure_consumers(nats, &trial.action, before.unwrap_or(tasks::ACK_WAIT)).await?;
    checks
}

/// What was seen on the wire.
#[derive(Clone, Debug)]
enum Seen {
    /// A result or a pick-up, with whether it expects an empty subject and an answer.
    Result { subject: String, payload: Vec<u8>, expects: bool, asks: bool },
    /// A word about a delivery.
    Word { stream_seq: u64, word: Word, asks: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Ack,
    Nak,
    Term,
    Progress,
}

/// A task that was handed out.
struct Sent {
    result_subject: String,
    stream_seq: u64,
    at: Instant,
    /// How much had been seen then.
    from: usize,
}

/// What a worker did about a task.
#[derive(Default)]
struct Story {
    result: Option<(usize, Vec<u8>, bool, bool)>,
    results: usize,
    started: Option<usize>,
    ended: Option<(usize, Word, bool)>,
    progress: usize,
    took: Duration,
}

struct Stage<'t> {
    nats: &'t Nats,
    trial: &'t Trial,
    run: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    news: Arc<Notify>,
    watching: JoinHandle<()>,
    handed_out: Mutex<Vec<u64>>,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

type Found = Result<Check, TrialError>;

impl<'t> Stage<'t> {
    async fn open(nats: &'t Nats, trial: &'t Trial) -> Result<Self, TrialError> {
        let consumer = worker_consumer(Class::Normal, &trial.action);
        let acks = format!("$JS.ACK.{}.{consumer}.", nats.names().stream(StreamKind::Tasks));
        let signals = format!("{}.signals.", nats.names().prefix());
        let (seen, news) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Notify>::default());
        // One subscription alone keeps the order in which the worker said things.
        let refused = |error: &dyn std::fmt::Display| {
            TrialError::Refused(format!("what the worker says cannot be watched: {error}"))
        };
        let mut wire = nats.client().subscribe(">").await.map_err(|error| refused(&error))?;
        nats.client().flush().await.map_err(|error| refused(&error))?;
        let (keep, tell) = (seen.clone(), news.clone());
        let watching = tokio::spawn(async move {
            while let Some(message) = wire.next().await {
                let subject = message.subject.as_str();
                let asks = message.reply.is_some();
                let found = if let Some(rest) = subject.strip_prefix(&acks) {
                    word_of(&message.payload)
                        .zip(stream_seq_of(rest))
                        .map(|(word, stream_seq)| Seen::Word { stream_seq, word, asks })
                } else if subject.starts_with(&signals) {
                    let headers = message.headers.as_ref();
                    let expected = headers
                        .and_then(|headers| headers.get("Nats-Expected-Last-Subject-Sequence"));
                    Some(Seen::Result {
                        subject: subject.to_owned(),
                        payload: message.payload.to_vec(),
                        expects: expected.is_some_and(|expected| expected.as_str() == "0"),
                        asks,
                    })
                } else {
                    None
                };
                if let Some(found) = found {
                    keep.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                    tell.notify_waiters();
                }
            }
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let run = format!("trial-{}", now.unwrap_or_default().as_millis());
        let handed_out = Mutex::default();
        Ok(Self { nats, trial, run, seen, news, watching, handed_out })
    }

    async fn all(&self) -> Result<Vec<Check>, TrialError> {
        let mut checks = vec![self.pulls().await?];
        if checks.iter().any(|check| check.verdict == Verdict::Wrong) {
            return Ok(checks);
        }
        checks.push(self.plain("result", false).await?);
        checks.push(self.plain("unknown members", true).await?);
        checks.push(self.many().await?);
        checks.push(self.result_is_there().await?);
        checks.push(self.second_delivery().await?);
        checks.push(self.pick_up().await?);
        checks.push(self.failure().await?);
        checks.push(self.slow().await?);
        checks.push(self.bound().await?);
        checks.push(self.huge().await?);
        checks.push(self.unreadable().await?);
        Ok(checks)
    }

    async fn pulls(&self) -> Found {
        let consumer = worker_consumer(Class::Normal, &self.trial.action);
        let deadline = Instant::now() + self.trial.patience;
        loop {
            let facts = tasks::queue_facts(self.nats, &self.trial.action).await?;
            if facts.is_some_and(|facts| facts.pulls > 0) {
                return Ok(right("pull", format!("{consumer} is pulled")));
            }
            if Instant::now() > deadline {
                return Ok(wrong("pull", format!("nobody pulls {consumer}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn plain(&self, name: &'static str, unknown: bool) -> Found {
        let sent = self.hand_out(name, &self.trial.input, Timeouts::default(), unknown).await?;
        let story = self.story(&sent, self.trial.patience).await;
        Ok(match self.ended_well(&story) {
            Err(why) => wrong(name, why),
            Ok(_) => match story.outcome() {
                Some(TaskOutcome::Ok(_)) => story.in_order(name),
                Some(TaskOutcome::Failed(failure)) => {
                    let (code, message) = (&failure.code, &failure.message);
                    wrong(name, format!("it failed with this input: {code}: {message}"))
                }
                Some(TaskOutcome::Started) | None => wrong(name, "it gave no result".to_owned()),
            },
        })
    }

    async fn many(&self) -> Found {
        let name = "many at once";
        let mut sent = Vec::new();
        for _ in 0..20 {
            sent.push(self.hand_out(name, &self.trial.input, Timeouts::default(), false).await?);
        }
        for one in &sent {
            let story = self.story(one, self.trial.patience).await;
            if let Err(why) = self.ended_well(&story) {
                return Ok(wrong(name, why));
            }
        }
        Ok(right(name, "20 tasks, each with its result".to_owned()))
    }

    /// As after a crash between result and acknowledgement.
    async fn result_is_there(&self) -> Found {
        let name = "result is there";
        let sent =
            self.hand_out_with(name, &self.trial.input, Timeouts::default(), false, true).await?;
        let story = self.story(&sent, self.trial.patience).await;
        Ok(self.kept_result(name, &story))
    }

    fn kept_result(&self, name: &'static str, story: &Story) -> Check {
        match story.ended {
            Some((_, Word::Ack, _)) => {
                right(name, "it is acknowledged, and the first result stands".to_owned())
            }
            Some((_, word, _)) => wrong(
                name,
                format!(
                    "a task whose result is there already is answered {}, not +ACK",
                    word.text()
                ),
            ),
            None => wrong(
                name,
                "a task whose result is there already (error 10071) is not acknowledged".to_owned(),
            ),
        }
    }

    /// A task that another worker had, whose result it still brought.
    async fn second_delivery(&self) -> Found {
        let name = "second delivery";
        for _ in 0..TRIES {
            let before = self.asking().await?;
            let mut own = tasks::pull(self.nats, &self.trial.action, Class::Normal, 1);
            let asking = self.wait_for_one_more(before).await?;
            // The server goes round among those that ask.
            let mut sent = Vec::new();
            for _ in 0..=asking.min(64) {
                let task = self.hand_out(name, &self.trial.input, Timeouts::default(), false);
                sent.push(task.await?);
            }
            let got = tokio::time::timeout(Duration::from_millis(250), own.next()).await;
            let Ok(delivery) = got else {
                own.stop().await;
                continue;
            };
            let Ok(request) = &delivery.request else { continue };
            let mine = sent.iter().find(|task| task.result_subject == request.result_subject);
            let outcome = TaskOutcome::Ok(Value::from("of the first worker"));
            signals::publish_result(self.nats, &request.result_subject, &outcome).await;
            delivery.nak().await;
            drop(delivery);
            own.stop().await;
            let Some(mine) = mine else { continue };
            // Our own word ends no story: look at what comes after it.
            let story = self.story_after_nak(mine).await;
            return Ok(self.kept_result(name, &story));
        }
        Ok(skipped(name, "the worker took every task before it could be taken from it".to_owned()))
    }

    /// How many requests for tasks wait.
    async fn asking(&self) -> Result<u64, TrialError> {
        let facts = tasks::queue_facts(self.nats, &self.trial.action).await?;
        Ok(facts.map_or(0, |facts| facts.pulls))
    }

    /// Waits until our own request waits with the worker's.
    async fn wait_for_one_more(&self, before: u64) -> Result<u64, TrialError> {
        let mut asking = self.asking().await?;
        for _ in 0..50 {
            if asking > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            asking = self.asking().await?;
        }
        Ok(asking)
    }

    async fn pick_up(&self) -> Found {
        let name = "pick-up";
        let timeout = Timeouts { schedule_to_start_ms: Some(60_000), ..Timeouts::default() };
        let sent = self.hand_out(name, &self.trial.input, timeout, false).await?;
        let story = self.story(&sent, self.trial.patience).await;
        Ok(match (&story.started, &story.result) {
            (Some(started), Some((result, ..))) if started < result => {
                right(name, "it says that it has begun".to_owned())
            }
            (Some(_), _) => wrong(name, "it says that it has begun after its result".to_owned()),
            (None, _) => Check {
                name,
                verdict: Verdict::Advice,
                detail: "it does not publish `<result_subject>-started`: a template's \
                         schedule_to_start_ms would run out while it works"
                    .to_owned(),
            },
        })
    }

    async fn failure(&self) -> Found {
        let name = "failure";
        let Some(input) = &self.trial.fail else {
            return Ok(skipped(name, "give an input with which it fails".to_owned()));
        };
        let sent = self.hand_out(name, input, Timeouts::default(), false).await?;
        let story = self.story(&sent, self.trial.patience).await;
        Ok(match self.ended_well(&story) {
            Err(why) => wrong(name, format!("a failure is a result, then +ACK: {why}")),
            Ok(_) => match story.outcome() {
                Some(TaskOutcome::Failed(failure)) => {
                    right(name, format!("{}, retryable: {}", failure.code, failure.retryable))
                }
                _ => skipped(name, "it succeeds with the input that is to fail".to_owned()),
            },
        })
    }

    async fn slow(&self) -> Found {
        let name = "signs of life";
        let Some(input) = &self.trial.slow else {
            return Ok(skipped(name, "give an input with which it takes 3 s".to_owned()));
        };
        let heartbeat = i64::try_from(ACK_WAIT.as_millis()).ok();
        let timeout = Timeouts { heartbeat_ms: heartbeat, ..Timeouts::default() };
        let sent = self.hand_out(name, input, timeout, false).await?;
        let story = self.story(&sent, self.trial.patience * 2).await;
        if story.ended.is_some() && story.took < ACK_WAIT {
            return Ok(skipped(name, format!("it took only {} ms", story.took.as_millis())));
        }
        let again = self.redelivered().await;
        Ok(if story.progress == 0 || again {
            wrong(
                name,
                format!(
                    "no in-progress word (+WPI) came in time, within {} ms as heartbeat_ms says: \
                     others would be given the task while it works",
                    ACK_WAIT.as_millis()
                ),
            )
        } else {
            match self.ended_well(&story) {
                Err(why) => wrong(name, why),
                Ok(_) => {
                    right(name, format!("{} in {} ms", story.progress, story.took.as_millis()))
                }
            }
        })
    }

    async fn bound(&self) -> Found {
        let name = "start_to_close";
        let Some(input) = &self.trial.slow else {
            return Ok(skipped(name, "give an input with which it takes 3 s".to_owned()));
        };
        let bound = i64::try_from(START_TO_CLOSE.as_millis()).ok();
        let timeout = Timeouts { start_to_close_ms: bound, ..Timeouts::default() };
        let sent = self.hand_out(name, input, timeout, false).await?;
        let story = self.story(&sent, self.trial.patience * 2).await;
        Ok(match story.outcome() {
            Some(TaskOutcome::Failed(failure)) if &*failure.code == "timeout" => {
                right(name, format!("given up after {} ms", story.took.as_millis()))
            }
            Some(_) => Check {
                name,
                verdict: Verdict::Advice,
                detail: format!("it worked on for {} ms, beyond its bound", story.took.as_millis()),
            },
            None => wrong(name, "it gave no result".to_owned()),
        })
    }

    async fn huge(&self) -> Found {
        let name = "huge result";
        let Some(input) = &self.trial.huge else {
            return Ok(skipped(name, "give an input with which its result is huge".to_owned()));
        };
        let sent = self.hand_out(name, input, Timeouts::default(), false).await?;
        let story = self.story(&sent, self.trial.patience).await;
        Ok(match self.ended_well(&story) {
            Err(why) => wrong(name, format!("a result that cannot be kept is a failure: {why}")),
            Ok(_) => match (story.outcome(), &story.result) {
                (Some(TaskOutcome::Failed(failure)), _) => right(name, failure.code.to_string()),
                (_, Some((_, payload, ..))) if payload.len() > self.nats.max_payload() / 2 => {
                    wrong(name, format!("it publishes {} bytes", payload.len()))
                }
                _ => skipped(name, "its result is not huge".to_owned()),
            },
        })
    }

    /// A worker of tomorrow's tasks must live through what it cannot read.
    async fn unreadable(&self) -> Found {
        let name = "unreadable task";
        let rubbish = self.hand_out_bytes(name, b"{".to_vec()).await?;
        let after = self.hand_out(name, &self.trial.input, Timeouts::default(), false).await?;
        let story = self.story(&after, self.trial.patience).await;
        let of_rubbish = self.story(&rubbish, Duration::from_millis(500)).await;
        Ok(match (self.ended_well(&story), of_rubbish.ended) {
            (Err(why), _) => wrong(name, format!("after it no task is done any more: {why}")),
            (Ok(_), Some((_, Word::Term | Word::Ack, _))) => {
                right(name, "it is thrown away, and the next one done".to_owned())
            }
            (Ok(_), _) => Check {
                name,
                verdict: Verdict::Advice,
                detail: "it is not ended (+TERM): it will be handed out for ever".to_owned(),
            },
        })
    }

    async fn hand_out(
        &self,
        name: &str,
        input: &Value,
        timeout: Timeouts,
        unknown: bool,
    ) -> Result<Sent, TrialError> {
        self.hand_out_with(name, input, timeout, unknown, false).await
    }

    /// Hands out a task; `done`: its result is there before it is.
    async fn hand_out_with(
        &self,
        name: &str,
        input: &Value,
        timeout: Timeouts,
        unknown: bool,
        done: bool,
    ) -> Result<Sent, TrialError> {
        let message = TaskMessage {
            execution: self.next_execution(name)?,
            template: "trial@1".parse().map_err(|error| TrialError::Refused(format!("{error}")))?,
            effect: TaskEffect {
                task: Token { entry: 1, index: 0 },
                action: self.trial.action.as_str().into(),
                queue: self.trial.action.as_str().into(),
                invocation: Some("trial".into()),
                index: None,
                attempt: 1,
                input: input.clone(),
                timeout,
                deadline: None,
                meta: Value::Null,
            },
            at: 0,
        };
        let request = tasks::request(self.nats, &message);
        let refused = |error: serde_json::Error| TrialError::Refused(error.to_string());
        let mut json = serde_json::to_value(&request).map_err(refused)?;
        if unknown {
            json["later_version"] = serde_json::json!({ "says": ["more"] });
        }
        if done {
            let outcome = TaskOutcome::Ok(Value::from("of the first worker"));
            signals::publish_result(self.nats, &request.result_subject, &outcome).await;
        }
        let payload = serde_json::to_vec(&json).map_err(refused)?;
        self.publish(&message.execution, payload, request.result_subject).await
    }

    async fn hand_out_bytes(&self, name: &str, payload: Vec<u8>) -> Result<Sent, TrialError> {
        let execution = self.next_execution(name)?;
        let subject = self.nats.names().result(&execution, Token { entry: 1, index: 0 }, 1);
        self.publish(&execution, payload, subject).await
    }

    fn next_execution(&self, name: &str) -> Result<ExecutionId, TrialError> {
        let number = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).len();
        let id = format!("{}-{}-{number}", self.run, name.replace(' ', "_"));
        id.parse().map_err(|error| TrialError::Refused(format!("{error}")))
    }

    async fn publish(
        &self,
        execution: &ExecutionId,
        payload: Vec<u8>,
        result_subject: String,
    ) -> Result<Sent, TrialError> {
        let from = self.seen().len();
        let subject = self.nats.names().task(
            Class::Normal,
            &self.trial.action,
            self.nats.partition_of(execution),
            execution,
            Token { entry: 1, index: 0 },
            1,
        );
        let publication = Publication {
            subject,
            payload: payload.into(),
            expected: Some(0),
            ..Publication::default()
        };
        match self.nats.publisher(StreamKind::Tasks).publish(publication).await {
            Published::Stored { stream_seq } => {
                self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).push(stream_seq);
                Ok(Sent { result_subject, stream_seq, at: Instant::now(), from })
            }
            other @ (Published::Conflict { .. }
            | Published::Full
            | Published::TooLarge
            | Published::Refused(_)
            | Published::Unknown) => {
                Err(TrialError::Refused(format!("a task could not be handed out: {other:?}")))
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of a task until it is ended, or for so long.
    async fn story(&self, sent: &Sent, patience: Duration) -> Story {
        self.story_from(sent, patience, sent.from).await
    }

    async fn story_after_nak(&self, sent: &Sent) -> Story {
        let nak = |seen: &Seen| {
            matches!(seen, Seen::Word { stream_seq, word: Word::Nak, .. }
                if *stream_seq == sent.stream_seq)
        };
        let deadline = Instant::now() + self.trial.patience;
        loop {
            let news = self.news.notified();
            let at = self.seen().iter().position(nak);
            if let Some(at) = at {
                return self.story_from(sent, self.trial.patience, at + 1).await;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, news).await.is_err() {
                return Story::default();
            }
        }
    }

    async fn story_from(&self, sent: &Sent, patience: Duration, from: usize) -> Story {
        let deadline = Instant::now() + patience;
        loop {
            let news = self.news.notified();
            let story = Story::of(sent, from, &self.seen());
            if story.ended.is_some() {
                return story;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, news).await.is_err() {
                return Story::of(sent, from, &self.seen());
            }
        }
    }

    /// Whether a result was published, and only then the task acknowledged.
    fn ended_well(&self, story: &Story) -> Result<(), String> {
        let word = match (&story.result, story.ended) {
            (Some(_), Some((_, word, _))) => word,
            // The story ends with the word.
            (None, Some((_, Word::Ack, _))) => {
                return Err(
                    "it acknowledges before the result: a crash between loses the task".to_owned()
                );
            }
            (None, Some((_, word, _))) => {
                return Err(format!("{} came before a result", word.text()));
            }
            (Some(_), None) => return Err("the result came, and no +ACK".to_owned()),
            (None, None) => {
                let ms = self.trial.patience.as_millis();
                return Err(format!("neither result nor acknowledgement came within {ms} ms"));
            }
        };
        match word {
            Word::Ack => Ok(()),
            Word::Nak | Word::Term | Word::Progress => {
                Err(format!("the task is answered {}, not +ACK", word.text()))
            }
        }
    }

    async fn redelivered(&self) -> bool {
        let facts = tasks::queue_facts(self.nats, &self.trial.action).await;
        // Whoever was given it a second time holds it now.
        facts.ok().flatten().is_some_and(|facts| facts.held > 0)
    }

    /// Takes away what was not ended.
    async fn clean_up(&self) {
        let stream = self.nats.names().stream(StreamKind::Tasks);
        let handed_out = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for seq in handed_out {
            let subject = format!("$JS.API.STREAM.MSG.DELETE.{stream}");
            let payload = format!(r#"{{"seq":{seq},"no_erase":true}}"#);
            if let Err(error) = self.nats.client().request(subject, payload.into()).await {
                tracing::debug!(%error, seq, "a task of the trial is left");
            }
        }
    }
}

impl Story {
    fn of(sent: &Sent, from: usize, seen: &[Seen]) -> Self {
        let mut story = Self { took: sent.at.elapsed(), ..Self::default() };
        for (at, seen) in seen.iter().enumerate().skip(from) {
            match seen {
                Seen::Result { subject, payload, expects, asks } => {
                    if *subject == sent.result_subject {
                        story.results += 1;
                        story.result.get_or_insert((at, payload.clone(), *expects, *asks));
                    } else if subject.strip_suffix("-started") == Some(&sent.result_subject) {
                        story.started.get_or_insert(at);
                    }
                }
                Seen::Word { stream_seq, word, asks } if *stream_seq == sent.stream_seq => {
                    match word {
                        Word::Progress => story.progress += 1,
                        Word::Ack | Word::Nak | Word::Term => {
                            story.ended.get_or_insert((at, *word, *asks));
                        }
                    }
                }
                Seen::Word { .. } => {}
            }
        }
        story
    }

    fn outcome(&self) -> Option<TaskOutcome> {
        self.result.as_ref().map(|(_, payload, ..)| outcome_of_json(payload))
    }

    /// A result that came before its acknowledgement: was it made sure of?
    fn in_order(&self, name: &'static str) -> Check {
        let advice = |detail: &str| Check { name, verdict: Verdict::Advice, detail: detail.into() };
        match (&self.result, self.ended) {
            (Some((_, _, false, _)), _) => wrong(
                name,
                "the result has no header Nats-Expected-Last-Subject-Sequence: 0, so a repeat \
                 would be taken for another"
                    .to_owned(),
            ),
            (Some((_, _, _, false)), _) => wrong(
                name,
                "nobody waits for the PubAck of the result: one that is refused is lost".to_owned(),
            ),
            (_, Some((_, _, false))) => advice(
                "the acknowledgement is not confirmed (double ack): where it is lost, the work is \
                 done again",
            ),
            _ => right(name, format!("result, then +ACK, in {} ms", self.took.as_millis())),
        }
    }
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Ack => "+ACK",
            Self::Nak => "-NAK",
            Self::Term => "+TERM",
            Self::Progress => "+WPI",
        }
    }
}

fn word_of(payload: &[u8]) -> Option<Word> {
    let text = std::str::from_utf8(payload).ok()?;
    match text.split_whitespace().next().unwrap_or_default() {
        "" | "+ACK" | "+NXT" => Some(Word::Ack),
        "-NAK" => Some(Word::Nak),
        "+TERM" => Some(Word::Term),
        "+WPI" => Some(Word::Progress),
        _ => None,
    }
}

/// `<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>`
fn stream_seq_of(rest: &str) -> Option<u64> {
    rest.split('.').nth(1)?.parse().ok()
}

fn right(name: &'static str, detail: String) -> Check {
    Check { name, verdict: Verdict::Right, detail }
}

fn wrong(name: &'static str, detail: String) -> Check {
    Check { name, verdict: Verdict::Wrong, detail }
}

fn skipped(name: &'static str, detail: String) -> Check {
    Check { name, verdict: Verdict::Skipped, detail }
}
