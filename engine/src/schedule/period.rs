//! Durations and instants as people write them.

use jiff::Timestamp;

use crate::message::Millis;
use crate::value::Value;

/// A duration: milliseconds, or in ISO 8601 `PT15M`, `P1DT12H`, `P2W`. A day has 24 hours.
pub(super) fn duration(value: &Value) -> Result<Millis, String> {
    match value {
        Value::Int(millis) => Ok(*millis),
        Value::String(text) => of_text(text),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Array(_) | Value::Object(_) => Err(
            format!("must be milliseconds or an ISO 8601 duration (PT15M), not {}", value.kind()),
        ),
    }
}

fn of_text(text: &str) -> Result<Millis, String> {
    let wrong = || format!("{text:?} is no ISO 8601 duration such as PT15M or P1DT12H");
    let upper = text.to_ascii_uppercase();
    let rest = upper.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return Err(wrong()),
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if date.contains(['Y', 'M']) {
        return Err(format!(
            "{text:?}: years and months have no fixed length; use cron or calendars"
        ));
    }
    let units = [
        (date, &[('W', 604_800), ('D', 86_400)][..]),
        (time, &[('H', 3_600), ('M', 60), ('S', 1)][..]),
    ];
    let mut seconds = 0_i64;
    for (mut part, units) in units {
        for (unit, worth) in units {
            let Some((count, rest)) = part.split_once(*unit) else { continue };
            let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
            let count = count.parse::<i64>().ok().filter(|_| digits).ok_or_else(wrong)?;
            let worth = count.checked_mul(*worth).ok_or_else(wrong)?;
            seconds = seconds.checked_add(worth).ok_or_else(wrong)?;
            part = rest;
        }
        if !part.is_empty() {
            return Err(wrong());
        }
    }
    seconds.checked_mul(1_000).ok_or_else(wrong)
}

/// An instant: `2026-03-29T01:00:00Z`, with any offset, or milliseconds since the epoch.
///
/// # Errors
/// With a sentence, if it is neither.
pub fn instant(text: &str) -> Result<Millis, String> {
    let is_number =
        text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    if let Some(millis) = text.parse().ok().filter(|_| is_number) {
        // What cannot be told as a date is no instant.
        return Timestamp::from_millisecond(millis).map(|_| millis).map_err(|e| e.to_string());
    }
    text.parse::<Timestamp>().map(|timestamp| timestamp.as_millisecond()).map_err(|_| {
        format!(
            "{text:?} is no instant such as 2026-03-29T01:00:00Z, nor milliseconds since the epoch"
        )
    })
}

pub(super) fn instant_of(value: &Value) -> Result<Millis, String> {
    match value {
        Value::Int(millis) => instant(&millis.to_string()),
        Value::String(text) => instant(text),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("must be an instant such as 2026-03-29T01:00:00Z, not {}", value.kind()))
        }
    }
}

/// An instant as RFC 3339 says it, in UTC.
#[must_use]
pub fn instant_text(millis: Millis) -> String {
    let timestamp = Timestamp::from_millisecond(millis);
    timestamp.map_or_else(|_| millis.to_string(), |timestamp| timestamp.to_string())
}

/// An instant as a token of an id: `20260329T010000Z`, with three more digits for milliseconds.
pub(super) fn instant_token(millis: Millis, with_millis: bool) -> String {
    let moment = jiff::tz::Offset::UTC
        .to_datetime(Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH));
    let thousandths = if with_millis {
        format!("{:03}", moment.subsec_nanosecond() / 1_000_000)
    } else {
        String::new()
    };
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}{thousandths}Z",
        moment.year(),
        moment.month(),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}
