//! Who may sign what: key pairs and the fleet's trust root.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{FleetId, KeyId, NodeId};
use crate::payload::{Payload, PayloadType};

/// A public key, base64 on the wire; equality is of the key itself, never of its id.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why text is not a public or secret key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key: 32 bytes in base64 are expected")]
pub struct InvalidKey;

impl PublicKey {
    /// From 32 bytes.
    ///
    /// # Errors
    /// When they are not a point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        VerifyingKey::from_bytes(bytes).map(Self).map_err(|_| InvalidKey)
    }

    /// From base64.
    ///
    /// # Errors
    /// When the text is not base64 of a key.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = BASE64.decode(text).map_err(|_| InvalidKey)?;
        Self::from_bytes(&bytes.try_into().map_err(|_| InvalidKey)?)
    }

    /// As base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.0.as_bytes())
    }

    /// The hint that envelopes carry.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of_key(self.0.as_bytes())
    }

    /// The node that owns this key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::of_key(self.0.as_bytes())
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// A secret key. Never printed; kept in files of mode 0600 by its owner.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// From 32 random bytes drawn by the caller.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// From the text of a key file.
    ///
    /// # Errors
    /// When the text is not base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| InvalidKey)?;
        Ok(Self::from_seed(bytes.try_into().map_err(|_| InvalidKey)?))
    }

    /// The text of a key file.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.0.to_bytes())
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, …)", self.public().id())
    }
}

/// Some keys, of which `threshold` distinct ones must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The keys; the same key twice counts once.
    pub keys: Vec<PublicKey>,
    /// How many distinct ones are needed, at least 1.
    pub threshold: u32,
}

impl Role {
    /// One key that suffices.
    #[must_use]
    pub fn single(key: PublicKey) -> Self {
        Self { keys: vec![key], threshold: 1 }
    }
}

/// The trust root of a fleet: which keys may sign which purpose. Signed by its own root role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet.
    pub fleet: FleetId,
    /// 1, 2, 3 …
    pub version: u64,
    /// Changes only here.
    pub epoch: u64,
    /// Roles by name: `root`, `release`, `director`.
    pub roles: BTreeMap<RoleName, Role>,
}

/// The roles of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Offline; signs this document.
    Root,
    /// Operator or CI; signs releases.
    Release,
    /// The coordinator; signs manifests.
    Director,
}

impl Root {
    /// The role that may sign `purpose`; none for what nodes sign themselves.
    #[must_use]
    pub fn role_for(&self, purpose: PayloadType) -> Option<&Role> {
        let name = match purpose {
            PayloadType::Root => RoleName::Root,
            PayloadType::Release => RoleName::Release,
            PayloadType::Manifest => RoleName::Director,
            PayloadType::Hello | PayloadType::Report => return None,
        };
        self.roles.get(&name)
    }
}

impl Payload for Root {
    const TYPE: PayloadType = PayloadType::Root;
}
