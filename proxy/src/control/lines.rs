//! One JSON document per line over a unix socket.

use crate::limits::LINE_MAX_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A connection and what was read of the next line.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next document, or `None` at the end. Cancel-safe: what was read stays in the buffer.
    ///
    /// # Errors
    /// The socket's, `InvalidData` for a line that is too long or is not the document expected.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut searched = 0;
        loop {
            let end = self.buffer[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| searched + end) {
                let document = serde_json::from_slice(&self.buffer[..end]);
                self.buffer.drain(..=end);
                self.buffer.shrink_to(crate::limits::KEPT_BUFFER_BYTES);
                return Ok(Some(document?));
            }
            searched = self.buffer.len();
            if searched > LINE_MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    pub(crate) async fn send(&mut self, document: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        self.stream.write_all(&line).await
    }

    /// For descriptors, which travel between lines. Nothing may be buffered then.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}
