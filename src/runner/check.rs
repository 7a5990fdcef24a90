//! The runner's part of `doctor`: what it works on, and whether what it needs for that is there.
//!
//! One line each, with the fix. Nothing is changed but for one small object in the artifact store, which
//! is gone again afterwards.

use super::kinds::{NAMES, needs, pg_tools};
use super::offer::Offer;
use super::store::Store;
use crate::clients::budget::Budget;
use crate::clients::check::Check;
use crate::clients::{Seam, github, remedy};
use crate::config::{OpsConfig, RunnerConfig};
use crate::plan::secret::Secret;
use crate::runs::schema::{self, Address};
use crate::runs::{RunsError, told};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

const OPS_DATABASE: &str = "OPS_DATABASE_URL";
const TARGET: &str = "TARGET_DATABASE_URL";
const STORE: &str = "ARTIFACT_STORE";
const CONNECTS_FOR: Duration = Duration::from_secs(5);
const VERSION_FOR: Duration = Duration::from_secs(5);

pub async fn run(config: &OpsConfig) -> Vec<Check> {
    let runner = &config.runner;
    let offer = needs::offer(runner);
    let (database, store, target, github) =
        tokio::join!(ops_database(config), store(runner, offer.as_ref().ok()), target(runner), github_token(runner));
    let mut checks = database;
    checks.push(kinds(&offer));
    checks.extend(commands(runner));
    checks.extend(store);
    checks.extend(target);
    checks.extend(github);
    checks
}

async fn ops_database(config: &OpsConfig) -> Vec<Check> {
    let looked = async {
        let address = Address::from_url(config.ops_database_url.expose(), "ops-controller doctor")?;
        let mut c = address.connect().await?;
        Ok::<_, RunsError>((address.place(), schema::state(&mut c).await?))
    };
    let (place, state) = match looked.await {
        Ok(seen) => seen,
        Err(error) => return vec![Check::bad(OPS_DATABASE, error.to_string())],
    };
    let schema::State { applied, known, hindrance } = state;
    let mut checks = vec![Check::ok(OPS_DATABASE, format!("PostgreSQL at {place}"))];
    const MAKES: &str = "every start makes it so, and so does `ops-controller migrate`";
    checks.push(match (applied, hindrance) {
        (applied, _) if applied >= known => Check::ok("schema ops", format!("up to date ({known} migrations)")),
        (_, Some(why)) => Check::bad(OPS_DATABASE, why),
        (0, None) => Check::ok("schema ops", format!("not there yet: {MAKES}")),
        (applied, None) => Check::ok("schema ops", format!("{applied} of {known} migrations are in force: {MAKES}")),
    });
    checks
}

fn kinds(offer: &Result<Offer, String>) -> Check {
    const WHAT: &str = "RUNNER_KINDS";
    match offer {
        Ok(offer) => {
            let works: Vec<String> =
                NAMES.iter().filter(|kind| offer.left_out(kind).is_none()).map(|&kind| kind.to_owned()).collect();
            Check::ok(WHAT, offer.told(works.iter()))
        }
        Err(why) => Check::bad(WHAT, why.strip_prefix("RUNNER_KINDS ").unwrap_or(why)),
    }
}

fn commands(config: &RunnerConfig) -> Vec<Check> {
    let warned: Vec<Check> = needs::warnings(config).iter().map(|warning| Check::warning(warning)).collect();
    let names: Vec<&str> = config.commands.keys().map(String::as_str).collect();
    if names.is_empty() || warned.iter().any(|check| check.what == "RUNNER_COMMANDS") {
        return warned;
    }
    let good = Check::ok("RUNNER_COMMANDS", format!("{} can be started", names.join(", ")));
    warned.into_iter().chain([good]).collect()
}

/// `None`: no kind that is worked on stores anything.
async fn store(config: &RunnerConfig, offer: Option<&Offer>) -> Option<Check> {
    let offer = offer?;
    needs::STORING.iter().find(|kind| offer.left_out(kind).is_none())?;
    let name = &config.artifact_store;
    let folder = Path::new(name);
    if !name.starts_with("s3://") && !folder.exists() {
        // Not made here: it must belong to the user that the runner runs as.
        let above = folder.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        return Some(match tempfile::Builder::new().prefix(".ops-probe-").tempdir_in(above) {
            Ok(_) => Check::ok(STORE, format!("{name} is not there yet; the runner makes it")),
            Err(error) => {
                let fix = "make it, for the user that the runner runs as, or name another folder";
                Check::bad(STORE, format!("{name} cannot be made in {} ({error}): {fix}", above.display()))
            }
        });
    }
    Some(match Store::new(config, &Seam::default()).probe().await {
        Ok(()) => Check::ok(STORE, format!("{name}: an object was written, read and deleted")),
        Err(why) => Check::bad(STORE, why.strip_prefix("ARTIFACT_STORE ").unwrap_or(&why)),
    })
}

/// The server of the environments' databases, and whether the programs for it are new enough.
async fn target(config: &RunnerConfig) -> Vec<Check> {
    let Some(url) = &config.target_database_url else { return Vec::new() };
    let server = match server_version(url).await {
        Ok((place, version)) => {
            let check = Check::ok(TARGET, format!("PostgreSQL {} at {place}", version / 10_000));
            return programs(Some(version / 10_000), check).await;
        }
        Err(check) => check,
    };
    programs(None, server).await
}

async fn server_version(url: &Secret) -> Result<(String, u32), Check> {
    let options = PgConnectOptions::from_str(url.expose())
        .map_err(|_| Check::bad(TARGET, "cannot be read as a PostgreSQL address"))?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let asked = tokio::time::timeout(CONNECTS_FOR, async {
        let mut c = options.disable_statement_logging().connect().await?;
        let version: String = sqlx::query_scalar("show server_version_num").fetch_one(&mut c).await?;
        let _ = c.close().await;
        Ok::<_, sqlx::Error>(version.parse::<u32>().unwrap_or_default())
    });
    let fix = format!("check host, port, user and password ({place}), and that it accepts connections from here");
    match asked.await {
        Ok(Ok(version)) => Ok((place, version)),
        Ok(Err(error)) => Err(Check::bad(TARGET, format!("{}; {fix}", told(&error)))),
        Err(_) => Err(Check::bad(TARGET, format!("no answer within {} s; {fix}", CONNECTS_FOR.as_secs()))),
    }
}

async fn programs(server: Option<u32>, first: Check) -> Vec<Check> {
    let mut checks = vec![first];
    for tool in ["pg_dump", "pg_restore"] {
        checks.push(match pg_tools::missing(tool) {
            Some(why) => Check::bad(tool, why),
            None => program(tool, server).await,
        });
    }
    checks
}

async fn program(tool: &str, server: Option<u32>) -> Check {
    let path = pg_tools::find(tool, server).unwrap_or_default();
    let mut command = Command::new(&path);
    command.arg("--version").kill_on_drop(true).stdin(std::process::Stdio::null());
    let said = match tokio::time::timeout(VERSION_FOR, command.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(error)) => return Check::bad(tool, format!("{} cannot be started: {error}", path.display())),
        Err(_) => return Check::bad(tool, format!("{} does not say its version", path.display())),
    };
    match (major(&said), server) {
        (None, _) => Check::bad(tool, format!("{} does not say its version", path.display())),
        (Some(ours), Some(server)) if ours < server => Check::bad(
            tool,
            format!(
                "{} is of PostgreSQL {ours}, and the server is {server}: it refuses newer ones; install the package \
                 `postgresql-client-{server}`, or name its folder in OPS_PG_BIN",
                path.display()
            ),
        ),
        (Some(ours), _) => Check::ok(tool, format!("PostgreSQL {ours}, {}", path.display())),
    }
}

/// Of `pg_dump (PostgreSQL) 15.7 (Debian 15.7-0+deb12u1)`.
fn major(said: &str) -> Option<u32> {
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

async fn github_token(config: &RunnerConfig) -> Option<Check> {
    let token = config.github_token.as_ref()?;
    let asked = async {
        let budget = Arc::new(Budget::default());
        github::Reader::new(&config.github_api_url, Some(token), &Seam::default(), budget)?.accepts_token().await
    };
    Some(match asked.await {
        Ok(()) => Check::ok("GITHUB_TOKEN", format!("accepted by {}", config.github_api_url)),
        Err(error) => {
            let remedy::Explained { what, text } = remedy::of_github(&error);
            Check::bad(&what, text)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_program_is_its_first_number() {
        assert_eq!(major("pg_dump (PostgreSQL) 15.7 (Debian 15.7-0+deb12u1)\n"), Some(15));
        assert_eq!(major("pg_restore (PostgreSQL) 17beta1"), Some(17));
        assert_eq!(major("no such thing"), None);
    }
}
