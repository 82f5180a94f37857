//! The embedded MQTT broker: rmqtt as a library behind one seam (DESIGN §6).
//!
//! The coordinator speaks MQTT to it exactly as to Mosquitto: nothing here reads or writes a message on the coordinator's
//! behalf. It keeps nothing on disk; intent is published again at every start. It runs on a runtime of its own, because the
//! library has no stop: ending the runtime ends its listener, its sessions and its timers.

mod access;
mod hooks;
mod retained;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use tokio::runtime::Runtime;

pub use access::{COORDINATOR_CLIENT_ID, Credentials, Identity, InvalidToken, Refusal};
use retained::Retained;

/// The largest packet: the largest signed envelope (256 KiB) twice.
pub const MAX_PACKET_BYTES: u32 = 512 * 1024;

/// Two: one busy session must not hold up the others.
const WORKER_THREADS: usize = 2;
const LISTENER_ID: u16 = 1;
const LISTEN_BACKLOG: i32 = 1024;
/// From accept to the end of CONNECT.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A persistent session of a client that is away.
const SESSION_EXPIRY: Duration = Duration::from_secs(60 * 60);
const MAX_CLIENT_ID_BYTES: usize = 64;
const MAX_TOPIC_LEVELS: usize = 16;
const MAX_SUBSCRIPTIONS_PER_CLIENT: usize = 64;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the broker serves, to whom, and within which limits.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may connect.
    pub credentials: Credentials,
    /// A packet beyond this ends its connection.
    pub max_packet_bytes: u32,
    /// Connections at once.
    pub max_connections: usize,
    /// CONNECTs being answered at once; the others wait.
    pub max_handshakes: usize,
    /// Messages waiting for one client; beyond it the oldest QoS 1 message is dropped, or the newest of QoS 0.
    pub max_queued_per_client: usize,
    /// Messages sent to one client and not yet acknowledged.
    pub max_inflight_per_client: NonZeroU16,
    /// Retained messages over all topics.
    pub max_retained: usize,
}

impl BrokerConfig {
    /// The limits of a fleet of some thousand nodes.
    #[must_use]
    pub fn new(listen: SocketAddr, credentials: Credentials) -> Self {
        Self {
            listen,
            credentials,
            max_packet_bytes: MAX_PACKET_BYTES,
            max_connections: 16_384,
            max_handshakes: 256,
            max_queued_per_client: 4_096,
            max_inflight_per_client: NonZeroU16::new(32).expect("32 is not zero"),
            max_retained: 65_536,
        }
    }
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The machine gave no threads.
    #[error("the broker's threads could not be started")]
    Threads(#[source] std::io::Error),
    /// The address is taken or not ours.
    #[error("the broker cannot listen on {listen}: {reason}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The set-up ended before it answered.
    #[error("the broker stopped while it was starting")]
    Stopped(#[source] tokio::task::JoinError),
}

/// A running broker. Dropping it ends it without waiting.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    runtime: OwnRuntime,
}

/// Starts the broker; it accepts connections when this returns.
///
/// # Errors
/// Where the address cannot be had, or the machine gives no threads.
pub async fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
    let runtime = OwnRuntime::start()?;
    let listen = config.listen;
    let serving = runtime.spawn(async move { serve(config).await });
    let bound = serving.await.map_err(BrokerError::Stopped)?;
    let (address, server) =
        bound.map_err(|reason| BrokerError::Listen { listen, reason: format!("{reason:#}") })?;
    // The task never ends by itself: it goes with the runtime.
    drop(runtime.spawn(server.run()));
    tracing::info!(%address, "broker listens");
    Ok(Broker { address, runtime })
}

impl Broker {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and frees the port. Nothing is kept, and no last will is published: clients
    /// see the connection end, as they would with the machine gone.
    pub async fn shutdown(self) {
        self.runtime.stop().await;
    }
}

/// Binds and sets the library up; must run on the broker's own runtime, for the library spawns where it is.
async fn serve(config: BrokerConfig) -> anyhow::Result<(SocketAddr, MqttServer)> {
    let listener = bind(&config)?;
    let address = listener.local_addr()?;
    let context = ServerContext::new()
        // Its busy check refuses connections by the load of the machine, which says nothing about the broker.
        .busy_check_enable(false)
        .mqtt_max_sessions(isize::try_from(config.max_connections).unwrap_or(isize::MAX))
        .build()
        .await;
    *context.extends.retain_mut().await = Box::new(Retained::new(config.max_retained));
    hooks::register(&context, &config.credentials).await;
    let server = MqttServer::new(context).listener_by_id(listener, LISTENER_ID).build();
    Ok((address, server))
}

fn bind(config: &BrokerConfig) -> anyhow::Result<Listener> {
    Builder::new()
        .name("pith")
        .laddr(config.listen)
        .backlog(LISTEN_BACKLOG)
        // A restart must not wait for TIME_WAIT.
        .reuseaddr(Some(true))
        .nodelay(true)
        .allow_anonymous(false)
        .max_connections(config.max_connections)
        .max_handshaking_limit(config.max_handshakes)
        .max_packet_size(config.max_packet_bytes)
        .max_mqueue_len(config.max_queued_per_client)
        .max_inflight(config.max_inflight_per_client)
        .max_clientid_len(MAX_CLIENT_ID_BYTES)
        .max_topic_levels(MAX_TOPIC_LEVELS)
        .max_subscriptions(MAX_SUBSCRIPTIONS_PER_CLIENT)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .send_timeout(SEND_TIMEOUT)
        .session_expiry_interval(SESSION_EXPIRY)
        .max_session_expiry_interval(SESSION_EXPIRY)
        // Zero is never: retained intent must not vanish after the default of five minutes.
        .message_expiry_interval(Duration::ZERO)
        // Zero is never: what is unacknowledged is sent again when the session resumes, not by a timer.
        .message_retry_interval(Duration::ZERO)
        .bind()?
        .tcp()
}

/// A runtime that may be dropped inside another one.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn start() -> Result<Self, BrokerError> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("pith-broker")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(BrokerError::Threads)
    }

    fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.as_ref().expect("taken only by stop and drop, which own it").spawn(future)
    }

    async fn stop(mut self) {
        let Some(runtime) = self.0.take() else { return };
        let stopping =
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_TIMEOUT));
        if let Err(error) = stopping.await {
            tracing::warn!(%error, "broker did not stop cleanly");
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
