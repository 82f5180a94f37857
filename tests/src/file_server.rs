//! A web server of a test's own that gives one file, as badly as it is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::listening::Listening;

/// Bytes of one write.
const PIECE_BYTES: usize = 16 * 1024;

/// How it treats agents; anybody else gets the file as it is.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Closes each connection after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Holds each connection, in silence, after so many.
    pub rest_after: Option<usize>,
    /// Gives the whole, whatever part is asked for.
    pub ignores_range: bool,
    /// Gives other bytes of the same length.
    pub lies: bool,
    /// Says that there are so many bytes more than there are.
    pub promises_more: usize,
    /// Answers 503.
    pub is_away: bool,
}

/// What an agent asked for, and what it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The first byte it wanted.
    pub from: usize,
    /// Whether it wanted a part only of the very same file.
    pub is_conditional: bool,
    /// Bytes of the body that were sent.
    pub sent: usize,
    /// Whether it hung up while the server rested.
    pub has_hung_up: bool,
}

#[derive(Debug, Default)]
struct Inside {
    file: Vec<u8>,
    etag: String,
    manners: Manners,
    asked: Vec<Asked>,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct FileServer {
    listening: Listening,
    inside: Arc<Mutex<Inside>>,
}

impl FileServer {
    /// Gives this file on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// Where there is no port.
    #[must_use]
    pub fn start(file: Vec<u8>) -> Self {
        let inside = Inside { file, etag: "\"1\"".to_owned(), ..Inside::default() };
        let inside = Arc::new(Mutex::new(inside));
        let shared = Arc::clone(&inside);
        let listening = Listening::start(move |stream| serve(stream, &shared));
        Self { listening, inside }
    }

    /// Where the file is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/app.tar", self.listening.address())
    }

    /// From now on, to agents.
    pub fn behave(&self, manners: Manners) {
        lock(&self.inside).manners = manners;
    }

    /// What agents have asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.inside).asked.clone()
    }

    /// Ends it: nobody listens any more.
    pub fn stop(&self) {
        self.listening.stop();
    }
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, inside: &Mutex<Inside>) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut head = Vec::new();
    for line in BufReader::new(copy).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        head.push(line.to_ascii_lowercase());
    }
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_agent = header("user-agent:") == Some("pith-agent");
    let range =
        header("range:").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (file, etag, manners, number) = {
        let mut inside = lock(inside);
        let manners = if is_agent { inside.manners.clone() } else { Manners::default() };
        let mut file = inside.file.clone();
        if manners.lies {
            file.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let from = range.unwrap_or(0);
        let is_conditional = header("if-range:").is_some();
        if is_agent {
            inside.asked.push(Asked { from, is_conditional, sent: 0, has_hung_up: false });
        }
        (file, inside.etag.clone(), manners, inside.asked.len().saturating_sub(1))
    };
    if manners.is_away {
        let _ = stream.write_all(b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n");
        return;
    }
    let is_same = header("if-range:").is_none_or(|wanted| wanted == etag);
    let from = range.filter(|from| is_same && !manners.ignores_range && *from < file.len());
    let length = file.len() - from.unwrap_or(0) + manners.promises_more;
    let status = match from {
        Some(from) => format!(
            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{}",
            file.len() - 1,
            file.len()
        ),
        None => "200 OK".to_owned(),
    };
    let head = format!("HTTP/1.1 {status}\r\netag: {etag}\r\ncontent-length: {length}\r\n\r\n");
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    let body = &file[from.unwrap_or(0)..];
    let end = manners.cut_after.or(manners.rest_after).unwrap_or(body.len()).min(body.len());
    for piece in body[..end].chunks(PIECE_BYTES) {
        if stream.write_all(piece).is_err() {
            return;
        }
        if is_agent {
            lock(inside).asked[number].sent += piece.len();
        }
    }
    if manners.rest_after.is_some() && end < body.len() {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
        // Until the other side has gone.
        let ended = stream.read(&mut [0]);
        if is_agent && ended.is_ok() {
            lock(inside).asked[number].has_hung_up = true;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}
