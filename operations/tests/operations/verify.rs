//! What was recorded of a real run holds; and whatever is altered in it is found.

use pled_engine::entry::JournalEntry;
use pled_engine::execution::Status;
use pled_engine::id::Hash;
use pled_engine::message::Source;
use pled_operations::record::{Record, read};
use pled_operations::verify::{Acknowledged, INVARIANTS, Invariant, Options, Prefix, Report};
use pled_streams::StreamKind;
use pled_streams::events::Stored;

use crate::{Installation, check, execution};

/// Records of a run in which everything happened, and what its client knows.
async fn recorded() -> (Vec<Record>, Vec<Acknowledged>) {
    let pled = Installation::start().await;
    let engine = pled.drive("e1");
    let charging = pled.charge();
    let mut log = Vec::new();
    for (id, friend) in [("o1", "o2"), ("o2", "o1"), ("o3", "o2"), ("o4", "o3")] {
        log.push(pled.order(id, friend).await);
    }
    for id in ["o1", "o2", "o3", "o4"] {
        pled.wait_for_state(id, "shipping").await;
    }
    log.push(pled.send("o1", "PACKED", "p1").await);
    log.push(pled.send("o1", "PACKED", "p1").await); // A repeat.
    log.push(pled.send("o4", "WRAP", "w4").await); // Nobody wraps.
    log.push(pled.send("ghost", "PACKED", "p9").await);
    pled.wait_for_state("o4", "wrapping").await;
    for id in ["c1", "c2"] {
        log.push(pled.begin(id, "crate", "{}").await);
        pled.wait_for_state(&format!("{id}_1_0"), "open").await;
    }
    log.push(pled.send("c1_1_0", "CLOSE", "close").await);
    pled.wait_for_end("c1").await;
    pled.wait_for_rest().await;
    log.push(pled.send("o1", "SHIPPED", "s1").await);
    pled.wait_for_end("o1").await;
    log.push(pled.send("o1", "PACKED", "late").await);
    pled.wait_for_rest().await;
    charging.stop().await;
    engine.stop().await.unwrap();
    (pled.records().await, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_holds_and_one_violation_of_each_invariant_is_found() {
    let (records, log) = recorded().await;
    let clean = check(&records, Options::default(), &log);
    assert!(clean.clean, "{:?} {:?}", clean.incomplete, clean.violations);
    assert_eq!((clean.executions, clean.code()), (8, 0));
    let looked_at = |report: &Report, invariant| {
        report.lines.iter().find(|line| line.invariant == invariant).unwrap().checked > 0
    };
    for invariant in
        INVARIANTS.into_iter().filter(|it| ![Invariant::V1, Invariant::T1].contains(it))
    {
        assert!(looked_at(&clean, invariant), "nothing was looked at for {invariant:?}");
    }

    let mut missed = Vec::new();
    for Plant { name, invariant, alter } in plants() {
        let mut altered = Altered { records: records.clone(), log: log.clone(), settled: false };
        alter(&mut altered);
        altered.count();
        let options = Options { settled: altered.settled, ..Options::default() };
        let report = check(&altered.records, options, &altered.log);

        if report.code() != 1 || report.violations.iter().all(|it| it.invariant != invariant) {
            missed.push(format!("{name} ({invariant:?}): {:?}", report.violations));
        }
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    let planted = |invariant| plants().iter().any(|plant| plant.invariant == invariant);
    let bare: Vec<_> = INVARIANTS.into_iter().filter(|it| !planted(*it)).collect();
    assert!(bare.is_empty(), "no violation is planted of {bare:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_read_back_as_it_was_and_one_that_is_cut_is_told() {
    let (records, log) = recorded().await;
    let text: String = records.iter().map(|record| record.to_line().unwrap() + "\n").collect();

    let back: Vec<Record> = read(text.as_bytes()).map(Result::unwrap).collect();
    let report = check(&back, Options::default(), &log);
    assert!(report.clean, "{:?} {:?}", report.incomplete, report.violations);
    let whole = check(&records, Options::default(), &log);
    assert_eq!(whole.lines, report.lines);

    let cut = check(&back[..back.len() - 1], Options::default(), &[]);
    assert_eq!(cut.code(), 2, "{:?}", cut.incomplete);
    assert!(read(&b"{\"pled_export\":9,\"prefix\":\"pled\",\"partitions\":1,\"incarnation\":\"\",\"streams\":{}}\n"[..])
        .next().unwrap().is_err());
    assert!(read(&b"rubbish\n"[..]).next().unwrap().is_err());

    let bounded = Options { states_bytes_max: 1, ..Options::default() };
    let bounded = check(&records, bounded, &log);
    assert!(bounded.clean && bounded.not_replayed > 0, "{bounded:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefix_of_a_violation_ends_with_the_entry_that_shows_it() {
    let (records, _) = recorded().await;
    let mut altered = Altered { records, log: Vec::new(), settled: false };
    altered.rewrite("o1", 2, |entry| entry.at = 1);
    let report = check(&altered.records, Options::default(), &[]);
    let violation = report.violations.iter().find(|it| it.invariant == Invariant::J8).unwrap();

    let mut prefix = Prefix::of(violation).unwrap();
    altered.entries().iter().for_each(|entry| prefix.take(entry));

    let lines = prefix.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("entry 1 ") && lines[1].starts_with("entry 2 at 1 "), "{lines:?}");
}

struct Plant {
    name: &'static str,
    invariant: Invariant,
    alter: fn(&mut Altered),
}

fn plants() -> Vec<Plant> {
    use Invariant::*;
    fn plant(name: &'static str, invariant: Invariant, alter: fn(&mut Altered)) -> Plant {
        Plant { name, invariant, alter }
    }
    vec![
        plant("an acknowledged event that is nowhere", E1, |it| {
            let mut lost = it.log[1].clone();
            (lost.stream_seq, lost.id) = (900, Some("lost".into()));
            lost.event_type = Some("PACKED".into());
            it.log.push(lost);
        }),
        plant("an event that was taken under another type than its client's", E1, |it| {
            let line = it.log.iter_mut().find(|line| line.id.as_deref() == Some("w4")).unwrap();
            (line.event_type, line.id) = (Some("UNWRAP".into()), None);
            let seq = line.stream_seq;
            it.remove(|kind, stored| kind == StreamKind::Events && stored.stream_seq == seq);
        }),
        plant("a cause that is not the event in the stream", E2, |it| {
            it.rewrite("o1", 1, |entry| entry.causes[0].data = "another".into());
        }),
        plant("an event id that is taken twice", E3, |it| {
            it.rewrite_last("o1", |entry| entry.causes[0].id = Some("p1".into()));
        }),
        plant("an event that is done, and of no entry", E4, |it| {
            it.cut_last("o4");
        }),
        plant("a position ahead of its stream", P1, |it| {
            it.each(StreamKind::Locks, |stored| {
                let text = String::from_utf8(stored.payload.to_vec()).unwrap();
                stored.payload = text.replace("\"next\":", "\"next\":9").into();
            });
        }),
        plant("an entry that is missing", J1, |it| it.remove_entry("o1", 2)),
        plant("an entry that is there twice", J1, |it| it.double_entry("o1", 2)),
        plant("an entry under another execution's subject", J1, |it| {
            it.each(StreamKind::Journal, |stored| {
                stored.subject = stored.subject.replace(".o3", ".o2");
            });
        }),
        plant("a bit that flipped", J2, |it| {
            it.each(StreamKind::Journal, |stored| {
                let text = String::from_utf8(stored.payload.to_vec()).unwrap();
                stored.payload = text.replace("\"epoch\":1", "\"epoch\":2").into();
            });
        }),
        plant("an entry that follows on another", J2, |it| {
            it.rewrite_alone("o2", 2, |entry| entry.prev = Hash::of(b"another"));
        }),
        plant("no entry at all", J2, |it| {
            let at = it.places("o2")[0];
            it.stored(at).payload = "{}".into();
        }),
        plant("a step that does not follow from its causes", J3, |it| {
            it.rewrite("o1", 1, |entry| entry.effects.clear());
        }),
        plant("a template that is gone", J3, |it| {
            it.remove(|kind, _| kind == StreamKind::Templates)
        }),
        plant("a message that is a cause twice", J4, |it| {
            let cause = it.entries_of("o1")[0].causes[0].clone();
            it.rewrite_last("o3", move |entry| {
                entry.causes.retain(|it| it.stream != Source::Events);
                entry.causes.push(cause);
            });
        }),
        plant("a message that is taken after a later one", J4, |it| {
            it.rewrite_last("o1", |entry| entry.causes[0].stream_seq = 1);
        }),
        plant("a state with another hash", J5, |it| {
            it.rewrite("o2", 1, |entry| entry.state_hash = Hash::of(b"another"));
        }),
        plant("an epoch that falls", J6, |it| it.rewrite_last("o1", |entry| entry.epoch = 0)),
        plant("an event that is taken after the end", J7, |it| {
            let last = it.entries_of("o1").last().unwrap().clone();
            it.append("o1", JournalEntry { seq: last.seq + 1, prev: last.hash, ..last });
        }),
        plant("a time that falls", J8, |it| it.rewrite_last("o1", |entry| entry.at = 1)),
        plant("a status after the end", J9, |it| {
            let last = it.entries_of("o1").last().unwrap().clone();
            let (seq, prev) = (last.seq + 1, last.hash);
            it.append("o1", JournalEntry { seq, prev, status: Status::Running, ..last });
        }),
        plant("a task that no worker can get", A1, |it| {
            it.remove(|kind, stored| kind == StreamKind::Tasks && stored.subject.contains("wrap"));
        }),
        plant("a task of no entry", A1, |it| {
            it.each(StreamKind::Tasks, |stored| {
                stored.subject = stored.subject.replace("o1-1-", "o1-7-");
            });
        }),
        plant("an effect whose id is of another place", A2, |it| {
            it.rewrite("o1", 1, |entry| entry.effects[0].id = "o1/1/9".into());
        }),
        plant("a result of an attempt that was not handed out", A3, |it| {
            it.rewrite_cause("o1", "pled.result", |cause| cause.attempt = Some(2));
        }),
        plant("a send that arrives nowhere", M1, |it| {
            it.cut_send();
        }),
        plant("a send that was never sent", M1, |it| {
            it.rewrite_cause("o2", "HELLO", |cause| {
                cause.sender = Some(("o1".into(), 90, 0));
            });
        }),
        plant("a child of nobody", C1, |it| {
            it.rewrite_cause("c1_1_0", "pled.init", |cause| {
                cause.sender = Some(("o1".into(), 1, 0));
            });
        }),
        plant("a child of another task", C1, |it| {
            it.rewrite_cause("c1_1_0", "pled.init", |cause| cause.attempt = Some(2));
        }),
        plant("a child that was not started", C1, |it| {
            it.remove(|_, stored| stored.subject.contains(".c2_1_0"));
        }),
        plant("the end of a child that its parent does not hear of", C2, |it| {
            it.cut_last("c1");
            it.remove(|kind, stored| {
                kind == StreamKind::Signals && stored.subject.contains(".c1.")
            });
        }),
        plant("the end of a child that is done, and the parent waits", E4, |it| {
            it.cut_last("c1");
        }),
        plant("a timer that is taken early", T1, |it| {
            let subject = "pled.fired.0.o3.2-0".to_owned();
            let mut early = it.stored(0).clone();
            let mut headers = pled_streams::HeaderMap::new();
            headers.insert("Pled-Due", "4102444800000");
            (early.subject, early.headers, early.time) =
                (subject, Some(headers), 1_764_000_000_000);
            early.stream_seq = 900;
            it.records.insert(1, Record::Message(StreamKind::Timers, early));
            it.rewrite_last("o3", |entry| {
                (entry.causes[0].stream, entry.causes[0].stream_seq) = (Source::Timers, 900);
            });
        }),
        plant("a timer that is set nowhere", T2, |it| {
            it.remove(|kind, stored| {
                kind == StreamKind::Timers && stored.subject.contains(".timers.")
            });
        }),
        plant("a message that is taken and set aside", D1, |it| {
            let taken = it.entries_of("o3")[0].causes[0].stream_seq;
            it.each(StreamKind::Dead, move |stored| {
                if stored.subject.contains(".ghost.") {
                    stored.subject = format!("pled.dead.unknown-execution.o3.events-1-{taken}");
                }
            });
        }),
        plant("a snapshot of another entry", S1, |it| {
            it.each(StreamKind::Snapshots, |stored| {
                let text = String::from_utf8(stored.payload.to_vec()).unwrap();
                stored.payload = text.replace("\"hash\":\"", "\"hash\":\"00").into();
                let mut value: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
                let hash = value["hash"].as_str().unwrap()[..64].to_owned();
                value["hash"] = hash.into();
                stored.payload = serde_json::to_vec(&value).unwrap().into();
            });
        }),
        plant("a snapshot ahead of the journal", S1, |it| it.cut_last("o3")),
        plant("a task that is still to be done", V1, |it| it.settled = true),
    ]
}

/// What was recorded, to be altered.
struct Altered {
    records: Vec<Record>,
    log: Vec<Acknowledged>,
    settled: bool,
}

impl Altered {
    /// Lets the last line tell how many messages there are.
    fn count(&mut self) {
        let count = self.records.len() - 2;
        let messages = u64::try_from(count).unwrap();
        *self.records.last_mut().unwrap() = Record::End { messages };
    }

    fn remove(&mut self, which: impl Fn(StreamKind, &Stored) -> bool) {
        let before = self.records.len();
        self.records.retain(|record| match record {
            Record::Message(kind, stored) => !which(*kind, stored),
            Record::Header(_) | Record::End { .. } => true,
        });
        assert!(self.records.len() < before);
    }

    fn each(&mut self, of: StreamKind, mut alter: impl FnMut(&mut Stored)) {
        let mut altered = 0;
        for record in &mut self.records {
            if let Record::Message(kind, stored) = record
                && *kind == of
            {
                let before = format!("{stored:?}");
                alter(stored);
                altered += usize::from(before != format!("{stored:?}"));
            }
        }
        assert!(altered > 0, "nothing was altered");
    }

    /// Where the entries of an execution stand.
    fn places(&self, id: &str) -> Vec<usize> {
        let is_its = |record: &Record| match record {
            Record::Message(StreamKind::Journal, stored) => {
                stored.subject.rsplit('.').next() == Some(id)
            }
            Record::Message(..) | Record::Header(_) | Record::End { .. } => false,
        };
        (0..self.records.len()).filter(|at| is_its(&self.records[*at])).collect()
    }

    /// The message at a place; the first one for 0.
    fn stored(&mut self, at: usize) -> &mut Stored {
        match &mut self.records[at.max(1)] {
            Record::Message(_, stored) => stored,
            other @ (Record::Header(_) | Record::End { .. }) => panic!("{other:?}"),
        }
    }

    fn entry_at(&mut self, at: usize) -> JournalEntry {
        serde_json::from_slice(&self.stored(at).payload).unwrap()
    }

    fn entries_of(&mut self, id: &str) -> Vec<JournalEntry> {
        self.places(id).into_iter().map(|at| self.entry_at(at)).collect()
    }

    fn entries(&mut self) -> Vec<JournalEntry> {
        ["o1", "o2", "o3", "o4"].into_iter().flat_map(|id| self.entries_of(id)).collect()
    }

    /// Alters an entry and chains those behind it anew, as a wrong engine would have.
    fn rewrite(&mut self, id: &str, seq: u64, alter: impl FnOnce(&mut JournalEntry)) {
        let places = self.places(id);
        let from = usize::try_from(seq - 1).unwrap();
        let mut entry = self.entry_at(places[from]);
        let before = entry.clone();
        alter(&mut entry);
        assert_ne!(entry, before, "nothing was altered");
        let mut prev = self.put(places[from], entry);
        for at in &places[from + 1..] {
            let mut entry = self.entry_at(*at);
            entry.prev = prev;
            prev = self.put(*at, entry);
        }
    }

    /// Alters an entry and leaves those behind it as they are.
    fn rewrite_alone(&mut self, id: &str, seq: u64, alter: impl FnOnce(&mut JournalEntry)) {
        let at = self.places(id)[usize::try_from(seq - 1).unwrap()];
        let mut entry = self.entry_at(at);
        alter(&mut entry);
        self.put(at, entry);
    }

    fn rewrite_last(&mut self, id: &str, alter: impl FnOnce(&mut JournalEntry)) {
        let last = u64::try_from(self.places(id).len()).unwrap();
        self.rewrite(id, last, alter);
    }

    fn rewrite_cause(
        &mut self,
        id: &str,
        cause_type: &str,
        alter: impl FnOnce(&mut pled_engine::entry::Cause),
    ) {
        let entries = self.entries_of(id);
        let has = |entry: &&JournalEntry| {
            entry.causes.iter().any(|cause| cause.cause_type.as_str() == cause_type)
        };
        let seq = entries.iter().find(has).unwrap().seq;
        self.rewrite(id, seq, |entry| {
            let cause =
                entry.causes.iter_mut().find(|it| it.cause_type.as_str() == cause_type).unwrap();
            alter(cause);
        });
    }

    /// Puts an entry in a place with the hash that it has then, and gives that.
    fn put(&mut self, at: usize, mut entry: JournalEntry) -> Hash {
        entry.hash = Hash::ZERO;
        let text = String::from_utf8(entry.encode().unwrap()).unwrap();
        let without = text.replacen(&format!(",\"hash\":\"{}\"", Hash::ZERO), "", 1);
        entry.hash = Hash::of(without.as_bytes());
        self.stored(at).payload = entry.encode().unwrap().into();
        entry.hash
    }

    fn append(&mut self, id: &str, entry: JournalEntry) {
        let at = *self.places(id).last().unwrap();
        let copy = self.records[at].clone();
        let end = self.records.len() - 1;
        self.records.insert(end, copy);
        self.put(end, entry);
    }

    fn remove_entry(&mut self, id: &str, seq: u64) {
        let at = self.places(id)[usize::try_from(seq - 1).unwrap()];
        self.records.remove(at);
    }

    fn double_entry(&mut self, id: &str, seq: u64) {
        let at = self.places(id)[usize::try_from(seq - 1).unwrap()];
        let copy = self.records[at].clone();
        self.records.insert(at, copy);
    }

    /// Takes away the newest entry of an execution.
    fn cut_last(&mut self, id: &str) {
        let at = *self.places(id).last().unwrap();
        self.records.remove(at);
    }

    /// Takes away whatever an execution took of another, and its copy in the stream.
    fn cut_send(&mut self) {
        let entries = self.entries_of("o3");
        let takes = |entry: &&JournalEntry| entry.causes.iter().any(|it| it.sender.is_some());
        let seq = entries.iter().find(takes).unwrap().seq;
        self.rewrite("o3", seq, |entry| entry.causes.retain(|it| it.sender.is_none()));
        let _ = execution("o3");
        self.remove(|kind, stored| {
            kind == StreamKind::Signals && stored.subject.contains(".o3.send.")
        });
    }
}
