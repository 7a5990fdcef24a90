//! The supervisor's listener: `GET /health` answers 200 `OK` and knows nothing else.
//!
//! Written by hand rather than with a server crate so that a killed supervisor takes its open
//! connections along; a connection that goes on answering would be a healthy-looking ghost.

use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A predecessor's socket may take a moment to be freed.
const BIND_ATTEMPTS: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(50);
/// Whoever connects and says nothing must not hold a connection for ever.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEAD: usize = 16 * 1024;

pub struct Listener(TcpListener);

impl Listener {
    pub async fn bind(ip: Ipv4Addr, port: u16) -> std::io::Result<Self> {
        let mut attempt = 1;
        loop {
            match TcpListener::bind((ip, port)).await {
                Ok(listener) => return Ok(Self(listener)),
                Err(error) if attempt == BIND_ATTEMPTS => return Err(error),
                Err(_) => tokio::time::sleep(BIND_PAUSE).await,
            }
            attempt += 1;
        }
    }

    /// Never returns; dropping it closes every connection.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.0.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(tokio::time::timeout(REQUEST_TIMEOUT, answer(stream)));
                    }
                    // Out of file handles: accepting again at once would spin.
                    Err(_) => tokio::time::sleep(BIND_PAUSE).await,
                },
            }
        }
    }
}

async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(n) if n > 0 && head.len() < MAX_HEAD => {}
            _ => return,
        }
    }
    let (status, body) = route(&head);
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // The prober may have gone; there is nobody to tell.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn route(head: &[u8]) -> (&'static str, &'static str) {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/health") => ("200 OK", "OK"),
        (_, b"/health") => ("405 Method Not Allowed", "Method not allowed"),
        _ => ("404 Not Found", "Not found"),
    }
}
