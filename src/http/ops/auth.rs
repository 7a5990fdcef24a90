//! Who asks, and whether the token opens this.
//!
//! Tokens are looked up by their digest and remembered for some seconds: one that is revoked opens
//! nothing after that. Only tokens that were found are remembered, so that a new one works at once.

use super::Ops;
use crate::http::access::{Access, Writes, bearer, is_same};
use crate::http::problem::Problem;
use crate::runs::tokens::{self, Bearer, Scope};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// More tokens than anybody uses within that time.
const REMEMBERED_AT_ONCE: usize = 1000;

/// Who asks, as the audit log names them.
#[derive(Clone)]
pub struct Caller(pub String);

pub struct Auth {
    access: Access,
    known: Mutex<HashMap<[u8; 32], (Bearer, Instant)>>,
}

impl Auth {
    pub fn new(access: Access) -> Auth {
        Auth { access, known: Mutex::new(HashMap::new()) }
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Bearer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).filter(|(_, at)| at.elapsed() < REMEMBERED_FOR).map(|(bearer, _)| bearer.clone())
    }

    fn remember(&self, digest: [u8; 32], bearer: Bearer) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_AT_ONCE {
            known.clear();
        }
        known.insert(digest, (bearer, Instant::now()));
    }
}

impl Ops {
    async fn caller(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        let access = self.auth.access.now();
        if matches!(access, Writes::Socket) {
            return Ok(Caller("socket".to_owned()));
        }
        let given = bearer(headers).ok_or_else(|| unauthorized("send a token as a bearer token"))?;
        if let Writes::WithToken(token) | Writes::NotLocal(Some(token)) = &access
            && is_same(given, token)
        {
            return Ok(Caller("API_TOKEN".to_owned()));
        }
        let unknown = || unauthorized("this token is not known: it was revoked, has expired, or never was");
        if !tokens::is_well_formed(given) {
            return Err(unknown());
        }
        let digest = tokens::digest(given);
        let bearer = match self.auth.remembered(&digest) {
            Some(bearer) => bearer,
            None => {
                let found = self.ask(move |c| Box::pin(async move { tokens::find(c, &digest).await })).await?;
                let bearer = found.ok_or_else(unknown)?;
                self.auth.remember(digest, bearer.clone());
                bearer
            }
        };
        match bearer.scopes.iter().any(|has| *has == scope || *has == Scope::Admin) {
            true => Ok(Caller(format!("token {}", bearer.name))),
            false => {
                let why = format!("the token {} lacks the scope {}", bearer.name, scope.name());
                Err(Problem::new(StatusCode::FORBIDDEN, "missing-scope", why))
            }
        }
    }
}

fn unauthorized(why: &'static str) -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        format!("{why}; `ops-controller token create` makes one, and API_TOKEN is one"),
    )
}

/// Lets those through whose token has the scope.
pub async fn require(State((ops, scope)): State<(Arc<Ops>, Scope)>, mut request: Request, next: Next) -> Response {
    match ops.caller(request.headers(), scope).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}
