//! The data folder that `initdb` makes, once for all servers of this process that live at the same time:
//! a copy takes a quarter of the time, and tests make many.
//!
//! It knows one password, so these servers share theirs. It goes with the last of them.

use super::folder::{Folder, run};
use super::{SUPERUSER, random_password};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};

static SHARED: tokio::sync::Mutex<Weak<Template>> = tokio::sync::Mutex::const_new(Weak::new());

#[derive(Debug)]
pub(super) struct Template {
    pub password: String,
    folder: Folder,
}

impl Template {
    pub async fn shared() -> io::Result<Arc<Template>> {
        let mut shared = SHARED.lock().await;
        if let Some(template) = shared.upgrade() {
            return Ok(template);
        }
        let made = Template { password: random_password()?, folder: Folder::create()? };
        made.initialise().await?;
        let made = Arc::new(made);
        *shared = Arc::downgrade(&made);
        Ok(made)
    }

    pub async fn copy_to(&self, data: &Path) -> io::Result<()> {
        let mut copy = Command::new("cp");
        // With owner and mode: the server refuses a folder that others may read.
        copy.arg("-a").arg(self.folder.data()).arg(data);
        run(copy).await
    }

    async fn initialise(&self) -> io::Result<()> {
        let password_file = self.folder.path().join("password");
        self.folder.write_private(&password_file, &self.password)?;
        let mut initdb = self.folder.program("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--username", SUPERUSER, "--auth", "scram-sha-256", "--pwfile"]).arg(&password_file);
        initdb.arg("--pgdata").arg(self.folder.data());
        run(initdb).await?;
        std::fs::remove_file(password_file)
    }
}
