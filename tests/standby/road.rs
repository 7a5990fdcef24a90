//! A daemon's own way to DigitalOcean and Railway: it keeps what was written, and can keep an answer.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};

/// What is held, and how: the answer to the next request of this kind stays on the road.
type Hold = (&'static str, &'static str);

#[derive(Clone)]
pub struct Road {
    to: String,
    client: reqwest::Client,
    writes: Arc<Mutex<Vec<String>>>,
    hold: Arc<Mutex<Option<Hold>>>,
    reached: Arc<Notify>,
    open: Arc<watch::Sender<bool>>,
}

impl Road {
    /// Returns the road and the address at its near end.
    pub async fn to(base_url: &str) -> (Road, String) {
        let url = url::Url::parse(base_url).expect("an address");
        let road = Road {
            to: format!("http://{}:{}", url.host_str().expect("a host"), url.port().expect("a port")),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
            writes: Arc::default(),
            hold: Arc::default(),
            reached: Arc::default(),
            open: Arc::new(watch::channel(true).0),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let near = format!("http://{}{}", listener.local_addr().expect("an address"), url.path());
        let app = axum::Router::new().fallback(forward).with_state(road.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (road, near.trim_end_matches('/').to_owned())
    }

    pub fn writes(&self) -> Vec<String> {
        self.writes.lock().expect("the writes").clone()
    }

    /// The next request of this kind is carried out, and its answer kept on the way.
    pub fn hold(&self, method: &'static str, path: &'static str) {
        self.open.send_replace(false);
        *self.hold.lock().expect("the hold") = Some((method, path));
    }

    /// Until an answer is kept.
    pub async fn until_held(&self) {
        let reached = tokio::time::timeout(crate::support::DEADLINE, self.reached.notified()).await;
        reached.expect("a request of that kind comes");
    }

    pub fn let_go(&self) {
        self.open.send_replace(true);
    }

    /// Reads are POSTs as well at Railway: only its mutation is a write.
    fn note(&self, request: &str, method: &str, body: &[u8]) {
        let is_graphql = request.contains("graphql");
        let is_mutation = memchr::memmem::find(body, b"DeploymentRestart").is_some();
        if method != "GET" && (!is_graphql || is_mutation) {
            self.writes.lock().expect("the writes").push(request.to_owned());
        }
    }
}

async fn forward(State(road): State<Road>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    road.note(&format!("{} {}", parts.method, parts.uri.path()), parts.method.as_str(), &body);
    let mut headers = parts.headers;
    headers.remove("host");
    let url = format!("{}{}", road.to, parts.uri);
    let answer = road.client.request(parts.method.clone(), url).headers(headers).body(body).send().await;
    let held = {
        let mut hold = road.hold.lock().expect("the hold");
        hold.take_if(|(method, path)| parts.method == *method && parts.uri.path() == *path).is_some()
    };
    if held {
        road.reached.notify_one();
        let _ = road.open.subscribe().wait_for(|open| *open).await;
    }
    let Ok(answer) = answer else {
        return Response::builder().status(502).body(Body::empty()).expect("a response");
    };
    let status = answer.status();
    let mut response = Response::builder().status(status);
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && name != "content-length" && name != "connection" {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.expect("a body"))).expect("a response")
}
