//! Firewalls and the tags that bind them.

use super::support::*;

fn rules() -> Value {
    json!({
        "name": "ours",
        "tags": ["ours"],
        "inbound_rules": [{"protocol": "tcp", "ports": "8020", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}}],
        "outbound_rules": [{"protocol": "icmp", "ports": "all", "destinations": {"addresses": ["0.0.0.0/0"]}}],
    })
}

#[tokio::test]
async fn a_firewall_names_only_tags_that_exist_and_has_a_name_of_its_own() {
    let cloud = Cloud::start().await;
    assert_eq!(cloud.post("/v2/firewalls", rules()).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(cloud.post("/v2/tags", json!({"name": "ours"})).await.0, StatusCode::CREATED);
    let (status, created) = cloud.post("/v2/firewalls", rules()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{created}");
    assert_eq!(created["firewall"]["outbound_rules"][0]["ports"], "0");
    let (status, body) = cloud.post("/v2/firewalls", rules()).await;
    assert_eq!((status, &body["message"]), (StatusCode::CONFLICT, &json!("duplicate name")));
}

#[tokio::test]
async fn a_firewall_is_pending_until_it_has_reached_its_droplets() {
    let cloud = Cloud::start().await;
    let id = cloud.create(plain("one")).await;
    let (_, created) = cloud.post("/v2/firewalls", rules()).await;
    assert_eq!(created["firewall"]["status"], "waiting");
    assert_eq!(created["firewall"]["pending_changes"][0]["droplet_id"], id);
    let path = format!("/v2/firewalls/{}", created["firewall"]["id"].as_str().expect("an id"));
    let deadline = Instant::now() + DEADLINE;
    while cloud.get(&path).await.1["firewall"]["status"] != "succeeded" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(cloud.get(&path).await.1["firewall"]["pending_changes"], json!([]));
}

#[tokio::test]
async fn a_put_replaces_the_whole_firewall() {
    let cloud = Cloud::start().await;
    cloud.post("/v2/tags", json!({"name": "ours"})).await;
    let (_, created) = cloud.post("/v2/firewalls", rules()).await;
    let path = format!("/v2/firewalls/{}", created["firewall"]["id"].as_str().expect("an id"));
    let mut partial = rules();
    for field in ["tags", "outbound_rules"] {
        partial.as_object_mut().expect("an object").remove(field);
    }
    assert_eq!(cloud.call(Method::PUT, &path, Some(partial)).await.0, StatusCode::OK);
    let firewall = &cloud.ocean.firewalls()[0];
    assert!(firewall.tags.is_empty() && firewall.outbound_rules.is_empty());
    cloud.ocean.edit_firewall_by_hand("ours", |f| f.inbound_rules.clear()).expect("a firewall");
    assert_eq!(cloud.get(&path).await.1["firewall"]["inbound_rules"], json!([]));
}

#[tokio::test]
async fn a_tag_with_bad_characters_is_refused_in_a_shape_of_its_own() {
    let cloud = Cloud::start().await;
    let (status, body) = cloud.post("/v2/tags", json!({"name": "a.b"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].is_string() && body["messages"].is_null() && body["root_causes"].is_array());
}

#[tokio::test]
async fn deleting_a_tag_takes_it_from_droplets_and_firewalls() {
    let cloud = Cloud::start().await;
    let id = cloud.create(plain("one")).await;
    cloud.post("/v2/tags", json!({"name": "intent:1"})).await;
    let resources = json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    let (status, _) = cloud.post("/v2/tags/intent%3A1/resources", resources).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(cloud.ocean.droplets()[0].tags, ["ours", "intent:1"]);
    assert_eq!(cloud.get("/v2/tags/intent:1").await.1["tag"]["resources"]["droplets"]["count"], 1);
    cloud.post("/v2/firewalls", rules()).await;
    for tag in ["ours", "intent:1"] {
        assert_eq!(cloud.call(Method::DELETE, &format!("/v2/tags/{tag}"), None).await.0, StatusCode::NO_CONTENT);
    }
    assert!(cloud.ocean.droplets()[0].tags.is_empty());
    assert!(cloud.ocean.firewalls()[0].tags.is_empty());
}
