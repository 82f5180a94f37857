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
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::told::Told;
use super::{Listening, MAX_LINES_WAITING};
use crate::api::problem::{Answer, Failed};
use crate::state::commands::Target;

/// What the connection goes on with, as `Upgrade` names it.
pub const UPGRADE_TO: &str = "pith-stream";
/// One document, with room.
const MAX_LINE_BYTES: usize = 2 * MAX_PART_BYTES;
/// What is not taken by then is said again: it or its answer was lost, or it was signed for a hello that is too old. Or it is not read, which
/// nobody knows here: each time it waits twice as long.
const SAID_AGAIN_AFTER: Duration = Duration::from_millis(1_500);
const MAX_SAID_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// So much later at the earliest is a terminal of yet another size.
const SIZE_EVERY: Duration = Duration::from_millis(150);
/// Clients say something more often, where they are heard.
const SILENCE: Duration = Duration::from_secs(30);
/// A client that still writes when all is over gets this long to read how it ended.
const DISCARD_FOR: Duration = Duration::from_secs(2);

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
    /// Nothing, and still there: said every few seconds, since a network that is gone says nothing.
    Alive,
}

/// The same, as it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Bytes(Vec<u8>),
    Last,
    Size(Terminal),
}

/// What a client types: in its turn, but for sizes, of which the newest counts.
#[derive(Debug)]
struct Coming {
    inputs: mpsc::Receiver<Typed>,
    sizes: watch::Receiver<Option<Terminal>>,
    /// When the next size may be taken.
    size_at: Instant,
}

/// The client's side of it.
#[derive(Debug)]
struct Client {
    inputs: mpsc::Sender<Typed>,
    sizes: watch::Sender<Option<Terminal>>,
}

fn client() -> (Client, Coming) {
    let (inputs, coming) = mpsc::channel(1);
    let (sizes, newest) = watch::channel(None);
    (Client { inputs, sizes }, Coming { inputs: coming, sizes: newest, size_at: Instant::now() })
}

/// What is typed into one stream, and what of it the node has not passed on.
#[derive(Debug)]
pub(super) struct Typing {
    /// None: nobody types.
    coming: Option<Coming>,
    number: u64,
    not_taken: VecDeque<Input>,
    /// When the first of them was said last, or one was taken.
    said: Option<Instant>,
    /// See [`SAID_AGAIN_AFTER`].
    again_after: Duration,
}

impl Typing {
    /// Of a stream that takes no input.
    pub(super) const fn nobody() -> Self {
        Self {
            coming: None,
            number: 0,
            not_taken: VecDeque::new(),
            said: None,
            again_after: SAID_AGAIN_AFTER,
        }
    }

    fn of(coming: Coming) -> Self {
        Self { coming: Some(coming), ..Self::nobody() }
    }

    /// What is typed next, bytes once there is room for them; none: whoever typed is gone. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        let has_room = (self.not_taken.len() as u64) < INPUT_WINDOW;
        let Some(Coming { inputs, sizes, size_at }) = &mut self.coming else {
            return std::future::pending().await;
        };
        let changed = async {
            // In this order: what `changed` has seen it does not see again, and this may be given up while it waits.
            tokio::time::sleep_until(*size_at).await;
            sizes.changed().await.map(|()| *sizes.borrow_and_update())
        };
        tokio::select! {
            // What was typed before its writer went comes first.
            biased;
            typed = inputs.recv(), if has_room => typed,
            changed = changed => match changed {
                Ok(size) => {
                    *size_at = Instant::now() + SIZE_EVERY;
                    size.map(Typed::Size)
                }
                Err(_) if has_room => inputs.recv().await,
                Err(_) => None,
            },
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
        if self.not_taken.is_empty() {
            self.said = Some(now);
        }
        self.not_taken.push_back(input.clone());
        Act::Input(input)
    }

    /// The node has passed on so many.
    pub(super) fn taken(&mut self, inputs: u64, now: Instant) {
        while self.not_taken.front().is_some_and(|input| input.number < inputs) {
            self.not_taken.pop_front();
            self.said = Some(now);
            self.again_after = SAID_AGAIN_AFTER;
        }
    }

    /// What is to be said again: all of it once, and from then on the first.
    pub(super) fn again(&mut self, now: Instant) -> Vec<Act> {
        let is_due = |said: Instant| now.duration_since(said) >= self.again_after;
        if self.not_taken.is_empty() || !self.said.is_some_and(is_due) {
            return Vec::new();
        }
        let many = if self.again_after == SAID_AGAIN_AFTER { self.not_taken.len() } else { 1 };
        self.said = Some(now);
        self.again_after = (self.again_after * 2).min(MAX_SAID_AGAIN_AFTER);
        self.not_taken.iter().take(many).cloned().map(Act::Input).collect()
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
        let (client, coming) = client();
        let mut reading = tokio::spawn(read(from, client));
        let told = Told { listening, node: target.name.clone(), out };
        let telling = async move {
            // A client that goes away wants no more lines, and a coordinator that stops says none.
            let _ = told.tell(&target, act, Typing::of(coming)).await;
        };
        tokio::join!(telling, write(to, lines));
        // Closed with something unread, the connection would be reset, and the client might not read how it ended.
        let _ = tokio::time::timeout(DISCARD_FOR, &mut reading).await;
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

/// Until the client is gone, whoever still wants what it says; or until it says what is none of its words.
async fn read(mut from: impl AsyncRead + Unpin, client: Client) {
    if let Err(error) = read_all(&mut from, client).await {
        tracing::debug!(%error, "what is typed cannot be read");
        return;
    }
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

/// Until there is nothing more, or nobody wants it.
async fn read_all(from: &mut (impl AsyncRead + Unpin), client: Client) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let passed = match parse(&line).ok_or(io::ErrorKind::InvalidData)? {
                None => true,
                Some(Typed::Size(terminal)) => client.sizes.send(Some(terminal)).is_ok(),
                Some(input @ (Typed::Bytes(_) | Typed::Last)) => {
                    client.inputs.send(input).await.is_ok()
                }
            };
            if !passed {
                return Ok(());
            }
        }
        if bytes.len() > MAX_LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Cancel-safe: nothing is read before it is there.
        let read = tokio::select! {
            read = from.read_buf(&mut bytes) => read?,
            () = tokio::time::sleep(SILENCE) => return Err(io::ErrorKind::TimedOut.into()),
            () = client.inputs.closed() => return Ok(()),
        };
        if read == 0 {
            return Ok(());
        }
    }
}

/// What a line says, or none: that the client is there.
fn parse(line: &[u8]) -> Option<Option<Typed>> {
    match serde_json::from_slice(line).ok()? {
        TypedWanted::Input { bytes } => {
            let bytes = BASE64.decode(bytes).ok()?;
            (bytes.len() <= MAX_PART_BYTES).then_some(Some(Typed::Bytes(bytes)))
        }
        TypedWanted::Last => Some(Some(Typed::Last)),
        TypedWanted::Resize(terminal) => Some(Some(Typed::Size(terminal))),
        TypedWanted::Alive => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> CommandId {
        CommandId::from_random([1; 16])
    }

    fn numbers(acts: Vec<Act>) -> Vec<u64> {
        let number = |act: Act| {
            let Act::Input(input) = act else { panic!("{act:?}") };
            input.number
        };
        acts.into_iter().map(number).collect()
    }

    async fn has_more(typing: &mut Typing) -> bool {
        tokio::time::timeout(Duration::from_millis(20), typing.next()).await.is_ok()
    }

    /// What is not taken is said again, the first of it and ever more rarely: it may be that nobody reads it there.
    #[tokio::test(start_paused = true)]
    async fn what_a_node_did_not_take_is_said_again_until_it_has_and_no_more_than_fits_is_ahead() {
        let (client, coming) = client();
        let (mut typing, began) = (Typing::of(coming), Instant::now());
        for _ in 0..INPUT_WINDOW {
            client.inputs.send(Typed::Bytes(b"a".to_vec())).await.unwrap();
            let one = typing.next().await.unwrap();
            let _ = typing.act(&stream(), one, began);
        }
        client.inputs.send(Typed::Bytes(b"b".to_vec())).await.unwrap();
        assert!(!has_more(&mut typing).await, "the window is full");
        assert!(typing.again(began).is_empty(), "it was said just now");
        let at = |ms: u64| began + Duration::from_millis(ms);
        assert_eq!(numbers(typing.again(at(1_500))), [0, 1, 2, 3]);
        let said = |typing: &mut Typing| {
            (0..100_000).filter(|ms| numbers(typing.again(at(*ms))) == [0]).collect::<Vec<_>>()
        };
        assert_eq!(said(&mut typing), [4_500, 10_500, 22_500, 46_500, 76_500]);
        typing.taken(3, at(100_000));
        assert!(typing.again(at(101_499)).is_empty());
        assert_eq!(numbers(typing.again(at(101_500))), [3]);
        assert!(has_more(&mut typing).await);
        typing.taken(4, at(102_000));
        assert!(typing.again(at(999_999)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_is_seen_once_what_it_typed_is_passed_on_or_nothing_can_be() {
        for full in [false, true] {
            let (client, coming) = client();
            let mut typing = Typing::of(coming);
            for _ in 0..if full { INPUT_WINDOW } else { 1 } {
                client.inputs.send(Typed::Last).await.unwrap();
                let one = typing.next().await.unwrap();
                let _ = typing.act(&stream(), one, Instant::now());
            }
            client.inputs.send(Typed::Last).await.unwrap();
            drop(client);
            if !full {
                assert_eq!(typing.next().await, Some(Typed::Last));
            }
            assert_eq!(typing.next().await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_sizes_the_newest_counts_and_it_waits_for_nothing() {
        let (client, coming) = client();
        let (mut typing, now) = (Typing::of(coming), Instant::now());
        for _ in 0..INPUT_WINDOW {
            let _ = typing.act(&stream(), Typed::Bytes(b"a".to_vec()), now);
        }
        client.sizes.send_replace(Some(Terminal { rows: 1, columns: 1 }));
        let terminal = Terminal { rows: 24, columns: 80 };
        client.sizes.send_replace(Some(terminal));
        assert_eq!(typing.next().await, Some(Typed::Size(terminal)));
        let act = typing.act(&stream(), Typed::Size(terminal), now);
        assert_eq!(act, Act::Resize { stream: stream(), terminal });
        // Whoever drags the edge of a window does not make a command of each step.
        client.sizes.send_replace(Some(Terminal { rows: 2, columns: 2 }));
        assert!(!has_more(&mut typing).await);
        client.sizes.send_replace(Some(terminal));
        assert_eq!(typing.next().await, Some(Typed::Size(terminal)));
        // Nor is a size lost over what is typed while it waits.
        typing.taken(INPUT_WINDOW, now);
        let last = Terminal { rows: 3, columns: 3 };
        client.sizes.send_replace(Some(last));
        assert!(!has_more(&mut typing).await);
        client.inputs.send(Typed::Last).await.unwrap();
        assert_eq!(typing.next().await, Some(Typed::Last));
        assert_eq!(typing.next().await, Some(Typed::Size(last)));
    }

    /// What a client says, what comes of it, and whether it may go on.
    #[tokio::test(start_paused = true)]
    async fn lines_are_read_to_the_first_that_is_no_clients() {
        async fn came(mut said: &[u8]) -> (Vec<Typed>, bool) {
            let (client, coming) = client();
            let mut typing = Typing::of(coming);
            let mut all = Vec::new();
            let read = async { read_all(&mut said, client).await.is_ok() };
            let gather = async {
                while let Some(one) = typing.next().await {
                    all.push(one);
                }
            };
            let (read, ()) = tokio::join!(read, gather);
            (all, read)
        }
        let all = b"{\"input\":{\"bytes\":\"bHM=\"}}\n\"last\"\n";
        assert_eq!(came(all).await, (vec![Typed::Bytes(b"ls".to_vec()), Typed::Last], true));
        let size = b"{\"resize\":{\"rows\":2,\"columns\":3}}\n";
        let terminal = Terminal { rows: 2, columns: 3 };
        assert_eq!(parse(size), Some(Some(Typed::Size(terminal))));
        assert_eq!(came(b"\"alive\"\n\"last\"\n").await, (vec![Typed::Last], true));
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
