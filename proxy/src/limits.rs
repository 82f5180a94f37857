//! Every limit of the proxy, named. None of them is configuration.

use std::time::Duration;

/// A backend that has not accepted by then is passed over for the next one.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_millis(250);
/// The same for another node's proxy, its answer to our question included.
pub(crate) const CONNECT_THROUGH_DEADLINE: Duration = Duration::from_secs(1);
/// A node whose machine acknowledges nothing for this long is gone, and with it the connections with its proxy: a board
/// that lost its power sends no farewell.
pub(crate) const NODE_SILENCE_MAX: Duration = Duration::from_secs(5);
/// From the accepting of a connection on the fleet port to the end of its question.
pub(crate) const QUESTION_DEADLINE: Duration = Duration::from_secs(2);
/// Handshakes of TLS at once: on the fleet port, where the others wait within [`QUESTION_DEADLINE`], and with one other node,
/// where the others wait for their turn or for a connection that is warm by then. One is some milliseconds of a
/// small board's core, and comes only from addresses that the table names.
pub(crate) const HANDSHAKES_MAX: usize = 16;
/// Sessions of TLS that can be taken up again, on each side.
pub(crate) const TLS_SESSIONS_MAX: usize = 64;
/// Each connection brings the means for the next one.
pub(crate) const TLS_TICKETS_PER_CONNECTION: usize = 1;
/// The most that one record of TLS carries (RFC 8446 §5.1).
pub(crate) const TLS_RECORD_BYTES: usize = 16 * 1024;
/// A handshake that failed is a warning at most this often.
pub(crate) const TRUST_WARNING_PAUSE: Duration = Duration::from_secs(60);
/// What a node that is no caller any more may still end.
pub(crate) const DISMISSED_GRACE: Duration = Duration::from_secs(30);
/// The question that opens a connection to a fleet port, its line's end included.
pub(crate) const QUESTION_MAX_BYTES: usize = 512;
/// What is left of it for a route's id, after `PITH/1 ` and before the line's end.
pub(crate) const ROUTE_ID_MAX_BYTES: usize = QUESTION_MAX_BYTES - 8;
/// A backend that failed to connect is put last for this long.
pub(crate) const EJECTED_FOR: Duration = Duration::from_secs(1);
/// While every backend refuses: the first and the longest wait between two passes over them.
pub(crate) const PASS_PAUSE_MIN: Duration = Duration::from_millis(25);
/// See [`PASS_PAUSE_MIN`].
pub(crate) const PASS_PAUSE_MAX: Duration = Duration::from_millis(200);
/// Requests and connections held per route; more are answered 503 at once.
pub(crate) const HELD_MAX: u64 = 1024;
/// How often one request is sent again after a reused connection ended under it.
pub(crate) const REPLAYS_MAX: u32 = 2;
/// What is kept of a request (head and body) so that it can be sent again.
pub(crate) const REPLAY_MAX_BYTES: usize = 64 * 1024;
/// The head of a request or an answer.
pub(crate) const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Header lines in one head.
pub(crate) const HEADERS_MAX: usize = 128;
/// Informational answers (1xx) to one request.
pub(crate) const INTERIM_MAX: u32 = 16;
/// Chunk extensions and trailers of one body.
pub(crate) const CHUNK_OVERHEAD_MAX_BYTES: usize = 16 * 1024;
/// From the first byte of a head to its last.
pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// A kept-alive client connection without a request.
pub(crate) const CLIENT_IDLE_MAX: Duration = Duration::from_secs(3600);
/// What is read and thrown away of a body that nobody wants, so that the client sees the answer.
pub(crate) const LINGER_MAX_BYTES: usize = 256 * 1024;
/// How long that may take.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// Idle connections kept warm per backend.
pub(crate) const POOL_MAX: usize = 128;
/// An idle connection to a backend is closed after this.
pub(crate) const POOL_IDLE_MAX: Duration = Duration::from_secs(60);
/// A request that cannot be repeated takes only a connection used this recently: servers commonly
/// close idle ones after 5 s, and a request on its way at that moment would be lost.
pub(crate) const POOL_IDLE_UNREPEATABLE_MAX: Duration = Duration::from_secs(3);
/// One shared buffer per thread, through which all bytes pass.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;
/// A session's buffer that grew beyond this is given back after the exchange.
pub(crate) const KEPT_BUFFER_BYTES: usize = 4 * 1024;
/// Connections at once, if the limit of open files allows that many.
pub(crate) const CONNECTIONS_MAX: usize = 16 * 1024;
/// Descriptors for everything that is not a connection.
pub(crate) const RESERVED_FILES: u64 = 128;
/// The pause after an accept failed for want of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The kernel's queue of connections not yet accepted.
pub(crate) const BACKLOG: i32 = 1024;
/// TCP keepalive on every connection, so that vanished peers are noticed.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
/// Events are sent at most this often.
pub(crate) const EVENT_PAUSE: Duration = Duration::from_millis(10);
/// One line on the control socket.
pub(crate) const LINE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// A control call of the agent, retries included.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// For another process to start, take over and serve.
pub(crate) const RENEWAL_DEADLINE: Duration = Duration::from_secs(45);
/// What an older proxy gets to answer.
pub(crate) const PREDECESSOR_DEADLINE: Duration = Duration::from_secs(2);
/// A retired proxy ends after this at the latest.
pub(crate) const RETIRED_MAX: Duration = Duration::from_secs(3600);
/// A proxy told to end waits this long for requests in flight.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Releases remembered in the counters of one route after they left the table.
pub(crate) const PAST_RELEASES_MAX: usize = 8;
/// Descriptors in one message; the kernel allows 253.
pub(crate) const FDS_PER_MESSAGE: usize = 64;
/// Listeners taken over at most.
pub(crate) const LISTENERS_MAX: usize = 4096;
