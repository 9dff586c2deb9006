//! Owning partitions by leases: for engine workers and rule workers alike.
//!
//! [`own`] takes leases, gives each partition a task of its own, and takes a partition again when
//! its task gives it up. The lease saves work and gives order; what is correct rests on expected
//! sequences alone.

mod balance;
mod lease;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use pled_engine::partition::Published;
use pled_streams::locks::Halt;
use pled_streams::{Nats, ReadError, locks};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::balance::{Plan, View, plan};
pub(crate) use self::lease::{Held, Renewal, Renewed};
use crate::clock::{Clock, millis};

/// How often a worker looks for partitions that are free.
const LOOK: Duration = Duration::from_millis(200);
/// How soon after one was given up.
const AGAIN: Duration = Duration::from_millis(100);

/// Which partitions a worker aims for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// All that are free.
    All,
    /// Its share among the workers that are there.
    Share,
}

/// How the life of a partition in this worker ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was handed over.
    Released,
    /// It was given up, and is to be taken again.
    Dropped(String),
    /// The worker has to stop.
    Halted(String),
}

/// Who owns what kind of partitions.
#[derive(Clone, Debug)]
pub(crate) struct Ownership {
    /// The kind of the leases.
    pub(crate) kind: &'static str,
    /// The owner, unique among living processes.
    pub(crate) worker: Arc<str>,
    pub(crate) partitions: Partitions,
    pub(crate) lease_ttl: Duration,
    pub(crate) drain_timeout: Duration,
}

/// Owns partitions until `shutdown`, then hands them over. `drive` makes the task of a partition;
/// it ends by itself, or some time after its token says that it is to hand over.
///
/// # Errors
/// With the sentence of the partition that says that the worker has to stop.
pub(crate) async fn own<Drive, Driving>(
    nats: &Nats,
    clock: &Clock,
    ownership: Ownership,
    drive: Drive,
    shutdown: &CancellationToken,
) -> Result<(), String>
where
    Drive: Fn(u16, Held, CancellationToken) -> Driving,
    Driving: Future<Output = Ended> + Send + 'static,
{
    if let Some(reason) = refusal(nats, shutdown).await {
        return Err(reason);
    }
    let mut owner = Owner {
        nats,
        clock,
        salt: salt(&ownership.worker),
        ownership,
        drive,
        tasks: JoinSet::new(),
        owned: BTreeMap::new(),
        said: 0,
    };
    let result = owner.own(shutdown).await;
    let worker = owner.ownership.worker.clone();
    owner.hand_over().await;
    if let Err(reason) = &result
        && is_loss(reason)
    {
        let halt = Halt { reason: reason.clone(), worker: worker.to_string() };
        let marked = tokio::time::timeout(MARKED_WITHIN, locks::halt(nats, &halt)).await;
        if !matches!(marked, Ok(Published::Stored { .. })) {
            tracing::error!("the halt could not be recorded: start no other worker");
        }
    }
    result
}

/// How long it is tried to record a halt.
const MARKED_WITHIN: Duration = Duration::from_secs(10);

/// Whether a sentence that stops a worker tells of a loss, which no other may overlook.
fn is_loss(reason: &str) -> bool {
    reason.ends_with("run `pled recover`")
}

/// Why nothing may be owned: a worker before has found a loss.
async fn refusal(nats: &Nats, shutdown: &CancellationToken) -> Option<String> {
    loop {
        match locks::halted(nats).await {
            Ok(None) => return None,
            Ok(Some(Halt { reason, worker })) => {
                return Some(format!("halted since {worker} found this: {reason}"));
            }
            Err(error) => tracing::debug!(%error, "it is asked again whether there is a halt"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn salt(worker: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    worker.hash(&mut hasher);
    hasher.finish()
}

struct Owner<'a, Drive> {
    nats: &'a Nats,
    clock: &'a Clock,
    ownership: Ownership,
    drive: Drive,
    tasks: JoinSet<Ended>,
    /// By its task: the partition, and what makes it hand the partition over.
    owned: BTreeMap<Id, (u16, CancellationToken)>,
    salt: u64,
    /// What was last said about how many are owned.
    said: usize,
}

impl<Drive, Driving> Owner<'_, Drive>
where
    Drive: Fn(u16, Held, CancellationToken) -> Driving,
    Driving: Future<Output = Ended> + Send + 'static,
{
    async fn own(&mut self, shutdown: &CancellationToken) -> Result<(), String> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut announced = None::<Instant>;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended)?;
                    look.reset_after(AGAIN);
                }
                _ = look.tick() => {
                    let every = self.ownership.lease_ttl / 3;
                    if announced.is_none_or(|announced| announced.elapsed() >= every) {
                        announced = Some(Instant::now());
                        self.announce();
                    }
                    // Without a connection this takes its time, and a shutdown does not wait for it.
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        balanced = self.balance() => if let Err(error) = balanced {
                            tracing::debug!(%error, "partitions are looked for again");
                        },
                    }
                    self.say();
                }
            }
        }
    }

    /// Says that this worker is there, so that others leave it its share.
    fn announce(&self) {
        let Ownership { kind, lease_ttl, .. } = self.ownership;
        let own = self.partitions(false);
        let about = serde_json::json!({ "role": kind, "partitions": own }).to_string();
        drop(locks::announce(self.nats, &self.name(), &about, lease_ttl));
    }

    /// The name under which it is announced: a worker may own partitions of several kinds.
    fn name(&self) -> String {
        format!("{}-{}", self.ownership.worker, self.ownership.kind)
    }

    async fn balance(&mut self) -> Result<(), ReadError> {
        let (own, leaving) = (self.partitions(false), self.partitions(true));
        let partitions = self.nats.partitions();
        let all = self.ownership.partitions == Partitions::All;
        if all && own.len() + leaving.len() == usize::from(partitions) {
            return Ok(());
        }
        let leases = locks::leases(self.nats, self.ownership.kind).await?;
        let workers = if all { 1 } else { self.workers().await? };
        let others = leases.into_iter().filter(|(_, owner)| **owner != *self.ownership.worker);
        let Plan { take, give_back } = plan(&View {
            partitions,
            own: &own,
            leaving: &leaving,
            others: &others.map(|(partition, _)| partition).collect(),
            workers,
            salt: self.salt,
        });
        for (partition, drain) in self.owned.values() {
            if give_back.contains(partition) {
                drain.cancel();
            }
        }
        let taken = futures::future::join_all(take.into_iter().map(|partition| {
            let held = Held::take(self.nats, self.clock, &self.ownership, partition);
            async move { (partition, held.await) }
        }));
        for (partition, held) in taken.await {
            match held {
                Ok(Some(held)) => self.begin(partition, held),
                Ok(None) => {}
                Err(error) => tracing::debug!(partition, %error, "a lease was not taken"),
            }
        }
        Ok(())
    }

    /// How many workers of this kind there are, this one included.
    async fn workers(&self) -> Result<usize, ReadError> {
        let (own, kind) = (self.name(), self.ownership.kind);
        let is_alike = |about: &str| {
            serde_json::from_str::<serde_json::Value>(about)
                .is_ok_and(|about| about["role"].as_str() == Some(kind))
        };
        let workers = locks::workers(self.nats).await?;
        Ok(workers.iter().filter(|(name, about)| *name != own && is_alike(about)).count() + 1)
    }

    fn begin(&mut self, partition: u16, held: Held) {
        let drain = CancellationToken::new();
        let task = self.tasks.spawn((self.drive)(partition, held, drain.clone()));
        self.owned.insert(task.id(), (partition, drain));
    }

    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) -> Result<(), String> {
        let (id, ended) = match ended {
            Ok(ended) => ended,
            // A bug. The lease runs out by itself or is taken again, and the partition too.
            Err(panic) => (panic.id(), Ended::Dropped(panic.to_string())),
        };
        let partition = self.owned.remove(&id).map(|(partition, _)| partition);
        let kind = self.ownership.kind;
        match ended {
            Ended::Released => tracing::debug!(kind, partition, "handed over"),
            Ended::Dropped(reason) => {
                tracing::warn!(kind, partition, reason, "given up, to be taken again");
            }
            Ended::Halted(reason) => return Err(reason),
        }
        Ok(())
    }

    /// Hands all partitions over, as far as that is done in time.
    async fn hand_over(mut self) {
        for (_, drain) in self.owned.values() {
            drain.cancel();
        }
        let retired = locks::retire(self.nats, &self.name());
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.ownership.drain_timeout, all).await.is_err() {
            let kind = self.ownership.kind;
            tracing::warn!(kind, "partitions were left before all in flight was finished");
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), retired).await;
    }

    /// The partitions that are kept, or those that are being handed over.
    fn partitions(&self, leaving: bool) -> BTreeSet<u16> {
        let owned = self.owned.values().filter(|(_, drain)| drain.is_cancelled() == leaving);
        owned.map(|(partition, _)| *partition).collect()
    }

    fn say(&mut self) {
        let (owned, kind) = (self.owned.len(), self.ownership.kind);
        if owned != self.said {
            self.said = owned;
            tracing::info!(kind, owned, of = self.nats.partitions(), "partitions");
        }
        metrics::gauge!("pled_partitions_owned", "kind" => kind)
            .set(u32::try_from(owned).unwrap_or(u32::MAX));
    }
}

impl Held {
    async fn take(
        nats: &Nats,
        clock: &Clock,
        ownership: &Ownership,
        partition: u16,
    ) -> Result<Option<Self>, ReadError> {
        let Ownership { kind, worker, lease_ttl, .. } = ownership;
        // The time to live begins when the server has the request, so not before now.
        let until = clock.monotonic() + millis(*lease_ttl);
        let lease = locks::acquire(nats, kind, partition, worker, *lease_ttl).await?;
        Ok(lease.map(|lease| Self { lease, until }))
    }
}
