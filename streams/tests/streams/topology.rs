use async_nats::jetstream;
use pled_harness::{NatsOptions, NatsServer};
use pled_streams::topology::{Settings, TopologyError, init, open};
use pled_streams::{ConnectOptions, Mode, Nats, StreamKind, partition_of};

use crate::{Installation, connect, execution, sent};

fn settings() -> Settings {
    Settings { partitions: 4, ..Settings::default() }
}

async fn raw(server: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

#[tokio::test]
async fn init_makes_everything_once_and_open_finds_it() {
    let server = NatsServer::start(NatsOptions::default()).await;
    let nats = connect(&server).await;
    let missing = open(&nats).await.unwrap_err();
    assert!(matches!(missing, TopologyError::Missing { .. }), "{missing}");

    let first = init(&nats, &settings()).await.unwrap();
    assert!(first.iter().all(|created| !created.existed), "{first:?}");
    let second = init(&nats, &settings()).await.unwrap();
    assert!(second.iter().all(|created| created.existed), "{second:?}");

    let other = connect(&server).await;
    let facts = open(&other).await.unwrap();
    assert_eq!((facts.partitions, other.partitions()), (4, 4));
    assert_eq!(facts.sync_always, Some(false));
    assert!(facts.snapshots);
}

#[tokio::test]
async fn a_lost_stream_is_neither_overlooked_nor_made_anew_in_silence() {
    let Installation { server, nats } = Installation::start().await;
    raw(&server).await.delete_stream("PLED_SIGNALS").await.unwrap();

    for refused in [open(&nats).await.map(drop), init(&nats, &settings()).await.map(drop)] {
        let error = refused.unwrap_err();
        let TopologyError::Missing { name, .. } = &error else { panic!("{error}") };
        assert_eq!(name, "PLED_SIGNALS");
    }

    let recovery = Settings { recreate_lost: true, ..settings() };
    init(&nats, &recovery).await.unwrap();
    open(&nats).await.unwrap();
}

#[tokio::test]
async fn the_cache_of_snapshots_may_be_lost() {
    let Installation { server, nats } = Installation::start().await;
    raw(&server).await.delete_stream("KV_PLED_SNAPSHOTS").await.unwrap();

    assert!(!open(&nats).await.unwrap().snapshots);
    init(&nats, &settings()).await.unwrap();
    assert!(open(&nats).await.unwrap().snapshots);
}

#[tokio::test]
async fn streams_that_do_not_fit_are_refused_with_what_must_change() {
    let Installation { server, nats } = Installation::start().await;
    let raw = raw(&server).await;

    let sixteen = Settings { partitions: 16, ..settings() };
    let error = init(&nats, &sixteen).await.unwrap_err().to_string();
    assert!(error.contains("it has 4 partitions, not 16"), "{error}");

    let mut tasks = raw.get_stream("PLED_TASKS").await.unwrap().cached_info().config.clone();
    tasks.max_messages_per_subject = 7;
    raw.update_stream(&tasks).await.unwrap();
    let error = open(&nats).await.unwrap_err().to_string();
    assert!(error.contains("`max_msgs_per_subject` is 7 and must be 1"), "{error}");

    raw.delete_stream("PLED_TASKS").await.unwrap();
    tasks.metadata.clear();
    raw.create_stream(&tasks).await.unwrap();
    let error = open(&nats).await.unwrap_err();
    assert!(matches!(error, TopologyError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn an_installation_of_before_there_were_schedules_gets_their_bucket_by_init() {
    let Installation { server, nats } = Installation::start().await;
    raw(&server).await.delete_stream("KV_PLED_SCHEDULES").await.unwrap();

    let refused = open(&nats).await.unwrap_err().to_string();
    assert!(refused.contains("run `pled init` once more"), "{refused}");

    let made = init(&nats, &settings()).await.unwrap();
    let made: Vec<_> = made.iter().filter(|created| !created.existed).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    open(&nats).await.unwrap();
}

#[tokio::test]
async fn two_installations_share_a_server_under_two_prefixes() {
    let Installation { server, nats } = Installation::start().await;
    let options =
        ConnectOptions { prefix: "shop".into(), ..ConnectOptions::to(server.url(), "test") };
    let shop = Nats::connect(options).await.unwrap();

    init(&shop, &settings()).await.unwrap();
    sent(&shop, "a", "PAY", "1").await.unwrap();

    let found = pled_streams::inputs::facts(&shop).await.unwrap();
    assert_eq!(found.events.last, 1);
    assert_eq!(pled_streams::inputs::facts(&nats).await.unwrap().events.last, 0);
}

#[tokio::test]
async fn strict_mode_takes_only_a_server_that_proves_that_it_syncs() {
    let strict = Settings { strict_durable: true, ..settings() };
    let relaxed = NatsServer::start(NatsOptions::default()).await;
    let error = init(&connect(&relaxed).await, &strict).await.unwrap_err();
    assert!(error.to_string().contains("sync_interval: always"), "{error}");

    let durable = NatsServer::start(NatsOptions { durable: true, ..NatsOptions::default() }).await;
    let blind = Nats::connect(ConnectOptions::to(durable.url(), "test")).await.unwrap();
    let error = init(&blind, &strict).await.unwrap_err();
    assert!(error.to_string().contains("cannot be proved"), "{error}");

    let nats = connect(&durable).await;
    init(&nats, &strict).await.unwrap();
    let facts = open(&nats).await.unwrap();
    assert_eq!(facts.mode(), Mode::Durable);
    facts.require_durable().unwrap();
}

#[tokio::test]
async fn the_streams_are_cut_to_the_room_that_there_is() {
    let account = |size: &str| NatsOptions {
        configuration: format!(
            "accounts {{ A {{ jetstream {{ max_store: {size}, max_mem: 1MB }}, \
             users: [{{ user: u, password: p }}] }} }}\n"
        ),
        ..NatsOptions::default()
    };
    let connect = async |server: &NatsServer| {
        let options = ConnectOptions {
            user: Some("u".into()),
            password: Some("p".into()),
            ..ConnectOptions::to(server.url(), "test")
        };
        Nats::connect(options).await.unwrap()
    };

    let enough = NatsServer::start(account("200MB")).await;
    let nats = connect(&enough).await;
    init(&nats, &settings()).await.unwrap();
    open(&nats).await.unwrap();

    let little = NatsServer::start(account("20MB")).await;
    let error = init(&connect(&little).await, &settings()).await.unwrap_err();
    assert!(matches!(error, TopologyError::StoreTooSmall { .. }), "{error}");
}

#[tokio::test]
async fn an_execution_is_in_the_partition_that_the_server_puts_it_in() {
    let sixteen = Settings::default();
    let Installation { server, nats } = Installation::with(NatsOptions::default(), &sixteen).await;
    let events = raw(&server).await.get_stream("PLED_EVENTS").await.unwrap();

    let ids: Vec<String> = (0..1_000).map(|n| format!("order-{n}_{}", n * 7_919)).collect();
    let sends = ids.iter().map(|id| sent(&nats, id, "PAY", "1"));
    for (id, seq) in ids.iter().zip(futures::future::join_all(sends).await) {
        let subject = events.direct_get(seq.unwrap()).await.unwrap().subject;
        let partition = partition_of(&execution(id), 16);
        assert_eq!(subject.as_str(), format!("pled.inbox.{partition}.{id}.PAY"));
    }
    assert_eq!(nats.names().stream(StreamKind::Events), "PLED_EVENTS");
}
