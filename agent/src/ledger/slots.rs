//! Two files written in turn, so that one of them is always whole.
//!
//! A slot is `magic, sequence, length, sha256, payload`. Writing takes the older slot: write, fsync the file, and the
//! first time also the folder, where its name stands. Reading takes the readable slot with the higher sequence. A failed
//! fsync is never tried again on the same handle (the kernel may have dropped the pages): the error is given up, and the
//! next write opens the file anew.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"PITHLDG1";
const NAMES: [&str; 2] = ["ledger.a", "ledger.b"];
const HEAD_BYTES: usize = 8 + 8 + 4 + 32;
/// A ledger larger than this is not one of ours.
const MAX_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// The two files.
#[derive(Debug)]
pub(super) struct Slots {
    dir: PathBuf,
    /// The sequence of the newest slot, and which of the two it is.
    newest: Option<(u64, usize)>,
    /// The files whose names this process has flushed with the folder; writing anew into a file leaves its name alone.
    named: [bool; 2],
}

/// A slot that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    /// Its place in the order.
    pub(super) sequence: u64,
    /// Which of the two it is.
    pub(super) index: usize,
    /// What was written.
    pub(super) payload: Vec<u8>,
}

impl Slots {
    /// The slots of a folder, with the one that counts: the next write goes into the other.
    pub(super) fn of(dir: &Path, newest: Option<&Whole>) -> Self {
        let newest = newest.map(|whole| (whole.sequence, whole.index));
        Self { dir: dir.to_owned(), newest, named: [false; 2] }
    }

    /// Stands in while the real ones are in another thread's hands.
    pub(super) fn none(dir: &Path) -> Self {
        Self::of(dir, None)
    }

    /// Writes `payload` durably into the older slot.
    pub(super) fn write(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let (sequence, index) =
            self.newest.map_or((1, 0), |(sequence, index)| (sequence.saturating_add(1), 1 - index));
        let path = path(&self.dir, index);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&encode(sequence, payload))?;
        file.sync_all()?;
        if !self.named[index] {
            File::open(&self.dir)?.sync_all()?;
            self.named[index] = true;
        }
        self.newest = Some((sequence, index));
        Ok(())
    }
}

fn path(dir: &Path, index: usize) -> PathBuf {
    dir.join(NAMES[index])
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

/// What the two files hold, whatever it is; none: there is no such file.
pub(super) fn read(dir: &Path) -> std::io::Result<[Option<Vec<u8>>; 2]> {
    Ok([read_one(&path(dir, 0))?, read_one(&path(dir, 1))?])
}

fn read_one(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(HEAD_BYTES + MAX_PAYLOAD_BYTES + 1).unwrap_or(u64::MAX);
    if let Err(error) = file.take(limit).read_to_end(&mut bytes) {
        // A card that gives up half-way: what came is cut off, and is found to be.
        tracing::warn!(path = %path.display(), %error, "a slot of the ledger cannot be read");
    }
    Ok(Some(bytes))
}

/// The whole ones, newest first, and what is wrong with the others.
pub(super) fn whole(files: [Option<&[u8]>; 2]) -> (Vec<Whole>, Vec<String>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    for (index, bytes) in files.into_iter().enumerate() {
        match bytes.map(decode) {
            None => {}
            Some(Err(why)) => damage.push(format!("{}: {why}", NAMES[index])),
            Some(Ok((sequence, payload))) => {
                found.push(Whole { sequence, index, payload: payload.to_owned() });
            }
        }
    }
    found.sort_by_key(|whole| std::cmp::Reverse(whole.sequence));
    (found, damage)
}

fn decode(bytes: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let (head, payload) = bytes.split_at_checked(HEAD_BYTES).ok_or("too short")?;
    let rest = head.strip_prefix(MAGIC).ok_or("not a ledger")?;
    let (Ok(sequence), Ok(length)) = (rest[..8].try_into(), rest[8..12].try_into()) else {
        return Err("too short");
    };
    let (sequence, length) = (u64::from_le_bytes(sequence), u32::from_le_bytes(length) as usize);
    if payload.len() != length {
        return Err("cut off");
    }
    if checksum(sequence, payload) != rest[12..] {
        return Err("checksum differs");
    }
    Ok((sequence, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> (Slots, Option<Vec<u8>>, Vec<String>) {
        let files = read(dir).unwrap();
        let (mut whole, damage) = whole([files[0].as_deref(), files[1].as_deref()]);
        let slots = Slots::of(dir, whole.first());
        let newest = (!whole.is_empty()).then(|| whole.remove(0).payload);
        (slots, newest, damage)
    }

    fn newest(dir: &Path) -> Option<Vec<u8>> {
        open(dir).1
    }

    #[test]
    fn what_was_written_last_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest(dir.path()), None);
        let (mut slots, ..) = open(dir.path());
        for text in ["one", "two", "three"] {
            slots.write(text.as_bytes()).unwrap();
            assert_eq!(newest(dir.path()), Some(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, ..) = open(dir.path());
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
        let (mut slots, ..) = open(dir.path());
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
        let (mut slots, payload, damage) = open(dir.path());
        assert_eq!((payload, damage.len()), (None, 2));
        slots.write(b"anew").unwrap();
        assert_eq!(newest(dir.path()), Some(b"anew".to_vec()));
    }
}
