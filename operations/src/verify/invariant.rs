//! The invariants by name, what was counted for each, and what was found.

use pled_engine::id::ExecutionId;
use serde::Serialize;

/// What must hold, whatever happened. The letters are those of docs/verify.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// Acknowledged events are accounted for.
    E1,
    /// Causes are the messages that the streams hold.
    E2,
    /// An event id is taken once.
    E3,
    /// No input is passed over.
    E4,
    /// Positions lie within their streams.
    P1,
    /// Entries are 1, 2, 3, … under their own subject.
    J1,
    /// Entries are chained and have their hashes.
    J2,
    /// Each step follows from its causes.
    J3,
    /// Messages are taken in order, each once.
    J4,
    /// States have their hashes.
    J5,
    /// Epochs never fall.
    J6,
    /// Nothing is taken after the end.
    J7,
    /// Times never fall.
    J8,
    /// No status follows an end.
    J9,
    /// Tasks are with workers, each of an entry.
    A1,
    /// Ids of effects follow from their place.
    A2,
    /// Attempts are 1, 2, 3, …, each ends once.
    A3,
    /// Sends arrive once and in order.
    M1,
    /// Children are started, each by its parent.
    C1,
    /// Parents hear of the end of their children.
    C2,
    /// No timer is taken early.
    T1,
    /// A timer that is set will fire.
    T2,
    /// Nothing is both taken and set aside.
    D1,
    /// Snapshots are of the journal.
    S1,
    /// Nothing is left to be done.
    V1,
}

/// All of them, in the order of a report.
pub const INVARIANTS: [Invariant; 25] = [
    Invariant::E1,
    Invariant::E2,
    Invariant::E3,
    Invariant::E4,
    Invariant::P1,
    Invariant::J1,
    Invariant::J2,
    Invariant::J3,
    Invariant::J4,
    Invariant::J5,
    Invariant::J6,
    Invariant::J7,
    Invariant::J8,
    Invariant::J9,
    Invariant::A1,
    Invariant::A2,
    Invariant::A3,
    Invariant::M1,
    Invariant::C1,
    Invariant::C2,
    Invariant::T1,
    Invariant::T2,
    Invariant::D1,
    Invariant::S1,
    Invariant::V1,
];

impl Invariant {
    /// What it promises, and of what the count is.
    #[must_use]
    pub fn promise(self) -> (&'static str, &'static str) {
        match self {
            Self::E1 => ("acknowledged events are accounted for", "acknowledgements"),
            Self::E2 => ("causes are the messages that the streams hold", "messages"),
            Self::E3 => ("an event id is taken once", "ids"),
            Self::E4 => ("no input is passed over", "inputs"),
            Self::P1 => ("positions lie within their streams", "positions"),
            Self::J1 => ("entries are 1, 2, 3, … under their own subject", "entries"),
            Self::J2 => ("entries are chained and have their hashes", "entries"),
            Self::J3 => ("each step follows from its causes", "steps"),
            Self::J4 => ("messages are taken in order, each once", "causes"),
            Self::J5 => ("states have their hashes", "states"),
            Self::J6 => ("epochs never fall", "entries"),
            Self::J7 => ("nothing is taken after the end", "executions"),
            Self::J8 => ("times never fall", "entries"),
            Self::J9 => ("no status follows an end", "entries"),
            Self::A1 => ("tasks are with workers, each of an entry", "tasks"),
            Self::A2 => ("ids of effects follow from their place", "effects"),
            Self::A3 => ("attempts are 1, 2, 3, …, each ends once", "attempts"),
            Self::M1 => ("sends arrive once and in order", "sends"),
            Self::C1 => ("children are started, each by its parent", "children"),
            Self::C2 => ("parents hear of the end of their children", "children"),
            Self::T1 => ("no timer is taken early", "timers"),
            Self::T2 => ("a timer that is set will fire", "timers"),
            Self::D1 => ("nothing is both taken and set aside", "records"),
            Self::S1 => ("snapshots are of the journal", "snapshots"),
            Self::V1 => ("nothing is left to be done", "executions"),
        }
    }

    /// `E1`.
    #[must_use]
    pub fn code(self) -> String {
        format!("{self:?}")
    }
}

/// An invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Of which execution.
    pub execution: Option<ExecutionId>,
    /// At which of its entries.
    pub entry: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which.
    pub invariant: Invariant,
    /// What it promises.
    pub promise: &'static str,
    /// How many were looked at.
    pub checked: u64,
    /// Of what.
    pub of: &'static str,
    /// How often it does not hold.
    pub violations: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything was read and all holds.
    pub clean: bool,
    /// Why the reading is not complete.
    pub incomplete: Option<String>,
    /// How many executions there are.
    pub executions: u64,
    /// How many entries.
    pub entries: u64,
    /// How many steps were not taken again, since the memory for states was used up.
    pub not_replayed: u64,
    /// Inputs that are not done yet.
    pub pending: u64,
    /// A line for each invariant.
    pub lines: Vec<Line>,
    /// The first violations of each invariant, by invariant.
    pub violations: Vec<Violation>,
}

impl Report {
    /// 0: all holds; 1: something does not; 2: not everything could be read.
    #[must_use]
    pub fn code(&self) -> u8 {
        match (self.lines.iter().all(|line| line.violations == 0), &self.incomplete) {
            (false, _) => 1,
            (true, Some(_)) => 2,
            (true, None) => 0,
        }
    }
}

/// How many violations of an invariant are told.
const TOLD: usize = 10;

/// What was counted and found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    checked: [u64; INVARIANTS.len()],
    found: [u64; INVARIANTS.len()],
    told: Vec<Violation>,
}

impl Findings {
    pub(super) fn checked(&mut self, invariant: Invariant, count: u64) {
        if let Some(place) = place(invariant) {
            self.checked[place] += count;
        }
    }

    pub(super) fn found(&mut self, violation: Violation) {
        let Some(place) = place(violation.invariant) else { return };
        self.found[place] += 1;
        let told = self.told.iter().filter(|told| told.invariant == violation.invariant).count();
        if told < TOLD {
            self.told.push(violation);
        }
    }

    /// Notes that something was looked at, and that it is wrong where `wrong` says how.
    pub(super) fn expect(
        &mut self,
        invariant: Invariant,
        at: (&ExecutionId, u64),
        wrong: Option<String>,
    ) {
        self.checked(invariant, 1);
        self.wrong(invariant, at, wrong);
    }

    /// As [`Self::expect`], of something that was counted before.
    pub(super) fn wrong(
        &mut self,
        invariant: Invariant,
        at: (&ExecutionId, u64),
        wrong: Option<String>,
    ) {
        if let Some(what) = wrong {
            let (execution, entry) = at;
            self.found(Violation {
                invariant,
                execution: Some(execution.clone()),
                entry: (entry > 0).then_some(entry),
                what,
            });
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let line = |(place, invariant): (usize, &Invariant)| {
            let (promise, of) = invariant.promise();
            Line {
                invariant: *invariant,
                promise,
                of,
                checked: self.checked[place],
                violations: self.found[place],
            }
        };
        INVARIANTS.iter().enumerate().map(line).collect()
    }

    pub(super) fn into_told(self) -> Vec<Violation> {
        let mut told = self.told;
        told.sort_by_key(|violation| violation.invariant);
        told
    }
}

fn place(invariant: Invariant) -> Option<usize> {
    INVARIANTS.iter().position(|known| *known == invariant)
}
