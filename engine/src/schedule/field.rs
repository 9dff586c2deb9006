//! One field of a cron or calendar: a set of numbers, written `*`, `5`, `1-5`, `*/15`, `MON,WED`.

/// What a field counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Its name in faults and in calendars.
    pub(super) name: &'static str,
    pub(super) first: u8,
    pub(super) last: u8,
    /// What numbers may be written as, from `first` on.
    names: &'static [&'static str],
}

pub(super) const SECOND: Kind = Kind { name: "second", first: 0, last: 59, names: &[] };
pub(super) const MINUTE: Kind = Kind { name: "minute", first: 0, last: 59, names: &[] };
pub(super) const HOUR: Kind = Kind { name: "hour", first: 0, last: 23, names: &[] };
pub(super) const DAY_OF_MONTH: Kind = Kind { name: "day_of_month", first: 1, last: 31, names: &[] };
pub(super) const MONTH: Kind = Kind {
    name: "month",
    first: 1,
    last: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 0 and 7 are Sunday.
pub(super) const DAY_OF_WEEK: Kind = Kind {
    name: "day_of_week",
    first: 0,
    last: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

/// The numbers of a field, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) const EMPTY: Self = Self(0);

    /// All that the kind counts.
    pub(super) fn all(kind: Kind) -> Self {
        (kind.first..=kind.last).fold(Self::EMPTY, Self::with)
    }

    pub(super) fn only(number: u8) -> Self {
        Self::EMPTY.with(number)
    }

    pub(super) fn with(self, number: u8) -> Self {
        Self(self.0 | 1 << number)
    }

    pub(super) fn contains(self, number: u8) -> bool {
        self.0 & 1 << number != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The least member that is at least `number`.
    pub(super) fn from(self, number: u8) -> Option<u8> {
        let rest = self.0 & u64::MAX.checked_shl(number.into()).unwrap_or(0);
        (rest != 0).then(|| u8::try_from(rest.trailing_zeros()).unwrap_or(u8::MAX))
    }
}

/// Reads a field; what is special in a list's part is asked for first, and gives `true` if it took
/// the part.
pub(super) fn parse(
    text: &str,
    kind: Kind,
    mut special: impl FnMut(&str) -> Result<bool, String>,
) -> Result<Set, String> {
    let mut set = Set::EMPTY;
    for part in text.split(',') {
        if special(part)? {
            continue;
        }
        for number in range(part, kind)? {
            set = set.with(number);
        }
    }
    Ok(set)
}

fn range(part: &str, kind: Kind) -> Result<Vec<u8>, String> {
    let (range, step) = match part.split_once('/') {
        None => (part, None),
        Some((range, step)) => {
            let step = step.parse::<u8>().ok().filter(|step| *step > 0);
            let step = step.ok_or_else(|| format!("{part:?}: the step must be 1 to 255"))?;
            (range, Some(step))
        }
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" || range == "?" => (kind.first, last_of_all(kind)),
        Some((first, last)) => (number(first, kind)?, end(last, kind)?),
        None => {
            let first = number(range, kind)?;
            (first, if step.is_some() { last_of_all(kind) } else { first })
        }
    };
    if first > last {
        return Err(format!("{part:?}: the range runs backwards; write it as two"));
    }
    Ok((first..=last).step_by(step.unwrap_or(1).into()).collect())
}

/// `*` of the days of the week has seven, not eight.
fn last_of_all(kind: Kind) -> u8 {
    if kind.name == DAY_OF_WEEK.name { 6 } else { kind.last }
}

/// As [`number`]; at the end of a range Sunday is the 7th.
fn end(text: &str, kind: Kind) -> Result<u8, String> {
    let number = number(text, kind)?;
    Ok(if number == 0 && kind.name == DAY_OF_WEEK.name { 7 } else { number })
}

pub(super) fn number(text: &str, kind: Kind) -> Result<u8, String> {
    let named = kind.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|at| u8::try_from(at).ok()).map(|at| at + kind.first);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    named
        .or_else(|| text.parse().ok().filter(|_| digits))
        .filter(|number| (kind.first..=kind.last).contains(number))
        .ok_or_else(|| {
            let names = match kind.names {
                [first, .., last] => format!(" or {first} to {last}"),
                [] | [_] => String::new(),
            };
            let Kind { name, first, last, .. } = kind;
            format!("{text:?} is no {name}: it must be {first} to {last}{names}")
        })
}
