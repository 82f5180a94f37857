//! The node's policy file and what it admits: read by the loop to decide and to tell, and once more by the executor right
//! before a container is created or started, so that no path leads around it.
//!
//! ```text
//! policy.toml --look--> PolicyState: decisions, hello          (with each gathering, parsed where the file changed)
//! policy.toml --admit(service, HostAccess)--> Admitted -> ContainerSpec                    (at each create and start)
//! ```
//! An [`Admitted`] is made nowhere else, and the engine gives a container nothing of the node but what is in one.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use protocol::file::FileError;
use protocol::id::ServiceName;
use protocol::policy::{NodePolicy, PolicyState, is_below, is_like, sentence};
use protocol::spec::HostAccess;

/// More is not read; the parser refuses less already.
const MAX_BYTES: u64 = 64 * 1024;
const ROOT: u32 = 0;
/// Bits that let group or others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const DEVICES: &str = "/dev";

/// Where the policy is, and whose file counts.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    path: PathBuf,
    owner: u32,
    /// Where the board's `/dev` is seen: the agent's own is a private one under its unit.
    devices_at: PathBuf,
}

/// Why a file counts as absent.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It, or its folder, cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It, or its folder, is somebody's who is not root.
    #[error("{path} belongs to user {owner}, and only root decides: `chown root:root {path}`")]
    NotRoots {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others could change it, or put another in its place.
    #[error("{path} can be written by others than root: `chmod go-w {path}`")]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// Its text is off.
    #[error("{0}")]
    Malformed(#[from] FileError),
}

/// Why a container is not made or started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The policy does not allow it.
    #[error("{0}")]
    Denied(String),
    /// What is allowed is not on this node.
    #[error("{what} {path} is not on this node: {problem}")]
    Missing {
        /// `the host path`, `the device`.
        what: &'static str,
        /// As the service file names it.
        path: String,
        /// What the system said.
        problem: String,
    },
}

/// What a container gets of the node: asked for, and allowed by its policy at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admitted(HostAccess);

impl Admitted {
    /// What was admitted.
    #[must_use]
    pub fn host(&self) -> &HostAccess {
        &self.0
    }
}

/// What was seen of the file at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// What is in force.
    pub state: PolicyState,
    stamp: Stamp,
}

/// What changes when the file, or who may write it, changes; none: there is no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    file: Option<(u64, i64, i64, u64)>,
    folder: Option<(u64, i64, i64)>,
}

impl PolicyFile {
    /// The file at a path; it and its folder must be root's.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, owner: ROOT, devices_at: DEVICES.into() }
    }

    /// The same, with the board's `/dev` seen in another folder.
    #[must_use]
    pub fn with_devices_at(self, devices_at: PathBuf) -> Self {
        Self { devices_at, ..self }
    }

    /// A file that counts where it is this user's.
    #[cfg(test)]
    pub(crate) fn of_user(path: PathBuf, owner: u32) -> Self {
        Self { path, owner, devices_at: DEVICES.into() }
    }

    /// What is in force now; the text is read only where the file is not as it was at `before`.
    #[must_use]
    pub fn look(&self, before: Option<&Looked>) -> Looked {
        let stamp = self.stamp();
        let mut state = match before.filter(|before| before.stamp == stamp) {
            Some(before) => before.state.clone(),
            None => match self.read() {
                Ok(policy) => PolicyState { policy, ..PolicyState::default() },
                Err(error) => {
                    let trouble = Some(one_line(&error.to_string()));
                    PolicyState { trouble, ..PolicyState::default() }
                }
            },
        };
        state.devices = self.present_devices(&state.policy);
        Looked { state, stamp }
    }

    /// The policy; the one that allows nothing where there is no file.
    ///
    /// # Errors
    /// Where the file counts as absent though there is one.
    pub fn read(&self) -> Result<NodePolicy, PolicyError> {
        let unreadable = |source| PolicyError::Unreadable { path: self.path.clone(), source };
        let mut file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(NodePolicy::default());
            }
            Err(error) => return Err(unreadable(error)),
        };
        self.check(&self.path, &file.metadata().map_err(unreadable)?)?;
        let folder = self.folder();
        let metadata = std::fs::metadata(folder)
            .map_err(|source| PolicyError::Unreadable { path: folder.to_owned(), source })?;
        self.check(folder, &metadata)?;
        let mut text = String::new();
        file.by_ref().take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
        Ok(protocol::file::parse_policy(&self.path.display().to_string(), &text)?)
    }

    /// Admits what a service asks for, by the file as it is at this moment and by where paths lead at this moment.
    ///
    /// # Errors
    /// What is denied, and what is not there.
    pub fn admit(&self, service: &ServiceName, asked: HostAccess) -> Result<Admitted, NotAdmitted> {
        if asked.is_none() {
            return Ok(Admitted::default());
        }
        let state = self.look(None).state;
        if let Some(refusal) = state.refusal(service, &asked) {
            return Err(NotAdmitted::Denied(refusal));
        }
        let allowed = state.policy.of(service);
        for path in &asked.paths {
            let real = resolve("the host path", &path.host)?;
            let tops = allowed.host_paths.iter().filter_map(|top| std::fs::canonicalize(top).ok());
            if !tops.into_iter().any(|top| is_below(&text(&real), &text(&top))) {
                return Err(leads_out(service, &state.policy, &path.host, &real));
            }
        }
        for device in &asked.devices {
            self.admit_device(&device.path)?;
        }
        Ok(Admitted(asked))
    }

    fn admit_device(&self, device: &str) -> Result<(), NotAdmitted> {
        let missing = |error: std::io::Error| NotAdmitted::Missing {
            what: "the device",
            path: device.to_owned(),
            problem: error.to_string(),
        };
        let real = std::fs::canonicalize(self.seen(device)).map_err(missing)?;
        let top = std::fs::canonicalize(&self.devices_at).map_err(missing)?;
        let kind = std::fs::metadata(&real).map(|metadata| metadata.file_type());
        let is_device = kind.is_ok_and(|k| k.is_char_device() || k.is_block_device() || k.is_dir());
        if !is_device || !is_below(&text(&real), &text(&top)) {
            let message = format!("{device} leads to {}, which is no device", text(&real));
            return Err(NotAdmitted::Denied(message));
        }
        Ok(())
    }

    /// Where a path below `/dev` is looked at.
    fn seen(&self, device: &str) -> PathBuf {
        match Path::new(device).strip_prefix(DEVICES) {
            Ok(below) => self.devices_at.join(below),
            Err(_) => device.into(),
        }
    }

    /// Devices that are there and that the policy allows to anyone.
    fn present_devices(&self, policy: &NodePolicy) -> BTreeSet<String> {
        let mut present = BTreeSet::new();
        for pattern in policy.device_patterns() {
            let Some((folder, name)) = pattern.rsplit_once('/') else { continue };
            if !name.contains('*') {
                if self.seen(pattern).exists() {
                    present.insert(pattern.to_owned());
                }
                continue;
            }
            let entries = std::fs::read_dir(self.seen(folder)).into_iter().flatten().flatten();
            let paths =
                entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy()));
            present.extend(paths.filter(|path| is_like(path, pattern)));
        }
        present
    }

    fn check(&self, path: &Path, metadata: &std::fs::Metadata) -> Result<(), PolicyError> {
        let path = path.to_owned();
        if metadata.uid() != self.owner && metadata.uid() != ROOT {
            return Err(PolicyError::NotRoots { path, owner: metadata.uid() });
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(PolicyError::Writable { path });
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        }
    }

    fn stamp(&self) -> Stamp {
        let file = std::fs::metadata(&self.path).ok();
        let folder = std::fs::metadata(self.folder()).ok();
        // The change of an inode covers its text, its owner and its mode.
        Stamp {
            file: file.map(|m| (m.ino(), m.ctime(), m.ctime_nsec(), m.size())),
            folder: folder.map(|m| (m.ino(), m.ctime(), m.ctime_nsec())),
        }
    }
}

fn resolve(what: &'static str, path: &str) -> Result<PathBuf, NotAdmitted> {
    std::fs::canonicalize(path).map_err(|error| NotAdmitted::Missing {
        what,
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// The path is allowed by its name, and by a link it is another.
fn leads_out(service: &ServiceName, policy: &NodePolicy, path: &str, real: &Path) -> NotAdmitted {
    let mut led = HostAccess::default();
    led.paths.push(protocol::spec::HostPath {
        host: text(real),
        path: path.to_owned(),
        read_only: true,
        shared: true,
    });
    let denied = policy.denied(service, &led);
    NotAdmitted::Denied(format!("{path} leads to {}: {}", text(real), sentence(&denied)))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Messages of a file are drawings of several lines; what a node says of itself is one.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim_matches([' ', '|', '^', '=']));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
