//! The signed envelope (DSSE v1.0.2) and its one verifier.
//!
//! Owns the only way to a [`Verified`] value. The bytes sent are the bytes signed, verified and parsed, once; nothing
//! is canonicalised. Unknown fields of the outer envelope are ignored (they prove nothing); inside the payload unknown
//! and duplicate keys are refused.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

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

/// Why an envelope or its payload was refused. Each has a stable code for counters and reports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Larger than [`MAX_ENVELOPE_BYTES`].
    #[error("{size} bytes are more than the {MAX_ENVELOPE_BYTES} allowed")]
    TooLarge {
        /// Bytes received.
        size: usize,
    },
    /// The outer JSON could not be read.
    #[error("the envelope is not readable: {0}")]
    BadEnvelope(String),
    /// A signature for another purpose.
    #[error("payload type `{found}` where `{expected}` was expected")]
    WrongPayloadType {
        /// What it says.
        found: String,
        /// What was expected.
        expected: PayloadType,
    },
    /// Base64 of payload or signature is broken.
    #[error("the {part} is not valid base64")]
    BadBase64 {
        /// `payload` or `signature`.
        part: &'static str,
    },
    /// No signatures, or more than [`MAX_SIGNATURES`].
    #[error("{count} signatures; 1 to {MAX_SIGNATURES} are allowed")]
    SignatureCount {
        /// How many.
        count: usize,
    },
    /// Fewer distinct trusted keys signed than the role demands.
    #[error("{valid} of {threshold} needed signatures are valid")]
    BadSignature {
        /// Distinct trusted keys whose signature holds.
        valid: u32,
        /// What the role demands.
        threshold: u32,
    },
    /// The trust root names no role for this purpose.
    #[error("no key is trusted for `{0}`")]
    NoRole(PayloadType),
    /// The verified bytes nest too deep.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// The verified bytes are not this document.
    #[error("the payload is not readable: {0}")]
    BadPayload(String),
    /// Written in a format this version cannot read.
    #[error("format {found} is not readable by this version (up to {supported})")]
    UnknownFormat {
        /// What it says.
        found: u32,
        /// The highest readable.
        supported: u32,
    },
    /// For another fleet.
    #[error("for another fleet")]
    WrongFleet,
    /// For another node.
    #[error("for another node")]
    WrongNode,
    /// For another environment than the node's.
    #[error("for another environment")]
    WrongEnvironment,
    /// An epoch that the trust root does not name.
    #[error("epoch {found} where the trust root says {expected}")]
    WrongEpoch {
        /// What it says.
        found: u64,
        /// The root's.
        expected: u64,
    },
    /// Older than what was seen.
    #[error("generation {found} is older than {seen}, which was seen")]
    StaleGeneration {
        /// What it says.
        found: u64,
        /// The newest seen.
        seen: u64,
    },
    /// The same generation with other bytes: two directors, or an attack.
    #[error("generation {generation} was seen before with other content")]
    Equivocation {
        /// The generation.
        generation: u64,
    },
    /// A jump beyond [`crate::manifest::MAX_GENERATION_JUMP`].
    #[error("generation {found} jumps too far from {seen}")]
    GenerationJump {
        /// What it says.
        found: u64,
        /// The newest seen.
        seen: u64,
    },
    /// A service disappears without being named in `removed`.
    #[error("service `{service}` is dropped without being named in `removed`")]
    UnnamedRemoval {
        /// The service.
        service: String,
    },
    /// A service is named twice, or both kept and removed.
    #[error("service `{service}` is named twice")]
    DuplicateService {
        /// The service.
        service: String,
    },
    /// An assignment names a release whose envelope is not embedded.
    #[error("release {release} of service `{service}` is not in the manifest")]
    MissingRelease {
        /// The service.
        service: String,
        /// The first digits of the release.
        release: String,
    },
    /// The embedded release is of another service or fleet than its assignment.
    #[error("the release of service `{service}` belongs to another service or fleet")]
    ForeignRelease {
        /// The service.
        service: String,
    },
    /// An embedded release was refused.
    #[error("the release of a service was refused: {0}")]
    Release(#[source] Box<Rejected>),
    /// The sender's id is not the hash of its key.
    #[error("the node id does not belong to the key")]
    ForeignKey,
}

impl Rejected {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::BadEnvelope(_) => "bad_envelope",
            Self::WrongPayloadType { .. } => "wrong_payload_type",
            Self::BadBase64 { .. } => "bad_base64",
            Self::SignatureCount { .. } => "signature_count",
            Self::BadSignature { .. } => "bad_signature",
            Self::NoRole(_) => "no_role",
            Self::TooDeep => "too_deep",
            Self::BadPayload(_) => "bad_payload",
            Self::UnknownFormat { .. } => "unknown_format",
            Self::WrongFleet => "wrong_fleet",
            Self::WrongNode => "wrong_node",
            Self::WrongEnvironment => "wrong_environment",
            Self::WrongEpoch { .. } => "wrong_epoch",
            Self::StaleGeneration { .. } => "stale_generation",
            Self::Equivocation { .. } => "equivocation",
            Self::GenerationJump { .. } => "generation_jump",
            Self::UnnamedRemoval { .. } => "unnamed_removal",
            Self::DuplicateService { .. } => "duplicate_service",
            Self::MissingRelease { .. } => "missing_release",
            Self::ForeignRelease { .. } => "foreign_release",
            Self::Release(inner) => inner.code(),
            Self::ForeignKey => "foreign_key",
        }
    }
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
        if self.payload_type != T::TYPE.as_str() {
            let found = self.payload_type.chars().take(80).collect();
            return Err(Rejected::WrongPayloadType { found, expected: T::TYPE });
        }
        let count = self.signatures.len();
        if count == 0 || count > MAX_SIGNATURES {
            return Err(Rejected::SignatureCount { count });
        }
        let payload =
            BASE64.decode(&self.payload).map_err(|_| Rejected::BadBase64 { part: "payload" })?;
        let signatures = self.signatures.iter().map(decode_signature).collect::<Result<_, _>>()?;
        Ok(Signed { payload, signatures, _purpose: std::marker::PhantomData })
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
    /// Verifies that enough distinct keys of `role` signed, then parses the same bytes.
    ///
    /// # Errors
    /// [`Rejected::BadSignature`], [`Rejected::TooDeep`], [`Rejected::UnknownFormat`] or [`Rejected::BadPayload`].
    pub fn verify(self, role: &Role) -> Result<Verified<T>, Rejected> {
        let message = pre_authentication_encoding(T::TYPE, &self.payload);
        let mut signers: Vec<&PublicKey> = Vec::new();
        for key in &role.keys {
            let signed = || self.signatures.iter().any(|s| key.verifies(&message, s));
            if !signers.contains(&key) && signed() {
                signers.push(key);
            }
        }
        let valid = u32::try_from(signers.len()).unwrap_or(u32::MAX);
        let threshold = role.threshold.max(1);
        if valid < threshold {
            return Err(Rejected::BadSignature { valid, threshold });
        }
        let value = parse_payload(&self.payload)?;
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

/// Parses verified bytes: depth first, then the format, then strictly.
fn parse_payload<T: Payload>(bytes: &[u8]) -> Result<T, Rejected> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    check_depth(bytes)?;
    let bad = |e: serde_json::Error| Rejected::BadPayload(e.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(bad)?;
    if format == 0 || format > crate::FORMAT {
        return Err(Rejected::UnknownFormat { found: format, supported: crate::FORMAT });
    }
    serde_json::from_slice(bytes).map_err(bad)
}

/// Refuses nesting beyond [`MAX_DEPTH`] without recursion.
fn check_depth(bytes: &[u8]) -> Result<(), Rejected> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Rejected::TooDeep);
        }
    }
    Ok(())
}
