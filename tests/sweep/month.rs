//! A month in one process: troubles come and go, and nothing grows.
//!
//! Time is compressed; the controller is the real one. Held every hour: open files, tasks, what the
//! providers were asked, and that no counter ever falls. Held every day: memory.

use crate::compressed::driver::{Deployment, Life, compressed as in_compressed_time, is_settled};
use crate::compressed::trouble::{Calls, Party, Trouble};
use crate::compressed::{Counts, World};
use crate::dice::Dice;
use jiff::{SignedDuration, Timestamp};
use ops_controller::clients::Seam;
use ops_controller::telemetry::metrics;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const DAYS: u32 = 30;
/// Caches, the log of requests and the allocator have found their size by then.
const WARM_DAYS: u32 = 5;
const MEMORY_MAY_GROW_KB: u64 = 2 * 1024;
/// Railway's smallest plan, and DigitalOcean's limit.
const RAILWAY_AN_HOUR: u64 = 1_000;
const DIGITALOCEAN_AN_HOUR: u64 = 5_000;

const NAME: &str = "month::a_month_of_troubles_leaves_nothing_behind";
const IN_ITS_OWN_PROCESS: &str = "MONTH_IN_ITS_OWN_PROCESS";

/// Memory and open files are a process's, so this one has a process of its own.
#[test]
fn a_month_of_troubles_leaves_nothing_behind() {
    if std::env::var_os(IN_ITS_OWN_PROCESS).is_some() {
        return live();
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    let output = child.args(["--exact", NAME, "--nocapture"]).env(IN_ITS_OWN_PROCESS, "1").output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "the month failed:\n{said}");
    println!("{said}");
}

fn live() {
    let metrics = metrics::install();
    in_compressed_time(async {
        let deployment = Deployment::new(1, Duration::from_secs(60));
        let mut life = deployment.open(Seam::default());
        let mut chance = Dice(42);
        let mut ledger = Ledger::new(&deployment.world);
        for day in 1..=DAYS {
            for _ in 0..24 {
                stir(&deployment, &mut chance, day == DAYS);
                an_hour(&mut life, &deployment).await;
                ledger.hour(&deployment.world, &metrics.render());
            }
            deployment.world.cloud().clear_requests();
            ledger.day(day);
        }
        let status = life.now();
        assert!(is_settled(&status, life.controller.state()), "the last day was quiet: {:?}", status.conditions);
        deployment.check_settled(life.controller.state()).expect("one droplet, and nothing open");
        ledger.report();
    });
}

/// Cycles at the controller's own pace; each is checked against the truth.
async fn an_hour(life: &mut Life, deployment: &Deployment) {
    let end = deployment.world.now() + SignedDuration::from_hours(1);
    while deployment.world.now() < end {
        let pause = life.cycle(deployment).await.unwrap_or_else(|why| panic!("{} at {}", why, deployment.world.now()));
        tokio::time::sleep(pause).await;
    }
}

/// Something happens in most hours.
fn stir(deployment: &Deployment, chance: &mut Dice, is_quiet: bool) {
    let world = &deployment.world;
    if is_quiet {
        return world.orders(|orders| orders.clear());
    }
    let newest = deployment.ours().last().map(|d| d.id);
    match (chance.below(12), newest) {
        (0, Some(id)) => world.cloud().kill_supervisor(id).expect("killed"),
        (1, Some(id)) if chance.below(3) == 0 => world.cloud().delete_by_hand(id).expect("deleted"),
        (2, Some(id)) if chance.below(3) == 0 => world.cloud().resize_by_hand(id, "s-4vcpu-8gb").expect("resized"),
        (3, _) => world.platform(|p, now| p.down_until = Some(now + SignedDuration::from_mins(7))),
        (4, _) if chance.below(4) == 0 => world.platform(|p, _| {
            p.lose_settings();
            (p.restarts, p.restart_requests) = (0, 0);
        }),
        _ => {}
    }
    let trouble = Trouble::ALL[chance.below(Trouble::ALL.len())];
    let until = world.now() + SignedDuration::from_secs([20, 300, 1800][chance.below(3)]);
    let calls = match chance.below(5) {
        0 => Calls::Next(Party::Railway, 3),
        1 => Calls::Next(Party::DigitalOcean, 3),
        2 => Calls::Writes(1),
        3 => Calls::Until(until),
        _ => return,
    };
    world.orders(|orders| {
        orders.clear();
        orders.push(trouble, calls);
    });
}

/// What was seen hour by hour.
struct Ledger {
    counts: Counts,
    counters: BTreeMap<String, f64>,
    files: usize,
    tasks: usize,
    most: (u64, u64),
    memory_kb: Vec<u64>,
    begun: Timestamp,
}

impl Ledger {
    fn new(world: &World) -> Ledger {
        Ledger {
            counts: world.counts(),
            counters: BTreeMap::new(),
            files: 0,
            tasks: 0,
            most: (0, 0),
            memory_kb: Vec::new(),
            begun: world.now(),
        }
    }

    fn hour(&mut self, world: &World, metrics: &str) {
        let counts = world.counts();
        let railway = counts.railway - self.counts.railway;
        let digitalocean = counts.digitalocean - self.counts.digitalocean;
        self.most = (self.most.0.max(railway), self.most.1.max(digitalocean));
        assert!(railway <= RAILWAY_AN_HOUR, "{railway} requests to Railway within an hour");
        assert!(digitalocean <= DIGITALOCEAN_AN_HOUR, "{digitalocean} requests to DigitalOcean within an hour");
        self.counts = counts;
        for (name, value) in counters(metrics) {
            let before = self.counters.insert(name.clone(), value).unwrap_or(0.0);
            assert!(value >= before, "{name} fell from {before} to {value}");
        }
        let (files, tasks) = (open_files(), tokio::runtime::Handle::current().metrics().num_alive_tasks());
        if self.files == 0 {
            (self.files, self.tasks) = (files, tasks);
        }
        assert_eq!(files, self.files, "open files");
        // A request whose answer was lost may still be under way in the world.
        assert!(tasks <= self.tasks + 2, "{tasks} tasks, {} in the first hour", self.tasks);
    }

    fn day(&mut self, day: u32) {
        let now = memory_kb();
        self.memory_kb.push(now);
        if day > WARM_DAYS {
            let warm = self.memory_kb[WARM_DAYS as usize - 1];
            assert!(now <= warm + MEMORY_MAY_GROW_KB, "memory on day {day}: {now} kB, on day {WARM_DAYS}: {warm} kB");
        }
    }

    fn report(&self) {
        assert!(!self.counters.is_empty(), "there are counters to watch");
        println!(
            "{DAYS} days since {}: {:?} kB, {} open files, at most {} requests to Railway and {} to DigitalOcean an hour",
            self.begun, self.memory_kb, self.files, self.most.0, self.most.1
        );
    }
}

/// Every sample of every counter.
fn counters(metrics: &str) -> Vec<(String, f64)> {
    let is_counter =
        |line: &&str| !line.starts_with('#') && line.split(['{', ' ']).next().is_some_and(|n| n.ends_with("_total"));
    let sample =
        |line: &str| line.rsplit_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    metrics.lines().filter(is_counter).filter_map(sample).collect()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list").count()
}

fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let kb = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a line");
        line.split_whitespace().next().expect("a number").parse().expect("a number")
    };
    // Pages of files come and go as the kernel likes.
    kb("RssAnon:") + kb("VmSwap:")
}
