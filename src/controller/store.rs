//! The state file: versioned, atomic, fsynced, readable by its owner only, with the one before kept.
//!
//! Nothing is saved past the fence, so a holder that lost its lease never overwrites the next one's
//! state. A torn file falls back to the backup. A foreign or newer one is refused: guessing could make a
//! second droplet. The predecessor's file is imported once, for its token.

use crate::clients::fence::{Fence, Fenced};
use crate::clients::seam::{Point, Seam};
use crate::plan::secret::Secret;
use crate::plan::state::{CachedToken, State, TokenSource, VERSION};
use crate::plan::token::is_token;
use jiff::Timestamp;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// How the name of a save that is under way goes on after the state file's own.
const UNFINISHED: &str = "new-";
/// Where the predecessor kept its state.
pub const PREDECESSOR_FILE: &str = "/tmp/ops-controller-state.json";

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("state file {path}: {source} (STATE_FILE must be in a folder that this user may write)")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "state file {path} was written by a newer version (layout {found}, this program knows {VERSION}): run that version, or `ops-controller reset`"
    )]
    Newer { path: PathBuf, found: u64 },
    #[error(
        "state file {path} belongs to another deployment ({found}): point STATE_FILE elsewhere, or `ops-controller reset`"
    )]
    Foreign { path: PathBuf, found: String },
    #[error(
        "state file {path} and its backup cannot be read ({why}): restore one, or `ops-controller reset` (droplets of ours are found again by their tag)"
    )]
    Torn { path: PathBuf, why: String },
    /// This controller may not write any more.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

/// How the state came to be, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    Fresh,
    Read,
    /// The file was torn; the one before it was taken.
    FromBackup {
        why: String,
    },
    /// Nothing of ours yet, and the predecessor left a file.
    Imported {
        token: bool,
    },
}

/// The file and its backup; beside them lie the lease and the socket.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    seam: Seam,
    predecessor: PathBuf,
    fence: Fence,
}

impl Store {
    pub fn new(path: impl Into<PathBuf>, seam: Seam) -> Store {
        Store { path: path.into(), seam, predecessor: PREDECESSOR_FILE.into(), fence: Fence::closed() }
    }

    /// One that may save, as long as this fence lets it.
    pub fn fenced(mut self, fence: Fence) -> Store {
        self.fence = fence;
        self
    }

    /// What holds for a save holds for every other write.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Looks for the predecessor's file elsewhere than in /tmp.
    pub fn with_predecessor(mut self, path: impl Into<PathBuf>) -> Store {
        self.predecessor = path.into();
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn backup(&self) -> PathBuf {
        self.beside("bak")
    }

    /// The socket by which commands on the same machine reach the running daemon.
    pub fn socket(&self) -> PathBuf {
        self.beside("sock")
    }

    pub(super) fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(ending);
        self.path.with_file_name(name)
    }

    pub fn folder(&self) -> &Path {
        self.path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        let folder = self.folder();
        fs::create_dir_all(folder).map_err(|source| StoreError::Io { path: folder.to_owned(), source })
    }

    /// Saves that were begun and not finished. Who takes the folder's lease removes them: what a
    /// frozen holder has not yet renamed when it wakes, it cannot rename any more.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        let prefix = self.beside(UNFINISHED);
        let prefix = prefix.file_name().unwrap_or_default().as_encoded_bytes();
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(prefix) {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// The state for this identity.
    pub fn load(&self, identity: &str, now: Timestamp) -> Result<(State, Loaded), StoreError> {
        match read(&self.path, identity) {
            Ok(Some(state)) => Ok((state, Loaded::Read)),
            Ok(None) => match read(&self.backup(), identity) {
                // A crash between two renames leaves only the backup.
                Ok(Some(state)) => Ok((state, Loaded::FromBackup { why: "the file itself is missing".into() })),
                Ok(None) => Ok(self.import(identity, now)),
                Err(error) => Err(error),
            },
            Err(StoreError::Torn { why, .. }) => match read(&self.backup(), identity) {
                Ok(Some(state)) => Ok((state, Loaded::FromBackup { why })),
                Ok(None) | Err(StoreError::Torn { .. }) => Err(StoreError::Torn { path: self.path.clone(), why }),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Takes the worker token out of the predecessor's file: it may be in no log any more.
    fn import(&self, identity: &str, now: Timestamp) -> (State, Loaded) {
        #[derive(Deserialize)]
        struct Old {
            config_cache: Option<OldCache>,
        }
        #[derive(Deserialize)]
        struct OldCache {
            #[serde(rename = "TRIGGER_WORKER_TOKEN")]
            token: Option<String>,
        }
        let mut state = State::new(identity);
        let Ok(text) = fs::read(&self.predecessor) else { return (state, Loaded::Fresh) };
        let old: Option<Old> = serde_json::from_slice(&text).ok();
        let token = old.and_then(|o| o.config_cache).and_then(|c| c.token).filter(|t| is_token(t));
        state.token =
            token.map(|t| CachedToken { value: Secret::new(t), source: TokenSource::Imported, found_at: now });
        let token = state.token.is_some();
        (state, Loaded::Imported { token })
    }

    /// Replaces the file; the one before becomes the backup. Returns when both are on the disk.
    ///
    /// The order keeps a frozen holder out: first the temporary file, then the fence, then the rename.
    /// Whoever takes over in between has removed that file (see `lease::folder`).
    pub async fn save(&self, state: &State) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        self.make_folder()?;
        self.seam.reach(|| Point::BeforeWrite).await;
        let text = serde_json::to_vec_pretty(state).map_err(|e| io(io::Error::other(e)))?;
        let prefix = self.beside(UNFINISHED);
        let prefix = prefix.file_name().unwrap_or_default();
        let mut file = tempfile::Builder::new().prefix(prefix).tempfile_in(self.folder()).map_err(io)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(io)?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        self.fence.check()?;
        self.seam.reach(|| Point::Written).await;
        let kept = self.keep_backup();
        if let Err(error) = kept.and_then(|()| file.persist(&self.path).map(|_| ()).map_err(|e| e.error)) {
            // Removed by another holder, perhaps.
            self.fence.check()?;
            return Err(io(error));
        }
        File::open(self.folder()).and_then(|f| f.sync_all()).map_err(io)?;
        self.seam.reach(|| Point::Renamed).await;
        Ok(())
    }

    /// A second name for the present file, put in place by one rename: at no time is there neither.
    /// A torn file is no backup: it would replace the good one from which the state was taken.
    fn keep_backup(&self) -> io::Result<()> {
        let is_whole = fs::read(&self.path).is_ok_and(|text| serde_json::from_slice::<State>(&text).is_ok());
        if !is_whole {
            return Ok(());
        }
        let mut named = tempfile::Builder::new();
        let prefix = self.beside(UNFINISHED);
        let named = named.prefix(prefix.file_name().unwrap_or_default());
        // Always a name that nobody has: what is copied onto a second name of the file empties it.
        let step = match named.make_in(self.folder(), |step| fs::hard_link(&self.path, step)) {
            Ok(step) => step.into_temp_path(),
            // Some volumes know no hard links.
            Err(_) => {
                let mut copy = named.tempfile_in(self.folder())?;
                io::copy(&mut File::open(&self.path)?, copy.as_file_mut())?;
                copy.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
                copy.as_file().sync_all()?;
                copy.into_temp_path()
            }
        };
        // Dropped, the name goes: between two names of one file, a rename does nothing.
        fs::rename(&step, self.backup())
    }

    /// Sets the state and its backup aside; returns where they went. Nothing is deleted: the backup
    /// may be the only good copy of a token that is in no log any more.
    pub fn reset(&self, now: Timestamp) -> Result<Vec<PathBuf>, StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        self.fence.check()?;
        let mut aside = Vec::new();
        for (from, ending) in [(self.path.clone(), "reset"), (self.backup(), "bak-reset")] {
            if !from.exists() {
                continue;
            }
            let to = self.beside(&format!("{ending}-{}", now.as_second()));
            fs::set_permissions(&from, fs::Permissions::from_mode(0o600)).map_err(io)?;
            fs::rename(&from, &to).map_err(io)?;
            aside.push(to);
        }
        Ok(aside)
    }
}

/// What is not there needs no removal.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn read(path: &Path, identity: &str) -> Result<Option<State>, StoreError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
    };
    let torn = |why: &str| StoreError::Torn { path: path.to_owned(), why: why.to_owned() };
    #[derive(Deserialize)]
    struct Head {
        version: Option<u64>,
        identity: Option<String>,
    }
    let head: Head = serde_json::from_slice(&text).map_err(|_| torn("not whole JSON"))?;
    match head.version {
        None => return Err(torn("no version: not a state file of this program")),
        Some(found) if found > u64::from(VERSION) => return Err(StoreError::Newer { path: path.to_owned(), found }),
        Some(_) => {}
    }
    if let Some(found) = head.identity.filter(|found| found != identity) {
        return Err(StoreError::Foreign { path: path.to_owned(), found });
    }
    // The position is enough to find the place; the text around it may be a token.
    let state = serde_json::from_slice(&text)
        .map_err(|e| torn(&format!("unexpected content at line {} column {}", e.line(), e.column())))?;
    Ok(Some(state))
}
