//! A board inside this machine that one logs in to over ssh: a real ssh server, dpkg and Docker, on an overlay of this machine's own root.
//!
//! systemd alone is not real (tests/fixtures/guest/systemctl): the emulated board of tests/board has it. Needs root.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::boards::Process;
use crate::fleet::{Outcome, binaries};
use crate::http::free_port;
use crate::skip;
use crate::wait::until_true;

const SOON: Duration = Duration::from_secs(40);
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/guest");
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The board.
#[derive(Debug)]
pub struct Guest {
    dir: tempfile::TempDir,
    port: u16,
    _running: Process,
}

impl Guest {
    /// Boots it, as soon as somebody can log in.
    ///
    /// # Panics
    /// Where a step fails.
    #[must_use]
    pub fn boot() -> Self {
        // Sockets of ssh must have short paths.
        let dir = tempfile::tempdir_in("/tmp").expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        for folder in ["layers", "root"] {
            fs::create_dir(path(folder)).expect("a folder can be made");
        }
        let _ = fs::copy(Path::new(FIXTURES).join("systemctl"), path("systemctl")).expect("a copy");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(path("key"))
            .status();
        assert!(made.expect("ssh-keygen can be run").success());
        let port = free_port();
        let mut boot = Command::new("unshare");
        boot.args(["--mount", "--pid", "--fork", "--kill-child"]);
        boot.arg(Path::new(FIXTURES).join("boot.sh")).arg(dir.path()).arg(port.to_string());
        let running = Process::start(boot, &path("boot.log"));
        let guest = Self { dir, port, _running: running };
        until_true("somebody can log in", SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        guest
    }

    /// `USER@127.0.0.1:PORT`
    #[must_use]
    pub fn target(&self, user: &str) -> String {
        format!("{user}@127.0.0.1:{}", self.port)
    }

    /// The ssh to call, with its key and its own list of known hosts.
    #[must_use]
    pub fn ssh(&self) -> String {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "ssh -F none -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR",
            path("key"),
            path("known_hosts")
        )
    }

    /// Runs a line there, as root.
    ///
    /// # Panics
    /// When ssh cannot be run.
    #[must_use]
    pub fn run(&self, line: &str) -> Outcome {
        self.feed(line, &[])
    }

    /// Puts a file there.
    ///
    /// # Panics
    /// When it cannot be put there.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let _ =
            self.feed(&format!("mkdir -p $(dirname {path}) && cat >{path}"), bytes).expect_code(0);
    }

    fn feed(&self, line: &str, stdin: &[u8]) -> Outcome {
        let ssh = self.ssh();
        let mut words = ssh.split(' ');
        let mut command = Command::new(words.next().unwrap_or("ssh"));
        command.args(words).args(["-p", &self.port.to_string(), "root@127.0.0.1", line]);
        let input = self.dir.path().join("stdin");
        fs::write(&input, stdin).expect("a file can be written");
        command.stdin(fs::File::open(input).expect("a file can be read"));
        Outcome::of(&command.output().expect("ssh can be run"))
    }

    /// A package as `make dist` makes it, but of the program that is tested, with this version.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn package(&self, version: &str) -> PathBuf {
        let architecture = architecture();
        let root = self.dir.path().join(format!("package-{version}"));
        let at = |path: &str| root.join(path);
        for folder in [
            "usr/bin",
            "usr/lib/systemd/system",
            "usr/lib/sysusers.d",
            "usr/lib/tmpfiles.d",
            "etc/pith",
            "DEBIAN",
        ] {
            fs::create_dir_all(at(folder)).expect("a folder can be made");
        }
        let stripped = Command::new("strip")
            .arg("-o")
            .arg(at("usr/bin/pith-agent"))
            .arg(binaries().join("pith-agent"))
            .status();
        assert!(stripped.expect("strip can be run").success());
        let copies = [
            ("systemd/pith-agent.service", "usr/lib/systemd/system/pith-agent.service"),
            ("systemd/pith-proxy.service", "usr/lib/systemd/system/pith-proxy.service"),
            ("systemd/sysusers-pith-agent.conf", "usr/lib/sysusers.d/pith-agent.conf"),
            ("systemd/tmpfiles-pith-agent.conf", "usr/lib/tmpfiles.d/pith-agent.conf"),
            ("config/agent.toml", "etc/pith/agent.toml"),
            ("config/policy.toml", "etc/pith/policy.toml"),
            ("cross/deb/agent/postinst", "DEBIAN/postinst"),
            ("cross/deb/agent/postrm", "DEBIAN/postrm"),
            ("cross/deb/agent/prerm", "DEBIAN/prerm"),
        ];
        for (from, to) in copies {
            let _ =
                fs::copy(Path::new(REPOSITORY).join(from), at(to)).expect("a file of the sources");
            let mode = if to.starts_with("DEBIAN") { 0o755 } else { 0o644 };
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(at(to), mode).expect("a mode can be set");
        }
        fs::write(at("DEBIAN/conffiles"), "/etc/pith/agent.toml\n/etc/pith/policy.toml\n")
            .expect("a file");
        let control = format!(
            "Package: pith-agent\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: tests\nDescription: tested\n"
        );
        fs::write(at("DEBIAN/control"), control).expect("a file");
        let file = self.dir.path().join(format!("pith-agent_{version}_{architecture}.deb"));
        let made = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "-z1", "--build"])
            .arg(&root)
            .arg(&file)
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("dpkg-deb can be run").success());
        file
    }

    /// What the ssh server and the board's units wrote.
    #[must_use]
    pub fn log(&self) -> String {
        let boot = fs::read_to_string(self.dir.path().join("boot.log")).unwrap_or_default();
        let units = self.run("tail -n 40 /run/guest/*.log").stdout;
        format!("{boot}\n{units}")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the board:\n{}", self.log());
        }
    }
}

/// Whether this machine can have a board inside; says so on stderr where it cannot.
///
/// # Panics
/// In CI, where it must.
#[must_use]
pub fn can_lodge() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !is_root {
        eprintln!("SKIPPED: a board inside this machine needs root");
        assert!(!skip::in_ci(), "CI runs as root");
    }
    let programs = ["docker", "ssh", "/usr/sbin/sshd", "sudo", "dpkg-deb", "strip", "unshare"];
    is_root && programs.iter().all(|program| skip::has(program))
}

/// As dpkg calls this machine's processor.
///
/// # Panics
/// Without dpkg.
#[must_use]
pub fn architecture() -> String {
    let said: Output = Command::new("dpkg").arg("--print-architecture").output().expect("dpkg");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}
