//! The kinds of runs that this program executes: builds, phases of one's own, backups, restores.
//!
//! Each phase looks before it acts, so that another attempt on another machine goes on where this one
//! ended. A failure is final when asking again would bring the same (a workflow that failed, a check
//! that is not met, a refusal); what may pass by itself (no answer, 5xx, a rate limit, a deadline)
//! leaves the run's other attempts to try.

mod backup;
pub mod build;
mod command;
mod custom;
mod database;
pub mod needs;
pub(super) mod pg_tools;
mod request;
mod restore;
mod shape;
pub mod watch;

/// The key of a backup's dump, and the end of its path.
pub use backup::KEY as DUMP;

use super::Kinds;
use super::held::Stop;
use super::kind::{Context, Kind, PhaseError};
use super::store::Store;
use crate::clients::budget::Budget;
use crate::clients::{ClientError, Seam, github, railway};
use crate::config::OpsConfig;
use crate::plan::secret::Secret;
use crate::runs::work::{self, Environment};
use request::Caller;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the kinds work with: clients, the store, the programs that may be started.
pub struct Settings {
    store: Arc<Store>,
    caller: Caller,
    /// `None`: there is no token.
    github: Option<github::Reader>,
    railway: Option<railway::Reader>,
    programs: BTreeMap<String, PathBuf>,
    target_database_url: Option<Secret>,
    polls: (Duration, Duration),
    waits: Duration,
}

impl Settings {
    pub fn new(config: &OpsConfig, seam: &Seam) -> Result<Settings, ClientError> {
        let runner = &config.runner;
        let budget = || Arc::new(Budget::default());
        let github = match &runner.github_token {
            Some(token) => Some(github::Reader::new(&runner.github_api_url, Some(token), seam, budget())?),
            None => None,
        };
        let tokens = (config.railway_project_token.as_ref(), config.railway_api_token.as_ref());
        let railway = match tokens {
            (None, None) => None,
            tokens => Some(railway::Reader::unscoped(&config.railway_api_url, tokens, seam, budget())?),
        };
        Ok(Settings {
            store: Arc::new(Store::new(runner, seam)),
            caller: Caller::new(seam),
            github,
            railway,
            programs: runner.commands.clone(),
            target_database_url: runner.target_database_url.clone(),
            polls: (Duration::from_secs(1), Duration::from_secs(15)),
            waits: Duration::from_secs(600),
        })
    }

    /// How long to wait between looks at something that goes on elsewhere: at first, and at most.
    pub fn polling(self, first: Duration, most: Duration) -> Settings {
        Settings { polls: (first, most), ..self }
    }

    /// How long a slot is kept for another run that nobody begins.
    pub fn waiting(self, most: Duration) -> Settings {
        Settings { waits: most, ..self }
    }

    /// Where artifacts and backups lie.
    pub fn store(&self) -> Arc<Store> {
        self.store.clone()
    }

    fn looks(&self) -> Looks {
        Looks { next: self.polls.0, most: self.polls.1 }
    }
}

/// Their names, whoever executes them.
pub const NAMES: [&str; 4] = ["build", "custom", "backup", "restore"];

/// All of them; which of them a runner offers says [`needs`].
pub fn all(settings: &Arc<Settings>) -> Kinds {
    // In the order of their names.
    let known: [Arc<dyn Kind>; NAMES.len()] = [
        Arc::new(build::Build(settings.clone())),
        Arc::new(custom::Custom(settings.clone())),
        Arc::new(backup::Backup(settings.clone())),
        Arc::new(restore::Restore(settings.clone())),
    ];
    NAMES.into_iter().zip(known).map(|(name, kind)| (name.to_owned(), kind)).collect()
}

/// Looks at something that goes on elsewhere, ever less often.
struct Looks {
    next: Duration,
    most: Duration,
}

impl Looks {
    /// `Err`: the run is told to stop.
    async fn pause(&mut self, context: &Context) -> Result<(), Stop> {
        self.pause_at_least(context, Duration::ZERO).await
    }

    async fn pause_at_least(&mut self, context: &Context, least: Duration) -> Result<(), Stop> {
        let pause = self.next.max(least);
        self.next = (self.next * 3 / 2).min(self.most);
        tokio::select! {
            why = context.told_to_stop() => Err(why),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// After a look that failed: waits when another one may not.
    async fn after(&mut self, context: &Context, error: ClientError) -> Result<(), Interrupted> {
        let least = match &error {
            ClientError::RateLimited { seconds, .. } => Duration::from_secs(*seconds),
            error if error.is_transient() => Duration::ZERO,
            _ => return Err(Interrupted::Error(error.into())),
        };
        Ok(self.pause_at_least(context, least).await?)
    }
}

/// Why something that goes on elsewhere was not followed to its end.
enum Interrupted {
    Error(PhaseError),
    Stopped(Stop),
}

impl From<Stop> for Interrupted {
    fn from(why: Stop) -> Interrupted {
        Interrupted::Stopped(why)
    }
}

impl<T: Into<PhaseError>> From<T> for Interrupted
where
    T: NotStop,
{
    fn from(error: T) -> Interrupted {
        Interrupted::Error(error.into())
    }
}

/// Errors of phases.
trait NotStop {}
impl NotStop for PhaseError {}
impl NotStop for ClientError {}
impl NotStop for sqlx::Error {}

/// A phase that was told to stop has nothing more to say: its run says why.
fn stopped() -> PhaseError {
    PhaseError::transient("stopped")
}

impl From<Interrupted> for PhaseError {
    fn from(interrupted: Interrupted) -> PhaseError {
        match interrupted {
            Interrupted::Error(error) => error,
            Interrupted::Stopped(_) => stopped(),
        }
    }
}

impl From<ClientError> for PhaseError {
    fn from(error: ClientError) -> PhaseError {
        let error = error.clipped();
        match &error {
            ClientError::Fenced(why) if !why.is_for_now() => PhaseError::Lost,
            ClientError::RateLimited { .. }
            | ClientError::NotSent { .. }
            | ClientError::NoAnswer { .. }
            | ClientError::Fenced(_) => PhaseError::Transient(error.to_string()),
            ClientError::Unauthorized { provider, .. } | ClientError::Forbidden { provider, .. } => {
                PhaseError::Failed(format!("{error}: {}", remedy(provider)))
            }
            _ => PhaseError::Failed(error.to_string()),
        }
    }
}

/// Which of this runner's variables holds what was refused.
fn remedy(provider: &str) -> &'static str {
    match provider {
        "GitHub" => "check GITHUB_TOKEN on this runner (Actions: read and write, on this repository)",
        "Railway" => "check RAILWAY_API_TOKEN or RAILWAY_TOKEN on this runner",
        _ => "check this runner's credentials for it",
    }
}

/// The run's environment, as it is now.
async fn environment(context: &Context) -> Result<Environment, PhaseError> {
    let Some(env_id) = &context.run.env_id else {
        return Err(PhaseError::failed("the run has no environment: queue it with one"));
    };
    environment_of(context, env_id).await
}

async fn environment_of(context: &Context, env_id: &str) -> Result<Environment, PhaseError> {
    let mut c = context.pool().acquire().await?;
    let found = work::environment(&mut c, env_id).await?;
    found.ok_or_else(|| PhaseError::failed(format!("there is no environment {env_id}")))
}

/// Within this time of now, or it may work the next time.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, PhaseError>>,
) -> Result<T, PhaseError> {
    let late = |_| PhaseError::transient(format!("{what} took longer than {} s", limit.as_secs_f64()));
    tokio::time::timeout(limit, work).await.map_err(late)?
}
