//! Schedules: when they are due, across every oddity of clocks and calendars, and what becomes of
//! each nominal time.
#![cfg(test)]

use pled_engine::id::{ExecutionId, ScheduleName};
use pled_engine::message::Millis;
use pled_engine::schedule::{
    Ending, Input, Output, Overlap, Schedule, Seen, Spec, What, instant, instant_text,
};
use pled_engine::value::Value;
use serde_json::{Value as Json, json};

fn spec(json: &Json) -> Spec {
    Spec::parse(&Value::parse(json.to_string().as_bytes()).unwrap())
        .unwrap_or_else(|error| panic!("{error}"))
}

fn faults(mut json: Json) -> String {
    json["template"] = "t".into();
    let parsed = Spec::parse(&Value::parse(json.to_string().as_bytes()).unwrap());
    let refused = parsed.and_then(|spec| spec.comes(at("2026-01-01T00:00:00Z")));
    refused.expect_err("it is refused").to_string()
}

fn at(text: &str) -> Millis {
    instant(text).unwrap()
}

fn name() -> ScheduleName {
    "nightly".parse().unwrap()
}

/// The next nominal times in UTC.
fn times(mut json: Json, after: &str, count: usize) -> Vec<String> {
    json["template"] = "t".into();
    let firings = spec(&json).times.preview(&name(), at(after), count);
    firings.into_iter().map(|firing| instant_text(firing.nominal)).collect()
}

fn cron(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    times(json!({ "cron": cron, "time_zone": zone }), after, count)
}

#[test]
fn a_time_that_the_clock_leaves_out_fires_when_the_clock_is_set() {
    // 02:00 to 03:00 on 29 March 2026 do not exist in Berlin.
    let berlin = cron("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
    assert_eq!(berlin, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);

    let new_york = cron("30 2 8 3 *", "America/New_York", "2026-01-01T00:00:00Z", 1);
    assert_eq!(new_york, ["2026-03-08T07:00:00Z"]);

    // Many times in the gap are one instant.
    let quarters = cron("*/15 2 29 3 *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
    assert_eq!(quarters, ["2026-03-29T01:00:00Z", "2027-03-29T00:00:00Z"]);

    // Lord Howe sets its clock by half an hour: 02:00 to 02:30 do not exist on 4 October 2026.
    let howe = cron("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T12:00:00Z", 3);
    assert_eq!(howe, ["2026-10-02T15:45:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]);
    // What stands outside of the half hour is not moved.
    let howe = cron("45 2 4 10 *", "Australia/Lord_Howe", "2026-10-01T00:00:00Z", 1);
    assert_eq!(howe, ["2026-10-03T15:45:00Z"]);

    // Samoa left out 30 December 2011 whole.
    let apia = cron("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3);
    assert_eq!(apia, ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]);
}

#[test]
fn a_time_that_the_clock_shows_twice_fires_once() {
    // 02:00 to 03:00 on 25 October 2026 come twice in Berlin.
    let berlin = cron("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(berlin, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    // Also where the question is asked in the midst of the second time.
    let asked = cron("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
    assert_eq!(asked, ["2026-10-26T01:30:00Z"]);

    let new_york = cron("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 2);
    assert_eq!(new_york, ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);

    // Lord Howe shows 01:30 to 02:00 twice on 5 April 2026.
    let howe = cron("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2);
    assert_eq!(howe, ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]);
}

#[test]
fn what_goes_on_through_every_hour_leaves_no_hour_out() {
    let hourly = cron("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4);
    let each = ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"];
    assert_eq!(hourly[..3], each);

    let howe = cron("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:25:00Z", 5);
    let quarters = ["14:30", "14:45", "15:00", "15:15", "15:30"];
    assert_eq!(howe, quarters.map(|time| format!("2026-04-04T{time}:00Z")));

    let gap = cron("*/20 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 3);
    assert_eq!(gap, ["2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z"]);
}

#[test]
fn leap_days_month_ends_and_years_are_as_the_calendar_has_them() {
    let leap = cron("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2);
    assert_eq!(leap, ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    // 2100 has none.
    let century = cron("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1);
    assert_eq!(century, ["2104-02-29T00:00:00Z"]);

    let ends = cron("0 12 L * *", "UTC", "2028-01-31T13:00:00Z", 3);
    assert_eq!(ends, ["2028-02-29T12:00:00Z", "2028-03-31T12:00:00Z", "2028-04-30T12:00:00Z"]);
    let before = cron("0 0 L-1 * *", "UTC", "2026-02-01T00:00:00Z", 1);
    assert_eq!(before, ["2026-02-27T00:00:00Z"]);
    let thirty_first = cron("0 0 31 * *", "UTC", "2026-03-31T00:00:00Z", 2);
    assert_eq!(thirty_first, ["2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z"]);

    let eve = cron("59 59 23 31 12 *", "UTC", "2026-12-31T00:00:00Z", 2);
    assert_eq!(eve, ["2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z"]);
    let year = cron("@yearly", "UTC", "2026-12-31T23:59:59Z", 1);
    assert_eq!(year, ["2027-01-01T00:00:00Z"]);
}

#[test]
fn cron_fields_are_as_people_know_them() {
    let of = |text: &str, count| cron(text, "UTC", "2026-11-20T17:10:30Z", count);

    assert_eq!(of("*/10 * * * * *", 2), ["2026-11-20T17:10:40Z", "2026-11-20T17:10:50Z"]);
    assert_eq!(of("0 9 * * MON-FRI", 1), ["2026-11-23T09:00:00Z"]);
    assert_eq!(of("0 9 * * fri-sun", 2), ["2026-11-21T09:00:00Z", "2026-11-22T09:00:00Z"]);
    assert_eq!(of("0 0 1 jan,jul *", 1), ["2027-01-01T00:00:00Z"]);
    assert_eq!(of("0 0 * * 7", 1), of("0 0 * * 0", 1));
    assert_eq!(of("0 0 * * MON#1", 1), ["2026-12-07T00:00:00Z"]);
    assert_eq!(of("0 0 * * FRIL", 1), ["2026-11-27T00:00:00Z"]);
    assert_eq!(of("5/20 17 * * *", 2), ["2026-11-20T17:25:00Z", "2026-11-20T17:45:00Z"]);
    // One of the two, where both days are given; both, where one begins with a star.
    assert_eq!(of("0 0 13 * FRI", 2), ["2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z"]);
    assert_eq!(of("0 0 */2 * FRI", 1), ["2026-11-27T00:00:00Z"]);
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (json, said) in [
        (json!({ "cron": "0 0 30 2 *" }), "/cron: no such date exists"),
        (json!({ "calendars": { "month": 2, "day_of_month": 30 } }), "/calendars: no such date"),
        (json!({ "cron": ["@daily", "61 * * * *"] }), "/cron/1: \"61\" is no minute"),
        (json!({ "cron": "* * *" }), "/cron: it has 3 fields"),
        (json!({ "cron": "@reboot" }), "/cron: \"@reboot\" is none of"),
        (json!({ "cron": "0 0 * * FRI-TUE" }), "runs backwards"),
        (json!({ "cron": "*/0 * * * *" }), "the step must be"),
        (json!({ "cron": "@daily", "time_zone": "Mars/Base" }), "/time_zone: \"Mars/Base\""),
        (json!({ "every": "P1M" }), "/every: \"P1M\": years and months"),
        (json!({ "every": 999 }), "/every: must be 1 second"),
        (json!({ "every": "PT1H", "offset": "PT1H" }), "/offset: must be at least 0"),
        (json!({ "every": 1500 }), "/every: must be whole seconds"),
        (json!({}), "must say when"),
        (json!({ "every": 1000, "jitter_ms": -1 }), "/jitter_ms: must be 0 to 86400000"),
        (json!({ "every": 1000, "overlap": "both" }), "/overlap: \"both\" is no overlap policy"),
        (json!({ "every": 1000, "catch_up_window_ms": 1 }), "/catch_up_window_ms: must be 10000"),
        (json!({ "every": 1000, "end": "2020-01-01T00:00:00Z" }), "no time comes any more"),
        (json!({ "every": 1000, "start": "tomorrow" }), "/start: \"tomorrow\" is no instant"),
        (json!({ "every": 1000, "exclude": [{ "hours": 3 }] }), "/exclude/0/hours: is no field"),
        (json!({ "every": 1000, "exclude": "2026-02-30" }), "/exclude: \"2026-02-30\" is no day"),
        (json!({ "every": 1000, "exclude": [{}] }), "/every: no time comes any more"),
        (json!({ "every": 1000, "evry": 1 }), "/evry: is no member; these are: template"),
        (json!({ "every": 1000, "input": 1, "nominal_time_as": "due" }), "/nominal_time_as"),
        (json!({ "every": 1000, "input": "x".repeat(70_000) }), "at most 65536 bytes"),
    ] {
        let told = faults(json.clone());
        assert!(told.contains(said), "{json}: {told}");
    }
}

#[test]
fn intervals_calendars_and_exclusions_are_united() {
    let every = times(json!({ "every": "PT6H", "offset": "PT1H" }), "2026-01-01T00:00:00Z", 2);
    assert_eq!(every, ["2026-01-01T01:00:00Z", "2026-01-01T07:00:00Z"]);

    let working = json!({
        "cron": "0 9 * * MON-FRI",
        "calendars": [{ "hour": "18", "day_of_month": "L" }],
        "time_zone": "Europe/Berlin",
        "exclude": ["2026-12-25", { "month": 12, "day_of_month": "24,31", "hour": "9" }],
    });
    let found = times(working, "2026-12-23T12:00:00Z", 4);
    let wanted = ["2026-12-28T08:00:00Z", "2026-12-29T08:00:00Z", "2026-12-30T08:00:00Z"];
    assert_eq!(found[..3], wanted);
    assert_eq!(found[3], "2026-12-31T17:00:00Z");

    // A long exclusion is passed over at once.
    let second = json!({ "every": 1000, "exclude": { "month": "1-11" } });
    assert_eq!(times(second, "2026-01-01T00:00:00Z", 1), ["2026-12-01T00:00:00Z"]);

    let bounded = json!({
        "every": "P1D", "start": "2026-01-10T00:00:00Z", "end": "2026-01-11T00:00:00+00:00",
    });
    let found = times(bounded, "2026-01-01T00:00:00Z", 9);
    assert_eq!(found, ["2026-01-10T00:00:00Z", "2026-01-11T00:00:00Z"]);
}

#[test]
fn jitter_is_the_same_every_time_and_never_changes_the_order() {
    let spec = spec(&json!({ "template": "t", "every": 10_000, "jitter_ms": 60_000 }));
    let firings = spec.times.preview(&name(), 0, 500);

    assert_eq!(firings, spec.times.preview(&name(), 0, 500));
    assert_ne!(firings, spec.times.preview(&"other".parse().unwrap(), 0, 500));
    assert!(firings.iter().all(|at| (at.nominal..at.nominal + 10_000).contains(&at.due)));
    assert!(firings.iter().any(|at| at.due > at.nominal + 8_000));
}

/// A schedule, with a shell that carries out everything at once, and executions that run until they
/// are said to have ended.
struct World {
    schedule: Schedule,
    now: Millis,
    running: Vec<ExecutionId>,
    started: Vec<String>,
    ended: Vec<(String, Ending)>,
}

impl World {
    fn new(json: Json) -> Self {
        let mut json = json;
        json["template"] = "t".into();
        let now = at("2026-01-01T00:00:00Z");
        let schedule = Schedule::new(name(), spec(&json), now).unwrap();
        let (running, started, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { schedule, now, running, started, ended }
    }

    /// Ticks until nothing more is to be done now. The schedule is stored and read each time, as
    /// another worker would.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut outputs = self.schedule.handle(Input::Tick, self.now);
            if outputs.iter().any(|output| matches!(output, Output::Look(_))) {
                for output in outputs {
                    let Output::Look(execution) = output else { continue };
                    let runs = self.running.contains(&execution);
                    let seen = if runs { Seen::Running } else { Seen::Ended };
                    self.schedule.handle(Input::Seen { execution: &execution, seen }, self.now);
                }
                outputs = self.schedule.handle(Input::Tick, self.now);
            }
            for output in outputs {
                match output {
                    Output::Look(_) => {}
                    Output::Start(start) => {
                        let id = start.execution;
                        self.schedule.handle(Input::Started(&id), self.now);
                        if !self.started.contains(&id.to_string()) {
                            self.started.push(id.to_string());
                            self.running.push(id);
                        }
                    }
                    Output::End { execution, ending } => {
                        self.schedule.handle(Input::Ended(&execution), self.now);
                        self.ended.push((execution.to_string(), ending));
                    }
                }
            }
            if self.schedule.wakes_at(self.now).is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Lets time pass, with every wake on the way.
    fn pass(&mut self, millis: Millis) {
        let until = self.now + millis;
        while let Some(at) = self.schedule.wakes_at(self.now).filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// Time passes while nobody is there.
    fn outage(&mut self, millis: Millis) {
        self.now += millis;
        self.schedule = Schedule::from_bytes(&self.schedule.to_bytes()).unwrap();
        self.settle();
    }

    fn end_all(&mut self) {
        self.running.clear();
    }

    /// The times of day of what was started.
    fn started(&self) -> Vec<&str> {
        self.started.iter().map(|id| id.strip_prefix("nightly-20260101T").unwrap()).collect()
    }

    fn skipped(&self) -> Vec<(&'static str, u64)> {
        let skipped = self.schedule.state().counts.skipped().into_iter();
        skipped.filter(|(_, count)| *count > 0).collect()
    }
}

const MINUTE: Millis = 60_000;

fn each_minute(overlap: &str) -> World {
    World::new(json!({ "every": "PT1M", "overlap": overlap, "catch_up_window_ms": 600_000 }))
}

#[test]
fn skip_passes_over_what_comes_while_the_one_before_runs() {
    let mut world = each_minute("skip");

    world.pass(3 * MINUTE);
    world.end_all();
    world.pass(MINUTE);

    assert_eq!(world.started(), ["000100Z", "000400Z"]);
    assert_eq!(world.skipped(), [("overlap", 2)]);
}

#[test]
fn buffer_one_keeps_one_and_starts_it_soon_after_the_end() {
    let mut world = each_minute("buffer_one");

    world.pass(4 * MINUTE);
    assert_eq!(world.started(), ["000100Z"]);
    assert_eq!(world.skipped(), [("buffer_full", 2)]);

    world.end_all();
    world.pass(5_000);
    assert_eq!(world.started(), ["000100Z", "000200Z"]);
}

#[test]
fn buffer_all_starts_all_one_after_the_other() {
    let mut world = each_minute("buffer_all");

    world.pass(4 * MINUTE);
    for _ in 0..3 {
        world.end_all();
        world.pass(5_000);
    }

    assert_eq!(world.started(), ["000100Z", "000200Z", "000300Z", "000400Z"]);
    assert_eq!(world.skipped(), []);
}

#[test]
fn cancel_other_asks_what_runs_to_end_and_starts_the_newest_after_it() {
    let mut world = each_minute("cancel_other");

    world.pass(3 * MINUTE);
    assert_eq!(world.ended, [("nightly-20260101T000100Z".to_owned(), Ending::Cancel)]);
    assert_eq!(world.skipped(), [("superseded", 1)]);

    world.end_all();
    world.pass(5_000);
    assert_eq!(world.started(), ["000100Z", "000300Z"]);
}

#[test]
fn terminate_other_ends_what_runs_at_once() {
    let mut world = each_minute("terminate_other");

    world.pass(2 * MINUTE);

    assert_eq!(world.ended, [("nightly-20260101T000100Z".to_owned(), Ending::Terminate)]);
}

#[test]
fn allow_all_starts_each_beside_the_others_and_remembers_few() {
    let mut world = each_minute("allow_all");

    world.pass(40 * MINUTE);

    assert_eq!(world.started.len(), 40);
    assert!(world.schedule.state().running.len() <= 16);
}

#[test]
fn after_an_outage_what_is_within_the_window_is_started_and_the_rest_is_counted() {
    let mut world = each_minute("allow_all");

    world.pass(2 * MINUTE);
    world.outage(60 * MINUTE);

    // Minutes 3 to 62, of which those up to ten minutes ago are started.
    assert_eq!(world.skipped(), [("catch_up", 49)]);
    assert_eq!(world.started.len(), 2 + 11);
    assert_eq!(world.started()[2], "005200Z");
}

#[test]
fn a_long_outage_of_a_fast_schedule_is_counted_to_the_last_time() {
    let mut world = World::new(json!({ "every": 1000, "catch_up_window_ms": 10_000 }));

    world.outage(86_400_000);

    assert_eq!(world.skipped(), [("overlap", 10), ("catch_up", 86_400 - 11)]);
}

#[test]
fn a_clock_that_is_set_back_starts_nothing_twice() {
    let mut world = each_minute("allow_all");

    world.pass(5 * MINUTE);
    world.now -= 4 * MINUTE;
    world.settle();
    assert_eq!(world.started.len(), 5);

    world.pass(5 * MINUTE);
    assert_eq!(world.started.len(), 6);
}

#[test]
fn a_clock_that_is_set_forward_is_an_outage() {
    let mut world = each_minute("allow_all");

    world.pass(MINUTE);
    world.now += 30 * MINUTE;
    world.settle();

    assert_eq!(world.started.len(), 1 + 11);
    assert_eq!(world.skipped(), [("catch_up", 19)]);
}

#[test]
fn while_it_is_paused_nothing_starts_but_what_a_person_asks_for() {
    let mut world = each_minute("skip");

    world.pass(MINUTE);
    world.end_all();
    assert!(world.schedule.pause(Some("stock-taking".into()), world.now));
    world.pass(3 * MINUTE);
    let asked = world.schedule.trigger(None, None, world.now).unwrap();
    world.pass(1);
    assert_eq!(world.started[1..], [asked.to_string()]);

    world.end_all();
    assert!(world.schedule.resume(world.now).unwrap());
    world.pass(MINUTE);
    assert_eq!(world.started()[2], "000500Z");
    assert_eq!(world.skipped(), [("paused", 3)]);
}

#[test]
fn a_backfill_starts_the_past_one_after_the_other_and_each_time_once() {
    let mut world = each_minute("skip");
    world.pass(10 * MINUTE);
    world.end_all();
    let range = (at("2026-01-01T00:01:00Z"), at("2026-01-01T00:04:30Z"));

    assert_eq!(world.schedule.backfill(range, None, world.now), Ok(4));
    for _ in 0..6 {
        world.pass(1_000);
        world.end_all();
    }

    // The first had run.
    assert_eq!(world.started(), ["000100Z", "000200Z", "000300Z", "000400Z"]);
    let future = (world.now, world.now + MINUTE);
    let refused = world.schedule.backfill(future, None, world.now).unwrap_err();
    assert!(refused.to_string().contains("is not past"), "{refused}");
}

#[test]
fn a_backfill_beside_each_other_is_started_in_parts() {
    let mut world = each_minute("skip");
    let range = (at("2025-12-31T00:00:00Z"), at("2025-12-31T04:59:00Z"));

    let all = world.schedule.backfill(range, Some(Overlap::AllowAll), world.now);
    world.settle();

    assert_eq!(all, Ok(300));
    assert_eq!(world.started.len(), 300);
}

#[test]
fn a_start_that_is_not_acknowledged_is_asked_for_again_by_whoever_comes_after() {
    let mut world = each_minute("skip");
    world.now += MINUTE;
    let first = world.schedule.handle(Input::Tick, world.now);

    let mut after = Schedule::from_bytes(&world.schedule.to_bytes()).unwrap();
    let again = after.handle(Input::Tick, world.now + 700_000);

    assert_eq!(first.len(), 1);
    assert_eq!(again[..1], first);
}

#[test]
fn a_start_that_the_engine_refuses_holds_nothing_up() {
    let mut world = each_minute("skip");
    world.pass(MINUTE);
    let id = world.running.pop().unwrap();
    let seen = Seen::Refused("no such template".into());
    world.schedule.handle(Input::Seen { execution: &id, seen }, world.now);

    world.pass(MINUTE);

    let state = world.schedule.state();
    assert_eq!((state.counts.started, state.counts.refused), (1, 1));
    assert!(state.recent.iter().any(|recent| recent.what == What::Refused));
    assert_eq!(world.started(), ["000100Z", "000200Z"]);
}

#[test]
fn a_changed_schedule_begins_at_the_change() {
    let mut world = World::new(json!({ "cron": "@daily" }));
    world.pass(30 * MINUTE);

    let hourly = spec(&json!({ "template": "t", "every": "PT10M" }));
    assert_eq!(world.schedule.replace(hourly.clone(), world.now), Ok(true));
    assert_eq!(world.schedule.replace(hourly, world.now), Ok(false));
    world.pass(10 * MINUTE);

    assert_eq!(world.started(), ["004000Z"]);
}

#[test]
fn the_nominal_time_is_in_the_input_where_it_is_asked_for() {
    let json =
        json!({ "template": "t", "every": 1000, "input": { "a": 1 }, "nominal_time_as": "due" });

    assert_eq!(spec(&json).input_of(5_000).to_string(), r#"{"a":1,"due":5000}"#);
}
