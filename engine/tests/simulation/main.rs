//! The commit protocol against a simulated log with every fault, seeded (RELIABILITY section 4).
//!
//! Three workers run partitions over one log: they crash after any output, stand still beyond their
//! leases, lose answers, read stale entries, are refused; the server is killed and brings back the
//! last acknowledgements. Then all is calm, and what was promised must hold.
//!
//! `PLED_SIM_SEEDS` says how many seeds, `PLED_SIM_SEED` which is the first.
#![expect(clippy::as_conversions, reason = "simulated times are small")]
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "it looks at few of many outputs")]
#![expect(clippy::print_stderr, reason = "says how fast it is, and how to repeat a failure")]

mod check;
mod log;
mod random;
mod stories;
mod templates;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use pled_engine::partition::Mutation;
use pled_engine::template::Template;

use world::{Counts, Run};

type Templates = BTreeMap<String, Arc<Template>>;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whatever_happens_what_was_promised_holds() {
    let templates = templates::all();
    let first = from_environment("PLED_SIM_SEED");
    let count = from_environment("PLED_SIM_SEEDS").unwrap_or(if first.is_some() { 1 } else { 60 });
    let first = first.unwrap_or(1);
    let mut totals = Counts::default();
    let mut failed = Vec::new();
    for seed in first..first + count {
        let run = world::run(seed, None, &templates);
        let wrong = check::check(&run);
        if !wrong.is_empty() {
            eprintln!("seed {seed}: {}", wrong[..wrong.len().min(5)].join("\n    "));
            eprintln!(
                "repeat: PLED_SIM_SEED={seed} cargo test -p pled-engine --test simulation whatever"
            );
            failed.push(seed);
        }
        totals.add(&run.counts);
    }
    eprintln!("{count} seeds: {totals:?}");
    assert!(failed.is_empty(), "seeds {failed:?} fail");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let templates = templates::all();
    for seed in [3, 4, 5] {
        let runs = [(); 2].map(|()| world::run(seed, None, &templates));
        assert_eq!(runs[0].digest, runs[1].digest, "seed {seed}");
        assert_eq!(runs[0].ended, runs[1].ended, "seed {seed}");
        let bytes = |run: &Run| -> Vec<Arc<[u8]>> {
            run.log.journal.values().flatten().map(|entry| entry.bytes.clone()).collect()
        };
        assert_eq!(bytes(&runs[0]), bytes(&runs[1]), "seed {seed}");
    }
}

/// Traps that are sprung, to show that the checks find them (RELIABILITY, "Traps of the commit
/// protocol"); each in so many seeds.
fn assert_found(traps: &[Mutation], seeds: u64) {
    let templates = templates::all();
    let missed: Vec<_> = traps.iter().filter(|trap| !is_found(**trap, seeds, &templates)).collect();
    assert!(missed.is_empty(), "{missed:?} were not found in {seeds} seeds");
}

fn is_found(trap: Mutation, seeds: u64, templates: &Templates) -> bool {
    for seed in 1..=seeds {
        let run = std::panic::catch_unwind(|| {
            let run = world::run(seed, Some(trap), templates);
            check::check(&run)
        });
        let wrong = run.unwrap_or_else(|_| vec!["a panic".to_owned()]);
        if let Some(first) = wrong.first() {
            eprintln!("{trap:?}: seed {seed}: {first}");
            return true;
        }
    }
    false
}

#[test]
fn each_trap_that_is_sprung_is_found() {
    assert_found(
        &[
            Mutation::NoRedispatch,
            Mutation::NoConflictRedispatch,
            Mutation::PositionEarly,
            Mutation::DoneAtCommit,
            Mutation::StaleIgnored,
            Mutation::TaskWithoutLook,
            Mutation::TrustReplica,
            Mutation::SendsAtOnce,
            Mutation::UnknownIsDone,
        ],
        60,
    );
}

#[test]
#[ignore = "takes minutes: these need several things to happen at once"]
fn each_rare_trap_that_is_sprung_is_found() {
    let rare =
        [Mutation::KeepAbandoned, Mutation::EndUnread, Mutation::EpochIgnored, Mutation::NoBarrier];
    assert_found(&rare, from_environment("PLED_SIM_SEEDS").unwrap_or(1_000));
}
