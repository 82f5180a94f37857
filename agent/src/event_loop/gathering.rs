//! When to look: after each step, on every hint, and at least every 15 seconds. And what an engine that is away means.

use planner::Now;
use protocol::reason::Reason;
use tracing::{info, warn};

use super::acts::{Act, Surroundings};
use super::agent::{Agent, COALESCE_MS};
use crate::engine::EngineError;
use crate::observe::gather::{Gathered, Scope};
use crate::probe::Counting;

/// Hints may be lost: everything is looked at this often.
const FULL_INTERVAL_MS: u64 = 15_000;
/// Images hardly change but by what this agent does.
const IMAGES_INTERVAL_MS: u64 = 300_000;
/// Between two looks at an engine that does not answer.
const AWAY_PAUSE_MS: u64 = 500;

/// An answer that took longer says that the engine hung; on a cold card an honest one takes seconds.
const HUNG_MS: u64 = 5_000;

/// What to look at next, and what is known of the looking itself.
#[derive(Debug)]
pub(super) struct Gathering {
    wanted: Scope,
    at: Now,
    is_under_way: bool,
    /// Of the last one begun.
    begun: u64,
    /// Of the last one that came back with containers.
    pub(super) number: u64,
    /// Of the last one that came back with images.
    pub(super) images_number: u64,
    /// When the one with containers began.
    pub(super) fresh_at: Option<Now>,
    full_at: Now,
    images_at: Now,
    /// When the engine answered last, whatever was asked.
    answered_at: Now,
    /// Since when the engine has not answered.
    pub(super) away_since: Option<Now>,
    /// When it came back last.
    pub(super) back_at: Option<Now>,
    /// The proxy did not answer the last time.
    pub(super) is_proxy_away: bool,
}

impl Gathering {
    pub(super) fn new(now: Now) -> Self {
        Self {
            wanted: Scope::ALL,
            at: now,
            is_under_way: false,
            begun: 0,
            number: 0,
            images_number: 0,
            fresh_at: None,
            full_at: now.plus(FULL_INTERVAL_MS),
            images_at: now.plus(IMAGES_INTERVAL_MS),
            answered_at: now,
            away_since: None,
            back_at: None,
            is_proxy_away: false,
        }
    }

    /// Look at this too, not before `at`.
    pub(super) fn want(&mut self, scope: Scope, at: Now) {
        self.at = if self.wanted.is_nothing() { at } else { self.at.min(at) };
        self.wanted = self.wanted.and(scope);
    }

    /// The first gathering that cannot be older than this moment.
    pub(super) fn next_number(&self) -> u64 {
        self.begun + 1
    }

    /// Since when the engine has been silent that was asked something then.
    pub(super) fn silent_since(&self, asked: Now) -> Now {
        self.answered_at.max(asked)
    }

    pub(super) fn wake_at(&self) -> Option<Now> {
        if self.is_under_way {
            return None;
        }
        let wanted = (!self.wanted.is_nothing()).then_some(self.at);
        Some(wanted.map_or(self.full_at, |at| at.min(self.full_at)))
    }

    fn take(&mut self, now: Now) -> Option<Scope> {
        if self.is_under_way {
            return None;
        }
        if now >= self.full_at {
            self.full_at = now.plus(FULL_INTERVAL_MS);
            // Somebody may have removed what is kept to go back to.
            let images = now >= self.images_at;
            self.want(Scope { images, ..Scope::USUAL }, now);
        }
        if self.wanted.is_nothing() || now < self.at {
            return None;
        }
        self.is_under_way = true;
        self.begun += 1;
        if self.wanted.images {
            self.images_at = now.plus(IMAGES_INTERVAL_MS);
        }
        Some(std::mem::take(&mut self.wanted))
    }
}

impl Agent {
    pub(super) fn begin_gathering(&mut self, now: Now) {
        let Some(mut scope) = self.gathering.take(now) else { return };
        // Somebody may mend what is damaged by hand.
        scope.images |= scope.networks && !self.memory.damaged.is_empty();
        let number = self.gathering.begun;
        let (images, policy) = (self.known_images(), self.policy.clone());
        self.acts.push(Act::Gather { scope, number, began: now, images, policy });
    }

    pub(super) fn gathered(&mut self, gathered: Gathered, around: &dyn Surroundings, now: Now) {
        let Gathered { number, began, engine, proxy, scope } = gathered;
        self.gathering.is_under_way = false;
        match proxy {
            Some(Ok(snapshot)) => {
                self.gathering.is_proxy_away = false;
                self.facts.proxy = Some(snapshot);
            }
            Some(Err(reason)) => self.proxy_away(&reason, now),
            None => {}
        }
        match engine {
            Ok(from) => {
                if scope.asks_engine() {
                    self.engine_answered(began, now);
                    self.engine_is_back(now);
                }
                if scope.containers {
                    self.gathering.number = number;
                    self.gathering.fresh_at = Some(began);
                }
                if scope.images {
                    self.gathering.images_number = number;
                }
                self.facts.apply(from);
                if scope.containers {
                    self.updates.listed(now);
                    self.join_streams(number, now);
                }
                self.remember(around, now);
                self.decide_by(now);
            }
            Err(error) => {
                let since = self.gathering.silent_since(began);
                self.engine_away(&error, scope, since, now);
            }
        }
    }

    fn proxy_away(&mut self, reason: &str, now: Now) {
        if !self.gathering.is_proxy_away {
            warn!(reason, "the proxy does not answer; its routes stay as they are");
        }
        self.gathering.is_proxy_away = true;
        self.gathering.want(Scope { proxy: true, ..Scope::NOTHING }, now.plus(AWAY_PAUSE_MS));
    }

    /// An engine that is away says nothing about any container: nothing is decided, and clocks stand still.
    pub(super) fn engine_away(&mut self, error: &EngineError, scope: Scope, since: Now, now: Now) {
        if self.gathering.away_since.is_none() {
            warn!(%error, "the container engine does not answer; nothing is decided until it does");
            self.tell(None, Some(Reason::EngineUnavailable), &error.to_string());
            self.gathering.away_since = Some(since);
            self.memory.engine_went_away(since);
            self.acts.push(Act::Count(Counting::Suspended));
        }
        self.gathering.want(scope.and(Scope::ALL), now.plus(AWAY_PAUSE_MS));
    }

    /// An answer to what was asked at `asked`. A hang that ends before a deadline notices it stops the clocks as well: a
    /// frozen engine keeps a release from starting, and nobody may blame the release for it.
    pub(super) fn engine_answered(&mut self, asked: Now, now: Now) {
        // Whatever else is asked and not answered may have been asked before: the oldest question counts.
        let oldest = self.steps.values().map(|step| step.began).chain([asked]).min();
        let silent_ms = now.since(self.gathering.silent_since(oldest.unwrap_or(asked)));
        self.gathering.answered_at = now;
        if self.gathering.away_since.is_none() && silent_ms >= HUNG_MS {
            warn!(silent_ms, "the container engine hung");
            self.memory.engine_came_back(silent_ms);
        }
    }

    fn engine_is_back(&mut self, now: Now) {
        let Some(since) = self.gathering.away_since.take() else { return };
        self.gathering.back_at = Some(now);
        let away_ms = now.since(since);
        info!(away_ms, "the container engine answers again");
        self.tell(None, None, "the container engine answers again");
        self.memory.engine_came_back(away_ms);
        self.acts.push(Act::Count(Counting::Normal));
        self.gathering.want(Scope::ALL, now.plus(COALESCE_MS));
    }
}
