//! The signed envelope (DSSE v1.0.2) and its one verifier.
//!
//! Owns the only way to a [`Verified`] value. The bytes sent are the bytes signed, verified and parsed, once; nothing
//! is canonicalised. Unknown fields of the outer envelope are ignored (they prove nothing); inside the payload unknown
//! and duplicate keys are refused.

mod form;
mod rejected;

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

pub use self::rejected::Rejected;
use crate::id::KeyId;
use crate::keys::{PublicKey, Role, Root, SecretKey};
use crate::payload::{Payload, PayloadType};

/// An envelope larger than this is refused before it is decoded.
pub const MAX_ENVELOPE_BYTES: usize = 256 * 1024;
/// Nesting beyond this is refused before parsing into types.
pub const MAX_DEPTH: usize = 16;
/// Signatures looked at in one envelope.
pub const MAX_SIGNATURES: usize = 16;

/// A payload with its signatures, as it travels. Nothing about it is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The purpose, by media type.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// Base64 of the exact bytes that were signed.
    pub payload: String,
    /// At least one.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A hint, never used for a decision.
    pub keyid: KeyId,
    /// Base64 of 64 bytes.
    pub sig: String,
}

/// A value whose signatures were verified, with the bytes that were. Only this module can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    payload: Vec<u8>,
}

impl<T> Verified<T> {
    /// The bytes that were signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The value, out of its proof.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A typed payload that is signed but not verified yet: the way from [`Envelope`] to [`Verified`].
#[derive(Debug, Clone)]
pub struct Signed<T> {
    payload: Vec<u8>,
    signatures: Vec<[u8; 64]>,
    _purpose: std::marker::PhantomData<fn() -> T>,
}

impl Envelope {
    /// Signs `value` with each key.
    #[must_use]
    pub fn sign<T: Payload>(value: &T, keys: &[&SecretKey]) -> Self {
        let payload = serde_json::to_vec(value).expect("a payload of plain data serialises");
        let message = pre_authentication_encoding(T::TYPE, &payload);
        let signature = |key: &&SecretKey| Signature {
            keyid: key.public().id(),
            sig: BASE64.encode(key.sign(&message)),
        };
        Self {
            payload_type: T::TYPE.as_str().to_owned(),
            payload: BASE64.encode(&payload),
            signatures: keys.iter().map(signature).collect(),
        }
    }

    /// Adds the signature of one more key over the same bytes; a key that has signed already adds nothing.
    ///
    /// # Errors
    /// Where the purpose is another, base64 is broken or no more signatures fit.
    pub fn sign_too<T: Payload>(&mut self, key: &SecretKey) -> Result<(), Rejected> {
        let payload = self.open_unsigned::<T>()?;
        let message = pre_authentication_encoding(T::TYPE, &payload);
        let sig = BASE64.encode(key.sign(&message));
        // Ed25519 signs the same bytes the same way each time (RFC 8032).
        if self.signatures.iter().any(|signature| signature.sig == sig) {
            return Ok(());
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(Rejected::SignatureCount { count: self.signatures.len() + 1 });
        }
        self.signatures.push(Signature { keyid: key.public().id(), sig });
        Ok(())
    }

    /// The bytes that travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope of strings serialises")
    }

    /// Reads an envelope, sizes first.
    ///
    /// # Errors
    /// [`Rejected::TooLarge`] or [`Rejected::BadEnvelope`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Rejected> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(Rejected::TooLarge { size: bytes.len() });
        }
        serde_json::from_slice(bytes).map_err(|e| Rejected::BadEnvelope(e.to_string()))
    }

    /// Decodes for the purpose `T`; still unverified.
    ///
    /// # Errors
    /// When the purpose differs, the count of signatures is off or base64 is broken.
    pub fn open<T: Payload>(&self) -> Result<Signed<T>, Rejected> {
        let payload = self.open_unsigned::<T>()?;
        let count = self.signatures.len();
        if count == 0 || count > MAX_SIGNATURES {
            return Err(Rejected::SignatureCount { count });
        }
        let signatures = self.signatures.iter().map(decode_signature).collect::<Result<_, _>>()?;
        Ok(Signed { payload, signatures, _purpose: std::marker::PhantomData })
    }

    /// sha256 of the payload's bytes, in hexadecimal, as [`crate::acceptance::Seen`] holds it: tells two payloads apart and
    /// proves nothing. None where it is no base64.
    #[must_use]
    pub fn payload_sha256(&self) -> Option<String> {
        BASE64.decode(&self.payload).ok().map(|bytes| crate::id::sha256_hex(&bytes))
    }

    /// The payload, whoever signed it and whether anybody did.
    pub(crate) fn open_unsigned<T: Payload>(&self) -> Result<Vec<u8>, Rejected> {
        if self.payload_type != T::TYPE.as_str() {
            let found = self.payload_type.chars().take(80).collect();
            return Err(Rejected::WrongPayloadType { found, expected: T::TYPE });
        }
        BASE64.decode(&self.payload).map_err(|_| Rejected::BadBase64 { part: "payload" })
    }

    /// Decodes and verifies against the role that `root` names for this purpose.
    ///
    /// # Errors
    /// Every reason of [`Rejected`] that concerns envelope, signatures and form.
    pub fn verify<T: Payload>(&self, root: &Root) -> Result<Verified<T>, Rejected> {
        let role = root.role_for(T::TYPE).ok_or(Rejected::NoRole(T::TYPE))?;
        self.open::<T>()?.verify(role)
    }
}

impl<T: Payload> Signed<T> {
    /// The bytes before any proof: only to find out which key to ask.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The distinct keys of `role` whose signature holds.
    #[must_use]
    pub fn signers<'a>(&self, role: &'a Role) -> Vec<&'a PublicKey> {
        let message = pre_authentication_encoding(T::TYPE, &self.payload);
        let signed = |key: &&PublicKey| self.signatures.iter().any(|s| key.verifies(&message, s));
        role.distinct().into_iter().filter(signed).collect()
    }

    /// Verifies that enough distinct keys of `role` signed, then parses the same bytes.
    ///
    /// # Errors
    /// [`Rejected::BadSignature`], [`Rejected::TooDeep`], [`Rejected::UnknownFormat`] or [`Rejected::BadPayload`].
    pub fn verify(self, role: &Role) -> Result<Verified<T>, Rejected> {
        let valid = u32::try_from(self.signers(role).len()).unwrap_or(u32::MAX);
        let threshold = role.threshold.max(1);
        if valid < threshold {
            return Err(Rejected::BadSignature { valid, threshold });
        }
        let value = form::parse(&self.payload)?;
        Ok(Verified { value, payload: self.payload })
    }
}

fn decode_signature(signature: &Signature) -> Result<[u8; 64], Rejected> {
    BASE64
        .decode(&signature.sig)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Rejected::BadBase64 { part: "signature" })
}

/// DSSE: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`.
fn pre_authentication_encoding(purpose: PayloadType, body: &[u8]) -> Vec<u8> {
    let kind = purpose.as_str();
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}
