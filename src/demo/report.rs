//! The demo's summary.

use std::collections::BTreeMap;
use std::time::Duration;

use pled_engine::entry::JournalEntry;

use super::Checked;
use super::orders::Orders;
use super::progress::{Order, Progress};
use crate::bench::statistics::percentile_ms;
use crate::{render, say, say_error};

pub(crate) fn print(progress: &Progress, orders: &Orders, elapsed: Duration, checked: &Checked) {
    say("");
    say("How the orders ended");
    let mut table: BTreeMap<(&str, String), (usize, Vec<i64>)> = BTreeMap::new();
    for (id, order) in progress.orders() {
        let kind = orders.worlds.get(id.as_str()).map_or("other", |world| world.kind.as_str());
        let row = table.entry((kind, order.outcome())).or_default();
        row.0 += 1;
        row.1.push(order.took_ms());
    }
    for ((kind, outcome), (count, mut took)) in table {
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        say(format!("  {count:>4}  {kind:<30} -> {outcome:<12} median {median:>6} ms"));
    }
    say("");
    let entries = progress.entries();
    let rate = per_second(entries, elapsed);
    let mut steps = steps(progress);
    steps.sort_unstable();
    say(format!(
        "{entries} entries in {:.1} s ({rate:.0}/s), {} tasks, {} of them retries",
        elapsed.as_secs_f64(),
        progress.tasks(),
        progress.retries()
    ));
    say(format!(
        "from one entry of an order to the next: p50 {:.1} ms, p99 {:.1} ms (retry pauses and \
         timers included)",
        percentile_ms(&steps, 0.5),
        percentile_ms(&steps, 0.99)
    ));
    say(format!(
        "replayed {} executions, {} entries in {:.2} s: {}",
        checked.replayed.executions,
        checked.replayed.entries,
        checked.replay_time.as_secs_f64(),
        if checked.replayed.divergences.is_empty() {
            "every transition, effect, state and hash as recorded"
        } else {
            "DIFFERENT from what is recorded"
        }
    ));
    match checked.ledger_entries {
        Some(same) => {
            say(format!("ledger: {same} of {entries} entries the same as in the journal"))
        }
        None => say("ledger: left out, for there is no Postgres"),
    }
    story(progress, orders);
    for mismatch in &checked.mismatches {
        say_error(&format!("mismatch: {mismatch}"));
    }
    say("");
    say("Try next:");
    say("  pled dev                                      # your own server, gateway and workers");
    say("  pled template add examples/approval.json      # then, in a second terminal, a template");
    say("  pled start approval '{\"what\":\"a chair\",\"amount\":450}' --id chair-1 --wait");
}

/// One order's story, line by line: of those that were held, the one with most to tell.
fn story(progress: &Progress, orders: &Orders) {
    let of_kind = |kind: &str| {
        let candidates = progress.orders().filter(|(id, _)| {
            orders.worlds.get(id.as_str()).is_some_and(|world| world.kind == kind)
        });
        candidates.max_by_key(|(_, order)| order.entries.len())
    };
    let told = of_kind("held and released").or_else(|| progress.orders().next());
    let Some((id, Order { entries })) = told else { return };
    let kind = orders.worlds.get(id.as_str()).map_or("", |world| world.kind.as_str());
    say("");
    say(format!("The story of {id} ({kind})"));
    let entries: &[JournalEntry] = entries;
    say(render::table(&render::story(entries)).trim_end());
}

fn steps(progress: &Progress) -> Vec<Duration> {
    let gap = |pair: &[JournalEntry]| {
        Duration::from_millis(u64::try_from(pair[1].at - pair[0].at).unwrap_or(0))
    };
    progress.orders().flat_map(|(_, order)| order.entries.windows(2).map(gap)).collect()
}

fn per_second(count: usize, elapsed: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / elapsed.as_secs_f64().max(0.001)
}
