//! What a client types: one JSON document per line, on the connection of its request, which goes on without HTTP (101). The answer's lines
//! come on the same connection, as they do without.
//!
//! ```text
//! client --TypedWanted--> Typing -> Act::Input 0, 1, 2 …, a few ahead of what the node has passed on; said again until it has
//! ```

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use protocol::command::{Act, INPUT_WINDOW, Input, MAX_PART_BYTES, Terminal};
use protocol::id::CommandId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::told::Told;
use super::{Listening, MAX_LINES_WAITING};
use crate::api::problem::{Answer, Failed};
use crate::state::commands::Target;

/// What the connection goes on with, as `Upgrade` names it.
pub const UPGRADE_TO: &str = "pith-stream";
/// One document, with room.
const MAX_LINE_BYTES: usize = 2 * MAX_PART_BYTES;
/// An input that is not taken by then is said again: it or its answer was lost, or it was signed for a hello that is too old.
const SAID_AGAIN_AFTER: Duration = Duration::from_millis(1_500);

/// What a client says on such a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TypedWanted {
    /// Bytes for a command's standard input, or for a connection.
    Input {
        /// Base64 of 16 KiB at most.
        bytes: String,
    },
    /// Nothing more comes.
    Last,
    /// The terminal has another size.
    Resize(Terminal),
}

/// The same, as it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Bytes(Vec<u8>),
    Last,
    Size(Terminal),
}

/// What is typed into one stream, and what of it the node has not passed on.
#[derive(Debug)]
pub(super) struct Typing {
    /// None: nobody types.
    coming: Option<mpsc::Receiver<Typed>>,
    number: u64,
    not_taken: VecDeque<Input>,
    /// When one of them was said last, or one was taken.
    said: Option<Instant>,
}

impl Typing {
    /// Of a stream that takes no input.
    pub(super) const fn nobody() -> Self {
        Self { coming: None, number: 0, not_taken: VecDeque::new(), said: None }
    }

    fn of(coming: mpsc::Receiver<Typed>) -> Self {
        Self { coming: Some(coming), ..Self::nobody() }
    }

    /// What is typed next, once there is room for it; none: whoever typed is gone. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        let has_room = (self.not_taken.len() as u64) < INPUT_WINDOW;
        match &mut self.coming {
            Some(coming) if has_room => coming.recv().await,
            Some(_) | None => std::future::pending().await,
        }
    }

    /// What the node is told of it.
    pub(super) fn act(&mut self, stream: &CommandId, typed: Typed, now: Instant) -> Act {
        let (bytes, last) = match typed {
            Typed::Size(terminal) => return Act::Resize { stream: stream.clone(), terminal },
            Typed::Bytes(bytes) => (bytes, false),
            Typed::Last => (Vec::new(), true),
        };
        let input = Input::new(stream.clone(), self.number, &bytes, last);
        self.number += 1;
        self.said = Some(now);
        self.not_taken.push_back(input.clone());
        Act::Input(input)
    }

    /// The node has passed on so many.
    pub(super) fn taken(&mut self, inputs: u64, now: Instant) {
        while self.not_taken.front().is_some_and(|input| input.number < inputs) {
            self.not_taken.pop_front();
            self.said = Some(now);
        }
    }

    /// What is to be said again.
    pub(super) fn not_taken(&mut self, now: Instant) -> Vec<Act> {
        let is_due = |said: Instant| now.duration_since(said) >= SAID_AGAIN_AFTER;
        if !self.said.is_some_and(is_due) {
            return Vec::new();
        }
        self.said = Some(now);
        self.not_taken.iter().cloned().map(Act::Input).collect()
    }
}

/// The connection is the stream's once this is answered.
pub(super) fn answer(
    listening: Listening,
    target: Target,
    act: Act,
    upgrade: Option<Extension<OnUpgrade>>,
) -> Answer {
    let Some(Extension(upgrade)) = upgrade else {
        let message = format!(
            "what is typed comes on the connection of the request: ask with `Connection: upgrade` and `Upgrade: {UPGRADE_TO}`, as `pith exec -i` \
             and `pith port-forward` do"
        );
        return Err(Failed::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message));
    };
    tokio::spawn(async move {
        // A client that goes away before it is answered wants nothing.
        let Ok(connection) = upgrade.await else { return };
        let (from, to) = tokio::io::split(TokioIo::new(connection));
        let (out, lines) = mpsc::channel::<Bytes>(MAX_LINES_WAITING);
        let (typed, coming) = mpsc::channel(1);
        let reading = tokio::spawn(read(from, typed));
        let told = Told { listening, node: target.name.clone(), out };
        let telling = async move {
            // A client that goes away wants no more lines, and a coordinator that stops says none.
            let _ = told.tell(&target, act, Typing::of(coming)).await;
        };
        tokio::join!(telling, write(to, lines));
        reading.abort();
    });
    let head = [(CONNECTION, "upgrade"), (UPGRADE, UPGRADE_TO)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, head).into_response())
}

/// To the last line, or until the client takes none.
async fn write(mut to: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Bytes>) {
    while let Some(line) = lines.recv().await {
        let written = async {
            to.write_all(&line).await?;
            to.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Until the client is gone, or says what is none of its words.
async fn read(from: impl AsyncRead + Unpin, typed: mpsc::Sender<Typed>) {
    if let Err(error) = read_all(from, typed).await {
        tracing::debug!(%error, "what is typed cannot be read");
    }
}

async fn read_all(mut from: impl AsyncRead + Unpin, typed: mpsc::Sender<Typed>) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let one = parse(&line).ok_or(io::ErrorKind::InvalidData)?;
            if typed.send(one).await.is_err() {
                return Ok(());
            }
        }
        if bytes.len() > MAX_LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

fn parse(line: &[u8]) -> Option<Typed> {
    match serde_json::from_slice(line).ok()? {
        TypedWanted::Input { bytes } => {
            let bytes = BASE64.decode(bytes).ok()?;
            (bytes.len() <= MAX_PART_BYTES).then_some(Typed::Bytes(bytes))
        }
        TypedWanted::Last => Some(Typed::Last),
        TypedWanted::Resize(terminal) => Some(Typed::Size(terminal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> CommandId {
        CommandId::from_random([1; 16])
    }

    fn numbers(acts: &[Act]) -> Vec<u64> {
        let number = |act: &Act| {
            let Act::Input(input) = act else { panic!("{act:?}") };
            input.number
        };
        acts.iter().map(number).collect()
    }

    /// What is not taken is said again, all of it and in its turn; what is taken never.
    #[tokio::test]
    async fn what_a_node_did_not_take_is_said_again_until_it_has_and_no_more_than_fits_is_ahead() {
        let (typed, coming) = mpsc::channel(8);
        let (mut typing, began) = (Typing::of(coming), Instant::now());
        for _ in 0..=INPUT_WINDOW {
            typed.send(Typed::Bytes(b"a".to_vec())).await.unwrap();
        }
        for _ in 0..INPUT_WINDOW {
            let one = typing.next().await.unwrap();
            let _ = typing.act(&stream(), one, began);
        }
        let has_more = async |typing: &mut Typing| {
            let next = typing.next();
            tokio::time::timeout(Duration::from_millis(20), next).await.is_ok()
        };
        assert!(!has_more(&mut typing).await, "the window is full");
        assert!(typing.not_taken(began).is_empty(), "it was said just now");
        let later = began + SAID_AGAIN_AFTER;
        assert_eq!(numbers(&typing.not_taken(later)), [0, 1, 2, 3]);
        assert!(typing.not_taken(later).is_empty());
        typing.taken(3, later);
        assert_eq!(numbers(&typing.not_taken(later + SAID_AGAIN_AFTER)), [3]);
        assert!(has_more(&mut typing).await);
        typing.taken(4, later);
        assert!(typing.not_taken(later + 3 * SAID_AGAIN_AFTER).is_empty());
        drop(typed);
        assert_eq!(typing.next().await, None, "whoever typed is gone");
    }

    #[tokio::test]
    async fn a_size_needs_no_place_and_is_not_said_again() {
        let (mut typing, now) = (Typing::nobody(), Instant::now());
        let terminal = Terminal { rows: 24, columns: 80 };
        let act = typing.act(&stream(), Typed::Size(terminal), now);
        assert_eq!(act, Act::Resize { stream: stream(), terminal });
        assert!(typing.not_taken(now + SAID_AGAIN_AFTER).is_empty());
    }

    /// What a client says, what comes of it, and whether it may go on.
    #[tokio::test]
    async fn lines_are_read_to_the_first_that_is_no_clients() {
        async fn came(said: &[u8]) -> (Vec<Typed>, bool) {
            let (typed, mut coming) = mpsc::channel(8);
            let read = read_all(said, typed).await.is_ok();
            let mut all = Vec::new();
            while let Some(one) = coming.recv().await {
                all.push(one);
            }
            (all, read)
        }
        let all = b"{\"input\":{\"bytes\":\"bHM=\"}}\n\"last\"\n{\"resize\":{\"rows\":2,\"columns\":3}}\n";
        let size = Typed::Size(Terminal { rows: 2, columns: 3 });
        assert_eq!(came(all).await, (vec![Typed::Bytes(b"ls".to_vec()), Typed::Last, size], true));
        assert_eq!(came(b"\"last\"").await, (Vec::new(), true), "it has no end");
        for bad in ["{}\n", "\"last\"x\n", "{\"input\":{\"bytes\":\"?\"}}\n", "\n"] {
            assert_eq!(came(bad.as_bytes()).await, (Vec::new(), false), "{bad}");
        }
        let long = BASE64.encode(vec![0; MAX_PART_BYTES + 1]);
        let long = format!("{{\"input\":{{\"bytes\":\"{long}\"}}}}\n");
        assert_eq!(came(long.as_bytes()).await, (Vec::new(), false));
        assert_eq!(came(&vec![b'a'; MAX_LINE_BYTES + 1]).await, (Vec::new(), false));
    }
}
