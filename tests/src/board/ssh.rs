//! Asking the board over one kept ssh connection: a handshake costs an emulated board a second or two.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Board;
use crate::fleet::Outcome;

fn control(board: &Board) -> PathBuf {
    // Short: the path of a socket may have 107 bytes.
    PathBuf::from(format!("/tmp/pith-board-{}-{}", std::process::id(), board.ssh_port))
}

const OPTIONS: [&str; 6] = [
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=6",
];

/// The ssh for `PITH_SSH`.
pub(super) fn line(board: &Board) -> String {
    let options = OPTIONS.map(|option| format!("-o {option}")).join(" ");
    format!("ssh -F none -i {} -o LogLevel=ERROR {options}", board.image.key().display())
}

fn ssh(board: &Board) -> Command {
    let mut command = Command::new("ssh");
    command.arg("-q").arg("-i").arg(board.image.key()).args(["-p", &board.ssh_port.to_string()]);
    for option in OPTIONS {
        command.args(["-o", option]);
    }
    command.args(["-o", &format!("ControlPath={}", control(board).display())]);
    command.stdin(Stdio::null());
    command
}

/// Makes the connection that the others go through; whether the board let us in. A master that an asking command left behind
/// would hold that command's stderr open for ever, so it is a process without any.
pub(super) fn connect(board: &Board) -> bool {
    let mut command = ssh(board);
    command
        .args(["-f", "-N", "-o", "ControlMaster=yes", "root@127.0.0.1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a shell line to its end.
pub(super) fn run(board: &Board, line: &str) -> std::io::Result<Outcome> {
    ssh(board).args(["root@127.0.0.1", line]).output().map(|output| Outcome::of(&output))
}

/// Copies a file.
pub(super) fn put(board: &Board, file: &Path, to: &str) {
    let bytes = fs::File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let status = ssh(board).args(["root@127.0.0.1", &format!("cat >'{to}'")]).stdin(bytes).status();
    assert!(status.is_ok_and(|status| status.success()), "{} -> {to}", file.display());
}

/// Ends the kept connection: what it led to is off.
pub(super) fn forget(board: &Board) {
    let mut exit = ssh(board);
    exit.args(["-O", "exit", "root@127.0.0.1"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = exit.status();
    let _ = fs::remove_file(control(board));
}
