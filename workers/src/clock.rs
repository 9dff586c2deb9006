//! The worker's clocks: its own, and what it knows of the server's.

use std::collections::VecDeque;
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
/// is. Where the server's clock is put back, that is known after the next answer; what fired
/// meanwhile before it was due is set again by whoever owns its partition.
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
        let mut told = Told::default();
        let own = || Millis::try_from(self.monotonic()).unwrap_or(Millis::MAX);
        loop {
            let asked = own();
            if let Ok(time) = pled_streams::clock::server_time(nats).await {
                self.offset.store(told.take(asked, time, own()), Ordering::Relaxed);
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// What the server told lately of its clock.
#[derive(Debug, Default)]
struct Told(VecDeque<Millis>);

impl Told {
    /// The best that is known of the offset after an answer. What was told is as of a moment between
    /// `asked` and `heard`; so an answer that was fast enough shows that the clock was put back, and
    /// what was told before is forgotten.
    fn take(&mut self, asked: Millis, told: Millis, heard: Millis) -> Millis {
        let latest = told.saturating_sub(asked);
        self.0.retain(|known| *known <= latest);
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        // Heard at the latest at the end of the millisecond.
        self.0.push_back(told.saturating_sub(heard).saturating_sub(1));
        self.0.iter().copied().max().unwrap_or(UNKNOWN)
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_what_was_told_counts() {
        let mut told = Told::default();
        assert_eq!(told.take(10, 1_000_015, 20), 999_994);
        assert_eq!(told.take(2_000, 1_002_004, 2_005), 999_998, "a faster answer");
        assert_eq!(told.take(4_000, 1_004_001, 4_400), 999_998, "a slow one does no harm");
    }

    #[test]
    fn a_clock_that_was_put_back_is_known_at_once() {
        let mut told = Told::default();
        told.take(0, 1_000_000, 1);

        assert_eq!(told.take(2_000, 987_002, 2_003), 984_998);
    }
}
