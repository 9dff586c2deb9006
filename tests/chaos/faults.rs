//! What is done to the processes, in an order that the seed decides.

use std::time::{Duration, Instant};

use pled_harness::{Database, NatsServer};

use crate::disk::Disk;
use crate::support::{Installation, Role};

/// Numbers below a bound, the same for the same seed (xorshift).
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    fn one_of<'a, T>(&mut self, all: &'a mut [T]) -> &'a mut T {
        let index = usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap();
        &mut all[index]
    }
}

/// The processes of one installation.
pub(crate) struct Roles {
    pub(crate) engines: Vec<Role>,
    pub(crate) workers: Vec<Role>,
    pub(crate) rules: Role,
    pub(crate) gateway: Role,
    pub(crate) ledger: Role,
}

impl Roles {
    pub(crate) fn start(pled: &Installation, gateway: &str) -> Self {
        let engine = |name| pled.role(name, &["engine", "--lease-ttl-ms", "2000"]);
        let worker = |name| pled.role(name, &["worker", "--noop", "--allow-private"]);
        Self {
            engines: vec![engine("engine-1"), engine("engine-2")],
            workers: vec![worker("worker-1"), worker("worker-2")],
            rules: pled.role("rules", &["rules"]),
            gateway: pled.role("gateway", &["gateway", "--listen", gateway]),
            ledger: pled.role("ledger", &["ledger"]),
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Role> {
        let Self { engines, workers, rules, gateway, ledger } = self;
        engines.iter_mut().chain(workers).chain([rules, gateway, ledger])
    }

    /// Starts again what ended by itself, as a supervisor does; gives what it said last.
    pub(crate) fn supervise(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for role in self.all() {
            if let Some(status) = role.child.as_mut().unwrap().try_wait().unwrap() {
                let last = role.log().lines().last().unwrap_or_default().to_owned();
                ended.push(format!("{status}: {last}"));
                role.run();
            }
        }
        ended
    }
}

/// What is done to an installation.
#[derive(Clone, Copy)]
pub(crate) enum Weather<'a> {
    /// Everything is killed, stopped and cut off.
    All { database: &'a Database },
    /// The power of the server's disk is cut, now and then while an engine is stopped or killed.
    PowerCuts { disk: &'a Disk },
}

/// Does something bad every second or two until `end`; all is whole again afterwards. Says how
/// often it did what.
pub(crate) async fn wreck(
    servers: &mut [&mut NatsServer],
    roles: &mut Roles,
    weather: Weather<'_>,
    draws: &mut Draws,
    end: Instant,
    mut watch: impl FnMut(&str),
) -> usize {
    let mut count = 0;
    while Instant::now() < end {
        tokio::time::sleep(draws.millis(500, 2_000)).await;
        let what = match weather {
            Weather::All { database } => fault(servers, roles, database, draws).await,
            Weather::PowerCuts { disk } => power_cut(servers, roles, disk, draws).await,
        };
        watch(&what);
        for ended in roles.supervise() {
            watch(&format!("ended by itself: {ended}"));
        }
        count += 1;
    }
    count
}

async fn power_cut(
    servers: &mut [&mut NatsServer],
    roles: &mut Roles,
    disk: &Disk,
    draws: &mut Draws,
) -> String {
    let also = match draws.below(4) {
        0 => kill(", and kill -9 an engine", draws.one_of(&mut roles.engines)).await,
        _ => String::new(),
    };
    let server = draws.one_of(servers);
    // A processor without power does nothing more. One that runs on, on a disk that refuses every
    // sync, would acknowledge all the same.
    server.freeze();
    disk.cut();
    server.kill();
    disk.again();
    server.restart().await;
    format!("cut the power{}", also.trim_start_matches("kill -9 "))
}

async fn fault(
    servers: &mut [&mut NatsServer],
    roles: &mut Roles,
    database: &Database,
    draws: &mut Draws,
) -> String {
    match draws.below(16) {
        0..=2 => kill("an engine", draws.one_of(&mut roles.engines)).await,
        3..=4 => {
            // Longer than a lease lives, or not.
            let pause = draws.millis(300, 5_000);
            stop("an engine", draws.one_of(&mut roles.engines), pause).await
        }
        5 => kill("a worker", draws.one_of(&mut roles.workers)).await,
        6 => {
            let pause = draws.millis(300, 4_000);
            stop("a worker", draws.one_of(&mut roles.workers), pause).await
        }
        7 => kill("the rule worker", &mut roles.rules).await,
        8 => kill("the gateway", &mut roles.gateway).await,
        9 => {
            let pause = draws.millis(300, 2_000);
            stop("the gateway", &mut roles.gateway, pause).await
        }
        10 => kill("the ledger", &mut roles.ledger).await,
        11 => {
            let pause = draws.millis(500, 3_000);
            database.cut_off().await;
            tokio::time::sleep(pause).await;
            database.let_in().await;
            format!("cut off Postgres for {} ms", pause.as_millis())
        }
        // One at a time, so that most of a cluster is always there.
        12..=13 => {
            let server = draws.one_of(servers);
            server.kill();
            server.restart().await;
            "kill a nats-server".to_owned()
        }
        _ => {
            let pause = draws.millis(300, 3_000);
            let server = draws.one_of(servers);
            server.freeze();
            tokio::time::sleep(pause).await;
            server.thaw();
            format!("stop a nats-server for {} ms", pause.as_millis())
        }
    }
}

async fn kill(name: &str, role: &mut Role) -> String {
    role.kill_and_run().await;
    format!("kill -9 {name}")
}

async fn stop(name: &str, role: &mut Role, pause: Duration) -> String {
    signal(role, "-STOP").await;
    tokio::time::sleep(pause).await;
    signal(role, "-CONT").await;
    format!("stop {name} for {} ms", pause.as_millis())
}

async fn signal(role: &Role, signal: &str) {
    let Some(pid) = role.child.as_ref().and_then(tokio::process::Child::id) else { return };
    let sent = tokio::process::Command::new("kill").args([signal, &pid.to_string()]).status().await;
    assert!(sent.unwrap().success(), "kill {signal} {pid}");
}
