//! Every subject, stream, bucket, consumer and header name, and the tokens inside subjects.

use std::fmt;
use std::sync::Arc;

use pled_engine::id::{EventType, ExecutionId, TemplateName, Token};
use pled_engine::message::Source;
use pled_engine::partition::DeadReason;

/// The client's id of an event, unique within its execution.
pub const EVENT_ID: &str = "Pled-Event-Id";
/// What a `send` signal says that happened; its payload is the event's data.
pub const EVENT: &str = "Pled-Event";
/// The template that starts the execution: `order` or `order@3`.
pub const TEMPLATE: &str = "Pled-Template";
/// The core NATS subject where the outcome is wanted.
pub const REPLY: &str = "Pled-Reply";
/// Who emitted an event of type `pled.emit.…`: `<sender>/<sequence>/<index>`.
pub const SENDER: &str = "Pled-Sender";
/// When a timer is due, in milliseconds since the epoch.
pub const DUE: &str = "Pled-Due";
/// Headers of a record in PLED_DEAD: why, in a sentence.
pub const DEAD_DETAIL: &str = "Pled-Dead-Detail";
/// The subject under which the message was stored.
pub const DEAD_SUBJECT: &str = "Pled-Dead-Subject";
/// When the message was stored, in milliseconds since the epoch.
pub const DEAD_TIME: &str = "Pled-Dead-Time";
/// The size in bytes of a message that was too large to be set aside whole, headers included.
pub const DEAD_CUT: &str = "Pled-Dead-Cut";
/// The id of a CloudEvent in binary mode, percent-encoded. Its `ce-type` is not read: the subject
/// says the type.
pub const CE_ID: &str = "ce-id";
/// The source of a CloudEvent in binary mode, percent-encoded.
pub const CE_SOURCE: &str = "ce-source";
/// Tells a CloudEvent in structured mode.
pub const CONTENT_TYPE: &str = "Content-Type";
/// The prefix of the types that rule workers publish.
pub const EMIT: &str = "pled.emit.";

/// A stream or bucket of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// The public door.
    Events,
    /// The internal door.
    Signals,
    /// The door of raw events.
    Ingest,
    /// Schedules, and what fired.
    Timers,
    /// The truth.
    Journal,
    /// Work to be done.
    Tasks,
    /// What was set aside.
    Dead,
    /// KV: template versions.
    Templates,
    /// KV: bindings of actions.
    Actions,
    /// KV: executions that are started by time.
    Schedules,
    /// KV: a cache for readers.
    Snapshots,
    /// KV: leases, workers and positions.
    Locks,
}

/// All streams and buckets.
pub const STREAMS: [StreamKind; 12] = [
    StreamKind::Events,
    StreamKind::Signals,
    StreamKind::Ingest,
    StreamKind::Timers,
    StreamKind::Journal,
    StreamKind::Tasks,
    StreamKind::Dead,
    StreamKind::Templates,
    StreamKind::Actions,
    StreamKind::Snapshots,
    StreamKind::Locks,
    StreamKind::Schedules,
];

impl StreamKind {
    /// Its place in [`STREAMS`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Events => 0,
            Self::Signals => 1,
            Self::Ingest => 2,
            Self::Timers => 3,
            Self::Journal => 4,
            Self::Tasks => 5,
            Self::Dead => 6,
            Self::Templates => 7,
            Self::Actions => 8,
            Self::Snapshots => 9,
            Self::Locks => 10,
            Self::Schedules => 11,
        }
    }

    /// The word in upper case, `EVENTS`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Events => "EVENTS",
            Self::Signals => "SIGNALS",
            Self::Ingest => "INGEST",
            Self::Timers => "TIMERS",
            Self::Journal => "JOURNAL",
            Self::Tasks => "TASKS",
            Self::Dead => "DEAD",
            Self::Templates => "TEMPLATES",
            Self::Actions => "ACTIONS",
            Self::Schedules => "SCHEDULES",
            Self::Snapshots => "SNAPSHOTS",
            Self::Locks => "LOCKS",
        }
    }

    /// Whether it is a key-value bucket.
    #[must_use]
    pub fn is_bucket(self) -> bool {
        match self {
            Self::Templates | Self::Actions | Self::Schedules | Self::Snapshots | Self::Locks => {
                true
            }
            Self::Events
            | Self::Signals
            | Self::Ingest
            | Self::Timers
            | Self::Journal
            | Self::Tasks
            | Self::Dead => false,
        }
    }

    /// The stream of an input; `None` for [`Source::Own`], which has none.
    #[must_use]
    pub fn of(source: Source) -> Option<Self> {
        match source {
            Source::Events => Some(Self::Events),
            Source::Signals => Some(Self::Signals),
            Source::Timers => Some(Self::Timers),
            Source::Own => None,
        }
    }
}

/// How urgent a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Before others.
    High,
    /// As most.
    #[default]
    Normal,
    /// When there is time.
    Low,
}

/// All classes.
pub const CLASSES: [Class; 3] = [Class::High, Class::Normal, Class::Low];

impl Class {
    /// The word in subjects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// The partition of an execution (or of a source of raw events) among `partitions`: the server's
/// own `partition()`, FNV-1a of the token.
#[must_use]
pub fn partition_of(execution: &ExecutionId, partitions: u16) -> u16 {
    partition_of_token(execution.as_str(), partitions)
}

/// [`partition_of`] for any token.
#[must_use]
pub fn partition_of_token(token: &str, partitions: u16) -> u16 {
    let hash = token
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u16::try_from(hash % u32::from(partitions.max(1))).unwrap_or_default()
}

/// The names of one installation, by its prefix.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: Arc<str>,
    streams: Arc<[String]>,
}

impl Names {
    /// The names under `prefix`, which is one lower-case subject token.
    ///
    /// # Errors
    /// With a sentence, if it is not `[a-z][a-z0-9_]{0,31}`.
    pub fn new(prefix: &str) -> Result<Self, String> {
        let valid = prefix.len() <= 32
            && prefix.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && prefix
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !valid {
            return Err(format!("the prefix {prefix:?} must match [a-z][a-z0-9_]{{0,31}}"));
        }
        let upper = prefix.to_ascii_uppercase();
        let streams = STREAMS
            .iter()
            .map(|kind| {
                let bucket = if kind.is_bucket() { "KV_" } else { "" };
                format!("{bucket}{upper}_{}", kind.word())
            })
            .collect();
        Ok(Self { prefix: prefix.into(), streams })
    }

    /// The prefix of subjects, `pled`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The stream's name, `PLED_EVENTS` or `KV_PLED_LOCKS`.
    #[must_use]
    pub fn stream(&self, kind: StreamKind) -> &str {
        &self.streams[kind.index()]
    }

    /// The bucket's name as `nats kv` takes it, `PLED_LOCKS`.
    #[must_use]
    pub fn bucket(&self, kind: StreamKind) -> &str {
        let stream = self.stream(kind);
        stream.strip_prefix("KV_").unwrap_or(stream)
    }

    /// The subject of a key of a bucket.
    #[must_use]
    pub fn key(&self, kind: StreamKind, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket(kind))
    }

    /// Where anyone publishes an event.
    #[must_use]
    pub fn event(&self, execution: &ExecutionId, event_type: &str) -> String {
        format!("{}.events.{execution}.{event_type}", self.prefix)
    }

    /// Where a rule worker publishes what a rule emitted.
    #[must_use]
    pub fn emitted(&self, execution: &ExecutionId, event_type: &EventType) -> String {
        format!("{}.events.{execution}.{EMIT}{event_type}", self.prefix)
    }

    /// What a partition's owner reads of an input; of [`Source::Own`] nothing.
    #[must_use]
    pub fn input(&self, source: Source, partition: u16) -> String {
        let word = match source {
            Source::Events => "inbox",
            Source::Signals => "signal",
            Source::Timers => "fired",
            Source::Own => "none",
        };
        format!("{}.{word}.{partition}.>", self.prefix)
    }

    /// Where raw events of a source are published.
    #[must_use]
    pub fn ingest(&self, source: &str, event_type: &EventType) -> String {
        format!("{}.ingest.{source}.{event_type}", self.prefix)
    }

    /// What an ingest partition's owner reads.
    #[must_use]
    pub fn raw(&self, partition: u16) -> String {
        format!("{}.raw.{partition}.>", self.prefix)
    }

    /// Where a worker publishes the result of an attempt.
    #[must_use]
    pub fn result(&self, execution: &ExecutionId, task: Token, attempt: u32) -> String {
        format!("{}.signals.{execution}.result.{task}-{attempt}", self.prefix)
    }

    /// Where that result is stored.
    #[must_use]
    pub fn result_stored(
        &self,
        partition: u16,
        execution: &ExecutionId,
        task: Token,
        attempt: u32,
    ) -> String {
        format!("{}.signal.{partition}.{execution}.result.{task}-{attempt}", self.prefix)
    }

    /// Where an execution sends to another.
    #[must_use]
    pub fn send(&self, to: &ExecutionId, sender: &ExecutionId, token: Token) -> String {
        format!("{}.signals.{to}.send.{sender}-{token}", self.prefix)
    }

    /// Where a parent tells its child to start or to end; the same token never stands twice.
    #[must_use]
    pub fn child(
        &self,
        child: &ExecutionId,
        says: ChildSays,
        parent: &ExecutionId,
        token: Token,
    ) -> String {
        format!("{}.signals.{child}.child.{}-{parent}-{token}", self.prefix, says.as_str())
    }

    /// Where a child tells its parent how it ended.
    #[must_use]
    pub fn child_done(&self, parent: &ExecutionId, task: Token, attempt: u32) -> String {
        format!("{}.signals.{parent}.child.done-{task}-{attempt}", self.prefix)
    }

    /// A timer's native schedule.
    #[must_use]
    pub fn timer(&self, partition: u16, execution: &ExecutionId, timer: Token) -> String {
        format!("{}.timers.{partition}.{execution}.{timer}", self.prefix)
    }

    /// Where a timer fires to.
    #[must_use]
    pub fn fired(&self, partition: u16, execution: &ExecutionId, timer: Token) -> String {
        format!("{}.fired.{partition}.{execution}.{timer}", self.prefix)
    }

    /// Where the message that takes back a timer is stored, until it is purged.
    #[must_use]
    pub fn cancelled(&self, partition: u16, execution: &ExecutionId, timer: Token) -> String {
        format!("{}.cancelled.{partition}.{execution}.{timer}", self.prefix)
    }

    /// An execution's journal: the unit of ordering and of the commit.
    #[must_use]
    pub fn journal(&self, partition: u16, execution: &ExecutionId) -> String {
        format!("{}.journal.{partition}.{execution}", self.prefix)
    }

    /// One attempt of a task.
    #[must_use]
    pub fn task(
        &self,
        class: Class,
        queue: &str,
        partition: u16,
        execution: &ExecutionId,
        task: Token,
        attempt: u32,
    ) -> String {
        format!(
            "{}.tasks.{}.{queue}.{partition}.{execution}-{task}-{attempt}",
            self.prefix,
            class.as_str()
        )
    }

    /// All tasks of a class and queue.
    #[must_use]
    pub fn tasks(&self, class: Class, queue: &str) -> String {
        format!("{}.tasks.{}.{queue}.*.*", self.prefix, class.as_str())
    }

    /// A record of what was set aside.
    #[must_use]
    pub fn dead(
        &self,
        reason: DeadReason,
        execution: Option<&ExecutionId>,
        stream: &str,
        generation: u64,
        stream_seq: u64,
    ) -> String {
        let execution = execution.map_or("_", ExecutionId::as_str);
        format!(
            "{}.dead.{}.{execution}.{stream}-{generation}-{stream_seq}",
            self.prefix,
            reason.as_str()
        )
    }

    /// The subject that was published to, for one that is stored: undoes the stream's transform.
    #[must_use]
    pub fn published(&self, stored: &str) -> Option<String> {
        let rest = stored.strip_prefix(&*self.prefix)?.strip_prefix('.')?;
        let (word, rest) = rest.split_once('.')?;
        let door = match word {
            "inbox" => "events",
            "signal" => "signals",
            "raw" => "ingest",
            _ => return None,
        };
        let (_partition, rest) = rest.split_once('.')?;
        Some(format!("{}.{door}.{rest}", self.prefix))
    }

    /// Whether an outcome may be published to `subject`: it is one literal subject and none of the
    /// server's or of PLED's own, which a client's header must not reach through the engine.
    #[must_use]
    pub fn is_reply(&self, subject: &str) -> bool {
        let token =
            |token: &str| !token.is_empty() && token != "*" && token != ">" && !token.contains(' ');
        let own = subject
            .strip_prefix(&*self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        subject.len() <= 256
            && subject.bytes().all(|byte| byte.is_ascii_graphic())
            && subject.split('.').all(token)
            && !subject.starts_with('$')
            && !own
    }

    /// The words of a stored subject after the prefix.
    #[must_use]
    pub fn words<'a>(&self, stored: &'a str) -> Option<Vec<&'a str>> {
        Some(stored.strip_prefix(&*self.prefix)?.strip_prefix('.')?.split('.').collect())
    }
}

/// The durable consumer of a class and queue: `worker-<queue>`, `worker-<queue>-high`.
#[must_use]
pub fn worker_consumer(class: Class, queue: &str) -> String {
    let queue = queue.replace('.', "-");
    match class {
        Class::Normal => format!("worker-{queue}"),
        Class::High | Class::Low => format!("worker-{queue}-{}", class.as_str()),
    }
}

/// Whether `queue` can name a queue: the pattern of action names, upper case allowed.
#[must_use]
pub fn is_queue(queue: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    queue.len() <= 128 && queue.split('.').all(word)
}

/// Whether `source` can name a source of raw events: one token.
#[must_use]
pub fn is_source(source: &str) -> bool {
    (1..=128).contains(&source.len())
        && source.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The key of a template version, `order.3`.
#[must_use]
pub fn template_key(name: &TemplateName, version: u32) -> String {
    format!("{name}.{version}")
}

/// The key of a template's newest version, `order.latest`.
#[must_use]
pub fn latest_key(name: &TemplateName) -> String {
    format!("{name}.latest")
}

/// The key of a lease.
#[must_use]
pub fn lease_key(kind: &str, partition: u16) -> String {
    format!("lease.{kind}.{partition}")
}

/// The key of a worker.
#[must_use]
pub fn worker_key(worker: &str) -> String {
    format!("worker.{worker}")
}

/// The key that is there while nothing may be written.
pub const HALT_KEY: &str = "halt";

/// The key of a position.
#[must_use]
pub fn position_key(kind: &str, partition: u16) -> String {
    format!("position.{kind}.{partition}")
}

/// The token of a `result` signal: `<entry>-<index>-<attempt>`, `-started` for a pick-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultToken {
    /// The task.
    pub task: Token,
    /// The attempt.
    pub attempt: u32,
    /// Whether it tells of the pick-up, not of the end.
    pub started: bool,
}

impl fmt::Display for ResultToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.started { "-started" } else { "" };
        write!(formatter, "{}-{}{suffix}", self.task, self.attempt)
    }
}

impl ResultToken {
    /// Reads a token.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let (token, started) = match token.strip_suffix("-started") {
            Some(token) => (token, true),
            None => (token, false),
        };
        let (task, attempt) = token.rsplit_once('-')?;
        Some(Self { task: task.parse().ok()?, attempt: number(attempt)?, started })
    }
}

/// What a parent says to its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildSays {
    /// Start.
    Start,
    /// End.
    Cancel,
}

impl ChildSays {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Cancel => "cancel",
        }
    }
}

/// Reads the token of a `send` signal, `<sender>-<entry>-<index>`; the sender may hold `-`.
#[must_use]
pub fn parse_send_token(token: &str) -> Option<(ExecutionId, Token)> {
    let (rest, index) = token.rsplit_once('-')?;
    let (sender, entry) = rest.rsplit_once('-')?;
    Some((sender.parse().ok()?, Token { entry: number(entry)?, index: number(index)? }))
}

/// A number written in digits alone, as tokens hold it.
pub(crate) fn number<N: std::str::FromStr>(digits: &str) -> Option<N> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { digits.parse().ok() } else { None }
}
