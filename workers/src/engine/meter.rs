//! What a partition counts, as metrics.

use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use pled_engine::message::Millis;
use pled_engine::partition::{Partition, Stats};

/// How often the counts are carried over.
const EVERY: Duration = Duration::from_millis(500);

/// What a metric shows of the counts.
type Of = fn(&Stats) -> u64;

/// Carries the counts of a partition over to the recorder, which is asked for each metric once.
pub(super) struct Meter {
    counted: Stats,
    at: Instant,
    latency: Histogram,
    counters: [(Counter, Of); 15],
    gauges: [(Gauge, Of); 5],
}

impl Meter {
    pub(super) fn new(partition: u16) -> Self {
        let outcome = |outcome: &'static str| counter!("pled_messages_total", "outcome" => outcome);
        let of = |name: &'static str| gauge!(name, "partition" => partition.to_string());
        Self {
            counted: Stats::default(),
            at: Instant::now(),
            latency: histogram!("pled_event_to_transition_seconds"),
            counters: [
                (counter!("pled_transitions_total"), |stats| {
                    stats.taken.saturating_sub(stats.ignored + stats.rejected)
                }),
                (counter!("pled_entries_total"), |stats| stats.entries),
                (counter!("pled_commit_conflicts_total"), |stats| stats.conflicts),
                (counter!("pled_publish_unknown_total"), |stats| stats.unknown),
                (counter!("pled_publish_full_total"), |stats| stats.full),
                (counter!("pled_redispatches_total"), |stats| stats.redispatched),
                (counter!("pled_tasks_total"), |stats| stats.tasks),
                (counter!("pled_timers_fired_total"), |stats| stats.fired),
                (counter!("pled_executions_loaded_total"), |stats| stats.loads),
                (outcome("ignored"), |stats| stats.ignored),
                (outcome("rejected"), |stats| stats.rejected),
                (outcome("repeat"), |stats| stats.repeats + stats.exists),
                (outcome("stale"), |stats| stats.stale),
                (outcome("closed"), |stats| stats.closed),
                (outcome("dead"), |stats| stats.dead),
            ],
            gauges: [
                (of("pled_stuck_executions"), |stats| stats.stuck),
                (of("pled_messages_open"), |stats| stats.open),
                (of("pled_executions_cached"), |stats| stats.cached),
                (of("pled_executions_cached_bytes"), |stats| stats.cached_bytes),
                (of("pled_timers_pending"), |stats| stats.near_timers),
            ],
        }
    }

    /// An entry was acknowledged this long after its newest cause was accepted.
    pub(super) fn entry_committed(&self, after: Millis) {
        // While the server's clock is not known the difference is nonsense.
        const DAY: Millis = 86_400_000;
        if (-DAY..DAY).contains(&after) {
            self.latency.record(Duration::from_millis(u64::try_from(after).unwrap_or(0)));
        }
    }

    /// Carries over what was counted since the last time, unless that was a moment ago and the
    /// partition goes on.
    pub(super) fn count(&mut self, partition: &Partition) {
        if self.at.elapsed() < EVERY && !partition.is_over() {
            return;
        }
        self.at = Instant::now();
        let stats = partition.stats();
        for (counter, of) in &self.counters {
            counter.increment(of(&stats).saturating_sub(of(&self.counted)));
        }
        for (gauge, of) in &self.gauges {
            // Exact up to 2^32, which none of them comes near.
            gauge.set(u32::try_from(of(&stats)).unwrap_or(u32::MAX));
        }
        self.counted = stats;
    }
}
