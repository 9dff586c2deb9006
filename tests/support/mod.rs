//! An installation of PLED for one story: servers of its own, and the real binary beside them.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pled_harness::{Database, NatsOptions, NatsServer};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Long enough for anything that is to happen at once, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A nats-server with PLED's streams, and perhaps a Postgres.
pub(crate) struct Installation {
    pub(crate) server: NatsServer,
    environment: Vec<(&'static str, String)>,
    logs: TempDir,
}

impl Installation {
    /// Starts the server and runs `pled init` on it.
    pub(crate) async fn start(options: NatsOptions, database: Option<&Database>) -> Self {
        let installation = Self::of(NatsServer::start(options).await, &[], database);
        installation.pled(&["init"]).await.succeeded();
        installation
    }

    /// On this server and the others of its cluster, without the streams.
    pub(crate) fn of(
        server: NatsServer,
        others: &[NatsServer],
        database: Option<&Database>,
    ) -> Self {
        let urls: Vec<String> =
            std::iter::once(&server).chain(others).map(NatsServer::url).collect();
        // Tells the roles that the server is durable, so that they publish as they do there.
        let monitor = ("PLED_NATS_MONITOR", server.monitor_url());
        let mut environment = vec![("NATS_URL", urls.join(",")), monitor];
        environment.extend(database.map(|database| ("DATABASE_URL", database.url().to_owned())));
        Self { server, environment, logs: TempDir::new().unwrap() }
    }

    /// Runs a command of `pled` to its end.
    pub(crate) async fn pled(&self, arguments: &[&str]) -> Said {
        self.pled_within(SOON * 2, arguments).await
    }

    /// As [`Self::pled`], for a command that may take so long.
    pub(crate) async fn pled_within(&self, longest: Duration, arguments: &[&str]) -> Said {
        let running = command(&self.environment, arguments).stdin(Stdio::null()).output();
        let ended = tokio::time::timeout(longest, running).await;
        let output = ended.unwrap_or_else(|_| panic!("pled {arguments:?} does not end")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said {
            what: format!("pled {}", arguments.join(" ")),
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Starts a role in a process of its own, which ends with this value.
    pub(crate) fn role(&self, name: &'static str, arguments: &[&str]) -> Role {
        let mut role = Role {
            name,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: self.environment.clone(),
            log: self.logs.path().join(name),
            child: None,
        };
        role.run();
        role
    }
}

/// What a command said.
pub(crate) struct Said {
    what: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The answer of a command that succeeded without complaint.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &str {
        let Self { what, code, out, err } = self;
        assert!(*code == Some(0) && err.is_empty(), "{what}: {code:?}\n{out}{err}");
        out
    }
}

/// A role in a process of its own.
pub(crate) struct Role {
    name: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    pub(crate) child: Option<Child>,
}

impl Role {
    /// Starts the process; if one runs, that is killed.
    pub(crate) fn run(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = command(&self.environment, &arguments);
        command.env("PLED_LOG", "info,async_nats=warn");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
    }

    /// What its processes have said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Role {
    /// A story that failed shows what its roles said last.
    #[expect(clippy::print_stderr, reason = "shown with the failure of the test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("--- the {} said last:\n{last}", self.name);
        }
    }
}

/// Nothing of the caller's environment but what is given: neither a nats context nor a database.
fn command(environment: &[(&'static str, String)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pled"));
    command.env_clear().envs(environment.iter().cloned()).args(arguments);
    command
}
