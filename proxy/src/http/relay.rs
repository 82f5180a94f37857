//! One request on one connection with a backend: both directions at once, until the answer is delivered.
//!
//! ```text
//! send head -> await answer (1xx: passed on, again) -> deliver -> Attempt
//! ```
//! The request's body goes up all the while, and a client that leaves is noticed all the while.

use super::head::{AnswerHead, RequestHead, Version};
use super::rewrite::{self, BadAnswer, Then};
use crate::connect::{Age, Reach};
use crate::framing::Framing;
use crate::limits::{HEAD_MAX_BYTES, INTERIM_MAX, REPLAY_MAX_BYTES};
use crate::live::Live;
use crate::live::backend::Lease;
use crate::live::route::Route;
use crate::pump::{Pending, PumpError, poll_pump, poll_read_once};
use crate::stream::Stream;
use crate::table::Caller;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Delivered. `reuse` tells whether the backend's connection serves again, and how long it is kept.
    Answered { client_keeps: bool, reuse: Option<Option<Duration>> },
    /// 101: the head for the client is composed, the protocols have changed.
    Upgraded,
    /// Nothing was answered and the request may be sent to another connection.
    Again,
    /// Another node's proxy gave it to nobody; it may be sent to another backend.
    Elsewhere,
    /// Nothing was delivered and the request may not be repeated.
    Broken,
    /// Part of the answer was delivered, then the backend broke off.
    Truncated,
    /// The client left.
    Abandoned,
}

/// The state of both directions. The parts that outlive an attempt are borrowed.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    pub(crate) client: &'a mut Stream,
    pub(crate) backend: &'a mut Stream,
    pub(crate) upload: &'a mut Upload,
    pub(crate) upload_pending: Pending,
    pub(crate) upload_broken: bool,
    /// The head for the backend and the body so far.
    pub(crate) sent: &'a mut Vec<u8>,
    pub(crate) inbound: &'a mut Vec<u8>,
    pub(crate) answer: Answer<'a>,
}

/// The answer as far as it came.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// The body's rest.
    pub(crate) rest: Framing,
    /// For the client.
    pub(crate) outbound: &'a mut Pending,
    /// Bytes of an incomplete head.
    pub(crate) partial: Vec<u8>,
    /// The backend sent more than its answer.
    pub(crate) stray: bool,
    /// Anything came at all.
    pub(crate) began: bool,
    /// What the head said to the client.
    pub(crate) then: Then,
    /// Lines of ours in the head for the client.
    pub(crate) own_lines: &'a str,
}

/// The request's body: what is still to come, and whether all that came is kept.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) rest: Framing,
    pub(crate) kept_whole: bool,
}

/// What decides whether answers end their connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) live: &'a Live,
    pub(crate) route: &'a Route,
    pub(crate) reach: Reach,
    /// Another node's proxy, when it is one.
    pub(crate) caller: Option<&'a Caller>,
}

impl Ending<'_> {
    fn is_near(&self) -> bool {
        match self.reach {
            Reach::Fleet => self.live.is_closing(),
            // So that a node without instances is asked anew instead of being given requests, and one that is no caller
            // any more asks no more.
            Reach::Local => {
                self.live.is_closing()
                    || !self.route.has_local()
                    || self.caller.is_some_and(|caller| !self.live.is_caller(caller))
            }
        }
    }
}

/// What came instead of an answer.
#[derive(Debug)]
enum NoAnswer {
    ClientLeft,
    BackendEnded,
    Bad,
}

impl Relay<'_> {
    /// Cancel-safe only as a whole: dropped, both connections must be closed.
    pub(crate) async fn run(
        &mut self,
        request: &RequestHead,
        age: Age,
        lease: &Lease,
        ending: Ending<'_>,
    ) -> Attempt {
        match self.backend.write(self.sent).await {
            Ok(count) => self.upload_broken = self.send_rest(count).await.is_err(),
            // Not one byte that the other side could read left this host: it may go elsewhere, whatever the method.
            Err(_) => return Attempt::Again,
        }
        let head = match self.await_answer(request, ending).await {
            Ok(head) => head,
            Err(NoAnswer::ClientLeft) => return Attempt::Abandoned,
            Err(NoAnswer::BackendEnded)
                if age == Age::Reused
                    && !self.answer.began
                    && request.method.is_idempotent()
                    && self.upload.kept_whole =>
            {
                return Attempt::Again;
            }
            Err(NoAnswer::BackendEnded | NoAnswer::Bad) => return Attempt::Broken,
        };
        if head.elsewhere && lease.backend().through.is_some() && self.upload.kept_whole {
            return Attempt::Elsewhere;
        }
        lease.backend().counters.answered(head.status, lease.since.elapsed());
        if head.status == 101 {
            return Attempt::Upgraded;
        }
        if let Err(attempt) = poll_fn(|cx| self.poll_deliver(cx)).await {
            return attempt;
        }
        let closes = self.answer.then == Then::Close || head.framing == Framing::UntilClose;
        let uploaded = self.upload.rest.is_done() && !self.upload_broken;
        let reusable = head.keeps && uploaded && !self.answer.stray;
        Attempt::Answered {
            client_keeps: !closes && uploaded,
            reuse: reusable.then_some(head.keep_for),
        }
    }

    async fn send_rest(&mut self, from: usize) -> io::Result<()> {
        self.backend.write_all(&self.sent[from..]).await?;
        self.backend.flush().await
    }

    /// Awaits the final answer's head; informational ones are passed on at once.
    async fn await_answer(
        &mut self,
        request: &RequestHead,
        ending: Ending<'_>,
    ) -> Result<AnswerHead, NoAnswer> {
        for _ in 0..INTERIM_MAX {
            let head = poll_fn(|cx| self.poll_answer(cx, request, ending)).await?;
            if !head.is_interim() {
                return Ok(head);
            }
            if request.version == Version::Http10 {
                self.answer.outbound.compose().clear();
            }
            let (outbound, client) = (&mut self.answer.outbound, &mut *self.client);
            let flushed = poll_fn(|cx| outbound.poll_flush(cx, client)).await;
            flushed.map_err(|_| NoAnswer::ClientLeft)?;
        }
        Err(NoAnswer::Bad)
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        ending: Ending<'_>,
    ) -> Poll<Result<AnswerHead, NoAnswer>> {
        if self.poll_upload(cx).is_ready() {
            return Poll::Ready(Err(NoAnswer::ClientLeft));
        }
        let Self { backend, answer, .. } = self;
        // What followed an informational answer may be the final one already.
        let mut absorbed = answer.absorb(&[], request, ending);
        loop {
            match absorbed {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => (),
                Err(BadAnswer) => return Poll::Ready(Err(NoAnswer::Bad)),
            }
            let take = |bytes: &[u8]| match bytes.is_empty() {
                true => None,
                false => Some(answer.absorb(bytes, request, ending)),
            };
            absorbed = match poll_read_once(cx, *backend, take) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(absorbed))) => absorbed,
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Err(NoAnswer::BackendEnded)),
            };
        }
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Attempt>> {
        let Self { backend, client, answer, .. } = self;
        let Answer { rest, outbound, stray, .. } = answer;
        let beyond = |bytes: &[u8]| *stray |= !bytes.is_empty();
        match poll_pump(cx, *backend, *client, (rest, outbound), |_| (), beyond) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(PumpError::Read | PumpError::Malformed)) => {
                Poll::Ready(Err(Attempt::Truncated))
            }
            Poll::Ready(Err(PumpError::Write)) => Poll::Ready(Err(Attempt::Abandoned)),
            Poll::Pending if self.poll_upload(cx).is_ready() => {
                Poll::Ready(Err(Attempt::Abandoned))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Passes the request's body on, then watches the client. Ready when the client left.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.upload_broken {
            return Poll::Pending;
        }
        let Self { client, backend, upload, upload_pending, sent, inbound, .. } = self;
        let Upload { rest, kept_whole } = &mut **upload;
        let keep = |bytes: &[u8]| {
            *kept_whole = *kept_whole && sent.len() + bytes.len() <= REPLAY_MAX_BYTES;
            if *kept_whole {
                sent.extend_from_slice(bytes);
            }
        };
        let beyond = |bytes: &[u8]| inbound.extend_from_slice(bytes);
        match poll_pump(cx, *client, *backend, (rest, upload_pending), keep, beyond) {
            Poll::Ready(Ok(())) => (),
            // The backend may have answered before it stopped reading.
            Poll::Ready(Err(PumpError::Write)) => {
                self.upload_broken = true;
                return Poll::Pending;
            }
            Poll::Ready(Err(PumpError::Read | PumpError::Malformed)) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
        poll_client(cx, self.client, self.inbound)
    }
}

impl Answer<'_> {
    /// Composes the head for the client once it is complete, and takes what follows it.
    fn absorb(
        &mut self,
        bytes: &[u8],
        request: &RequestHead,
        ending: Ending<'_>,
    ) -> Result<Option<AnswerHead>, BadAnswer> {
        let joined;
        let whole = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        if whole.is_empty() {
            return Ok(None);
        }
        self.began = true;
        let keeps = request.keeps && !ending.is_near();
        self.then = if keeps { Then::Keep } else { Then::Close };
        let out = self.outbound.compose();
        let Some(head) = rewrite::answer(whole, request, self.then, self.own_lines, out)? else {
            self.partial = whole.to_vec();
            return Ok(None);
        };
        let rest = &whole[head.bytes..];
        if head.is_interim() {
            self.partial = rest.to_vec();
        } else if head.status == 101 {
            out.extend_from_slice(rest);
        } else {
            self.rest = head.framing;
            let used = self.rest.advance(rest).map_err(|_| BadAnswer)?;
            out.extend_from_slice(&rest[..used]);
            self.stray = used < rest.len();
        }
        Ok(Some(head))
    }
}

/// Ready when the client left. What it sends ahead of its turn is kept, up to the size of a head.
pub(crate) fn poll_client(
    cx: &mut Context<'_>,
    client: &mut (impl tokio::io::AsyncRead + Unpin),
    inbound: &mut Vec<u8>,
) -> Poll<()> {
    while inbound.len() < HEAD_MAX_BYTES {
        let read = poll_read_once(cx, client, |bytes| {
            inbound.extend_from_slice(bytes);
            bytes.len()
        });
        match read {
            Poll::Ready(Ok(1..)) => (),
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}
