use std::time::Duration;

use pled_engine::id::TemplateSelector;
use pled_harness::wait_until;
use pled_streams::subject::StreamKind;
use pled_streams::templates::{
    Newest, RegisterError, TemplateCache, get, latest, list, list_versions, register, watch_newest,
};
use pled_streams::{Class, tasks};

use crate::{Installation, SOON, soon};

fn source(version: u32, action: &str) -> String {
    format!(
        r#"{{"pled":"1.0","logic":"pled-logic-1","id":"order","version":{version},
             "initial":"paying","states":{{
             "paying":{{"invoke":{{"id":"charge","src":"{action}","onDone":"done"}},
                        "entry":[{{"type":"mail.send"}}]}},
             "done":{{"type":"final"}}}}}}"#
    )
}

fn selector(text: &str) -> TemplateSelector {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_version_is_registered_once_and_never_altered() {
    let Installation { nats, server: _server } = Installation::start().await;

    let first = register(&nats, &source(1, "payments.charge")).await.unwrap();
    assert_eq!((first.reference.to_string(), first.existed), ("order@1".into(), false));
    let again = register(&nats, &source(1, "payments.charge")).await.unwrap();
    assert!(again.existed && again.hash == first.hash);
    let other = register(&nats, &source(1, "payments.refund")).await.unwrap_err();
    assert!(matches!(other, RegisterError::Conflict { .. }), "{other}");
    let invalid = register(&nats, "{}").await.unwrap_err();
    assert!(matches!(invalid, RegisterError::Invalid(_)), "{invalid}");

    let found = get(&nats, &selector("order")).await.unwrap().unwrap();
    assert_eq!(&*found, source(1, "payments.charge"));
    assert!(get(&nats, &selector("order@2")).await.unwrap().is_none());
    assert!(get(&nats, &selector("nobody")).await.unwrap().is_none());
}

#[tokio::test]
async fn the_newest_version_is_the_highest_whatever_the_order_of_registering() {
    let Installation { nats, server: _server } = Installation::start().await;
    let mut watch = watch_newest(&nats);
    assert_eq!(soon("the end", watch.next()).await, Newest::CaughtUp);

    for version in [2, 10, 9] {
        register(&nats, &source(version, "payments.charge")).await.unwrap();
    }

    let name = "order".parse().unwrap();
    assert_eq!(latest(&nats, &name).await.unwrap().unwrap().version, 10);
    let known = list(&nats).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((&known[0].versions[..], known[0].latest), (&[2, 9, 10][..], Some(10)));
    let versions = list_versions(&nats).await.unwrap();
    let newest: Vec<bool> = versions.iter().map(|version| version.newest).collect();
    assert_eq!(newest, [false, false, true]);
    let mut seen = Vec::new();
    while seen.last() != Some(&10) {
        if let Newest::Version(reference) = soon("a version", watch.next()).await {
            seen.push(reference.version);
        }
    }
    assert!(seen == [2, 10] || seen == [10], "{seen:?}");
}

#[tokio::test]
async fn the_cache_keeps_versions_and_notices_a_newer_one_within_a_second() {
    let Installation { nats, server: _server } = Installation::start().await;
    let cache = TemplateCache::default();
    let version = async || {
        let found = cache.get(&nats, &selector("order")).await.unwrap().unwrap();
        found.map(|template| template.version)
    };
    assert_eq!(version().await, None);
    register(&nats, &source(1, "payments.charge")).await.unwrap();
    assert_eq!(version().await, Some(1), "a miss is not remembered");

    register(&nats, &source(2, "payments.charge")).await.unwrap();
    let began = std::time::Instant::now();
    wait_until(SOON, "the second version is found", || async { version().await == Some(2) }).await;
    assert!(began.elapsed() < Duration::from_secs(3));

    assert!(cache.cached(&"order@1".parse().unwrap()).is_some());
    assert!(cache.get(&nats, &selector("order@7")).await.unwrap().unwrap().is_none());
}

/// Whoever may write to the bucket can put there what no door would take.
#[tokio::test]
async fn what_was_put_into_the_bucket_by_hand_is_used_only_if_it_is_the_template_that_it_says() {
    let Installation { nats, server: _server } = Installation::start().await;
    register(&nats, &source(1, "payments.charge")).await.unwrap();
    let context = async_nats::jetstream::new(nats.client().clone());
    let put = async |key: &str, value: &str| {
        let subject = nats.names().key(StreamKind::Templates, key);
        context.publish(subject, value.to_owned().into()).await.unwrap().await.unwrap();
    };
    let misspelt = source(2, "payments.charge").replace("\"src\"", "\"scr\"");
    put("order.2", &misspelt).await;
    put("order.3", &source(1, "payments.charge")).await;
    put("order.4", "{").await;
    put("order.5", "").await;
    put("broken.latest", "newest").await;

    let cache = TemplateCache::default();
    let unusable =
        async |which: &str| cache.get(&nats, &selector(which)).await.unwrap().unwrap_err();
    let why = unusable("order@2").await;
    assert!(why.contains("`scr`") && why.contains("line "), "{why}");
    assert_eq!(unusable("order@3").await, "order@3: what is stored there is order@1");
    assert!(unusable("order@4").await.starts_with("order@4: "));
    assert!(unusable("order@5").await.starts_with("order@5: "));
    assert!(unusable("broken").await.contains("no version"));
    assert!(cache.get(&nats, &selector("order@1")).await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn the_queues_that_a_template_names_are_there_once_it_is_registered() {
    let Installation { nats, server: _server } = Installation::start().await;
    register(&nats, &source(1, "payments.charge")).await.unwrap();

    let context = async_nats::jetstream::new(nats.client().clone());
    let stream = context.get_stream("PLED_TASKS").await.unwrap();
    for queue in ["payments.charge", "mail.send"] {
        for class in [Class::High, Class::Normal, Class::Low] {
            let name = pled_streams::subject::worker_consumer(class, queue);
            let info = stream.consumer_info(&name).await.unwrap();
            assert_eq!(info.config.ack_wait, tasks::ACK_WAIT);
            assert_eq!(info.config.max_ack_pending, 10_000);
        }
    }
}
