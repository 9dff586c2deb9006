//! From moments of a local clock to instants, across changes of its offset.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::calendar::Pattern;

/// No two offsets of a zone are further apart.
const OFFSETS_APART: SignedDuration = SignedDuration::from_hours(48);

/// The first instant after `after` at which the zone's clock shows a moment of the pattern, in
/// whole seconds since the epoch.
///
/// A moment that the clock leaves out, when it is set forward, stands for the instant at which it
/// is set. One that it shows twice, when it is set back, counts the first time; where the pattern
/// goes on through every hour, it counts both times, so that no hour is without.
pub(super) fn next(pattern: &Pattern, zone: &TimeZone, after: i64) -> Option<i64> {
    let second = SignedDuration::from_secs(1);
    let mut at = Timestamp::from_second(after.checked_add(1)?).ok()?;
    loop {
        let offset = zone.to_offset(at);
        let mut from = offset.to_datetime(at);
        // Since the last change of the offset it is this one.
        let changed = zone.preceding(at.checked_add(second).ok()?).next();
        if let Some(changed) = changed.filter(|_| !pattern.is_every_hour()) {
            let changed = changed.timestamp();
            let before = zone.to_offset(changed.checked_sub(second).ok()?);
            from = from.max(before.to_datetime(changed));
        }
        let found = pattern.next(from)?;
        let instant = offset.to_timestamp(found).ok()?;
        let Some(ends) = zone.following(at).next().map(|ends| ends.timestamp()) else {
            return Some(instant.as_second());
        };
        if instant < ends {
            return Some(instant.as_second());
        }
        if found < zone.to_offset(ends).to_datetime(ends) {
            return Some(ends.as_second());
        }
        // Nothing is meant before what was found, whatever the offset is then.
        at = ends.max(instant.checked_sub(OFFSETS_APART).ok()?);
    }
}
