use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;

use crate::script;

/// An empty Postgres database of one test's own, dropped with this value.
///
/// The server is that of `DATABASE_URL`, which `make test` sets; else one is started for the
/// process and ends with it.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    server: &'static Server,
}

impl Database {
    /// Creates the database.
    ///
    /// # Panics
    ///
    /// Where no Postgres is to be had or it refuses; with its words.
    pub async fn create() -> Self {
        let server = server().await;
        let name = new_name();
        let created = tokio::process::Command::from(server.sql(&format!("create database {name}")))
            .output()
            .await
            .expect("run psql");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let url = with_database(&server.url, &name);
        Self { name, url, server }
    }

    /// Ends all connections to the database and refuses new ones, as a server that cannot be
    /// reached does.
    ///
    /// # Panics
    ///
    /// Where Postgres refuses; with its words.
    pub async fn cut_off(&self) {
        let name = &self.name;
        self.run(&format!("alter database {name} with allow_connections false")).await;
        let end = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        self.run(&end).await;
    }

    /// Takes connections again.
    ///
    /// # Panics
    ///
    /// Where Postgres refuses; with its words.
    pub async fn let_in(&self) {
        self.run(&format!("alter database {} with allow_connections true", self.name)).await;
    }

    /// Runs a statement on the server, outside of this database.
    async fn run(&self, statement: &str) {
        let done = tokio::process::Command::from(self.server.sql(statement))
            .output()
            .await
            .expect("run psql");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// `postgres://…/<the database>`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        // A database left behind in a temporary server harms nobody.
        let _ = self.server.sql(&statement).output();
    }
}

#[derive(Debug)]
struct Server {
    url: String,
    psql: PathBuf,
    /// Its script stops the server when our end of its input closes, so when the process ends.
    _started: Option<Child>,
}

impl Server {
    fn sql(&self, statement: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        psql.args([&self.url, "-qXc", statement]).stdin(Stdio::null());
        psql
    }
}

async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();

    SERVER
        .get_or_init(|| async {
            match std::env::var("DATABASE_URL") {
                Ok(url) => Server { url, psql: known_psql(), _started: None },
                Err(_) => tokio::task::spawn_blocking(start).await.expect("start Postgres"),
            }
        })
        .await
}

fn known_psql() -> PathBuf {
    match std::env::var_os("PLED_POSTGRES_BIN") {
        Some(folder) => PathBuf::from(folder).join("psql"),
        None => "psql".into(),
    }
}

fn start() -> Server {
    let mut started = Command::new(script("with-servers.sh"))
        .args(["--no-nats", "--", "sh", "-c"])
        .arg(r#"printf '%s\n%s\n' "$DATABASE_URL" "$PLED_POSTGRES_BIN" && read -r _"#)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run deploy/local/with-servers.sh");
    let mut lines = BufReader::new(started.stdout.take().expect("piped")).lines();
    let mut line =
        || lines.next().expect("Postgres did not start: see above").expect("read a line");
    let (url, folder) = (line(), line());
    Server { url, psql: PathBuf::from(folder).join("psql"), _started: Some(started) }
}

/// Unique over the processes that share a server.
fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_micros();
    format!("pled_test_{}_{now}_{count}", std::process::id())
}

/// The same server and parameters, another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, parameters) =
        url.split_once('?').map_or((url, None), |(base, rest)| (base, Some(rest)));
    let authority = base.find("://").map_or(0, |scheme| scheme + 3);
    let host_end = base[authority..].find('/').map_or(base.len(), |slash| authority + slash);
    let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
    format!("{}/{name}{parameters}", &base[..host_end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_url_differs_from_its_servers_in_the_name_alone() {
        assert_eq!(with_database("postgres://u:p@h:1/app?a=/b", "x"), "postgres://u:p@h:1/x?a=/b");
        assert_eq!(with_database("postgres://h", "x"), "postgres://h/x");
    }

    #[tokio::test]
    async fn each_test_has_an_empty_database_and_leaves_none() {
        let (one, two) = tokio::join!(Database::create(), Database::create());
        let ask = |url: &str, statement: &str| {
            let mut psql = Command::new(&one.server.psql);
            psql.args([url, "-qXc", statement]).output().unwrap().status.success()
        };

        assert!(ask(one.url(), "create table t ()"));
        assert!(ask(two.url(), "create table t ()"));

        let url = two.url().to_owned();
        drop(two);
        assert!(!ask(&url, "select 1"));
    }
}
