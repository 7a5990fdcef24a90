//! How a deployment of the webapp comes up: migrations, bootstrap, run replication.

use super::{Inner, database, replication, seed};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at a database that does not answer.
const DATABASE_RETRY: Duration = Duration::from_millis(200);

pub(super) fn first(inner: &Arc<Inner>) {
    let inner = inner.clone();
    in_background(inner.clone(), async move {
        if inner.options.token_in_old_deployment {
            let old = inner.add_deployment(inner.options.old_deployment_age);
            prepare(&inner, &old).await;
            inner.on(&old, |deployment| deployment.set("REMOVED", "REMOVED"));
        }
        let id = inner.add_deployment(Duration::ZERO);
        prepare(&inner, &id).await;
        serve(&inner, &id);
    });
}

pub(super) fn redeploy(inner: &Arc<Inner>) -> String {
    let id = inner.add_deployment(Duration::ZERO);
    let (inner, new) = (inner.clone(), id.clone());
    in_background(inner.clone(), async move {
        inner.on(&new, |deployment| deployment.set("BUILDING", "CREATED"));
        prepare(&inner, &new).await;
        serve(&inner, &new);
    });
    id
}

pub(super) fn restart(inner: &Arc<Inner>, id: &str) {
    inner.on(id, |deployment| deployment.instance_status = "RESTARTING");
    let (inner, id) = (inner.clone(), id.to_string());
    in_background(inner.clone(), async move {
        inner.serving.send_replace(false);
        prepare(&inner, &id).await;
        serve(&inner, &id);
    });
}

fn in_background(inner: Arc<Inner>, work: impl Future<Output = ()> + Send + 'static) {
    let stop = inner.stop.clone();
    inner.tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    });
}

/// The time a boot takes, then migrations and bootstrap, as often as the database needs.
async fn prepare(inner: &Inner, id: &str) {
    tokio::time::sleep(inner.options.boot_delay).await;
    inner.on(id, |deployment| {
        // A restart keeps its status; a new deployment passes through this one.
        if !deployment.is_active() {
            deployment.set("DEPLOYING", "INITIALIZING");
        }
    });
    while let Err(error) = migrate_and_bootstrap(inner, id).await {
        inner.print(id, &format!("Error: P1001: Can't reach database server ({error})"), "error");
        tokio::time::sleep(DATABASE_RETRY).await;
    }
}

async fn migrate_and_bootstrap(inner: &Inner, id: &str) -> sqlx::Result<()> {
    inner.print(id, "Running prisma migrations", "info");
    database::migrate(&inner.pool).await?;
    inner.print(id, "prisma migrations done", "info");
    let name = database::GROUP_NAME;
    if database::group_exists(&inner.pool).await? {
        // A cluster that was bootstrapped before with the same seed: its first token is ours.
        let mut state = inner.state();
        state.tokens = state.tokens.max(1);
        drop(state);
        inner.print(id, &format!("[bootstrap] Worker group {name} already exists"), "warn");
        return Ok(());
    }
    let token = seed::worker_token(inner.options.seed, "worker token", inner.state().tokens);
    database::create_group(&inner.pool, inner.options.seed, &token).await?;
    inner.state().tokens += 1;
    inner.print(id, &announcement(name, &token), "info");
    Ok(())
}

/// Printed once in the life of a database; whoever misses it has lost the token.
fn announcement(group: &str, token: &str) -> String {
    let rule = "==========================";
    format!(
        "{rule}\nTrigger.dev Bootstrap - Worker Token\n\n\
         WARNING: This will only be shown once. Save it now!\n\n\
         Worker group:\n{group}\n\n\
         Token:\n{token}\n\n\
         If using docker compose, set:\nTRIGGER_WORKER_TOKEN={token}\n\n{rule}"
    )
}

/// This deployment takes over: the others are removed, and their replication ends.
fn serve(inner: &Arc<Inner>, id: &str) {
    let mut state = inner.state();
    for deployment in state.deployments.iter_mut() {
        if deployment.id == id {
            deployment.set("SUCCESS", "RUNNING");
        } else if deployment.status != "REMOVED" {
            deployment.set("REMOVED", "REMOVED");
        }
    }
    let stop = CancellationToken::new();
    if let Some(before) = state.replication.replace(stop.clone()) {
        before.cancel();
    }
    drop(state);
    inner.tasks.spawn(replication::run(inner.clone(), id.to_string(), stop));
    inner.serving.send_replace(true);
}
