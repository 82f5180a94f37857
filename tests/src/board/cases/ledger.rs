//! The ledger after a cut at any write that its disk has seen: `powerloss`, a program of its own that needs no board.

use std::process::Command;

use crate::board::lab::Parts;
use crate::board::results::{Results, Row};

pub(super) fn run(_: &Parts, _: &Results) -> Vec<Row> {
    let here = std::env::current_exe().expect("the running program has a path");
    let output =
        Command::new(here.with_file_name("powerloss")).output().expect("powerloss can be run");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict = said.trim_end().trim_start_matches("powerloss: the ledger: ").to_owned();
    vec![Row::held("the ledger", verdict)]
}
