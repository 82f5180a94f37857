//! What fuzzing has found and kept in `fuzz/seeds`, fed again to the same readers: an input that once did harm stays harmless,
//! without a nightly toolchain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use readers::READERS;

/// All seeds together, so that a clone stays small.
const MAX_BYTES: usize = 1 << 20;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn every_kept_input_is_read_or_refused_as_it_should_be() {
    let mut size = 0;
    for (name, read) in READERS {
        let seeds = files(&top().join("fuzz/seeds").join(name));
        assert!(seeds.len() > 1, "{name} has no seeds: `make fuzz-keep` keeps them");
        for (path, bytes) in &seeds {
            size += bytes.len();
            let outcome = std::panic::catch_unwind(|| read(bytes));
            assert!(outcome.is_ok(), "{}", path.display());
        }
    }
    assert!(size < MAX_BYTES, "{size} bytes of seeds");
}

#[test]
fn every_reader_takes_the_seeds_of_all_others_and_the_golden_messages() {
    let golden = files(&top().join("protocol/tests/golden"));
    let seeds = READERS.iter().flat_map(|(name, _)| files(&top().join("fuzz/seeds").join(name)));
    let all: Vec<_> = golden.into_iter().chain(seeds).filter(|(_, b)| b.len() < 4096).collect();
    for (name, read) in READERS {
        for (path, bytes) in all.iter().step_by(7) {
            let outcome = std::panic::catch_unwind(|| read(bytes));
            assert!(outcome.is_ok(), "{name}: {}", path.display());
        }
    }
}

#[test]
fn every_target_has_its_reader_and_every_reader_its_target() {
    let stems = files(&top().join("fuzz/fuzz_targets")).into_iter();
    let targets: BTreeSet<_> =
        stems.map(|(path, _)| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let readers: BTreeSet<_> = READERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets, readers);
}
