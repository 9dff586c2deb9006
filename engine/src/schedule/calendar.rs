//! Which moments of a local clock are meant, and the next of them.

use jiff::civil::{Date, DateTime, Time, Weekday, date};

use super::field::{self, Kind, Set};
use crate::value::Value;

/// The Gregorian calendar begins anew after so many years: what does not come in them never comes.
const YEARS: i16 = 400;

/// A set of moments of a local clock, in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) seconds: Set,
    pub(super) minutes: Set,
    pub(super) hours: Set,
    pub(super) months: Set,
    pub(super) days: DaysOfMonth,
    pub(super) weekdays: DaysOfWeek,
    /// Whether a day is meant that is in one of the two, not in both: as cron has it where neither
    /// field begins with `*`.
    pub(super) either_day: bool,
    /// First and last year, where they are bounded.
    pub(super) years: Option<Vec<(i16, i16)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DaysOfMonth {
    pub(super) days: Set,
    /// How many days before the last.
    pub(super) from_the_end: Set,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DaysOfWeek {
    pub(super) days: Set,
    /// The last such day of the month.
    pub(super) last: Set,
    /// Day and which of the month, from 1.
    pub(super) nth: Vec<(u8, u8)>,
}

/// What a field is that a calendar leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Second, minute and hour are 0, as what is started at a time of day wants it.
    Zero,
    /// Any, as what is left out wants it.
    Any,
}

impl Pattern {
    /// Reads a calendar. Faults are a pointer within it and a sentence.
    pub(super) fn of_calendar(
        calendar: &Value,
        missing: Missing,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let Some(members) = calendar.as_object() else {
            return Err(vec![(
                String::new(),
                format!("must be an object of fields, not {}", calendar.kind()),
            )]);
        };
        let known = [
            field::SECOND.name,
            field::MINUTE.name,
            field::HOUR.name,
            field::DAY_OF_MONTH.name,
            field::MONTH.name,
            field::DAY_OF_WEEK.name,
            "year",
        ];
        for (key, _) in members {
            if !known.contains(&&**key) {
                let message = format!("is no field; these are: {}", known.join(", "));
                faults.push((format!("/{key}"), message));
            }
        }
        let mut read = |name: &str| match members.get(name) {
            None => None,
            Some(Value::Int(number)) => Some(number.to_string()),
            Some(Value::String(text)) => Some(text.to_string()),
            Some(other) => {
                let message = format!("must be a number or a text, not {}", other.kind());
                faults.push((format!("/{name}"), message));
                None
            }
        };
        let zero = if missing == Missing::Zero { "0" } else { "*" };
        let kinds = [field::SECOND, field::MINUTE, field::HOUR];
        let times = kinds.map(|kind| (kind, read(kind.name).unwrap_or_else(|| zero.into())));
        let any = |text: Option<String>| text.unwrap_or_else(|| "*".into());
        let day = any(read(field::DAY_OF_MONTH.name));
        let month = any(read(field::MONTH.name));
        let weekday = any(read(field::DAY_OF_WEEK.name));
        let year = read("year");
        let mut keep = |name: &str, fault: String| faults.push((format!("/{name}"), fault));
        let [seconds, minutes, hours] = times.map(|(kind, text)| {
            plain(&text, kind).unwrap_or_else(|fault| {
                keep(kind.name, fault);
                Set::EMPTY
            })
        });
        let days = DaysOfMonth::parse(&day).unwrap_or_else(|fault| {
            keep(field::DAY_OF_MONTH.name, fault);
            DaysOfMonth { days: Set::EMPTY, from_the_end: Set::EMPTY }
        });
        let months = plain(&month, field::MONTH).unwrap_or_else(|fault| {
            keep(field::MONTH.name, fault);
            Set::EMPTY
        });
        let weekdays = DaysOfWeek::parse(&weekday).unwrap_or_else(|fault| {
            keep(field::DAY_OF_WEEK.name, fault);
            DaysOfWeek { days: Set::EMPTY, last: Set::EMPTY, nth: Vec::new() }
        });
        let years = years(year.as_deref().unwrap_or("*")).unwrap_or_else(|fault| {
            keep("year", fault);
            None
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { seconds, minutes, hours, months, days, weekdays, either_day: false, years })
    }

    /// All moments of one day.
    pub(super) fn of_day(day: Date) -> Self {
        let number = |number: i8| u8::try_from(number).unwrap_or_default();
        Self {
            seconds: Set::all(field::SECOND),
            minutes: Set::all(field::MINUTE),
            hours: Set::all(field::HOUR),
            months: Set::only(number(day.month())),
            days: DaysOfMonth { days: Set::only(number(day.day())), from_the_end: Set::EMPTY },
            weekdays: DaysOfWeek::all(),
            either_day: false,
            years: Some(vec![(day.year(), day.year())]),
        }
    }

    /// Whether it goes on through every hour, so that an hour that comes twice counts twice.
    pub(super) fn is_every_hour(&self) -> bool {
        self.hours == Set::all(field::HOUR)
    }

    pub(super) fn contains(&self, moment: DateTime) -> bool {
        let number = |number: i8| u8::try_from(number).unwrap_or_default();
        self.has_month(moment.date())
            && self.has_day(moment.date())
            && self.hours.contains(number(moment.hour()))
            && self.minutes.contains(number(moment.minute()))
            && self.seconds.contains(number(moment.second()))
    }

    /// The first moment after one that is contained of which that need not be so: the least unit
    /// whose field is not `*` is over.
    pub(super) fn end_of(&self, contained: DateTime) -> Option<DateTime> {
        let (day, time) = (contained.date(), contained.time());
        let all = |set: Set, kind: Kind| set == Set::all(kind);
        let (second, minute, hour) = (
            all(self.seconds, field::SECOND),
            all(self.minutes, field::MINUTE),
            all(self.hours, field::HOUR),
        );
        let span = jiff::Span::new();
        let (start, step) = match (second, minute, hour) {
            (true, true, true) => return Some(day.tomorrow().ok()?.at(0, 0, 0, 0)),
            (true, true, false) => (day.at(time.hour(), 0, 0, 0), span.hours(1)),
            (true, false, _) => (day.at(time.hour(), time.minute(), 0, 0), span.minutes(1)),
            (false, _, _) => (contained, span.seconds(1)),
        };
        start.checked_add(step).ok()
    }

    /// The first moment that is meant, `from` included.
    pub(super) fn next(&self, from: DateTime) -> Option<DateTime> {
        let (mut day, mut time) = (from.date(), from.time());
        let last = from.year().saturating_add(YEARS);
        while day.year() <= last {
            if !self.has_month(day) {
                day = first_of_next_month(day)?;
                time = Time::midnight();
                continue;
            }
            if self.has_day(day)
                && let Some(found) = self.next_time(time)
            {
                return Some(day.to_datetime(found));
            }
            day = day.tomorrow().ok()?;
            time = Time::midnight();
        }
        None
    }

    fn has_month(&self, day: Date) -> bool {
        let within = |(first, last): &(i16, i16)| (*first..=*last).contains(&day.year());
        self.months.contains(u8::try_from(day.month()).unwrap_or_default())
            && self.years.as_ref().is_none_or(|years| years.iter().any(within))
    }

    fn has_day(&self, day: Date) -> bool {
        let (of_month, of_week) = (self.days.contains(day), self.weekdays.contains(day));
        if self.either_day { of_month || of_week } else { of_month && of_week }
    }

    fn next_time(&self, from: Time) -> Option<Time> {
        let number = |number: i8| u8::try_from(number).unwrap_or_default();
        let at = |hour: u8, minute: u8, second: u8| {
            let [hour, minute, second] =
                [hour, minute, second].map(|number| i8::try_from(number).unwrap_or_default());
            Time::new(hour, minute, second, 0).ok()
        };
        let (hour, minute, second) =
            (number(from.hour()), number(from.minute()), number(from.second()));
        let (first_minute, first_second) = (self.minutes.from(0)?, self.seconds.from(0)?);
        if self.hours.contains(hour) {
            if self.minutes.contains(minute)
                && let Some(second) = self.seconds.from(second)
            {
                return at(hour, minute, second);
            }
            if let Some(minute) = self.minutes.from(minute + 1) {
                return at(hour, minute, first_second);
            }
        }
        at(self.hours.from(hour + 1)?, first_minute, first_second)
    }
}

impl DaysOfMonth {
    /// A field that may also have `L`, the last day, and `L-3`, three before it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut from_the_end = Set::EMPTY;
        let days = field::parse(text, field::DAY_OF_MONTH, |part| {
            let part = part.to_ascii_uppercase();
            let Some(before) = part.strip_prefix('L') else { return Ok(false) };
            let before = match before.strip_prefix('-') {
                None if before.is_empty() => 0,
                Some(before) => before
                    .parse()
                    .ok()
                    .filter(|before| *before <= 30)
                    .ok_or_else(|| format!("{part:?}: L-0 to L-30"))?,
                None => return Err(format!("{part:?}: L or L-<days>")),
            };
            from_the_end = from_the_end.with(before);
            Ok(true)
        })?;
        Ok(Self { days, from_the_end })
    }

    fn contains(&self, day: Date) -> bool {
        let number = |number: i8| u8::try_from(number).unwrap_or_default();
        self.days.contains(number(day.day()))
            || !self.from_the_end.is_empty()
                && self.from_the_end.contains(number(day.days_in_month() - day.day()))
    }
}

impl DaysOfWeek {
    fn all() -> Self {
        Self { days: Set::all(field::DAY_OF_WEEK), last: Set::EMPTY, nth: Vec::new() }
    }

    /// A field that may also have `MON#2`, the second Monday, and `FRIL`, the last Friday.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut last, mut nth) = (Set::EMPTY, Vec::new());
        let sunday = |day: u8| day % 7;
        let days = field::parse(text, field::DAY_OF_WEEK, |part| {
            if let Some((day, which)) = part.split_once('#') {
                let which = which.parse().ok().filter(|which| (1..=5).contains(which));
                let which = which.ok_or_else(|| format!("{part:?}: #1 to #5"))?;
                nth.push((sunday(field::number(day, field::DAY_OF_WEEK)?), which));
                return Ok(true);
            }
            let Some(day) = part.strip_suffix(['L', 'l']).filter(|day| !day.is_empty()) else {
                return Ok(false);
            };
            last = last.with(sunday(field::number(day, field::DAY_OF_WEEK)?));
            Ok(true)
        })?;
        let days = if days.contains(7) { days.with(0) } else { days };
        Ok(Self { days, last, nth })
    }

    fn contains(&self, day: Date) -> bool {
        let weekday = of_week(day.weekday());
        let which = u8::try_from((day.day() - 1) / 7 + 1).unwrap_or_default();
        self.days.contains(weekday)
            || self.nth.contains(&(weekday, which))
            || self.last.contains(weekday) && day.days_in_month() - day.day() < 7
    }
}

fn of_week(day: Weekday) -> u8 {
    u8::try_from(day.to_sunday_zero_offset()).unwrap_or_default()
}

fn first_of_next_month(day: Date) -> Option<Date> {
    if day.month() == 12 {
        return Date::new(day.year().checked_add(1)?, 1, 1).ok();
    }
    Some(date(day.year(), day.month() + 1, 1))
}

/// A field without anything special.
pub(super) fn plain(text: &str, kind: Kind) -> Result<Set, String> {
    field::parse(text, kind, |_| Ok(false))
}

fn years(text: &str) -> Result<Option<Vec<(i16, i16)>>, String> {
    if text == "*" {
        return Ok(None);
    }
    let year = |text: &str| {
        let year = text.parse::<i16>().ok().filter(|year| (1970..=9998).contains(year));
        year.ok_or_else(|| format!("{text:?} is no year: it must be 1970 to 9998"))
    };
    let parts = text.split(',').map(|part| match part.split_once('-') {
        None => year(part).map(|year| (year, year)),
        Some((first, last)) => Ok((year(first)?, year(last)?)),
    });
    parts.collect::<Result<_, _>>().map(Some)
}
