//! What was set aside can be sent again, once, or dropped; and it is told from what is lost.

use pled_harness::wait_until;
use pled_operations::dead::{Filter, Retried, drop_record, list, retry};
use pled_streams::dead::Dead;

use crate::{Installation, SOON, event, execution};

impl Installation {
    async fn set_aside(&self, filter: &Filter) -> Vec<Dead> {
        list(&self.nats, filter, 100).await.unwrap()
    }

    async fn has_set_aside(&self, count: usize) {
        wait_until(SOON, "it is set aside", || async {
            list(&self.nats, &Filter::default(), 100).await.is_ok_and(|all| all.len() == count)
        })
        .await;
    }

    async fn causes(&self, id: &str, kind: &str) -> usize {
        let entries = pled_streams::journal::history(&self.nats, &execution(id)).await.unwrap();
        let causes = entries.iter().flat_map(|loaded| &loaded.entry.causes);
        causes.filter(|cause| cause.cause_type.as_str() == kind).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_came_too_early_is_sent_again_and_taken_once() {
    let pled = Installation::start().await;
    let engine = pled.drive("e1");
    let charging = pled.charge();
    pled.publish(event("o1", "PACKED", "{}", None)).await; // Without an id, before its start.
    let friend = pled.order("o2", "o1").await; // Greets o1, which is not there.
    pled.wait_for_state("o2", "shipping").await;
    pled.has_set_aside(2).await;
    pled.order("o1", "o2").await;
    pled.wait_for_state("o1", "shipping").await;

    let of_o1 = Filter { execution: Some(execution("o1")), ..Filter::default() };
    let records = pled.set_aside(&of_o1).await;
    let causes: Vec<_> = records.iter().map(|record| record.reason.as_str()).collect();
    assert_eq!(causes, ["unknown-execution", "unknown-execution"]);
    for record in &records {
        let sent = retry(&pled.nats, record).await.unwrap();
        assert!(matches!(sent, Retried::Sent { .. }), "{sent:?}");
        // A retry that was interrupted before the record was gone is done again, without effect.
        retry(&pled.nats, record).await.unwrap();
    }
    pled.wait_for_rest().await;

    assert_eq!(pled.set_aside(&Filter::default()).await.len(), 0);
    assert_eq!(pled.causes("o1", "PACKED").await, 1);
    assert_eq!(pled.causes("o1", "HELLO").await, 1);
    let notes = pled.set_aside(&Filter { notes: true, ..Filter::default() }).await;
    assert!(notes.iter().all(|note| note.reason == "retried" && note.is_note()), "{notes:?}");
    assert!(notes[0].detail.contains("unknown-execution"), "{}", notes[0].detail);
    let report = pled.verify(&[friend]).await;
    assert!(report.clean, "{:?}", report.violations);
    charging.stop().await;
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_leaves_a_note_and_is_not_called_lost() {
    let pled = Installation::start().await;
    let engine = pled.drive("e1");
    let ghost = pled.send("ghost", "PACKED", "g1").await;
    pled.publish(event("ghost", "BAD", "no json", None)).await;
    pled.has_set_aside(2).await;
    pled.wait_for_rest().await;

    let malformed = Filter { cause: Some("malformed".into()), ..Filter::default() };
    assert_eq!(pled.set_aside(&malformed).await.len(), 1);
    for record in pled.set_aside(&Filter::default()).await {
        assert!(drop_record(&pled.nats, &record).await.unwrap());
        assert!(!drop_record(&pled.nats, &record).await.unwrap(), "it is gone");
    }

    assert_eq!(pled.set_aside(&Filter::default()).await.len(), 0);
    let report = pled.verify(&[ghost]).await;
    assert!(report.clean, "{:?}", report.violations);
    engine.stop().await.unwrap();
}
