//! The demo's input: `deploy/demo/orders.ndjson`, one raw message a line.

use std::collections::BTreeMap;

use anyhow::Context;
use pled_engine::value::Value;
use serde::Deserialize;

const ORDERS: &str = include_str!("../../deploy/demo/orders.ndjson");

/// The template that they go through.
pub(crate) const TEMPLATE: &str = include_str!("../../deploy/demo/order.json");

/// What is to be published, and how the world treats it.
#[derive(Debug)]
pub(crate) struct Orders {
    /// In the order of their times.
    pub(crate) messages: Vec<Publication>,
    /// By the order's id.
    pub(crate) worlds: BTreeMap<String, World>,
}

/// One raw message.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Publication {
    /// Milliseconds after the start.
    pub(crate) at_ms: u64,
    /// Where to.
    pub(crate) subject: String,
    /// The event's id.
    pub(crate) id: String,
    /// The payload.
    pub(crate) data: Option<Value>,
    #[serde(default)]
    world: Option<World>,
}

/// How the simulated services treat an order.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct World {
    /// How the order is expected to go, for people.
    pub(crate) kind: String,
    /// How many attempts of a charge fail, over all rounds.
    #[serde(default)]
    pub(crate) charge_fails: u32,
    #[serde(default)]
    pub(crate) card_declined: bool,
    /// How many bookings fail.
    #[serde(default)]
    pub(crate) carrier_fails: u32,
    #[serde(default)]
    pub(crate) billing_fails: bool,
}

impl Orders {
    /// The orders, `rounds` times over, each round with ids of its own.
    pub(crate) fn read(rounds: u32) -> anyhow::Result<Self> {
        let mut orders = Self { messages: Vec::new(), worlds: BTreeMap::new() };
        for round in 1..=rounds {
            for (number, line) in ORDERS.lines().enumerate() {
                let line = if round == 1 {
                    line.to_owned()
                } else {
                    line.replace("order-", &format!("r{round}order-"))
                };
                let message: Publication = serde_json::from_str(&line)
                    .with_context(|| format!("line {} of orders.ndjson", number + 1))?;
                if let Some(world) = &message.world {
                    let order = message.data.as_ref().and_then(|data| data.get("order_id"));
                    let order = order.and_then(Value::as_str).context("an order without an id")?;
                    orders.worlds.insert(order.to_owned(), world.clone());
                }
                orders.messages.push(message);
            }
        }
        orders.messages.sort_by_key(|message| message.at_ms);
        Ok(orders)
    }
}
