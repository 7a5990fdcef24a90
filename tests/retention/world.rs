//! A database, a store, and things in them that are as old as a test wants.

use crate::binary::Environment;
use crate::postgres;
use ops_controller::clients::Seam;
use ops_controller::config::{OpsConfig, Retention};
use ops_controller::runner::prune::{self, Report};
use ops_controller::runner::store::Store;
use ops_controller::runs::schema::Address;
use ops_controller::sandbox::postgres::Cluster;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes nearly that long; a loaded machine may.
pub const DEADLINE: Duration = Duration::from_secs(60);

const COMMON: &str = "
    insert into ops.projects (project_id, name) values ('shop', 'Shop'), ('bank', 'Bank');
    insert into ops.environments (env_id, project_id, env_type) values
        ('shop-dev', 'shop', 'dev'), ('shop-prod', 'shop', 'prod'), ('bank-dev', 'bank', 'dev');
    insert into ops.project_members (project_id, user_id, role_id) values ('shop', 'olga', 'owner');
    create role gateway login in role ops_member;
    create role worker login in role ops_runner;
    create role stranger login;
";

pub struct World {
    pub server: Arc<Cluster>,
    pub name: String,
    pub address: Address,
    pub folder: TempDir,
    pub days: Retention,
    /// Variables of the store, instead of a folder's.
    pub bucket: Vec<(&'static str, String)>,
}

impl World {
    pub async fn new() -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = postgres::server(COMMON).await;
        let name = postgres::database(&server, postgres::MIGRATED).await;
        let address = Address::from_url(&postgres::url(&server, &name), "test").expect("an address");
        let folder = tempfile::Builder::new().prefix("ops-retention-").tempdir().expect("a folder");
        World { server, name, address, folder, days: Retention::default(), bucket: Vec::new() }
    }

    pub fn in_bucket(&mut self, endpoint: String) {
        self.bucket = vec![
            ("ARTIFACT_STORE", "s3://kept/below".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIANOTREAL".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "not-a-real-key".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ENDPOINT_URL", endpoint),
        ];
    }

    /// Where the store's folder is.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn variables(&self) -> Vec<(String, String)> {
        let days = [
            ("EVENT_RETENTION_DAYS", self.days.event_days),
            ("RUN_RETENTION_DAYS", self.days.run_days),
            ("AUDIT_RETENTION_DAYS", self.days.audit_days),
        ];
        let folder = ("ARTIFACT_STORE", self.files().display().to_string());
        let store = if self.bucket.is_empty() { vec![folder] } else { self.bucket.clone() };
        let url = ("OPS_DATABASE_URL", postgres::url(&self.server, &self.name));
        let all = days.map(|(name, n)| (name, n.to_string())).into_iter().chain(store).chain([url]);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub fn environment(&self) -> Environment {
        Environment::new(self.variables())
    }

    pub fn store(&self) -> Store {
        self.store_with(&Seam::default())
    }

    pub fn store_with(&self, seam: &Seam) -> Store {
        let config = OpsConfig::from_pairs(self.variables()).expect("a configuration");
        Store::new(&config.runner, seam)
    }

    pub async fn c(&self) -> PgConnection {
        self.address.connect().await.expect("a connection")
    }

    pub async fn execute(&self, sql: &str) {
        self.c().await.execute(AssertSqlSafe(sql.to_owned())).await.expect(sql);
    }

    pub async fn ask(&self, sql: &str) -> String {
        let row = self.c().await.fetch_one(AssertSqlSafe(format!("select ({sql})::text"))).await.expect(sql);
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    pub async fn count(&self, table: &str) -> i64 {
        self.ask(&format!("select count(*) from ops.{table}")).await.parse().expect("a number")
    }

    /// The ids that are left, in order.
    pub async fn runs(&self) -> Vec<String> {
        let all = self.ask("select string_agg(run_id, ' ' order by run_id) from ops.runs").await;
        all.split_whitespace().map(str::to_owned).collect()
    }

    /// A custom run that ended so many days ago.
    pub async fn ended(&self, id: &str, days: u32) {
        self.ended_as(id, "custom", "success", days).await;
    }

    pub async fn ended_as(&self, id: &str, kind: &str, status: &str, days: u32) {
        self.execute(&format!(
            "insert into ops.runs (run_id, kind, project_id, env_id, git_sha, git_ref, status, claimed_by, attempt,
                                   lease_token, error, started_at, finished_at, queued_at)
             select '{id}', '{kind}', 'shop', 'shop-dev', 'abc', 'main', '{status}', 'w1', 1, 1,
                    case when '{status}' = 'failed' then 'broken' end, at, at, at
             from (select now() - interval '{days} days' as at) as t"
        ))
        .await;
    }

    /// A build, with the image that it made.
    pub async fn built(&self, id: &str, days: u32) {
        self.ended_as(id, "build", "success", days).await;
        self.execute(&format!(
            "insert into ops.run_phases (run_id, name, ordinal, status, attempt, output, finished_at)
             values ('{id}', 'build_image', 1, 'success', 1, '{{\"image_digest\": \"sha256:00\"}}', now())"
        ))
        .await;
    }

    /// An artifact of that run that expired so many days ago, where our runners store it; also in the store.
    pub async fn stored(&self, run: &str, key: &str, expired: &str) -> String {
        let path = format!("shop/shop-dev/{run}/{key}");
        let stored = self.store().put(&path, b"kept".to_vec()).await.expect("stored");
        self.recorded(run, key, &path, stored.store.as_deref(), expired).await;
        path
    }

    /// The row alone.
    pub async fn recorded(&self, run: &str, key: &str, path: &str, store: Option<&str>, expired: &str) {
        let store = store.map_or("null".to_owned(), |store| format!("'{store}'"));
        self.execute(&format!(
            "insert into ops.artifacts (run_id, artifact_key, artifact_type, storage_path, store, expires_at)
             values ('{run}', '{key}', 'other', '{path}', {store}, {expired})"
        ))
        .await;
    }

    pub fn has(&self, path: &str) -> bool {
        self.files().join(path).exists()
    }

    pub async fn prune(&self) -> Report {
        self.prune_in(&self.store()).await
    }

    pub async fn prune_in(&self, store: &Store) -> Report {
        let mut report = Report::default();
        let done = prune::prune(&self.address, self.days, Some(store), &mut report).await;
        assert_eq!(done, Ok(true), "{report:?}");
        report
    }

    /// A sum of everything that stands in the schema.
    pub async fn sum(&self) -> BTreeMap<String, String> {
        let tables = self
            .ask(
                "select string_agg(relname, ' ' order by relname) from pg_class
                 where relnamespace = 'ops'::regnamespace and relkind = 'r'",
            )
            .await;
        let mut sums = BTreeMap::new();
        for table in tables.split_whitespace() {
            let sum = format!("select md5(string_agg(t::text, ' ' order by t::text)) from ops.{table} t");
            sums.insert(table.to_owned(), self.ask(&sum).await);
        }
        sums
    }
}

/// `artifacts 2, runs 1`
pub fn gone(report: &Report) -> String {
    report.gone().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

/// `runs 1: a backup names it`, one a line
pub fn kept(report: &Report) -> String {
    let mut lines: Vec<_> = report.kept().iter().map(|k| format!("{} {}: {}", k.what, k.count, k.why)).collect();
    lines.sort();
    lines.join("\n")
}
