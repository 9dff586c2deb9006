//! Chaos: everything is killed, stopped and cut off while clients of all doors work and write down
//! what was acknowledged to them. Then `pled verify` judges by their log.
//!
//! `CHAOS_SECS` says how long (60), `CHAOS_SEED` which faults, `CHAOS_SERVERS=3` asks for a cluster
//! of which one server at a time is down, `CHAOS_POWER=1` for cuts of the power of a durable server's
//! disk instead (which takes root), `CHAOS_RATE` for how many events a second (500).
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod clients;
mod disk;
mod faults;
#[path = "../support/kill.rs"]
mod kill;
#[path = "../support/settled.rs"]
mod settled;
mod sink;
#[path = "../support/mod.rs"]
mod support;
mod templates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clients::{Log, Pace};
use disk::Disk;
use faults::{Draws, Roles, Weather};
use pled_engine::effect::EffectKind;
use pled_engine::execution::Status;
use pled_harness::{Database, NatsOptions, NatsServer, free_port, wait_until};
use pled_ledger::Ledger;
use pled_streams::{ConnectOptions, Nats, inputs, journal, tasks, topology};
use settled::nothing_is_outstanding;
use sink::{Effects, Sink};
use support::{Installation, SOON};

/// How many devices are sent to over NATS, and how many over HTTP.
const DEVICES: u64 = 100;
const BROWSERS: u64 = 10;
const QUEUES: [&str; 2] = ["bench.noop", "http"];
/// How long a silent worker keeps a task.
const ACK_WAIT: Duration = Duration::from_secs(3);
/// How long all may take to come to rest after the last fault.
const REST: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_nothing_is_lost_doubled_or_out_of_order_under_chaos() {
    let seed = setting("CHAOS_SEED", 1);
    let span = Duration::from_secs(setting("CHAOS_SECS", 60));
    let rate = f64::from(u32::try_from(setting("CHAOS_RATE", 500)).unwrap());
    let servers = setting("CHAOS_SERVERS", 1);
    let disk = (setting("CHAOS_POWER", 0) == 1).then(Disk::make);
    let began = Instant::now();
    let say = move |what: &str| say(began, what);
    let power = if disk.is_some() { " CHAOS_POWER=1" } else { "" };
    let secs = span.as_secs();
    say(&format!("CHAOS_SEED={seed} CHAOS_SECS={secs} CHAOS_SERVERS={servers}{power}"));

    let database = Database::create().await;
    let (mut pled, mut others) = installation(servers, disk.as_ref(), &database).await;
    let nats = connect(&pled, &others).await;
    for template in [templates::DEVICE, templates::FLOW, templates::METER] {
        pled_streams::templates::register(&nats, template).await.unwrap();
    }
    for queue in QUEUES {
        tasks::ensure_consumers(&nats, queue, ACK_WAIT).await.unwrap();
    }
    let gateway = format!("127.0.0.1:{}", free_port());
    let mut roles = Roles::start(&pled, &gateway);
    let sink = Sink::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let log_path = folder.path().join("client.ndjson");
    let log = Log::at(&log_path);

    let end = Instant::now() + span;
    let mut clients = tokio::task::JoinSet::new();
    let share = |part: f64, count: u64| {
        let per_second = rate * part / f64::from(u32::try_from(count).unwrap());
        Pace { per_second, end }
    };
    for number in 0..DEVICES {
        clients.spawn(clients::device(nats.clone(), log.clone(), number, share(0.76, DEVICES)));
    }
    for number in 0..BROWSERS {
        let base = format!("http://{gateway}");
        clients.spawn(clients::browser(base, log.clone(), number, share(0.08, BROWSERS)));
    }
    let sink_url = sink.url.clone();
    clients.spawn(clients::flows(nats.clone(), log.clone(), sink_url, share(0.08, 1)));
    clients.spawn(clients::meters(nats.clone(), log.clone(), share(0.08, 1)));

    let mut draws = Draws::of(seed);
    let mut servers: Vec<&mut NatsServer> =
        std::iter::once(&mut pled.server).chain(&mut others).collect();
    let weather = match &disk {
        Some(disk) => Weather::PowerCuts { disk },
        None => Weather::All { database: &database },
    };
    let faults = faults::wreck(&mut servers, &mut roles, weather, &mut draws, end, say).await;
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let acknowledged = log.len();
    say(&format!("{faults} faults, {acknowledged} events acknowledged; now to rest"));

    let executions = match at_rest(&nats, &mut roles).await {
        Ok(executions) => executions,
        Err(open) => {
            for id in open.iter().take(3) {
                say(&pled.pled(&["history", id]).await.out);
                say(&pled.pled(&["show", id, "-o", "json"]).await.out);
            }
            let verified = pled
                .pled(&["verify", "--settled", "--client-log", &log_path.display().to_string()])
                .await;
            say(&format!("{}{}", verified.out, verified.err));
            say(&pled.pled(&["doctor"]).await.out);
            panic!("after {REST:?} these flows have not ended: {open:?}");
        }
    };
    nothing_is_outstanding(&nats, &QUEUES).await;
    say("at rest");
    every_flow_is_done_and_every_effect_explained(&executions, &sink.effects());
    the_ledger_is_whole(&nats, &database).await;

    let log_path = log_path.display().to_string();
    let verified = pled.pled(&["verify", "--settled", "--client-log", &log_path]).await;
    say(&format!("pled verify:\n{}{}", verified.out, verified.err));
    assert_eq!(verified.code, Some(0), "pled verify found a violation");
    let at_least = u64::try_from(faults).unwrap() * 20;
    assert!(acknowledged > at_least, "only {acknowledged} events went through {faults} faults");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[expect(clippy::print_stderr, reason = "shown with the failure of the test")]
fn say(began: Instant, what: &str) {
    eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
}

async fn installation(
    servers: u64,
    disk: Option<&Disk>,
    database: &Database,
) -> (Installation, Vec<NatsServer>) {
    if servers == 1 {
        let store = disk.map(Disk::path);
        let options = NatsOptions { durable: disk.is_some(), store, ..NatsOptions::default() };
        return (Installation::start(options, Some(database)).await, Vec::new());
    }
    let options = NatsOptions { durable: true, ..NatsOptions::default() };
    let mut others = NatsServer::start_cluster(&options).await;
    let pled = Installation::of(others.remove(0), &others, Some(database));
    // A cluster is ready a little before it can place streams.
    wait_until(SOON, "the streams are there", async || {
        pled.pled(&["init", "--replicas", "3"]).await.code == Some(0)
    })
    .await;
    (pled, others)
}

async fn connect(pled: &Installation, others: &[NatsServer]) -> Nats {
    let servers = std::iter::once(&pled.server).chain(others);
    let urls: Vec<String> = servers.map(NatsServer::url).collect();
    let nats = Nats::connect(ConnectOptions::to(urls.join(","), "chaos")).await.unwrap();
    topology::open(&nats).await.unwrap();
    nats
}

/// What the journal says of an execution.
#[derive(Default)]
struct Execution {
    ended: Option<Status>,
    /// The tasks of the action `http`, by key.
    calls: BTreeSet<String>,
}

/// Waits until every execution of a flow that the journal knows has ended, and gives all; or those
/// that have not.
async fn at_rest(
    nats: &Nats,
    roles: &mut Roles,
) -> Result<BTreeMap<String, Execution>, Vec<String>> {
    let began = Instant::now();
    let mut executions: BTreeMap<String, Execution> = BTreeMap::new();
    let mut reader = journal::follow(nats, 1);
    let mut read = 0;
    loop {
        for loaded in reader.next_batch(1_000, Duration::from_millis(200)).await.unwrap() {
            read = loaded.stream_seq;
            let execution = executions.entry(loaded.entry.execution.to_string()).or_default();
            execution.ended = loaded.entry.status.is_terminal().then_some(loaded.entry.status);
            for effect in &loaded.entry.effects {
                if let EffectKind::Task(task) = &effect.kind
                    && &*task.action == "http"
                {
                    let token = task.task;
                    execution.calls.insert(format!(
                        "{}/{}/{}",
                        loaded.entry.execution, token.entry, token.index
                    ));
                }
            }
        }
        let open: Vec<_> = executions
            .iter()
            .filter(|(id, execution)| id.starts_with("flow-") && execution.ended.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        let last = inputs::facts(nats).await.map_or(u64::MAX, |facts| facts.journal.last);
        if open.is_empty() && read >= last {
            return Ok(executions);
        }
        let ended = roles.supervise();
        assert!(ended.is_empty(), "ended by itself, with no fault: {ended:?}");
        if began.elapsed() > REST {
            return Err(open);
        }
    }
}

/// Each effect in the world is of a task that the journal has, and each task that succeeded had one.
fn every_flow_is_done_and_every_effect_explained(
    executions: &BTreeMap<String, Execution>,
    effects: &Effects,
) {
    let flows: Vec<_> = executions.iter().filter(|(id, _)| id.starts_with("flow-")).collect();
    assert!(!flows.is_empty());
    for (id, flow) in &flows {
        assert_eq!(flow.ended, Some(Status::Done), "{id}");
    }
    let calls: BTreeSet<&String> = flows.iter().flat_map(|(_, flow)| &flow.calls).collect();
    for (key, (done, _)) in effects {
        assert!(calls.contains(key), "the world saw {key}, of which no journal knows");
        assert!(*done > 0, "{key} was never answered well, and its flow is done");
    }
    let (seen, wanted) = (effects.len(), calls.len());
    assert!(seen == wanted, "{wanted} calls are in the journal, the world saw {seen}");
}

/// Postgres has what the journal has.
async fn the_ledger_is_whole(nats: &Nats, database: &Database) {
    let last = i64::try_from(inputs::facts(nats).await.unwrap().journal.last).unwrap();
    let ledger = Ledger::lazy(database.url()).unwrap();
    wait_until(SOON * 2, "the ledger has caught up", async || {
        ledger.counts().await.is_ok_and(|counts| counts.entries >= last)
    })
    .await;
    assert_eq!(ledger.counts().await.unwrap().entries, last);
}
