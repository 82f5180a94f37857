//! The log as it is written: only ever longer, each write on disk before anybody hears of it. A file that is full gets another name,
//! and the next one goes on with the chain.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::id::{FleetId, sha256_hex};

use super::chain::{self, Draft, Event, Head};
use super::files::{self, Full};

/// Entries in one write.
pub(super) const MAX_AT_ONCE: usize = 64;
/// A file of this size is full.
pub(super) const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Longer lines are not ours.
pub(super) const MAX_LINE_BYTES: u64 = 16 * 1024;

/// The open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    max_bytes: u64,
    /// The number of the first entry of the file.
    first: u64,
    /// What is known to be whole; a write that failed is taken back to here.
    length: u64,
    head: Head,
}

impl Log {
    /// Opens or begins it; an end that was cut off in the middle of a write is taken away, and an entry says so.
    ///
    /// # Errors
    /// In words, where it cannot be read, or its last entry is damaged.
    pub(super) fn open(path: &Path, fleet: &FleetId, max_bytes: u64) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let before = match files::full(path).map_err(text)?.last() {
            Some(full) => {
                let mut file = File::open(&full.path).map_err(text)?;
                let end = End::of(&mut file).map_err(text)?;
                end.head(&full.path)?.ok_or_else(|| damaged(&full.path, "it is empty"))?
            }
            None => Head::of_nothing(fleet),
        };
        let mut file = create(path).map_err(text)?;
        let end = End::of(&mut file).map_err(text)?;
        let (length, first) = (end.length, before.n + 1);
        let head = end.head(path)?.unwrap_or(before);
        let mut log = Self { path: path.to_owned(), file, max_bytes, first, length, head };
        if !end.torn().is_empty() {
            log.append(vec![mended(end.torn())]).map_err(text)?;
        }
        Ok(log)
    }

    pub(super) fn written(&self) -> Written {
        Written { first: self.first, length: self.length, head: self.head.clone() }
    }

    /// Writes entries; their heads, once all of them are on disk.
    ///
    /// # Errors
    /// Where they are not; then none of them is in the log.
    pub(super) fn append(&mut self, drafts: Vec<Draft>) -> io::Result<Vec<Head>> {
        // What a write before this one has left half done; one that is shorter is `verify`'s to name.
        if self.file.metadata()?.len() > self.length {
            self.file.set_len(self.length)?;
        }
        if self.length >= self.max_bytes {
            self.begin_next()?;
        }
        let (mut bytes, mut heads, mut head) = (Vec::new(), Vec::new(), self.head.clone());
        for draft in drafts {
            let (line, next) = head.next(draft);
            bytes.extend(line.into_bytes());
            bytes.push(b'\n');
            heads.push(next.clone());
            head = next;
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.head = head;
        Ok(heads)
    }

    /// Where a stop comes in between, the next start finds no file, and goes on after the full one.
    fn begin_next(&mut self) -> io::Result<()> {
        let full = Full::beside(&self.path, self.first);
        fs::rename(&self.path, &full.path)?;
        let next = create(&self.path).inspect_err(|_| {
            // The next write tries it again.
            let _ = fs::rename(&full.path, &self.path);
        })?;
        (self.file, self.length, self.first) = (next, 0, self.head.n + 1);
        files::forget_oldest(&self.path)
    }
}

/// The end of a file.
struct End {
    /// Enough to hold the last whole line and a torn one.
    bytes: Vec<u8>,
    /// Where the torn one begins in `bytes`.
    torn_at: usize,
    /// Of the file, without the torn line.
    length: u64,
}

impl End {
    fn of(file: &mut File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(2 * MAX_LINE_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(2 * MAX_LINE_BYTES).read_to_end(&mut bytes)?;
        let torn_at = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let length = size - (bytes.len() - torn_at) as u64;
        Ok(Self { bytes, torn_at, length })
    }

    fn torn(&self) -> &[u8] {
        &self.bytes[self.torn_at..]
    }

    /// None: no line is whole.
    ///
    /// # Errors
    /// In words, where the last one is damaged.
    fn head(&self, path: &Path) -> Result<Option<Head>, String> {
        let Some(lines) = self.bytes[..self.torn_at].strip_suffix(b"\n") else {
            return match self.length {
                0 => Ok(None),
                _ => Err(damaged(path, "it has a line that is too long")),
            };
        };
        let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or(lines);
        let (entry, sha256) = chain::read(line).map_err(|reason| damaged(path, &reason))?;
        Ok(Some(Head { n: entry.n, sha256 }))
    }
}

/// Opens or makes it, its name on disk.
fn create(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    files::sync(path)?;
    Ok(file)
}

/// What a coordinator knows to have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The number of the first entry of the newest file.
    pub first: u64,
    /// Bytes of it.
    pub length: u64,
    /// The newest entry.
    pub head: Head,
}

fn damaged(path: &Path, reason: &str) -> String {
    format!(
        "the last entry of {} is damaged: {reason}; `pith audit --verify` names the first such. Keep the file elsewhere and \
         start again: the log goes on without it",
        path.file_name().unwrap_or_default().display()
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
