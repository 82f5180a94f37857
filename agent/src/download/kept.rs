//! What has come of a file: on disk beside what the server called it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::id::Digest;

use crate::durable::{self, Readers};

/// Bytes after which what was written goes to the disk: what a power cut may take.
const SYNC_EVERY: u64 = 8 << 20;
/// A longer name of the server's is as good as none.
const MAX_VALIDATOR_BYTES: usize = 512;
const READ_BYTES: usize = 1 << 20;

/// A file of which a part may be here.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    sha256: Digest,
    bytes: u64,
    len: u64,
    synced: u64,
    validator: Option<String>,
}

impl Kept {
    /// What is in `folder`, which is made, of the file with this sha256 and length.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path, sha256: &Digest, bytes: u64) -> io::Result<Self> {
        durable::folder(folder)?;
        let path = super::file_of(folder, sha256);
        let len = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let mut kept =
            Self { path, sha256: sha256.clone(), bytes, len, synced: len, validator: None };
        if len > bytes {
            kept.begin(None)?;
        }
        if kept.len > 0 {
            kept.validator = std::fs::read_to_string(kept.name_file()).ok();
        }
        Ok(kept)
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are here.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the whole.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all are here, whatever they are.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.len == self.bytes
    }

    /// What the server called the file of which these are the first bytes.
    #[must_use]
    pub fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }

    /// Where it is kept what the server called it.
    #[must_use]
    pub fn name_file(&self) -> PathBuf {
        self.path.with_extension("name")
    }

    /// Removes what other downloads have left in the folder; how many files that were.
    ///
    /// # Errors
    /// The system's.
    pub fn clear_others(&self) -> io::Result<usize> {
        let mut cleared = 0;
        for entry in std::fs::read_dir(self.path.parent().unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let is_part = path.extension().is_some_and(|kind| kind == "part" || kind == "name");
            if is_part && path.file_stem() != self.path.file_stem() {
                durable::remove(&path)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// Throws away what is here; what comes is what the server calls `validator`.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&mut self, validator: Option<String>) -> io::Result<()> {
        self.remove()?;
        let validator = validator.filter(|text| text.len() <= MAX_VALIDATOR_BYTES);
        if let Some(text) = &validator {
            durable::write(&self.name_file(), text.as_bytes(), Readers::Owner)?;
        }
        self.validator = validator;
        Ok(())
    }

    /// Adds to the end.
    ///
    /// # Errors
    /// The system's; part of it may be there then.
    pub async fn append(&mut self, data: Vec<u8>) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let (path, at, len) = (self.path.clone(), self.len, data.len() as u64);
        let is_due = at + len >= self.synced + SYNC_EVERY || at + len == self.bytes;
        // A card may take its time to write.
        let writing = tokio::task::spawn_blocking(move || write_at(&path, at, &data, is_due));
        let written = writing.await.map_err(io::Error::other)?;
        if written.is_err() {
            self.len = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len().min(at));
        }
        written?;
        self.len += len;
        if is_due {
            self.synced = self.len;
        }
        Ok(())
    }

    /// Whether what is here has the sha256; what has not is thrown away.
    ///
    /// # Errors
    /// The system's.
    pub async fn check(&mut self) -> io::Result<bool> {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || sha256_of(&mut File::open(path)?));
        let found = reading.await.map_err(io::Error::other)??;
        let is_right = self.is_whole() && found == self.sha256;
        if !is_right {
            self.begin(None)?;
        }
        Ok(is_right)
    }

    /// Removes it all.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&mut self) -> io::Result<()> {
        durable::remove(&self.name_file())?;
        durable::remove(&self.path)?;
        (self.len, self.synced, self.validator) = (0, 0, None);
        Ok(())
    }
}

/// What stands behind `at` is of a write that was cut off.
fn write_at(path: &Path, at: u64, data: &[u8], is_synced: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > at {
        file.set_len(at)?;
    }
    file.write_all(data)?;
    if is_synced { file.sync_data() } else { Ok(()) }
}

/// Of what stands from here to the end of a file.
///
/// # Errors
/// The system's.
pub fn sha256_of(file: &mut File) -> io::Result<Digest> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => {
                let sha256 = context.finish();
                let sha256 = sha256.as_ref().try_into().map_err(io::Error::other)?;
                return Ok(Digest::of_sha256(sha256));
            }
            count => context.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_life_finds_what_came_and_what_the_server_called_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("archives");
        let open = || Kept::open(&dir, &Digest::of(b"hello"), 5).unwrap();
        let mut kept = open();
        kept.begin(Some("\"v1\"".to_owned())).unwrap();
        kept.append(b"he".to_vec()).await.unwrap();
        drop(kept);
        let mut kept = open();
        assert_eq!((kept.len(), kept.validator()), (2, Some("\"v1\"")));
        kept.append(b"llo".to_vec()).await.unwrap();
        assert!(kept.is_whole() && kept.check().await.unwrap());
        kept.remove().unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_has_another_sha256_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(folder.path(), &Digest::of(b"hello"), 5).unwrap();
        kept.append(b"hallo".to_vec()).await.unwrap();
        assert!(!kept.check().await.unwrap());
        assert!(kept.is_empty() && !kept.path().exists());
    }

    #[test]
    fn what_other_downloads_have_left_can_be_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let own = Kept::open(folder.path(), &Digest::of(b"hello"), 5).unwrap();
        std::fs::write(own.name_file(), b"x").unwrap();
        for name in ["a.part", "a.name", "slot"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        assert_eq!(own.clear_others().unwrap(), 2);
        assert!(own.name_file().exists() && folder.path().join("slot").exists());
    }

    #[test]
    fn a_file_that_is_too_long_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Digest::of(b"hello");
        std::fs::write(super::super::file_of(folder.path(), &wanted), b"hello, world").unwrap();
        assert_eq!(Kept::open(folder.path(), &wanted, 5).unwrap().len(), 0);
    }
}
