//! What only this process knows: begins anew with it, and nothing durable depends on it.

use std::collections::{BTreeMap, BTreeSet};

use planner::Now;
use planner::node::{Finding, Probed, Refusal, StepFailure};
use protocol::id::{ServiceName, Template};
use protocol::reason::Reason;
use protocol::release::{Image, Pin};

use super::Facts;
use crate::engine::{Container, ContainerState};
use crate::routes;

/// Ready this long: the ends before it count no more.
pub const FORGIVEN_AFTER_MS: u64 = 600_000;
/// Ends this shortly before the engine went away were the engine's own: a daemon that shuts down stops its containers.
pub const SHUTDOWN_WINDOW_MS: u64 = 20_000;

/// What ends this soon after its start may never have run its program.
pub const AT_ONCE_MS: u64 = 2_000;

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// By container id.
    pub containers: BTreeMap<String, Known>,
    /// By service.
    pub services: BTreeMap<ServiceName, Remembered>,
    /// Pulls under way and pulls that failed.
    pub pulls: BTreeMap<Pin, Pulling>,
    /// Images here whose files are damaged.
    pub damaged: BTreeMap<Pin, Damaged>,
    /// Images that this process has removed once for that.
    pub repaired: BTreeSet<Pin>,
}

/// An image whose files are damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// What was seen, for people.
    pub what: String,
    /// What was done about it.
    pub removal: Removal,
}

/// How far the removal of a damaged image came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Not begun.
    Due,
    /// The engine is at it.
    Underway,
    /// Done, and seen by a gathering of at least this number.
    Done {
        /// The first that looks at images after it.
        seen_from: u64,
    },
    /// The engine did not.
    Refused(String),
}

/// A container as it was seen over time.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The engine's stamp of its newest start.
    run: String,
    /// When that start was.
    pub started: Now,
    /// When it ended, once it has.
    pub ended: Option<Now>,
    /// Seen running since that start, with the engine reachable ever since.
    was_seen_running: bool,
    /// This agent started it and has not seen it since.
    is_start_awaited: bool,
    /// When it was told to stop.
    pub told_to_stop: Option<Now>,
    /// It was told to stop because a probe had failed for good: its end counts like one of its own.
    is_blamed: bool,
    /// Was ready at some time since its newest start.
    pub was_ready: bool,
    /// Since when it drains, as far as this agent saw.
    pub draining_since: Option<Now>,
    /// When it ended by itself.
    exits: Vec<Exit>,
    /// It ran when this agent first saw it, at this moment: an agent before this one started it.
    pub ran_before_us: Option<Now>,
    /// Why it ended at once.
    pub finding: Finding,
    /// Its program was looked at: it does not change while this process lives.
    pub is_looked_at: bool,
}

/// A service as this process remembers it.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The last step that failed.
    pub failure: Option<StepFailure>,
    /// See `planner::node::ServiceFacts::progress_at`.
    pub progress_at: Now,
    /// The same for the candidate.
    pub candidate_progress_at: Now,
    /// What its route could not listen on, for the node's clients.
    pub refused: Vec<Refusal>,
    /// What it could not listen on for other containers; for people only.
    pub unreachable_inside: Option<Refusal>,
    /// No step before this.
    pub pause_until: Option<Now>,
}

/// A pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulling {
    /// Under way.
    Underway {
        /// What is pulled.
        image: Image,
        /// One sentence for a person.
        progress: String,
        /// When bytes moved last.
        moved_at: Now,
        /// They have not for a while.
        is_stalled: bool,
        /// Failures before this one.
        failures: u32,
    },
    /// Ended badly.
    Failed {
        /// Why.
        reason: Reason,
        /// One sentence for a person.
        message: String,
        /// Whether trying again cannot mend it.
        permanent: bool,
        /// When it is tried again.
        retry_at: Now,
        /// How often in a row.
        failures: u32,
    },
}

/// An end of a container by itself.
#[derive(Debug, Clone, Copy)]
struct Exit {
    at: Now,
    /// The kernel killed it for its memory: nobody else's doing, whatever became of the engine meanwhile.
    oom: bool,
}

impl Known {
    /// Ends by itself since it was last ready for long.
    #[must_use]
    pub fn exit_count(&self) -> u32 {
        u32::try_from(self.exits.len()).unwrap_or(u32::MAX)
    }

    fn see(&mut self, container: &Container, now: Now) -> Option<Ended> {
        match container.state {
            ContainerState::Created => None,
            ContainerState::Running { age_ms } => {
                if self.run != container.run {
                    let is_first_sight = self.run.is_empty() && !self.is_start_awaited;
                    self.begin(container, Now(now.0.saturating_sub(age_ms)));
                    self.ran_before_us = is_first_sight.then_some(now);
                }
                self.was_seen_running = true;
                self.is_start_awaited = false;
                None
            }
            ContainerState::Exited { age_ms, code, oom } => {
                let is_same_run = self.run == container.run;
                if is_same_run && self.ended.is_some() {
                    return None;
                }
                let was_seen =
                    if is_same_run { self.was_seen_running } else { self.is_start_awaited };
                // A leak takes the engine's memory too, so that it does not answer around the end.
                let counts = was_seen || (oom && !self.run.is_empty());
                let ended = Now(now.0.saturating_sub(age_ms)).max(self.started);
                let was_told = self.told_to_stop.is_some() && !self.is_blamed;
                if !is_same_run {
                    self.begin(container, ended);
                }
                self.ended = Some(ended);
                self.was_seen_running = false;
                self.is_start_awaited = false;
                self.told_to_stop = None;
                self.is_blamed = false;
                if !counts || was_told {
                    return None;
                }
                self.exits.push(Exit { at: ended, oom });
                let (id, name) = (container.id.clone(), container.name.clone());
                Some(Ended { id, name, code, oom, ran_ms: ended.since(self.started) })
            }
        }
    }

    fn begin(&mut self, container: &Container, started: Now) {
        self.run.clone_from(&container.run);
        self.started = started;
        self.ended = None;
        self.told_to_stop = None;
        self.is_blamed = false;
        self.was_ready = false;
        self.ran_before_us = None;
    }
}

/// A container that ended by itself, as news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// With this code.
    pub code: i64,
    /// Killed for its memory.
    pub oom: bool,
    /// It ran for so long.
    pub ran_ms: u64,
}

impl Ended {
    /// Whether it may never have run anything.
    #[must_use]
    pub fn is_at_once(&self) -> bool {
        !self.oom && self.ran_ms <= AT_ONCE_MS
    }
}

impl Memory {
    /// Takes note of freshly gathered facts; returns which containers ended by themselves since the last time.
    pub fn see(
        &mut self,
        facts: &Facts,
        probed: impl Fn(&str) -> Probed,
        now: Now,
    ) -> Vec<(ServiceName, Ended)> {
        let draining = facts.proxy.as_ref().map(routes::draining).unwrap_or_default();
        let mut news = Vec::new();
        let containers = facts.containers.as_deref().unwrap_or_default();
        self.containers.retain(|id, _| containers.iter().any(|container| container.id == *id));
        for container in containers {
            let known = self.containers.entry(container.id.clone()).or_default();
            if let Some(ended) = known.see(container, now) {
                news.push((container.identity.service.clone(), ended));
            }
            if draining.contains(container.id.as_str()) {
                known.draining_since.get_or_insert(now);
            } else {
                known.draining_since = None;
            }
            let ready_since = probed(&container.id).ready_since;
            let is_running = matches!(container.state, ContainerState::Running { .. });
            if let Some(since) = ready_since.filter(|_| is_running) {
                known.was_ready = true;
                if now.since(since) >= FORGIVEN_AFTER_MS {
                    known.exits.clear();
                }
            }
        }
        news
    }

    /// The agent started a container.
    pub fn started(&mut self, container: &str) {
        let known = self.containers.entry(container.to_owned()).or_default();
        known.is_start_awaited = true;
        known.told_to_stop = None;
        known.is_blamed = false;
    }

    /// The agent told a container to stop.
    pub fn told_to_stop(&mut self, container: &str, blame: Blame, now: Now) {
        let known = self.containers.entry(container.to_owned()).or_default();
        known.told_to_stop.get_or_insert(now);
        known.is_blamed |= blame == Blame::Itself;
    }

    /// What is remembered of a service; `now` is when it begins to be.
    pub fn service(&mut self, name: &ServiceName, now: Now) -> &mut Remembered {
        self.services.entry(name.clone()).or_insert_with(|| Remembered {
            failure: None,
            progress_at: now,
            candidate_progress_at: now,
            refused: Vec::new(),
            unreachable_inside: None,
            pause_until: None,
        })
    }

    /// One more failure of a step for `template`.
    pub fn failed(
        &mut self,
        name: &ServiceName,
        template: &Template,
        (reason, message, permanent): (Reason, String, bool),
        now: Now,
    ) {
        let service = self.service(name, now);
        let before = service.failure.as_ref().filter(|failure| failure.template == *template);
        let failures = before.map_or(0, |failure| failure.failures) + 1;
        let template = template.clone();
        service.failure =
            Some(StepFailure { template, reason, message, permanent, failures, at: now });
    }

    /// The engine stopped answering at `since`: ends around that moment are nobody's fault, but those for memory.
    pub fn engine_went_away(&mut self, since: Now) {
        for known in self.containers.values_mut() {
            known.was_seen_running = false;
            known.is_start_awaited = false;
            known.exits.retain(|exit| exit.oom || exit.at.plus(SHUTDOWN_WINDOW_MS) < since);
        }
    }

    /// It answers again: the clocks of rollouts stood still for `away_ms`.
    pub fn engine_came_back(&mut self, away_ms: u64) {
        for service in self.services.values_mut() {
            service.progress_at = service.progress_at.plus(away_ms);
            service.candidate_progress_at = service.candidate_progress_at.plus(away_ms);
        }
    }
}

/// Whose doing it is that a container must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Its probe failed for good.
    Itself,
    /// It is not wanted any more.
    Nobody,
}
