//! What can be written of boards that are installed over ssh.

use std::path::PathBuf;

use clap::Args;
use protocol::id::NodeName;
use protocol::units::Millis;

use crate::install::allowing::Allow;
use crate::install::ssh::Target;

/// How a board is reached, and what it gets.
#[derive(Debug, Args)]
pub(in crate::cli) struct BoardArgs {
    /// The ssh that is called, with options of yours.
    #[arg(long, value_name = "COMMAND", env = "PITH_SSH", default_value = "ssh")]
    pub(in crate::cli) ssh: String,
    /// The package for it, instead of that of this version found beside `pith`, in dist/ or /usr/share/pith/packages.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) package: Option<PathBuf>,
    /// What containers may have of it, into /etc/pith/policy.toml, unless somebody has written one: exec, privileged, host-network,
    /// host-paths=/PATH,…, devices=/dev/…, capabilities=NAME,…
    #[arg(long, value_name = "WHAT,…")]
    pub(in crate::cli) allow: Option<Allow>,
    /// Add to Docker's daemon.json what it lacks: live-restore, bounded logs of the local driver, one download at a time. Docker is
    /// restarted once, with live-restore in force.
    #[arg(long)]
    pub(in crate::cli) tune_docker: bool,
    /// Where the board reaches this coordinator, instead of this machine's own addresses; may stand several times.
    #[arg(long, value_name = "HOST:PORT")]
    pub(in crate::cli) address: Vec<String>,
    /// Wait at most this long for the coordinator to see it ready.
    #[arg(long, value_name = "TIME", default_value = "3m")]
    pub(in crate::cli) timeout: Millis,
}

/// `pith node install`
#[derive(Debug, Args)]
pub(in crate::cli) struct InstallArgs {
    /// The board, as ssh reaches it.
    #[arg(value_name = "USER@HOST[:PORT]")]
    pub(in crate::cli) target: Target,
    /// The node's name; without it, the board's own. One that is taken gets a number.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<NodeName>,
    /// Labels of the node, beside those it gives itself; may stand several times.
    #[arg(long = "label", alias = "labels", value_name = "KEY=VALUE,…", value_delimiter = ',')]
    pub(in crate::cli) labels: Vec<String>,
    /// Exchange the agent for that of this version, and nothing else.
    #[arg(long, conflicts_with_all = ["name", "labels", "allow", "tune_docker", "address"])]
    pub(in crate::cli) upgrade: bool,
    #[command(flatten)]
    pub(in crate::cli) board: BoardArgs,
}

/// `pith node replace`
#[derive(Debug, Args)]
pub(in crate::cli) struct ReplaceArgs {
    /// The board that is replaced, by its name or id; it may be dead.
    #[arg(value_name = "OLD")]
    pub(in crate::cli) old: String,
    /// The board that comes: as ssh reaches it, or the name of a node that has joined.
    #[arg(value_name = "USER@HOST[:PORT]|NODE")]
    pub(in crate::cli) new: String,
    /// Do not ask.
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    #[command(flatten)]
    pub(in crate::cli) board: BoardArgs,
}
