//! The worker's clocks: its own, and what it knows of the server's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use pled_engine::message::Millis;
use pled_engine::partition::Now;
use pled_streams::Nats;
use tokio_util::sync::CancellationToken;

/// How often the server is asked for its time.
const EVERY: Duration = Duration::from_secs(2);
/// How many answers are kept; the best of them counts, so a slow one does no harm.
const KEPT: usize = 8;

/// Tells the time of the own monotonic clock, and of the server's clock by it.
///
/// The server's time is what timers are due by. What is told is never later than the truth, by an
/// answer's way back earlier, so no timer fires early however wrong this machine's own wall clock
/// is.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Server time at the start of the own clock; `UNKNOWN` before the first answer.
    offset: AtomicI64,
}

/// Far enough in the past that nothing is due.
const UNKNOWN: Millis = Millis::MIN / 2;

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), offset: AtomicI64::new(UNKNOWN) }
    }

    /// Milliseconds since the start.
    pub(crate) fn monotonic(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        let monotonic = self.monotonic();
        Now { monotonic, wall: self.wall_at(monotonic) }
    }

    fn wall_at(&self, monotonic: u64) -> Millis {
        let own = Millis::try_from(monotonic).unwrap_or(Millis::MAX);
        self.offset.load(Ordering::Relaxed).saturating_add(own)
    }

    /// How long until the server's clock shows `due`; zero if it does.
    pub(crate) fn until(&self, due: Millis) -> Duration {
        let wait = due.saturating_sub(self.now().wall);
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    }

    /// Follows the server's clock until shutdown.
    pub(crate) async fn follow(&self, nats: &Nats, shutdown: &CancellationToken) {
        let mut known = std::collections::VecDeque::with_capacity(KEPT);
        loop {
            if let Ok(told) = pled_streams::clock::server_time(nats).await {
                let heard = Millis::try_from(self.monotonic()).unwrap_or(Millis::MAX);
                if known.len() == KEPT {
                    known.pop_front();
                }
                // Heard at the latest at the end of the millisecond.
                known.push_back(told.saturating_sub(heard).saturating_sub(1));
                let best = known.iter().copied().max().unwrap_or(UNKNOWN);
                self.offset.store(best, Ordering::Relaxed);
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
