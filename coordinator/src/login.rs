//! Where a person sits who uses a fleet from afar: invitations, the folder that a login leaves, and whom TLS believes.
//!
//! ```text
//! ~/.config/pith/<fleet>/operator.json   who, as what, where the coordinator is
//!                        ca.crt          the fleet's CA; its hash stood in the invitation
//!                        operator.crt    the certificate         operator.key    its key, 0600; made here, never sent
//!                        keys/*.key      release keys, where this person signs releases
//! ```

mod belief;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::id::{FleetId, OperatorName};
use protocol::join::{TOKEN_PREFIX, TlsKey, Token};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde::{Deserialize, Serialize};

pub(crate) use belief::tls;

use crate::ca::OPERATOR_DAYS;
use crate::role::Role;

/// What every invitation of this version begins with: a board does not take it for its own.
pub const INVITATION_PREFIX: &str = "pithop1_";
const PROFILE: &str = "operator.json";
const CA: &str = "ca.crt";
const CERTIFICATE: &str = "operator.crt";
const KEY: &str = "operator.key";

/// Why text is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnInvitation {
    /// For a board.
    #[error(
        "this is a board's token: it is pasted there, with `pith-agent join`; `pith operator invite` prints one for people"
    )]
    ForABoard,
    /// Something else.
    #[error(
        "this is no invitation: it begins with `{INVITATION_PREFIX}`; copy the whole word that `pith operator invite` prints"
    )]
    Other,
    /// Cut off, or changed.
    #[error("the invitation is damaged: copy the whole word again ({0})")]
    Damaged(String),
}

/// Why a profile cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No place for it.
    #[error("no place for logins: neither HOME nor XDG_CONFIG_HOME is set")]
    NoHome,
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what was written there.
    #[error("{path} is damaged: {reason}; log in again, with a new invitation")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No key can be made.
    #[error("no key can be made: {0}")]
    Key(String),
}

/// What a login has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The fleet.
    pub fleet: FleetId,
    /// Who.
    pub name: OperatorName,
    /// As what; the coordinator decides, this is for people.
    pub role: Role,
    /// Where the coordinator is, `host:port`, tried in this order.
    pub addresses: Vec<String>,
    /// sha256 of the CA's DER, hexadecimal.
    pub ca_sha256: String,
    /// Unix seconds.
    pub expires_at: u64,
}

impl Profile {
    /// Whether two thirds of the certificate's life are over, and not all of it.
    #[must_use]
    pub fn is_to_be_renewed(&self, now_s: u64) -> bool {
        let left_s = self.expires_at.saturating_sub(now_s);
        left_s > 0 && left_s <= OPERATOR_DAYS * 24 * 60 * 60 / 3
    }
}

/// A profile with what TLS needs of it.
#[derive(Clone)]
pub struct Credentials {
    /// Who.
    pub profile: Profile,
    /// PEM.
    pub ca: String,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// The key of a login.
pub struct OwnKey(KeyPair);

/// The logins of one person, `~/.config/pith`.
#[derive(Debug, Clone)]
pub struct Profiles {
    folder: PathBuf,
}

/// The word to pass on.
#[must_use]
pub fn operator_token(token: &Token) -> String {
    let text = token.encode();
    format!("{INVITATION_PREFIX}{}", text.strip_prefix(TOKEN_PREFIX).unwrap_or(&text))
}

/// Reads an invitation.
///
/// # Errors
/// Says what is wrong with it, and never what stands in it.
pub fn read_invitation(text: &str) -> Result<Token, NotAnInvitation> {
    let text = text.trim();
    if text.starts_with(TOKEN_PREFIX) {
        return Err(NotAnInvitation::ForABoard);
    }
    let rest = text.strip_prefix(INVITATION_PREFIX).ok_or(NotAnInvitation::Other)?;
    let token = format!("{TOKEN_PREFIX}{rest}").parse();
    token.map_err(|error: protocol::join::BadToken| NotAnInvitation::Damaged(error.to_string()))
}

impl OwnKey {
    /// Makes one.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn make() -> Result<Self, ProfileError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(Self(key.map_err(|error| ProfileError::Key(error.to_string()))?))
    }

    /// The one of a login.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn of(own: &Credentials) -> Result<Self, ProfileError> {
        let key = KeyPair::from_pem(&own.key);
        Ok(Self(key.map_err(|error| ProfileError::Key(error.to_string()))?))
    }

    /// Its public half.
    ///
    /// # Errors
    /// Never, for a key that was made here.
    pub fn public(&self) -> Result<TlsKey, ProfileError> {
        TlsKey::from_der(&self.0.subject_public_key_info())
            .map_err(|error| ProfileError::Key(error.to_string()))
    }

    /// Its secret half, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
}

impl Profiles {
    /// Where this person's are: `$XDG_CONFIG_HOME/pith`, else `~/.config/pith`.
    ///
    /// # Errors
    /// Where neither is known.
    pub fn of_this_user() -> Result<Self, ProfileError> {
        let set = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty());
        let home = || Some(PathBuf::from(set("HOME")?).join(".config"));
        let base = set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        Ok(Self { folder: base.ok_or(ProfileError::NoHome)?.join("pith") })
    }

    /// Those below a folder.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The fleets that this person has logged in to.
    #[must_use]
    pub fn fleets(&self) -> Vec<FleetId> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut fleets: Vec<FleetId> = entries
            .flatten()
            .filter(|entry| entry.path().join(PROFILE).exists())
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        fleets.sort();
        fleets
    }

    /// The folder of a fleet.
    #[must_use]
    pub fn of(&self, fleet: &FleetId) -> PathBuf {
        self.folder.join(fleet.as_str())
    }

    /// Keeps a login, that of before included in what it replaces.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn keep(&self, credentials: &Credentials) -> Result<PathBuf, ProfileError> {
        let folder = self.of(&credentials.profile.fleet);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProfileError::Io { path, source }
        };
        let mut made = fs::DirBuilder::new();
        made.recursive(true).mode(0o700).create(&folder).map_err(failed(&folder))?;
        let profile = serde_json::to_string_pretty(&credentials.profile).expect("plain data");
        // The profile last: with it the folder counts as a login.
        let files = [
            (KEY, &credentials.key),
            (CERTIFICATE, &credentials.certificate),
            (CA, &credentials.ca),
            (PROFILE, &profile),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            write(&path, text).map_err(failed(&path))?;
        }
        Ok(folder)
    }

    /// Reads a login.
    ///
    /// # Errors
    /// Where a file is missing or damaged.
    pub fn read(&self, fleet: &FleetId) -> Result<Credentials, ProfileError> {
        let folder = self.of(fleet);
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| ProfileError::Io { path, source })
        };
        let profile = serde_json::from_str(&text(PROFILE)?).map_err(|error| {
            ProfileError::Damaged { path: folder.join(PROFILE), reason: error.to_string() }
        })?;
        let (ca, certificate, key) = (text(CA)?, text(CERTIFICATE)?, text(KEY)?);
        Ok(Credentials { profile, ca, certificate, key })
    }

    /// Held by whoever renews the login of a fleet; none: somebody does, or it is not there.
    #[must_use]
    pub fn renewing(&self, fleet: &FleetId) -> Option<fs::File> {
        let folder = fs::File::open(self.of(fleet)).ok()?;
        folder.try_lock().ok().map(|()| folder)
    }

    /// Removes a login; what else lies in the folder, such as release keys, stays.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn forget(&self, fleet: &FleetId) -> Result<(), ProfileError> {
        for name in [PROFILE, KEY, CERTIFICATE, CA] {
            let path = self.of(fleet).join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ProfileError::Io { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        // Goes only where nothing else is in it.
        let _ = fs::remove_dir(self.of(fleet));
        Ok(())
    }
}

/// Whole or not at all, for its owner only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({} of {}, …)", self.profile.name, self.profile.fleet)
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use protocol::id::sha256_hex;
    use protocol::join::Offer;

    use super::*;

    fn token() -> Token {
        let Offer { id, secret } = Offer::from_random([3; 32]);
        Token {
            fleet: FleetId::from_random([1; 16]),
            addresses: vec!["10.0.0.2:8883".to_owned()],
            ca_sha256: sha256_hex(b"ca"),
            id,
            secret,
        }
    }

    fn credentials(expires_at: u64) -> Credentials {
        let Token { fleet, addresses, ca_sha256, .. } = token();
        let (name, role) = ("anna".parse().unwrap(), Role::Deployer);
        Credentials {
            profile: Profile { fleet, name, role, addresses, ca_sha256, expires_at },
            ca: "ca".to_owned(),
            certificate: "certificate".to_owned(),
            key: "key".to_owned(),
        }
    }

    #[test]
    fn an_invitation_is_for_people_and_a_token_for_boards() {
        let word = operator_token(&token());
        assert_eq!(read_invitation(&format!(" {word}\n")), Ok(token()));
        assert!(word.parse::<Token>().is_err(), "a board refuses it");
        assert_eq!(read_invitation(&token().encode()), Err(NotAnInvitation::ForABoard));
        assert_eq!(read_invitation("hello"), Err(NotAnInvitation::Other));
        let cut = read_invitation(&word[..word.len() - 5]).unwrap_err().to_string();
        assert!(cut.contains("copy the whole word") && !cut.contains(&token().secret), "{cut}");
    }

    #[test]
    fn a_login_is_to_be_renewed_in_its_last_third_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (profiles, fleet) = (Profiles::at(dir.path()), token().fleet);
        assert!(profiles.renewing(&fleet).is_none(), "nobody has logged in");
        let day = |day: u64| day * 24 * 60 * 60;
        let own = credentials(day(90));
        let is_due = |at_s| own.profile.is_to_be_renewed(at_s);
        let due = [day(60) - 1, day(60), day(90) - 1, day(90)].map(is_due);
        assert_eq!(due, [false, true, true, false]);
        profiles.keep(&own).unwrap();
        let held = profiles.renewing(&fleet);
        assert!(held.is_some() && profiles.renewing(&fleet).is_none());
        drop(held);
        assert!(profiles.renewing(&fleet).is_some());
    }

    #[test]
    fn a_login_is_its_owners_alone_and_leaves_keys_behind_when_it_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let profiles = Profiles::at(dir.path());
        let fleet = token().fleet;
        let credentials = credentials(7);
        let folder = profiles.keep(&credentials).unwrap();
        assert_eq!(profiles.fleets(), std::slice::from_ref(&fleet));
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.clone()), mode(folder.join(KEY))), (0o700, 0o600));
        assert_eq!(profiles.read(&fleet).unwrap().profile, credentials.profile);
        fs::create_dir(folder.join("keys")).unwrap();
        profiles.forget(&fleet).unwrap();
        assert!(profiles.fleets().is_empty() && folder.join("keys").exists());
    }
}
