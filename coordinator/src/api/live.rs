//! What a page shows, live: server-sent events (WHATWG HTML, 9.2) with the whole view, one document for everybody who looks.
//!
//! ```text
//! the first who looks -> one task: view -> watch channel (the newest alone) -> each who looks, at their own pace
//!                           ^-- something changed, PACE later at the earliest; nodes are asked for detail every WATCH_EVERY
//! ```
//! A slow reader gets the newest view and none of those between. The task ends with the last who looks. Events: `caller` (who looks,
//! and their role), `view`, and `end` where they may not look any more.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use super::caller::{Caller, Peer};
use super::problem::{Answer, Failed};
use super::{Api, Problem};
use crate::role::Role;
use crate::state::State;
use crate::state::shown::CallerShown;
use crate::state::watching::RENEW_MS;

/// Between two views.
const PACE: Duration = Duration::from_millis(300);
/// Of a fleet whose view is large, so much a second to each who looks.
const BYTES_PER_S: usize = 1_000_000;
/// How often it is seen to that nodes know of it: more often than a look is over once it is due to be renewed.
const WATCH_EVERY: Duration = Duration::from_millis(RENEW_MS / 2);
/// How soon somebody who was revoked sees no more.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looks without a word, after which one is said so that a client knows that we are there.
const QUIET_LOOKS: u32 = 5;
/// Who looks at once, in all and of one identity.
const MAX_LOOKERS: usize = 64;
const MAX_OF_ONE: usize = 16;
/// One of them goes soon, maybe.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Who looks, and what they see.
#[derive(Debug)]
pub(super) struct Live {
    /// The newest view as an event; none: there is none yet, or the coordinator stops.
    newest: watch::Sender<Option<Bytes>>,
    lookers: Mutex<Lookers>,
}

#[derive(Debug, Default)]
struct Lookers {
    of: HashMap<String, usize>,
    is_made: bool,
}

impl Default for Live {
    fn default() -> Self {
        Self { newest: watch::Sender::new(None), lookers: Mutex::default() }
    }
}

impl Live {
    fn lookers(&self) -> MutexGuard<'_, Lookers> {
        self.lookers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody looks; whoever comes after starts the views anew.
    fn is_over(&self) -> bool {
        let mut lookers = self.lookers();
        let is_over = self.newest.receiver_count() == 0;
        if is_over {
            self.end(&mut lookers);
        }
        is_over
    }

    fn end(&self, lookers: &mut Lookers) {
        lookers.is_made = false;
        self.newest.send_replace(None);
    }
}

impl Lookers {
    /// One more of this identity.
    ///
    /// # Errors
    /// Where there are too many, with what to tell them.
    fn enter(&mut self, identity: &str) -> Result<(), String> {
        let all: usize = self.of.values().sum();
        let own = self.of.get(identity).copied().unwrap_or(0);
        if own >= MAX_OF_ONE {
            return Err(format!("{identity} looks at {own} pages already; close one"));
        }
        if all >= MAX_LOOKERS {
            return Err(format!("{all} pages are looked at already; try again"));
        }
        self.of.insert(identity.to_owned(), own + 1);
        Ok(())
    }

    fn leave(&mut self, identity: &str) {
        if let Some(count) = self.of.get_mut(identity) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(identity);
            }
        }
    }
}

/// How long after a view of so many bytes the next one may follow.
fn pace(bytes: usize) -> Duration {
    let of_bytes = u64::try_from(bytes.saturating_mul(1_000) / BYTES_PER_S).unwrap_or(u64::MAX);
    PACE.max(Duration::from_millis(of_bytes))
}

pub(super) async fn look(
    Shared(api): Shared<Arc<Api>>,
    Extension(peer): Extension<Peer>,
) -> Answer {
    let caller = Caller::of(&peer, &api).await?;
    let Some(role) = caller.role else { return Err(Failed::no_role(&caller.who)) };
    let looking = Looking::begin(api, peer, &caller, role)?;
    let events = stream::unfold(looking, |mut looking| async move {
        let event = looking.next().await?;
        Some((Ok::<_, Infallible>(event), looking))
    });
    let head = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((head, Body::from_stream(events)).into_response())
}

/// Makes views until nobody looks or the coordinator stops.
async fn make(api: Arc<Api>) {
    let mut watched: Option<Instant> = None;
    loop {
        if watched.is_none_or(|at| at.elapsed() >= WATCH_EVERY) {
            if api.watch(None).await.is_err() {
                break;
            }
            watched = Some(Instant::now());
        }
        let Ok(view) = api.fleet.ask(|state: &mut State, at| state.show_live(at)).await else {
            break;
        };
        let event = event("view", &view);
        let pace = pace(event.len());
        api.live.newest.send_replace(Some(event));
        let news = async {
            sleep(pace).await;
            api.fleet.newer_than(view.version, WATCH_EVERY).await;
        };
        // Cancel-safe: both only wait.
        tokio::select! {
            () = news => {}
            () = api.live.newest.closed() => {
                if api.live.is_over() {
                    return;
                }
            }
        }
    }
    api.live.end(&mut api.live.lookers());
}

/// Somebody who looks; gone with this value.
#[derive(Debug)]
struct Looking {
    // Before the place, so that the views end with the last of them.
    newest: watch::Receiver<Option<Bytes>>,
    place: Place,
    peer: Peer,
    role: Role,
    next: Option<Bytes>,
    look: Interval,
    quiet: u32,
    is_over: bool,
}

#[derive(Debug)]
struct Place {
    api: Arc<Api>,
    identity: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.api.live.lookers().leave(&self.identity);
    }
}

impl Looking {
    fn begin(api: Arc<Api>, peer: Peer, caller: &Caller, role: Role) -> Result<Self, Failed> {
        let mut newest = {
            let mut lookers = api.live.lookers();
            lookers
                .enter(&caller.identity)
                .map_err(|message| Failed::later(&message, TRY_AGAIN))?;
            let newest = api.live.newest.subscribe();
            if !lookers.is_made {
                lookers.is_made = true;
                tokio::spawn(make(Arc::clone(&api)));
            }
            newest
        };
        if newest.borrow().is_some() {
            newest.mark_changed();
        }
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let next = Some(caller_event(caller, role));
        let place = Place { api, identity: caller.identity.clone() };
        Ok(Self { newest, place, peer, role, next, look, quiet: 0, is_over: false })
    }

    /// The next event; none after the last.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        loop {
            // Cancel-safe: a change that is not read stays one, and so does a tick.
            tokio::select! {
                changed = self.newest.changed() => {
                    changed.ok()?;
                    self.quiet = 0;
                    return self.newest.borrow_and_update().clone();
                }
                _ = self.look.tick() => {
                    if let Some(event) = self.look_at_role().await {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// What there is to say of who looks, or that we are there.
    async fn look_at_role(&mut self) -> Option<Bytes> {
        let Ok(caller) = Caller::of(&self.peer, &self.place.api).await else {
            self.is_over = true;
            return Some(over("stopping", "the coordinator is stopping"));
        };
        let Some(role) = caller.role else {
            self.is_over = true;
            return Some(over("role", "you may not look any more"));
        };
        if role != self.role {
            self.role = role;
            return Some(caller_event(&caller, role));
        }
        self.quiet += 1;
        if self.quiet < QUIET_LOOKS {
            return None;
        }
        self.quiet = 0;
        Some(Bytes::from_static(b": here\n\n"))
    }
}

fn caller_event(caller: &Caller, role: Role) -> Bytes {
    event("caller", &CallerShown { who: caller.who.clone(), role })
}

fn over(code: &str, message: &str) -> Bytes {
    event("end", &Problem { code: code.to_owned(), message: message.to_owned() })
}

/// JSON has no line breaks of its own, so that one line of data holds it.
fn event(name: &str, what: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    serde_json::to_writer(&mut text, what).expect("answers are plain data with string keys");
    text.extend_from_slice(b"\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_is_in_it() {
        let bytes =
            event("end", &Problem { code: "x".to_owned(), message: "a\nb\r\n\nc".to_owned() });
        let text = std::str::from_utf8(&bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!((lines[0], lines[2]), ("event: end", ""));
        assert!(lines[1].starts_with("data: {"), "{text}");
    }

    #[test]
    fn views_come_three_times_a_second_at_most_and_large_ones_more_rarely() {
        assert_eq!(pace(0), Duration::from_millis(300));
        assert_eq!(pace(300_000), Duration::from_millis(300));
        assert_eq!(pace(3_000_000), Duration::from_secs(3));
    }

    #[test]
    fn one_who_opens_many_pages_leaves_room_for_others() {
        let mut lookers = Lookers::default();
        for _ in 0..MAX_OF_ONE {
            lookers.enter("anna").unwrap();
        }
        assert!(lookers.enter("anna").unwrap_err().contains("close one"));
        lookers.enter("bert").unwrap();
        lookers.leave("anna");
        lookers.enter("anna").unwrap();
        for number in 0..MAX_LOOKERS - MAX_OF_ONE - 1 {
            lookers.enter(&format!("someone {number}")).unwrap();
        }
        assert!(lookers.enter("one more").unwrap_err().contains("try again"));
        lookers.leave("bert");
        assert_eq!(lookers.of.get("bert"), None);
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_view_and_none_of_those_between() {
        let live = Live::default();
        let mut reader = live.newest.subscribe();
        for number in 0..1_000_u32 {
            live.newest.send_replace(Some(Bytes::from(number.to_string())));
        }
        reader.changed().await.unwrap();
        assert_eq!(reader.borrow_and_update().as_deref(), Some(&b"999"[..]));
        assert!(!reader.has_changed().unwrap());
        assert!(!live.is_over());
        drop(reader);
        assert!(live.is_over());
        assert_eq!(*live.newest.borrow(), None, "and nothing is kept for nobody");
    }
}
