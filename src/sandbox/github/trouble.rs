//! Bad answers that can be ordered for the next request of a call.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Everything is done, and the connection closes without an answer.
    AnswerLost,
    /// A gateway's page; nothing is done.
    BadGateway,
    /// The same page; everything was done.
    BadGatewayAfter,
    /// 403 for asking too much at once, with its own idea of a pause or none.
    SecondaryLimit { retry_after: Option<u64> },
    /// The answer is right and comes late.
    Slow(Duration),
}
