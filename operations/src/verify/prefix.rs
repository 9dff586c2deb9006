//! The entries of an execution up to a violation: the least that shows it.

use pled_engine::entry::JournalEntry;
use pled_engine::message::Source;

use super::Violation;
use super::life::{name_of, place_text};

/// The most lines of a prefix; where there are more, those in the middle are left out.
const LINES: usize = 12;

/// Collects a prefix from the entries of an execution in order.
#[derive(Debug)]
pub struct Prefix {
    violation: Violation,
    lines: Vec<String>,
    left_out: usize,
    done: bool,
}

impl Prefix {
    /// Of this violation. `None` where it concerns no execution.
    #[must_use]
    pub fn of(violation: &Violation) -> Option<Self> {
        violation.execution.as_ref()?;
        Some(Self { violation: violation.clone(), lines: Vec::new(), left_out: 0, done: false })
    }

    /// Takes the next entry of the journal.
    pub fn take(&mut self, entry: &JournalEntry) {
        if self.done || self.violation.execution.as_ref() != Some(&entry.execution) {
            return;
        }
        if self.lines.len() == LINES {
            // The first few show how it began, the last ones what led there.
            self.lines.remove(3);
            self.left_out += 1;
        }
        self.lines.push(line(entry));
        self.done = self.violation.entry == Some(entry.seq);
    }

    /// A line for each entry, in order.
    #[must_use]
    pub fn lines(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.insert(3, format!("… {} more …", self.left_out));
        }
        self.lines
    }
}

fn line(entry: &JournalEntry) -> String {
    let causes: Vec<String> = entry
        .causes
        .iter()
        .map(|cause| match cause.stream {
            Source::Own => cause.cause_type.to_string(),
            Source::Events | Source::Signals | Source::Timers => {
                let place = place_text((cause.generation, cause.stream_seq));
                format!("{} {place} {}", name_of(cause.stream), cause.cause_type)
            }
        })
        .collect();
    let hash = entry.hash.to_string();
    let effects = match entry.effects.len() {
        0 => String::new(),
        count => format!(", {count} effects"),
    };
    format!(
        "entry {} at {} epoch {} {} hash {}…: {}{effects}",
        entry.seq,
        entry.at,
        entry.epoch,
        entry.status.as_str(),
        hash.get(..8).unwrap_or_default(),
        causes.join(", ")
    )
}
