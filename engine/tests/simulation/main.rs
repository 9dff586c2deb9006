//! The commit protocol against a simulated log with every fault, seeded (RELIABILITY section 4).
//!
//! Three workers run partitions over one log: they crash after any output, stand still beyond their
//! leases, lose answers, read stale entries, are refused; the server is killed and brings back the
//! last acknowledgements. Then all is calm, and what was promised must hold.
//!
//! `PLED_SIM_SEEDS` says how many seeds, `PLED_SIM_SEED` which one alone, with a trace: `make
//! simulate` sets them.
#![expect(clippy::as_conversions, reason = "simulated times are small")]
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "it looks at few of many outputs")]
#![expect(clippy::print_stderr, reason = "says how fast it is, and how to repeat a failure")]
#![expect(clippy::disallowed_methods, reason = "says how fast it is")]

mod check;
mod doors;
mod faults;
mod log;
mod random;
mod stories;
mod templates;
mod traps;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pled_engine::template::Template;

use faults::Weather;
use world::{Counts, Run, Setup};

type Templates = BTreeMap<String, Arc<Template>>;

/// How many seeds are run where nobody says how many.
const SEEDS: u64 = 1_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// What `of` makes of each number, on all cores, in the order of the numbers.
fn on_all_cores<T: Send>(numbers: Range<u64>, of: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(numbers.start);
    let work = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if !numbers.contains(&number) {
                return made;
            }
            made.push((number, of(number)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut made: Vec<(u64, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    made.sort_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, made)| made).collect()
}

/// Runs seeds; a panic is a failure like others.
fn run(seed: u64, setup: Setup, templates: &Templates) -> (Counts, Vec<String>) {
    let ran = catch_unwind(|| {
        let run = world::run(seed, setup, templates);
        (run.counts, check::check(&run))
    });
    ran.unwrap_or_else(|_| (Counts::default(), vec!["a panic".to_owned()]))
}

#[test]
fn whatever_happens_what_was_promised_holds() {
    let templates = templates::all();
    if let Some(seed) = from_environment("PLED_SIM_SEED") {
        return repeat(seed, &templates);
    }
    let count = from_environment("PLED_SIM_SEEDS").unwrap_or(SEEDS);
    let begun = Instant::now();
    let mut totals = Counts::default();
    let mut failed = Vec::new();
    let runs = on_all_cores(1..count + 1, |seed| run(seed, Setup::default(), &templates));
    for (seed, (counts, wrong)) in (1..).zip(runs) {
        totals.add(&counts);
        if !wrong.is_empty() {
            eprintln!("seed {seed}: {}", wrong[..wrong.len().min(5)].join("\n    "));
            eprintln!("repeat: make simulate SEED={seed}");
            failed.push(seed);
        }
    }
    eprintln!("{count} seeds in {:?}: {totals:?}", begun.elapsed());
    assert!(failed.is_empty(), "seeds {failed:?} fail: make simulate SEED={}", failed[0]);
}

/// One seed, with all that happens in it.
fn repeat(seed: u64, templates: &Templates) {
    let run = world::run(seed, Setup { traced: true, ..Setup::default() }, templates);
    eprint!("{}", run.trace.as_deref().unwrap_or_default());
    let wrong = check::check(&run);
    eprintln!("seed {seed}: {:?}", run.counts);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_run_byte_for_byte() {
    let templates = templates::all();
    for seed in 1..=12 {
        let runs = on_all_cores(0..2, |_| {
            world::run(seed, Setup { traced: true, ..Setup::default() }, &templates)
        });
        assert!(runs[0].trace == runs[1].trace, "seed {seed}");
        assert_eq!(runs[0].digest, runs[1].digest, "seed {seed}");
        assert_eq!(runs[0].ended, runs[1].ended, "seed {seed}");
        let bytes = |run: &Run| -> Vec<Arc<[u8]>> {
            run.log.journal.values().flatten().map(|entry| entry.bytes.clone()).collect()
        };
        assert_eq!(bytes(&runs[0]), bytes(&runs[1]), "seed {seed}");
        let untraced = world::run(seed, Setup::default(), &templates);
        assert_eq!(runs[0].digest, untraced.digest, "seed {seed}: the trace changes the run");
    }
}

/// Leases, positions and epochs save work; that no message is taken twice, none lost, and none out
/// of order rests on the expected sequences alone.
#[test]
fn without_any_fence_the_expected_sequences_keep_owners_apart() {
    let templates = templates::all();
    let setup =
        |weather| Setup { weather: Some(weather), without_fences: true, ..Setup::default() };
    for weather in [Weather::Calm, Weather::Mixed, Weather::TwoOwners] {
        let runs = on_all_cores(1..41, |seed| run(seed, setup(weather), &templates));
        let conflicts: u64 = runs.iter().map(|(counts, _)| counts.conflicts).sum();
        assert!(conflicts > 1_000, "{weather:?}: {conflicts} conflicts");
        for (seed, (_, wrong)) in (1..).zip(runs) {
            assert!(wrong.is_empty(), "{weather:?}, seed {seed}: {}", wrong.join("\n"));
        }
    }
}
