//! Everything is killed while orders go through; nothing may be lost, doubled or left hanging.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

#[path = "support/kill.rs"]
mod kill;
#[path = "support/settled.rs"]
mod settled;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pled_engine::effect::EffectKind;
use pled_engine::entry::{Cause, JournalEntry};
use pled_engine::execution::{State, Status};
use pled_engine::id::{EventType, ExecutionId, TemplateSelector, Token};
use pled_engine::message::Source;
use pled_engine::partition::Loaded;
use pled_engine::replay::replay;
use pled_engine::template::Template;
use pled_engine::value::Value;
use pled_harness::{Database, NatsOptions, wait_until};
use pled_ledger::Ledger;
use pled_streams::dead::Dead;
use pled_streams::events::{EventToSend, SendError, send};
use pled_streams::ingest::publish_raw;
use pled_streams::{ConnectOptions, Nats, dead, inputs, journal, tasks, templates, topology};
use serde::Deserialize;
use settled::nothing_is_outstanding;
use support::{Installation, Role, SOON};

const TEMPLATE: &str = include_str!("../deploy/demo/order.json");
const ORDERS: &str = include_str!("../deploy/demo/orders.ndjson");
/// How often the file's 200 orders are run, each time with other ids.
const ROUNDS: u32 = 5;
/// How much faster than in the demo the messages come.
const HASTE: u64 = 4;
/// How long a silent worker keeps a task.
const ACK_WAIT: Duration = Duration::from_secs(3);
const QUEUES: [&str; 6] = [
    "payments.charge",
    "payments.refund",
    "carrier.book",
    "billing.invoice",
    "ops.ticket",
    "notify.ops",
];
/// By when all orders must have ended.
const DEADLINE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_a_thousand_orders_survive_kill_9_of_everything() {
    let seed = seed();
    let database = Database::create().await;
    let mut pled = Installation::start(NatsOptions::default(), Some(&database)).await;
    let nats = connect(&pled).await;
    templates::register(&nats, TEMPLATE).await.unwrap();
    for queue in QUEUES {
        tasks::ensure_consumers(&nats, queue, ACK_WAIT).await.unwrap();
    }
    let mut roles = Roles::start(&pled, seed);
    let orders = publications();

    let publishing = tokio::spawn(publish_all(connect(&pled).await, orders.clone()));
    let book = follow(&mut pled, &nats, &mut roles, kills(seed)).await;
    let published = publishing.await.unwrap();
    let book = settle(&nats, book).await;

    every_order_ended(&book, &orders);
    every_step_follows_from_its_causes(&nats, &book).await;
    nothing_was_taken_twice(&book);
    nothing_was_decided_twice(&book);
    every_task_has_one_end(&book);
    nothing_is_outstanding(&nats, &QUEUES).await;
    every_acknowledged_event_is_somewhere(&nats, &book, &published).await;
    the_ledger_equals_the_journal(&database, &book).await;
}

/// The seed of the kills and of the services' failures; `PLED_STORY_SEED` names another.
#[expect(clippy::print_stderr, reason = "shown with the failure of the test")]
fn seed() -> u64 {
    let seed = std::env::var("PLED_STORY_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("PLED_STORY_SEED={seed}");
    seed
}

async fn connect(pled: &Installation) -> Nats {
    let nats = Nats::connect(ConnectOptions::to(pled.server.url(), "story")).await.unwrap();
    topology::open(&nats).await.unwrap();
    nats
}

// What is killed, and when

#[derive(Clone, Copy, Debug)]
enum Victim {
    Engine,
    Rules,
    Services,
    Ledger,
    Nats,
}

struct Roles {
    engine: Role,
    rules: Role,
    services: Role,
    ledger: Role,
}

impl Roles {
    fn start(pled: &Installation, seed: u64) -> Self {
        let (seed, rounds) = (seed.to_string(), ROUNDS.to_string());
        let services = ["demo", "--services", "--seed", &seed, "--rounds", &rounds];
        Self {
            engine: pled.role("engine", &["engine", "--lease-ttl-ms", "2000"]),
            rules: pled.role("rules", &["rules"]),
            services: pled.role("services", &services),
            ledger: pled.role("ledger", &["ledger"]),
        }
    }

    async fn kill(&mut self, victim: Victim, pled: &mut Installation) {
        match victim {
            Victim::Engine => self.engine.kill_and_run().await,
            Victim::Rules => self.rules.kill_and_run().await,
            Victim::Services => self.services.kill_and_run().await,
            Victim::Ledger => self.ledger.kill_and_run().await,
            Victim::Nats => {
                pled.server.kill();
                pled.server.restart().await;
            }
        }
    }

    /// Starts again a role that met no nats-server when it began, as a supervisor does. For
    /// another reason none may end by itself.
    fn supervise(&mut self) {
        for role in [&mut self.engine, &mut self.rules, &mut self.services, &mut self.ledger] {
            if let Some(status) = role.child.as_mut().unwrap().try_wait().unwrap() {
                let last = role.log().lines().last().unwrap_or_default().to_owned();
                assert!(last.contains("no connection to NATS"), "{status}: {last}");
                role.run();
            }
        }
    }
}

/// Each victim twice, in an order and at counts of ended orders that the seed decides.
fn kills(seed: u64) -> Vec<(usize, Victim)> {
    use Victim::{Engine, Ledger, Nats, Rules, Services};
    let mut victims = vec![Engine, Rules, Services, Ledger, Nats];
    victims.extend_from_within(..);
    let mut draw = draws(seed);
    for last in (1..victims.len()).rev() {
        victims.swap(last, draw(last + 1));
    }
    let begin = |place: usize| 20 + place * 90;
    victims
        .into_iter()
        .enumerate()
        .map(|(place, victim)| (begin(place) + draw(80), victim))
        .collect()
}

/// Numbers below a bound, the same for the same seed (xorshift).
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
    }
}

// What comes in

#[derive(Clone, Debug, Deserialize)]
struct Publication {
    at_ms: u64,
    subject: String,
    id: String,
    data: Option<Value>,
}

impl Publication {
    /// The order that this creates.
    fn creates(&self) -> Option<ExecutionId> {
        let created = self.subject.ends_with(".order.created");
        let order = || self.data.as_ref()?.get("order_id")?.as_str()?.parse().ok();
        created.then(order).flatten()
    }

    fn words(&self) -> (&str, &str, EventType) {
        let words: Vec<&str> = self.subject.splitn(4, '.').collect();
        let [_, door, first, event_type] = words[..] else { panic!("{}", self.subject) };
        (door, first, event_type.parse().unwrap())
    }
}

fn publications() -> Vec<Publication> {
    let round = |round: u32| {
        ORDERS.lines().map(move |line| {
            let ids = if round == 1 { "order-".to_owned() } else { format!("r{round}order-") };
            serde_json::from_str(&line.replace("order-", &ids)).unwrap()
        })
    };
    let mut all: Vec<Publication> = (1..=ROUNDS).flat_map(round).collect();
    all.sort_by_key(|publication| publication.at_ms);
    all
}

/// Publishes all, each at its time or later, until it is acknowledged. Gives them with their
/// sequences in the stream of their door.
async fn publish_all(nats: Nats, publications: Vec<Publication>) -> Vec<(Publication, u64)> {
    let begin = Instant::now();
    let mut published = Vec::with_capacity(publications.len());
    for publication in publications {
        let due = begin + Duration::from_millis(publication.at_ms / HASTE);
        tokio::time::sleep_until(due.into()).await;
        let stream_seq = publish(&nats, &publication).await;
        published.push((publication, stream_seq));
    }
    published
}

async fn publish(nats: &Nats, publication: &Publication) -> u64 {
    let (door, first, event_type) = publication.words();
    let data = publication.data.as_ref().map(Value::to_canonical).unwrap_or_default();
    let id = publication.id.as_str();
    loop {
        let sent = if door == "ingest" {
            publish_raw(nats, first, &event_type, data.clone().into(), Some(id)).await
        } else {
            send(nats, event(first, event_type.clone(), data.clone(), id)).await
        };
        match sent {
            Ok(stream_seq) => return stream_seq,
            // With the event's id a repeat has no effect.
            Err(SendError::Full | SendError::Unknown) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{publication:?}: {error}"),
        }
    }
}

fn event(execution: &str, event_type: EventType, data: Vec<u8>, id: &str) -> EventToSend {
    EventToSend {
        execution: execution.parse().unwrap(),
        event_type,
        data: data.into(),
        event_id: Some(id.to_owned()),
        template: None,
        reply: None,
        origin: None,
        emitted: None,
    }
}

// What is read

/// All entries of all executions, in order.
#[derive(Default)]
struct Book {
    executions: BTreeMap<ExecutionId, Vec<JournalEntry>>,
    ended: usize,
    /// The stream sequence of the newest entry.
    read: u64,
}

impl Book {
    fn take(&mut self, Loaded { stream_seq, entry }: Loaded) {
        self.read = stream_seq;
        let entries = self.executions.entry(entry.execution.clone()).or_default();
        let next = entries.last().map_or(1, |last| last.seq + 1);
        assert_eq!(entry.seq, next, "the entries of {} have a gap", entry.execution);
        let had_ended = entries.last().is_some_and(|last| last.status.is_terminal());
        self.ended += usize::from(entry.status.is_terminal() && !had_ended);
        entries.push(entry);
    }

    fn entries(&self) -> impl Iterator<Item = &JournalEntry> {
        self.executions.values().flatten()
    }

    fn causes(&self) -> impl Iterator<Item = (&JournalEntry, &Cause)> {
        self.entries().flat_map(|entry| entry.causes.iter().map(move |cause| (entry, cause)))
    }

    /// One line for each execution that has not ended or waits for a task.
    fn open(&self) -> String {
        let mut text = String::new();
        for (id, entries) in &self.executions {
            let last = entries.last().unwrap();
            if is_settled(last) {
                continue;
            }
            let State { configuration, tasks, timers, .. } = last.state.clone().unwrap_or_default();
            let tasks: Vec<_> = tasks
                .iter()
                .map(|(token, task)| format!("{token}#{} {}", task.attempt, task.action))
                .collect();
            let (seq, status, at) = (last.seq, last.status.as_str(), last.at);
            let timers: Vec<_> = timers.values().map(|timer| timer.due - at).collect();
            let _ = writeln!(
                text,
                "  {id}: {status} in {configuration:?}, entry {seq} at {at}, tasks {tasks:?}, \
                 timers due after it {timers:?} ms"
            );
        }
        text
    }
}

/// Whether an execution whose newest entry is this has ended and waits for nothing.
fn is_settled(last: &JournalEntry) -> bool {
    last.status.is_terminal() && last.state.as_ref().is_some_and(|state| state.tasks.is_empty())
}

/// Reads the journal until all orders have ended, kills when it is time, and does by hand what the
/// orders need of a person.
async fn follow(
    pled: &mut Installation,
    nats: &Nats,
    roles: &mut Roles,
    kills: Vec<(usize, Victim)>,
) -> Book {
    let began = Instant::now();
    let orders = publications().iter().filter_map(Publication::creates).count();
    let mut kills = kills.into_iter().peekable();
    let mut reader = journal::follow(nats, 1);
    let mut book = Book::default();
    while book.ended < orders {
        for loaded in reader.next_batch(200, Duration::from_millis(100)).await.unwrap() {
            if let Some(help) = help_of_a_person(&loaded.entry) {
                publish(nats, &help).await;
            }
            book.take(loaded);
            if let Some((_, victim)) = kills.next_if(|(ended, _)| *ended <= book.ended) {
                say(&format!("{} ended: kill {victim:?}", book.ended), began);
                roles.kill(victim, pled).await;
            }
        }
        roles.supervise();
        assert!(
            began.elapsed() < DEADLINE,
            "after {DEADLINE:?} {} of {orders} orders are there, {} have ended; open:\n{}",
            book.executions.len(),
            book.ended,
            book.open()
        );
    }
    say(&format!("{orders} ended, {} entries", book.entries().count()), began);
    assert!(kills.next().is_none(), "not everything was killed");
    book
}

#[expect(clippy::print_stderr, reason = "shown with the failure of the test")]
fn say(what: &str, began: Instant) {
    eprintln!("{:5.1} s  {what}", began.elapsed().as_secs_f64());
}

/// The event that an order waits for since this entry, and that only a person sends.
fn help_of_a_person(entry: &JournalEntry) -> Option<Publication> {
    let (first, last) = (entry.transitions.first()?, entry.transitions.last()?);
    let came_to = |state: &str| {
        let holds = |leaves: &[Arc<str>]| leaves.iter().any(|leaf| &**leaf == state);
        holds(&last.to) && !holds(&first.from)
    };
    let kind = if came_to("manualInvoice") {
        "INVOICED"
    } else if came_to("stuck") {
        "RETRY_REFUND"
    } else {
        return None;
    };
    Some(Publication {
        at_ms: 0,
        subject: format!("pled.events.{}.{kind}", entry.execution),
        id: format!("help-{}", entry.seq),
        data: None,
    })
}

/// Waits until nothing is in any queue, then reads what came meanwhile: results of notes to the
/// operations desk may come after an order's end.
async fn settle(nats: &Nats, mut book: Book) -> Book {
    nothing_is_outstanding(nats, &QUEUES).await;
    let last = inputs::facts(nats).await.unwrap().journal.last;
    let mut reader = journal::follow(nats, book.read + 1);
    while book.read < last {
        let batch = reader.next_batch(200, SOON).await.unwrap();
        assert!(!batch.is_empty(), "the journal is silent at {} of {last}", book.read);
        batch.into_iter().for_each(|loaded| book.take(loaded));
    }
    book
}

// What must hold

fn every_order_ended(book: &Book, orders: &[Publication]) {
    let orders: BTreeSet<_> = orders.iter().filter_map(Publication::creates).collect();
    assert_eq!(orders.len(), 1_000);
    assert!(book.executions.keys().eq(&orders), "an order has no execution, or one is of no order");
    assert_eq!(book.open(), "");
    let done = |entries: &Vec<JournalEntry>| entries.last().unwrap().status == Status::Done;
    assert!(book.executions.values().all(done));
}

/// Each journal is a chain of hashes without a gap, and each entry says what the registered
/// template makes of its causes.
async fn every_step_follows_from_its_causes(nats: &Nats, book: &Book) {
    let selector: TemplateSelector = "order@3".parse().unwrap();
    let source = templates::get(nats, &selector).await.unwrap().unwrap();
    let template = Template::parse(&source).unwrap();
    for entries in book.executions.values() {
        let replayed =
            replay(&template, entries).unwrap_or_else(|divergence| panic!("{divergence}"));
        let state = &replayed.execution.state;
        assert!(state.tasks.is_empty() && state.timers.is_empty() && state.deferred.is_empty());
    }
}

fn nothing_was_taken_twice(book: &Book) {
    let mut taken = BTreeMap::new();
    for (entry, cause) in book.causes().filter(|(_, cause)| cause.stream != Source::Own) {
        let place = (cause.stream, cause.generation, cause.stream_seq);
        let at = (&entry.execution, entry.seq);
        if let Some(before) = taken.insert(place, at) {
            panic!("{place:?} is a cause of {before:?} and of {at:?}");
        }
    }
    let mut ids = BTreeSet::new();
    for (entry, cause) in book.causes().filter(|(_, cause)| cause.stream == Source::Events) {
        if let Some(id) = &cause.id {
            assert!(ids.insert((&entry.execution, id)), "{} took {id} twice", entry.execution);
        }
    }
}

fn nothing_was_decided_twice(book: &Book) {
    let mut ids = BTreeSet::new();
    for entry in book.entries() {
        for (index, effect) in entry.effects.iter().enumerate() {
            assert_eq!(*effect.id, *format!("{}/{}/{index}", entry.execution, entry.seq));
            assert!(ids.insert(&effect.id), "the effect {} is decided twice", effect.id);
        }
    }
}

/// The attempts of a task are handed out one after the other, each has at most one result, and
/// only the last may have succeeded.
fn every_task_has_one_end(book: &Book) {
    for (id, entries) in &book.executions {
        let mut tasks: BTreeMap<Token, Task> = BTreeMap::new();
        for entry in entries {
            for cause in
                entry.causes.iter().filter(|cause| cause.cause_type.as_str() == "pled.result")
            {
                let (token, attempt) = (cause.token.unwrap(), cause.attempt.unwrap());
                let task =
                    tasks.get_mut(&token).unwrap_or_else(|| panic!("{id}: {token} is no task"));
                assert_eq!(task.attempt, attempt, "{id}: a result of {token} of another attempt");
                assert!(!task.has_result, "{id}: {token} has two results of attempt {attempt}");
                assert!(!task.succeeded, "{id}: {token} has a result after its success");
                task.has_result = true;
                task.succeeded = cause.data.get("ok").and_then(Value::as_bool) == Some(true);
            }
            for effect in &entry.effects {
                let EffectKind::Task(effect) = &effect.kind else { continue };
                let task = tasks.entry(effect.task).or_default();
                let next = task.attempt + 1;
                assert_eq!(effect.attempt, next, "{id}: the attempts of {}", effect.task);
                assert!(!task.succeeded, "{id}: {} is tried again after success", effect.task);
                *task = Task { attempt: next, has_result: false, succeeded: false };
            }
        }
    }
}

#[derive(Default)]
struct Task {
    attempt: u32,
    has_result: bool,
    succeeded: bool,
}

/// What was acknowledged to its publisher is a cause of an entry or is set aside, not both, and
/// set aside only because its execution was not there yet or had ended.
async fn every_acknowledged_event_is_somewhere(
    nats: &Nats,
    book: &Book,
    published: &[(Publication, u64)],
) {
    let set_aside = dead::list(nats, 10_000).await.unwrap();
    let taken: BTreeSet<_> = book
        .causes()
        .filter(|(_, cause)| cause.stream != Source::Own)
        .map(|(_, cause)| {
            let stream = format!("{:?}", cause.stream).to_lowercase();
            format!("{stream}-{}-{}", cause.generation, cause.stream_seq)
        })
        .collect();
    for record in &set_aside {
        let Dead { reason, origin, detail, .. } = record;
        assert!(
            ["unknown-execution", "closed"].contains(&&**reason),
            "{reason} {origin}: {detail}"
        );
        assert!(!taken.contains(origin), "{origin} is taken, and set aside as {reason}");
    }

    let header = |name: &'static str| {
        set_aside.iter().filter_map(move |record| Some(record.headers.get(name)?.to_string()))
    };
    let sequence = |sender: &str| sender.split('/').nth(1).unwrap().parse::<u64>().unwrap();
    let mut emitted: BTreeSet<u64> = header("Pled-Sender").map(|text| sequence(&text)).collect();
    emitted.extend(book.causes().filter_map(|(_, cause)| Some(cause.sender.as_ref()?.1)));
    let mut sent: BTreeSet<String> = header("Pled-Event-Id").collect();
    sent.extend(book.causes().filter_map(|(_, cause)| Some(cause.id.as_ref()?.to_string())));
    for (publication, stream_seq) in published {
        let is_there = if let Some(order) = publication.creates() {
            book.executions.contains_key(&order)
        } else if publication.subject.starts_with("pled.ingest.") {
            emitted.contains(stream_seq)
        } else {
            sent.contains(&publication.id)
        };
        assert!(is_there, "{publication:?}, acknowledged as {stream_seq}, is nowhere");
    }
}

async fn the_ledger_equals_the_journal(database: &Database, book: &Book) {
    let ledger = Ledger::lazy(database.url()).unwrap();
    let entries = i64::try_from(book.entries().count()).unwrap();
    wait_until(SOON * 2, "the ledger has caught up", async || {
        ledger.counts().await.is_ok_and(|counts| counts.entries >= entries)
    })
    .await;

    for (id, entries) in &book.executions {
        let rows = ledger.entry_hashes(id).await.unwrap();
        assert!(rows.iter().all(|row| row.intact), "{id} is damaged in the ledger");
        let rows = rows.iter().map(|row| (row.seq, row.hash));
        assert!(rows.eq(entries.iter().map(|entry| (entry.seq, entry.hash))), "{id} differs");
    }
    let counts = ledger.counts().await.unwrap();
    let count = |number: usize| i64::try_from(number).unwrap();
    let outside = book.causes().filter(|(_, cause)| cause.stream == Source::Events).count();
    let first_attempt = |entry: &JournalEntry| {
        let first = |effect: &&pled_engine::effect::Effect| matches!(&effect.kind, EffectKind::Task(task) if task.attempt == 1);
        entry.effects.iter().filter(first).count()
    };
    assert_eq!(counts.entries, entries);
    assert_eq!(counts.executions, count(book.executions.len()));
    assert_eq!(counts.messages, count(book.causes().count()));
    assert_eq!(counts.events, count(outside));
    assert_eq!(counts.actions, count(book.entries().map(first_attempt).sum()));
}
