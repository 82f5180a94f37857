//! What can be written of the page.

use clap::Args;

/// `pith page`
#[derive(Debug, Args)]
pub(in crate::cli) struct PageArgs {
    /// Serve it on this port of 127.0.0.1; without it, on a free one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) port: Option<u16>,
    /// Open no browser; the address is printed in any case.
    #[arg(long)]
    pub(in crate::cli) no_open: bool,
}
