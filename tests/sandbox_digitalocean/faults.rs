//! Trouble on purpose: what it does, and above all what it has done.

use super::support::*;

#[tokio::test]
async fn a_create_whose_answer_is_lost_has_created_the_droplet() {
    let cloud = Cloud::start().await;
    cloud.faults.next_requests(Break::CreateResponseLost, 1);
    let lost = cloud.send(Method::POST, "/v2/droplets", Some(plain("one"))).await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(cloud.get("/v2/droplets?name=one").await.1["meta"]["total"], 1);
    assert_eq!(cloud.ocean.most_alive("ours"), 1);
}

#[tokio::test]
async fn a_create_that_times_out_at_the_gateway_has_created_the_droplet() {
    let cloud = Cloud::start().await;
    cloud.faults.next_requests(Break::Create504, 1);
    let answer = cloud.send(Method::POST, "/v2/droplets", Some(plain("one"))).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(answer.text().await.expect("a page").starts_with("<!DOCTYPE html>"));
    assert_eq!(cloud.ocean.droplets().len(), 1);
}

#[tokio::test]
async fn a_rate_limited_or_broken_gateway_does_nothing() {
    let cloud = Cloud::with(|o| o.retry_after = 7).await;
    cloud.faults.next_requests(Break::RateLimited, 1);
    let answer = cloud.send(Method::POST, "/v2/droplets", Some(plain("one"))).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.headers()["ratelimit-remaining"], "0");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body, json!({"id": "Too Many Requests", "message": "Too many requests"}));
    cloud.faults.next_requests(Break::Html502, 1);
    assert_eq!(cloud.post("/v2/droplets", plain("one")).await, (StatusCode::BAD_GATEWAY, Value::Null));
    assert_eq!(cloud.ocean.droplets(), vec![]);
}

#[tokio::test]
async fn a_failing_list_does_not_fail_other_reads() {
    let cloud = Cloud::start().await;
    let id = cloud.create(plain("one")).await;
    cloud.faults.during(Break::DropletListFailing, Duration::from_secs(60));
    let (status, body) = cloud.get("/v2/droplets?tag_name=ours").await;
    assert_eq!((status, &body["id"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("server_error")));
    assert_eq!(cloud.get(&format!("/v2/droplets/{id}")).await.0, StatusCode::OK);
    cloud.faults.clear(Break::DropletListFailing);
    assert_eq!(cloud.get("/v2/droplets?tag_name=ours").await.0, StatusCode::OK);
}

#[tokio::test]
async fn while_lists_lag_the_new_are_missing_and_the_deleted_still_shown() {
    let cloud = Cloud::with(|o| o.list_lag = Duration::from_millis(700)).await;
    let old = cloud.create(plain("old")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    cloud.faults.during(Break::ListLag, Duration::from_secs(60));
    let new = cloud.create(plain("new")).await;
    cloud.ocean.delete_by_hand(old).expect("a droplet");
    assert_eq!(cloud.get(&format!("/v2/droplets/{new}")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(cloud.get("/v2/droplets?name=new").await.1["meta"]["total"], 0);
    let (_, listed) = cloud.get("/v2/droplets?tag_name=ours").await;
    assert_eq!(listed["droplets"][0]["id"], old);
    assert_eq!(listed["meta"]["total"], 1);
    let truth: Vec<u64> = cloud.ocean.droplets().iter().map(|d| d.id).collect();
    assert_eq!(truth, [new]);
    cloud.droplet_when(new, "visible", |d| d["id"] == new).await;
    assert_eq!(cloud.get(&format!("/v2/droplets/{old}")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_droplet_that_never_becomes_healthy_is_active_all_the_same() {
    let cloud = Cloud::start().await;
    let (webapp, url) = Webapp::start().await;
    cloud.faults.next_requests(Break::NewDropletNeverHealthy, 1);
    let sick = cloud.create(worker("sick", &url, TOKEN, "0600")).await;
    let well = cloud.create(worker("well", &url, TOKEN, "0600")).await;
    cloud.healthy(well).await;
    cloud.droplet_when(sick, "public", |d| public(d).is_some()).await;
    assert_eq!(cloud.health(sick).await, None);
    assert_eq!(webapp.count("connect"), 1);
}
