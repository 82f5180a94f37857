//! What a seed draws before anything happens: services, their policies, applications good and bad.

use std::sync::OnceLock;

use mqtt::fake::{Faults, Order};
use protocol::id::ServiceName;
use protocol::spec::{
    Analysis, Batch, BlueGreen, Canary, CanaryNodes, CanaryStep, Check, Cohort, Hold, OnFailure,
    Probe, RolloutPolicy, Scheduling, ServiceSpec, Share, Strategy, Volume,
};
use protocol::units::{Bytes, Millis};

use crate::application::{Application, Nature};
use crate::fleet;
use crate::random::Random;

/// Memory that an instance of some services asks for.
pub const MEMORY_REQUEST: u64 = 64 << 20;

/// A service as a newcomer writes it.
///
/// # Panics
/// Never: the file is right.
#[must_use]
pub fn plain(name: &ServiceName, port: u16) -> ServiceSpec {
    static PLAIN: OnceLock<ServiceSpec> = OnceLock::new();
    let text = "name = \"web\"\nimage = \"web\"\nper_node = 1\nstop_grace = \"2s\"\n\
        [[ports]]\nname = \"http\"\nlisten = 8000\ntarget = 80\n\
        [health.readiness]\nhttp = { path = \"/\", port = 80 }\nperiod = \"2s\"\nfailure_threshold = 2\n\
        [rollout]\nprogress_deadline = \"8s\"\ndrain = \"1s\"\n";
    let plain = PLAIN.get_or_init(|| match protocol::file::parse("web.toml", text) {
        Ok(file) => file.spec,
        Err(error) => panic!("{error}"),
    });
    let mut spec = plain.clone();
    spec.name = name.clone();
    if let Some(listen) = &mut spec.ports[0].listen {
        listen.port = port;
    }
    spec
}

/// One writer on each node.
#[must_use]
pub fn exclusive(mut spec: ServiceSpec) -> ServiceSpec {
    spec.volumes.push(Volume {
        name: "data".parse().expect("a valid name"),
        path: "/data".to_owned(),
        read_only: false,
        shared: false,
    });
    spec
}

/// A service by chance.
pub fn service(name: &ServiceName, port: u16, nodes: usize, random: &mut Random) -> ServiceSpec {
    let mut spec = plain(name, port);
    let count = random.count(1, 3);
    spec.scheduling = match random.chance(60) {
        true => Scheduling::PerNode(count),
        false => Scheduling::Replicas(random.count(1, 2 * narrow(nodes))),
    };
    if random.chance(20) {
        spec = exclusive(spec);
    }
    if random.chance(40) {
        spec.resources.requests.memory = Some(Bytes(MEMORY_REQUEST));
    }
    if let Some(readiness) = &mut spec.health.readiness {
        readiness.period = Millis(random.between(1, 4) * 1000);
        readiness.failure_threshold = random.count(1, 3);
        let probe = Probe { check: Check::Tcp { port: 80 }, ..readiness.clone() };
        if random.chance(40) {
            spec.health.liveness = Some(probe.clone());
        }
        if random.chance(20) {
            spec.health.startup = Some(Probe { failure_threshold: 4, ..probe });
        }
    }
    spec.stop_grace = Millis(random.between(500, 4_000));
    spec.rollout = policy(nodes, random);
    spec
}

/// How it is rolled out, by chance.
pub fn policy(nodes: usize, random: &mut Random) -> RolloutPolicy {
    let share = |random: &mut Random, most: u32| match random.chance(70) {
        true => Share::Count(random.count(0, most)),
        false => Share::Percent(*random.pick(&[0, 25, 50, 100])),
    };
    let is_none = |share: Share| matches!(share, Share::Count(0) | Share::Percent(0));
    let (surge, unavailable) = (share(random, 2), share(random, 2));
    let surge = if is_none(surge) && is_none(unavailable) { Share::Count(1) } else { surge };
    let batch = random.count(1, narrow(nodes));
    let threshold = random.pick(&[Share::Percent(100), Share::Percent(100), Share::Percent(50)]);
    let errors =
        random.pick(&[Share::Count(0), Share::Count(0), Share::Count(1), Share::Percent(30)]);
    let stages = random.pick(&[0, 0, 0, 1, 2]);
    let soak_ms = *random.pick(&[0, 0, 0, 5_000, 30_000]);
    RolloutPolicy {
        strategy: strategy(random),
        max_surge: surge,
        max_unavailable: unavailable,
        batches: (0..*stages).map(|_| a_batch(random)).collect(),
        batch: Share::Count(batch),
        success_threshold: *threshold,
        error_threshold: *errors,
        min_ready: Millis(*random.pick(&[0, 0, 500, 2_000])),
        progress_deadline: Millis(random.between(3, 12) * 1000),
        on_failure: if random.chance(15) { OnFailure::Pause } else { OnFailure::Rollback },
        soak: Millis(soak_ms),
        revision_history_limit: random.count(1, 10),
        drain: Millis(*random.pick(&[0, 500, 2_000])),
        hold_requests: Millis(10_000),
    }
}

fn a_batch(random: &mut Random) -> Batch {
    let labels = if random.chance(50) { fleet::labels(0) } else { fleet::labels(1) };
    let gate = match random.count(0, 3) {
        0 => None,
        1 => Some(Hold::Manual),
        _ => Some(Hold::For(Millis(random.between(500, 5_000)))),
    };
    Batch { labels, names: None, limit: Share::Percent(*random.pick(&[50, 100])), gate }
}

fn strategy(random: &mut Random) -> Strategy {
    match random.count(0, 9) {
        0..=3 => Strategy::Rolling,
        4 => Strategy::Recreate,
        5..=6 => Strategy::BlueGreen(BlueGreen {
            keep_old: Millis(*random.pick(&[0, 3_000, 20_000])),
            preview_port: random.chance(50).then_some(18_000),
            auto_promote: random.chance(60),
        }),
        _ => Strategy::Canary(canary(random)),
    }
}

fn canary(random: &mut Random) -> Canary {
    let mut step = |weight| {
        let hold = match random.chance(20) {
            true => Hold::Manual,
            false => Hold::For(Millis(random.between(500, 6_000))),
        };
        CanaryStep { weight, hold }
    };
    let steps = [0, 10, 50].map(&mut step).to_vec();
    let from = usize::try_from(random.between(0, 2)).unwrap_or(0);
    let some = *random.pick(&[Share::Count(1), Share::Percent(50), Share::Percent(100)]);
    Canary {
        nodes: match random.chance(80) {
            true => CanaryNodes::Some(some),
            false => CanaryNodes::Labels(fleet::labels(1)),
        },
        steps: steps[from..].to_vec(),
        analysis: Analysis {
            interval: Millis(random.between(2, 5) * 1000),
            failure_limit: random.count(1, 3),
            max_error_rate: random.chance(70).then_some(500),
            max_p99: None,
            min_requests: *random.pick(&[0, 5, 5, 100_000]),
            dry_run: random.chance(10),
        },
        cohort: Cohort::default(),
    }
}

/// An application by chance, good more often than not.
pub fn application(nodes: usize, random: &mut Random) -> Application {
    let nature = match random.count(0, 21) {
        0..=10 => Nature::Good,
        11..=12 => Nature::NeverReady,
        13 => Nature::Exits { after_ms: random.between(0, 800), oom: random.chance(30) },
        14 => Nature::Dies(random.between(500, 40_000)),
        15 => Nature::Sickens(random.between(500, 40_000)),
        16 => Nature::Hangs(random.between(500, 40_000)),
        17..=18 => Nature::Errs(random.between(10, 90)),
        19 => Nature::NoImage,
        20 => Nature::CannotCreate { permanent: random.chance(50) },
        _ => Nature::CannotStart { permanent: random.chance(50) },
    };
    let some = (0..nodes).filter(|_| random.chance(30)).collect();
    Application {
        nature,
        bad_on: random.chance(40).then_some(some),
        ready_ms: random.between(0, 1_500),
        start_ms: random.between(0, 300),
        stops_ms: (!random.chance(10)).then(|| random.between(0, 1_500)),
    }
}

/// What the network does to messages, by chance.
pub fn faults(random: &mut Random) -> Faults {
    let delay_max_ms = *random.pick(&[2, 30, 400]);
    Faults {
        drop_percent: *random.pick(&[0, 0, 3, 15]),
        duplicate_percent: *random.pick(&[0, 3, 15]),
        delay_min_ms: 1,
        delay_max_ms,
        order: if random.chance(50) { Order::Kept } else { Order::PerTopic },
        kick_percent: *random.pick(&[0, 0, 0, 1]),
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
