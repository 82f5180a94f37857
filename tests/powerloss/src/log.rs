//! The log of a disk's writes, in the form of Linux' dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

pub(super) const SECTOR: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where, in bytes.
    pub(super) at: u64,
    /// What; empty for a flush or a discard.
    pub(super) bytes: Vec<u8>,
    /// Everything before it is on the disk for good once it is done.
    pub(super) is_flush: bool,
    /// It is itself.
    pub(super) is_durable: bool,
}

/// What was read of the file so far.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    at: u64,
    entries: Vec<Entry>,
}

impl Log {
    pub(super) fn open(path: &Path) -> Self {
        let file = File::open(path).expect("the log is there");
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0).expect("a log has a head");
        assert_eq!(word(&head, 0), MAGIC, "not a log of writes");
        Self { file, at: SECTOR as u64, entries: Vec::new() }
    }

    /// Reads what came since; how many entries there are now.
    pub(super) fn read_on(&mut self) -> usize {
        let mut head = [0; 32];
        while self.file.read_exact_at(&mut head, self.at).is_ok() {
            let [sector, sectors, flags, _data] = [0, 8, 16, 24].map(|at| word(&head, at));
            if sectors == 0 && flags == 0 {
                break;
            }
            self.at += SECTOR as u64;
            let length = if flags & DISCARD == 0 {
                usize::try_from(sectors).expect("a length") * SECTOR
            } else {
                0
            };
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, self.at).expect("an entry has its bytes");
            self.at += length as u64;
            self.entries.push(Entry {
                at: sector * SECTOR as u64,
                bytes,
                is_flush: flags & FLUSH != 0,
                is_durable: flags & FUA != 0,
            });
        }
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
