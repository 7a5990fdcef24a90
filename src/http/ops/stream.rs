//! A run's events as server-sent events, as they come.
//!
//! Every event carries its number, so a client whose connection broke goes on after the last one it has
//! (`Last-Event-ID`, as browsers send it). The last event is `end`. A stream ends without it after some
//! time, and when the database is long away: clients connect again by themselves.

use super::Ops;
use super::receive::{Query, RunId, text_header};
use crate::http::problem::Problem;
use crate::runs::follow::{EVERY, Follow, Look};
use crate::runs::look;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A token that was revoked meanwhile opens nothing after that.
const LONGEST: Duration = Duration::from_secs(900);
/// Without an answer of the database.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between questions to a database that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens in a run, as it happens.
///
/// Server-sent events: each has the event's `seq` as its id and the event as its data; the last is of the
/// type `end` and carries the run's id and status.
#[utoipa::path(get, path = "/ops/runs/{run_id}/events/stream", tag = "runs", security(("bearer" = ["runs:read"])),
    params(
        ("run_id" = String, Path),
        ("after" = Option<i64>, Query, minimum = 0, description = "only events with a larger seq"),
        ("Last-Event-ID" = Option<i64>, Header, minimum = 0, description = "the same, and wins"),
    ),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn stream(
    State(ops): State<Arc<Ops>>,
    RunId(id): RunId,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = query.number("after", 0, i64::MAX)?.unwrap_or(0);
    query.end()?;
    let after = match text_header(&headers, "Last-Event-ID")? {
        Some(text) => text
            .parse()
            .ok()
            .filter(|seq| *seq >= 0)
            .ok_or_else(|| Problem::invalid_field("Last-Event-ID", "must be the id of an event of this stream"))?,
        None => after,
    };
    let permit = ops.routes.streams.clone().try_acquire_owned();
    let permit =
        permit.map_err(|_| Problem::unavailable("too-many-streams", "as many streams as allowed are open", 5))?;
    let wanted = id.clone();
    let run = ops.ask(move |c| Box::pin(async move { look::get(c, &wanted).await })).await?;
    run.ok_or_else(Problem::no_run)?;
    let now = Instant::now();
    let follower = Follower {
        follow: Follow::new(&id, after),
        run_id: id,
        ops,
        ready: VecDeque::new(),
        until: now + LONGEST,
        heard: now,
        is_over: false,
        _permit: permit,
    };
    let events = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    // A proxy that collects answers would hold them back.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

struct Follower {
    ops: Arc<Ops>,
    run_id: String,
    follow: Follow,
    /// Not sent yet.
    ready: VecDeque<Event>,
    until: Instant,
    /// When the database answered last.
    heard: Instant,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// `None`: the stream is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over || Instant::now() >= self.until || self.heard.elapsed() >= PATIENCE {
                return None;
            }
            let pause = self.look().await?;
            if self.ready.is_empty() && !self.is_over {
                tokio::select! {
                    () = self.ops.stop.cancelled() => return None,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// How long to wait when it has brought nothing; `None`: the run is gone.
    async fn look(&mut self) -> Option<Duration> {
        let mut follow = self.follow.clone();
        let looked = self.ops.routes.lines.with(|c| {
            Box::pin(async move {
                let look = follow.look(c).await?;
                Ok((follow, look))
            })
        });
        let Ok((follow, found)) = looked.await else { return Some(PAUSE) };
        self.follow = follow;
        self.heard = Instant::now();
        let Look { events, ended, .. } = found?;
        self.ready.extend(events.iter().map(told));
        if let Some(status) = ended {
            self.is_over = true;
            let data = json!({ "run_id": self.run_id, "status": status });
            self.ready.push_back(Event::default().event("end").data(data.to_string()));
        }
        Some(EVERY)
    }
}

fn told(event: &look::Event) -> Event {
    // JSON in one line: no character of it ends a field.
    let data = serde_json::to_string(event).unwrap_or_default();
    Event::default().id(event.seq.to_string()).data(data)
}
