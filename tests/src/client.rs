//! A client of a service: one kept connection, headers of its own, and what the answer says of who gave it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);
/// Connections over which many requests are spread.
const CONNECTIONS: u64 = 4;

/// An answer to GET `/`.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The demo application's version, from its header `x-version`; empty where something else answered.
    pub version: String,
    /// The cookie that it sets, as `name=value`.
    pub cookie: Option<String>,
    is_last: bool,
}

/// A kept connection, made anew where the server announces its end.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    /// One that connects with its first request.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// GETs `/` with these headers.
    ///
    /// # Errors
    /// When there is no connection or no readable answer within 10 s.
    pub fn ask(&mut self, headers: &[(&str, &str)]) -> Result<Answer, String> {
        self.get("/", headers)
    }

    /// GETs a path with these headers.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let mut stream = match self.stream.take() {
            Some(kept) => kept,
            None => connect(self.address).map_err(|e| format!("connect: {e}"))?,
        };
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        stream.write_all((request + "\r\n").as_bytes()).map_err(|e| format!("write: {e}"))?;
        let answer = read(&mut stream)?;
        self.stream = Some(stream).filter(|_| !answer.is_last);
        Ok(answer)
    }
}

/// Who answers `requests` requests without headers, each version with its count.
///
/// # Panics
/// When one of them is not answered with 200.
#[must_use]
#[track_caller]
pub fn versions(address: SocketAddr, requests: u64) -> BTreeMap<String, u64> {
    let ask = |share: u64| {
        let mut client = Client::of(address);
        (0..share).map(|_| client.ask(&[])).collect::<Result<Vec<Answer>, String>>()
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let share = |n| requests / CONNECTIONS + u64::from(n < requests % CONNECTIONS);
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|n| scope.spawn(move || ask(share(n)))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread of requests")).collect()
    });
    let mut versions = BTreeMap::new();
    for answer in
        answers.into_iter().flat_map(|answers| answers.expect("every request is answered"))
    {
        assert_eq!(answer.status, 200, "{answer:?}");
        *versions.entry(answer.version).or_default() += 1;
    }
    versions
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn read(stream: &mut TcpStream) -> Result<Answer, String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let mut more = |bytes: &mut Vec<u8>| match stream.read(&mut piece) {
        Ok(0) => Err(format!("closed after {} bytes of an answer", bytes.len())),
        Ok(count) => {
            bytes.extend_from_slice(&piece[..count]);
            Ok(())
        }
        Err(error) => Err(format!("read: {error}")),
    };
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(&mut bytes)?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length: usize =
        field(&head, "content-length").and_then(|v| v.parse().ok()).ok_or("no content-length")?;
    while bytes.len() < end + length {
        more(&mut bytes)?;
    }
    let cookie = field(&head, "set-cookie").and_then(|value| value.split(';').next());
    Ok(Answer {
        status: head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status")?,
        version: field(&head, "x-version").unwrap_or_default().to_owned(),
        cookie: cookie.map(str::to_owned),
        is_last: field(&head, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close")),
    })
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
