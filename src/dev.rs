//! `pled dev`: everything on this machine, and what to type next.

use std::ffi::OsString;
use std::process::ExitCode;

use pled_ledger::Ledger;
use pled_streams::topology::{self, Settings};

use crate::cli::{All, Dev, Engine, Gateway, Global, Worker};
use crate::{commands, local, roles, say};

pub(crate) async fn run(global: &Global, options: &Dev) -> anyhow::Result<ExitCode> {
    if !options.inside {
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        arguments.push("--inside".into());
        let port = options.nats_port.to_string();
        let mut servers = vec!["--postgres-optional", "--nats-port", &port];
        let data = options.data.as_ref().map(|folder| folder.display().to_string());
        if let Some(folder) = &data {
            servers.extend(["--data", folder]);
        }
        return Err(local::again_inside(&servers, &arguments));
    }
    let nats = commands::connect(global, "pled dev").await?;
    topology::init(&nats, &Settings::default()).await?;
    let ledger = match &global.database_url {
        Some(url) => Ledger::lazy(url)?.is_there().await,
        None => false,
    };
    let url = global.nats_url.clone().unwrap_or_default();
    say(welcome(&url, options.listen, ledger));
    let roles = roles::Roles::all(All {
        engine: Engine { id: None, lease_ttl_ms: 2_000, cache_mib: 32 },
        worker: Worker {
            actions: Vec::new(),
            concurrency: 64,
            allow_private: true,
            secrets_dir: None,
            http_ca: None,
            noop: false,
        },
        gateway: Gateway { listen: options.listen },
    });
    roles::run(global, roles).await
}

fn welcome(url: &str, listen: std::net::SocketAddr, ledger: bool) -> String {
    let ledger = if ledger { "in Postgres" } else { "left out (no Postgres found)" };
    let context = if url.ends_with(":4222") { String::new() } else { format!(" -s {url}") };
    format!(
        "PLED is up: NATS {url}, gateway http://{listen}, ledger {ledger}. Ctrl-C ends it.\n\
         \n\
         Register a template and start an execution:\n\
         \x20 pled template add examples/approval.json\n\
         \x20 pled start approval '{{\"what\":\"a chair\",\"amount\":450}}' --id chair-1 --wait\n\
         \n\
         The same with plain NATS:\n\
         \x20 nats{context} req pled.events.desk-1.pled.init '{{\"what\":\"a desk\",\"amount\":900}}' -H Pled-Template:approval\n\
         \x20 nats{context} pub pled.events.desk-1.APPROVE '{{\"by\":\"finance\"}}'\n\
         \x20 nats{context} kv watch PLED_SNAPSHOTS\n\
         \x20 nats{context} stream view PLED_JOURNAL --subject 'pled.journal.*.desk-1'\n\
         \n\
         The same over HTTP:\n\
         \x20 curl -s {listen}/v1/executions -H 'content-type: application/json' -d '{{\"template\":\"approval\",\"id\":\"lamp-1\",\"input\":{{\"what\":\"a lamp\",\"amount\":120}}}}'\n\
         \x20 curl -s {listen}/v1/executions/lamp-1\n"
    )
}
