//! Going on after a loss: a stream that vanished, was emptied, or came back from an older copy.
//!
//! The journal is the truth, so all that follows from it is made anew: tasks, sends and timers that
//! are outstanding by it are dispatched again, what a lost life left behind is taken away, and each
//! partition reads again what the journal does not have. [`plan`] only reads; [`perform`] does it,
//! and may be repeated after an interruption.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::FutureExt;
use pled_engine::effect::{ChildEffect, EffectKind, TaskEffect};
use pled_engine::entry::JournalEntry;
use pled_engine::id::{EventType, ExecutionId, TemplateRef, Token};
use pled_engine::message::{ChildCancel, ChildStart, Millis, Source, TaskOutcome, TaskResult};
use pled_engine::partition::{InputPosition, Position, Published, TaskMessage};
use pled_engine::value::Value;
use pled_streams::locks::{self, Halt};
use pled_streams::scan::extent;
use pled_streams::templates::{self, TemplateCache};
use pled_streams::topology::{self, Facts, TopologyError};
use pled_streams::{
    Nats, ReadError, StreamKind, partition_of, repair, signals, state, tasks, timers,
};
use serde::Serialize;

use crate::export::walk;
use crate::record::Record;
use crate::verify::{
    Awaited, Checker, Fate, Invariant, Kind, Life, Options, Outstanding, Retained,
};

/// How many publishes are under way at once.
const WINDOW: usize = 256;

/// Recovery is not possible now.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Workers run.
    #[error(
        "stop all engine and rule workers first: {0} hold leases (one that was killed holds them for some seconds)"
    )]
    Running(String),
    /// The journal is not there.
    #[error(
        "PLED_JOURNAL is not there: what is lost with it cannot be told from the other streams; restore a back-up of the server's store"
    )]
    NoJournal,
    /// The streams do not fit.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read is no installation.
    #[error("{0}")]
    Records(String),
    /// A publish was not acknowledged.
    #[error("{what} was not acknowledged ({answer}): run the recovery again")]
    Unacknowledged {
        /// What was published.
        what: String,
        /// What came of it.
        answer: String,
    },
}

/// What a recovery will do.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// Why the workers stopped, if one has said.
    pub halted: Option<String>,
    /// Streams that are made anew.
    pub made_anew: Vec<String>,
    /// The generation that each stream is raised to, from where on.
    pub generations: Vec<Generation>,
    /// How many executions there are.
    pub executions: u64,
    /// How many entries.
    pub entries: u64,
    /// What is wrong with the journal itself, which a recovery does not mend.
    pub damaged: Vec<String>,
    /// Messages that are read again, by input.
    pub read_again: BTreeMap<String, u64>,
    /// Messages of steps that are lost, which are taken away.
    pub taken_away: u64,
    /// Attempts of tasks that are handed out again.
    pub tasks: u64,
    /// Sends that are sent again, and what parents and children tell each other.
    pub sends: u64,
    /// Timers that are set again.
    pub timers: u64,
    /// Tasks that are in PLED_TASKS now, all of which are taken away before.
    pub tasks_before: u64,
    /// Snapshots that are taken away; they are written again as executions go on.
    pub snapshots: u64,
    #[serde(skip)]
    work: Work,
}

/// A stream's generation, and where it will begin.
#[derive(Debug, Serialize)]
pub struct Generation {
    /// The stream.
    pub stream: String,
    /// The generation that it will have.
    pub generation: u64,
    /// Its first sequence.
    pub from: u64,
}

/// What is to be done, in values.
#[derive(Debug, Default)]
struct Work {
    positions: BTreeMap<u16, Inputs>,
    epochs: BTreeMap<u16, u64>,
    journal: u64,
    /// Of PLED_SIGNALS.
    remove: Vec<u64>,
    tasks: Vec<TaskMessage>,
    sends: Vec<SayAgain>,
    timers: Vec<(ExecutionId, Token, Millis)>,
}

/// Where the inputs of a partition go on: next and open, in the order of events, signals, timers.
type Inputs = [(u64, Vec<u64>); 3];

/// What one execution told another, by the stream sequence of the entry that says so.
#[derive(Clone, Debug)]
struct SayAgain {
    stream_seq: u64,
    by: ExecutionId,
    token: Token,
    to: ExecutionId,
    what: Said,
}

#[derive(Clone, Debug)]
enum Said {
    Send { event: EventType, data: Value },
    ChildStart(Box<ChildStart>),
    ChildCancel(ChildCancel),
    ChildDone(TaskResult),
}

/// What is told again: each by who says it, and the effect.
type Unsettled = BTreeSet<(ExecutionId, Token)>;

const INPUTS: [Source; 3] = [Source::Events, Source::Signals, Source::Timers];

/// Reads everything, and says what a recovery would do. Changes nothing; streams that vanished are
/// looked on as empty.
///
/// # Errors
/// If workers run, the journal is not there, or something cannot be read.
pub async fn plan(nats: &Nats) -> Result<Plan, RecoverError> {
    let Some((lost, _)) = topology::lost(nats).await? else {
        return Err(RecoverError::NoJournal);
    };
    if !lost.contains(&StreamKind::Locks) {
        refuse_running(nats).await?;
    }
    let made_anew: Vec<String> =
        lost.iter().map(|kind| nats.names().stream(*kind).to_owned()).collect();
    if !made_anew.is_empty() {
        // Nothing can be read before they are there; what follows is told once they are.
        return Ok(Plan { made_anew, ..Plan::default() });
    }
    let facts = topology::open(nats).await?;
    let mut plan = decide(nats, &facts).await?;
    plan.halted = locks::halted(nats).await?.map(|halt| halt.reason);
    Ok(plan)
}

async fn refuse_running(nats: &Nats) -> Result<(), RecoverError> {
    let mut owners = BTreeSet::new();
    for kind in ["engine", "rules"] {
        owners.extend(locks::leases(nats, kind).await?.into_iter().map(|(_, owner)| owner));
    }
    if owners.is_empty() {
        return Ok(());
    }
    Err(RecoverError::Running(owners.into_iter().collect::<Vec<_>>().join(", ")))
}

/// What was read: the checker's view, and what is to be sent again in full.
struct Reading {
    checker: Checker,
    tasks: HashMap<(ExecutionId, Token), (TaskEffect, TemplateRef, Millis)>,
    /// What is not known to have arrived.
    said: HashMap<(ExecutionId, Token), SayAgain>,
    ends: BTreeMap<String, u64>,
}

async fn decide(nats: &Nats, facts: &Facts) -> Result<Plan, RecoverError> {
    let reading = read(nats, facts).await?;
    let mut plan = Plan::default();
    let lives = &reading.checker.lives;
    plan.executions = count(lives.len());
    plan.entries = lives.values().map(|life| life.seq).sum();
    for stream in ["EVENTS", "SIGNALS", "TIMERS", "INGEST"] {
        let place = reading.checker.place_of(stream);
        plan.generations.push(Generation {
            stream: format!("{}_{stream}", nats.names().prefix().to_ascii_uppercase()),
            generation: place.generation + 1,
            from: place.last + 1,
        });
    }
    let states = states(nats, &reading).await?;
    for (id, Outstanding { tasks, timers, .. }) in &states {
        for (task, attempt) in tasks {
            if reading.checker.inputs.has_result(id, *task, *attempt) {
                continue;
            }
            let known = reading.tasks.get(&(id.clone(), *task));
            if let Some((effect, template, at)) = known.filter(|it| it.0.attempt == *attempt) {
                plan.work.tasks.push(TaskMessage {
                    execution: id.clone(),
                    template: template.clone(),
                    effect: effect.clone(),
                    at: *at,
                });
            }
        }
        plan.work.timers.extend(timers.iter().map(|(timer, due)| (id.clone(), *timer, *due)));
    }
    let unsettled = unsettled(&reading, &states);
    plan.work.sends = unsettled.iter().filter_map(|key| reading.said.get(key).cloned()).collect();
    plan.work.sends.sort_by_key(|say| (say.stream_seq, say.token.index));
    inputs(facts.partitions, &reading, &unsettled, &mut plan);
    for (id, life) in lives {
        let epoch = plan.work.epochs.entry(partition_of(id, facts.partitions)).or_default();
        *epoch = (*epoch).max(life.epoch);
    }
    plan.work.journal = reading.ends.get("JOURNAL").copied().unwrap_or_default();
    plan.tasks = count(plan.work.tasks.len());
    plan.sends = count(plan.work.sends.len());
    plan.timers = count(plan.work.timers.len());
    plan.taken_away = count(plan.work.remove.len());
    plan.tasks_before = extent(nats, StreamKind::Tasks).await?.messages;
    if facts.snapshots {
        plan.snapshots = extent(nats, StreamKind::Snapshots).await?.messages;
    }
    let of_journal = |invariant| {
        use Invariant::{J1, J2, J3, J4, J5, J6, J7, J8, J9};
        [J1, J2, J3, J4, J5, J6, J7, J8, J9].contains(&invariant)
    };
    let report = reading.checker.finish();
    let damaged = report.violations.into_iter().filter(|it| of_journal(it.invariant));
    plan.damaged = damaged
        .map(|it| {
            let execution = it.execution.map(|id| format!("{id}: ")).unwrap_or_default();
            format!("{} {execution}{}", it.invariant.code(), it.what)
        })
        .collect();
    Ok(plan)
}

async fn read(nats: &Nats, facts: &Facts) -> Result<Reading, RecoverError> {
    let mut reading = Reading {
        checker: Checker::new(Options::default(), Vec::new()),
        tasks: HashMap::new(),
        said: HashMap::new(),
        ends: BTreeMap::new(),
    };
    walk(nats, facts, |record| {
        reading.checker.take(&record).map_err(RecoverError::Records)?;
        if let Record::Message(StreamKind::Journal, stored) = &record
            && let Ok(entry) = serde_json::from_slice::<JournalEntry>(&stored.payload)
        {
            reading.ends.insert("JOURNAL".into(), stored.stream_seq);
            reading.entry(stored.stream_seq, &entry);
        }
        Ok::<_, RecoverError>(())
    })
    .await?;
    Ok(reading)
}

impl Reading {
    /// Keeps what an entry hands out until it is known to have ended.
    fn entry(&mut self, stream_seq: u64, entry: &JournalEntry) {
        let id = &entry.execution;
        for cause in &entry.causes {
            let is_result = cause.cause_type.as_str() == "pled.result";
            if let (true, Some(task)) = (is_result, cause.token) {
                self.tasks.remove(&(id.clone(), task));
            }
            if let (Source::Signals, Some((sender, sent, index))) = (cause.stream, &cause.sender)
                && let (Ok(sender), Ok(index)) = (sender.parse(), u32::try_from(*index))
            {
                self.said.remove(&(sender, Token { entry: *sent, index }));
            }
        }
        for (effect, index) in entry.effects.iter().zip(0..) {
            if let EffectKind::Task(task) = &effect.kind {
                let handed_out = (task.clone(), entry.template.clone(), entry.at);
                self.tasks.insert((id.clone(), task.task), handed_out);
            }
            let token = Token { entry: entry.seq, index };
            if let Some((to, what)) = said(id, token, &effect.kind)
                && to != *id
            {
                let say = SayAgain { stream_seq, by: id.clone(), token, to, what };
                self.said.insert((id.clone(), token), say);
            }
        }
    }
}

/// What an effect tells another execution.
fn said(by: &ExecutionId, token: Token, effect: &EffectKind) -> Option<(ExecutionId, Said)> {
    Some(match effect {
        EffectKind::Send { to, event, data } => {
            (to.clone(), Said::Send { event: event.clone(), data: data.clone() })
        }
        EffectKind::ChildStart(start) => {
            let ChildEffect { child, task, attempt, template, depth, input, .. } = start;
            let start = ChildStart {
                parent: by.clone(),
                token,
                task: *task,
                attempt: *attempt,
                depth: *depth,
                template: template.into(),
                input: input.clone(),
            };
            (child.clone(), Said::ChildStart(Box::new(start)))
        }
        EffectKind::ChildCancel { child, task, attempt } => {
            let (parent, task, attempt) = (by.clone(), *task, *attempt);
            (child.clone(), Said::ChildCancel(ChildCancel { parent, token, task, attempt }))
        }
        EffectKind::ChildDone { parent, task, attempt, output, error } => {
            let outcome = match error {
                Some(error) => TaskOutcome::Failed(error.clone()),
                None => TaskOutcome::Ok(output.clone()),
            };
            let result = TaskResult { task: *task, attempt: *attempt, outcome };
            (parent.clone(), Said::ChildDone(result))
        }
        EffectKind::Task(_)
        | EffectKind::TaskCancel { .. }
        | EffectKind::TimerSet { .. }
        | EffectKind::TimerCancel { .. } => return None,
    })
}

/// What is to be told again: what did not arrive, and where the other one still wants to hear it.
fn unsettled(reading: &Reading, states: &BTreeMap<ExecutionId, Outstanding>) -> Unsettled {
    let lives = &reading.checker.lives;
    let sends = reading.checker.unsettled_sends();
    let mut unsettled: Unsettled =
        sends.map(|(sender, token, _)| (sender.clone(), token)).collect();
    // A child that was given up before it came to be need not come any more.
    let cancelled: HashSet<_> = reading
        .said
        .values()
        .filter(|say| matches!(say.what, Said::ChildCancel(_)))
        .map(|say| &say.to)
        .collect();
    let is_its = |child: &ExecutionId, parent: &ExecutionId| {
        lives.get(child).is_some_and(|child| child.is_child_of(parent))
    };
    let awaits = |parent: &ExecutionId, task: Token, attempt: u32| {
        let is_it = |it: &Awaited| (it.task, it.attempt) == (task, attempt);
        states.get(parent).is_some_and(|parent| parent.children.iter().any(is_it))
    };
    for (key, say) in &reading.said {
        let is_wanted = match &say.what {
            Said::Send { .. } => false,
            Said::ChildStart(start) => {
                let may_be_refused = || awaits(&say.by, start.task, start.attempt);
                !cancelled.contains(&say.to) && (!lives.contains_key(&say.to) || may_be_refused())
            }
            Said::ChildCancel(_) => {
                is_its(&say.to, &say.by) && !lives[&say.to].status.is_terminal()
            }
            Said::ChildDone(result) => awaits(&say.to, result.task, result.attempt),
        };
        if is_wanted {
            unsettled.insert(key.clone());
        }
    }
    unsettled
}

/// Of each execution the attempts that are handed out, the timers that are set and the children that
/// are waited for.
async fn states(
    nats: &Nats,
    reading: &Reading,
) -> Result<BTreeMap<ExecutionId, Outstanding>, RecoverError> {
    let mut states = BTreeMap::new();
    let cache = TemplateCache::default();
    for (id, life) in &reading.checker.lives {
        if life.knows_state {
            let Life { tasks, timers, children, .. } = life;
            if !tasks.is_empty() || !timers.is_empty() || !children.is_empty() {
                let (tasks, timers) = (tasks.clone(), timers.clone());
                let outstanding = Outstanding { tasks, timers, children: children.clone() };
                states.insert(id.clone(), outstanding);
            }
            continue;
        }
        let Some(execution) = state::read(nats, &cache, id).await? else { continue };
        states.insert(id.clone(), Outstanding::of(id, &execution.state));
    }
    Ok(states)
}

/// What becomes of each message that the inputs hold.
enum Becomes {
    /// It was taken, set aside, or nothing had to come of it.
    Done,
    /// It is read again.
    Again,
    /// It is taken away: a step that is lost made it, or it is sent again.
    Gone,
}

fn inputs(partitions: u16, reading: &Reading, unsettled: &Unsettled, plan: &mut Plan) {
    let checker = &reading.checker;
    for (source, place) in INPUTS.into_iter().zip(0..) {
        let name = crate::verify::name_of(source);
        let last = checker.place_of(&name.to_ascii_uppercase()).last;
        let mut again: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        let mut newest_done: BTreeMap<u16, u64> = BTreeMap::new();
        for (seq, held) in checker.inputs.of(source) {
            match becomes(checker, source, seq, held, unsettled) {
                Becomes::Again => again.entry(held.partition).or_default().push(seq),
                becomes @ (Becomes::Done | Becomes::Gone) => {
                    let newest = newest_done.entry(held.partition).or_default();
                    *newest = (*newest).max(seq);
                    if matches!(becomes, Becomes::Gone) && source == Source::Signals {
                        plan.work.remove.push(seq);
                    }
                }
            }
        }
        let total: usize = again.values().map(Vec::len).sum();
        plan.read_again.insert(name.to_owned(), count(total));
        for partition in 0..partitions {
            let again = again.remove(&partition).unwrap_or_default();
            let done = newest_done.get(&partition).copied().unwrap_or_default();
            // What comes after all that is done is read in one go.
            let tail = again.iter().find(|seq| **seq > done).copied();
            let next = tail.unwrap_or(last + 1);
            let open = again.into_iter().filter(|seq| *seq < next).collect();
            plan.work.positions.entry(partition).or_default()[place] = (next, open);
        }
    }
}

fn becomes(
    checker: &Checker,
    source: Source,
    seq: u64,
    held: &Retained,
    unsettled: &Unsettled,
) -> Becomes {
    if held.fate != Fate::Open {
        return Becomes::Done;
    }
    if let Kind::Send { sender, token }
    | Kind::ChildStart { parent: sender, token }
    | Kind::ChildCancel { parent: sender, token } = &held.kind
        && unsettled.contains(&(sender.clone(), *token))
    {
        return Becomes::Gone;
    }
    if is_of_a_lost_life(checker, held) {
        return Becomes::Gone;
    }
    let done = match &held.execution {
        Some(execution) => checker.is_done(execution, source, None, seq),
        None => false,
    };
    if done && checker.unexplained(held).is_none() { Becomes::Done } else { Becomes::Again }
}

/// Whether a step that the journal does not have made a message: its token may come again, and
/// would mean something else then.
fn is_of_a_lost_life(checker: &Checker, held: &Retained) -> bool {
    let newest = |id: &ExecutionId| checker.lives.get(id).map_or(0, |life: &Life| life.seq);
    let of_own = held.execution.as_ref().map_or(0, newest);
    match &held.kind {
        Kind::Result { task, attempt } | Kind::Started { task, attempt } => {
            let life = held.execution.as_ref().and_then(|id| checker.lives.get(id));
            let is_newer = life.is_some_and(|life| {
                life.knows_state
                    && life.tasks.iter().any(|(known, at)| known == task && at < attempt)
            });
            task.entry > of_own || is_newer
        }
        Kind::Fired { timer } | Kind::FiredEarly { timer } => timer.entry > of_own,
        Kind::Send { sender, token }
        | Kind::ChildStart { parent: sender, token }
        | Kind::ChildCancel { parent: sender, token } => token.entry > newest(sender),
        Kind::ChildDone { task, attempt } => {
            let parent = held.execution.as_ref();
            let awaited = parent.and_then(|id| checker.lives.get(id)).and_then(|parent| {
                parent.children.iter().find(|it| (it.task, it.attempt) == (*task, *attempt))
            });
            // The child's end is lost, or its start, and comes again.
            let goes_on = awaited.is_some_and(|it| {
                checker.lives.get(&it.child).is_none_or(|child| {
                    parent.is_some_and(|parent| child.is_child_of(parent))
                        && !child.status.is_terminal()
                })
            });
            task.entry > of_own || goes_on
        }
        Kind::Start | Kind::Event { .. } | Kind::Malformed => false,
    }
}

/// Performs a recovery. Nothing else may write meanwhile but clients; `say` is told of each step.
///
/// # Errors
/// As [`plan`], or if something is not acknowledged: then run it again.
pub async fn perform(nats: &Nats, mut say: impl FnMut(String)) -> Result<Plan, RecoverError> {
    let Some((lost, settings)) = topology::lost(nats).await? else {
        return Err(RecoverError::NoJournal);
    };
    if !lost.contains(&StreamKind::Locks) {
        refuse_running(nats).await?;
    }
    if !lost.is_empty() {
        topology::init(nats, &settings).await?;
        say(format!("made {} streams anew", lost.len()));
    }
    let facts = topology::open(nats).await?;
    let halt = Halt {
        reason: "a recovery was begun and is not finished; run `pled recover`".into(),
        worker: "pled recover".into(),
    };
    stored("the halt", locks::halt(nats, &halt).await)?;
    let plan = decide(nats, &facts).await?;
    let mut generations = BTreeMap::new();
    for (name, kind) in [
        ("events", StreamKind::Events),
        ("signals", StreamKind::Signals),
        ("timers", StreamKind::Timers),
        ("ingest", StreamKind::Ingest),
    ] {
        generations.insert(name, topology::raise_generation(nats, kind).await?);
    }
    say("raised the generations".into());
    for seq in &plan.work.remove {
        repair::remove(nats, StreamKind::Signals, *seq).await?;
    }
    repair::clear_and_leap(nats, StreamKind::Tasks).await?;
    for version in templates::list_versions(nats).await? {
        let selector = (&version.reference).into();
        if let Some(source) = templates::get(nats, &selector).await? {
            // It is there, so only the consumers of its queues are made, where they are not.
            let made = templates::register(nats, &source).await;
            made.map_err(|error| RecoverError::Records(error.to_string()))?;
        }
    }
    dispatch(nats, &plan.work).await?;
    say(format!(
        "handed out {} tasks, sent {} sends, set {} timers",
        plan.tasks, plan.sends, plan.timers
    ));
    if facts.snapshots {
        repair::clear(nats, StreamKind::Snapshots).await?;
    }
    for partition in 0..facts.partitions {
        write_positions(nats, partition, &plan.work, &generations).await?;
    }
    stored("the end of the halt", locks::lift_halt(nats).await)?;
    say("wrote the positions; workers may start".into());
    Ok(plan)
}

async fn dispatch(nats: &Nats, work: &Work) -> Result<(), RecoverError> {
    for window in work.tasks.chunks(WINDOW) {
        let publishing = window
            .iter()
            .map(|task| tasks::publish(nats, nats.partition_of(&task.execution), task));
        for published in futures::future::join_all(publishing).await {
            there("a task", published)?;
        }
    }
    // Queued in order, and the publisher keeps it.
    for window in work.sends.chunks(WINDOW) {
        let publishing = window.iter().map(|say| {
            let SayAgain { by, token, to, what, .. } = say;
            match what {
                Said::Send { event, data } => {
                    signals::publish_send(nats, by, *token, to, event, data).boxed()
                }
                Said::ChildStart(start) => signals::publish_child_start(nats, to, start).boxed(),
                Said::ChildCancel(cancel) => {
                    signals::publish_child_cancel(nats, to, cancel).boxed()
                }
                Said::ChildDone(result) => signals::publish_child_done(nats, to, result).boxed(),
            }
        });
        for published in futures::future::join_all(publishing).await {
            there("a send", published)?;
        }
    }
    let prefix = nats.names().prefix();
    repair::clear_under(nats, StreamKind::Timers, &format!("{prefix}.timers.>")).await?;
    for window in work.timers.chunks(WINDOW) {
        let publishing = window.iter().map(|(execution, timer, due)| {
            timers::set(nats, nats.partition_of(execution), execution, *timer, *due)
        });
        for published in futures::future::join_all(publishing).await {
            stored("a timer", published)?;
        }
    }
    Ok(())
}

async fn write_positions(
    nats: &Nats,
    partition: u16,
    work: &Work,
    generations: &BTreeMap<&str, u64>,
) -> Result<(), RecoverError> {
    let generation = |name: &str| generations.get(name).copied().unwrap_or(1);
    let read = locks::read_position(nats, "engine", partition).await?;
    let (known, revision) = read.unwrap_or_default();
    let inputs = work.positions.get(&partition).cloned().unwrap_or_default();
    let inputs = INPUTS.into_iter().zip(inputs).map(|(source, (next, open))| {
        let name = crate::verify::name_of(source);
        let at = InputPosition {
            generation: generation(name),
            next: next.max(1),
            open,
            ..Default::default()
        };
        (name.to_owned(), at)
    });
    let epoch = work.epochs.get(&partition).copied().unwrap_or_default();
    let position = Position {
        epoch: known.epoch.max(epoch),
        owner: "pled recover".into(),
        inputs: inputs.collect(),
        journal: work.journal,
        server: String::new(),
    };
    let written = locks::write_position(nats, "engine", partition, &position, revision).await;
    stored("a position", written)?;
    let read = locks::read_position(nats, "rules", partition).await?;
    let (known, revision) = read.unwrap_or_default();
    // From the first that is left: whoever has taken what it becomes knows its sender.
    let next = extent(nats, StreamKind::Ingest).await?.first.max(1);
    let at = InputPosition { generation: generation("ingest"), next, ..InputPosition::default() };
    let position = Position {
        owner: "pled recover".into(),
        inputs: BTreeMap::from([("ingest".to_owned(), at)]),
        server: String::new(),
        ..known
    };
    let written = locks::write_position(nats, "rules", partition, &position, revision).await;
    stored("a position", written)
}

fn stored(what: &str, published: Published) -> Result<(), RecoverError> {
    if matches!(published, Published::Stored { .. }) {
        return Ok(());
    }
    Err(RecoverError::Unacknowledged { what: what.to_owned(), answer: format!("{published:?}") })
}

/// A conflict says that it is there already.
fn there(what: &str, published: Published) -> Result<(), RecoverError> {
    if matches!(published, Published::Conflict { .. }) { Ok(()) } else { stored(what, published) }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
