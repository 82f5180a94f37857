//! What can be written of logs and commands, keys, nodes, brokers, backups, operators and the audit log.

mod inside;
mod installing;
mod looking;
mod paging;
pub(super) mod printed;
mod running;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::id::{NodeName, OperatorName, SecretName, ServiceName};
use protocol::keys::RoleName;
use protocol::units::Millis;

use super::WaitArgs;
use crate::role::Role;
pub(super) use inside::{ExecArgs, PortForwardArgs};
pub(super) use installing::{BoardArgs, InstallArgs, ReplaceArgs};
pub(super) use looking::{NodeTopArgs, TopArgs};
pub(super) use paging::PageArgs;
pub(super) use running::{
    DebugVerb, DevArgs, EventsArgs, NotifyVerb, RmArgs, ScaleArgs, ServeArgs,
};

#[derive(Debug, Subcommand)]
pub(super) enum SecretVerb {
    /// Give a secret a value: a new version, rolled out to every service that uses it.
    ///
    /// The value is read from stdin, a file, or typed without an echo; it is sealed on this machine, for each node of the
    /// environment and each release key, and nobody between can open it. At most 16 KiB. A newline at the end is part of it.
    Set(SetArgs),
    /// Give a secret that is there another value, as `set` does.
    Rotate(SetArgs),
    /// List secrets: versions, who uses them, which nodes have no copy. Values are never shown.
    Ls,
    /// Forget a secret that no service uses.
    Rm {
        /// Its name in the environment.
        name: SecretName,
    },
    /// Seal every secret again for nodes and release keys that came later; needs a release key.
    Sync,
}

/// A value for a secret.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Its name in the environment.
    pub(super) name: SecretName,
    #[command(flatten)]
    pub(super) value: ValueArgs,
    /// A login for pulls from this registry, as image names begin (docker.io where they name none); the value is the
    /// password or token. Nodes log in with it for the pull, no container gets it, and nothing is rolled out.
    #[arg(long, value_name = "HOST", requires = "username", conflicts_with = "random")]
    pub(super) registry: Option<String>,
    /// The user at the registry.
    #[arg(long, value_name = "USER", requires = "registry")]
    pub(super) username: Option<String>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub(super) cause: Option<String>,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
}

/// Where a value comes from; without either, stdin.
#[derive(Debug, Args)]
pub(super) struct ValueArgs {
    /// Read it from this file, as it is.
    #[arg(long, value_name = "FILE")]
    pub(super) from_file: Option<PathBuf>,
    /// Draw it here: 64 hexadecimal digits, shown to nobody.
    #[arg(long, conflicts_with = "from_file")]
    pub(super) random: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysVerb {
    /// List roles, their thresholds and keys, and which of them are here.
    Ls,
    /// Make a key: FILE is secret, FILE.pub is to be passed on.
    New {
        /// A file that is not there yet.
        file: PathBuf,
        /// Encrypt it: PITH_PASSPHRASE, else asked for.
        #[arg(long)]
        passphrase: bool,
    },
    /// Encrypt a key file, or give it another passphrase.
    Encrypt {
        /// The key file.
        file: PathBuf,
    },
    /// Let one key more act in a role.
    Add {
        /// root, release, director or agent-release.
        role: RoleName,
        /// Its secret or public file.
        key: PathBuf,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// Replace a key of a role by a new one.
    Rotate {
        /// root, release, director or agent-release.
        role: RoleName,
        /// The key to replace, where the role has several.
        #[arg(value_name = "KEYID")]
        old: Option<String>,
        /// The new key, by its secret or public file; without it one is made in the fleet's folder.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Encrypt the new key; the default where the old one is.
        #[arg(long)]
        passphrase: bool,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// Trust a key no longer, in any role.
    Revoke {
        /// The key, or its first digits.
        #[arg(value_name = "KEYID")]
        key: String,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// Set how many keys of a role must sign.
    Threshold {
        /// root, release or agent-release.
        role: RoleName,
        /// How many.
        count: u32,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// Add signatures to a trust root that lacks some, and put it in effect when it has all.
    Sign {
        /// root-N.json
        file: PathBuf,
        #[command(flatten)]
        sign: SignArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// A root key to sign with; may stand several times. Without it, the root keys in the fleet's folder.
    #[arg(long, value_name = "FILE")]
    pub(super) root_key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// A file that is not there yet; without it, one more in the coordinator's folder of backups.
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup; with --fleet and the whole id, only one of that fleet.
    pub(super) file: PathBuf,
    /// One of the root keys that it was sealed to; any one opens it.
    #[arg(long, value_name = "FILE")]
    pub(super) root_key: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum FleetVerb {
    /// Let nodes in conflict follow this coordinator again: show what would change on each, and with --yes do it.
    ///
    /// A coordinator that was restored from an old backup, or runs on an old copy of its database, knows less than its
    /// nodes. They refuse it, run on, and are shown as `conflict`. This makes the next trust root, with the same keys and a
    /// higher epoch, signed as every change of the root is (`pith keys`); from then on what this coordinator has
    /// stored counts. What nodes run and it does not know is removed there, where --yes says so.
    Reconcile {
        /// Sign and do it, once what would change was read. Without it the exit code is 5 where something would.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// Make a coordinator anew that was lost without a backup: from the root keys, and from what the nodes hold.
    ///
    /// Makes the next trust root, with another director and a higher epoch, a new CA and an empty database in a folder that is not there yet
    /// (--data). Serve it at an address that the nodes know: each comes into the lobby by itself, and once it is approved what it runs is
    /// entered as it is and no container is touched. With a backup, `pith restore` brings back more.
    Recover {
        /// The fleet's newest trust root: root.json, and roots.json where it was ever changed, of the old folder, or what `pith-agent root`
        /// prints on a board. May stand several times.
        #[arg(long, value_name = "FILE", required = true)]
        root: Vec<PathBuf>,
        #[command(flatten)]
        sign: SignArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CoordinatorVerb {
    /// Tell nodes to look for this coordinator at another address too, before it is moved there.
    ///
    /// Each node learns the address signed, keeps it on its disk, tries it first from its next connect on, and keeps those that it
    /// knew. What it finds there must have a certificate of this fleet: an address alone proves nothing. Then bring the
    /// coordinator there (`pith backup`, `pith restore`) and keep the old one off; nodes come over by themselves. The exit code
    /// is 4 where a node has not learned it.
    Move(MoveArgs),
    /// Show which addresses nodes are told, and which of them have learned it.
    Addresses {
        /// Let nodes forget an address: one that was moved away from, or where they joined.
        #[arg(long, value_name = "HOST:PORT")]
        forget: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// Where nodes will reach it: an address or a name, and the port.
    #[arg(value_name = "HOST:PORT")]
    pub(super) address: String,
    /// Do not wait until nodes have learned it.
    #[arg(long)]
    pub(super) detach: bool,
    /// Wait at most this long for nodes that are online.
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub(super) timeout: Millis,
}

#[derive(Debug, Subcommand)]
pub(super) enum AgentVerb {
    /// Sign a version of the agent: one static program `pith-agent` per kind of board. Needs an agent-release key.
    ///
    /// Version and processor are read from the programs. Nothing moves before `pith agent rollout`.
    Release(AgentReleaseArgs),
    /// Bring nodes to a released version, in batches: the next when the one before is confirmed, none after one that was taken back.
    Rollout(AgentRolloutArgs),
    /// Show what was released, and how far nodes are.
    Status,
    /// Tell no more nodes.
    Pause,
    /// Go on, also past nodes that took it back.
    Resume,
    /// Go back: the version before, signed again, since nodes take nothing older than they have. Needs an agent-release key.
    Undo(AgentUndoArgs),
}

#[derive(Debug, Args)]
pub(super) struct AgentReleaseArgs {
    /// Programs, each for another kind of board.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Take programs that need libraries: for development.
    #[arg(long, hide = true)]
    pub(super) any_linking: bool,
}

#[derive(Debug, Args)]
pub(super) struct AgentUndoArgs {
    /// This version; without it, the one that nodes run beside the newest, or the one released before it.
    #[arg(long, value_name = "VERSION")]
    pub(super) to: Option<String>,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(super) struct AgentRolloutArgs {
    /// The version; without it, the one that was released last.
    #[arg(long, value_name = "VERSION")]
    pub(super) to: Option<String>,
    /// Nodes at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch: u32,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum ReleaseVerb {
    /// Raise the security floor of a service, in every environment: releases below it are never begun again.
    ///
    /// No deploy, undo or promote brings them back, and no node goes back to them or takes them from a coordinator whose key
    /// was stolen. The numbers of releases are in the column RELEASE of `pith rollout history`. What runs is not stopped:
    /// a release that is still needed somewhere is refused, with what to do. A floor never falls.
    Retire {
        /// Of which service.
        service: ServiceName,
        /// The oldest release that may still run, as `pith rollout history` numbers them under RELEASE.
        #[arg(long, value_name = "RELEASE", value_parser = clap::value_parser!(u64).range(1..))]
        below: u64,
        /// Why, for the events.
        #[arg(long, value_name = "TEXT")]
        cause: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeVerb {
    /// List nodes, with those that ask to join.
    Ls,
    /// Show what boards do now: processor, memory, disk, heat, network; with NAME one of them whole, with its instances.
    ///
    /// Nodes are asked to tell it, which takes up to five seconds. What is not known is `-`. NET and IO are bytes a second.
    Top(NodeTopArgs),
    /// Show what is odd about a board and the line that mends it: kernel, Docker, clock, disk, heat, images.
    ///
    /// The agent looks for itself, as the user that it runs as; what only root sees is said to be unknown, and `sudo pith-agent
    /// doctor` on the board says it. Exit code 1 where there is a problem.
    Doctor {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        who: String,
    },
    /// Make a board a node over ssh: package, token, policy, units.
    ///
    /// Looks at the board first and says what it found; then does what is missing, says what is so already, and waits until the
    /// coordinator sees the node ready. Run again it goes on where it stopped, and changes nothing where all is as it should be.
    Install(Box<InstallArgs>),
    /// Put a board in the place of another: its name, labels, environment and services; the old one is revoked.
    ///
    /// The new one is installed over ssh as by `pith node install`, and the old one is revoked the moment that the new one joins; or it is a
    /// node that has joined already. Says first which volumes are gone with the old board, and asks.
    Replace(Box<ReplaceArgs>),
    /// Make a token: one line to paste on a board, good for one node.
    Token(TokenArgs),
    /// Let a node in: out of the lobby, or back in after its certificate is over.
    Approve {
        /// Its name, or the id that its agent prints.
        #[arg(value_name = "NAME|ID", required_unless_present = "all")]
        who: Option<String>,
        /// Everybody who waits. Not where a board was ever stolen: who was revoked is not known any more after `pith fleet recover`.
        #[arg(long, conflicts_with = "who")]
        all: bool,
    },
    /// Refuse a node's identity for ever, and cut its connection.
    Revoke {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        who: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum BrokerVerb {
    /// Write mosquitto.conf, rules, certificates and the list of revoked ones.
    Mosquitto {
        /// Where; what is there by these names is overwritten.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Where Mosquitto is to listen.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:8883")]
        listen: std::net::SocketAddr,
    },
}

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// How long it may be used, at most 24h.
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub(super) ttl: Millis,
    /// Labels of the node, beside those it gives itself; may stand several times.
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',')]
    pub(super) labels: Vec<String>,
    /// Let the node in without `pith node approve`.
    #[arg(long)]
    pub(super) approve: bool,
    /// Where the board reaches this coordinator, instead of this machine's own addresses; may stand several times.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) address: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum OperatorVerb {
    /// Invite somebody: one word to pass on, good for one login.
    ///
    /// viewer looks; deployer also changes what runs; operator also lets nodes in and out, and reads the audit log; security
    /// also changes the trust root and invites others.
    Invite {
        /// What they are called: a person, or a machine such as ci.
        name: OperatorName,
        /// viewer, deployer, operator or security.
        #[arg(long)]
        role: Role,
        /// How long it may be used, at most 7 days.
        #[arg(long, default_value = "1h", value_name = "TIME")]
        ttl: Millis,
        /// Where they reach this coordinator, instead of this machine's own addresses; may stand several times.
        #[arg(long, value_name = "HOST:PORT")]
        address: Vec<String>,
    },
    /// List everybody who was invited.
    Ls,
    /// Refuse somebody from their next request on.
    Revoke {
        /// Who.
        name: OperatorName,
    },
}

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// What `pith operator invite` printed; `-` reads it from stdin.
    pub(super) token: String,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Of the last 90s, 5m, 24h; without it, all that one answer holds.
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<Millis>,
    /// Check the whole log instead: exit 1 names the first entry that is not what was written.
    #[arg(long, conflicts_with = "since")]
    pub(super) verify: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Of this service, or of one instance by its name (`pith ps`).
    #[arg(value_name = "SERVICE|INSTANCE")]
    pub(super) of: String,
    /// On this node alone.
    #[arg(long, value_name = "NODE")]
    pub(super) node: Option<NodeName>,
    /// The last so many lines of each instance.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(super) lines: u32,
    /// Not older than this, such as 5m.
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<Millis>,
    /// Go on as they are written.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Of instances that were replaced or have ended, instead of those that run.
    #[arg(long)]
    pub(super) previous: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestartArgs {
    /// Which service.
    pub(super) service: ServiceName,
    /// On this node.
    #[arg(long, value_name = "NODE")]
    pub(super) node: NodeName,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// How many root keys must sign each trust root.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) root_threshold: u32,
    /// A root key, by its secret or its public file (`pith keys new` makes both); may stand several times. Without it
    /// one is made here.
    #[arg(long, value_name = "FILE")]
    pub(super) root_key: Vec<PathBuf>,
    /// Encrypt the keys that are made here: PITH_PASSPHRASE, else asked for.
    #[arg(long)]
    pub(super) passphrase: bool,
}

/// `pith push`
#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// An image of the local Docker.
    #[arg(value_name = "IMAGE", required_unless_present_any = ["ls", "rm"])]
    pub(super) image: Option<String>,
    /// List what was pushed.
    #[arg(long, conflicts_with = "image")]
    pub(super) ls: bool,
    /// Remove what was pushed, unless a release that stands needs it.
    #[arg(long, value_name = "SHA256", conflicts_with_all = ["image", "ls"])]
    pub(super) rm: Option<String>,
}
