//! The list of figures: their names, units and targets. The README's table is held to it by a test.

/// What is promised of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Measured for comparison only.
    None,
    AtMost(f64),
    /// Of the figure to what it is compared with in the same run.
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub means: &'static str,
    pub target: Target,
}

const fn figure(name: &'static str, unit: &'static str, target: Target, means: &'static str) -> Figure {
    Figure { name, unit, means, target }
}

/// In the order of the table.
pub const FIGURES: [Figure; 25] = [
    figure(
        "log_scan",
        "MB/s",
        Target::RatioAtLeast(2.0),
        "search of 200 MB of raw log pages for the worker token, whole process",
    ),
    figure("plan_1", "ms", Target::None, "digest and plan with 1 foreign droplet listed, p99"),
    figure("plan_100", "ms", Target::None, "the same with 100, p99"),
    figure("plan_10000", "ms", Target::AtMost(10.0), "the same with 10,000, p99"),
    figure("cold_start", "ms", Target::AtMost(50.0), "from exec of `run` to the first 200 of /healthz, slowest of all"),
    figure(
        "idle",
        "MB",
        Target::AtMost(16.0),
        "resident memory of a healthy daemon after a minute at the default pace",
    ),
    figure("status_rps", "requests/s", Target::RatioAtLeast(1.0), "GET /status, 64 connections"),
    figure("status_p99", "ms", Target::RatioAtMost(1.0), "99th percentile of its latency in the same runs"),
    figure("cycle", "ms", Target::None, "a healthy cycle over real HTTP and SQL, p50"),
    figure("requests_digitalocean", "requests", Target::AtMost(1.2), "to DigitalOcean for each healthy cycle"),
    figure("requests_railway", "requests", Target::AtMost(1.0), "to Railway for each healthy cycle"),
    figure("sweep_rate", "schedules/s", Target::None, "the crash sweep in a release build, both cores"),
    figure(
        "drain",
        "runs/s",
        Target::RatioAtLeast(1.9),
        "20,000 queued runs through one runner process, events and history kept, fsync on",
    ),
    figure("drain_memory", "MB", Target::AtMost(20.0), "the peak of that process's resident memory"),
    figure("steady", "runs/s", Target::RatioAtLeast(0.2), "single adds, 4 in flight, while a runner works"),
    figure(
        "one_at_a_time",
        "runs/s",
        Target::RatioAtLeast(0.8),
        "claim_next_run and finish_run, one run at a time, 8 connections",
    ),
    figure("claim", "ms", Target::AtMost(10.0), "a claim from 400,000 queued runs, p99, cold plans included"),
    figure("claim_growth", "ms", Target::RatioAtMost(2.0), "the median of it"),
    figure("pickup_p50", "ms", Target::RatioAtMost(1.3), "from before the add to the start on an idle runner, p50"),
    figure("pickup_p99", "ms", Target::RatioAtMost(1.3), "the same, p99"),
    figure("pickup_unheard", "ms", Target::AtMost(1100.0), "the same while nothing is heard, slowest of 10"),
    figure(
        "nothing_lost",
        "runs",
        Target::AtMost(0.0),
        "runs lost or done twice of 20,000, three runners killed or frozen in turn",
    ),
    figure("nothing_lost_restart", "runs", Target::AtMost(0.0), "the same while PostgreSQL restarts"),
    figure("binary_size", "bytes", Target::AtMost(15_000_000.0), "the release binary, stripped"),
    figure("image_size", "bytes", Target::None, "the container image, where a docker engine exists"),
];

impl Figure {
    pub fn named(name: &str) -> Option<&'static Figure> {
        FIGURES.iter().find(|figure| figure.name == name)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::None => write!(f, "none"),
            Target::AtMost(limit) => write!(f, "at most {limit}"),
            Target::RatioAtLeast(1.0) => write!(f, "no less than compared"),
            Target::RatioAtMost(1.0) => write!(f, "no more than compared"),
            Target::RatioAtLeast(ratio) => write!(f, "at least {ratio} × compared"),
            Target::RatioAtMost(ratio) => write!(f, "at most {ratio} × compared"),
        }
    }
}
