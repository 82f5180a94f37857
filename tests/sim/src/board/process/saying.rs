//! What the node says and when, as `agent::event_loop` says it.

use std::collections::BTreeMap;

use agent::link::Outgoing;
use agent::observe::gather::Scope;
use agent::report::{self, Obstacle, Sources};
use agent::traffic;
use planner::Now;
use planner::node::{Decision, Probed};
use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::hello::{Capacity, HELLO_INTERVAL_SECS, Hello, Load, Traffic};
use protocol::id::NodeName;
use protocol::manifest::{Assignment, Candidate, Version};
use protocol::reason::Reason;
use protocol::report::{EngineState, Report};
use protocol::topic::Up;

use super::Process;
use crate::board::hardware::Hardware;
use crate::fleet;

/// Changes within this are one report.
const REPORT_PAUSE_MS: u64 = 50;
const HELLO_AGAIN_MS: u64 = 2_000;
const LOAD_INTERVAL_MS: u64 = 60_000;
const LOAD_INTERVAL_BUSY_MS: u64 = 10_000;
const LOAD_INTERVAL_LEAST_MS: u64 = 1_000;
/// The proxy has this long to tell its counters before a load.
const COUNTING_MS: u64 = 100;

/// What was said last and what is due.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) said: Vec<Outgoing>,
    started_unix_ms: u64,
    sequence: u64,
    last: Option<Report>,
    is_up: bool,
    has_news: bool,
    report_at: Now,
    hello_at: Now,
    hello_pause_ms: u64,
    load_at: Now,
    is_counted: bool,
}

impl Voice {
    pub(super) fn new(board: &Hardware) -> Self {
        let now = board.local();
        Self {
            said: Vec::new(),
            started_unix_ms: board.unix_ms(),
            sequence: 0,
            last: None,
            is_up: false,
            has_news: true,
            report_at: now,
            hello_at: now,
            hello_pause_ms: HELLO_AGAIN_MS,
            load_at: now,
            is_counted: false,
        }
    }

    pub(super) fn is_up(&mut self, now: Now) {
        self.is_up = true;
        (self.hello_at, self.load_at, self.report_at) = (now, now, now);
        self.hello_pause_ms = HELLO_AGAIN_MS;
        self.last = None;
        self.has_news = true;
    }

    pub(super) const fn is_down(&mut self) {
        self.is_up = false;
    }

    /// Whether what there is to say was said.
    pub(super) const fn is_told(&self) -> bool {
        self.is_up && !self.has_news
    }

    pub(super) fn wake_at(&self, now: Now) -> Now {
        let far = now.plus(LOAD_INTERVAL_MS);
        // One that cannot be said yet follows from an event.
        let is_due_later = self.has_news && self.report_at > now;
        let report_at = if is_due_later { self.report_at } else { far };
        match self.is_up {
            true => self.load_at.min(self.hello_at).min(report_at),
            false => far,
        }
    }
}

impl Process {
    /// Something that a report tells of may have changed.
    pub(super) const fn has_news(&mut self) {
        self.voice.has_news = true;
    }

    pub(super) fn probed(&self, container: &str) -> Option<Probed> {
        self.probes.get(container).map(|probing| probing.probed().clone())
    }

    pub(super) fn say(&mut self, board: &mut Hardware, now: Now) {
        if board.kills_now() || !self.voice.is_up {
            return;
        }
        if self.voice.has_news && now >= self.voice.report_at {
            self.say_report(board, now);
        }
        if now >= self.voice.hello_at {
            self.voice.hello_at = now.plus(self.voice.hello_pause_ms);
            let longest_ms = HELLO_INTERVAL_SECS * 1000;
            self.voice.hello_pause_ms = (self.voice.hello_pause_ms * 2).min(longest_ms);
            self.say_hello(board);
            self.voice.last = None;
            self.voice.has_news = true;
        }
        if now >= self.voice.load_at {
            if self.judged().next().is_some() && !self.voice.is_counted {
                self.voice.load_at = now.plus(COUNTING_MS);
                self.voice.is_counted = true;
                board.count_requests();
                self.gathering.want(Scope { proxy: true, ..Scope::NOTHING }, now);
                return;
            }
            self.voice.is_counted = false;
            self.voice.load_at = now.plus(self.load_interval_ms());
            self.say_load(board);
        }
    }

    fn say_report(&mut self, board: &Hardware, now: Now) {
        let obstacle = self.gathering.away_since.map(|_| Obstacle {
            reason: Reason::EngineUnavailable,
            message: "the container engine does not answer".to_owned(),
        });
        if self.is_undecided && obstacle.is_none() {
            return;
        }
        self.voice.has_news = false;
        let none = BTreeMap::new();
        let sources = Sources {
            node: &board.identity,
            agent_started_ms: self.voice.started_unix_ms,
            seen: self.version(),
            wanted: self.wanted.as_ref(),
            observed: &self.observed,
            verdicts: if self.is_undecided { &none } else { &self.verdicts },
            histories: &self.histories,
            memory: &self.memory,
            refused: self.inbox.refused(),
            engine: match self.gathering.away_since {
                Some(_) => EngineState::Unavailable,
                None => EngineState::Ready,
            },
            obstacle: obstacle.as_ref(),
        };
        let report = report::build(sources, self.voice.sequence + 1, now);
        if self.voice.last.as_ref().is_some_and(|last| report::says_the_same(last, &report)) {
            return;
        }
        let payload = Envelope::sign(&report, &[&board.key]).to_bytes();
        self.voice.said.push(Outgoing { subject: Up::Report, payload });
        self.voice.sequence = report.sequence;
        self.voice.last = Some(report);
        self.voice.report_at = now.plus(REPORT_PAUSE_MS);
    }

    fn say_hello(&mut self, board: &Hardware) {
        let key = &board.key;
        let name: NodeName = board.name.parse().expect("a node's name");
        let hello = Hello {
            format: FORMAT,
            fleet: board.identity.fleet.clone(),
            node: board.identity.node.clone(),
            public_key: key.public().to_base64(),
            name,
            environment: board.identity.environment.clone(),
            labels: fleet::labels(board.number),
            formats: (1..=FORMAT).collect(),
            agent_version: "0.1.0".to_owned(),
            nonce: "n".to_owned(),
            boot_id: board.boot_id(),
            seen: self.version(),
            capacity: Capacity {
                architecture: "amd64".to_owned(),
                cores: 4,
                memory_bytes: 1 << 30,
            },
            address: "127.0.0.1".to_owned(),
            fleet_port: None,
        };
        let payload = Envelope::sign(&hello, &[key]).to_bytes();
        self.voice.said.push(Outgoing { subject: Up::Hello, payload });
    }

    fn say_load(&mut self, board: &Hardware) {
        self.facts.disk_used_percent = board.disk_used_percent;
        let load = Load {
            seen: self.version(),
            cpu: None,
            load1: None,
            mem_used: None,
            mem_total: None,
            disk_used: None,
            disk_total: None,
            temp_c: None,
            up_s: 1,
            traffic: self.traffic(board),
        };
        let payload = serde_json::to_vec(&load).expect("plain data serialises");
        self.voice.said.push(Outgoing { subject: Up::Load, payload });
    }

    fn load_interval_ms(&self) -> u64 {
        let is_settled = |decision: &Decision| match decision {
            Decision::Settled | Decision::GaveUp(_) => true,
            Decision::Do(_) | Decision::Wait { .. } => false,
        };
        match self.judged().map(|(_, candidate)| candidate.sample_every.0).min() {
            Some(every_ms) => every_ms.clamp(LOAD_INTERVAL_LEAST_MS, LOAD_INTERVAL_BUSY_MS),
            None if self.verdicts.values().all(|v| is_settled(&v.decision)) => LOAD_INTERVAL_MS,
            None => LOAD_INTERVAL_BUSY_MS,
        }
    }

    fn traffic(&self, board: &Hardware) -> Vec<Traffic> {
        let (environment, snapshot) = (&board.identity.environment, self.facts.proxy.as_ref());
        let of_both = |(assignment, candidate): (&Assignment, &Candidate)| {
            let service = &assignment.service;
            [&assignment.release, &candidate.release].map(|release| {
                traffic::of(environment, snapshot, &self.observed, (service, release), |_| None)
            })
        };
        self.judged().flat_map(of_both).collect()
    }

    fn judged(&self) -> impl Iterator<Item = (&Assignment, &Candidate)> {
        let assignments = self.wanted.iter().flat_map(|wanted| wanted.assignments.values());
        let candidates = assignments.filter_map(|a| Some((a, a.candidate.as_ref()?)));
        candidates.filter(|(_, candidate)| candidate.share > 0)
    }

    fn version(&self) -> Version {
        self.seen.as_ref().map(|seen| seen.version).unwrap_or_default()
    }
}
