//! The world outside of the demo: payment, carrier and billing services that fail at random, the
//! same way for the same seed, and an operations desk that takes notes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pled_engine::value::{Object, Value};
use pled_workers::action::{Registry, Task, TaskError};

use super::orders::{Orders, World};

/// The simulated services for these orders.
pub(crate) fn services(orders: &Orders, seed: u64) -> Registry {
    let worlds: Arc<BTreeMap<String, World>> = Arc::new(orders.worlds.clone());
    let desk = |worlds: &Arc<BTreeMap<String, World>>| worlds.clone();
    let (charges, carriers, invoices) = (desk(&worlds), desk(&worlds), desk(&worlds));
    let gateway = Gateway::default();
    Registry::new()
        .handle("payments.charge", move |task: Task| {
            let (worlds, gateway) = (charges.clone(), gateway.clone());
            async move { charge(&task, world_of(&worlds, &task), &gateway, seed).await }
        })
        .handle("payments.refund", move |task: Task| async move {
            work(&task, seed, 10, 30).await;
            fails_sometimes(&task, seed, 0, "gateway_timeout")?;
            Ok(object([("refunded", text(&task, "charge"))]))
        })
        .handle("carrier.book", move |task: Task| {
            let worlds = carriers.clone();
            async move { book(&task, world_of(&worlds, &task), seed).await }
        })
        .handle("billing.invoice", move |task: Task| {
            let worlds = invoices.clone();
            async move { invoice(&task, world_of(&worlds, &task), seed).await }
        })
        .handle("ops.ticket", move |task: Task| async move {
            work(&task, seed, 1, 5).await;
            Ok(object([("ticket", format!("T-{:06}", draw(&task, seed) % 1_000_000))]))
        })
        .handle("notify.ops", move |task: Task| async move {
            work(&task, seed, 1, 5).await;
            Ok(Value::Null)
        })
}

/// How often each order was charged, over all invocations: the gateway gets better with time, so
/// that an order whose attempts are exhausted can still be paid in the template's next round.
#[derive(Clone, Default)]
struct Gateway(Arc<Mutex<BTreeMap<String, u32>>>);

impl Gateway {
    fn count(&self, order: &str) -> u32 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(order.to_owned()).or_default();
        *count += 1;
        *count
    }
}

async fn charge(
    task: &Task,
    world: World,
    gateway: &Gateway,
    seed: u64,
) -> Result<Value, TaskError> {
    work(task, seed, 5, 40).await;
    if world.card_declined {
        return Err(TaskError::fatal("card_declined", "the bank declined the card"));
    }
    if gateway.count(task.execution.as_str()) <= world.charge_fails {
        return Err(TaskError::retryable("gateway_timeout", "the payment gateway did not answer"));
    }
    fails_sometimes(task, seed, 12, "gateway_timeout")?;
    Ok(object([("charge_id", format!("ch_{}", text(task, "order")))]))
}

async fn book(task: &Task, world: World, seed: u64) -> Result<Value, TaskError> {
    work(task, seed, 10, 60).await;
    if task.attempt <= world.carrier_fails {
        return Err(TaskError::retryable("carrier_busy", "no slot at the carrier"));
    }
    fails_sometimes(task, seed, 15, "carrier_busy")?;
    Ok(object([("tracking", format!("TRK-{:08}", draw(task, seed) % 100_000_000))]))
}

async fn invoice(task: &Task, world: World, seed: u64) -> Result<Value, TaskError> {
    work(task, seed, 5, 25).await;
    if world.billing_fails {
        return Err(TaskError::fatal("ledger_closed", "the books of the month are closed"));
    }
    Ok(object([("number", format!("INV-{:06}", draw(task, seed) % 1_000_000))]))
}

/// Takes between `least` and `most` milliseconds.
async fn work(task: &Task, seed: u64, least: u64, most: u64) {
    tokio::time::sleep(Duration::from_millis(least + draw(task, seed ^ 7) % (most - least))).await;
}

/// Fails in `percent` of the attempts.
fn fails_sometimes(task: &Task, seed: u64, percent: u64, code: &str) -> Result<(), TaskError> {
    if draw(task, seed ^ 11) % 100 < percent {
        return Err(TaskError::retryable(code, "it happens"));
    }
    Ok(())
}

/// A number that depends on the seed, the task and the attempt alone (FNV-1a).
fn draw(task: &Task, seed: u64) -> u64 {
    let key = format!("{seed}/{}/{}/{}", task.action, task.key, task.attempt);
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 29)
}

fn world_of(worlds: &BTreeMap<String, World>, task: &Task) -> World {
    worlds.get(task.execution.as_str()).cloned().unwrap_or_default()
}

fn text(task: &Task, key: &str) -> String {
    task.input.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned()
}

fn object<const N: usize>(members: [(&str, String); N]) -> Value {
    members.into_iter().map(|(key, text)| (key, Value::from(text))).collect::<Object>().into()
}
