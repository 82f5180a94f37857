//! Images without a registry, on real Docker: archives over HTTP from a server that behaves badly, and through the coordinator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::time::Duration;

use tests::docker;
use tests::file_server::{FileServer, Manners};
use tests::fleet::{Fleet, Outcome};
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(60);
/// Less than half of the demo's image.
const PART: usize = 600_000;

/// An image of the demo with an identity of its own, which is in an archive and no more in Docker.
struct Archived {
    tag: String,
    id: String,
    file: Vec<u8>,
    sha256: String,
}

impl Archived {
    fn new(version: &str) -> Self {
        let archived = Self::in_docker(version);
        let _ = docker::docker(&["rmi", &archived.tag]);
        archived
    }

    fn in_docker(version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let tag = format!("pith-archived:{}-{version}", name.trim_start_matches(".tmp"));
        let container = docker::docker(&["create", "pith-demo:v1"]);
        let (env, label) = (format!("ENV VERSION={version}"), format!("LABEL test={tag}"));
        let id = docker::docker(&["commit", "-c", &env, "-c", &label, &container, &tag]);
        let _ = docker::docker(&["rm", &container]);
        let path = dir.path().join("app.tar").to_string_lossy().into_owned();
        let _ = docker::docker(&["save", "-o", &path, &tag]);
        let file = std::fs::read(&path).unwrap();
        let sha256 = protocol::id::sha256_hex(&file);
        Self { tag, id, file, sha256 }
    }

    fn is_in_docker(&self) -> bool {
        docker::docker(&["image", "ls", "-q", "--no-trunc"]).lines().any(|id| id == self.id)
    }

    fn source(&self, server: &FileServer) -> String {
        format!("archive = \"{}\"\nsha256 = \"{}\"", server.url(), self.sha256)
    }
}

impl Drop for Archived {
    fn drop(&mut self) {
        let remove = std::process::Command::new("docker").args(["rmi", &self.id]).output();
        let _ = remove;
    }
}

/// The service with an archive in place of its image.
fn file(fleet: &Fleet, service: &Service, source: &str) -> String {
    let text = service.clone().image("none").toml().replace("image = \"none\"\n", "");
    fleet.file("archived.toml", &format!("{text}\n[source]\n{source}\n"))
}

fn deploy(fleet: &Fleet, service: &Service, source: &str) -> Outcome {
    fleet.pith(&["deploy", "-f", &file(fleet, service, source)])
}

fn version(fleet: &Fleet, port: u16) -> Option<String> {
    let (status, body) = get(fleet.address(1, port), "/").ok()?;
    (status == 200).then(|| body.split_whitespace().next().unwrap_or_default().to_owned())
}

fn part_of(fleet: &Fleet, archived: &Archived) -> PathBuf {
    fleet.data().join(format!("nodes/node-1/state/archives/{}.part", archived.sha256))
}

#[test]
fn a_cut_link_is_resumed_and_undo_needs_no_server() {
    if !skip::has("docker") {
        return;
    }
    let (one, two) = (Archived::new("a1"), Archived::new("a2"));
    let (first, second) =
        (FileServer::start(one.file.clone()), FileServer::start(two.file.clone()));
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("app", port);

    first.behave(Manners { cut_after: Some(PART), ..Manners::default() });
    let _ = deploy(&fleet, &service, &one.source(&first)).expect_code(0);
    assert_eq!(version(&fleet, port).as_deref(), Some("a1"));
    let asked = first.asked();
    assert!(asked.len() > 2, "{asked:?}");
    assert_eq!(asked.iter().map(|one| one.sent).sum::<usize>(), one.file.len(), "no byte twice");
    assert!(asked[1..].iter().all(|one| one.from > 0 && one.is_conditional), "{asked:?}");
    assert!(!part_of(&fleet, &one).exists(), "what Docker has is not kept twice");

    // A server that gives the whole, and promises more than it has, is not believed and not given up.
    second.behave(Manners { cut_after: Some(PART), promises_more: 1, ..Manners::default() });
    let waiting = fleet.file("second.toml", "");
    std::fs::copy(file(&fleet, &service, &two.source(&second)), &waiting).unwrap();
    let _ = fleet.pith(&["deploy", "--detach", "-f", &waiting]).expect_code(0);
    until_true("it asks", SOON, || !second.asked().is_empty());
    second.behave(Manners { ignores_range: true, ..Manners::default() });
    until_true("the second runs", SOON, || version(&fleet, port).as_deref() == Some("a2"));
    until_true("it is over", SOON, || fleet.rollout("app")["state"] == "succeeded");

    first.stop();
    second.stop();
    let _ = fleet.pith(&["rollout", "undo", "app"]).expect_code(0);
    assert_eq!(version(&fleet, port).as_deref(), Some("a1"));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_killed_agent_goes_on_where_its_download_stopped() {
    if !skip::has("docker") {
        return;
    }
    let archived = Archived::new("k1");
    let server = FileServer::start(archived.file.clone());
    let fleet = Fleet::start(1);
    let port = free_port();
    server.behave(Manners { rest_after: Some(PART), ..Manners::default() });
    let file = file(&fleet, &Service::new("app", port), &archived.source(&server));
    let _ = fleet.pith(&["deploy", "--detach", "-f", &file]).expect_code(0);
    let part = part_of(&fleet, &archived);
    let here = || std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
    until_true("a part is here", SOON, || here() > 0);
    // The next life gets nothing until what this one left has been measured.
    server.behave(Manners { is_away: true, ..Manners::default() });
    let agent = fleet.process(1, "agent").unwrap();
    let _ = std::process::Command::new("kill").args(["-9", &agent.to_string()]).status();
    until_true("another life asks", SOON, || server.asked().len() > 1);
    let kept = usize::try_from(here()).unwrap();
    server.behave(Manners::default());
    until_true("it runs", SOON, || version(&fleet, port).as_deref() == Some("k1"));
    let last = server.asked().last().cloned().unwrap();
    assert_eq!((last.from, last.sent), (kept, archived.file.len() - kept), "{:?}", server.asked());
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_wrong_file_never_reaches_docker_and_the_old_goes_on() {
    if !skip::has("docker") {
        return;
    }
    let archived = Archived::new("w1");
    let server = FileServer::start(archived.file.clone());
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("app", port);
    let _ = fleet.deploy(&service).expect_code(0);

    let wrong = format!("archive = \"{}\"\nsha256 = \"{}\"", server.url(), "0".repeat(64));
    let refused = deploy(&fleet, &service, &wrong).expect_code(1);
    assert!(refused.stderr.contains(&archived.sha256), "both are named: {refused:?}");

    server.behave(Manners { lies: true, ..Manners::default() });
    let failed = deploy(&fleet, &service, &archived.source(&server)).expect_code(3);
    assert!(failed.stderr.contains("another sha256"), "{failed:?}");
    assert!(!archived.is_in_docker());
    assert_eq!(version(&fleet, port).as_deref(), Some("v1"));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_newer_manifest_ends_a_download_that_nobody_wants_any_more() {
    if !skip::has("docker") {
        return;
    }
    let archived = Archived::new("n1");
    let server = FileServer::start(archived.file.clone());
    let fleet = Fleet::start(1);
    let port = free_port();
    let service = Service::new("app", port);
    let _ = fleet.deploy(&service).expect_code(0);
    server.behave(Manners { rest_after: Some(PART), ..Manners::default() });
    let path = file(&fleet, &service, &archived.source(&server));
    let _ = fleet.pith(&["deploy", "--detach", "-f", &path]).expect_code(0);
    until_true("it rests", SOON, || server.asked().iter().any(|one| one.sent >= PART));
    let newer = fleet.file("newer.toml", &service.clone().image("pith-demo:v2").toml());
    let _ = fleet.pith(&["deploy", "--detach", "-f", &newer]).expect_code(0);
    let hung_up = || server.asked().iter().any(|one| one.has_hung_up);
    until_true("the download ends", Duration::from_secs(2), hung_up);
    until_true("the newer runs", SOON, || version(&fleet, port).as_deref() == Some("v2"));
    assert_eq!(server.asked().len(), 1, "and it is not begun again");
    assert!(!archived.is_in_docker());
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn an_image_is_pushed_to_the_coordinator_and_deployed_from_there() {
    if !skip::has("docker") {
        return;
    }
    let archived = Archived::in_docker("p1");
    let fleet = Fleet::start(2);
    let port = free_port();
    let pushed = fleet.json(&["push", &archived.tag]);
    let sha256 = pushed["sha256"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    assert_eq!(pushed["image_id"].as_str(), Some(archived.id.as_str()));
    let _ = docker::docker(&["rmi", &archived.tag]);
    let listed = fleet.pith(&["push", "--ls"]).expect_code(0);
    assert!(listed.stdout.contains(&sha256) && listed.stdout.contains(&archived.tag), "{listed:?}");

    let service = Service::new("app", port);
    let _ = deploy(&fleet, &service, &format!("archive = \"pith://{sha256}\"")).expect_code(0);
    let seen = until("it answers", SOON, || version(&fleet, port));
    assert_eq!(seen, "p1");

    let refused = fleet.pith(&["push", "--rm", &sha256]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("default/app"), "{refused:?}");
    let _ = fleet.deploy(&service).expect_code(0);
    let _ = fleet.pith(&["push", "--rm", &sha256]).expect_code(0);
    let gone = deploy(&fleet, &service, &format!("archive = \"pith://{sha256}\"")).expect_code(1);
    assert!(gone.stderr.contains("pith push"), "{gone:?}");
    let audit = fleet.pith(&["audit"]).expect_code(0);
    assert!(audit.stdout.contains("push rm"), "{audit:?}");
    assert_eq!(fleet.stop(), 0);
}
