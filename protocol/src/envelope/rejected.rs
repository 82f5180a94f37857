//! Every reason to refuse what arrived.

use super::{MAX_DEPTH, MAX_ENVELOPE_BYTES, MAX_SIGNATURES};
use crate::keys::RoleName;
use crate::payload::PayloadType;
use crate::succession::{MAX_CHAIN, MAX_CHAIN_BYTES};

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
    /// A time that answers another hello than the node's last one: late, or replayed.
    #[error("not the answer to the last hello")]
    WrongNonce,
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
    /// An embedded retirement was refused.
    #[error("the retirement of a service's releases was refused: {0}")]
    Retirement(#[source] Box<Rejected>),
    /// A release below its service's security floor.
    #[error(
        "release {counter} of service `{service}` is retired: every release must reach {floor}"
    )]
    RetiredRelease {
        /// The service.
        service: String,
        /// What the release says.
        counter: u64,
        /// The floor.
        floor: u64,
    },
    /// A role of a trust root that nobody could act in.
    #[error("role `{role}` of the trust root: {reason}")]
    BadRole {
        /// The role.
        role: RoleName,
        /// What is wrong with it.
        reason: String,
    },
    /// Not the version that follows.
    #[error("trust root {found} where {expected} is the next")]
    RootVersion {
        /// What it says.
        found: u64,
        /// The only one that may follow.
        expected: u64,
    },
    /// A root that would bring an old epoch back.
    #[error("epoch {found} of the trust root is lower than {current}")]
    LowerEpoch {
        /// What it says.
        found: u64,
        /// That of the root before.
        current: u64,
    },
    /// A root that is not signed under the root role of the one before, or of itself.
    #[error("{valid} of {threshold} signatures needed under trust root {version} are valid")]
    RootSignature {
        /// The version whose root role is not satisfied.
        version: u64,
        /// Distinct keys of it whose signature holds.
        valid: u32,
        /// What it demands.
        threshold: u32,
    },
    /// Two roots of one version: an attack, or two groups of root keys.
    #[error("trust root {version} is known with other content")]
    RootFork {
        /// The version.
        version: u64,
    },
    /// More roots, or more bytes of them, than a chain may have.
    #[error(
        "a chain of {roots} trust roots in {size} bytes; {MAX_CHAIN} in {MAX_CHAIN_BYTES} are allowed"
    )]
    ChainTooLong {
        /// How many.
        roots: usize,
        /// Bytes of it.
        size: usize,
    },
    /// The sender's id is not the hash of its key.
    #[error("the node id does not belong to the key")]
    ForeignKey,
}

impl Rejected {
    /// Every code, for counters and tests.
    pub const CODES: [&str; 30] = [
        "too_large",
        "bad_envelope",
        "wrong_payload_type",
        "bad_base64",
        "signature_count",
        "bad_signature",
        "no_role",
        "too_deep",
        "bad_payload",
        "unknown_format",
        "wrong_fleet",
        "wrong_node",
        "wrong_environment",
        "wrong_nonce",
        "wrong_epoch",
        "stale_generation",
        "equivocation",
        "generation_jump",
        "unnamed_removal",
        "duplicate_service",
        "missing_release",
        "foreign_release",
        "retired_release",
        "bad_role",
        "root_version",
        "lower_epoch",
        "root_signature",
        "root_fork",
        "chain_too_long",
        "foreign_key",
    ];

    /// Those of them that only a trust root can be refused with.
    pub const ROOT_CODES: [&str; 6] = [
        "bad_role",
        "root_version",
        "lower_epoch",
        "root_signature",
        "root_fork",
        "chain_too_long",
    ];

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
            Self::WrongNonce => "wrong_nonce",
            Self::WrongEpoch { .. } => "wrong_epoch",
            Self::StaleGeneration { .. } => "stale_generation",
            Self::Equivocation { .. } => "equivocation",
            Self::GenerationJump { .. } => "generation_jump",
            Self::UnnamedRemoval { .. } => "unnamed_removal",
            Self::DuplicateService { .. } => "duplicate_service",
            Self::MissingRelease { .. } => "missing_release",
            Self::ForeignRelease { .. } => "foreign_release",
            Self::Release(inner) | Self::Retirement(inner) => inner.code(),
            Self::RetiredRelease { .. } => "retired_release",
            Self::BadRole { .. } => "bad_role",
            Self::RootVersion { .. } => "root_version",
            Self::LowerEpoch { .. } => "lower_epoch",
            Self::RootSignature { .. } => "root_signature",
            Self::RootFork { .. } => "root_fork",
            Self::ChainTooLong { .. } => "chain_too_long",
            Self::ForeignKey => "foreign_key",
        }
    }
}
