//! Statements on the environment's own database, in one transaction.

use crate::runner::kind::{Context, PhaseError};
use crate::runner::kinds::database::{Target, told};
use crate::runner::kinds::stopped;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};

pub async fn perform(context: &Context, target: &Target, statements: &[String]) -> Result<Value, PhaseError> {
    tokio::select! {
        // Dropped half-way, nothing of it is committed: the server hears that the connection is gone.
        _ = context.told_to_stop() => Err(stopped()),
        done = transaction(context, target, statements) => done,
    }
}

async fn transaction(context: &Context, target: &Target, statements: &[String]) -> Result<Value, PhaseError> {
    let mut c = target.connect().await?;
    let millis = context.phase.timeout.as_millis();
    let set = format!("set statement_timeout = {millis}; set lock_timeout = {millis}");
    c.execute(AssertSqlSafe(set)).await.map_err(|e| told(&e))?;
    let mut transaction = c.begin().await.map_err(|e| told(&e))?;
    let mut affected = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        // One at a time, so that none can end the transaction and go on behind it.
        let done = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
        let done = done.map_err(|error| told(&error).about(&format!("statement {}", index + 1)))?;
        affected.push(done.rows_affected());
    }
    context.fence().check().map_err(|_| PhaseError::Lost)?;
    transaction.commit().await.map_err(|e| told(&e))?;
    let _ = c.close().await;
    Ok(json!({ "database": target.name, "rows_affected": affected }))
}
