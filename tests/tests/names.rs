//! A service's name on nodes that do not run it, or cannot for the moment: other nodes serve it, their own instances first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Config, Load, Summary};
use tests::docker::{self, Container};
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(20);
/// Long enough for every node to be tried.
const WHILE: Duration = Duration::from_secs(3);
const INNER: u16 = 8080;
const PATH: &str = "/call?url=http://world-state:8080/";
const KEPT: usize = 8;

/// Three nodes; `gateway` on the first calls `world-state` on others.
struct World {
    fleet: Fleet,
    gateway: u16,
}

impl World {
    fn start(nodes: u32, homes: &str) -> Self {
        let world = Self { fleet: Fleet::start(nodes), gateway: free_port() };
        world.deploy_world("first", homes);
        let gateway = Service::new("gateway", world.gateway)
            .scheduling("per_node = 1\nuses = [\"world-state\"]")
            .extra("[placement]\nnodes = [\"node-1\"]");
        let _ = world.fleet.deploy(&gateway).expect_code(0);
        world
    }

    /// Reachable by its name alone. An answer takes a while, so that some are in flight at every moment.
    fn deploy_world(&self, version: &str, homes: &str) {
        let text = format!(
            "name = \"world-state\"\nimage = \"pith-demo:v1\"\nper_node = 1\nstop_grace = \"5s\"\n\
             env = {{ VERSION = \"{version}\", WORK_MS = \"100\" }}\n[[ports]]\ntarget = {INNER}\n\
             [health.readiness]\nhttp = {{ path = \"/ready\", port = {INNER} }}\nperiod = \"1s\"\n\
             [rollout]\nprogress_deadline = \"10s\"\ndrain = \"3s\"\n[placement]\nnodes = [{homes}]\n"
        );
        let file = self.fleet.file("world-state.toml", &text);
        let _ = self.fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    }

    fn load(&self) -> Load {
        Load::start(Config {
            targets: vec![self.fleet.address(1, self.gateway)],
            path: PATH.to_owned(),
            kept_connections: KEPT,
            kept_rate: 50,
            new_rate: 50,
            websockets: 0,
        })
    }

    /// One call through the gateway: status, and which instance answered.
    fn call(&self) -> (u16, String) {
        let (status, body) = get(self.fleet.address(1, self.gateway), PATH).unwrap();
        (status, body.split_whitespace().nth(1).unwrap_or_default().to_owned())
    }

    fn running(&self, service: &str) -> Vec<Container> {
        let mut all = docker::containers(&self.fleet.label());
        all.retain(|c| c.state == "running" && c.labels["io.pith.service"] == service);
        all
    }

    /// The ids of the nodes whose instances answer.
    fn answering(&self) -> BTreeSet<String> {
        let instances = self.running("world-state");
        let node = |instance: String| {
            let container = instances.iter().find(|c| c.id.starts_with(&instance));
            container.map_or(format!("nobody: {instance}"), |c| c.labels["io.pith.node"].clone())
        };
        let answer = |_| {
            let (status, instance) = self.call();
            if status == 200 { node(instance) } else { format!("{status}") }
        };
        (0..12).map(answer).collect()
    }

    fn signal(&self, signal: &str, node: u8, processes: &[&str]) {
        for which in processes {
            let pid = self.fleet.process(node, which).unwrap().to_string();
            assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        }
    }
}

fn since(load: &Load, from: Instant) -> Summary {
    load.summary(from, Instant::now())
}

#[test]
fn a_service_of_other_nodes_is_called_by_its_name_rolled_and_survives_a_node() {
    if !skip::has("docker") {
        return;
    }
    let world = World::start(3, "\"node-2\", \"node-3\"");
    assert_eq!(world.call().0, 200, "the first call waits until those nodes admit it");
    assert_eq!(world.answering().len(), 2, "both nodes answer");
    let (load, from) = (world.load(), Instant::now());
    until("calls are answered", SOON, || load.last_answer_of("first"));
    for version in ["second", "third"] {
        world.deploy_world(version, "\"node-2\", \"node-3\"");
        until("the new one answers", SOON, || load.last_answer_of(version));
    }
    // It leaves one of them: what is in flight there ends.
    world.deploy_world("third", "\"node-2\"");
    until_true("one node has it", SOON, || world.running("world-state").len() == 1);
    world.deploy_world("third", "\"node-2\", \"node-3\"");
    until_true("both answer", SOON, || world.answering().len() == 2);
    let summary = since(&load, from);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    assert_eq!(summary.versions.keys().collect::<Vec<_>>(), ["first", "second", "third"]);

    // A node that answers nothing any more takes along what it had; after that the other one serves.
    world.signal("-STOP", 3, &["agent", "proxy"]);
    let lost = Instant::now();
    until_true("one answers", SOON, || world.answering().len() == 1);
    let over = Instant::now();
    until_true("for a while", SOON, || over.elapsed() > WHILE);
    let after = load.summary(over, over + WHILE / 2);
    world.signal("-CONT", 3, &["agent", "proxy"]);
    assert_eq!(after.failed, 0, "{:?}", after.errors);
    // Kept connections may wait for the frozen node meanwhile; the new ones do not.
    assert!(after.sent > 50, "{}", after.sent);
    until_true("both answer again", SOON, || world.answering().len() == 2);
    let summary = since(&load, lost);
    eprintln!(
        "{} of {} failed when a node froze; p99 {:?}",
        summary.failed, summary.sent, summary.p99
    );
    assert!(summary.failed <= 2 * KEPT as u64, "{} {:?}", summary.failed, summary.errors);
}

#[test]
fn own_instances_answer_first_and_others_while_there_is_none() {
    if !skip::has("docker") {
        return;
    }
    let world = World::start(2, "\"node-1\", \"node-2\"");
    let here = BTreeSet::from([world.running("gateway")[0].labels["io.pith.node"].clone()]);
    assert_eq!(world.answering(), here);
    let own = world.running("world-state").into_iter();
    let own = own.filter(|c| here.contains(&c.labels["io.pith.node"])).collect::<Vec<_>>();
    // Its agent does not heal it meanwhile.
    world.signal("-STOP", 1, &["agent"]);
    let _ = docker::docker(&["kill", &own[0].id]);
    let (load, from) = (world.load(), Instant::now());
    let others = world.answering();
    assert!(others.len() == 1 && others.is_disjoint(&here), "{others:?}");
    until_true("for a while", SOON, || since(&load, from).sent > 100);
    world.signal("-CONT", 1, &["agent"]);
    until_true("its own answer again", SOON, || world.answering() == here);
    let summary = since(&load, from);
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
}
