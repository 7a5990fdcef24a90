//! Supervisors as real processes with real signals.

use super::support::*;

fn process_is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

async fn with_processes() -> Cloud {
    let exe = env!("CARGO_BIN_EXE_ops-controller").into();
    Cloud::with(|o| o.backend = DropletBackend::Process { exe }).await
}

#[tokio::test]
async fn a_supervisor_may_be_a_real_process_that_ends_with_the_simulator() {
    let cloud = with_processes().await;
    let (webapp, url) = Webapp::start().await;
    let id = cloud.create(worker("one", &url, TOKEN, "0600")).await;
    cloud.healthy(id).await;
    eventually("a heartbeat", || webapp.count("heartbeat") >= 1).await;
    let pid = cloud.ocean.droplets()[0].pid.expect("a process");
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("arguments");
    assert!(arguments.contains("sandbox-droplet") && !arguments.contains(TOKEN));
    cloud.ocean.stop().await;
    assert!(!process_is_there(pid));
    assert!(cloud.send(Method::GET, "/v2/droplets", None).await.is_err());
}

#[tokio::test]
async fn a_process_that_dies_is_restarted_but_a_killed_supervisor_is_not() {
    let cloud = with_processes().await;
    let (_, url) = Webapp::start().await;
    let id = cloud.create(worker("one", &url, TOKEN, "0600")).await;
    cloud.healthy(id).await;
    let pid = cloud.ocean.droplets()[0].pid.expect("a process");
    let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(kill.expect("kill").success());
    eventually("restarted", || cloud.ocean.droplets()[0].pid.is_some_and(|p| p != pid)).await;
    cloud.healthy(id).await;
    cloud.ocean.kill_supervisor(id).expect("a droplet");
    assert_eq!(cloud.ocean.droplets()[0].pid, None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cloud.ocean.droplets()[0].pid, None);
    cloud.ocean.stop().await;
}

#[tokio::test]
async fn a_process_without_usable_user_data_ends_and_says_why() {
    let cloud = with_processes().await;
    let id = cloud.create(plain("one")).await;
    let has_said = || cloud.ocean.console(id).iter().any(|l| l.contains("no user-data"));
    eventually("said why", has_said).await;
    eventually("ended", || !cloud.ocean.droplets()[0].alive).await;
    cloud.ocean.stop().await;
}
