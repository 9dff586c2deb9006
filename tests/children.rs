//! Orders whose parcels are executions of their own, in other partitions, while the engine that
//! runs both is killed again and again.
#![expect(clippy::unwrap_used, reason = "in tests, also in their helpers, a failure is to panic")]

mod support;

use std::collections::BTreeMap;

use pled_engine::effect::EffectKind;
use pled_engine::entry::JournalEntry;
use pled_engine::execution::Status;
use pled_engine::id::ExecutionId;
use pled_engine::replay::replay;
use pled_engine::template::Template;
use pled_harness::{NatsOptions, wait_until};
use pled_streams::events::{EventToSend, send};
use pled_streams::{ConnectOptions, Nats, dead, journal, templates, topology};
use support::{Installation, Role, SOON};

const ORDER: &str = include_str!("../examples/order-with-parcels.json");
const PARCEL: &str = include_str!("../examples/parcel.json");
const ORDERS: usize = 24;
/// The fifth part of the orders ends in each of these ways.
const FATES: [&str; 5] = ["DELIVERED", "LOST", "pled.cancel", "pled.terminate", "RECALL"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_parents_and_children_in_all_partitions_survive_kill_9_of_the_engine() {
    let world = World::begin().await;
    let mut engine = world.pled.role("engine", &["engine", "--lease-ttl-ms", "1000"]);

    for number in 0..ORDERS {
        world.send(&order(number), "pled.init", Some("order-with-parcels")).await;
        if number % 8 == 7 {
            kill(&mut engine).await;
        }
    }
    world.all_parcels_are_there().await;
    kill(&mut engine).await;
    for number in 0..ORDERS {
        world.meet_its_fate(number).await;
        if number % 8 == 7 {
            kill(&mut engine).await;
        }
    }
    world.all_orders_ended().await;

    world.each_order_heard_what_became_of_its_parcel().await;
    world.every_step_follows_from_its_causes().await;
    let dead = dead::list(&world.nats, 10).await.unwrap();
    assert!(dead.is_empty(), "{dead:?}");
}

fn order(number: usize) -> ExecutionId {
    format!("order-{number}").parse().unwrap()
}

/// SIGKILL, then a new process.
async fn kill(engine: &mut Role) {
    engine.child.as_mut().unwrap().kill().await.unwrap();
    engine.run();
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
        for template in [ORDER, PARCEL] {
            templates::register(&nats, template).await.unwrap();
        }
        Self { pled, nats }
    }

    async fn send(&self, to: &ExecutionId, event: &str, template: Option<&str>) {
        let event = EventToSend {
            execution: to.clone(),
            event_type: event.parse().unwrap(),
            data: Default::default(),
            event_id: None,
            template: template.map(|template| template.parse().unwrap()),
            reply: None,
            origin: None,
            emitted: None,
        };
        send(&self.nats, event).await.unwrap();
    }

    async fn entries(&self, execution: &ExecutionId) -> Vec<JournalEntry> {
        let history = journal::history(&self.nats, execution).await.unwrap();
        history.into_iter().map(|loaded| loaded.entry).collect()
    }

    /// The parcels of an order, by the id under which it started them.
    async fn parcels(&self, number: usize) -> BTreeMap<String, ExecutionId> {
        let entries = self.entries(&order(number)).await;
        let effects = entries.iter().flat_map(|entry| &entry.effects);
        effects
            .filter_map(|effect| match &effect.kind {
                EffectKind::ChildStart(start) => {
                    Some((start.invocation.to_string(), start.child.clone()))
                }
                EffectKind::Task(_)
                | EffectKind::TaskCancel { .. }
                | EffectKind::TimerSet { .. }
                | EffectKind::TimerCancel { .. }
                | EffectKind::Send { .. }
                | EffectKind::ChildCancel { .. }
                | EffectKind::ChildDone { .. } => None,
            })
            .collect()
    }

    async fn status(&self, execution: &ExecutionId) -> Option<Status> {
        let newest = journal::newest(&self.nats, execution, true).await.unwrap();
        newest.map(|newest| newest.entry.status)
    }

    /// Each parcel says so when it travels.
    async fn all_parcels_are_there(&self) {
        for number in 0..ORDERS {
            wait_until(SOON * 2, "an order hears of its parcels", async || {
                let entries = self.entries(&order(number)).await;
                let state = entries.last().and_then(|entry| entry.state.as_ref());
                let scans = state.and_then(|state| state.context.get("scans"));
                scans.is_some_and(|scans| scans.as_int() == Some(2))
            })
            .await;
        }
    }

    async fn meet_its_fate(&self, number: usize) {
        let goods = self.parcels(number).await["goods"].clone();
        match FATES[number % 5] {
            "RECALL" => self.send(&order(number), "RECALL", None).await,
            fate => self.send(&goods, fate, None).await,
        }
    }

    async fn all_orders_ended(&self) {
        for number in 0..ORDERS {
            let goods = self.parcels(number).await["goods"].clone();
            wait_until(SOON * 2, "an order and its goods end", async || {
                self.status(&goods).await.is_some_and(Status::is_terminal)
                    && self.status(&order(number)).await == Some(Status::Done)
            })
            .await;
        }
    }

    async fn each_order_heard_what_became_of_its_parcel(&self) {
        for number in 0..ORDERS {
            let entries = self.entries(&order(number)).await;
            let state = entries.last().unwrap().state.as_ref().unwrap();
            let outcome = state.output.get("outcome").map(ToString::to_string).unwrap_or_default();
            let expected = match FATES[number % 5] {
                "DELIVERED" => r#""delivered""#,
                "LOST" => r#""error.invoke.search""#,
                "pled.cancel" => r#""cancelled""#,
                "pled.terminate" => r#""terminated""#,
                _ => r#""recalled""#,
            };
            assert_eq!(outcome, expected, "{}", order(number));
            assert!(state.tasks.is_empty());
            // The parcel sent it before it ended, whatever was killed.
            let seen = state.output.get("scans").map(ToString::to_string).unwrap_or_default();
            assert_eq!(seen, "2", "{}", order(number));

            let parcels = self.parcels(number).await;
            let goods = self.status(&parcels["goods"]).await.unwrap();
            assert!(goods.is_terminal());
            // The order leaves its leaflet alone, whatever becomes of it.
            assert_eq!(self.status(&parcels["leaflet"]).await, Some(Status::Running));
        }
    }

    async fn every_step_follows_from_its_causes(&self) {
        let [order_template, parcel_template] =
            [ORDER, PARCEL].map(|source| Template::parse(source).unwrap());
        for number in 0..ORDERS {
            replay(&order_template, &self.entries(&order(number)).await).unwrap();
            for (name, parcel) in self.parcels(number).await {
                let entries = self.entries(&parcel).await;
                replay(&parcel_template, &entries).unwrap();
                let parent = entries[0].state.as_ref().unwrap().parent.as_ref().unwrap();
                assert_eq!(parent.execution, order(number), "{name}");
                let starts = entries.iter().flat_map(|entry| &entry.causes);
                assert_eq!(starts.filter(|cause| cause.depth.is_some()).count(), 1);
            }
        }
    }
}
