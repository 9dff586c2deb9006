//! Schedules on real servers: every time is started once, whoever is killed; policies, pauses and
//! the past.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use pled_engine::id::ExecutionId;
use pled_harness::{NatsOptions, wait_until};
use pled_streams::{ConnectOptions, Nats, dead, journal, snapshots, templates, topology};
use serde_json::{Value, json};
use support::{Installation, Role, SOON};

/// Ends at once.
const QUICK: &str = r#"{"pled":"1.0","id":"quick","version":1,"logic":"pled-logic-1",
    "initial":"done","states":{"done":{"type":"final"}}}"#;
/// Ends when it is told to.
const SLOW: &str = r#"{"pled":"1.0","id":"slow","version":1,"logic":"pled-logic-1",
    "initial":"working","states":{"working":{"on":{"STOP":"done"}},"done":{"type":"final"}}}"#;

fn count(state: &Value, of: &str) -> u64 {
    state["counts"][of].as_u64().unwrap()
}

struct World {
    pled: Installation,
    nats: Nats,
}

impl World {
    async fn begin() -> Self {
        let pled = Installation::start(NatsOptions::default(), None).await;
        let nats = Nats::connect(ConnectOptions::to(pled.server.url(), "story")).await.unwrap();
        topology::open(&nats).await.unwrap();
        for template in [QUICK, SLOW] {
            templates::register(&nats, template).await.unwrap();
        }
        Self { pled, nats }
    }

    fn role(&self, name: &'static str) -> Role {
        self.pled.role(name, &[if name.starts_with("engine") { "engine" } else { "scheduler" }])
    }

    /// Runs `pled schedule … --output json`.
    async fn schedule(&self, arguments: &[&str]) -> Value {
        let all = [&["schedule"], arguments, &["--output", "json"]].concat();
        serde_json::from_str(self.pled.pled(&all).await.succeeded()).unwrap()
    }

    async fn create(&self, name: &str, spec: &Value) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("schedule.json");
        std::fs::write(&file, spec.to_string()).unwrap();
        self.schedule(&["create", name, "--file", file.to_str().unwrap()]).await;
    }

    /// The times of what was started for a schedule, in seconds since the epoch, by the journal.
    async fn started(&self, name: &str) -> BTreeSet<i64> {
        let ids = snapshots::ids(&self.nats, None).await.unwrap();
        let time = |id: ExecutionId| {
            let token = id.as_str().strip_prefix(name)?.strip_prefix('-')?.to_owned();
            let (day, time) = token.strip_suffix('Z')?.split_once('T')?;
            let text = format!(
                "{}-{}-{}T{}:{}:{}Z",
                &day[..4],
                &day[4..6],
                &day[6..],
                &time[..2],
                &time[2..4],
                &time[4..]
            );
            Some(pled_engine::schedule::instant(&text).unwrap() / 1_000)
        };
        ids.into_iter().filter_map(time).collect()
    }

    async fn stop(&self, execution: &str) {
        self.pled.pled(&["send", execution, "STOP", "--wait"]).await.succeeded();
    }

    async fn state(&self, name: &str) -> Value {
        self.schedule(&["show", name]).await["state"].clone()
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = std::cell::RefCell::new(Value::Null);
        wait_until(SOON, what, async || {
            let state = self.state(name).await;
            let it_holds = holds(&state);
            *found.borrow_mut() = state;
            it_holds
        })
        .await;
        found.into_inner()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_every_second_is_started_once_while_the_schedule_worker_is_killed() {
    let world = World::begin().await;
    let _engine = world.role("engine");
    let mut one = world.role("scheduler-one");
    world
        .create("tick", &json!({ "template": "quick", "every": 1000, "overlap": "allow_all" }))
        .await;

    world.until("tick", "some are started", |state| count(state, "started") > 2).await;
    one.child.as_mut().unwrap().kill().await.unwrap();
    let _two = world.role("scheduler-two");
    let before = count(&world.state("tick").await, "started");
    let state =
        world.until("tick", "another goes on", |state| count(state, "started") > before + 3).await;

    // Every second from the first to the last is there, none twice, for an id is started once.
    let last = state["last"].as_i64().unwrap() / 1_000;
    let started = count(&state, "started");
    let first = last + 1 - i64::try_from(started).unwrap();
    wait_until(SOON, "all of them have run", async || {
        let started = world.started("tick").await;
        (first..=last).all(|second| started.contains(&second)) && started.first() == Some(&first)
    })
    .await;
    assert_eq!(state["counts"]["catch_up"], 0);
    for second in world.started("tick").await {
        let id = pled_engine::schedule::instant_text(second * 1_000).replace(['-', ':'], "");
        let entries = journal::history(&world.nats, &format!("tick-{id}").parse().unwrap()).await;
        assert_eq!(entries.unwrap().len(), 1, "{id}");
    }
    assert!(dead::list(&world.nats, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_skip_and_buffer_wait_for_what_runs() {
    let world = World::begin().await;
    let _engine = world.role("engine");
    let _scheduler = world.role("scheduler");
    world.create("skip", &json!({ "template": "slow", "every": 1000 })).await;
    let buffer = json!({ "template": "slow", "every": 1000, "overlap": "buffer_one" });
    world.create("buffer", &buffer).await;

    let skip = world.until("skip", "two are skipped", |state| count(state, "overlap") >= 2).await;
    let buffer = world.until("buffer", "one waits", |state| count(state, "buffer_full") >= 1).await;
    assert_eq!(skip["counts"]["started"], 1);
    assert_eq!(buffer["counts"]["started"], 1);
    assert_eq!(buffer["waiting"].as_array().unwrap().len(), 1);

    let first = buffer["running"][0]["execution"].as_str().unwrap();
    wait_until(SOON, "the first runs", async || {
        journal::newest(&world.nats, &first.parse().unwrap(), true).await.unwrap().is_some()
    })
    .await;
    world.stop(first).await;
    let waited = buffer["waiting"][0]["execution"].clone();
    world
        .until("buffer", "what waited runs", |state| state["running"][0]["execution"] == waited)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_others_are_cancelled_or_terminated_to_make_room() {
    let world = World::begin().await;
    let _engine = world.role("engine");
    let _scheduler = world.role("scheduler");

    for (overlap, status) in [("cancel_other", "cancelled"), ("terminate_other", "terminated")] {
        let name = overlap.replace('_', "-");
        world
            .create(&name, &json!({ "template": "slow", "every": 2000, "overlap": overlap }))
            .await;
        let state =
            world.until(&name, "two are started", |state| count(state, "started") >= 2).await;
        let recent = state["recent"].as_array().unwrap();
        let first = recent.iter().find(|recent| recent["what"] == "started").unwrap();
        let first = first["execution"].as_str().unwrap().parse().unwrap();
        let newest = journal::newest(&world.nats, &first, true).await.unwrap().unwrap();
        assert_eq!(newest.entry.status.as_str(), status);
        world.schedule(&["delete", &name]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_a_schedule_is_paused_triggered_backfilled_and_deleted() {
    let world = World::begin().await;
    let _engine = world.role("engine");
    let _scheduler = world.role("scheduler");
    let spec = json!({
        "template": "quick", "every": 1000, "input": { "of": "story" }, "nominal_time_as": "due",
    });
    world.create("daily", &spec).await;
    world.until("daily", "it starts", |state| count(state, "started") >= 1).await;

    let paused = world.schedule(&["pause", "daily", "--reason", "stock-taking"]).await;
    assert_eq!(paused["state"]["paused"]["reason"], "stock-taking");
    let asked = world.schedule(&["trigger", "daily"]).await;
    let asked: ExecutionId = asked["execution"].as_str().unwrap().parse().unwrap();
    let range = ["--from", "2026-01-31T23:59:58Z", "--until", "2026-02-01T00:00:01Z"];
    let past = world.schedule(&[&["backfill", "daily"][..], &range].concat()).await;
    assert_eq!(past["times"], 4);
    let last: ExecutionId = "daily-20260201T000001Z".parse().unwrap();
    for execution in [&asked, &last] {
        wait_until(SOON, "it runs although the schedule is paused", async || {
            journal::newest(&world.nats, execution, true).await.unwrap().is_some()
        })
        .await;
    }
    let entry = journal::newest(&world.nats, &last, true).await.unwrap().unwrap().entry;
    let input = entry.causes[0].data.to_string();
    assert_eq!(input, r#"{"due":1769904001000,"of":"story"}"#);

    let before = count(&world.state("daily").await, "started");
    tokio::time::timeout(Duration::from_secs(30), async {
        world.schedule(&["resume", "daily"]).await;
        let resumed = |state: &Value| count(state, "started") > before;
        world.until("daily", "it goes on", resumed).await;
    })
    .await
    .unwrap();
    world.until("daily", "the pause is counted", |state| count(state, "paused") >= 1).await;

    let missing = world.pled.pled(&["schedule", "show", "nightly"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (Some(1), ""));
    world.schedule(&["delete", "daily"]).await;
    assert_eq!(world.schedule(&["list"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_a_start_that_is_refused_is_told_and_holds_nothing_up() {
    let world = World::begin().await;
    let _engine = world.role("engine");
    let _scheduler = world.role("scheduler");
    let strict = r#"{"pled":"1.0","id":"strict","version":1,"logic":"pled-logic-1",
        "events":{"pled.init":{"schema":{"type":"object","required":["what"]}}},
        "initial":"done","states":{"done":{"type":"final"}}}"#;
    templates::register(&world.nats, strict).await.unwrap();
    world.create("wrong", &json!({ "template": "strict", "every": 1000 })).await;

    let state = world.until("wrong", "two are refused", |state| count(state, "refused") >= 2).await;

    let recent = state["recent"].as_array().unwrap();
    let refused = recent.iter().find(|recent| recent["what"] == "refused").unwrap();
    assert!(refused["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{refused}");
}
