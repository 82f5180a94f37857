//! Two files written in turn, so that one of them is always whole.
//!
//! A slot is `magic, sequence, length, sha256, payload`. Writing takes the older slot: write, fsync the file, fsync the
//! folder. Reading takes the readable slot with the higher sequence. A failed fsync is never tried again on the same
//! handle (the kernel may have dropped the pages): the error is given up, and the next write opens the file anew.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"PITHLDG1";
const HEAD_BYTES: usize = 8 + 8 + 4 + 32;
/// A ledger larger than this is not one of ours.
const MAX_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// The two files.
#[derive(Debug)]
pub(super) struct Slots {
    dir: PathBuf,
    /// The sequence of the newest slot, and which of the two it is.
    newest: Option<(u64, usize)>,
}

/// What a slot file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// No file.
    Missing,
    /// A file that is not whole.
    Damaged(String),
    /// A whole one.
    Whole {
        /// Its place in the order.
        sequence: u64,
        /// What was written.
        payload: Vec<u8>,
    },
}

impl Slots {
    /// Opens the folder's slots; the payload of the newest whole one, and what was wrong with the others.
    pub(super) fn open(dir: &Path) -> std::io::Result<(Self, Option<Vec<u8>>, Vec<String>)> {
        let mut best: Option<(u64, usize, Vec<u8>)> = None;
        let mut damage = Vec::new();
        for index in 0..2 {
            match read(&path(dir, index))? {
                Content::Missing => {}
                Content::Damaged(why) => {
                    damage.push(format!("{}: {why}", path(dir, index).display()))
                }
                Content::Whole { sequence, payload } => {
                    if best.as_ref().is_none_or(|(newest, ..)| sequence > *newest) {
                        best = Some((sequence, index, payload));
                    }
                }
            }
        }
        let newest = best.as_ref().map(|(sequence, index, _)| (*sequence, *index));
        Ok((Self { dir: dir.to_owned(), newest }, best.map(|(.., payload)| payload), damage))
    }

    /// Stands in while the real ones are in another thread's hands.
    pub(super) fn none(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), newest: None }
    }

    /// Writes `payload` durably into the older slot.
    pub(super) fn write(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let (sequence, index) =
            self.newest.map_or((1, 0), |(sequence, index)| (sequence + 1, 1 - index));
        let path = path(&self.dir, index);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&encode(sequence, payload))?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        self.newest = Some((sequence, index));
        Ok(())
    }
}

fn path(dir: &Path, index: usize) -> PathBuf {
    dir.join(if index == 0 { "ledger.a" } else { "ledger.b" })
}

fn checksum(sequence: u64, payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(sequence.to_le_bytes());
    hash.update(payload);
    hash.finalize().into()
}

fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a ledger is far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(sequence, payload));
    bytes.extend_from_slice(payload);
    bytes
}

fn read(path: &Path) -> std::io::Result<Content> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Content::Missing),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(HEAD_BYTES + MAX_PAYLOAD_BYTES + 1).unwrap_or(u64::MAX);
    if let Err(error) = file.take(limit).read_to_end(&mut bytes) {
        return Ok(Content::Damaged(error.to_string()));
    }
    Ok(decode(&bytes))
}

fn decode(bytes: &[u8]) -> Content {
    let damaged = |why: &str| Content::Damaged(why.to_owned());
    let Some((head, payload)) = bytes.split_at_checked(HEAD_BYTES) else {
        return damaged("too short");
    };
    let Some(rest) = head.strip_prefix(MAGIC) else { return damaged("not a ledger") };
    let (Ok(sequence), Ok(length)) = (rest[..8].try_into(), rest[8..12].try_into()) else {
        return damaged("too short");
    };
    let (sequence, length) = (u64::from_le_bytes(sequence), u32::from_le_bytes(length) as usize);
    if payload.len() != length {
        return damaged("cut off");
    }
    if checksum(sequence, payload) != rest[12..] {
        return damaged("checksum differs");
    }
    Content::Whole { sequence, payload: payload.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(dir: &Path) -> Option<Vec<u8>> {
        Slots::open(dir).unwrap().1
    }

    #[test]
    fn what_was_written_last_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest(dir.path()), None);
        let (mut slots, ..) = Slots::open(dir.path()).unwrap();
        for text in ["one", "two", "three"] {
            slots.write(text.as_bytes()).unwrap();
            assert_eq!(newest(dir.path()), Some(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, ..) = Slots::open(dir.path()).unwrap();
        slots.write(b"first").unwrap();
        slots.write(b"second").unwrap();
        let whole = std::fs::read(path(dir.path(), 1)).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(path(dir.path(), 1), &whole[..cut]).unwrap();
            assert_eq!(newest(dir.path()), Some(b"first".to_vec()), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, ..) = Slots::open(dir.path()).unwrap();
        slots.write(b"first").unwrap();
        slots.write(b"second").unwrap();
        let whole = std::fs::read(path(dir.path(), 1)).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(path(dir.path(), 1), bytes).unwrap();
            assert_eq!(newest(dir.path()), Some(b"first".to_vec()), "bit {bit}");
        }
    }

    #[test]
    fn with_both_slots_damaged_there_is_nothing_and_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path(), 0), b"garbage").unwrap();
        std::fs::write(path(dir.path(), 1), b"").unwrap();
        let (mut slots, payload, damage) = Slots::open(dir.path()).unwrap();
        assert_eq!((payload, damage.len()), (None, 2));
        slots.write(b"anew").unwrap();
        assert_eq!(newest(dir.path()), Some(b"anew".to_vec()));
    }
}
