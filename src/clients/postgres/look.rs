//! The SQL of a look: settings, role, table, publication, slot, worker groups and heartbeats.

use crate::plan::observation::{DatabaseView, Publication, Role, Setting, Slot, TaskRun, Worker, WorkerGroup};
use crate::plan::replication::{PUBLICATION, SLOT};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::collections::BTreeMap;

/// A group has few workers, but rows of replaced ones are never deleted by the webapp.
const RECENT_WORKERS: i64 = 500;

pub async fn look(connection: &mut PgConnection) -> Result<DatabaseView, Error> {
    let server = server(connection).await?;
    let in_recovery: bool = server.try_get("in_recovery")?;
    let started_at: jiff_sqlx::Timestamp = server.try_get("started_at")?;
    let version: i32 = server.try_get("version")?;
    let (worker_groups, workers) = workers(connection).await?;
    Ok(DatabaseView {
        version,
        started_at: started_at.to_jiff(),
        in_recovery,
        role: role(connection, version).await?,
        wal_level: Setting {
            value: server.try_get("wal_level")?,
            source: server.try_get("wal_level_source")?,
            pending_restart: server.try_get("pending_restart")?,
        },
        wal_level_in_file: wal_level_in_file(connection).await?,
        max_wal_senders: server.try_get("max_wal_senders")?,
        wal_senders_used: server.try_get("wal_senders_used")?,
        max_replication_slots: server.try_get("max_replication_slots")?,
        replication_slots_used: server.try_get("replication_slots_used")?,
        task_run: task_run(connection).await?,
        publication: publication(connection).await?,
        slot: slot(connection, in_recovery).await?,
        worker_groups,
        workers,
    })
}

async fn server(connection: &mut PgConnection) -> Result<PgRow, Error> {
    sqlx::query(
        "select current_setting('server_version_num')::int as version,
                pg_postmaster_start_time() as started_at,
                pg_is_in_recovery() as in_recovery,
                s.setting as wal_level, s.source as wal_level_source, s.pending_restart,
                current_setting('max_wal_senders')::int as max_wal_senders,
                (select count(*)::int from pg_stat_replication) as wal_senders_used,
                current_setting('max_replication_slots')::int as max_replication_slots,
                (select count(*)::int from pg_replication_slots) as replication_slots_used
         from pg_settings s where s.name = 'wal_level'",
    )
    .fetch_one(connection)
    .await
}

async fn role(connection: &mut PgConnection, version: i32) -> Result<Role, Error> {
    let row = sqlx::query(
        "select rolname::text as name, rolsuper, rolreplication,
                has_database_privilege(current_database(), 'create') as may_create
         from pg_roles where rolname = current_user",
    )
    .fetch_one(&mut *connection)
    .await?;
    let superuser: bool = row.try_get("rolsuper")?;
    // Granting single parameters exists since PostgreSQL 15.
    let may_alter_system = superuser
        || version >= 150_000
            && sqlx::query("select has_parameter_privilege('wal_level', 'alter system')")
                .fetch_one(connection)
                .await?
                .try_get(0)?;
    Ok(Role {
        name: row.try_get("name")?,
        superuser,
        replication: row.try_get("rolreplication")?,
        may_alter_system,
        may_create_in_database: row.try_get("may_create")?,
    })
}

/// The last value in the configuration files; `None` also when the role may not read them.
async fn wal_level_in_file(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    let may: bool = sqlx::query(
        "select has_table_privilege('pg_file_settings', 'select')
            and has_function_privilege('pg_show_all_file_settings()', 'execute')",
    )
    .fetch_one(&mut *connection)
    .await?
    .try_get(0)?;
    if !may {
        return Ok(None);
    }
    let row = sqlx::query("select setting from pg_file_settings where name = 'wal_level' order by seqno desc limit 1")
        .fetch_optional(connection)
        .await?;
    row.map(|r| r.try_get(0)).transpose()
}

async fn task_run(connection: &mut PgConnection) -> Result<Option<TaskRun>, Error> {
    let row = sqlx::query(
        "select c.relreplident::text as identity, pg_has_role(c.relowner, 'usage') as owned
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'public' and c.relname = 'TaskRun' and c.relkind in ('r', 'p')",
    )
    .fetch_optional(connection)
    .await?;
    row.map(|r| {
        let identity: String = r.try_get("identity")?;
        Ok(TaskRun { replica_identity: identity.chars().next().unwrap_or('d'), owned: r.try_get("owned")? })
    })
    .transpose()
}

async fn publication(connection: &mut PgConnection) -> Result<Option<Publication>, Error> {
    let row = sqlx::query(
        "select p.pubinsert, p.pubupdate, p.pubdelete, pg_has_role(p.pubowner, 'usage') as owned,
                exists (select from pg_publication_tables t
                        where t.pubname = p.pubname and t.schemaname = 'public' and t.tablename = 'TaskRun') as has_table
         from pg_publication p where p.pubname = $1",
    )
    .bind(PUBLICATION)
    .fetch_optional(connection)
    .await?;
    row.map(|r| {
        Ok(Publication {
            has_table: r.try_get("has_table")?,
            inserts: r.try_get("pubinsert")?,
            updates: r.try_get("pubupdate")?,
            deletes: r.try_get("pubdelete")?,
            owned: r.try_get("owned")?,
        })
    })
    .transpose()
}

async fn slot(connection: &mut PgConnection, in_recovery: bool) -> Result<Option<Slot>, Error> {
    // A standby has no current WAL position of its own to measure from.
    if in_recovery {
        return Ok(None);
    }
    let row = sqlx::query(
        "select active, coalesce(wal_status, 'unknown') as wal_status, safe_wal_size,
                coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint as retained
         from pg_replication_slots where slot_name = $1",
    )
    .bind(SLOT)
    .fetch_optional(connection)
    .await?;
    row.map(|r| {
        Ok(Slot {
            active: r.try_get("active")?,
            wal_status: r.try_get("wal_status")?,
            retained_bytes: r.try_get("retained")?,
            safe_bytes: r.try_get("safe_wal_size")?,
        })
    })
    .transpose()
}

type Workers = (Option<Vec<WorkerGroup>>, BTreeMap<String, Worker>);

async fn workers(connection: &mut PgConnection) -> Result<Workers, Error> {
    for table in ["WorkerGroupToken", "WorkerInstanceGroup", "WorkerInstance"] {
        if !exists(connection, table).await? {
            return Ok((None, BTreeMap::new()));
        }
    }
    let groups = sqlx::query(
        "select g.id, g.name, t.\"tokenHash\" as token_hash
         from \"WorkerInstanceGroup\" g join \"WorkerGroupToken\" t on t.id = g.\"tokenId\"
         where g.type::text = 'MANAGED' order by g.\"createdAt\", g.id",
    )
    .fetch_all(&mut *connection)
    .await?
    .iter()
    .map(|r| Ok(WorkerGroup { id: r.try_get("id")?, name: r.try_get("name")?, token_hash: r.try_get("token_hash")? }))
    .collect::<Result<Vec<_>, Error>>()?;
    let rows = sqlx::query(
        "select \"resourceIdentifier\" as name,
                extract(epoch from (now() at time zone 'utc') - \"lastHeartbeatAt\")::float8 as age
         from \"WorkerInstance\" order by \"lastHeartbeatAt\" desc nulls last limit $1",
    )
    .bind(RECENT_WORKERS)
    .fetch_all(connection)
    .await?;
    let mut workers = BTreeMap::new();
    for row in rows {
        let heartbeat_age_seconds: Option<f64> = row.try_get("age")?;
        // The same name may stand in two groups: the freshest row counts, and comes first.
        workers.entry(row.try_get("name")?).or_insert(Worker { heartbeat_age_seconds });
    }
    Ok((Some(groups), workers))
}

pub async fn heartbeat_age(connection: &mut PgConnection, worker: &str) -> Result<Option<f64>, Error> {
    let row = sqlx::query(
        "select extract(epoch from (now() at time zone 'utc') - max(\"lastHeartbeatAt\"))::float8
         from \"WorkerInstance\" where \"resourceIdentifier\" = $1",
    )
    .bind(worker)
    .fetch_one(connection)
    .await?;
    row.try_get(0)
}

/// `true` when the relation exists in schema public.
async fn exists(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("select to_regclass($1) is not null")
        .bind(format!("public.\"{table}\""))
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}
