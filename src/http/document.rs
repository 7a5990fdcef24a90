//! The OpenAPI document, made from the routes themselves, at `/openapi.json`.

use super::problem::{CONTENT_TYPE, Problem, ProblemBody};
use axum::body::Bytes;
use axum::extract::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "ops-controller", description = "The controller's status, and durable runs."),
    components(schemas(ProblemBody<'static>)),
    tags(
        (name = "controller", description = "How the platform stands."),
        (name = "runs", description = "Durable runs; tokens: `ops-controller token create`."),
    )
)]
struct Api;

pub fn begin() -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components.get_or_insert_default().add_security_scheme("bearer", bearer);
    api
}

pub fn api() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(openapi))
}

/// The document as it is sent; `None`: it cannot be written.
#[derive(Clone)]
pub struct Document(Option<Bytes>);

impl Document {
    pub fn of(api: &utoipa::openapi::OpenApi) -> Document {
        Document(serde_json::to_vec(api).ok().map(Bytes::from))
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "controller", responses((status = 200, body = Object)))]
async fn openapi(Extension(Document(text)): Extension<Document>) -> Response {
    match text {
        Some(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        None => Problem::internal("the document cannot be written").into_response(),
    }
}

/// Adds the problems that every route of its sort can answer with.
pub fn refusals(api: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let is_ops = path.starts_with("/ops") || path.starts_with("/functions");
        let PathItem { get, post, .. } = item;
        if let Some(operation) = get {
            add(operation, &[("503", "it cannot be answered now")]);
            add(operation, &[("404", "there is no such thing")]);
        }
        if let Some(operation) = post {
            add(operation, &[("401", NEEDS_TOKEN), ("403", "the token, or the address, does not allow it")]);
            add(
                operation,
                &[("409", "it is not in a state in which that is possible"), ("413", "the body is too large")],
            );
            add(operation, &[("503", "it cannot be answered now; see Retry-After")]);
        }
        for operation in [get, post].into_iter().flatten().filter(|_| is_ops) {
            add(
                operation,
                &[("401", NEEDS_TOKEN), ("403", "the token lacks the scope"), ("404", "there is no such thing")],
            );
            add(operation, &[("400", "it cannot be read"), ("415", "the body is no JSON"), ("422", "it is refused")]);
        }
    }
}

const NEEDS_TOKEN: &str = "a bearer token is needed";

fn add(operation: &mut Operation, refusals: &[(&str, &str)]) {
    for (status, description) in refusals {
        let content = Content::new(Some(RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"))));
        let response = ResponseBuilder::new().description(*description).content(CONTENT_TYPE, content).build();
        operation.responses.responses.entry((*status).to_owned()).or_insert(RefOr::T(response));
    }
}
