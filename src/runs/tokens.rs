//! Tokens of the HTTP interface. The secret is made here and shown once; the database has its SHA-256.

use super::look::{at, maybe_at};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// By which a secret scanner knows it.
const PREFIX: &str = "ops_";
/// 32 bytes in URL-safe base64.
const LENGTH: usize = 43;

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Looking at runs, the queue and the runners.
    RunsRead,
    /// Queueing, cancelling and retrying runs.
    RunsWrite,
    /// Having a run executed by a request.
    Runner,
    /// All of it, and pausing kinds.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::RunsRead, Scope::RunsWrite, Scope::Runner, Scope::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Scope::RunsRead => "runs:read",
            Scope::RunsWrite => "runs:write",
            Scope::Runner => "runner",
            Scope::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A new secret; `None`: the system gives no chance.
pub fn generate() -> Option<String> {
    use base64::Engine;
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

/// What cannot be one of ours is not worth a question.
pub fn is_well_formed(secret: &str) -> bool {
    let is_ours = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    secret.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == LENGTH && rest.bytes().all(is_ours))
}

pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whose token it is, and what it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub name: String,
    pub scopes: Vec<Scope>,
}

/// `None`: no live token has this digest.
pub async fn find(c: &mut PgConnection, digest: &[u8; 32]) -> Result<Option<Bearer>, sqlx::Error> {
    let sql = "select name, scopes from ops.find_token($1)";
    let Some(row) = sqlx::query(sql).bind(digest.as_slice()).fetch_optional(c).await? else { return Ok(None) };
    let scopes: Vec<String> = row.try_get(1)?;
    Ok(Some(Bearer { name: row.try_get(0)?, scopes: scopes.iter().filter_map(|s| Scope::from_name(s)).collect() }))
}

#[derive(Debug, Clone, Copy)]
pub struct NewToken<'a> {
    pub name: &'a str,
    pub scopes: &'a [Scope],
    /// `None`: it stays until it is revoked.
    pub expires_in: Option<Duration>,
}

pub async fn create(
    c: &mut PgConnection,
    token: NewToken<'_>,
    digest: &[u8; 32],
    created_by: &str,
) -> Result<String, sqlx::Error> {
    let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.name()).collect();
    sqlx::query("select ops.create_token($1, $2, $3, $4, now() + make_interval(secs => $5))")
        .bind(token.name)
        .bind(digest.as_slice())
        .bind(scopes)
        .bind(created_by)
        .bind(token.expires_in.map(|time| time.as_secs_f64()))
        .fetch_one(c)
        .await?
        .try_get(0)
}

/// A token as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    pub token_id: String,
    pub name: String,
    pub scopes: Vec<String>,
    pub created_at: jiff::Timestamp,
    pub created_by: String,
    pub expires_at: Option<jiff::Timestamp>,
    pub last_used_at: Option<jiff::Timestamp>,
    pub is_expired: bool,
}

/// Those that were not revoked.
pub async fn list(c: &mut PgConnection) -> Result<Vec<Token>, sqlx::Error> {
    let rows = sqlx::query(
        "select token_id, name, scopes, created_at, created_by, expires_at, last_used_at,
                coalesce(expires_at <= now(), false)
         from ops.api_tokens where revoked_at is null order by name",
    )
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Token {
                token_id: row.try_get(0)?,
                name: row.try_get(1)?,
                scopes: row.try_get(2)?,
                created_at: at(row, 3)?,
                created_by: row.try_get(4)?,
                expires_at: maybe_at(row, 5)?,
                last_used_at: maybe_at(row, 6)?,
                is_expired: row.try_get(7)?,
            })
        })
        .collect()
}

/// False: no live token has this name.
pub async fn revoke(c: &mut PgConnection, name: &str, actor: &str) -> Result<bool, sqlx::Error> {
    let sql = "select ops.revoke_token(token_id, $2) from ops.api_tokens where name = $1 and revoked_at is null";
    let row = sqlx::query(sql).bind(name).bind(actor).fetch_optional(c).await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_has_the_shape_of_ours_and_no_other_has() {
        let (one, two) = (generate().expect("chance"), generate().expect("chance"));
        assert!(is_well_formed(&one) && is_well_formed(&two) && one != two);
        for text in ["", "ops_", "ops_short", &one[1..], &format!("{one}x"), &one.replace('_', "'")] {
            assert!(!is_well_formed(text), "{text}");
        }
    }
}
