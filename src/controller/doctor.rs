//! Read-only check of each token, id, name and privilege: one line each, with the fix.
//!
//! Each provider is one file here. What a provider's refusal means is said in `clients::remedy`, so
//! that `plan`, `why` and the log say the same. It refuses nothing and changes nothing.

mod database;
mod digitalocean;
mod railway;
mod token;

use crate::clients::remedy::Explained;
use crate::clients::{ClientError, Readers};
use crate::config::Config;
use crate::controller::lease;
use crate::plan::state::State;

pub use crate::clients::check::Check;

impl Check {
    fn refused(readers: &Readers, error: &ClientError) -> Check {
        let Explained { what, text } = readers.remedies.explain(error);
        Check { ok: false, what, detail: text }
    }
}

/// What was found, and what was seen on the way, for the checks that come after.
struct Report<T> {
    checks: Vec<Check>,
    seen: Option<T>,
}

/// Everything, in the order in which one thing needs the other. `state` is what a daemon left.
pub async fn run(config: &Config, readers: &Readers, state: &State) -> Vec<Check> {
    let warned = config.warnings.iter().map(|warning| Check::warning(warning));
    let (railway, database, digitalocean) = tokio::join!(
        railway::check(config, readers),
        database::check(readers),
        digitalocean::check(&config.desired, readers),
    );
    let mut checks: Vec<Check> = warned.collect();
    checks.extend(railway.checks);
    checks.extend(database.checks);
    if let Some(database) = &database.seen {
        checks.extend(token::check(&config.desired, readers, state, railway.seen.as_ref(), database).await);
    }
    checks.extend(digitalocean);
    checks.extend(ops_database(config).await);
    checks
}

/// Our own database, when there is one. Its tables need not exist yet: the daemon makes them.
async fn ops_database(config: &Config) -> Option<Check> {
    const WHAT: &str = "OPS_DATABASE_URL";
    Some(match lease::check_database(config).await? {
        Ok(None) => Check::ok(WHAT, "can be used for the lease and the schema ops"),
        Ok(Some(why)) => Check::bad(WHAT, why),
        Err(error) => Check::bad(WHAT, error.to_string()),
    })
}
