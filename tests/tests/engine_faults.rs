//! The engine dies, freezes or has a full disk in the middle of a replacement. The release is not blamed for it, and the
//! old one serves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::fleet::Fleet;
use tests::http::free_port;
use tests::private_docker::PrivateDocker;
use tests::registry::Registry;
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(60);
/// Longer than `progress_deadline` of the service, so that a clock that did not stop would end the rollout.
const FROZEN: Duration = Duration::from_secs(15);
const INSTANCES: usize = 3;
const DISK_MB: u32 = 96;

fn can_run() -> bool {
    ["docker", "dockerd", "nsenter", "curl"].into_iter().all(skip::has)
        && PrivateDocker::is_possible()
}

/// Drop order: fleet, then engine.
struct Setting {
    fleet: Fleet,
    port: u16,
    docker: PrivateDocker,
}

impl Setting {
    /// `hello` v1 on a fleet of one node, on an engine of its own.
    fn start(flags: &[&str]) -> Self {
        let docker = PrivateDocker::start(flags, &["pith-demo:v1", "pith-demo:v2"]);
        let host = docker.host();
        let env = [("DOCKER_HOST", host.as_str())];
        let fleet = Fleet::start_inside(docker.inside(), &["--nodes", "1"], &env);
        let setting = Self { fleet, port: free_port(), docker };
        let _ = setting.fleet.deploy(&setting.service()).expect_code(0);
        setting
    }

    fn service(&self) -> Service {
        Service::new("hello", self.port)
            .scheduling(&format!("per_node = {INSTANCES}"))
            .env("START_DELAY_MS", "1500")
    }

    /// Images of the containers that run, without the port owner's or anybody else's.
    fn images(&self) -> Vec<String> {
        let label = format!("label={}", self.fleet.label());
        let format = "{{.Label \"io.pith.template\"}}";
        let out = self.docker.docker(&["ps", "--filter", &label, "--format", format]);
        out.lines().map(str::to_owned).collect()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn answer(&self) -> String {
        self.docker.inside().run("curl", &["-fsS", "--max-time", "10", &self.url()])
    }

    /// Asks the service over and over on new connections until the value is dropped.
    fn ask_on(&self) -> Asking {
        let file = self.fleet.scratch().join("answers");
        let out = std::fs::File::create(&file).unwrap();
        let ask = "while curl -sS -o /dev/null -w '%{http_code}\\n' --max-time 10 \"$0\" || true; do sleep 0.05; done";
        let mut command = self.docker.inside().command("bash");
        command.args(["-c", ask, &self.url()]).stdin(Stdio::null());
        let child = command.stderr(out.try_clone().unwrap()).stdout(out).spawn().unwrap();
        Asking { child, file }
    }

    /// Deploys v2 and gives the deploy once it is in the middle: one template more than before runs.
    fn deploy_to_the_middle(&self) -> Child {
        let text = self.service().image("pith-demo:v2").toml();
        let file = self.fleet.file("second.toml", &text);
        let mut deploy = self.fleet.command(&["deploy", "-f", &file]);
        let deploy = deploy.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let before = self.images().pop().unwrap();
        until_true("the first new instance runs", SOON, || {
            self.images().iter().any(|template| *template != before)
        });
        deploy
    }

    /// The deploy ended well, everything is new, nothing was ever tried again, no request failed.
    #[track_caller]
    fn check_completed(&self, deploy: Child, asking: Asking) {
        let output = deploy.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", self.fleet.agent_log(1));
        let status = self.fleet.rollout("hello");
        assert_eq!(status["state"], "succeeded", "{status}");
        assert_eq!(status["failures"].as_array().map(Vec::len), Some(0), "{status}");
        assert!(self.answer().starts_with("v2"));
        let mut templates = self.images();
        assert_eq!(templates.len(), INSTANCES, "nothing is doubled: {templates:?}");
        templates.dedup();
        assert_eq!(templates.len(), 1, "all are new: {templates:?}");
        let (answers, failed) = asking.stop();
        assert!(answers > 20, "only {answers} answers");
        assert_eq!(failed, Vec::<String>::new(), "of {answers}");
    }
}

/// A loop of requests.
struct Asking {
    child: Child,
    file: std::path::PathBuf,
}

impl Asking {
    /// How many answers there were, and what was no 200.
    fn stop(mut self) -> (usize, Vec<String>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let text = std::fs::read_to_string(&self.file).unwrap();
        let failed = text.lines().filter(|line| *line != "200").map(str::to_owned).collect();
        (text.lines().count(), failed)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: i32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill {name} {pid}");
}

#[test]
fn a_dockerd_that_is_killed_and_comes_back_in_the_middle_of_a_replacement_rolls_nothing_back() {
    if !can_run() {
        return;
    }
    let setting = Setting::start(&["--live-restore"]);
    let asking = setting.ask_on();
    let deploy = setting.deploy_to_the_middle();
    setting.docker.kill();
    setting.docker.start_daemon();
    setting.check_completed(deploy, asking);
}

#[test]
fn a_dockerd_that_answers_nothing_for_15_s_in_the_middle_of_a_replacement_rolls_nothing_back() {
    if !can_run() {
        return;
    }
    let setting = Setting::start(&[]);
    let asking = setting.ask_on();
    let deploy = setting.deploy_to_the_middle();
    let daemon = setting.docker.pid();
    signal(daemon, "-STOP");
    // The fault is its length: there is nothing to wait for but time.
    std::thread::sleep(FROZEN);
    signal(daemon, "-CONT");
    setting.check_completed(deploy, asking);
}

#[test]
fn a_disk_that_is_full_while_pulling_fails_with_its_own_reason_and_the_old_release_stays() {
    if !can_run() || !["docker-registry", "skopeo"].into_iter().all(skip::has) {
        return;
    }
    let setting = Setting::start(&["--tmpfs-mb", &DISK_MB.to_string()]);
    let registry = Registry::start_inside(setting.docker.inside());
    let big = registry.push_bytes(2 * DISK_MB, "team/hello:big");
    let before = setting.images();
    let text = setting.service().image(&big).toml();
    let file = setting.fleet.file("big.toml", &text);
    let outcome = setting.fleet.pith(&["deploy", "-f", &file]).expect_code(3);
    for part in ["no_space", &big] {
        assert!(outcome.stderr.contains(part), "`{part}` is not said: {outcome:?}");
    }
    assert_eq!(setting.images(), before, "nothing old was stopped");
    assert!(setting.answer().starts_with("v1"));

    // The disk is free again: what fits is taken.
    let small = registry.push("pith-demo:v2", "team/hello:small");
    let file = setting.fleet.file("small.toml", &setting.service().image(&small).toml());
    let _ = setting.fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    until("v2 answers", SOON, || setting.answer().starts_with("v2").then_some(()));
}
