//! A secret key under a passphrase: Argon2id makes the key, ChaCha20-Poly1305 seals with it. The parameters stand in the
//! file, so that they can be raised later; the public key stands beside them and is bound by the seal.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use protocol::keys::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

use super::KeyFileError;

const SCHEME: &str = "argon2id+chacha20poly1305";
/// RFC 9106, section 4: the second recommended option, for where memory is scarce.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// A file that asks for more was not made by us.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    pith_key: String,
    pub(super) public_key: PublicKey,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

impl Sealed {
    pub(super) fn seal(secret: &SecretKey, passphrase: &str) -> Result<Self, KeyFileError> {
        let (salt, nonce): ([u8; 16], [u8; 12]) = (random()?, random()?);
        let public_key = secret.public();
        let cipher = cipher("a new key", passphrase, &salt, (MEMORY_KIB, PASSES, LANES))?;
        let (text, bound) = (secret.to_base64(), public_key.to_base64());
        let payload = Payload { msg: text.as_bytes(), aad: bound.as_bytes() };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| unsupported("a new key", "it cannot be sealed"))?;
        Ok(Self {
            pith_key: SCHEME.to_owned(),
            public_key,
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: BASE64.encode(salt),
            nonce: BASE64.encode(nonce),
            sealed: BASE64.encode(sealed),
        })
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain data serialises") + "\n"
    }

    pub(super) fn open(&self, name: &str, passphrase: &str) -> Result<SecretKey, KeyFileError> {
        if self.pith_key != SCHEME {
            let scheme: String = self.pith_key.chars().take(40).collect();
            return Err(unsupported(name, &format!("sealed as `{scheme}`; use a newer pith")));
        }
        if self.memory_kib > MAX_MEMORY_KIB || self.passes > MAX_PASSES {
            return Err(unsupported(name, "it asks for more memory or time than is sensible"));
        }
        let wrong = || KeyFileError::WrongPassphrase(name.to_owned());
        let decode = |text: &str| BASE64.decode(text).map_err(|_| wrong());
        let nonce: [u8; 12] = decode(&self.nonce)?.try_into().map_err(|_| wrong())?;
        let parameters = (self.memory_kib, self.passes, self.lanes);
        let cipher = cipher(name, passphrase, &decode(&self.salt)?, parameters)?;
        let (sealed, bound) = (decode(&self.sealed)?, self.public_key.to_base64());
        let payload = Payload { msg: &sealed, aad: bound.as_bytes() };
        let opened = cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| wrong())?;
        let secret = SecretKey::from_base64(&String::from_utf8_lossy(&opened));
        secret.ok().filter(|secret| secret.public() == self.public_key).ok_or_else(wrong)
    }
}

fn cipher(
    name: &str,
    passphrase: &str,
    salt: &[u8],
    (memory_kib, passes, lanes): (u32, u32, u32),
) -> Result<ChaCha20Poly1305, KeyFileError> {
    let bad = |error: argon2::Error| unsupported(name, &error.to_string());
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(bad)?;
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut key)
        .map_err(bad)?;
    Ok(ChaCha20Poly1305::new(&key.into()))
}

fn unsupported(name: &str, reason: &str) -> KeyFileError {
    KeyFileError::Unsupported { name: name.to_owned(), reason: reason.to_owned() }
}

fn random<const N: usize>() -> Result<[u8; N], KeyFileError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| unsupported("a new key", &format!("the system gives no random bytes: {e}")))?;
    Ok(bytes)
}
