//! Every statement that the runner's document prints, as printed, by the real psql.

use crate::server::Db;

const SCHEDULE: &str = include_str!("seed/schedule.sql");
const TRIGGER: &str = include_str!("seed/trigger.sql");
const LOOK: &str = include_str!("seed/look.sql");
const STUCK: &str = include_str!("seed/stuck.sql");
const INTEGRATION: &str = include_str!("seed/integration.sql");

/// What pg_cron and pg_net offer to those statements: they keep what they are told.
const EXTENSIONS: &str = "
    create schema cron;
    create table cron.job (jobid bigserial, jobname text, schedule text, command text);
    create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql
        as $$ insert into cron.job (jobname, schedule, command) values (job_name, schedule, command) returning jobid $$;
    create schema net;
    create table net.requests (id bigserial, url text, headers jsonb);
    create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
                                  headers jsonb default '{\"Content-Type\": \"application/json\"}',
                                  timeout_milliseconds integer default 5000) returns bigint language sql
        as $$ insert into net.requests (url, headers) values (url, headers) returning id $$;
";

#[tokio::test]
async fn nothing_queued_is_no_row_and_leaves_no_trace() {
    let mut db = Db::new().await;
    assert_eq!(db.ask("select * from ops.claim_next_run(p_worker_id := 'w1')").await, "");
    let counted = "select (select count(*) from ops.runs), (select count(*) from ops.run_events),
                          (select count(*) from ops.run_attempts), (select count(*) from ops.audit_log)";
    assert_eq!(db.ask(counted).await, "0|0|0|0");
    assert_eq!(db.psql(LOOK).await.well(), "");
    db.psql(STUCK).await.well();
    assert_eq!(db.ask(counted).await, "0|0|0|0");
}

#[tokio::test]
async fn the_integration_test_of_the_document_tells_of_its_run() {
    let mut db = Db::new().await;
    db.ask(
        "insert into ops.projects (project_id, name) values ('test-project', 'Test');
            insert into ops.environments (env_id, project_id, env_type) values ('test-dev', 'test-project', 'dev')",
    )
    .await;
    let before = db.psql(INTEGRATION).await.well();
    let lines: Vec<&str> = before.lines().collect();
    let [queued, looked, event] = lines[..] else { panic!("{before}") };
    assert!(queued.starts_with("(run-") && queued.contains(",queued,"), "{queued}");
    assert!(looked.ends_with("|queued|"), "{looked}");
    assert_eq!(event, "info|Run queued");
    let run = looked.split('|').next().expect("an id");

    assert_eq!(db.ask("select run_id, git_sha from ops.claim_next_run('w1')").await, format!("{run}|abc123def456"));
    db.ask(&format!(
        "select ops.append_event('{run}', 'info', 'Starting phase: build_image'),
                            ops.finish_run('{run}', 'success')"
    ))
    .await;
    let verified = INTEGRATION.split_once("-- Verify run completed").expect("its second half").1;
    let after = db.psql(verified).await.well();
    let lines: Vec<&str> = after.lines().collect();
    assert!(lines[0].starts_with(&format!("{run}|success|20")), "{after}");
    assert_eq!(
        lines[1..],
        [
            "info|Run queued",
            "info|Run claimed by worker",
            "info|Starting phase: build_image",
            "info|Run finished: success"
        ]
    );
    let shown = db.psql(&LOOK.replace("run-abc123", run)).await.well();
    assert!(shown.contains("|info|Starting phase: build_image|{}"), "{shown}");
    assert!(shown.lines().last().expect("a run").starts_with(&format!("{run}|success|")), "{shown}");
}

#[tokio::test]
async fn the_statement_for_stuck_runs_frees_stale_ones_alone_and_leaves_whole_rows() {
    let mut db = Db::new().await;
    let (stale, fresh, begun) = (db.claimed().await, db.claimed().await, db.claimed().await);
    db.ask(&format!("select ops.append_event('{begun}', 'info', 'at work')")).await;
    let age = "update ops.runs set started_at = now() - interval '31 minutes' where run_id in";
    db.ask(&format!("{age} ('{stale}', '{begun}')")).await;
    db.psql(STUCK).await.well();

    let state = "select status, claimed_by, lease_expires_at is null, started_at is null, attempt, lease_token
                 from ops.runs where run_id =";
    assert_eq!(db.ask(&format!("{state} '{stale}'")).await, "queued||t|t|1|1");
    assert_eq!(db.ask(&format!("{state} '{fresh}'")).await, "claimed|w1|f|f|1|1");
    assert_eq!(db.ask(&format!("{state} '{begun}'")).await, "running|w1|f|f|1|1");
    let tries = format!(
        "select attempt, runner_id, outcome from ops.run_attempts where run_id = '{stale}' order by lease_token"
    );
    assert_eq!(db.ask(&tries).await, "1|w1|reset");
    // Whoever had it is told apart from whoever has it now.
    assert_eq!(db.ask("select run_id from ops.claim_next_run('w2')").await, stale);
    let late = format!("select ops.finish_run('{stale}', 'success', p_lease_token => 1)");
    assert!(db.refused(&late).await.contains("is stale"));
    assert_eq!(db.ask(&tries).await, "1|w1|reset\n2|w2|");
}

/// `::jsonb` binds tighter than `||`: what is cast is `"}` alone.
#[tokio::test]
async fn the_printed_trigger_is_made_but_refuses_whatever_is_queued_and_another_form_works() {
    let mut db = Db::new().await;
    db.psql(EXTENSIONS).await.well();
    db.psql(TRIGGER).await.well();
    db.ask("set app.supabase_anon_key = 'anon'").await;
    let queue = "select run_id from ops.queue_run('shop', 'dev', 'abc123', 'main')";
    let refused = db.refused(queue).await;
    assert_eq!(refused, "22P02: invalid input syntax for type json");
    assert_eq!(db.ask("select count(*) from ops.runs").await, "0", "what is refused leaves nothing");

    let (wrong, right) = (
        "'{\"Authorization\": \"Bearer ' || current_setting('app.supabase_anon_key') || '\"}'::jsonb",
        "jsonb_build_object('Authorization', 'Bearer ' || current_setting('app.supabase_anon_key'))",
    );
    assert!(TRIGGER.contains(wrong) && SCHEDULE.contains(wrong));
    let working = TRIGGER.replace(wrong, right).replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER");
    db.psql(&working).await.well();
    let run = db.ask(queue).await;
    db.ask("select ops.claim_next_run('w1')").await;
    db.ask(&format!("select ops.append_event('{run}', 'info', 'at work'), ops.finish_run('{run}', 'success')")).await;
    let posted = "select count(*), min(headers ->> 'Authorization') from net.requests";
    assert_eq!(db.ask(posted).await, "1|Bearer anon", "once, when it was queued");
}

#[tokio::test]
async fn the_printed_schedule_is_taken_but_its_command_fails_until_it_is_corrected() {
    let mut db = Db::new().await;
    db.psql(EXTENSIONS).await.well();
    assert_eq!(db.psql(SCHEDULE).await.well(), "1");
    assert_eq!(db.ask("select jobname, schedule from cron.job").await, "ops-runner-scheduler|* * * * *");
    let command = db.ask("select command from cron.job").await;
    db.ask("set app.supabase_anon_key = 'anon'").await;
    assert_eq!(db.refused(&command).await, "22P02: invalid input syntax for type json");
    let parentheses = command.replace("'{\"Auth", "('{\"Auth").replace("'\"}'::jsonb", "'\"}')::jsonb");
    db.ask(&parentheses).await;
    assert_eq!(db.ask("select headers from net.requests").await, r#"{"Authorization": "Bearer anon"}"#);
}
