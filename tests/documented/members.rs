//! What people see and may do through a gateway: by their membership, and nothing without one.

use crate::server::{Db, psql};

/// Everything that hangs on a project, in shop and in bank.
async fn peopled() -> Db {
    let mut db = Db::new().await;
    for (project, env) in [("shop", "prod"), ("bank", "dev")] {
        let run = db.ask(&format!("select run_id from ops.queue_run('{project}', '{env}', 'abc', 'main')")).await;
        assert_eq!(db.ask("select run_id from ops.claim_next_run('w1')").await, run);
        db.ask(&format!("select ops.add_run_artifact('{run}', 'log', 's3://{project}')")).await;
        db.ask(&format!(
            "insert into ops.run_phases (run_id, name, ordinal, status, attempt)
                         values ('{run}', 'build_image', 1, 'running', 1)"
        ))
        .await;
        db.ask(&format!("select ops.finish_run('{run}', 'failed'), ops.requeue_run('{run}', 'olga')")).await;
        db.ask(&format!("update ops.runs set priority = 9 where run_id = '{run}'")).await;
        let backup = db.ask(&format!("select backup_id from ops.create_backup('{project}', '{env}')")).await;
        db.ask(&format!("select ops.restore_backup('{backup}', '{project}-{env}', 'olga')")).await;
    }
    db.ask(
        "insert into ops.approvals (approval_type, resource_id, requested_by) values ('deploy_prod', 'run-x', 'olga')",
    )
    .await;
    db.ask("select ops.enqueue('task')").await;
    db
}

const SEEN: [&str; 15] = [
    "projects",
    "environments",
    "project_members",
    "roles",
    "runs",
    "run_events",
    "earlier_attempts",
    "run_attempts",
    "run_phases",
    "artifacts",
    "run_logs",
    "backups",
    "restores",
    "approvals",
    "audit_log",
];

#[tokio::test]
async fn who_belongs_to_no_project_sees_nothing_and_may_do_nothing() {
    let mut db = peopled().await;
    let run = db.ask("select run_id from ops.runs where project_id = 'shop' and kind = 'build'").await;
    for user in ["nemo", ""] {
        let mut nobody = db.person(user).await;
        for table in SEEN {
            assert_eq!(nobody.ask(&format!("select count(*) from ops.{table}")).await, "0", "{user:?}: {table}");
        }
        for list in
            ["public.list_projects()", "public.list_environments()", "public.list_runs()", "ops.list_queued_runs()"]
        {
            assert_eq!(nobody.ask(&format!("select * from {list}")).await, "", "{user:?}: {list}");
        }
        for (call, words) in [
            ("ops.queue_run('shop', 'dev', 'a', 'b')", "P0001: Project shop does not exist".to_owned()),
            ("ops.create_backup('shop', 'dev')", "P0001: Project shop does not exist".to_owned()),
            (&format!("ops.append_event('{run}', 'info', 'x')"), format!("P0001: Run {run} does not exist")),
            (&format!("ops.finish_run('{run}', 'cancelled')"), format!("P0001: Run {run} does not exist")),
        ] {
            assert_eq!(nobody.refused(&format!("select {call}")).await, words, "{user:?}");
        }
        assert!(
            nobody
                .refused(
                    "insert into ops.runs (project_id, env_id, git_sha, git_ref) values ('shop', 'shop-dev', 'a', 'b')"
                )
                .await
                .contains("row-level security")
        );
    }
}

#[tokio::test]
async fn each_role_sees_its_own_project_and_no_other() {
    let db = peopled().await;
    let counts = SEEN.map(|table| format!("(select count(*) from ops.{table})")).join(" || ',' || ");
    let counts = format!("select {counts}");
    let projects = "select (select string_agg(distinct project_id, ',') from ops.runs), (select min(project_id) from public.list_projects()),
                    (select string_agg(distinct project_id, ',') from public.list_runs()),
                    (select string_agg(distinct project_id, ',') from ops.list_queued_runs())";
    // Of approvals and the audit, few see anything.
    for (user, project, rest) in [
        ("olga", "shop", "1,1"),
        ("adam", "shop", "0,1"),
        ("dora", "shop", "0,0"),
        ("vera", "shop", "0,0"),
        ("aude", "shop", "1,1"),
        ("otto", "bank", "0,1"),
    ] {
        let mut person = db.person(user).await;
        let (environments, members, runs, restores) = if project == "shop" { (3, 6, 2, 1) } else { (1, 1, 3, 1) };
        let events = if project == "shop" { 5 } else { 6 };
        assert_eq!(
            person.ask(&counts).await,
            format!("1,{environments},{members},5,{runs},{events},1,1,1,1,{events},1,{restores},{rest}"),
            "{user}"
        );
        assert_eq!(person.ask(projects).await, format!("{project}|{project}|{project}|{project}"), "{user}");
        assert!(!person.ask("select config from public.list_environments()").await.contains("bank") || user == "otto");
    }
}

#[tokio::test]
async fn functions_look_at_the_persons_rights_themselves() {
    let mut db = Db::new().await;
    let denied = |what: &str| format!("42501: permission denied: {what} for project shop");
    let (mut vera, mut dora, mut adam) = (db.person("vera").await, db.person("dora").await, db.person("adam").await);
    let mut olga = db.person("olga").await;
    let queue = "select run_id from ops.queue_run('shop', 'dev', 'abc', 'main')";
    assert_eq!(vera.refused(queue).await, denied("run:create"));
    let run = dora.ask(queue).await;
    db.ask("select ops.claim_next_run('w1')").await;

    let event = format!("select ops.append_event('{run}', 'info', 'a note')");
    assert_eq!(vera.refused(&event).await, denied("run:logs"));
    let lease = "select status, lease_expires_at from ops.runs";
    let before = db.ask(lease).await;
    assert!(dora.ask(&event).await.starts_with("evt-"));
    assert_eq!(db.ask(lease).await, before, "a bystander keeps no claim alive");
    let finish = format!("select ops.finish_run('{run}', 'cancelled')");
    for session in [&mut vera, &mut dora] {
        assert_eq!(session.refused(&finish).await, denied("run:update"));
    }
    let artifact = format!("select ops.add_run_artifact('{run}', 'log', 's3://log')");
    assert_eq!(dora.refused(&artifact).await, denied("run:update"));
    assert_eq!(adam.ask(&finish).await, "t");

    assert_eq!(dora.refused("select ops.create_backup('shop', 'prod')").await, denied("backup:create"));
    let backup = adam.ask("select backup_id from ops.create_backup('shop', 'prod')").await;
    let restore =
        |env: &str, by: &str| format!("select restore_id from ops.restore_backup('{backup}', 'shop-{env}', '{by}')");
    assert_eq!(adam.refused(&restore("prod", "adam")).await, denied("restore:prod"));
    assert!(adam.ask(&restore("staging", "adam")).await.starts_with("rst-"));
    assert_eq!(
        olga.refused(&restore("prod", "adam")).await,
        "42501: permission denied: p_requested_by must be the caller"
    );
    olga.ask(&restore("prod", "olga")).await;
    let approval = db.ask("select approval_id from ops.approvals").await;
    let decide = |by: &str| format!("select ops.decide_approval('{approval}', '{by}', true)");
    assert_eq!(adam.refused(&decide("adam")).await, format!("P0002: Approval {approval} does not exist"));
    assert_eq!(db.person("aude").await.refused(&decide("aude")).await, denied("approval:decide"));
    assert_eq!(olga.refused(&decide("oleg")).await, "42501: permission denied: p_decided_by must be the caller");
    assert_eq!(db.person("oleg").await.ask(&decide("oleg")).await, "approved");
}

#[tokio::test]
async fn who_claimed_a_run_may_bring_it_to_its_end_whatever_their_role() {
    let mut db = Db::new().await;
    let run = db.queued().await;
    db.ask("select ops.claim_next_run('nemo')").await;
    let mut holder = db.person("nemo").await;
    assert_eq!(holder.ask(&format!("select ops.start_workflow_run('{run}', 'nemo')")).await, "t");
    assert_eq!(holder.ask("select run_id, status from ops.runs").await, "", "seen by members alone");
    assert_eq!(holder.ask(&format!("select ops.complete_workflow_run('{run}', 0)")).await, "t");
    assert_eq!(db.ask("select status from ops.runs").await, "success");
}

/// As the documented policies allow it: what the queue needs for itself stays out of reach.
#[tokio::test]
async fn rows_written_by_people_are_builds_and_obey_the_same_rights() {
    let mut db = Db::new().await;
    let insert = "insert into ops.runs (project_id, env_id, git_sha, git_ref) values ('shop', 'shop-dev', 'a', 'b')";
    let mut dora = db.person("dora").await;
    dora.ask(insert).await;
    assert!(db.person("vera").await.refused(insert).await.contains("row-level security"));
    assert!(dora.refused(&insert.replace("shop", "bank")).await.contains("row-level security"));
    for beyond in [
        "insert into ops.runs (project_id, env_id, kind) values ('shop', 'shop-prod', 'restore')",
        "update ops.runs set lease_expires_at = now()",
        "update ops.runs set input = '{}'",
        "insert into ops.project_members (project_id, user_id, role_id) values ('shop', 'dora', 'owner')",
        "update ops.approvals set status = 'approved'",
        "delete from ops.runs",
        "select * from ops.lease",
        "select * from ops.api_tokens",
    ] {
        assert!(dora.refused(beyond).await.starts_with("42501: permission denied for"), "{beyond}");
    }
    dora.ask("update ops.runs set status = 'cancelled'").await;
    assert_eq!(db.ask("select status from ops.runs").await, "queued", "a developer may not");
    let run = db.ask("select run_id from ops.runs").await;
    dora.ask(&format!("insert into ops.run_events (run_id, level, message) values ('{run}', 'info', 'hello')")).await;
    db.person("adam").await.ask("update ops.runs set status = 'cancelled'").await;
    assert_eq!(db.ask("select status from ops.runs").await, "cancelled");
    let other = db.queued().await;
    db.ask("select ops.claim_next_run('w1')").await;
    db.person("adam")
        .await
        .ask("update ops.runs set status = 'queued', claimed_by = null where status = 'claimed'")
        .await;
    assert_eq!(db.ask("select run_id from ops.claim_next_run('w2')").await, other);
    let late = dora
        .refused(&format!("insert into ops.run_events (run_id, level, message) values ('{run}', 'info', 'late')"))
        .await;
    assert!(late.contains("row-level security"), "{late}");
}

#[tokio::test]
async fn a_row_written_by_a_person_wakes_idle_runners() {
    let mut db = Db::new().await;
    let insert = "set ops.user_id = 'dora'; listen ops_runs;
                  insert into ops.runs (project_id, env_id, git_sha, git_ref) values ('shop', 'shop-dev', 'a', 'b');
                  select 'asked';";
    let gateway = db.url_of("gateway");
    assert_eq!(psql(&gateway, insert).await.well(), "asked", "nobody listens");
    db.ask("insert into ops.idle_runners (runner_id) values ('r1')").await;
    let told = psql(&gateway, insert).await.well();
    assert!(told.contains("Asynchronous notification \"ops_runs\""), "{told}");
}
