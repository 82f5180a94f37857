//! Who may sign what: key pairs and the fleet's trust root.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::envelope::{MAX_SIGNATURES, Rejected};
use crate::id::{FleetId, KeyId, NodeId};
use crate::join::SealKey;
use crate::payload::{Payload, PayloadType};
use crate::secret::OpeningKey;

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

    /// What is sealed to the owner of this key: the same point on the curve of X25519. One key pair for Ed25519 and for this
    /// KEM is as strong as two (E. Thormarker, "On using the same key pair for Ed25519 and an X25519 based KEM", 2021).
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        SealKey::from_bytes(self.0.to_montgomery().to_bytes())
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

    /// Opens what is sealed to [`PublicKey::seal_key`].
    #[must_use]
    pub fn opening_key(&self) -> OpeningKey {
        OpeningKey::from_bytes(self.0.to_scalar_bytes())
    }

    /// X25519 (RFC 7748) of both keys taken to Curve25519 (RFC 8032 and the birational map of RFC 7748 §4.1): the same 32
    /// bytes for `a.agree(B)` and `b.agree(A)`, to derive a key from, never to be one. Signing and agreeing with one key
    /// do not weaken each other: <https://eprint.iacr.org/2021/509>. None where the other key is of small order, so
    /// that the answer would be known to everybody.
    #[must_use]
    pub fn agree(&self, other: &PublicKey) -> Option<[u8; 32]> {
        let shared = other.0.to_montgomery().mul_clamped(self.0.to_scalar_bytes()).to_bytes();
        (shared != [0; 32]).then_some(shared)
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

    /// Its keys, each once.
    #[must_use]
    pub fn distinct(&self) -> Vec<&PublicKey> {
        let mut distinct: Vec<&PublicKey> = Vec::new();
        for key in &self.keys {
            if !distinct.contains(&key) {
                distinct.push(key);
            }
        }
        distinct
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
    /// Roles by name; `root`, `release` and `director` must be there (see [`Root::check`]).
    pub roles: BTreeMap<RoleName, Role>,
}

/// Who may sign which purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Offline; signs this document.
    Root,
    /// Operator or CI; signs releases and retires them.
    Release,
    /// The coordinator; signs manifests, times and commands.
    Director,
    /// Whoever builds the agent; signs its versions.
    AgentRelease,
}

impl RoleName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Release, Self::Director, Self::AgentRelease];

    /// As it stands in the document and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Director => "director",
            Self::AgentRelease => "agent-release",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RoleName {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// Text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a role: root, release, director or agent-release is expected")]
pub struct UnknownRole;

/// Keys that one role may name. Twice as many are the signatures of one envelope, so that a root can be signed under
/// every key of two versions.
pub const MAX_ROLE_KEYS: usize = MAX_SIGNATURES / 2;

impl Root {
    /// Whether its roles can work: `root`, `release` and `director` are there, and each role has at least as many
    /// distinct keys as it asks signatures of, and no more than [`MAX_ROLE_KEYS`].
    ///
    /// # Errors
    /// [`Rejected::BadRole`] for the first that cannot.
    pub fn check(&self) -> Result<(), Rejected> {
        let bad = |role: RoleName, reason: String| Err(Rejected::BadRole { role, reason });
        for needed in [RoleName::Root, RoleName::Release, RoleName::Director] {
            if !self.roles.contains_key(&needed) {
                return bad(needed, "it is missing".to_owned());
            }
        }
        for (name, role) in &self.roles {
            let (keys, threshold) = (role.distinct().len(), role.threshold);
            if threshold == 0 {
                return bad(*name, "a threshold of 0 asks for no signature".to_owned());
            }
            if u32::try_from(keys).is_ok_and(|keys| keys < threshold) {
                return bad(*name, format!("{keys} keys cannot give {threshold} signatures"));
            }
            if role.keys.len() > MAX_ROLE_KEYS {
                let keys = role.keys.len();
                return bad(*name, format!("{keys} keys are more than {MAX_ROLE_KEYS}"));
            }
        }
        Ok(())
    }

    /// The role that may sign `purpose`; none for what nodes sign themselves.
    #[must_use]
    pub fn role_for(&self, purpose: PayloadType) -> Option<&Role> {
        let name = match purpose {
            PayloadType::Root => RoleName::Root,
            PayloadType::Release | PayloadType::Retirement => RoleName::Release,
            PayloadType::AgentRelease => RoleName::AgentRelease,
            PayloadType::Manifest
            | PayloadType::Time
            | PayloadType::Whereabouts
            | PayloadType::Recovery
            | PayloadType::Command => RoleName::Director,
            PayloadType::Hello
            | PayloadType::Report
            | PayloadType::Stream
            | PayloadType::Join
            | PayloadType::Renew => return None,
        };
        self.roles.get(&name)
    }
}

impl Payload for Root {
    const TYPE: PayloadType = PayloadType::Root;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    #[test]
    fn two_keys_agree_on_what_x25519_says() {
        // Computed by OpenSSL's X25519 of SHA-512(seed)[..32] and u = (1 + y) / (1 - y).
        let expected = "QYHXMCVXNCvbbQYcSx7r6oKOy2JcM2i3ERaAeTMHIgs=";
        let (a, b) = (key(1), key(2));
        let shared = a.agree(&b.public()).unwrap();
        assert_eq!(BASE64.encode(shared), expected);
        assert_eq!(b.agree(&a.public()), Some(shared));
        assert_ne!(key(3).agree(&b.public()), Some(shared));
    }

    #[test]
    fn nothing_is_agreed_with_a_key_of_small_order() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(key(1).agree(&PublicKey::from_bytes(&identity).unwrap()), None);
    }
}
