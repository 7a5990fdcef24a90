//! The part of a peer in the harness that compares job queues: told what to do by one word and the
//! environment, it says `READY`, `DONE`, `LAT` and `ENQ`.
//!
//! PG_URL is the database, N how many runs, TARGET after how many handled runs `DONE` is said, SECS how
//! long to produce, CONC how many adds are in flight, GAP_MS the pause between paced adds.

use super::Error;
use super::effect::Effect;
use ops_controller::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use ops_controller::runner::{Kinds, Options, Runner};
use ops_controller::runs::schema::Address;
use ops_controller::runs::{Claimed, NewRun, queue};
use serde_json::{Value, json};
use sqlx::Executor;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What calls it on the command line.
pub const WORD: &str = "contender";
pub const KIND: &str = "probe";
/// Writes into a table that is in the same database.
pub const EFFECT: &str = "effect";
/// Of one call of the bulk add.
const BULK: usize = 1000;

pub fn main(operation: &str) -> ExitCode {
    let done = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(perform(operation)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(word: &str) -> Result<(), Error> {
    let address = Address::from_url(&variable("PG_URL")?, "contender")?;
    match word {
        "setup" => setup(&address).await,
        "enqueue" => enqueue(&address, number("N", 20_000)).await,
        "work" => work(address, number("TARGET", 0)).await,
        "produce" => produce(&address, number("SECS", 3.0), number("CONC", 4)).await,
        "paced" => paced(&address, number("N", 100), number("GAP_MS", 20)).await,
        word => Err(format!("there is no operation {word}").into()),
    }
}

fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn say(line: &str) {
    println!("{line}");
    // The harness reads line by line; when it is gone, nobody is left to be told.
    let _ = std::io::stdout().flush();
}

fn payload(i: usize, at: f64) -> Value {
    json!({ "i": i, "t": at, "msg": "hello world, sixty-four bytes or so of payload" })
}

pub async fn setup(address: &Address) -> Result<(), Error> {
    let mut c = address.connect().await?;
    c.execute("drop schema if exists ops cascade").await?;
    drop(c);
    address.migrate().await?;
    Ok(())
}

async fn enqueue(address: &Address, n: usize) -> Result<(), Error> {
    let mut c = address.connect().await?;
    let began = Instant::now();
    for start in (0..n).step_by(BULK) {
        let inputs: Vec<Value> = (start..n.min(start + BULK)).map(|i| payload(i, 0.0)).collect();
        sqlx::query("select count(*) from unnest($1::jsonb[]) as i, lateral ops.enqueue($2, i)")
            .bind(&inputs)
            .bind(KIND)
            .execute(&mut c)
            .await?;
    }
    say(&format!("ENQ {n} {}", began.elapsed().as_secs_f64()));
    Ok(())
}

/// Handled as soon as it is begun; says so when the last one is.
struct Probe {
    target: usize,
    handled: AtomicUsize,
    delays: Mutex<Vec<f64>>,
}

impl Kind for Probe {
    fn phases(&self, run: &Claimed) -> Result<Vec<Phase>, String> {
        let at = run.input.get("t").and_then(Value::as_f64).unwrap_or_default();
        if at > 0.0 {
            let delay = (now() - at) * 1000.0;
            self.delays.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
        }
        if self.handled.fetch_add(1, Ordering::Relaxed) + 1 == self.target {
            let delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if !delays.is_empty() {
                say(&format!("LAT {}", json!(delays)));
            }
            say(&format!("DONE {}", now()));
        }
        Ok(Vec::new())
    }

    fn work<'a>(&'a self, _: &'a Context) -> Work<'a> {
        Box::pin(async { Err(PhaseError::failed("a probe has no phases")) })
    }
}

async fn work(address: Address, target: usize) -> Result<(), Error> {
    let probe = Probe { target, handled: AtomicUsize::new(0), delays: Mutex::default() };
    let kinds: Kinds =
        [(KIND.to_owned(), Arc::new(probe) as Arc<dyn Kind>), (EFFECT.to_owned(), Arc::new(Effect::new(&address)))]
            .into();
    let options = Options {
        concurrency: number("CONCURRENCY", 24),
        lease: Duration::from_millis(number("LEASE_MS", 60_000)),
        ..Options::named(WORD)
    };
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stopped.cancel();
    });
    say(&format!("READY {}", now()));
    Ok(Runner::new(address, options, kinds).run(stop).await?)
}

async fn produce(address: &Address, seconds: f64, in_flight: usize) -> Result<(), Error> {
    let mut connections = Vec::new();
    for _ in 0..in_flight {
        connections.push(address.connect().await?);
    }
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let adders = connections.into_iter().map(|mut c| {
        tokio::spawn(async move {
            let mut added = 0;
            while Instant::now() < until {
                let run = NewRun { input: payload(added, 0.0), ..NewRun::of_kind(KIND) };
                queue::enqueue(&mut c, &run).await?;
                added += 1;
            }
            Ok::<usize, sqlx::Error>(added)
        })
    });
    let mut added = 0;
    for adder in adders.collect::<Vec<_>>() {
        added += adder.await??;
    }
    say(&format!("ENQ {added} {}", began.elapsed().as_secs_f64()));
    Ok(())
}

async fn paced(address: &Address, n: usize, gap: u64) -> Result<(), Error> {
    let mut c = address.connect().await?;
    let began = Instant::now();
    for i in 0..n {
        let run = NewRun { input: payload(i, now()), ..NewRun::of_kind(KIND) };
        queue::enqueue(&mut c, &run).await?;
        // 0 to 12 ms more, so that nothing falls into step with it.
        tokio::time::sleep(Duration::from_millis(gap + u64::try_from(i * 7 % 13).unwrap_or_default())).await;
    }
    say(&format!("ENQ {n} {}", began.elapsed().as_secs_f64()));
    Ok(())
}
