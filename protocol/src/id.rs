//! Names and identities. Each is parsed once at the edge; inside, an invalid one cannot exist.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a string is not a valid id; the text names the rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}: {rule}")]
pub struct InvalidId {
    /// What was expected, in the words of the glossary.
    pub kind: &'static str,
    /// The offending text, cut to 80 characters.
    pub value: String,
    /// The rule in one sentence.
    pub rule: &'static str,
}

const LABEL_RULE: &str =
    "lower-case letters, digits and inner hyphens, starting with a letter, at most 63 characters";
const HEX32_RULE: &str = "32 lower-case hexadecimal digits";
const HEX64_RULE: &str = "64 lower-case hexadecimal digits";
const DIGEST_RULE: &str = "`sha256:` and 64 lower-case hexadecimal digits";

/// A DNS label (RFC 1123, and a letter first as RFC 1035 wants), so that a service's name resolves everywhere.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(inner)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                let value = text.chars().take(80).flat_map(char::escape_default).collect();
                Err(InvalidId { kind: $kind, value, rule: $rule })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

string_id!(
    /// A service's name within its environment; also its host name inside containers.
    ServiceName, "service name", is_label, LABEL_RULE);
string_id!(
    /// `default`, `staging`, `production`, …
    EnvironmentName, "environment name", is_label, LABEL_RULE);
string_id!(
    /// A board's unique name among people.
    NodeName, "node name", is_label, LABEL_RULE);
string_id!(
    /// A person, or a machine of theirs, who uses the API from afar.
    OperatorName, "operator name", is_label, LABEL_RULE);
string_id!(
    /// A port's name within a service.
    PortName, "port name", is_label, LABEL_RULE);
string_id!(
    /// A named volume of a service.
    VolumeName, "volume name", is_label, LABEL_RULE);
string_id!(
    /// A secret's name within its environment.
    SecretName, "secret name", is_label, LABEL_RULE);
string_id!(
    /// A fleet: 16 random bytes in hexadecimal, drawn by `pith init`.
    FleetId, "fleet id", |t| is_hex(t, 32), HEX32_RULE);
string_id!(
    /// A command and the stream of its answers: 16 random bytes in hexadecimal.
    CommandId, "command id", |t| is_hex(t, 32), HEX32_RULE);
string_id!(
    /// A node: the first 16 bytes of the sha256 of its public key, in hexadecimal.
    NodeId, "node id", |t| is_hex(t, 32), HEX32_RULE);
string_id!(
    /// A signing key: the first 8 bytes of the sha256 of the public key; a hint, never a proof.
    KeyId, "key id", |t| is_hex(t, 16), "16 lower-case hexadecimal digits");
string_id!(
    /// `sha256:…` of an image's manifest, index or configuration.
    Digest, "digest", is_digest, DIGEST_RULE);
string_id!(
    /// sha256 of a release's signed payload bytes.
    ReleaseId, "release id", |t| is_hex(t, 64), HEX64_RULE);
string_id!(
    /// What an instance is made from (DESIGN: equal template means nothing to do).
    Template, "template", |t| is_hex(t, 64), HEX64_RULE);

/// The first 8 digits, for names of containers and for people.
macro_rules! short {
    ($($name:ident),*) => {$(
        impl $name {
            /// The first 8 digits: enough for people and container names, not for identity.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..8]
            }
        }
    )*};
}
short!(NodeId, FleetId, ReleaseId, Template);

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// sha256 of `bytes`, in hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Digest {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_sha256(&Sha256::digest(bytes).into())
    }

    /// From a hash that was taken piece by piece.
    #[must_use]
    pub fn of_sha256(hash: &[u8; 32]) -> Self {
        Self(format!("sha256:{}", hex(hash)))
    }

    /// Without `sha256:` before it.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.rsplit(':').next().unwrap_or_default()
    }
}

impl NodeId {
    /// The id that belongs to a node's public key, so that an id cannot be claimed without the key.
    #[must_use]
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        Self(sha256_hex(public_key)[..32].to_owned())
    }
}

impl KeyId {
    /// The id that belongs to a public key.
    #[must_use]
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        Self(sha256_hex(public_key)[..16].to_owned())
    }
}

impl ReleaseId {
    /// The id of a release: the hash of the exact bytes that were signed.
    #[must_use]
    pub fn of_payload(payload: &[u8]) -> Self {
        Self(sha256_hex(payload))
    }
}

impl FleetId {
    /// A fleet id from 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

impl CommandId {
    /// A command's id from 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

impl Template {
    /// The template of (release, environment, restart count) of a service without secrets.
    #[must_use]
    pub fn of(release: &ReleaseId, environment: &EnvironmentName, restarts: u32) -> Self {
        Self::with_secrets(release, environment, restarts, &BTreeMap::new())
    }

    /// The template of (release, environment, restart count, secret versions).
    #[must_use]
    pub fn with_secrets(
        release: &ReleaseId,
        environment: &EnvironmentName,
        restarts: u32,
        secrets: &BTreeMap<SecretName, u64>,
    ) -> Self {
        let text = format!("template/v1\n{release}\n{environment}\n{restarts}\n");
        let secret = |(name, version): (&SecretName, &u64)| format!("secret {name} {version}\n");
        let secrets: String = secrets.iter().map(secret).collect();
        Self(sha256_hex(format!("{text}{secrets}").as_bytes()))
    }

    /// The template of a hook's one container under one attempt.
    #[must_use]
    pub fn of_hook(
        release: &ReleaseId,
        environment: &EnvironmentName,
        kind: &str,
        attempt: u32,
    ) -> Self {
        let text = format!("hook/v1\n{release}\n{environment}\n{kind}\n{attempt}\n");
        Self(sha256_hex(text.as_bytes()))
    }
}

/// A service's identity: nothing is ever keyed by the name alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceId {
    /// The environment it lives in.
    pub environment: EnvironmentName,
    /// Its name there.
    pub name: ServiceName,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.environment, self.name)
    }
}
