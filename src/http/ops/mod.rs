//! Durable runs over HTTP: queue, look, cancel, retry, follow, and have one executed.
//!
//! Every route needs a token with its scope, whatever the address; also reads, because what runs carry
//! may be confidential. The socket beside the state file needs none. What this module refuses: to answer
//! 500 for anything that was sent, and to keep a run from its end because a client went away.

mod auth;
mod change;
mod function;
mod kinds;
mod receive;
mod runs;
mod stream;

use super::access::Access;
use super::problem::Problem;
use crate::runs::RunsError;
use crate::runs::line::Asked;
use crate::runs::lines::Lines;
use crate::runs::runners;
use crate::runs::schema::Address;
use crate::runs::tokens::Scope;
use crate::runs::troubles::Troubles;
use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::any;
use sqlx::postgres::PgConnection;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What is larger is an artifact.
pub const LARGEST_BODY: usize = 2 << 20;
/// Of all requests at once; each needs one for some milliseconds.
const CONNECTIONS: usize = 8;
/// For each question to the database: an answer comes before the request's own time is over.
const QUESTION: Duration = Duration::from_secs(7);
/// Streams at once: each asks the database some times a second.
const STREAMS: usize = 64;
/// Runs executed by requests at once: each has some connections of its own.
const EXECUTED_AT_ONCE: usize = 10;

/// Executes one run, if there is one. It goes on when nobody waits for it any more.
pub type RunOne =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Option<Executed>, NotExecuted>> + Send>> + Send + Sync>;

/// A run that a request has brought to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    pub run_id: String,
    pub status: String,
    pub worker_id: String,
}

/// Why none was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotExecuted {
    NotClaimed(String),
    Lost(String),
}

/// The ops part of the router: where its runs are, and who executes them.
#[derive(Clone)]
pub struct OpsRoutes {
    lines: Arc<Lines>,
    kinds: Arc<[String]>,
    /// `Err`: why this process executes none.
    run_one: Result<RunOne, String>,
    troubles: Troubles,
    streams: Arc<Semaphore>,
    executions: Arc<Semaphore>,
}

impl OpsRoutes {
    /// `kinds`: those that this program knows, whoever executes them.
    pub fn new(address: &Address, kinds: impl IntoIterator<Item = String>) -> OpsRoutes {
        OpsRoutes {
            lines: Arc::new(Lines::new(address.clone(), CONNECTIONS, QUESTION)),
            kinds: kinds.into_iter().collect(),
            run_one: Err("ask one that does".to_owned()),
            troubles: Troubles::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            executions: Arc::new(Semaphore::new(EXECUTED_AT_ONCE)),
        }
    }

    /// Whether the database answers.
    pub(super) async fn answers(&self) -> Result<(), RunsError> {
        self.lines.with(|c| Box::pin(async move { sqlx::query("select 1").execute(c).await.map(|_| ()) })).await
    }

    /// Lets requests have a run executed here.
    pub fn with_execution(self, run_one: RunOne) -> OpsRoutes {
        OpsRoutes { run_one: Ok(run_one), ..self }
    }

    pub fn without_execution(self, why: &str) -> OpsRoutes {
        OpsRoutes { run_one: Err(why.to_owned()), ..self }
    }

    /// What the runner of this process finds in its way.
    pub fn with_troubles(self, troubles: Troubles) -> OpsRoutes {
        OpsRoutes { troubles, ..self }
    }

    pub(super) fn troubles(&self) -> Troubles {
        self.troubles.clone()
    }
}

/// What the handlers share.
pub struct Ops {
    routes: OpsRoutes,
    auth: auth::Auth,
    stop: CancellationToken,
}

impl Ops {
    pub fn new(routes: OpsRoutes, access: Access, stop: CancellationToken) -> Arc<Ops> {
        Arc::new(Ops { routes, auth: auth::Auth::new(access), stop })
    }

    async fn ask<T>(
        &self,
        ask: impl for<'c> FnOnce(&'c mut PgConnection) -> Asked<'c, T> + Send,
    ) -> Result<T, Problem> {
        Ok(self.routes.lines.with(ask).await?)
    }

    /// Kinds that this program or a runner of the last day knows.
    async fn known_kinds(&self) -> Result<Vec<String>, Problem> {
        let mut kinds = self.ask(|c| Box::pin(runners::kinds(c))).await?;
        kinds.extend(self.routes.kinds.iter().cloned());
        kinds.sort();
        kinds.dedup();
        Ok(kinds)
    }
}

/// The routes, and their description; without a database the description alone.
pub(super) fn parts(ops: Option<Arc<Ops>>) -> (Router, OpenApi) {
    // Who may come in is decided for the whole group, so no route can be left open by mistake.
    let group = |scope: Scope, routes: OpenApiRouter<Arc<Ops>>| match &ops {
        Some(ops) => routes.route_layer(middleware::from_fn_with_state((ops.clone(), scope), auth::require)),
        None => routes,
    };
    let reads = OpenApiRouter::new()
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(runs::events))
        .routes(routes!(runs::phases))
        .routes(routes!(runs::attempts))
        .routes(routes!(runs::artifacts))
        .routes(routes!(stream::stream))
        .routes(routes!(kinds::queue))
        .routes(routes!(kinds::runners));
    let writes = OpenApiRouter::new()
        .routes(routes!(change::queue_run))
        .routes(routes!(change::cancel))
        .routes(routes!(change::retry));
    let kinds = OpenApiRouter::new().routes(routes!(kinds::pause)).routes(routes!(kinds::resume));
    let execution = group(Scope::Runner, OpenApiRouter::new().routes(routes!(function::run_one)));
    let execution = execution.routes(routes!(function::preflight));
    let (routes, api) = group(Scope::RunsRead, reads)
        .merge(group(Scope::RunsWrite, writes))
        .merge(group(Scope::Admin, kinds))
        .layer(super::timeout())
        // A run takes as long as it takes.
        .merge(function::across_origins(execution))
        .layer(RequestBodyLimitLayer::new(LARGEST_BODY))
        .split_for_parts();
    match ops {
        Some(ops) => (routes.with_state(ops), api),
        None => (absent(), api),
    }
}

/// Without a database there is nothing to serve.
fn absent() -> Router {
    let answer = || async {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-ops-database",
            "there are no runs here: set OPS_DATABASE_URL to a PostgreSQL database of our own, and start again",
        )
    };
    Router::new()
        .route("/ops", any(answer))
        .route("/ops/{*rest}", any(answer))
        .route("/functions/v1/ops-runner", any(answer))
}
