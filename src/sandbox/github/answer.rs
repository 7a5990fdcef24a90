//! Answers in GitHub's words.

use axum::http::StatusCode;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub content: Content,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Empty,
    Json(Value),
    Page(&'static str),
}

/// Every route either does what was asked or refuses; both are answers.
pub(super) type Outcome = Result<Answer, Answer>;

const UNICORN: &str = "<!DOCTYPE html>\n<html><head><title>Unicorn! &middot; GitHub</title></head>\n\
     <body><p><strong>We had issues producing the response to your request.</strong></p></body></html>\n";

impl Answer {
    pub fn new(status: StatusCode, content: Content) -> Answer {
        Answer { status, content, headers: Vec::new() }
    }

    pub fn ok(body: Value) -> Answer {
        Answer::new(StatusCode::OK, Content::Json(body))
    }

    pub fn error(status: StatusCode, message: &str) -> Answer {
        let documentation = "https://docs.github.com/rest";
        let body =
            json!({ "message": message, "documentation_url": documentation, "status": status.as_u16().to_string() });
        Answer::new(status, Content::Json(body))
    }

    pub fn not_found() -> Answer {
        Answer::error(StatusCode::NOT_FOUND, "Not Found")
    }

    pub fn unprocessable(message: &str) -> Answer {
        Answer::error(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub fn bad_gateway() -> Answer {
        Answer::new(StatusCode::BAD_GATEWAY, Content::Page(UNICORN))
    }

    pub fn secondary_limit(retry_after: Option<u64>) -> Answer {
        let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
        let mut answer = Answer::error(StatusCode::FORBIDDEN, message);
        answer.headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
        answer
    }

    pub fn with(mut self, name: &'static str, value: String) -> Answer {
        self.headers.push((name, value));
        self
    }
}
