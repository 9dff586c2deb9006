//! PLED_TEMPLATES: immutable versions, and which one is the newest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use pled_engine::id::{Hash, TemplateName, TemplateRef, TemplateSelector};
use pled_engine::partition::Published;
use pled_engine::template::{
    Action, ActionKind, InvalidTemplate, InvokeSource, StateKind, TaskOptions, Template, Transition,
};

use crate::codec::Stored;
use crate::connection::Nats;
use crate::publish::Publication;
use crate::read::{ReadError, is_marker, last_from_leader, values};
use crate::reader::{Read, Reader};
use crate::subject::{StreamKind, latest_key, number, template_key};
use crate::tasks;

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The version.
    pub reference: TemplateRef,
    /// The hash of its source.
    pub hash: Hash,
    /// Whether the same source was there already.
    pub existed: bool,
}

/// A template was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The text is no valid template.
    #[error("the template is not valid: {0}")]
    Invalid(Box<InvalidTemplate>),
    /// Another source is registered under the same version.
    #[error("{reference} is registered with another source: raise the version")]
    Conflict {
        /// The version.
        reference: TemplateRef,
    },
    /// The source is larger than a bucket takes.
    #[error("the template is larger than the server takes")]
    TooLarge,
    /// The bucket is full, or the server refuses.
    #[error("the template could not be stored: {0}")]
    Refused(String),
    /// No answer: it may be registered. Register it again.
    #[error("no answer from the server: {0}")]
    Unavailable(String),
}

impl From<ReadError> for RegisterError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Registers a template version and makes the consumers of all queues that it names. The same
/// source again changes nothing.
///
/// # Errors
/// See [`RegisterError`].
pub async fn register(nats: &Nats, source: &str) -> Result<Registered, RegisterError> {
    let template =
        Template::parse(source).map_err(|error| RegisterError::Invalid(Box::new(error)))?;
    let reference = template.reference();
    let subject =
        nats.names().key(StreamKind::Templates, &template_key(&reference.name, reference.version));
    // Consumers first: a version that can be started is one whose tasks can be worked on.
    for (queue, heartbeat) in queues(&template) {
        tasks::ensure_queue(nats, &queue, heartbeat)
            .await
            .map_err(|error| RegisterError::Unavailable(error.to_string()))?;
    }
    let published = nats.publisher(StreamKind::Templates).publish(Publication {
        subject: subject.clone(),
        payload: source.to_owned().into(),
        expected: Some(0),
        ..Publication::default()
    });
    let existed = match published.await {
        Published::Stored { .. } => false,
        Published::Conflict { .. } => {
            let stored = last_from_leader(nats, StreamKind::Templates, &subject).await?;
            match stored {
                Some(stored) if stored.payload == source.as_bytes() => true,
                Some(_) => return Err(RegisterError::Conflict { reference }),
                None => return Err(RegisterError::Unavailable("it is there, and is not".into())),
            }
        }
        Published::TooLarge => return Err(RegisterError::TooLarge),
        Published::Full => return Err(RegisterError::Refused("the bucket is full".into())),
        Published::Refused(reason) => return Err(RegisterError::Refused(reason)),
        Published::Unknown => return Err(RegisterError::Unavailable("no acknowledgement".into())),
    };
    raise_latest(nats, &reference).await?;
    Ok(Registered { reference, hash: template.hash, existed })
}

/// Makes the version the newest unless a newer one is.
async fn raise_latest(nats: &Nats, reference: &TemplateRef) -> Result<(), RegisterError> {
    for _ in 0..16 {
        let (latest, revision) = latest_with_revision(nats, &reference.name).await?;
        if latest.is_some_and(|latest| latest >= reference.version) {
            return Ok(());
        }
        let published = nats.publisher(StreamKind::Templates).publish(Publication {
            subject: nats.names().key(StreamKind::Templates, &latest_key(&reference.name)),
            payload: reference.version.to_string().into(),
            expected: Some(revision),
            ..Publication::default()
        });
        match published.await {
            Published::Stored { .. } => return Ok(()),
            Published::Conflict { .. } | Published::Unknown => {}
            Published::Full => return Err(RegisterError::Refused("the bucket is full".into())),
            Published::TooLarge => return Err(RegisterError::TooLarge),
            Published::Refused(reason) => return Err(RegisterError::Refused(reason)),
        }
    }
    Err(RegisterError::Unavailable("the newest version could not be raised".into()))
}

async fn latest_with_revision(
    nats: &Nats,
    name: &TemplateName,
) -> Result<(Option<u32>, u64), ReadError> {
    let key = latest_key(name);
    let subject = nats.names().key(StreamKind::Templates, &key);
    let Some(stored) = last_from_leader(nats, StreamKind::Templates, &subject).await? else {
        return Ok((None, 0));
    };
    if is_marker(&stored) {
        return Ok((None, stored.stream_seq));
    }
    Ok((Some(version_of(&key, &stored)?), stored.stream_seq))
}

fn version_of(key: &str, stored: &Stored) -> Result<u32, ReadError> {
    std::str::from_utf8(&stored.payload)
        .ok()
        .and_then(number)
        .ok_or_else(|| ReadError::corrupt(key, "it is no version"))
}

/// The newest version of a template, as the leader says.
///
/// # Errors
/// If there is no answer.
pub async fn latest(nats: &Nats, name: &TemplateName) -> Result<Option<TemplateRef>, ReadError> {
    let (latest, _) = latest_with_revision(nats, name).await?;
    Ok(latest.map(|version| TemplateRef { name: name.clone(), version }))
}

/// The source of a version, or of the newest.
///
/// # Errors
/// If there is no answer, or what is stored is no text.
pub async fn get(nats: &Nats, selector: &TemplateSelector) -> Result<Option<Arc<str>>, ReadError> {
    let version = match selector.version {
        Some(version) => version,
        None => match latest_with_revision(nats, &selector.name).await?.0 {
            Some(version) => version,
            None => return Ok(None),
        },
    };
    let key = template_key(&selector.name, version);
    let subject = nats.names().key(StreamKind::Templates, &key);
    let stored = last_from_leader(nats, StreamKind::Templates, &subject).await?;
    let Some(stored) = stored.filter(|stored| !is_marker(stored)) else {
        return Ok(None);
    };
    let source =
        std::str::from_utf8(&stored.payload).map_err(|error| ReadError::corrupt(key, error))?;
    Ok(Some(source.into()))
}

/// A registered template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateInfo {
    /// Its name.
    pub name: TemplateName,
    /// Its versions, ascending.
    pub versions: Vec<u32>,
    /// The newest one.
    pub latest: Option<u32>,
}

/// All templates, by name.
///
/// # Errors
/// If there is no answer.
pub async fn list(nats: &Nats) -> Result<Vec<TemplateInfo>, ReadError> {
    let mut templates: BTreeMap<TemplateName, TemplateInfo> = BTreeMap::new();
    for (key, stored) in values(nats, StreamKind::Templates, ">").await? {
        let Some((name, rest)) = key.split_once('.') else { continue };
        let Ok(name) = name.parse::<TemplateName>() else { continue };
        let info = templates.entry(name.clone()).or_insert_with(|| TemplateInfo {
            name,
            versions: Vec::new(),
            latest: None,
        });
        if rest == "latest" {
            info.latest = Some(version_of(&key, &stored)?);
        } else if let Some(version) = number(rest) {
            info.versions.push(version);
        }
    }
    Ok(templates
        .into_values()
        .map(|mut info| {
            info.versions.sort_unstable();
            info
        })
        .collect())
}

/// A registered version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// The version.
    pub reference: TemplateRef,
    /// The hash of its source.
    pub hash: Hash,
    /// Whether it is the newest of its template.
    pub newest: bool,
}

/// All versions of all templates, by name and version.
///
/// # Errors
/// If there is no answer.
pub async fn list_versions(nats: &Nats) -> Result<Vec<VersionInfo>, ReadError> {
    let mut newest: BTreeMap<TemplateName, u32> = BTreeMap::new();
    let mut versions = Vec::new();
    for (key, stored) in values(nats, StreamKind::Templates, ">").await? {
        let Some((name, rest)) = key.split_once('.') else { continue };
        let Ok(name) = name.parse::<TemplateName>() else { continue };
        if rest == "latest" {
            newest.insert(name, version_of(&key, &stored)?);
        } else if let Some(version) = number(rest) {
            let reference = TemplateRef { name, version };
            versions.push(VersionInfo {
                reference,
                hash: Hash::of(&stored.payload),
                newest: false,
            });
        }
    }
    for info in &mut versions {
        info.newest = newest.get(&info.reference.name) == Some(&info.reference.version);
    }
    versions.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(versions)
}

/// Compiled templates. A version is kept as it is; which one is the newest is asked again after a
/// second.
#[derive(Clone, Debug)]
pub struct TemplateCache {
    versions: Cache<TemplateRef, Arc<Template>>,
    newest: Cache<TemplateName, (u32, Instant)>,
}

/// How old the answer to which version is the newest may be.
const NEWEST_AGE: Duration = Duration::from_secs(1);
/// How many versions are kept compiled.
const VERSIONS: u64 = 1_000;

impl Default for TemplateCache {
    fn default() -> Self {
        Self { versions: Cache::new(VERSIONS), newest: Cache::new(VERSIONS) }
    }
}

impl TemplateCache {
    /// A template, if it is registered; the inner error: it is there but cannot be used.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(
        &self,
        nats: &Nats,
        selector: &TemplateSelector,
    ) -> Result<Result<Option<Arc<Template>>, String>, ReadError> {
        let version = match selector.version {
            Some(version) => Some(version),
            None => match self.newest_version(nats, &selector.name).await {
                Ok(newest) => newest,
                Err(error @ ReadError::Corrupt { .. }) => return Ok(Err(error.to_string())),
                Err(error @ ReadError::Unavailable { .. }) => return Err(error),
            },
        };
        let Some(version) = version else {
            return Ok(Ok(None));
        };
        let reference = TemplateRef { name: selector.name.clone(), version };
        if let Some(template) = self.versions.get(&reference) {
            return Ok(Ok(Some(template)));
        }
        let source = match get(nats, &TemplateSelector::from(&reference)).await {
            Ok(Some(source)) => source,
            Ok(None) => return Ok(Ok(None)),
            Err(error @ ReadError::Corrupt { .. }) => return Ok(Err(error.to_string())),
            Err(error @ ReadError::Unavailable { .. }) => return Err(error),
        };
        // Whoever may write to the bucket may put there what no door would have taken.
        match Template::parse(&source) {
            Ok(template) if template.reference() != reference => {
                Ok(Err(format!("{reference}: what is stored there is {}", template.reference())))
            }
            Ok(template) => {
                let template = Arc::new(template);
                self.versions.insert(reference, template.clone());
                Ok(Ok(Some(template)))
            }
            Err(error) => Ok(Err(format!("{reference}: {error}"))),
        }
    }

    /// A version that is kept already.
    #[must_use]
    pub fn cached(&self, reference: &TemplateRef) -> Option<Arc<Template>> {
        self.versions.get(reference)
    }

    async fn newest_version(
        &self,
        nats: &Nats,
        name: &TemplateName,
    ) -> Result<Option<u32>, ReadError> {
        if let Some((version, read)) = self.newest.get(name)
            && read.elapsed() < NEWEST_AGE
        {
            return Ok(Some(version));
        }
        let (latest, _) = latest_with_revision(nats, name).await?;
        if let Some(version) = latest {
            self.newest.insert(name.clone(), (version, Instant::now()));
        }
        Ok(latest)
    }
}

/// Gives the newest version of every template, and again whenever one becomes newer, until it is
/// dropped.
#[must_use]
pub fn watch_newest(nats: &Nats) -> NewestWatch {
    let filter = nats.names().key(StreamKind::Templates, "*.latest");
    let prefix = nats.names().key(StreamKind::Templates, "");
    NewestWatch { reader: Reader::start(nats, StreamKind::Templates, filter, 1), prefix }
}

/// See [`watch_newest`].
#[derive(Debug)]
pub struct NewestWatch {
    reader: Reader,
    prefix: String,
}

/// News of the newest versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newest {
    /// This one is the newest of its template.
    Version(TemplateRef),
    /// All templates that are there were given.
    CaughtUp,
}

impl NewestWatch {
    /// The next news. Safe to drop before it is there.
    pub async fn next(&mut self) -> Newest {
        loop {
            let stored = match self.reader.next().await {
                Read::CaughtUp(_) => return Newest::CaughtUp,
                Read::Message(stored) => stored,
            };
            let key = stored.subject.strip_prefix(&self.prefix).unwrap_or_default();
            let name = key.strip_suffix(".latest").and_then(|name| name.parse().ok());
            if let (Some(name), Ok(version)) = (name, version_of(key, &stored)) {
                return Newest::Version(TemplateRef { name, version });
            }
        }
    }
}

/// The queues that a template names, each with the shortest heartbeat that it asks of them.
#[must_use]
pub fn queues(template: &Template) -> BTreeMap<Arc<str>, Option<Duration>> {
    let mut queues = Queues::default();
    for state in &template.states {
        queues.actions(&state.entry);
        queues.actions(&state.exit);
        match &state.kind {
            StateKind::Compound { actions, .. } => queues.actions(actions),
            StateKind::Atomic | StateKind::Parallel | StateKind::Final => {}
            StateKind::History { .. } => {}
        }
        let on = state.on.exact.values().chain(state.on.prefixes.iter().map(|(_, list)| list));
        on.flatten().chain(&state.on.any).chain(&state.always).for_each(
            |transition: &Transition| {
                queues.actions(&transition.actions);
            },
        );
        for invoke in &state.invoke {
            if let InvokeSource::Action(action) = &invoke.source {
                queues.add(action, &invoke.options);
            }
            if let Some(compensation) = &invoke.compensate {
                queues.add(&compensation.action, &compensation.options);
            }
        }
    }
    queues.found
}

#[derive(Default)]
struct Queues {
    found: BTreeMap<Arc<str>, Option<Duration>>,
}

impl Queues {
    fn actions(&mut self, actions: &[Action]) {
        for action in actions {
            match &action.kind {
                ActionKind::Custom { action, options, .. } => self.add(action, options),
                ActionKind::Choose(branches) => {
                    branches.iter().for_each(|branch| self.actions(&branch.actions));
                }
                ActionKind::Assign(_)
                | ActionKind::Raise(_)
                | ActionKind::Send(_)
                | ActionKind::Cancel { .. }
                | ActionKind::Spawn { .. }
                | ActionKind::Stop { .. }
                | ActionKind::Log(_)
                | ActionKind::Compensate => {}
            }
        }
    }

    fn add(&mut self, action: &Arc<str>, options: &TaskOptions) {
        let queue = options.queue.as_ref().unwrap_or(action).clone();
        let heartbeat = options
            .timeout
            .heartbeat_ms
            .and_then(|millis| u64::try_from(millis).ok())
            .map(Duration::from_millis);
        let known = self.found.entry(queue).or_default();
        *known = match (*known, heartbeat) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}
