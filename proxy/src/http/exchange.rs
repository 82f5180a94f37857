//! One request to its end: which backend, whether again, what the client gets when none answers.

use super::head::{RequestHead, Version};
use super::relay::{Answer, Attempt, Ending, Relay, Upload, poll_client};
use super::rewrite::Then;
use super::{Session, reply};
use crate::connect::{Connected, Search, Unavailable, connect};
use crate::framing::Framing;
use crate::limits::{REPLAY_MAX_BYTES, REPLAYS_MAX};
use crate::live::backend::{Backend, Reuse, Work};
use crate::live::route::Route;
use crate::pump::{Pending, tunnel};
use std::future::poll_fn;
use std::sync::Arc;
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

/// What follows an attempt.
#[derive(Debug)]
enum Next {
    /// Nothing.
    Done(Outcome),
    /// The request is sent again.
    Again,
    /// It is sent to another backend than this one.
    Elsewhere(Arc<Backend>),
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
        let mut search = Search::new(self.reach, self.claim);
        let mut replay = 0;
        loop {
            let reuse = reuse(request, &upload, self.upstream_head.len(), replay);
            let connected = match self.connect(&route, reuse, &upload, &mut search).await {
                Some(Ok(connected)) => connected,
                Some(Err(why)) => {
                    let client = &mut self.client;
                    let kept = reply::unavailable(client, request, &route.id, self.reach).await;
                    let keeps = kept && why == Unavailable::NoBackend;
                    return if keeps { Outcome::Kept } else { Outcome::Closed };
                }
                None => return Outcome::Abandoned,
            };
            match self.attempt(connected, request, &mut upload, &route).await {
                Next::Done(outcome) => return outcome,
                Next::Again if replay < REPLAYS_MAX => replay += 1,
                Next::Again => break,
                // The search ends by itself: once all refused, it is held for a while.
                Next::Elsewhere(backend) => search.refused_by(&route, backend),
            }
            self.outbound = Pending::default();
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
        search: &mut Search,
    ) -> Option<Result<Connected, Unavailable>> {
        if !upload.rest.is_done() {
            return Some(connect(route, Work::Request, reuse, search).await);
        }
        let (client, inbound) = (&mut self.client, &mut self.inbound);
        tokio::select! {
            biased;
            // A connect that is dropped holds no lease.
            connected = connect(route, Work::Request, reuse, search) => Some(connected),
            // What was read is in `inbound`.
            () = poll_fn(|cx| poll_client(cx, client, inbound)) => None,
        }
    }

    async fn attempt(
        &mut self,
        connected: Connected,
        request: &RequestHead,
        upload: &mut Upload,
        route: &Route,
    ) -> Next {
        let ending =
            Ending { live: &self.live, route, reach: self.reach, caller: self.caller.as_ref() };
        let Connected { mut lease, mut stream, age } = connected;
        let attempt = {
            let mut relay = Relay {
                client: &mut self.client,
                backend: &mut stream,
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
                attempt = relay.run(request, age, &lease, ending) => attempt,
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
                Next::Done(if client_keeps { Outcome::Kept } else { Outcome::Closed })
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
                Next::Done(Outcome::Abandoned)
            }
            Attempt::Again => Next::Again,
            Attempt::Elsewhere => Next::Elsewhere(Arc::clone(lease.backend())),
            Attempt::Broken => {
                lease.backend().counters.broke();
                drop(stream);
                reply::broken(&mut self.client, request, &route.id).await;
                Next::Done(Outcome::Closed)
            }
            Attempt::Truncated => {
                lease.backend().counters.truncated();
                Next::Done(Outcome::Abandoned)
            }
            Attempt::Abandoned => Next::Done(Outcome::Abandoned),
        }
    }
}

/// `sent` is what is kept of the request so far, in bytes.
fn reuse(request: &RequestHead, upload: &Upload, sent: usize, replay: u32) -> Reuse {
    if request.version == Version::Http10 || request.upgrades || replay >= REPLAYS_MAX {
        return Reuse::Never;
    }
    let left = match upload.rest {
        Framing::Done => 0,
        Framing::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
        Framing::Chunked(_) | Framing::UntilClose => usize::MAX,
    };
    if !upload.kept_whole || sent.saturating_add(left) > REPLAY_MAX_BYTES {
        return Reuse::RecentLocal;
    }
    if request.method.is_idempotent() { Reuse::Any } else { Reuse::Recent }
}
