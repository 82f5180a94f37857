//! Every manner of replacing with every point at which a release may fail: all old, all new, or a state that says why.

use mqtt::fake::Faults;
use protocol::spec::{
    Analysis, BlueGreen, Canary, CanaryNodes, CanaryStep, Check, Cohort, Hold, Probe, ServiceSpec,
    Share, Strategy,
};
use protocol::units::Millis;
use sim::application::{Application, Nature};
use sim::trace::Trace;
use sim::world::World;
use sim::{acts, come_to_rest, fleet, scenario};

fn strategies() -> Vec<(&'static str, ServiceSpec)> {
    let plain = || scenario::plain(&World::service(0), 8000);
    let with = |strategy: Strategy| {
        let mut spec = plain();
        spec.rollout.strategy = strategy;
        spec
    };
    let blue_green = |auto_promote| {
        let (keep_old, preview_port) = (Millis(2_000), Some(18_000));
        Strategy::BlueGreen(BlueGreen { keep_old, preview_port, auto_promote })
    };
    let step = |weight| CanaryStep { weight, hold: Hold::For(Millis(3_000)) };
    let analysis = Analysis {
        interval: Millis(2_000),
        failure_limit: 1,
        max_error_rate: Some(500),
        max_p99: None,
        min_requests: 5,
        dry_run: false,
    };
    let canary = Canary {
        nodes: CanaryNodes::Some(Share::Count(1)),
        steps: vec![step(0), step(20), step(50)],
        analysis,
        cohort: Cohort::default(),
    };
    let mut stop_first = plain();
    (stop_first.rollout.max_surge, stop_first.rollout.max_unavailable) =
        (Share::Count(0), Share::Count(1));
    vec![
        ("rolling", plain()),
        ("stop-first", stop_first),
        ("recreate", with(Strategy::Recreate)),
        ("exclusive", scenario::exclusive(plain())),
        ("exclusive blue-green", scenario::exclusive(with(blue_green(true)))),
        ("blue-green auto", with(blue_green(true))),
        ("blue-green manual", with(blue_green(false))),
        ("canary", with(Strategy::Canary(canary))),
    ]
}

/// Where a release fails, and how.
fn failures() -> Vec<(&'static str, Nature)> {
    vec![
        ("nothing", Nature::Good),
        ("pull", Nature::NoImage),
        ("create", Nature::CannotCreate { permanent: true }),
        ("create, for now", Nature::CannotCreate { permanent: false }),
        ("start", Nature::CannotStart { permanent: true }),
        ("start, for now", Nature::CannotStart { permanent: false }),
        ("before ready", Nature::Exits { after_ms: 20, oom: false }),
        ("startup", Nature::NeverReady),
        ("min_ready", Nature::Sickens(800)),
        ("soak", Nature::Dies(6_000)),
        ("candidate", Nature::Errs(60)),
    ]
}

/// How a pair ends: the state of the rollout, and which of both versions each node runs.
fn ends(spec: &ServiceSpec, nature: Nature) -> Result<String, String> {
    let mut spec = spec.clone();
    spec.rollout.min_ready = Millis(1_500);
    spec.rollout.soak = Millis(60_000);
    if let Some(readiness) = spec.health.readiness.clone() {
        spec.health.startup =
            Some(Probe { check: Check::Tcp { port: 80 }, failure_threshold: 3, ..readiness });
    }
    let mut world = World::new(1, 3, Faults::default(), Trace::default());
    world.run(3_000)?;
    let refused = "the coordinator is up and takes it";
    world.deploy(&spec, Application::good())?.expect(refused).expect(refused);
    world.run(120_000)?;
    world.deploy(&spec, Application::of(nature))?.expect(refused).expect(refused);
    world.run(120_000)?;
    acts::mend(&mut world);
    come_to_rest(&mut world)?;
    let id = fleet::service(&spec.name);
    let newest = world.control.store.newest(&id).expect("it was deployed");
    let runs = world.boards.iter().map(|board| {
        let history = board.process.as_ref().and_then(|p| p.agent.histories().get(&spec.name));
        let running = history.and_then(|h| h.running.as_ref());
        running.map_or_else(|| "-".to_owned(), |kept| kept.revision.to_string())
    });
    Ok(format!("{} {}", newest.state, runs.collect::<String>()))
}

#[test]
fn every_strategy_with_every_point_of_failure_ends_all_old_all_new_or_named() {
    for (manner, spec) in strategies() {
        for (point, nature) in failures() {
            let ended =
                ends(&spec, nature).unwrap_or_else(|what| panic!("{manner}, {point}: {what}"));
            // Only a canary is judged by its answers; elsewhere errors in answers are no failure of the release.
            let is_bad = nature != Nature::Good
                && (manner == "canary" || !matches!(nature, Nature::Errs(_)));
            let expected: &[&str] = match (is_bad, manner) {
                (true, _) => &["rolled_back 111"],
                (false, "blue-green manual") => &["awaiting_promotion 111"],
                (false, _) => &["succeeded 222"],
            };
            assert!(expected.contains(&ended.as_str()), "{manner}, {point}: {ended}");
        }
    }
}
