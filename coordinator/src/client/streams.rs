//! Answers without a length, line by line. They are asked for once: what was lost on its way may have been done.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use protocol::command::{MAX_PART_BYTES, Terminal};
use protocol::id::ServiceId;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Upgraded, header};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::{Client, ClientError, chain};
use crate::api::{ExecWanted, ForwardWanted, Problem, TypedWanted, UPGRADE_TO};
use crate::state::shown::StreamShown;

/// A coordinator that is there says so more often.
const SILENCE: Duration = Duration::from_secs(45);
/// How often whoever types says that they are there.
pub const ALIVE_EVERY: Duration = Duration::from_secs(8);
/// Of the whole answer, which may go on for as long as somebody listens.
const WHOLE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A line longer than this is nobody's.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// An answer under way.
#[derive(Debug)]
pub struct Lines {
    from: From,
    bytes: Vec<u8>,
}

/// Where lines come from.
#[derive(Debug)]
enum From {
    Answer(Response),
    Connection(ReadHalf<Upgraded>),
}

/// What is typed into an answer under way.
#[derive(Debug)]
pub struct Keys {
    to: WriteHalf<Upgraded>,
}

impl Keys {
    /// Bytes for the command, or for the connection.
    ///
    /// # Errors
    /// Where the answer broke off; so for all that follow.
    pub async fn input(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for piece in bytes.chunks(MAX_PART_BYTES) {
            self.say(&TypedWanted::Input { bytes: BASE64.encode(piece) }).await?;
        }
        Ok(())
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// See [`Keys::input`].
    pub async fn last(&mut self) -> Result<(), ClientError> {
        self.say(&TypedWanted::Last).await
    }

    /// The terminal has another size.
    ///
    /// # Errors
    /// See [`Keys::input`].
    pub async fn resize(&mut self, terminal: Terminal) -> Result<(), ClientError> {
        self.say(&TypedWanted::Resize(terminal)).await
    }

    /// Nothing, and still there; to be said each [`ALIVE_EVERY`].
    ///
    /// # Errors
    /// See [`Keys::input`].
    pub async fn alive(&mut self) -> Result<(), ClientError> {
        self.say(&TypedWanted::Alive).await
    }

    async fn say(&mut self, typed: &TypedWanted) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(typed).map_err(|e| ClientError::Broken(chain(&e)))?;
        line.push(b'\n');
        let saying = async {
            self.to.write_all(&line).await?;
            self.to.flush().await
        };
        saying.await.map_err(|error| ClientError::Broken(chain(&error)))
    }
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
        self.lines(Method::POST, &format!("services/{id}/exec"), Some(json(wanted)?)).await
    }

    /// Runs a command inside an instance, with input or on a terminal.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn exec_typed(
        &self,
        id: &ServiceId,
        wanted: &ExecWanted,
    ) -> Result<(Lines, Keys), ClientError> {
        self.typed(&format!("services/{id}/exec"), wanted).await
    }

    /// Opens a connection to a port of an instance.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn forward(
        &self,
        id: &ServiceId,
        wanted: &ForwardWanted,
    ) -> Result<(Lines, Keys), ClientError> {
        self.typed(&format!("services/{id}/forward"), wanted).await
    }

    /// A connection that goes on without HTTP.
    async fn typed(
        &self,
        path: &str,
        wanted: &impl Serialize,
    ) -> Result<(Lines, Keys), ClientError> {
        let upgraded = |request: RequestBuilder| {
            request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, UPGRADE_TO)
        };
        let answer = self.ask(Method::POST, path, Some(json(wanted)?), upgraded).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let why = "it does not take what is typed; is the coordinator older than this pith?";
            return Err(ClientError::Broken(why.to_owned()));
        }
        let connection =
            answer.upgrade().await.map_err(|error| ClientError::Broken(chain(&error)))?;
        let (from, to) = tokio::io::split(connection);
        Ok((Lines { from: From::Connection(from), bytes: Vec::new() }, Keys { to }))
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
        let from = From::Answer(self.open(method, path, body).await?);
        Ok(Lines { from, bytes: Vec::new() })
    }

    /// An answer that has begun and goes on for as long as somebody listens.
    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, ClientError> {
        self.ask(method, path, body, |request| request).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let (http, base) = self.way.http().await?;
        let mut request = with(http.request(method, format!("{base}{path}")).timeout(WHOLE));
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
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
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
            let more = tokio::time::timeout(SILENCE, self.more()).await;
            if !more.unwrap_or_else(|_| Err(silent()))? {
                return Ok(None);
            }
        }
    }

    /// Reads on; false: there is nothing more. Cancel-safe.
    async fn more(&mut self) -> Result<bool, ClientError> {
        match &mut self.from {
            From::Answer(answer) => {
                let chunk = answer.chunk().await;
                let chunk = chunk.map_err(|error| ClientError::Broken(chain(&error)))?;
                self.bytes.extend_from_slice(chunk.as_deref().unwrap_or_default());
                Ok(chunk.is_some())
            }
            From::Connection(from) => {
                let read = from.read_buf(&mut self.bytes).await;
                Ok(read.map_err(|error| ClientError::Broken(chain(&error)))? > 0)
            }
        }
    }
}

fn json(wanted: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(wanted).map_err(|error| ClientError::Broken(chain(&error)))
}

fn silent() -> ClientError {
    ClientError::Broken(format!("nothing for {} s", SILENCE.as_secs()))
}
