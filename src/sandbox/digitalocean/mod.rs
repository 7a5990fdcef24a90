//! A DigitalOcean account on loopback: droplets, firewalls, tags and what is sold.
//!
//! It keeps state and takes time, as the real one does: a droplet is `new`, then `active` without
//! an address, then reachable; a deleted one is listed for a while. It refuses what the real one
//! refuses, in its words, and remembers what the real one would pass over in silence.
//! What is only suspected of the real one is simulated in its less convenient form.

mod account;
mod answer;
mod api;
mod catalog;
mod create;
mod droplets;
mod firewalls;
mod hands;
mod ids;
mod journal;
mod machines;
mod model;
mod network;
mod processes;
mod schema;
mod server;
mod tags;
mod world;

pub use hands::DropletView;
pub use journal::Recorded;
pub use network::Firewall;

use crate::sandbox::calendar::Calendar;
use crate::sandbox::droplet::Machine;
use crate::sandbox::faults::Faults;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How the account is set up and how long things take. The defaults suit tests.
#[derive(Debug, Clone)]
pub struct DigitalOceanOptions {
    /// The same seed gives the same ids.
    pub seed: u64,
    /// The only token that is accepted.
    pub token: String,
    /// From the create request to `active`; also what a reboot takes.
    pub boot: Duration,
    /// From `active` to the public address being shown.
    pub address_lag: Duration,
    /// From `active` to the supervisor's start.
    pub supervisor_boot: Duration,
    /// From the accepted deletion to the droplet being gone.
    pub delete: Duration,
    /// How far reads are behind while `Break::ListLag` is on.
    pub list_lag: Duration,
    /// How long a firewall's change is pending.
    pub firewall_apply: Duration,
    /// Counts every droplet of the account, foreign ones included.
    pub droplet_limit: u32,
    pub backend: DropletBackend,
    /// Scopes the token lacks, such as `droplet:delete`.
    pub missing_scopes: Vec<String>,
    /// The seconds a 429 asks to wait.
    pub retry_after: u64,
    pub heartbeat_interval: Duration,
    /// The supervisor's pause before its second attempt to connect; doubles each time.
    pub connect_retry: Duration,
    /// Docker's pause before it starts a supervisor that died.
    pub supervisor_restart: Duration,
}

impl Default for DigitalOceanOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            token: "dop_v1_sandbox".to_owned(),
            boot: Duration::from_millis(200),
            address_lag: Duration::from_millis(100),
            supervisor_boot: Duration::from_millis(100),
            delete: Duration::from_millis(100),
            list_lag: Duration::from_secs(1),
            firewall_apply: Duration::from_millis(100),
            droplet_limit: 25,
            backend: DropletBackend::Task,
            missing_scopes: Vec::new(),
            retry_after: 1,
            heartbeat_interval: Duration::from_millis(200),
            connect_retry: Duration::from_millis(500),
            supervisor_restart: Duration::from_secs(1),
        }
    }
}

#[derive(Debug, Clone)]
pub enum DropletBackend {
    /// `EXE sandbox-droplet …` child processes: real processes, real signals.
    Process { exe: PathBuf },
    /// Tasks of this process, for tests that start hundreds.
    Task,
    /// Nothing runs: a machine that is on and was told to start a supervisor counts as alive.
    Nothing,
}

/// Milliseconds that freeing the listener may take.
const STOP_ATTEMPTS: u32 = 1_000;

/// The simulated account; clones are handles of the same one.
#[derive(Clone)]
pub struct DigitalOcean(Arc<Inner>);

struct Inner {
    options: DigitalOceanOptions,
    faults: Faults,
    address: SocketAddr,
    base_url: String,
    catalog: catalog::Catalog,
    state: Mutex<Simulation>,
    /// Something changed, so the next due time may be sooner.
    changed: Notify,
    stopped: CancellationToken,
}

struct Simulation {
    world: world::World,
    journal: journal::Journal,
    machines: machines::Machines,
}

impl DigitalOcean {
    /// Listens on a free port of 127.0.0.1. Must be called within a tokio runtime.
    pub async fn start(options: DigitalOceanOptions, faults: Faults) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let calendar = Calendar::starting(jiff::Timestamp::now());
        let account = Self::new(options, faults, calendar, address)?;
        tokio::spawn(server::serve(account.clone(), listener));
        tokio::spawn(account.clone().keep_time());
        Ok(account)
    }

    /// The same account without a listener: `carry` brings requests to it.
    pub fn in_memory(options: DigitalOceanOptions, faults: Faults, calendar: Calendar) -> io::Result<Self> {
        let options = DigitalOceanOptions { backend: DropletBackend::Nothing, ..options };
        Self::new(options, faults, calendar, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn new(options: DigitalOceanOptions, faults: Faults, calendar: Calendar, address: SocketAddr) -> io::Result<Self> {
        let simulation = Simulation {
            world: world::World::new(options.clone(), calendar),
            journal: journal::Journal::new(options.seed),
            machines: machines::Machines::new(&options)?,
        };
        Ok(Self(Arc::new(Inner {
            options,
            faults,
            address,
            base_url: format!("http://{address}"),
            catalog: catalog::Catalog::new(),
            state: Mutex::new(simulation),
            changed: Notify::new(),
            stopped: CancellationToken::new(),
        })))
    }

    pub fn base_url(&self) -> String {
        self.0.base_url.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Ends every machine and frees the listener; further requests are refused by the host.
    pub async fn stop(&self) {
        self.0.stopped.cancel();
        self.0.lock().machines.cut_all();
        // The listener is freed by its own task, which only has to be given the time for it.
        for _ in 0..STOP_ATTEMPTS {
            if tokio::net::TcpStream::connect(self.0.address).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets due things happen on time, even when nobody asks.
    async fn keep_time(self) {
        loop {
            let next = self.0.with(|state, _| state.world.next_event(), false);
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.0.changed.notified() => {}
                () = self.0.stopped.cancelled() => return,
            }
        }
    }
}

impl Inner {
    /// Every look at the account and every change of it: brings it up to now first, and afterwards
    /// does to the machines what came out of it.
    fn with<R>(&self, work: impl FnOnce(&mut Simulation, Instant) -> R, wakes: bool) -> R {
        let mut state = self.lock();
        let now = Instant::now();
        state.world.advance(now);
        let result = work(&mut state, now);
        state.move_machines(&self.options, self.stopped.is_cancelled());
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Simulation> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulation {
    fn move_machines(&mut self, options: &DigitalOceanOptions, is_stopped: bool) {
        for power in std::mem::take(&mut self.world.power) {
            match power {
                model::Power::Cut(id) => self.machines.cut(id),
                model::Power::On(_) if is_stopped => {}
                model::Power::On(id) => {
                    let Some(droplet) = self.world.droplets.get(&id) else {
                        continue;
                    };
                    let machine = Machine {
                        ip: droplet.ip,
                        user_data: droplet.user_data.to_string(),
                        heartbeat_interval: options.heartbeat_interval,
                        connect_retry: options.connect_retry,
                    };
                    self.machines.power_on(id, machine);
                }
            }
        }
    }
}
