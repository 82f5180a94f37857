//! What a page is shown while a rollout moves.

use crate::state::requests::Steer;
use crate::state::shown::LiveShown;

use super::world::World;

fn live(world: &World) -> LiveShown {
    world.state.show_live(world.at)
}

fn verbs(steers: &[Steer]) -> Vec<String> {
    let verb =
        |steer: &Steer| serde_json::to_value(steer).unwrap()["verb"].as_str().unwrap().to_owned();
    steers.iter().map(verb).collect()
}

#[test]
fn a_rollout_is_shown_while_it_moves_and_for_five_minutes_after() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    let shown = live(&world);
    assert!(shown.rollouts[0].active);
    assert_eq!(verbs(&shown.rollouts[0].steers), ["pause", "abort"]);
    assert_eq!(shown.rollouts[0].from_release, None);
    world.all_run();
    let shown = live(&world);
    assert_eq!(shown.rollouts[0].rollout.state, "succeeded");
    assert_eq!(shown.rollouts[0].steers, []);
    assert_eq!((shown.nodes.nodes.len(), shown.services.services.len()), (2, 1));
    world.passes(5 * 60_000 + 1);
    assert_eq!(live(&world).rollouts, []);
}

#[test]
fn a_canary_is_shown_with_its_steps_and_what_may_be_done() {
    let mut world = World::with_nodes(&["a", "b"]);
    world.deploy("web", "v1").unwrap();
    world.all_run();
    let steps = "strategy = \"canary\"\n[[rollout.steps]]\nweight = 10\nhold = \"manual\"\n\
                 [[rollout.steps]]\nweight = 50\nhold = \"manual\"";
    world.deploy_as("v2", steps).unwrap();
    world.all_run();
    let shown = live(&world).rollouts.remove(0);
    assert_eq!(shown.rollout.state, "awaiting_promotion");
    assert_eq!(verbs(&shown.steers), ["promote", "pause", "abort"]);
    assert!(shown.from_release.is_some());
    let trial = shown.trial.unwrap();
    assert_eq!((trial.weights, trial.step, trial.promoted), (vec![10, 50], 0, false));
}
