//! The coordinator from another machine, as people use it: another HOME, an invitation, a role, a line that breaks, a log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tests::fleet::{Fleet, Outcome, binaries};
use tests::http::free_port;
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(40);
/// What a revoked operator has left.
const CUT_WITHIN: Duration = Duration::from_secs(5);
/// More than handshake and questions, less than a release.
const A_RELEASE_BYTES: usize = 2_000;

/// Somebody with a home of their own, who has the release key, as CI would.
struct Person {
    home: tempfile::TempDir,
    release_key: String,
}

impl Person {
    fn of(fleet: &Fleet) -> Self {
        let release_key = fs::read_to_string(fleet.data().join("keys/release.key")).unwrap();
        Self { home: tempfile::tempdir().unwrap(), release_key }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("pith"));
        for name in ["PITH_DATA", "PITH_FLEET", "PITH_SOCKET", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.args(args).env("HOME", self.home.path()).env("NO_COLOR", "1");
        command.env("PITH_RELEASE_KEY", &self.release_key).stdin(Stdio::null());
        command
    }

    fn pith(&self, args: &[&str]) -> Outcome {
        outcome(self.command(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        let outcome = self.pith(&[args, &["-o", "json"]].concat()).expect_code(0);
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    fn deploy(&self, service: &Service) -> Outcome {
        let file = self.home.path().join("service.toml");
        fs::write(&file, service.toml()).unwrap();
        self.pith(&["deploy", "-f", &file.to_string_lossy()])
    }

    fn profile(&self, fleet: &Fleet) -> PathBuf {
        let label = fleet.label();
        let id = label.split_once('=').unwrap().1;
        self.home.path().join(".config/pith").join(id)
    }
}

fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn invite(fleet: &Fleet, name: &str, role: &str, more: &[&str]) -> String {
    let args = [&["operator", "invite", name, "--role", role], more].concat();
    let shown = fleet.pith(&[&args, &["-o", "json"][..]].concat()).expect_code(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    shown["token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn refused(outcome: &Outcome, says: &[&str]) {
    assert_eq!(outcome.code, 5, "{outcome:?}");
    for text in says {
        assert!(outcome.stderr.contains(text), "`{text}` is not in {outcome:?}");
    }
}

#[test]
fn people_from_afar_may_what_their_role_says_and_nothing_once_they_are_revoked() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let (vera, dora, eve) = (Person::of(&fleet), Person::of(&fleet), Person::of(&fleet));
    let web = Service::new("web", free_port());

    let token = invite(&fleet, "vera", "viewer", &[]);
    let said = vera.pith(&["login", &token]).expect_code(0).stdout;
    assert!(said.contains("as vera, viewer"), "{said}");
    refused(&eve.pith(&["login", &token]), &["invitation of vera was used"]);
    let key = vera.profile(&fleet).join("operator.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(vera.json(&["node", "ls"])["nodes"][0]["name"], "node-1");
    a_login_renews_itself(&fleet, &vera);
    refused(&vera.deploy(&web), &["`deploy` needs the role deployer", "vera has the role viewer"]);

    let token = invite(&fleet, "dora", "deployer", &[]);
    let mut login = dora.command(&["login", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    login.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
    assert!(login.wait().unwrap().success());
    let _ = dora.deploy(&web).expect_code(0);
    let history = dora.json(&["rollout", "history", "web"]);
    assert_eq!(history["revisions"][0]["by"], "dora", "the certificate says who, not the client");
    refused(&dora.pith(&["node", "revoke", "node-1"]), &["needs the role operator"]);
    refused(&dora.pith(&["operator", "revoke", "vera"]), &["needs the role security"]);
    let elsewhere = dora.pith(&["keys", "ls"]).expect_code(2).stderr;
    assert!(elsewhere.contains("fleet's own folder"), "{elsewhere}");

    let said = vera.pith(&["logs", "web"]).expect_code(0).stdout;
    assert!(said.contains(" | demo-app"), "{said}");
    let ran = dora.pith(&["exec", "web", "--", "/demo-app", "once"]);
    refused(&ran, &["`exec` needs the role operator"]);
    let mut reads = Following::start(dora.command(&["logs", "web", "-f"]));

    let mut follows = Following::start(dora.command(&["events", "--follow", "-o", "json"]));
    let _ = fleet.pith(&["operator", "revoke", "dora"]).expect_code(0);
    refused(&dora.pith(&["ps"]), &["revoked"]);
    assert_eq!(follows.ends_within(CUT_WITHIN), Some(5), "who was waiting is cut too");
    assert_eq!(reads.ends_within(CUT_WITHIN), Some(5), "and who was reading");

    let _ = vera.pith(&["logout"]).expect_code(0);
    assert!(!vera.profile(&fleet).exists());
    assert_eq!(vera.pith(&["ps"]).code, 6);
    let shown = fleet.json(&["operator", "ls"]);
    let status: Vec<&str> = shown["operators"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|o| o["status"].as_str())
        .collect();
    assert_eq!(status, ["revoked", "revoked"]);
    the_log_tells_it(&fleet);
    assert_eq!(fleet.stop(), 0);
}

/// By the first verb in the last third of its life.
fn a_login_renews_itself(fleet: &Fleet, person: &Person) {
    let folder = person.profile(fleet);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let profile = || serde_json::from_str::<Value>(&read("operator.json")).unwrap();
    let (certificate, key, mut told) = (read("operator.crt"), read("operator.key"), profile());
    let expires_at = told["expires_at"].as_u64().unwrap();
    // As it would be in eleven weeks: what TLS and the coordinator see is still good.
    told["expires_at"] = (expires_at - 77 * 24 * 60 * 60).into();
    fs::write(folder.join("operator.json"), told.to_string()).unwrap();
    let said = person.pith(&["node", "ls"]).expect_code(0);
    assert!(!said.stderr.contains("warning"), "{said:?}");
    assert!(profile()["expires_at"].as_u64() >= Some(expires_at), "{}", profile());
    assert!(read("operator.crt") != certificate && read("operator.key") == key);
    let renewed = read("operator.crt");
    let _ = person.pith(&["node", "ls"]).expect_code(0);
    assert_eq!(read("operator.crt"), renewed, "once is enough");
}

/// What was asked, refused and done, and the byte that somebody changed.
fn the_log_tells_it(fleet: &Fleet) {
    let text = fleet.pith(&["audit", "--since", "10m"]).expect_code(0).stdout;
    let has =
        |words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        has(&["operator:vera", "viewer", "deploy", "default/web", "refused", "(role)"]),
        "{text}"
    );
    assert!(
        has(&["operator:dora", "deployer", "deploy", "default/web release 1", "asked"]),
        "{text}"
    );
    assert!(has(&["operator:dora", "default/web release 1", "done"]), "{text}");
    assert!(has(&["operator:vera", "viewer", "login renew", "done"]), "{text}");
    assert!(has(&["from:127.0.0.1", "login", "failed", "(invitation_used)"]), "{text}");
    let verified = fleet.json(&["audit", "--verify"]);
    assert!(verified["broken"].is_null() && verified["entries"].as_u64() > Some(10), "{verified}");
    let path = fleet.data().join("audit.jsonl");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let at = whole.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let said = fleet.pith(&["audit", "--verify"]).expect_code(1).stdout;
    assert!(said.starts_with(&format!("entry {line} is not what was written")), "{said}");
    fs::write(&path, &whole).unwrap();
    let _ = fleet.pith(&["audit", "--verify"]).expect_code(0);
}

/// Killed when dropped.
struct Following(Child);

impl Following {
    /// Runs until it has said something.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        Self(child)
    }

    fn ends_within(&mut self, limit: Duration) -> Option<i32> {
        let mut code = None;
        until_true("it ends", limit, || match self.0.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            Ok(None) | Err(_) => false,
        });
        code
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A line that breaks once, when the answer to something as large as a release is on its way.
struct Line {
    address: SocketAddr,
    breaks: Arc<AtomicBool>,
}

impl Line {
    fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self { address: listener.local_addr().unwrap(), breaks: Arc::default() };
        let breaks = Arc::clone(&line.breaks);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(far) else { continue };
                let (asked, breaks) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&breaks));
                let (up, down) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let count = Arc::clone(&asked);
                std::thread::spawn(move || {
                    pass_on(up, far, |bytes| {
                        count.fetch_add(bytes, Ordering::SeqCst);
                        true
                    });
                });
                std::thread::spawn(move || {
                    pass_on(down, near, |_| {
                        let is_large = asked.swap(0, Ordering::SeqCst) >= A_RELEASE_BYTES;
                        !(is_large && breaks.swap(false, Ordering::SeqCst))
                    });
                });
            }
        });
        line
    }
}

/// Until one side ends, or `goes_on` says no; then both are closed.
fn pass_on(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(usize) -> bool) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut bytes) {
        if read == 0 || !goes_on(read) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_deploy_whose_answer_was_lost_is_not_doubled() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let dora = Person::of(&fleet);
    let shown = fleet.pith(&["operator", "invite", "probe", "--role", "viewer", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.expect_code(0).stdout).unwrap();
    let line = Line::to(shown["addresses"][0].as_str().unwrap().parse().unwrap());
    let address = line.address.to_string();
    let token = invite(&fleet, "dora", "deployer", &["--address", &address]);
    let _ = dora.pith(&["login", &token]).expect_code(0);
    line.breaks.store(true, Ordering::SeqCst);
    let deployed = dora.deploy(&Service::new("web", free_port())).expect_code(0);
    assert!(!line.breaks.load(Ordering::SeqCst), "the line did not break: {deployed:?}");
    assert!(deployed.stderr.contains("asking again"), "{deployed:?}");
    let history = dora.json(&["rollout", "history", "web"]);
    assert_eq!(history["revisions"].as_array().unwrap().len(), 1, "{history}");
    let entries = fleet.json(&["audit"]);
    let entries = entries["entries"].as_array().unwrap();
    let deploys = entries.iter().filter(|e| e["verb"] == "deploy");
    let codes: Vec<&Value> = deploys.filter(|e| e["event"] == "done").map(|e| &e["code"]).collect();
    assert_eq!(codes, [&Value::Null, &Value::from("repeated")], "both are in the log");
    assert_eq!(fleet.stop(), 0);
}

/// `pith serve` without nodes, with a group.
struct Alone {
    dir: tempfile::TempDir,
    serve: Child,
}

/// `pith` in a folder that everybody can reach, with the data folder beside it.
fn beside(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(dir.join("pith"));
    command.args(args).env("PITH_DATA", dir.join("data")).stdin(Stdio::null());
    command
}

impl Alone {
    fn start(group: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The data folder stays its owner's; what is beside it can be reached.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(binaries().join("pith"), dir.path().join("pith")).unwrap();
        let _ = outcome(beside(dir.path(), &["init"])).expect_code(0);
        let (port, dir_shown) = (free_port(), dir.path().display());
        let config = format!(
            "[broker]\nlisten = \"127.0.0.1:{port}\"\n\n[api]\ngroup = \"{group}\"\nsocket = \"{dir_shown}/api.sock\"\n"
        );
        fs::write(dir.path().join("coordinator.toml"), config).unwrap();
        let mut serve = beside(dir.path(), &["serve", "--config"]);
        let log = fs::File::create(dir.path().join("coordinator.log")).unwrap();
        let serve = serve.arg(dir.path().join("coordinator.toml")).stderr(log).spawn().unwrap();
        let alone = Self { dir, serve };
        let answers = || outcome(beside(alone.dir.path(), &["node", "ls"])).code == 0;
        until_true("the coordinator answers", SOON, answers);
        alone
    }

    fn as_user(&self, uid: u32, gid: u32, args: &[&str]) -> Outcome {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]);
        command.arg(self.dir.path().join("pith")).args(args).stdin(Stdio::null());
        command.env("HOME", "/nonexistent").env("PITH_SOCKET", self.dir.path().join("api.sock"));
        command.env_remove("PITH_DATA");
        outcome(command)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("coordinator.log"));
            eprintln!("---- coordinator:\n{}", log.unwrap_or_default());
        }
        let _ = self.serve.kill();
        let _ = self.serve.wait();
    }
}

/// Of every Debian; nobody is in it.
const GROUP: (&str, u32) = ("games", 60);
const STRANGER: u32 = 61_233;

#[test]
fn members_of_the_group_are_operators_on_their_socket_and_others_are_refused() {
    let own = tempfile::tempdir().unwrap();
    if own.path().metadata().unwrap().uid() != 0 || !skip::has("setpriv") {
        eprintln!("SKIPPED: only root can run a program as somebody else");
        return;
    }
    let alone = Alone::start(GROUP.0);
    let _ = alone.as_user(STRANGER, GROUP.1, &["node", "ls"]).expect_code(0);
    let _ = alone.as_user(STRANGER, GROUP.1, &["node", "token"]).expect_code(0);
    let invite = ["operator", "invite", "eve", "--role", "security"];
    let said = alone.as_user(STRANGER, GROUP.1, &invite);
    refused(&said, &["needs the role security", "uid:61233 has the role operator"]);
    refused(&alone.as_user(STRANGER, STRANGER, &["node", "ls"]), &["you may not use"]);
    // The kernel lets it in where the mode says so; the coordinator does not.
    let socket = alone.dir.path().join("api.sock");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&alone.as_user(STRANGER, STRANGER, &["node", "ls"]), &["uid:61233 has no role here"]);
}
