//! What comes in: ids of paths, queries and bodies, each refused with a problem that names what is wrong.

use crate::http::problem::Problem;
use crate::runs::names::{self, Refused};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The run of the path. What cannot be an id is the id of no run.
pub struct RunId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for RunId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<RunId, Problem> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(id) = path.map_err(|_| Problem::no_run())?;
        names::run_id(&id).map_err(|_| Problem::no_run())?;
        Ok(RunId(id))
    }
}

/// The kind of the path.
pub struct KindName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for KindName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<KindName, Problem> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(kind) = path.map_err(|_| Problem::invalid_field("kind", "must be text"))?;
        names::kind(&kind).map_err(|why| Problem::invalid_field("kind", why))?;
        Ok(KindName(kind))
    }
}

/// A body that is a JSON object; none at all, or null, is an empty one.
pub struct Body(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        let bytes: Result<Bytes, BytesRejection> = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => Problem::new(StatusCode::BAD_REQUEST, "incomplete", "the body did not arrive whole"),
        })?;
        if bytes.is_empty() {
            return Ok(Body(Map::new()));
        }
        let kind = kind.as_ref().map(|kind| kind.to_str().unwrap_or_default().to_ascii_lowercase());
        if kind.is_some_and(|kind| !kind.starts_with("application/json")) {
            let why = "send the body as content-type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", why));
        }
        object(&bytes).map(Body)
    }
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body may be 2 MiB at most")
}

/// Pure.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let malformed = |why: String| Problem::new(StatusCode::BAD_REQUEST, "malformed-json", why);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8".to_owned()))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Problem::invalid_field("body", "must be a JSON object")),
        Err(error) => Err(malformed(format!("the body is no JSON: {error}"))),
    }
}

/// `Idempotency-Key`, or another header whose value is a text.
pub fn text_header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Problem::invalid_field(name, "must be UTF-8"))?;
    if values.next().is_some() {
        return Err(Problem::invalid_field(name, "must be given once"));
    }
    Ok(Some(text.to_owned()))
}

/// The parameters of a query, taken one by one; what is left over at the end is unknown.
pub struct Query(BTreeMap<String, Vec<String>>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Problem> {
        Ok(Query::of(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn of(text: &str) -> Query {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            given.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Query(given)
    }

    /// Repeated, separated by commas, or both.
    pub fn texts(&mut self, name: &str, check: fn(&str) -> Result<(), Refused>) -> Result<Vec<String>, Problem> {
        let given = self.0.remove(name).unwrap_or_default();
        let texts = given.iter().flat_map(|value| value.split(',')).map(str::to_owned);
        texts.map(|text| check(&text).map(|()| text).map_err(|why| Problem::invalid_field(name, why))).collect()
    }

    pub fn text(&mut self, name: &str, check: fn(&str) -> Result<(), Refused>) -> Result<Option<String>, Problem> {
        let mut given = self.0.remove(name).unwrap_or_default();
        let Some(text) = given.pop() else { return Ok(None) };
        if !given.is_empty() {
            return Err(Problem::invalid_field(name, "must be given once"));
        }
        check(&text).map_err(|why| Problem::invalid_field(name, why))?;
        Ok(Some(text))
    }

    pub fn number(&mut self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Problem> {
        let Some(text) = self.text(name, |_| Ok(()))? else { return Ok(None) };
        let number = text.parse().ok().filter(|n| (least..=most).contains(n));
        let refused = || Problem::invalid_field(name, format!("must be a whole number from {least} to {most}"));
        number.ok_or_else(refused).map(Some)
    }

    pub fn end(self) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(100).collect();
                Err(Problem::invalid_field(&shown, "is no parameter of this route"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_be_repeated_or_separated_and_nothing_else_may() {
        let mut query = Query::of("status=queued,running&status=failed&limit=5&kind=a&kind=b&x=1");
        assert_eq!(query.texts("status", names::status).expect("texts"), ["queued", "running", "failed"]);
        assert_eq!(query.number("limit", 1, 200).expect("a number"), Some(5));
        assert!(query.text("kind", names::kind).is_err());
        assert!(query.end().is_err());
        assert!(Query::of("status=queued,").texts("status", names::status).is_err());
        for limit in ["", "0", "201", "-1", "1e2", "%00", "99999999999999999999"] {
            assert!(Query::of(&format!("limit={limit}")).number("limit", 1, 200).is_err(), "{limit}");
        }
    }

    #[test]
    fn only_an_object_in_utf_8_is_a_body() {
        assert!(object(b"{}").expect("an object").is_empty());
        for bytes in
            [&b"[]"[..], b"1", b"{", b"{} {}", b"\xff", b"{\"a\":\"\xc3\x28\"}", b"{\"a\":\"\\ud800\"}", b"nul"]
        {
            assert!(object(bytes).is_err(), "{bytes:?}");
        }
        assert!(object("[".repeat(100_000).as_bytes()).is_err());
    }
}
