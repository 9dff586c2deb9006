//! A look at everything that can be wrong with an installation, and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pled_engine::id::TemplateSelector;
use pled_engine::message::{INPUTS, Millis};
use pled_engine::partition::Position;
use pled_engine::template::Template;
use pled_streams::clock::server_time;
use pled_streams::scan::extent;
use pled_streams::subject::STREAMS;
use pled_streams::templates::{self, queues};
use pled_streams::topology::{
    API_LEVEL_MIN, Inspected, Inspection, SERVER_MIN, Sync, TopologyError, inspect,
};
use pled_streams::{Nats, ReadError, StreamKind, dead, inputs, locks, tasks};
use serde::Serialize;

use crate::verify::name_of;

/// The smallest message that a server should take, in bytes.
const PAYLOAD_MIN: usize = 1 << 20;
/// How far clocks may differ.
const CLOCKS: Millis = 1_000;
/// How old an open message may be before it is worth a look, and before something is wrong.
const OPEN: (Millis, Millis) = (10_000, 120_000);
/// How full a stream may be, in hundredths.
const FULL: u64 = 80;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, and should be looked at.
    Warn,
    /// It does not work, or loses what it should keep.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub health: Health,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What a fault would cost of a stream, from its real settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The stream.
    pub stream: String,
    /// What it holds.
    pub holds: &'static str,
    /// What a kill -9 of the server costs.
    pub kill: String,
    /// What a power cut costs.
    pub power_cut: String,
    /// What the loss of a server with its disk costs.
    pub loss_of_a_server: String,
}

/// What the caller knows of the ledger.
#[derive(Clone, Debug)]
pub enum LedgerFacts {
    /// None is configured.
    None,
    /// It cannot be asked, or holds another journal.
    Failed(String),
    /// Up to which sequence of PLED_JOURNAL it has projected.
    At(u64),
}

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diagnosis {
    /// Each thing that was looked at.
    pub findings: Vec<Finding>,
    /// What faults would cost.
    pub costs: Vec<Cost>,
}

impl Diagnosis {
    /// Whether nothing is bad.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.health != Health::Bad)
    }

    fn ok(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.add(Health::Ok, what, found, None);
    }

    fn warn(&mut self, what: impl Into<String>, found: impl Into<String>, advice: &str) {
        self.add(Health::Warn, what, found, Some(advice));
    }

    fn bad(&mut self, what: impl Into<String>, found: impl Into<String>, advice: &str) {
        self.add(Health::Bad, what, found, Some(advice));
    }

    fn add(
        &mut self,
        health: Health,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: Option<&str>,
    ) {
        let advice = advice.map(str::to_owned);
        self.findings.push(Finding { health, what: what.into(), found: found.into(), advice });
    }
}

/// Something could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// A stream.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The server.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Looks at everything. Changes nothing.
///
/// # Errors
/// If the server stops answering; what is wrong is a finding, not an error.
pub async fn examine(nats: &Nats, ledger: &LedgerFacts) -> Result<Diagnosis, DoctorError> {
    let mut diagnosis = Diagnosis::default();
    let inspection = inspect(nats).await?;
    server(nats, &inspection, &mut diagnosis);
    if inspection.no_jetstream.is_some() || !streams(nats, &inspection, &mut diagnosis).await? {
        return Ok(diagnosis);
    }
    clocks(nats, &mut diagnosis).await?;
    halt(nats, &mut diagnosis).await?;
    partitions(nats, &inspection, &mut diagnosis).await?;
    work(nats, &mut diagnosis).await?;
    set_aside(nats, &mut diagnosis).await?;
    of_ledger(nats, ledger, &mut diagnosis).await?;
    Ok(diagnosis)
}

fn server(nats: &Nats, inspection: &Inspection, diagnosis: &mut Diagnosis) {
    diagnosis.ok("connection", format!("server {}", inspection.server_id));
    let version = &inspection.server_version;
    let (major, minor, patch) = SERVER_MIN;
    if pled_streams::topology::is_new_enough(version) {
        diagnosis.ok("server version", version);
    } else {
        let needs = format!("{version}, and {major}.{minor}.{patch} is needed");
        diagnosis.bad("server version", needs, "install a newer nats-server");
    }
    if let Some(reason) = &inspection.no_jetstream {
        let advice = "set `jetstream` in the server's configuration and enable it for the account";
        diagnosis.bad("JetStream", reason, advice);
        return;
    }
    if inspection.api_level >= API_LEVEL_MIN {
        diagnosis.ok("JetStream API", format!("level {}", inspection.api_level));
    } else {
        let found = format!("level {}, and {API_LEVEL_MIN} is needed", inspection.api_level);
        diagnosis.bad(
            "JetStream API",
            found,
            "bring every server of the cluster to 2.14.4 or newer",
        );
    }
    match inspection.storage {
        (Some(most), used) if used.saturating_mul(100) > most.saturating_mul(FULL) => {
            let found = format!("{} of {} used", bytes(used), bytes(most));
            let advice = "raise the account's `max_store`, or archive what is old";
            diagnosis.warn("file store", found, advice);
        }
        (Some(most), used) => {
            diagnosis.ok("file store", format!("{} of {} used", bytes(used), bytes(most)));
        }
        (None, used) => diagnosis.ok("file store", format!("{} used", bytes(used))),
    }
    let payload = nats.max_payload();
    let found = format!("{payload} bytes; an entry may have {}", payload / 2);
    if payload >= PAYLOAD_MIN {
        diagnosis.ok("max_payload", found);
    } else {
        diagnosis.warn("max_payload", found, "raise `max_payload` to 1MB or more");
    }
    sync(inspection, diagnosis);
}

fn sync(inspection: &Inspection, diagnosis: &mut Diagnosis) {
    match inspection.sync {
        Some(Sync::Always) => diagnosis.ok("sync_interval", "always: durable"),
        Some(Sync::Every(every)) => diagnosis.warn(
            "sync_interval",
            format!(
                "{} s: relaxed, a power cut loses what was acknowledged since",
                every.as_secs()
            ),
            "set `jetstream { sync_interval: always }` where a power cut must lose nothing; after \
             any power cut run `pled recover`",
        ),
        None => diagnosis.warn(
            "sync_interval",
            "unknown: only the server's monitoring tells it",
            "name it with PLED_NATS_MONITOR=http://<host>:8222",
        ),
    }
}

/// Whether all streams are there that the rest needs.
async fn streams(
    nats: &Nats,
    inspection: &Inspection,
    diagnosis: &mut Diagnosis,
) -> Result<bool, DoctorError> {
    let name = |kind: StreamKind| nats.names().stream(kind);
    let missing: Vec<_> =
        STREAMS.into_iter().filter(|kind| !inspection.streams.contains_key(kind)).collect();
    if missing.len() == STREAMS.len() {
        let advice = "run `pled init`, or name the prefix that it was run with (PLED_PREFIX)";
        diagnosis.bad("streams", "none is there", advice);
        return Ok(false);
    }
    let vital: Vec<_> = missing
        .iter()
        .filter(|kind| **kind != StreamKind::Snapshots)
        .map(|kind| name(*kind))
        .collect();
    if !vital.is_empty() {
        let advice = if missing.contains(&StreamKind::Journal) {
            "if `pled init` was interrupted, run it again; else restore a back-up of the store"
        } else {
            "run `pled recover`, which makes them anew from the journal"
        };
        diagnosis.bad("streams", format!("{} missing", vital.join(", ")), advice);
    } else if missing.is_empty() {
        diagnosis.ok("streams", format!("all {} are there", STREAMS.len()));
    } else {
        let found = format!("{} missing, a cache", name(StreamKind::Snapshots));
        diagnosis.warn("streams", found, "run `pled init`");
    }
    let incarnations: BTreeSet<_> = inspection
        .streams
        .iter()
        .filter(|(kind, _)| **kind != StreamKind::Snapshots)
        .map(|(_, stream)| stream.incarnation.clone().unwrap_or_else(|| "none".into()))
        .collect();
    match incarnations.iter().next() {
        Some(one) if incarnations.len() == 1 && one != "none" => {
            diagnosis.ok("installation", format!("incarnation {one}"));
        }
        _ => {
            let all = incarnations.into_iter().collect::<Vec<_>>().join(", ");
            let advice = "streams of two installations were mixed, or one was made by hand: \
                          restore the back-up they belong to";
            diagnosis.bad("installation", format!("incarnations {all}"), advice);
        }
    }
    for (kind, stream) in &inspection.streams {
        for difference in &stream.differences {
            let advice = "alter the stream back with `nats stream edit`";
            diagnosis.bad(name(*kind), difference, advice);
        }
        let found = extent(nats, *kind).await?;
        if let Some(most) = stream.max_bytes
            && found.bytes.saturating_mul(100) > most.saturating_mul(FULL)
            && *kind != StreamKind::Snapshots
        {
            let found = format!("{} of {} used", bytes(found.bytes), bytes(most));
            diagnosis.warn(
                name(*kind),
                found,
                "raise its `max_bytes`, or look why it does not empty",
            );
        }
        diagnosis.costs.push(cost(name(*kind), *kind, stream, inspection.sync));
    }
    if vital.is_empty() {
        let replicas = inspection.streams[&StreamKind::Journal].replicas;
        diagnosis.ok("replicas", replicas.to_string());
    }
    Ok(vital.is_empty())
}

fn cost(name: &str, kind: StreamKind, stream: &Inspected, sync: Option<Sync>) -> Cost {
    let nothing = || "nothing".to_owned();
    let (kill, power_cut) = match (stream.in_files, stream.is_async, sync) {
        (false, _, _) => ("everything".to_owned(), "everything".to_owned()),
        (true, true, _) => ("the newest".to_owned(), "the newest".to_owned()),
        (true, false, Some(Sync::Always)) => (nothing(), nothing()),
        (true, false, Some(Sync::Every(every))) => {
            (nothing(), format!("the last {} s", every.as_secs()))
        }
        (true, false, None) => (nothing(), "unknown".to_owned()),
    };
    let loss_of_a_server = match stream.replicas {
        0 | 1 => "everything".to_owned(),
        2 => "no writes until it is back".to_owned(),
        _ => nothing(),
    };
    Cost { stream: name.to_owned(), holds: holds(kind), kill, power_cut, loss_of_a_server }
}

fn holds(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Events => "events that are not applied yet",
        StreamKind::Signals => "results and sends that are not applied yet",
        StreamKind::Ingest => "raw events that no rule has seen yet",
        StreamKind::Timers => "timers; set again by `pled recover`",
        StreamKind::Journal => "the truth",
        StreamKind::Tasks => "tasks; handed out again by `pled recover`",
        StreamKind::Dead => "what was set aside",
        StreamKind::Templates => "templates",
        StreamKind::Actions => "bindings of actions",
        StreamKind::Schedules => "schedules",
        StreamKind::Snapshots => "a cache; nothing depends on it",
        StreamKind::Locks => "positions; made again by `pled recover`",
    }
}

async fn clocks(nats: &Nats, diagnosis: &mut Diagnosis) -> Result<(), DoctorError> {
    let before = now();
    let server = server_time(nats).await?;
    let after = now();
    // The answer was made at some moment between the two.
    let apart = if server < before { server - before } else { (server - after).max(0) };
    if apart.abs() <= CLOCKS {
        diagnosis.ok("clocks", format!("{apart} ms apart"));
    } else {
        let found = format!("the server's is {apart} ms from this machine's");
        diagnosis.warn("clocks", found, "run NTP on both; only the server's counts for executions");
    }
    Ok(())
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

async fn halt(nats: &Nats, diagnosis: &mut Diagnosis) -> Result<(), DoctorError> {
    if let Some(halt) = locks::halted(nats).await? {
        let found = format!("{} found: {}", halt.worker, halt.reason);
        let advice = "no worker starts; stop all, look at the plan of `pled recover`, then run \
                      `pled recover --yes`";
        diagnosis.bad("halted", found, advice);
    }
    Ok(())
}

/// A message that its partition has not done.
struct Oldest {
    age: Millis,
    partition: u16,
    text: String,
}

async fn partitions(
    nats: &Nats,
    inspection: &Inspection,
    diagnosis: &mut Diagnosis,
) -> Result<(), DoctorError> {
    let Some(count) = inspection.streams[&StreamKind::Journal].partitions else { return Ok(()) };
    let owners: BTreeMap<u16, String> = locks::leases(nats, "engine").await?.into_iter().collect();
    let free: Vec<_> = (0..count)
        .filter(|partition| !owners.contains_key(partition))
        .map(|p| p.to_string())
        .collect();
    let workers: BTreeSet<_> = owners.values().collect();
    if free.is_empty() {
        let names = workers.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        diagnosis
            .ok("engine workers", format!("{} own {count} partitions: {names}", workers.len()));
    } else {
        let found = format!("{} of {count} partitions have no owner", free.len());
        let advice = if owners.is_empty() {
            "start `pled engine` (or `pled all`)"
        } else {
            "wait some seconds; if they stay free, look at the log of the engine workers"
        };
        diagnosis.bad("engine workers", found, advice);
    }
    let ends = inputs::facts(nats).await?;
    let ends = [ends.events, ends.signals, ends.timers];
    let (mut oldest, mut behind, mut waiting) = (None::<Oldest>, Vec::new(), 0);
    for partition in 0..count {
        let read = locks::read_position(nats, "engine", partition).await?;
        let Some((position, _)) = read else {
            behind.push(format!("partition {partition} has no position"));
            continue;
        };
        for (source, end) in INPUTS.into_iter().zip(&ends) {
            let name = name_of(source);
            let Some(input) = position.inputs.get(name) else { continue };
            if input.generation != end.generation || input.next > end.last + 1 {
                behind.push(format!(
                    "partition {partition} has {name} up to {} of generation {}, the stream ends at \
                     {} of generation {}",
                    input.next.saturating_sub(1), input.generation, end.last, end.generation
                ));
            }
            let floor = input.open.first().copied().unwrap_or(input.next);
            if floor > end.last {
                continue;
            }
            let Some(first) = inputs::first_from(nats, source, partition, floor).await? else {
                continue;
            };
            let open = u64::try_from(input.open.len()).unwrap_or_default();
            let left = open + inputs::count_from(nats, source, partition, input.next).await?;
            waiting += left;
            let age = now() - first.time;
            if oldest.as_ref().is_none_or(|oldest| oldest.age < age) {
                let execution = first.subject.split('.').nth(3).unwrap_or("?").to_owned();
                let text = format!(
                    "{name} {} for {execution}, {} s old ({left} wait in this partition)",
                    first.stream_seq,
                    age / 1_000
                );
                oldest = Some(Oldest { age, partition, text });
            }
        }
    }
    if behind.is_empty() {
        diagnosis.ok("positions", "lie within their streams");
    } else {
        let advice = "acknowledged messages were lost: stop all workers and run `pled recover`";
        diagnosis.bad("positions", behind.join("; "), advice);
    }
    match oldest {
        None => diagnosis.ok("inputs", "all are done"),
        Some(Oldest { age, .. }) if age < OPEN.0 => {
            diagnosis.ok("inputs", format!("{waiting} wait, the oldest for {age} ms"));
        }
        Some(Oldest { age, partition, text }) => {
            let owner = owners.get(&partition).map_or("nobody", String::as_str);
            let found =
                format!("{waiting} wait; the oldest in partition {partition} (of {owner}): {text}");
            let advice = "the log of the owner tells what stands in its way (`stuck`); a full stream \
                          or a missing queue is the usual cause";
            let health = if age < OPEN.1 { Health::Warn } else { Health::Bad };
            diagnosis.add(health, "inputs", found, Some(advice));
        }
    }
    rules(nats, count, diagnosis).await
}

async fn rules(nats: &Nats, count: u16, diagnosis: &mut Diagnosis) -> Result<(), DoctorError> {
    let end = pled_streams::ingest::ingest_facts(nats).await?.last;
    let owners = locks::leases(nats, "rules").await?;
    let mut waits = false;
    for partition in 0..count {
        let read = locks::read_position(nats, "rules", partition).await?;
        let position = read.map(|(position, _)| position).unwrap_or_default();
        let Position { inputs, .. } = position;
        waits |= inputs.get("ingest").is_none_or(|input| input.next <= end);
    }
    let owned = owners.len();
    if owners.is_empty() && waits && end > 0 {
        let advice = "start `pled rules` (or `pled all`)";
        diagnosis.bad("rule workers", "none, and raw events wait", advice);
    } else if owners.is_empty() {
        diagnosis.ok("rule workers", "none, and no raw event waits");
    } else {
        diagnosis.ok("rule workers", format!("{owned} of {count} partitions are owned"));
    }
    Ok(())
}

async fn work(nats: &Nats, diagnosis: &mut Diagnosis) -> Result<(), DoctorError> {
    let mut names = BTreeSet::new();
    for info in templates::list(nats).await? {
        let selector = TemplateSelector { name: info.name.clone(), version: info.latest };
        let source = templates::get(nats, &selector).await?;
        match source.as_deref().map(Template::parse) {
            Some(Ok(template)) => names.extend(queues(&template).into_keys()),
            Some(Err(error)) => {
                let what = format!("template {selector}");
                diagnosis.bad(
                    what,
                    format!("is not valid here: {error}"),
                    "upgrade, or register it anew",
                );
            }
            None => {}
        }
    }
    let mut idle = Vec::new();
    for queue in &names {
        let what = format!("queue {queue}");
        match tasks::queue_facts(nats, queue).await? {
            None => {
                let advice = "register a template that names it again: `pled template add`";
                diagnosis.bad(what, "has no consumer, so no worker can pull it", advice);
            }
            Some(facts) if facts.pulls == 0 && facts.held == 0 && facts.waiting > 0 => {
                let found = format!("{} tasks wait, and no worker pulls", facts.waiting);
                let advice =
                    format!("start a worker for it: `pled worker --actions {queue}`, or your own");
                diagnosis.bad(what, found, &advice);
            }
            Some(facts) if facts.pulls == 0 && facts.held == 0 => idle.push(queue.to_string()),
            Some(facts) => {
                diagnosis.ok(
                    what,
                    format!("{} tasks wait, {} are worked on", facts.waiting, facts.held),
                );
            }
        }
    }
    if !idle.is_empty() {
        let found = format!("no worker pulls {}", idle.join(", "));
        diagnosis.warn("queues", found, "their tasks will wait: start workers before they come");
    }
    Ok(())
}

async fn set_aside(nats: &Nats, diagnosis: &mut Diagnosis) -> Result<(), DoctorError> {
    let counts = dead::counts(nats).await?;
    if counts.is_empty() {
        diagnosis.ok("set aside", "nothing");
        return Ok(());
    }
    let found: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    // What came too late is nobody's fault.
    let harmless = counts.keys().all(|reason| reason == "closed" || reason == "unmatched");
    let health = if harmless { Health::Ok } else { Health::Warn };
    let advice = "`pled dead list` shows them; `pled dead retry` sends them again, `pled dead drop` \
                  takes them away";
    diagnosis.add(health, "set aside", found.join(", "), (!harmless).then_some(advice));
    Ok(())
}

async fn of_ledger(
    nats: &Nats,
    ledger: &LedgerFacts,
    diagnosis: &mut Diagnosis,
) -> Result<(), DoctorError> {
    let end = extent(nats, StreamKind::Journal).await?.last;
    match ledger {
        LedgerFacts::None => diagnosis.ok("ledger", "none is configured"),
        LedgerFacts::Failed(reason) => {
            let advice = "executions go on without it, and it catches up; look at Postgres";
            diagnosis.warn("ledger", reason, advice);
        }
        LedgerFacts::At(seq) if *seq > end => {
            let found = format!("it has entry {seq} of the journal, which ends at {end}");
            let advice = "the journal was restored from an older copy: stop all workers, run `pled \
                          recover`, and give the ledger an empty database";
            diagnosis.bad("ledger", found, advice);
        }
        LedgerFacts::At(seq) if end - seq > 10_000 => {
            let found = format!("{} entries behind", end - seq);
            diagnosis.warn("ledger", found, "is `pled ledger` (or `pled all`) running?");
        }
        LedgerFacts::At(seq) => diagnosis.ok("ledger", format!("{} entries behind", end - seq)),
    }
    Ok(())
}

fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => {
            let tenths = count / (size / 10).max(1);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}
