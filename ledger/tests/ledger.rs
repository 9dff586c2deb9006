#![cfg(test)]
//! What the ledger promises, against a real Postgres, and a real nats-server where the journal is
//! followed.

mod life;
mod line;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use life::{Life, NOW, WORK};
use line::Line;
use pled_engine::partition::{Loaded, Published};
use pled_engine::template::Template;
use pled_engine::value::Value;
use pled_harness::{Database, NatsOptions, NatsServer, wait_until};
use pled_ledger::query::{Counts, Filter};
use pled_ledger::{FollowError, Ledger, LedgerError, follow};
use pled_streams::topology::{self, Settings};
use pled_streams::{ConnectOptions, Nats, journal, templates};
use sqlx::postgres::PgPool;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Long enough for anything that is to happen at once, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A ledger of its own, and a way past it into its tables.
struct Books {
    ledger: Ledger,
    pool: PgPool,
    database: Database,
}

impl Books {
    async fn open() -> Self {
        let database = Database::create().await;
        let ledger = Ledger::lazy(database.url()).unwrap();
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { ledger, pool, database }
    }

    async fn with_schema() -> Self {
        let books = Self::open().await;
        books.ledger.migrate().await.unwrap();
        books.ledger.position("here").await.unwrap();
        books
    }

    /// Projects entries, all in one batch, after those up to `from`.
    async fn project(&self, from: u64, batch: &[Loaded]) {
        assert!(self.ledger.project(from, batch, &BTreeMap::new()).await.unwrap());
    }

    /// Projects entries from the first on, each in a batch of its own.
    async fn project_singly(&self, batch: &[Loaded]) {
        for loaded in batch {
            self.project(loaded.stream_seq - 1, std::slice::from_ref(loaded)).await;
        }
    }

    /// The only column of the rows, as text; `-` for NULL.
    async fn column(&self, sql: &str) -> Vec<String> {
        let sql = format!("SELECT coalesce((answer)::text, '-') FROM ({sql}) AS asked (answer)");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap()
    }

    async fn one(&self, sql: &str) -> String {
        let mut found = self.column(sql).await;
        assert_eq!(found.len(), 1, "{sql}: {found:?}");
        found.remove(0)
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// As if nothing had been projected yet.
    async fn clear(&self) {
        self.execute(
            "DELETE FROM executions; DELETE FROM events; DELETE FROM messages;
             DELETE FROM actions; DELETE FROM ledger_entries;
             UPDATE projections SET stream_seq = 0;",
        )
        .await;
    }

    /// The status of the newest task, how many attempts it had and the code of its error.
    async fn task(&self) -> String {
        self.one(
            "SELECT status || ' ' || attempts || ' ' || coalesce(error_json ->> 'code', '-')
             FROM actions ORDER BY created_at DESC LIMIT 1",
        )
        .await
    }
}

/// A nats-server with PLED's streams.
struct Installation {
    _server: NatsServer,
    nats: Nats,
}

impl Installation {
    async fn start() -> Self {
        let server = NatsServer::start(NatsOptions::default()).await;
        let nats = Nats::connect(ConnectOptions::to(server.url(), "test")).await.unwrap();
        topology::init(&nats, &Settings { partitions: 2, ..Settings::default() }).await.unwrap();
        Self { _server: server, nats }
    }

    /// Writes these entries into the journal, which reaches just up to them; those of one execution
    /// follow on one another.
    async fn publish(&self, entries: &[Loaded]) {
        for Loaded { stream_seq, entry } in entries {
            let id = &entry.execution;
            let bytes = entry.encode().unwrap().into();
            let expected = if entry.seq == 1 { 0 } else { stream_seq - 1 };
            let partition = self.nats.partition_of(id);
            let published = journal::publish_entry(&self.nats, partition, id, expected, bytes);
            assert_eq!(published.await, Published::Stored { stream_seq: *stream_seq });
        }
    }

    fn follow(&self, url: &str) -> Following {
        let (stop, stopped) = watch::channel(false);
        let (nats, ledger) = (self.nats.clone(), Ledger::lazy(url).unwrap());
        let task = tokio::spawn(async move { follow(&nats, &ledger, stopped).await });
        Following { stop, task }
    }
}

struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), FollowError>>,
}

impl Following {
    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }

    /// As a crash would: nothing of it runs on.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }

    async fn end(self) -> FollowError {
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap_err()
    }
}

/// An order of work that is done, in three entries with an ignored event.
fn done(id: &str, next: u64) -> Life {
    let mut life = Life::begin(id, next, r#"{"text":"paint"}"#);
    life.receives("NOTE", r#""by the window""#);
    life.receives("UNHEARD", "null");
    life.succeeds(r#"{"colour":"green"}"#);
    life
}

/// Many of them, in the order of the journal.
fn many(lives: u64) -> Vec<Loaded> {
    (0..lives).flat_map(|at| done(&format!("work-{at}"), at * 4 + 1).entries).collect()
}

async fn counts(ledger: &Ledger) -> Option<Counts> {
    ledger.counts().await.ok()
}

/// Waits until that many entries are projected, and checks that everything is there once.
async fn wait_for_all(ledger: &Ledger, lives: i64) {
    wait_until(SOON, "all is projected", || async {
        counts(ledger).await.is_some_and(|counts| counts.entries >= lives * 4)
    })
    .await;
    let expected = Counts {
        entries: lives * 4,
        executions: lives,
        messages: lives * 4,
        events: lives * 3,
        actions: lives,
    };
    assert_eq!(counts(ledger).await, Some(expected));
}

#[tokio::test]
async fn the_schema_is_made_on_an_empty_database_and_stands_when_made_again_by_two_at_once() {
    let books = Books::open().await;

    let (one, two) = tokio::join!(books.ledger.migrate(), books.ledger.migrate());
    one.unwrap();
    two.unwrap();
    books.ledger.migrate().await.unwrap();

    let children = |parent: &str| {
        format!(
            "SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = '{parent}'::regclass AND relkind = 'r'"
        )
    };
    assert_eq!(books.one(&children("events")).await, "16");
    assert_eq!(books.one(&children("ledger_entries")).await, "3");
    let now_and_ahead = "SELECT to_regclass('ledger_entries_' ||
             to_char((now() AT TIME ZONE 'UTC') + make_interval(months => ahead), 'YYYY_MM'))
         FROM generate_series(0, 2) AS ahead";
    assert!(!books.column(now_and_ahead).await.contains(&"-".to_owned()));
    for index in [
        "idx_events_execution_seq",
        "idx_events_type_timestamp",
        "idx_executions_template_status",
        "idx_messages_execution_timestamp",
        "idx_rules_template_type",
        "idx_rule_cache_lookup",
        "idx_ledger_entries_time_execution",
        "idx_actions_status_created",
        "idx_executions_running",
        "idx_failed_actions",
    ] {
        let there = format!("SELECT to_regclass('{index}')");
        assert_eq!(books.one(&there).await, index);
    }
}

#[tokio::test]
async fn an_execution_stands_in_every_table_as_its_entries_tell_it() {
    let books = Books::with_schema().await;
    let mut life = Life::begin("work-1", 1, r#"{"text":"paint"}"#);
    life.receives_with_id("NOTE", r#""by the window""#, "note-7");
    life.receives("UNHEARD", "null");

    books.project(0, &life.entries).await;

    let execution = "SELECT concat_ws(' ', id, template_name, template_version, status, seq,
             configuration::text, output::text, extract(epoch FROM created_at)::numeric * 1000,
             extract(epoch FROM updated_at)::numeric * 1000) FROM executions";
    assert_eq!(
        books.one(execution).await,
        format!("work-1 work 1 running 3 {{work.working}} {}.000000 {}.000000", NOW + 1, NOW + 3)
    );
    let messages = "SELECT concat_ws(' ', seq, cause_index, stream, stream_seq, type, payload,
             outcome, error) FROM messages ORDER BY seq";
    assert_eq!(
        books.column(messages).await,
        [
            r#"1 0 events 1 pled.init {"text": "paint"} applied"#,
            r#"2 0 events 2 NOTE "by the window" applied"#,
            "3 0 events 3 UNHEARD null ignored",
        ]
    );
    let events = "SELECT concat_ws(' ', seq, type, event_id, created_at = \"timestamp\")
         FROM events ORDER BY seq";
    assert_eq!(books.column(events).await, ["1 pled.init t", "2 NOTE note-7 t", "3 UNHEARD t"]);
    let entries = "SELECT concat_ws(' ', execution_id, seq, stream_seq, entry_json ->> 'seq',
             encode(hash, 'hex') = entry_json ->> 'hash', entry_bytes IS NULL)
         FROM ledger_entries ORDER BY seq";
    assert_eq!(
        books.column(entries).await,
        ["work-1 1 1 1 t t", "work-1 2 2 2 t t", "work-1 3 3 3 t t"]
    );
    assert_eq!(books.task().await, "pending 1 -");

    life.succeeds(r#"{"colour":"green"}"#);
    books.project(3, &life.entries[3..]).await;

    let ended = "SELECT concat_ws(' ', status, seq, configuration::text, output::text)
         FROM executions";
    assert_eq!(books.one(ended).await, r#"done 4 {work.finished} {"text": "paint"}"#);
    let action = "SELECT concat_ws(' ', task, type, invocation, status, attempts, input, output)
         FROM actions";
    assert_eq!(
        books.one(action).await,
        r#"1-0 do.work work succeeded 1 {"text": "paint"} {"colour": "green"}"#
    );
}

#[tokio::test]
async fn a_batch_is_taken_from_its_position_alone_and_all_or_nothing() {
    let books = Books::with_schema().await;
    let entries = done("work-1", 1).entries;
    let none = BTreeMap::new();

    assert!(books.ledger.project(0, &entries[..2], &none).await.unwrap());
    assert!(!books.ledger.project(0, &entries[..2], &none).await.unwrap());
    assert!(!books.ledger.project(3, &entries[2..], &none).await.unwrap());
    let twice = [entries[2].clone(), entries[2].clone()];
    assert!(books.ledger.project(2, &twice, &none).await.is_err());
    assert!(books.ledger.project(2, &entries[2..], &none).await.unwrap());

    let position = books.ledger.position("here").await.unwrap();
    assert_eq!(position.stream_seq, 4);
    assert_eq!(position.last.unwrap().hash, entries[3].entry.hash);
    wait_for_all(&books.ledger, 1).await;
}

#[tokio::test]
async fn two_projectors_at_once_project_each_entry_once() {
    let installation = Installation::start().await;
    let books = Books::open().await;
    installation.publish(&many(300)).await;

    let one = installation.follow(books.database.url());
    let two = installation.follow(books.database.url());

    wait_for_all(&books.ledger, 300).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_projector_that_is_killed_anywhere_leaves_nothing_half_done_or_done_twice() {
    let installation = Installation::start().await;
    let books = Books::open().await;
    installation.publish(&many(300)).await;

    for pause in 0..30 {
        let following = installation.follow(books.database.url());
        let end = Instant::now() + Duration::from_millis(pause * 5);
        // Now and then Postgres ends its connections too, as if it had crashed.
        if pause % 3 == 0 {
            while Instant::now() < end {
                books
                    .column(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE datname = current_database() AND application_name = 'pled'",
                    )
                    .await;
            }
        } else {
            tokio::time::sleep_until(end.into()).await;
        }
        following.kill().await;
    }
    let following = installation.follow(books.database.url());

    wait_for_all(&books.ledger, 300).await;
    following.stop().await;
}

#[tokio::test]
async fn entries_fall_into_their_months_also_where_the_year_ends_in_a_batch() {
    let books = Books::with_schema().await;
    let new_year = 1_767_225_600_000; // 2026-01-01T00:00:00Z
    let mut life = Life::begin_at("work-1", 1, new_year - 3, "{}");
    for _ in 0..3 {
        life.receives("NOTE", "1");
    }

    books.project(0, &life.entries).await;

    let months = "SELECT concat_ws(' ', seq, tableoid::regclass,
             to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'))
         FROM ledger_entries ORDER BY seq";
    assert_eq!(
        books.column(months).await,
        [
            "1 ledger_entries_2025_12 2025-12-31 23:59:59.998",
            "2 ledger_entries_2025_12 2025-12-31 23:59:59.999",
            "3 ledger_entries_2026_01 2026-01-01 00:00:00.000",
            "4 ledger_entries_2026_01 2026-01-01 00:00:00.001",
        ]
    );
}

#[tokio::test]
async fn what_postgres_cannot_hold_or_writes_otherwise_is_kept_exactly() {
    let books = Books::with_schema().await;
    let mut life = Life::begin("work-1", 1, r#"{"text":"a\u0000b\\u0000"}"#);
    life.receives_with_id("NOTE", r#"{"k\u0000":["\u0000","\\\u0000"]}"#, "id\0");
    life.receives("NOTE", r#"[1e21,1e300,-0.0,5e-324,0.1,1e-7,9007199254740991]"#);
    life.receives("NOTE", r#"["😀","\u2028\u001f\"\\",""]"#);

    books.project(0, &life.entries).await;

    let notes = "SELECT payload FROM messages WHERE seq IN (1, 2, 4) ORDER BY seq";
    assert_eq!(
        books.column(notes).await,
        [
            r#"{"text": "a␀b\\u0000"}"#,
            r#"{"k␀": ["␀", "\\␀"]}"#,
            "[\"😀\", \"\u{2028}\\u001f\\\"\\\\\", \"\"]",
        ]
    );
    assert_eq!(books.one("SELECT event_id FROM events WHERE seq = 2").await, "id␀");
    assert_eq!(books.one("SELECT input FROM actions").await, r#"{"text": "a␀b\\u0000"}"#);
    // The state keeps the first text to the end.
    let kept = "SELECT count(*) FROM ledger_entries WHERE entry_bytes IS NOT NULL";
    assert_eq!(books.one(kept).await, "4");
    let hashes = books.ledger.entry_hashes(life.id()).await.unwrap();
    assert_eq!(hashes.len(), 4);
    for (row, loaded) in hashes.iter().zip(&life.entries) {
        assert_eq!((row.seq, row.hash, row.intact), (loaded.entry.seq, loaded.entry.hash, true));
    }
}

#[tokio::test]
async fn a_row_that_was_tampered_with_is_found() {
    let books = Books::with_schema().await;
    let mut life = Life::begin("work-1", 1, r#"{"text":"paint"}"#);
    life.receives("NOTE", "1e21");
    life.receives("NOTE", r#""\u0000""#);
    life.receives("NOTE", "0.5");
    books.project(0, &life.entries).await;
    let intact = async || -> Vec<bool> {
        let rows = books.ledger.entry_hashes(life.id()).await.unwrap();
        rows.iter().map(|row| row.intact).collect()
    };
    assert_eq!(intact().await, [true; 4]);

    books
        .execute(
            "UPDATE ledger_entries SET entry_json = jsonb_set(entry_json, '{at}', '1') WHERE seq = 1;
             UPDATE ledger_entries SET entry_json = jsonb_set(entry_json, '{at}', '1') WHERE seq = 3;
             UPDATE ledger_entries SET entry_json = '[]' WHERE seq = 4;",
        )
        .await;
    assert_eq!(intact().await, [false, true, false, false]);

    books
        .execute(
            "UPDATE ledger_entries SET hash = sha256('') WHERE seq = 2;
             UPDATE ledger_entries SET (entry_json, entry_bytes, hash) =
                 (SELECT entry_json, entry_bytes, hash FROM ledger_entries WHERE seq = 2)
             WHERE seq = 4;",
        )
        .await;
    assert_eq!(intact().await, [false; 4]);
}

#[tokio::test]
async fn events_are_spread_over_sixteen_partitions_by_their_execution() {
    let books = Books::with_schema().await;

    books.project(0, &many(200)).await;

    let spread = "SELECT count(DISTINCT tableoid) FROM events";
    assert_eq!(books.one(spread).await, "16");
    let apart = "SELECT count(*) FROM (SELECT execution_id FROM events GROUP BY execution_id
                 HAVING count(DISTINCT tableoid) > 1) AS split";
    assert_eq!(books.one(apart).await, "0");
}

/// Projects a life singly and in one batch, and expects the same of both: how the entries fall into
/// batches must not show.
async fn task_of(books: &Books, life: &Life) -> String {
    let rows = "SELECT to_jsonb(actions) FROM actions ORDER BY id";
    books.clear().await;
    books.project_singly(&life.entries).await;
    let singly = books.column(rows).await;
    books.clear().await;
    books.project(0, &life.entries).await;
    assert_eq!(singly, books.column(rows).await);
    books.task().await
}

#[tokio::test]
async fn a_task_is_pending_then_retrying_then_what_came_of_it() {
    let books = Books::with_schema().await;
    let mut life = Life::begin("work-1", 1, r#"{"text":"paint"}"#);
    assert_eq!(task_of(&books, &life).await, "pending 1 -");
    life.fails("wet", true);
    assert_eq!(task_of(&books, &life).await, "retrying 1 wet");
    life.fires("retry");
    assert_eq!(task_of(&books, &life).await, "pending 2 wet");
    life.succeeds("null");
    assert_eq!(task_of(&books, &life).await, "succeeded 2 wet");

    let mut life = Life::begin("work-2", 1, r#"{"text":"paint"}"#);
    life.fails("no_paint", false);
    assert_eq!(task_of(&books, &life).await, "failed 1 no_paint");
}

#[tokio::test]
async fn a_task_that_is_not_wanted_any_more_is_cancelled_also_while_it_waits() {
    let books = Books::with_schema().await;
    let begin = || Life::begin("work-1", 1, r#"{"text":"paint"}"#);

    let mut running = begin();
    running.receives("BREAK", "null");
    assert_eq!(task_of(&books, &running).await, "cancelled 1 -");
    running.receives("GO", "null");
    assert_eq!(task_of(&books, &running).await, "pending 1 -");
    running.receives("STOP", "null");
    assert_eq!(task_of(&books, &running).await, "cancelled 1 -");

    let mut waiting = begin();
    waiting.fails("wet", true);
    waiting.receives("STOP", "null");
    assert_eq!(task_of(&books, &waiting).await, "cancelled 1 wet");

    let mut terminated = begin();
    terminated.receives("pled.terminate", "null");
    assert_eq!(task_of(&books, &terminated).await, "cancelled 1 -");
}

#[tokio::test]
async fn a_task_that_is_timed_out_has_failed_or_is_tried_again() {
    let books = Books::with_schema().await;
    let begin = || Life::begin("work-1", 1, r#"{"text":"paint"}"#);

    let mut unseen = begin();
    unseen.fires("start");
    assert_eq!(task_of(&books, &unseen).await, "retrying 1 timeout");
    for _ in 0..2 {
        unseen.fires("retry");
        unseen.fires("start");
    }
    assert_eq!(task_of(&books, &unseen).await, "failed 3 timeout");

    let mut slow = begin();
    slow.fires("close");
    assert_eq!(task_of(&books, &slow).await, "failed 1 timeout");

    let mut waiting = begin();
    waiting.fails("wet", true);
    waiting.fires("close");
    assert_eq!(task_of(&books, &waiting).await, "failed 1 timeout");
}

#[tokio::test]
async fn where_entries_do_not_carry_the_state_tasks_are_told_all_the_same() {
    let books = Books::with_schema().await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(5_000));
    let begin = || {
        let mut life = Life::begin("work-1", 1, &large);
        life.receives("NOTE", "1");
        assert!(life.entries[1].entry.state.is_none());
        life
    };

    let mut life = begin();
    life.fails("wet", true);
    assert_eq!(task_of(&books, &life).await, "retrying 1 wet");
    life.fires("retry");
    assert_eq!(task_of(&books, &life).await, "pending 2 wet");
    life.receives("BREAK", "null");
    assert_eq!(task_of(&books, &life).await, "cancelled 2 wet");

    let mut life = begin();
    life.fails("no_paint", false);
    assert_eq!(task_of(&books, &life).await, "failed 1 no_paint");

    let mut life = begin();
    life.fires("start");
    assert_eq!(task_of(&books, &life).await, "retrying 1 timeout");
    life.fires("close");
    assert_eq!(task_of(&books, &life).await, "failed 1 timeout");

    let mut life = begin();
    life.fails("wet", true);
    life.receives("STOP", "null");
    assert_eq!(task_of(&books, &life).await, "cancelled 1 wet");

    // Without a word of it in the entry it is told by the next that has the state.
    let mut life = begin();
    life.fails("wet", true);
    life.receives("BREAK", "null");
    while life.now.seq < 64 {
        life.receives("UNHEARD", "null");
    }
    assert_eq!(task_of(&books, &life).await, "cancelled 1 wet");
}

#[tokio::test]
async fn an_execution_whose_state_is_large_has_its_configuration_and_output_all_the_same() {
    let installation = Installation::start().await;
    let books = Books::open().await;
    let text = "x".repeat(5_000);
    let mut life = Life::begin("work-1", 1, &format!(r#"{{"text":"{text}"}}"#));
    life.receives("BREAK", "null");
    life.receives("UNHEARD", "null");
    templates::register(&installation.nats, WORK).await.unwrap();
    installation.publish(&life.entries).await;
    let following = installation.follow(books.database.url());
    let shown = async || {
        let sql = "SELECT concat_ws(' ', seq, status, configuration::text,
             length(output ->> 'text')) FROM executions";
        books.column(sql).await
    };
    let wait_for = async |expected: &'static str| {
        wait_until(SOON, expected, || async {
            counts(&books.ledger).await.is_some() && shown().await == [expected]
        })
        .await;
    };

    wait_for("3 running {work.resting}").await;
    let before = life.entries.len();
    life.receives("GO", "null");
    life.succeeds("null");
    assert!(life.entries.last().unwrap().entry.state.is_none());
    installation.publish(&life.entries[before..]).await;

    wait_for("5 done {work.finished} 5000").await;
    following.stop().await;
}

#[tokio::test]
async fn a_ledger_of_another_journal_is_refused() {
    let (here, there) = tokio::join!(Installation::start(), Installation::start());
    let books = Books::open().await;
    let following = here.follow(books.database.url());
    wait_until(SOON, "the position is made", || async {
        counts(&books.ledger).await.is_some()
            && books.column("SELECT incarnation FROM projections").await.len() == 1
    })
    .await;
    following.stop().await;

    let error = there.follow(books.database.url()).end().await;

    assert!(matches!(error, FollowError::Ledger(LedgerError::ForeignJournal { .. })), "{error}");
}

#[tokio::test]
async fn a_journal_that_is_behind_the_ledger_or_tells_another_story_is_refused() {
    let installation = Installation::start().await;
    let books = Books::open().await;
    let incarnation = topology::open(&installation.nats).await.unwrap().incarnation;
    books.ledger.migrate().await.unwrap();
    books.ledger.position(&incarnation).await.unwrap();
    books.project(0, &done("work-1", 1).entries).await;

    // Restored from a copy that was made before these entries.
    let error = installation.follow(books.database.url()).end().await;
    assert!(matches!(error, FollowError::Diverged { stream_seq: 4 }), "{error}");

    let mut otherwise = Life::begin("work-1", 1, r#"{"text":"wallpaper"}"#);
    for _ in 0..4 {
        otherwise.receives("UNHEARD", "null");
    }
    installation.publish(&otherwise.entries).await;
    let error = installation.follow(books.database.url()).end().await;
    assert!(matches!(error, FollowError::Diverged { stream_seq: 4 }), "{error}");
}

#[tokio::test]
async fn while_postgres_is_away_the_ledger_waits_and_catches_up_after() {
    let installation = Installation::start().await;
    let books = Books::open().await;
    let line = Line::to(books.database.url()).await;
    line.cut();
    let following = installation.follow(line.url());
    let all = many(120);

    installation.publish(&all[..160]).await;
    line.mend();
    wait_for_all(&books.ledger, 40).await;

    line.cut();
    installation.publish(&all[160..320]).await;
    line.mend();
    wait_for_all(&books.ledger, 80).await;

    // It does not answer, but the connections are open.
    line.hold();
    installation.publish(&all[320..]).await;
    let away = Ledger::lazy(line.url()).unwrap();
    let asked = Instant::now();
    assert!(!away.is_there().await);
    assert!(asked.elapsed() < Duration::from_secs(2));
    line.mend();
    wait_for_all(&books.ledger, 120).await;
    assert!(away.is_there().await);

    // Nor does a Postgres that does not answer hold back the end.
    line.hold();
    following.stop().await;
}

#[tokio::test]
async fn a_list_has_the_newest_first_and_goes_on_after_the_last_that_was_seen() {
    let books = Books::with_schema().await;
    let mut entries = Vec::new();
    for at in 0..7_i64 {
        let next = u64::try_from(entries.len()).unwrap() + 1;
        // Two of them begin in the same millisecond.
        let clock = NOW + at / 2 * 1_000;
        let mut life = Life::begin_at(&format!("work-{at}"), next, clock, "{}");
        if at % 3 == 0 {
            life.receives("STOP", "null");
        }
        entries.extend(life.entries);
    }
    books.project(0, &entries).await;
    let list = async |filter: Filter| {
        let mut filter = Filter { limit: 2, ..filter };
        let mut seen = Vec::new();
        loop {
            let page = books.ledger.executions(&filter).await.unwrap();
            let Some(last) = page.last() else { return seen.join(" ") };
            filter.after = Some((last.created_at, last.id.clone()));
            seen.extend(page.iter().map(|row| row.id.clone()));
        }
    };

    let all = "work-6 work-5 work-4 work-3 work-2 work-1 work-0";
    assert_eq!(list(Filter::default()).await, all);
    let template = |name: &str| Filter { template: Some(name.to_owned()), ..Filter::default() };
    assert_eq!(list(template("work")).await, all);
    assert_eq!(list(template("play")).await, "");
    let status = |status: &str| Filter { status: Some(status.to_owned()), ..Filter::default() };
    assert_eq!(list(status("done")).await, "work-6 work-3 work-0");
    let both = Filter { status: Some("running".to_owned()), ..template("work") };
    assert_eq!(list(both).await, "work-5 work-4 work-2 work-1");
    let rows = books.ledger.executions(&Filter { limit: 1, ..Filter::default() }).await.unwrap();
    assert_eq!(rows[0].template, "work@1");
    assert_eq!((rows[0].created_at, rows[0].updated_at), (NOW + 3_001, NOW + 3_002));
    assert_eq!(rows[0].configuration, ["work.called_off"]);
}

#[tokio::test]
async fn each_list_is_read_by_an_index_of_its_order() {
    let books = Books::with_schema().await;
    books.project(0, &many(50)).await;

    for filter in ["true", "template_name = 'work'", "status = 'done'"] {
        let plan = format!(
            "EXPLAIN SELECT id FROM executions WHERE {filter}
             AND (created_at, id) < (now(), 'x') ORDER BY created_at DESC, id DESC LIMIT 10"
        );
        let mut connection = books.pool.acquire().await.unwrap();
        sqlx::raw_sql("SET enable_seqscan = off; SET enable_sort = off")
            .execute(&mut *connection)
            .await
            .unwrap();
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(plan))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        assert!(!plan.iter().any(|line| line.contains("Sort")), "{plan:#?}");
    }
}

#[tokio::test]
async fn templates_are_recorded_with_their_rules_of_which_the_newest_versions_are_enabled() {
    let installation = Installation::start().await;
    let books = Books::open().await;
    let second = WORK.replace(r#""version": 1"#, r#""version": 2"#);
    templates::register(&installation.nats, WORK).await.unwrap();
    let following = installation.follow(books.database.url());
    let rules = async || {
        let sql =
            "SELECT concat_ws(' ', templates.version, rule, type, enabled, rule_json ->> 'id')
             FROM rules JOIN templates ON templates.id = template_id
             ORDER BY templates.version, rule";
        books.column(sql).await
    };
    let wait_for = async |what: &str, expected: &[&str]| {
        wait_until(SOON, what, || async {
            counts(&books.ledger).await.is_some() && rules().await == expected
        })
        .await;
    };

    let first = ["1 call-off office t call-off", "1 everything * t everything"];
    wait_for("the first version is recorded", &first).await;
    templates::register(&installation.nats, &second).await.unwrap();
    // It is recorded at the latest with its first execution.
    let begun = Life::begin_with("work-2", 1, &second);
    installation.publish(&begun.entries).await;

    wait_for(
        "the second version is recorded",
        &[
            "1 call-off office f call-off",
            "1 everything * f everything",
            "2 call-off office t call-off",
            "2 everything * t everything",
        ],
    )
    .await;
    let template = Template::parse(WORK).unwrap();
    let hash = format!(
        "SELECT encode(hash, 'hex') = '{}' FROM templates WHERE version = 1",
        template.hash
    );
    assert_eq!(books.one(&hash).await, "true");
    let model: Value = {
        let json = books.one("SELECT model FROM templates WHERE version = 2").await;
        serde_json::from_str(&json).unwrap()
    };
    assert_eq!(model, Value::parse(second.as_bytes()).unwrap());
    following.stop().await;
}
