//! An engine of a test's own, to be killed, frozen or filled up; see `tests/setup/private-dockerd.sh`.

use std::process::{Command, Stdio};

use crate::inside::{Inside, setup};

/// A private engine in a network of its own. Dropped, everything of it goes: drop what runs in it first.
#[derive(Debug)]
pub struct PrivateDocker {
    dir: tempfile::TempDir,
    flags: Vec<String>,
}

impl PrivateDocker {
    /// Whether this user may make one.
    #[must_use]
    pub fn is_possible() -> bool {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| {
            use std::os::unix::fs::MetadataExt as _;
            meta.uid() == 0
        });
        assert!(is_root || !crate::skip::in_ci(), "a private dockerd needs root, in CI too");
        if !is_root {
            eprintln!("SKIPPED: a private dockerd needs root (namespaces and bridges)");
        }
        is_root
    }

    /// Starts one with these flags of `private-dockerd.sh start` and copies local images into it.
    ///
    /// # Panics
    /// When it does not start; shows what it said.
    #[must_use]
    pub fn start(flags: &[&str], images: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let docker = Self { dir, flags };
        docker.start_daemon();
        let mut save = Command::new("docker")
            .arg("save")
            .args(images)
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker can be run");
        let saved = save.stdout.take().expect("stdout is piped");
        let load = docker.command().arg("load").stdin(saved).output().expect("docker can be run");
        let said = String::from_utf8_lossy(&load.stderr);
        assert!(save.wait().is_ok_and(|s| s.success()) && load.status.success(), "{said}");
        docker
    }

    /// Its `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir())
    }

    /// Its network.
    #[must_use]
    pub fn inside(&self) -> Inside {
        let script = setup("private-dockerd.sh").to_string_lossy().into_owned();
        Inside::behind(vec![script, "run".to_owned(), self.dir()])
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.script("pid", &[]).parse().expect("the daemon runs")
    }

    /// `kill -9`
    pub fn kill(&self) {
        self.script("kill", &[]);
    }

    /// Starts the daemon with the flags of the beginning; returns when it answers.
    pub fn start_daemon(&self) {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.script("start", &flags);
    }

    /// `docker …` against it; gives the standard output.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("docker can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host()]);
        command
    }

    fn dir(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    #[track_caller]
    fn script(&self, verb: &str, flags: &[&str]) -> String {
        let dir = self.dir();
        let args: Vec<&str> =
            [verb, dir.as_str()].into_iter().chain(flags.iter().copied()).collect();
        Inside::default().run(setup("private-dockerd.sh"), &args)
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        let script = setup("private-dockerd.sh");
        let _ = Command::new(script).args(["remove", &self.dir()]).status();
    }
}
