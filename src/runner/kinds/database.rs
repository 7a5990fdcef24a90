//! An environment's own database: its name at TARGET_DATABASE_URL. Never the database of the runs.

use super::Settings;
use crate::config::percent_decode;
use crate::plan::secret::Secret;
use crate::runner::kind::{Context, PhaseError};
use crate::runs::work::Environment;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use std::collections::BTreeMap;
use std::str::FromStr;

/// How it is reached, in both tongues. Holds a password, so it cannot be printed.
pub struct Target {
    pub name: String,
    pub options: PgConnectOptions,
    /// For PostgreSQL's programs: nothing of it stands on a command line.
    pub variables: BTreeMap<String, String>,
    /// The server's major version; `None`: it was not asked yet.
    pub major: Option<u32>,
}

impl Settings {
    /// Asked of the databases themselves: one address may be written in many ways.
    pub async fn target(&self, context: &Context, environment: &Environment) -> Result<Target, PhaseError> {
        let url = self.target_database_url.as_ref().ok_or_else(|| {
            PhaseError::failed("TARGET_DATABASE_URL is not set on this runner: it names the server of the databases")
        })?;
        let mut target = Target::of(url, environment)?;
        let mut there = target.connect().await?;
        let theirs = identity(&mut there).await.map_err(|e| told(&e))?;
        target.major = there.server_version_num().map(|version| version / 10_000);
        let _ = there.close().await;
        let mut c = context.pool().acquire().await?;
        match theirs.has_runs && theirs == identity(&mut c).await? {
            true => Err(PhaseError::failed(format!(
                "{} is the database of the runs: phases do not work on it",
                target.name
            ))),
            false => Ok(target),
        }
    }
}

/// What one database has in common with no other: its id, and when its server was started. Both may be
/// read by everybody; a server's own identifier may not.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    has_runs: bool,
    id: String,
    name: String,
    started_at: String,
}

async fn identity(c: &mut PgConnection) -> Result<Identity, sqlx::Error> {
    let row = sqlx::query(
        "select pg_catalog.to_regclass('ops.runs') is not null, d.oid::text, d.datname::text,
                extract(epoch from pg_catalog.pg_postmaster_start_time())::text
         from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()",
    )
    .fetch_one(c)
    .await?;
    Ok(Identity { has_runs: row.try_get(0)?, id: row.try_get(1)?, name: row.try_get(2)?, started_at: row.try_get(3)? })
}

impl Target {
    pub async fn connect(&self) -> Result<PgConnection, PhaseError> {
        let named = |why| format!("the database {} at TARGET_DATABASE_URL: {why}", self.name);
        self.options.connect().await.map_err(|e| told(&e).reworded(named))
    }

    fn of(url: &Secret, environment: &Environment) -> Result<Target, PhaseError> {
        let name = environment.db_name.clone().filter(|name| !name.is_empty()).ok_or_else(|| {
            let env = &environment.env_id;
            PhaseError::failed(format!("environment {env} has no db_name: set it in ops.environments"))
        })?;
        // The programs would take such a name for an address of its own.
        if name.contains('=') || name.contains("://") {
            return Err(PhaseError::failed(format!(
                "environment {}: db_name is no database's name",
                environment.env_id
            )));
        }
        let unusable = || PhaseError::failed("TARGET_DATABASE_URL cannot be read as a PostgreSQL address");
        let options = PgConnectOptions::from_str(url.expose()).map_err(|_| unusable())?;
        let url = url::Url::parse(url.expose()).map_err(|_| unusable())?;
        let host = url.host_str().ok_or_else(unusable)?.to_ascii_lowercase();
        let mut variables: BTreeMap<String, String> = [
            ("PGHOST", host.trim_matches(['[', ']']).to_owned()),
            ("PGPORT", url.port().unwrap_or(5432).to_string()),
            ("PGUSER", percent_decode(url.username())),
            ("PGPASSWORD", percent_decode(url.password().unwrap_or_default())),
            ("PGDATABASE", name.clone()),
            ("PGCONNECT_TIMEOUT", "10".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let given = [("sslmode", "PGSSLMODE"), ("sslrootcert", "PGSSLROOTCERT")];
        for (_, variable, value) in given.into_iter().filter_map(|(parameter, variable)| {
            let (name, value) = url.query_pairs().find(|(name, _)| name == parameter)?;
            Some((name, variable, value.into_owned()))
        }) {
            variables.insert(variable.to_owned(), value);
        }
        let options = options.database(&name).application_name("ops-controller phase").disable_statement_logging();
        Ok(Target { name, options, variables, major: None })
    }
}

/// What went wrong there, without the address.
pub fn told(error: &sqlx::Error) -> PhaseError {
    let text = crate::clients::http::clip(&crate::runs::told(error));
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            let passes = ["08", "40", "53", "57", "58", "55P03"].iter().any(|class| code.starts_with(class));
            let text = format!("{text} (SQLSTATE {code})");
            if passes { PhaseError::Transient(text) } else { PhaseError::Failed(text) }
        }
        _ => PhaseError::Transient(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, db_name: Option<&str>) -> Result<Target, PhaseError> {
        let environment = Environment {
            project_id: "shop".into(),
            env_id: "shop-dev".into(),
            env_type: "dev".into(),
            repo_slug: None,
            db_name: db_name.map(str::to_owned),
            config: serde_json::json!({}),
        };
        Target::of(&Secret::new(url), &environment)
    }

    #[test]
    fn the_programs_are_told_all_of_the_address_with_another_database() {
        let url = "postgresql://us%40er:p%2Fw@DB.example.com:6000/postgres?sslmode=require";
        let target = target(url, Some("shop dev")).expect("a target");
        let told: Vec<_> = target.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let wanted = [
            ("PGCONNECT_TIMEOUT", "10"),
            ("PGDATABASE", "shop dev"),
            ("PGHOST", "db.example.com"),
            ("PGPASSWORD", "p/w"),
            ("PGPORT", "6000"),
            ("PGSSLMODE", "require"),
            ("PGUSER", "us@er"),
        ];
        assert_eq!(told, wanted);
        assert_eq!((target.options.get_port(), target.options.get_database()), (6000, Some("shop dev")));
    }

    #[test]
    fn a_name_that_is_an_address_of_its_own_is_refused() {
        for name in [None, Some(""), Some("dbname=ops"), Some("postgresql://db/ops")] {
            assert!(target("postgresql://a:b@db.example.com/postgres", name).is_err(), "{name:?}");
        }
    }
}
