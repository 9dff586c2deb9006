//! Servers on this machine for `dev`, `demo` and `bench`: the scripts of `deploy/local`, carried in
//! the binary, so that one file is all a user needs.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

const SCRIPTS: [(&str, &str); 3] = [
    ("nats-server.sh", include_str!("../deploy/local/nats-server.sh")),
    ("postgres.sh", include_str!("../deploy/local/postgres.sh")),
    ("with-servers.sh", include_str!("../deploy/local/with-servers.sh")),
];

/// Runs this program again with `arguments`, inside servers of its own that end with it. Comes back
/// only if that cannot be done.
///
/// `options` are those of `with-servers.sh`.
pub(crate) fn again_inside(options: &[&str], arguments: &[OsString]) -> anyhow::Error {
    let run = || -> anyhow::Result<std::io::Error> {
        let folder = unpack()?;
        let program = std::env::current_exe().context("this program's own path")?;
        let mut command = Command::new("bash");
        command.arg(folder.join("with-servers.sh")).args(options).arg("--").arg(program);
        Ok(command.args(arguments).exec())
    };
    match run() {
        Ok(error) => anyhow::Error::from(error).context("bash, which starts the servers"),
        Err(error) => error,
    }
}

fn unpack() -> anyhow::Result<PathBuf> {
    let folder = cache_folder()?.join(format!("local-{}", env!("CARGO_PKG_VERSION")));
    std::fs::create_dir_all(&folder).with_context(|| format!("the folder {}", folder.display()))?;
    for (name, text) in SCRIPTS {
        write(&folder, name, text).with_context(|| format!("writing {name}"))?;
    }
    Ok(folder)
}

/// Several processes may do this at once: each file appears whole.
fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let fresh = folder.join(format!(".{name}.{}", std::process::id()));
    std::fs::write(&fresh, text)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&fresh, folder.join(name))
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("PLED_CACHE") {
        return Ok(folder.into());
    }
    if let Some(folder) = set("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(folder).join("pled"));
    }
    let home = set("HOME").context("HOME is not set, so there is no place for the servers")?;
    Ok(PathBuf::from(home).join(".cache/pled"))
}
