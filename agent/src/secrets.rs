//! Secrets on the board: which copies this node can open, and the files in memory that containers find them in.
//!
//! ```text
//! manifest -> ledger (sealed) -> Vault: does it open? -> planner                          (at each manifest, at each start)
//! sealed copy + Vault --place--> secrets_dir/CONTAINER/NAME, tmpfs, the container's user, 0400   (at each create and start)
//! ```
//! A value in clear is nowhere else: not in the ledger, not in what the loop passes on, not in a log.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use protocol::acceptance::NodeIdentity;
use protocol::id::SecretName;
use protocol::join::SealKey;
use protocol::registries::RegistryLogin;
use protocol::secret::{self, Clear, Copy, Label, NotOpened, OpeningKey, Reader};
use protocol::spec::ServiceSpec;

/// Opens what is sealed to the node.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    key: Option<Arc<OpeningKey>>,
}

/// Where secrets lie in clear while containers use them.
#[derive(Debug, Clone)]
pub struct SecretFiles {
    dir: PathBuf,
    vault: Vault,
}

/// Why a container does not get its secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A disk keeps what was written to it.
    #[error(
        "{0} is not on tmpfs, and a secret is not written to a disk; name a folder that is with `secrets_dir` in agent.toml, such as \
         \"/run/pith/secrets\""
    )]
    NotInMemory(PathBuf),
    /// No copy, or it does not open.
    #[error("secret `{name}`: {reason}; `pith secret sync` seals it again")]
    NotOpened {
        /// Which.
        name: SecretName,
        /// Why.
        reason: String,
    },
    /// Files have numbers.
    #[error(
        "its secrets belong to the container's user, and `{0}` is a name that only the image knows: write its number, such as \
         user = \"1000\""
    )]
    UserIsAName(String),
    /// A variable holds text.
    #[error(
        "secret `{0}` is not text without NUL characters, so it cannot be a variable; use `[[secrets]]`"
    )]
    NotText(SecretName),
    /// The system refused.
    #[error("{path}: {reason}")]
    Io {
        /// What was written.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl SecretError {
    /// Whether trying again cannot mend it.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::NotInMemory(_) | Self::UserIsAName(_) | Self::NotText(_) => true,
            Self::NotOpened { .. } | Self::Io { .. } => false,
        }
    }
}

impl Vault {
    /// With the node's key.
    #[must_use]
    pub fn new(key: OpeningKey) -> Self {
        Self { key: Some(Arc::new(key)) }
    }

    /// What others seal to; none: nothing can be opened here.
    #[must_use]
    pub fn seal_key(&self) -> Option<SealKey> {
        self.key.as_ref().map(|key| key.public())
    }

    /// Opens a copy that was sealed to `node`, for its environment.
    ///
    /// # Errors
    /// Where it is another's, or was changed.
    pub fn open(&self, node: &NodeIdentity, copy: &Copy) -> Result<Clear, NotOpened> {
        let reader = Reader::Node(node.node.clone());
        let label = Label {
            fleet: &node.fleet,
            environment: &node.environment,
            name: &copy.name,
            version: copy.version,
            reader: &reader,
        };
        secret::open(&label, self.key.as_deref().ok_or(NotOpened)?, &copy.sealed)
    }
}

impl SecretFiles {
    /// Below `dir`, which must be on tmpfs once there is a secret.
    #[must_use]
    pub fn at(dir: PathBuf, vault: Vault) -> Self {
        Self { dir, vault }
    }

    /// Whether a path is one of these files.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.dir)
    }

    /// A login for pulls from `registry`.
    ///
    /// # Errors
    /// Where the copy does not open, or is no login for that registry.
    pub fn login(
        &self,
        node: &NodeIdentity,
        copy: &Copy,
        registry: &str,
    ) -> Result<RegistryLogin, SecretError> {
        let failed = |reason: &str| SecretError::NotOpened {
            name: copy.name.clone(),
            reason: reason.to_owned(),
        };
        let clear = self.vault.open(node, copy).map_err(|error| failed(&error.to_string()))?;
        let login: RegistryLogin = serde_json::from_slice(clear.bytes())
            .map_err(|_| failed("it is no login for a registry"))?;
        match login.registry == registry {
            true => Ok(login),
            false => Err(failed("it is a login for another registry")),
        }
    }

    /// Writes the files of a container that are not there yet, and says where they are. `user` is what the container runs as.
    ///
    /// # Errors
    /// See [`SecretError`]; some files may be there then.
    pub fn place(
        &self,
        container: &str,
        (node, spec, copies): (&NodeIdentity, &ServiceSpec, &[Copy]),
        user: &str,
    ) -> Result<Vec<(PathBuf, String)>, SecretError> {
        if spec.secrets.is_empty() {
            return Ok(Vec::new());
        }
        let owner = owner(user)?;
        let folder = self.dir.join(container);
        self.make(&folder)?;
        let mut files = Vec::new();
        for (index, file) in spec.secrets.iter().enumerate() {
            // A secret may stand at two paths, with two modes.
            let path = folder.join(format!("{index}-{}", file.name));
            if !path.exists() {
                let clear = self.clear(node, copies, &file.name)?;
                write(&path, clear.bytes(), owner, file.mode).map_err(|error| SecretError::Io {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            }
            files.push((path, file.path.clone()));
        }
        Ok(files)
    }

    /// The variables of a service that are secrets.
    ///
    /// # Errors
    /// Where one does not open, or is not text.
    pub fn variables(
        &self,
        node: &NodeIdentity,
        spec: &ServiceSpec,
        copies: &[Copy],
    ) -> Result<BTreeMap<String, String>, SecretError> {
        let variable = |(variable, name): (&String, &SecretName)| {
            let clear = self.clear(node, copies, name)?;
            let text = std::str::from_utf8(clear.bytes()).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| SecretError::NotText(name.clone()))?;
            Ok((variable.clone(), text.to_owned()))
        };
        spec.container.secret_env.iter().map(variable).collect()
    }

    /// Forgets the files of a container that is gone.
    pub fn forget(&self, container: &str) {
        if container.is_empty() {
            return;
        }
        let folder = self.dir.join(container);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %folder.display(), %error, "secrets of a container not removed");
        }
    }

    fn clear(
        &self,
        node: &NodeIdentity,
        copies: &[Copy],
        name: &SecretName,
    ) -> Result<Clear, SecretError> {
        let failed = |reason: String| SecretError::NotOpened { name: name.clone(), reason };
        let copy = copies.iter().find(|copy| copy.name == *name);
        let copy = copy.ok_or_else(|| failed("no copy is sealed to this node".to_owned()))?;
        self.vault.open(node, copy).map_err(|error| failed(error.to_string()))
    }

    fn make(&self, folder: &Path) -> Result<(), SecretError> {
        let io = |error: &dyn std::fmt::Display| SecretError::Io {
            path: folder.to_owned(),
            reason: error.to_string(),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| io(&e))?;
        let system = statfs(folder).map_err(|e| io(&e))?;
        match system.filesystem_type() == TMPFS_MAGIC {
            true => Ok(()),
            false => Err(SecretError::NotInMemory(self.dir.clone())),
        }
    }
}

/// Whole or not at all, and never readable by another.
fn write(path: &Path, value: &[u8], (uid, gid): (u32, u32), mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(value)?;
    // Nobody else reaches the folder meanwhile; once it is another's, only CAP_FOWNER could change the mode.
    file.set_permissions(Permissions::from_mode(mode))?;
    fchown(&file, Some(uid), Some(gid))?;
    fs::rename(&new, path)
}

/// `uid[:gid]`; nothing is root.
fn owner(user: &str) -> Result<(u32, u32), SecretError> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
    let number = |text: &str| match text {
        "" | "root" => Ok(0),
        text => text.parse().map_err(|_| SecretError::UserIsAName(text.to_owned())),
    };
    Ok((number(uid)?, number(gid)?))
}

#[cfg(test)]
mod tests;
