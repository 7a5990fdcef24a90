//! Backups and restores by PostgreSQL's own programs, on real data.

use crate::world::{World, execute};
use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ops_controller::runs::{NewRun, queue};
use serde_json::json;
use sqlx::{Executor, PgConnection, Row};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const DATA: &str = "create schema app; create table app.people (id int primary key, name text);
    create index on app.people (name); create view app.names as select name from app.people;
    insert into app.people select n, 'person ' || n from generate_series(1, 1000) n";

async fn people(c: &mut PgConnection) -> i64 {
    c.fetch_one("select count(*) from app.people").await.expect("an answer").get(0)
}

async fn backup(world: &World, env: &str) -> String {
    world.ask(&format!("select backup_id from ops.create_backup('shop', '{env}', 'weekly')")).await
}

async fn row(world: &World, table: &str, id: &str, column: &str) -> String {
    let key = if table == "backups" { "backup_id" } else { "restore_id" };
    world.ask(&format!("select {column} from ops.{table} where {key} = '{id}'")).await
}

async fn restore(world: &World, backup: &str, env_id: &str) -> String {
    world.ask(&format!("select restore_id from ops.restore_backup('{backup}', '{env_id}', 'olga')")).await
}

/// The run of a backup or restore, at its end.
async fn end_of(world: &World, table: &str, id: &str) -> ops_controller::runs::look::Run {
    let run = row(world, table, id, "run_id").await;
    let run = world.at_once(run).await;
    world.ended(&run).await
}

#[tokio::test]
async fn what_was_dumped_comes_back_here_and_elsewhere_and_rows_of_since_then_are_gone() {
    let world = World::new().await;
    let mut dev = world.database("shop-dev").await;
    let mut staging = world.database("shop-staging").await;
    execute(&mut dev, DATA).await;
    let runner = world.runner();
    let made = backup(&world, "dev").await;
    World::expect(&end_of(&world, "backups", &made).await, "success");
    let run = row(&world, "backups", &made, "run_id").await;
    let path = row(&world, "backups", &made, "db_dump_path").await;
    assert_eq!(path, format!("shop/shop-dev/{run}/database.dump"));
    let bytes = std::fs::read(world.store().join(&path)).expect("it lies there");
    assert!(bytes.starts_with(b"PGDMP"));
    assert_eq!(row(&world, "backups", &made, "size_bytes").await, bytes.len().to_string());
    let artifact = &world.artifacts(&run).await[0];
    assert_eq!((artifact.artifact_type.as_str(), artifact.storage_path.as_str()), ("backup", path.as_str()));
    assert_eq!(row(&world, "backups", &made, "digest").await, artifact.digest.clone().expect("one"));
    assert!(artifact.expires_at.is_some(), "as long as the backup");
    let mark = std::fs::read_to_string(world.store().join(".store")).expect("the store is marked");
    assert_eq!(world.ask("select store from ops.artifacts").await, mark.trim(), "and recorded by that");

    execute(&mut dev, "delete from app.people where id > 10; create table since (n int)").await;
    for (env_id, c) in [("shop-dev", &mut dev), ("shop-staging", &mut staging)] {
        let asked = restore(&world, &made, env_id).await;
        let output = World::expect(&end_of(&world, "restores", &asked).await, "success");
        assert_eq!(row(&world, "restores", &asked, "status").await, "success");
        assert_eq!(people(c).await, 1000, "{env_id}");
        assert!(output["tables"].as_i64() >= Some(1), "{output}");
    }
    runner.end().await;
    let told = world.ask("select string_agg(message || payload, ' ') from ops.run_events").await;
    let url = url::Url::parse(&world.url_of("x")).expect("a URL");
    assert!(!told.contains(url.password().expect("one")), "the password is told");
    world.stop().await;
}

#[tokio::test]
async fn a_restore_to_production_waits_for_a_second_person() {
    let world = World::new().await;
    let mut prod = world.database("shop-prod").await;
    execute(&mut prod, DATA).await;
    let runner = world.runner();
    let made = backup(&world, "prod").await;
    World::expect(&end_of(&world, "backups", &made).await, "success");
    execute(&mut prod, "delete from app.people").await;
    let asked = restore(&world, &made, "shop-prod").await;
    assert_eq!(row(&world, "restores", &asked, "run_id").await, "", "nothing is queued");

    // Somebody queues it past the approval: the database does not let it begin.
    world.execute(&format!("select ops.queue_restore('{asked}')")).await;
    let forced = end_of(&world, "restores", &asked).await;
    World::expect(&forced, "failed");
    assert!(forced.summary.error.expect("a reason").contains("is not approved: its approval is pending"));
    assert_eq!(people(&mut prod).await, 0, "nothing was touched");

    let asked = restore(&world, &made, "shop-prod").await;
    let approval = world.ask(&format!("select approval_id from ops.approvals where resource_id = '{asked}'")).await;
    let decide = |who: &str| format!("select ops.decide_approval('{approval}', '{who}', true)");
    assert!(world.refused(&decide("olga")).await.contains("a second person must give it"));
    world.execute(&decide("oleg")).await;
    World::expect(&end_of(&world, "restores", &asked).await, "success");
    runner.end().await;
    assert_eq!(people(&mut prod).await, 1000);
    world.stop().await;
}

#[tokio::test]
async fn a_dump_that_is_not_what_was_recorded_is_never_restored_and_a_restore_that_breaks_changes_nothing() {
    let world = World::new().await;
    let mut dev = world.database("shop-dev").await;
    execute(&mut dev, DATA).await;
    let runner = world.runner();
    let made = backup(&world, "dev").await;
    World::expect(&end_of(&world, "backups", &made).await, "success");
    let file = world.store().join(row(&world, "backups", &made, "db_dump_path").await);
    let whole = std::fs::read(&file).expect("a file");

    // Something of today's stands in the way of what the dump would drop.
    execute(&mut dev, "create view public.reader as select * from app.names; delete from app.people where id = 1")
        .await;
    let asked = restore(&world, &made, "shop-dev").await;
    let broken = end_of(&world, "restores", &asked).await;
    World::expect(&broken, "failed");
    let error = broken.summary.error.expect("a reason");
    assert!(error.contains("pg_restore ended with code 1") && error.contains("cannot drop"), "{error}");
    assert!(error.ends_with("drop it, or restore into an empty database"), "{error}");
    assert_eq!(people(&mut dev).await, 999, "as it was");
    let index = dev.fetch_one("select to_regclass('app.people_name_idx') is not null").await.expect("an answer");
    assert!(index.get::<bool, _>(0), "also what was dropped before it broke");

    let mut changed = whole.clone();
    *changed.last_mut().expect("a byte") ^= 1;
    std::fs::write(&file, changed).expect("written");
    let asked = restore(&world, &made, "shop-dev").await;
    let refused = end_of(&world, "restores", &asked).await;
    World::expect(&refused, "failed");
    assert!(refused.summary.error.expect("a reason").contains("is not the one that was made"));
    assert_eq!(row(&world, "restores", &asked, "status").await, "failed");
    std::fs::remove_file(&file).expect("removed");
    let asked = restore(&world, &made, "shop-dev").await;
    assert!(
        end_of(&world, "restores", &asked)
            .await
            .summary
            .error
            .expect("a reason")
            .contains(&format!("ARTIFACT_STORE {} has no ", world.store().display()))
    );
    runner.end().await;
    world.stop().await;
}

#[tokio::test]
async fn a_backup_without_a_database_fails_with_what_is_missing() {
    let world = World::new().await;
    let runner = world.runner();
    let nameless = backup(&world, "dev").await;
    let run = end_of(&world, "backups", &nameless).await;
    assert!(run.summary.error.expect("a reason").contains("environment shop-dev has no db_name"), "{nameless}");
    assert_eq!(row(&world, "backups", &nameless, "status").await, "failed");
    world.execute("update ops.environments set db_name = 'nowhere' where env_id = 'shop-staging'").await;
    let gone = backup(&world, "staging").await;
    let run = end_of(&world, "backups", &gone).await;
    assert!(run.error.as_ref().expect("a reason").contains("database \"nowhere\" does not exist"));
    assert_eq!(run.attempt, 1, "another attempt would not help");
    runner.end().await;
    let stored = std::fs::read_dir(world.store()).into_iter().flatten().flatten();
    assert!(stored.filter(|entry| entry.file_name() != ".scratch").count() == 0);
    assert_eq!(json!(world.artifacts(&run.run_id).await.len()), json!(0));
    world.stop().await;
}

/// A run that somebody queued by hand for what is another's.
async fn intruder(world: &World, kind: &str, input: serde_json::Value) -> String {
    let run =
        NewRun { input, env_id: Some("shop-dev".into()), project_id: Some("shop".into()), ..NewRun::of_kind(kind) };
    let run = queue::enqueue(&mut *world.c().await, &run).await.expect("queued").run_id;
    world.at_once(run).await
}

#[tokio::test]
async fn a_run_that_names_the_backup_or_restore_of_another_run_fails_with_that() {
    let world = World::new().await;
    let mut dev = world.database("shop-dev").await;
    execute(&mut dev, DATA).await;
    let runner = world.runner();
    let made = backup(&world, "dev").await;
    World::expect(&end_of(&world, "backups", &made).await, "success");
    let asked = restore(&world, &made, "shop-dev").await;
    World::expect(&end_of(&world, "restores", &asked).await, "success");
    for (kind, id) in [("backup", &made), ("restore", &asked)] {
        let owner = row(&world, &format!("{kind}s"), id, "run_id").await;
        let run = intruder(&world, kind, json!({ (format!("{kind}_id")): id })).await;
        let error = world.failed(&run).await;
        assert!(error.contains(&format!("{kind} {id} belongs to the run {owner}, not to this one")), "{error}");
        assert_eq!(world.run(&run).await.attempt, 1, "another attempt would not help");
    }
    runner.end().await;
    world.stop().await;
}

#[tokio::test]
async fn a_restore_of_a_backup_that_nobody_begins_gives_its_slot_back() {
    let world = World::new().await;
    *world.waits.lock().expect("no test panics here") = std::time::Duration::from_millis(50);
    world.database("shop-dev").await;
    let made = backup(&world, "dev").await;
    world.execute("update ops.runs set run_at = now() + interval '1 day'").await;
    let asked = restore(&world, &made, "shop-dev").await;
    let run = world.at_once(row(&world, "restores", &asked, "run_id").await).await;
    world.execute(&format!("update ops.runs set max_attempts = 2 where run_id = '{run}'")).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    assert_eq!(error, format!("Phase check failed: nobody has begun backup {made} in 0.05 s"));
    assert_eq!(world.run(&run).await.attempt, 2);
    world.stop().await;
}

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// As much of S3 as a store needs: whole objects, and objects in parts.
async fn bucket() -> (String, Objects) {
    let objects = Objects::default();
    let held = objects.clone();
    let app = Router::new().fallback(async move |method: Method, uri: Uri, body: Bytes| -> Response {
        let mut objects = held.lock().expect("no test panics here");
        let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default());
        let xml = |name: &str| {
            format!("<{name}><Bucket>kept</Bucket><Key>k</Key><UploadId>u1</UploadId><ETag>e</ETag></{name}>")
        };
        match (method, query) {
            (Method::POST, "uploads" | "uploads=") => xml("InitiateMultipartUploadResult").into_response(),
            (Method::POST, _) => xml("CompleteMultipartUploadResult").into_response(),
            (Method::PUT, _) => {
                // The parts of one object, in order, are what it is.
                let object = objects.entry(path).or_default();
                if !query.contains("partNumber") || query.contains("partNumber=1&") {
                    object.clear();
                }
                object.extend_from_slice(&body);
                [("etag", "e")].into_response()
            }
            (Method::GET, _) => match objects.get(&path) {
                Some(bytes) => {
                    ([("etag", "e"), ("last-modified", "Sat, 21 Nov 2026 00:00:00 GMT")], bytes.clone()).into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            },
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}"), objects)
}

#[tokio::test]
async fn a_bucket_that_speaks_s3_keeps_what_a_folder_does() {
    let world = World::new().await;
    let (url, objects) = bucket().await;
    *world.bucket.lock().expect("no test panics here") = Some(url);
    let mut dev = world.database("shop-dev").await;
    execute(&mut dev, DATA).await;
    let build = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let made = backup(&world, "dev").await;
    World::expect(&end_of(&world, "backups", &made).await, "success");
    world.succeeded(&build).await;
    execute(&mut dev, "delete from app.people").await;
    let asked = restore(&world, &made, "shop-dev").await;
    World::expect(&end_of(&world, "restores", &asked).await, "success");
    runner.end().await;
    assert_eq!(people(&mut dev).await, 1000);
    let dump = row(&world, "backups", &made, "db_dump_path").await;
    let objects = objects.lock().expect("no test panics here").clone();
    assert!(objects[&format!("/kept/below/{dump}")].starts_with(b"PGDMP"));
    assert!(objects.contains_key(&format!("/kept/below/shop/shop-dev/{build}/manifest.json")), "{:?}", objects.keys());
    assert!(!world.store().exists());
    world.stop().await;
}
