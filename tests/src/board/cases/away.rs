//! The coordinator, and with it the broker, is away: nothing is lost, and what was asked meanwhile is done afterwards. A whole day
//! of it is the simulation's.

use std::time::{Duration, Instant};

use load::{Config, Load};

use crate::board::SERVICE_PORT;
use crate::board::lab::{self, Parts, web};
use crate::board::results::{Results, Row};

const AWAY: Duration = Duration::from_secs(300);

pub(super) fn run(parts: &Parts, _: &Results) -> Vec<Row> {
    let (board, mut coordinator) = lab::serving(parts, "away");
    let before = board.said("docker ps -q --no-trunc | sort");
    let load = Load::start(Config {
        targets: vec![board.address(SERVICE_PORT)],
        path: "/".to_owned(),
        kept_connections: 2,
        kept_rate: 5,
        new_rate: 1,
        websockets: 0,
    });
    let begun = Instant::now();
    coordinator.kill();
    std::thread::sleep(AWAY);
    let summary = load.summary(begun, Instant::now() - Duration::from_secs(2));
    assert!(summary.failed == 0, "{summary:?}");
    assert_eq!(board.said("docker ps -q --no-trunc | sort"), before, "the same containers");
    coordinator.start();
    let back = Instant::now();
    coordinator.wait_ready();
    let back = back.elapsed();
    let _ = coordinator.deploy(&web("v2"), &["--timeout", "5m"]).expect_code(0);
    vec![
        Row::held("away", format!("{} s", AWAY.as_secs())),
        Row::held("requests meanwhile, failed", format!("{}, {}", summary.sent, summary.failed)),
        Row::held("seen again after", format!("{:.0} s", back.as_secs_f64())),
    ]
}
