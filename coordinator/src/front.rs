//! The one TLS port of the coordinator: who may come in, and what they reach behind it.
//!
//! ```text
//! accept -> a place (limits) -> TLS 1.3 -> ALPN http/1.1: join, renew, login; the API with an operator's certificate
//!                                      \-> MQTT: CONNECT read here, client id = certificate's node id, admitted?
//!                                           -> internal token put in -> embedded broker on loopback, bytes copied both ways
//! ```
//! The handshake is never in the accept loop: whoever is silent holds a place and nothing else, for [`Limits::login_within`].
//! A session ends at any moment that the [`Door`] says, which the broker library could not do.

mod addresses;
pub mod blobs;
mod connect;
mod door;
pub(crate) mod http;
pub mod joining;
mod places;
mod session;
pub mod tls;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub use self::addresses::own_addresses;
use self::blobs::Shown;
pub use self::connect::{Connect, ConnectError};
pub use self::door::{Door, DoorError};
pub use self::places::Limits;
use self::places::{Places, Seat};
use self::tls::TlsError;
use protocol::id::sha256_hex;

use crate::api::Peer;
use crate::ca::Ca;
use crate::event_loop;

/// The port that nodes know.
pub const DEFAULT_PORT: u16 = 8883;
/// Everything: IPv6, and IPv4 through it.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT);
/// The port's own certificate is made anew this often: it is good for 90 days.
const NEW_CERTIFICATE_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// After an accept that failed, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the port needs.
#[derive(Debug)]
pub struct FrontConfig {
    /// Who may come in how often.
    pub limits: Limits,
    /// The fleet's CA: shows who we are and says who others are.
    pub ca: Arc<Ca>,
    /// Who may come in.
    pub door: Door,
    /// Where the embedded broker listens; none: MQTT is somebody else's.
    pub broker: Option<SocketAddr>,
    /// What HTTP is answered.
    pub router: axum::Router,
}

/// Why the port does not serve.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Taken, or not ours.
    #[error(
        "the coordinator cannot listen on {listen}: {source}; another address: [broker] listen in \
         coordinator.toml"
    )]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A port that is served; dropping it ends every connection through it.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A port that was opened, and that nobody is let in by yet: what is served there may say where it is.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Opens a port; 0 takes a free one.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn to(listen: SocketAddr) -> Result<Self, FrontError> {
        let failed = |source| FrontError::Listen { listen, source };
        let listener = bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it is.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Front {
    /// Starts to serve; connections are accepted when this returns.
    ///
    /// # Errors
    /// Where no certificate can be made.
    pub fn start(bound: Bound, config: FrontConfig) -> Result<Self, FrontError> {
        let Bound { listener, address } = bound;
        let acceptor = tls::acceptor(&config.ca, now_s())?;
        let serving = tokio::spawn(serve(listener, acceptor, config));
        tracing::info!(%address, "coordinator listens for nodes and operators");
        Ok(Self { address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// A machine without IPv6 serves IPv4 where all of both was asked for.
async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error)
            if listen.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != io::ErrorKind::AddrInUse
                && error.kind() != io::ErrorKind::PermissionDenied =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        bound => bound,
    }
}

/// What every connection shares.
struct Shared {
    door: Door,
    broker: Option<SocketAddr>,
    router: axum::Router,
    limits: Limits,
}

async fn serve(
    listener: TcpListener,
    mut acceptor: tokio_rustls::TlsAcceptor,
    config: FrontConfig,
) {
    let FrontConfig { limits, ca, door, broker, router } = config;
    let places = Places::new(limits);
    let shared = Arc::new(Shared { door, broker, router, limits });
    let mut made = Instant::now();
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: accepting and joining lose nothing when dropped.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if made.elapsed() > NEW_CERTIFICATE_EVERY {
            match tls::acceptor(&ca, now_s()) {
                Ok(newer) => (acceptor, made) = (newer, Instant::now()),
                Err(error) => tracing::error!(%error, "the port's certificate is not renewed"),
            }
        }
        let Some(seat) = places.take(peer.ip()) else { continue };
        let visitor = Visitor { socket, peer, seat, until: Instant::now() + limits.login_within };
        connections.spawn(visitor.enter(acceptor.clone(), Arc::clone(&shared)));
    }
}

/// A connection that has said nothing yet.
struct Visitor {
    socket: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    until: Instant,
}

impl Visitor {
    async fn enter(self, acceptor: tokio_rustls::TlsAcceptor, shared: Arc<Shared>) {
        let Self { socket, peer, seat, until } = self;
        // Small packets both ways; a failure costs latency only.
        let _ = socket.set_nodelay(true);
        let stream = match tokio::time::timeout_at(until, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "no TLS in time");
                return;
            }
        };
        if stream.get_ref().1.alpn_protocol() == Some(protocol::join::ALPN_HTTP) {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.map(|der| sha256_hex(der));
            let shown = shown.map(|der| Shown(Arc::new(der.clone().into_owned())));
            let is_stranger = certificate.is_none();
            let peer = Peer::Remote { from: peer.ip().to_canonical(), certificate };
            let end = async {
                match is_stranger {
                    true => tokio::time::sleep(shared.limits.http_within).await,
                    // Whose it is, and whether it still is, is asked at every request.
                    false => std::future::pending().await,
                }
            };
            let who = http::Who { peer, shown };
            http::serve(stream, who, shared.router.clone(), end, Duration::ZERO).await;
            return;
        }
        session::run(stream, peer, seat, until, &shared).await;
    }
}

fn now_s() -> u64 {
    event_loop::at().unix_ms / 1000
}

/// Ends when the other half is dropped: a session that may be cut.
type Cut = watch::Receiver<()>;

#[cfg(test)]
mod tests;
