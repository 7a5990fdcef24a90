//! `run`: listener, signals, daemon. The listener comes first, so that a container is seen to live.

use super::runner::{self, Work};
use super::{CONFIGURATION, DONE, ERROR, configuration, failed, local, signals};
use ops_controller::clients::Seam;
use ops_controller::config::{Config, ConfigError};
use ops_controller::controller::daemon::{Controls, Daemon, Request};
use ops_controller::controller::store::Store;
use ops_controller::http::{self, Access, OpsRoutes, Writes};
use ops_controller::telemetry::{self, Telemetry, metrics};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

/// For the answers that are on their way when the daemon has ended.
const SERVER_GRACE: Duration = Duration::from_millis(500);

pub async fn run() -> u8 {
    let config = match configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(code) = local::check_user(&config) {
        return code;
    }
    let telemetry = telemetry::init(config.log_format, &config.log_level, &config.secrets());
    serve(config, Config::from_env, telemetry, |_| {}).await
}

/// Runs a daemon until a signal ends it. `started` is given the controls and the HTTP address.
pub async fn serve(
    config: Config,
    reload: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
    telemetry: Telemetry,
    started: impl FnOnce((Controls, SocketAddr)),
) -> u8 {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let listener = match TcpListener::bind(config.listen_addr).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(address = %config.listen_addr, %error, "LISTEN_ADDR {} cannot be used: {error}", config.listen_addr);
            // It may be in use, or not there yet, for a while: a service manager starts the daemon again.
            return ERROR;
        }
    };
    let address = listener.local_addr().unwrap_or(config.listen_addr);
    let access = Access::from(runner::writes(address, config.api_token.as_ref()));
    let renewed = access.clone();
    let daemon = Daemon::new(config.clone(), reload, Seam::default()).with_in_force(move |config| {
        renewed.set(runner::writes(address, config.api_token.as_ref()));
        // A level that cannot be parsed was refused with the configuration.
        let _ = telemetry.set_level(&config.log_level);
    });
    let controls = daemon.controls();
    // Before anything that takes time: a stop is heard from the beginning.
    let reload = controls.clone();
    tokio::spawn(signals::heard(controls.stop.clone(), "stopping", move || reload.ask(Request::Reload)));
    let handle = metrics::install();
    let work = match config.ops().map(|ops| Work::start(&ops, controls.stop.child_token())).transpose() {
        Ok(work) => work,
        Err(error) => {
            tracing::error!(%error, "the runner cannot be set up: {error}");
            return CONFIGURATION;
        }
    };
    let runs = work.as_ref().map(|work| work.routes.clone());
    let routes = http::router(controls.clone(), Some(handle), access, runs.clone());
    let mut server = tokio::spawn(http::serve(listener, routes, controls.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), %address, state_file = %config.state_file.display(),
        "ops-controller {} listens on http://{address}", env!("CARGO_PKG_VERSION")
    );
    started((controls.clone(), address));
    let socket_controls = controls.clone();
    let result = daemon.run(move |store, over| open_socket(store, socket_controls.clone(), runs.clone(), over)).await;
    controls.stop.cancel();
    if let Some(work) = work {
        work.ended().await;
    }
    // A client that never ends its request keeps nobody.
    if tokio::time::timeout(SERVER_GRACE, &mut server).await.is_err() {
        server.abort();
    }
    match result {
        Ok(()) => DONE,
        Err(error) => {
            tracing::error!(%error, "{error}");
            failed(&error)
        }
    }
}

/// The socket for commands on this machine, for as long as the folder is ours. Without it everything
/// works but those commands.
fn open_socket(store: &Store, mut controls: Controls, runs: Option<OpsRoutes>, over: CancellationToken) {
    let path = store.socket();
    // Left behind by a killed process, or by one that is frozen; the lease says that nobody uses it.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    match listener {
        Ok(listener) => {
            let ours = inode(&path);
            let routes = http::router(controls.clone(), None, Writes::Socket, runs);
            controls.stop = controls.stop.child_token();
            let stop = controls.stop.clone();
            tokio::spawn(async move {
                over.cancelled().await;
                stop.cancel();
            });
            tokio::spawn(async move {
                let _ = http::serve_socket(listener, routes, controls).await;
                // Who took the folder over has put its own in this place.
                if inode(&path) == ours {
                    let _ = std::fs::remove_file(&path);
                }
            });
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "no socket for local commands"),
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}
