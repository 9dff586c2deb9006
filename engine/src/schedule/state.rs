//! What is remembered of a schedule.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::spec::Overlap;
use crate::id::ExecutionId;
use crate::message::Millis;

/// What is remembered of a schedule: which nominal times are decided, and what is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Nominal times up to this one are decided.
    pub last: Millis,
    /// Since when it is paused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Pauses that are over and reach beyond `last`: from, until.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<(Millis, Millis)>,
    /// What was started and is not known to have ended, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub running: Vec<Run>,
    /// What is to be started when those have ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// What people asked to be started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// Times of the past that people asked to be started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backfills: Vec<Backfill>,
    /// How often what happened.
    pub counts: Counts,
    /// What became of the last nominal times, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Recent>,
}

/// A pause that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub since: Millis,
    /// Why, as the person said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// An execution that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The execution.
    pub execution: ExecutionId,
    /// The time that it stands for.
    pub nominal: Millis,
    /// When it was decided.
    pub decided_at: Millis,
    /// Whether its start is known to be stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent: bool,
    /// How it is being ended to make room, if it is; `true`: that is known to be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<(Ending, bool)>,
    /// When it was last looked at; not remembered.
    #[serde(skip)]
    pub(super) seen_at: Option<Millis>,
    /// Whether its start was seen to have taken effect; not remembered.
    #[serde(skip)]
    pub(super) confirmed: bool,
}

/// How an execution is ended to make room, the milder first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// By `pled.cancel`.
    Cancel,
    /// By `pled.terminate`.
    Terminate,
}

/// What is to be started later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The execution.
    pub execution: ExecutionId,
    /// The time that it stands for.
    pub nominal: Millis,
    /// Whether a person asked for it: then a pause does not hold it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
}

/// A start that a person asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// The execution.
    pub execution: ExecutionId,
    /// When.
    pub at: Millis,
    /// What becomes of it while others run.
    pub overlap: Overlap,
}

/// A range of the past that a person asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The nominal times after this one are still to be started.
    pub after: Millis,
    /// The last of them.
    pub until: Millis,
    /// What becomes of each while others run.
    pub overlap: Overlap,
}

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Executions that were started.
    pub started: u64,
    /// Starts that the engine refused: an unknown template, an input that does not fit.
    pub refused: u64,
    /// Skipped since the one before still ran.
    pub overlap: u64,
    /// Skipped since enough waited already.
    pub buffer_full: u64,
    /// Skipped since a later one took the place while it waited.
    pub superseded: u64,
    /// Skipped since nobody was there to start it within the catch-up window.
    pub catch_up: u64,
    /// Skipped since the schedule was paused.
    pub paused: u64,
}

impl Counts {
    /// The skipped ones by their reason.
    #[must_use]
    pub fn skipped(&self) -> [(&'static str, u64); 5] {
        [
            ("overlap", self.overlap),
            ("buffer_full", self.buffer_full),
            ("superseded", self.superseded),
            ("catch_up", self.catch_up),
            ("paused", self.paused),
        ]
    }
}

/// What became of a nominal time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The time.
    pub nominal: Millis,
    /// What became of it.
    pub what: What,
    /// The execution, where one was started or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// Why, where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// What became of a nominal time, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An execution was started.
    Started,
    /// The engine refused the start.
    Refused,
    /// Skipped: see [`Counts::overlap`].
    Overlap,
    /// Skipped: see [`Counts::buffer_full`].
    BufferFull,
    /// Skipped: see [`Counts::superseded`].
    Superseded,
    /// Skipped: see [`Counts::catch_up`].
    CatchUp,
    /// Skipped: see [`Counts::paused`].
    Paused,
}

impl What {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Refused => "refused",
            Self::Overlap => "overlap",
            Self::BufferFull => "buffer_full",
            Self::Superseded => "superseded",
            Self::CatchUp => "catch_up",
            Self::Paused => "paused",
        }
    }
}

/// How many of the last nominal times are remembered.
const RECENT_MAX: usize = 10;

impl State {
    /// Counts and remembers what became of a time.
    pub(super) fn record(&mut self, recent: Recent) {
        let counts = &mut self.counts;
        *match recent.what {
            What::Started => &mut counts.started,
            What::Refused => &mut counts.refused,
            What::Overlap => &mut counts.overlap,
            What::BufferFull => &mut counts.buffer_full,
            What::Superseded => &mut counts.superseded,
            What::CatchUp => &mut counts.catch_up,
            What::Paused => &mut counts.paused,
        } += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(recent);
    }

    pub(super) fn skipped(&mut self, nominal: Millis, what: What) {
        self.record(Recent { nominal, what, execution: None, reason: None });
    }
}
