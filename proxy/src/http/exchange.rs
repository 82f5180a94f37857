//! One request to its end: which backend, whether again, what the client gets when none answers.

use super::head::{RequestHead, Version};
use super::relay::{Answer, Attempt, Relay, Upload, poll_client};
use super::rewrite::Then;
use super::{Session, reply};
use crate::connect::{Connected, Unavailable, connect};
use crate::framing::Framing;
use crate::limits::REPLAYS_MAX;
use crate::live::backend::{Reuse, Work};
use crate::live::route::Route;
use crate::pump::{Pending, tunnel};
use std::future::poll_fn;
use tokio::time::Instant;

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The next request is read.
    Kept,
    /// It closes after what was said.
    Closed,
    /// It is dropped.
    Abandoned,
}

impl Session {
    /// Serves a request whose head for the backend stands in `upstream_head`.
    pub(super) async fn exchange(&mut self, request: &RequestHead) -> Outcome {
        let route = self.slot.route();
        let mut upload = Upload { rest: request.framing, kept_whole: true };
        let Ok(used) = upload.rest.advance(&self.inbound) else {
            let rejection = super::Rejection::Bad("the chunked body is malformed");
            reply::rejected(&mut self.client, &rejection).await;
            return Outcome::Closed;
        };
        self.upstream_head.extend(self.inbound.drain(..used));
        for replay in 0.. {
            let reuse = reuse(request, &upload, replay);
            let connected = match self.connect(&route, reuse, &upload).await {
                Some(Ok(connected)) => connected,
                Some(Err(why)) => {
                    let kept = reply::unavailable(&mut self.client, request, &route.id).await;
                    let keeps = kept && why == Unavailable::NoBackend;
                    return if keeps { Outcome::Kept } else { Outcome::Closed };
                }
                None => return Outcome::Abandoned,
            };
            match self.attempt(connected, request, &mut upload, &route).await {
                Some(outcome) => return outcome,
                None if replay < REPLAYS_MAX => self.outbound = Pending::default(),
                None => break,
            }
        }
        reply::broken(&mut self.client, request, &route.id).await;
        Outcome::Closed
    }

    /// `None` when the client left meanwhile. It is watched only once its whole body is here.
    async fn connect(
        &mut self,
        route: &Route,
        reuse: Reuse,
        upload: &Upload,
    ) -> Option<Result<Connected, Unavailable>> {
        if !upload.rest.is_done() {
            return Some(connect(route, Work::Request, reuse, self.claim).await);
        }
        let (client, inbound) = (&mut self.client, &mut self.inbound);
        tokio::select! {
            biased;
            // A connect that is dropped holds no lease.
            connected = connect(route, Work::Request, reuse, self.claim) => Some(connected),
            // What was read is in `inbound`.
            () = poll_fn(|cx| poll_client(cx, client, inbound)) => None,
        }
    }

    /// `None` when the request may be sent again.
    async fn attempt(
        &mut self,
        connected: Connected,
        request: &RequestHead,
        upload: &mut Upload,
        route: &Route,
    ) -> Option<Outcome> {
        let Connected { mut lease, mut stream, age } = connected;
        let attempt = {
            let (client_read, client_write) = self.client.split();
            let (backend_read, backend_write) = stream.split();
            let mut relay = Relay {
                client_read,
                client_write,
                backend_read,
                backend_write,
                upload,
                upload_pending: Pending::default(),
                upload_broken: false,
                sent: &mut self.upstream_head,
                inbound: &mut self.inbound,
                answer: Answer {
                    rest: Framing::Done,
                    outbound: &mut self.outbound,
                    partial: Vec::new(),
                    stray: false,
                    began: false,
                    then: Then::Close,
                    own_lines: &self.own_lines,
                },
            };
            tokio::select! {
                biased;
                // Cut, both connections are closed below, as a dropped relay needs.
                attempt = relay.run(request, age, &lease, &self.live) => attempt,
                () = lease.backend().gone() => match relay.answer.began {
                    true => Attempt::Truncated,
                    false => Attempt::Broken,
                },
            }
        };
        match attempt {
            Attempt::Answered { client_keeps, reuse } => {
                if let Some(keep_for) = reuse {
                    lease.backend().put_idle(stream, keep_for, Instant::now());
                }
                Some(if client_keeps { Outcome::Kept } else { Outcome::Closed })
            }
            Attempt::Upgraded => {
                lease.upgrade();
                let to_client = std::mem::take(&mut self.outbound);
                let mut to_backend = Pending::default();
                to_backend.push(&std::mem::take(&mut self.inbound));
                tokio::select! {
                    // Both arms end both connections.
                    _ = tunnel(&mut self.client, &mut stream, to_client, to_backend) => (),
                    () = lease.backend().gone() => (),
                }
                Some(Outcome::Abandoned)
            }
            Attempt::Again => None,
            Attempt::Broken => {
                lease.backend().counters.broke();
                drop(stream);
                reply::broken(&mut self.client, request, &route.id).await;
                Some(Outcome::Closed)
            }
            Attempt::Truncated => {
                lease.backend().counters.truncated();
                Some(Outcome::Abandoned)
            }
            Attempt::Abandoned => Some(Outcome::Abandoned),
        }
    }
}

fn reuse(request: &RequestHead, upload: &Upload, replay: u32) -> Reuse {
    if request.version == Version::Http10 || request.upgrades || replay >= REPLAYS_MAX {
        return Reuse::Never;
    }
    let repeatable = request.method.is_idempotent() && upload.kept_whole;
    if repeatable { Reuse::Any } else { Reuse::Recent }
}
