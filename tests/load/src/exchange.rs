//! One request and its answer on a connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A connection that may be kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Whether the connection can carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
}

impl Connection {
    pub(crate) async fn open(target: SocketAddr) -> Result<Self, String> {
        let connected = timeout(LIMIT, TcpStream::connect(target)).await;
        let stream = connected.map_err(|_| "connect: timed out".to_owned())?;
        let stream = stream.map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("connect: {e}"))?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Whether the server has closed it while nothing was asked.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0];
        match self.stream.try_read(&mut byte) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// GETs a path; the first word of the answer's body.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        after: After,
    ) -> (Result<String, String>, After) {
        match timeout(LIMIT, self.exchange(path, after)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => (Err(error), After::Close),
            Err(_) => (Err("no answer within 10 s".to_owned()), After::Close),
        }
    }

    async fn exchange(
        &mut self,
        path: &str,
        after: After,
    ) -> Result<(Result<String, String>, After), String> {
        let close = if after == After::Close { "connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: pith\r\n{close}\r\n");
        self.stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
        self.buffer.clear();
        let head_end = self.read_head().await?;
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status")?;
        let length = field(&head, "content-length").and_then(|v| v.parse::<usize>().ok());
        let length = length.ok_or("an answer without content-length")?;
        while self.buffer.len() < head_end + length {
            self.read_more("the body").await?;
        }
        let body = String::from_utf8_lossy(&self.buffer[head_end..head_end + length]);
        let word = body.split_whitespace().next().unwrap_or_default().to_owned();
        let is_last = field(&head, "connection").is_some_and(|v| v.contains("close"));
        let after = if is_last { After::Close } else { after };
        Ok((
            if status == 200 { Ok(word) } else { Err(format!("status {status}: {}", body.trim())) },
            after,
        ))
    }

    async fn read_head(&mut self) -> Result<usize, String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(end + 4);
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err("a head without end".to_owned());
            }
            self.read_more("the head").await?;
        }
    }

    async fn read_more(&mut self, what: &str) -> Result<(), String> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => {
                Err(format!("closed before {what} was complete, {} bytes read", self.buffer.len()))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("reading {what}: {error}")),
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}
