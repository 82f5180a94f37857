//! Looking at the log, over all its files: whether it is what was written, the newest entries, what a backup takes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use protocol::id::FleetId;

use super::chain::{self, Broken, Entry, Head, Verified};
use super::file::{MAX_LINE_BYTES, Written};
use super::files::{self, Full};

/// A file to be walked.
struct Part {
    /// How a full one begins, by its name.
    first: Option<u64>,
    file: File,
    /// No byte beyond this was written yet.
    length: u64,
}

/// Walks the log from the oldest file on: what the coordinator has written of it where one runs, else all of it. It may begin with
/// any entry that a full file is named by: those before are not kept for ever.
///
/// # Errors
/// Where it cannot be read; one that is not there has no entries.
pub fn verify(path: &Path, fleet: &FleetId, written: Option<&Written>) -> io::Result<Verified> {
    let mut head = Head::of_nothing(fleet);
    let mut broken = None;
    let mut first = None;
    for part in parts(path, written)? {
        for_each_line(part.file, part.length, |line| {
            if first.is_none() {
                head = part.first.and_then(|n| begin(line, n)).unwrap_or_else(|| head.clone());
                first = Some(head.n + 1);
            }
            match head.follow(line) {
                Ok(_) => true,
                Err(reason) => {
                    broken = Some(Broken { line: head.n + 1, reason });
                    false
                }
            }
        })?;
        if broken.is_some() {
            break;
        }
    }
    if let Some(written) = written.filter(|written| written.head != head)
        && broken.is_none()
    {
        let reason = format!("the log ends before it; {} entries were written", written.head.n);
        broken = Some(Broken { line: head.n + 1, reason });
    }
    let first = first.unwrap_or(1);
    Ok(Verified { first, entries: head.n + 1 - first, head: head.sha256, broken })
}

/// What stood before the first line of a full file that is named by this number.
fn begin(line: &[u8], first: u64) -> Option<Head> {
    let (entry, _) = chain::read(line).ok().filter(|(entry, _)| entry.n == first && first > 1)?;
    Some(Head { n: entry.n - 1, sha256: entry.prev })
}

/// Oldest first. The one that is written is opened before the others are listed: it may become full meanwhile.
fn parts(path: &Path, written: Option<&Written>) -> io::Result<Vec<Part>> {
    let newest = files::open(path)?;
    let (first_of_newest, length) = written.map_or((u64::MAX, u64::MAX), |w| (w.first, w.length));
    let mut parts = Vec::new();
    let mut is_full_now = false;
    for Full { first, path } in files::full(path)? {
        if first > first_of_newest {
            break;
        }
        is_full_now |= first == first_of_newest;
        let length = if first == first_of_newest { length } else { u64::MAX };
        // One that has gone meanwhile was the oldest.
        let Some(file) = files::open(&path)? else { continue };
        parts.push(Part { first: Some(first), file, length });
    }
    let newest = newest.filter(|_| !is_full_now);
    parts.extend(newest.map(|file| Part { first: None, file, length }));
    Ok(parts)
}

/// The newest entries, ascending, at most `limit`, from a time on; a line that is none is passed over: [`verify`] names it.
///
/// # Errors
/// Where it cannot be read.
pub fn read_newest(path: &Path, since_ms: u64, limit: usize) -> io::Result<Vec<Entry>> {
    let newest = files::open(path)?;
    let mut entries = match newest {
        Some(file) => newest_of(file, since_ms, limit, u64::MAX)?,
        None => VecDeque::new(),
    };
    for full in files::full(path)?.iter().rev() {
        let before = entries.front().map_or(u64::MAX, |entry| entry.n);
        let left = limit - entries.len();
        let Some(file) = files::open(&full.path)?.filter(|_| left > 0) else { break };
        let mut older = newest_of(file, since_ms, left, before)?;
        if older.is_empty() {
            break;
        }
        older.append(&mut entries);
        entries = older;
    }
    Ok(entries.into())
}

/// Those with numbers before `before`.
fn newest_of(file: File, since_ms: u64, limit: usize, before: u64) -> io::Result<VecDeque<Entry>> {
    let mut entries = VecDeque::new();
    for_each_line(file, u64::MAX, |line| {
        if let Ok((entry, _)) = chain::read(line)
            && entry.at_ms >= since_ms
            && entry.n < before
        {
            entries.push_back(entry);
            if entries.len() > limit {
                entries.pop_front();
            }
        }
        true
    })?;
    Ok(entries)
}

/// What a backup takes: the file that is written as far as its lines are whole, and the newest full one, by their names.
///
/// # Errors
/// Where they cannot be read; what is not there is not taken.
pub fn for_backup(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut newest = read_whole(path)?;
    newest.truncate(newest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let first = newest.split(|byte| *byte == b'\n').next();
    let first =
        first.and_then(|line| chain::read(line).ok()).map_or(u64::MAX, |(entry, _)| entry.n);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut taken = Vec::new();
    // One that became full while this looked is the one that was read.
    if let Some(full) = files::full(path)?.iter().rev().find(|full| full.first < first) {
        taken.push((name(&full.path), read_whole(&full.path)?));
    }
    taken.push((name(path), newest));
    taken.retain(|(_, bytes)| !bytes.is_empty());
    Ok(taken)
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut file) = files::open(path)? {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Until `look` has seen enough; a line beyond the bound is given as far as it was read.
fn for_each_line(file: File, length: u64, mut look: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = BufReader::new(file.take(length));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        // One without an end was cut off.
        let whole = line.strip_suffix(b"\n").unwrap_or(&line);
        if !look(whole) {
            return Ok(());
        }
    }
}
