//! The lease of the folder in which the state file lies: one file for each epoch beside it.
//!
//! Nobody ever waits for a lock, because a frozen process would keep it for ever:
//! - Epoch N is taken by making `STATE_FILE.lease-N`, which succeeds for one process only. Of two
//!   standbys that see the same holder end, one makes the next file, and the other one stays.
//! - Its holder keeps a `flock` on it. When that is free its process is gone, and the next epoch may
//!   be taken at once. When it is not, the process may be frozen: then the content tells, which is
//!   renewed ([`super::term`]).
//! - The holder is who has the newest file. So an epoch that was taken is lost for all before it,
//!   without asking them, and they see it in one look at the folder before each write.
//!
//! One window is left: frozen after that look and before its `rename`, a holder would wake and put
//! its old state over the new holder's. Therefore a save first makes its temporary file, then looks,
//! then renames, and whoever takes an epoch first makes its file, then removes every temporary file,
//! then reads the state. Whoever looked too early finds nothing left to rename.

use super::LeaseError;
use super::term::{Holder, Pace, Watch};
use crate::clients::fence::{Fence, Fenced, Grant, uptime};
use crate::controller::store::Store;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More is no lease file of ours.
const LARGEST_RECORD: usize = 4096;
/// A record's time is believed up to this: the most that LEASE_TIME may be.
const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// What a lease file says. Only that it changes counts; the rest is for people, and for the time.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    renewals: u64,
    epoch: u64,
    holder: String,
    since: Timestamp,
    lease_ms: u64,
}

/// How an attempt to take it ended.
pub enum Attempt {
    Taken(Term),
    /// Somebody else has it, or was faster.
    Held(Option<Holder>),
}

/// The folder as a standby sees it.
pub struct Folder {
    place: Place,
    watch: Watch,
}

/// Where the files lie.
#[derive(Clone)]
struct Place {
    store: Store,
}

impl Place {
    fn file(&self, epoch: u64) -> PathBuf {
        self.store.beside(&format!("lease-{epoch}"))
    }

    /// Every epoch that has a file, in no order.
    fn epochs(&self) -> io::Result<Vec<u64>> {
        let prefix = self.store.beside("lease-");
        let prefix = prefix.file_name().unwrap_or_default().as_encoded_bytes();
        let mut epochs = Vec::new();
        for entry in fs::read_dir(self.store.folder())? {
            let name = entry?.file_name();
            let number = name.as_encoded_bytes().strip_prefix(prefix).and_then(|n| std::str::from_utf8(n).ok());
            epochs.extend(number.and_then(|n| n.parse::<u64>().ok()));
        }
        Ok(epochs)
    }

    fn newest(&self) -> io::Result<u64> {
        Ok(self.epochs()?.into_iter().max().unwrap_or_default())
    }

    /// Whether this epoch, which is held by this very file, still is the newest.
    fn look(&self, epoch: u64, inode: u64) -> Result<(), Fenced> {
        let newest = self.newest().map_err(|e| not_seen(epoch, &e))?;
        if newest > epoch {
            return Err(Fenced::new(format!("another controller took over (epoch {newest}, ours was {epoch})")));
        }
        match fs::metadata(self.file(epoch)) {
            Ok(meta) if meta.ino() == inode => Ok(()),
            Ok(_) => Err(removed(epoch)),
            Err(error) => Err(not_seen(epoch, &error)),
        }
    }
}

impl Folder {
    pub fn new(store: Store) -> Folder {
        Folder { place: Place { store }, watch: Watch::default() }
    }

    /// Tries once. Waits for nobody.
    pub fn attempt(&mut self, name: &str, pace: Pace) -> Result<Attempt, LeaseError> {
        let folder = self.place.store.folder().to_owned();
        let io = |source| LeaseError::Folder { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(io)?;
        let newest = self.place.newest().map_err(io)?;
        // Held until the next epoch's file is there: whoever took this one and did not come to lock
        // it finds it locked, and gives it up.
        let _freed = match self.place.newest_is_free(newest, &mut self.watch, pace).map_err(io)? {
            Newest::Free(file) => file,
            Newest::Held(holder) => return Ok(Attempt::Held(holder)),
        };
        self.take(newest + 1, name, pace).map_err(io)
    }

    fn take(&mut self, epoch: u64, name: &str, pace: Pace) -> io::Result<Attempt> {
        let path = self.place.file(epoch);
        let before = uptime();
        let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Attempt::Held(None)),
            Err(e) => return Err(e),
        };
        match file.try_lock() {
            Ok(()) => {}
            // Somebody found it before it was locked, and takes the next.
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Held(None)),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // Made after a pause in which others came and went, it is not the newest.
        if self.place.newest()? != epoch {
            return Ok(Attempt::Held(None));
        }
        let lease_ms = u64::try_from(pace.holds().as_millis()).unwrap_or(u64::MAX);
        let record = Record { renewals: 0, epoch, holder: name.to_owned(), since: Timestamp::now(), lease_ms };
        let written = write(&file, &record).and_then(|()| File::open(self.place.store.folder())?.sync_all());
        if let Err(error) = written {
            // A full disk: else each try would leave a file. It is locked still, and was nobody's lease.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        for older in self.place.epochs()?.into_iter().filter(|e| *e < epoch) {
            let _ = fs::remove_file(self.place.file(older));
        }
        self.place.store.remove_unfinished()?;
        let (place, inode) = (self.place.clone(), file.metadata()?.ino());
        let grant = Grant::new(format!("the folder's lease (epoch {epoch})"), before + pace.holds(), move || {
            place.look(epoch, inode)
        });
        self.watch.forget();
        // Frozen on the way here: not even begun.
        if grant.check().is_err() {
            return Ok(Attempt::Held(None));
        }
        Ok(Attempt::Taken(Term { file, record, grant, pace }))
    }
}

enum Newest {
    /// Nobody holds it; its lock, where one could be had.
    Free(Option<File>),
    Held(Option<Holder>),
}

impl Place {
    fn newest_is_free(&self, epoch: u64, watch: &mut Watch, pace: Pace) -> io::Result<Newest> {
        if epoch == 0 {
            return Ok(Newest::Free(None));
        }
        let began = uptime();
        let file = match OpenOptions::new().read(true).write(true).open(self.file(epoch)) {
            Ok(file) => file,
            // Removed since the listing: there is a newer one.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Newest::Held(None)),
            Err(e) => return Err(e),
        };
        match file.try_lock_shared() {
            // Given up by whoever made it, and removed before it could be locked here: it is no epoch.
            Ok(()) if !is_at(&file, &self.file(epoch))? => return Ok(Newest::Held(None)),
            Ok(()) => return Ok(Newest::Free(Some(file))),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let content = read(&file)?;
        let record: Option<Record> = serde_json::from_slice(&content).ok();
        // Its own time counts when it is longer than ours.
        let its = record.as_ref().map_or(Duration::ZERO, |r| Duration::from_millis(r.lease_ms).min(LONGEST_LEASE));
        let patience = pace.taken_after().max(Pace::new(its).taken_after());
        if watch.is_over(&content, began, uptime(), patience) {
            return Ok(Newest::Free(None));
        }
        let holder = record.map(|r| Holder { name: r.holder, epoch: r.epoch, since: r.since.to_string() });
        Ok(Newest::Held(holder))
    }
}

/// What is gone is lost. With no descriptors left, or a disk that fails, nothing was learned.
fn not_seen(epoch: u64, error: &io::Error) -> Fenced {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => removed(epoch),
        _ => Fenced::for_now(format!("the folder's lease (epoch {epoch}) cannot be read: {error}")),
    }
}

fn removed(epoch: u64) -> Fenced {
    Fenced::new(format!("the folder's lease (epoch {epoch}) was removed"))
}

/// Whether the file of this name is this very file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.ino() == file.metadata()?.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; LARGEST_RECORD];
    let length = file.read_at(&mut content, 0)?;
    content.truncate(length);
    Ok(content)
}

/// In place: a reader may see half of it, which is a change as well.
fn write(file: &File, record: &Record) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    file.write_all_at(&text, 0)?;
    // Numbers only grow, so the text never gets shorter. On a network's volume this makes it visible.
    file.sync_data()
}

/// A lease that is held; given back when it is dropped.
pub struct Term {
    /// With its lock.
    file: File,
    record: Record,
    grant: Grant,
    pace: Pace,
}

impl Term {
    pub fn epoch(&self) -> u64 {
        self.record.epoch
    }

    pub fn fence(&self) -> Fence {
        Fence::granted(vec![self.grant.clone()])
    }

    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Shows that the holder lives. `Ok(Err)`: the lease is lost.
    pub fn renew(&mut self) -> io::Result<Result<(), Fenced>> {
        let before = uptime();
        match self.grant.check() {
            Ok(()) => {}
            Err(fenced) if fenced.is_for_now() => return Err(io::Error::other(fenced.why)),
            Err(lost) => return Ok(Err(lost)),
        }
        self.record.renewals += 1;
        write(&self.file, &self.record)?;
        Ok(self.grant.extend(before + self.pace.holds()))
    }
}

impl Drop for Term {
    /// The file stays: the next epoch counts on from it. Closing it frees its lock.
    fn drop(&mut self) {
        self.grant.end(Fenced::new(format!("the folder's lease (epoch {}) was given back", self.record.epoch)));
    }
}

impl Store {
    /// The folder's lease at once or not at all, for as long as the value lives but no longer than
    /// this: it is not renewed.
    pub fn lease_for(&self, name: &str, time: Duration) -> Result<Term, LeaseError> {
        match Folder::new(self.clone()).attempt(name, Pace::new(time))? {
            Attempt::Taken(term) => Ok(term),
            Attempt::Held(holder) => Err(LeaseError::held("the folder", holder.as_ref())),
        }
    }
}
