//! What stands against an installing, each with its mend.

use protocol::id::{FleetId, NodeId};

use super::daemon::NotJson;
use super::package::VERSION;

/// Why a board cannot be installed as it is; each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Nobody may do anything there.
    #[error(
        "{user} is not root there and has no sudo: `pith node install root@HOST`, or as root there: apt-get install sudo && \
         usermod -aG sudo {user}"
    )]
    NoSudo {
        /// Who logged in.
        user: String,
    },
    /// A processor that nothing is built for.
    #[error(
        "the board is {machine} ({architecture}): Pith needs a 64-bit system, arm64 or amd64. Boards with a 64-bit processor take a 64-bit \
         image of their system"
    )]
    Processor {
        /// The kernel's word.
        machine: String,
        /// dpkg's.
        architecture: String,
    },
    /// No dpkg.
    #[error(
        "the board runs {0}, not Debian or one of its kind: there is no package for it. By hand: the static program and units, \
         systemd/README.md"
    )]
    NotDebian(String),
    /// Another init.
    #[error(
        "systemd does not run this machine (there is no /run/systemd/system): the units cannot be started"
    )]
    NoSystemd,
    /// Full.
    #[error(
        "too little space below {below}: {free_mib} MiB are free, {needed_mib} MiB are needed ({what}); `apt-get clean` and old logs are first"
    )]
    Space {
        /// Where.
        below: &'static str,
        /// What there is.
        free_mib: u64,
        /// What it takes.
        needed_mib: u64,
        /// For what.
        what: &'static str,
    },
    /// Somebody else's.
    #[error(
        "the board is a node of another fleet, {theirs} (as {node}); this one is {ours}. It is left alone. To take it over: `pith node revoke \
         {node}` there, `pith-agent uninstall --yes` and `rm -r /var/lib/pith` on the board, then again"
    )]
    OtherFleet {
        /// Whose it is.
        theirs: FleetId,
        /// Who it is there.
        node: NodeId,
        /// Whose it should be.
        ours: FleetId,
    },
    /// Its keys are refused for ever.
    #[error(
        "the identity of this board ({0}) was revoked: it comes back with new keys alone. On the board: `systemctl stop pith-agent && rm -r \
         /var/lib/pith`, then again"
    )]
    Revoked(NodeId),
    /// The file's name says another processor.
    #[error("{file} is for {package}, the board is {board}: name the package for {board}")]
    WrongProcessor {
        /// The file.
        file: String,
        /// What it is for.
        package: String,
        /// What is needed.
        board: String,
    },
    /// Or another version.
    #[error(
        "{file} is version {package}, this pith is {VERSION}: they are installed together. Name the package of {VERSION}, or use the pith of {package}"
    )]
    WrongVersion {
        /// The file.
        file: String,
        /// Its version.
        package: String,
    },
    /// The way back is another.
    #[error(
        "the board has pith-agent {0}, which is newer than this pith ({VERSION}): use the pith of {0}"
    )]
    Newer(String),
    /// `--upgrade` of nothing.
    #[error("there is no pith-agent on the board to upgrade: leave --upgrade out")]
    NothingToUpgrade,
    /// No Docker, and nothing that brings it.
    #[error(
        "Docker is missing and there is no apt-get to install it with: install Docker, then again"
    )]
    NoDocker,
    /// From elsewhere than the package knows.
    #[error(
        "Docker {0} on the board is of no package that pith-agent's takes (docker.io, docker-ce, moby-engine): installing would put a second one \
         beside it. Put Docker's own package in its place, or install by hand: systemd/README.md"
    )]
    DockerFromElsewhere(String),
    /// Its configuration.
    #[error(transparent)]
    Daemon(#[from] NotJson),
    /// A host's name that is no node's.
    #[error("the board is called `{0}`, which cannot be a node's name: give one with --name")]
    Name(String),
}
