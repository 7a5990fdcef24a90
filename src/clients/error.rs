//! What can go wrong with an outbound call, as the caller has to choose by it.

use super::fence::Fenced;
use super::http::clip;
use thiserror::Error;

#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ClientError {
    /// The token (or password) is wrong, expired or revoked. Not retried.
    #[error("{provider} refused the credentials ({message})")]
    Unauthorized { provider: &'static str, message: String },
    /// The credentials lack a right. Not retried.
    #[error("{provider} does not allow this with these credentials ({message})")]
    Forbidden { provider: &'static str, message: String },
    #[error("{what} does not exist")]
    NotFound { provider: &'static str, what: String },
    /// Nothing was done; ask again after the pause.
    #[error("{provider} limits the rate; asked again in {seconds} s")]
    RateLimited { provider: &'static str, seconds: u64 },
    /// The provider understood and refused: surely nothing was changed.
    #[error("{provider}: {message}")]
    Refused { provider: &'static str, status: u16, message: String },
    /// The call did not leave this machine: surely nothing was changed.
    #[error("could not connect to {provider}: {message}")]
    NotSent { provider: &'static str, message: String },
    /// Not sent: this controller may not write any more.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// Sent, and there is no usable answer: it may have been carried out.
    #[error("{provider} gave no usable answer: {message}")]
    NoAnswer { provider: &'static str, message: String },
}

impl ClientError {
    /// The call surely changed nothing.
    pub fn is_definite(&self) -> bool {
        !matches!(self, ClientError::NoAnswer { .. })
    }

    /// The same in words that may be shown to anybody.
    pub fn clipped(self) -> ClientError {
        use ClientError::*;
        match self {
            Unauthorized { provider, message } => Unauthorized { provider, message: clip(&message) },
            Forbidden { provider, message } => Forbidden { provider, message: clip(&message) },
            NotFound { provider, what } => NotFound { provider, what: clip(&what) },
            Refused { provider, status, message } => Refused { provider, status, message: clip(&message) },
            NotSent { provider, message } => NotSent { provider, message: clip(&message) },
            NoAnswer { provider, message } => NoAnswer { provider, message: clip(&message) },
            RateLimited { .. } | Fenced(_) => self,
        }
    }

    /// Worth a second try at once, for a read.
    pub fn is_transient(&self) -> bool {
        matches!(self, ClientError::NotSent { .. } | ClientError::NoAnswer { .. })
    }

    pub fn is_rate_limit(&self) -> bool {
        matches!(self, ClientError::RateLimited { .. })
    }
}
