//! Secrets: a value sealed by an operator for one reader, who alone can open it.
//!
//! HPKE (RFC 9180) in base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305. What a copy is (fleet,
//! environment, name, version, reader) is the `info` of the sealing: a copy that is passed off as another one does not open.
//! Who sealed it is not in it: a node takes copies from its signed manifest alone (docs/decisions/0014).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256 as X25519;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use serde::{Deserialize, Serialize};

use crate::id::{EnvironmentName, FleetId, NodeId, SecretName};
use crate::join::SealKey;
use crate::keys::PublicKey;

/// A larger value is refused: the copies of a node travel in its manifest.
pub const MAX_SECRET_BYTES: usize = 16 * 1024;
/// Where a secret is found in a container, unless its service says another path.
pub const SECRETS_DIR: &str = "/run/secrets";
/// Bytes that sealing adds: the encapsulated key and the tag.
const OVERHEAD_BYTES: usize = 32 + 16;

/// Which version of each secret something is made with.
pub type SecretVersions = BTreeMap<SecretName, u64>;

/// Who can open a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// A node, with its sealing key.
    Node(NodeId),
    /// An operator, with the release key that this is the public half of.
    Operator(PublicKey),
}

/// What a copy is: part of what it is sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label<'a> {
    /// The fleet.
    pub fleet: &'a FleetId,
    /// A secret of another environment is another secret.
    pub environment: &'a EnvironmentName,
    /// Its name there.
    pub name: &'a SecretName,
    /// 1, 2, 3 …; the value of a version never changes.
    pub version: u64,
    /// For whom.
    pub reader: &'a Reader,
}

/// A copy for one node, as its manifest carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// Of which secret.
    pub name: SecretName,
    /// Which version of it.
    pub version: u64,
    /// The value, sealed.
    pub sealed: Sealed,
    /// The value is a login ([`crate::registries::RegistryLogin`]) for pulls from this registry; no container gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
}

/// A sealed value: the encapsulated key, then the ciphertext; base64 on the wire.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

/// A value in clear. It is never printed, and wiped where it is dropped.
pub struct Clear(Vec<u8>);

/// The secret half of a [`SealKey`]. Never printed.
#[derive(Clone)]
pub struct OpeningKey([u8; 32]);

/// Why a value cannot be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// Nothing in it.
    #[error("the value is empty")]
    Empty,
    /// More than [`MAX_SECRET_BYTES`].
    #[error(
        "the value has {0} bytes, more than the {MAX_SECRET_BYTES} that a secret may have; put large files into the image or a \
         volume, encrypted, and keep only their key as a secret"
    )]
    TooLarge(usize),
    /// A point of small order: nobody has its secret half.
    #[error("the reader's sealing key is none")]
    BadKey,
}

/// Why a copy does not open. It says nothing more on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the copy does not open: it was changed, or sealed for another reader, fleet, environment, name or version"
)]
pub struct NotOpened;

/// Seals a value for the holder of `key`. `random` are 32 bytes drawn by the caller for this one sealing.
///
/// # Errors
/// Where the value is empty or too large, or the key is none.
pub fn seal(
    label: &Label<'_>,
    key: &SealKey,
    value: &Clear,
    random: [u8; 32],
) -> Result<Sealed, NotSealed> {
    match value.0.len() {
        0 => return Err(NotSealed::Empty),
        bytes if bytes > MAX_SECRET_BYTES => return Err(NotSealed::TooLarge(bytes)),
        _ => {}
    }
    let bytes = seal_bytes(&label.info(), b"", key, &value.0, random)?;
    Ok(Sealed(BASE64.encode(bytes)))
}

/// Opens a copy.
///
/// # Errors
/// [`NotOpened`] for anything but the very copy that `label` says, sealed to this key.
pub fn open(label: &Label<'_>, key: &OpeningKey, sealed: &Sealed) -> Result<Clear, NotOpened> {
    let bytes = BASE64.decode(&sealed.0).map_err(|_| NotOpened)?;
    if bytes.len() > MAX_SECRET_BYTES + OVERHEAD_BYTES {
        return Err(NotOpened);
    }
    open_bytes(&label.info(), b"", key, &bytes)
}

fn seal_bytes(
    info: &[u8],
    aad: &[u8],
    key: &SealKey,
    value: &[u8],
    random: [u8; 32],
) -> Result<Vec<u8>, NotSealed> {
    let reader = <X25519 as Kem>::PublicKey::from_bytes(key.as_bytes());
    let reader = reader.map_err(|_| NotSealed::BadKey)?;
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519>(
            &OpModeS::Base,
            &reader,
            info,
            value,
            aad,
            &mut Drawn(Some(random)),
        )
        .map_err(|_| NotSealed::BadKey)?;
    Ok([encapsulated.to_bytes().as_slice(), &ciphertext].concat())
}

fn open_bytes(info: &[u8], aad: &[u8], key: &OpeningKey, bytes: &[u8]) -> Result<Clear, NotOpened> {
    let (encapsulated, ciphertext) = bytes.split_at_checked(32).ok_or(NotOpened)?;
    let encapsulated =
        <X25519 as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| NotOpened)?;
    let own = <X25519 as Kem>::PrivateKey::from_bytes(&key.0).map_err(|_| NotOpened)?;
    let clear = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519>(
        &OpModeR::Base,
        &own,
        &encapsulated,
        info,
        ciphertext,
        aad,
    );
    clear.map(Clear).map_err(|_| NotOpened)
}

impl Label<'_> {
    /// No part of it can hold a line's end.
    fn info(&self) -> Vec<u8> {
        let Self { fleet, environment, name, version, reader } = self;
        let reader = match reader {
            Reader::Node(node) => format!("node {node}"),
            Reader::Operator(key) => format!("operator {}", key.to_base64()),
        };
        format!("pith/secret/v1\n{fleet}\n{environment}\n{name}\n{version}\n{reader}\n")
            .into_bytes()
    }
}

impl Clear {
    /// A value; whoever made it wipes his own copies.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Clear {
    fn drop(&mut self) {
        zeroize(&mut self.0);
    }
}

impl OpeningKey {
    /// From 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key that others seal to.
    #[must_use]
    pub fn public(&self) -> SealKey {
        let own = <X25519 as Kem>::PrivateKey::from_bytes(&self.0).expect("32 bytes are a key");
        SealKey::from_bytes(<X25519 as Kem>::sk_to_pk(&own).to_bytes().into())
    }
}

impl Drop for OpeningKey {
    fn drop(&mut self) {
        zeroize(&mut self.0);
    }
}

/// The fence keeps the compiler from leaving the stores out.
fn zeroize(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clear({} bytes)", self.0.len())
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpeningKey(…)")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} characters)", self.0.len())
    }
}

/// The caller's bytes, for the one draw that a sealing makes; a second draw would give the same key twice.
struct Drawn(Option<[u8; 32]>);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("a sealing draws 32 bytes, once")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("a sealing draws 32 bytes, once")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let drawn = self.0.take().expect("a sealing draws once");
        out.copy_from_slice(&drawn);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests;
