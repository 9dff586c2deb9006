//! What one journal entry becomes in Postgres: values, decided without a database.

use pled_engine::entry::{Cause, JournalEntry, Outcome};
use pled_engine::id::{Hash, TemplateRef};
use pled_engine::message::Source;
use pled_engine::value::Value;

/// An identifier that depends on nothing but what it names: the first 16 bytes of a SHA-256, with
/// the version bits of a UUIDv8 (RFC 9562).
#[must_use]
pub fn derived_id(kind: &str, parts: &[&str]) -> [u8; 16] {
    let text = format!("{kind}\n{}", parts.join("\n"));
    let hash = Hash::of(text.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

/// The row of `templates` that an execution is pinned to.
#[must_use]
pub fn template_id(template: &TemplateRef) -> [u8; 16] {
    derived_id("template", &[&template.to_string()])
}

/// A row of `messages`; for the stream events one of `events` too.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: [u8; 16],
    /// The cause's index in its entry.
    pub cause_index: i32,
    /// The stream.
    pub stream: &'static str,
    /// Its sequence there.
    pub stream_seq: i64,
    /// What happened.
    pub message_type: String,
    /// The payload as JSON.
    pub payload: String,
    /// The client's id.
    pub event_id: Option<String>,
    /// What became of it.
    pub outcome: &'static str,
    /// Why it was rejected.
    pub error: Option<String>,
    /// Stream time, in milliseconds.
    pub time: i64,
}

/// The rows of `messages` of an entry.
#[must_use]
pub fn messages(entry: &JournalEntry) -> Vec<MessageRow> {
    let seq = entry.seq.to_string();
    let row = |(index, cause): (usize, &Cause)| MessageRow {
        id: derived_id("message", &[entry.execution.as_str(), &seq, &index.to_string()]),
        cause_index: i32::try_from(index).unwrap_or(i32::MAX),
        stream: match cause.stream {
            Source::Events => "events",
            Source::Signals => "signals",
            Source::Timers => "timers",
            Source::Own => "self",
        },
        stream_seq: i64::try_from(cause.stream_seq).unwrap_or(i64::MAX),
        message_type: cause.cause_type.to_string(),
        payload: jsonb(&cause.data),
        event_id: cause.id.as_deref().map(without_nul),
        outcome: match cause.outcome {
            Outcome::Applied => "applied",
            Outcome::Ignored => "ignored",
            Outcome::Deferred => "deferred",
            Outcome::Rejected => "rejected",
        },
        error: cause.error.as_deref().map(without_nul),
        time: cause.time,
    };
    entry.causes.iter().enumerate().map(row).collect()
}

/// A value as text that JSONB takes: U+0000, which Postgres cannot hold, becomes U+2400.
#[must_use]
pub fn jsonb(value: &Value) -> String {
    jsonb_of(&value.to_string()).0
}

/// JSON text in RFC 8785 form as text that JSONB takes, and whether it had to be changed.
#[must_use]
pub fn jsonb_of(json: &str) -> (String, bool) {
    if !json.contains("\\u0000") {
        return (json.to_owned(), false);
    }
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    let mut changed = false;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        if rest[at..].starts_with("\\u0000") {
            text.push('\u{2400}');
            changed = true;
            rest = &rest[at + 6..];
        } else {
            // In JSON a backslash is always followed by an ASCII character.
            text.push_str(&rest[at..at + 2]);
            rest = &rest[at + 2..];
        }
    }
    text.push_str(rest);
    (text, changed)
}

/// Text as Postgres takes it.
#[must_use]
pub fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_cannot_hold_is_replaced_and_said() {
        let value = Value::parse(br#"{"a":"x\u0000y","b":"\\u0000"}"#).unwrap();

        let (text, changed) = jsonb_of(&value.to_string());

        assert!(changed);
        assert_eq!(text, r#"{"a":"x␀y","b":"\\u0000"}"#);
        assert_eq!(jsonb_of(r#"{"b":"\\u0000"}"#), (r#"{"b":"\\u0000"}"#.to_owned(), false));
    }

    #[test]
    fn derived_ids_are_uuids_of_what_they_name() {
        let id = derived_id("action", &["order-1", "7-0"]);

        assert_eq!(id, derived_id("action", &["order-1", "7-0"]));
        assert_ne!(id, derived_id("action", &["order-17", "-0"]));
        assert_eq!((id[6] >> 4, id[8] >> 6), (8, 2));
    }
}
