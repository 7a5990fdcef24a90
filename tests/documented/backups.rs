//! Backups, restores and approvals: what is recorded, what is queued, and what a second person guards.

use crate::server::Db;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Claims the run of this kind; its lease token.
async fn claim(db: &mut Db, kind: &str) -> String {
    db.ask(&format!("select lease_token from ops.claim_runs('r1', '{{{kind}}}', 1, '1 minute')")).await
}

fn ends(backup: &str, token: &str, path: &str) -> String {
    format!("select ops.end_backup('{backup}', {token}, '{path}', 12, '{DIGEST}')")
}

/// A backup of shop's prod that lies there.
async fn made(db: &mut Db) -> String {
    let backup = db.ask("select backup_id from ops.create_backup('shop', 'prod')").await;
    let token = claim(db, "backup").await;
    db.ask(&format!("select ops.begin_backup('{backup}', {token})")).await;
    assert_eq!(db.ask(&ends(&backup, &token, "s3://dump")).await, "t");
    db.ask(&format!("select ops.finish_run(run_id, 'success') from ops.backups where backup_id = '{backup}'")).await;
    backup
}

/// A restore to prod that waits: its id, and its approval's.
async fn asked(db: &mut Db) -> (String, String) {
    let backup = made(db).await;
    let restore = db.ask(&format!("select restore_id from ops.restore_backup('{backup}', 'shop-prod', 'olga')")).await;
    let approval = db.ask(&format!("select approval_id from ops.approvals where resource_id = '{restore}'")).await;
    (restore, approval)
}

fn decide(approval: &str, by: &str, what: bool) -> String {
    format!("select ops.decide_approval('{approval}', '{by}', {what})")
}

#[tokio::test]
async fn a_backup_is_a_row_and_a_run_and_is_kept_as_long_as_its_type_says() {
    let mut db = Db::new().await;
    for (kind, days) in [("daily", "7"), ("weekly", "28"), ("monthly", "90"), ("manual", "")] {
        let sql = format!(
            "select extract(day from expires_at - created_at) from ops.create_backup('shop', 'prod', '{kind}')"
        );
        assert_eq!(db.ask(&sql).await, days, "{kind}");
    }
    assert_eq!(db.ask("select extract(day from expires_at - created_at) from ops.create_backup(p_project_id := 'shop', p_env := 'dev')").await, "");
    let rows = "select backup_type, b.status, db_dump_path, r.status, r.env_id, r.input ->> 'backup_id' = backup_id
                from ops.backups b join ops.runs r using (run_id) where kind = 'backup' order by seq";
    assert_eq!(
        db.ask(rows).await,
        "daily|pending|pending|queued|shop-prod|t\nweekly|pending|pending|queued|shop-prod|t\n\
         monthly|pending|pending|queued|shop-prod|t\nmanual|pending|pending|queued|shop-prod|t\n\
         manual|pending|pending|queued|shop-dev|t"
    );
    let both = "select count(*) from ops.claim_runs('r1', '{backup}', 9, '1 minute')";
    assert_eq!(db.ask(both).await, "2", "one at a time of each database");
    assert_eq!(db.ask("select * from ops.claim_next_run('w1')").await, "", "no work for who knows builds alone");
}

#[tokio::test]
async fn a_backup_succeeds_by_its_holder_with_a_whole_dump_and_once() {
    let mut db = Db::new().await;
    let backup = db.ask("select backup_id from ops.create_backup('shop', 'prod', 'daily')").await;
    let token = claim(&mut db, "backup").await;
    let begin = format!("select ops.begin_backup('{backup}', {token})");
    let state = "select status, db_dump_path, size_bytes from ops.backups";
    assert_eq!(db.ask(&format!("select ops.begin_backup('{backup}', {token} + 1)")).await, "f");
    assert!(db.refused(&ends(&backup, &token, "s3://dump")).await.contains("is pending, and cannot become success"));
    assert_eq!(db.ask(&begin).await, "t");
    assert_eq!(db.ask(&begin).await, "t", "a later attempt begins again");
    assert_eq!(db.ask(&ends(&backup, "99", "s3://dump")).await, "f");
    for (sql, constraint) in [
        (format!("select ops.end_backup('{backup}', {token}, 's3://dump', 0, '{DIGEST}')"), "backups_size_counts"),
        (format!("select ops.end_backup('{backup}', {token}, 's3://dump', 12, null)"), "backups_success_is_whole"),
        (format!("select ops.end_backup('{backup}', {token}, 's3://dump', 12, 'md5:1')"), "backups_digest_is_sha256"),
        (format!("select ops.end_backup('{backup}', {token}, 'pending', 12, '{DIGEST}')"), "backups_success_is_whole"),
    ] {
        assert!(db.refused(&sql).await.contains(constraint), "{sql}");
    }
    assert_eq!(db.ask(state).await, "running|pending|");
    assert_eq!(db.ask(&ends(&backup, &token, "s3://dump")).await, "t");
    assert_eq!(db.ask(&ends(&backup, &token, "s3://dump")).await, "t");
    assert!(db.refused(&ends(&backup, &token, "s3://other")).await.contains("lies at s3://dump already"));
    assert_eq!(db.ask(state).await, "success|s3://dump|12");
}

#[tokio::test]
async fn what_a_run_did_not_end_ends_with_it_and_may_be_begun_again_with_it() {
    let mut db = Db::new().await;
    let backup = db.ask("select backup_id from ops.create_backup('shop', 'prod')").await;
    let run = db.ask("select run_id from ops.backups").await;
    let state = "select status, error from ops.backups";
    let token = claim(&mut db, "backup").await;
    db.ask(&format!("select ops.begin_backup('{backup}', {token})")).await;
    db.ask(&format!("select ops.finish_run('{run}', 'failed', '{{\"error\": \"no disk\"}}')")).await;
    assert_eq!(db.ask(state).await, "failed|no disk");
    assert_eq!(db.ask(&ends(&backup, &token, "s3://dump")).await, "f", "its run has ended");

    db.ask(&format!("select ops.requeue_run('{run}', 'olga')")).await;
    let token = claim(&mut db, "backup").await;
    assert_eq!(db.ask(&format!("select ops.begin_backup('{backup}', {token})")).await, "t");
    assert_eq!(db.ask(state).await, "running|");
    db.ask(&format!("select ops.finish_run('{run}', 'success')")).await;
    assert_eq!(db.ask(state).await, "failed|its run ended without it");

    let unwanted = db.ask("select backup_id from ops.create_backup('shop', 'dev')").await;
    db.ask(&format!("select ops.cancel_run(run_id, 'olga') from ops.backups where backup_id = '{unwanted}'")).await;
    assert_eq!(db.ask(&format!("select status from ops.backups where backup_id = '{unwanted}'")).await, "cancelled");
}

#[tokio::test]
async fn outside_production_a_restore_is_queued_at_once() {
    let mut db = Db::new().await;
    let backup = made(&mut db).await;
    let restore = format!(
        "select status from ops.restore_backup(p_backup_id := '{backup}',
        p_target_env_id := 'shop-staging', p_requested_by := 'olga', p_metadata := '{{\"why\": \"a test\"}}')"
    );
    assert_eq!(db.ask(&restore).await, "approved");
    assert_eq!(db.ask("select count(*) from ops.approvals").await, "0");
    let id = db.ask("select restore_id from ops.restores").await;
    let run = "select kind, status, env_id, input ->> 'restore_id' from ops.runs where kind = 'restore'";
    assert_eq!(db.ask(run).await, format!("restore|queued|shop-staging|{id}"));
    let token = claim(&mut db, "restore").await;
    assert_eq!(db.ask(&format!("select ops.begin_restore('{id}', {token} + 1)")).await, "f");
    assert_eq!(db.ask(&format!("select ops.begin_restore('{id}', {token})")).await, "t");
    assert_eq!(db.ask(&format!("select ops.end_restore('{id}', {token})")).await, "t");
    assert_eq!(
        db.ask("select status, approved_by, metadata from ops.restores").await,
        "success||{\"why\": \"a test\"}"
    );
}

#[tokio::test]
async fn into_production_it_waits_for_a_second_person() {
    let mut db = Db::new().await;
    let (restore, approval) = asked(&mut db).await;
    let state = "select status, approved_by, run_id is null from ops.restores";
    assert_eq!(db.ask(state).await, "pending||t");
    let asked =
        "select approval_type, project_id, status, requested_by, extract(epoch from expires_at - requested_at) / 3600,
                        metadata ->> 'target_env_id' from ops.approvals";
    assert_eq!(db.ask(asked).await, "restore_prod|shop|pending|olga|24.0000000000000000|shop-prod");
    for me in ["olga", " Olga "] {
        let refused = db.refused(&decide(&approval, me, true)).await;
        assert_eq!(refused, format!("42501: approval {approval} was asked for by olga: a second person must give it"));
    }
    let by_hand = "update ops.approvals set status = 'approved', reviewed_by = 'OLGA', reviewed_at = now()";
    assert!(db.refused(by_hand).await.contains("approvals_are_not_ones_own"));
    assert_eq!(db.ask(state).await, "pending||t");
    assert!(db.refused(&decide("appr-x", "oleg", true)).await.ends_with("Approval appr-x does not exist"));

    assert_eq!(db.ask(&decide(&approval, "oleg", true)).await, "approved");
    assert_eq!(db.ask(&decide(&approval, "oleg", true)).await, "approved");
    assert_eq!(db.ask(state).await, "approved|oleg|f");
    assert_eq!(db.ask("select count(*) from ops.runs where kind = 'restore'").await, "1");
    let token = claim(&mut db, "restore").await;
    assert_eq!(db.ask(&format!("select ops.begin_restore('{restore}', {token})")).await, "t");
    let refused = db.refused(&decide(&approval, "oleg", false)).await;
    assert!(refused.ends_with(&format!("cannot be taken back: restore {restore} has begun")), "{refused}");
    assert_eq!(
        db.ask("select action, actor from ops.audit_log order by id").await,
        "restore.requested|olga\napproval.approved|oleg"
    );
}

#[tokio::test]
async fn denied_or_too_late_nothing_is_queued() {
    let mut db = Db::new().await;
    let (_, denied) = asked(&mut db).await;
    assert_eq!(db.ask(&decide(&denied, "olga", false)).await, "denied", "who asked may change their mind");
    assert!(db.refused(&decide(&denied, "oleg", true)).await.contains("is denied, and cannot become approved"));

    let (_, late) = asked(&mut db).await;
    db.ask(&format!("update ops.approvals set expires_at = now() where approval_id = '{late}'")).await;
    assert_eq!(db.ask(&decide(&late, "oleg", true)).await, "expired");
    assert_eq!(db.ask(&decide(&late, "oleg", true)).await, "expired");
    let (_, forgotten) = asked(&mut db).await;
    assert_eq!(db.ask("select ops.expire_approvals()").await, "0");
    db.ask(&format!("update ops.approvals set expires_at = now() where approval_id = '{forgotten}'")).await;
    assert_eq!(db.ask("select ops.expire_approvals()").await, "1");
    assert_eq!(db.ask("select status from ops.approvals order by requested_at").await, "denied\nexpired\nexpired");
    assert_eq!(db.ask("select distinct status from ops.restores").await, "cancelled");
    assert_eq!(db.ask("select count(*) from ops.runs where kind = 'restore'").await, "0");
}

#[tokio::test]
async fn a_restore_looks_again_when_it_begins() {
    let mut db = Db::new().await;
    let (restore, approval) = asked(&mut db).await;
    db.ask(&decide(&approval, "oleg", true)).await;
    let token = claim(&mut db, "restore").await;
    let begin = format!("select ops.begin_restore('{restore}', {token})");
    db.ask("update ops.approvals set expires_at = now()").await;
    assert!(db.refused(&begin).await.contains("its approval no longer stands since"));
    db.ask("update ops.approvals set expires_at = now() + interval '1 hour'").await;
    db.ask("update ops.backups set expires_at = now()").await;
    assert!(db.refused(&begin).await.ends_with("has expired"));
    db.ask("update ops.backups set expires_at = null").await;
    // Taken back while its runner is about to begin: told to stop, and refused.
    assert_eq!(db.ask(&decide(&approval, "oleg", false)).await, "denied");
    assert!(db.refused(&begin).await.contains("its approval is denied"));
    assert_eq!(
        db.ask("select status, cancel_requested_at is not null from ops.runs where kind = 'restore'").await,
        "claimed|t"
    );
    assert_eq!(db.ask("select status from ops.restores").await, "cancelled");

    db.ask("select ops.finish_run(run_id, 'cancelled') from ops.runs where kind = 'restore'").await;

    // What was asked for elsewhere, and has become production since.
    let backup = made(&mut db).await;
    let other = db.ask(&format!("select restore_id from ops.restore_backup('{backup}', 'bank-dev', 'olga')")).await;
    db.ask("update ops.environments set env_type = 'prod' where env_id = 'bank-dev'").await;
    let token = claim(&mut db, "restore").await;
    let refused = db.refused(&format!("select ops.begin_restore('{other}', {token})")).await;
    assert!(refused.contains("its approval was never asked for"), "{refused}");
}

#[tokio::test]
async fn an_approval_taken_back_in_time_cancels_its_queued_restore() {
    let mut db = Db::new().await;
    let (_, approval) = asked(&mut db).await;
    db.ask(&decide(&approval, "oleg", true)).await;
    assert_eq!(db.ask(&decide(&approval, "oleg", false)).await, "denied");
    assert_eq!(
        db.ask("select r.status, s.status, s.error from ops.restores s join ops.runs r using (run_id)").await,
        "cancelled|cancelled|its approval was taken back"
    );
}

#[tokio::test]
async fn only_backups_that_can_be_put_back_are() {
    let mut db = Db::new().await;
    let backup = made(&mut db).await;
    let restore = format!("select ops.restore_backup('{backup}', 'shop-dev', 'olga')");
    db.ask("update ops.backups set expires_at = now()").await;
    assert!(db.refused(&restore).await.ends_with("cannot be restored: it has expired"));
    let cancelled = db.ask("select backup_id from ops.create_backup('shop', 'dev')").await;
    db.ask(&format!("select ops.cancel_run(run_id, 'olga') from ops.backups where backup_id = '{cancelled}'")).await;
    let refused = db.refused(&restore.replace(&backup, &cancelled)).await;
    assert!(refused.ends_with("it was not made: cancelled"), "{refused}");
    let unmade = db.ask("select backup_id from ops.create_backup('shop', 'staging')").await;
    db.ask(&restore.replace(&backup, &unmade)).await;
    let token = claim(&mut db, "restore").await;
    let begin = format!("select ops.begin_restore(restore_id, {token}) from ops.restores");
    assert!(db.refused(&begin).await.ends_with("is not made yet: it is pending"));
}
