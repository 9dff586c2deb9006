//! PLED_TIMERS: native schedules, and firing before they do.

use async_nats::{HeaderMap, header};
use pled_engine::id::{ExecutionId, Token};
use pled_engine::message::Millis;
use pled_engine::partition::Published;

use crate::connection::Nats;
use crate::publish::{Publication, set_header};
use crate::subject::{DUE, StreamKind};

/// Sets a timer: the server publishes it at `due` or up to a quarter of a second later. Setting it
/// again replaces the schedule.
pub fn set(
    nats: &Nats,
    partition: u16,
    execution: &ExecutionId,
    timer: Token,
    due: Millis,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let names = nats.names();
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_SCHEDULE, format!("@at {}", rfc3339(due)));
    headers.insert(header::NATS_SCHEDULE_TARGET, names.fired(partition, execution, timer));
    set_header(&mut headers, DUE, &due.to_string());
    nats.publisher(StreamKind::Timers).publish(Publication {
        subject: names.timer(partition, execution, timer),
        headers,
        ..Publication::default()
    })
}

/// Takes back a timer. It may have fired, or not be there at all.
pub fn cancel(
    nats: &Nats,
    partition: u16,
    execution: &ExecutionId,
    timer: Token,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let names = nats.names();
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_SCHEDULER, names.timer(partition, execution, timer));
    headers.insert(header::NATS_SCHEDULE_NEXT, PURGE);
    nats.publisher(StreamKind::Timers).publish(Publication {
        subject: names.cancelled(partition, execution, timer),
        headers,
        ..Publication::default()
    })
}

/// Fires a timer now and takes back its schedule, in one message.
pub fn fire(
    nats: &Nats,
    partition: u16,
    execution: &ExecutionId,
    timer: Token,
    due: Millis,
) -> impl Future<Output = Published> + Send + 'static + use<> {
    let names = nats.names();
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_SCHEDULER, names.timer(partition, execution, timer));
    headers.insert(header::NATS_SCHEDULE_NEXT, PURGE);
    set_header(&mut headers, DUE, &due.to_string());
    nats.publisher(StreamKind::Timers).publish(Publication {
        subject: names.fired(partition, execution, timer),
        headers,
        ..Publication::default()
    })
}

/// The next run of a schedule that has none any more.
const PURGE: &str = "purge";

/// A time as `2025-11-24T16:00:00.123Z`; times outside of the years 1970 to 9999 are moved there.
#[must_use]
pub fn rfc3339(millis: Millis) -> String {
    const LAST: Millis = 253_402_300_799_999;
    let millis = millis.clamp(0, LAST);
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar. Years begin
/// in March here, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_written_as_the_server_reads_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200_001, "2024-03-01T00:00:00.001Z"),
            (1_764_000_000_123, "2025-11-24T16:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-5, "1970-01-01T00:00:00.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(millis), text);
        }
    }
}
