//! `pith-sealed 1`: bytes that each of several Ed25519 keys opens alone, and nobody else. Owns the format; knows nothing of
//! what is in it. Pure but for the randomness of a new seal.
//!
//! ```text
//! pith-sealed 1
//! {"about":{…},"ephemeral":PUBLIC,"keys":[{"key":PUBLIC,"sealed":…}, …],"body_bytes":N}
//! N bytes
//! ```
//! A random file key seals the body (ChaCha20-Poly1305) and binds the two lines above it. Each of `keys` holds the file key,
//! sealed under HKDF-SHA256 of X25519 (`SecretKey::agree`) between a fresh key, `ephemeral`, and that key; the fleet and both
//! public keys are bound by the derivation. Every key seals once, so that all nonces are zero. Anybody can make such a
//! file: it hides what is in it and says nothing of who wrote it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::id::{FleetId, KeyId};
use protocol::keys::{PublicKey, SecretKey};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDirError, new_key, random};

const FAMILY: &[u8] = b"pith-sealed ";
const FIRST_LINE: &[u8] = b"pith-sealed 1\n";
/// Eight keys (`protocol::keys::MAX_ROLE_KEYS`) are 2 kB.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const TAG_BYTES: u64 = 16;

/// What can be read of a sealed file without a key. It is bound: whoever opens the file knows that it is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Of which fleet.
    pub fleet: FleetId,
    /// When it was made, Unix milliseconds.
    pub made_ms: u64,
    /// The version of the trust root whose root keys open it.
    pub root_version: u64,
    /// That root's epoch.
    pub epoch: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    about: About,
    ephemeral: PublicKey,
    keys: Vec<Slot>,
    body_bytes: u64,
}

/// The file key, for one key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    key: PublicKey,
    sealed: String,
}

/// Why nothing can be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] DataDirError),
    /// Nobody could open it.
    #[error(
        "key {0} cannot be sealed to: it is of small order; replace it with `pith keys rotate`"
    )]
    WeakKey(KeyId),
    /// The cipher refused.
    #[error("{0} bytes cannot be sealed")]
    Cipher(usize),
}

/// Why a file does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Something else.
    #[error("it is no backup of pith's: it does not begin with `pith-sealed`")]
    NotSealed,
    /// Of a later format.
    #[error("it is sealed as `{0}`, which this pith does not know; use the newer pith")]
    Newer(String),
    /// Its end is missing.
    #[error("it is cut off: {found} bytes are there{expected}; copy it again, or take another backup", expected = of(.expected))]
    Truncated {
        /// Its length.
        found: u64,
        /// What it says its length is, where it says that.
        expected: Option<u64>,
    },
    /// Not as it was written.
    #[error("it is damaged: {0}; copy it again, or take another backup")]
    Damaged(&'static str),
    /// Sealed to others.
    #[error("key {key} does not open it: it is of fleet {fleet}, and any one of these root keys opens it: {keys}", keys = list(.sealed_to))]
    WrongKey {
        /// The key that was tried.
        key: KeyId,
        /// Whose file it is.
        fleet: FleetId,
        /// What would open it.
        sealed_to: Vec<KeyId>,
    },
}

fn of(expected: &Option<u64>) -> String {
    expected.map_or_else(String::new, |bytes| format!(" of {bytes}"))
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::as_str).collect::<Vec<_>>().join(", ")
}

/// Seals `body` to each of `keys`.
///
/// # Errors
/// Where there is no randomness, or a key cannot be sealed to.
pub fn seal(about: About, keys: &[&PublicKey], mut body: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let (ephemeral, file_key) = (new_key()?, random::<32>()?);
    let slots = keys.iter().map(|key| {
        let own = wrapping(&ephemeral, key, (&about.fleet, &ephemeral.public(), key));
        let own = own.ok_or_else(|| SealError::WeakKey(key.id()))?;
        let mut sealed = file_key.to_vec();
        own.seal_in_place_append_tag(nonce(), Aad::from(FIRST_LINE), &mut sealed)
            .map_err(|_| SealError::Cipher(file_key.len()))?;
        Ok(Slot { key: (*key).clone(), sealed: BASE64.encode(sealed) })
    });
    let slots = slots.collect::<Result<Vec<_>, SealError>>()?;
    let body_bytes = body.len() as u64 + TAG_BYTES;
    let header = Header { about, ephemeral: ephemeral.public(), keys: slots, body_bytes };
    let mut file = FIRST_LINE.to_vec();
    serde_json::to_writer(&mut file, &header).expect("plain data serialises");
    file.push(b'\n');
    let length = body.len();
    cipher(&file_key)
        .seal_in_place_append_tag(nonce(), Aad::from(&file), &mut body)
        .map_err(|_| SealError::Cipher(length))?;
    file.append(&mut body);
    Ok(file)
}

/// A sealed file whose outside is in order.
#[derive(Debug)]
pub struct Sealed<'a> {
    header: Header,
    bound: &'a [u8],
    body: &'a [u8],
}

/// Looks at a file from outside.
///
/// # Errors
/// Where it is none, of a later format, cut off, or damaged where that is seen without a key.
pub fn read(bytes: &[u8]) -> Result<Sealed<'_>, OpenError> {
    let found = bytes.len() as u64;
    let cut_off = OpenError::Truncated { found, expected: None };
    let Some(rest) = bytes.strip_prefix(FIRST_LINE) else {
        return Err(match bytes.strip_prefix(FAMILY) {
            _ if FIRST_LINE.starts_with(bytes) => cut_off,
            Some(_) => OpenError::Newer(first_words(bytes)),
            None => OpenError::NotSealed,
        });
    };
    let line = rest.iter().take(MAX_HEADER_BYTES).position(|byte| *byte == b'\n');
    let Some(line) = line else {
        let is_short = rest.len() < MAX_HEADER_BYTES;
        return Err(if is_short { cut_off } else { OpenError::Damaged("it has no header") });
    };
    let (header, body) = (&rest[..line], &rest[line + 1..]);
    let header: Header =
        serde_json::from_slice(header).map_err(|_| OpenError::Damaged("its header is no JSON"))?;
    let bound = &bytes[..bytes.len() - body.len()];
    let expected = header.body_bytes.saturating_add(bound.len() as u64);
    if found < expected {
        return Err(OpenError::Truncated { found, expected: Some(expected) });
    }
    if found > expected {
        return Err(OpenError::Damaged("it goes on after its end"));
    }
    Ok(Sealed { header, bound, body })
}

impl Sealed<'_> {
    /// What it says of itself, not proven before it is opened.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.header.about
    }

    /// The keys that open it.
    #[must_use]
    pub fn sealed_to(&self) -> Vec<KeyId> {
        self.header.keys.iter().map(|slot| slot.key.id()).collect()
    }

    /// What is in it.
    ///
    /// # Errors
    /// Where the key is not one that it is sealed to, or a byte of it has changed.
    pub fn open(&self, key: &SecretKey) -> Result<Vec<u8>, OpenError> {
        let Header { about, ephemeral, keys, .. } = &self.header;
        let public = key.public();
        let Some(slot) = keys.iter().find(|slot| slot.key == public) else {
            let (key, fleet, sealed_to) = (public.id(), about.fleet.clone(), self.sealed_to());
            return Err(OpenError::WrongKey { key, fleet, sealed_to });
        };
        let changed = || OpenError::Damaged("the key opens it, and what it says was changed");
        let own = wrapping(key, ephemeral, (&about.fleet, ephemeral, &public));
        let own = own.ok_or_else(changed)?;
        let mut sealed = BASE64.decode(&slot.sealed).map_err(|_| changed())?;
        let opened = own.open_in_place(nonce(), Aad::from(FIRST_LINE), &mut sealed);
        let file_key: [u8; 32] =
            opened.ok().and_then(|opened| (&*opened).try_into().ok()).ok_or_else(changed)?;
        let mut body = self.body.to_vec();
        let opened = cipher(&file_key).open_in_place(nonce(), Aad::from(self.bound), &mut body);
        let length = opened.map_err(|_| changed())?.len();
        body.truncate(length);
        Ok(body)
    }
}

/// The cipher for one slot, from either side.
fn wrapping(
    own: &SecretKey,
    other: &PublicKey,
    (fleet, ephemeral, recipient): (&FleetId, &PublicKey, &PublicKey),
) -> Option<LessSafeKey> {
    let shared = own.agree(other)?;
    let (ephemeral, recipient) = (ephemeral.to_base64(), recipient.to_base64());
    // Each of fixed length: no two sets of them give the same bytes.
    let info = [fleet.as_str().as_bytes(), ephemeral.as_bytes(), recipient.as_bytes()];
    let derived = Salt::new(HKDF_SHA256, FIRST_LINE).extract(&shared);
    let derived = derived.expand(&info, &CHACHA20_POLY1305).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(derived)))
}

fn cipher(file_key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, file_key);
    LessSafeKey::new(key.expect("32 bytes are a key of this cipher"))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn first_words(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().take(24).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn sealed() -> Vec<u8> {
        let fleet = FleetId::from_random([7; 16]);
        let about = About { fleet, made_ms: 5, root_version: 2, epoch: 1 };
        let (a, b) = (key(1).public(), key(2).public());
        seal(about, &[&a, &b], b"the state of a fleet".to_vec()).unwrap()
    }

    fn opened(bytes: &[u8], seed: u8) -> Result<Vec<u8>, OpenError> {
        read(bytes)?.open(&key(seed))
    }

    #[test]
    fn each_key_opens_it_alone_and_what_it_hides_is_not_in_it() {
        let file = sealed();
        for seed in [1, 2] {
            assert_eq!(opened(&file, seed).unwrap(), b"the state of a fleet");
        }
        assert!(!file.windows(5).any(|part| part == b"state"));
        assert_ne!(file, sealed(), "keys are new each time");
    }

    #[test]
    fn another_key_is_told_which_would_open_it() {
        let error = opened(&sealed(), 3).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, OpenError::WrongKey { .. }), "{said}");
        for id in [key(1), key(2), key(3)].map(|key| key.public().id()) {
            assert!(said.contains(id.as_str()), "{said}");
        }
    }

    #[test]
    fn any_other_byte_anywhere_is_seen() {
        let file = sealed();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let error = opened(&changed, 1).expect_err("it was changed");
            let is_body = at > file.len() - 36;
            assert!(!is_body || matches!(error, OpenError::Damaged(_)), "{at}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_says_so_wherever_it_ends() {
        let file = sealed();
        for end in 0..file.len() {
            let error = opened(&file[..end], 1).unwrap_err();
            assert!(matches!(error, OpenError::Truncated { .. }), "{end}: {error}");
        }
        let longer = [&file[..], b"x"].concat();
        assert!(matches!(opened(&longer, 1), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn what_is_something_else_or_newer_is_named() {
        assert_eq!(opened(b"SQLite format 3", 1), Err(OpenError::NotSealed));
        let newer = opened(b"pith-sealed 2\n{}", 1).unwrap_err();
        assert_eq!(newer, OpenError::Newer("pith-sealed 2".to_owned()));
    }

    #[test]
    fn the_name_of_another_fleet_does_not_open() {
        let text = FleetId::from_random([7; 16]).to_string();
        let other = FleetId::from_random([8; 16]).to_string();
        let file = sealed();
        let at = file.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
        let mut renamed = file;
        renamed[at..at + text.len()].copy_from_slice(other.as_bytes());
        assert!(matches!(opened(&renamed, 1), Err(OpenError::Damaged(_))));
    }
}
