//! Deploy after deploy of one replica on one fixed port: nobody notices one of them.

use std::time::Instant;

use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;

use crate::world::load;

const DEPLOYS: usize = 20;

/// Deploys again and again under load; nothing fails.
fn deploy_often(fleet: &Fleet, name: &str, rollout: &[&str]) {
    let port = free_port();
    let service = Service::new(name, port).scheduling("replicas = 1").rollout("drain = \"2s\"");
    let service = rollout.iter().fold(service, |service, line| service.rollout(line));
    let deploy = |n: usize| {
        let this = service.clone().image(["pith-demo:v1", "pith-demo:v2"][n % 2]);
        let file = fleet.file(&format!("{name}.toml"), &this.env("N", &n.to_string()).toml());
        let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    };
    deploy(0);
    let (load, begun) = (load(fleet, 1, port, 50), Instant::now());
    for n in 1..=DEPLOYS {
        deploy(n);
        let summary = load.summary(begun, Instant::now());
        assert_eq!(summary.failed, 0, "deploy {n} of {name}: {:?}", summary.errors);
    }
    let summary = load.summary(begun, Instant::now());
    eprintln!(
        "{name}: {DEPLOYS} deploys in {:.1} s, {} requests, {} failed, longest hold {:.0} ms",
        begun.elapsed().as_secs_f64(),
        summary.sent,
        summary.failed,
        summary.max.as_secs_f64() * 1000.0
    );
    assert_eq!(summary.failed, 0, "{:?}", summary.errors);
    assert!(summary.versions.len() == 2, "both versions served: {:?}", summary.versions);
}

#[test]
fn twenty_deploys_in_a_row_of_one_replica_lose_no_request() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    std::thread::scope(|scope| {
        scope.spawn(|| deploy_often(&fleet, "surging", &[]));
        scope.spawn(|| {
            deploy_often(&fleet, "stopping-first", &["max_surge = 0", "max_unavailable = 1"]);
        });
    });
}
