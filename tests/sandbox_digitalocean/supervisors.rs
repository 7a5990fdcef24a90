//! What runs on a droplet, and what the platform hears of it.

use super::support::*;

#[tokio::test]
async fn a_good_droplet_answers_health_connects_and_heartbeats() {
    let cloud = Cloud::start().await;
    let (webapp, url) = Webapp::start().await;
    let id = cloud.create(worker("one", &url, TOKEN, "0600")).await;
    cloud.healthy(id).await;
    eventually("three heartbeats", || webapp.count("POST /engine/v1/worker-actions/heartbeat") >= 3).await;
    assert_eq!(webapp.count("connect"), 1);
    assert_eq!(webapp.body("connect"), json!({"metadata": {"workerVersion": "4.5.8"}}));
    let half = json!({"used": 0.5, "available": 0.5});
    assert_eq!(webapp.body("heartbeat"), json!({"cpu": half, "memory": half, "tasks": []}));
    let ip = cloud.ocean.droplets()[0].ip;
    let other = cloud.client.get(format!("http://{ip}:8020/")).send().await.expect("an answer");
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_rejected_token_makes_a_crash_loop_with_short_windows_of_health() {
    let cloud = Cloud::start().await;
    let (webapp, url) = Webapp::start().await;
    let id = cloud.create(worker("one", &url, "tr_wgt_wrong", "0600")).await;
    eventually("crashed thrice", || webapp.count("connect") >= 3).await;
    assert_eq!(webapp.count("heartbeat"), 0);
    let console = cloud.ocean.console(id).join("\n");
    assert!(console.contains("Failed to connect: connect answered 401"), "{console}");
}

#[tokio::test]
async fn an_unreachable_webapp_is_tried_five_times_before_the_process_exits() {
    let cloud = Cloud::with(|o| o.connect_retry = Duration::from_millis(5)).await;
    let id = cloud.create(worker("one", "http://127.0.0.1:1", TOKEN, "0600")).await;
    let has_exited = || cloud.ocean.console(id).iter().any(|l| l.starts_with("supervisor exited"));
    eventually("exited", has_exited).await;
    let console = cloud.ocean.console(id);
    let attempts = console.iter().take_while(|l| !l.starts_with("supervisor exited"));
    assert_eq!(attempts.count(), 4, "{console:?}");
}

#[tokio::test]
async fn user_data_that_no_machine_would_run_leaves_the_droplet_active_and_silent() {
    let cloud = Cloud::start().await;
    let (webapp, url) = Webapp::start().await;
    let readable = cloud.create(worker("readable", &url, TOKEN, "0644")).await;
    let none = cloud.create(plain("none")).await;
    let elsewhere = cloud.create(worker("elsewhere", "http://192.0.2.1", TOKEN, "0600")).await;
    for (id, reason) in [(readable, "not 0600"), (none, "no user-data"), (elsewhere, "not on loopback")] {
        eventually(reason, || cloud.ocean.console(id).iter().any(|l| l.contains(reason))).await;
    }
    assert_eq!(cloud.ocean.droplet(readable).expect("a droplet").status, "active");
    assert_eq!(cloud.health(readable).await, None);
    assert_eq!(webapp.count(""), 0);
}

#[tokio::test]
async fn a_killed_supervisor_stays_dead_until_the_droplet_is_rebooted() {
    let cloud = Cloud::start().await;
    let (webapp, url) = Webapp::start().await;
    let id = cloud.create(worker("one", &url, TOKEN, "0600")).await;
    cloud.healthy(id).await;
    cloud.ocean.apply_break(Break::SupervisorKilled).expect("a break");
    assert!(!cloud.ocean.droplets()[0].alive);
    eventually("deaf", || !cloud.ocean.droplets()[0].alive).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(cloud.health(id).await, None);
    assert_eq!(cloud.act(id, json!({"type": "reboot"})).await.0, StatusCode::CREATED);
    cloud.healthy(id).await;
    eventually("connected again", || webapp.count("connect") == 2).await;
}

#[tokio::test]
async fn deleting_a_droplet_silences_its_supervisor() {
    let cloud = Cloud::start().await;
    let (_, url) = Webapp::start().await;
    let id = cloud.create(worker("one", &url, TOKEN, "0600")).await;
    cloud.healthy(id).await;
    let ip = cloud.ocean.droplets()[0].ip;
    cloud.call(Method::DELETE, &format!("/v2/droplets/{id}"), None).await;
    let answer = cloud.client.get(format!("http://{ip}:8020/health")).send().await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn hundreds_of_droplets_live_in_one_process() {
    let cloud = Cloud::with(|o| {
        o.droplet_limit = 500;
        o.heartbeat_interval = Duration::from_secs(60);
    })
    .await;
    let (webapp, url) = Webapp::start().await;
    for number in 0..200 {
        cloud.create(worker(&format!("w{number}"), &url, TOKEN, "0600")).await;
    }
    eventually("all connected", || webapp.count("connect") == 200).await;
    assert_eq!(cloud.ocean.most_alive("ours"), 200);
    cloud.ocean.stop().await;
    assert!(cloud.ocean.droplets().iter().all(|d| !d.alive));
}
