//! What must be there before anything runs: [`init`] makes it, [`open`] checks it.
//!
//! Only `init` creates or alters. A service that finds a stream missing or foreign stops and says
//! so: a stream that is silently created anew would be a history that is silently lost.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, SubjectTransform,
};
use pled_engine::message::Source;
use pled_engine::partition::{InputPosition, Position, Published};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connection::Nats;
use crate::locks;
use crate::publish::{Mode, batches};
use crate::read::ReadError;
use crate::subject::{Names, STREAMS, StreamKind};

/// The oldest server that has what PLED needs.
pub const SERVER_MIN: (u64, u64, u64) = (2, 14, 4);
/// The oldest level of the JetStream API that has what PLED needs: that of atomic publishing and of
/// schedules. A server of a new version may offer less where another of its cluster is older.
pub const API_LEVEL_MIN: usize = 2;
/// The version of this topology, in each stream's metadata.
const VERSION: &str = "1";
/// Metadata of a stream: one id for all streams of an installation.
const INCARNATION: &str = "pled.incarnation";
/// Metadata: raised when the stream was recovered after a loss.
const GENERATION: &str = "pled.generation";
/// Metadata: where each generation after the first begins, `81,60`.
const GENERATIONS: &str = "pled.generations";
/// Metadata: how many partitions there are.
const PARTITIONS: &str = "pled.partitions";
/// Metadata: [`VERSION`].
const TOPOLOGY: &str = "pled.version";

/// How a topology is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of partitions, 1 to 1,024; fixed once the streams are there.
    pub partitions: u16,
    /// How many servers keep each stream: 1, 3 or 5.
    pub replicas: usize,
    /// The most bytes of a stream, where the share of the server's store does not fit.
    pub max_bytes: BTreeMap<StreamKind, u64>,
    /// Whether a server is refused that does not prove that it syncs before it acknowledges.
    pub strict_durable: bool,
    /// Whether a stream that was lost is made anew, empty: for a recovery, which restores from the
    /// journal or the ledger what must not be lost.
    pub recreate_lost: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partitions: 16,
            replicas: 1,
            max_bytes: BTreeMap::new(),
            strict_durable: false,
            recreate_lost: false,
        }
    }
}

/// A stream, bucket or set of keys that `init` looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its name.
    pub name: String,
    /// Whether it was there already.
    pub existed: bool,
}

/// What [`open`] found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The server's version.
    pub server_version: String,
    /// The server's id.
    pub server_id: String,
    /// Whether it syncs before it acknowledges; `None` where it cannot be read, since that takes
    /// the monitoring URL.
    pub sync_always: Option<bool>,
    /// How many partitions there are.
    pub partitions: u16,
    /// How many servers keep the journal.
    pub replicas: usize,
    /// The id of the installation.
    pub incarnation: String,
    /// Whether the cache of snapshots is there; nothing depends on it.
    pub snapshots: bool,
}

impl Facts {
    /// The mode of publishing that fits the server.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (self.sync_always, self.replicas) {
            (Some(false) | None, _) => Mode::Relaxed,
            (Some(true), 0..=1) => Mode::Durable,
            (Some(true), 2..) => Mode::Replicated,
        }
    }

    /// Refuses a server that does not prove that it syncs before it acknowledges.
    ///
    /// # Errors
    /// [`TopologyError::NotDurable`].
    pub fn require_durable(&self) -> Result<(), TopologyError> {
        require_durable(self.sync_always)
    }
}

/// The server or its streams do not fit, each with a sentence that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The server is too old.
    #[error("nats-server {found} is too old: PLED needs 2.14.4 or newer")]
    ServerVersion {
        /// Its version.
        found: String,
    },
    /// JetStream offers too little.
    #[error(
        "JetStream offers API level {found}: PLED needs level {API_LEVEL_MIN} or higher, so every \
         server of the cluster must be 2.14.4 or newer"
    )]
    ApiLevel {
        /// What it offers.
        found: usize,
    },
    /// There is no JetStream.
    #[error(
        "JetStream is not enabled for this account: set `jetstream` in the server's configuration ({reason})"
    )]
    NoJetStream {
        /// What the server says.
        reason: String,
    },
    /// Strict mode, and the server does not sync or that cannot be proved.
    #[error("{0}")]
    NotDurable(String),
    /// A stream is not there.
    #[error("the stream {name} is missing: {advice}")]
    Missing {
        /// Its name.
        name: String,
        /// What to do.
        advice: &'static str,
    },
    /// A stream of this name is not PLED's, or of another installation.
    #[error("the stream {name} is foreign: {reason}")]
    Foreign {
        /// Its name.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A stream is PLED's but not as this version needs it.
    #[error("the stream {name} does not fit: {reason}")]
    Differs {
        /// Its name.
        name: String,
        /// What must be different.
        reason: String,
    },
    /// There is no room for the streams.
    #[error(
        "the server's JetStream store is too small: less than {needed_bytes} bytes are free to reserve; raise `max_file_store`, or free what other streams reserve"
    )]
    StoreTooSmall {
        /// How much is needed at least.
        needed_bytes: u64,
    },
    /// The settings contradict themselves.
    #[error("{0}")]
    Settings(String),
    /// No answer, or a refusal that says nothing of the above.
    #[error("{what}: {reason}")]
    Failed {
        /// What was done.
        what: String,
        /// What the server says.
        reason: String,
    },
}

fn failed(what: impl Into<String>, reason: impl ToString) -> TopologyError {
    TopologyError::Failed { what: what.into(), reason: reason.to_string() }
}

/// Makes all streams, buckets and position keys that are not there, and reports those that are.
/// May be repeated, and after a failure should be.
///
/// # Errors
/// If the server or a stream that is there does not fit.
pub async fn init(nats: &Nats, settings: &Settings) -> Result<Vec<Created>, TopologyError> {
    check_settings(settings)?;
    check_server(nats).await?;
    if settings.strict_durable {
        require_durable(sync_always(nats).await)?;
    }
    let found = find(nats).await?;
    let incarnation = found
        .values()
        .find_map(|config| config.metadata.get(INCARNATION).cloned())
        .unwrap_or_else(|| new_incarnation(nats));
    for (kind, config) in &found {
        check_stream(nats.names(), *kind, config, settings, &incarnation)?;
    }
    let lost = STREAMS
        .iter()
        .find(|kind| !found.contains_key(kind) && !is_optional(**kind) && !came_later(**kind));
    if let (true, Some(lost), false) =
        (found.contains_key(&StreamKind::Journal), lost, settings.recreate_lost)
    {
        return Err(TopologyError::Missing {
            name: nats.names().stream(*lost).to_owned(),
            advice: "the others are there, so it was lost; `pled recover` makes it anew and \
                     restores what was in it",
        });
    }
    let budget = budget(nats, settings, &found).await?;
    let mut created = Vec::with_capacity(STREAMS.len() + 1);
    // The journal last: where it is there, all was made once.
    let last = [StreamKind::Journal];
    let first = STREAMS.into_iter().filter(|kind| *kind != StreamKind::Journal);
    for kind in first {
        created.push(ensure(nats, kind, settings, &incarnation, budget, &found).await?);
    }
    created.push(ensure_positions(nats, settings.partitions).await?);
    for kind in last {
        created.push(ensure(nats, kind, settings, &incarnation, budget, &found).await?);
    }
    nats.learn_partitions(settings.partitions);
    for (source, kind) in INPUTS {
        let generation = found.get(&kind).map_or(1, |config| generation_of(&config.metadata));
        nats.learn_generation(source, generation);
    }
    Ok(created)
}

/// Checks the server and all streams, and reads what a service must know. Never creates.
///
/// # Errors
/// If the server or a stream does not fit, or a stream is missing.
pub async fn open(nats: &Nats) -> Result<Facts, TopologyError> {
    let server_version = check_server(nats).await?;
    let found = find(nats).await?;
    let missing = STREAMS.iter().find(|kind| !found.contains_key(kind) && !is_optional(**kind));
    if let Some(missing) = missing {
        let name = nats.names().stream(*missing).to_owned();
        let advice = if found.is_empty() {
            "run `pled init` once, or name the prefix that it was run with"
        } else if came_later(*missing) {
            "installations of older versions do not have it: run `pled init` once more, which makes \
             what is not there; if there were schedules, they were lost and must be created again"
        } else {
            "if `pled init` was interrupted, run it again; if all was there before, the stream \
             was lost and `pled recover` is needed"
        };
        return Err(TopologyError::Missing { name, advice });
    }
    let Some(journal) = found.get(&StreamKind::Journal) else {
        return Err(failed("opening", "no journal"));
    };
    let text = |key: &str| journal.metadata.get(key).cloned().unwrap_or_default();
    let incarnation = text(INCARNATION);
    let partitions = text(PARTITIONS).parse().unwrap_or_default();
    let expected = Settings { partitions, replicas: journal.num_replicas, ..Settings::default() };
    for (kind, config) in &found {
        check_stream(nats.names(), *kind, config, &expected, &incarnation)?;
    }
    nats.learn_partitions(partitions);
    for (source, kind) in INPUTS {
        if let Some(config) = found.get(&kind) {
            nats.learn_generation(source, generation_of(&config.metadata));
        }
    }
    let facts = Facts {
        server_version,
        server_id: nats.server_id(),
        sync_always: sync_always(nats).await,
        partitions,
        replicas: journal.num_replicas,
        incarnation,
        snapshots: found.contains_key(&StreamKind::Snapshots),
    };
    nats.learn_mode(facts.mode());
    Ok(facts)
}

/// Raises the generation of a stream after a loss, and gives the new one.
///
/// # Errors
/// If the stream is not there or the server refuses.
pub async fn raise_generation(nats: &Nats, kind: StreamKind) -> Result<u64, TopologyError> {
    let name = nats.names().stream(kind);
    let Some(mut config) = find_one(nats, kind).await? else {
        return Err(TopologyError::Missing { name: name.to_owned(), advice: "run `pled init`" });
    };
    let generation = generation_of(&config.metadata) + 1;
    config.metadata.insert(GENERATION.into(), generation.to_string());
    let last = crate::read::stream_state(nats, kind).await.map_err(|error| failed(name, error))?;
    let begins = last.last_seq + 1;
    let known = config.metadata.get(GENERATIONS).filter(|known| !known.is_empty());
    let known = known.map(|known| format!("{known},{begins}"));
    config.metadata.insert(GENERATIONS.into(), known.unwrap_or_else(|| begins.to_string()));
    nats.jetstream()
        .update_stream(config)
        .await
        .map_err(|error: UpdateStreamError| failed(format!("altering {name}"), error))?;
    for (source, input) in INPUTS {
        if input == kind {
            nats.learn_generation(source, generation);
        }
    }
    Ok(generation)
}

/// The last sequence of each stream and bucket by its name: how much was ever written to it.
///
/// # Errors
/// If there is no answer.
pub async fn last_sequences(nats: &Nats) -> Result<BTreeMap<String, u64>, ReadError> {
    let mut last = BTreeMap::new();
    for kind in STREAMS {
        let state = crate::read::stream_state(nats, kind).await?;
        last.insert(nats.names().stream(kind).to_owned(), state.last_seq);
    }
    Ok(last)
}

/// What is there, whether it fits or not.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The server's version.
    pub server_version: String,
    /// The server's id.
    pub server_id: String,
    /// Why JetStream cannot be used; `None`: it can.
    pub no_jetstream: Option<String>,
    /// The level of its API.
    pub api_level: usize,
    /// How many bytes of file store the account may use and uses; no bound: `None`.
    pub storage: (Option<u64>, u64),
    /// How often the server syncs: see [`Sync`].
    pub sync: Option<Sync>,
    /// The streams that are there.
    pub streams: BTreeMap<StreamKind, Inspected>,
}

/// How often a server syncs its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before each acknowledgement.
    Always,
    /// Every so often.
    Every(Duration),
}

/// A stream that is there.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// What is otherwise than it must be, a sentence for each field.
    pub differences: Vec<String>,
    /// The id of its installation, if it is PLED's.
    pub incarnation: Option<String>,
    /// Its generation.
    pub generation: u64,
    /// How many servers keep it.
    pub replicas: usize,
    /// Whether it is kept in files.
    pub in_files: bool,
    /// Whether it is written behind, whatever the server's sync is.
    pub is_async: bool,
    /// The most bytes; no bound: `None`.
    pub max_bytes: Option<u64>,
    /// How many partitions it was made for.
    pub partitions: Option<u16>,
}

/// Looks at the server and all streams, and refuses nothing.
///
/// # Errors
/// If there is no answer.
pub async fn inspect(nats: &Nats) -> Result<Inspection, TopologyError> {
    let info = nats.client().server_info();
    let account = nats.jetstream().query_account().await;
    let mut inspection = Inspection {
        server_version: info.version,
        server_id: info.server_id,
        no_jetstream: account.as_ref().err().map(ToString::to_string),
        api_level: account.as_ref().map_or(0, |account| account.requests.level),
        storage: account.as_ref().map_or((None, 0), |account| {
            (account.limits.max_storage.and_then(|most| u64::try_from(most).ok()), account.storage)
        }),
        sync: sync(nats).await,
        streams: BTreeMap::new(),
    };
    if inspection.no_jetstream.is_some() {
        return Ok(inspection);
    }
    for (kind, config) in find(nats).await? {
        let metadata = |key: &str| config.metadata.get(key).cloned();
        let partitions = metadata(PARTITIONS).and_then(|text| text.parse().ok());
        let settings = Settings {
            partitions: partitions.unwrap_or(16),
            replicas: config.num_replicas,
            ..Settings::default()
        };
        inspection.streams.insert(
            kind,
            Inspected {
                differences: differences(&config, &wanted(nats.names(), kind, &settings)),
                incarnation: metadata(INCARNATION),
                generation: generation_of(&config.metadata),
                replicas: config.num_replicas,
                in_files: config.storage == StorageType::File,
                is_async: config.persist_mode == Some(PersistenceMode::Async),
                max_bytes: u64::try_from(config.max_bytes).ok().filter(|bytes| *bytes > 0),
                partitions,
            },
        );
    }
    Ok(inspection)
}

/// Which streams are missing although the journal is there, with what is known of the rest; for a
/// recovery. `None`: there is no journal.
///
/// # Errors
/// If there is no answer.
pub async fn lost(nats: &Nats) -> Result<Option<(Vec<StreamKind>, Settings)>, TopologyError> {
    let found = find(nats).await?;
    let Some(journal) = found.get(&StreamKind::Journal) else { return Ok(None) };
    let partitions = journal.metadata.get(PARTITIONS).and_then(|text| text.parse().ok());
    let settings = Settings {
        partitions: partitions.unwrap_or(16),
        replicas: journal.num_replicas,
        recreate_lost: true,
        ..Settings::default()
    };
    let lost = STREAMS.into_iter().filter(|kind| !found.contains_key(kind) && !is_optional(*kind));
    Ok(Some((lost.collect(), settings)))
}

const INPUTS: [(Source, StreamKind); 3] = [
    (Source::Events, StreamKind::Events),
    (Source::Signals, StreamKind::Signals),
    (Source::Timers, StreamKind::Timers),
];

/// The generation in a stream's metadata.
pub(crate) fn generation_of(metadata: &HashMap<String, String>) -> u64 {
    metadata.get(GENERATION).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// In which generation each message of a stream was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generations(Vec<u64>);

impl Generations {
    pub(crate) fn of(metadata: &HashMap<String, String>) -> Self {
        let known = metadata.get(GENERATIONS).map(String::as_str).unwrap_or_default();
        Self(known.split(',').filter_map(|begins| begins.parse().ok()).collect())
    }

    /// Where each generation after the first begins.
    #[must_use]
    pub fn begins(self) -> Vec<u64> {
        self.0
    }
}

/// The cache of snapshots can be lost without harm.
fn is_optional(kind: StreamKind) -> bool {
    kind == StreamKind::Snapshots
}

/// What the first versions did not have: their installations get it by `pled init`.
fn came_later(kind: StreamKind) -> bool {
    kind == StreamKind::Schedules
}

fn check_settings(settings: &Settings) -> Result<(), TopologyError> {
    if !(1..=1_024).contains(&settings.partitions) {
        return Err(TopologyError::Settings(format!(
            "{} partitions: there must be 1 to 1,024",
            settings.partitions
        )));
    }
    if !matches!(settings.replicas, 1 | 3 | 5) {
        return Err(TopologyError::Settings(format!(
            "{} replicas: there must be 1, 3 or 5",
            settings.replicas
        )));
    }
    Ok(())
}

async fn check_server(nats: &Nats) -> Result<String, TopologyError> {
    let info = nats.client().server_info();
    if !is_new_enough(&info.version) {
        return Err(TopologyError::ServerVersion { found: info.version });
    }
    let account = nats
        .jetstream()
        .query_account()
        .await
        .map_err(|error| TopologyError::NoJetStream { reason: error.to_string() })?;
    if account.requests.level < API_LEVEL_MIN {
        return Err(TopologyError::ApiLevel { found: account.requests.level });
    }
    Ok(info.version)
}

/// Whether a server of this version has what PLED needs.
#[must_use]
pub fn is_new_enough(server_version: &str) -> bool {
    version(server_version).is_some_and(|version| version >= SERVER_MIN)
}

/// The numbers of `2.15.1` or `2.15.0-RC.1`.
fn version(text: &str) -> Option<(u64, u64, u64)> {
    let numbers = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

async fn find(nats: &Nats) -> Result<BTreeMap<StreamKind, Config>, TopologyError> {
    let found = futures::future::try_join_all(STREAMS.into_iter().map(async |kind| {
        let config = find_one(nats, kind).await?;
        Ok::<_, TopologyError>(config.map(|config| (kind, config)))
    }));
    Ok(found.await?.into_iter().flatten().collect())
}

async fn find_one(nats: &Nats, kind: StreamKind) -> Result<Option<Config>, TopologyError> {
    let name = nats.names().stream(kind);
    match nats.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refusal)
                if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::InvalidStreamName => {
                Err(failed(format!("reading {name}"), error))
            }
        },
    }
}

/// A stream as PLED needs it, without its bounds and metadata.
fn wanted(names: &Names, kind: StreamKind, settings: &Settings) -> Config {
    let prefix = names.prefix();
    let transformed = |door: &str, stored: &str| SubjectTransform {
        source: format!("{prefix}.{door}.*.>"),
        destination: format!(
            "{prefix}.{stored}.{{{{partition({},1)}}}}.{{{{wildcard(1)}}}}.>",
            settings.partitions
        ),
    };
    let common = Config {
        name: names.stream(kind).to_owned(),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_consumers: -1,
        discard: DiscardPolicy::New,
        allow_direct: true,
        allow_atomic_publish: batches(kind),
        description: Some(description(kind).to_owned()),
        ..Config::default()
    };
    let bucket = Config {
        subjects: vec![names.key(kind, ">")],
        max_messages_per_subject: 1,
        allow_rollup: true,
        ..common.clone()
    };
    match kind {
        StreamKind::Events => Config {
            subjects: vec![format!("{prefix}.events.*.>")],
            subject_transform: Some(transformed("events", "inbox")),
            ..common
        },
        StreamKind::Signals => Config {
            subjects: vec![format!("{prefix}.signals.*.>")],
            subject_transform: Some(transformed("signals", "signal")),
            ..common
        },
        StreamKind::Ingest => Config {
            subjects: vec![format!("{prefix}.ingest.*.>")],
            subject_transform: Some(transformed("ingest", "raw")),
            ..common
        },
        StreamKind::Timers => Config {
            subjects: ["timers", "fired", "cancelled"]
                .map(|word| format!("{prefix}.{word}.>"))
                .into(),
            // Schedules need both, so this stream cannot refuse publishers.
            discard: DiscardPolicy::Old,
            allow_rollup: true,
            allow_message_ttl: true,
            allow_message_schedules: true,
            ..common
        },
        StreamKind::Journal => {
            Config { subjects: vec![format!("{prefix}.journal.*.*")], deny_delete: true, ..common }
        }
        StreamKind::Tasks => Config {
            subjects: vec![format!("{prefix}.tasks.>")],
            max_messages_per_subject: 1,
            ..common
        },
        StreamKind::Dead => Config {
            subjects: vec![format!("{prefix}.dead.*.*.*")],
            max_age: Duration::from_secs(14 * 24 * 3_600),
            ..common
        },
        StreamKind::Templates | StreamKind::Actions | StreamKind::Schedules => bucket,
        StreamKind::Snapshots => Config {
            discard: DiscardPolicy::Old,
            // A cache need not be synced; replicated streams do not know it.
            persist_mode: (settings.replicas == 1).then_some(PersistenceMode::Async),
            ..bucket
        },
        StreamKind::Locks => Config {
            allow_message_ttl: true,
            subject_delete_marker_ttl: Some(Duration::from_secs(60)),
            ..bucket
        },
    }
}

fn description(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Events => "events for executions, the public door",
        StreamKind::Signals => "results of tasks and sends between executions",
        StreamKind::Ingest => "raw events, for rules",
        StreamKind::Timers => "timers that are set, and those that fired",
        StreamKind::Journal => "what every step of every execution decided: the truth",
        StreamKind::Tasks => "attempts of tasks, for workers",
        StreamKind::Dead => "what was set aside, each with its cause",
        StreamKind::Templates => "template versions",
        StreamKind::Actions => "how actions are bound",
        StreamKind::Schedules => "executions that are started by time",
        StreamKind::Snapshots => "states of executions, a cache for readers",
        StreamKind::Locks => "leases, workers and positions",
    }
}

/// Refuses a stream that is there but not as it must be. Bounds in bytes are the operator's.
fn check_stream(
    names: &Names,
    kind: StreamKind,
    found: &Config,
    settings: &Settings,
    incarnation: &str,
) -> Result<(), TopologyError> {
    let name = names.stream(kind).to_owned();
    let metadata = |key: &str| found.metadata.get(key).map(String::as_str);
    let Some(own) = metadata(INCARNATION) else {
        let reason = "it was not made by `pled init`; remove it, or use another prefix".into();
        return Err(TopologyError::Foreign { name, reason });
    };
    if own != incarnation && !is_optional(kind) {
        let reason = format!(
            "it is of the installation {own}, the others are of {incarnation}: streams of two \
             installations were mixed, or one was lost and made again"
        );
        return Err(TopologyError::Foreign { name, reason });
    }
    if metadata(TOPOLOGY) != Some(VERSION) {
        let reason = format!(
            "it is of the topology version {}, this program needs {VERSION}",
            metadata(TOPOLOGY).unwrap_or("unknown")
        );
        return Err(TopologyError::Differs { name, reason });
    }
    let partitions = settings.partitions.to_string();
    if metadata(PARTITIONS) != Some(&*partitions) {
        let reason = format!(
            "it has {} partitions, not {partitions}: their number is fixed when streams are made",
            metadata(PARTITIONS).unwrap_or("unknown")
        );
        return Err(TopologyError::Differs { name, reason });
    }
    let differences = differences(found, &wanted(names, kind, settings));
    if differences.is_empty() {
        return Ok(());
    }
    Err(TopologyError::Differs { name, reason: differences.join("; ") })
}

fn differences(found: &Config, wanted: &Config) -> Vec<String> {
    fn differs<T: PartialEq + std::fmt::Debug>(
        field: &str,
        found: &T,
        wanted: &T,
    ) -> Option<String> {
        (found != wanted).then(|| format!("`{field}` is {found:?} and must be {wanted:?}"))
    }
    [
        differs("subjects", &found.subjects, &wanted.subjects),
        differs("subject_transform", &found.subject_transform, &wanted.subject_transform),
        differs("retention", &found.retention, &wanted.retention),
        differs("storage", &found.storage, &wanted.storage),
        differs("discard", &found.discard, &wanted.discard),
        differs("num_replicas", &found.num_replicas, &wanted.num_replicas),
        differs(
            "max_msgs_per_subject",
            &found.max_messages_per_subject,
            &wanted.max_messages_per_subject,
        ),
        differs("max_age", &found.max_age, &wanted.max_age),
        differs("deny_delete", &found.deny_delete, &wanted.deny_delete),
        differs("allow_direct", &found.allow_direct, &wanted.allow_direct),
        differs("allow_rollup_hdrs", &found.allow_rollup, &wanted.allow_rollup),
        differs("allow_msg_ttl", &found.allow_message_ttl, &wanted.allow_message_ttl),
        differs("allow_atomic", &found.allow_atomic_publish, &wanted.allow_atomic_publish),
        differs(
            "allow_msg_schedules",
            &found.allow_message_schedules,
            &wanted.allow_message_schedules,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The shares of the store, in hundredths; what is not named has no bound.
const SHARES: [(StreamKind, u64); 6] = [
    (StreamKind::Journal, 40),
    (StreamKind::Events, 20),
    (StreamKind::Ingest, 10),
    (StreamKind::Tasks, 10),
    (StreamKind::Dead, 5),
    (StreamKind::Snapshots, 5),
];
/// The most that is shared out by itself, and the least that will do.
const STORE: (u64, u64) = (256 << 30, 64 << 20);

/// How many bytes are shared out: what the server lets be reserved, found by asking for it, since
/// a client can read it in no other way.
async fn budget(
    nats: &Nats,
    settings: &Settings,
    found: &BTreeMap<StreamKind, Config>,
) -> Result<u64, TopologyError> {
    let needed = SHARES
        .iter()
        .any(|(kind, _)| !found.contains_key(kind) && !settings.max_bytes.contains_key(kind));
    if !needed {
        return Ok(STORE.1);
    }
    let token = new_incarnation(nats);
    let mut bytes = STORE.0;
    while bytes >= STORE.1 {
        let name = format!("{}_PROBE_{token}", nats.names().prefix().to_ascii_uppercase());
        let probe = Config {
            name: name.clone(),
            subjects: vec![format!("{}.probe.{token}", nats.names().prefix())],
            max_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            num_replicas: settings.replicas,
            description: Some("how much can be reserved; is removed at once".into()),
            ..Config::default()
        };
        match nats.jetstream().create_stream(probe).await {
            Ok(_) => {
                let removed = nats.jetstream().delete_stream(&name).await;
                removed.map_err(|error| failed(format!("removing {name}"), error))?;
                return Ok(bytes);
            }
            Err(error) if is_too_much(&error.kind()) => bytes /= 2,
            Err(error) => return Err(failed("asking for room in the store", error)),
        }
    }
    Err(TopologyError::StoreTooSmall { needed_bytes: STORE.1 })
}

fn is_too_much(kind: &CreateStreamErrorKind) -> bool {
    let CreateStreamErrorKind::JetStream(error) = kind else {
        return false;
    };
    [
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
        ErrorCode::CLUSTER_NO_PEERS,
    ]
    .contains(&error.error_code())
}

async fn ensure(
    nats: &Nats,
    kind: StreamKind,
    settings: &Settings,
    incarnation: &str,
    budget: u64,
    found: &BTreeMap<StreamKind, Config>,
) -> Result<Created, TopologyError> {
    let name = nats.names().stream(kind).to_owned();
    let explicit = settings.max_bytes.get(&kind).copied();
    if let Some(present) = found.get(&kind) {
        let bytes = explicit.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        if let Some(bytes) = bytes.filter(|bytes| *bytes != present.max_bytes) {
            let altered = Config { max_bytes: bytes, ..present.clone() };
            let update = nats.jetstream().update_stream(altered).await;
            update.map_err(|error| failed(format!("altering {name}"), error))?;
        }
        return Ok(Created { name, existed: true });
    }
    let share = SHARES.iter().find(|(of, _)| *of == kind).map(|(_, share)| budget / 100 * share);
    let mut config = wanted(nats.names(), kind, settings);
    if let Some(bytes) = explicit.or(share) {
        config.max_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    }
    config.metadata = HashMap::from([
        (INCARNATION.to_owned(), incarnation.to_owned()),
        (GENERATION.to_owned(), "1".to_owned()),
        (PARTITIONS.to_owned(), settings.partitions.to_string()),
        (TOPOLOGY.to_owned(), VERSION.to_owned()),
    ]);
    match nats.jetstream().create_stream(config).await {
        Ok(_) => Ok(Created { name, existed: false }),
        Err(error) if is_too_much(&error.kind()) => Err(TopologyError::StoreTooSmall {
            needed_bytes: explicit.or(share).unwrap_or(STORE.1),
        }),
        Err(error) => Err(failed(format!("making {name}"), error)),
    }
}

async fn ensure_positions(nats: &Nats, partitions: u16) -> Result<Created, TopologyError> {
    let mut existed = true;
    for (kind, inputs) in
        [("engine", &["events", "signals", "timers"][..]), ("rules", &["ingest"][..])]
    {
        let start = InputPosition { generation: 1, next: 1, ..InputPosition::default() };
        let position = Position {
            inputs: inputs.iter().map(|input| ((*input).to_owned(), start.clone())).collect(),
            ..Position::default()
        };
        let writes = (0..partitions)
            .map(|partition| locks::write_position(nats, kind, partition, &position, 0));
        for published in futures::future::join_all(writes).await {
            match published {
                Published::Stored { .. } => existed = false,
                Published::Conflict { .. } => {}
                Published::Full
                | Published::TooLarge
                | Published::Refused(_)
                | Published::Unknown => {
                    return Err(failed("writing positions", format!("{published:?}")));
                }
            }
        }
    }
    Ok(Created { name: format!("{} positions", nats.names().bucket(StreamKind::Locks)), existed })
}

fn new_incarnation(nats: &Nats) -> String {
    let inbox = nats.client().new_inbox();
    inbox.rsplit('.').next().unwrap_or_default().to_owned()
}

fn require_durable(sync_always: Option<bool>) -> Result<(), TopologyError> {
    let refuse = |reason: &str| Err(TopologyError::NotDurable(reason.to_owned()));
    match sync_always {
        Some(true) => Ok(()),
        Some(false) => refuse(
            "the server acknowledges before it syncs, so a power cut loses what was acknowledged: \
             set `jetstream { sync_interval: always }`, or leave strict mode",
        ),
        None => refuse(
            "it cannot be proved that the server syncs before it acknowledges: name its \
             monitoring URL (PLED_NATS_MONITOR), or leave strict mode",
        ),
    }
}

async fn sync_always(nats: &Nats) -> Option<bool> {
    sync(nats).await.map(|sync| sync == Sync::Always)
}

/// How often the server syncs, as its monitoring says; `None` where there is none or it is another
/// server's.
async fn sync(nats: &Nats) -> Option<Sync> {
    #[derive(Deserialize)]
    struct Jsz {
        server_id: String,
        config: JszConfig,
    }
    #[derive(Deserialize)]
    struct JszConfig {
        #[serde(default)]
        sync_always: bool,
        #[serde(default)]
        sync_interval: u64,
    }
    let base = nats.monitoring()?;
    let answer = tokio::time::timeout(Duration::from_secs(2), http_get(base, "/jsz")).await;
    let body = match answer {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the server's monitoring cannot be read");
            return None;
        }
        Err(_) => {
            tracing::warn!("the server's monitoring does not answer");
            return None;
        }
    };
    let jsz: Jsz = serde_json::from_slice(&body).ok()?;
    let own = jsz.server_id == nats.server_id();
    if !own {
        tracing::warn!("the monitoring URL is another server's");
    }
    own.then_some(if jsz.config.sync_always {
        Sync::Always
    } else {
        Sync::Every(Duration::from_nanos(jsz.config.sync_interval))
    })
}

async fn http_get(base: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let refuse = |reason: &str| std::io::Error::other(reason.to_owned());
    let host = base
        .strip_prefix("http://")
        .ok_or_else(|| refuse("it must begin with http://"))?
        .trim_end_matches('/');
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:8222") };
    let mut stream = tokio::net::TcpStream::connect(&address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).await?;
    let split = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| refuse("the answer is not HTTP"))?;
    if !answer.starts_with(b"HTTP/1.0 200") && !answer.starts_with(b"HTTP/1.1 200") {
        return Err(refuse("the answer is no success"));
    }
    Ok(answer.split_off(split + 4))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use pled_engine::door::generation_at;

    use super::{GENERATIONS, Generations, SERVER_MIN, version};

    #[test]
    fn a_message_is_of_the_generation_that_wrote_it_last() {
        let of = |begins: &str| {
            Generations::of(&HashMap::from([(GENERATIONS.to_owned(), begins.to_owned())]))
        };
        let ages = |generations: Generations| {
            let begins = generations.begins();
            [1, 59, 60, 80, 81].map(|seq| generation_at(&begins, seq))
        };

        assert_eq!(ages(of("")), [1, 1, 1, 1, 1]);
        assert_eq!(ages(of("81")), [1, 1, 1, 1, 2]);
        assert_eq!(ages(of("81,60")), [1, 1, 3, 3, 3]);
        assert_eq!(ages(of("60,81")), [1, 1, 2, 2, 3]);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("2.15.1").unwrap() > SERVER_MIN);
        assert!(version("2.14.4").unwrap() == SERVER_MIN);
        assert!(version("2.9.10").unwrap() < SERVER_MIN);
        assert!(version("2.15.0-RC.1").unwrap() > SERVER_MIN);
        assert_eq!(version("unknown"), None);
    }
}
