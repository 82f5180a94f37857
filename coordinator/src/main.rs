//! The binary `pith`: server and command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::cli::main()
}
