//! Starts executions by time, as the one process that holds the lease for it.
//!
//! The decisions are the machine's ([`pled_engine::schedule`]). Here a schedule is advanced so: look
//! at what it asks to look at, let it decide, store what it decided with the revision that was read,
//! and only then start what the stored state says. Whoever finds a start in the state that is not
//! known to be stored sends it again, which changes nothing. A lease that two hold for a moment
//! costs a conflict, nothing else.
//!
//! That an execution has ended is learnt by looking: at once where a decision depends on it, and
//! where something waits for the end, soon, then the longer it runs the more seldom. A subscription
//! to the journal would be told a moment sooner, but can lose a message, so the look would be needed
//! beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pled_engine::id::{EventType, ExecutionId, InvalidName, ScheduleName};
use pled_engine::message::Millis;
use pled_engine::partition::Published;
use pled_engine::schedule::{Counts, Ending, Input, Output, Schedule, Start};
use pled_streams::events::{self, EventToSend};
use pled_streams::schedules::{self, Changed, Stored};
use pled_streams::{Nats, locks};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The kind of the lease; its number is 0.
const LEASE: &str = "schedules";
/// How often the lease is tried for, or renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How long the lease lasts without being renewed: what a killed worker delays what is due by.
const TTL: Duration = Duration::from_secs(4);
/// How long after a failure a schedule is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest sleep: a clock that is set is noticed by then.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How soon the server's clock is looked at again while it is not known yet.
const CLOCK_UNKNOWN: Duration = Duration::from_millis(20);
/// How many schedules are advanced at once.
const AT_ONCE: usize = 64;

/// Starts what is due until `shutdown`, whenever no other process does.
pub async fn run(nats: Nats, worker_id: Arc<str>, shutdown: CancellationToken) {
    let clock = Arc::new(Clock::start());
    let following = clock.follow(&nats, &shutdown);
    let owning = async {
        loop {
            let lease = match locks::acquire(&nats, LEASE, 0, &worker_id, TTL).await {
                Ok(lease) => lease,
                Err(error) => {
                    tracing::debug!(%error, "the lease for schedules is tried for again");
                    None
                }
            };
            if let Some(mut lease) = lease {
                tracing::info!("schedules are started by this process");
                Owner::new(&nats, &clock).hold(&mut lease, &shutdown).await;
                if shutdown.is_cancelled() {
                    let _ = tokio::time::timeout(RENEW, lease.release()).await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RENEW) => {}
                () = shutdown.cancelled() => return,
            }
        }
    };
    tokio::join!(following, owning);
}

/// Knows all schedules, and advances those that are due.
struct Owner<'a> {
    nats: &'a Nats,
    clock: &'a Arc<Clock>,
    idle: BTreeMap<ScheduleName, Idle>,
    /// Those that are being advanced.
    busy: BTreeSet<ScheduleName>,
    /// What was heard meanwhile of those.
    heard: BTreeMap<ScheduleName, Option<Box<Stored>>>,
    advancing: JoinSet<(ScheduleName, Advanced)>,
}

/// A schedule that sleeps.
struct Idle {
    stored: Stored,
    /// When it is to be advanced.
    wakes_at: Option<Millis>,
    /// After a failure: not before this, by the own clock.
    not_before: Option<Instant>,
}

/// What came of advancing a schedule.
struct Advanced {
    /// As it is now; `None`: it is gone.
    stored: Option<Stored>,
    /// Something did not answer: try again.
    failed: Option<String>,
}

impl<'a> Owner<'a> {
    fn new(nats: &'a Nats, clock: &'a Arc<Clock>) -> Self {
        Self {
            nats,
            clock,
            idle: BTreeMap::new(),
            busy: BTreeSet::new(),
            heard: BTreeMap::new(),
            advancing: JoinSet::new(),
        }
    }

    /// Works while the lease is held.
    async fn hold(&mut self, lease: &mut locks::Lease, shutdown: &CancellationToken) {
        let mut watch = schedules::watch(self.nats);
        let mut renewing = tokio::time::interval(RENEW);
        renewing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        loop {
            self.advance_due();
            let sleep = self.sleep();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = renewing.tick() => {
                    let asked = Instant::now();
                    match lease.renew().await {
                        Ok(true) => renewed = asked,
                        Ok(false) => return,
                        Err(error) if renewed.elapsed() >= TTL => {
                            tracing::debug!(%error, "the lease for schedules ran out");
                            return;
                        }
                        Err(error) => {
                            tracing::debug!(%error, "the lease for schedules is renewed again");
                        }
                    }
                }
                Some(advanced) = self.advancing.join_next() => match advanced {
                    Ok((name, advanced)) => self.advanced(name, advanced),
                    Err(error) => {
                        // A bug. With the lease taken anew all is read anew.
                        tracing::error!(%error, "a schedule could not be advanced");
                        return;
                    }
                },
                changed = watch.next() => self.changed(changed),
                () = tokio::time::sleep(sleep) => {}
            }
        }
        // What was begun is finished, as far as that is done in time.
        let all = async { while self.advancing.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    }

    fn sleep(&self) -> Duration {
        if self.clock.now().wall < 0 {
            return CLOCK_UNKNOWN;
        }
        if self.advancing.len() >= AT_ONCE {
            return SLEEP_MAX;
        }
        let instant = Instant::now();
        let until = |idle: &Idle| {
            let due = self.clock.until(idle.wakes_at?);
            let again = idle.not_before.map(|at| at.saturating_duration_since(instant));
            Some(due.max(again.unwrap_or_default()))
        };
        self.idle.values().filter_map(until).min().unwrap_or(SLEEP_MAX).min(SLEEP_MAX)
    }

    fn insert(&mut self, stored: Stored, not_before: Option<Instant>) {
        let wakes_at = stored.schedule.wakes_at(self.clock.now().wall);
        let name = stored.schedule.name().clone();
        self.idle.insert(name, Idle { stored, wakes_at, not_before });
    }

    fn advance_due(&mut self) {
        let now = self.clock.now().wall;
        let instant = Instant::now();
        let is_due = |idle: &Idle| {
            idle.not_before.is_none_or(|at| at <= instant)
                && idle.wakes_at.is_some_and(|at| at <= now)
        };
        if now < 0 {
            return;
        }
        let room = AT_ONCE.saturating_sub(self.advancing.len());
        let due: Vec<_> = self
            .idle
            .iter()
            .filter(|(_, idle)| is_due(idle))
            .take(room)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let Some(Idle { stored, .. }) = self.idle.remove(&name) else { continue };
            self.busy.insert(name.clone());
            let (nats, clock) = (self.nats.clone(), self.clock.clone());
            self.advancing.spawn(async move { (name, advance(&nats, &clock, stored).await) });
        }
    }

    fn advanced(&mut self, name: ScheduleName, advanced: Advanced) {
        self.busy.remove(&name);
        let Advanced { stored, failed } = advanced;
        if let Some(reason) = &failed {
            tracing::warn!(schedule = %name, reason, "a schedule is tried again");
        }
        let not_before = failed.map(|_| Instant::now() + AGAIN);
        match (self.heard.remove(&name), stored) {
            // What was heard may be older than what was stored just now.
            (Some(Some(heard)), stored)
                if stored.as_ref().is_none_or(|own| own.revision < heard.revision) =>
            {
                self.insert(*heard, None);
            }
            (Some(None), _) | (_, None) => {}
            (Some(Some(_)) | None, Some(stored)) => {
                self.insert(stored, not_before);
            }
        }
    }

    fn changed(&mut self, changed: Changed) {
        match changed {
            Changed::Is(stored) => {
                let name = stored.schedule.name().clone();
                if self.busy.contains(&name) {
                    self.heard.insert(name, Some(stored));
                } else if self
                    .idle
                    .get(&name)
                    .is_none_or(|idle| idle.stored.revision < stored.revision)
                {
                    self.insert(*stored, None);
                }
            }
            Changed::Gone { name, revision } => {
                let Ok(name) = name.parse::<ScheduleName>() else { return };
                if self.busy.contains(&name) {
                    self.heard.insert(name, None);
                } else if self.idle.get(&name).is_some_and(|idle| idle.stored.revision < revision) {
                    self.idle.remove(&name);
                }
            }
            Changed::Damaged(error) => tracing::error!(%error, "a schedule is passed over"),
        }
    }
}

/// Does what is due of one schedule.
async fn advance(nats: &Nats, clock: &Clock, stored: Stored) -> Advanced {
    let as_read = stored.clone();
    let Stored { mut schedule, mut revision } = stored;
    let now = clock.now().wall;
    let counts = schedule.state().counts.clone();
    let as_stored = schedule.to_bytes();
    let mut outputs = schedule.handle(Input::Tick, now);
    let mut looked = false;
    for output in &outputs {
        let Output::Look(execution) = output else { continue };
        match schedules::seen(nats, execution).await {
            Ok(seen) => drop(schedule.handle(Input::Seen { execution, seen }, now)),
            // Nothing that was decided is stored, so nothing is.
            Err(error) => {
                return Advanced { stored: Some(as_read), failed: Some(error.to_string()) };
            }
        }
        looked = true;
    }
    if looked {
        outputs = schedule.handle(Input::Tick, now);
    }
    if let Err(advanced) = store(nats, &schedule, &mut revision, &as_stored).await {
        return match advanced {
            Some(reason) => reload(nats, schedule, revision, reason).await,
            None => changed(nats, schedule, revision).await,
        };
    }
    count(&counts, &schedule.state().counts);
    let decided = schedule.to_bytes();
    let sent =
        futures::future::join_all(outputs.iter().map(|output| send(nats, &schedule, output)));
    let mut failed = None;
    for (output, sent) in outputs.iter().zip(sent.await) {
        match (output, sent) {
            (Output::Start(start), Ok(())) => {
                drop(schedule.handle(Input::Started(&start.execution), now));
            }
            (Output::End { execution, .. }, Ok(())) => {
                drop(schedule.handle(Input::Ended(execution), now));
            }
            (Output::Look(_), Ok(())) => {}
            (_, Err(error)) => failed = Some(error),
        }
    }
    // That a start is stored is only worth a write; if it is not written, it is sent again.
    match store(nats, &schedule, &mut revision, &decided).await {
        Err(None) => return changed(nats, schedule, revision).await,
        Err(Some(reason)) => failed = Some(reason),
        Ok(()) => {}
    }
    Advanced { stored: Some(Stored { schedule, revision }), failed }
}

/// Writes what is other than `before`. `Err(None)`: another has written.
async fn store(
    nats: &Nats,
    schedule: &Schedule,
    revision: &mut u64,
    before: &[u8],
) -> Result<(), Option<String>> {
    if schedule.to_bytes() == before {
        return Ok(());
    }
    let published = schedules::put(nats, schedule, *revision).await;
    if let Published::Stored { stream_seq } = published {
        *revision = stream_seq;
        return Ok(());
    }
    let is_taken = matches!(published, Published::Conflict { .. });
    Err((!is_taken).then(|| format!("the schedule was not stored: {published:?}")))
}

/// Another has changed it: what is stored counts.
async fn changed(nats: &Nats, schedule: Schedule, revision: u64) -> Advanced {
    match schedules::get(nats, schedule.name()).await {
        Ok(stored) => Advanced { stored: stored.ok(), failed: None },
        Err(error) => {
            let stored = Some(Stored { schedule, revision });
            Advanced { stored, failed: Some(error.to_string()) }
        }
    }
}

/// After a write of which nothing is known, what is stored counts, not what was decided.
async fn reload(nats: &Nats, schedule: Schedule, revision: u64, reason: String) -> Advanced {
    tracing::debug!(schedule = %schedule.name(), reason, "a schedule is read again");
    tokio::time::sleep(AGAIN).await;
    changed(nats, schedule, revision).await
}

async fn send(nats: &Nats, schedule: &Schedule, output: &Output) -> Result<(), String> {
    let event = match output {
        Output::Look(_) => return Ok(()),
        Output::Start(start) => start_event(schedule, start),
        Output::End { execution, ending } => end_event(schedule, execution, *ending),
    };
    let event = event.map_err(|error| error.to_string())?;
    events::send(nats, event).await.map(drop).map_err(|error| error.to_string())
}

fn start_event(schedule: &Schedule, start: &Start) -> Result<EventToSend, InvalidName> {
    Ok(EventToSend {
        execution: start.execution.clone(),
        event_type: "pled.init".parse()?,
        data: start.input.to_canonical().into(),
        event_id: None,
        template: Some(schedule.spec().template.clone()),
        reply: None,
        origin: Some(origin(schedule)),
        emitted: None,
    })
}

fn end_event(
    schedule: &Schedule,
    execution: &ExecutionId,
    ending: Ending,
) -> Result<EventToSend, InvalidName> {
    let event_type: EventType = match ending {
        Ending::Cancel => "pled.cancel".parse()?,
        Ending::Terminate => "pled.terminate".parse()?,
    };
    Ok(EventToSend {
        execution: execution.clone(),
        // One of each kind has an effect, however often it is sent.
        event_id: Some(format!("schedule:{}:{event_type}", schedule.name())),
        event_type,
        data: bytes::Bytes::new(),
        template: None,
        reply: None,
        origin: Some(origin(schedule)),
        emitted: None,
    })
}

/// The source of the events that a schedule sends.
fn origin(schedule: &Schedule) -> String {
    format!("pled/schedules/{}", schedule.name())
}

fn count(before: &Counts, after: &Counts) {
    let started = after.started.saturating_sub(before.started);
    metrics::counter!("pled_schedule_started_total").increment(started);
    let refused = after.refused.saturating_sub(before.refused);
    metrics::counter!("pled_schedule_refused_total").increment(refused);
    for ((reason, before), (_, after)) in before.skipped().into_iter().zip(after.skipped()) {
        let skipped = after.saturating_sub(before);
        metrics::counter!("pled_schedule_skipped_total", "reason" => reason).increment(skipped);
    }
}
