//! Percentiles of a run.

use std::time::Duration;

/// The value below which `part` (0 to 1) of the sorted samples lie, in milliseconds.
pub(crate) fn percentile_ms(sorted: &[Duration], part: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    let last = sorted.len() - 1;
    let rank = (part * f64::from(u32::try_from(last).unwrap_or(u32::MAX))).round();
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank lies between 0 and the number of samples"
    )]
    let index = (rank as usize).min(last);
    (sorted[index].as_secs_f64() * 1e6).round() / 1e3
}

/// `count` per second over `span`, rounded to whole ones.
pub(crate) fn rate(count: usize, span: Duration) -> f64 {
    (f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / span.as_secs_f64()).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks_of_the_sorted_samples() {
        let sorted: Vec<_> = (1..=101).map(Duration::from_millis).collect();

        assert!((percentile_ms(&sorted, 0.5) - 51.0).abs() < 1e-9);
        assert!((percentile_ms(&sorted, 0.99) - 100.0).abs() < 1e-9);
        assert!((percentile_ms(&[], 0.5)).abs() < 1e-9);
    }
}
