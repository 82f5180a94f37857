//! Signed times at a node: what raises the floor, and which alarms begin and end. By the loop's state alone, in a time of
//! the test's own.

use std::sync::Arc;

use super::super::*;
use super::beginning::{Around, beginning, settings};
use super::board::web;
use crate::testing::{self, ManifestBuilder};
use proptest::prelude::*;
use protocol::command::Part;
use protocol::envelope::Envelope;
use protocol::hello::{HELLO_INTERVAL_SECS, Hello};
use protocol::keys::{Role, SecretKey};
use protocol::manifest::Manifest;
use protocol::reason::Reason;
use protocol::report::Report;
use protocol::time::{Newest, Time};

const BEGIN: Now = Now(10_000);
const BUILT_S: u64 = 1_780_000_000;
const DAY_S: u64 = 86_400;

/// A node that is connected, its coordinator and everything between them.
pub(super) struct Line {
    pub(super) agent: Agent,
    around: Around,
    now: Now,
    floor: mqtt::VerifyAt,
    ledger: Arc<Contents>,
    pub(super) nonce: String,
    pub(super) hellos: u32,
    alarms: Vec<Reason>,
    pub(super) events: Vec<Reason>,
    /// What it answers to commands.
    pub(super) parts: Vec<Part>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self::remembering(Arc::default())
    }

    fn remembering(ledger: Arc<Contents>) -> Self {
        let floor = mqtt::VerifyAt::new(BUILT_S);
        floor.raise(ledger.floor_s());
        let between = Between { floor: floor.clone(), ..settings().between };
        let settings = Settings { between, ..settings() };
        let beginning = Beginning { ledger: Arc::clone(&ledger), ..beginning(settings, BEGIN) };
        let mut line = Self {
            agent: Agent::new(beginning, BEGIN),
            around: Around::default(),
            now: BEGIN,
            floor,
            ledger,
            nonce: String::new(),
            hellos: 0,
            alarms: Vec::new(),
            events: Vec::new(),
            parts: Vec::new(),
        };
        // An engine that does not answer lets it speak without having looked.
        line.hear(Incoming::Up);
        line
    }

    pub(super) fn hear(&mut self, incoming: Incoming) {
        self.agent.hear(incoming, self.now);
        self.turn();
    }

    /// Lets everything happen that is due, writes included.
    fn turn(&mut self) {
        for _ in 0..4 {
            self.agent.turn(&mut self.around, self.now);
            for act in self.agent.take_acts() {
                self.perform(act);
            }
        }
    }

    fn perform(&mut self, act: Act) {
        let event = if let Act::Write(write) = act {
            self.ledger = Arc::clone(&write.contents);
            Event::Written { write, result: Ok(()) }
        } else if let Act::Gather { scope, number, began, .. } = act {
            let engine = Err(EngineError::Unavailable("away".to_owned()));
            Event::Gathered(Box::new(Gathered { number, began, engine, proxy: None, scope }))
        } else if let Act::Say(said) = act {
            return self.said(&said);
        } else {
            return;
        };
        self.agent.handle(event, &self.around, self.now);
    }

    fn said(&mut self, said: &Outgoing) {
        let role = Role::single(testing::node_key().public());
        let envelope = Envelope::from_bytes(&said.payload);
        match said.subject {
            Up::Hello => {
                let hello = envelope.unwrap().open::<Hello>().unwrap().verify(&role).unwrap();
                self.nonce = hello.nonce.clone();
                self.hellos += 1;
            }
            Up::Report => {
                let report = envelope.unwrap().open::<Report>().unwrap().verify(&role).unwrap();
                self.alarms = report.alarms.iter().map(|alarm| alarm.reason).collect();
            }
            Up::Event => {
                let event: protocol::hello::Event = serde_json::from_slice(&said.payload).unwrap();
                let is_of_this = |reason: &Reason| *reason != Reason::EngineUnavailable;
                self.events.extend(event.reason.filter(is_of_this));
            }
            Up::Stream => {
                let part = envelope.unwrap().open::<Part>().unwrap().verify(&role).unwrap();
                self.parts.push(part.into_inner());
            }
            Up::Load | Up::Presence => {}
        }
    }

    /// Seconds pass, one after another.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus(1_000);
            self.turn();
        }
    }

    fn time(&self, unix_s: u64, newest: Option<&ManifestBuilder>) -> Time {
        let (fleet, node) = (testing::fleet(), testing::identity().node);
        let newest = newest.map(|builder| newest_of(&builder.manifest));
        Time { format: 1, fleet, node, nonce: self.nonce.clone(), unix_s, newest }
    }

    fn answer(&mut self, unix_s: u64, newest: Option<&ManifestBuilder>) -> Vec<u8> {
        let bytes = by_director(&self.time(unix_s, newest));
        self.hear(Incoming::Time(bytes.clone()));
        bytes
    }
}

fn by_director(time: &Time) -> Vec<u8> {
    Envelope::sign(time, &[&testing::director_key()]).to_bytes()
}

fn newest_of(manifest: &Manifest) -> Newest {
    let payload = serde_json::to_vec(manifest).unwrap();
    Newest { version: manifest.version, payload_sha256: protocol::id::sha256_hex(&payload) }
}

#[test]
fn an_answer_raises_the_floor_once_and_a_replay_of_it_nothing() {
    let mut line = Line::new();
    let first = line.answer(BUILT_S + 10, None);
    assert_eq!(line.floor.unix_s(), BUILT_S + 10);
    line.pass(HELLO_INTERVAL_SECS);
    line.hear(Incoming::Time(first));
    assert_eq!(line.floor.unix_s(), BUILT_S + 10, "it answers a hello of before");
    line.answer(BUILT_S + 5, None);
    assert_eq!(line.floor.unix_s(), BUILT_S + 10, "a coordinator whose clock went back");
    line.pass(HELLO_INTERVAL_SECS);
    line.answer(BUILT_S + 20, None);
    assert_eq!(line.floor.unix_s(), BUILT_S + 20);
    assert_eq!((&line.alarms[..], &line.events[..]), (&[][..], &[][..]), "being late is no attack");
}

#[test]
fn what_the_director_did_not_sign_for_this_node_raises_nothing_and_is_told() {
    let mut line = Line::new();
    let time = line.time(BUILT_S + 999, None);
    let stranger = SecretKey::from_seed([9; 32]);
    let other = stranger.public().node_id();
    let forged = [
        Envelope::sign(&time, &[&stranger]).to_bytes(),
        by_director(&Time { node: other, ..time.clone() }),
        by_director(&Time { nonce: "0".repeat(32), ..time.clone() }),
        web(1, "v1").bytes(),
        b"{".to_vec(),
    ];
    for bytes in forged {
        line.hear(Incoming::Time(bytes));
    }
    assert_eq!(line.floor.unix_s(), BUILT_S);
    assert_eq!(line.events, [Reason::TimeRefused; 4]);
    line.answer(BUILT_S + 1, None);
    assert_eq!(line.floor.unix_s(), BUILT_S + 1, "the answer is taken all the same");
}

#[test]
fn the_floor_is_written_with_the_next_change_or_after_a_day_and_survives() {
    let mut line = Line::new();
    line.answer(BUILT_S + 1, None);
    assert_eq!(line.ledger.floor_s(), BUILT_S + 1, "nothing was written yet");
    line.pass(HELLO_INTERVAL_SECS);
    line.answer(BUILT_S + 2, None);
    assert_eq!(line.ledger.floor_s(), BUILT_S + 1, "one second is not worth a write");
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    // A manifest is signed with a time of its own.
    let issued_at = web(1, "v1").manifest.issued_at;
    assert_eq!(line.ledger.floor_s(), issued_at);
    line.pass(HELLO_INTERVAL_SECS);
    line.answer(issued_at + DAY_S - 1, Some(&web(1, "v1")));
    assert_eq!(line.ledger.floor_s(), issued_at);
    line.pass(HELLO_INTERVAL_SECS);
    line.answer(issued_at + DAY_S, Some(&web(1, "v1")));
    assert_eq!(line.ledger.floor_s(), issued_at + DAY_S);
    let next = Line::remembering(line.ledger);
    assert_eq!(next.floor.unix_s(), issued_at + DAY_S);
}

#[test]
fn a_manifest_that_is_named_and_does_not_come_is_an_alarm_until_it_comes() {
    let mut line = Line::new();
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    line.answer(BUILT_S, Some(&web(2, "v2")));
    line.pass(59);
    assert_eq!(line.alarms, []);
    line.pass(1);
    assert_eq!(line.alarms, [Reason::Withheld]);
    line.hear(Incoming::Manifest(web(2, "v2").bytes()));
    line.pass(1);
    assert_eq!(line.alarms, []);
}

#[test]
fn who_cuts_the_line_again_and_again_or_names_ever_newer_ones_gains_no_time_by_it() {
    let mut line = Line::new();
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    for generation in 2..7 {
        line.answer(BUILT_S, Some(&web(generation, "v2")));
        line.pass(10);
        line.hear(Incoming::Down);
        line.pass(100);
        assert_eq!(line.alarms, [], "{generation}: nothing can come while it is down");
        line.hear(Incoming::Up);
    }
    line.pass(9);
    assert_eq!(line.alarms, [], "five times ten seconds and nine");
    line.pass(1);
    assert_eq!(line.alarms, [Reason::Withheld]);
}

#[test]
fn the_same_generation_with_other_bytes_is_not_what_was_named() {
    let mut line = Line::new();
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    line.answer(BUILT_S, Some(&web(1, "v2")));
    line.pass(60);
    assert_eq!(line.alarms, [Reason::Withheld]);
}

#[test]
fn what_came_and_was_refused_is_not_withheld() {
    let mut line = Line::new();
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    let jump = web(2 + (1 << 20), "v2");
    line.hear(Incoming::Manifest(jump.bytes()));
    line.answer(BUILT_S, Some(&jump));
    line.pass(70);
    assert!(!line.alarms.contains(&Reason::Withheld), "{:?}", line.alarms);
}

#[test]
fn no_answer_to_several_hellos_is_an_alarm_until_one_comes() {
    let mut line = Line::new();
    line.pass(29);
    assert_eq!((line.hellos, &line.alarms[..]), (4, &[][..]), "at 0, 2, 6 and 14 s");
    line.pass(1);
    assert_eq!((line.hellos, &line.alarms[..]), (5, &[Reason::NoTime][..]));
    line.hear(Incoming::Down);
    line.hear(Incoming::Up);
    assert_eq!(line.alarms, [Reason::NoTime], "another session is no answer");
    line.answer(BUILT_S, None);
    line.pass(1);
    assert_eq!(line.alarms, []);
}

#[test]
fn who_has_answered_and_does_not_any_more_is_soon_asked_again() {
    let mut line = Line::new();
    for _ in 0..4_000 {
        line.pass(1);
        if line.agent_waits() {
            line.answer(BUILT_S, None);
        }
    }
    let hellos = line.hellos;
    line.until_hello();
    assert_eq!(line.hellos, hellos + 1);
    line.pass(60);
    assert_eq!(line.alarms, [Reason::NoTime], "a minute after the first that is not answered");
}

#[test]
fn the_coordinator_that_shows_itself_again_is_asked_at_once() {
    let mut line = Line::new();
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    line.pass(200);
    assert_eq!(line.alarms, [Reason::NoTime]);
    let before = line.hellos;
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    assert_eq!(line.hellos, before + 1);
    line.hear(Incoming::Manifest(web(1, "v1").bytes()));
    assert_eq!(line.hellos, before + 1, "who repeats it makes the node say nothing more");
    line.answer(BUILT_S, Some(&web(1, "v1")));
    line.pass(1);
    assert_eq!(line.alarms, []);
}

impl Line {
    fn agent_waits(&self) -> bool {
        self.agent.freshness.nonce().is_some()
    }

    /// Lets time pass until it asks the next time.
    fn until_hello(&mut self) {
        let before = self.hellos;
        for _ in 0..1_000 {
            if self.hellos > before {
                return;
            }
            self.pass(1);
        }
        panic!("no hello within a quarter of an hour");
    }
}

/// What a broker may do with times.
#[derive(Debug, Clone, Copy)]
enum Sent {
    /// The answer.
    Answer(u64),
    /// One that was answered before.
    Replayed,
    /// Signed by somebody else.
    Forged(u64),
    /// Nothing, for a while.
    Nothing(u64),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        (0..4_000_000_000_u64).prop_map(Sent::Answer),
        Just(Sent::Replayed),
        any::<u64>().prop_map(Sent::Forged),
        (1..20_u64).prop_map(Sent::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_floor_is_the_newest_answer_and_what_is_written_never_falls(
        story in prop::collection::vec(sent(), 1..20),
    ) {
        let mut line = Line::new();
        let (mut expected, mut written, mut old) = (BUILT_S, 0, Vec::new());
        for one in story {
            match one {
                Sent::Answer(unix_s) => {
                    let is_asked = line.agent_waits();
                    old.push(line.answer(unix_s, None));
                    if is_asked {
                        expected = expected.max(unix_s);
                    }
                }
                Sent::Replayed => {
                    old.iter().for_each(|bytes| line.agent.hear(Incoming::Time(bytes.clone()), line.now));
                    line.turn();
                }
                Sent::Forged(unix_s) => {
                    let time = line.time(unix_s, None);
                    let bytes = Envelope::sign(&time, &[&SecretKey::from_seed([9; 32])]).to_bytes();
                    line.hear(Incoming::Time(bytes));
                }
                Sent::Nothing(seconds) => line.pass(seconds),
            }
            prop_assert_eq!(line.floor.unix_s(), expected);
            prop_assert!(line.ledger.floor_s() >= written && line.ledger.floor_s() <= expected);
            prop_assert!(expected < line.ledger.floor_s().max(BUILT_S) + DAY_S, "a day at most is lost");
            written = line.ledger.floor_s();
        }
    }
}
