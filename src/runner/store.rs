//! Where artifacts and backups lie: a folder, or a bucket that speaks S3.
//!
//! A file appears whole or not at all, and what is stored again under its path is replaced: a runner
//! that ends between the store and the database has done no harm. What this module refuses: to take a
//! folder for the store in which nothing was ever stored, and "no such bucket" for "it is gone".

use super::kind::PhaseError;
use super::kinds::Settings;
use crate::clients::Seam;
use crate::clients::machine;
use crate::clients::seam::Point;
use crate::config::{RunnerConfig, S3};
use crate::telemetry::redact_text;
use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use sha2::{Digest, Sha256};
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Parts of a large file; S3 takes no smaller ones than 5 MiB.
const PART: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;
/// For one object, all retries included.
const REMOVES_FOR: Duration = Duration::from_secs(20);
/// Who refuses one object says so at once; retries take longer.
const REFUSES_WITHIN: Duration = Duration::from_secs(2);

/// In a store that is a folder. No project is called so: its name begins with a dot.
const SCRATCH: &str = ".scratch";
const PREFIX: &str = "ops-run-";
/// The beginning of the name of what is written to see whether it can be; a dot, as above.
const PROBE: &str = ".ops-probe-";
const PROBES_FOR: Duration = Duration::from_secs(10);
/// In a store that is a folder: what that folder is called in the books. Another folder of the same name, on
/// another machine or where a volume is not mounted, has another one, or none.
const MARK: &str = ".store";
/// No phase takes nearly that long.
const ABANDONED_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);

/// Opened when it is first used: a runner that stores nothing needs none.
pub struct Store {
    name: String,
    s3: S3,
    seam: Seam,
    opened: OnceLock<(Arc<dyn ObjectStore>, Path)>,
}

/// What lies there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub path: String,
    pub digest: String,
    pub size: i64,
    /// In which store, as that names itself.
    pub store: Option<String>,
}

impl Store {
    pub fn new(config: &RunnerConfig, seam: &Seam) -> Store {
        let (name, s3) = (config.artifact_store.clone(), config.s3.clone());
        Store { name, s3, seam: seam.clone(), opened: OnceLock::new() }
    }

    fn opened(&self) -> Result<&(Arc<dyn ObjectStore>, Path), PhaseError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = self.open(RetryConfig::default())?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn open(&self, retry: RetryConfig) -> Result<(Arc<dyn ObjectStore>, Path), PhaseError> {
        let unusable =
            |why: String| PhaseError::failed(format!("ARTIFACT_STORE cannot be used: {}", redact_text(&why)));
        let Some(rest) = self.name.strip_prefix("s3://") else {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.name);
            made.map_err(|e| unusable(format!("{}: {e}", self.name)))?;
            let folder = LocalFileSystem::new_with_prefix(&self.name).map_err(|e| unusable(e.to_string()))?;
            return Ok((Arc::new(folder.with_fsync(true).with_automatic_cleanup(true)), Path::default()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retry);
        if let (Some(id), Some(key)) = (&self.s3.access_key_id, &self.s3.secret_access_key) {
            builder = builder.with_access_key_id(id.expose()).with_secret_access_key(key.expose());
        }
        if let Some(region) = &self.s3.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &self.s3.endpoint {
            let local = crate::config::is_loopback_url(endpoint);
            builder = builder.with_endpoint(endpoint).with_allow_http(local);
        }
        // Not all that speak S3 know how to delete many at once, and only one at a time is told of one.
        builder = builder.with_disable_bulk_delete(true);
        let bucket = builder.build().map_err(|e| unusable(e.to_string()))?;
        Ok((Arc::new(bucket), Path::from(prefix)))
    }

    /// Writes a small object, reads it and deletes it; says why that cannot be done, and what to do.
    pub async fn probe(&self) -> Result<(), String> {
        let done = match tokio::time::timeout(PROBES_FOR, self.write_read_delete()).await {
            Ok(done) => done,
            Err(_) => Err(format!("no answer within {} s", PROBES_FOR.as_secs())),
        };
        done.map_err(|why| {
            let fix = match self.is_bucket() {
                true => {
                    "check the bucket, AWS_ENDPOINT_URL and AWS_REGION, and that the key may write, read and delete"
                }
                false => "let it be a folder that this user may write to, with room in it",
            };
            // What it is about begins the sentence already.
            let why = why.strip_prefix("ARTIFACT_STORE cannot be used: ").unwrap_or(&why);
            format!("ARTIFACT_STORE {} cannot be used: {why}; {fix}", redact_text(&self.name))
        })
    }

    async fn write_read_delete(&self) -> Result<(), String> {
        // Ours alone: a wrong address is to be told in seconds, not after the retries of a long upload.
        let once = RetryConfig { max_retries: 1, retry_timeout: PROBES_FOR / 2, ..RetryConfig::default() };
        let (store, prefix) = self.open(once).map_err(|error| error.to_string())?;
        let at = prefix.join(format!("{PROBE}{}", machine::word()));
        let told = |step: &str, error: &object_store::Error| {
            format!("{step}: {}", crate::clients::http::clip(&redact_text(&chain(error))))
        };
        store.put(&at, PROBE.into()).await.map_err(|e| told("writing", &e))?;
        let read = async { store.get(&at).await?.bytes().await };
        let read = read.await.map_err(|e| told("reading what was written", &e));
        // Also when it could not be read: nothing is left behind.
        let deleted = store.delete(&at).await.map_err(|e| told("deleting what was written", &e));
        match read?.as_ref() == PROBE.as_bytes() {
            true => deleted,
            false => Err("what was read is not what was written".to_owned()),
        }
    }

    /// A folder for a phase that is gone afterwards. A dump may be large and the machine's own folder for
    /// such things small: where the store is a folder there is room, else TMPDIR says where.
    pub fn scratch(&self) -> Result<tempfile::TempDir, PhaseError> {
        let folder = match self.is_bucket() {
            true => std::env::temp_dir(),
            false => self.folder().join(SCRATCH),
        };
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        let variable = if self.is_bucket() { "TMPDIR" } else { "ARTIFACT_STORE" };
        made.map_err(|e| PhaseError::failed(format!("{variable} cannot be used: {}: {e}", folder.display())))?;
        remove_abandoned(&folder);
        tempfile::Builder::new().prefix(PREFIX).tempdir_in(&folder).map_err(|e| self.disk(&e))
    }

    /// What this store is called in the books. `None`: a folder in which nothing was ever stored, so what is
    /// not there may well lie elsewhere.
    pub fn identity(&self) -> Option<String> {
        if self.is_bucket() {
            return Some(self.name.clone());
        }
        let mark = std::fs::read_to_string(std::path::Path::new(&self.name).join(MARK)).ok()?;
        Some(mark.trim().to_owned()).filter(|mark| !mark.is_empty())
    }

    fn is_bucket(&self) -> bool {
        self.name.starts_with("s3://")
    }

    /// The name under which what is stored now is recorded; given to a folder when it is first used.
    fn marked(&self) -> Result<Option<String>, PhaseError> {
        if let Some(name) = self.identity() {
            return Ok(Some(name));
        }
        let folder = std::path::Path::new(&self.name);
        let name = format!("folder-{}", machine::word());
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| self.disk(&e))?;
        std::io::Write::write_all(&mut file, format!("{name}\n").as_bytes()).map_err(|e| self.disk(&e))?;
        // Whole or not at all; who was first has named it.
        match file.persist_noclobber(folder.join(MARK)) {
            Err(other) if other.error.kind() != std::io::ErrorKind::AlreadyExists => Err(self.disk(&other.error)),
            _ => Ok(self.identity()),
        }
    }

    pub async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<Stored, PhaseError> {
        let (store, at) = self.at(path)?;
        let (digest, size) = (digest(&Sha256::digest(&bytes)), bytes.len());
        self.seam.reach(|| Point::Before(format!("store {path}"))).await;
        store.put(&at, bytes.into()).await.map_err(|e| self.lost(path, &e))?;
        self.seam.reach(|| Point::After(format!("store {path}"))).await;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Stored { path: path.to_owned(), digest, size, store: self.marked()? })
    }

    /// A file of any size, in parts.
    pub async fn put_file(&self, path: &str, file: &std::path::Path) -> Result<Stored, PhaseError> {
        let (store, at) = self.at(path)?;
        let mut from = tokio::fs::File::open(file).await.map_err(|e| self.disk(&e))?;
        self.seam.reach(|| Point::Before(format!("store {path}"))).await;
        let upload = store.put_multipart(&at).await.map_err(|e| self.lost(path, &e))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    let _ = upload.abort().await;
                    return Err(self.disk(&error));
                }
            };
            hash.update(&buffer[..count]);
            size += count;
            upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|e| self.lost(path, &e))?;
            upload.write(&buffer[..count]);
        }
        upload.finish().await.map_err(|e| self.lost(path, &e))?;
        self.seam.reach(|| Point::After(format!("store {path}"))).await;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Stored { path: path.to_owned(), digest: digest(&hash.finalize()), size, store: self.marked()? })
    }

    /// Writes what lies there to a file; returns its digest.
    pub async fn fetch(&self, path: &str, file: &std::path::Path) -> Result<String, PhaseError> {
        let (store, at) = self.at(path)?;
        let found = store.get(&at).await.map_err(|e| self.lost(path, &e))?;
        let mut to = tokio::fs::File::create(file).await.map_err(|e| self.disk(&e))?;
        let (mut parts, mut hash) = (found.into_stream(), Sha256::new());
        while let Some(part) = parts.next().await {
            let part = part.map_err(|e| self.lost(path, &e))?;
            hash.update(&part);
            to.write_all(&part).await.map_err(|e| self.disk(&e))?;
        }
        to.flush().await.map_err(|e| self.disk(&e))?;
        Ok(digest(&hash.finalize()))
    }

    /// Removes what lies there. False: it was gone already. `Err`: nothing is known; transient where the store
    /// was asked over and over for that, so that asking for the next one would take as long.
    pub async fn remove(&self, path: &str) -> Result<bool, PhaseError> {
        if self.identity().is_none() {
            return Err(PhaseError::failed(format!("nothing was ever stored in ARTIFACT_STORE, {}", self.name)));
        }
        let (store, at) = self.at(path)?;
        self.seam.reach(|| Point::Before(format!("remove {path}"))).await;
        let began = Instant::now();
        let removed = tokio::time::timeout(REMOVES_FOR, store.delete(&at)).await;
        let removed = removed.map_err(|_| PhaseError::Transient(self.said(path, "no answer")))?;
        let is_there = match removed {
            Ok(()) => true,
            // Where the bucket is missing, or something else answers, nothing is known of the object.
            Err(error @ object_store::Error::NotFound { .. })
                if !self.is_bucket() || chain(&error).contains("NoSuchKey") =>
            {
                false
            }
            Err(error) => {
                let why = self.said(path, &told(&error));
                let is_slow = began.elapsed() >= REFUSES_WITHIN;
                return Err(if is_slow { PhaseError::Transient(why) } else { PhaseError::Failed(why) });
            }
        };
        self.seam.reach(|| Point::After(format!("remove {path}"))).await;
        Ok(is_there)
    }

    /// Trouble with the folder of what phases write meanwhile.
    pub fn disk(&self, error: &std::io::Error) -> PhaseError {
        let (variable, folder) = match self.is_bucket() {
            true => ("TMPDIR", std::env::temp_dir()),
            false => ("ARTIFACT_STORE", self.folder()),
        };
        PhaseError::transient(format!("this runner's disk, {variable} {}: {error}", folder.display()))
    }

    fn lost(&self, path: &str, error: &object_store::Error) -> PhaseError {
        let message = self.said(path, &told(error));
        use object_store::Error;
        match error {
            Error::NotFound { .. } => {
                PhaseError::failed(format!("ARTIFACT_STORE {} has no {path}", redact_text(&self.name)))
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::InvalidPath { .. } => {
                PhaseError::Failed(message)
            }
            _ => PhaseError::Transient(message),
        }
    }

    fn said(&self, path: &str, why: &str) -> String {
        format!("ARTIFACT_STORE {}, {path}: {why}", redact_text(&self.name))
    }

    /// Of a store that is one.
    fn folder(&self) -> std::path::PathBuf {
        std::path::PathBuf::from(&self.name)
    }

    fn at(&self, path: &str) -> Result<(&Arc<dyn ObjectStore>, Path), PhaseError> {
        let (store, prefix) = self.opened()?;
        let path = Path::parse(path).map_err(|_| PhaseError::failed(format!("{path:?} is no path of this store")))?;
        Ok((store, prefix.parts().chain(path.parts()).collect()))
    }
}

/// What killed runners left behind.
fn remove_abandoned(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_dir)
            .and_then(|about| about.modified().ok()?.elapsed().ok());
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && age.is_some_and(|age| age > ABANDONED_AFTER) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// With its causes: the store's errors wrap those that say what happened, and some repeat them.
fn chain(error: &object_store::Error) -> String {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).map(ToString::to_string).fold(
        error.to_string(),
        |text, cause| {
            if text.contains(&cause) { text } else { format!("{text}: {cause}") }
        },
    )
}

fn told(error: &object_store::Error) -> String {
    crate::clients::http::clip(&error.to_string())
}

impl Settings {
    /// Where an artifact of a run belongs.
    pub fn artifact_path(&self, run: &crate::runs::Claimed, key: &str) -> String {
        artifact_path(run.project_id.as_deref(), run.env_id.as_deref(), &run.run_id, key)
    }
}

/// Where an artifact of a run lies; names that would climb out are written otherwise. What a row says lies
/// anywhere else is not ours.
pub fn artifact_path(project_id: Option<&str>, env_id: Option<&str>, run_id: &str, key: &str) -> String {
    let of = |id: Option<&str>| id.unwrap_or("none").to_owned();
    Path::from_iter([of(project_id), of(env_id), run_id.to_owned(), key.to_owned()]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OpsConfig;

    #[test]
    fn trouble_with_the_store_names_its_variable_and_where_it_is() {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let of = |place: &str| {
            let pairs = [
                ("OPS_DATABASE_URL", "postgresql://ops@127.0.0.1:1/ops"),
                ("ARTIFACT_STORE", place),
                ("AWS_ACCESS_KEY_ID", "AKIANOTREAL"),
                ("AWS_SECRET_ACCESS_KEY", "not-a-real-key"),
                ("AWS_REGION", "eu-west-1"),
            ];
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let config = OpsConfig::from_pairs(pairs).expect("a configuration");
            Store::new(&config.runner, &Seam::default())
        };
        let told = of("/var/lib/kept").disk(&full).to_string();
        assert!(told.starts_with("this runner's disk, ARTIFACT_STORE /var/lib/kept: No space left"), "{told}");
        let told = of("s3://kept/below").disk(&full).to_string();
        assert!(told.starts_with("this runner's disk, TMPDIR /"), "{told}");
        let missing = object_store::Error::NotFound { path: "x".to_owned(), source: "gone".into() };
        let told = of("s3://kept/below").lost("shop/a", &missing).to_string();
        assert_eq!(told, "ARTIFACT_STORE s3://kept/below has no shop/a");
    }
}
