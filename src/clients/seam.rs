//! The places where a run of the controller can be stopped: every outbound call and state write.
//!
//! In production a seam does nothing. A crash test gives one that never returns from a chosen point
//! and then drops the controller: what was in memory is gone, what was sent or stored is not.
//! A test that has to live through months also gives what lies outside the program: see [`Outside`].

use super::http::{Lost, Reply};
use super::postgres::Server;
use jiff::Timestamp;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Where the program stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// About to send this call.
    Before(String),
    /// The call was carried out; its answer is not known to the program yet.
    After(String),
    /// About to write the state file.
    BeforeWrite,
    /// The new content lies in a temporary file, not yet renamed.
    Written,
    /// The new content is in place.
    Renamed,
}

type Hook = dyn Fn(Point) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// Everything outside the program, in its own time: a world in memory instead of the network.
pub trait Outside: Send + Sync {
    fn now(&self) -> Timestamp;

    /// Carries one request out and brings its answer, or says how it was lost.
    fn http(&self, request: reqwest::Request) -> Pin<Box<dyn Future<Output = Result<Reply, Lost>> + Send + '_>>;

    /// The watched database.
    fn database(&self) -> Arc<dyn Server>;
}

#[derive(Clone, Default)]
pub struct Seam {
    hook: Option<Arc<Hook>>,
    outside: Option<Arc<dyn Outside>>,
}

impl Seam {
    pub fn new<F>(hook: impl Fn(Point) -> F + Send + Sync + 'static) -> Seam
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Seam { hook: Some(Arc::new(move |point| Box::pin(hook(point)))), outside: None }
    }

    /// Nothing leaves the program any more; all calls go there.
    pub fn with_outside(self, outside: Arc<dyn Outside>) -> Seam {
        Seam { outside: Some(outside), ..self }
    }

    pub async fn reach(&self, point: impl FnOnce() -> Point) {
        if let Some(hook) = &self.hook {
            hook(point()).await;
        }
    }

    /// `None` in production: the network.
    pub fn outside(&self) -> Option<&Arc<dyn Outside>> {
        self.outside.as_ref()
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.outside.as_ref().map_or_else(Timestamp::now, |outside| outside.now())
    }
}
