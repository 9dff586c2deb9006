//! Traps of the commit protocol that are sprung, to show that the checks find them (RELIABILITY,
//! "Traps of the commit protocol").

use std::panic::catch_unwind;

use pled_engine::partition::Mutation;

use crate::check;
use crate::faults::Weather;
use crate::world::{self, Setup, Trap};
use crate::{Templates, on_all_cores};

/// A trap, the weather in which it shows, and in how many seeds at most.
struct Sprung {
    trap: Trap,
    weather: Weather,
    within: u64,
}

const fn rule(mutation: Mutation, weather: Weather, within: u64) -> Sprung {
    Sprung { trap: Trap::Rule(mutation), weather, within }
}

const TRAPS: [Sprung; 27] = [
    rule(Mutation::NoRedispatch, Weather::Crashes, 100),
    rule(Mutation::NoConflictRedispatch, Weather::TwoOwners, 200),
    rule(Mutation::AlwaysRedispatch, Weather::Outages, 500),
    rule(Mutation::AllEffectsAgain, Weather::Full, 500),
    rule(Mutation::PositionEarly, Weather::Crashes, 100),
    rule(Mutation::OpenForgotten, Weather::Crashes, 100),
    rule(Mutation::DoneAtCommit, Weather::Crashes, 100),
    rule(Mutation::VerdictsEarly, Weather::Crashes, 2_000),
    rule(Mutation::KeepAbandoned, Weather::Pauses, 500),
    rule(Mutation::StaleIgnored, Weather::TwoOwners, 200),
    rule(Mutation::TaskWithoutLook, Weather::Crashes, 200),
    rule(Mutation::TrustReplica, Weather::TwoOwners, 200),
    rule(Mutation::EndUnread, Weather::Stalls, 500),
    rule(Mutation::AsideUnwritten, Weather::Crashes, 500),
    rule(Mutation::SendsAtOnce, Weather::Rough, 100),
    rule(Mutation::UnknownIsDone, Weather::Rough, 100),
    rule(Mutation::FullIsDone, Weather::Full, 100),
    rule(Mutation::UnknownIsCommitted, Weather::Rough, 100),
    rule(Mutation::AppendedAnyway, Weather::TwoOwners, 100),
    rule(Mutation::IgnoredUnwritten, Weather::Calm, 100),
    rule(Mutation::TimerUnscheduled, Weather::Crashes, 100),
    rule(Mutation::EarlyTaken, Weather::Clocks, 100),
    rule(Mutation::EpochIgnored, Weather::TwoOwners, 500),
    rule(Mutation::ServerUncompared, Weather::PowerCuts, 100),
    rule(Mutation::ComparedWithNewer, Weather::Servers, 500),
    Sprung { trap: Trap::FindAtReplica, weather: Weather::Outages, within: 1_000 },
    Sprung { trap: Trap::PurgedByAge, weather: Weather::Outages, within: 100 },
];

/// The first seed that finds a trap, and what it finds.
fn found(sprung: &Sprung, templates: &Templates) -> Option<(u64, String)> {
    let setup =
        Setup { weather: Some(sprung.weather), trap: Some(sprung.trap), ..Setup::default() };
    (1..=sprung.within).find_map(|seed| {
        let wrong = catch_unwind(|| check::check(&world::run(seed, setup, templates)));
        let wrong = wrong.unwrap_or_else(|_| vec!["a panic".to_owned()]);
        wrong.into_iter().next().map(|first| (seed, first))
    })
}

#[test]
fn each_trap_that_is_sprung_is_found() {
    let templates = crate::templates::all();
    let founds = on_all_cores(0..TRAPS.len() as u64, |number| {
        let sprung = &TRAPS[usize::try_from(number).unwrap()];
        (sprung, found(sprung, &templates))
    });
    let mut survived = Vec::new();
    for (Sprung { trap, weather, within }, found) in founds {
        let name = match trap {
            Trap::Rule(mutation) => format!("{mutation:?}"),
            other @ (Trap::FindAtReplica | Trap::PurgedByAge) => format!("{other:?}"),
        };
        let weather = format!("{weather:?}");
        match found {
            Some((seed, first)) => {
                let first = first.get(..first.floor_char_boundary(100)).unwrap_or_default();
                eprintln!("{name:<22} {weather:<10} seed {seed:>3} of {within:>4}: {first}");
            }
            None => {
                eprintln!("{name:<22} {weather:<10} not in {within} seeds");
                survived.push(name);
            }
        }
    }
    assert!(survived.is_empty(), "{survived:?} were not found");
}
