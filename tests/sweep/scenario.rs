//! What the controller is about when it is stopped: seven stories, each with its beginning, the
//! event that gives it something to do, and what must be true when it has been done.

use crate::compressed::driver::{Beginning, Broken, Deployment, End, TOKEN, is_settled, live};
use jiff::SignedDuration;
use ops_controller::clients::{Fence, Readers, Seam};
use ops_controller::controller::destroy::{self, Outcome};
use ops_controller::controller::status::Status;
use ops_controller::plan::state::State;
use ops_controller::sandbox::faults::Break;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Longer than every deadline, back-off and fuse together.
const PATIENCE: SignedDuration = SignedDuration::from_hours(6);
const ANOTHER_TOKEN: &str = "tr_wgt_Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2H1g0";

/// How long nothing may happen any more.
const QUIET: SignedDuration = SignedDuration::from_mins(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that is stopped.
    First,
    Next,
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// From an empty world.
    Create,
    /// The size was changed: a new droplet first, then the old one goes.
    Replace,
    /// The supervisor died; a reboot helps.
    Heal,
    /// The droplet was deleted in the web console.
    Gone,
    /// The database came back without its settings.
    RestartPostgres,
    /// The token was replaced, and no log shows the new one.
    Rotate,
    /// Everything of ours is torn down.
    Destroy,
    /// Creating was under way when it was decided to tear everything down.
    Abandon,
}

impl Scenario {
    pub const ALL: [Scenario; 8] = [
        Scenario::Create,
        Scenario::Replace,
        Scenario::Heal,
        Scenario::Gone,
        Scenario::RestartPostgres,
        Scenario::Rotate,
        Scenario::Destroy,
        Scenario::Abandon,
    ];

    fn begins_empty(self) -> bool {
        matches!(self, Scenario::Create | Scenario::Abandon)
    }

    /// Up to the moment in which there is something to do.
    pub async fn begin(self, deployment: &mut Deployment, healthy: &Beginning) -> Result<(), Broken> {
        if self.begins_empty() {
            return Ok(());
        }
        deployment.go_on_from(healthy).await;
        deployment.world.cloud().clear_requests();
        deployment.world.platform(|p, _| (p.restarts, p.restart_requests) = (0, 0));
        let id = deployment.our_only_id();
        let cloud = deployment.world.cloud();
        match self {
            Scenario::Replace => deployment.set("SUPERVISOR_SIZE", "s-4vcpu-8gb"),
            Scenario::Heal => cloud.kill_supervisor(id)?,
            Scenario::Gone => cloud.delete_by_hand(id)?,
            Scenario::RestartPostgres => deployment.world.platform(|p, _| p.lose_settings()),
            Scenario::Rotate => {
                deployment.world.platform(|p, _| p.lose_token(ANOTHER_TOKEN));
                deployment.lost_hash = Some(deployment.world.platform(|p, _| p.token_hash.clone()));
                deployment.set("ROTATE_LOST_TOKEN", "true");
            }
            Scenario::Create | Scenario::Abandon | Scenario::Destroy => {}
        }
        Ok(())
    }

    /// One life; a later one of another kind may follow it.
    pub async fn live(
        self,
        deployment: &Deployment,
        seam: Seam,
        killed: Arc<Notify>,
        which: Which,
    ) -> Result<End, Broken> {
        let last = Which::Last;
        match self {
            Scenario::Destroy => tear_down(deployment, seam, killed).await,
            Scenario::Abandon if which != Which::First => tear_down(deployment, seam, killed).await,
            _ if which == last => {
                let quiet = quiet_for(deployment, QUIET);
                live(deployment, seam, killed, PATIENCE, with_a_person(deployment, quiet)).await
            }
            _ => live(deployment, seam, killed, PATIENCE, with_a_person(deployment, is_settled)).await,
        }
    }

    /// In the end.
    pub async fn end(self, deployment: &Deployment) -> Result<(), Broken> {
        match self {
            Scenario::Destroy | Scenario::Abandon => {
                nothing_of_ours(deployment)?;
                tokio::time::sleep(Duration::from_secs(300)).await;
                return nothing_of_ours(deployment);
            }
            _ => {}
        }
        deployment.check_settled(&deployment.state())?;
        self.check_outcome(deployment)
    }

    fn check_outcome(self, deployment: &Deployment) -> Result<(), Broken> {
        let firewalls = deployment.world.cloud().firewalls().len();
        if firewalls != 1 {
            return Err(format!("{firewalls} firewalls in the end"));
        }
        let creates = deployment
            .world
            .cloud()
            .requests()
            .iter()
            .filter(|r| r.method == "POST" && r.path == "/v2/droplets" && r.status == 202)
            .count();
        let most = deployment.world.cloud().most_alive(&deployment.tag());
        match self {
            Scenario::Create | Scenario::Gone | Scenario::RestartPostgres if most > 1 => {
                Err(format!("{most} droplets at once where one was to be made"))
            }
            Scenario::Create | Scenario::Gone if creates > 1 => Err(format!("{creates} creates where one was needed")),
            Scenario::Replace if creates != 1 => Err(format!("{creates} creates for one replacement")),
            Scenario::Heal if creates > 1 => Err(format!("{creates} creates for one that died")),
            Scenario::RestartPostgres if creates > 0 => Err("a droplet was made for a restart".to_owned()),
            Scenario::Rotate if deployment.state().token.is_some_and(|t| t.value.expose() == TOKEN) => {
                Err("the lost token is still believed in".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Settled for so long: what was sent late has happened, and nothing came of it.
fn quiet_for(deployment: &Deployment, time: SignedDuration) -> impl FnMut(&Status, &State) -> bool {
    let world = deployment.world.clone();
    let mut since = None;
    move |status, state| {
        if !is_settled(status, state) {
            since = None;
            return false;
        }
        world.now().duration_since(*since.get_or_insert(world.now())) >= time
    }
}

/// Three lost restarts in a row are given to a person, who does it; not where one of them arrived.
fn with_a_person(
    deployment: &Deployment,
    mut enough: impl FnMut(&Status, &State) -> bool,
) -> impl FnMut(&Status, &State) -> bool {
    let world = deployment.world.clone();
    move |status, state| {
        if status.conditions.iter().any(|c| c.message.ends_with("restart the Postgres service in Railway by hand")) {
            world.platform(|p, now| (p.restart_requests == 0).then(|| p.ask_for_restart(now)));
        }
        enough(status, state)
    }
}

fn nothing_of_ours(deployment: &Deployment) -> Result<(), Broken> {
    deployment.check()?;
    let (ours, firewalls) = (deployment.ours(), deployment.world.cloud().firewalls());
    if ours.is_empty() && firewalls.is_empty() && !deployment.world.cloud().tags().contains(&deployment.tag()) {
        return Ok(());
    }
    Err(format!("left behind: {ours:?} {firewalls:?}"))
}

/// As the command does it, by a person who tries again when it fails.
async fn tear_down(deployment: &Deployment, seam: Seam, killed: Arc<Notify>) -> Result<End, Broken> {
    let seam = seam.with_outside(Arc::new(deployment.world.clone()));
    let deadline = deployment.world.now() + PATIENCE;
    let work = async {
        while let Err(why) = once(deployment, &seam).await {
            deployment.check()?;
            if deployment.world.now() > deadline {
                return Err(format!("never torn down: {why}"));
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Ok(End::Enough)
    };
    tokio::select! {
        biased;
        () = killed.notified() => Ok(End::Killed),
        () = deployment.world.died_in_flight() => Ok(End::Killed),
        done = work => done,
    }
}

async fn once(deployment: &Deployment, seam: &Seam) -> Result<(), String> {
    let (config, now, store) = (deployment.config(), deployment.world.now(), deployment.store(seam.clone()));
    let (mut state, _) = store.load(&deployment.tag(), now).map_err(|e| e.to_string())?;
    let writers = Readers::new(config, seam).map_err(|e| e.to_string())?.writers(&Fence::unguarded());
    let done = destroy::take_down(&writers, &config.desired, &mut state, now, |_| true).await;
    store.save(&state).await.map_err(|e| e.to_string())?;
    match done.map_err(|e| e.to_string())? {
        Outcome::Unsettled(why) => Err(why),
        _ => Ok(()),
    }
}

/// A switch of the simulated account that lasts.
pub fn lag(deployment: &Deployment, time: Duration) {
    deployment.world.faults().during(Break::ListLag, time);
}
