//! What is asked for in a load, and that none is said which nobody reads.

use std::net::IpAddr;

use planner::Now;
use planner::node::{Finding, Instance, Life, Probed, Routing, ServiceFacts};
use protocol::hello::Load;
use protocol::load::{InstanceLoad, MAX_LOAD_BYTES};
use protocol::manifest::Version;
use protocol::topic::Up;

use super::super::acts::Act;
use super::super::{Agent, Surroundings};
use super::beginning::{beginning, settings};
use crate::engine::fake::FakeDocker;
use crate::load::Detail;

const BEGIN: Now = Now(1_000);

/// Tells as much of each instance that it is asked for as there can be, so often over.
struct Talkative {
    times: usize,
    asked: Vec<Option<String>>,
}

impl Surroundings for Talkative {
    fn probed(&self, _: &str) -> Option<Probed> {
        None
    }

    fn memory_available(&self) -> Option<u64> {
        None
    }

    fn own_address(&self) -> Option<IpAddr> {
        None
    }

    fn load(&mut self, _: &str, seen: Version, detail: Option<Detail<'_>>) -> Option<Load> {
        self.asked.push(detail.as_ref().map(|detail| detail.engine.to_owned()));
        let asked = detail.map(|detail| detail.instances).unwrap_or_default();
        let tell = |(service, one): &(&protocol::id::ServiceName, &Instance)| InstanceLoad {
            service: (*service).clone(),
            instance: format!("{}{}", one.name, "x".repeat(60)),
            cpu: Some(12.125),
            mem_used: Some(u64::MAX),
            mem_max: Some(u64::MAX),
            net_in: Some(u64::MAX),
            net_out: Some(u64::MAX),
            restarts: u64::MAX,
            ooms: Some(u64::MAX),
        };
        let all = std::iter::repeat_n(&asked, self.times);
        let instances = all.flat_map(|asked| asked.iter().map(tell)).collect();
        Some(Load { seen, up_s: 1, instances, ..Load::default() })
    }

    fn nonce(&mut self) -> [u8; 16] {
        [0; 16]
    }
}

/// A node that runs one instance of `web`.
fn node() -> Agent {
    let mut agent = Agent::new(beginning(settings(), BEGIN), BEGIN);
    agent.facts.info = Some(FakeDocker::default().info().unwrap());
    let instance = Instance {
        container: "c1".to_owned(),
        name: "web-0".to_owned(),
        slot: 0,
        release: "c".repeat(64).parse().unwrap(),
        template: "d".repeat(64).parse().unwrap(),
        address: None,
        life: Life::Running { since: BEGIN },
        probed: Probed::default(),
        routing: Routing::Active,
        in_flight: 0,
        exits: 0,
        finding: Finding::Nothing,
    };
    let facts = ServiceFacts { instances: vec![instance], ..ServiceFacts::default() };
    agent.observed.services.insert("web".parse().unwrap(), facts);
    agent
}

fn said(agent: &mut Agent, around: &mut Talkative) -> Vec<u8> {
    agent.say_load(around, BEGIN);
    match agent.take_acts().pop() {
        Some(Act::Say(said)) if said.subject == Up::Load => said.payload,
        other => panic!("{other:?}"),
    }
}

#[test]
fn instances_and_the_engine_are_told_once_after_a_hello_and_then_the_least() {
    let (mut agent, mut around) = (node(), Talkative { times: 1, asked: Vec::new() });
    let [first, second] = [(); 2].map(|()| said(&mut agent, &mut around));
    let [first, second] = [first, second].map(|b| serde_json::from_slice::<Load>(&b).unwrap());
    assert_eq!((first.instances.len(), second.instances.len()), (1, 0));
    assert!(first.instances[0].instance.starts_with("web-0"), "{first:?}");
    let version = FakeDocker::default().info().unwrap().version;
    assert_eq!(around.asked, [Some(version), None]);
}

#[test]
fn a_load_of_very_many_instances_tells_as_many_as_are_read() {
    let (mut agent, mut around) = (node(), Talkative { times: 500, asked: Vec::new() });
    let said = said(&mut agent, &mut around);
    assert!(said.len() <= MAX_LOAD_BYTES, "{}", said.len());
    let told = serde_json::from_slice::<Load>(&said).unwrap().instances.len();
    assert!(told > 40, "{told}");
}
