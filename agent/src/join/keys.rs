//! The node's two keys beside its identity: for TLS, and for what is sealed to it. Made here, never leave it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::join::{SEAL_KEY_FILE, SealKey, TLS_DIR, TLS_KEY_FILE, TlsKey};
use protocol::secret::OpeningKey;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::JoinError;
use crate::durable::{self, Readers};

/// Characters in a line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;

/// The public half of the key for TLS, which is made where it is missing.
///
/// # Errors
/// When the file cannot be used or made.
pub fn tls(state_dir: &Path) -> Result<TlsKey, JoinError> {
    let path = state_dir.join(TLS_KEY_FILE);
    let io = |source| JoinError::Io { path: path.clone(), source };
    if !path.exists() {
        durable::folder(&state_dir.join(TLS_DIR)).map_err(io)?;
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| io(std::io::Error::other("the system gives no randomness")))?;
        durable::write(&path, pem("PRIVATE KEY", made.as_ref()).as_bytes(), Readers::Owner)
            .map_err(io)?;
    }
    let damaged = || JoinError::KeyDamaged(path.clone());
    let key = PrivateKeyDer::from_pem_file(&path).map_err(|_| damaged())?;
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).map_err(|_| damaged())?;
    let public = key.public_key().ok_or_else(damaged)?;
    TlsKey::from_der(&public).map_err(|_| damaged())
}

/// The key that secrets are sealed to, which is made where it is missing.
///
/// # Errors
/// When the file cannot be used or made.
pub fn opening(state_dir: &Path) -> Result<OpeningKey, JoinError> {
    let path = state_dir.join(SEAL_KEY_FILE);
    let io = |source| JoinError::Io { path: path.clone(), source };
    if !path.exists() {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| io(std::io::Error::other(error.to_string())))?;
        let text = format!("{}\n", BASE64.encode(secret));
        durable::write(&path, text.as_bytes(), Readers::Owner).map_err(io)?;
    }
    let text = std::fs::read_to_string(&path).map_err(io)?;
    let secret = BASE64.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let secret = secret.ok_or_else(|| JoinError::KeyDamaged(path.clone()))?;
    Ok(OpeningKey::from_bytes(secret))
}

/// Its public half.
///
/// # Errors
/// As [`opening`].
pub fn seal(state_dir: &Path) -> Result<SealKey, JoinError> {
    Ok(opening(state_dir)?.public())
}

/// PEM of one item.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(PEM_LINE_CHARS)
        .filter_map(|l| std::str::from_utf8(l).ok())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (first, sealed) = (tls(dir.path()).unwrap(), seal(dir.path()).unwrap());
        assert_eq!(tls(dir.path()).unwrap(), first);
        assert_eq!(seal(dir.path()).unwrap(), sealed);
        for name in [TLS_KEY_FILE, SEAL_KEY_FILE] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn the_sealing_key_is_x25519() {
        // RFC 7748 §6.1: Alice's keys.
        let dir = tempfile::tempdir().unwrap();
        let secret = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        std::fs::write(dir.path().join(SEAL_KEY_FILE), secret).unwrap();
        let public = BASE64.encode(seal(dir.path()).unwrap().as_bytes());
        assert_eq!(public, "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }
}
