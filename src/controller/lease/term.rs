//! When a lease is over, for its holder and for everybody else. Pure: what is read, and when, comes
//! as arguments.
//!
//! The holder stops at LEASE_TIME since *before* it sent its last renewal. Everybody else waits a
//! quarter longer since *after* they saw that renewal. No clock is compared with another one, only
//! their pace: between the two lies at least the quarter, in which a call that passed the fence at
//! the last moment can still arrive.

use std::fmt;
use std::time::Duration;

/// A standby looks at least this often: what takes the place of a killed holder needs no message.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// The pace that follows from LEASE_TIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(Duration);

impl Pace {
    pub fn new(lease_time: Duration) -> Pace {
        Pace(lease_time)
    }

    /// How long a holder acts since before its last renewal.
    pub fn holds(self) -> Duration {
        self.0
    }

    /// After how long without a renewal another one takes over.
    pub fn taken_after(self) -> Duration {
        self.0 + self.0 / 4
    }

    /// Two renewals may fail before the lease is lost.
    pub fn renewed_every(self) -> Duration {
        self.0 / 3
    }

    /// After a renewal that failed.
    pub fn tried_again_after(self) -> Duration {
        self.0 / 12
    }

    pub fn looked_at_every(self) -> Duration {
        (self.0 / 10).min(LONGEST_LOOK)
    }
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `machine/daemon-3f9ac2d1`: a name for people, and unlike that of any other process.
    pub name: String,
    pub epoch: u64,
    /// By the holder's clock, or the database's; told, never compared.
    pub since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { name, epoch, since } = self;
        write!(f, "{name} (epoch {epoch}, since {since})")
    }
}

/// What a standby has seen of somebody else's lease.
#[derive(Debug, Default)]
pub struct Watch {
    /// The content, and the uptime from which on it surely was there.
    seen: Option<(Vec<u8>, Duration)>,
}

impl Watch {
    /// Takes in one look, which began and ended at these uptimes. True when the lease is over: for
    /// `patience` nothing was renewed.
    ///
    /// A renewal counts for its holder only if it was complete before the deadline that it extends
    /// ([`crate::clients::fence::Grant::extend`]). That deadline lies at most LEASE_TIME after the
    /// renewal before, hence before `ended` of the look that first saw it plus LEASE_TIME; a look
    /// that begins later than that shows every renewal that still counts. So there is no moment at
    /// which a holder wakes, renews and goes on while another one takes over.
    pub fn is_over(&mut self, content: &[u8], began: Duration, ended: Duration, patience: Duration) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == content => began.saturating_sub(*since) >= patience,
            _ => {
                self.seen = Some((content.to_vec(), ended));
                false
            }
        }
    }

    pub fn forget(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_over() {
        let mut watch = Watch::default();
        for look in 0..100 {
            assert!(!watch.is_over(&[look / 3], s(look.into()), s(look.into()), s(10)));
        }
    }

    #[test]
    fn a_lease_is_over_when_it_was_seen_unchanged_for_long_enough() {
        let mut watch = Watch::default();
        assert!(!watch.is_over(b"a", s(0), s(2), s(10)));
        assert!(!watch.is_over(b"a", s(11), s(11), s(10)), "it may have been written as late as at 2");
        assert!(watch.is_over(b"a", s(12), s(99), s(10)));
    }

    #[test]
    fn a_renewal_at_the_last_moment_begins_the_time_anew() {
        let mut watch = Watch::default();
        watch.is_over(b"a", s(0), s(0), s(10));
        assert!(!watch.is_over(b"b", s(10), s(10), s(10)));
        assert!(!watch.is_over(b"b", s(19), s(19), s(10)));
        assert!(watch.is_over(b"b", s(20), s(20), s(10)));
    }

    #[test]
    fn one_long_pause_of_the_standby_itself_proves_nothing() {
        let mut watch = Watch::default();
        assert!(!watch.is_over(b"a", s(1000), s(1000), s(10)), "the first look never does");
        watch.forget();
        assert!(!watch.is_over(b"a", s(2000), s(2000), s(10)));
    }

    #[test]
    fn whoever_freezes_is_replaced_within_two_lease_times() {
        let pace = Pace::new(s(30));
        // The last renewal right before it froze, a look that just missed it, one that just missed its end.
        let worst = pace.looked_at_every() + pace.taken_after() + pace.looked_at_every();
        assert!(worst < 2 * pace.holds());
        assert!(pace.taken_after() > pace.holds());
        assert!(3 * pace.renewed_every() <= pace.holds());
    }
}
