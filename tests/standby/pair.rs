//! Two daemons for one world, on one folder or with a database for the lease.

use crate::road::Road;
use crate::support::program::Program;
use crate::support::{DEADLINE, World, eventually, quick};
use ops_controller::sandbox::Options;
use ops_controller::sandbox::postgres::{Cluster, ClusterOptions};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Long enough that a loaded machine does not lose it by itself.
pub const LEASE: Duration = Duration::from_secs(2);
/// For processes to be scheduled and a status to be asked for; no part of what is promised.
pub const SCHEDULING: Duration = Duration::from_millis(500);

/// Where the lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    Folder,
    /// And each daemon has a folder of its own.
    Database,
}

pub const HOMES: [Home; 2] = [Home::Folder, Home::Database];

pub struct Pair {
    pub world: World,
    pub home: Home,
    pub ops: Option<Cluster>,
}

/// One daemon, with its roads.
pub struct One {
    pub program: Program,
    pub ocean: Road,
    pub railway: Road,
    pub state_file: PathBuf,
}

impl Pair {
    pub async fn new(home: Home) -> Pair {
        Pair::with(home, quick()).await
    }

    pub async fn with(home: Home, options: Options) -> Pair {
        let mut world = World::booted_with(options).await;
        let lease = format!("{}ms", LEASE.as_millis());
        for (name, value) in [
            ("CHECK_INTERVAL", "1s"),
            ("PROGRESS_INTERVAL", "100ms"),
            ("CREATE_SETTLE", "2s"),
            ("SUPERVISOR_BOOT_DEADLINE", "10m"),
            ("LEASE_TIME", &lease),
        ] {
            world.set(name, value);
        }
        let ops = match home {
            Home::Folder => None,
            Home::Database => {
                let cluster = Cluster::create(ClusterOptions::default()).await.expect("a database for the lease");
                world.set("OPS_DATABASE_URL", &cluster.url());
                Some(cluster)
            }
        };
        Pair { world, home, ops }
    }

    pub async fn start(&mut self, name: &str) -> One {
        let state_file = match self.home {
            Home::Folder => self.world.state_file(),
            Home::Database => self.world.beside(name).join("state.json"),
        };
        self.start_at(name, state_file).await
    }

    pub async fn start_at(&mut self, name: &str, state_file: PathBuf) -> One {
        let (ocean, url) = Road::to(&self.world.sandbox.digitalocean.base_url()).await;
        self.world.set("DIGITALOCEAN_API_URL", &url);
        let (railway, url) = Road::to(&self.world.sandbox.railway.url()).await;
        self.world.set("RAILWAY_API_URL", &url);
        self.world.set("STATE_FILE", &state_file.display().to_string());
        let program = Program::start(&self.world, name);
        One { program, ocean, railway, state_file }
    }

    /// The first acts and has made everything healthy, the second stands by.
    pub async fn settled(&mut self) -> (One, One) {
        let first = self.start("first").await;
        first.until_healthy().await;
        let second = self.start("second").await;
        second.until_behind(1).await;
        (first, second)
    }

    pub async fn one_droplet(&self) {
        eventually("one droplet of ours", || self.world.our_only_id().is_some()).await;
        assert_eq!(self.world.most_alive(), 1, "two droplets of ours at once");
    }

    pub async fn stop(self) {
        self.world.assert_sound();
        self.world.stop().await;
    }
}

impl One {
    pub fn writes(&self) -> Vec<String> {
        [self.ocean.writes(), self.railway.writes()].concat()
    }

    pub async fn until_mode(&self, mode: &str) -> Value {
        self.program.until(mode, DEADLINE, |s| s["mode"] == mode).await
    }

    /// Standing by, and naming the holder of this epoch.
    pub async fn until_behind(&self, epoch: u64) -> Value {
        let holder = format!("(epoch {epoch}, since 20");
        let behind =
            |s: &Value| s["mode"] == "standby" && s["mode_reason"].as_str().is_some_and(|why| why.contains(&holder));
        self.program.until(&format!("behind epoch {epoch}"), DEADLINE, behind).await
    }

    pub async fn until_healthy(&self) -> Value {
        self.program.until("healthy", DEADLINE, |s| s["mode"] == "active" && s["healthy"] == true).await
    }

    /// From this moment on until it acts.
    pub async fn acts_after(&self, since: Instant) -> Duration {
        self.until_mode("active").await;
        since.elapsed()
    }

    pub async fn some_cycles_later(&self, cycles: u64) {
        let number = |s: &Value| s["cycle"]["number"].as_u64();
        let now = self.program.status().await.as_ref().and_then(number).unwrap_or_default();
        let later = |s: &Value| number(s).is_some_and(|n| n >= now + cycles);
        self.program.until("some cycles later", DEADLINE, later).await;
    }

    pub async fn assert_ready(&self) {
        assert_eq!(self.program.get("/readyz").await, Some(200));
        assert_eq!(self.program.get("/healthz").await, Some(200));
    }

    pub async fn ends_well(mut self) {
        self.program.signal(libc::SIGTERM);
        let status = self.program.ended(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(0), "{}", self.program.log());
    }
}
