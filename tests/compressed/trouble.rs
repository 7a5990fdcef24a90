//! What goes wrong with one call on its way, and which calls it happens to.

use jiff::Timestamp;
use std::time::Duration;

/// Who is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Railway,
    DigitalOcean,
    Database,
    Webapp,
    Supervisor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Carried out; the connection breaks before the answer.
    AnswerLost,
    /// The connection breaks before the request has arrived.
    NeverArrived,
    ConnectionRefused,
    /// Carried out; a gateway gives up with a page of its own.
    Gateway504,
    /// A gateway gives up, and the server carries it out later.
    DoneLater(Duration),
    /// Not carried out; the edge answers with a page.
    Html502,
    RateLimited {
        retry_after: Option<u64>,
    },
    /// Not carried out; an error in the provider's own form: Railway answers 200 with `errors`.
    ErrorBefore,
    /// Carried out; an error all the same.
    ErrorAfter,
    /// Carried out; the answer lacks a part, or breaks off in the middle.
    Partial,
    /// DigitalOcean's list is answered as it was a while ago (the account's `list_lag`).
    Stale,
    /// No answer at all, until the client's patience ends.
    Silence,
    /// Not carried out; the error repeats everything that was sent, secrets and all.
    Echo,
}

impl Trouble {
    pub const ALL: [Trouble; 13] = [
        Trouble::AnswerLost,
        Trouble::Gateway504,
        Trouble::DoneLater(Duration::from_secs(20)),
        Trouble::ErrorAfter,
        Trouble::Partial,
        Trouble::Stale,
        Trouble::NeverArrived,
        Trouble::ConnectionRefused,
        Trouble::Html502,
        Trouble::RateLimited { retry_after: Some(20) },
        Trouble::RateLimited { retry_after: None },
        Trouble::ErrorBefore,
        Trouble::Silence,
    ];
}

/// Which calls a trouble happens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// The next so many, whoever is called.
    Any(u32),
    /// The next so many to this party, reads and writes alike.
    Next(Party, u32),
    /// The next so many writes, whoever is called.
    Writes(u32),
    /// All, until then.
    Until(Timestamp),
    /// All reads of this party, until then; its writes work.
    Reads(Party, Timestamp),
    /// All looks at droplets, until then; whatever else DigitalOcean is asked works.
    LooksAtDroplets(Timestamp),
}

/// What an order is held against.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub party: Party,
    pub is_write: bool,
    pub is_of_droplets: bool,
}

#[derive(Debug, Clone)]
pub struct Order {
    pub trouble: Trouble,
    pub calls: Calls,
}

/// Troubles that are yet to come.
#[derive(Debug, Default, Clone)]
pub struct Orders(Vec<Order>);

impl Orders {
    pub fn push(&mut self, trouble: Trouble, calls: Calls) {
        self.0.push(Order { trouble, calls });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The trouble of this call, if any.
    pub fn take(&mut self, call: Call, now: Timestamp) -> Option<Trouble> {
        self.0.retain(|order| !order.is_over(now));
        let order = self.0.iter_mut().find(|order| match &order.calls {
            Calls::Any(_) | Calls::Until(_) => true,
            Calls::Next(wanted, _) => *wanted == call.party,
            Calls::Writes(_) => call.is_write,
            Calls::Reads(wanted, _) => *wanted == call.party && !call.is_write,
            Calls::LooksAtDroplets(_) => call.is_of_droplets && !call.is_write,
        })?;
        if let Calls::Any(left) | Calls::Next(_, left) | Calls::Writes(left) = &mut order.calls {
            *left -= 1;
        }
        Some(order.trouble)
    }
}

impl Order {
    fn is_over(&self, now: Timestamp) -> bool {
        match &self.calls {
            Calls::Any(left) | Calls::Next(_, left) | Calls::Writes(left) => *left == 0,
            Calls::Until(end) | Calls::Reads(_, end) | Calls::LooksAtDroplets(end) => *end <= now,
        }
    }
}
