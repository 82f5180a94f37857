//! HTTP/1.1: a client connection's requests, one after another, each balanced by itself.
//!
//! ```text
//! read head -> exchange (connect, send, relay) -> kept ? next : linger, close
//!                                              -> upgraded ? tunnel
//! ```

mod cohort;
mod exchange;
#[cfg(any(test, feature = "testing"))]
pub mod fed;
mod head;
mod relay;
mod reply;
mod rewrite;

use crate::connect::Reach;
use crate::limits::{
    CLIENT_IDLE_MAX, HEAD_DEADLINE, HEAD_MAX_BYTES, KEPT_BUFFER_BYTES, LINGER, LINGER_MAX_BYTES,
};
use crate::listen::Slot;
use crate::live::Live;
use crate::live::split::Claim;
use crate::pump::Pending;
use crate::stream::Stream;
use crate::table::Caller;
use exchange::Outcome;
use head::{Origin, Peer, Rejection, RequestHead};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// One client connection. Its buffers are empty and small between requests.
#[derive(Debug)]
pub(crate) struct Session {
    client: Stream,
    peer: IpAddr,
    reach: Reach,
    /// Another node's proxy, when it is one.
    caller: Option<Caller>,
    slot: Arc<Slot>,
    live: Arc<Live>,
    /// Bytes of the client that belong to the next head or body.
    inbound: Vec<u8>,
    /// The head for the backend, and what is kept of the body to send it again.
    upstream_head: Vec<u8>,
    /// The head for the client, and the body's first bytes.
    outbound: Pending,
    /// Which cohort the present request wants.
    claim: Claim,
    /// Header lines of ours for its answer.
    own_lines: String,
}

/// How a connection came.
#[derive(Debug)]
pub(crate) struct Arrival {
    peer: IpAddr,
    reach: Reach,
    caller: Option<Caller>,
    first: Vec<u8>,
}

impl Arrival {
    /// On a route's own listener.
    pub(crate) fn direct(peer: IpAddr) -> Self {
        Self { peer, reach: Reach::Fleet, caller: None, first: Vec::new() }
    }

    /// From another node's proxy, with the bytes already read of it.
    pub(crate) fn through_fleet(caller: Caller, first: Vec<u8>) -> Self {
        Self { peer: caller.address, reach: Reach::Local, caller: Some(caller), first }
    }
}

/// Why no further request is read.
#[derive(Debug)]
enum Ended {
    /// The client left or was idle for too long.
    Quietly,
    /// The client sent something that gets an answer of ours.
    Rejected(Rejection),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(client: Stream, from: Arrival, slot: Arc<Slot>, live: Arc<Live>) {
    let mut session = Session {
        client,
        peer: from.peer,
        reach: from.reach,
        caller: from.caller,
        slot,
        live,
        inbound: from.first,
        upstream_head: Vec::new(),
        outbound: Pending::default(),
        claim: Claim::Stable,
        own_lines: String::new(),
    };
    // The first head is due from the moment of the connection on.
    let mut patience = HEAD_DEADLINE;
    loop {
        let request = match session.read_head(patience).await {
            Ok(request) => request,
            Err(Ended::Quietly) => return,
            Err(Ended::Rejected(rejection)) => {
                reply::rejected(&mut session.client, &rejection).await;
                return session.linger().await;
            }
        };
        match session.exchange(&request).await {
            Outcome::Kept => (),
            Outcome::Closed => return session.linger().await,
            Outcome::Abandoned => return,
        }
        session.rest();
        patience = CLIENT_IDLE_MAX;
    }
}

impl Session {
    /// Reads a head, writes the one for the backend into `upstream_head`, and leaves what follows in `inbound`.
    async fn read_head(&mut self, patience: Duration) -> Result<RequestHead, Ended> {
        let mut seen: usize = 0;
        let mut deadline = None;
        loop {
            // Parsing again only when a line ended keeps a slow sender cheap.
            let line_ended = self.inbound[seen..].contains(&b'\n');
            if (seen == 0 || line_ended)
                && let Some(request) = self.parse()?
            {
                return Ok(request);
            }
            seen = self.inbound.len();
            if seen >= HEAD_MAX_BYTES {
                return Err(Ended::Rejected(Rejection::HeadTooLarge));
            }
            let wait = match deadline {
                None if seen == 0 => patience,
                None => HEAD_DEADLINE,
                Some(deadline) => deadline - tokio::time::Instant::now(),
            };
            if seen > 0 && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + HEAD_DEADLINE);
            }
            let count = match self.inbound.is_empty() {
                // Without a buffer of its own while it rests.
                true => timeout(wait, self.read_first()).await,
                false => {
                    self.inbound.reserve(seen.clamp(1024, 16 * 1024));
                    timeout(wait, self.client.read_buf(&mut self.inbound)).await
                }
            };
            match count {
                Ok(Ok(1..)) => (),
                Err(_elapsed) if seen > 0 => return Err(Ended::Rejected(Rejection::HeadTooSlow)),
                Ok(Ok(0) | Err(_)) | Err(_) => return Err(Ended::Quietly),
            }
        }
    }

    async fn read_first(&mut self) -> std::io::Result<usize> {
        let (client, inbound) = (&mut self.client, &mut self.inbound);
        std::future::poll_fn(|cx| {
            crate::pump::poll_read_once(cx, client, |bytes| {
                inbound.extend_from_slice(bytes);
                bytes.len()
            })
        })
        .await
    }

    fn parse(&mut self) -> Result<Option<RequestHead>, Ended> {
        if self.inbound.is_empty() {
            return Ok(None);
        }
        let route = self.slot.route();
        let origin = match self.reach {
            Reach::Local => Origin::Fleet,
            Reach::Fleet if route.trusts(self.peer) => Origin::Trusted,
            Reach::Fleet => Origin::Stranger,
        };
        let peer = Peer { ip: self.peer, origin };
        let split = route.split();
        let parsed =
            rewrite::request(&self.inbound, peer, split.as_deref(), &mut self.upstream_head);
        let Some(request) = parsed.map_err(Ended::Rejected)? else {
            return Ok(None);
        };
        self.inbound.drain(..request.bytes);
        self.claim = request.claim.unwrap_or_else(|| route.draw());
        self.own_lines.clear();
        // Another node's proxy writes the line itself.
        if request.claim.is_none() && self.reach == Reach::Fleet {
            cohort::remember(self.claim, split.as_deref(), &mut self.own_lines);
        }
        Ok(Some(request))
    }

    /// Gives back what a large exchange needed.
    fn rest(&mut self) {
        self.upstream_head.clear();
        self.upstream_head.shrink_to(KEPT_BUFFER_BYTES);
        if self.inbound.is_empty() {
            self.inbound = Vec::new();
        }
    }

    /// Reads on for a moment before closing: a close with unread bytes would reset the connection, and
    /// the client might lose the answer (RFC 9112 §9.6).
    async fn linger(mut self) {
        let _ = self.client.shutdown().await;
        let read_out = async {
            let mut scrap = [0; 1024];
            let mut left = LINGER_MAX_BYTES;
            while let Ok(count @ 1..) = self.client.read(&mut scrap).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    return;
                }
            }
        };
        let _ = timeout(LINGER, read_out).await;
    }
}
