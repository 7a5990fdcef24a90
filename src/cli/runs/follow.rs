//! `runs logs` and `runs wait`: what goes on, until it is finished. A database that is away for a while
//! is waited for, as long as there is time.

use super::{failed, no_run, show};
use crate::cli::{DONE, ERROR, ops};
use ops_controller::runs::RunsError;
use ops_controller::runs::follow::{EVERY, Follow};
use ops_controller::runs::line::Line;
use ops_controller::runs::look::{self, Artifact, Event, Run};
use ops_controller::runs::runners;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

const QUESTION: Duration = Duration::from_secs(10);
/// Says once that the database is away, and once that it is back.
#[derive(Default)]
struct Away(bool);

impl Away {
    fn is_away(&mut self, error: &RunsError) {
        if !std::mem::replace(&mut self.0, true) {
            eprintln!("{error}; it is waited for");
        }
    }

    fn is_back(&mut self) {
        if std::mem::take(&mut self.0) {
            eprintln!("the ops database is back");
        }
    }
}

/// Without an answer of the database.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
const PAGE: i64 = 1000;
const LAST_EVENTS: i64 = 5;

fn print(events: &[Event], json: bool) {
    for event in events {
        match json {
            true => println!("{}", serde_json::to_string(event).unwrap_or_default()),
            false => println!("{}", show::line(event)),
        }
    }
}

pub async fn logs(run_id: &str, follow: bool, json: bool) -> Result<u8, u8> {
    if follow {
        return go_on(run_id, json).await;
    }
    let mut c = ops::connect().await?;
    look::get(&mut c, run_id).await.map_err(failed)?.ok_or_else(|| no_run(run_id))?;
    let mut after = 0;
    loop {
        let page = look::events(&mut c, run_id, after, PAGE).await.map_err(failed)?;
        print(&page.events, json);
        match page.next {
            Some(next) => after = next,
            None => return Ok(DONE),
        }
    }
}

async fn go_on(run_id: &str, json: bool) -> Result<u8, u8> {
    let mut line = Line::new(ops::address()?, QUESTION);
    let mut follow = Follow::new(run_id, 0);
    let mut heard = Instant::now();
    let mut was_there = false;
    let mut away = Away::default();
    loop {
        let mut next = follow.clone();
        let looked = line.with(|c| {
            Box::pin(async move {
                let look = next.look(c).await?;
                Ok((next, look))
            })
        });
        match looked.await {
            Ok((_, None)) => return Err(no_run(run_id)),
            Ok((next, Some(look))) => {
                (follow, heard, was_there) = (next, Instant::now(), true);
                away.is_back();
                print(&look.events, json);
                if look.ended.is_some() {
                    return Ok(DONE);
                }
                if !look.is_full {
                    sleep(EVERY).await;
                }
            }
            Err(error) if was_there && error.is_transient() && heard.elapsed() < PATIENCE => {
                away.is_away(&error);
                sleep(PAUSE).await;
            }
            Err(error) => return Err(ops::failed(&error)),
        }
    }
}

pub async fn wait(run_id: &str, limit: Duration, interval: Duration) -> Result<u8, u8> {
    let until = Instant::now() + limit;
    let mut line = Line::new(ops::address()?, QUESTION.min(limit));
    let mut was_there = false;
    let mut away = Away::default();
    let mut nobody = None;
    loop {
        match timeout_at(until, look(&mut line, run_id)).await {
            Err(_) => break,
            Ok(Ok(None)) => return Err(no_run(run_id)),
            Ok(Ok(Some(seen))) => {
                away.is_back();
                was_there = true;
                if seen.run.is_finished() {
                    return Ok(told(&seen, None));
                }
                if seen.nobody != nobody {
                    nobody = seen.nobody;
                    nobody.iter().for_each(|nobody| eprintln!("{run_id} waits: {nobody}"));
                }
            }
            // What was there once is waited for.
            Ok(Err(error)) if was_there && error.is_transient() => away.is_away(&error),
            Ok(Err(error)) => return Err(ops::failed(&error)),
        }
        if timeout_at(until, sleep(interval)).await.is_err() {
            break;
        }
    }
    let late = format!("{run_id} is not finished after {} s", limit.as_secs_f64());
    let seen = match was_there {
        true => look(&mut line, run_id).await.ok().flatten(),
        false => None,
    };
    match seen {
        Some(seen) => Ok(told(&seen, Some(&late))),
        None => {
            eprintln!("{late}: the ops database did not answer");
            Err(ERROR)
        }
    }
}

struct Seen {
    run: Run,
    events: Vec<Event>,
    artifacts: Vec<Artifact>,
    /// It waits for a runner, and there is none.
    nobody: Option<String>,
}

async fn look(line: &mut Line, run_id: &str) -> Result<Option<Seen>, RunsError> {
    let id = run_id.to_owned();
    line.with(|c| {
        Box::pin(async move {
            let Some(run) = look::get(c, &id).await? else { return Ok(None) };
            let events = look::last_events(c, &id, LAST_EVENTS).await?;
            let artifacts = look::artifacts(c, &id).await?;
            let nobody = match run.status.as_str() {
                "queued" => runners::nobody_on(c, &run.kind).await?,
                _ => None,
            };
            Ok(Some(Seen { run, events, artifacts, nobody }))
        })
    })
    .await
}

/// Success on standard output; everything else, with the last events, on standard error.
fn told(seen: &Seen, late: Option<&str>) -> u8 {
    if seen.run.status == "success" {
        let first = seen.artifacts.iter().min_by_key(|artifact| artifact.created_at);
        println!("{}", first.map_or_else(|| "success".to_owned(), |artifact| ops::plain(&artifact.storage_path)));
        return DONE;
    }
    let error = seen.run.error.as_deref().map(|error| format!(": {}", ops::plain(error))).unwrap_or_default();
    match late {
        Some(late) if !seen.run.is_finished() => eprintln!("{late}: it is {}", seen.run.status),
        _ => eprintln!("{} {}{error}", seen.run.run_id, seen.run.status),
    }
    for event in &seen.events {
        eprintln!("{}", show::line(event));
    }
    ERROR
}
