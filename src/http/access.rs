//! Who may write, and how a bearer token is compared.

use crate::plan::secret::Secret;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use std::sync::{Arc, RwLock};
use subtle::ConstantTimeEq;

/// Who may write.
#[derive(Clone)]
pub enum Writes {
    /// With this bearer token.
    WithToken(Secret),
    /// Nobody: no API_TOKEN is set.
    NoToken,
    /// Nobody: the address is not loopback. This token opens the routes of runs all the same.
    NotLocal(Option<Secret>),
    /// Whoever can open the socket: its mode is 0600.
    Socket,
}

/// The rule in force; a new configuration replaces it while the server runs.
#[derive(Clone)]
pub struct Access(Arc<RwLock<Writes>>);

impl Access {
    pub fn set(&self, writes: Writes) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = writes;
    }

    pub(super) fn now(&self) -> Writes {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl From<Writes> for Access {
    fn from(writes: Writes) -> Access {
        Access(Arc::new(RwLock::new(writes)))
    }
}

/// The token of `Authorization: Bearer ...`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    // The scheme's name is without regard to case.
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares digests in constant time: neither content nor length of the token shows in the timing.
pub(super) fn is_same(given: &str, token: &Secret) -> bool {
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    !token.is_empty() && bool::from(digest(given).ct_eq(&digest(token.expose())))
}
