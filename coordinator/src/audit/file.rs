//! The log as a file: only ever longer, each write on disk before anybody hears of it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::id::{FleetId, sha256_hex};

use super::chain::{self, Broken, Draft, Entry, Event, Head, Verified};

/// Entries in one write.
pub(super) const MAX_AT_ONCE: usize = 64;
/// Longer lines are not ours.
const MAX_LINE_BYTES: u64 = 16 * 1024;

/// The open log.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// What is known to be whole; a write that failed is taken back to here.
    length: u64,
    head: Head,
}

impl Log {
    /// Opens or begins it; an end that was cut off in the middle of a write is taken away, and an entry says so.
    ///
    /// # Errors
    /// In words, where it cannot be read, or its last entry is damaged.
    pub(super) fn open(path: &Path, fleet: &FleetId) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.read(true).append(true).create(true).mode(0o600).open(path).map_err(text)?;
        if let Some(folder) = path.parent() {
            // The name of a file that was just made.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(text)?;
        }
        let size = file.metadata().map_err(text)?.len();
        let tail = tail(&mut file, size).map_err(text)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = &tail[whole..];
        let length = size - torn.len() as u64;
        let head = match last_line(&tail[..whole]) {
            None if length == 0 => Head::of_nothing(fleet),
            None => return Err(damaged("it has a line that is too long")),
            Some(line) => {
                let (entry, sha256) = chain::read(line).map_err(|reason| damaged(&reason))?;
                Head { n: entry.n, sha256 }
            }
        };
        let mut log = Self { file, length, head };
        if !torn.is_empty() {
            let mended = mended(torn);
            log.append(vec![mended]).map_err(text)?;
        }
        Ok(log)
    }

    pub(super) fn written(&self) -> Written {
        Written { length: self.length, head: self.head.clone() }
    }

    /// Writes entries; their heads, once all of them are on disk.
    ///
    /// # Errors
    /// Where they are not; then none of them is in the log.
    pub(super) fn append(&mut self, drafts: Vec<Draft>) -> io::Result<Vec<Head>> {
        let (mut bytes, mut heads, mut head) = (Vec::new(), Vec::new(), self.head.clone());
        for draft in drafts {
            let (line, next) = head.next(draft);
            bytes.extend(line.into_bytes());
            bytes.push(b'\n');
            heads.push(next.clone());
            head = next;
        }
        // What a write before this one has left half done; one that is shorter is `verify`'s to name.
        if self.file.metadata()?.len() > self.length {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.head = head;
        Ok(heads)
    }
}

/// What a coordinator knows to have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub length: u64,
    /// The newest entry.
    pub head: Head,
}

fn damaged(reason: &str) -> String {
    format!(
        "its last entry is damaged: {reason}; `pith audit --verify` names the first such. Keep the file elsewhere and start \
         again: a new log begins"
    )
}

fn mended(torn: &[u8]) -> Draft {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Draft {
        at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        event: Event::Mended,
        of: None,
        who: "coordinator".to_owned(),
        role: None,
        verb: "mend".to_owned(),
        target: format!("{} bytes at the end", torn.len()),
        request: Some(sha256_hex(torn)),
        key: None,
        status: None,
        code: None,
    }
}

/// Enough of the end to hold the last whole line and a torn one.
fn tail(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let from = size.saturating_sub(2 * MAX_LINE_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(2 * MAX_LINE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn last_line(whole: &[u8]) -> Option<&[u8]> {
    let line = whole.strip_suffix(b"\n")?;
    Some(line.rsplit(|byte| *byte == b'\n').next().unwrap_or(line))
}

/// Walks the log: what the coordinator has written of it where one runs, else all of it.
///
/// # Errors
/// Where it cannot be read; one that is not there has no entries.
pub fn verify(path: &Path, fleet: &FleetId, written: Option<&Written>) -> io::Result<Verified> {
    let mut head = Head::of_nothing(fleet);
    let mut broken = None;
    for_each_line(path, written.map_or(u64::MAX, |written| written.length), |line| {
        match head.follow(line) {
            Ok(_) => true,
            Err(reason) => {
                broken = Some(Broken { line: head.n + 1, reason });
                false
            }
        }
    })?;
    if let Some(written) = written.filter(|written| written.head != head)
        && broken.is_none()
    {
        let reason = format!("the log ends before it; {} entries were written", written.head.n);
        broken = Some(Broken { line: head.n + 1, reason });
    }
    Ok(Verified { entries: head.n, head: head.sha256, broken })
}

/// The newest entries, ascending, at most `limit`, from a time on; a line that is none is passed over: [`verify`] names it.
///
/// # Errors
/// Where it cannot be read.
pub fn read_newest(path: &Path, since_ms: u64, limit: usize) -> io::Result<Vec<Entry>> {
    let mut entries = VecDeque::new();
    for_each_line(path, u64::MAX, |line| {
        if let Ok((entry, _)) = chain::read(line)
            && entry.at_ms >= since_ms
        {
            entries.push_back(entry);
            if entries.len() > limit {
                entries.pop_front();
            }
        }
        true
    })?;
    Ok(entries.into())
}

/// Until `look` has seen enough; a line beyond the bound is given as far as it was read.
fn for_each_line(path: &Path, length: u64, mut look: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file.take(length)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
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
