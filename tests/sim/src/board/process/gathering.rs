//! When to look, what was seen, and what probes say of it.

use std::sync::Arc;

use agent::engine::{ContainerState, EngineError};
use agent::observe::gather::{FromEngine, Gathered, Scope};
use agent::probe::window::{Answer, Kind, Window};
use planner::Now;
use planner::node::Probed;

use super::{COALESCE_MS, Event, Process};
use crate::board::hardware::Hardware;

/// Hints may be lost: everything is looked at this often.
const FULL_INTERVAL_MS: u64 = 15_000;
/// Between two looks at an engine that does not answer.
const AWAY_PAUSE_MS: u64 = 500;
/// The engine answers within this, as a rule.
const SLOWEST_ANSWER_MS: u64 = 20;

/// One instance that is asked.
#[derive(Debug)]
pub(super) struct Probing {
    started: Now,
    window: Window,
}

/// What to look at next, and what is known of the looking itself.
#[derive(Debug)]
pub(super) struct Gathering {
    wanted: Scope,
    at: Now,
    is_under_way: bool,
    begun: u64,
    pub(super) number: u64,
    pub(super) fresh_at: Option<Now>,
    full_at: Now,
    pub(super) away_since: Option<Now>,
    pub(super) back_at: Option<Now>,
}

impl Probing {
    pub(super) const fn probed(&self) -> &Probed {
        self.window.probed()
    }
}

impl Gathering {
    pub(super) fn new(now: Now) -> Self {
        Self {
            wanted: Scope::ALL,
            at: now,
            is_under_way: false,
            begun: 0,
            number: 0,
            fresh_at: None,
            full_at: now.plus(FULL_INTERVAL_MS),
            away_since: None,
            back_at: None,
        }
    }

    pub(super) fn want(&mut self, scope: Scope, at: Now) {
        self.at = if self.wanted.is_nothing() { at } else { self.at.min(at) };
        self.wanted = self.wanted.and(scope);
    }

    pub(super) fn next_number(&self) -> u64 {
        self.begun + 1
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
            self.want(Scope::USUAL, now);
        }
        if self.wanted.is_nothing() || now < self.at {
            return None;
        }
        self.is_under_way = true;
        self.begun += 1;
        Some(std::mem::take(&mut self.wanted))
    }
}

impl Process {
    pub(super) fn begin_gathering(&mut self, board: &mut Hardware, now: Now) {
        let Some(scope) = self.gathering.take(now) else { return };
        let number = self.gathering.begun;
        let engine = self.ask_engine(scope, board);
        let proxy = scope.proxy.then(|| Ok(board.proxy.snapshot(board.now_ms)));
        let gathered = Gathered { number, began: now, engine, proxy, scope };
        let at = now.plus(board.random.between(1, SLOWEST_ANSWER_MS));
        self.later(at, Event::Gathered(Box::new(gathered)));
    }

    fn ask_engine(&self, scope: Scope, board: &mut Hardware) -> Result<FromEngine, EngineError> {
        let (ours, engine) = (board.ours(), &mut board.docker);
        let mut from = FromEngine::default();
        if scope.info {
            from.info = Some(engine.info()?);
        }
        if scope.containers {
            from.containers = Some(engine.containers(&ours)?);
        }
        if scope.networks {
            from.networks = Some(engine.networks(&ours)?);
        }
        if scope.images {
            let mut images = Vec::new();
            for image in self.needed_images() {
                images.push((image.pin.clone(), engine.image(&image)?));
            }
            from.images = Some(images);
        }
        Ok(from)
    }

    pub(super) fn gathered(&mut self, gathered: Gathered, board: &mut Hardware, now: Now) {
        let Gathered { number, began, engine, proxy, scope } = gathered;
        self.gathering.is_under_way = false;
        if let Some(Ok(snapshot)) = proxy {
            self.facts.proxy = Some(snapshot);
        }
        match engine {
            Ok(from) => {
                if scope.asks_engine() {
                    self.engine_is_back(now);
                }
                if scope.containers {
                    self.gathering.number = number;
                    self.gathering.fresh_at = Some(began);
                }
                self.facts.apply(from);
                self.remember(board, now);
                self.decide_by(now);
            }
            Err(_) => self.engine_away(scope, began, now),
        }
    }

    pub(super) fn engine_away(&mut self, scope: Scope, since: Now, now: Now) {
        if self.gathering.away_since.is_none() {
            self.gathering.away_since = Some(since);
            self.memory.engine_went_away(since);
        }
        self.gathering.want(scope.and(Scope::ALL), now.plus(AWAY_PAUSE_MS));
    }

    fn engine_is_back(&mut self, now: Now) {
        let Some(since) = self.gathering.away_since.take() else { return };
        self.gathering.back_at = Some(now);
        self.memory.engine_came_back(now.since(since));
        self.gathering.want(Scope::ALL, now.plus(COALESCE_MS));
    }

    /// Notes what happened since the last look, and whom to probe.
    fn remember(&mut self, board: &mut Hardware, now: Now) {
        let (memory, probes) = (&mut self.memory, &self.probes);
        let probed = |id: &str| {
            probes.get(id).map(|probing| probing.window.probed().clone()).unwrap_or_default()
        };
        for (service, ended) in memory.see(&self.facts, probed, now) {
            board.trace.note(board.now_ms, &board.name, || {
                format!("{service}: {} ended, code {}", ended.name, ended.code)
            });
        }
        let mut probes = std::mem::take(&mut self.probes);
        for container in self.facts.containers.iter().flatten() {
            self.memory.service(&container.identity.service, now);
            let ContainerState::Running { .. } = container.state else { continue };
            let release =
                self.wanted.as_ref().and_then(|w| w.releases.get(&container.identity.release));
            let Some(release) = release else { continue };
            let Some(started) = self.memory.containers.get(&container.id).map(|k| k.started) else {
                continue;
            };
            let known = probes.remove(&container.id).filter(|probing| probing.started == started);
            let probing = known.unwrap_or_else(|| {
                let spec = release.spec(&board.identity.environment);
                let targets: Vec<u16> = spec.ports.iter().map(|port| port.target).collect();
                let health = Arc::new(spec.health.clone());
                Probing { started, window: Window::new(&health, &targets, started) }
            });
            self.probes.insert(container.id.clone(), probing);
        }
    }

    pub(super) fn next_probe(&self) -> Option<Now> {
        self.probes.values().filter_map(|probing| probing.window.next_at()).min()
    }

    /// Asks whoever is due; applications answer at once.
    pub(super) fn probe(&mut self, board: &Hardware, now: Now) {
        if self.next_probe().is_none_or(|first| first > now) {
            return;
        }
        let mut has_changed = false;
        for (container, probing) in &mut self.probes {
            for kind in probing.window.due(now) {
                probing.window.begin(kind, now);
                let answer = board.ask(container, kind);
                has_changed |= probing.window.finish(kind, answer, now);
            }
        }
        if has_changed {
            self.decide_by(now.plus(COALESCE_MS));
        }
    }
}

impl Hardware {
    /// What an application answers.
    fn ask(&self, container: &str, kind: Kind) -> Answer {
        let passes = match kind {
            Kind::Startup | Kind::Readiness => self.is_ready(container),
            Kind::Liveness => self.is_alive(container),
        };
        if passes { Answer::Passed } else { Answer::Failed("HTTP 503".to_owned()) }
    }
}
