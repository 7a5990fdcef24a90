//! Ends a controller for ever at a chosen point: what was in memory is gone, what was sent is not.

use super::{Driver, World};
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Every point that was reached, in order.
pub type Trace = Arc<Mutex<Vec<Point>>>;

/// A seam that never returns from the first point that `fatal` names; `fired` is told.
pub fn deadly(
    trace: Trace,
    fired: Arc<Notify>,
    fatal: impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static,
) -> Seam {
    Seam::new(move |point| {
        let is_fatal = {
            let mut trace = trace.lock().expect("the trace");
            let is_fatal = fatal(&point, &trace);
            trace.push(point);
            is_fatal
        };
        let fired = fired.clone();
        async move {
            if is_fatal {
                fired.notify_one();
                std::future::pending::<()>().await;
            }
        }
    })
}

/// Runs a fresh controller until the fatal point, and drops it there. False: it became healthy and
/// `enough` held before it came to that point.
pub async fn run_into(
    world: &World,
    fatal: impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static,
    mut enough: impl FnMut(&Driver) -> bool,
) -> bool {
    let fired = Arc::new(Notify::new());
    let seam = deadly(Trace::default(), fired.clone(), fatal);
    let mut driver = world.open_with(world.config(), seam);
    let run = async {
        loop {
            driver.until_healthy(world).await;
            if enough(&driver) {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = fired.notified() => true,
        () = run => false,
    }
}

/// The first point with this name.
pub fn at(wanted: Point) -> impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static {
    move |point, _| *point == wanted
}

pub fn before(call: &str) -> Point {
    Point::Before(call.to_owned())
}

pub fn after(call: &str) -> Point {
    Point::After(call.to_owned())
}
