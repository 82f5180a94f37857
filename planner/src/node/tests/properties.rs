//! The invariants of DESIGN §9 under every order, every failure point, and an agent killed anywhere.

use proptest::prelude::*;
use protocol::report::Phase;
use protocol::spec::{BlueGreen, OnFailure, ServiceSpec, Share, Strategy as Manner};
use protocol::units::Millis;

use super::wishes::{exclusive, spec};
use super::world::{App, World};
use crate::node::{Instance, Routing};

#[derive(Debug, Clone)]
struct Case {
    count: u32,
    surge: u32,
    unavailable: u32,
    manner: Manner,
    exclusive: bool,
    min_ready_ms: u64,
    new: App,
    lingering: u64,
    kill_every: u32,
    pause: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let new = prop_oneof![
        Just(App::Ready(200)),
        Just(App::Ready(200)),
        Just(App::ReadyUntil(100, 400)),
        Just(App::NeverReady),
        Just(App::Exits(0)),
        Just(App::Exits(300)),
        Just(App::NoImage),
        Just(App::CannotCreate),
        Just(App::CannotStart),
    ];
    let (keep_old, preview_port, auto_promote) = (Millis(5_000), None, true);
    let switch = Manner::BlueGreen(BlueGreen { keep_old, preview_port, auto_promote });
    let manner = prop_oneof![Just(Manner::Rolling), Just(Manner::Recreate), Just(switch)];
    let budgets = (1u32..5, 0u32..3, 0u32..3, manner);
    let rest =
        (any::<bool>(), prop_oneof![Just(0u64), Just(500)], new, 0u64..3, 0u32..9, any::<bool>());
    (budgets, rest).prop_map(|((count, surge, unavailable, manner), rest)| {
        let (exclusive, min_ready_ms, new, lingering, kill_every, pause) = rest;
        let surge = if surge == 0 && unavailable == 0 { 1 } else { surge };
        let exclusive = exclusive && count < 3;
        Case {
            count,
            surge,
            unavailable,
            manner,
            exclusive,
            min_ready_ms,
            new,
            lingering,
            kill_every,
            pause,
        }
    })
}

fn service(case: &Case) -> ServiceSpec {
    let mut web = spec("web");
    web.rollout.strategy = case.manner.clone();
    web.rollout.max_surge = Share::Count(case.surge);
    web.rollout.max_unavailable = Share::Count(case.unavailable);
    web.rollout.min_ready = Millis(case.min_ready_ms);
    web.rollout.drain = Millis(1_000);
    web.rollout.progress_deadline = Millis(5_000);
    if case.pause {
        web.rollout.on_failure = OnFailure::Pause;
    }
    if case.exclusive { exclusive(web) } else { web }
}

/// Holds after every single act.
fn check_invariants(world: &World, case: &Case) {
    let instances = world.instances("web");
    let up = instances.iter().filter(|i| i.is_up()).count();
    if case.exclusive {
        assert!(up <= 1, "two on one volume: {:#?}", world.told);
        return;
    }
    let routed = |i: &&Instance| i.is_up() && i.routing == Routing::Active;
    let healthy = |i: &&Instance| i.is_live() && i.is_ready() && i.routing != Routing::Absent;
    let switches = matches!(case.manner, Manner::BlueGreen(_));
    let keeps_one = case.manner == Manner::Rolling && case.surge > 0 || switches;
    if keeps_one && instances.iter().any(|i| healthy(&i)) {
        assert!(instances.iter().any(|i| routed(&i)), "an empty route: {:#?}", world.told);
    }
    let is_doomed = |i: &&Instance| world.doomed.contains_key(&i.container);
    assert!(
        !instances.iter().filter(is_doomed).any(|i| routed(&i)),
        "told to stop and routed: {:#?}",
        world.told
    );
    let live = instances.iter().filter(|i| i.is_live() && !is_doomed(i)).count();
    let most = case.count + if switches { case.count } else { case.surge };
    assert!(live <= most as usize, "{live} live of at most {most}: {:#?}", world.told);
}

/// An agent that were killed for ever would forget its counts for ever.
const MAX_KILLED_ACTS: u32 = 20;

fn run(world: &mut World, case: &Case, ms: u64) {
    let mut acts = 0;
    for _ in 0..ms / 50 {
        let mut passes = 0;
        while world.pass() {
            check_invariants(world, case);
            acts += 1;
            passes += 1;
            if case.kill_every > 0 && acts % case.kill_every == 0 && acts <= MAX_KILLED_ACTS {
                world.kill_agent();
            }
            assert!(passes < 500, "never comes to rest: {:#?}", world.told);
        }
        world.pass_time(50);
        check_invariants(world, case);
    }
}

/// Which versions run, complete: `v1`, `v2`, or both.
fn versions(world: &World) -> Vec<&str> {
    let mut versions: Vec<&str> =
        world.instances("web").iter().filter(|i| i.is_up()).map(|i| &i.name[..2]).collect();
    versions.dedup();
    versions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_replacement_ends_all_new_all_old_or_in_a_named_state(case in cases()) {
        let web = service(&case);
        let mut world = World::new();
        world.lingering = case.lingering;
        world.want(&web, 1, App::Ready(100), case.count, 1);
        run(&mut world, &Case { kill_every: 0, ..case.clone() }, 5_000);
        prop_assert_eq!(world.phase("web"), Phase::Running);
        world.told.clear();
        world.want(&web, 2, case.new, case.count, 1);
        run(&mut world, &case, 60_000);
        match world.phase("web") {
            Phase::Running => prop_assert_eq!(versions(&world), ["v2"], "{:#?}", world.told),
            Phase::RolledBack => prop_assert_eq!(versions(&world), ["v1"], "{:#?}", world.told),
            Phase::Failed => prop_assert!(case.pause, "{:#?}", world.told),
            Phase::Updating | Phase::RollingBack | Phase::Degraded | Phase::Removing | Phase::Held => {
                prop_assert!(world.verdict("web").waiting.is_some(), "{:#?}", world.told);
            }
        }
        if case.new == App::Ready(200) {
            prop_assert_eq!(world.phase("web"), Phase::Running);
        }
        if case.kill_every == 0 && case.new == App::NeverReady && !case.pause {
            prop_assert_eq!(world.phase("web"), Phase::RolledBack);
        }
    }
}
