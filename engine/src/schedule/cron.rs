//! Cron expressions: five fields, six with seconds, or a word such as `@daily`.

use super::calendar::{DaysOfMonth, DaysOfWeek, Pattern, plain};
use super::field::{self, Set};

/// The words that stand for an expression.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Reads an expression, or says in a sentence what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Pattern, String> {
    let text = text.trim();
    let text = match WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        Some((_, stands_for)) => stands_for,
        None if text.starts_with('@') => {
            let words: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
            return Err(format!("{text:?} is none of {}; or use `every`", words.join(", ")));
        }
        None => text,
    };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let (second, [minute, hour, day, month, weekday]) = match *fields {
        [minute, hour, day, month, weekday] => (None, [minute, hour, day, month, weekday]),
        [second, minute, hour, day, month, weekday] => {
            (Some(second), [minute, hour, day, month, weekday])
        }
        _ => {
            return Err(format!(
                "it has {} fields, and must have 5 (minute hour day month weekday) or 6 (with \
                 seconds before them)",
                fields.len()
            ));
        }
    };
    let is_free = |field: &str| field.starts_with(['*', '?']);
    Ok(Pattern {
        seconds: second.map_or(Ok(Set::only(0)), |second| plain(second, field::SECOND))?,
        minutes: plain(minute, field::MINUTE)?,
        hours: plain(hour, field::HOUR)?,
        months: plain(month, field::MONTH)?,
        days: DaysOfMonth::parse(day)?,
        weekdays: DaysOfWeek::parse(weekday)?,
        either_day: !is_free(day) && !is_free(weekday),
        years: None,
    })
}
