//! Taking away what is done: applied inputs, finished tasks, fired timers.
//!
//! A purge blocks the stream's publishers while it runs, one by filter for long. So the hot streams
//! are purged by sequence alone, up to the least of all positions, in small steps, seldom.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_nats::jetstream::consumer;
use futures::{StreamExt, TryStreamExt};
use pled_engine::message::{INPUTS, Millis, Source};
use pled_engine::partition::Position;
use tokio::time::Instant;

use crate::connection::Nats;
use crate::locks::read_position;
use crate::read::{ReadError, StreamState, next_direct, stream_state};
use crate::subject::StreamKind;

/// The most sequences that one purge takes.
const STEP: u64 = 20_000;
/// The pause between two purges of a stream, for its publishers.
const PAUSE: Duration = Duration::from_millis(200);
/// Finished tasks of others that one stuck queue may hold back before they are purged by filter.
const HELD_BACK: u64 = 100_000;

/// How long what is done is kept.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Applied events: at least twice the server's sync interval.
    pub events: Duration,
    /// Applied signals; twice the longest `ack_wait` of a queue if that is longer.
    pub signals: Duration,
    /// Raw events that rules were evaluated on.
    pub ingest: Duration,
    /// Finished tasks.
    pub tasks: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: Duration::from_secs(600),
            signals: Duration::from_secs(60),
            ingest: Duration::from_secs(600),
            tasks: Duration::from_secs(60),
        }
    }
}

/// What was seen before: how old a sequence is at least. A new one makes everything young.
#[derive(Debug, Default)]
pub struct Memory {
    ends: BTreeMap<StreamKind, Samples>,
    floors: Samples,
    /// Since when something was not done, at the last call.
    undone: Option<Option<Millis>>,
}

/// A sequence that holds since a moment, oldest first.
type Samples = VecDeque<(Instant, u64)>;

/// How many messages were taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Of PLED_EVENTS.
    pub events: u64,
    /// Of PLED_SIGNALS.
    pub signals: u64,
    /// Of PLED_INGEST.
    pub ingest: u64,
    /// Of PLED_TIMERS.
    pub timers: u64,
    /// Of PLED_TASKS.
    pub tasks: u64,
}

/// Takes away what is done and older than its retention. To be called about once a minute by the
/// holder of the lease `maintain`, always with the same `memory`. An input that is not applied and
/// a task that is not finished are never taken.
///
/// # Errors
/// If a read or a purge fails: nothing is lost, the next call goes on.
pub async fn sweep(
    nats: &Nats,
    memory: &mut Memory,
    retention: &Retention,
) -> Result<Swept, ReadError> {
    let tasks = task_streams(nats).await?;
    let longest = tasks.queues.iter().map(|queue| queue.ack_wait).max().unwrap_or_default();
    let engine = positions(nats, "engine").await?;
    let rules = positions(nats, "rules").await?;
    let input = |source: &str| Floors::of(&engine, source);
    // Before the signals: a message that is done by now can send none that is not in the stream.
    let undone = undone_since(nats, &engine).await?;
    // What was done since the last call may have publishes under way that were not answered.
    let signals = match memory.undone.replace(undone) {
        Some(before) => signals_before(nats, before.into_iter().chain(undone).min()).await?,
        None => 0,
    };
    Ok(Swept {
        events: sweep_input(
            nats,
            memory,
            StreamKind::Events,
            &input("events"),
            retention.events,
            |partition| nats.names().input(Source::Events, partition),
        )
        .await?,
        signals: sweep_input(
            nats,
            memory,
            StreamKind::Signals,
            &input("signals").but_below(signals),
            retention.signals.max(2 * longest),
            |partition| nats.names().input(Source::Signals, partition),
        )
        .await?,
        ingest: sweep_input(
            nats,
            memory,
            StreamKind::Ingest,
            &Floors::of(&rules, "ingest"),
            retention.ingest,
            |partition| nats.names().raw(partition),
        )
        .await?,
        timers: sweep_timers(nats, &input("timers")).await?,
        tasks: sweep_tasks(nats, memory, retention.tasks, &tasks).await?,
    })
}

async fn positions(nats: &Nats, kind: &str) -> Result<Vec<Option<Position>>, ReadError> {
    futures::stream::iter(0..nats.partitions())
        .map(async |partition| {
            let read = read_position(nats, kind, partition).await?;
            Ok(read.map(|(position, _)| position))
        })
        .buffered(16)
        .try_collect()
        .await
}

/// For each partition, below which sequence everything is done.
struct Floors(Vec<u64>);

impl Floors {
    /// A position that is missing or says nothing of the input counts as its beginning.
    fn of(positions: &[Option<Position>], input: &str) -> Self {
        let floor = |position: &Option<Position>| {
            let input = position.as_ref()?.inputs.get(input)?;
            Some(input.open.first().copied().unwrap_or(input.next).min(input.next))
        };
        Self(positions.iter().map(|position| floor(position).unwrap_or(1)).collect())
    }

    /// The same, with nothing from `seq` on.
    fn but_below(mut self, seq: u64) -> Self {
        for floor in &mut self.0 {
            *floor = (*floor).min(seq);
        }
        self
    }

    fn least(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(1)
    }
}

/// When the oldest message was stored that no partition has done; `None` where all is done. A
/// firing counts from when it was stored, not from when it was due.
///
/// While there is one, the copies of sends that came after it stay: the entry that took the message
/// may be dispatched again by the next owner, and where a send was set aside as of an unknown
/// execution that has begun since, only its copy keeps it from being taken after all.
async fn undone_since(
    nats: &Nats,
    engine: &[Option<Position>],
) -> Result<Option<Millis>, ReadError> {
    let mut oldest = None::<Millis>;
    for source in INPUTS {
        let Some(kind) = StreamKind::of(source) else { continue };
        let name = kind.word().to_ascii_lowercase();
        let next_undone = futures::stream::iter((0..).zip(Floors::of(engine, &name).0))
            .map(async |(partition, floor)| {
                let filter = nats.names().input(source, partition);
                next_direct(nats, kind, &filter, floor).await
            })
            .buffered(16);
        let stored: Vec<_> = next_undone.try_collect().await?;
        let times = stored.into_iter().flatten().map(|stored| stored.time);
        oldest = oldest.into_iter().chain(times).min();
    }
    Ok(oldest)
}

/// The first signal that was stored at `time` or later; the end of the stream for `None`.
async fn signals_before(nats: &Nats, time: Option<Millis>) -> Result<u64, ReadError> {
    let Some(time) = time else { return Ok(u64::MAX) };
    let state = stream_state(nats, StreamKind::Signals).await?;
    let (mut low, mut high) = (state.first_seq, state.last_seq + 1);
    // Times follow sequences, so the place is found by halving.
    while low < high {
        let middle = low + (high - low) / 2;
        match next_direct(nats, StreamKind::Signals, ">", middle).await? {
            Some(stored) if stored.stream_seq < high && stored.time < time => {
                low = stored.stream_seq + 1;
            }
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

async fn sweep_input(
    nats: &Nats,
    memory: &mut Memory,
    kind: StreamKind,
    floors: &Floors,
    age: Duration,
    filter: impl Fn(u16) -> String,
) -> Result<u64, ReadError> {
    let state = stream_state(nats, kind).await?;
    let old = older(memory.ends.entry(kind).or_default(), state.last_seq + 1, age);
    let target = old.unwrap_or(0).max(crowded_out(&state));
    let mut purged = purge_up_to(nats, kind, &state, target.min(floors.least())).await?;
    // What one stuck execution holds back must not fill the stream.
    if is_crowded(&state, purged) {
        for (partition, floor) in (0..).zip(&floors.0) {
            if *floor > floors.least() {
                purged += purge(nats, kind, Some(filter(partition)), *floor).await?;
            }
        }
    }
    Ok(purged)
}

/// Notes that `seq` is the present end, and gives the greatest that is at least `age` old.
fn older(samples: &mut Samples, seq: u64, age: Duration) -> Option<u64> {
    let now = Instant::now();
    if samples.back().is_some_and(|(_, last)| *last > seq) {
        samples.clear(); // The stream was rolled back or made anew.
    }
    samples.push_back((now, seq));
    let mut old = None;
    while let Some((seen, seq)) = samples.front()
        && now.duration_since(*seen) >= age
    {
        old = Some(*seq);
        // The newest of those that are old enough is kept, for the next call.
        if samples.get(1).is_none_or(|(next, _)| now.duration_since(*next) < age) {
            break;
        }
        samples.pop_front();
    }
    old
}

/// Below which sequence messages go, however young, for the stream to be half full at most.
fn crowded_out(state: &StreamState) -> u64 {
    let Ok(max_bytes) = u64::try_from(state.max_bytes) else { return 0 };
    let half = max_bytes / 2;
    if max_bytes == 0 || state.bytes <= half || state.messages == 0 {
        return 0;
    }
    let average = (state.bytes / state.messages).max(1);
    state.first_seq + (state.bytes - half) / average + 1
}

fn is_crowded(state: &StreamState, purged: u64) -> bool {
    let left = state.messages.saturating_sub(purged);
    let average = state.bytes.checked_div(state.messages).unwrap_or_default();
    u64::try_from(state.max_bytes)
        .is_ok_and(|max| max > 0 && left.saturating_mul(average) > max / 2)
}

/// Purges everything below `target`, a step at a time.
async fn purge_up_to(
    nats: &Nats,
    kind: StreamKind,
    state: &StreamState,
    target: u64,
) -> Result<u64, ReadError> {
    let target = target.min(state.last_seq + 1);
    let mut purged = 0;
    let mut below = state.first_seq;
    while below < target && state.messages > 0 {
        if below > state.first_seq {
            tokio::time::sleep(PAUSE).await;
        }
        below = target.min(below + STEP);
        purged += purge(nats, kind, None, below).await?;
    }
    Ok(purged)
}

/// Purges everything below `below`, of `filter` if there is one.
async fn purge(
    nats: &Nats,
    kind: StreamKind,
    filter: Option<String>,
    below: u64,
) -> Result<u64, ReadError> {
    let mut purge = nats.stream(kind).purge().sequence(below);
    if let Some(filter) = filter {
        purge = purge.filter(filter);
    }
    match purge.await {
        Ok(answer) => Ok(answer.purged),
        Err(error) => Err(ReadError::unavailable(nats.names().stream(kind), error)),
    }
}

/// By filter always: a purge by sequence alone would take schedules that are pending.
async fn sweep_timers(nats: &Nats, floors: &Floors) -> Result<u64, ReadError> {
    let state = stream_state(nats, StreamKind::Timers).await?;
    let prefix = nats.names().prefix();
    let least = floors.least();
    let mut purged = 0;
    if least > state.first_seq {
        let fired = format!("{prefix}.fired.>");
        purged += purge(nats, StreamKind::Timers, Some(fired), least).await?;
    }
    // What takes back a schedule has done so when it is stored.
    let cancelled = format!("{prefix}.cancelled.>");
    purged += purge(nats, StreamKind::Timers, Some(cancelled), state.last_seq + 1).await?;
    Ok(purged)
}

/// PLED_TASKS and its queues.
struct TaskStreams {
    state: StreamState,
    queues: Vec<QueueState>,
}

struct QueueState {
    filter: String,
    ack_wait: Duration,
    /// Below which sequence its tasks are finished.
    floor: u64,
}

async fn task_streams(nats: &Nats) -> Result<TaskStreams, ReadError> {
    // Read before the consumers are: one with nothing pending is done with everything up to here.
    let state = stream_state(nats, StreamKind::Tasks).await?;
    let mut consumers = nats.stream(StreamKind::Tasks).consumers();
    let mut queues = Vec::new();
    while let Some(info) = consumers.next().await {
        let info = info.map_err(|error| {
            ReadError::unavailable(nats.names().stream(StreamKind::Tasks), error)
        })?;
        queues.push(QueueState {
            floor: task_floor(&info, state.last_seq),
            ack_wait: info.config.ack_wait,
            filter: info.config.filter_subject,
        });
    }
    Ok(TaskStreams { state, queues })
}

async fn sweep_tasks(
    nats: &Nats,
    memory: &mut Memory,
    age: Duration,
    tasks: &TaskStreams,
) -> Result<u64, ReadError> {
    let floors = || tasks.queues.iter().map(|queue| queue.floor);
    let (Some(least), Some(most)) = (floors().min(), floors().max()) else {
        return Ok(0); // Nobody has taken any.
    };
    let old = older_floor(&mut memory.floors, least, age);
    let mut purged = purge_up_to(nats, StreamKind::Tasks, &tasks.state, old).await?;
    if most - least > HELD_BACK || is_crowded(&tasks.state, purged) {
        for queue in tasks.queues.iter().filter(|queue| queue.floor > least) {
            let filter = Some(queue.filter.clone()).filter(|filter| !filter.is_empty());
            if filter.is_some() {
                purged += purge(nats, StreamKind::Tasks, filter, queue.floor).await?;
            }
        }
    }
    Ok(purged)
}

/// Below which sequence a consumer's tasks are all finished. The floor of one that has nothing to
/// do is old and says nothing.
fn task_floor(info: &consumer::Info, stream_last: u64) -> u64 {
    if info.num_pending == 0 && info.num_ack_pending == 0 {
        stream_last + 1
    } else {
        info.ack_floor.stream_sequence + 1
    }
}

/// The greatest floor that all queues had `age` ago and still have: what is known of a queue may
/// go back, when the server was killed and acknowledgements were lost with it.
fn older_floor(samples: &mut Samples, floor: u64, age: Duration) -> u64 {
    for (_, known) in samples.iter_mut() {
        *known = (*known).min(floor);
    }
    older(samples, floor, age).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sequence_is_old_when_it_was_the_end_long_enough_ago() {
        let mut samples = Samples::new();
        let age = Duration::from_secs(60);
        assert_eq!(older(&mut samples, 10, age), None);

        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(older(&mut samples, 20, age), None);

        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(older(&mut samples, 30, age), Some(10));

        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(older(&mut samples, 30, age), Some(20));

        assert_eq!(older(&mut samples, 5, age), None, "a stream that was made anew is young");
    }

    #[test]
    fn the_floor_of_a_partition_is_its_oldest_open_message() {
        let position = |next: u64, open: Vec<u64>| {
            let input = pled_engine::partition::InputPosition {
                generation: 1,
                next,
                open,
                ..Default::default()
            };
            Some(Position {
                inputs: BTreeMap::from([("events".to_owned(), input)]),
                ..Position::default()
            })
        };

        let floors = Floors::of(&[position(50, vec![7, 30]), position(60, vec![])], "events");
        assert_eq!(floors.0, [7, 60]);
        assert_eq!(floors.least(), 7);

        let unknown = Floors::of(&[position(50, vec![]), None], "events");
        assert_eq!(unknown.least(), 1, "without a position nothing is known to be done");
    }

    #[test]
    fn a_stream_that_is_more_than_half_full_lets_its_oldest_go() {
        let mut state = StreamState {
            first_seq: 101,
            last_seq: 200,
            messages: 100,
            bytes: 8_000,
            max_bytes: 10_000,
            ..StreamState::default()
        };
        assert_eq!(crowded_out(&state), 101 + 37 + 1);

        state.bytes = 5_000;
        assert_eq!(crowded_out(&state), 0);

        state.max_bytes = -1;
        assert_eq!(crowded_out(&state), 0);
    }
}
