//! Claims runs as fast as they are begun, and no faster; waits without noise when there are none.
//!
//! A claim is never given up half-way: one whose answer was lost is found again, and handed back.

use super::execute::execute;
use super::finish::Word;
use super::held::Holding;
use super::pace::Pace;
use super::{Shared, report};
use crate::clients::fence::uptime;
use crate::runs::line::Line;
use crate::runs::record::Hold;
use crate::runs::{Claimed, RunsError, control, queue};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

/// Emptiness this short is not worth the two writes of being told.
const SHORT: Duration = Duration::from_millis(10);
const SOON: Duration = Duration::from_millis(2);
/// Looks after having begun to listen: a transaction that looked for listeners before that, and
/// committed after it, told nobody.
const LOOKS: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(30), Duration::from_millis(150)];
/// What waits here for longer can be begun sooner elsewhere.
const WAITS_TOO_LONG: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Claimed and not yet begun.
#[derive(Default)]
struct Buffer {
    waiting: Mutex<VecDeque<(Claimed, Arc<Holding>)>>,
    added: Notify,
    /// One was taken, or a slot became free.
    taken: Notify,
}

impl Buffer {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Claimed, Arc<Holding>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> (Claimed, Arc<Holding>) {
        loop {
            if let Some(next) = self.waiting().pop_front() {
                self.taken.notify_one();
                return next;
            }
            self.added.notified().await;
        }
    }

    fn drain(&self) -> Vec<Arc<Holding>> {
        self.waiting().drain(..).map(|(_, holding)| holding).collect()
    }
}

/// Until it is stopped. What was claimed and not begun is handed back.
pub async fn fetch(shared: &Arc<Shared>, tasks: &TaskTracker, words: &mpsc::Sender<Word>) {
    let buffer = Arc::new(Buffer::default());
    let dispatcher = tokio::spawn(dispatch(shared.clone(), buffer.clone(), tasks.clone(), words.clone()));
    let mut fetcher = Fetcher::new(shared.clone(), buffer.clone());
    while !shared.stop.is_cancelled() {
        fetcher.step().await;
    }
    // It has heard the same, and gives back what it has in its hands.
    let _ = dispatcher.await;
    for holding in buffer.drain() {
        let _ = words.send(Word::HandBack(holding)).await;
    }
}

async fn dispatch(shared: Arc<Shared>, buffer: Arc<Buffer>, tasks: TaskTracker, words: mpsc::Sender<Word>) {
    loop {
        // In this order: what is still here when we stop is not begun any more.
        let (run, holding) = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            next = buffer.next() => next,
        };
        let slot = timeout(WAITS_TOO_LONG, shared.slots.clone().acquire_owned());
        let permit = tokio::select! {
            biased;
            () = shared.stop.cancelled() => None,
            slot = slot => slot.ok().and_then(Result::ok),
        };
        let Some(permit) = permit else {
            // All slots are busy with something longer: what waits here can be begun elsewhere.
            for holding in std::iter::once(holding).chain(buffer.drain()) {
                let _ = words.send(Word::HandBack(holding)).await;
            }
            continue;
        };
        let (shared, words, buffer) = (shared.clone(), words.clone(), buffer.clone());
        tasks.spawn(async move {
            execute(&shared, run, holding, &words).await;
            drop(permit);
            buffer.taken.notify_one();
        });
    }
}

struct Fetcher {
    shared: Arc<Shared>,
    buffer: Arc<Buffer>,
    /// In another order for each claim: of equally urgent kinds, none stands behind another for good.
    kinds: Vec<String>,
    line: Line,
    pace: Pace,
    /// Asked, got, and when.
    last: Option<(usize, usize, Instant)>,
    /// Since when nothing was there.
    empty_since: Option<Instant>,
    /// How many looks since we are told of new runs; `None`: we are not.
    listening: Option<usize>,
    pause: Duration,
    /// An answer was lost: something may be ours without our knowing.
    may_have_lost: bool,
}

impl Fetcher {
    fn new(shared: Arc<Shared>, buffer: Arc<Buffer>) -> Fetcher {
        Fetcher {
            kinds: shared.kinds.keys().cloned().collect(),
            line: shared.line(),
            pace: Pace::new(shared.options.concurrency),
            last: None,
            empty_since: None,
            listening: None,
            pause: SHORTEST_PAUSE,
            may_have_lost: false,
            shared,
            buffer,
        }
    }

    async fn step(&mut self) {
        let stop = self.shared.stop.clone();
        let free = tokio::select! {
            () = stop.cancelled() => return,
            free = self.room() => free,
        };
        if let Some((asked, got, at)) = self.last.take() {
            self.pace.learn(asked, got, at.elapsed());
        }
        let done = match self.may_have_lost {
            true => self.find_lost().await,
            false => self.claim(free).await,
        };
        self.shared.database_answered(&done);
        match done {
            Ok(()) => self.pause = SHORTEST_PAUSE,
            Err(error) => {
                tracing::warn!(%error, "no runs can be claimed for now: {error}");
                self.may_have_lost = true;
                // Whatever was told to the server before it went away.
                self.listening = None;
                self.wait(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Comes when it is worth to claim again; says how many slots are free.
    async fn room(&self) -> usize {
        loop {
            let waiting = self.buffer.waiting().len();
            let free = self.shared.slots.available_permits();
            let is_room = match self.pace.is_quick() {
                true => waiting <= self.pace.limit(free) / 2,
                false => free > waiting,
            };
            if is_room {
                return free.saturating_sub(waiting);
            }
            self.buffer.taken.notified().await;
        }
    }

    async fn claim(&mut self, free: usize) -> Result<(), RunsError> {
        let asked = self.pace.limit(free);
        // Before the question: no lease of ours ends later than the database's.
        let until = uptime() + self.shared.options.lease / 10 * 9;
        if !self.kinds.is_empty() {
            self.kinds.rotate_left(1);
        }
        let (shared, kinds) = (self.shared.clone(), self.shared.offer.claimed(self.kinds.iter()));
        let claim = self.line.with(move |c| {
            Box::pin(async move { queue::claim(c, &shared.id, &kinds, asked, shared.options.lease).await })
        });
        let runs = claim.await?;
        if runs.is_empty() {
            return self.nothing().await;
        }
        report::claimed(&runs);
        self.last = Some((asked, runs.len(), Instant::now()));
        self.empty_since = None;
        {
            let mut waiting = self.buffer.waiting();
            for run in runs {
                let holding = self.shared.held.add(&run, until);
                waiting.push_back((run, holding));
            }
        }
        self.buffer.added.notify_one();
        if self.listening.take().is_some() {
            let shared = self.shared.clone();
            self.line.with(|c| Box::pin(async move { control::listens_no_more(c, &shared.id.0).await })).await?;
        }
        Ok(())
    }

    /// A short emptiness is waited out; a longer one makes us listen, and look less and less.
    async fn nothing(&mut self) -> Result<(), RunsError> {
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        match self.listening {
            None if since.elapsed() < SHORT => sleep(SOON).await,
            None => {
                let shared = self.shared.clone();
                self.line.with(|c| Box::pin(async move { control::listens(c, &shared.id.0).await })).await?;
                self.listening = Some(0);
            }
            Some(looks) => {
                self.listening = Some(looks + 1);
                let until = LOOKS.get(looks).copied().unwrap_or(self.shared.options.poll);
                self.wait(until.min(self.shared.options.poll)).await;
            }
        }
        Ok(())
    }

    /// Until then, or until something was queued, or until we stop.
    async fn wait(&self, until: Duration) {
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = self.shared.wake.comes() => {}
            () = sleep(until) => {}
        }
    }

    /// Claims whose answer never came are handed back: no attempt is lost with it.
    async fn find_lost(&mut self) -> Result<(), RunsError> {
        let shared = self.shared.clone();
        let ours = self.line.with(|c| Box::pin(async move { queue::claimed_by(c, &shared.id).await })).await?;
        let is_unknown = |(run_id, token): &(String, i64)| {
            !self.shared.held.has(&Hold { run_id: run_id.clone(), lease_token: *token })
        };
        let lost: Vec<(String, i64)> = ours.into_iter().filter(is_unknown).collect();
        if !lost.is_empty() {
            let back = self.line.with(|c| Box::pin(async move { queue::hand_back(c, &lost).await })).await?;
            tracing::info!(runs = back.len(), "{} runs of a claim whose answer was lost are handed back", back.len());
        }
        self.may_have_lost = false;
        Ok(())
    }
}
