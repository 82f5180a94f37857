//! What can be written of a coordinator that runs, of a service as it runs, and of what happens.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::id::{NodeName, ServiceName};
use protocol::units::Millis;

use crate::cli::WaitArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct ServeArgs {
    /// coordinator.toml
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DevArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(in crate::cli) nodes: u8,
    /// One more node, or settings of the next one: name=…,env=…,label=key=value.
    #[arg(long = "node", value_name = "SETTINGS")]
    pub(in crate::cli) node: Vec<String>,
    /// Leave containers and networks running at the end.
    #[arg(long)]
    pub(in crate::cli) keep: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScaleArgs {
    /// Which service.
    pub(in crate::cli) service: ServiceName,
    /// Instances: over the fleet, or per node where its file says per_node.
    #[arg(required_unless_present = "reset", conflicts_with = "reset")]
    pub(in crate::cli) count: Option<u32>,
    /// Back to what its file says.
    #[arg(long)]
    pub(in crate::cli) reset: bool,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Which services.
    #[arg(value_name = "SERVICE", required_unless_present = "file")]
    pub(in crate::cli) services: Vec<ServiceName>,
    /// Those of a service file or a folder of them; may stand several times.
    #[arg(short, long, value_name = "PATH")]
    pub(in crate::cli) file: Vec<PathBuf>,
    /// Do not ask.
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EventsArgs {
    /// Of this service only.
    pub(in crate::cli) service: Option<ServiceName>,
    /// On this node only.
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) node: Option<NodeName>,
    /// Of the last 90s, 5m, 24h only.
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<Millis>,
    /// The last N only.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(in crate::cli) last: Option<u16>,
    /// Go on as they happen.
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NotifyVerb {
    /// List the targets, and what became of their messages.
    Ls,
    /// Send each a message that says that nothing happened.
    Test,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DebugVerb {
    /// Gather what the coordinator and its nodes say of themselves in one tar file.
    ///
    /// The fleet, its nodes, services, rollouts and events, the audit log where you may read it, and what doctor finds on
    /// every node that answers. No keys, no secrets, no service files and no logs of applications; names, addresses, what
    /// applications answered to failing probes, and crontab lines that doctor quotes are in it.
    Bundle {
        /// Where to write it; never over a file that is there. Without it, pith-debug-DATE.tar here.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
