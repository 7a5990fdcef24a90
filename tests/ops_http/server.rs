//! The server that all tests share, and a database of it for each of them.

use ops_controller::runs::schema::Address;
use ops_controller::sandbox::postgres::{Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const MIGRATED: &str = "migrated";

const PLACES: &str = "
    insert into ops.projects (project_id, name, repo_slug) values ('shop', 'Shop', 'org/shop'), ('bank', 'Bank', 'org/bank');
    insert into ops.environments (env_id, project_id, env_type) values
        ('shop-dev', 'shop', 'dev'), ('shop-prod', 'shop', 'prod'), ('bank-dev', 'bank', 'dev');
";

static SHARED: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static SERVER: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);

/// A static is never dropped, and its folder would stay.
extern "C" fn stop_server() {
    drop(SERVER.lock().map(|mut server| server.take()));
}

async fn server() -> Arc<Cluster> {
    let _alone = SHARED.lock().await;
    if let Some(server) = SERVER.lock().expect("no test panics here").clone() {
        return server;
    }
    let options = ClusterOptions { database: MIGRATED.to_owned(), ..ClusterOptions::default() };
    let made = Arc::new(Cluster::create(options).await.expect("a PostgreSQL"));
    Address::from_url(&made.url(), "test").expect("an address").migrate().await.expect("migrated");
    let mut c = made.connect().await.expect("a connection");
    c.execute(PLACES).await.expect("places");
    c.close().await.expect("closed");
    *SERVER.lock().expect("no test panics here") = Some(made.clone());
    // SAFETY: the handler is a plain function that touches only this static.
    assert_eq!(unsafe { libc::atexit(stop_server) }, 0);
    made
}

/// A database of one test.
pub struct Db {
    pub address: Address,
    _server: Arc<Cluster>,
}

impl Db {
    pub async fn new() -> Db {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = server().await;
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::SeqCst));
        let mut c = server.connect_options().database("postgres").connect().await.expect("a connection");
        let create = format!("create database {name} template {MIGRATED}");
        c.execute(AssertSqlSafe(create)).await.expect("a database");
        let url = server.url().replace(&format!("/{MIGRATED}"), &format!("/{name}"));
        Db { address: Address::from_url(&url, "test").expect("an address"), _server: server }
    }

    pub async fn c(&self) -> PgConnection {
        self.address.connect().await.expect("a connection")
    }

    pub async fn execute(&self, sql: &str) {
        self.c().await.execute(AssertSqlSafe(sql.to_owned())).await.expect(sql);
    }

    /// One value, as text.
    pub async fn ask(&self, sql: &str) -> String {
        let row = self.c().await.fetch_one(AssertSqlSafe(format!("select ({sql})::text"))).await.expect(sql);
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }
}
