//! A run's events as they come: each once, in order, to the end; and again from where a client was.

use crate::world::{DEADLINE, World};
use reqwest::Method;
use serde_json::Value;
use tokio::time::timeout;

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    id: Option<i64>,
    event: Option<String>,
    data: Value,
}

struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(world: &World, id: &str, last: Option<i64>) -> Stream {
        let mut request = world.as_admin(Method::GET, &format!("/ops/runs/{id}/events/stream"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        Stream { answer, text: String::new() }
    }

    /// `None`: the stream has ended.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
                };
                let sent = field("data:").map(|data| Sent {
                    id: field("id:").map(|id| id.parse().expect("a number")),
                    event: field("event:"),
                    data: serde_json::from_str(&data).expect("JSON"),
                });
                self.text = rest.to_owned();
                match sent {
                    Some(sent) => return Some(sent),
                    None => continue,
                }
            }
            let more = timeout(DEADLINE, self.answer.chunk()).await.expect("something in time").expect("a chunk")?;
            self.text.push_str(std::str::from_utf8(&more).expect("UTF-8"));
        }
    }

    async fn rest(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.next().await {
            all.push(sent);
        }
        all
    }
}

fn messages(sent: &[Sent]) -> Vec<&str> {
    sent.iter().filter_map(|sent| sent.data["message"].as_str()).collect()
}

#[tokio::test]
async fn what_happened_comes_at_once_and_the_end_is_said() {
    let world = World::start().await;
    let id = world.finished("success").await;
    let all = Stream::open(&world, &id, None).await.rest().await;
    assert_eq!(messages(&all).len(), 5, "{all:?}");
    let ids: Vec<_> = all.iter().filter_map(|sent| sent.id).collect();
    assert!(ids.is_sorted() && ids.len() == 5, "{ids:?}");
    let end = all.last().expect("an end");
    assert_eq!((end.event.as_deref(), end.id), (Some("end"), None));
    assert_eq!((end.data["run_id"].as_str(), end.data["status"].as_str()), (Some(id.as_str()), Some("success")));
}

#[tokio::test]
async fn events_come_as_they_happen_and_a_client_goes_on_where_it_was() {
    let world = World::start().await;
    let id = world.running().await;
    let mut stream = Stream::open(&world, &id, None).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(stream.next().await.expect("what was there"));
    }
    world.db.execute(&format!("select ops.note_event('{id}', 1, 'info', 'a\nb', '{{}}', 'send')")).await;
    let noted = stream.next().await.expect("as it happens");
    assert_eq!(noted.data["message"], "a\nb");
    // The connection breaks, and things go on meanwhile.
    drop(stream);
    world.db.execute(&format!("select ops.note_event('{id}', 1, 'warn', 'meanwhile', '{{}}', 'send')")).await;
    let mut again = Stream::open(&world, &id, noted.id).await;
    assert_eq!(again.next().await.expect("the next one").data["message"], "meanwhile");
    world
        .db
        .execute(&format!("select ops.finish_runs('{{{id}}}', '{{1}}', '{{success}}', '{{null}}', '{{null}}')"))
        .await;
    let rest = again.rest().await;
    assert_eq!(messages(&rest), ["Run finished: success"]);
    assert_eq!(rest.last().and_then(|sent| sent.event.as_deref()), Some("end"));
}

#[tokio::test]
async fn an_event_that_commits_late_is_not_lost() {
    use sqlx::{AssertSqlSafe, Connection, Executor};
    let world = World::start().await;
    let id = world.running().await;
    let mut stream = Stream::open(&world, &id, None).await;
    for _ in 0..3 {
        stream.next().await.expect("what was there");
    }
    let mut c = world.db.c().await;
    let mut early = c.begin().await.expect("a transaction");
    let note = |text: &str| AssertSqlSafe(format!("select ops.note_event('{id}', 1, 'info', '{text}', '{{}}', null)"));
    early.execute(note("early")).await.expect("noted");
    world.db.c().await.execute(note("late")).await.expect("noted");
    early.commit().await.expect("committed");
    assert_eq!(stream.next().await.expect("the first").data["message"], "early");
    assert_eq!(stream.next().await.expect("the second").data["message"], "late");
}

#[tokio::test]
async fn a_place_in_the_stream_that_is_none_is_refused() {
    let world = World::start().await;
    let id = world.queued().await;
    for last in ["x", "-1", "1.5", ""] {
        let request =
            world.as_admin(Method::GET, &format!("/ops/runs/{id}/events/stream")).header("last-event-id", last);
        let detail = world.send(request).await.expect_problem(422, "invalid");
        assert!(detail.starts_with("Last-Event-ID"), "{detail}");
    }
    world.get(&format!("/ops/runs/{id}/events/stream?after=-1")).await.expect_problem(422, "invalid");
}

#[tokio::test]
async fn streams_end_with_the_server_and_no_more_are_open_than_allowed() {
    let world = World::start().await;
    let id = world.queued().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(Stream::open(&world, &id, None).await);
    }
    let answer = world.get(&format!("/ops/runs/{id}/events/stream")).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.expect_problem(503, "too-many-streams");
    world.controls.stop.cancel();
    let mut last = open.pop().expect("a stream");
    timeout(DEADLINE, last.rest()).await.expect("it ends");
}
