//! One MQTT session through the port: CONNECT checked against the certificate, then bytes both ways until an end or a cut.

use std::net::SocketAddr;

use protocol::id::NodeId;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::connect::{Connect, ConnectError};
use super::door::Pass;
use super::places::Seat;
use super::{Shared, tls};

/// Each way, per session: what a slow side may hold up.
const BUFFER_BYTES: usize = 4 * 1024;

/// CONNACK return codes (MQTT 3.1.1, table 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Refusal {
    Version = 1,
    ClientId = 2,
    Unavailable = 3,
    NotAuthorized = 5,
}

/// Serves a client until it, the broker or the door ends the session.
pub(super) async fn run(
    mut stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    mut seat: Seat,
    until: Instant,
    shared: &Shared,
) {
    let connect = match tokio::time::timeout_at(until, Connect::read(&mut stream)).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no CONNECT");
            if matches!(error, ConnectError::Version(_)) {
                refuse(stream, until, Refusal::Version).await;
            }
            return;
        }
        Err(_) => {
            tracing::debug!(%peer, "no CONNECT in time");
            return;
        }
    };
    let pass = match login(&stream, &connect, peer, shared) {
        Ok(pass) => pass,
        Err((refusal, why)) => {
            let client_id: String = connect.client_id.chars().take(64).collect();
            tracing::info!(%peer, ?client_id, why, "a client is refused");
            refuse(stream, until, refusal).await;
            return;
        }
    };
    let Some(broker) = reach_broker(shared.broker, &connect, &pass, until).await else {
        refuse(stream, until, Refusal::Unavailable).await;
        return;
    };
    seat.logged_in();
    copy(stream, broker, pass).await;
}

/// The node of the certificate, if it is the one that the client says it is and was admitted.
fn login(
    stream: &TlsStream<TcpStream>,
    connect: &Connect,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<Pass, (Refusal, &'static str)> {
    let certificates = stream.get_ref().1.peer_certificates();
    let Some(certificate) = certificates.and_then(<[_]>::first) else {
        return Err((Refusal::NotAuthorized, "it has no certificate"));
    };
    let Ok(node) = connect.client_id.parse::<NodeId>() else {
        return Err((Refusal::ClientId, "its client id is not a node's"));
    };
    if !tls::is_of_node(certificate, shared.door.fleet(), &node) {
        return Err((Refusal::ClientId, "its certificate is not that node's"));
    }
    let pass = shared.door.enter(&node, peer);
    pass.ok_or((Refusal::NotAuthorized, "the node is revoked, or was not admitted"))
}

async fn reach_broker(
    broker: Option<SocketAddr>,
    connect: &Connect,
    pass: &Pass,
    until: Instant,
) -> Option<TcpStream> {
    let packet = connect.with_login(&connect.client_id, &pass.token);
    let reached = async {
        let mut broker = TcpStream::connect(broker?).await.ok()?;
        let _ = broker.set_nodelay(true);
        broker.write_all(&packet).await.ok()?;
        Some(broker)
    };
    tokio::time::timeout_at(until, reached).await.ok().flatten()
}

async fn copy(mut stream: TlsStream<TcpStream>, mut broker: TcpStream, mut pass: Pass) {
    let copied =
        copy_bidirectional_with_sizes(&mut stream, &mut broker, BUFFER_BYTES, BUFFER_BYTES);
    tokio::select! {
        // Both may be dropped half-way: the session is over then, and both sockets close.
        _ = copied => {}
        // It never changes: it ends when the door drops its half.
        _ = pass.cut.changed() => {}
    }
}

/// A client that understands is told why; none is waited for longer than its login may take.
async fn refuse(mut stream: TlsStream<TcpStream>, until: Instant, refusal: Refusal) {
    let answer = async {
        stream.write_all(&[0x20, 2, 0, refusal as u8]).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout_at(until, answer).await;
}
