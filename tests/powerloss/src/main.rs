//! Whether the ledger outlives a cut of the power at any write that its disk has seen.
//!
//! The agent's own ledger is written through a real ext4 whose disk keeps a log of every write and flush (qemu-storage-daemon,
//! `blklogwrites`). Then the disk is built again as it would be after a cut: up to each flush, and between two flushes with a random
//! part of the writes, torn at sectors, because a disk may do those in any order. The kernel mounts each, and the ledger's own reader
//! must find at least the last generation that had been acknowledged by then.
//!
//! ```text
//! powerloss [STATES]      10,000 unless told; root, loop devices and qemu-storage-daemon
//! Ledger -> ext4 -> loop -> FUSE -> blklogwrites -> log -> crash states -> mount -> ledger::look
//! ```
//! A writer that never flushes goes through the same first, and has to lose something: otherwise the harness sees nothing.

mod crash;
mod disk;
mod log;
mod random;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use agent::ledger::{self, Contents, Ledger};
use planner::Now;
use serde_json::{Value, json};

use crash::Verdict;
use disk::Disk;
use log::Log;

const STATES: usize = 10_000;
/// Crash states of the writer that must lose something.
const CONTROL_STATES: usize = 300;
/// Each write of the ledger makes a flush or two, and each flush three states.
const STATES_PER_WRITE: usize = 4;

/// After so many entries of the log, this generation was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    entries: usize,
    generation: u64,
}

fn main() -> ExitCode {
    let wanted = match std::env::args().nth(1).map(|text| text.parse()) {
        None => STATES,
        Some(Ok(states)) => states,
        Some(Err(_)) => {
            eprintln!("usage: powerloss [STATES]");
            return ExitCode::from(2);
        }
    };
    let control = examine(CONTROL_STATES, careless);
    eprintln!("powerloss: a writer that never flushes: {control}");
    if control.lost + control.unreadable == 0 {
        eprintln!("powerloss: it lost nothing, so that this harness would not see a loss");
        return ExitCode::FAILURE;
    }
    let found = examine(wanted, of_the_agent);
    println!("powerloss: the ledger: {found}");
    if found.lost + found.unreadable == 0 && found.states >= wanted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Makes a generation durable in a folder, or thinks that it does.
type Writer = Box<dyn FnMut(u64)>;

/// Writes so often that enough states come of it, and looks at each.
fn examine(states: usize, writer: fn(&Path) -> Writer) -> Verdict {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::make(folder.path());
    let mut log = Log::open(&disk.log());
    let mut acknowledged = Vec::new();
    let mut write = writer(&disk.mounted());
    for generation in 1..=(states / STATES_PER_WRITE + 1) as u64 {
        write(generation);
        acknowledged.push(Acknowledged { entries: log.read_on(), generation });
    }
    drop(write);
    disk.detach();
    log.read_on();
    crash::look_at_all(folder.path(), log.entries(), &acknowledged, states, generation_of)
}

/// What the agent does when a manifest comes.
fn of_the_agent(folder: &Path) -> Writer {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut ledger = Ledger::open(folder, "boot", Now::default()).expect("a ledger");
    Box::new(move |generation| {
        runtime.block_on(ledger.write(&Arc::new(contents(generation)))).expect("it is written");
    })
}

/// The same bytes in a file that nobody flushes.
fn careless(folder: &Path) -> Writer {
    let (new, file) = (folder.join("careless.new"), folder.join("careless"));
    Box::new(move |generation| {
        let bytes = serde_json::to_vec(&contents(generation)).expect("JSON");
        fs::write(&new, bytes).expect("it is written");
        fs::rename(&new, &file).expect("it is renamed");
    })
}

/// The contents that a node has at a generation; their size changes from one to the next, as manifests do.
fn contents(generation: u64) -> Contents {
    let mut value = serde_json::to_value(Contents::default()).expect("JSON");
    value["seen"] = json!({ "version": { "epoch": 1, "generation": generation }, "payload_sha256": "0".repeat(64) });
    let images = (0..generation * 37 % 400).map(|k| {
        json!({ "reference": format!("registry.local:5000/a-service:v{k}"), "pin": { "digest": format!("sha256:{k:064x}") } })
    });
    value["images_pulled"] = Value::Array(images.collect());
    serde_json::from_value(value).expect("contents")
}

/// The generation that a folder's ledger, or the careless file, remembers; none: it cannot be read.
fn generation_of(folder: &Path) -> Option<u64> {
    if let Ok(bytes) = fs::read(folder.join("careless")) {
        let contents: Contents = serde_json::from_slice(&bytes).ok()?;
        return Some(contents.seen()?.version.generation);
    }
    Some(ledger::look(folder).ok()?.seen()?.version.generation)
}
