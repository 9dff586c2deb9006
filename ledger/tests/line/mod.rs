//! The line to Postgres, which a test can cut or hold.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Up,
    /// Connections stay open, nothing passes.
    Held,
    /// Connections are broken, no new ones are taken.
    Cut,
}

/// Passes on what comes for the server of a database's URL.
pub(crate) struct Line {
    url: String,
    condition: watch::Sender<Condition>,
}

impl Line {
    pub(crate) async fn to(url: &str) -> Self {
        let (before, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let server: SocketAddr = server.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let (condition, seen) = watch::channel(Condition::Up);
        tokio::spawn(pass(listener, server, seen));
        Self { url: format!("{before}@{here}/{database}"), condition }
    }

    /// The database's URL, over this line.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn cut(&self) {
        self.condition.send_replace(Condition::Cut);
    }

    pub(crate) fn hold(&self) {
        self.condition.send_replace(Condition::Held);
    }

    pub(crate) fn mend(&self) {
        self.condition.send_replace(Condition::Up);
    }
}

async fn pass(listener: TcpListener, server: SocketAddr, condition: watch::Receiver<Condition>) {
    let mut connections = JoinSet::new();
    let mut changes = condition.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                // One that is taken while the line is cut is dropped at once.
                if *condition.borrow() != Condition::Cut {
                    connections.spawn(connect(client, server, condition.clone()));
                }
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                if *changes.borrow_and_update() == Condition::Cut {
                    connections.shutdown().await;
                }
            }
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, condition: watch::Receiver<Condition>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (client, server) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(client.0, server.1, condition.clone()) => {}
        () = pump(server.0, client.1, condition) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut condition: watch::Receiver<Condition>,
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if condition.wait_for(|condition| *condition == Condition::Up).await.is_err()
            || to.write_all(&bytes[..length]).await.is_err()
        {
            return;
        }
    }
}
