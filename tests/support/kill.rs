//! Roles that crash.

use crate::support::Role;

impl Role {
    /// SIGKILL, then a new process.
    pub(crate) async fn kill_and_run(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().await.unwrap();
        }
        self.run();
    }
}
