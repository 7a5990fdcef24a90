//! A server that repeats what it was sent, in its error's message and in its request's id.
//!
//! As it came, in other spellings, cut short, and so far back that a client which shortens the
//! message cuts through the middle of a secret.

use super::{Party, Sent, json_reply};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ops_controller::clients::http::Reply;
use reqwest::header::HeaderValue;
use serde_json::json;

/// Ways to say it; one after the other.
pub const WAYS: u64 = 6;

pub(super) fn reply(request: &Sent, way: u64) -> Reply {
    let headers: Vec<&str> = request.headers.values().filter_map(|v| v.to_str().ok()).collect();
    let headers = headers.join(" ");
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let said = match way % WAYS {
        0 => format!("what is this: {headers}"),
        // Near the token in a droplet's set-up.
        1 => body[body.find("tr_wgt_").map_or(0, |at| at.saturating_sub(40))..].to_owned(),
        2 => format!("{}{headers}", "a long preface, ".repeat(17)),
        3 => url::form_urlencoded::byte_serialize(headers.as_bytes()).collect(),
        4 => STANDARD.encode(&headers),
        _ => headers.chars().take(30).collect::<String>() + "…",
    };
    let mut reply = match request.party {
        Party::Railway => json_reply(200, &json!({"data": null, "errors": [{"message": said}]})),
        _ => json_reply(422, &json!({"id": "unprocessable_entity", "message": said})),
    };
    let id = HeaderValue::from_str(&headers).expect("it came as headers");
    reply.headers.insert("x-request-id", id);
    reply
}
