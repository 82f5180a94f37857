//! Whether the node hears what is new: its own questions, the director's signed answers, and what follows where they do not
//! fit. Everything runs on meanwhile; an alarm stops nothing.
//!
//! ```text
//! hello with a nonce -> answered: time, newest manifest -> it is here: well
//!                                                       -> it does not come within a minute: `withheld`
//!                    -> several are not answered: `no_time`
//! ```
//! Must not read a clock: spans are monotonic, and the time of an answer is a floor and no more.

use planner::Now;
use protocol::acceptance::Seen;
use protocol::manifest::Version;
use protocol::reason::Reason;
use protocol::report::Detail;
use protocol::time::{Newest, Time};

use super::agent::Agent;
use super::writing::Job;
use crate::inbox::ReceivedTime;

/// A manifest that exists has come by then.
pub(super) const WITHHELD_MS: u64 = 60_000;
/// Hellos of one session without an answer that are called an alarm.
pub(super) const UNANSWERED_MAX: u32 = 4;
/// Whoever answered before is asked again after this, and soon again.
const ANSWER_MS: u64 = 30_000;
/// What shows that the coordinator is there makes the node ask it, at most this often.
const ASK_AGAIN_MS: u64 = 5_000;
/// The floor is written by itself once it has risen by this much.
const KEEP_FLOOR_S: u64 = 86_400;
/// Answers that wait for a trust root to be written.
pub(super) const MAX_TIMES: usize = 4;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Freshness {
    is_up: bool,
    /// Of the last hello, until it is answered.
    nonce: Option<String>,
    asked_at: Now,
    unanswered: u32,
    /// When to ask again because an answer is late.
    again_at: Option<Now>,
    /// Named by a signed time and not here.
    missing: Option<Missing>,
    is_withheld: bool,
    is_without_time: bool,
}

#[derive(Debug)]
struct Missing {
    newest: Newest,
    /// What was here when it was named: where that changes, something comes.
    seen: Option<Version>,
    /// Of earlier sessions.
    waited_ms: u64,
    since: Now,
}

impl Freshness {
    pub(super) const fn new(now: Now) -> Self {
        Self {
            is_up: false,
            nonce: None,
            asked_at: now,
            unanswered: 0,
            again_at: None,
            missing: None,
            is_withheld: false,
            is_without_time: false,
        }
    }

    /// What was asked in the session before is not answered any more.
    pub(super) fn is_up(&mut self, now: Now) {
        self.is_up = true;
        (self.nonce, self.unanswered, self.again_at) = (None, 0, None);
        if let Some(missing) = &mut self.missing {
            missing.since = now;
        }
    }

    /// Nothing can come: that is waiting for nobody.
    pub(super) fn is_down(&mut self, now: Now) {
        if let Some(missing) = self.missing.as_mut().filter(|_| self.is_up) {
            missing.waited_ms += now.since(missing.since);
        }
        (self.is_up, self.nonce, self.again_at) = (false, None, None);
    }

    /// A hello with this nonce is said, and another at `next_at`.
    pub(super) fn asked(&mut self, nonce: String, next_at: Now, now: Now) {
        self.is_without_time |= self.unanswered >= UNANSWERED_MAX;
        // Only the first of several: whoever is away is not asked ever faster.
        let again_at = now.plus(ANSWER_MS);
        self.again_at = (self.unanswered == 0 && again_at < next_at).then_some(again_at);
        self.unanswered = self.unanswered.saturating_add(1);
        (self.nonce, self.asked_at) = (Some(nonce), now);
    }

    pub(super) fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// The answer to the last nonce.
    fn answered(&mut self, time: &Time, seen: Option<Version>, now: Now) {
        (self.nonce, self.unanswered, self.again_at) = (None, 0, None);
        self.is_without_time = false;
        let Some(newest) = &time.newest else {
            (self.missing, self.is_withheld) = (None, false);
            return;
        };
        match &mut self.missing {
            // Whoever holds back one after another is as late as with the first.
            Some(missing) => missing.newest = newest.clone(),
            None => {
                let newest = newest.clone();
                self.missing = Some(Missing { newest, seen, waited_ms: 0, since: now });
            }
        }
    }

    /// What time has done; true where an alarm began or ended.
    fn look(&mut self, is_here: impl Fn(&Newest) -> bool, seen: Option<Version>, now: Now) -> bool {
        let before = self.is_withheld;
        match &mut self.missing {
            Some(missing) if is_here(&missing.newest) => {
                (self.missing, self.is_withheld) = (None, false);
            }
            Some(missing) => {
                if missing.seen != seen {
                    (missing.seen, missing.waited_ms, missing.since) = (seen, 0, now);
                }
                let waited_ms = missing.waited_ms + now.since(missing.since);
                self.is_withheld |= self.is_up && waited_ms >= WITHHELD_MS;
            }
            None => {}
        }
        self.is_withheld != before
    }

    /// Whether somebody who shows that it is there should be asked again.
    fn is_worth_asking(&self, now: Now) -> bool {
        self.unanswered > 0 && now.since(self.asked_at) >= ASK_AGAIN_MS
    }

    /// When the coordinator may be asked again at the earliest: whoever plays something again does not make the node talk.
    pub(super) fn may_ask_at(&self, now: Now) -> Now {
        now.max(self.asked_at.plus(ASK_AGAIN_MS))
    }

    fn is_answer_late(&mut self, now: Now) -> bool {
        let is_late = self.again_at.is_some_and(|at| now >= at);
        if is_late {
            self.again_at = None;
        }
        is_late
    }

    pub(super) fn wake_at(&self) -> Option<Now> {
        let missing = self.missing.as_ref().filter(|_| self.is_up && !self.is_withheld);
        let withheld_at = missing.map(|m| m.since.plus(WITHHELD_MS.saturating_sub(m.waited_ms)));
        [self.again_at, withheld_at].into_iter().flatten().min()
    }

    /// What a report says of it.
    pub(super) fn alarms(&self) -> Vec<Detail> {
        let alarm = |reason, message| Detail { reason, message, again_in_ms: None };
        let missing = self.missing.as_ref().filter(|_| self.is_withheld);
        let withheld = missing.map(|missing| {
            let Version { epoch, generation } = missing.newest.version;
            let held = missing.seen.map_or("none".to_owned(), |v| {
                format!("{} of epoch {}", v.generation, v.epoch)
            });
            let message = format!(
                "the coordinator names manifest {generation} of epoch {epoch} and it does not come, {held} is here: \
                 the broker may hold it back"
            );
            alarm(Reason::Withheld, message)
        });
        let without_time = self.is_without_time.then(|| {
            let message = format!(
                "no signed time has answered {UNANSWERED_MAX} hellos: the coordinator is away, or the broker holds its \
                 answers back"
            );
            alarm(Reason::NoTime, message)
        });
        withheld.into_iter().chain(without_time).collect()
    }
}

impl Agent {
    /// After the trust roots and manifests that came before them.
    pub(super) fn read_times(&mut self, now: Now) {
        while !self.writing.is_accepting() {
            let Some(bytes) = self.times.pop_front() else { return };
            match self.inbox.receive_time(&bytes, self.freshness.nonce()) {
                ReceivedTime::Answer(time) => self.take_time(&time, now),
                ReceivedTime::Late => tracing::debug!("a time that answers another hello"),
                ReceivedTime::Refused(refusal) => {
                    self.voice.has_news = true;
                    self.tell_refused(Reason::TimeRefused, &refusal);
                }
            }
        }
    }

    fn take_time(&mut self, time: &Time, now: Now) {
        self.voice.has_news = true;
        let floor = &self.settings.between.floor;
        floor.raise(time.unix_s);
        let is_due = floor.unix_s() >= self.writing.floor_s().saturating_add(KEEP_FLOOR_S);
        let seen = self.seen.as_ref().map(|seen| seen.version);
        self.freshness.answered(time, seen, now);
        self.updates.answered(now);
        self.voice.is_heard(now);
        if is_due && self.writing.is_idle() {
            self.writing.push(Job::Floor);
        }
    }

    /// Once per turn: which alarms stand.
    pub(super) fn look_for_alarms(&mut self, now: Now) {
        let (seen, refused) = (self.seen.as_ref(), self.inbox.refused_newest());
        let version = seen.map(|seen| seen.version);
        if self.freshness.look(|newest| is_here(newest, seen, refused), version, now) {
            self.voice.has_news = true;
        }
        if self.freshness.is_answer_late(now) {
            self.voice.hello_is_due_at(now);
        }
    }

    /// What only the coordinator can have signed has come again: it may have been away when it was asked.
    pub(super) fn ask_who_is_there(&mut self, now: Now) {
        if self.freshness.is_worth_asking(now) {
            self.voice.greet_again(now);
        }
    }
}

/// What came and was refused did come: the refusal says more.
fn is_here(newest: &Newest, seen: Option<&Seen>, refused: Option<Version>) -> bool {
    let is_seen = seen.is_some_and(|seen| match seen.version == newest.version {
        true => seen.payload_sha256 == newest.payload_sha256,
        false => seen.version > newest.version,
    });
    is_seen || refused.is_some_and(|refused| refused >= newest.version)
}
