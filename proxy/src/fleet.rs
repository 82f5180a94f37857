//! The fleet port: one node's proxy asks another's for a route, then the connection is one of that route's.
//!
//! ```text
//! ours:   connect, TLS (see `trust`)        --> theirs: a stranger is closed unheard
//!         `PITH/1 <route id>\n`             -->
//!                                       <-- `OK\n` an instance of that node takes it | `NO\n` none does, closed
//! http: requests as from any client, many on one connection, each balanced by itself
//! tcp:  one connection; with `send_proxy_v2` we write that header first, and they pass it on as it is
//! ```
//!
//! Two rules make it one hop and no loss:
//! - What came through a fleet port is served by instances of that node alone ([`Reach::Local`]), and is never
//!   held there: only the node that the client reached knows all who could serve it, so that one holds.
//! - An http request that found no instance is answered 503 with a [`ELSEWHERE`] line. It was given to nobody,
//!   so whatever its method we try the next backend, unless more of its body was sent than is kept. The line
//!   never comes from nor goes to anyone else: each proxy drops it from the answers that it passes on.
//!
//! Must not choose backends or read HTTP; owns the question and its answer alone.

use crate::connect::{Reach, Search, connect};
use crate::http::Arrival;
use crate::limits::{DISMISSED_GRACE, NODE_SILENCE_MAX, QUESTION_DEADLINE, QUESTION_MAX_BYTES};
use crate::listen::Slot;
use crate::live::Live;
use crate::live::backend::{Backend, Reuse, Work};
use crate::live::route::Route;
use crate::stream::Stream;
use crate::table::{Caller, Protocol};
use crate::trust::{self, Way};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// The header of an answer that means: not here, try another backend.
pub(crate) const ELSEWHERE: &str = "Pith-Elsewhere";

/// What opens a question; the number grows with what cannot be understood by older ones.
const GREETING: &str = "PITH/1 ";
const YES: &[u8] = b"OK\n";
/// As long as [`YES`], so that the answer is read without looking beyond it.
const NO: &[u8] = b"NO\n";

/// Asks another node's fleet port for a route. The connection returned is that route's, nothing read of it.
///
/// # Errors
/// The socket's and those of TLS, and `ConnectionRefused` when no instance is there. Without a deadline of its own.
pub(crate) async fn ask(node: &Backend, route: &str) -> io::Result<Stream> {
    let way = node.between.way();
    if matches!(way, Way::Closed) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let socket = connect_from(node.source, node.address).await?;
    socket.set_nodelay(true)?;
    notice_silence(&socket)?;
    let asked = open(&way, socket, node, route).await;
    if let Err(error) = &asked
        && trust::is_distrust(error)
    {
        node.between.warn(&node.id, error);
    }
    asked
}

async fn open(way: &Way, socket: TcpStream, node: &Backend, route: &str) -> io::Result<Stream> {
    let mut stream = match (way, &node.name) {
        (Way::Clear, _) => Stream::Clear(socket),
        (Way::Secure(secure), Some(name)) => secure.ask(socket, name).await?,
        (Way::Secure(_), None) | (Way::Closed, _) => {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
    };
    stream.write_all(format!("{GREETING}{route}\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = [0; YES.len()];
    stream.read_exact(&mut answer).await?;
    if answer != YES {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Sent bytes must be acknowledged in time, and where nothing is sent the other machine is asked (tcp(7)).
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(NODE_SILENCE_MAX))?;
    let asked = TcpKeepalive::new().with_time(NODE_SILENCE_MAX).with_interval(NODE_SILENCE_MAX / 5);
    socket.set_tcp_keepalive(&asked)
}

/// A source that this machine does not have, because people reach it by another's address, is left to the system.
async fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) else {
        return TcpStream::connect(address).await;
    };
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    match socket.bind(SocketAddr::new(source, 0)) {
        Ok(()) => socket.connect(address).await,
        Err(_) => TcpStream::connect(address).await,
    }
}

/// Serves a connection that was accepted on the fleet port until it ends, or a while after its node is no caller any more.
pub(crate) async fn serve(client: TcpStream, peer: IpAddr, live: Arc<Live>) {
    let opening = timeout(QUESTION_DEADLINE, welcome(client, peer, &live)).await;
    let Ok(Some((client, caller, question))) = opening else {
        return;
    };
    tokio::select! {
        // Either ends the connection.
        () = answer(client, caller.clone(), question, &live) => (),
        () = dismissed(&caller, &live) => (),
    }
}

/// Who it is, and what it asks.
async fn welcome(
    client: TcpStream,
    peer: IpAddr,
    live: &Live,
) -> Option<(Stream, Caller, Question)> {
    // By its address first, so that a stranger costs no handshake.
    let callers = live.callers_at(peer);
    let Some(first) = callers.first() else {
        tracing::debug!(%peer, "a stranger on the fleet port");
        return None;
    };
    let between = &live.shared.between;
    let (mut client, name) = match between.way() {
        Way::Closed => return None,
        Way::Clear => (Stream::Clear(client), first.clone()),
        Way::Secure(secure) => match between.admit(&secure, client, &callers).await {
            Ok(admitted) => admitted,
            Err(error) => {
                if trust::is_distrust(&error) {
                    between.warn(&peer, &error);
                }
                return None;
            }
        },
    };
    let question = read_question(&mut client).await.ok()?;
    Some((client, Caller { address: peer, name }, question))
}

async fn answer(mut client: Stream, caller: Caller, question: Question, live: &Arc<Live>) {
    let Some(route) = question.route.and_then(|id| live.route(&id)) else {
        return refuse(client).await;
    };
    match route.protocol {
        Protocol::Http if !route.has_local() => refuse(client).await,
        Protocol::Http => {
            if say(&mut client, YES).await.is_ok() {
                let arrival = Arrival::through_fleet(caller, question.beyond);
                crate::http::serve(client, arrival, Slot::to(route), Arc::clone(live)).await;
            }
        }
        Protocol::Tcp => serve_tcp(client, &route, &question.beyond).await,
    }
}

/// Resolves a while after a node is no caller any more: it was revoked, or has nothing more to ask.
async fn dismissed(caller: &Caller, live: &Live) {
    let mut changes = live.shared.changes.subscribe();
    loop {
        // The sender lives as long as we do.
        let _ = changes.wait_for(|_| !live.is_caller(caller)).await;
        tokio::time::sleep(DISMISSED_GRACE).await;
        if !live.is_caller(caller) {
            tracing::info!(
                caller = caller.name,
                "connections of a node that is no caller any more are cut"
            );
            return;
        }
    }
}

/// An instance is connected to before the answer: a TCP connection cannot be tried elsewhere after it.
async fn serve_tcp(mut client: Stream, route: &Route, first: &[u8]) {
    let mut search = Search::new(Reach::Local, route.draw());
    let connected = connect(route, Work::Connection, Reuse::Never, &mut search).await;
    let Ok(connected) = connected else {
        return refuse(client).await;
    };
    if say(&mut client, YES).await.is_ok() {
        crate::tcp::carry(client, connected, first).await;
    }
}

async fn refuse(mut client: Stream) {
    // If it is lost, the end of the connection says the same.
    let _ = say(&mut client, NO).await;
    let _ = client.shutdown().await;
}

async fn say(client: &mut Stream, answer: &[u8]) -> io::Result<()> {
    client.write_all(answer).await?;
    client.flush().await
}

/// What a connection opened with.
#[derive(Debug)]
struct Question {
    /// The route's id; `None` when the line is not a question that we understand.
    route: Option<String>,
    /// Bytes after the line.
    beyond: Vec<u8>,
}

async fn read_question(client: &mut Stream) -> io::Result<Question> {
    let mut line = Vec::new();
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let beyond = line.split_off(end + 1);
            let text = std::str::from_utf8(&line[..end]).ok();
            let route = text.and_then(|text| text.strip_prefix(GREETING)).map(str::to_owned);
            return Ok(Question { route, beyond });
        }
        let left = QUESTION_MAX_BYTES - line.len();
        if left == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if (&mut *client).take(left as u64).read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
