//! The two public keys that a node brings beside its identity: for TLS, and for what is sealed to it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The head of every P-256 key in DER (RFC 5480): ecPublicKey, prime256v1, an uncompressed point of 64 bytes follows.
const P256_HEAD: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_DER_BYTES: usize = P256_HEAD.len() + 64;

/// The public key of a certificate: ECDSA P-256, as the DER of its SubjectPublicKeyInfo; base64 on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsKey([u8; P256_DER_BYTES]);

/// Why bytes are no [`TlsKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a P-256 public key: {P256_DER_BYTES} bytes of SubjectPublicKeyInfo in base64 are expected"
)]
pub struct InvalidTlsKey;

/// The X25519 public key that secrets are sealed to: 32 bytes, base64 on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey([u8; 32]);

/// Why text is no [`SealKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an X25519 public key: 32 bytes in base64 are expected")]
pub struct InvalidSealKey;

impl TlsKey {
    /// From the DER of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Where it is not of an uncompressed P-256 point. Whether the point is on the curve is for TLS to find out.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidTlsKey> {
        let bytes: [u8; P256_DER_BYTES] = der.try_into().map_err(|_| InvalidTlsKey)?;
        if bytes[..P256_HEAD.len()] != P256_HEAD {
            return Err(InvalidTlsKey);
        }
        Ok(Self(bytes))
    }

    /// The DER of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// The point alone, 65 bytes: what a certificate's bit string holds.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.0[P256_HEAD.len() - 1..]
    }
}

impl SealKey {
    /// From 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for TlsKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for TlsKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = BASE64.decode(text).map_err(|_| serde::de::Error::custom(InvalidTlsKey))?;
        Self::from_der(&bytes).map_err(serde::de::Error::custom)
    }
}

impl Serialize for SealKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SealKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = BASE64.decode(String::deserialize(d)?).ok();
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom(InvalidSealKey))
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsKey({})", &crate::id::sha256_hex(&self.0)[..16])
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", &crate::id::sha256_hex(&self.0)[..16])
    }
}
