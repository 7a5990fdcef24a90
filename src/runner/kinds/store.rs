//! Where artifacts and backups lie: a folder, or a bucket that speaks S3.
//!
//! A file appears whole or not at all, and what is stored again under its path is replaced: a runner
//! that ends between the store and the database has done no harm.

use super::Settings;
use crate::clients::Seam;
use crate::clients::seam::Point;
use crate::config::{RunnerConfig, S3};
use crate::runner::kind::PhaseError;
use crate::telemetry::redact_text;
use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::{Digest, Sha256};
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Parts of a large file; S3 takes no smaller ones than 5 MiB.
const PART: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

/// In a store that is a folder. No project is called so: its name begins with a dot.
const SCRATCH: &str = ".scratch";
const PREFIX: &str = "ops-run-";
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
        let opened = self.open()?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn open(&self) -> Result<(Arc<dyn ObjectStore>, Path), PhaseError> {
        let unusable =
            |why: String| PhaseError::failed(format!("ARTIFACT_STORE cannot be used: {}", redact_text(&why)));
        let Some(rest) = self.name.strip_prefix("s3://") else {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.name);
            made.map_err(|e| unusable(format!("{}: {e}", self.name)))?;
            let folder = LocalFileSystem::new_with_prefix(&self.name).map_err(|e| unusable(e.to_string()))?;
            return Ok((Arc::new(folder.with_fsync(true)), Path::default()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
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
        let bucket = builder.build().map_err(|e| unusable(e.to_string()))?;
        Ok((Arc::new(bucket), Path::from(prefix)))
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

    /// The path of an artifact; names that would climb out are written otherwise.
    pub fn path(&self, parts: [&str; 4]) -> String {
        Path::from_iter(parts).to_string()
    }

    pub async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<Stored, PhaseError> {
        let (store, at) = self.at(path)?;
        let (digest, size) = (digest(&Sha256::digest(&bytes)), bytes.len());
        self.seam.reach(|| Point::Before(format!("store {path}"))).await;
        store.put(&at, bytes.into()).await.map_err(|e| self.lost(path, &e))?;
        self.seam.reach(|| Point::After(format!("store {path}"))).await;
        Ok(Stored { path: path.to_owned(), digest, size: i64::try_from(size).unwrap_or(i64::MAX) })
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
        Ok(Stored { path: path.to_owned(), digest: digest(&hash.finalize()), size })
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

    /// Trouble with the folder of what phases write meanwhile.
    pub fn disk(&self, error: &std::io::Error) -> PhaseError {
        let (variable, folder) = match self.is_bucket() {
            true => ("TMPDIR", std::env::temp_dir()),
            false => ("ARTIFACT_STORE", self.folder()),
        };
        PhaseError::transient(format!("this runner's disk, {variable} {}: {error}", folder.display()))
    }

    fn lost(&self, path: &str, error: &object_store::Error) -> PhaseError {
        let store = redact_text(&self.name);
        let message = format!("ARTIFACT_STORE {store}, {path}: {}", crate::clients::http::clip(&error.to_string()));
        use object_store::Error;
        match error {
            Error::NotFound { .. } => PhaseError::failed(format!("ARTIFACT_STORE {store} has no {path}")),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::InvalidPath { .. } => {
                PhaseError::Failed(message)
            }
            _ => PhaseError::Transient(message),
        }
    }

    fn is_bucket(&self) -> bool {
        self.name.starts_with("s3://")
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

impl Settings {
    /// Where an artifact of a run belongs.
    pub fn artifact_path(&self, run: &crate::runs::Claimed, key: &str) -> String {
        let of = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
        self.store.path([&of(&run.project_id), &of(&run.env_id), &run.run_id, key])
    }
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
