//! The right to write, checked right before everything that changes something: each call to a
//! provider, each statement that is no read, each save of the state.
//!
//! A grant ends at a deadline on a clock that goes on while the machine is suspended, so a process
//! that was frozen and wakes is refused before it has asked anybody. A refused write was not sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thiserror::Error;

/// The refusal of a write. Definite: nothing was sent and nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}: nothing is written")]
pub struct Fenced {
    /// In whose favour, or since when.
    pub why: String,
    /// Only this write was refused, because the lease could not be looked at.
    for_now: bool,
}

impl Fenced {
    pub fn new(why: impl Into<String>) -> Fenced {
        Fenced { why: why.into(), for_now: false }
    }

    /// Nobody else is known to have the lease, so the next write may pass again.
    pub fn for_now(why: impl Into<String>) -> Fenced {
        Fenced { why: why.into(), for_now: true }
    }

    pub fn is_for_now(&self) -> bool {
        self.for_now
    }
}

/// Time since the machine booted, suspended time included; no wall clock, so nobody sets it.
pub fn uptime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec, whose address is valid for the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) } != 0;
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    match (failed, seconds, nanos) {
        (false, Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos),
        // Without this clock no deadline can be kept: every one of them is over.
        _ => Duration::MAX,
    }
}

/// What a look at the lease's home says: whether somebody else has it by now.
type Look = dyn Fn() -> Result<(), Fenced> + Send + Sync;

/// One lease's word that its holder may write, until it says otherwise.
#[derive(Clone)]
pub struct Grant(Arc<Inner>);

struct Inner {
    /// As it is named to people: `the folder's lease (epoch 7)`.
    name: String,
    /// Uptime in nanoseconds at which it is over.
    until: AtomicU64,
    ended: OnceLock<Fenced>,
    look: Box<Look>,
}

impl Grant {
    /// `look` is asked at every check, so it must be quick and wait for nobody.
    pub fn new(
        name: impl Into<String>,
        until: Duration,
        look: impl Fn() -> Result<(), Fenced> + Send + Sync + 'static,
    ) -> Grant {
        let until = AtomicU64::new(nanos(until));
        Grant(Arc::new(Inner { name: name.into(), until, ended: OnceLock::new(), look: Box::new(look) }))
    }

    /// Puts the deadline off. Refused once it has passed: by then somebody else may have judged the
    /// lease by it, so a renewal counts only if it was complete before the deadline that it extends.
    pub fn extend(&self, until: Duration) -> Result<(), Fenced> {
        self.in_time()?;
        self.0.until.fetch_max(nanos(until), Ordering::SeqCst);
        Ok(())
    }

    /// For ever. The first reason stays.
    pub fn end(&self, why: Fenced) -> Fenced {
        self.0.ended.get_or_init(|| why).clone()
    }

    pub fn left(&self) -> Duration {
        match self.0.ended.get() {
            Some(_) => Duration::ZERO,
            None => Duration::from_nanos(self.0.until.load(Ordering::SeqCst)).saturating_sub(uptime()),
        }
    }

    pub fn check(&self) -> Result<(), Fenced> {
        self.in_time()?;
        (self.0.look)().map_err(|why| if why.for_now { why } else { self.end(why) })
    }

    fn in_time(&self) -> Result<(), Fenced> {
        if let Some(why) = self.0.ended.get() {
            return Err(why.clone());
        }
        let over = uptime().saturating_sub(Duration::from_nanos(self.0.until.load(Ordering::SeqCst)));
        match over.is_zero() {
            true => Ok(()),
            false => {
                let why = format!("{} ran out {:.1} s ago without being renewed", self.0.name, over.as_secs_f64());
                Err(self.end(Fenced::new(why)))
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Cheap to clone; every writer has one.
#[derive(Clone)]
pub struct Fence(Guard);

#[derive(Clone)]
enum Guard {
    Closed,
    Open,
    /// All of them must hold.
    Granted(Arc<[Grant]>),
}

impl Fence {
    /// Refuses everything: what has no lease writes nothing.
    pub fn closed() -> Fence {
        Fence(Guard::Closed)
    }

    pub fn granted(grants: Vec<Grant>) -> Fence {
        Fence(if grants.is_empty() { Guard::Closed } else { Guard::Granted(grants.into()) })
    }

    /// Lets everything pass: for tests of the writers alone. `tests/layers.rs` holds that nothing
    /// in the program uses it.
    pub fn unguarded() -> Fence {
        Fence(Guard::Open)
    }

    pub fn check(&self) -> Result<(), Fenced> {
        match &self.0 {
            Guard::Closed => Err(Fenced::new("no lease is held")),
            Guard::Open => Ok(()),
            Guard::Granted(grants) => grants.iter().try_for_each(Grant::check),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn grant(until: Duration) -> Grant {
        Grant::new("the lease (epoch 7)", until, || Ok(()))
    }

    #[test]
    fn nothing_passes_without_a_lease_and_everything_within_one() {
        assert!(Fence::closed().check().is_err());
        assert!(Fence::granted(vec![]).check().is_err());
        assert_eq!(Fence::granted(vec![grant(uptime() + HOUR)]).check(), Ok(()));
    }

    #[test]
    fn one_lease_that_ran_out_closes_the_fence_for_ever() {
        let over = grant(uptime().saturating_sub(Duration::from_secs(3)));
        let fence = Fence::granted(vec![grant(uptime() + HOUR), over.clone()]);
        let why = fence.check().expect_err("refused").to_string();
        assert!(why.starts_with("the lease (epoch 7) ran out 3.0 s ago without being renewed: nothing"), "{why}");
        over.extend(uptime() + HOUR).expect_err("too late");
        fence.check().expect_err("still refused");
        assert_eq!(over.left(), Duration::ZERO);
    }

    #[test]
    fn a_renewal_in_time_puts_the_deadline_off_and_never_forward() {
        let grant = grant(uptime() + HOUR);
        grant.extend(uptime() + 2 * HOUR).expect("in time");
        grant.extend(uptime()).expect("in time");
        assert!(grant.left() > HOUR);
    }

    #[test]
    fn a_look_that_fails_refuses_one_write_and_ends_nothing() {
        let blind = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let looked = blind.clone();
        let fence = Fence::granted(vec![Grant::new("the lease (epoch 7)", uptime() + HOUR, move || {
            if looked.load(Ordering::SeqCst) { Err(Fenced::for_now("too many open files")) } else { Ok(()) }
        })]);
        let why = fence.check().expect_err("refused");
        assert!(why.is_for_now(), "{why}");
        blind.store(false, Ordering::SeqCst);
        assert_eq!(fence.check(), Ok(()));
    }

    #[test]
    fn another_holder_is_seen_at_the_check_and_named() {
        let taken = || Err(Fenced::new("another controller took over (epoch 8, ours was 7)"));
        let fence = Fence::granted(vec![Grant::new("the lease (epoch 7)", uptime() + HOUR, taken)]);
        let why = fence.check().expect_err("refused").to_string();
        assert_eq!(why, "another controller took over (epoch 8, ours was 7): nothing is written");
    }
}
