//! The nominal times of a schedule, one after the other.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::calendar::Pattern;
use super::zone;
use crate::id::{Hash, ScheduleName};
use crate::message::Millis;

/// How many excluded times in a row are passed over before it is said that none comes.
const EXCLUDED_MAX: u32 = 20_000;

/// When a schedule is due: the union of its patterns and its interval, without what is excluded.
#[derive(Clone, Debug)]
pub struct Times {
    pub(super) zone: TimeZone,
    pub(super) patterns: Vec<Pattern>,
    /// Interval and offset from the epoch, in seconds.
    pub(super) every: Option<(i64, i64)>,
    pub(super) exclude: Vec<Pattern>,
    pub(super) jitter_ms: Millis,
    pub(super) start: Option<Millis>,
    pub(super) end: Option<Millis>,
}

/// A nominal time, and when it is really due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// What the schedule says.
    pub nominal: Millis,
    /// With the jitter.
    pub due: Millis,
}

impl Times {
    /// The first nominal time after an instant; `None`: none comes.
    #[must_use]
    pub fn next(&self, after: Millis) -> Option<Millis> {
        let after = self.start.map_or(after, |start| after.max(start - 1));
        let mut after = after.div_euclid(1_000);
        for _ in 0..EXCLUDED_MAX {
            let of_patterns = self.patterns.iter();
            let of_patterns =
                of_patterns.filter_map(|pattern| zone::next(pattern, &self.zone, after)).min();
            let next = [of_patterns, self.next_interval(after)].into_iter().flatten().min()?;
            if self.end.is_some_and(|end| next.saturating_mul(1_000) > end) {
                return None;
            }
            match self.excluded_until(next) {
                None => return next.checked_mul(1_000),
                // What follows an excluded day is looked for after it, not second by second.
                Some(until) => after = until.max(next + 1) - 1,
            }
        }
        None
    }

    /// The first nominal time after an instant, and when it is due. The jitter is derived from the
    /// schedule's name and the nominal time, and never reaches the next nominal time, so that the
    /// order stays.
    #[must_use]
    pub fn next_firing(&self, name: &ScheduleName, after: Millis) -> Option<Firing> {
        let nominal = self.next(after)?;
        if self.jitter_ms == 0 {
            return Some(Firing { nominal, due: nominal });
        }
        let gap = self.next(nominal).map_or(Millis::MAX, |next| next - nominal);
        let span = gap.min(self.jitter_ms + 1);
        let hash = Hash::of_parts(&[name.as_str().as_bytes(), b"\0", &nominal.to_be_bytes()]);
        let number =
            hash.as_bytes()[..7].iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
        Some(Firing { nominal, due: nominal + number % span })
    }

    /// The next `count` firings after an instant, fewer where no more come.
    #[must_use]
    pub fn preview(&self, name: &ScheduleName, after: Millis, count: usize) -> Vec<Firing> {
        let first = self.next_firing(name, after);
        let next = |firing: &Firing| self.next_firing(name, firing.nominal);
        std::iter::successors(first, next).take(count).collect()
    }

    /// An instant as the clock of the schedule's zone shows it, with offset and zone.
    #[must_use]
    pub fn local_text(&self, instant: Millis) -> String {
        let timestamp = Timestamp::from_millisecond(instant);
        let local =
            timestamp.map(|timestamp| timestamp.to_zoned_datetime(self.zone.clone()).to_string());
        local.unwrap_or_else(|_| instant.to_string())
    }

    fn next_interval(&self, after: i64) -> Option<i64> {
        let (every, offset) = self.every?;
        let passed = after.checked_sub(offset)?.div_euclid(every);
        passed.checked_add(1)?.checked_mul(every)?.checked_add(offset)
    }

    /// The second up to which all is excluded that `second` is excluded with.
    fn excluded_until(&self, second: i64) -> Option<i64> {
        if self.exclude.is_empty() {
            return None;
        }
        let moment = self.zone.to_datetime(Timestamp::from_second(second).ok()?);
        let excluded = self.exclude.iter().filter(|pattern| pattern.contains(moment));
        let until = |pattern: &Pattern| {
            let end = self.zone.to_timestamp(pattern.end_of(moment)?).ok()?;
            Some(end.as_second())
        };
        excluded.map(|pattern| until(pattern).unwrap_or(second + 1)).max()
    }
}
