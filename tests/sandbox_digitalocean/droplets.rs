//! The life of a droplet, and what the provider refuses.

use super::support::*;

#[tokio::test]
async fn a_created_droplet_gets_its_public_address_only_after_it_is_active() {
    let cloud = Cloud::with(|o| o.address_lag = Duration::from_millis(500)).await;
    let (status, created) = cloud.post("/v2/droplets", plain("one")).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(created["droplet"]["status"], "new");
    assert_eq!(created["droplet"]["networks"], json!({"v4": [], "v6": []}));
    assert!(created["droplet"].get("user_data").is_none());
    let id = created["droplet"]["id"].as_u64().expect("an id");
    let action = created["links"]["actions"][0]["id"].as_u64().expect("an action");
    assert_eq!(cloud.get(&format!("/v2/actions/{action}")).await.1["action"]["status"], "in-progress");

    let early = cloud.droplet_when(id, "active", |d| d["status"] == "active").await;
    assert_eq!(public(&early), None, "the public address lags behind");
    let ready = cloud.droplet_when(id, "public", |d| public(d).is_some()).await;
    assert_eq!(ready["networks"]["v4"][0]["type"], "private");
    assert_eq!(public(&ready), Some(cloud.ocean.droplets()[0].ip.to_string().as_str()));
    assert_eq!(cloud.get(&format!("/v2/actions/{action}")).await.1["action"]["status"], "completed");
    assert_eq!(cloud.ocean.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn names_are_not_unique_and_are_found_whatever_their_capitals() {
    let cloud = Cloud::start().await;
    let (one, two) = (cloud.create(plain("twin")).await, cloud.create(plain("twin")).await);
    assert_ne!(one, two);
    let (_, found) = cloud.get("/v2/droplets?name=TWIN").await;
    assert_eq!(found["meta"]["total"], 2);
    assert_eq!(cloud.get("/v2/droplets?tag_name=unknown").await.1["droplets"], json!([]));
    let (status, _) = cloud.get("/v2/droplets?name=twin&tag_name=ours").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(cloud.ocean.most_alive("ours"), 2);
}

#[tokio::test]
async fn a_deleted_droplet_stays_listed_and_locked_for_a_while() {
    let cloud = Cloud::with(|o| o.delete = Duration::from_millis(500)).await;
    let id = cloud.create(plain("one")).await;
    cloud.droplet_when(id, "active", |d| d["status"] == "active").await;
    let path = format!("/v2/droplets/{id}");
    assert_eq!(cloud.call(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(cloud.get(&path).await.1["droplet"]["locked"], true);
    eventually("removed", || cloud.ocean.droplets().is_empty()).await;
    assert_eq!(cloud.get(&path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(cloud.call(Method::DELETE, &path, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_action_is_refused_while_another_one_runs() {
    let cloud = Cloud::with(|o| o.boot = Duration::from_millis(500)).await;
    let id = cloud.create(plain("one")).await;
    let (status, body) = cloud.act(id, json!({"type": "reboot"})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["message"], "Droplet already has a pending event.");
}

#[tokio::test]
async fn a_droplet_is_resized_only_when_it_is_off() {
    let cloud = Cloud::start().await;
    let id = cloud.create(plain("one")).await;
    cloud.droplet_when(id, "active", |d| d["status"] == "active").await;
    let resize = json!({"type": "resize", "size": "s-4vcpu-8gb", "disk": false});
    assert_eq!(cloud.act(id, resize.clone()).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(cloud.act(id, json!({"type": "power_off"})).await.0, StatusCode::CREATED);
    cloud.droplet_when(id, "off", |d| d["status"] == "off").await;
    assert_eq!(cloud.act(id, resize).await.1["action"]["status"], "in-progress");
    cloud.droplet_when(id, "resized", |d| d["size_slug"] == "s-4vcpu-8gb").await;
}

#[tokio::test]
async fn what_the_provider_refuses_is_refused_in_its_words() {
    let cloud = Cloud::with(|o| o.droplet_limit = 1).await;
    let with = |name: &str, value: Value| {
        let mut body = plain("one");
        body[name] = value;
        body
    };
    assert!(cloud.refusal(with("name", json!("under_score"))).await.starts_with("Only valid hostname"));
    let image = cloud.refusal(with("image", json!("ubuntu-14"))).await;
    assert_eq!(image, "You specified an invalid image for Droplet creation.");
    assert_eq!(cloud.refusal(with("region", json!("nyc2"))).await, "Region is not available");
    assert!(cloud.refusal(with("size", json!("huge"))).await.contains("invalid size"));
    let sold_elsewhere = with("size", json!("s-16vcpu-32gb"));
    cloud
        .refusal({
            let mut b = sold_elsewhere;
            b["region"] = json!("lon1");
            b
        })
        .await;
    cloud.refusal(with("user_data", json!("x".repeat(64 * 1024 + 1)))).await;
    cloud.refusal(with("tags", json!(["a.b"]))).await;
    cloud.refusal(with("ssh_keys", json!([7]))).await;
    cloud.refusal(with("monitoring", json!("yes"))).await;
    cloud.refusal(json!({"name": "one"})).await;
    assert_eq!(cloud.ocean.droplets(), vec![]);
    cloud.create(plain("one")).await;
    let full = cloud.refusal(plain("two")).await;
    assert_eq!(full, "creating this/these droplet(s) will exceed your droplet limit");
}

#[tokio::test]
async fn an_unknown_field_is_ignored_but_remembered() {
    let cloud = Cloud::start().await;
    let mut body = plain("one");
    body["sise"] = json!("s-1vcpu-1gb");
    cloud.create(body).await;
    assert_eq!(cloud.ocean.violations(), ["POST /v2/droplets: unknown body field sise"]);
}

#[tokio::test]
async fn user_data_with_an_emoji_is_accepted_and_the_droplet_vanishes() {
    let cloud = Cloud::start().await;
    let mut body = plain("one");
    body["user_data"] = json!("#!/bin/sh\necho 🦀");
    let (status, created) = cloud.post("/v2/droplets", body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    eventually("vanished", || cloud.ocean.droplets().is_empty()).await;
    let action = &created["links"]["actions"][0]["id"];
    assert_eq!(cloud.get(&format!("/v2/actions/{action}")).await.1["action"]["status"], "errored");
}

#[tokio::test]
async fn foreign_droplets_are_counted_but_never_broken() {
    let cloud = Cloud::with(|o| o.droplet_limit = 2).await;
    let foreign = cloud.ocean.add_droplet("theirs", &["theirs"]).expect("a droplet");
    let ours = cloud.create(plain("ours")).await;
    let newest = cloud.ocean.add_droplet("newest", &[]).expect("a droplet");
    cloud.refusal(plain("two")).await;
    cloud.ocean.apply_break(Break::SizeChanged).expect("a break");
    assert_eq!(cloud.ocean.droplet(ours).expect("ours").size, "s-1vcpu-1gb");
    cloud.ocean.apply_break(Break::DropletDeleted).expect("a break");
    let left: Vec<u64> = cloud.ocean.droplets().iter().map(|d| d.id).collect();
    assert_eq!(left, [foreign, newest]);
    assert!(cloud.ocean.apply_break(Break::DropletDeleted).is_err());
}
