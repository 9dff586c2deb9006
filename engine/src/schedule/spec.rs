//! What a schedule starts and when, as people write it, and what is wrong with it.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::calendar::{Missing, Pattern};
use super::times::Times;
use super::{cron, period};
use crate::id::TemplateSelector;
use crate::message::Millis;
use crate::value::{Object, Value};

/// The largest specification, in bytes of its canonical form.
const BYTES_MAX: usize = 64 << 10;
/// The most crons or calendars.
const PATTERNS_MAX: usize = 32;
/// The most exclusions.
const EXCLUDE_MAX: usize = 366;
/// The longest jitter: a day.
const JITTER_MAX: Millis = 86_400_000;
/// The longest interval: 400 years hold anything.
const EVERY_MAX: Millis = 400 * 366 * 86_400_000;
/// Catch-up window where none is given: a day.
const CATCH_UP_DEFAULT: Millis = 86_400_000;
/// Its bounds: ten seconds, below which a takeover already loses times, and ten years.
const CATCH_UP: (Millis, Millis) = (10_000, 10 * 366 * 86_400_000);

const MEMBERS: [&str; 16] = [
    "template",
    "input",
    "nominal_time_as",
    "cron",
    "calendars",
    "every",
    "offset",
    "exclude",
    "time_zone",
    "jitter_ms",
    "start",
    "end",
    "overlap",
    "catch_up_window_ms",
    "paused",
    "description",
];

/// What becomes of a nominal time while what was started before still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is passed over.
    #[default]
    Skip,
    /// It waits, and further ones are passed over.
    BufferOne,
    /// All wait, and are started one after the other.
    BufferAll,
    /// What runs is asked to end in its own way; this is started when it has.
    CancelOther,
    /// What runs is ended at once; this is started when it has.
    TerminateOther,
    /// It is started beside the others.
    AllowAll,
}

/// All policies.
const OVERLAPS: [Overlap; 6] = [
    Overlap::Skip,
    Overlap::BufferOne,
    Overlap::BufferAll,
    Overlap::CancelOther,
    Overlap::TerminateOther,
    Overlap::AllowAll,
];

impl Overlap {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::BufferOne => "buffer_one",
            Self::BufferAll => "buffer_all",
            Self::CancelOther => "cancel_other",
            Self::TerminateOther => "terminate_other",
            Self::AllowAll => "allow_all",
        }
    }
}

impl std::str::FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = OVERLAPS.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| {
            let known: Vec<_> = OVERLAPS.iter().map(|policy| policy.as_str()).collect();
            format!("{text:?} is no overlap policy; these are: {}", known.join(", "))
        })
    }
}

/// One thing that is wrong with a specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer to the place.
    pub pointer: String,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
}

/// A value is no specification of a schedule: all that is wrong, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSpec {
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl fmt::Display for InvalidSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { pointer, message }) in self.faults.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            let pointer = if pointer.is_empty() { "the schedule" } else { pointer };
            write!(formatter, "{separator}{pointer}: {message}")?;
        }
        Ok(())
    }
}

/// What a schedule starts and when.
#[derive(Clone, Debug)]
pub struct Spec {
    /// As it was given.
    pub source: Value,
    /// What is started.
    pub template: TemplateSelector,
    /// With which input.
    pub input: Value,
    /// The member of the input that is set to the nominal time, in milliseconds since the epoch.
    pub nominal_time_as: Option<Arc<str>>,
    /// When.
    pub times: Times,
    /// What becomes of a time while what was started before still runs.
    pub overlap: Overlap,
    /// How late a time may be started, after nobody was there to start it.
    pub catch_up_window_ms: Millis,
    /// Whether it is created paused.
    pub paused: bool,
}

impl Spec {
    /// Reads a specification.
    ///
    /// # Errors
    /// With all that is wrong, each with the place. That no time would ever come is found by
    /// [`Spec::comes`].
    pub fn parse(source: &Value) -> Result<Self, InvalidSpec> {
        let mut reader = Reader { faults: Vec::new() };
        let spec = reader.spec(source);
        match spec {
            Some(spec) if reader.faults.is_empty() => Ok(spec),
            _ => Err(InvalidSpec { faults: reader.faults }),
        }
    }

    /// Refuses a specification of which no time comes after `now`, such as the 30th of February.
    ///
    /// # Errors
    /// If none comes.
    pub fn comes(&self, now: Millis) -> Result<Millis, InvalidSpec> {
        self.times.next(now).ok_or_else(|| {
            let alone =
                |pattern: &Pattern| super::zone::next(pattern, &self.times.zone, 0).is_none();
            let message = if self.times.patterns.iter().any(alone) && self.times.every.is_none() {
                "no such date exists: it would never start anything"
            } else {
                "no time comes any more: look at `start`, `end` and `exclude`"
            };
            let place = ["cron", "calendars", "every"].into_iter();
            let place = place.into_iter().find(|key| self.source.get(key).is_some());
            let pointer = format!("/{}", place.unwrap_or_default());
            InvalidSpec { faults: vec![Fault { pointer, message: message.to_owned() }] }
        })
    }

    /// The input of the start for a nominal time.
    #[must_use]
    pub fn input_of(&self, nominal: Millis) -> Value {
        let Some(member) = &self.nominal_time_as else { return self.input.clone() };
        let mut input = self.input.as_object().cloned().unwrap_or_else(|| Object::from_iter(NONE));
        input.insert(member.clone(), Value::Int(nominal));
        Value::Object(input)
    }
}

const NONE: [(&str, Value); 0] = [];

/// Collects what is wrong.
struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    fn fault(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault { pointer: pointer.into(), message: message.into() });
    }

    /// Notes what is wrong, if anything is.
    fn note<T>(&mut self, pointer: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.fault(pointer, message)).ok()
    }

    fn spec(&mut self, source: &Value) -> Option<Spec> {
        let Some(members) = source.as_object() else {
            self.fault("", format!("must be an object, not {}", source.kind()));
            return None;
        };
        if source.canonical_len() > BYTES_MAX {
            self.fault("", format!("must have at most {BYTES_MAX} bytes"));
        }
        for (key, _) in members {
            if !MEMBERS.contains(&&**key) {
                let known = MEMBERS.join(", ");
                let key = key.replace('~', "~0").replace('/', "~1");
                self.fault(format!("/{key}"), format!("is no member; these are: {known}"));
            }
        }
        let template = self.template(members);
        let input = members.get("input").cloned().unwrap_or_default();
        let nominal_time_as = self.text(members, "nominal_time_as");
        if nominal_time_as.is_some() && input.as_object().is_none() && !input.is_null() {
            self.fault("/nominal_time_as", "the input must be an object to get a member");
        }
        let times = self.times(members);
        let overlap = self.text(members, "overlap").map(|text| self.note("/overlap", text.parse()));
        let catch_up = self.millis(members, "catch_up_window_ms", CATCH_UP);
        let paused = match members.get("paused") {
            None => false,
            Some(Value::Bool(paused)) => *paused,
            Some(other) => {
                self.fault("/paused", format!("must be true or false, not {}", other.kind()));
                false
            }
        };
        let _ = self.text(members, "description");
        Some(Spec {
            source: source.clone(),
            template: template?,
            input,
            nominal_time_as,
            times: times?,
            overlap: overlap.flatten().unwrap_or_default(),
            catch_up_window_ms: catch_up.unwrap_or(CATCH_UP_DEFAULT),
            paused,
        })
    }

    fn template(&mut self, members: &Object) -> Option<TemplateSelector> {
        if members.get("template").is_none() {
            self.fault("/template", "must be given: `order`, or `order@3` for a fixed version");
        }
        let text = self.text(members, "template")?;
        self.note(
            "/template",
            text.parse().map_err(|error: crate::id::InvalidName| error.to_string()),
        )
    }

    fn text(&mut self, members: &Object, key: &str) -> Option<Arc<str>> {
        let value = members.get(key)?;
        let Value::String(text) = value else {
            self.fault(format!("/{key}"), format!("must be a text, not {}", value.kind()));
            return None;
        };
        Some(text.clone())
    }

    fn millis(
        &mut self,
        members: &Object,
        key: &str,
        (least, most): (Millis, Millis),
    ) -> Option<Millis> {
        let value = members.get(key)?;
        match value.as_int() {
            Some(millis) if (least..=most).contains(&millis) => Some(millis),
            _ => {
                self.fault(format!("/{key}"), format!("must be {least} to {most} milliseconds"));
                None
            }
        }
    }

    fn times(&mut self, members: &Object) -> Option<Times> {
        let zone = self.zone(members);
        let mut patterns = Vec::new();
        for (pointer, value) in one_or_more(members, "cron") {
            let parsed = match value.as_str() {
                Some(text) => cron::parse(text),
                None => Err(format!("must be a text, not {}", value.kind())),
            };
            patterns.extend(self.note(&pointer, parsed));
        }
        for (pointer, value) in one_or_more(members, "calendars") {
            patterns.extend(self.calendar(&pointer, value, Missing::Zero));
        }
        if patterns.len() > PATTERNS_MAX {
            self.fault("", format!("must have at most {PATTERNS_MAX} crons and calendars"));
        }
        let every = self.every(members);
        if ["cron", "calendars", "every"].iter().all(|key| members.get(key).is_none()) {
            self.fault("", "must say when: `cron`, `calendars` or `every`");
        }
        let excluded = one_or_more(members, "exclude");
        if excluded.len() > EXCLUDE_MAX {
            self.fault("/exclude", format!("must have at most {EXCLUDE_MAX} elements"));
        }
        let mut exclude = Vec::new();
        for (pointer, value) in excluded {
            exclude.extend(match value.as_str() {
                Some(day) => self.note(&pointer, day_of(day)).map(Pattern::of_day),
                None => self.calendar(&pointer, value, Missing::Any),
            });
        }
        let start = members.get("start").map(period::instant_of);
        let start = start.and_then(|read| self.note("/start", read));
        let end = members.get("end").map(period::instant_of);
        let end = end.and_then(|read| self.note("/end", read));
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            self.fault("/end", "must not be before `start`");
        }
        let jitter_ms = self.millis(members, "jitter_ms", (0, JITTER_MAX)).unwrap_or(0);
        Some(Times { zone: zone?, patterns, every, exclude, jitter_ms, start, end })
    }

    fn zone(&mut self, members: &Object) -> Option<TimeZone> {
        if members.get("time_zone").is_none() {
            return Some(TimeZone::UTC);
        }
        let name = self.text(members, "time_zone")?;
        let zone = TimeZone::get(&name).map_err(|_| {
            format!("{name:?} is no time zone of the IANA database, such as Europe/Berlin or UTC")
        });
        self.note("/time_zone", zone)
    }

    fn calendar(&mut self, pointer: &str, value: &Value, missing: Missing) -> Option<Pattern> {
        match Pattern::of_calendar(value, missing) {
            Ok(pattern) => Some(pattern),
            Err(faults) => {
                for (place, message) in faults {
                    self.fault(format!("{pointer}{place}"), message);
                }
                None
            }
        }
    }

    fn every(&mut self, members: &Object) -> Option<(i64, i64)> {
        let Some(every) = members.get("every") else {
            if members.get("offset").is_some() {
                self.fault("/offset", "belongs to `every`, which is not given");
            }
            return None;
        };
        let whole = |millis: Millis| {
            if millis % 1_000 == 0 {
                Ok(millis / 1_000)
            } else {
                Err("must be whole seconds".into())
            }
        };
        let every = period::duration(every).and_then(|every| {
            if !(1_000..=EVERY_MAX).contains(&every) {
                return Err(format!("must be 1 second to 400 years ({EVERY_MAX} ms)"));
            }
            whole(every)
        });
        let every = self.note("/every", every);
        let offset = members.get("offset").map_or(Ok(0), period::duration);
        let offset = offset.and_then(whole).and_then(|offset| match every {
            Some(every) if !(0..every).contains(&offset) => {
                Err("must be at least 0 and less than `every`".to_owned())
            }
            Some(_) | None => Ok(offset),
        });
        let offset = self.note("/offset", offset);
        Some((every?, offset?))
    }
}

/// The elements of a member that is one of something or a list of them, each with its pointer.
fn one_or_more<'v>(members: &'v Object, key: &str) -> Vec<(String, &'v Value)> {
    match members.get(key) {
        None => Vec::new(),
        Some(Value::Array(elements)) => {
            let place = |(at, element)| (format!("/{key}/{at}"), element);
            elements.iter().enumerate().map(place).collect()
        }
        Some(one) => vec![(format!("/{key}"), one)],
    }
}

fn day_of(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| format!("{text:?} is no day such as 2026-12-25"))
}
