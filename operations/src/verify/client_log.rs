//! What clients know: the events whose storing was acknowledged to them.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use pled_engine::id::ExecutionId;
use pled_streams::ingest::RawEvent;
use serde::{Deserialize, Serialize};

/// A line of a client's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// `events` (the default), or `ingest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<String>,
    /// For whom it was; at the door `ingest` nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// Its type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Its id, where the client gave one.
    #[serde(default, alias = "event_id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it was acknowledged, by the client's clock, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked_at: Option<i64>,
    /// The sequence in the acknowledgement.
    pub stream_seq: u64,
}

/// Reads a log.
///
/// # Errors
/// With the number of a line that is none, and why.
pub fn read(source: impl BufRead) -> Result<Vec<Acknowledged>, String> {
    let mut log = Vec::new();
    for (line, number) in source.lines().zip(1..) {
        let line = line.map_err(|error| format!("line {number}: {error}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let acknowledged: Acknowledged =
            serde_json::from_str(&line).map_err(|error| format!("line {number}: {error}"))?;
        let is_ingest = acknowledged.door.as_deref() == Some("ingest");
        let is_known =
            acknowledged.door.as_deref().is_none_or(|door| door == "events") || is_ingest;
        if !is_known {
            return Err(format!("line {number}: `door` is `events` or `ingest`"));
        }
        if acknowledged.execution.is_none() && !is_ingest {
            return Err(format!("line {number}: `execution` is missing"));
        }
        log.push(acknowledged);
    }
    Ok(log)
}

/// The logs of all clients, and what is known of each line.
#[derive(Debug, Default)]
pub(super) struct ClientLog {
    pub(super) lines: Vec<(Acknowledged, bool)>,
    by_seq: HashMap<(ExecutionId, u64), Vec<usize>>,
    by_id: HashMap<(ExecutionId, String), Vec<usize>>,
    by_ingest: HashMap<u64, Vec<usize>>,
    /// The raw events of which it is known what became of them.
    known_raw: HashSet<u64>,
    /// Raw events by source and id: where one was published again, the first alone was taken.
    raw: HashMap<(String, String), Vec<u64>>,
}

impl ClientLog {
    pub(super) fn of(log: Vec<Acknowledged>) -> Self {
        let mut known = Self::default();
        for (at, line) in log.iter().enumerate() {
            match &line.execution {
                Some(execution) if line.door.as_deref() != Some("ingest") => {
                    let seq = (execution.clone(), line.stream_seq);
                    known.by_seq.entry(seq).or_default().push(at);
                    if let Some(id) = &line.id {
                        let id = (execution.clone(), id.clone());
                        known.by_id.entry(id).or_default().push(at);
                    }
                }
                _ => known.by_ingest.entry(line.stream_seq).or_default().push(at),
            }
        }
        known.lines = log.into_iter().map(|line| (line, false)).collect();
        known
    }

    /// An execution took an event. With what its client says otherwise.
    pub(super) fn taken(
        &mut self,
        execution: &ExecutionId,
        seq: u64,
        event_type: &str,
        id: Option<&str>,
    ) {
        if self.lines.is_empty() {
            return;
        }
        for at in self.by_seq.get(&(execution.clone(), seq)).into_iter().flatten() {
            let (line, accounted) = &mut self.lines[*at];
            let type_fits = line.event_type.as_deref().is_none_or(|known| known == event_type);
            let id_fits = line.id.as_deref().is_none_or(|known| {
                // A CloudEvent's id has its source before it.
                id.is_some_and(|id| id == known || id.ends_with(&format!(" {known}")))
            });
            if type_fits && id_fits {
                *accounted = true;
            }
        }
        let Some(id) = id else { return };
        for at in self.by_id.get(&(execution.clone(), id.to_owned())).into_iter().flatten() {
            self.lines[*at].1 = true;
        }
    }

    /// An event is in PLED_DEAD.
    pub(super) fn set_aside(&mut self, execution: &ExecutionId, seq: u64) {
        for at in self.by_seq.get(&(execution.clone(), seq)).into_iter().flatten() {
            self.lines[*at].1 = true;
        }
    }

    /// A raw event is stored.
    pub(super) fn raw(&mut self, seq: u64, event: &RawEvent) {
        if let (false, Some(id)) = (self.by_ingest.is_empty(), &event.id) {
            let identity = (event.source.to_string(), id.to_string());
            self.raw.entry(identity).or_default().push(seq);
        }
    }

    /// Something is known of what became of a raw event.
    pub(super) fn of_ingest(&mut self, seq: u64) {
        if !self.by_ingest.is_empty() {
            self.known_raw.insert(seq);
        }
        for at in self.by_ingest.get(&seq).into_iter().flatten() {
            self.lines[*at].1 = true;
        }
    }

    /// What is known of one raw event is known of its repeats.
    pub(super) fn account_for_repeats(&mut self) {
        for repeats in std::mem::take(&mut self.raw).into_values() {
            if repeats.iter().any(|seq| self.known_raw.contains(seq)) {
                repeats.into_iter().for_each(|seq| self.of_ingest(seq));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(id: &str) -> RawEvent {
        RawEvent {
            source: "plant".into(),
            event_type: "meter.reading".parse().unwrap(),
            id: Some(id.into()),
            time: 0,
            data: pled_engine::value::Value::Null,
        }
    }

    #[test]
    fn a_raw_event_that_was_published_again_is_accounted_for_by_its_first() {
        let lines = br#"{"door":"ingest","stream_seq":2,"id":"r-1"}
{"door":"ingest","stream_seq":3,"id":"r-2"}"#;
        let mut log = ClientLog::of(read(&lines[..]).unwrap());
        for (seq, id) in [(1, "r-1"), (2, "r-1"), (3, "r-2")] {
            log.raw(seq, &reading(id));
        }

        log.of_ingest(1);
        log.account_for_repeats();

        let accounted: Vec<bool> = log.lines.iter().map(|(_, accounted)| *accounted).collect();
        assert_eq!(accounted, [true, false]);
    }
}
