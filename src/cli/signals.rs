//! The signals of the programs that stay: SIGTERM and SIGINT end them, SIGHUP is theirs to answer.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Heard from the call on, not from the first poll. `then`: what follows on a stop, for the log.
pub fn heard(
    stop: CancellationToken,
    then: &'static str,
    hung_up: impl Fn() + Send + 'static,
) -> impl Future<Output = ()> {
    let streams = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = streams else {
            tracing::error!("signals cannot be received");
            return;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => { tracing::info!("SIGTERM: {then}"); break }
                _ = interrupt.recv() => { tracing::info!("interrupted: {then}"); break }
                _ = hangup.recv() => hung_up(),
            }
        }
        stop.cancel();
    }
}
