//! Images without a registry: archives that `pith push` sent, kept by their sha256 in the fleet's folder and given to nodes.
//!
//! ```text
//! bytes --hash, count, room--> incoming-N.tmp --read, fsync--> SHA256.tar + SHA256.json (what is in it; written last)
//! ```
//! Not part of backups: a release names an archive by its sha256, so that it may be pushed again, or come from anywhere.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use nix::sys::statvfs::statvfs;
use protocol::archive::{Archive, MAX_ARCHIVE_BYTES};
use protocol::id::Digest;
use serde::{Deserialize, Serialize};

use crate::archive_file::{self, ArchiveError};

const FOLDER: &str = "archives";
/// Free bytes below which nothing more is taken: the fleet's state lies on the same disk.
const FLOOR_BYTES: u64 = 512 << 20;
/// The disk is looked at after so many bytes.
const LOOK_EVERY: u64 = 16 << 20;
/// Without a byte for this long whoever sends has gone.
const SILENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// An archive as `pith push --ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveShown {
    /// The image as it was called where it was pushed.
    pub image: String,
    /// What a release pins.
    #[serde(flatten)]
    pub archive: Archive,
    /// `arm64`; empty where the image does not say.
    pub architecture: String,
    /// Unix milliseconds.
    pub pushed_ms: u64,
}

/// Why an archive is not taken or given.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// Too little disk.
    #[error(
        "the coordinator's disk has {free} MiB free, and {floor} MiB stay free for the fleet's state: nothing was kept; \
         `pith push --ls` shows what `pith push --rm` could remove"
    )]
    NoRoom {
        /// Now.
        free: u64,
        /// What stays.
        floor: u64,
    },
    /// Too large.
    #[error("an archive has at most {} MiB", MAX_ARCHIVE_BYTES / MIB)]
    TooLarge,
    /// It ended or rested.
    #[error("the upload broke off: {0}; nothing was kept")]
    Broken(String),
    /// Not an image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// None of that name.
    #[error("no archive {0} is here; `pith push --ls` lists them")]
    Missing(String),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The archives of a fleet.
#[derive(Debug)]
pub struct Archives {
    folder: PathBuf,
    floor: u64,
    incoming: AtomicU64,
}

impl Archives {
    /// Those in the fleet's folder; what uploads of an earlier life have left is removed.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        let folder = data.join(FOLDER);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "tmp") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Self { folder, floor: FLOOR_BYTES, incoming: AtomicU64::new(0) }
    }

    /// Takes one from `stream` to its end.
    ///
    /// # Errors
    /// See [`ShelfError`]; nothing of it stays then.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        stream: impl Stream<Item = Result<Bytes, E>>,
        image: String,
        now_ms: u64,
    ) -> Result<ArchiveShown, ShelfError> {
        self.check_room()?;
        self.make_folder()?;
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let partial = Partial(self.folder.join(format!("incoming-{number}.tmp")));
        let (sha256, bytes) = self.write(&partial.0, stream).await?;
        let path = partial.0.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let file = File::open(&path)?;
            file.sync_all()?;
            archive_file::read(BufReader::new(file))
        });
        let inside = reading.await.map_err(|error| ShelfError::Broken(error.to_string()))??;
        let archive =
            Archive { sha256, bytes, image_id: inside.image_id, manifest: inside.manifest };
        let shown =
            ArchiveShown { image, archive, architecture: inside.architecture, pushed_ms: now_ms };
        self.keep(&partial.0, &shown)?;
        Ok(shown)
    }

    async fn write<E: std::fmt::Display>(
        &self,
        path: &Path,
        stream: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(Digest, u64), ShelfError> {
        let failed = |source| io_error(path, source);
        let mut file = File::create_new(path).map_err(failed)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let (mut bytes, mut looked) = (0_u64, 0_u64);
        let mut stream = std::pin::pin!(stream);
        loop {
            let Some(piece) = next_piece(&mut stream).await.map_err(ShelfError::Broken)? else {
                break;
            };
            bytes += piece.len() as u64;
            if bytes > MAX_ARCHIVE_BYTES {
                return Err(ShelfError::TooLarge);
            }
            if bytes >= looked + LOOK_EVERY {
                looked = bytes;
                self.check_room()?;
            }
            context.update(&piece);
            // A disk may take its time to write.
            let writing =
                tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file));
            let written = writing.await.map_err(|error| ShelfError::Broken(error.to_string()))?;
            file = written.map_err(failed)?;
        }
        let sha256 = context.finish();
        let sha256 = sha256.as_ref().try_into().expect("a sha256 has 32 bytes");
        Ok((Digest::of_sha256(sha256), bytes))
    }

    /// What is in it is written last: an archive without that is not there.
    fn keep(&self, from: &Path, shown: &ArchiveShown) -> Result<(), ShelfError> {
        let path = self.file(&shown.archive.sha256);
        fs::rename(from, &path).map_err(|source| io_error(&path, source))?;
        let about = path.with_extension("json");
        let beside = path.with_extension("tmp");
        let text = serde_json::to_vec(shown).expect("plain data serialises");
        let written = File::create(&beside)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&beside, &about))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        written.map_err(|source| io_error(&about, source))
    }

    /// All of them, the newest first.
    #[must_use]
    pub fn all(&self) -> Vec<ArchiveShown> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let abouts = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "json"));
        let mut all: Vec<ArchiveShown> = abouts
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
            .collect();
        all.sort_by_key(|shown| std::cmp::Reverse(shown.pushed_ms));
        all
    }

    /// The bytes of one, and how many.
    ///
    /// # Errors
    /// Where it is not here.
    pub fn open(&self, sha256: &Digest) -> Result<(File, u64), ShelfError> {
        let path = self.file(sha256);
        let missing = || ShelfError::Missing(sha256.hex().to_owned());
        if !path.with_extension("json").exists() {
            return Err(missing());
        }
        let file = File::open(&path).map_err(|_| missing())?;
        let bytes = file.metadata().map_err(|source| io_error(&path, source))?.len();
        Ok((file, bytes))
    }

    /// Removes one.
    ///
    /// # Errors
    /// Where it is not here.
    pub fn remove(&self, sha256: &Digest) -> Result<ArchiveShown, ShelfError> {
        let shown = self.all().into_iter().find(|shown| shown.archive.sha256 == *sha256);
        let shown = shown.ok_or_else(|| ShelfError::Missing(sha256.hex().to_owned()))?;
        let path = self.file(sha256);
        for path in [path.with_extension("json"), path] {
            fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
        }
        Ok(shown)
    }

    fn file(&self, sha256: &Digest) -> PathBuf {
        self.folder.join(format!("{}.tar", sha256.hex()))
    }

    fn make_folder(&self) -> Result<(), ShelfError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|source| io_error(&self.folder, source))
    }

    /// A disk that cannot be looked at is not refused.
    fn check_room(&self) -> Result<(), ShelfError> {
        let above = self.folder.parent().unwrap_or(Path::new("."));
        let Ok(disk) = statvfs(above) else { return Ok(()) };
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        match free < self.floor {
            true => Err(ShelfError::NoRoom { free: free / MIB, floor: self.floor / MIB }),
            false => Ok(()),
        }
    }
}

/// What comes next of an upload; none: its end. Silence ends it, and not a time for the whole: links may be slow.
///
/// # Errors
/// How it broke off.
pub(crate) async fn next_piece<E: std::fmt::Display>(
    stream: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
) -> Result<Option<Bytes>, String> {
    match tokio::time::timeout(SILENCE, stream.next()).await {
        Ok(next) => next.transpose().map_err(|error| error.to_string()),
        Err(_) => Err(format!("no byte for {} s", SILENCE.as_secs())),
    }
}

/// Removed when it is dropped, unless it has another name by then.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn io_error(path: &Path, source: io::Error) -> ShelfError {
    ShelfError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use protocol::id::sha256_hex;

    use super::*;

    fn image() -> Vec<u8> {
        let config = br#"{"architecture":"arm64"}"#;
        let name = format!("{}.json", sha256_hex(config));
        let manifest = format!(r#"[{{"Config":"{name}"}}]"#);
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [(name.as_str(), &config[..]), ("manifest.json", manifest.as_bytes())]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    async fn push(shelf: &Archives, bytes: &[u8]) -> Result<ArchiveShown, ShelfError> {
        let pieces: Vec<Result<Bytes, String>> =
            bytes.chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        shelf.receive(stream::iter(pieces), "web:v1".to_owned(), 7).await
    }

    #[tokio::test]
    async fn an_archive_is_kept_under_its_sha256_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Archives::of(data.path());
        let bytes = image();
        let shown = push(&shelf, &bytes).await.unwrap();
        assert_eq!(shown.archive.sha256.hex(), sha256_hex(&bytes));
        assert_eq!(
            (shown.archive.bytes, shown.architecture.as_str()),
            (bytes.len() as u64, "arm64")
        );
        assert_eq!(push(&shelf, &bytes).await.unwrap(), shown, "once more is the same");
        assert_eq!(Archives::of(data.path()).all(), std::slice::from_ref(&shown));
        assert_eq!(shelf.open(&shown.archive.sha256).unwrap().1, bytes.len() as u64);
        shelf.remove(&shown.archive.sha256).unwrap();
        assert!(shelf.all().is_empty() && shelf.open(&shown.archive.sha256).is_err());
        assert_eq!(fs::read_dir(data.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nothing_stays_of_what_is_not_taken() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Archives::of(data.path());
        let error = push(&shelf, b"a page of a hotel's network").await.unwrap_err();
        assert!(matches!(error, ShelfError::Archive(_)), "{error}");
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err("reset")]);
        let error = shelf.receive(broken, "web".to_owned(), 7).await.unwrap_err().to_string();
        assert!(error.contains("reset") && error.contains("nothing was kept"), "{error}");
        assert_eq!(fs::read_dir(data.path().join(FOLDER)).unwrap().count(), 0);
        fs::write(data.path().join(FOLDER).join("incoming-0.tmp"), b"of another life").unwrap();
        let _ = Archives::of(data.path());
        assert_eq!(fs::read_dir(data.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_disk_that_would_be_full_is_refused_with_figures() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Archives { floor: u64::MAX, ..Archives::of(data.path()) };
        let error = push(&shelf, &image()).await.unwrap_err().to_string();
        assert!(error.contains("MiB free") && error.contains("pith push --ls"), "{error}");
    }
}
