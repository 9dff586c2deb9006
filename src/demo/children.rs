//! The processes of the demo: each a real one, so that it can be killed.

use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

/// A role of PLED in a process of its own, which ends with this value.
pub(crate) struct Role {
    name: &'static str,
    arguments: Vec<String>,
    child: Child,
}

impl Role {
    /// Starts `pled <arguments>`.
    pub(crate) fn start(name: &'static str, arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(name, &arguments)?;
        Ok(Self { name, arguments, child })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it with SIGKILL, as a crash does.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("killing the {}", self.name))
    }

    /// Starts it again.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(self.name, &self.arguments)?;
        Ok(())
    }

    /// Fails if it ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("the {} ended by itself: {status}", self.name),
        }
    }
}

fn spawn(name: &str, arguments: &[String]) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("this program's own path")?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .env("PLED_LOG", std::env::var("PLED_LOG").unwrap_or_else(|_| "error".to_owned()))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting the {name}"))
}
