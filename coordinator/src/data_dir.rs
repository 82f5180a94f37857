//! The folder that holds a fleet: its trust root, keys, tokens, database and socket. Owns names, modes and `pith init`.
//!
//! ```text
//! DIR/fleet.json        which fleet this is           DIR/state.db     intent and history
//! DIR/root.json         the signed trust root         DIR/pith.sock    the API while a coordinator runs
//! DIR/keys/*.key        root, release, director       DIR/nodes/       nodes of `pith dev`
//! DIR/tokens/*          broker tokens, by client id   DIR/registries.toml
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::FORMAT;
use protocol::envelope::{Envelope, Rejected};
use protocol::id::{FleetId, hex};
use protocol::keys::{InvalidKey, Role, RoleName, Root, SecretKey};
use serde::{Deserialize, Serialize};

/// A socket's path has to fit into `sockaddr_un`.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A data folder by its path; may not exist yet.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

/// What the folder says of the fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Its id.
    pub id: FleetId,
    /// The trust root, verified under its own root role.
    pub root: Root,
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
    /// There is none.
    #[error("{0} holds no fleet; `pith init --data {0}` makes one")]
    Missing(PathBuf),
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

/// The keys of a fleet, by the role they act in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Offline, signs the trust root.
    Root,
    /// Signs releases.
    Release,
    /// Signs manifests.
    Director,
}

impl Key {
    const fn file(self) -> &'static str {
        match self {
            Self::Root => "keys/root.key",
            Self::Release => "keys/release.key",
            Self::Director => "keys/director.key",
        }
    }
}

impl DataDir {
    /// The folder at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
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

    /// Makes a fleet: an id, three keys and the trust root that names them.
    ///
    /// # Errors
    /// Where one is there already, or the folder cannot be written.
    pub fn init(&self) -> Result<Fleet, DataDirError> {
        if self.holds_fleet() {
            return Err(DataDirError::Exists(self.path.clone()));
        }
        check_socket_path(&self.socket())?;
        for folder in ["", "keys", "tokens"] {
            self.create_folder(folder)?;
        }
        let id = FleetId::from_random(random()?);
        let (root_key, release, director) = (new_key()?, new_key()?, new_key()?);
        let roles = BTreeMap::from([
            (RoleName::Root, Role::single(root_key.public())),
            (RoleName::Release, Role::single(release.public())),
            (RoleName::Director, Role::single(director.public())),
        ]);
        let root = Root { format: FORMAT, fleet: id.clone(), version: 1, epoch: 1, roles };
        let envelope = Envelope::sign(&root, &[&root_key]);
        for (key, secret) in
            [(Key::Root, root_key), (Key::Release, release), (Key::Director, director)]
        {
            self.write(key.file(), secret.to_base64().as_bytes())?;
        }
        self.write("root.json", &envelope.to_bytes())?;
        let file = serde_json::to_vec(&FleetFile { fleet: id.clone() }).expect("plain data");
        // Last: with it the folder counts as a fleet.
        self.write("fleet.json", &file)?;
        Ok(Fleet { id, root })
    }

    /// Reads the fleet.
    ///
    /// # Errors
    /// Where there is none or a file is damaged.
    pub fn open(&self) -> Result<Fleet, DataDirError> {
        if !self.holds_fleet() {
            return Err(DataDirError::Missing(self.path.clone()));
        }
        check_socket_path(&self.socket())?;
        let file = self.path.join("fleet.json");
        let FleetFile { fleet } = serde_json::from_slice(&read(&file)?)
            .map_err(|e| DataDirError::Damaged { path: file, reason: e.to_string() })?;
        let path = self.root_file();
        let root = verify_root(&read(&path)?)
            .map_err(|reason| DataDirError::Damaged { path: path.clone(), reason })?;
        if root.fleet != fleet {
            let reason = format!("it is of fleet {}", root.fleet.short());
            return Err(DataDirError::Damaged { path, reason });
        }
        Ok(Fleet { id: fleet, root })
    }

    /// Reads a key.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    pub fn key(&self, key: Key) -> Result<SecretKey, DataDirError> {
        let path = self.path.join(key.file());
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        SecretKey::from_base64(&text)
            .map_err(|e: InvalidKey| DataDirError::Damaged { path, reason: e.to_string() })
    }

    /// The broker token of a client, drawn and kept at first use.
    ///
    /// # Errors
    /// Where it can be neither read nor written.
    pub fn token(&self, client: &str) -> Result<String, DataDirError> {
        let name = format!("tokens/{client}");
        let path = self.path.join(&name);
        if path.exists() {
            return Ok(String::from_utf8_lossy(&read(&path)?).trim().to_owned());
        }
        self.create_folder("tokens")?;
        let token = hex(&random::<32>()?);
        self.write(&name, token.as_bytes())?;
        Ok(token)
    }

    /// Clients that have a token.
    #[must_use]
    pub fn token_holders(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path.join("tokens")) else { return Vec::new() };
        entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    /// Makes a folder below this one, readable by its owner only.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create_folder(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| DataDirError::Io { path: path.clone(), source })?;
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

fn random<const N: usize>() -> Result<[u8; N], DataDirError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| DataDirError::Random(e.to_string()))?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, DataDirError> {
    fs::read(path).map_err(|source| DataDirError::Io { path: path.to_owned(), source })
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

/// The root document vouches for itself: it is this folder's own, made by `init`.
fn verify_root(bytes: &[u8]) -> Result<Root, String> {
    let text = |e: Rejected| e.to_string();
    let envelope = Envelope::from_bytes(bytes).map_err(text)?;
    let payload = BASE64.decode(&envelope.payload).map_err(|e| e.to_string())?;
    let claimed: Root = serde_json::from_slice(&payload).map_err(|e| e.to_string())?;
    envelope.verify::<Root>(&claimed).map(protocol::envelope::Verified::into_inner).map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let made = data.init().unwrap();
        assert!(matches!(data.init(), Err(DataDirError::Exists(_))));
        let read = data.open().unwrap();
        assert_eq!(read.id, made.id);
        assert_eq!(read.root, made.root);
        let director = data.key(Key::Director).unwrap().public();
        assert_eq!(read.root.roles[&RoleName::Director], Role::single(director));
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
    fn a_token_stays_the_same_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let _ = data.init().unwrap();
        let token = data.token("coordinator").unwrap();
        assert_eq!(data.token("coordinator").unwrap(), token);
        let mode =
            fs::metadata(dir.path().join("tokens/coordinator")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path().join("x".repeat(120)));
        assert!(matches!(data.init(), Err(DataDirError::SocketPath(_))));
    }
}
