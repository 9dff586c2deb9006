//! A disk whose power can be cut: ext4 in a file, mounted by the loop device. Linux only, and root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Ends a file system at once, as a power cut does: what was not synced is gone. `EXT4_IOC_SHUTDOWN`
/// with `EXT4_GOING_FLAGS_NOLOGFLUSH`, which no crate offers without `unsafe`.
const CUT: &str = "
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))
";

/// An ext4 file system of its own, unmounted and gone with this value.
pub(crate) struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Makes and mounts it.
    ///
    /// # Panics
    ///
    /// Where that takes more than this machine or user may do; with the words of the program.
    pub(crate) fn make() -> Self {
        let disk = Self { folder: TempDir::new().unwrap() };
        std::fs::create_dir(disk.path()).unwrap();
        let image = std::fs::File::create(disk.image()).unwrap();
        image.set_len(4 << 30).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(disk.image()));
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Cuts the power: from now on all reads and writes fail.
    pub(crate) fn cut(&self) {
        run(Command::new("python3").args(["-c", CUT]).arg(self.path()));
    }

    /// Mounts what is left. Nobody may have a file of it open.
    pub(crate) fn again(&self) {
        run(Command::new("umount").arg(self.path()));
        self.mount();
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount_lazily(&self.path());
    }
}

/// A server that still has files open loses sight of them later.
fn unmount_lazily(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).status();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
