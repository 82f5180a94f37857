//! What an idle node says in a day, as the packets of its link. By the loop's state alone, in a time of the test's own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use planner::Now;
use planner::node::Probed;
use protocol::envelope::Envelope;
use protocol::hello::{Hello, Load};
use protocol::keys::Role;
use protocol::manifest::Version;
use protocol::time::Time;
use protocol::topic::{Down, Qos, Subject, Topic, Up};

use super::super::acts::Act;
use super::super::{Agent, Event, Gathered, Settings, Surroundings};
use super::beginning::{Around, beginning, settings};
use crate::engine::EngineError;
use crate::engine::fake::FakeDocker;
use crate::link::{Incoming, METERED_KEEPALIVE};
use crate::load::Detail;
use crate::testing;

const BEGIN: Now = Now(1_000);
const DAY_S: u64 = 86_400;
const BUILT_S: u64 = 1_780_000_000;
/// IPv4 and TCP with its timestamps.
const SEGMENT_BYTES: usize = 52;
/// Head, kind of content and tag of a record (RFC 8446, 5.2).
const RECORD_BYTES: usize = 22;
/// First byte, at most three of length, two of the topic's length, two of the packet's id (MQTT 3.1.1).
const PUBLISH_BYTES: usize = 8;
const PUBACK_BYTES: usize = 4;
/// Of a ping, and of its answer.
const PING_BYTES: usize = 2;

/// An idle board of 512 MB.
struct Idle(Around);

impl Surroundings for Idle {
    fn probed(&self, container: &str) -> Option<Probed> {
        self.0.probed(container)
    }

    fn memory_available(&self) -> Option<u64> {
        None
    }

    fn own_address(&self) -> Option<IpAddr> {
        Some([192, 168, 100, 100].into())
    }

    fn load(&mut self, _: &str, seen: Version, _: Option<Detail<'_>>) -> Option<Load> {
        Some(Load {
            seen,
            cpu: Some(0.03),
            load1: Some(0.12),
            mem_used: Some(212_303_872),
            mem_total: Some(509_607_936),
            disk_used: Some(2_412_236_800),
            disk_total: Some(15_634_268_160),
            temp_c: Some(51.3),
            up_s: 8_640_000,
            ..Load::default()
        })
    }

    fn nonce(&mut self) -> [u8; 16] {
        self.0.nonce()
    }
}

/// One packet that is acknowledged by the other side's TCP.
const fn packet(bytes: usize) -> usize {
    bytes + RECORD_BYTES + 2 * SEGMENT_BYTES
}

fn publish(subject: Subject, payload: &[u8]) -> usize {
    let node = testing::identity();
    let topic = Topic { fleet: node.fleet, node: node.node, subject }.to_string();
    let answered = match subject.qos() {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => packet(PUBACK_BYTES),
    };
    packet(PUBLISH_BYTES + topic.len() + payload.len()) + answered
}

/// What was said and heard: how often, and the bytes of IP both ways.
#[derive(Debug, Default)]
struct Seen {
    times: BTreeMap<&'static str, u32>,
    bytes: usize,
}

impl Seen {
    fn count(&mut self, what: &'static str, subject: Subject, payload: &[u8]) {
        *self.times.entry(what).or_default() += 1;
        self.bytes += publish(subject, payload);
    }
}

/// Does what the loop asked for; each hello is answered as the coordinator answers it.
fn turn(agent: &mut Agent, around: &mut Idle, seen: &mut Seen, now: Now) {
    agent.turn(around, now);
    for act in agent.take_acts() {
        if let Act::Write(write) = act {
            agent.handle(Event::Written { write, result: Ok(()) }, around, now);
        } else if let Act::Gather { scope, number, began, .. } = act {
            let engine = Err(EngineError::Unavailable("away".to_owned()));
            let gathered = Gathered { number, began, engine, proxy: None, scope };
            agent.handle(Event::Gathered(Box::new(gathered)), around, now);
        } else if let Act::Say(said) = act {
            let what = match said.subject {
                Up::Hello => "hello",
                Up::Report => "report",
                Up::Load => "load",
                Up::Event | Up::Presence | Up::Stream => "other",
            };
            seen.count(what, Subject::Up(said.subject), &said.payload);
            if said.subject == Up::Hello {
                let answer = answer(&said.payload, BUILT_S + now.0 / 1_000);
                seen.count("time", Subject::Down(Down::Time), &answer);
                agent.hear(Incoming::Time(answer), now);
            }
        }
    }
}

fn answer(hello: &[u8], unix_s: u64) -> Vec<u8> {
    let role = Role::single(testing::node_key().public());
    let hello = Envelope::from_bytes(hello).unwrap().open::<Hello>().unwrap();
    let nonce = hello.verify(&role).unwrap().nonce.clone();
    let (fleet, node) = (testing::fleet(), testing::identity().node);
    let time = Time { format: 1, fleet, node, nonce, unix_s, newest: None };
    Envelope::sign(&time, &[&testing::director_key()]).to_bytes()
}

fn a_day(metered: bool) -> Seen {
    let settings = Settings { metered, ..settings() };
    let mut agent = Agent::new(beginning(settings, BEGIN), BEGIN);
    agent.facts.info = Some(FakeDocker::default().info().unwrap());
    let (mut around, mut seen) = (Idle(Around::default()), Seen::default());
    agent.hear(Incoming::Up, BEGIN);
    for second in 0..DAY_S {
        turn(&mut agent, &mut around, &mut seen, BEGIN.plus(second * 1_000));
    }
    seen
}

#[test]
fn a_day_of_an_idle_board_is_less_than_a_megabyte_of_packets() {
    let seen = a_day(false);
    // The session pings only where nothing was sent for its keepalive, which is longer than the time between two loads.
    assert!(seen.times["load"] <= 1_440, "{seen:?}");
    assert!(seen.times["hello"] <= 97, "one that was answered is not repeated: {seen:?}");
    assert!(seen.times["report"] <= 98, "nothing is new: {seen:?}");
    assert!(seen.bytes <= 1_000_000, "{seen:?}");
}

#[test]
fn a_day_of_an_idle_board_on_a_metered_link_is_less_than_a_third_of_it() {
    let seen = a_day(true);
    assert!(seen.times["load"] <= 97 && seen.times["hello"] <= 25, "{seen:?}");
    let pings = usize::try_from(DAY_S / METERED_KEEPALIVE.as_secs()).unwrap();
    let bytes = seen.bytes + pings * 2 * packet(PING_BYTES);
    assert!(bytes <= 300_000, "{bytes}: {seen:?}");
}
