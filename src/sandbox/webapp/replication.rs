//! The webapp's run replication: it makes the slot and streams it for real with `pg_recvlogical`,
//! so that `active`, `confirmed_flush_lsn` and `pg_stat_replication` are the server's own words.

use super::{Inner, WebappOptions};
use crate::sandbox::postgres::SUPERUSER;
use crate::sandbox::postgres::child::{self, Owned};
use sqlx::PgPool;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const SLOT: &str = "task_runs_to_clickhouse_v1";
pub const PUBLICATION: &str = "task_runs_to_clickhouse_v1_publication";
pub const APPLICATION_NAME: &str = "runs-replication";

/// A stream that lasted this long was a good one: the next pause is the short one again.
const LASTED: Duration = Duration::from_secs(1);

pub(super) async fn run(inner: Arc<Inner>, deployment: String, stop: CancellationToken) {
    let say = |text: &str| inner.print(&deployment, text, "info");
    say("🗃️  Runs replication service enabled");
    let options = &inner.options;
    let mut pause = options.resubscribe;
    loop {
        let begun = Instant::now();
        match subscribe(&inner).await {
            Ok(mut stream) => {
                say("🗃️ Runs replication service started");
                tokio::select! {
                    () = stop.cancelled() => return stream.end(libc::SIGINT, LASTED),
                    () = ended(&mut stream) => {}
                }
                inner.print_json(&deployment, "Replication client error", "error", &[]);
            }
            Err(reason) => inner.print_json(&deployment, "Replication client error", "error", &[("error", &reason)]),
        }
        if !options.replication_retries {
            return;
        }
        if begun.elapsed() > LASTED {
            pause = options.resubscribe;
        }
        inner.print_json(&deployment, "Replication resubscribe scheduled", "info", &[]);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(options.resubscribe_at_most);
    }
}

async fn ended(stream: &mut Owned) {
    while stream.is_running() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn subscribe(inner: &Inner) -> Result<Owned, String> {
    prepare(&inner.pool, &inner.options).await?;
    let cluster = &inner.cluster;
    let connection = format!(
        "host=127.0.0.1 port={} user={SUPERUSER} dbname={} application_name={APPLICATION_NAME}",
        cluster.port(),
        cluster.database(),
    );
    let mut command = Command::new(cluster.client_program("pg_recvlogical"));
    command.args(["--start", "--no-loop", "--slot", SLOT, "--file", "/dev/null", "-d", &connection]);
    command.args(["-o", "proto_version=1", "-o", &format!("publication_names={PUBLICATION}")]);
    // The service acknowledges each second. Without an fsync interval of 0 the acknowledgement
    // lags by ten, and a fast shutdown of the server waits for it.
    command.args(["--status-interval=1", "--fsync-interval=0"]);
    // In the environment, because the command line stands in the process list.
    command.env("PGPASSWORD", cluster.password());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child::spawn(command, libc::SIGKILL).map_err(|e| format!("pg_recvlogical: {e}"))
}

/// Makes what the stream needs, in the order of the real service, or says what is missing.
async fn prepare(pool: &PgPool, options: &WebappOptions) -> Result<(), String> {
    let text = |e: sqlx::Error| e.to_string();
    let level: String =
        sqlx::query_scalar("select current_setting('wal_level')").fetch_one(pool).await.map_err(text)?;
    if level != "logical" {
        return Err("logical decoding requires wal_level >= logical".to_string());
    }
    if !exists(pool, "select exists (select from pg_publication where pubname = $1)", PUBLICATION).await? {
        if !options.creates_publication {
            return Err(format!("publication \"{PUBLICATION}\" does not exist"));
        }
        let sql = r#"create publication task_runs_to_clickhouse_v1_publication
            for table "TaskRun" with (publish = 'insert, update, delete')"#;
        sqlx::raw_sql(sql).execute(pool).await.map_err(text)?;
    }
    if !exists(pool, "select exists (select from pg_replication_slots where slot_name = $1)", SLOT).await? {
        let sql = "select pg_create_logical_replication_slot($1, 'pgoutput')::text";
        sqlx::query(sql).bind(SLOT).execute(pool).await.map_err(text)?;
    }
    Ok(())
}

async fn exists(pool: &PgPool, sql: &'static str, name: &str) -> Result<bool, String> {
    sqlx::query_scalar(sql).bind(name).fetch_one(pool).await.map_err(|e| e.to_string())
}
