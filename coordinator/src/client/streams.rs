//! Answers without a length, line by line. They are asked for once: what was lost on its way may have been done.

use std::time::Duration;

use bytes::Bytes;
use protocol::id::ServiceId;
use reqwest::{Method, Response, header};

use super::{Client, ClientError, chain};
use crate::api::{ExecWanted, Problem};
use crate::state::shown::StreamShown;

/// A coordinator that is there says so more often.
const SILENCE: Duration = Duration::from_secs(45);
/// Of the whole answer, which may go on for as long as somebody listens.
const WHOLE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A line longer than this is nobody's.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// An answer under way.
#[derive(Debug)]
pub struct Lines {
    answer: Response,
    bytes: Vec<u8>,
}

/// Server-sent events under way.
#[derive(Debug)]
pub struct Events {
    answer: Response,
}

impl Events {
    /// The next piece of them, as it came; none after the last.
    ///
    /// # Errors
    /// Where the answer broke off, or nothing comes any more.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        match tokio::time::timeout(SILENCE, self.answer.chunk()).await {
            Ok(piece) => piece.map_err(|error| ClientError::Broken(chain(&error))),
            Err(_) => Err(silent()),
        }
    }
}

impl Client {
    /// What instances of a service have written.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn logs(
        &self,
        id: &ServiceId,
        query: &[(&str, Option<String>)],
    ) -> Result<Lines, ClientError> {
        let pairs = query.iter().filter_map(|(k, v)| Some(format!("{k}={}", v.as_ref()?)));
        let pairs: Vec<String> = pairs.collect();
        let path = format!("services/{id}/logs?{}", pairs.join("&"));
        self.lines(Method::GET, &path, None).await
    }

    /// What is odd about a board, as it is told: one document in pieces.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn doctor(&self, node: &str) -> Result<Lines, ClientError> {
        self.lines(Method::GET, &format!("nodes/{}/doctor", super::named(node)?), None).await
    }

    /// Runs a command inside an instance.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn exec(&self, id: &ServiceId, wanted: &ExecWanted) -> Result<Lines, ClientError> {
        let body = serde_json::to_vec(wanted).map_err(|e| ClientError::Broken(e.to_string()))?;
        self.lines(Method::POST, &format!("services/{id}/exec"), Some(body)).await
    }

    /// The fleet as it changes, for a page.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn live(&self) -> Result<Events, ClientError> {
        Ok(Events { answer: self.open(Method::GET, "live", None).await? })
    }

    async fn lines(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Lines, ClientError> {
        let answer = self.open(method, path, body).await?;
        Ok(Lines { answer, bytes: Vec::new() })
    }

    /// An answer that has begun and goes on for as long as somebody listens.
    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, ClientError> {
        let (http, base) = self.way.http().await?;
        let mut request = http.request(method, format!("{base}{path}")).timeout(WHOLE);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let answer = match tokio::time::timeout(SILENCE, request.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(self.way.unreachable(&error)),
            Ok(Err(error)) => return Err(ClientError::Broken(chain(&error))),
            Err(_) => return Err(silent()),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.map_err(|error| ClientError::Broken(chain(&error)))?;
        let problem = serde_json::from_str(&text)
            .unwrap_or_else(|_| Problem { code: status.as_str().to_owned(), message: text });
        Err(ClientError::Refused(problem))
    }
}

impl Lines {
    /// The next one; none after the last.
    ///
    /// # Errors
    /// Where the answer broke off.
    pub async fn next(&mut self) -> Result<Option<StreamShown>, ClientError> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let line = serde_json::from_slice(&line);
                return line.map(Some).map_err(|e| ClientError::Broken(e.to_string()));
            }
            if self.bytes.len() > MAX_LINE_BYTES {
                return Err(ClientError::Broken("a line has no end".to_owned()));
            }
            match tokio::time::timeout(SILENCE, self.answer.chunk()).await {
                Ok(Ok(Some(chunk))) => self.bytes.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => return Err(ClientError::Broken(chain(&error))),
                Err(_) => return Err(silent()),
            }
        }
    }
}

fn silent() -> ClientError {
    ClientError::Broken(format!("nothing for {} s", SILENCE.as_secs()))
}
