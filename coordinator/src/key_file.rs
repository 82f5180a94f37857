//! Files that hold one key: a secret as it is, a secret sealed with a passphrase, or a public key alone.
//!
//! ```text
//! alice.key      base64 of 32 bytes, or one JSON object (see `sealed`)         mode 0600
//! alice.key.pub  pith-public-key BASE64                                        to be passed on
//! ```
//! A file's name means nothing: what its key may sign is what the trust root says of it.

mod sealed;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::keys::{PublicKey, SecretKey};

use crate::passphrase::{PassphraseError, Passphrases};
use sealed::Sealed;

/// Opens the text of a public key, so that it is never taken for a secret.
const PUBLIC_PREFIX: &str = "pith-public-key ";
/// A file larger than this is no key.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// A key as it was found.
#[derive(Debug)]
pub struct KeyFile {
    /// Where; for messages only, since a key may come from elsewhere.
    pub name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Public(PublicKey),
    Plain(SecretKey),
    Sealed(Box<Sealed>),
}

/// How much of a key a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// It can only be named.
    Public,
    /// Whoever reads the file signs.
    Plain,
    /// Whoever knows the passphrase too signs.
    Encrypted,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a key.
    #[error("{name} is not a key: {reason}")]
    NotAKey {
        /// Which.
        name: String,
        /// What was expected.
        reason: String,
    },
    /// A public key where a secret is needed.
    #[error("{0} holds a public key: it can be named, and cannot sign")]
    OnlyPublic(String),
    /// Nobody knows it.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// It is another one, or the file was changed.
    #[error("{0}: the passphrase does not open it")]
    WrongPassphrase(String),
    /// Encrypted by another version.
    #[error("{name}: {reason}")]
    Unsupported {
        /// Which.
        name: String,
        /// What cannot be done.
        reason: String,
    },
}

impl KeyFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let name = path.display().to_string();
        if fs::metadata(path).map_err(io)?.len() > MAX_KEY_FILE_BYTES {
            let reason = format!("it is larger than {MAX_KEY_FILE_BYTES} bytes");
            return Err(KeyFileError::NotAKey { name, reason });
        }
        let bytes = fs::read(path).map_err(io)?;
        Self::parse(&name, &String::from_utf8_lossy(&bytes))
    }

    /// Reads the text of a key, which came from `name`.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(name: &str, text: &str) -> Result<Self, KeyFileError> {
        let text = text.trim();
        let not_a_key = |reason: String| KeyFileError::NotAKey { name: name.to_owned(), reason };
        let content = if let Some(public) = text.strip_prefix(PUBLIC_PREFIX) {
            let public = PublicKey::from_base64(public.trim());
            Content::Public(public.map_err(|e| not_a_key(e.to_string()))?)
        } else if text.starts_with('{') {
            let sealed = serde_json::from_str(text).map_err(|e| not_a_key(e.to_string()))?;
            Content::Sealed(Box::new(sealed))
        } else {
            Content::Plain(SecretKey::from_base64(text).map_err(|e| not_a_key(e.to_string()))?)
        };
        Ok(Self { name: name.to_owned(), content })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match &self.content {
            Content::Public(public) => public.clone(),
            Content::Plain(secret) => secret.public(),
            Content::Sealed(sealed) => sealed.public_key.clone(),
        }
    }

    /// How much of it is here.
    #[must_use]
    pub fn holds(&self) -> Holds {
        match &self.content {
            Content::Public(_) => Holds::Public,
            Content::Plain(_) => Holds::Plain,
            Content::Sealed(_) => Holds::Encrypted,
        }
    }

    /// Whether the secret is here, sealed or not.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.holds() != Holds::Public
    }

    /// The secret; where it is sealed, under the passphrase that is known or else asked for.
    ///
    /// # Errors
    /// Where there is none or it cannot be opened.
    pub fn open(&self, passphrases: &mut Passphrases) -> Result<SecretKey, KeyFileError> {
        let sealed = match &self.content {
            Content::Public(_) => return Err(KeyFileError::OnlyPublic(self.name.clone())),
            Content::Plain(secret) => return Ok(copy(secret)),
            Content::Sealed(sealed) => sealed,
        };
        let asked = |passphrases: &mut Passphrases| {
            let typed = passphrases.ask(&self.name)?;
            sealed.open(&self.name, &typed)
        };
        let Some(known) = passphrases.known() else { return asked(passphrases) };
        let opened = sealed.open(&self.name, &known);
        if !matches!(opened, Err(KeyFileError::WrongPassphrase(_))) {
            return opened;
        }
        // Several files may have several passphrases, where somebody is there to be asked.
        let again = asked(passphrases);
        let nobody =
            matches!(again, Err(KeyFileError::Passphrase(PassphraseError::NobodyToAsk { .. })));
        if nobody { opened } else { again }
    }
}

/// The text of a file that holds a secret, sealed where there is a passphrase.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn secret_text(secret: &SecretKey, passphrase: Option<&str>) -> Result<String, KeyFileError> {
    match passphrase {
        None => Ok(secret.to_base64()),
        Some(passphrase) => Sealed::seal(secret, passphrase).map(|sealed| sealed.to_text()),
    }
}

/// The text of a file that holds a public key.
#[must_use]
pub fn public_text(public: &PublicKey) -> String {
    format!("{PUBLIC_PREFIX}{}\n", public.to_base64())
}

fn copy(secret: &SecretKey) -> SecretKey {
    SecretKey::from_base64(&secret.to_base64()).expect("its own text is a key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed([5; 32])
    }

    #[test]
    fn each_kind_of_file_is_told_from_the_others() {
        let public = KeyFile::parse("a.pub", &public_text(&key().public())).unwrap();
        assert_eq!((public.holds(), public.public()), (Holds::Public, key().public()));
        let refused = public.open(&mut Passphrases::default()).unwrap_err();
        assert!(refused.to_string().contains("cannot sign"), "{refused}");
        let plain = KeyFile::parse("a", &secret_text(&key(), None).unwrap()).unwrap();
        assert_eq!((plain.holds(), plain.public()), (Holds::Plain, key().public()));
        for nonsense in ["", "pith-public-key x", "{}", "AAAA"] {
            assert!(KeyFile::parse("a", nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn a_sealed_key_opens_under_its_passphrase_alone_and_any_change_is_seen() {
        let text = secret_text(&key(), Some("correct horse")).unwrap();
        assert!(!text.contains(&key().to_base64()));
        let sealed: Sealed = serde_json::from_str(&text).unwrap();
        assert_eq!(sealed.open("k", "correct horse").unwrap().public(), key().public());
        assert!(matches!(sealed.open("k", "wrong"), Err(KeyFileError::WrongPassphrase(_))));
        let mut other = sealed;
        other.public_key = SecretKey::from_seed([6; 32]).public();
        assert!(matches!(other.open("k", "correct horse"), Err(KeyFileError::WrongPassphrase(_))));
        let again = secret_text(&key(), Some("correct horse")).unwrap();
        assert_ne!(text, again, "salt and nonce are new each time");
    }

    #[test]
    fn a_sealed_file_that_asks_for_all_the_memory_is_refused() {
        let text = secret_text(&key(), Some("p")).unwrap();
        let greedy = text.replace("\"memory_kib\":65536", "\"memory_kib\":4000000000");
        let refused = KeyFile::parse("k", &greedy).unwrap();
        let Content::Sealed(sealed) = refused.content else { panic!("it is sealed") };
        assert!(matches!(sealed.open("k", "p"), Err(KeyFileError::Unsupported { .. })));
    }
}
