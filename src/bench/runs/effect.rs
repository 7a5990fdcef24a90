//! A kind of run that leaves a mark in a table, where a second mark of the same run is refused.

use ops_controller::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use ops_controller::runs::Claimed;
use ops_controller::runs::schema::Address;
use serde_json::json;
use sqlx::postgres::PgPool;
use std::time::Duration;

/// Tries beyond the first are kept apart: an attempt whose runner was killed may have left its mark.
pub const TABLES: &str = "
    create table effects (run_id text primary key, lease_token bigint not null);
    create table tries (run_id text not null, lease_token bigint not null);
";

pub struct Effect(PgPool);

impl Effect {
    pub fn new(address: &Address) -> Effect {
        Effect(address.pool(8))
    }
}

impl Kind for Effect {
    fn phases(&self, _: &Claimed) -> Result<Vec<Phase>, String> {
        Ok(vec![Phase::new("effect", Duration::from_secs(30))])
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        Box::pin(async move {
            let sql = "with tried as (insert into tries values ($1, $2))
                       insert into effects values ($1, $2) on conflict do nothing";
            let made = sqlx::query(sql).bind(&context.run.run_id).bind(context.run.lease_token).execute(&self.0).await;
            made.map_err(|e| PhaseError::transient(ops_controller::runs::told(&e)))?;
            Ok(json!(null))
        })
    }
}
