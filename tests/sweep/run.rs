//! Runs one schedule in a world of its own: a first life that is stopped, others until all is well.

use crate::compressed::World;
use crate::compressed::driver::{Beginning, Broken, Deployment, End, Trace, compressed, tracing};
use crate::compressed::trouble::Calls;
use crate::scenario::{Scenario, Which, lag};
use crate::schedule::{Cut, Schedule, Ways, When};
use jiff::SignedDuration;
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const LAG: Duration = Duration::from_secs(60);
/// How long a full disk stays full.
const FULL: Duration = Duration::from_secs(35);
/// Lags end some time; the controller trusts a list no longer than this.
const LAGGING: Duration = Duration::from_secs(240);

/// The points of every scenario, without any trouble.
pub fn ways(healthy: &Beginning) -> Ways {
    Scenario::ALL.iter().map(|scenario| way(*scenario, healthy)).collect()
}

fn way(scenario: Scenario, healthy: &Beginning) -> Vec<Point> {
    compressed(async {
        let trace = Trace::default();
        let mut deployment = Deployment::new(1, LAG);
        scenario.begin(&mut deployment, healthy).await.expect("a beginning");
        let end = scenario.live(&deployment, tracing(trace.clone()), Arc::default(), Which::First).await;
        assert_eq!(end, Ok(End::Enough), "{scenario:?} without trouble");
        let end = scenario.live(&deployment, Seam::default(), Arc::default(), Which::Last).await;
        assert_eq!(end, Ok(End::Enough), "{scenario:?} without trouble");
        scenario.end(&deployment).await.expect("a good end");
        trace.lock().expect("the trace").clone()
    })
}

/// `Err` says which promise was broken.
pub fn run(schedule: &Schedule, healthy: &Beginning) -> Result<(), Broken> {
    compressed(story(schedule, healthy))
}

async fn story(schedule: &Schedule, healthy: &Beginning) -> Result<(), Broken> {
    let scenario = schedule.scenario;
    let mut deployment = Deployment::new(1, schedule.list_lag.unwrap_or(LAG));
    scenario.begin(&mut deployment, healthy).await?;
    let fate = Fate::new(schedule, &deployment);
    let seam = fate.seam();
    let end = scenario.live(&deployment, seam, fate.killed.clone(), Which::First).await;
    fate.repair_disk();
    if end? == End::Killed {
        fate.damage_disk();
        after_a_death(&deployment, schedule)?;
        tokio::time::sleep(schedule.away).await;
    }
    if let Some(at) = schedule.again {
        let (seam, killed) = stopped_at(at);
        if scenario.live(&deployment, seam, killed, Which::Next).await? == End::Killed {
            deployment.check_token()?;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    scenario.live(&deployment, Seam::default(), Arc::default(), Which::Last).await?;
    scenario.end(&deployment).await
}

/// What the next life will meet.
fn after_a_death(deployment: &Deployment, schedule: &Schedule) -> Result<(), Broken> {
    deployment.check()?;
    deployment.check_token()?;
    if let Some(time) = schedule.list_lag {
        // Only what happened up to now is hidden, and only for so long.
        lag(deployment, time.max(schedule.away) + LAGGING.min(time * 2));
    }
    if let Some((trouble, when)) = schedule.trouble {
        let until = |time| deployment.world.now() + SignedDuration::try_from(schedule.away + time).expect("short");
        let calls = match when {
            When::ThatCall => return Ok(()),
            When::Next(party, n) => Calls::Next(party, n),
            When::Writes(n) => Calls::Writes(n),
            When::For(time) => Calls::Until(until(time)),
            When::LooksAtDropletsFor(time) => Calls::LooksAtDroplets(until(time)),
            When::ReadsFor(party, time) => Calls::Reads(party, until(time)),
        };
        deployment.world.orders(|orders| orders.push(trouble, calls));
    }
    Ok(())
}

/// A seam that stops the program at one point.
fn stopped_at(at: usize) -> (Seam, Arc<Notify>) {
    let (killed, count) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let told = killed.clone();
    let seam = Seam::new(move |_| {
        let is_it = count.fetch_add(1, Ordering::SeqCst) == at;
        let told = told.clone();
        async move {
            if is_it {
                told.notify_one();
                std::future::pending::<()>().await;
            }
        }
    });
    (seam, killed)
}

/// What awaits the first life.
struct Fate {
    schedule: Schedule,
    killed: Arc<Notify>,
    world: World,
    disk: Disk,
}

/// The state file and its backup, where they exist.
type Before = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The state's folder, and what it was before the last write.
#[derive(Clone)]
struct Disk {
    state: PathBuf,
    before: Arc<Mutex<Before>>,
    is_full: Arc<AtomicBool>,
}

impl Fate {
    fn new(schedule: &Schedule, deployment: &Deployment) -> Fate {
        let disk = Disk { state: deployment.state_file(), before: Arc::default(), is_full: Arc::default() };
        Fate { schedule: schedule.clone(), killed: Arc::default(), world: deployment.world.clone(), disk }
    }

    fn seam(&self) -> Seam {
        let (schedule, killed, world, disk) =
            (self.schedule.clone(), self.killed.clone(), self.world.clone(), self.disk.clone());
        let count = AtomicUsize::new(0);
        Seam::new(move |point| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            if point == Point::BeforeWrite {
                disk.remember();
            }
            if let Some((trouble, When::ThatCall)) = schedule.trouble
                && n == schedule.call
            {
                world.orders(|orders| orders.push(trouble, Calls::Any(1)));
            }
            let is_fatal = n == schedule.at && meets(schedule.cut, &world, &disk);
            let killed = killed.clone();
            async move {
                if is_fatal {
                    killed.notify_one();
                    std::future::pending::<()>().await;
                }
            }
        })
    }

    fn damage_disk(&self) {
        match self.schedule.cut {
            // Without a backup the program refuses to go on, and a person has to look.
            Cut::Torn if backup(&self.disk.state).exists() => {
                let text = fs::read(&self.disk.state).unwrap_or_default();
                fs::write(&self.disk.state, &text[..text.len() / 2]).expect("torn");
            }
            Cut::LostRename => self.disk.undo(),
            _ => {}
        }
    }

    fn repair_disk(&self) {
        self.disk.has_room();
    }
}

/// What happens at the point; true when the program is stopped there.
fn meets(cut: Cut, world: &World, disk: &Disk) -> bool {
    match cut {
        Cut::Stop | Cut::Torn | Cut::LostRename => true,
        Cut::GoOn => false,
        Cut::InFlight => {
            world.let_the_next_call_die_in_flight();
            false
        }
        Cut::DiskFull => {
            disk.fill();
            let disk = disk.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FULL).await;
                disk.has_room();
            });
            false
        }
    }
}

impl Disk {
    fn remember(&self) {
        *self.before.lock().expect("the disk") = (fs::read(&self.state).ok(), fs::read(backup(&self.state)).ok());
    }

    fn undo(&self) {
        let (state, before) = self.before.lock().expect("the disk").clone();
        for (path, content) in [(self.state.clone(), state), (backup(&self.state), before)] {
            match content {
                Some(content) => fs::write(path, content).expect("written"),
                None => drop(fs::remove_file(path)),
            }
        }
    }

    /// A file stands where the folder was: nothing can be written there.
    fn fill(&self) {
        let folder = self.state.parent().expect("a folder");
        fs::rename(folder, aside(folder)).expect("moved");
        fs::write(folder, "full").expect("written");
        self.is_full.store(true, Ordering::SeqCst);
    }

    fn has_room(&self) {
        if self.is_full.swap(false, Ordering::SeqCst) {
            let folder = self.state.parent().expect("a folder");
            fs::remove_file(folder).expect("removed");
            fs::rename(aside(folder), folder).expect("moved back");
        }
    }
}

fn backup(state: &Path) -> PathBuf {
    state.with_file_name("state.json.bak")
}

fn aside(folder: &Path) -> PathBuf {
    folder.with_file_name("aside")
}

pub struct Failure {
    pub schedule: Schedule,
    pub why: String,
}

/// Runs the first `count` schedules on all cores.
pub fn first(count: u64, ways: &Ways, healthy: &Beginning) -> Vec<Failure> {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= count {
                return;
            }
            let schedule = Schedule::of(number, ways);
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| run(&schedule, healthy)));
            let done = done.unwrap_or_else(|_| Err("it panicked, see above".to_owned()));
            if let Err(why) = done {
                failures.lock().expect("the list").push(Failure { schedule, why });
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    failures.into_inner().expect("the list")
}
