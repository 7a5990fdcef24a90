//! The database itself holds the state machine, whoever writes to the tables.

use crate::server::Db;

const STATES: [&str; 6] = ["queued", "claimed", "running", "success", "failed", "cancelled"];

/// Everything a status needs, so that only the step itself can be what is refused.
fn becomes(run: &str, status: &str) -> String {
    let held =
        "claimed_by = 'w1', started_at = now(), lease_token = greatest(lease_token, 1), attempt = greatest(attempt, 1)";
    let rest = match status {
        "queued" => "finished_at = null".to_owned(),
        "claimed" | "running" => format!("{held}, lease_expires_at = now() + interval '1 minute', finished_at = null"),
        _ => format!("{held}, lease_expires_at = null, finished_at = now(), error = 'why'"),
    };
    format!("update ops.runs set status = '{status}', {rest} where run_id = '{run}'")
}

async fn brought_to(db: &mut Db, status: &str) -> String {
    let run = db.queued().await;
    match status {
        "queued" => {}
        "cancelled" => drop(db.ask(&becomes(&run, "cancelled")).await),
        _ => {
            db.ask(&becomes(&run, "claimed")).await;
            if status != "claimed" {
                db.ask(&becomes(&run, status)).await;
            }
        }
    }
    assert_eq!(db.ask(&format!("select status from ops.runs where run_id = '{run}'")).await, status);
    run
}

#[tokio::test]
async fn each_step_that_is_not_in_the_state_machine_is_refused() {
    let mut db = Db::new().await;
    for from in STATES {
        for to in STATES {
            let may = match (from, to) {
                (from, to) if from == to => continue,
                ("queued", to) => ["claimed", "cancelled"].contains(&to),
                ("claimed", _) => true,
                // Nothing claims what is under way.
                ("running", to) => to != "claimed",
                ("failed" | "cancelled", to) => to == "queued",
                _ => false,
            };
            let run = brought_to(&mut db, from).await;
            let step = becomes(&run, to);
            if may {
                db.ask(&step).await;
            } else {
                let refused = db.refused(&step).await;
                assert!(refused.starts_with("55000: Run "), "{from} -> {to}: {refused}");
            }
        }
    }
}

#[tokio::test]
async fn rows_that_contradict_themselves_are_refused_with_the_reason() {
    let mut db = Db::new().await;
    for (column, value, constraint) in [
        ("status", "'done'", "there is no status done"),
        ("claimed_by", "'w1'", "a queued run belongs to nobody"),
        ("started_at", "now()", "a queued run belongs to nobody"),
        ("attempt", "3", "a queued run belongs to nobody, and has an attempt left"),
        ("attempt", "-1", "a run has at least one attempt"),
        ("lease_expires_at", "now()", "a queued run belongs to nobody"),
        ("finished_at", "now()", "a queued run belongs to nobody"),
        ("priority", "10", "priority_is_1_to_9"),
        ("max_attempts", "0", "a run has at least one attempt"),
        ("git_sha", "null", "a build says what is built for which environment"),
        ("project_id", "'bank'", "runs_environment_of_project"),
        ("kind", "'No Name'", "kind_is_a_name"),
        ("run_id", "'RUN 1'", "run_name_is_an_id"),
        ("metadata", "'[]'", "document_is_an_object"),
    ] {
        db.queued().await;
        let refused = db.refused(&format!("update ops.runs set {column} = {value}")).await;
        assert!(refused.contains(constraint), "{column} = {value}: {refused}");
    }
    db.ask("delete from ops.runs").await;
    let run = db.claimed().await;
    for (change, constraint) in [
        ("claimed_by = null", "a run under way is leased to somebody"),
        ("claimed_by = ''", "a runner has a name"),
        ("lease_expires_at = null", "a run under way is leased to somebody"),
        ("lease_token = 0", "a run under way is leased to somebody"),
        ("attempt = 4", "a run under way is leased to somebody"),
    ] {
        let refused = db.refused(&format!("update ops.runs set {change} where run_id = '{run}'")).await;
        assert!(refused.contains(constraint), "{change}: {refused}");
    }
    let silent = format!(
        "update ops.runs set status = 'failed', finished_at = now(), lease_expires_at = null where run_id = '{run}'"
    );
    assert!(db.refused(&silent).await.contains("a reason if it failed"));
}

#[tokio::test]
async fn history_goes_with_its_run_and_what_is_queued_again_keeps_it() {
    let mut db = Db::new().await;
    let run = db.claimed().await;
    db.ask(&format!("select ops.finish_run('{run}', 'failed', '{{\"error\": \"no disk\"}}')")).await;
    assert_eq!(db.ask(&format!("select ops.requeue_run('{run}', 'olga')")).await, "queued");
    assert_eq!(db.ask("select attempt, outcome, error from ops.run_attempts").await, "1|failed|no disk");
    assert_eq!(db.ask("select run_id from ops.claim_next_run('w2')").await, run);
    assert_eq!(db.ask("select attempt, runner_id from ops.run_attempts order by lease_token").await, "1|w1\n2|w2");
    db.ask(&format!("select ops.add_run_artifact('{run}', 'log', 's3://log')")).await;
    db.ask(&format!("delete from ops.runs where run_id = '{run}'")).await;
    let left = "select (select count(*) from ops.run_events), (select count(*) from ops.run_attempts),
                       (select count(*) from ops.artifacts)";
    assert_eq!(db.ask(left).await, "0|0|0");
}
