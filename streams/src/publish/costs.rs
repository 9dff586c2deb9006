//! What the server takes to store one message, and to store a batch.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

/// From how many on a batch pays while nothing is known: measured on a quiet disk.
const BREAK_EVEN: usize = 16;
/// Whatever was measured: few messages never wait for a batch, and many never go singly.
const BOUNDS: RangeInclusive<usize> = 4..=48;
/// The part of a new measurement in the mean.
const WEIGHT: f64 = 0.1;

/// Means over the last few dozen of each, in seconds.
///
/// How long a sync takes differs between disks, and on one disk by the hour, much more than what
/// making a batch takes besides its syncs.
#[derive(Debug, Default)]
pub(super) struct Costs {
    single: Option<f64>,
    batch: Option<f64>,
    /// When the last answer came: before it, the server was at work on that.
    answered: Option<Instant>,
}

impl Costs {
    /// What was sent at `sent` is stored.
    pub(super) fn acknowledged(&mut self, sent: Instant, now: Instant, is_batch: bool) {
        let begun = self.answered.map_or(sent, |answered| answered.max(sent));
        self.answered = Some(now);
        let mean = if is_batch { &mut self.batch } else { &mut self.single };
        let took = now.saturating_duration_since(begun).as_secs_f64();
        *mean = Some(mean.map_or(took, |mean| mean + WEIGHT * (took - mean)));
    }

    /// From how many messages on one batch costs less than as many single ones.
    pub(super) fn break_even(&self) -> usize {
        let (Some(single), Some(batch)) = (self.single, self.batch) else { return BREAK_EVEN };
        let (least, most) = BOUNDS.into_inner();
        // Acknowledgements that come in one read measure next to nothing.
        let single = single.max(Duration::from_micros(1).as_secs_f64());
        (least..most).find(|count| single * as_f64(*count) >= batch).unwrap_or(most)
    }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(single_us: u64, batch_us: u64) -> Costs {
        let (mut costs, mut now) = (Costs::default(), Instant::now());
        for _ in 0..100 {
            for (took, is_batch) in [(single_us, false), (batch_us, true)] {
                let sent = now;
                now += Duration::from_micros(took);
                costs.acknowledged(sent, now, is_batch);
            }
        }
        costs
    }

    #[test]
    fn a_batch_pays_from_where_it_costs_less() {
        assert_eq!(Costs::default().break_even(), 16);
        assert_eq!(measured(180, 3_000).break_even(), 17);
        assert_eq!(measured(1_000, 5_000).break_even(), 5);
    }

    #[test]
    fn the_break_even_stays_within_bounds() {
        assert_eq!(measured(3_000, 3_000).break_even(), 4);
        assert_eq!(measured(1, 1_000_000).break_even(), 48);
    }

    #[test]
    fn messages_on_their_way_together_do_not_count_the_time_of_those_before() {
        let (mut costs, begin) = (Costs::default(), Instant::now());

        for number in 1..=10 {
            costs.acknowledged(begin, begin + Duration::from_millis(number), false);
        }
        costs.acknowledged(begin, begin + Duration::from_millis(15), true);

        assert_eq!(costs.break_even(), 5);
    }
}
