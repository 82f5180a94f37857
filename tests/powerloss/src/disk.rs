//! A disk of a few megabytes that logs what it is told, with an ext4 on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Small, because each crash state is a copy of it; ext4 of 4 KiB blocks wants a journal of 4 MiB.
pub(super) const BYTES: u64 = 12 * 1024 * 1024;
/// Sparse.
const LOG_BYTES: u64 = 16 * 1024 * 1024 * 1024;
const SOON: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    daemon: Child,
    device: String,
}

impl Disk {
    pub(super) fn make(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        sized(&folder.join("disk.img"), BYTES);
        sized(&folder.join("log.img"), LOG_BYTES);
        sized(&folder.join("exported"), 0);
        fs::create_dir(folder.join("mounted")).expect("a folder can be made");
        let daemon = Command::new("qemu-storage-daemon")
            .args([
                "--blockdev",
                &format!("driver=file,node-name=disk,filename={}", file("disk.img")),
            ])
            .args([
                "--blockdev",
                &format!("driver=file,node-name=log,filename={}", file("log.img")),
            ])
            .args([
                "--blockdev",
                "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512",
            ])
            .args([
                "--export",
                &format!(
                    "type=fuse,id=e,node-name=logged,writable=on,growable=off,mountpoint={}",
                    file("exported")
                ),
            ])
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-storage-daemon can be run");
        let begun = Instant::now();
        while fs::metadata(folder.join("exported")).map_or(0, |meta| meta.len()) != BYTES {
            assert!(begun.elapsed() < SOON, "qemu-storage-daemon exports nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        let device = said("losetup", &["--find", "--show", &file("exported")]);
        let _ = said("mkfs.ext4", &["-q", "-F", "-b", "4096", &device]);
        let _ = said("mount", &[&device, &file("mounted")]);
        Self { folder: folder.to_owned(), daemon, device }
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log.img")
    }

    pub(super) fn mounted(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    /// Takes it away; what was logged stays.
    pub(super) fn detach(mut self) {
        let _ = said("umount", &[&self.mounted().display().to_string()]);
        let _ = said("losetup", &["--detach", &self.device]);
        let _ = said("kill", &[&self.daemon.id().to_string()]);
        let _ = self.daemon.wait();
    }
}

fn sized(path: &Path, bytes: u64) {
    File::create(path).and_then(|file| file.set_len(bytes)).expect("a file can be made");
}

/// Runs a program that succeeds; what it printed.
pub(super) fn said(program: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
