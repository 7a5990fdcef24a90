//! Roles: the runner may do everything, a plain role nothing, and nothing is open by accident.

use crate::server::Db;

const TABLES: &str =
    "select relname from pg_class where relnamespace = 'ops'::regnamespace and relkind in ('r', 'p', 'v') order by 1";

#[tokio::test]
async fn nothing_in_ops_is_open_to_everybody_and_every_function_has_its_search_path() {
    let mut db = Db::new().await;
    let open = "select p.oid::regprocedure from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                where (p.pronamespace = 'ops'::regnamespace or (p.pronamespace = 'public'::regnamespace and proname like 'list!_%' escape '!'))
                  and a.grantee = 0";
    assert_eq!(db.ask(open).await, "");
    let unguarded = "select relname from pg_class where relnamespace = 'ops'::regnamespace and relkind in ('r', 'p') and not relrowsecurity";
    assert_eq!(db.ask(unguarded).await, "");
    // Those are parsed once for all, or name nothing but with its schema, and are called for every run.
    let wandering = "select proname from pg_proc where pronamespace = 'ops'::regnamespace and prosqlbody is null
                     and not coalesce('search_path=\"\"' = any (proconfig), false) order by 1";
    assert_eq!(db.ask(wandering).await, "queue_wakes\nrun_is_sound");
    let definers = "select proname from pg_proc where pronamespace = 'ops'::regnamespace and prosecdef
                    and not coalesce('search_path=\"\"' = any (proconfig), false)";
    assert_eq!(db.ask(definers).await, "");
    let owners_view = "select relname from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'v'
                       and not coalesce('security_invoker=true' = any (reloptions), false)";
    assert_eq!(db.ask(owners_view).await, "");
}

#[tokio::test]
async fn what_a_later_migration_adds_is_closed_and_the_runners() {
    let mut db = Db::new().await;
    db.ask(
        "create table ops.later (id bigint);
            create function ops.later_word() returns text language sql set search_path = '' as $$ select 'x' $$;
            insert into ops._sqlx_migrations (version, description, success, checksum, execution_time)
            values (99990101, 'later', true, '', 0)",
    )
    .await;
    let asked = "select (select count(*) from ops.later), ops.later_word()";
    assert_eq!(db.login("worker").await.ask(asked).await, "0|x");
    for role in ["gateway", "stranger"] {
        let mut session = db.login(role).await;
        for sql in ["select * from ops.later", "select ops.later_word()"] {
            assert!(session.refused(sql).await.starts_with("42501: permission denied"), "{role}: {sql}");
        }
    }
    assert_eq!(db.ask("select relrowsecurity from pg_class where oid = 'ops.later'::regclass").await, "t");
}

#[tokio::test]
async fn a_plain_role_can_do_nothing() {
    let mut db = Db::new().await;
    let tables = db.ask(TABLES).await;
    let mut stranger = db.login("stranger").await;
    stranger.ask("set ops.user_id = 'olga'").await;
    for table in tables.lines() {
        let refused = stranger.refused(&format!("select * from ops.{table}")).await;
        assert_eq!(refused, "42501: permission denied for schema ops", "{table}");
    }
    for call in ["ops.claim_next_run('w')", "ops.queue_run('shop', 'dev', 'a', 'b')", "ops.is_trusted()"] {
        assert_eq!(stranger.refused(&format!("select {call}")).await, "42501: permission denied for schema ops");
    }
    assert_eq!(
        stranger.refused("select * from list_projects()").await,
        "42501: permission denied for function list_projects"
    );
}

#[tokio::test]
async fn a_runner_can_do_everything_that_the_queue_needs() {
    let mut db = Db::new().await;
    let tables = db.ask(TABLES).await;
    let mut worker = db.login("worker").await;
    for table in tables.lines() {
        worker.ask(&format!("select count(*) from ops.{table}")).await;
    }
    let closed = "select p.oid::regprocedure from pg_proc p where pronamespace = 'ops'::regnamespace
                  and not has_function_privilege('worker', p.oid, 'execute')";
    assert_eq!(db.ask(closed).await, "");

    assert_eq!(worker.ask("select ops.is_trusted()").await, "t");
    let run = worker.ask("select run_id from ops.queue_run('shop', 'dev', 'abc', 'main')").await;
    let claim = "select lease_token from ops.claim_runs('r1', '{build,backup,restore}', 1, '1 minute')";
    let token = worker.ask(claim).await;
    for step in [
        format!("select ops.begin_phase('{run}', {token}, 'build_image', 1)"),
        format!("select ops.note_event('{run}', {token}, 'info', 'hello', '{{}}', null) is not null"),
        format!("select ops.end_phase('{run}', {token}, 'build_image', 'success', '{{}}', null)"),
        format!("select cancel_requested = false from ops.renew_runs('{{{run}}}', '{{{token}}}', '1 minute')"),
        format!("select status = 'queued' from ops.hand_back_runs('{{{run}}}', '{{{token}}}')"),
    ] {
        assert_eq!(worker.ask(&step).await, "t", "{step}");
    }
    let token = worker.ask(claim).await;
    let finish = format!(
        "select status from ops.finish_runs('{{{run}}}', '{{{token}}}', '{{success}}', '{{null}}', '{{null}}')"
    );
    assert_eq!(worker.ask(&finish).await, "success");
    worker.ask("select ops.rescue_runs(), ops.cleanup_old_events(), ops.expire_approvals()").await;
    worker.ask("select ops.pause_kind('build', 'w'); select ops.resume_kind('build', 'w')").await;
    worker.ask("insert into ops.idle_runners (runner_id) values ('r1')").await;
    let backup = worker.ask("select backup_id from ops.create_backup('shop', 'dev')").await;
    let token = worker.ask(claim).await;
    assert_eq!(worker.ask(&format!("select ops.begin_backup('{backup}', {token})")).await, "t");
    worker.ask("insert into ops.resources (provider, type, name) values ('railway', 'service', 'x')").await;
    assert_eq!(worker.ask("select count(*) from public.list_runs()").await, "2");
    for history in
        ["update ops.audit_log set actor = 'x'", "delete from ops.audit_log", "delete from ops._sqlx_migrations"]
    {
        assert!(worker.refused(history).await.starts_with("42501: permission denied"), "{history}");
    }
}

#[tokio::test]
async fn trust_is_asked_of_the_role_that_was_set_and_of_who_logged_in() {
    let mut db = Db::new().await;
    let trusted = "select ops.may('shop', 'run:create')";
    assert_eq!(db.ask(trusted).await, "t");
    // A superuser that has taken a member's role speaks as that.
    db.ask("grant execute on function ops.may(text, text) to ops_member; set role ops_member").await;
    assert_eq!(db.ask(trusted).await, "f");
    db.ask("set ops.user_id = 'dora'").await;
    assert_eq!(db.ask(trusted).await, "t");
    assert_eq!(db.ask("select ops.may('shop', 'run:update')").await, "f");
    db.ask("reset ops.user_id; set request.jwt.claims = '{\"sub\": \"dora\", \"role\": \"authenticated\"}'").await;
    assert_eq!(db.ask("select ops.current_user_id()").await, "dora");
    assert_eq!(db.ask("select count(*) from list_projects()").await, "1");
}

/// One login role for requests and for service, as PostgREST has it: it may become either, and is neither.
#[tokio::test]
async fn a_gateway_may_switch_between_people_and_service_and_is_nobody_in_itself() {
    let mut db = Db::new().await;
    db.ask("create role switching login noinherit; grant ops_member, ops_runner to switching").await;
    let mut gateway = db.login("switching").await;
    assert!(gateway.refused("select ops.claim_next_run('w1')").await.contains("permission denied"));
    gateway.ask("set role ops_runner").await;
    assert_eq!(gateway.ask("select * from ops.claim_next_run('w1')").await, "");
    gateway.ask("set role ops_member").await;
    assert_eq!(
        gateway.refused("select ops.claim_next_run('w1')").await,
        "42501: permission denied for function claim_next_run"
    );
    assert_eq!(gateway.ask("select count(*) from list_projects()").await, "0");
    db.ask("drop role switching").await;
}
