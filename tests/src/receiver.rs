//! Whoever is told by webhooks: keeps what comes, and answers as it is told to.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::listening::Listening;
use crate::wait::until;

const SOON: Duration = Duration::from_secs(60);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `POST /x HTTP/1.1`
    pub line: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inside {
    answers: VecDeque<u16>,
    received: Vec<Received>,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    listening: Listening,
    inside: Arc<Mutex<Inside>>,
}

impl Received {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Receiver {
    /// Answers with these status codes, one after another, and then with 204.
    ///
    /// # Panics
    /// Where there is no port.
    #[must_use]
    pub fn start(answers: &[u16]) -> Self {
        let inside = Inside { answers: answers.iter().copied().collect(), ..Inside::default() };
        let inside = Arc::new(Mutex::new(inside));
        let shared = Arc::clone(&inside);
        let listening = Listening::start(move |stream| serve(stream, &shared));
        Self { listening, inside }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.listening.address())
    }

    /// Everything that came.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.inside).received.clone()
    }

    /// Waits for a request that fits.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn wait(&self, what: &str, fits: impl Fn(&Received) -> bool) -> Received {
        until(what, SOON, || self.received().into_iter().find(&fits))
    }
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, inside: &Mutex<Inside>) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut headers = Vec::new();
    for header in reader.by_ref().lines().map_while(Result::ok) {
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    if reader.take(length).read_to_end(&mut body).is_err() {
        return;
    }
    let status = {
        let mut inside = lock(inside);
        inside.received.push(Received { line: line.trim_end().to_owned(), headers, body });
        inside.answers.pop_front().unwrap_or(204)
    };
    let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}
