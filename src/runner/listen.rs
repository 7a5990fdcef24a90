//! Hears of queued runs and of cancellations. Only a hint: whoever misses it looks by itself in time.

use super::Shared;
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const QUEUED: &str = "ops_runs";
const CANCELLED: &str = "ops_cancel";
/// Between tries to connect; the poll goes on meanwhile.
const AGAIN: Duration = Duration::from_secs(1);

/// Something may have been queued.
#[derive(Default)]
pub struct Wake(Notify);

impl Wake {
    pub fn up(&self) {
        self.0.notify_one();
    }

    pub async fn comes(&self) {
        self.0.notified().await;
    }
}

pub async fn listen(shared: Arc<Shared>, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            heard = hear(&shared) => {
                if let Err(error) = heard {
                    let error = crate::runs::told(&error);
                    tracing::debug!(%error, "no notifications for now: {error}");
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear(shared: &Shared) -> Result<(), sqlx::Error> {
    // One connection, for nothing else.
    let mut listener = PgListener::connect_with(&shared.address.pool(1)).await?;
    listener.listen_all([QUEUED, CANCELLED]).await?;
    shared.wake.up();
    loop {
        match listener.try_recv().await? {
            Some(notice) if notice.channel() == CANCELLED => shared.held.cancel(notice.payload()),
            Some(_) => shared.wake.up(),
            // The connection was lost and made anew: whatever was said meanwhile is unknown.
            None => shared.wake.up(),
        }
    }
}
