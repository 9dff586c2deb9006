//! What is wrong is found, and said with what to do.

use pled_harness::async_nats::jetstream;
use pled_operations::doctor::{Diagnosis, Finding, Health, LedgerFacts, examine};
use pled_streams::locks::{self, Halt};

use crate::{Installation, connect};

impl Installation {
    async fn examine(&self) -> Diagnosis {
        let nats = connect(&self.server).await;
        let _ = pled_streams::topology::open(&nats).await;
        examine(&nats, &LedgerFacts::None).await.unwrap()
    }
}

fn finding<'d>(diagnosis: &'d Diagnosis, what: &str) -> &'d Finding {
    let found = diagnosis.findings.iter().find(|finding| finding.what == what);
    found.unwrap_or_else(|| panic!("nothing is said of {what}: {:?}", diagnosis.findings))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_installation_is_well_and_says_what_a_power_cut_would_cost() {
    let pled = Installation::start().await;
    let engine = pled.drive("e1");
    let charging = pled.charge();
    pled.order("o1", "o1").await;
    pled.wait_for_state("o1", "shipping").await;
    pled.wait_for_rest().await;

    let diagnosis = pled.examine().await;

    assert!(diagnosis.is_well(), "{:?}", diagnosis.findings);
    assert!(finding(&diagnosis, "engine workers").found.contains("e1"));
    assert_eq!(finding(&diagnosis, "inputs").health, Health::Ok);
    assert_eq!(finding(&diagnosis, "sync_interval").health, Health::Warn);
    assert!(finding(&diagnosis, "queues").found.contains("packing.wrap"));
    let journal = diagnosis.costs.iter().find(|cost| cost.stream == "PLED_JOURNAL").unwrap();
    assert_eq!(journal.kill, "nothing");
    assert_eq!(journal.power_cut, "the last 120 s");
    assert_eq!(journal.loss_of_a_server, "everything");
    charging.stop().await;
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_is_wrong_is_said_with_what_to_do() {
    let pled = Installation::start().await;
    pled.order("o1", "o1").await;
    let raw = jetstream::new(pled.nats.client().clone());
    let mut tasks = raw.get_stream("PLED_TASKS").await.unwrap().cached_info().config.clone();
    tasks.max_messages_per_subject = 7;
    raw.update_stream(&tasks).await.unwrap();
    let halt = Halt { reason: "something is lost".into(), worker: "e1".into() };
    locks::halt(&pled.nats, &halt).await;

    let diagnosis = pled.examine().await;

    assert!(!diagnosis.is_well());
    for (what, said) in [
        ("PLED_TASKS", "`max_msgs_per_subject` is 7 and must be 1"),
        ("halted", "e1 found: something is lost"),
        ("engine workers", "4 of 4 partitions have no owner"),
    ] {
        let Finding { health, found, advice, .. } = finding(&diagnosis, what);
        assert_eq!((*health, advice.is_some()), (Health::Bad, true), "{what}: {found}");
        assert!(found.contains(said), "{what}: {found}");
    }

    raw.delete_stream("PLED_SIGNALS").await.unwrap();
    let diagnosis = pled.examine().await;
    let Finding { health, found, advice, .. } = finding(&diagnosis, "streams");
    assert_eq!((*health, found.as_str()), (Health::Bad, "PLED_SIGNALS missing"));
    assert!(advice.as_deref().is_some_and(|advice| advice.contains("pled recover")));
}
