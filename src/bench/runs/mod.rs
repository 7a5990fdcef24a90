//! The durable runs against a private PostgreSQL with fsync on. How fast its disk is drifts tenfold on a
//! shared machine, so each figure is compared with what the same server does in the same minute.

pub mod chaos;
pub mod claim;
pub mod contender;
pub mod drain;
mod effect;
mod pgbench;
pub mod pickup;
pub mod single;
mod worker;

use ops_controller::runs::schema::Address;
use ops_controller::sandbox::postgres::{Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use std::sync::Arc;
use std::time::Duration;

pub use crate::figure::Error;

/// How often each is measured; the median counts.
const ROUNDS: usize = 3;

/// A server as it comes: its defaults, and nothing else in it.
struct Place {
    cluster: Arc<Cluster>,
    address: Address,
}

impl Place {
    async fn new() -> Result<Place, Error> {
        let words = ["-c", "shared_buffers=128MB", "-c", "max_connections=200"].map(str::to_owned).to_vec();
        let options = ClusterOptions {
            durable: true,
            database: "ops".to_owned(),
            extra_command_line: words,
            ..ClusterOptions::default()
        };
        let cluster = Arc::new(Cluster::create(options).await?);
        let address = Address::from_url(&cluster.url(), "bench")?;
        Ok(Place { cluster, address })
    }

    /// An empty schema, and a server that has nothing left to write.
    async fn afresh(&self) -> Result<(), Error> {
        contender::setup(&self.address).await?;
        self.execute("drop table if exists effects, tries, lim_q, lim_ins").await?;
        self.execute("checkpoint").await
    }

    async fn c(&self) -> Result<PgConnection, Error> {
        Ok(self.address.connect().await?)
    }

    async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.c().await?.execute(AssertSqlSafe(sql.to_owned())).await?;
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<f64, Error> {
        let row = self.c().await?.fetch_one(AssertSqlSafe(format!("select ({sql})::float8"))).await?;
        Ok(row.try_get::<Option<f64>, _>(0)?.unwrap_or_default())
    }

    /// Until nothing is queued or held any more.
    async fn until_done(&self, limit: Duration) -> Result<(), Error> {
        let mut c = self.c().await?;
        let done = async {
            let left = "select exists (select from ops.runs where status in ('queued', 'claimed', 'running'))";
            while c.fetch_one(left).await?.try_get::<bool, _>(0)? {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(limit, done).await.map_err(|_| format!("runs were left after {limit:?}"))?
    }
}
