//! Who is let in, and what every answer carries.

use super::support::*;

#[tokio::test]
async fn a_request_without_the_token_is_refused_and_every_answer_tells_the_rate() {
    let cloud = Cloud::start().await;
    let url = format!("{}/v2/droplets", cloud.ocean.base_url());
    let answer = cloud.client.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    for name in ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "x-request-id"] {
        assert!(answer.headers().contains_key(name), "{name}");
    }
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body, json!({"id": "unauthorized", "message": "Unable to authenticate you"}));
}

#[tokio::test]
async fn an_unknown_path_is_not_found_and_remembered_as_a_mistake() {
    let cloud = Cloud::start().await;
    let (status, body) = cloud.get("/v2/nonsense").await;
    assert_eq!((status, &body["id"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    assert_eq!(cloud.ocean.violations().len(), 1);
}

#[tokio::test]
async fn a_missing_scope_forbids_the_operation_or_hides_the_field() {
    let missing = ["droplet:delete", "tag:read", "account:read"].map(str::to_owned);
    let cloud = Cloud::with(|o| o.missing_scopes = missing.to_vec()).await;
    let id = cloud.create(plain("one")).await;
    let droplet = cloud.droplet_when(id, "active", |d| d["status"] == "active").await;
    assert!(droplet.get("tags").is_none(), "{droplet}");
    let (status, body) = cloud.call(Method::DELETE, &format!("/v2/droplets/{id}"), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["message"], "You are not authorized to perform this operation");
    assert_eq!(cloud.get("/v2/account").await.0, StatusCode::FORBIDDEN);
    assert_eq!(cloud.get("/v2/droplets?tag_name=ours").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn sizes_come_in_pages_linked_by_url() {
    let cloud = Cloud::start().await;
    let (_, first) = cloud.get("/v2/sizes").await;
    assert_eq!(first["sizes"].as_array().map(Vec::len), Some(20));
    let mut slugs = Vec::new();
    let mut url = format!("{}/v2/sizes?per_page=50", cloud.ocean.base_url());
    loop {
        let path = url.strip_prefix(&cloud.ocean.base_url()).expect("its own address");
        let (_, page) = cloud.get(path).await;
        let sizes = page["sizes"].as_array().expect("sizes").clone();
        slugs.extend(sizes.iter().map(|s| s["slug"].as_str().expect("a slug").to_owned()));
        match page["links"]["pages"]["next"].as_str() {
            Some(next) => next.clone_into(&mut url),
            None => break,
        }
    }
    assert!(slugs.len() > 120);
    assert_eq!(first["meta"]["total"], slugs.len());
    slugs.sort();
    slugs.dedup();
    assert_eq!(first["meta"]["total"], slugs.len());
    assert_eq!(cloud.get("/v2/sizes?per_page=201").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let (_, whole) = cloud.get("/v2/sizes?per_page=200").await;
    assert_eq!(whole["links"], json!({}));
    let wanted = |slug| whole["sizes"].as_array().and_then(|s| s.iter().find(|s| s["slug"] == slug).cloned());
    for (slug, price) in [("s-1vcpu-1gb", 6.0), ("s-2vcpu-2gb", 18.0), ("s-2vcpu-4gb", 24.0), ("s-4vcpu-8gb", 48.0)] {
        assert_eq!(wanted(slug).expect(slug)["price_monthly"], price);
    }
}

#[tokio::test]
async fn keys_may_be_listed_only_ten_times_a_minute() {
    let cloud = Cloud::start().await;
    for _ in 0..10 {
        assert_eq!(cloud.get("/v2/account/keys").await.0, StatusCode::OK);
    }
    assert_eq!(cloud.get("/v2/account/keys").await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids() {
    let (one, two) = (Cloud::start().await, Cloud::start().await);
    assert_eq!(one.create(plain("a")).await, two.create(plain("a")).await);
    assert_ne!(one.ocean.droplets()[0].ip, two.ocean.droplets()[0].ip);
}
