//! Canaries: a share of the requests that is exact, clients that stay where they are, and a judgement from real traffic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::client::{Client, versions};
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;
use tests::wait::{holds, until_true};

use crate::world::{SOON, check_nothing_failed, check_version, load, running};

const CLIENTS: usize = 200;
/// One measurement: `interval` below.
const INTERVAL: Duration = Duration::from_secs(1);
const FAILURE_LIMIT: u32 = 2;
/// The last counts are on their way, and every node goes back.
const A_FEW_SECONDS: Duration = Duration::from_secs(6);

/// `steps` as `(weight, hold)`.
fn canary(service: &Service, image: &str, steps: &[(u32, &str)], analysis: &str) -> Service {
    let step = |(weight, hold): &(u32, &str)| {
        format!("[[rollout.steps]]\nweight = {weight}\nhold = \"{hold}\"\n")
    };
    let steps: String = steps.iter().map(step).collect();
    service
        .clone()
        .image(image)
        .rollout("strategy = \"canary\"")
        .rollout("cohort = { cookie = \"side\", header = \"x-side\" }")
        .extra(&steps)
        .extra(&format!("[rollout.analysis]\n{analysis}"))
}

/// Clients that come without a cookie, each with the one it was given and who answered it.
fn new_clients(address: SocketAddr) -> Vec<(String, String)> {
    let mut client = Client::of(address);
    let new = |_| {
        let answer = client.ask(&[]).unwrap();
        (answer.cookie.expect("a cookie for who has none"), answer.version)
    };
    (0..CLIENTS).map(new).collect()
}

/// Who answers a client that brings this header.
fn asked_with(address: SocketAddr, header: (&str, &str)) -> String {
    Client::of(address).ask(&[header]).unwrap().version
}

fn only(version: &str, requests: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(version.to_owned(), requests)])
}

#[test]
fn a_canary_gets_its_exact_share_keeps_its_clients_and_gives_them_back_when_aborted() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let service = Service::new("web", port);
    let _ = fleet.deploy(&service).expect_code(0);
    let (load, begun) = (load(&fleet, 2, port, 50), Instant::now());
    let (first, second) = (fleet.address(1, port), fleet.address(2, port));
    let steps = [(0, "manual"), (10, "manual"), (50, "manual")];
    // It ends at once when it is told to: a request that it still has would be lost.
    let new = canary(&service, "pith-demo:v2", &steps, "min_requests = 0").env("ABRUPT", "1");

    let _ = fleet.deploy(&new).expect_code(4);
    assert_eq!(fleet.rollout("web")["state"], "awaiting_promotion");
    assert_eq!(running(&fleet).len(), 3, "the canary is up on one node, beside the old release");
    assert_eq!(versions(first, 10_000), only("v1", 10_000), "weight 0 is exactly none");
    assert_eq!(asked_with(first, ("x-side", "canary")), "v1", "also for who asks for it");

    let promote = || fleet.pith(&["rollout", "promote", "web"]);
    let _ = promote().expect_code(4);
    let share = versions(first, 10_000);
    assert!((900..=1_100).contains(&share["v2"]), "10 % of 10,000 are 1,000 ± 100: {share:?}");
    assert_eq!(versions(second, 500), only("v1", 500), "the other node has no canary");
    assert_eq!(asked_with(first, ("x-side", "canary")), "v2");
    assert_eq!(asked_with(first, ("x-side", "stable")), "v1");
    let clients = new_clients(first);
    let at_10 = clients.iter().filter(|(_, version)| version == "v2").count();
    assert!(at_10 > 0 && at_10 < CLIENTS, "{at_10} of {CLIENTS} are the canary's");

    let _ = promote().expect_code(4);
    let now = |cookie: &str| asked_with(first, ("cookie", cookie));
    let moved: Vec<(&str, String)> =
        clients.iter().map(|(cookie, before)| (before.as_str(), now(cookie))).collect();
    let count = |before, after| moved.iter().filter(|(b, a)| *b == before && a == after).count();
    assert_eq!(count("v2", "v1"), 0, "no client goes back while the weight grows");
    assert!(count("v1", "v2") > 0 && count("v1", "v1") > 0, "stable clients move over: {moved:?}");

    let slow = std::thread::spawn(move || {
        Client::of(first).get("/work?ms=1500", &[("x-side", "canary")]).map(|a| a.status)
    });
    let _ = fleet.pith(&["rollout", "abort", "web"]).expect_code(0);
    assert_eq!(slow.join().unwrap(), Ok(200), "what the canary has it ends");
    assert_eq!(fleet.rollout("web")["state"], "aborted");
    for (cookie, _) in &clients {
        assert_eq!(now(cookie), "v1", "an abort gives every client back");
    }
    assert_eq!(asked_with(first, ("x-side", "canary")), "v1");
    check_nothing_failed(&load, begun);

    // Once more, to its end.
    let _ = fleet.deploy(&new).expect_code(4);
    let _ = fleet.pith(&["rollout", "promote", "web", "--full"]).expect_code(0);
    assert_eq!(versions(first, 500), only("v2", 500));
    assert_eq!(versions(second, 500), only("v2", 500));
    until_true("nothing old runs", SOON, || running(&fleet).len() == 2);
    check_nothing_failed(&load, begun);
}

#[test]
fn a_canary_is_condemned_by_its_errors_held_while_it_cannot_be_judged_and_else_goes_on_alone() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let port = free_port();
    let service = Service::new("web", port).rollout("drain = \"1s\"");
    let _ = fleet.deploy(&service).expect_code(0);
    let (load, begun) = (load(&fleet, 2, port, 150), Instant::now());

    let analysis = format!(
        "interval = \"{}s\"\nfailure_limit = {FAILURE_LIMIT}\nmin_requests = 40",
        INTERVAL.as_secs()
    );
    let bad = canary(&service, "pith-demo:v4", &[(50, "5m")], &analysis).env("ERROR_SHARE", "0.05");
    let outcome = fleet.deploy(&bad).expect_code(3);
    let ended = Instant::now();
    let status = fleet.rollout("web");
    assert_eq!(status["state"], "rolled_back", "{status}");
    assert_eq!(status["reason"], "error_rate", "{status}");
    assert!(outcome.stderr.contains("error_rate"), "{outcome:?}");
    let failures = load.failures(begun, Instant::now());
    assert!(failures.iter().all(|(_, text)| text.contains("status 500: v4")), "{failures:?}");
    let (first, _) = failures.first().expect("the injected errors are seen");
    let took = ended.duration_since(*first);
    eprintln!("condemned {:.1} s after its first error", took.as_secs_f64());
    assert!(took <= INTERVAL * FAILURE_LIMIT + A_FEW_SECONDS, "condemned after {took:?}");
    assert_eq!(versions(fleet.address(1, port), 500), only("v1", 500));

    let from = Instant::now();
    let good = canary(
        &service,
        "pith-demo:v2",
        &[(10, "1s"), (50, "2s")],
        "interval = \"1s\"\nmin_requests = 10",
    );
    let _ = fleet.deploy(&good).expect_code(0);
    (1..=2).for_each(|node| check_version(&fleet, node, port, "v2"));
    check_nothing_failed(&load, from);

    let quiet = "interval = \"1s\"\nmin_requests = 1000000";
    let file = canary(&service, "pith-demo:v1", &[(20, "1s")], quiet).toml();
    let file = fleet.file("quiet.toml", &file);
    let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
    until_true("it cannot be judged", SOON, || fleet.rollout("web")["reason"] == "inconclusive");
    holds("it holds its weight", INTERVAL * 2, || {
        let status = fleet.rollout("web");
        status["state"] == "in_progress" && status["reason"] == "inconclusive"
    });
    let share = versions(fleet.address(1, port), 1_000);
    assert!((150..=250).contains(&share["v1"]), "{share:?}");
    let _ = fleet.pith(&["rollout", "promote", "web"]).expect_code(0);
    (1..=2).for_each(|node| check_version(&fleet, node, port, "v1"));
    check_nothing_failed(&load, from);
}

#[test]
fn a_canary_near_its_memory_limit_is_condemned_although_it_answers_well() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let port = free_port();
    let limits = "[resources]\nlimits = { memory = \"64Mi\" }";
    let service = Service::new("web", port).extra(limits);
    let _ = fleet.deploy(&service).expect_code(0);
    let analysis = "interval = \"2s\"\nfailure_limit = 1\nmin_requests = 1000000";
    let full =
        canary(&service, "pith-demo:v2", &[(10, "1m")], analysis).env("HOLD_MEMORY_MB", "60");
    let back = fleet.deploy(&full).expect_code(3);
    assert!(back.stderr.contains("memory_pressure"), "{back:?}");
    assert_eq!(fleet.stop(), 0);
}
