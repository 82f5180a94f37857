//! The emulated board: a virtual ARM64 machine with Debian, systemd and Docker that is booted, asked over ssh, and whose power is
//! cut. It reaches one thing outside, the port of the coordinator on this machine, as [`COORDINATOR`]; while nothing listens there
//! it has no network at all.
//!
//! ```text
//! tests/board/image.sh -> board.ext4 <- joined.qcow2 (the case `install`) <- disk.qcow2 (a case's own, thrown away)
//! ```

pub mod cases;
pub mod lab;
pub mod results;
mod ssh;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::fleet::Outcome;
use crate::http::free_port;
use crate::wait::{until, until_true};

/// How the board names the coordinator's port.
pub const COORDINATOR: &str = "10.0.2.100:8883";
/// Where services of the cases listen on the board.
pub const SERVICE_PORT: u16 = 8000;
/// A second service's.
pub const OTHER_PORT: u16 = 8001;
/// An emulated board boots in one to four minutes, as busy as this machine is.
const BOOT_WITHIN: Duration = Duration::from_secs(600);

/// What `tests/board/image.sh` made.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// In this folder, which `image.sh` printed.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The disk that nothing writes to.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.file("board.ext4")
    }

    /// The key that opens root and `person`.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.file("id_ed25519")
    }
}

/// One board. Its power is cut when it is dropped.
#[derive(Debug)]
pub struct Board {
    image: Image,
    folder: PathBuf,
    disk: PathBuf,
    memory_mb: u32,
    ssh_port: u16,
    forwarded: Vec<(u16, u16)>,
    coordinator: SocketAddr,
    qemu: Option<Child>,
}

impl Board {
    /// A board that is off, with a fresh disk over `below`, in a folder of its own. `coordinator` is a port of this machine.
    ///
    /// # Panics
    /// When the disk cannot be made.
    #[must_use]
    pub fn over(image: &Image, below: &Path, folder: &Path, coordinator: SocketAddr) -> Self {
        let disk = folder.join("disk.qcow2");
        let format = if below.extension().is_some_and(|e| e == "qcow2") { "qcow2" } else { "raw" };
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
            .args([below, &disk])
            .status();
        assert!(
            made.as_ref().is_ok_and(ExitStatus::success),
            "qemu-img: {made:?}: no disk over {}",
            below.display()
        );
        Self {
            image: image.clone(),
            folder: folder.to_owned(),
            disk,
            memory_mb: 512,
            ssh_port: free_port(),
            forwarded: [SERVICE_PORT, OTHER_PORT].map(|port| (free_port(), port)).to_vec(),
            coordinator,
            qemu: None,
        }
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Where this machine reaches a port of the board.
    ///
    /// # Panics
    /// For a port that is not forwarded.
    #[must_use]
    pub fn address(&self, port: u16) -> SocketAddr {
        let found = self.forwarded.iter().find(|(_, inside)| *inside == port);
        (Ipv4Addr::LOCALHOST, found.expect("a forwarded port").0).into()
    }

    /// `person@HOST:PORT`, who may sudo, and the ssh to call, with the key.
    #[must_use]
    pub fn login(&self) -> (String, String) {
        (format!("person@127.0.0.1:{}", self.ssh_port), ssh::line(self))
    }

    /// Switches the power on and waits for the ssh server.
    ///
    /// # Panics
    /// When the board does not come up; shows the end of its console.
    pub fn boot(&mut self) {
        self.cut();
        let log = fs::File::create(self.folder.join("qemu.log")).expect("a log file");
        let file = |path: &Path| path.display().to_string();
        let mut command = Command::new("qemu-system-aarch64");
        command.args(["-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi"]);
        command.args(["-smp", "2", "-m", &self.memory_mb.to_string()]);
        command.args(["-kernel", &file(&self.image.file("vmlinuz"))]);
        command.args(["-initrd", &file(&self.image.file("initrd"))]);
        command.args(["-append", "root=/dev/vda rw console=ttyAMA0 quiet"]);
        command.args(["-drive", &format!("file={},format=qcow2,if=virtio", file(&self.disk))]);
        command.args(["-netdev", &self.network(), "-device", "virtio-net-pci,netdev=n0,romfile="]);
        command.args(["-display", "none", "-monitor", "none"]);
        command.args(["-serial", &format!("file:{}", file(&self.console()))]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.qemu = Some(command.spawn().expect("qemu-system-aarch64 can be run"));
        until_true("the board boots", BOOT_WITHIN, || {
            self.assert_powered();
            ssh::connect(self)
        });
    }

    fn network(&self) -> String {
        let mut all = format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22", self.ssh_port);
        for (outside, inside) in &self.forwarded {
            all.push_str(&format!(",hostfwd=tcp:127.0.0.1:{outside}-:{inside}"));
        }
        // Each connection of the board starts one; it ends at once while nothing listens.
        all + &format!(",guestfwd=tcp:{COORDINATOR}-cmd:socat STDIO TCP4:{}", self.coordinator)
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    fn assert_powered(&mut self) {
        let ended = self.qemu.as_mut().and_then(|qemu| qemu.try_wait().ok()).flatten();
        let said = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
        assert!(ended.is_none(), "qemu ended: {ended:?}\n{said}");
    }

    /// The power goes away, at once.
    pub fn cut(&mut self) {
        if let Some(mut qemu) = self.qemu.take() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
        ssh::forget(self);
    }

    /// Shuts down as a careful person does, and waits for it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn shut_down(&mut self) {
        let _ = ssh::run(self, "systemctl poweroff");
        if let Some(mut qemu) = self.qemu.take() {
            until("the board shuts down", BOOT_WITHIN, || qemu.try_wait().ok().flatten());
        }
        ssh::forget(self);
    }

    /// Runs a shell line as root to its end.
    ///
    /// # Panics
    /// When ssh cannot be run.
    #[must_use]
    pub fn run(&self, line: &str) -> Outcome {
        ssh::run(self, line).expect("ssh can be run")
    }

    /// What a shell line that succeeds prints.
    ///
    /// # Panics
    /// When it fails; shows what it said.
    #[must_use]
    #[track_caller]
    pub fn said(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(outcome.code == 0, "on the board, `{line}`: {outcome:?}\n{}", self.last_words());
        outcome.stdout.trim_end().to_owned()
    }

    /// Runs a shell line that succeeds.
    ///
    /// # Panics
    /// When it fails; shows what it said.
    #[track_caller]
    pub fn must(&self, line: &str) {
        let _ = self.said(line);
    }

    /// Copies a file onto the board.
    ///
    /// # Panics
    /// When it cannot.
    pub fn put(&self, file: &Path, to: &str) {
        ssh::put(self, file, to);
    }

    /// Looks until a shell line succeeds.
    ///
    /// # Panics
    /// When it does not within `limit`; shows what the agent wrote last.
    pub fn wait(&self, what: &str, limit: Duration, line: &str) {
        let begun = std::time::Instant::now();
        while self.run(line).code != 0 {
            assert!(
                begun.elapsed() < limit,
                "nothing within {limit:?}: {what}\n{}",
                self.last_words()
            );
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// The end of the journals of our units and of the console, for a report of a failure.
    #[must_use]
    pub fn last_words(&self) -> String {
        let units =
            ssh::run(self, "journalctl -q --no-pager -n 40 -u pith-agent -u pith-proxy -u docker");
        let units = units.map(|outcome| outcome.stdout).unwrap_or_default();
        let console = fs::read(self.console()).unwrap_or_default();
        let from = console.len().saturating_sub(2000);
        format!("{units}\nconsole: {}", String::from_utf8_lossy(&console[from..]))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.cut();
    }
}
