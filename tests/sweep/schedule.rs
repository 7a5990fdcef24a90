//! One schedule: where the program is stopped, what goes wrong besides, how long it stays away.
//!
//! A number is a schedule. Low numbers go through every point of every scenario; what varies besides
//! comes out of the number itself, so that a number that failed fails again.

use crate::compressed::trouble::{Party, Trouble};
use crate::dice::Dice;
use crate::scenario::Scenario;
use ops_controller::clients::seam::Point;
use std::time::Duration;

/// How the program ends at its point, or what happens to its disk there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Stopped at the point.
    Stop,
    /// The request is on its way; it is carried out and nobody is there to hear the answer.
    InFlight,
    /// Not stopped: only the trouble happens.
    GoOn,
    /// The new file was in place and is cut short: it was not on the disk yet.
    Torn,
    /// The rename is undone: it was not on the disk yet.
    LostRename,
    /// No write succeeds for a while; the program is not stopped.
    DiskFull,
}

/// Which calls the trouble happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call at which the program is stopped.
    ThatCall,
    /// The first calls of the next life.
    Next(Party, u32),
    Writes(u32),
    For(Duration),
    /// The reads of one party, while its writes work.
    ReadsFor(Party, Duration),
    /// The looks at droplets alone.
    LooksAtDropletsFor(Duration),
}

#[derive(Debug, Clone)]
pub struct Schedule {
    pub number: u64,
    pub scenario: Scenario,
    /// The point's place among all points of the first life.
    pub at: usize,
    /// Where the call began that ends there.
    pub call: usize,
    pub cut: Cut,
    pub trouble: Option<(Trouble, When)>,
    /// Lists lag by this, for some minutes from the stop on.
    pub list_lag: Option<Duration>,
    /// Between the end of one life and the next.
    pub away: Duration,
    /// The next life is stopped, too, at this point.
    pub again: Option<usize>,
}

/// The points of each scenario when nothing goes wrong, in the order of `Scenario::ALL`.
pub type Ways = Vec<Vec<Point>>;

/// Prime, and larger than any way is long: it has no factor in common with the number of points.
const STRIDE: u64 = 1_000_003;

impl Schedule {
    pub fn of(number: u64, ways: &Ways) -> Schedule {
        let points: u64 = ways.iter().map(|way| way.len() as u64).sum();
        let (chosen, at) = place(number, points, ways);
        let (scenario, way) = (Scenario::ALL[chosen], &ways[chosen]);
        let mut dice = Dice(number);
        let cuts = cuts(&way[at]);
        let cut = cuts[dice.below(cuts.len())];
        // Consecutive numbers take consecutive troubles, so that few numbers meet all of them.
        let which = usize::try_from((number + number / points) % (Trouble::ALL.len() as u64 + 1)).expect("small");
        let trouble = Trouble::ALL.get(which).map(|trouble| (*trouble, when(&way[at], cut, &mut dice)));
        let lags = [None, None, Some(5), Some(30), Some(60)];
        let aways = [1, 1, 15, 60, 400, 7200];
        Schedule {
            number,
            scenario,
            at,
            call: call(way, at),
            cut,
            trouble,
            list_lag: lags[dice.below(lags.len())].map(Duration::from_secs),
            away: Duration::from_secs(aways[dice.below(aways.len())]),
            again: (dice.below(3) == 0).then(|| dice.below(80)),
        }
    }
}

/// First every point of every scenario, spread out so that a few schedules meet all scenarios; then
/// all scenarios alike, the short ones as often as the long ones.
fn place(number: u64, points: u64, ways: &Ways) -> (usize, usize) {
    let small = |n: u64| usize::try_from(n).expect("small");
    if number >= points {
        let (scenarios, further) = (ways.len() as u64, number - points);
        let chosen = small(further % scenarios);
        return (chosen, small(further / scenarios * STRIDE % ways[chosen].len() as u64));
    }
    let (mut chosen, mut at) = (0, small(number * STRIDE % points));
    while at >= ways[chosen].len() {
        at -= ways[chosen].len();
        chosen += 1;
    }
    (chosen, at)
}

fn call(way: &[Point], at: usize) -> usize {
    match &way[at] {
        Point::After(what) => {
            way[..at].iter().rposition(|p| *p == Point::Before(what.clone())).expect("every call begins")
        }
        _ => at,
    }
}

fn cuts(point: &Point) -> &'static [Cut] {
    match point {
        Point::Before(_) => &[Cut::Stop, Cut::InFlight, Cut::InFlight, Cut::GoOn],
        Point::After(_) => &[Cut::Stop],
        Point::BeforeWrite => &[Cut::Stop, Cut::DiskFull],
        Point::Written => &[Cut::Stop],
        Point::Renamed => &[Cut::Stop, Cut::Torn, Cut::LostRename],
    }
}

fn when(point: &Point, cut: Cut, dice: &mut Dice) -> When {
    if matches!((point, cut), (Point::Before(_), Cut::GoOn)) {
        return When::ThatCall;
    }
    let parties = [Party::DigitalOcean, Party::DigitalOcean, Party::Railway, Party::Database, Party::Webapp];
    match dice.below(6) {
        0 if matches!(point, Point::After(_)) => When::ThatCall,
        // Some outlast all tries of a read, and the next look too.
        0 | 1 => When::Next(parties[dice.below(parties.len())], [1, 2, 3, 8, 20][dice.below(5)]),
        2 => When::Writes(u32::try_from(1 + dice.below(3)).expect("small")),
        4 => When::LooksAtDropletsFor(Duration::from_secs([20, 60, 200][dice.below(3)])),
        3 => When::ReadsFor(parties[dice.below(parties.len())], Duration::from_secs([20, 60, 200][dice.below(3)])),
        _ => When::For(Duration::from_secs([5, 20, 60][dice.below(3)])),
    }
}
