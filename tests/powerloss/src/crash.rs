//! The disk as it may be after a cut of the power, and what is read from it then.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Acknowledged;
use super::disk::{BYTES, said};
use super::log::{Entry, SECTOR};
use super::random::Random;

const SEED: u64 = 0x7069_7468;
/// Of a span between two flushes, with random parts of its writes.
const TORN_STATES: usize = 2;

/// What all states came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verdict {
    /// That the kernel mounted.
    pub(super) states: usize,
    /// Which it did not: they count as nothing, and the whole fails where states lack.
    pub(super) unmounted: usize,
    /// Nothing could be read although something had been acknowledged.
    pub(super) unreadable: usize,
    /// An older generation than the last that had been acknowledged.
    pub(super) lost: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, unmounted, unreadable, lost } = self;
        write!(
            f,
            "{states} crash states, {unreadable} unreadable, {lost} lost an acknowledged generation ({unmounted} not mountable)"
        )
    }
}

/// Looks at the state at each flush, and at torn ones before the next, until there were `wanted`.
pub(super) fn look_at_all(
    folder: &Path,
    entries: &[Entry],
    acknowledged: &[Acknowledged],
    wanted: usize,
    read: fn(&Path) -> Option<u64>,
) -> Verdict {
    let mut lab = Lab { folder, read, verdict: Verdict::default(), acknowledged };
    let mut random = Random(SEED);
    // For good on the disk.
    let mut durable = vec![0; usize::try_from(BYTES).expect("a few megabytes")];
    let begins = acknowledged.first().map_or(0, |first| first.entries);
    let mut at = 0;
    while at < entries.len() && lab.verdict.states < wanted {
        let span = entries[at..]
            .iter()
            .position(|entry| entry.is_flush)
            .map_or(entries.len(), |n| at + n + 1);
        // A file system that is being made is not what is looked at.
        if span > begins {
            for _ in 0..TORN_STATES {
                let mut torn = durable.clone();
                let until = at + usize::try_from(random.next()).unwrap_or(usize::MAX) % (span - at);
                tear(&mut torn, &entries[at..until], &mut random);
                lab.look(&torn, until);
            }
        }
        for entry in &entries[at..span] {
            apply(&mut durable, entry.at, &entry.bytes);
        }
        at = span;
        if span >= begins {
            lab.look(&durable, span);
        }
    }
    lab.verdict
}

/// Of each write all sectors, some or none are there; a durable one is whole.
fn tear(disk: &mut [u8], entries: &[Entry], random: &mut Random) {
    for entry in entries {
        if entry.is_durable || random.is_heads() {
            apply(disk, entry.at, &entry.bytes);
        } else if random.is_heads() {
            for (k, sector) in entry.bytes.chunks(SECTOR).enumerate() {
                if random.is_heads() {
                    apply(disk, entry.at + (k * SECTOR) as u64, sector);
                }
            }
        }
    }
}

fn apply(disk: &mut [u8], at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).expect("a few megabytes");
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

struct Lab<'a> {
    folder: &'a Path,
    read: fn(&Path) -> Option<u64>,
    verdict: Verdict,
    acknowledged: &'a [Acknowledged],
}

impl Lab<'_> {
    /// Mounts a state after so many entries, as a board does when it boots, and reads.
    fn look(&mut self, disk: &[u8], entries: usize) {
        // A file of its own for each: a loop device that is still being let go of may hold what another one said.
        let image =
            self.folder.join(format!("crash-{}.img", self.verdict.states + self.verdict.unmounted));
        let folder = self.folder.join("crash");
        let _ = fs::create_dir(&folder);
        fs::write(&image, disk).expect("it is written");
        let mounted = folder.display().to_string();
        let mount = Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &folder])
            .stderr(Stdio::null())
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            self.verdict.unmounted += 1;
            let _ = fs::remove_file(&image);
            return;
        }
        let found = (self.read)(&folder);
        let _ = said("umount", &[&mounted]);
        let _ = fs::remove_file(&image);
        let before = self.acknowledged.partition_point(|a| a.entries <= entries);
        let due = before.checked_sub(1).map_or(0, |k| self.acknowledged[k].generation);
        self.verdict.states += 1;
        match found {
            None if due > 0 => self.verdict.unreadable += 1,
            Some(generation) if generation < due => {
                self.verdict.lost += 1;
                eprintln!("powerloss: after {entries} entries: {generation} of {due}");
            }
            None | Some(_) => {}
        }
        if self.verdict.states.is_multiple_of(1000) {
            eprintln!("powerloss: {}", self.verdict);
        }
    }
}
