//! The server that all tests share, and a database of it for each of them.

use crate::postgres;
use ops_controller::runs::schema::Address;
use ops_controller::sandbox::postgres::Cluster;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use std::sync::Arc;

const PLACES: &str = "
    insert into ops.projects (project_id, name, repo_slug) values ('shop', 'Shop', 'org/shop'), ('bank', 'Bank', 'org/bank');
    insert into ops.environments (env_id, project_id, env_type) values
        ('shop-dev', 'shop', 'dev'), ('shop-prod', 'shop', 'prod'), ('bank-dev', 'bank', 'dev');
";

/// A database of one test.
pub struct Db {
    pub address: Address,
    _server: Arc<Cluster>,
}

impl Db {
    pub async fn new() -> Db {
        let server = postgres::server(PLACES).await;
        let name = postgres::database(&server, postgres::MIGRATED).await;
        let url = postgres::url(&server, &name);
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
