//! Making a fleet: an id, keys and the first trust root, which may lack signatures of people who are elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::FleetId;
use protocol::keys::{PublicKey, Role, RoleName, Root, SecretKey};

use super::{DataDir, DataDirError, Fleet, check_socket_path, new_key, random};
use crate::key_file::secret_text;
use crate::roots;

/// How a fleet is made. By default with one root key of its own, and nothing encrypted.
#[derive(Debug)]
pub struct Init {
    /// Root signatures that each trust root needs.
    pub threshold: u32,
    /// The root keys; none: one is made here.
    pub root_keys: Vec<PublicKey>,
    /// Those of them that sign at once.
    pub signers: Vec<SecretKey>,
    /// Seals every key that is made here, save the director's, which the coordinator needs unattended.
    pub passphrase: Option<String>,
}

impl Default for Init {
    fn default() -> Self {
        Self { threshold: 1, root_keys: Vec::new(), signers: Vec::new(), passphrase: None }
    }
}

/// What `pith init` has made.
#[derive(Debug)]
pub enum Made {
    /// A fleet.
    Fleet(Fleet),
    /// Its first root waits for signatures in this file.
    Unfinished(FleetId, PathBuf),
}

impl DataDir {
    /// Makes a fleet with one root key.
    ///
    /// # Errors
    /// As [`DataDir::init_with`].
    pub fn init(&self) -> Result<Fleet, DataDirError> {
        match self.init_with(Init::default())? {
            Made::Fleet(fleet) => Ok(fleet),
            Made::Unfinished(_, file) => {
                Err(DataDirError::Unfinished(self.path().to_owned(), file))
            }
        }
    }

    /// Makes a fleet.
    ///
    /// # Errors
    /// Where one is there already, its root could never be signed, or the folder cannot be written.
    pub fn init_with(&self, init: Init) -> Result<Made, DataDirError> {
        if self.holds_fleet() {
            return Err(DataDirError::Exists(self.path().to_owned()));
        }
        if let unfinished @ DataDirError::Unfinished(..) = self.why_no_fleet() {
            return Err(unfinished);
        }
        check_socket_path(&self.socket())?;
        let Init { threshold, mut root_keys, mut signers, passphrase } = init;
        let mut own = None;
        if root_keys.is_empty() {
            let key = new_key()?;
            root_keys.push(key.public());
            signers.push(new_key_again(&key));
            own = Some(key);
        }
        let role = Role { keys: root_keys, threshold };
        let keys = role.distinct().len();
        if threshold == 0 || u32::try_from(keys).is_ok_and(|keys| keys < threshold) {
            return Err(DataDirError::TooFewRootKeys { keys, threshold });
        }
        for folder in ["", "keys", "tokens"] {
            self.create_folder(folder)?;
        }
        let id = FleetId::from_random(random()?);
        let (release, director, agent) = (new_key()?, new_key()?, new_key()?);
        let roles = BTreeMap::from([
            (RoleName::Root, role),
            (RoleName::Release, Role::single(release.public())),
            (RoleName::Director, Role::single(director.public())),
            (RoleName::AgentRelease, Role::single(agent.public())),
        ]);
        let root = Root { format: FORMAT, fleet: id.clone(), version: 1, epoch: 1, roles };
        let made_here = [
            (RoleName::Root, own, passphrase.as_deref()),
            (RoleName::Release, Some(release), passphrase.as_deref()),
            (RoleName::AgentRelease, Some(agent), passphrase.as_deref()),
            (RoleName::Director, Some(director), None),
        ];
        for (role, secret, passphrase) in made_here {
            let Some(secret) = secret else { continue };
            let text = secret_text(&secret, passphrase)?;
            self.write(&format!("keys/{role}.key"), text.as_bytes())?;
        }
        let signers: Vec<&SecretKey> = signers.iter().collect();
        self.keep_first(&root, Envelope::sign(&root, &signers))
    }

    fn keep_first(&self, root: &Root, envelope: Envelope) -> Result<Made, DataDirError> {
        let lacks = roots::missing(None, root, &envelope);
        if lacks.is_ok_and(|lacks| lacks.is_empty()) {
            return self.finish_first(&envelope).map(Made::Fleet);
        }
        let file = self.write("root-1.json", &envelope.to_bytes())?;
        Ok(Made::Unfinished(root.fleet.clone(), file))
    }
}

fn new_key_again(key: &SecretKey) -> SecretKey {
    SecretKey::from_base64(&key.to_base64()).expect("its own text is a key")
}
