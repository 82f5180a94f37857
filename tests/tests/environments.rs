//! One release in several environments, and several services in one deploy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use serde_json::Value;
use tests::docker;
use tests::fleet::{Fleet, Outcome};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;

/// Each starts this long before it is ready: what goes at the same time can be told from what waits.
const START_MS: &str = "1500";

fn version(fleet: &Fleet, node: u8, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(node, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Containers of a service that run in an environment.
fn running(fleet: &Fleet, environment: &str) -> usize {
    let containers = docker::containers(&fleet.label());
    let is_its = |c: &&docker::Container| {
        c.state == "running" && c.labels["io.pith.environment"] == environment
    };
    containers.iter().filter(is_its).count()
}

#[test]
fn the_release_of_staging_is_the_release_of_production_with_other_counts() {
    if !skip::has("docker") {
        return;
    }
    let nodes = ["staging", "production", "production"].map(|name| format!("env={name}"));
    let args: Vec<&str> = nodes.iter().flat_map(|node| ["--node", node.as_str()]).collect();
    let args: Vec<&str> = ["--nodes", "3"].into_iter().chain(args).collect();
    let fleet = Fleet::start_with(&args, &[]);
    let port = free_port();
    let service = Service::new("web", port)
        .scheduling("replicas = 4")
        .env("COLOUR", "blue")
        .extra("[environments.staging]\nreplicas = 1\nenv = { COLOUR = \"green\" }");
    let file = fleet.file("web.toml", &service.toml());
    let unsaid = fleet.pith(&["deploy", "-f", &file]).expect_code(2);
    assert!(unsaid.stderr.contains("--env"), "{unsaid:?}");

    let _ = fleet.pith(&["deploy", "-f", &file, "--env", "staging"]).expect_code(0);
    assert_eq!((running(&fleet, "staging"), running(&fleet, "production")), (1, 0));
    let early = ["promote", "web", "--from", "production", "--to", "staging"];
    let early = fleet.pith(&early);
    assert!(early.code != 0 && early.stderr.contains("web"), "nothing is there yet: {early:?}");

    let promote = ["promote", "web", "--from", "staging", "--to", "production"];
    let _ = fleet.pith(&promote).expect_code(0);
    assert_eq!((running(&fleet, "staging"), running(&fleet, "production")), (1, 4));
    let status = |environment| fleet.json(&["rollout", "status", "web", "--env", environment]);
    assert_eq!(status("staging")["release"], status("production")["release"]);
    assert_eq!(status("staging")["pinned"], status("production")["pinned"]);
    let colour = |node| get(fleet.address(node, port), "/env").unwrap().1;
    assert!(colour(1).contains("COLOUR=green"), "the overlay holds in staging");
    assert!(colour(2).contains("COLOUR=blue") && colour(3).contains("COLOUR=blue"));
    let history = fleet.json(&["rollout", "history", "web", "--env", "production"]);
    assert_eq!(history["revisions"][0]["kind"], "promote", "{history}");

    let again = fleet.pith(&promote).expect_code(0);
    assert!(again.stdout.contains("unchanged"), "{again:?}");
    let history = fleet.json(&["rollout", "history", "web", "--env", "production"]);
    assert_eq!(history["revisions"].as_array().map(Vec::len), Some(1), "{history}");

    // The next one, through the same gate.
    let next = fleet.file("web.toml", &service.image("pith-demo:v2").toml());
    let _ = fleet.pith(&["deploy", "-f", &next, "--env", "staging"]).expect_code(0);
    assert_eq!(version(&fleet, 1, port).as_deref(), Some("v2"));
    assert_eq!(version(&fleet, 2, port).as_deref(), Some("v1"));
    let _ = fleet.pith(&promote).expect_code(0);
    assert_eq!(version(&fleet, 3, port).as_deref(), Some("v2"));
    assert_eq!(status("staging")["release"], status("production")["release"]);
}

/// `db` <- `api` <- `web`, and two that need nobody.
const SERVICES: [(&str, &str); 5] =
    [("api", "db"), ("cache", ""), ("chat", ""), ("db", ""), ("web", "api")];

struct Folder {
    fleet: Fleet,
    ports: BTreeMap<&'static str, u16>,
}

impl Folder {
    /// Writes all five, one of them bad where it is named, and deploys the folder.
    fn deploy(&self, image: &str, bad: Option<&str>) -> Outcome {
        std::fs::create_dir_all(self.fleet.scratch().join("shop")).unwrap();
        for (name, needs) in SERVICES {
            let mut service = Service::new(name, self.ports[name]).image(image);
            service = match bad == Some(name) {
                true => service.env("CRASH", "1"),
                false => service.env("START_DELAY_MS", START_MS),
            };
            let text = service.toml();
            let needs = if needs.is_empty() { String::new() } else { format!("\"{needs}\"") };
            let text =
                text.replacen("\nstop_grace", &format!("\ndepends_on = [{needs}]\nstop_grace"), 1);
            let _ = self.fleet.file(&format!("shop/{name}.toml"), &text);
        }
        let folder = self.fleet.scratch().join("shop");
        self.fleet.pith(&["deploy", "-f", &folder.to_string_lossy()])
    }

    /// When the newest rollout of a service began and ended, in Unix milliseconds.
    fn times(&self, name: &str) -> (u64, u64) {
        let status: Value = self.fleet.rollout(name);
        (status["started_ms"].as_u64().unwrap(), status["ended_ms"].as_u64().unwrap())
    }

    fn version(&self, name: &str) -> Option<String> {
        version(&self.fleet, 1, self.ports[name])
    }
}

#[test]
fn a_folder_is_deployed_in_order_at_once_where_it_can_and_a_bad_one_stops_its_dependants_alone() {
    if !skip::has("docker") {
        return;
    }
    let ports = SERVICES.into_iter().map(|(name, _)| (name, free_port())).collect();
    let shop = Folder { fleet: Fleet::start(1), ports };
    let first = shop.deploy("pith-demo:v1", None).expect_code(0);
    let [api, cache, chat, db, web] = SERVICES.map(|(name, _)| shop.times(name));
    assert!(
        api.0 >= db.1 && web.0 >= api.1,
        "each after what it depends on: {db:?} {api:?} {web:?}"
    );
    let first_end = cache.1.min(chat.1).min(db.1);
    let last_begin = cache.0.max(chat.0).max(db.0);
    assert!(last_begin < first_end, "independent ones at once: {cache:?} {chat:?} {db:?}");
    for (name, _) in SERVICES {
        let sentence = format!("service \"{name}\" successfully rolled out");
        assert!(first.stdout.contains(&sentence), "{first:?}");
        assert_eq!(shop.version(name).as_deref(), Some("v1"), "{name}");
    }

    let second = shop.deploy("pith-demo:v2", Some("api")).expect_code(3);
    let sentence = "web is not deployed: it depends on api, which did not get there";
    assert!(second.stderr.contains(sentence), "{second:?}");
    assert!(second.stderr.contains("crash_loop"), "{second:?}");
    let now = SERVICES.map(|(name, _)| shop.version(name).unwrap());
    assert_eq!(now, ["v1", "v2", "v2", "v2", "v1"], "{SERVICES:?}");
    assert_eq!(shop.fleet.rollout("api")["state"], "rolled_back");
    assert_eq!(shop.fleet.rollout("web")["revision"], 1, "web was not begun");
}
