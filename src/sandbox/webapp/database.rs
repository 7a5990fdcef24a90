//! What the webapp does in its database: migrations, the bootstrap group, worker instances.
//!
//! Tables carry the columns a controller may look at, with Prisma's names and types: timestamps
//! are `timestamp(3)` without a zone, in UTC, and the group's type is a real enum.

use super::seed;
use serde_json::Value;
use sqlx::PgPool;

pub const GROUP_NAME: &str = "bootstrap";

const MIGRATIONS: &str = r#"
do $$ begin
    create type "WorkerInstanceGroupType" as enum ('MANAGED', 'UNMANAGED');
exception when duplicate_object then null;
end $$;

create table if not exists "TaskRun" (
    id text primary key,
    "friendlyId" text not null unique,
    "taskIdentifier" text not null default 'hello-world',
    status text not null default 'PENDING',
    "organizationId" text,
    "environmentType" text,
    payload text not null default '{}',
    output text,
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp
);

create table if not exists "WorkerGroupToken" (
    id text primary key,
    "tokenHash" text not null unique,
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp
);

create table if not exists "WorkerInstanceGroup" (
    id text primary key,
    type "WorkerInstanceGroupType" not null,
    name text not null,
    "masterQueue" text not null unique,
    description text,
    hidden boolean not null default false,
    "tokenId" text not null unique references "WorkerGroupToken" (id),
    "organizationId" text,
    "projectId" text,
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp
);

create table if not exists "WorkerInstance" (
    id text primary key,
    name text not null,
    "resourceIdentifier" text not null,
    metadata jsonb,
    "workerGroupId" text not null references "WorkerInstanceGroup" (id),
    "organizationId" text,
    "projectId" text,
    "environmentId" text,
    "deploymentId" text,
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp,
    "lastDequeueAt" timestamp(3),
    "lastHeartbeatAt" timestamp(3),
    unique ("workerGroupId", "resourceIdentifier")
);
"#;

pub(super) async fn migrate(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::raw_sql(MIGRATIONS).execute(pool).await.map(drop)
}

pub(super) async fn is_alive(pool: &PgPool) -> bool {
    sqlx::query("select 1").execute(pool).await.is_ok()
}

pub(super) async fn group_exists(pool: &PgPool) -> sqlx::Result<bool> {
    let sql = r#"select exists (select from "WorkerInstanceGroup" where name = $1)"#;
    sqlx::query_scalar(sql).bind(GROUP_NAME).fetch_one(pool).await
}

pub(super) async fn create_group(pool: &PgPool, seed: u64, token: &str) -> sqlx::Result<()> {
    let (group, token_id) = (seed::cuid(seed, "group", 0), seed::cuid(seed, "group token", 0));
    let sql = r#"
        with token as (
            insert into "WorkerGroupToken" (id, "tokenHash") values ($1, $2) returning id
        )
        insert into "WorkerInstanceGroup" (id, type, name, "masterQueue", "tokenId")
        select $3, 'MANAGED', $4, $4, id from token"#;
    let query = sqlx::query(sql).bind(token_id).bind(seed::sha256_hex(token));
    query.bind(group).bind(GROUP_NAME).execute(pool).await.map(drop)
}

pub(super) async fn set_token(pool: &PgPool, token: &str) -> sqlx::Result<()> {
    let sql = r#"
        update "WorkerGroupToken" set "tokenHash" = $1, "updatedAt" = now() at time zone 'utc'
        where id = (select "tokenId" from "WorkerInstanceGroup" where name = $2)"#;
    sqlx::query(sql).bind(seed::sha256_hex(token)).bind(GROUP_NAME).execute(pool).await.map(drop)
}

pub(super) struct Group {
    pub id: String,
    pub name: String,
    pub kind: String,
}

pub(super) async fn group_of_token(pool: &PgPool, token: &str) -> sqlx::Result<Option<Group>> {
    let sql = r#"
        select g.id, g.name, g.type::text from "WorkerInstanceGroup" g
        join "WorkerGroupToken" t on t.id = g."tokenId" where t."tokenHash" = $1"#;
    let query = sqlx::query_as::<_, (String, String, String)>(sql);
    let row = query.bind(seed::sha256_hex(token)).fetch_optional(pool).await?;
    Ok(row.map(|(id, name, kind)| Group { id, name, kind }))
}

/// Every accepted call leaves a row for its instance name; nothing ever deletes one.
pub(super) async fn ensure_instance(pool: &PgPool, group: &Group, name: &str) -> sqlx::Result<()> {
    let sql = r#"
        insert into "WorkerInstance" (id, name, "resourceIdentifier", "workerGroupId")
        values ('c' || substr(md5($1 || $2), 1, 24), $1, $1, $2)
        on conflict ("workerGroupId", "resourceIdentifier") do nothing"#;
    sqlx::query(sql).bind(name).bind(&group.id).execute(pool).await.map(drop)
}

pub(super) async fn write_metadata(pool: &PgPool, group: &Group, name: &str, metadata: &Value) -> sqlx::Result<()> {
    let sql = r#"
        update "WorkerInstance" set metadata = $3::jsonb, "updatedAt" = now() at time zone 'utc'
        where "workerGroupId" = $1 and "resourceIdentifier" = $2"#;
    let query = sqlx::query(sql).bind(&group.id).bind(name).bind(metadata.to_string());
    query.execute(pool).await.map(drop)
}

pub(super) async fn write_heartbeat(pool: &PgPool, group: &Group, name: &str) -> sqlx::Result<()> {
    let sql = r#"
        update "WorkerInstance"
        set "lastHeartbeatAt" = now() at time zone 'utc', "updatedAt" = now() at time zone 'utc'
        where "workerGroupId" = $1 and "resourceIdentifier" = $2"#;
    sqlx::query(sql).bind(&group.id).bind(name).execute(pool).await.map(drop)
}
