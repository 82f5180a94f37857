//! What the node says and when: hello at connect, ever more rarely until it is answered, then every 15 minutes, a report on change and
//! after each hello, load every minute (every 10 seconds while something is not settled), events as they happen.

mod loading;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use planner::Now;
use planner::node::Decision;
use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::hello::{self, Capacity, Hello};
use protocol::id::{ServiceName, hex};
use protocol::keys::SecretKey;
use protocol::load;
use protocol::manifest::Version;
use protocol::reason::Reason;
use protocol::report::{EngineState, Report};
use protocol::topic::Up;
use serde::Serialize;

use super::acts::{Act, Surroundings};
use super::agent::Agent;
use crate::inbox::Refusal;
use crate::link::Outgoing;
use crate::report::{self, Obstacle, Sources};

/// Changes within this are one report.
const REPORT_PAUSE_MS: u64 = 50;
/// A hello is not retained: one that was said while the coordinator was away too is lost, and so it is soon said again.
const HELLO_AGAIN_MS: u64 = 2_000;
/// The proxy has this long to tell its counters before a load.
const COUNTING_MS: u64 = 100;
/// Characters of an event's text.
const MAX_EVENT_CHARS: usize = 400;

/// How often a node that is well speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    hello_ms: u64,
    load_ms: u64,
    is_metered: bool,
}

impl Intervals {
    pub(super) const fn of(metered: bool) -> Self {
        let (hello_s, load_s) = match metered {
            false => (hello::HELLO_INTERVAL_SECS, hello::LOAD_INTERVAL_SECS),
            true => (hello::METERED_HELLO_INTERVAL_SECS, hello::METERED_LOAD_INTERVAL_SECS),
        };
        Self { hello_ms: hello_s * 1000, load_ms: load_s * 1000, is_metered: metered }
    }
}

/// The node's voice: what was said last and what is due.
#[derive(Debug)]
pub(super) struct Voice {
    key: SecretKey,
    agent_started_ms: u64,
    cores: u32,
    boot_id: String,
    intervals: Intervals,
    sequence: u64,
    last: Option<Report>,
    is_up: bool,
    /// Something that a report tells of may have changed since one was made.
    pub(super) has_news: bool,
    report_at: Now,
    hello_at: Now,
    hello_pause_ms: u64,
    /// When the last hello is said again if nobody answers it.
    repeat_at: Now,
    load_at: Now,
    /// The proxy was asked for its counters, for the load that is due.
    is_counted: bool,
    /// Somebody looks: how often until when.
    watched: Option<Watched>,
    /// The next load tells all there is: the first after each hello does.
    is_detail_due: bool,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    every_ms: u64,
    until: Now,
}

impl Voice {
    pub(super) fn new(
        key: SecretKey,
        boot_id: &str,
        (agent_started_ms, cores): (u64, u32),
        intervals: Intervals,
        now: Now,
    ) -> Self {
        Self {
            key,
            intervals,
            agent_started_ms,
            cores,
            boot_id: boot_id.to_owned(),
            sequence: 0,
            last: None,
            is_up: false,
            has_news: true,
            report_at: now,
            hello_at: now,
            hello_pause_ms: HELLO_AGAIN_MS,
            repeat_at: now,
            load_at: now,
            is_counted: false,
            watched: None,
            is_detail_due: true,
        }
    }

    /// The session stands: everything is said anew.
    pub(super) fn is_up(&mut self, now: Now) {
        self.is_up = true;
        self.hello_at = now;
        self.hello_pause_ms = HELLO_AGAIN_MS;
        self.load_at = now;
        self.report_at = now;
        self.last = None;
        self.has_news = true;
    }

    /// The coordinator has heard the last hello: there is time until the next, unless there is another reason for it.
    pub(super) fn is_heard(&mut self, now: Now) {
        if self.hello_at == self.repeat_at {
            self.hello_pause_ms = self.intervals.hello_ms;
            self.repeat_at = now.plus(self.intervals.hello_ms);
            self.hello_at = self.repeat_at;
        }
    }

    /// Somebody looks: loads come so often for so long, the first at once. A metered link is not spent on being looked at.
    pub(super) fn watch(&mut self, every_ms: u32, for_s: u32, now: Now) {
        let least_ms = match self.intervals.is_metered {
            false => load::MIN_WATCH_EVERY_MS.into(),
            true => hello::LOAD_INTERVAL_SECS * 1_000,
        };
        let every_ms = u64::from(every_ms).max(least_ms);
        let until = now.plus(u64::from(for_s.min(load::MAX_WATCH_S)) * 1_000);
        if self.watched(now).is_none() {
            self.load_at = now;
        }
        self.watched = Some(Watched { every_ms, until });
    }

    /// Whether the next load says more than the least.
    fn tells_all(&self, now: Now) -> bool {
        self.is_detail_due || self.watched(now).is_some()
    }

    /// Milliseconds between loads, while somebody looks.
    fn watched(&self, now: Now) -> Option<u64> {
        self.watched.filter(|watched| now < watched.until).map(|watched| watched.every_ms)
    }

    /// What a hello says has changed.
    pub(super) fn hello_is_due_at(&mut self, now: Now) {
        self.hello_at = now;
        self.hello_pause_ms = HELLO_AGAIN_MS;
    }

    pub(super) const fn is_down(&mut self) {
        self.is_up = false;
    }

    /// Whether what there is to say was said.
    pub(super) const fn is_told(&self) -> bool {
        self.is_up && !self.has_news
    }

    /// When something is due. Reports are due on change only.
    pub(super) fn wake_at(&self, now: Now) -> Now {
        let load_at = if self.is_up { self.load_at } else { now.plus(self.intervals.load_ms) };
        let hello_at = if self.is_up { self.hello_at } else { load_at };
        // One that is due and cannot be said yet follows from an event.
        let is_due_later = self.has_news && self.report_at > now;
        let report_at = if is_due_later { self.report_at } else { load_at };
        load_at.min(hello_at).min(report_at)
    }

    /// A load is due this soon at the latest, also where there was more time until now.
    fn load_is_due_within(&mut self, interval_ms: u64, now: Now) {
        self.load_at = self.load_at.min(now.plus(interval_ms));
    }

    /// Whether it is time for a hello; the one after it has more time.
    fn hello_is_due(&mut self, now: Now) -> bool {
        let is_due = now >= self.hello_at;
        if is_due {
            self.is_detail_due = true;
            self.repeat_at = now.plus(self.hello_pause_ms);
            self.hello_at = self.repeat_at;
            self.hello_pause_ms = (self.hello_pause_ms * 2).min(self.intervals.hello_ms);
        }
        is_due
    }

    /// What a hello says has changed.
    pub(super) fn greet_again(&mut self, now: Now) {
        self.hello_at = now;
    }

    /// A hello is due at this moment at the latest.
    pub(super) fn greet_by(&mut self, at: Now) {
        self.hello_at = self.hello_at.min(at);
    }

    /// What the node signs with.
    pub(super) const fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Nobody took what was said. A report is said again; what else was lost is said anew in time.
    pub(super) fn unsaid(&mut self, subject: Up) {
        if subject == Up::Report {
            self.last = None;
            self.has_news = true;
        }
    }

    fn report(&mut self, report: Report, now: Now) -> Outgoing {
        let payload = Envelope::sign(&report, &[&self.key]).to_bytes();
        self.sequence = report.sequence;
        self.last = Some(report);
        self.report_at = now.plus(REPORT_PAUSE_MS);
        Outgoing { subject: Up::Report, payload }
    }

    fn says_the_same(&self, report: &Report) -> bool {
        self.last.as_ref().is_some_and(|last| report::says_the_same(last, report))
    }
}

impl Agent {
    /// Something that happened, as people read it.
    pub(super) fn tell(
        &mut self,
        service: Option<ServiceName>,
        reason: Option<Reason>,
        message: &str,
    ) {
        let message = message.chars().take(MAX_EVENT_CHARS).collect();
        let event = hello::Event { service, reason, message };
        self.acts.push(Act::Say(plain(Up::Event, &event)));
    }

    /// The first refusal with a code is news, the others are counted.
    pub(super) fn tell_refused(&mut self, reason: Reason, refusal: &Refusal) {
        let Refusal { what, code, message, count } = refusal;
        if *count == 1 {
            let text = format!("{what} refused: {code}: {message}");
            self.tell(None, Some(reason), &text);
        }
    }

    /// Says what is due.
    pub(super) fn say(&mut self, around: &mut dyn Surroundings, now: Now) {
        if self.voice.has_news && now >= self.voice.report_at {
            self.say_report(now);
        }
        if !self.voice.is_up {
            return;
        }
        if self.voice.hello_is_due(now) {
            self.say_hello(around, now);
            // Nobody says when a report was lost on its way: the coordinator would wait for it for ever.
            self.voice.last = None;
            self.voice.has_news = true;
        }
        self.voice.load_is_due_within(self.load_interval_ms(now), now);
        if now >= self.voice.load_at {
            let counts = self.judged().next().is_some() || self.voice.watched(now).is_some();
            if counts && !self.voice.is_counted {
                self.voice.load_at = now.plus(COUNTING_MS);
                self.voice.is_counted = true;
                self.begin_measuring(now);
                return;
            }
            self.voice.is_counted = false;
            self.voice.load_at = now.plus(self.load_interval_ms(now));
            self.say_load(around, now);
        }
    }

    fn say_report(&mut self, now: Now) {
        let obstacle = self.obstacle();
        if self.is_undecided && obstacle.is_none() {
            // What was decided under the manifest before says nothing about this one.
            return;
        }
        self.voice.has_news = false;
        let report = self.report_now(now);
        if !self.voice.says_the_same(&report) {
            let outgoing = self.voice.report(report, now);
            self.acts.push(Act::Say(outgoing));
        }
    }

    /// What the node says of itself at this moment.
    pub(super) fn report_now(&self, now: Now) -> Report {
        let obstacle = self.obstacle();
        let none = BTreeMap::new();
        let alarms = self.freshness.alarms();
        let agent_update = self.updates.shown();
        let sources = Sources {
            node: &self.node,
            agent_started_ms: self.voice.agent_started_ms,
            seen: self.version(),
            wanted: self.wanted.as_ref(),
            observed: &self.observed,
            verdicts: if self.is_undecided { &none } else { &self.verdicts },
            histories: &self.histories,
            holds: &self.holds,
            memory: &self.memory,
            refused: self.inbox.refused(),
            engine: match self.gathering.away_since {
                Some(_) => EngineState::Unavailable,
                None => EngineState::Ready,
            },
            obstacle: obstacle.as_ref(),
            alarms: &alarms,
            images: (self.gathering.images_number > 0).then_some(&self.facts.images),
            agent_update: agent_update.as_ref(),
        };
        report::build(sources, self.voice.sequence + 1, now)
    }

    fn obstacle(&self) -> Option<Obstacle> {
        if let Some(obstacle) = self.writing.obstacle() {
            return Some(obstacle.clone());
        }
        let message = if self.gathering.away_since.is_some() {
            "the container engine does not answer"
        } else if self.gathering.is_proxy_away {
            "the proxy does not answer; it is `pith-agent proxy`, a process of its own"
        } else {
            return None;
        };
        let reason = Reason::EngineUnavailable;
        Some(Obstacle { reason, message: message.to_owned() })
    }

    fn say_hello(&mut self, around: &mut dyn Surroundings, now: Now) {
        let nonce = hex(&around.nonce());
        self.freshness.asked(nonce.clone(), self.voice.hello_at, now);
        self.commands.greeted(nonce.clone(), now);
        let hello = Hello {
            format: FORMAT,
            fleet: self.node.fleet.clone(),
            node: self.node.node.clone(),
            public_key: self.voice.key.public().to_base64(),
            name: self.settings.name.clone(),
            environment: self.node.environment.clone(),
            labels: self.settings.labels.clone(),
            formats: (1..=FORMAT).collect(),
            agent_version: self.updates.version(),
            nonce,
            boot_id: self.voice.boot_id.clone(),
            seen: self.version(),
            capacity: self.capacity(),
            address: self.address(around).to_string(),
            fleet_port: self.settings.between.port.map(NonZeroU16::get),
            policy: self.policy_state(),
            root_version: Some(self.inbox.trust().root.version),
            seal_key: self.settings.vault.seal_key(),
            seen_sha256: self.seen.as_ref().map(|seen| seen.payload_sha256.clone()),
            learned: self.known_addresses(),
            metered: self.settings.metered,
        };
        let payload = Envelope::sign(&hello, &[&self.voice.key]).to_bytes();
        self.acts.push(Act::Say(Outgoing { subject: Up::Hello, payload }));
    }

    /// Where other nodes and people reach this one, as far as it can know.
    fn address(&self, around: &dyn Surroundings) -> IpAddr {
        let found = self.settings.address.or_else(|| around.own_address());
        found.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn capacity(&self) -> Capacity {
        match &self.facts.info {
            Some(info) => Capacity {
                architecture: info.architecture.clone(),
                cores: info.cores,
                memory_bytes: info.memory_bytes,
            },
            None => Capacity {
                architecture: own_architecture().to_owned(),
                cores: self.voice.cores,
                memory_bytes: 0,
            },
        }
    }

    fn version(&self) -> Version {
        self.seen.as_ref().map(|seen| seen.version).unwrap_or_default()
    }

    fn is_settled(&self) -> bool {
        let is_settled = |decision: &Decision| match decision {
            Decision::Settled | Decision::GaveUp(_) => true,
            Decision::Do(_) | Decision::Wait { .. } => false,
        };
        self.verdicts.values().all(|verdict| is_settled(&verdict.decision))
    }
}

fn plain<T: Serialize>(subject: Up, value: &T) -> Outgoing {
    Outgoing { subject, payload: serde_json::to_vec(value).expect("plain data serialises") }
}

/// This program's own architecture in the words of images, until the engine has told its own.
pub(super) fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(metered: bool) -> Voice {
        let key = crate::testing::node_key();
        Voice::new(key, "boot", (0, 1), Intervals::of(metered), Now(0))
    }

    #[test]
    fn a_hello_is_soon_repeated_and_then_ever_more_rarely_anew_with_each_connection() {
        let mut voice = voice(false);
        for connected_s in [0, 5_000] {
            voice.is_up(Now(connected_s * 1000));
            let seconds = connected_s..connected_s + 3_000;
            let said = seconds.filter(|second| voice.hello_is_due(Now(second * 1000)));
            let said: Vec<u64> = said.map(|second| second - connected_s).collect();
            assert_eq!(said, [0, 2, 6, 14, 30, 62, 126, 254, 510, 1022, 1922, 2822]);
        }
    }

    #[test]
    fn a_hello_that_was_heard_is_followed_by_one_after_fifteen_minutes_unless_there_is_a_reason() {
        let mut voice = voice(false);
        voice.is_up(Now(0));
        assert!(voice.hello_is_due(Now(0)));
        voice.is_heard(Now(1_000));
        assert_eq!(voice.hello_at, Now(1_000 + 15 * 60_000));
        voice.greet_by(Now(20_000));
        voice.is_heard(Now(2_000));
        assert_eq!(voice.hello_at, Now(20_000), "the reason stands");
    }

    #[test]
    fn whoever_begins_to_judge_a_candidate_does_not_wait_for_the_load_of_a_settled_node() {
        let mut voice = voice(false);
        voice.load_at = Now(60_000);
        voice.load_is_due_within(60_000, Now(5_000));
        assert_eq!(voice.load_at, Now(60_000), "what is due sooner stays so");
        voice.load_is_due_within(loading::LOAD_INTERVAL_LEAST_MS, Now(5_000));
        assert_eq!(voice.load_at, Now(6_000));
    }

    #[test]
    fn while_somebody_looks_loads_come_as_often_as_asked_and_tell_all() {
        for (metered, every_ms) in [(false, 2_000), (true, 60_000)] {
            let mut voice = voice(metered);
            voice.is_up(Now(0));
            voice.is_detail_due = false;
            voice.load_at = Now(50_000);
            assert!(!voice.tells_all(Now(4_000)));
            voice.watch(2_000, 60, Now(5_000));
            assert_eq!(voice.load_at, Now(5_000), "the first at once");
            assert_eq!(voice.watched(Now(64_999)), Some(every_ms));
            assert!(voice.tells_all(Now(64_999)));
            voice.load_at = Now(6_000);
            voice.watch(1, 1_000_000, Now(5_500));
            assert_eq!(voice.load_at, Now(6_000), "asked again, it goes on");
            let most = Now(5_500 + u64::from(load::MAX_WATCH_S) * 1_000);
            assert_eq!(voice.watched(most), None);
        }
    }

    #[test]
    fn on_a_metered_link_a_node_that_was_heard_says_hello_each_hour() {
        let mut voice = voice(true);
        voice.is_up(Now(0));
        assert!(voice.hello_is_due(Now(0)));
        voice.is_heard(Now(1_000));
        assert_eq!(voice.hello_at, Now(1_000 + 60 * 60_000));
    }
}
