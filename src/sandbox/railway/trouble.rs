//! Bad answers that can be ordered for the next request, or for the next one of some operation.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// HTTP 200, "Problem processing request", nothing done.
    ErrorsBefore,
    /// The same answer, but everything was done.
    ErrorsAfter,
    /// Data with a hole: the first nullable field that is reached fails.
    PartialData,
    /// Each page claims that another one follows, and its cursor does not advance.
    StuckCursor,
    /// HTTP 429 with Retry-After, from Railway itself.
    TooManyRequests { retry_after: Duration },
    /// HTTP 429 from the edge: text, without any header that says how long.
    Cloudflare1015,
    /// HTTP 502 with a page of HTML.
    BadGateway,
    /// Everything is done, and the connection closes without an answer.
    DroppedAfter,
    /// The answer is right and comes late.
    Slow(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Orders(VecDeque<Order>);

#[derive(Debug)]
struct Order {
    operation: Option<String>,
    trouble: Trouble,
}

impl Orders {
    pub fn push(&mut self, operation: Option<&str>, trouble: Trouble) {
        self.0.push_back(Order { operation: operation.map(str::to_string), trouble });
    }

    /// The oldest order that fits this operation; it is spent.
    pub fn take(&mut self, operation: &str) -> Option<Trouble> {
        let fits = |order: &Order| order.operation.as_deref().is_none_or(|wanted| wanted == operation);
        let at = self.0.iter().position(fits)?;
        self.0.remove(at).map(|order| order.trouble)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
