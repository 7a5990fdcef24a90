//! The places where a run of the controller can be stopped: every outbound call and state write.
//!
//! In production a seam does nothing. A crash test gives one that never returns from a chosen point
//! and then drops the controller: what was in memory is gone, what was sent or stored is not.

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

#[derive(Clone, Default)]
pub struct Seam(Option<Arc<Hook>>);

impl Seam {
    pub fn new<F>(hook: impl Fn(Point) -> F + Send + Sync + 'static) -> Seam
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Seam(Some(Arc::new(move |point| Box::pin(hook(point)))))
    }

    pub async fn reach(&self, point: impl FnOnce() -> Point) {
        if let Some(hook) = &self.0 {
            hook(point()).await;
        }
    }
}
