//! What can be written of getting inside an instance.

use std::net::IpAddr;

use clap::Args;
use protocol::id::NodeName;

use crate::cli::port_forward::PortPair;

#[derive(Debug, Args)]
pub(in crate::cli) struct ExecArgs {
    /// In this service's youngest instance, or in one instance by its name (`pith ps`).
    #[arg(value_name = "SERVICE|INSTANCE")]
    pub(in crate::cli) of: String,
    /// On this node; without it, on the first that runs the service.
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) node: Option<NodeName>,
    /// Pass on what comes on standard input.
    #[arg(short = 'i', long)]
    pub(in crate::cli) input: bool,
    /// Run it on a terminal, which is this one.
    #[arg(short = 't', long = "tty")]
    pub(in crate::cli) terminal: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(in crate::cli) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PortForwardArgs {
    /// To this service's youngest instance, or to one instance by its name (`pith ps`).
    #[arg(value_name = "SERVICE|INSTANCE")]
    pub(in crate::cli) of: String,
    /// Ports inside the instance, each with the one here before it where that is another: 8080, 18080:8080, or :8080 for any that is
    /// free.
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub(in crate::cli) ports: Vec<PortPair>,
    /// On this node; without it, on the first that runs the service.
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) node: Option<NodeName>,
    /// Listen on this address of this machine; whoever reaches it reaches the port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(in crate::cli) address: IpAddr,
}
