//! `make demo`: the main job on this machine's Docker, with a table at the end. Exits 1 if one request failed or a version is
//! not what it should be.

use std::process::ExitCode;

use tests::demo::main_job;
use tests::fleet::Fleet;

const PORT: u16 = 8080;

fn main() -> ExitCode {
    let fleet = Fleet::start(u32::from(main_job::NODES));
    if main_job::show(fleet, PORT) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
