//! Errors as RFC 9457 `application/problem+json`, with a stable `code`.

use crate::runs::RunsError;
use crate::runs::request::FieldError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

pub const CONTENT_TYPE: &str = "application/problem+json";

#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    /// Fields of the request that are refused.
    errors: Vec<FieldError>,
    /// When asking again may help, in seconds.
    retry_after: Option<u16>,
}

/// What a problem looks like.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// Stable, for programs.
    code: &'static str,
    /// For people.
    detail: &'a str,
    /// Each field that is refused, and what it must be.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FieldError],
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    pub fn internal(detail: &'static str) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: u16) -> Problem {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Problem { retry_after: Some(retry_after), ..problem }
    }

    /// What was asked for can be read, but not be done.
    pub fn invalid(errors: Vec<FieldError>) -> Problem {
        let told: Vec<String> = errors.iter().map(|e| format!("{} {}", e.field, e.message)).collect();
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", told.join("; "));
        Problem { errors, ..problem }
    }

    pub fn invalid_field(field: &str, message: impl Into<String>) -> Problem {
        Problem::invalid(vec![FieldError { field: field.to_owned(), message: message.into() }])
    }

    pub fn no_run() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "unknown-run", "there is no such run")
    }
}

impl From<RunsError> for Problem {
    fn from(error: RunsError) -> Problem {
        let field = error.field();
        match error {
            RunsError::NotFound(why) => Problem::new(StatusCode::NOT_FOUND, "unknown-run", why),
            RunsError::Invalid(why) => {
                let errors = field.map(|name| FieldError { field: name.to_owned(), message: why.clone() });
                let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", why);
                Problem { errors: errors.into_iter().collect(), ..problem }
            }
            RunsError::Conflict(why) => Problem::new(StatusCode::CONFLICT, "conflict", why),
            // By the database's user that we are: no fault of who asks.
            RunsError::Denied(why) => {
                Problem::unavailable("database-denies", format!("the ops database refuses us: {why}"), 60)
            }
            error @ RunsError::Unavailable(_) => Problem::unavailable("database-unavailable", error.to_string(), 2),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
        };
        // Strings and a number: they can always be written.
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
