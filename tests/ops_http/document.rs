//! The served OpenAPI document, and what answers are held against it.

use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub struct Document {
    pub api: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Document {
    pub fn new(api: Value) -> Document {
        Document { api, validators: Mutex::default() }
    }

    /// The template that a path follows, as the document spells it.
    pub fn template(&self, path: &str) -> Option<&str> {
        let path = path.split('?').next().unwrap_or_default();
        let fits = |template: &&String| {
            let (parts, given): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
            parts.len() == given.len()
                && parts.iter().zip(given).all(|(part, given)| part.starts_with('{') || *part == given)
        };
        let paths = self.api["paths"].as_object().expect("paths");
        paths.keys().filter(fits).min_by_key(|template| template.matches('{').count()).map(String::as_str)
    }

    pub fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let operation = &self.api["paths"][self.template(path)?][method.to_lowercase()];
        operation.is_object().then_some(operation)
    }

    pub fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().expect("no test panics here");
        let make = || {
            let mut whole = schema.clone();
            whole["components"] = self.api["components"].clone();
            Arc::new(jsonschema::options().should_validate_formats(true).build(&whole).expect("a schema"))
        };
        validators.entry(schema.to_string()).or_insert_with(make).clone()
    }

    /// Whether an answer is one that the document has for this request.
    pub fn hold(&self, method: &str, path: &str, status: u16, content_type: &str, body: &[u8]) -> Result<(), String> {
        let Some(operation) = self.operation(method, path) else {
            // What is no route is a problem all the same.
            return match (status, content_type) {
                (404 | 405, "application/problem+json") => Ok(()),
                other => Err(format!("{method} {path} is no route: {other:?}")),
            };
        };
        let told = &operation["responses"][status.to_string()]["content"];
        let kind = content_type.split(';').next().unwrap_or_default();
        let schema = &told[kind]["schema"];
        if !schema.is_object() {
            return Err(format!("{method} {path}: {status} {content_type} is not in the document: {told}"));
        }
        if !kind.ends_with("json") {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(body).map_err(|e| format!("{method} {path}: {e}"))?;
        match self.validator(schema).validate(&body) {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("{method} {path}: {status} {body}: {error} at {}", error.instance_path)),
        }
    }
}

#[tokio::test]
async fn the_document_has_every_route_and_is_open() {
    let world = crate::world::World::start().await;
    let api = &world.document.api;
    assert!(api["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{}", api["openapi"]);
    for (path, methods) in [
        ("/status", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
        ("/openapi.json", "get"),
        ("/cycles", "post"),
        ("/pause", "post"),
        ("/resume", "post"),
        ("/ops/runs", "get post"),
        ("/ops/runs/{run_id}", "get"),
        ("/ops/runs/{run_id}/events", "get"),
        ("/ops/runs/{run_id}/events/stream", "get"),
        ("/ops/runs/{run_id}/phases", "get"),
        ("/ops/runs/{run_id}/attempts", "get"),
        ("/ops/runs/{run_id}/artifacts", "get"),
        ("/ops/runs/{run_id}/cancel", "post"),
        ("/ops/runs/{run_id}/retry", "post"),
        ("/ops/queue", "get"),
        ("/ops/runners", "get"),
        ("/ops/kinds/{kind}/pause", "post"),
        ("/ops/kinds/{kind}/resume", "post"),
        ("/functions/v1/ops-runner", "post options"),
    ] {
        for method in methods.split(' ') {
            let operation = &api["paths"][path][method];
            assert!(operation["responses"].is_object(), "{method} {path}: {operation}");
            let needs_token = path.starts_with("/ops") || (method == "post");
            assert_eq!(operation["security"].is_array(), needs_token, "{method} {path}");
        }
    }
    let total: usize =
        api["paths"].as_object().expect("paths").values().map(|p| p.as_object().map_or(0, |p| p.len())).sum();
    assert_eq!(total, 24, "a route is missing in this test");
    // Every reference leads somewhere.
    let text = api.to_string();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(api["components"]["schemas"][name].is_object(), "{name}");
    }
    assert_eq!(api["components"]["securitySchemes"]["bearer"]["scheme"], json!("bearer"));
}
