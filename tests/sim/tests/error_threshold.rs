//! A large fleet, a bad release on some of it, and an error threshold.

use std::collections::BTreeSet;

use mqtt::fake::Faults;
use planner::fleet::RolloutState;
use protocol::spec::Share;
use sim::application::{Application, Nature};
use sim::trace::Trace;
use sim::world::World;
use sim::{fleet, scenario};

const NODES: usize = 200;
const ALLOWED_PERCENT: u32 = 3;

#[test]
fn a_fleet_of_200_nodes_with_20_percent_offline_and_6_percent_failing_stops_exactly_at_its_error_threshold()
 {
    let mut world = World::new(7, NODES, Faults::default(), Trace::default());
    let mut spec = scenario::plain(&World::service(0), 8000);
    spec.rollout.batch = Share::Count(4);
    spec.rollout.error_threshold = Share::Percent(ALLOWED_PERCENT);
    world.run(3_000).unwrap();
    world.deploy(&spec, Application::good()).unwrap().unwrap().unwrap();
    world.run(300_000).unwrap();
    let id = fleet::service(&spec.name);
    assert_eq!(world.control.store.newest(&id).unwrap().state, RolloutState::Succeeded);

    (0..NODES).filter(|node| node % 5 == 0).for_each(|node| world.cut_off(node, true));
    world.run(200_000).unwrap();
    let failing: Vec<usize> = (0..NODES).filter(|node| node % 16 == 3 && node % 5 != 0).collect();
    let bad = Application {
        bad_on: Some(failing),
        ..Application::of(Nature::Exits { after_ms: 50, oom: false })
    };
    world.deploy(&spec, bad).unwrap().unwrap().unwrap();
    let allowed = NODES * ALLOWED_PERCENT as usize / 100;
    while world.control.store.newest(&id).unwrap().state == RolloutState::InProgress {
        world.run(20).unwrap();
    }
    let stopped = world.control.store.newest(&id).unwrap().clone();
    assert_eq!(stopped.state, RolloutState::RollingBack, "{}", stopped.message);
    let failed: BTreeSet<_> = stopped.failures.iter().map(|failure| failure.node.clone()).collect();
    assert_eq!(failed.len(), allowed + 1, "one more than allowed ends it");
    world.run(120_000).unwrap();
    let ended = world.control.store.newest(&id).unwrap().state;
    assert_eq!(ended, RolloutState::RolledBack);
}
