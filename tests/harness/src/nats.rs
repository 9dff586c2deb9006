use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::{Port, script};

const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);
const KEEPER: &str = include_str!("keeper.sh");

/// What a [`NatsServer`] runs with. The default is the server's own defaults with JetStream on disk.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// `sync_interval: always`: an acknowledgement means that the disk has it.
    pub durable: bool,
    /// The largest message, in bytes; the server's default is 1 MiB.
    pub max_payload_bytes: Option<u32>,
    /// Where JetStream keeps its files, instead of in a folder that goes with the server.
    pub store: Option<PathBuf>,
    /// Further lines of the server's configuration.
    pub configuration: String,
}

/// A nats-server with JetStream on a disk of its own. It ends and its disk goes when this is
/// dropped, and also when the test's process dies in any way.
#[derive(Debug)]
pub struct NatsServer {
    folder: PathBuf,
    client_port: Port,
    monitor_port: Port,
    /// Held for as long as the server may be started again.
    _cluster_port: Option<Port>,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl NatsServer {
    /// Starts a server and returns once JetStream is ready.
    ///
    /// # Panics
    ///
    /// Where no server is to be had, or where it is not ready within 30 s; with the end of its log.
    pub async fn start(options: NatsOptions) -> Self {
        let mut server = Self::prepare(&options, None).await;
        server.restart().await;
        server
    }

    /// Starts three servers that are one cluster, and returns once JetStream is ready on all.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub async fn start_cluster(options: &NatsOptions) -> Vec<Self> {
        let ports = [Port::reserve(), Port::reserve(), Port::reserve()];
        let routes: Vec<String> =
            ports.iter().map(|port| format!("\"nats://127.0.0.1:{}\"", port.number())).collect();
        let mut servers = Vec::new();
        for port in ports {
            let cluster = format!(
                "\ncluster {{ name: pled, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
                port.number(),
                routes.join(", ")
            );
            let options = NatsOptions {
                configuration: options.configuration.clone() + &cluster,
                ..options.clone()
            };
            servers.push(Self::prepare(&options, Some(port)).await);
        }
        // None is ready before most of them run.
        for server in &mut servers {
            server.order("start");
        }
        for server in &mut servers {
            server.must_be_ready().await;
        }
        servers
    }

    /// All but starting it.
    async fn prepare(options: &NatsOptions, cluster_port: Option<Port>) -> Self {
        let program = program().await;
        let folder = new_folder();
        let (client_port, monitor_port) = (Port::reserve(), Port::reserve());

        let configuration = folder.join("nats.conf");
        let text = configuration_text(options, &folder, &client_port, &monitor_port);
        fs::write(&configuration, text).expect("write nats.conf");

        let (keeper, orders, answers) = keep(&folder, program, &configuration);
        Self {
            folder,
            client_port,
            monitor_port,
            _cluster_port: cluster_port,
            keeper,
            orders: Some(orders),
            answers,
        }
    }

    /// For clients: `nats://127.0.0.1:…`. The same over the server's whole life.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client_port.number())
    }

    /// The monitoring endpoint: `http://127.0.0.1:…`.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port.number())
    }

    /// Where JetStream keeps its files, where no other place was asked for. Change them only while the server is killed.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// Kills the server with SIGKILL and returns when it is gone. The disk stays.
    ///
    /// # Panics
    ///
    /// Where its keeper is gone, so on nothing that a test does.
    pub fn kill(&mut self) {
        self.order("kill");
    }

    /// Starts the killed server again, on the same ports and the same disk, and returns once
    /// JetStream is ready. Kills it first where it still runs.
    ///
    /// # Panics
    ///
    /// Where it is not ready within 30 s; with the end of its log.
    pub async fn restart(&mut self) {
        self.order("kill");
        self.order("start");
        self.must_be_ready().await;
    }

    async fn must_be_ready(&mut self) {
        if let Err(trouble) = self.ready().await {
            panic!("nats-server {trouble}; its log ends:\n{}", self.log());
        }
    }

    /// Stops the process in its tracks (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Panics
    ///
    /// As [`Self::kill`].
    pub fn freeze(&mut self) {
        self.order("freeze");
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Panics
    ///
    /// As [`Self::kill`].
    pub fn thaw(&mut self) {
        self.order("thaw");
    }

    /// The last lines of the server's log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn order(&mut self, order: &str) {
        assert_eq!(self.ask(order), order, "the keeper of a nats-server did not do as told");
    }

    fn ask(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("only drop takes it");
        writeln!(orders, "{order}").expect("the keeper reads until its input ends");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper answers each order");
        answer.trim_end().to_owned()
    }

    async fn ready(&mut self) -> Result<(), &'static str> {
        let began = Instant::now();
        while !is_healthy(self.monitor_port.number()).await {
            if self.ask("check") == "down" {
                return Err("ended at once");
            }
            if began.elapsed() > READY_WITHIN {
                return Err("was not ready in time");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        drop(self.orders.take());
        // A server that cannot be waited for is not worth a second panic.
        let _ = self.keeper.wait();
    }
}

/// Found or fetched once per process; `PLED_NATS_SERVER` spares the search.
async fn program() -> &'static Path {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();

    PROGRAM
        .get_or_init(|| async {
            if let Some(known) = std::env::var_os("PLED_NATS_SERVER") {
                return known.into();
            }
            let found = tokio::process::Command::new(script("nats-server.sh"))
                .output()
                .await
                .expect("run deploy/local/nats-server.sh");
            assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
            String::from_utf8_lossy(&found.stdout).trim_end().into()
        })
        .await
}

fn new_folder() -> PathBuf {
    let made = Command::new("mktemp")
        .args(["-d", "-t", "pled-nats.XXXXXX"])
        .output()
        .expect("run mktemp for a server's folder");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8_lossy(&made.stdout).trim_end().into()
}

fn configuration_text(
    options: &NatsOptions,
    folder: &Path,
    client: &Port,
    monitor: &Port,
) -> String {
    let mut text = format!(
        "server_name: pled_{port}\nhost: 127.0.0.1\nport: {port}\nhttp_port: {monitor}\n\
         jetstream {{ store_dir: {disk:?}, max_file_store: 16GB, max_memory_store: 256MB{sync} }}\n",
        port = client.number(),
        monitor = monitor.number(),
        disk = options.store.clone().unwrap_or_else(|| folder.join("disk")),
        sync = if options.durable { ", sync_interval: always" } else { "" },
    );
    if let Some(bytes) = options.max_payload_bytes {
        writeln!(text, "max_payload: {bytes}").expect("a string takes all");
    }
    text + &options.configuration
}

/// A process between the test and the server, since only its end of a pipe tells for sure that the
/// test is gone.
fn keep(
    folder: &Path,
    program: &Path,
    configuration: &Path,
) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper.sh"])
        .arg(folder)
        .arg(program)
        .arg("-c")
        .arg(configuration)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run sh to keep a nats-server");
    let orders = keeper.stdin.take().expect("piped");
    let answers = BufReader::new(keeper.stdout.take().expect("piped"));
    (keeper, orders, answers)
}

/// Whether JetStream answers that it is up. No HTTP client is worth its weight for one line.
async fn is_healthy(monitor_port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", monitor_port)).await?;
        stream.write_all(b"GET /healthz?js-enabled-only=true HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(ANSWERS_WITHIN, asked).await;
    matches!(answer, Ok(Ok(answer)) if answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
}
