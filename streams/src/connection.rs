//! A connection to the NATS server, and what hangs on it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, Event};
use pled_engine::message::Source;
use tokio::sync::{Notify, watch};

use crate::context;
use crate::publish::{Mode, Publisher, SharedMode};
use crate::read::ReadError;
use crate::subject::{Names, STREAMS, StreamKind};

/// How often the state of the connection is looked at without news of it, and after news.
const CHECK: Duration = Duration::from_millis(50);
/// See [`CHECK`].
const HURRIED_CHECK: Duration = Duration::from_millis(1);
/// How many looks follow news of the connection.
const HURRIED_CHECKS: u32 = 50;
/// How long a read or an administrative request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts to connect again.
const RECONNECT_DELAY: Duration = Duration::from_millis(50);

/// Where and as whom to connect.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// One URL or several with commas between.
    pub url: String,
    /// A file with JWT and seed.
    pub creds: Option<PathBuf>,
    /// A user's name, with [`Self::password`].
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// A token.
    pub token: Option<String>,
    /// A file with an NKey seed.
    pub nkey: Option<PathBuf>,
    /// A JWT, with [`Self::seed`].
    pub jwt: Option<String>,
    /// The seed of that JWT.
    pub seed: Option<String>,
    /// A file with the certificates of authorities that are trusted.
    pub ca: Option<PathBuf>,
    /// A file with the client's certificate, with [`Self::key`].
    pub cert: Option<PathBuf>,
    /// A file with the client's key.
    pub key: Option<PathBuf>,
    /// Whether TLS begins before the server speaks.
    pub tls_first: bool,
    /// The prefix of reply subjects, `_INBOX` unless given.
    pub inbox_prefix: Option<String>,
    /// The JetStream domain.
    pub jetstream_domain: Option<String>,
    /// The name of the connection, for people.
    pub name: String,
    /// The prefix of PLED's names, `pled`.
    pub prefix: String,
    /// How publishing is done; `None`: as it fits the server that [`crate::topology::open`] finds.
    pub mode: Option<Mode>,
    /// The base URL of the server's monitoring, `http://127.0.0.1:8222`: the only way to learn
    /// whether it syncs before it acknowledges.
    pub monitoring: Option<String>,
}

impl std::fmt::Debug for ConnectOptions {
    /// Without what is secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConnectOptions")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// Options for `url` without any credentials, under the prefix `pled`.
    #[must_use]
    pub fn to(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self { url: url.into(), name: name.into(), prefix: "pled".into(), ..Self::default() }
    }

    /// What the `nats` command would use: the context (`context_flag`, NATS_CONTEXT, or the one
    /// that is selected), over it the variables (NATS_URL, NATS_CREDS, NATS_USER, NATS_PASSWORD,
    /// NATS_TOKEN, NATS_NKEY, NATS_JWT, NATS_SEED, NATS_CA, NATS_CERT, NATS_KEY), over them
    /// `url_flag`; and PLED_PREFIX, PLED_NATS_MONITOR, PLED_PUBLISH (`relaxed`, `durable`,
    /// `replicated`: [`Self::mode`]).
    ///
    /// # Errors
    /// If a context that is named cannot be read, or a variable says what is unknown.
    pub fn from_env(
        name: &str,
        url_flag: Option<&str>,
        context_flag: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        context::options(name, url_flag, context_flag, &variable)
    }
}

/// Connecting failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The options contradict themselves or name what is not there.
    #[error("{0}")]
    Options(String),
    /// No connection was made.
    #[error("connecting to {url}: {reason}")]
    Unreachable {
        /// Where to, without user and password.
        url: String,
        /// Why not.
        reason: String,
    },
}

/// The state of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whether there is one now.
    pub connected: bool,
    /// The id of the server, another one after each start of a server.
    pub server_id: String,
    /// How often a connection was made.
    pub count: u64,
}

/// A connection to one installation. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Nats {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    jetstream: jetstream::Context,
    names: Names,
    streams: Vec<stream::Stream<()>>,
    publishers: [OnceLock<Publisher>; STREAMS.len()],
    connections: watch::Receiver<Connection>,
    mode: SharedMode,
    /// Whether the options say the mode.
    mode_is_given: bool,
    monitoring: Option<String>,
    /// 0 until [`crate::topology::open`] or `init` has read it.
    partitions: AtomicU16,
    generations: [AtomicU64; 3],
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Nats").field("prefix", &self.names().prefix()).finish()
    }
}

impl Nats {
    /// Connects, and stays connected: after a loss it tries again every 50 ms.
    ///
    /// # Errors
    /// If the options do not fit together, or no server answers.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let names = Names::new(&options.prefix).map_err(ConnectError::Options)?;
        let (client, connections) = connect(&options).await?;
        let builder = ContextBuilder::new().timeout(REQUEST_TIMEOUT);
        let jetstream = match &options.jetstream_domain {
            Some(domain) => builder.domain(domain).timeout(REQUEST_TIMEOUT).build(client.clone()),
            None => builder.build(client.clone()),
        };
        let mut streams = Vec::with_capacity(STREAMS.len());
        for kind in STREAMS {
            let stream = jetstream.get_stream_no_info(names.stream(kind)).await;
            streams.push(stream.map_err(|error| ConnectError::Options(error.to_string()))?);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                jetstream,
                names,
                streams,
                publishers: Default::default(),
                connections,
                mode: SharedMode::new(options.mode.unwrap_or_default()),
                mode_is_given: options.mode.is_some(),
                monitoring: options.monitoring,
                partitions: AtomicU16::new(0),
                generations: Default::default(),
            }),
        })
    }

    /// The client, for plain NATS: requests, services.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The names of this installation.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.shared.names
    }

    /// The id of the server that is or was last connected to.
    #[must_use]
    pub fn server_id(&self) -> String {
        self.shared.client.server_info().server_id
    }

    /// The largest message that the server takes, headers included, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.shared.client.max_payload()
    }

    /// News of the connection.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<Connection> {
        self.shared.connections.clone()
    }

    /// How many partitions there are; 0 before [`crate::topology::open`].
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.shared.partitions.load(Ordering::Relaxed)
    }

    /// The partition of an execution, once their number is known.
    pub(crate) fn known_partition_of(
        &self,
        execution: &pled_engine::id::ExecutionId,
    ) -> Result<u16, ReadError> {
        match self.partitions() {
            0 => Err(ReadError::unavailable("the topology", "it was not opened")),
            partitions => Ok(crate::subject::partition_of(execution, partitions)),
        }
    }

    /// The partition of an execution. [`crate::topology::open`] comes before.
    #[must_use]
    pub fn partition_of(&self, execution: &pled_engine::id::ExecutionId) -> u16 {
        crate::subject::partition_of(execution, self.partitions())
    }

    /// The one publisher to this stream in this process.
    #[must_use]
    pub fn publisher(&self, kind: StreamKind) -> &Publisher {
        self.shared.publishers[kind.index()].get_or_init(|| {
            Publisher::start(
                self.client(),
                self.stream(kind),
                self.names(),
                kind,
                self.shared.mode.clone(),
                self.connections(),
            )
        })
    }

    pub(crate) fn jetstream(&self) -> &jetstream::Context {
        &self.shared.jetstream
    }

    pub(crate) fn stream(&self, kind: StreamKind) -> &stream::Stream<()> {
        &self.shared.streams[kind.index()]
    }

    pub(crate) fn monitoring(&self) -> Option<&str> {
        self.shared.monitoring.as_deref()
    }

    /// The generation of an input stream as it was last read from its metadata.
    pub(crate) fn generation(&self, source: Source) -> u64 {
        let index = match source {
            Source::Events => 0,
            Source::Signals => 1,
            Source::Timers => 2,
            Source::Own => return 0,
        };
        self.shared.generations[index].load(Ordering::Relaxed)
    }

    /// Publishes from now on as it fits the server, unless the options say how.
    pub(crate) fn learn_mode(&self, mode: Mode) {
        if !self.shared.mode_is_given {
            self.shared.mode.set(mode);
        }
    }

    pub(crate) fn learn_partitions(&self, partitions: u16) {
        self.shared.partitions.store(partitions, Ordering::Relaxed);
    }

    pub(crate) fn learn_generation(&self, source: Source, generation: u64) {
        let index = match source {
            Source::Events => 0,
            Source::Signals => 1,
            Source::Timers => 2,
            Source::Own => return,
        };
        self.shared.generations[index].store(generation, Ordering::Relaxed);
    }
}

async fn connect(
    options: &ConnectOptions,
) -> Result<(Client, watch::Receiver<Connection>), ConnectError> {
    let unreachable =
        |reason: String| ConnectError::Unreachable { url: without_password(&options.url), reason };
    let poke = Arc::new(Notify::new());
    let poked = poke.clone();
    let nats_options = authenticated(options)
        .await?
        .name(&options.name)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .reconnect_delay_callback(|_attempts| RECONNECT_DELAY)
        .event_callback(move |event| {
            log(&event);
            poked.notify_one();
            std::future::ready(())
        });
    let servers: Vec<async_nats::ServerAddr> = options
        .url
        .split(',')
        .map(|url| url.trim().parse::<async_nats::ServerAddr>())
        .collect::<Result<_, _>>()
        .map_err(|error| ConnectError::Options(format!("the NATS URL: {error}")))?;
    let client =
        nats_options.connect(servers).await.map_err(|error| unreachable(describe(&error)))?;
    let server_id = client.server_info().server_id;
    let (sender, receiver) = watch::channel(Connection { connected: true, server_id, count: 1 });
    tokio::spawn(watch_connection(client.clone(), sender, poke));
    Ok((client, receiver))
}

/// Publishes the state of the connection until nobody listens any more. Events of the client only
/// hasten it: they can be lost, and come a moment before the client knows the new server.
async fn watch_connection(client: Client, sender: watch::Sender<Connection>, poke: Arc<Notify>) {
    let identity = |client: &Client| {
        let info = client.server_info();
        (info.server_id, info.client_id)
    };
    let mut seen = identity(&client);
    let mut hurried = 0_u32;
    loop {
        let pause = if hurried > 0 { HURRIED_CHECK } else { CHECK };
        tokio::select! {
            () = poke.notified() => hurried = HURRIED_CHECKS,
            () = tokio::time::sleep(pause) => hurried = hurried.saturating_sub(1),
            () = sender.closed() => return,
        }
        // A server gives each connection another number, so a new one is always told apart.
        let now = identity(&client);
        let renewed = now != seen;
        let connected = client.connection_state() == State::Connected;
        sender.send_if_modified(|connection| {
            // Connected, but to whom is not known yet: wait for the next look.
            let connected = connected && (connection.connected || renewed);
            let changed = connection.connected != connected || renewed;
            connection.connected = connected;
            if renewed {
                connection.server_id.clone_from(&now.0);
                connection.count += 1;
            }
            changed
        });
        seen = now;
    }
}

fn log(event: &Event) {
    match event {
        Event::Disconnected => tracing::warn!("the connection to NATS was lost"),
        Event::Connected => tracing::debug!("connected to NATS"),
        Event::Closed | Event::Draining => {}
        Event::ServerError(error) => tracing::warn!(%error, "the NATS server says"),
        Event::ClientError(error) => tracing::debug!(%error, "the NATS client says"),
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "a subscription does not keep up");
        }
        Event::LameDuckMode => tracing::info!("the NATS server is about to stop"),
    }
}

async fn authenticated(
    options: &ConnectOptions,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let refuse = |what: &str, path: &std::path::Path, error: &dyn std::fmt::Display| {
        ConnectError::Options(format!("{what} {}: {error}", path.display()))
    };
    let mut nats = async_nats::ConnectOptions::new();
    if let Some(path) = &options.creds {
        nats = nats
            .credentials_file(path)
            .await
            .map_err(|error| refuse("the credentials file", path, &error))?;
    }
    if let (Some(jwt), Some(seed)) = (&options.jwt, &options.seed) {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        nats = nats
            .credentials(&text)
            .map_err(|error| ConnectError::Options(format!("the JWT and its seed: {error}")))?;
    }
    if let Some(path) = &options.nkey {
        let seed = tokio::fs::read_to_string(path)
            .await
            .map_err(|error| refuse("the NKey file", path, &error))?;
        nats = nats.nkey(seed.trim().to_owned());
    }
    if let Some(user) = &options.user {
        let password = options.password.clone().unwrap_or_default();
        nats = nats.user_and_password(user.clone(), password);
    }
    if let Some(token) = &options.token {
        nats = nats.token(token.clone());
    }
    if let Some(path) = &options.ca {
        nats = nats.add_root_certificates(path.clone());
    }
    match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            nats = nats.add_client_certificate(cert.clone(), key.clone());
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            return Err(ConnectError::Options(
                "a client certificate and its key must be given together".into(),
            ));
        }
    }
    if options.tls_first {
        nats = nats.tls_first();
    }
    if let Some(prefix) = &options.inbox_prefix {
        nats = nats.custom_inbox_prefix(prefix);
    }
    Ok(nats)
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// A URL list as it may be shown.
pub(crate) fn without_password(urls: &str) -> String {
    let hide = |url: &str| match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
        }
        None => url.to_owned(),
    };
    urls.split(',').map(hide).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_shown_url_holds_no_password() {
        assert_eq!(
            without_password("nats://a:b@host:4222,tls://other"),
            "nats://host:4222,tls://other"
        );
    }
}
