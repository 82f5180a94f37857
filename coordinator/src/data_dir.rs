//! The folder that holds a fleet: its trust root, keys, tokens, database and socket. Owns names, modes and `pith init`.
//!
//! ```text
//! DIR/fleet.json        which fleet this is           DIR/state.db     intent and history
//! DIR/root.json         the newest signed trust root  DIR/pith.sock    the API while a coordinator runs
//! DIR/roots.json        every one since version 2     DIR/nodes/       nodes of `pith dev`
//! DIR/root-N.json       one that lacks signatures     DIR/registries.toml
//! DIR/keys/*.key        keys; see `data_dir::keys`    DIR/tls/ca.*     the fleet's CA (crate::ca)
//! DIR/backups/*.pith    backups (crate::backup), unless coordinator.toml says another folder
//! ```

mod init;
mod keys;
mod roots;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::id::FleetId;
use protocol::keys::{Root, SecretKey};
use protocol::succession::Chain;
use serde::{Deserialize, Serialize};

use crate::key_file::KeyFileError;
pub use init::{Init, Made};

/// A socket's path has to fit into `sockaddr_un`.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A data folder by its path; may not exist yet.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
    /// Another folder for backups.
    backups: Option<PathBuf>,
}

/// What the folder says of the fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Its id.
    pub id: FleetId,
    /// The newest trust root.
    pub root: Root,
    /// Every one since version 2, for nodes that know an older one.
    pub chain: Chain,
}

#[derive(Debug, Serialize, Deserialize)]
struct FleetFile {
    fleet: FleetId,
}

/// Why a data folder cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is a fleet already.
    #[error("{0} holds a fleet already; choose another folder with --data")]
    Exists(PathBuf),
    /// A file is where it should be.
    #[error(
        "{0} cannot be a folder: a file is there, or above it; name another folder with --data"
    )]
    NotAFolder(PathBuf),
    /// There is none.
    #[error("{0} holds no fleet; `pith init --data {0}` makes one")]
    Missing(PathBuf),
    /// Its first trust root lacks signatures.
    #[error(
        "the fleet in {0} is not finished: {1} lacks signatures; `pith keys sign {1} --root-key FILE` adds one"
    )]
    Unfinished(PathBuf, PathBuf),
    /// Root keys that cannot sign as many times as is asked.
    #[error("{keys} root keys cannot give {threshold} signatures; name more with --root-key FILE")]
    TooFewRootKeys {
        /// How many there are.
        keys: usize,
        /// How many have to sign.
        threshold: u32,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Nor under the root that waits for its signatures.
    #[error(
        "no key of the director's is in {folder} before {waiting} has its signatures: `pith keys sign {waiting} --root-key FILE`"
    )]
    DirectorWaits {
        /// Where it was looked for.
        folder: PathBuf,
        /// The root that names it.
        waiting: PathBuf,
    },
    /// No key of the director's here.
    #[error(
        "no key of the director's is in {folder}; trust root {version} names {named}: put it there, or `pith keys rotate director`"
    )]
    NoDirectorKey {
        /// Where it was looked for.
        folder: PathBuf,
        /// The newest root.
        version: u64,
        /// The keys it names.
        named: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The path of a socket would not fit.
    #[error(
        "the path {0} is too long for a socket (at most {MAX_SOCKET_PATH_BYTES} bytes); \
         choose a shorter --data"
    )]
    SocketPath(PathBuf),
    /// No random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl DataDir {
    /// The folder at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), backups: None }
    }

    /// The same with its backups in another folder.
    #[must_use]
    pub fn with_backups(self, folder: Option<PathBuf>) -> Self {
        Self { backups: folder, ..self }
    }

    /// Where backups are kept; may not exist yet.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.backups.clone().unwrap_or_else(|| self.path.join("backups"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("pith.sock")
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("state.db")
    }

    /// The signed trust root, as nodes need it.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.path.join("root.json")
    }

    /// Registries and their credentials.
    #[must_use]
    pub fn registries(&self) -> PathBuf {
        self.path.join("registries.toml")
    }

    /// Whether a fleet is there.
    #[must_use]
    pub fn holds_fleet(&self) -> bool {
        self.path.join("fleet.json").exists()
    }

    /// Reads the fleet.
    ///
    /// # Errors
    /// Where there is none or a file is damaged.
    pub fn open(&self) -> Result<Fleet, DataDirError> {
        if !self.holds_fleet() {
            return Err(self.why_no_fleet());
        }
        check_socket_path(&self.socket())?;
        let fleet = Self::fleet_in(&self.read("fleet.json")?)?;
        let (root, chain) = self.newest_root()?;
        if root.fleet != fleet {
            let reason = format!("it is of fleet {}", root.fleet.short());
            return Err(DataDirError::Damaged { path: self.root_file(), reason });
        }
        Ok(Fleet { id: fleet, root, chain })
    }

    /// The fleet that the bytes of a `fleet.json` name.
    ///
    /// # Errors
    /// Where they are damaged.
    pub(crate) fn fleet_in(bytes: &[u8]) -> Result<FleetId, DataDirError> {
        let file: Result<FleetFile, _> = serde_json::from_slice(bytes);
        let damaged = |error: serde_json::Error| DataDirError::Damaged {
            path: PathBuf::from("fleet.json"),
            reason: error.to_string(),
        };
        Ok(file.map_err(damaged)?.fleet)
    }

    /// Reads a text file below the folder.
    ///
    /// # Errors
    /// Where it is missing or cannot be read.
    pub(crate) fn read_text(&self, name: &str) -> Result<String, DataDirError> {
        Ok(String::from_utf8_lossy(&self.read(name)?).into_owned())
    }

    /// Reads a file below the folder.
    ///
    /// # Errors
    /// Where it is missing or cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, DataDirError> {
        read(&self.path.join(name))
    }

    /// Makes a folder below this one, readable by its owner only.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create_folder(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| {
            // Without the slash at the end, with which no file is one.
            let is_file = path.components().as_path().ancestors().any(Path::is_file);
            if is_file {
                DataDirError::NotAFolder(path.clone())
            } else {
                DataDirError::Io { path: path.clone(), source }
            }
        })?;
        Ok(path)
    }

    /// Writes a file of mode 0600 whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        write_whole(&path, bytes)
            .map_err(|source| DataDirError::Io { path: path.clone(), source })?;
        Ok(path)
    }
}

/// A fresh secret key.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn new_key() -> Result<SecretKey, DataDirError> {
    Ok(SecretKey::from_seed(random()?))
}

/// Refuses a socket path that the system would.
///
/// # Errors
/// [`DataDirError::SocketPath`].
pub fn check_socket_path(path: &Path) -> Result<(), DataDirError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if absolute.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(DataDirError::SocketPath(absolute));
    }
    Ok(())
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], DataDirError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| DataDirError::Random(e.to_string()))?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, DataDirError> {
    fs::read(path).map_err(|source| DataDirError::Io { path: path.to_owned(), source })
}

/// Writes a file of mode 0600 whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::keys::{Role, RoleName};

    #[test]
    fn a_fleet_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let made = data.init().unwrap();
        assert!(matches!(data.init(), Err(DataDirError::Exists(_))));
        let read = data.open().unwrap();
        assert_eq!(read.id, made.id);
        assert_eq!(read.root, made.root);
        let director = data.director_key(&read.root).unwrap().public();
        assert_eq!(read.root.roles[&RoleName::Director], Role::single(director));
        assert_eq!(read.root.check(), Ok(()));
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_said_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = DataDir::at(&path).init().unwrap_err().to_string();
            assert!(error.contains("a file is there") && error.contains("--data"), "{error}");
        }
    }

    #[test]
    fn a_damaged_root_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let _ = data.init().unwrap();
        let text = fs::read_to_string(data.root_file()).unwrap();
        fs::write(data.root_file(), text.replace("\"sig\":\"", "\"sig\":\"A")).unwrap();
        assert!(matches!(data.open(), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path().join("x".repeat(120)));
        assert!(matches!(data.init(), Err(DataDirError::SocketPath(_))));
    }
}
