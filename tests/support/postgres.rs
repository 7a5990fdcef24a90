//! One PostgreSQL for all tests of a binary, and a database of it for each of them: to make a server
//! takes longer than most tests.

// Each test binary uses a part of this.
#![allow(dead_code)]

use ops_controller::runs::schema::Address;
use ops_controller::sandbox::postgres::{Auth, Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What the others are copied from: our schema, and what a binary's tests have in common.
pub const MIGRATED: &str = "migrated";

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static SERVER: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);

/// A static is never dropped, and its folder would stay.
extern "C" fn stop_server() {
    drop(SERVER.lock().map(|mut server| server.take()));
}

/// Everybody may log in: to check a password takes a debug build longer than the rest of a connection.
pub fn options() -> ClusterOptions {
    ClusterOptions { auth: Auth::Trust, database: MIGRATED.to_owned(), ..ClusterOptions::default() }
}

/// The server; made, migrated and given `common` by whoever comes first.
pub async fn server(common: &str) -> Arc<Cluster> {
    let _alone = ALONE.lock().await;
    if let Some(server) = SERVER.lock().expect("no test panics here").clone() {
        return server;
    }
    let made = Arc::new(Cluster::create(options()).await.expect("a PostgreSQL"));
    let address = Address::from_url(&made.url(), "test").expect("an address");
    address.migrate().await.expect("migrated");
    let mut c = address.connect().await.expect("a connection");
    c.execute(AssertSqlSafe(common.to_owned())).await.expect("what the tests have in common");
    sqlx::Connection::close(c).await.expect("closed");
    *SERVER.lock().expect("no test panics here") = Some(made.clone());
    // SAFETY: the handler is a plain function that touches only this static.
    assert_eq!(unsafe { libc::atexit(stop_server) }, 0);
    made
}

/// A database like this one, for one test; its name.
pub async fn database(server: &Cluster, template: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // One at a time: a database that is being copied must have nobody in it.
    let _alone = ALONE.lock().await;
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let mut c = server.connect_options().database("postgres").connect().await.expect("a connection");
    c.execute(AssertSqlSafe(format!("create database {name} template {template}"))).await.expect("a database");
    name
}

/// Its URL.
pub fn url(server: &Cluster, database: &str) -> String {
    server.url().replace(&format!("/{MIGRATED}"), &format!("/{database}"))
}
