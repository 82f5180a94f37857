//! Releases of the agent: who may be told which, in which order, and what stops it.

use std::collections::BTreeMap;

use protocol::agent_release::{AgentRelease, AgentUpdate, Program, UpdatePhase, accept};
use protocol::envelope::Envelope;
use protocol::keys::SecretKey;
use protocol::report::{Phase, Report};
use protocol::topic::Up;

use super::super::requests::{AddAgentRelease, AgentSteer, Refused, RollAgent};
use super::super::shown::AgentRolloutShown;
use super::world::World;

fn key() -> SecretKey {
    SecretKey::from_seed([66; 32])
}

fn signed(world: &World, version: &str, counter: u64, key: &SecretKey) -> AddAgentRelease {
    let program = |digit: &str| Program {
        digest: format!("sha256:{}", digit.repeat(64)).parse().unwrap(),
        size: 4,
    };
    let release = AgentRelease {
        format: 1,
        fleet: world.state.director.fleet.clone(),
        version: version.parse().unwrap(),
        counter,
        platforms: BTreeMap::from([
            ("amd64".to_owned(), program("a")),
            ("arm64".to_owned(), program("b")),
        ]),
    };
    AddAgentRelease { release: Envelope::sign(&release, &[key]), by: "anna".to_owned() }
}

fn add(world: &mut World, version: &str, counter: u64) {
    let asked = signed(world, version, counter, &key());
    world.state.add_agent_release(asked, |_| true, world.at).unwrap();
}

fn roll(world: &mut World, version: Option<&str>, batch: u32) -> Result<Vec<String>, Refused> {
    let version = version.map(str::to_owned);
    world.state.roll_agent(RollAgent { version, batch, by: "anna".to_owned() }, world.at)?;
    Ok(told(world))
}

/// Who is told by now, as they accept it.
fn told(world: &mut World) -> Vec<String> {
    let effects = world.state.take_effects(world.at);
    let mut names = Vec::new();
    for id in &effects.publish_agents {
        let bytes = world.state.agent_release_for(id).unwrap();
        accept(&bytes, &world.state.director.root).unwrap();
        names.push(world.state.nodes[id].record.name.to_string());
    }
    names.sort();
    names
}

/// A node says what became of it; who is told then.
fn says(world: &mut World, name: &str, counter: u64, phase: UpdatePhase) -> Vec<String> {
    let why = (phase == UpdatePhase::Reverted).then(|| "it ended 3 times".to_owned());
    let update = AgentUpdate { counter, version: "0.3.0".parse().unwrap(), phase, why };
    let report = Report { agent_update: Some(update), ..world.report(name, Phase::Running) };
    let (id, bytes) = (world.node_id(name), Envelope::sign(&report, &[&world.keys[name]]));
    world.state.heard(&id, Up::Report, &bytes.to_bytes(), world.at).unwrap();
    told(world)
}

fn shown(world: &World) -> AgentRolloutShown {
    world.state.show_agents(world.at).rollout.unwrap()
}

#[test]
fn nodes_are_told_in_batches_and_the_next_when_the_former_are_confirmed() {
    let mut world = World::with_nodes(&["node-1", "node-2", "node-3"]);
    add(&mut world, "0.3.0", 1);
    assert_eq!(roll(&mut world, None, 2).unwrap(), ["node-1", "node-2"]);
    assert!(says(&mut world, "node-1", 1, UpdatePhase::Trying).is_empty());
    assert!(says(&mut world, "node-1", 1, UpdatePhase::Confirmed).is_empty());
    assert_eq!(says(&mut world, "node-2", 1, UpdatePhase::Confirmed), ["node-3"]);
    assert_eq!(shown(&world).state, "in_progress");
    assert!(says(&mut world, "node-3", 1, UpdatePhase::Confirmed).is_empty());
    assert_eq!(shown(&world).state, "succeeded");
    add(&mut world, "0.4.0", 2);
    let releases = world.state.show_agents(world.at).releases;
    assert_eq!(releases.iter().map(|of| of.confirmed).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn the_first_that_takes_it_back_stops_it_until_an_operator_goes_on() {
    let mut world = World::with_nodes(&["node-1", "node-2"]);
    add(&mut world, "0.3.0", 1);
    assert_eq!(roll(&mut world, None, 1).unwrap(), ["node-1"]);
    assert!(says(&mut world, "node-1", 1, UpdatePhase::Reverted).is_empty());
    let stopped = shown(&world);
    assert_eq!(stopped.state, "failed");
    assert!(stopped.why.unwrap().contains("it ended 3 times"));
    let id = world.node_id("node-1");
    assert_eq!(world.state.agent_target(&id).unwrap().phase, "reverted");
    world.state.steer_agents(AgentSteer::Resume, world.at).unwrap();
    assert_eq!(told(&mut world), ["node-2"]);
    let phases: Vec<String> = shown(&world).nodes.into_iter().map(|node| node.phase).collect();
    assert_eq!(phases, ["reverted, let go", "told"]);
    world.state.steer_agents(AgentSteer::Pause, world.at).unwrap();
    assert_eq!(shown(&world).state, "paused");
}

#[test]
fn what_no_agent_release_key_signed_or_is_older_is_refused() {
    let mut world = World::with_nodes(&["node-1"]);
    let director = super::world::director().key;
    let forged = signed(&world, "0.3.0", 1, &director);
    let refused = world.state.add_agent_release(forged, |_| true, world.at).unwrap_err();
    assert_eq!(refused.code(), "agent_release_refused");
    let without = signed(&world, "0.3.0", 1, &key());
    let refused = world.state.add_agent_release(without, |_| false, world.at).unwrap_err();
    assert_eq!(refused.code(), "no_agent_program");
    assert_eq!(roll(&mut world, None, 1).unwrap_err().code(), "no_agent_release");
    add(&mut world, "0.3.0", 1);
    add(&mut world, "0.4.0", 2);
    let again = signed(&world, "0.5.0", 2, &key());
    let refused = world.state.add_agent_release(again, |_| true, world.at).unwrap_err();
    assert_eq!(refused.code(), "old_counter");
    roll(&mut world, Some("0.4.0"), 1).unwrap();
    assert_eq!(roll(&mut world, Some("0.3.0"), 1).unwrap_err().code(), "older_agent");
    assert_eq!(roll(&mut world, Some("9.9.9"), 1).unwrap_err().code(), "no_agent_release");
}
