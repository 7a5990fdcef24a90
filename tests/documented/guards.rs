//! What is refused: to end what has ended, to speak for what one has lost, to keep what one left.

use crate::server::Db;

#[tokio::test]
async fn what_has_ended_takes_the_same_end_again_and_nothing_else() {
    let mut db = Db::new().await;
    for status in ["success", "failed", "cancelled"] {
        let run = db.claimed().await;
        let end = |status: &str| format!("select ops.finish_run('{run}', '{status}')");
        assert_eq!(db.ask(&end(status)).await, "t");
        let row = format!("select r::text from ops.runs r where run_id = '{run}'");
        let events = format!("select count(*) from ops.run_events where run_id = '{run}'");
        let before = (db.ask(&row).await, db.ask(&events).await);
        assert_eq!(db.ask(&end(status)).await, "t");
        for other in ["success", "failed", "cancelled"].into_iter().filter(|other| *other != status) {
            assert_eq!(db.refused(&end(other)).await, format!("55000: Run {run} is finished: {status}"));
        }
        let event = format!("select ops.append_event('{run}', 'info', 'late')");
        assert_eq!(db.refused(&event).await, format!("55000: Run {run} is finished: {status}"));
        assert_eq!((db.ask(&row).await, db.ask(&events).await), before);
    }
}

#[tokio::test]
async fn what_nobody_claimed_cannot_succeed_or_fail_but_be_cancelled() {
    let mut db = Db::new().await;
    let run = db.queued().await;
    for status in ["success", "failed"] {
        let refused = db.refused(&format!("select ops.finish_run('{run}', '{status}')")).await;
        assert_eq!(refused, format!("55000: Run {run} is queued: it must be claimed first"));
    }
    db.ask(&format!("select ops.append_event('{run}', 'info', 'a note')")).await;
    assert_eq!(db.ask("select status, claimed_by from ops.runs").await, "queued|");
    assert_eq!(db.ask(&format!("select ops.finish_run('{run}', 'cancelled')")).await, "t");
    assert_eq!(db.ask("select status, finished_at is not null from ops.runs").await, "cancelled|t");
    assert_eq!(db.ask("select count(*) from ops.run_attempts").await, "0");
}

#[tokio::test]
async fn a_claim_holds_for_thirty_minutes_from_the_last_event() {
    let mut db = Db::new().await;
    let run = db.claimed().await;
    let left = "select round(extract(epoch from lease_expires_at - now()) / 60) from ops.runs";
    assert_eq!(db.ask(left).await, "30");
    db.ask("update ops.runs set lease_expires_at = now() + interval '1 minute'").await;
    db.ask(&format!("select ops.append_event('{run}', 'debug', 'still here')")).await;
    assert_eq!(db.ask(left).await, "30");
    assert_eq!(db.ask("select status from ops.runs").await, "running");
    db.ask("update ops.runs set lease_expires_at = now() + interval '2 hours'").await;
    db.ask(&format!("select ops.append_event('{run}', 'debug', 'still here')")).await;
    assert_eq!(db.ask(left).await, "120", "never shortened");
}

#[tokio::test]
async fn a_worker_whose_claim_ran_out_is_refused_by_its_token_once_another_has_the_run() {
    let mut db = Db::new().await;
    let run = db.claimed().await;
    let token = "select lease_token from ops.runs";
    let mine = db.ask(token).await;
    db.lease_runs_out(&run).await;
    assert_eq!(db.ask("select run_id, status from ops.rescue_runs()").await, format!("{run}|queued"));
    let finish = format!("select ops.finish_run('{run}', 'success', p_lease_token := {mine})");
    assert_eq!(db.refused(&finish).await, format!("55000: Run {run} is queued: it must be claimed first"));
    db.ask("update ops.runs set run_at = now()").await;
    assert_eq!(db.ask("select run_id from ops.claim_next_run('w2')").await, run);
    let stale = format!("55000: the lease of run {run} is stale: it was claimed again since");
    assert_eq!(db.refused(&finish).await, stale);
    let event = format!("select ops.append_event('{run}', 'info', 'hello', p_lease_token := {mine})");
    assert_eq!(db.refused(&event).await, stale);
    assert_eq!(db.ask("select status, claimed_by from ops.runs").await, "claimed|w2");
    let theirs = db.ask(token).await;
    assert_eq!(db.ask(&format!("select ops.finish_run('{run}', 'success', p_lease_token := {theirs})")).await, "t");
    assert_eq!(
        db.ask("select attempt, runner_id, outcome from ops.run_attempts order by lease_token").await,
        "1|w1|lost\n2|w2|success"
    );
}

#[tokio::test]
async fn a_failure_keeps_its_error_and_a_success_has_none() {
    let mut db = Db::new().await;
    let said = db.claimed().await;
    db.ask(&format!(
        "select ops.finish_run('{said}', 'failed', '{{\"error\": \"Phase build_image failed: no disk\"}}')"
    ))
    .await;
    let silent = db.claimed().await;
    db.ask(&format!("select ops.finish_run('{silent}', 'failed')")).await;
    let healed = db.claimed().await;
    db.lease_runs_out(&healed).await;
    db.ask("select ops.rescue_runs()").await;
    db.ask("update ops.runs set run_at = now() where status = 'queued'").await;
    db.ask("select ops.claim_next_run('w2')").await;
    db.ask(&format!("select ops.finish_run('{healed}', 'success', '{{\"phases_completed\": 4}}')")).await;
    assert_eq!(
        db.ask("select status, error, metadata from ops.runs order by seq").await,
        "failed|Phase build_image failed: no disk|{\"error\": \"Phase build_image failed: no disk\"}\n\
         failed|failed, and said nothing|{}\n\
         success||{\"phases_completed\": 4}"
    );
}
