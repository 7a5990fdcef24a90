//! Claims runs and executes their phases: the process behind `ops-controller runner`, also inside `run`.
//!
//! Any number of runners on any number of machines share one database. What this module refuses: to
//! work on a run whose lease it may have lost, to claim while it is stopping, and to call a run ended
//! before the database has said so.

pub mod check;
mod execute;
mod fetch;
mod finish;
mod held;
mod keep;
mod kept;
pub mod kind;
pub mod kinds;
mod listen;
pub mod offer;
pub mod once;
mod pace;
pub mod prune;
pub mod report;
pub mod store;

use crate::clients::machine;
use crate::config::Retention;
use crate::runs::RunsError;
use crate::runs::control::{self, Presence};
use crate::runs::line::Line;
use crate::runs::queue::RunnerId;
use crate::runs::schema::Address;
use crate::runs::troubles::Troubles;
use finish::Word;
use held::Held;
use kind::Kind;
use listen::Wake;
use offer::Offer;
use sqlx::postgres::PgPool;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::Store;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// For one question to the database, connecting included.
const LINE_LIMIT: Duration = Duration::from_secs(10);
/// For what was told to stop and does not.
const WRAP_UP: Duration = Duration::from_secs(2);

/// What a runner is like.
#[derive(Clone)]
pub struct Options {
    /// What people call it; its id has a word more for each start.
    pub worker_id: String,
    /// Runs at once.
    pub concurrency: usize,
    /// How long a run may be without a word of its runner. Renewed three times in that time.
    pub lease: Duration,
    /// How often an idle runner looks by itself.
    pub poll: Duration,
    /// How long phases may go on after a SIGTERM.
    pub grace: Duration,
    pub retention: Retention,
    /// How often it removes what nobody needs any more.
    pub prune_every: Duration,
}

impl Options {
    pub const PRUNES_EVERY: Duration = Duration::from_secs(3600);

    pub fn named(worker_id: impl Into<String>) -> Options {
        Options {
            worker_id: worker_id.into(),
            concurrency: 10,
            lease: Duration::from_secs(60),
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(25),
            retention: Retention::default(),
            prune_every: Options::PRUNES_EVERY,
        }
    }
}

/// The kinds that a runner can execute, by name.
pub type Kinds = BTreeMap<String, Arc<dyn Kind>>;

pub struct Runner {
    address: Address,
    options: Options,
    kinds: Kinds,
    offer: Arc<Offer>,
    troubles: Troubles,
    id: RunnerId,
    store: Option<Arc<Store>>,
}

/// What all tasks of a runner share.
struct Shared {
    id: RunnerId,
    options: Options,
    kinds: Kinds,
    offer: Arc<Offer>,
    troubles: Troubles,
    address: Address,
    /// From which artifacts and dumps are removed that have expired.
    store: Option<Arc<Store>>,
    /// For phases; the hot paths have lines of their own.
    pool: PgPool,
    held: Held,
    slots: Arc<Semaphore>,
    wake: Wake,
    /// No more claims.
    stop: CancellationToken,
    /// Attempts ended since the database was told.
    processed: AtomicI64,
}

impl Shared {
    fn line(&self) -> Line {
        Line::new(self.address.clone(), LINE_LIMIT)
    }

    /// Those of its kinds that are claimed now.
    fn claimed_kinds(&self) -> Vec<String> {
        self.offer.claimed(self.kinds.keys())
    }

    /// Whoever has asked the database says here whether it answered.
    fn database_answered<T>(&self, answer: &Result<T, RunsError>) {
        match answer {
            Err(error) if error.is_transient() => report::database_is_away(&self.troubles, error),
            _ => report::database_is_there(&self.troubles),
        }
    }
}

impl Runner {
    pub fn new(address: Address, options: Options, kinds: Kinds) -> Runner {
        let id = RunnerId(format!("{}-{}", options.worker_id, machine::word()));
        Runner { address, options, kinds, offer: Arc::default(), troubles: Troubles::default(), id, store: None }
    }

    /// It also removes what has expired from this store.
    pub fn pruning(self, store: Arc<Store>) -> Runner {
        Runner { store: Some(store), ..self }
    }

    /// What is left out of its kinds, and what is held back for now.
    pub fn offering(self, offer: Arc<Offer>) -> Runner {
        Runner { offer, ..self }
    }

    /// Where it says what keeps it from working.
    pub fn telling(self, troubles: Troubles) -> Runner {
        Runner { troubles, ..self }
    }

    pub fn id(&self) -> &str {
        &self.id.0
    }

    /// Works until it is stopped, and then until phases are done or the grace is over. `Err`: it could
    /// not begin. Later trouble with the database is waited out.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunsError> {
        let shared = self.shared(stop);
        let presence = presence(&shared);
        let known = presence.clone();
        let mut line = shared.line();
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            said = line.with(|c| Box::pin(async move { control::hello(c, &known).await })) => said?,
        }
        tracing::info!(
            runner = %shared.id.0, concurrency = shared.options.concurrency,
            "runner {} {}", shared.id.0, shared.offer.told(shared.kinds.keys())
        );

        let crew = Crew::of(&shared);
        let tasks = TaskTracker::new();
        fetch::fetch(&shared, &tasks, &crew.words).await;

        tasks.close();
        if !tasks.is_empty() {
            let (most, count) = (shared.options.grace.as_secs_f64(), tasks.len());
            tracing::info!(runs = count, "waiting up to {most} s for {count} run{}", if count == 1 { "" } else { "s" });
        }
        if tokio::time::timeout(shared.options.grace, tasks.wait()).await.is_err() {
            shared.held.stop_all(held::Stop::Shutdown);
            // What does not hear that is not waited for; its lease runs out.
            let _ = tokio::time::timeout(WRAP_UP, tasks.wait()).await;
        }
        crew.go().await;
        let processed = shared.processed.swap(0, Ordering::Relaxed);
        let id = shared.id.0.clone();
        let mut line = Line::new(shared.address.clone(), WRAP_UP);
        let goodbye = line.with(|c| {
            Box::pin(async move {
                control::listens_no_more(c, &id).await?;
                control::seen(c, &id, processed, true).await
            })
        });
        if goodbye.await.is_err() {
            tracing::debug!(runner = %shared.id.0, "the database was not told that the runner ends");
        }
        tracing::info!(runner = %shared.id.0, "runner {} has stopped", shared.id.0);
        Ok(())
    }

    fn shared(self, stop: CancellationToken) -> Arc<Shared> {
        let largest = u32::try_from(self.options.concurrency).unwrap_or(u32::MAX).clamp(2, 8);
        Arc::new(Shared {
            pool: self.address.pool(largest),
            held: Held::default(),
            slots: Arc::new(Semaphore::new(self.options.concurrency)),
            wake: Wake::default(),
            stop,
            processed: AtomicI64::new(0),
            id: self.id,
            options: self.options,
            kinds: self.kinds,
            offer: self.offer,
            troubles: self.troubles,
            address: self.address,
            store: self.store,
        })
    }
}

/// What works beside the work: hears of cancellations, keeps leases, tells ends.
struct Crew {
    words: mpsc::Sender<Word>,
    /// Ends when everything that was begun has been told to the database.
    ended: CancellationToken,
    /// A runner that is dropped keeps no lease: nobody would work on its runs any more.
    listener: AbortOnDropHandle<()>,
    keeper: AbortOnDropHandle<()>,
    finisher: JoinHandle<()>,
}

impl Crew {
    fn of(shared: &Arc<Shared>) -> Crew {
        let ended = CancellationToken::new();
        let (words, heard) = mpsc::channel(1024);
        Crew {
            words,
            listener: AbortOnDropHandle::new(tokio::spawn(listen::listen(shared.clone(), ended.clone()))),
            keeper: AbortOnDropHandle::new(tokio::spawn(keep::keep(shared.clone(), ended.clone()))),
            finisher: tokio::spawn(finish::finish(shared.clone(), heard)),
            ended,
        }
    }

    /// Once nobody has anything to say any more.
    async fn go(self) {
        drop(self.words);
        let _ = tokio::time::timeout(LINE_LIMIT, self.finisher).await;
        self.ended.cancel();
        let _ = self.keeper.await;
        self.listener.abort();
    }
}

fn presence(shared: &Shared) -> Presence {
    Presence {
        runner_id: shared.id.0.clone(),
        worker_id: shared.options.worker_id.clone(),
        hostname: machine::hostname(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        kinds: shared.claimed_kinds(),
        concurrency: i32::try_from(shared.options.concurrency).unwrap_or(i32::MAX),
    }
}
